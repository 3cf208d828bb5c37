"""Figures of latent spaces: pictures where the columns are pixels, lines and bands where they are not."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

import probgen as pg
from probgen import plots
from probgen.data.schema import Column, Image, Schema
from probgen.plots.latent import as_pictures
from probgen.studies.latent_paths import LatentDimensions, latent_pictures


@pytest.fixture(scope="module")
def mixed():
    table = pg.load_dataset("penguins")
    fit = pg.fit("probabilistic_pca", table, latent=2, seed=0, progress=False)
    return latent_pictures(fit, table, shown=3)


@pytest.fixture(scope="module")
def pixels():
    table, _ = pg.sprites(100, size=6)
    fit = pg.fit("vae", table, latent=2, hidden=(16,), max_steps=20, seed=0, progress=False)
    return latent_pictures(fit, table, shown=3)


def drawn(axes):
    axes.figure.canvas.draw()
    return axes


@pytest.mark.filterwarnings("ignore::probgen.errors.ProbgenWarning")
def test_pixels_are_pictures(pixels):
    shape = (6, 6)
    walk, path = pixels.traversal, pixels.interpolation
    axes = drawn(plots.traversal_pictures(walk, shape=shape))
    assert next(tick.get_text() for tick in axes.get_xticklabels()) == "2 %"
    assert len(axes.get_yticklabels()) == 2
    words = [tick.get_text() for tick in drawn(plots.interpolation_pictures(path, shape=shape)).get_yticklabels()]
    assert [word.split(",")[0].strip() for word in words] == ["straight", "spherical", "shortest"]
    canvas = drawn(plots.reconstruction_pictures(pixels.reconstruction, shape=shape)).images[0].get_array()
    assert canvas.shape == (2 * 6 + 1, 3 * 6 + 2, 4)
    np.testing.assert_array_equal(canvas[:6, :6, 0], pixels.reconstruction.original[0].reshape(6, 6))
    assert not canvas[6, :, 3].any()  # a line between
    known = drawn(plots.reconstruction_pictures(pixels.reconstruction)).images[0].get_array()
    np.testing.assert_array_equal(known, canvas)  # as the table says
    for shape, said in (
        ((5, 6), "picture of 30 pixels; the table has 36"),
        ((36,), "shape must be"),
        ((6.0, 6), "got"),
        (36, "got 36"),
    ):
        with pytest.raises(pg.SchemaError, match=said):
            plots.traversal_pictures(walk, shape=shape)


def test_pictures_are_found_among_other_columns():
    image = Image("p", (2, 2))
    schema = Schema((Column("age", "real"), *(Column(name, "real") for name in image.names)))
    values = np.arange(10.0).reshape(2, 5)
    assert as_pictures(values, schema) is None
    np.testing.assert_array_equal(as_pictures(values, replace(schema, images=(image,)))[0], [[1, 2], [3, 4]])
    colour = as_pictures(
        np.arange(24.0).reshape(2, 12), Schema(tuple(Column(f"c{i}", "real") for i in range(12))), (2, 2, 3)
    )
    assert colour.shape == (2, 2, 2, 3)
    drawn(plots.picture_rows(np.stack([colour, colour]), Figure().subplots()))


def test_other_columns_are_lines_and_bands(mixed):
    with pytest.raises(pg.CapabilityError, match=r"give shape=\(H, W\)"):
        plots.traversal_pictures(mixed.traversal)
    numbers = drawn(plots.traversal_column(mixed.traversal, 0, "bill_length_mm"))
    assert len(numbers.lines[0].get_xdata()) == len(mixed.traversal.quantiles)
    bands = drawn(plots.traversal_column(mixed.traversal, 1, "species"))
    assert len(bands.collections) == 3
    three = drawn(plots.interpolation_column(mixed.interpolation, "body_mass_g"))
    assert len(three.lines) == 3
    with pytest.raises(pg.CapabilityError, match=r"give shape=\(H, W\)"):
        plots.traversal_pictures(mixed.traversal)
    level = drawn(plots.interpolation_column(mixed.interpolation, "species"))
    assert level.get_title(loc="left").startswith("species = ")


def test_collapse_and_errors(mixed):
    found = {"pca": mixed.dimensions}
    assert len(drawn(plots.latent_dimensions(mixed.dimensions)).patches) == 2
    texts = [text.get_text() for text in drawn(plots.latent_use(found)).texts]
    assert texts == [f"{value:.1f}" for value in sorted(mixed.dimensions.nats, reverse=True)]
    axes = drawn(plots.reconstruction_errors({"pca": mixed.reconstruction}))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(mixed.reconstruction.errors)
    points = LatentDimensions(["z"], np.array([np.nan]), np.array([np.nan]), np.ones(1), None)
    for refused in (lambda: plots.latent_dimensions(points), lambda: plots.latent_use({"points": points})):
        with pytest.raises(pg.CapabilityError, match="no number of nats"):
            refused()
