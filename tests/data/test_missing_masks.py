"""Masks of machine-learning protocols: shares, mechanisms, and what stays untouched."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.special import logit

import probgen as pg
from probgen.data import (
    Column,
    Schema,
    Table,
    mask_above_mean,
    mask_mar_logistic,
    mask_mcar,
    mask_mnar_logistic,
    mask_mnar_quantiles,
    mask_mnar_self_masked,
)

N = 20_000
RANDOM = [mask_mcar, mask_mar_logistic, mask_mnar_logistic, mask_mnar_self_masked, mask_mnar_quantiles]


def make_table(rows=N, seed=0):
    """Skewed, correlated numbers far from zero, and levels."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, 1)) + rng.normal(size=(rows, 3))
    return Table({"a": z[:, 0], "b": np.exp(z[:, 1] / 2), "c": 100 + z[:, 2], "d": rng.choice(["u", "v", "w"], rows)})


TABLE = make_table()


def linear_predictor(x, hidden):
    """Fitted logits of a logistic regression with intercept."""
    import statsmodels.api as sm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return logit(sm.Logit(hidden.astype(float), sm.add_constant(x)).fit(disp=0).predict())


def standard(x):
    return (x - x.mean(0)) / x.std(0)


def test_only_known_cells_are_hidden_and_a_seed_gives_one_mask():
    table = mask_mcar(make_table(400), 0.1, seed=9)[0].with_weights(np.arange(400.0))
    for mask in [*RANDOM, mask_above_mean]:
        options = {} if mask is mask_above_mean else {"seed": 3}
        holed, hidden = mask(table, **options)
        assert hidden.any()
        assert not (hidden & ~table.known).any()
        np.testing.assert_array_equal(holed.known, table.known & ~hidden)
        np.testing.assert_array_equal(holed.values[holed.known], table.values[holed.known])
        np.testing.assert_array_equal(holed.weights, table.weights)
        np.testing.assert_array_equal(mask(table, **options)[1], hidden)
    assert (mask_mcar(table, seed=1)[1] != mask_mcar(table, seed=2)[1]).any()


@pytest.mark.stats
@pytest.mark.parametrize("proportion", [0.1, 0.5])
@pytest.mark.parametrize("mask", RANDOM[:4])
def test_each_column_loses_the_proportion_of_its_known_cells(mask, proportion):
    table = mask_mcar(TABLE, 0.2, seed=9)[0]
    _, hidden = mask(table, proportion, seed=1)
    shares = hidden.sum(0) / table.known.sum(0)
    errors = np.sqrt(proportion * (1 - proportion) / table.known.sum(0))
    lossy = shares > 0
    assert lossy.sum() == (3 if mask is mask_mar_logistic else 4)
    np.testing.assert_array_less(np.abs(shares - proportion)[lossy], 4 * errors[lossy])


@pytest.mark.stats
def test_mcar_is_independent_of_all_cells_and_masks():
    _, hidden = mask_mcar(TABLE, 0.4, seed=2)
    assert np.abs(np.corrcoef(hidden.T) - np.eye(4)).max() < 4 / np.sqrt(N)
    for place in range(4):
        assert stats.ks_2samp(*(TABLE.values[hidden[:, place] == lost, 0] for lost in (True, False))).pvalue > 1e-3


@pytest.mark.stats
@pytest.mark.parametrize("mask", [mask_mar_logistic, mask_mnar_logistic])
def test_inputs_drive_the_others_by_logits_of_unit_deviation(mask):
    share = {"observed" if mask is mask_mar_logistic else "inputs": 0.5}
    table = TABLE.select(["a", "b", "c"])
    _, hidden = mask(table, 0.3, seed=5, **share)
    driver = int(np.random.default_rng(5).choice(3, 1)[0])
    if mask is mask_mar_logistic:
        assert not hidden[:, driver].any()
    else:
        assert hidden[:, driver].mean() == pytest.approx(0.3, abs=0.02)
        assert linear_predictor(standard(table.values), hidden[:, driver]).std() < 0.1
    for place in {0, 1, 2} - {driver}:
        logits = linear_predictor(standard(table.values), hidden[:, place])
        assert logits.std() == pytest.approx(1, abs=0.08)
        assert abs(np.corrcoef(logits, table.values[:, driver])[0, 1]) > 0.99


