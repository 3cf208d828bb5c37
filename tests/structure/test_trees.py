"""Trees beside all trees of few columns, and pgmpy's."""

from itertools import product

import networkx as nx
import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

import probgen as pg
from probgen.data import Table
from probgen.errors import CapabilityError
from probgen.structure import Graph, Statistics, compare, make_score
from probgen.structure.peers import pgmpy_graph
from probgen.structure.scores import possible


def learn(table, method="chow_liu", **options):
    return pg.learn_structure(table, method, progress=False, **options)


def best_branching(gains):
    """The most that one parent or none for each node can gain, all tried."""
    size, best = len(gains), 0.0
    for parents in product(range(-1, size), repeat=size):
        edges = [(p, c) for c, p in enumerate(parents) if p >= 0]
        if all(p != c for p, c in edges) and nx.is_directed_acyclic_graph(nx.DiGraph(edges)):
            best = max(best, sum(gains[p, c] for p, c in edges))
    return best


def weight(gains, names, graph):
    return sum(gains[names.index(a), names.index(b)] for a, b in graph.edges)


@pytest.mark.parametrize("score", ["log_likelihood", "bic", "bdeu", "k2"])
def test_no_tree_of_categories_gains_more(score, categories):
    judge = make_score(score, Statistics(categories))
    gains = judge.gains(possible(judge.statistics))
    found = learn(categories, score=score).graph
    assert weight(gains, categories.names, found) == pytest.approx(best_branching(gains), abs=1e-8)
    assert max(map(len, found.parents.values())) == 1


@pytest.mark.parametrize("score", ["log_likelihood", "bic"])
def test_no_tree_of_mixed_columns_gains_more(score, mixed):
    table = mixed.select(["k", "s", "x", "y", "n"])
    judge = make_score(score, Statistics(table))
    gains = judge.gains(possible(judge.statistics))
    assert weight(gains, table.names, learn(table, score=score).graph) == pytest.approx(
        best_branching(gains), abs=1e-8
    )


def test_gains_are_rows_times_mutual_information(categories):
    judge = make_score("log_likelihood", Statistics(categories))
    gains = judge.gains(possible(judge.statistics))
    for a, b in [(0, 1), (0, 2), (2, 3)]:
        expected = mutual_info_score(categories.values[:, a], categories.values[:, b]) * len(categories)
        assert gains[a, b] == pytest.approx(expected, abs=1e-9)


def test_gains_of_numbers_are_those_of_their_correlation(mixed):
    judge = make_score("log_likelihood", Statistics(mixed))
    correlation = np.corrcoef(mixed.values[:, 2], mixed.values[:, 3])[0, 1]
    assert judge.gain(3, (), 2) == pytest.approx(-200 * np.log(1 - correlation**2), rel=1e-9)
    assert judge.gain(2, (), 3) == pytest.approx(judge.gain(3, (), 2), rel=1e-9)


@pytest.mark.reference
def test_the_tree_is_pgmpys(drawn):
    table = drawn("asia", 2000)[1]
    ours, theirs = learn(table).graph, pgmpy_graph(table, "chow_liu")
    judge = make_score("log_likelihood", Statistics(table))
    assert judge.total(ours) == pytest.approx(judge.total(Graph.of(sorted(theirs.directed), table.names)), abs=1e-6)


@pytest.mark.reference
def test_the_tree_under_a_class_is_pgmpys(drawn):
    table = drawn("asia", 3000)[1]
    ours, theirs = learn(table, "tan", target="lung").graph, pgmpy_graph(table, "tan", target="lung")
    judge = make_score("log_likelihood", Statistics(table))
    assert judge.total(ours) == pytest.approx(judge.total(Graph.of(sorted(theirs.directed), table.names)), abs=1e-6)


def test_under_a_class_all_trees_are_worse(mixed):
    table = mixed.select(["s", "k", "x", "y"])
    judge = make_score("bic", Statistics(table))
    allowed = possible(judge.statistics)
    allowed[0] = allowed[:, 0] = False
    gains = judge.gains(allowed, given=0)
    found = learn(table, "tan", target="s", score="bic").graph
    among = found.without(["s"])
    assert weight(gains, table.names, among) == pytest.approx(best_branching(gains), abs=1e-8)
    assert set(found.children["s"]) == {"k", "x", "y"}


def test_a_penalty_leaves_a_forest():
    random = np.random.default_rng(0)
    a, c = random.integers(0, 2, (2, 500))
    table = Table({"a": a, "b": a ^ (random.random(500) < 0.1), "c": c, "d": c ^ (random.random(500) < 0.1)})
    assert len(learn(table).graph.edges) == 3
    forest = learn(table, score="bic").graph
    assert {frozenset(edge) for edge in forest.edges} == {frozenset("ab"), frozenset("cd")}


def test_the_root_may_be_named(categories):
    for name in "abcd":
        graph = learn(categories, target=name).graph
        assert graph.parents[name] == ()
        assert len(graph.edges) == 3


def test_a_tree_of_many_binary_columns_is_found():
    random = np.random.default_rng(0)
    parents = [0, *(int(random.integers(max(0, d - 9), d)) for d in range(1, 120))]
    values = np.zeros((3000, 120))
    values[:, 0] = random.random(3000) < 0.5
    for d in range(1, 120):
        values[:, d] = random.random(3000) < np.where(values[:, parents[d]] == 1, 0.8, 0.2)
    true = Graph.of([(f"x{parents[d]}", f"x{d}") for d in range(1, 120)])
    table = Table(dict(zip([f"x{d}" for d in range(120)], values.T, strict=True)))
    assert compare(learn(table).graph, true).class_distance == 0
    values[random.random(values.shape) < 0.1] = np.nan
    assert compare(learn(table.with_values(values)).graph, true).class_distance <= 4


def test_naive_bayes_and_independence(mixed):
    assert set(learn(mixed, "naive_bayes", target="k").graph.edges) == {("k", d) for d in mixed.names if d != "k"}
    assert learn(mixed.with_target("s"), "naive_bayes").graph.children["s"] == ("k", "x", "y", "w", "n", "z")
    assert learn(mixed, "independent").graph.edges == []
    with pytest.raises(CapabilityError, match="The class must be discrete; 'x' is real"):
        learn(mixed, "naive_bayes", target="x")
    with pytest.raises(CapabilityError, match="The class must be discrete; 'x' is real"):
        learn(mixed, "tan", target="x")
