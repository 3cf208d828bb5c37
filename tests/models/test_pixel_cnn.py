"""Pictures pixel by pixel: what a pixel may look at, sums over all pictures, Bayes' rule, draws beside densities, holes beside enumeration."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Table
from probgen.nn import PixelNetwork

QUICK = {"progress": False, "seed": 0, "learning_rate": 1e-2}
SHAPES = [((3, 5), 2, 3, True), ((1, 6), 0, 6, False), ((3, 6), 3, 4, True), ((6, 6), 3, 3, True)]  # within reach
BITS = np.array(list(itertools.product((0.0, 1.0), repeat=6)))  # all pictures of two rows of three


def quiet(table, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit("pixel_cnn", table, **{"hidden": (8, 8), "kernel": 2, **QUICK, **options})


def pictures(rows=400, seed=0):
    """Two rows of three, black or white, which mostly go on from above and from the left, and a label by the first two."""
    rng = np.random.default_rng(seed)
    x = np.empty((rows, 2, 3))
    for at in np.ndindex(2, 3):
        before = x[:, at[0], at[1] - 1] if at[1] else (x[:, at[0] - 1, 0] if at[0] else rng.random(rows) < 0.5)
        x[(slice(None), *at)] = np.where(rng.random(rows) < 0.8, before, 1 - before)
    label = np.where(rng.random(rows) < 0.9, x[:, 0, 0] + x[:, 0, 1], 2 - x[:, 0, 0])
    return x, np.array(["none", "one", "two"], dtype=object)[label.astype(int)]


def coded(like, values):
    return Table.from_codes(np.array(values, dtype=float), like.schema)


@pytest.fixture(scope="module")
def plain():
    """A network that has hardly learnt: nothing here may depend on how well."""
    return quiet(Table.from_images(pictures()[0]), max_steps=60)


@pytest.fixture(scope="module")
def labelled():
    x, label = pictures()
    return quiet(Table.from_images(x, others={"label": label}), max_steps=60)


# ------------------------------------------------------------------------------------------------------------- networks
def network(shape, above, left, shared):
    torch.manual_seed(0)
    size = shape[0] * shape[1]
    net = PixelNetwork(
        range(size), [(range(size), 2)], 8, 6, 4, shape=shape, above=above, left=left, levels=3, shared=shared
    )
    torch.nn.init.normal_(net.place)
    return net.double(), torch.randn(3, size).double(), torch.ones(3, size, dtype=torch.bool), torch.tensor([0, 2, 1])


@pytest.mark.parametrize("setting", SHAPES)
def test_a_pixel_sees_all_before_it_and_nothing_else(setting):
    """No blind spot: every gradient by a pixel before is there, at every pixel."""
    net, x, shown, level = network(*setting)
    x.requires_grad_()
    said = net.said(net(x, shown, level)).view(3, x.shape[1], 2)
    for place in range(x.shape[1]):
        (slope,) = torch.autograd.grad(said[:, place].square().sum(), x, retain_graph=True)
        assert (slope[:, place:] == 0).all()
        assert (slope[:, :place] != 0).all()


@pytest.mark.parametrize("setting", SHAPES)
def test_a_walk_says_what_a_pass_says(setting):
    net, x, shown, level = network(*setting)
    shown[1, -4:] = False
    with torch.no_grad():
        whole = net.said(net(x, shown, level)).view(3, x.shape[1], 2)
        walk = net.walk(3, level)
        for place in range(x.shape[1]):
            torch.testing.assert_close(walk.said(place), whole[:, place])
            walk.read(place, x, shown)


# -------------------------------------------------------------------------------------------------------------- density
def test_all_pictures_sum_to_one(plain):
    found = plain.log_prob(coded(plain, BITS))
    assert found.kind == "exact"
    assert np.exp(found.value).sum() == pytest.approx(1.0, abs=1e-9)
    for known in range(6):  # what is behind integrates to one
        values = np.full((2**known, 6), np.nan)
        values[:, :known] = BITS[: 2**known, 6 - known :]
        ahead = plain.log_prob(coded(plain, values))
        assert ahead.kind == "exact"
        assert np.exp(ahead.value).sum() == pytest.approx(1.0, abs=1e-9)
        both = BITS[:, :known] == BITS[37, :known]
        row = np.where(np.arange(6) < known, BITS[37], np.nan)
        total = np.exp(found.value[both.all(1)]).sum()
        assert math.exp(plain.log_prob(coded(plain, row[None])).value[0]) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("kind", ["count", "categorical", "ordinal"])
def test_all_grey_pictures_sum_to_one(kind):
    rng = np.random.default_rng(0)
    x = rng.integers(4, size=(200, 1, 2))
    x[:, 0, 1] = np.clip(x[:, 0, 0] + rng.integers(-1, 2, size=200), 0, 3)
    table = Table.from_images(x, kind=kind, levels=4)
    fit = quiet(table, max_steps=60, components=3)
    every = np.array(list(itertools.product(range(4), repeat=2)), dtype=float)
    found = np.exp(fit.log_prob(coded(fit, every)).value)
    assert found.sum() == pytest.approx(1.0, abs=1e-9)
    shares = np.bincount((x.reshape(-1, 2) @ [4, 1]), minlength=16) / 200
    assert np.corrcoef(found, shares)[0, 1] > 0.8


def test_colours_are_said_in_order_and_sum_to_one():
    rng = np.random.default_rng(0)
    x = rng.integers(2, size=(300, 1, 2, 3)).astype(float)
    x[..., 2] = x[..., 0]  # blue is red
    fit = quiet(Table.from_images(x), max_steps=150)
    found = np.exp(fit.log_prob(coded(fit, BITS)).value)
    assert found.sum() == pytest.approx(1.0, abs=1e-9)
    assert found[(BITS[:, 0] == BITS[:, 2]) & (BITS[:, 3] == BITS[:, 5])].sum() > 0.9


def test_256_grey_levels_sum_to_one():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(40, 3, 300), rng.normal(220, 9, 300)]).round().clip(0, 255).astype(np.uint8)
    fit = quiet(Table.from_images(x.reshape(-1, 1, 1)), max_steps=100)
    assert np.exp(fit.log_prob(coded(fit, np.arange(256.0)[:, None])).value).sum() == pytest.approx(1.0, abs=1e-9)


def test_the_density_is_a_product_of_softmaxes_of_what_the_network_says(plain):
    net, row = plain.program.cells.double().net, torch.as_tensor(BITS[37:38])
    shown, total = torch.zeros(1, 6, dtype=torch.bool), 0.0
    with torch.no_grad():
        for place in range(6):
            said = net.said(net(row * shown, shown)).view(6, 2)[place]
            total += float(said.softmax(-1).log()[int(row[0, place])])
            shown[0, place] = True
    assert plain.log_prob(coded(plain, BITS[37:38])).value[0] == pytest.approx(total, abs=1e-9)


def test_a_row_is_scored_as_among_many(labelled):
    x, label = pictures(30, seed=3)
    table = Table.from_images(x, others={"label": label})
    alone = [labelled.log_prob(table.take([row])).value[0] for row in range(30)]
    np.testing.assert_allclose(labelled.log_prob(table).value, alone, rtol=0, atol=1e-9)


# --------------------------------------------------------------------------------------------------------------- labels
def test_classes_follow_by_bayes_rule(labelled):
    every = np.array([[*bits, label] for bits in BITS for label in range(3)])
    joint = np.exp(labelled.log_prob(coded(labelled, every)).value).reshape(64, 3)
    assert joint.sum() == pytest.approx(1.0, abs=1e-6)  # shares of labels are in single precision
    unknown = coded(labelled, np.column_stack([BITS, np.full(64, np.nan)]))
    alone = labelled.log_prob(unknown)
    assert alone.kind == "exact"
    np.testing.assert_allclose(np.exp(alone.value), joint.sum(1), rtol=1e-9)
    shares = pg.class_probabilities(labelled, unknown, "label")
    np.testing.assert_allclose(shares, joint / joint.sum(1, keepdims=True), rtol=1e-7)


def test_pictures_of_a_label_have_the_frequencies_of_the_density(labelled):
    drawn = labelled.sample(20_000, given={"label": "one"}, seed=1)
    assert set(drawn.to_pandas()["label"]) == {"one"}
    found = np.bincount((drawn.values[:, :6] @ 2 ** np.arange(5, -1, -1)).astype(int), minlength=64)
    scores = labelled.log_prob(coded(labelled, np.column_stack([BITS, np.full(64, 1.0)]))).value
    assert chi_square(found, np.exp(scores - np.logaddexp.reduce(scores))) < 103.4  # of 63 degrees, once in a thousand


def chi_square(found, shares):
    return ((found - found.sum() * shares) ** 2 / (found.sum() * shares)).sum()


def test_draws_have_the_frequencies_of_the_density(plain):
    found = np.bincount((plain.sample(20_000).values @ 2 ** np.arange(5, -1, -1)).astype(int), minlength=64)
    assert chi_square(found, np.exp(plain.log_prob(coded(plain, BITS)).value)) < 103.4


# ---------------------------------------------------------------------------------------------------------------- holes
@pytest.mark.parametrize("holes", [(3, 4, 5), (0, 1), (2,), (0, 3, 5)])
def test_densities_and_fills_of_holes_are_those_of_enumeration(plain, holes):
    row = BITS[37].copy()
    row[list(holes)] = np.nan
    fits = (row == BITS)[:, ~np.isnan(row)].all(1)
    joint = np.exp(plain.log_prob(coded(plain, BITS[fits])).value)
    found = plain.log_prob(coded(plain, row[None]), draws=4000)
    behind = min(holes) > max(np.nonzero(~np.isnan(row))[0])
    assert found.kind == ("exact" if behind else "importance")
    error = 1e-9 if behind else 5 * float(found.standard_error[0]) + 1e-6
    assert found.value[0] == pytest.approx(math.log(joint.sum()), abs=error)
    many = np.repeat(row[None], 1000, 0)
    drawn = plain.fill(coded(plain, many), 1, seed=2)[0].values
    np.testing.assert_array_equal(drawn[~np.isnan(many)], many[~np.isnan(many)])
    weights = 2 ** np.arange(len(holes) - 1, -1, -1)
    counts = np.bincount((drawn[:, list(holes)] @ weights).astype(int), minlength=2 ** len(holes))
    assert chi_square(counts, joint / joint.sum()) < {2: 10.8, 4: 16.3, 8: 24.3}[2 ** len(holes)] + 6  # 64 candidates


def test_holes_in_pictures_without_a_label_are_summed_over_labels(labelled):
    row = np.array([np.nan, 1.0, 0.0, np.nan, 1.0, 1.0, np.nan])
    every = np.array([[a, 1, 0, b, 1, 1, label] for a in (0, 1) for b in (0, 1) for label in range(3)], dtype=float)
    truth = np.logaddexp.reduce(labelled.log_prob(coded(labelled, every)).value)
    found = labelled.log_prob(coded(labelled, row[None]), draws=4000)
    assert found.kind == "importance"
    assert found.value[0] == pytest.approx(truth, abs=5 * float(found.standard_error[0]))
    filled = labelled.fill(coded(labelled, row[None]), 3)
    assert all(
        not np.isnan(one.values).any() and (one.values[0, [1, 2, 4, 5]] == row[[1, 2, 4, 5]]).all() for one in filled
    )


def test_a_picture_is_learnt_from_rows_with_a_third_of_the_pixels_unknown():
    """Guesses are weighted: taken as they come they would weaken what pixels have to do with each other."""
    x, _ = pictures(4000)
    x[np.random.default_rng(1).random(x.shape) < 0.33] = np.nan
    x = x[~np.isnan(x).all((1, 2))]
    fit = quiet(Table.from_images(x), max_steps=300, average=0.98, validation_fraction=0.0)
    grid, truth = BITS.reshape(-1, 2, 3), np.full(64, math.log(0.5))
    for here, before in [((0, 1), (0, 0)), ((0, 2), (0, 1)), ((1, 0), (0, 0)), ((1, 1), (1, 0)), ((1, 2), (1, 1))]:
        same = grid[(slice(None), *here)] == grid[(slice(None), *before)]
        truth += np.where(same, math.log(0.8), math.log(0.2))
    found = fit.log_prob(coded(fit, BITS)).value
    assert (
        np.exp(truth) * (truth - found)
    ).sum() < 0.03  # Kullback-Leibler divergence in nats; 0.96 of independent pixels


def test_what_moves_along_real_numbers_is_refused(plain, labelled):
    row = [np.nan, 1, 0, 1, 1, 0]
    for fit, table in [(plain, coded(plain, [row])), (labelled, coded(labelled, [[*row, np.nan]]))]:
        with pytest.raises(pg.CapabilityError, match="density over real numbers"):
            fit.log_prob(table, method="annealed")
        with pytest.raises(pg.CapabilityError, match=r"real numbers|normal guides"):
            fit.fill(table, 1, refine=5)
        assert fit.fill(table, 1, sweeps=2)[0].known.all()


# ------------------------------------------------------------------------------------------------------------ temperature
def test_a_low_temperature_draws_the_most_probable_pixel(plain):
    cold = quiet(Table.from_images(pictures()[0]), max_steps=60, temperature=1e-3)
    scores = cold.log_prob(coded(cold, BITS)).value
    drawn = cold.sample(50).values
    assert (drawn == drawn[0]).all()
    np.testing.assert_allclose(scores, plain.log_prob(coded(plain, BITS)).value, rtol=1e-12)  # of draws alone
    shares = np.exp(scores)
    best = [
        shares[(BITS[:, :at] == drawn[0, :at]).all(1) & (BITS[:, at] == value)].sum()
        for at in range(6)
        for value in (0, 1)
    ]
    assert all((best[2 * at + 1] > best[2 * at]) == drawn[0, at] for at in range(6))


# ---------------------------------------------------------------------------------------------------------------- input
def test_settings_that_make_no_network_are_refused():
    table = Table.from_images(pictures(20)[0])
    for options, said in [
        ({"hidden": ()}, "at least one layer"), ({"kernel": 0}, "kernel"), ({"temperature": 0.0}, "temperature must be"),
        ({"label": "digit"}, "needs a label"), ({"components": 0}, "components"),
    ]:  # fmt: skip
        with pytest.raises(pg.CapabilityError, match=said):
            pg.fit("pixel_cnn", table, **options)


def test_columns_beside_picture_and_label_are_refused():
    x, label = pictures(20)
    table = Table.from_images(x, others={"label": label, "age": np.arange(20.0)})
    with pytest.raises(pg.CapabilityError, match="one picture and at most a label beside"):
        pg.fit("pixel_cnn", table)
    with pytest.raises(pg.CapabilityError, match="neither"):
        pg.fit("pixel_cnn", {"a": np.arange(20.0) / 7}, temperature=0.5)
