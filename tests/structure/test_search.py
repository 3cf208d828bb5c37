"""Hill climbing and tabu search: best graphs of few columns, known networks, constraints, ties, bad input."""

from itertools import combinations, product

import networkx as nx
import numpy as np
import pytest

import probgen as pg
from probgen.data import Table
from probgen.errors import CapabilityError, DataError, DataWarning
from probgen.structure import Graph, Statistics, compare, make_score
from probgen.structure import statistics as counting
from probgen.structure.search import Climb, Move, climb, closure, promising, shaken


def learn(table, method="hill_climbing", **options):
    return pg.learn_structure(table, method, progress=False, **options)


def all_graphs(names):
    """Every directed acyclic graph over a few names."""
    pairs = list(combinations(names, 2))
    for marks in product((None, 0, 1), repeat=len(pairs)):
        edges = [
            pair[:: turn or 1] if turn != 1 else pair[::-1] for pair, turn in zip(pairs, marks) if turn is not None
        ]
        graph = nx.DiGraph(edges)
        if nx.is_directed_acyclic_graph(graph):
            yield Graph.of(edges, names)


def test_there_are_as_many_graphs_as_are_known():
    assert len(set(all_graphs("abc"))) == 25
    assert len(set(all_graphs("abcd"))) == 543


@pytest.mark.parametrize("score", ["bic", "bdeu", "k2", "bds"])
def test_restarts_find_the_best_graph_of_few_columns(score, categories):
    found = learn(categories, score=score, restarts=20)
    judge = make_score(score, Statistics(categories))
    assert found.score == pytest.approx(max(judge.total(graph) for graph in all_graphs("abcd")), abs=1e-6)
    assert found.score == pytest.approx(judge.total(found.graph), abs=1e-9)


def test_the_best_graph_of_mixed_columns(mixed):
    table = mixed.select(["k", "s", "x", "y"])
    judge, best = make_score("bic", Statistics(table)), -np.inf
    for graph in all_graphs(table.names):
        if not {("x", "k"), ("x", "s"), ("y", "k"), ("y", "s")} & set(graph.edges):
            best = max(best, judge.total(graph))
    assert learn(table, restarts=20).score == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("method", ["hill_climbing", "tabu"])
def test_asia_is_found(method, drawn):
    true, table = drawn("asia", 20000)
    found = compare(learn(table, method, score="bic").graph, true)
    assert (found.class_distance, found.precision, found.recall) == (0, 1.0, 1.0)


@pytest.mark.slow
def test_alarm_is_found_better_than_by_one_climb(drawn):
    true, table = drawn("alarm", 1000)
    one, many = learn(table, restarts=0), learn(table, restarts=5)
    assert many.score > one.score + 10
    assert compare(many.graph, true).recall > 0.8
    assert compare(many.graph, true).class_distance < compare(one.graph, true).class_distance


@pytest.mark.parametrize("restarts", [0, 10])
def test_moves_add_up_to_the_score(restarts, categories):
    found = learn(categories, restarts=restarts)
    empty = make_score("bic", Statistics(categories)).total(Graph.of([], categories.names))
    assert found.score - empty == pytest.approx(sum(step.gain for step in found.history), abs=1e-8)
    assert found.history[0].move == "add"


def test_the_gain_of_an_edge_is_what_is_lost_without_it(categories):
    found, judge = learn(categories), make_score("bic", Statistics(categories))
    for edge, gain in found.gains.items():
        without = Graph.of([other for other in found.graph.edges if other != edge], categories.names)
        assert gain == pytest.approx(found.score - judge.total(without), abs=1e-8)


def test_the_same_seed_finds_the_same_graph_whatever_ran_before(drawn):
    table = drawn("alarm", 200)[1]
    first = learn(table, seed=3, restarts=2)
    learn(table.take(slice(0, 100)))
    again = learn(table, seed=3, restarts=2)
    assert first.graph == again.graph
    assert first.history == again.history
    assert first.score == again.score


def test_ties_go_to_the_first_columns():
    """Both directions of one edge score the same."""
    values = np.random.default_rng(0).integers(0, 2, 200)
    for names in ("ab", "ba"):
        assert learn(Table({names[0]: values, names[1]: values})).graph.edges == [tuple(names)]


@pytest.mark.parametrize("steps", [1, 30])
def test_what_is_remembered_is_what_would_be_counted_again(steps, categories):
    """After any moves: paths, gains of all moves, and the key of the graph."""
    score, free = make_score("bic", Statistics(categories)), ~np.eye(4, dtype=bool)
    none = np.zeros((4, 4), dtype=bool)
    state = Climb(score, free, none, 4, none)
    for _ in shaken(state, steps, np.random.default_rng(steps)):
        state.values()
    fresh = Climb(score, free, none, 4, state.edges)
    np.testing.assert_array_equal(state.values(), fresh.values())
    np.testing.assert_array_equal(state.below, fresh.below)
    assert state.key == fresh.key
    reachable = nx.transitive_closure(nx.DiGraph(list(map(tuple, np.argwhere(state.edges).tolist()))), reflexive=False)
    assert set(map(tuple, np.argwhere(state.below).tolist())) == set(reachable.edges)


