"""Rows drawn, conditioned and filled by generators that were trained against critics."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema, Table

CORRELATION = 0.8


def bivariate(rows, seed):
    return np.random.default_rng(seed).multivariate_normal([3.0, -1.0], [[4.0, 1.6], [1.6, 1.0]], rows)


@functools.cache
def filler():
    x = bivariate(1500, 0)
    x[np.random.default_rng(1).random(x.shape) < 0.2] = np.nan  # learns from rows with holes
    return pg.fit("gan", Table(x[~np.isnan(x).all(1)]), hidden=(64, 64), latent=4, max_steps=1200, progress=False)


def test_rows_have_the_moments_of_the_data():
    drawn = filler().sample(4000).values
    np.testing.assert_allclose(drawn.mean(0), [3.0, -1.0], atol=0.25)
    np.testing.assert_allclose(np.log(drawn.std(0)), np.log([2.0, 1.0]), atol=0.2)
    assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(CORRELATION, abs=0.1)


def test_a_hole_is_filled_as_the_other_cell_says():
    whole = bivariate(1500, 2)
    table = Table(whole).hide("x1")
    drawn = np.stack([filled.values for filled in filler().fill(table, 20)])
    assert np.array_equal(drawn[:, :, 0], np.broadcast_to(whole[:, 0], drawn.shape[:2]))
    assert np.corrcoef(whole[:, 0], drawn[0, :, 1])[0, 1] == pytest.approx(CORRELATION, abs=0.1)
    slope, level = np.polyfit(whole[:, 0], drawn[:, :, 1].mean(0), 1)
    assert slope == pytest.approx(0.4, abs=0.08)
    assert level + 3 * slope == pytest.approx(-1.0, abs=0.2)
    assert drawn[:, :, 1].std(0).mean() == pytest.approx(0.6, abs=0.15)  # not the mean over and over


def test_other_holes_take_nothing_from_one_another():
    """Each row's draw depends on its own cells."""
    table = Table(bivariate(10, 3)).hide("x1")
    alone = table.with_values(np.where(np.arange(10)[:, None] == 0, table.values, table.values[:1]))
    one, other = (filler().fill(each, 1)[0].values for each in (table, alone))
    assert one[0, 1] == other[0, 1]


