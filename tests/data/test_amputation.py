"""Amputation by patterns: proportions, mechanisms and scores are those of mice's ``ampute``."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.integrate import trapezoid
from scipy.optimize import brentq
from scipy.special import expit

import probgen as pg
from probgen.data import Column, Schema, Table, ampute_patterns
from probgen.data.amputation import (
    SHAPES,
    all_scores,
    curves_of,
    draw_candidates,
    effects_of,
    logistic_shift,
    probabilities,
    scaled,
)

N = 6000
KINDS = ["right", "left", "mid", "tail"]


def normal_table(rows=N, columns=3, correlation=0.6, seed=0, weights=None):
    covariance = np.full((columns, columns), correlation) + (1 - correlation) * np.eye(columns)
    x = np.random.default_rng(seed).multivariate_normal(np.zeros(columns), covariance, rows)
    frame = pd.DataFrame(x, columns=list("abcdefgh")[:columns])
    return Table(frame, schema=Schema(tuple(Column(name, "real") for name in frame)), weights=weights)


def mixed_table(rows=N, seed=1):
    rng = np.random.default_rng(seed)
    return Table(
        {
            "age": rng.integers(18, 90, rows),
            "town": rng.choice(["u", "v", "w"], rows),
            "smoker": rng.choice(["no", "yes"], rows),
            "bmi": rng.normal(25, 4, rows),
        }
    )


def logistic_regression(x, y):
    """Estimates and their standard errors, the intercept first."""
    import statsmodels.api as sm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sm.Logit(y.astype(float), sm.add_constant(x)).fit(disp=0)
    return found.params, found.bse


# -- the shift -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_the_shift_is_that_of_a_normal_score(kind, share):
    """mice finds it on 10,000 normal draws; here it is on their quantiles, and beside an integral."""
    formulas = {
        "right": lambda z, b: expit(z + b),
        "left": lambda z, b: expit(-z + b),
        "mid": lambda z, b: expit(-abs(z) + 0.75 + b),
        "tail": lambda z, b: expit(abs(z) - 0.75 + b),
    }

    z = np.linspace(-9, 9, 20_001)
    density = stats.norm.pdf(z)

    def mean(b):
        return trapezoid(formulas[kind](z, b) * density, z)

    expected = brentq(lambda b: mean(b) - share, -8, 8)
    score = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    shift = logistic_shift(SHAPES[kind](score), share)
    assert shift == pytest.approx(expected, abs=2e-3)
    assert formulas[kind](score, shift).mean() == pytest.approx(share, abs=1e-10)


def test_scores_are_those_of_mice():
    """The algorithm of mice's ``sumscores``, written row by row: candidates are scaled, summed and scaled again."""
    table, hides = normal_table(300), np.array([[1, 0, 0], [0, 1, 1]], bool)
    weights = [{"b": 2.0, "c": -1.0}, {"a": 0.5}]
    candidate = draw_candidates(table.known, hides, np.array([0.7, 0.3]), np.random.default_rng(5))
    scores = all_scores(table.values, candidate, effects_of(table.schema, hides, "mar", weights), True)
    for number, row in enumerate(np.array([[0, 2, -1], [0.5, 0, 0]])):
        frame = pd.DataFrame(table.values[candidate == number])
        total = ((frame - frame.mean()) / frame.std()).mul(row).sum(axis=1)
        np.testing.assert_allclose(scores[candidate == number], (total - total.mean()) / total.std(), atol=1e-12)
    raw = all_scores(table.values, candidate, effects_of(table.schema, hides, "mar", weights), False)
    total = table.values[candidate == 0] @ [0, 2, -1]
    np.testing.assert_allclose(raw[candidate == 0], (total - total.mean()) / total.std(ddof=1), atol=1e-12)