def test_moves_gain_what_the_scores_differ(categories):
    score, none = make_score("bic", Statistics(categories)), np.zeros((4, 4), dtype=bool)
    state = Climb(score, ~np.eye(4, dtype=bool), none, 4, none)
    list(shaken(state, 6, np.random.default_rng(0)))
    values = state.values()
    for kind, parent, child in np.argwhere(np.isfinite(values)):
        after = state.edges.copy()
        after[parent, child] ^= True
        after[child, parent] ^= kind == 2
        change = sum(
            score.family(d, np.nonzero(after[:, d])[0].tolist()) - score.family(d, state.parents(d)) for d in range(4)
        )
        assert values[kind, parent, child] == pytest.approx(change, abs=1e-9)
        assert nx.is_directed_acyclic_graph(nx.DiGraph(after.astype(int)))


def test_all_legal_moves_are_there(categories):
    score, none = make_score("bic", Statistics(categories)), np.zeros((4, 4), dtype=bool)
    state = Climb(score, ~np.eye(4, dtype=bool), none, 4, none)
    list(shaken(state, 8, np.random.default_rng(1)))
    add, delete, turn = state.legal()
    for parent, child in product(range(4), repeat=2):
        if parent == child:
            continue
        after = state.edges.copy()
        there, back = after[parent, child], after[child, parent]
        after[parent, child], after[child, parent] = True, False
        fine = nx.is_directed_acyclic_graph(nx.DiGraph(after.astype(int)))
        assert add[parent, child] == (not there and not back and fine)
        assert turn[child, parent] == (bool(back) and fine)
        assert delete[parent, child] == there


def test_closure_of_a_chain():
    chain = np.eye(5, k=1, dtype=bool)
    np.testing.assert_array_equal(closure(chain), np.triu(np.ones((5, 5), dtype=bool), 1))


def test_candidates_are_those_that_gain_most():
    gains = np.array([[-np.inf, 5, 1, 2], [5, -np.inf, 3, 0], [1, 3, -np.inf, 1], [2, 0, 1, -np.inf]])
    none = np.zeros((4, 4), dtype=bool)
    found = promising(gains, none, 1)
    assert set(map(tuple, np.argwhere(found).tolist())) == {(0, 1), (1, 0), (1, 2), (2, 1), (0, 3), (3, 0)}
    assert promising(gains, none, 3).sum() == 12


def test_few_candidates_still_find_asia(drawn):
    true, table = drawn("asia", 20000)
    assert compare(learn(table, candidates=3).graph, true).class_distance <= 2


# -- holes -------------------------------------------------------------------------------------------------------------
def test_holes_do_not_bring_edges_out_of_nothing():
    """Independent columns with many holes: comparing different rows would find edges here."""
    random = np.random.default_rng(0)
    a = random.integers(0, 3, 2000)
    b = (a + (random.random(2000) < 0.2)) % 3
    values = np.column_stack([a, b, *random.integers(0, 2, (6, 2000))]).astype(float)
    values[:, 2:][random.random((2000, 6)) < 0.4] = np.nan
    table = Table({f"v{d}": values[:, d] for d in range(8)})
    schema = table.schema.with_kind("v0", "categorical", [0, 1, 2]).with_kind("v1", "categorical", [0, 1, 2])
    found = learn(Table(table.to_pandas(), schema=schema))
    assert found.graph.edges == [("v0", "v1")]


def test_asia_with_holes(drawn):
    true, table = drawn("asia", 20000)
    values = table.values.copy()
    values[np.random.default_rng(0).random(values.shape) < 0.1] = np.nan
    kept = ~np.isnan(values).all(1)
    found = learn(table.take(kept).with_values(values[kept]))
    assert compare(found.graph, true).class_distance <= 2


def test_columns_never_known_together_get_no_edge():
    random = np.random.default_rng(0)
    values = random.integers(0, 2, (200, 3)).astype(float)
    values[:100, 0], values[100:, 1] = np.nan, np.nan
    table = Table({"a": values[:, 0], "b": values[:, 1], "c": values[:, 2]})
    with pytest.warns(DataWarning, match=r"No row knows both 'a' and 'b' \(1 such pairs\)"):
        found = learn(table)
    assert not {("a", "b"), ("b", "a")} & set(found.graph.edges)
    with pytest.raises(DataError, match="a -> b is required, and no row knows both columns"):
        learn(table, required=[("a", "b")])


