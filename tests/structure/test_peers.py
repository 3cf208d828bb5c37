"""pgmpy's methods on our tables."""

import warnings

import numpy as np
import pytest

import probgen as pg
from probgen.data import Table
from probgen.errors import CapabilityError, DataWarning, FitError
from probgen.structure import Constraints, Graph, PartialGraph, Statistics, compare, cpdag, make_score
from probgen.structure import peers as module
from probgen.structure.peers import directed, pgmpy_graph


def learn(table, method, **options):
    return pg.learn_structure(table, method, progress=False, **options)


@pytest.mark.parametrize("method", ["pc", "ges"])
def test_asia_is_nearly_found(method, drawn):
    true, table = drawn("asia", 4000)
    found = learn(table.drop(["asia"]), method)
    assert compare(found.graph, true.without(["asia"])).recall >= 0.6
    assert found.method == method
    assert set(found.gains) == set(found.graph.edges)


def test_the_best_of_all_graphs_is_ours_too(categories):
    table = categories
    theirs = pgmpy_graph(table, "exhaustive", score="bdeu")
    judge = make_score("bdeu", Statistics(table))
    best = judge.total(Graph.of(sorted(theirs.directed), table.names))
    assert learn(table, "hill_climbing", score="bdeu", restarts=10).score == pytest.approx(best, abs=1e-8)


@pytest.mark.reference
def test_one_climb_is_no_worse_than_pgmpys(drawn):
    table = drawn("asia", 2000)[1]
    judge = make_score("bic", Statistics(table))
    theirs = judge.total(directed(pgmpy_graph(table, "hill_climbing"), Constraints()))
    assert learn(table, "hill_climbing", restarts=0).score >= theirs - 1e-6


def test_names_and_levels_come_back():
    random = np.random.default_rng(0)
    a = random.integers(0, 3, 500)
    b = np.where(random.random(500) < 0.9, a, random.integers(0, 3, 500))
    table = Table({"a b~c": np.array(["u", "v", "w"])[a], "0": b.astype(str), 7: random.integers(0, 2, 500)})
    assert {frozenset(edge) for edge in learn(table, "ges").graph.edges} == {frozenset(["a b~c", "0"])}


def test_numbers_are_read_on_their_gaussian_scale(mixed):
    found = learn(mixed.select(["x", "y", "w"]), "pc")
    assert {frozenset(edge) for edge in found.graph.edges} >= {frozenset("xy")}
    assert found.undirected


@pytest.mark.parametrize("method", ["ges", "pc"])
def test_edges_that_the_kinds_of_columns_do_not_admit_are_turned(method, mixed):
    table = mixed.select(["s", "y"] if method == "pc" else ["x", "y", "s", "k"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        found = learn(table, method)
    assert any(parent in "sk" and child in "xy" for parent, child in found.graph.edges)
    assert found.score == pytest.approx(make_score("bic", Statistics(table)).total(found.graph))  # refuses such edges


def test_turned_edges_are_told():
    arrows = PartialGraph(tuple("abx"), frozenset([("x", "a")]), frozenset([("b", "x"), ("a", "b")]))
    impossible = frozenset([("x", "a"), ("x", "b")])
    with pytest.warns(DataWarning, match="x -> a. They are turned round"):
        graph = directed(arrows, Constraints(), impossible)
    assert {("a", "x"), ("b", "x")} < set(graph.edges)


def test_mmhc(categories):
    found = learn(categories.select(["a", "b", "c"]), "mmhc", significance=0.05)
    assert found.graph.edges


def test_pc_is_given_the_constraints(drawn):
    table = drawn("asia", 2000)[1].select(["smoke", "bronc", "dysp"])
    free = learn(table, "pc")
    assert free.undirected
    told = learn(table, "pc", required=[("bronc", "smoke")])
    assert ("bronc", "smoke") in told.graph.edges
    tiers = learn(table, "pc", tiers=["dysp", "bronc", "smoke"])
    assert set(tiers.graph.edges) == {("dysp", "bronc"), ("bronc", "smoke")}


def test_what_pc_does_not_keep_is_told(drawn):
    table = drawn("asia", 2000)[1].select(["smoke", "bronc", "dysp"])
    with pytest.warns(DataWarning, match="pc does not keep: smoke -> dysp is required"):
        learn(table, "pc", required=[("smoke", "dysp")])


def test_pgmpy_hill_climbing_keeps_constraints(categories):
    knowledge = Constraints.of([("d", "a")], [("a", "b")], max_parents=1, names="abcd")
    found = pgmpy_graph(categories, "hill_climbing", constraints=knowledge)
    assert ("d", "a") in found.directed
    assert ("a", "b") not in found.directed


def test_arrows_that_disagree_are_directed_all_the_same():
    square = PartialGraph(tuple("abcd"), undirected=frozenset([("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")]))
    with pytest.warns(DataWarning, match="in the order of the columns"):
        graph = directed(square, Constraints())
    assert len(graph.edges) == 4
    circle = PartialGraph(tuple("abc"), directed=frozenset([("a", "b"), ("b", "c"), ("c", "a")]))
    with pytest.warns(DataWarning):
        assert len(directed(circle, Constraints()).edges) == 3


def test_undirected_edges_keep_the_class(drawn):
    graph = drawn("asia", 10)[0]
    assert cpdag(directed(cpdag(graph), Constraints())).directed == cpdag(graph).directed


@pytest.mark.parametrize(
    ("method", "change", "told"),
    [
        ("pc", lambda t: t.with_values(np.where(np.arange(300)[:, None] < 3, np.nan, t.values)), "'a' has 3 unknown"),
        ("ges", lambda t: t.with_weights(np.ones(300)), "knows no row weights"),
        ("magic", lambda t: t, "pgmpy's methods are"),
    ],
)
def test_tables_that_pgmpy_cannot_use(method, change, told, categories):
    with pytest.raises(CapabilityError, match=told):
        pgmpy_graph(change(categories), method)


def test_kinds_that_pgmpy_cannot_use(mixed):
    with pytest.raises(CapabilityError, match="cannot use 'n', which is count"):
        learn(mixed, "ges")
    with pytest.raises(CapabilityError, match="cannot use 'x', which is real"):
        pgmpy_graph(mixed, "chow_liu")
    with pytest.raises(CapabilityError, match="no score 'bdeu' for continuous columns"):
        pgmpy_graph(mixed.select(["x", "y"]), "ges", score="bdeu")
    with pytest.raises(CapabilityError, match="at most 6 columns, not 7"):
        pgmpy_graph(Table(np.random.default_rng(0).integers(0, 2, (50, 7))), "exhaustive")


def test_failures_of_pgmpy_are_told(categories, monkeypatch):
    def failing(question):
        raise ZeroDivisionError("inside")

    monkeypatch.setitem(module.PEERS, "ges", failing)
    with pytest.raises(FitError, match="pgmpy's ges failed: ZeroDivisionError: inside"):
        learn(categories, "ges")


def test_pgmpy_stays_quiet(categories, capfd):
    learn(categories, "pc")
    assert "".join(capfd.readouterr()) == ""
