"""Sides that are never seen together: what their distributions and the way back say of which belongs to which."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
from scipy import stats

import probgen as pg
from probgen.data import Column, Schema, Table

GAMMA = stats.gamma(2.0)


def apart(one, other, columns):
    """A table of rows that know one side or the other."""
    x = np.full((len(one) + len(other), one.shape[1] + other.shape[1]), np.nan)
    x[: len(one), : one.shape[1]], x[len(one) :, one.shape[1] :] = one, other
    return Table.from_codes(x, columns)


def quick(table, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        settings = {"hidden": (32, 32), "latent": 2, "max_steps": 20, "progress": False} | options
        return pg.fit("cycle_gan", table, **settings)


def other_side(fit, values, name):
    """One draw of one column given all others."""
    at = fit.schema.index(name)
    x = np.full((len(values), len(fit.schema)), np.nan)
    x[:, 1 - at] = values
    return fit.fill(Table.from_codes(x, fit.schema), 1)[0].values[:, at]


# ----------------------------------------------------------------------------------------------- one number a side
def gammas(seed=0, rows=800, one_way=lambda t: 3 * np.sqrt(t)):
    """A gamma variable, and other draws of it as a function sees them."""
    rng = np.random.default_rng(seed)
    drawn = rng.gamma(2.0, size=(2, rows, 1))
    return apart(drawn[0], one_way(drawn[1]), Schema((Column("a", "real"), Column("b", "real"))))


@functools.cache
def monotone():
    return quick(gammas(), max_steps=500)


def test_the_map_is_found_but_for_its_direction():
    """Continuous maps that carry one distribution to another and can be undone are two: of quantiles to the same quantiles, or to those from the other end."""
    a = GAMMA.ppf(np.linspace(0.02, 0.98, 200))
    b = other_side(monotone(), a, "b")
    rising, falling = 3 * np.sqrt(a), 3 * np.sqrt(GAMMA.isf(GAMMA.cdf(a)))
    errors = [np.abs(b - each).mean() for each in (rising, falling)]
    assert min(errors) < 0.25  # standard deviation 1.4; the other map is 2 away
    assert max(errors) > 1.0
    assert np.abs(stats.spearmanr(a, b).statistic) > 0.999
    assert np.abs(other_side(monotone(), b, "a") - a).mean() < 0.1


def test_rows_of_nothing_are_a_side_and_its_translation():
    drawn = monotone().sample(1500, seed=3).values
    assert stats.ks_1samp(drawn[:, 0], GAMMA.cdf).statistic < 0.1
    assert stats.ks_1samp((np.maximum(drawn[:, 1], 0) / 3) ** 2, GAMMA.cdf).statistic < 0.1
    again = other_side(monotone(), drawn[:, 0], "b")
    assert np.abs(drawn[:, 1] - again).mean() < 0.1  # one belongs to the other
    given = monotone().sample(50, given={"a": 2.0}, seed=1).values
    assert (given[:, 0] == 2.0).all()
    assert given[:, 1].std() < 0.1


def test_the_way_back_is_learnt_and_told():
    history = monotone().history["cycle"]
    assert np.mean(history[-20:]) < 0.05  # in standard deviations
    assert "identity" not in monotone().history


@pytest.mark.parametrize("seed", [0, 1])
def test_identity_chooses_the_direction(seed):
    """Sides that differ in level and unit alone: without it the fit of seed 0 falls."""
    fit = quick(gammas(seed, one_way=lambda t: 5 + 2 * t), max_steps=250, identity=5.0, masks=0.0, seed=seed)
    a = GAMMA.ppf(np.linspace(0.05, 0.95, 50))
    assert np.abs(other_side(fit, a, "b") - (5 + 2 * a)).mean() < 0.5  # the falling one: 2.7
    assert fit.history["identity"][-1] < 0.15


# ----------------------------------------------------------------------------------------------------------- levels
def test_levels_find_each_other_by_their_frequencies():
    """The one map of frequencies .6, .3, .1 to .1, .6, .3 that can be undone."""
    rng = np.random.default_rng(0)
    one = rng.choice(3, (900, 1), p=[0.6, 0.3, 0.1])
    other = rng.choice(3, (900, 1), p=[0.1, 0.6, 0.3])
    columns = Schema(tuple(Column(name, "categorical", levels=("u", "v", "w")) for name in ("a", "b")))
    fit = quick(apart(one, other, columns), max_steps=500, masks=0.0)
    asked = np.repeat(np.arange(3.0), 100)
    assert (other_side(fit, asked, "b") == (asked + 1) % 3).mean() > 0.95
    assert (other_side(fit, asked, "a") == (asked + 2) % 3).mean() > 0.95


# ---------------------------------------------------------------------------------------------------------- pictures
def bars(rows, seed):
    """A lying bar, and a standing one, of heights of unequal frequencies."""
    at = np.random.default_rng(seed).choice(4, size=rows, p=[0.5, 0.25, 0.15, 0.1])
    pictures = np.zeros((rows, 4, 4))
    pictures[np.arange(rows), at] = 1.0
    return pictures


def test_pictures_become_pictures_of_the_other_side_and_come_back():
    lying, standing = bars(300, 0), bars(300, 1).transpose(0, 2, 1)
    sides = [Table.from_images(each, name=name) for each, name in ((lying, "lying"), (standing, "standing"))]
    schema = Schema(
        tuple(c for side in sides for c in side.schema.columns), images=tuple(side.schema.images[0] for side in sides)
    )
    fit = quick(apart(*(side.values for side in sides), schema), hidden=(8, 16), max_steps=250, batch_size=64, seed=1)
    empty = np.full((100, 32), np.nan)
    new = bars(100, 2)
    empty[:, :16] = new.reshape(100, -1)
    there = fit.fill(Table.from_codes(empty, schema), 1)[0]
    np.testing.assert_array_equal(there.images("lying")[..., 0], new)
    drawn = there.images("standing")[..., 0]
    assert (drawn == drawn[:, :1]).mean() > 0.95  # upright
    assert (np.abs(drawn.sum((1, 2)) - 4) < 0.5).mean() > 0.9
    back = np.full((100, 32), np.nan)
    back[:, 16:] = drawn.reshape(100, -1)
    assert np.abs(fit.fill(Table.from_codes(back, schema), 1)[0].images("lying")[..., 0] - new).mean() < 0.03


# ---------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sides": ("a", "c")}, "there is no column 'c'"),
        ({"cycle": -1.0}, "cycle must be a weight of at least 0"),
        ({"identity": float("nan")}, "identity must be a weight of at least 0"),
        ({"masks": 1.0}, "masks is the share of rows"),
        ({"latent": 0}, "latent must be whole numbers"),
        ({"fidelity": 1.0}, r"fidelity=1\.0 compares.*'cycle_gan' are not paired"),
        ({"method": "svi"}, "cannot be fitted by method='svi'"),
    ],
)
def test_options_that_do_not_go(options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        quick(gammas(rows=30), **options)


def test_identity_is_for_sides_of_one_shape():
    rng = np.random.default_rng(0)
    table = apart(rng.normal(size=(30, 1)), rng.normal(size=(30, 2)), Schema(tuple(Column(n, "real") for n in "abc")))
    with pytest.raises(pg.CapabilityError, match=r"identity=1\.0 needs sides whose columns have the same kinds"):
        quick(table, sides=("a", ("b", "c")), identity=1.0)


def test_whole_sides_are_all_that_is_translated_without_masks():
    fit = quick(gammas(rows=50), masks=0.0)
    with pytest.raises(pg.CapabilityError, match="Row 0 knows nothing of either side"):
        fit.sample(3)
    with pytest.raises(pg.CapabilityError, match="has no density"):
        fit.log_prob(gammas(rows=5))
    rng = np.random.default_rng(0)
    columns = Schema(tuple(Column(name, "real", incomplete=True) for name in "abc"))
    x = rng.normal(size=(40, 3))
    x[:20, 2], x[7, 1] = np.nan, np.nan
    with pytest.raises(pg.CapabilityError, match=r"column 'b' is unknown and others of its side are not.*masks=0\.1"):
        quick(Table.from_codes(x, columns), sides=(("a", "b"), "c"), masks=0.0)


def test_a_saved_fit_has_the_same_sides(tmp_path):
    rng = np.random.default_rng(0)
    table = apart(rng.normal(size=(30, 1)), rng.normal(size=(30, 2)), Schema(tuple(Column(n, "real") for n in "abc")))
    fit = quick(table, sides=("a", ("b", "c")))
    fit.save(tmp_path / "model.probgen")
    again = pg.load(tmp_path / "model.probgen")
    np.testing.assert_array_equal(again.fill(table, 1)[0].values, fit.fill(table, 1)[0].values)