# -- proportions -----------------------------------------------------------------------------------------------------
@pytest.mark.stats
@pytest.mark.parametrize("proportion", [0.15, 0.6])
@pytest.mark.parametrize(("mechanism", "kind"), [("mcar", "right"), *((m, k) for m in ("mar", "mnar") for k in KINDS)])
def test_the_proportion_of_rows_and_of_cells_is_met(mechanism, kind, proportion):
    table, patterns = normal_table(), [("a", "b"), ("c",), ("b", "c")]
    options = {"patterns": patterns, "frequencies": [0.5, 0.3, 0.2], "mechanism": mechanism, "kind": kind}
    _, hidden = ampute_patterns(table, proportion, seed=2, **options)
    error = np.sqrt(proportion * (1 - proportion) / N)
    assert hidden.any(1).mean() == pytest.approx(proportion, abs=4 * error)
    _, hidden = ampute_patterns(table, proportion / 3, by_cases=False, seed=2, **options)
    assert hidden.mean() == pytest.approx(proportion / 3, abs=4 * error)


@pytest.mark.parametrize("options", [*({"kind": kind, "odds": None} for kind in KINDS), {"kind": "", "odds": [1, 3]}])
def test_the_expected_number_of_cells_is_exact_where_rows_lose_different_numbers(options):
    scores = np.random.default_rng(0).normal(size=400)
    candidate = np.arange(400) % 3 - 1
    sizes = 1.0 + (scores > 0.3) + 2 * candidate.clip(0)  # rows with high scores lose more cells
    found = probabilities(scores, candidate, curves_of(**options, patterns=2), 0.4, sizes)
    assert not found[candidate == -1].any()
    for number in (0, 1):
        rows = candidate == number
        assert found[rows] @ sizes[rows] == pytest.approx(0.4 * sizes[rows].sum(), rel=1e-9)


@pytest.mark.stats
def test_patterns_come_as_often_as_asked():
    _, hidden = ampute_patterns(
        normal_table(), 0.9, patterns=[("a",), ("b", "c")], frequencies=[0.8, 0.2], mechanism="mcar", seed=1
    )
    assert set(map(tuple, hidden.tolist())) == {(False, False, False), (True, False, False), (False, True, True)}
    first, second = hidden[:, 0].sum(), hidden[:, 1].sum()
    assert stats.binomtest(int(first), int(first + second), 0.8).pvalue > 1e-3


@pytest.mark.stats
@pytest.mark.parametrize("by_cases", [True, False])
def test_the_proportion_is_met_in_a_table_that_has_holes(by_cases):
    table, _ = pg.ampute(normal_table(12_000), 0.3, seed=4)
    holed, hidden = ampute_patterns(table, 0.2, patterns=[("a", "b"), ("c",)], by_cases=by_cases, seed=2)
    assert not (hidden & ~table.known).any()
    assert holed.known.any(1).all()
    np.testing.assert_array_equal(holed.known, table.known & ~hidden)
    found = hidden.any(1).mean() if by_cases else hidden.sum() / table.known.sum()
    assert found == pytest.approx(0.2, abs=0.015)


# -- mechanisms ------------------------------------------------------------------------------------------------------
@pytest.mark.stats
@pytest.mark.parametrize("correlation", [0.7, -0.7])
@pytest.mark.parametrize("kind", KINDS)
def test_moments_of_what_stays_known_are_those_of_the_closed_form(kind, correlation):
    r"""Y = rho X + noise, hidden by X: E[Y \| known] = rho E[X q(X)] / E[q(X)], with q the share kept."""
    table = normal_table(40_000, 2, correlation, seed=3)
    holed, _ = ampute_patterns(table, 0.5, patterns=[("b",)], kind=kind, seed=4)
    y = holed.values[holed.known[:, 1], 1]
    z = np.linspace(-9, 9, 20_001)
    density = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
    shape = SHAPES[kind](z)
    kept = density * expit(-shape - brentq(lambda b: density @ expit(shape + b) - 0.5, -5, 5))
    mean, square = kept @ z / kept.sum(), kept @ z**2 / kept.sum()
    variance = correlation**2 * (square - mean**2) + 1 - correlation**2
    assert y.mean() == pytest.approx(correlation * mean, abs=0.025)
    assert y.var() == pytest.approx(variance, abs=0.035)
    signs = {"right": (-1, -1), "left": (1, -1), "mid": (0, 1), "tail": (0, -1)}[kind]
    assert np.sign(round(y.mean(), 1)) == signs[0] * np.sign(correlation)
    assert np.sign(y.var() - 1) == signs[1]


