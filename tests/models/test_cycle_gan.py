"""Sides that are never seen together: what their distributions and the way back say of which belongs to which."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families.sides import ShownSides
from probgen.inference.collapse import energy_distance
from probgen.models.cycle_gan import CycleGAN

NORMAL = stats.norm()


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
def normals(seed=0, rows=800, one_way=lambda t: np.exp(t / 2)):
    """A normal variable, and other draws of it as a function sees them."""
    drawn = np.random.default_rng(seed).normal(size=(2, rows, 1))
    return apart(drawn[0], one_way(drawn[1]), Schema((Column("a", "real"), Column("b", "real"))))


@functools.cache
def monotone():
    return quick(normals(), max_steps=400, cycle=3.0)


def test_the_map_is_found_but_for_its_direction():
    """Continuous maps of a number that carry one distribution to another and can be undone are two: of quantiles to the same ones, or to those from the other end."""
    a = NORMAL.ppf(np.linspace(0.02, 0.98, 200))
    b = other_side(monotone(), a, "b")
    errors = [np.abs(b - np.exp(sign * a / 2)).mean() for sign in (1, -1)]
    assert min(errors) < 0.15  # standard deviation of b: .5
    assert max(errors) > 0.6
    assert np.abs(stats.spearmanr(a, b).statistic) > 0.999
    assert np.abs(other_side(monotone(), b, "a") - a).mean() < 0.06


def test_rows_of_nothing_are_a_side_and_its_translation():
    drawn = monotone().sample(1500, seed=3).values
    assert stats.ks_1samp(drawn[:, 0], NORMAL.cdf).statistic < 0.15
    assert stats.ks_1samp(2 * np.log(np.maximum(drawn[:, 1], 1e-9)), NORMAL.cdf).statistic < 0.15
    again = other_side(monotone(), drawn[:, 0], "b")
    assert np.abs(drawn[:, 1] - again).mean() < 0.06  # one belongs to the other
    given = monotone().sample(50, given={"a": 0.5}, seed=1).values
    assert (given[:, 0] == 0.5).all()
    assert given[:, 1].std() < 0.06


def test_the_way_back_is_learnt_and_told():
    history = monotone().history["cycle"]
    assert np.mean(history[-20:]) < 0.05  # in standard deviations
    assert "identity" not in monotone().history


@pytest.mark.parametrize("seed", [0, 2])
def test_identity_chooses_the_direction(seed):
    """Sides that differ in level and unit alone."""
    fit = quick(normals(seed, one_way=lambda t: 5 + 2 * t), max_steps=150, identity=5.0, masks=0.0, seed=seed)
    a = NORMAL.ppf(np.linspace(0.05, 0.95, 50))
    assert np.abs(other_side(fit, a, "b") - (5 + 2 * a)).mean() < 0.4  # the falling one: 3
    assert fit.history["identity"][-1] < 0.15


@pytest.mark.parametrize("options", [{}, {"masks": 0.0}, {"masks": 0.0, "cycle": 0.0}, {"objective": "wasserstein"}])
def test_minibatches_of_one_side_teach_what_they_can(options):
    """The last of an epoch may be a single row, and few rows may know one side."""
    fit = quick(normals(rows=5), batch_size=3, max_steps=12, **options)
    assert np.isfinite(fit.history["generator"]).all()
    lonely = quick(normals(rows=5), batch_size=1, max_steps=12, **options)
    assert np.isfinite(lonely.history["critic"]).all()


# ---------------------------------------------------------------------------------------------- what stands beside
def test_both_sides_weigh_the_same_and_rows_by_their_weights():
    """However many rows know a side; and one of twice the weight stands beside twice as many."""
    torch.manual_seed(0)
    shown = ShownSides(normals(rows=2).schema, (("a",), ("b",)), 0.0)
    own = torch.arange(1000) >= 900
    weights = torch.where(torch.arange(1000) % 2 == 0, 2.0, 1.0)
    by = shown.compare(torch.stack([~own, own], 1), weights / weights.sum())
    shares = [float(by.share[side].sum()) for side in (~own, own)]
    assert shares == pytest.approx([0.5, 0.5])
    assert float(by.share[0] / by.share[1]) == pytest.approx(2.0)
    assert (own[by.beside] != own).all()
    assert (by.known == torch.stack([~own, own], 1)).all()  # what is shown of a row is its own side,
    assert (by.seen == ~by.known).all()  # and what is looked at is the other
    assert float((by.beside[~own] % 2 == 0).double().mean()) == pytest.approx(2 / 3, abs=0.01)


# ------------------------------------------------------------------------------------------------------------ points
def test_a_ring_becomes_a_larger_one_elsewhere_and_every_point_comes_back():
    """Which point becomes which is open: a ring is its own image under turns and mirrors."""
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, (3, 700))
    rings = np.stack([np.cos(angles), np.sin(angles)], -1) + 0.05 * rng.normal(size=(3, 700, 2))
    columns = Schema(tuple(Column(name, "real") for name in "abcd"))
    fit = quick(apart(rings[0], 5 + 2 * rings[1], columns), max_steps=300, cycle=1.0, masks=0.0)
    there = fit.fill(apart(rings[2], np.empty((0, 2)), columns), 1)[0]
    drawn, real = (torch.tensor(rows) for rows in (there.values[:, 2:], 5 + 2 * rings[1]))
    assert float(energy_distance(real, drawn)) < 0.1
    assert np.abs(fit.fill(there.hide("a", "b"), 1)[0].values[:, :2] - rings[2]).mean() < 0.05


@pytest.mark.parametrize("side", [1, 3, 49, 400])
def test_the_way_back_is_as_loud_as_a_critic_of_slope_one(side):
    """And no louder than in pictures; of a weight of 10 on two numbers a side the critic is not heard."""
    program = CycleGAN(Schema(tuple(Column(f"x{i}", "real") for i in range(2 * side))))
    rows, known = torch.randn(4, 2 * side, requires_grad=True), torch.ones(4, 2 * side, dtype=torch.bool)
    program.generators.translated = lambda shown, at: torch.zeros_like(shown)
    apart = program.generators.returned(rows, known & program.generators.sides[0])
    (slopes,) = torch.autograd.grad(program.weights["cycle"] * apart.sum(), rows)
    loud = slopes.norm(dim=1)
    torch.testing.assert_close(loud, torch.full_like(loud, 1.0 if side < 100 else 0.5))
    assert CycleGAN(program.schema, cycle=3.0).weights["cycle"] == 3.0


# ----------------------------------------------------------------------------------------------------------- levels
def test_levels_find_each_other_by_their_frequencies():
    """The one map of frequencies .6, .3, .1 to .1, .6, .3 that can be undone."""
    rng = np.random.default_rng(0)
    one = rng.choice(3, (900, 1), p=[0.6, 0.3, 0.1])
    other = rng.choice(3, (900, 1), p=[0.1, 0.6, 0.3])
    columns = Schema(tuple(Column(name, "categorical", levels=("u", "v", "w")) for name in ("a", "b")))
    options = {"hidden": (32,), "max_steps": 800, "cycle": 1.0, "learning_rate": 5e-3}
    fit = quick(apart(one, other, columns), masks=0.0, **options)
    asked = np.repeat(np.arange(3.0), 100)
    assert (other_side(fit, asked, "b") == (asked + 1) % 3).mean() > 0.95
    assert (other_side(fit, asked, "a") == (asked + 2) % 3).mean() > 0.95


# ---------------------------------------------------------------------------------------------------------- pictures
def bars(rows, seed):
    """A lying bar, high up more often than not."""
    at = np.random.default_rng(seed).choice(4, size=rows, p=[0.5, 0.25, 0.15, 0.1])
    pictures = np.zeros((rows, 4, 4))
    pictures[np.arange(rows), at] = 1.0
    return pictures


def test_pictures_become_their_negatives_and_come_back():
    """By frequencies a bar belongs to the gap at its own height."""
    sides = [
        Table.from_images(each, name=name) for each, name in ((bars(300, 0), "dark"), (1 - bars(300, 1), "bright"))
    ]
    schema = Schema(
        tuple(c for side in sides for c in side.schema.columns), images=tuple(side.schema.images[0] for side in sides)
    )
    options = {"hidden": (8,), "max_steps": 120, "batch_size": 32, "cycle": 2.0, "learning_rate": 5e-3, "masks": 0.0}
    fit = quick(apart(*(side.values for side in sides), schema), **options)
    new = bars(100, 9)
    asked = apart(new.reshape(100, -1), np.empty((0, 16)), schema)
    there = fit.fill(asked, 1)[0]
    np.testing.assert_array_equal(there.images("dark")[..., 0], new)
    assert np.abs(there.images("bright")[..., 0] - (1 - new)).mean() < 0.05  # of white pictures: .25
    back = fit.fill(there.hide(*sides[0].names), 1)[0]
    assert np.abs(back.images("dark")[..., 0] - new).mean() < 0.05


# ---------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sides": ("a", "c")}, "there is no column 'c'"),
        ({"sides": 7}, "sides must be the names of two images"),
        ({"cycle": -1.0}, "cycle must be a weight of at least 0"),
        ({"cycle": "loud"}, "cycle must be a weight of at least 0"),
        ({"identity": float("inf")}, "identity must be a weight of at least 0"),
        ({"identity": float("nan")}, "identity must be a weight of at least 0"),
        ({"masks": 1.0}, "masks is the share of rows"),
        ({"latent": 0}, "latent must be whole numbers"),
        ({"fidelity": 1.0}, r"fidelity=1\.0 compares.*'cycle_gan' are not paired"),
        ({"method": "svi"}, "cannot be fitted by method='svi'"),
    ],
)
def test_options_that_do_not_go(options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        quick(normals(rows=30), **options)


def test_identity_is_for_sides_of_one_shape():
    rng = np.random.default_rng(0)
    table = apart(rng.normal(size=(30, 1)), rng.normal(size=(30, 2)), Schema(tuple(Column(n, "real") for n in "abc")))
    with pytest.raises(pg.CapabilityError, match=r"identity=1\.0 needs sides whose columns have the same kinds"):
        quick(table, sides=("a", ("b", "c")), identity=1.0)


def test_whole_sides_are_all_that_is_translated_without_masks():
    fit = quick(normals(rows=50), masks=0.0)
    with pytest.raises(pg.CapabilityError, match="Row 0 knows nothing of either side"):
        fit.sample(3)
    with pytest.raises(pg.CapabilityError, match="has no density"):
        fit.log_prob(normals(rows=5))
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