def labelled(rows=1200, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.choice(3, size=rows, p=[0.6, 0.3, 0.1])
    x = np.stack([3.0 * y, -2.0 * (y == 1)], 1) + 0.5 * rng.normal(size=(rows, 2))
    schema = Schema((Column("a", "real"), Column("b", "real"), Column("kind", "categorical", levels=("u", "v", "w"))))
    return Table.from_codes(np.column_stack([x, y]), schema)


@functools.cache
def conditional():
    return pg.fit("conditional_gan", labelled(), hidden=(64, 64), latent=4, max_steps=800, progress=False)


def nearest_kind(values):
    centres = np.array([[0.0, 0.0], [3.0, -2.0], [6.0, 0.0]])
    return np.linalg.norm(values[:, None, :2] - centres, axis=-1).argmin(1)


@pytest.mark.parametrize(("level", "code"), [("u", 0), ("v", 1), ("w", 2)])
def test_rows_of_an_asked_label_are_rows_of_that_label(level, code):
    drawn = conditional().sample(500, given={"kind": level})
    assert (drawn.values[:, 2] == code).all()
    assert (nearest_kind(drawn.values) == code).mean() > 0.95


def test_labels_have_the_frequencies_of_the_training_rows():
    """And rows the labels that they are drawn with."""
    table, n = labelled(), 4000
    drawn = conditional().sample(n).values
    frequency = np.bincount(table.values[:, 2].astype(int)) / len(table)
    found = np.bincount(drawn[:, 2].astype(int), minlength=3) / n
    assert (np.abs(found - frequency) < 4 * np.sqrt(frequency * (1 - frequency) / n)).all()
    assert (nearest_kind(drawn) == drawn[:, 2]).mean() > 0.95


def test_an_unknown_label_is_filled_by_what_else_is_known():
    table = labelled(seed=1)
    filled = conditional().fill(table.hide("kind"), 1)[0]
    assert (filled.values[:, 2] == table.values[:, 2]).mean() > 0.8  # by their frequencies: .46


def test_the_refusal_says_why():
    with pytest.raises(pg.CapabilityError, match=r"has no density: its rows are a network's output.*use fit\.sample"):
        conditional().log_prob(labelled(5))


def test_numbers_of_training_are_not_called_nats():
    assert "nats" not in conditional().summary()
    assert "nats" not in repr(conditional())
    scaled = Table(1000.0 * bivariate(200, 0))
    histories = [
        quick(table).history["objective"] for table in (Table(bivariate(200, 0)), scaled)
    ]  # an energy distance in standard deviations
    np.testing.assert_allclose(*histories, rtol=1e-4)


def quick(table, model="gan", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        return pg.fit(model, table, **{"hidden": (8,), "latent": 2, "max_steps": 20, "progress": False} | options)


def test_a_pure_sampler_refuses_known_cells():
    fit = quick(Table(bivariate(100, 0)), masks=0.0)
    assert len(fit.sample(3)) == 3
    with pytest.raises(pg.CapabilityError, match=r"Column 'x0' is given.*never shown its cells"):
        fit.fill(Table(bivariate(5, 1)).hide("x1"), 1)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("conditional_gan", {"label": "a"}, "needs a label, a column with levels.*Got 'a'"),
        (
            "image_to_image_gan",
            {"source": "edges"},
            "source must be the name of an image .there is none. or of columns",
        ),
        ("image_to_image_gan", {"source": ("a", "b", "kind")}, "but not of all"),
        ("image_to_image_gan", {"fidelity": -1.0}, "fidelity must be a weight of at least 0"),
    ],
)
def test_columns_that_do_not_go(model, options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        quick(labelled(60), model, **options)


def picture_pairs(rows=300, seed=0):
    """A bar, and the same bar turned by a quarter."""
    rng = np.random.default_rng(seed)
    one = np.zeros((rows, 6, 6))
    at = rng.integers(6, size=rows)
    one[np.arange(rows), at] = 1.0
    first, second = Table.from_images(one, name="lying"), Table.from_images(one.transpose(0, 2, 1), name="standing")
    schema = Schema(
        (*first.schema.columns, *second.schema.columns), images=(*first.schema.images, *second.schema.images)
    )
    return Table.from_codes(np.column_stack([first.values, second.values]), schema)


def test_one_picture_is_drawn_from_another():
    fit = quick(picture_pairs(), "image_to_image_gan", hidden=(8, 16), max_steps=200, batch_size=32, source="lying")
    test = picture_pairs(40, seed=1)
    filled = fit.fill(test.hide(*test.schema.images[1].names), 1)[0]
    np.testing.assert_array_equal(filled.images("lying"), test.images("lying"))
    assert np.abs(filled.images("standing") - test.images("standing")).mean() < 0.05  # of white pictures: .17
    assert fit.sample(3).images("standing").shape == (3, 6, 6, 1)


def test_pictures_by_convolutions():
    table = picture_pairs(100)
    fit = quick(table, network="convolution", hidden=(8,))
    assert np.isfinite(fit.sample(4).values).all()
    filled = fit.fill(table.hide(*table.names[40:60]), 1)[0]
    np.testing.assert_array_equal(filled.values[:, :40], table.values[:, :40])


@pytest.mark.parametrize(("model", "more"), [("gan", {"network": "convolution"}), ("image_to_image_gan", {})])
def test_critics_of_pictures_have_spectral_norms_from_the_first_step(model, more):
    """Residual blocks start with weights of nought, whose norm is nought."""
    fit = quick(picture_pairs(60), model, hidden=(8,), max_steps=3, spectral=True, **more)
    assert fit.diagnostics["skipped_steps"] == 0
    assert np.isfinite(fit.history["critic"]).all()


def test_rows_that_weigh_nothing_teach_nothing():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (300, 1)), rng.normal(8, 1, (300, 1))])
    table = Table(np.column_stack([x, rng.normal(size=600)])).with_weights(np.repeat([1.0, 0.0], 300))
    drawn = quick(table, hidden=(32, 32), max_steps=500).sample(1000).values[:, 0]
    assert (drawn > 4).mean() < 0.02


@pytest.mark.parametrize("network", ["mlp", "convolution"])
def test_a_label_is_heard_beside_the_noise_and_hundreds_of_pixels(network):
    pixels = Table.from_images(np.random.default_rng(0).integers(0, 17, (40, 20, 20)), kind="count", levels=17)
    label = Column("digit", "categorical", levels=tuple(range(10)))
    schema = Schema((*pixels.schema.columns, label), images=pixels.schema.images)
    table = Table.from_codes(np.column_stack([pixels.values, np.arange(40) % 10]), schema)
    for masks in (0.0, 0.25):
        options = {"latent": 64, "masks": masks, "network": network, "hidden": (32,), "max_steps": 1}
        fit = pg.fit("conditional_gan", table, progress=False, **options)
        batch = next(iter(fit.batches(table.take(range(10)).hide(*pixels.names), 10).pieces()))
        rows, known = fit.program.columns.read(batch)
        z = torch.randn(10, 64)
        with torch.no_grad():
            by_label = fit.program.generator(z[:1].expand(10, -1), rows, known).std(0).mean()
            by_noise = fit.program.generator(z, rows[:1].expand(10, -1), known).std(0).mean()
        assert 0.5 < by_label / by_noise < 2