@pytest.mark.stats
@pytest.mark.parametrize(("kind", "slope"), [("right", 1.0), ("left", -1.0)])
def test_mar_depends_on_the_weighted_sum_and_on_nothing_else(kind, slope):
    table = normal_table(20_000)
    _, hidden = ampute_patterns(table, 0.4, patterns=[("a",)], weights=[{"b": 1.0, "c": -2.0}], kind=kind, seed=1)
    score = scaled(table.values[:, 1] * 1.0 - 2.0 * table.values[:, 2])
    estimate, error = logistic_regression(np.column_stack([score, table.values[:, :2]]), hidden[:, 0])
    np.testing.assert_array_less(np.abs(estimate[1:] - [slope, 0, 0]), 4 * error[1:])
    assert error[1] < 0.05
    gap = score[hidden[:, 0]].mean() - score[~hidden[:, 0]].mean()
    assert np.sign(gap) == slope


@pytest.mark.stats
def test_mnar_depends_on_the_hidden_column_given_the_others():
    table = normal_table(20_000)
    _, hidden = ampute_patterns(table, 0.4, patterns=[("a",)], mechanism="mnar", seed=1)
    estimate, error = logistic_regression(table.values, hidden[:, 0])
    np.testing.assert_array_less(np.abs(estimate[1:] - [1, 0, 0]), 4 * error[1:])
    _, hidden = ampute_patterns(table, 0.4, patterns=[("a",)], mechanism="mar", seed=1)
    estimate, error = logistic_regression(table.values, hidden[:, 0])
    assert abs(estimate[1]) < 4 * error[1]
    assert (estimate[2:] > 4 * error[2:]).all()


@pytest.mark.stats
def test_mcar_is_independent_of_everything():
    table = mixed_table(12_000)
    _, hidden = ampute_patterns(table, 0.4, patterns=[("bmi", "town"), ("age",)], mechanism="mcar", seed=3)
    lost = hidden.any(1)
    for place in range(table.n_columns):
        group = pd.qcut(table.values[:, place], 8, duplicates="drop", labels=False)
        assert stats.chi2_contingency(pd.crosstab(lost, group)).pvalue > 1e-3


@pytest.mark.stats
def test_odds_are_relative_probabilities_of_groups():
    table = normal_table(40_000, 2)
    _, hidden = ampute_patterns(table, 0.5, patterns=[("a",)], odds=[1, 2, 3, 4], seed=1)
    groups = pd.qcut(table.values[:, 1], 4, labels=False)
    found = pd.Series(hidden[:, 0]).groupby(groups).mean()
    np.testing.assert_allclose(found, [0.2, 0.4, 0.6, 0.8], atol=0.02)
    _, hidden = ampute_patterns(table, 0.3, odds=[[1, 0], [0, 0, 1]], seed=1)
    assert (table.values[hidden[:, 0], 1] < 0.05).all()  # the lower half of b hides a
    assert (table.values[hidden[:, 1], 0] > 0.35).all()  # the upper third of a hides b


