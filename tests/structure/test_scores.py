"""Scores beside pgmpy's, closed forms, and sums written out."""

import math
import warnings
from itertools import combinations

import numpy as np
import pytest
from scipy.special import gammaln

from probgen.data import Table
from probgen.errors import CapabilityError
from probgen.structure import Graph, Statistics, make_score
from probgen.structure import statistics as counting
from probgen.structure.scores import Score, possible

PEERS = {"bic": "BIC", "aic": "AIC", "log_likelihood": "LogLikelihood", "bdeu": "BDeu", "bds": "BDs", "k2": "K2"}


def peer(name, table, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pgmpy.structure_score as peers

        return getattr(peers, name)(table.to_pandas(), **options)


def families(places, most=2):
    """Every column with every few others as its parents."""
    for node in places:
        others = [place for place in places if place != node]
        for size in range(most + 1):
            yield from ((node, parents) for parents in combinations(others, size))


@pytest.mark.reference
@pytest.mark.parametrize("name", PEERS)
def test_discrete_scores_are_pgmpys(name, categories):
    ours, theirs = make_score(name, Statistics(categories)), peer(PEERS[name], categories)
    counts = Statistics(categories)
    for node, parents in families(range(4)):
        if name == "bds" and parents and (counts.counts(parents) == 0).any():
            continue  # pgmpy spreads the cells' weight over what is never seen; see the next test
        expected = theirs.local_score(categories.names[node], tuple(categories.names[p] for p in parents))
        assert ours.family(node, parents) == pytest.approx(expected, abs=1e-8)


def test_bds_is_the_papers_where_configurations_are_unseen(categories):
    table = categories.take(categories.values[:, 0] != categories.values[:, 2])
    counts = Statistics(table).counts((3, 0, 2)).reshape(2, -1)
    seen = counts[:, counts.sum(0) > 0]
    assert seen.shape[1] < counts.shape[1]
    cell, whole = 10 / seen.size, 10 / seen.shape[1]
    expected = (gammaln(seen + cell) - gammaln(cell)).sum() + (gammaln(whole) - gammaln(seen.sum(0) + whole)).sum()
    assert make_score("bds", Statistics(table)).family(3, (0, 2)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.reference
@pytest.mark.parametrize(("name", "theirs"), [("bic", "BICGauss"), ("aic", "AICGauss")])
def test_gaussian_scores_are_pgmpys(name, theirs, mixed):
    table = mixed.select(["x", "y"])
    values = np.column_stack(
        [table.values, np.random.default_rng(0).normal(5.0, 3.0, len(table)) + table.values[:, 0]]
    )
    table = Table({"x": values[:, 0], "y": values[:, 1], "v": values[:, 2]})
    ours, expected = make_score(name, Statistics(table)), peer(theirs, table)
    for node, parents in families(range(3)):
        there = expected.local_score(table.names[node], tuple(table.names[p] for p in parents))
        assert ours.family(node, parents) == pytest.approx(there, abs=1e-8)


@pytest.mark.reference
@pytest.mark.parametrize("parents", [("k",), ("x",), ("k", "s"), ("k", "x"), ("s", "k", "x")])
def test_conditional_gaussian_bic_is_pgmpys_but_for_its_variances(mixed, parents):
    """Pgmpy puts the sample covariance into the density; the likelihood's maximum has n, not n - 1, below the sum."""
    frame = mixed.to_pandas()
    for name in ("k", "s"):
        frame[name] = frame[name].astype(str).astype("category")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pgmpy.structure_score import BICCondGauss

        theirs = BICCondGauss(frame[["k", "s", "x", "y"]]).local_score("y", parents)
    groups = mixed.values[:, [mixed.names.index(p) for p in parents if p in "ks"]]
    rows = np.unique(groups, axis=0, return_counts=True)[1] if groups.shape[1] else np.array([len(mixed)])
    correction = (rows / 2 * np.log(rows / (rows - 1)) - 0.5).sum()
    ours = make_score("bic", Statistics(mixed)).family(3, [mixed.names.index(p) for p in parents])
    assert ours == pytest.approx(theirs + correction, abs=1e-7)


def test_one_regression_a_configuration_is_least_squares(mixed):
    k, x, y = mixed.values[:, 0], mixed.values[:, 2], mixed.values[:, 3]
    expected = -9 / 2 * math.log(400)
    for level in range(3):
        here = k == level
        design = np.column_stack([np.ones(here.sum()), x[here]])
        left = y[here] - design @ np.linalg.lstsq(design, y[here], rcond=None)[0]
        expected -= here.sum() / 2 * (math.log(2 * math.pi * (left**2).mean()) + 1)
    assert make_score("bic", Statistics(mixed)).family(3, (0, 2)) == pytest.approx(expected, abs=1e-8)


def test_positive_columns_are_scored_on_the_log_scale(mixed):
    logs = Table({"y": mixed.values[:, 3], "w": np.log(mixed.values[:, 4])})
    ours = make_score("bic", Statistics(mixed)).gain(4, (), 3)
    assert ours == pytest.approx(make_score("bic", Statistics(logs)).gain(1, (), 0), rel=1e-9)


def test_semicontinuous_columns_are_zero_or_not_and_a_gaussian_logarithm(mixed):
    s, z = mixed.values[:, 1], mixed.values[:, 6]
    expected = -6 / 2 * math.log(400)
    for level in range(2):
        here, there = z[s == level], np.log(z[(s == level) & (z > 0)])
        share = (here > 0).mean()
        expected += len(there) * math.log(share) + (len(here) - len(there)) * math.log(1 - share)
        expected -= len(there) / 2 * (math.log(2 * math.pi * there.var()) + 1)
    assert make_score("bic", Statistics(mixed)).family(6, (1,)) == pytest.approx(expected, abs=1e-8)


def test_one_level_seen_is_worth_nothing(categories):
    table = categories.take(categories.values[:, 1] == 0)
    assert make_score("bic", Statistics(table)).gain(0, (), 1) < 0


def test_equal_values_are_not_a_density_without_end():
    """Three rows that agree within a level do not outweigh what its parameters cost."""
    random = np.random.default_rng(0)
    level = np.repeat(np.arange(20), 5)
    values = random.normal(size=100).round(1)
    values[level == 3] = 0.5
    table = Table({"level": level.astype(str), "x": values})
    assert make_score("bic", Statistics(table)).gain(1, (), 0) < 0


def test_a_few_equal_numbers_are_not_either():
    values = np.random.default_rng(0).normal(size=400)
    values[:3] = 0.123
    table = Table({"level": np.repeat(["u", "v"], [3, 397]), "x": values})
    assert make_score("bic", Statistics(table)).gain(1, (), 0) < 0


@pytest.mark.parametrize("name", ["bic", "aic", "bdeu", "bds", "k2", "log_likelihood"])
@pytest.mark.parametrize("holes", [False, True])
def test_all_pairs_at_once_are_the_pairs(name, holes, categories, holed):
    score = make_score(name, Statistics(holed if holes else categories))
    allowed = possible(score.statistics)
    fast, slow = score.gains(allowed), Score.gains(make_score(name, score.statistics), allowed)
    np.testing.assert_allclose(fast, slow, atol=1e-8)
    given = allowed & (np.arange(4) != 1) & (np.arange(4)[:, None] != 1)
    fast, slow = score.gains(given, 1), Score.gains(make_score(name, score.statistics), given, 1)
    np.testing.assert_allclose(fast, slow, atol=1e-8)


def test_strips_of_pairs_are_the_whole(categories, monkeypatch):
    score = make_score("bic", Statistics(categories))
    whole = score.gains(possible(score.statistics))
    monkeypatch.setattr(counting, "STRIP", 30)
    monkeypatch.setattr(counting, "ROWS", 50)
    assert len(score.statistics.pairs(range(4)).strips()) > 1
    np.testing.assert_allclose(score.gains(possible(score.statistics)), whole, atol=1e-9)


# -- holes and weights -------------------------------------------------------------------------------------------------
def test_counts_leave_out_rows_with_holes(holed):
    known = ~np.isnan(holed.values[:, [0, 3]]).any(1)
    expected = np.zeros((3, 2))
    np.add.at(expected, tuple(holed.values[known][:, [0, 3]].astype(int).T), 1)
    assert Statistics(holed).counts((0, 3)).tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["bic", "bdeu"])
def test_a_gain_with_holes_is_that_of_the_rows_that_know_all(name, holed):
    known = ~np.isnan(holed.values[:, [0, 1, 3]]).any(1)
    complete = make_score(name, Statistics(holed.take(known)))
    expected = (complete.family(3, (0, 1)) - complete.family(3, (0,))) * len(holed) / known.sum()
    score = make_score(name, Statistics(holed))
    assert score.gain(3, (0,), 1) == pytest.approx(expected, rel=1e-10)
    whole = make_score(name, Statistics(holed.take(~np.isnan(holed.values[:, 3])))).family(3, ())
    gained = (complete.family(3, (0, 1)) - complete.family(3, ())) * len(holed) / known.sum()
    alone = whole * len(holed) / (~np.isnan(holed.values[:, 3])).sum()
    assert score.family(3, (0, 1)) == pytest.approx(alone + gained, rel=1e-10)


def test_gaussian_gains_with_holes(mixed):
    values = mixed.values.copy()
    values[np.random.default_rng(0).random(values.shape) < 0.2] = np.nan
    table = mixed.with_values(values)
    known = ~np.isnan(values[:, [0, 2, 3]]).any(1)
    complete = make_score("bic", Statistics(table.take(known)))
    for parents, extra in [((0,), 2), ((2,), 0)]:
        expected = (complete.family(3, (0, 2)) - complete.family(3, parents)) * 400 / known.sum()
        assert make_score("bic", Statistics(table)).gain(3, parents, extra) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", ["bic", "bdeu", "k2"])
def test_weights_are_repeated_rows(name, categories):
    weights = np.random.default_rng(3).integers(0, 4, len(categories)).astype(float)
    repeated = categories.take(np.repeat(np.arange(len(categories)), weights.astype(int)))
    ours = make_score(name, Statistics(categories.with_weights(weights)))
    theirs = make_score(name, Statistics(repeated))
    for node, parents in families(range(4)):
        assert ours.family(node, parents) == pytest.approx(theirs.family(node, parents), abs=1e-8)


def test_weights_of_numbers_are_repeated_rows(mixed):
    weights = np.random.default_rng(3).integers(1, 4, len(mixed)).astype(float)
    repeated = mixed.take(np.repeat(np.arange(len(mixed)), weights.astype(int)))
    ours = make_score("bic", Statistics(mixed.with_weights(weights)))
    theirs = make_score("bic", Statistics(repeated))
    for node, parents in [(3, ()), (3, (0, 2)), (4, (3,)), (5, (1,)), (6, (1,))]:
        assert ours.family(node, parents) == pytest.approx(theirs.family(node, parents), abs=1e-7)


@pytest.mark.parametrize("name", ["bic", "bdeu", "bds", "k2"])
def test_rows_may_come_in_fractions(name, categories):
    """Expected counts: a row split in parts with weights that sum to one is the row."""
    twice = categories.take(np.repeat(np.arange(len(categories)), 2)).with_weights(
        np.tile([0.3, 0.7], len(categories))
    )
    ours, theirs = make_score(name, Statistics(twice)), make_score(name, Statistics(categories))
    for node, parents in families(range(4)):
        assert ours.family(node, parents) == pytest.approx(theirs.family(node, parents), abs=1e-8)


def test_equal_rows_are_merged(categories):
    many = categories.take(np.tile(np.arange(len(categories)), 20))
    assert len(Statistics(many).values) == len(np.unique(categories.values, axis=0))
    assert Statistics(many).counts((0, 1)).sum() == len(many)


# -- refusals ----------------------------------------------------------------------------------------------------------
def test_a_table_that_would_not_fit_is_refused_with_its_size(categories, monkeypatch):
    monkeypatch.setattr(counting, "CELLS", 20)
    with pytest.raises(CapabilityError, match=r"family of 'd' given 'a', 'b', 'c' has a table of 36 numbers"):
        make_score("bic", Statistics(categories)).family(3, (0, 1, 2))


def test_bayesian_scores_are_for_discrete_columns(mixed):
    with pytest.raises(CapabilityError, match="BDeu is for discrete columns; 'x' is real"):
        make_score("bdeu", Statistics(mixed))


def test_unknown_scores_are_refused(categories):
    with pytest.raises(CapabilityError, match=r"score must be 'auto' or one of bic, .*; got 'mdl'"):
        make_score("mdl", Statistics(categories))


def test_a_continuous_parent_of_a_category_is_refused(mixed):
    graph = Graph.of([("x", "k")], mixed.names)
    with pytest.raises(CapabilityError, match="'x' -> 'k' cannot be: a real column is no parent of a categorical one"):
        make_score("bic", Statistics(mixed)).total(graph)


def test_a_family_that_no_row_knows_is_refused():
    table = Table({"a": [0, 1, None, None, 0, 1], "b": [None, None, 0, 1, None, None], "c": [0, 1, 0, 1, 1, 1]})
    with pytest.raises(CapabilityError, match="No row knows all of 'b', 'a'"):
        make_score("bic", Statistics(table)).family(1, (0,))