# -- what cannot be done -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"method": "magic"}, "method must be one of hill_climbing, .*; got 'magic'"),
        ({"score": "mdl"}, "score must be 'auto' or one of"),
        ({"score": "log_likelihood"}, "rises with every edge; give max_parents"),
        ({"restarts": -1}, "restarts must be a whole number of at least 0, got -1"),
        ({"candidates": 0}, "candidates must be a whole number from 1 up"),
        ({"max_parents": 1.5}, "max_parents must be a whole number from 0 up"),
        ({"start": [("a", "b"), ("b", "a")]}, "has a cycle"),
        ({"start": [("a", "b")], "forbidden": [("a", "b")]}, "start has edge a -> b"),
        ({"start": [("a", "d"), ("b", "d")], "max_parents": 1}, "At the start column 'd' has more than max_parents=1"),
        ({"method": "tan"}, "needs a class: give target="),
        ({"method": "tan", "target": "z"}, "There is no column 'z'"),
        ({"equivalent_sample_size": 0.0, "score": "bdeu"}, "equivalent_sample_size must be a number, positive"),
        ({"equivalent_sample_size": "x"}, "equivalent_sample_size must be a number, positive, and finite; got 'x'"),
        ({"equivalent_sample_size": True}, "equivalent_sample_size must be a number"),
        ({"significance": "x"}, "significance must be a number, between 0 and 1; got 'x'"),
    ],
)
def test_bad_options_are_refused(options, told, categories):
    with pytest.raises((CapabilityError, ValueError), match=told):
        learn(categories, **options)


def test_bad_tables_are_refused(categories):
    with pytest.raises(DataError, match="at least 2 rows"):
        learn(categories.take([0]))
    with pytest.raises(DataError, match="'b' has no known value"):
        learn(categories.hide("b"))
    constant = Table({"x": np.random.default_rng(0).normal(size=9), "y": np.arange(9.0)})
    with pytest.raises(DataError, match="'y' is constant"):
        learn(constant.with_values(np.column_stack([constant.values[:, 0], np.ones(9)])))


def test_a_column_with_one_value_gets_no_edge(categories):
    table = categories.take(categories.values[:, 1] == 0)
    assert all("b" not in edge for edge in learn(table).graph.edges)
    assert all("b" not in edge for edge in learn(table, "chow_liu").graph.edges)


def test_two_rows_are_enough_for_an_answer():
    assert learn(Table({"a": ["u", "v"], "b": ["v", "u"], "x": [0.5, 1.5]})).graph.nodes == ("a", "b", "x")


def test_parents_that_would_not_fit_are_not_tried(categories, monkeypatch):
    monkeypatch.setattr(counting, "CELLS", 9)
    found = learn(categories)
    assert found.graph.edges
    assert max(len(parents) for parents in found.graph.parents.values()) == 1


def test_a_required_family_that_would_not_fit_is_refused(categories, monkeypatch):
    monkeypatch.setattr(counting, "CELLS", 20)
    with pytest.raises(CapabilityError, match="has a table of 36 numbers"):
        learn(categories, required=[("a", "d"), ("b", "d"), ("c", "d")])


# -- faces -------------------------------------------------------------------------------------------------------------
def test_the_summary_names_the_edges(categories):
    found = learn(categories)
    assert repr(found).startswith("Structure(4 columns, ")
    lines = found.summary().splitlines()
    assert lines[0] == repr(found)
    assert len(lines) == 2 + len(found.graph.edges)
    assert learn(categories, "independent").summary().endswith("no edges")


def test_a_structure_may_start_another(categories):
    first = learn(categories, restarts=0)
    assert learn(categories, start=first, restarts=0).history == ()


@pytest.mark.parametrize("name", ["mice_boys", "abalone"])
def test_real_tables_of_mixed_columns(name, data_folder):
    table = pg.read_table(data_folder / "tabular" / f"{name}.csv")
    found = learn(table)
    discrete = {column.name for column in table.schema if column.is_discrete}
    assert all(parent in discrete for parent, child in found.graph.edges if child in discrete)
    expected = {"mice_boys": ("wgt", "bmi"), "abalone": ("sex", "rings")}[name]
    assert expected in found.graph.edges
    assert min(found.gains.values()) > 0


class Circle:
    """Three graphs in a circle, every move of which seems to gain, as can be where cells are unknown."""

    key, edges = 0, np.zeros((2, 2), dtype=bool)

    def best(self, visited):
        return Move("add", 0, 1, 1.0)

    def apply(self, move):
        self.key = (self.key + 1) % 3


def test_gains_around_a_circle_end():
    found = climb(Circle(), patience=10, tabu=1, max_steps=1000)
    assert len(found.moves) == 2
    assert found.gain == 2.0