# -- mixed columns, weights, seeds -----------------------------------------------------------------------------------
@pytest.mark.stats
def test_levels_take_weights_of_their_own():
    table = mixed_table(20_000)
    _, hidden = ampute_patterns(table, 0.3, patterns=[("bmi",)], weights=[{"town": {"v": 3.0, "w": -3.0}}], seed=1)
    share = pd.Series(hidden[:, 3]).groupby(table.column("town")).mean()
    score = scaled(np.select([table.column("town") == "v", table.column("town") == "w"], [3.0, -3.0]))
    estimate, error = logistic_regression(score[:, None], hidden[:, 3])
    assert share["w"] < share["u"] < share["v"]
    assert abs(estimate[1] - 1) < 4 * error[1]


@pytest.mark.stats
def test_categorical_columns_weigh_nothing_unless_told():
    table = mixed_table(20_000)
    holed, hidden = ampute_patterns(table, 0.4, seed=2)
    assert hidden.any(0).all()
    assert set(holed.to_pandas()["town"].dropna()) == {"u", "v", "w"}
    assert stats.chi2_contingency(pd.crosstab(hidden[:, 3], table.column("town"))).pvalue > 1e-3
    estimate, error = logistic_regression(scaled(table.values[:, [0, 2]]), hidden[:, 3])
    assert (estimate[1:] > 4 * error[1:]).all()


def test_a_seed_gives_one_mask_and_rows_keep_their_weights():
    table = normal_table(200, weights=np.arange(200.0))
    first, hidden = ampute_patterns(table, 0.4, seed=7)
    again, same = pg.ampute_patterns(table, 0.4, seed=7)
    np.testing.assert_array_equal(hidden, same)
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_array_equal(first.weights, table.weights)
    np.testing.assert_array_equal(first.values[~hidden], table.values[~hidden])
    assert np.isnan(first.values[hidden]).all()
    assert (ampute_patterns(table, 0.4, seed=8)[1] != hidden).any()


def test_an_array_of_patterns_and_weights_says_what_names_say():
    table = normal_table(200)
    by_name = ampute_patterns(table, 0.4, patterns=[("a", "c"), "b"], weights=[{"b": 2}, {"a": 1, "c": -1}], seed=1)[1]
    weights = np.array([[0, 2, 0], [1, 0, -1]])
    by_place = ampute_patterns(table, 0.4, patterns=np.array([[0, 1, 0], [1, 0, 1]]), weights=weights, seed=1)[1]
    np.testing.assert_array_equal(by_name, by_place)


def test_unknown_cells_count_as_zero_and_candidates_keep_a_cell():
    values = np.array([[1.0, np.nan], [np.nan, np.nan], [2.0, 3.0], [np.nan, 1.0]])
    np.testing.assert_allclose(scaled(values)[[0, 1], [1, 0]], 0)
    hides = np.eye(2, dtype=bool)
    known = ~np.isnan(np.tile(values, (50, 1)))
    candidate = draw_candidates(known, hides, np.array([0.5, 0.5]), np.random.default_rng(0)).reshape(50, 4)
    assert (candidate[:, [0, 1, 3]] == -1).all()  # one cell, which would be the last, or none
    assert set(candidate[:, 2]) == {0, 1}


def test_what_cannot_be_as_asked_is_told():
    constant = Table.from_codes(np.column_stack([np.arange(40.0), np.ones(40)]), normal_table(2, 2).schema)
    with pytest.warns(pg.DataWarning, match=r"patterns\[0\] have the same weighted sum"):
        ampute_patterns(constant, 0.3, patterns=[("a",)], seed=0)
    with pytest.warns(pg.DataWarning, match=r"candidate for patterns\[1\]"):
        ampute_patterns(normal_table(20), 0.3, patterns=["a", "b"], frequencies=[1 - 1e-7, 1e-7], seed=0)


