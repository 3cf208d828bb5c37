"""Shares of edges in resampled tables."""

import numpy as np
import pytest

import probgen as pg
from probgen.errors import CapabilityError
from probgen.structure import Constraints, EdgeConfidence, Graph, Statistics, compare
from probgen.structure.confidence import Resampler, make_options


def confidence(table, method="hill_climbing", **options):
    return pg.edge_confidence(table, method, progress=False, **options)


def test_sure_edges_are_in_all_graphs_and_others_are_not(drawn):
    true, table = drawn("asia", 3000)
    found = confidence(table, resamples=10)
    names = list(table.names)
    shares = found.edges
    np.testing.assert_array_equal(shares, shares.T)
    assert shares[names.index("lung"), names.index("either")] == 1.0
    assert shares[names.index("asia"), names.index("xray")] < 0.3
    directions = found.directions
    assert np.allclose((directions + directions.T)[shares > 0], 1.0)
    assert directions[names.index("either"), names.index("dysp")] > 0.9
    assert compare(found.averaged(), true).class_distance <= 4


def test_an_edge_that_may_run_either_way_is_half(drawn):
    table = drawn("asia", 3000)[1].select(["smoke", "bronc"])
    found = confidence(table, resamples=5)
    assert found.edges[0, 1] == 1.0
    assert found.directions[0, 1] == found.directions[1, 0] == 0.5
    assert found.averaged().edges == [("smoke", "bronc")]


def test_each_resample_has_its_own_random_stream(categories):
    options = make_options(categories, "hill_climbing", {"restarts": 1})
    one, other = Resampler(categories, options, 0), Resampler(categories, options, 0)
    assert [one(number) for number in range(6)] == [other(number) for number in range(5, -1, -1)][::-1]


@pytest.mark.slow
def test_workers_do_not_change_the_result(drawn):
    table = drawn("asia", 500)[1]
    one, two = confidence(table, resamples=6, seed=3), confidence(table, resamples=6, seed=3, workers=2)
    np.testing.assert_array_equal(one.arrows, two.arrows)
    np.testing.assert_array_equal(one.compelled, two.compelled)
    other = confidence(table, resamples=6, seed=4)
    assert (one.arrows != other.arrows).any()


def test_resampled_weights_are_drawn_rows(categories):
    statistics = Statistics(categories)
    totals = np.array([statistics.resampled(np.random.default_rng(s)).counts((0, 1)) for s in range(200)])
    assert (totals.sum((1, 2)) == len(categories)).all()
    counts = statistics.counts((0, 1))
    error = np.sqrt(counts * (1 - counts / 300) / 200)
    assert (np.abs(totals.mean(0) - counts) <= 4 * error + 1e-9).all()
    assert totals.var(0)[0, 0] == pytest.approx(counts[0, 0] * (1 - counts[0, 0] / 300), rel=0.4)


def test_resampling_keeps_the_weight_of_a_weighted_table(categories):
    weights = np.repeat([0.5, 2.0], 150)
    drawn = Statistics(categories.with_weights(weights)).resampled(np.random.default_rng(0))
    assert drawn.total == drawn.counts((0,)).sum() == pytest.approx(weights.sum())


def test_resampling_with_holes_and_numbers(mixed):
    values = mixed.values.copy()
    values[np.random.default_rng(0).random(values.shape) < 0.1] = np.nan
    found = confidence(mixed.with_values(values), "chow_liu", resamples=5)
    assert found.edges[2, 3] == 1.0


def test_pgmpys_methods_are_resampled_too(drawn):
    table = drawn("asia", 400)[1].select(["smoke", "bronc", "dysp"])
    assert confidence(table, "ges", resamples=3).edges[0, 1] > 0


def test_averaging_makes_no_cycle():
    arrows = np.zeros((3, 3))
    arrows[0, 1], arrows[1, 2], arrows[2, 0] = 0.9, 0.8, 0.7
    found = EdgeConfidence(("a", "b", "c"), arrows, arrows, 10)
    assert found.averaged(0.5) == Graph.of([("a", "b"), ("b", "c"), ("a", "c")])
    assert found.averaged(0.85).edges == [("a", "b")]
    with pytest.raises(CapabilityError, match="threshold must lie between 0 and 1"):
        found.averaged(2.0)


def test_averaging_keeps_the_constraints(categories):
    arrows = np.zeros((3, 3))
    arrows[0, 1], arrows[1, 2], arrows[2, 0] = 0.9, 0.8, 0.7
    for constraints in (
        Constraints.of(forbidden=[("a", "c")], names="abc"),
        Constraints.of(tiers=["c", "a"], names="abc"),
    ):
        found = EdgeConfidence(("a", "b", "c"), arrows, arrows, 10, constraints)
        assert found.averaged(0.5) == Graph.of([("a", "b"), ("b", "c")], "abc")
    required = EdgeConfidence(("a", "b", "c"), arrows, arrows, 10, Constraints.of([("c", "a")], names="abc"))
    assert ("c", "a") in required.averaged(0.5).edges
    assert confidence(categories, resamples=2, forbidden=[("a", "b")]).constraints.forbidden == {("a", "b")}


def test_the_summary_names_edges_and_directions(categories):
    found = confidence(categories, resamples=5)
    assert "resamples" in repr(found)
    assert "a -- b  1.00" in found.summary()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"resamples": 0}, "resamples must be a whole number of at least 1"),
        ({"workers": 0}, "workers must be a whole number of at least 1"),
        ({"colour": 1}, "no option 'colour'"),
        ({"method": "magic"}, "method must be one of"),
        ({"required": [("a", "b"), ("b", "a")]}, "cycle"),
    ],
)
def test_bad_options_are_refused(options, told, categories):
    with pytest.raises(CapabilityError, match=told):
        confidence(categories, **options)