@pytest.mark.stats
def test_levels_drive_by_their_indicators():
    table = TABLE.select(["a", "d"])
    found = [mask_mar_logistic(table, 0.3, seed=seed)[1][:, 0] for seed in range(6)]
    driven = [hidden for hidden in found if hidden.any()]
    assert driven
    for hidden in driven:
        shares = [hidden[table.values[:, 1] == level].mean() for level in range(3)]
        assert max(shares) - min(shares) > 0.15


@pytest.mark.stats
def test_self_masked_cells_follow_their_own_value():
    _, hidden = mask_mnar_self_masked(TABLE, 0.3, seed=1)
    for place in range(3):
        logits = linear_predictor(standard(TABLE.values[:, :3]), hidden[:, place])
        assert logits.std() == pytest.approx(1, abs=0.08)
        assert abs(np.corrcoef(logits, TABLE.values[:, place])[0, 1]) > 0.98


@pytest.mark.parametrize(("tail", "both"), [("both", 2), ("lower", 1), ("upper", 1)])
def test_quantile_masks_hide_in_the_tails_only(tail, both):
    _, hidden = mask_mnar_quantiles(TABLE, 0.6, quantile=0.2, tail=tail, masked=1.0, seed=1)
    assert not hidden[:, 3].any()  # levels have no order
    for place in range(3):
        x, lost = TABLE.values[:, place], hidden[:, place]
        low, high = np.quantile(x, [0.2, 0.8])
        assert not lost[(x > low) & (x < high)].any()
        assert lost[x < low].any() == (tail != "upper")
        assert lost[x > high].any() == (tail != "lower")
        assert lost.mean() == pytest.approx(0.6 * 0.2 * both, abs=0.015)
    some = mask_mnar_quantiles(TABLE, 0.6, masked=0.4, seed=1)[1]
    assert some.any(0).sum() == 1


@pytest.mark.reference
def test_above_the_mean_is_the_code_of_not_miwae():
    x = np.random.default_rng(1).gamma(2.0, size=(300, 5))
    names = "abcde"
    table = Table.from_codes(x, Schema(tuple(Column(name, "positive") for name in names)))
    z = standard(x)
    expected = z[:, : int(5 / 2)] > z[:, : int(5 / 2)].mean(0)  # as published: standardised, the first half
    _, hidden = mask_above_mean(table)
    np.testing.assert_array_equal(hidden[:, :2], expected)
    assert not hidden[:, 2:].any()
    assert mask_above_mean(table, "e")[1].any(0).tolist() == [False] * 4 + [True]


SMALL = make_table(20)
REFUSED = [
    ("proportion", lambda: mask_mcar(SMALL, 0.0), pg.DataError, "between 0 and 1, got 0.0"),
    ("observed", lambda: mask_mar_logistic(SMALL, observed=1.0), pg.DataError, "observed must lie"),
    ("inputs", lambda: mask_mnar_logistic(SMALL, inputs=0.0), pg.DataError, "inputs must lie"),
    ("one column", lambda: mask_mar_logistic(SMALL.select(["a"])), pg.DataError, "one column"),
    ("proportion of itself", lambda: mask_mnar_self_masked(SMALL, 2), pg.DataError, "between 0 and 1"),
    ("quantile", lambda: mask_mnar_quantiles(SMALL, quantile=0.75), pg.DataError, "at most 0.5, got 0.75"),
    ("tail", lambda: mask_mnar_quantiles(SMALL, tail="top"), pg.DataError, "'top'"),
    ("masked", lambda: mask_mnar_quantiles(SMALL, masked=0), pg.DataError, "masked must be"),
    ("no order", lambda: mask_mnar_quantiles(SMALL.select(["d"])), pg.DataError, "no tails"),
    ("mean of levels", lambda: mask_above_mean(SMALL, ["d"]), pg.DataError, "'d' is categorical"),
    ("half of one", lambda: mask_above_mean(SMALL.select(["a"])), pg.DataError, "first half"),
    ("no such column", lambda: mask_above_mean(SMALL, ["z"]), pg.SchemaError, "no column 'z'"),
]


@pytest.mark.parametrize(("call", "error", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