TABLE, MIXED = normal_table(50), mixed_table(50)
REFUSED = [
    ("proportion", {"proportion": 1.0}, pg.DataError, "proportion must lie between 0 and 1, got 1.0"),
    ("mechanism", {"mechanism": "mra"}, pg.DataError, "'mra'"),
    ("name", {"patterns": [("a", "z")]}, pg.SchemaError, "no column 'z'"),
    ("all hidden", {"patterns": [("a",), ("a", "b", "c")]}, pg.DataError, r"patterns\[1\] hides every column"),
    ("none hidden", {"patterns": [()]}, pg.DataError, r"patterns\[0\] hides no column"),
    ("no patterns", {"patterns": []}, pg.DataError, "patterns is empty"),
    ("width", {"patterns": np.ones((2, 4))}, pg.DataError, r"\(patterns, 3\), got \(2, 4\)"),
    ("no mask", {"patterns": np.array([[0, 2, 1]])}, pg.DataError, "column 'b' has"),
    ("few frequencies", {"frequencies": [1.0]}, pg.DataError, "3 patterns and 1 frequencies"),
    ("sum", {"frequencies": [0.5, 0.4, 0.2]}, pg.DataError, "sum to 1"),
    ("negative", {"frequencies": [1.5, -0.5, 0.0]}, pg.DataError, "negative"),
    ("few weights", {"weights": [{"b": 1}]}, pg.DataError, "3 patterns and weights of 1"),
    ("short weights", {"patterns": ["a"], "weights": [[0, 1]]}, pg.DataError, r"one number a column \(3\), got 2"),
    ("weight of none", {"patterns": ["a"], "weights": [{"z": 1}]}, pg.SchemaError, "no column 'z'"),
    ("infinite", {"patterns": ["a"], "weights": [{"b": np.inf}]}, pg.DataError, "column 'b'.*finite"),
    ("mar of hidden", {"patterns": ["a"], "weights": [{"a": 1, "b": 1}]}, pg.DataError, "column 'a' is hidden"),
    ("zero", {"patterns": ["a"], "weights": [{"b": 0}]}, pg.DataError, "No column carries weight"),
    ("mnar of known", {"patterns": ["a"], "mechanism": "mnar", "weights": [{"b": 1}]}, pg.DataError, "'mar'"),
    ("mcar weights", {"mechanism": "mcar", "weights": [{"b": 1}]}, pg.DataError, "'mcar' looks at no column"),
    ("mcar kind", {"mechanism": "mcar", "kind": "left"}, pg.DataError, "'mcar' looks at no column"),
    ("kind", {"kind": "middle"}, pg.DataError, "'middle'"),
    ("kinds", {"kind": ["left", "mid"]}, pg.DataError, "3 patterns and 2 kinds"),
    ("kind and odds", {"kind": "left", "odds": [1, 2]}, pg.DataError, "give one of them"),
    ("negative odds", {"odds": [1, -2]}, pg.DataError, "numbers from zero up"),
    ("rows of odds", {"odds": [[1, 2], [2, 3]]}, pg.DataError, "3 patterns and odds of 2"),
    ("steep odds", {"odds": [0, 0, 0, 1]}, pg.DataError, "Lower the proportion"),
    ("cells", {"by_cases": False}, pg.DataError, r"hide less than 0\.333"),
]


@pytest.mark.parametrize(("options", "error", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_bad_input_is_named(options, error, message):
    with pytest.raises(error, match=message):
        ampute_patterns(TABLE, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patterns": ["bmi"], "weights": [{"town": 1.0}]}, r"column 'town' have no order.*\{'town': \{'u': 0\.0"),
        ({"patterns": ["bmi"], "weights": [{"town": {"x": 1.0}}]}, "no level 'x'; its levels: 'u', 'v', 'w'"),
        ({"patterns": ["bmi"], "weights": [{"town": {"u": np.nan}}]}, "must be finite"),
        ({"patterns": ["town"], "mechanism": "mnar"}, "give weights of 'town'"),
    ],
)
def test_bad_weights_of_levels_are_named(options, message):
    with pytest.raises(pg.DataError, match=message):
        ampute_patterns(MIXED, 0.3, **options)


def test_one_column_is_too_few():
    with pytest.raises(pg.DataError, match="hides every column"):
        ampute_patterns(TABLE.select(["a"]))
