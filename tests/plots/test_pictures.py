"""Pictures in grids: where each pixel is drawn, and in what colour."""

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb

import probgen as pg
from probgen import plots
from probgen.plots.pictures import UNKNOWN


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def sheet(axes):
    return np.asarray(axes.get_images()[0].get_array())


def test_every_picture_is_in_its_place():
    x = np.arange(5 * 2 * 8, dtype=float).reshape(5, 2, 8) / 100
    drawn = sheet(plots.images(x, columns=3, limits=(0, 1)))
    assert drawn.shape == (2 * 2 + 1, 3 * 8 + 2, 4)  # a gap of one pixel
    np.testing.assert_allclose(drawn[3:5, 9:17, 0], x[4])


def test_limits_are_those_of_the_kind_and_unknown_pixels_have_their_colour():
    x = np.full((1, 2, 2), 8.0)
    x[0, 0, 0] = np.nan
    drawn = sheet(plots.images(pg.Table.from_images(x, levels=17)))
    assert drawn[0, 0].tolist() == [*to_rgb(UNKNOWN), 1]
    assert drawn[1, 1].tolist() == [0.5, 0.5, 0.5, 1]


def test_colours_are_drawn_as_they_are():
    x = np.zeros((1, 1, 2, 3))
    x[0, 0, 1] = [0.2, 0.4, 0.6]
    np.testing.assert_allclose(sheet(plots.images(x))[0, 1], [0.2, 0.4, 0.6, 1])


def test_inpainting_has_known_fills_and_truth():
    truth = pg.Table.from_images(np.random.default_rng(0).random((3, 8, 8)) > 0.5)
    asked = truth.hide(*truth.names[32:])
    axes = plots.inpainting(asked, [truth, truth], truth)
    assert [text.get_text() for text in axes.texts] == ["known", "filled in", "truth"]
    drawn = sheet(axes)
    assert drawn.shape == (3 * 8 + 2, 8 + 3 + 17 + 3 + 8, 4)
    assert drawn[7, 0].tolist() == [*to_rgb(UNKNOWN), 1]
    np.testing.assert_allclose(drawn[9:17, 11:19, 0], truth.images()[1, ..., 0])
    np.testing.assert_allclose(drawn[9:17, 31:, 0], truth.images()[1, ..., 0])
    assert len(plots.inpainting(asked, [truth]).texts) == 2


def test_what_cannot_be_drawn_is_told():
    with pytest.raises(pg.DataError, match="one channel or three"):
        plots.images(np.zeros((1, 2, 2, 2)))
    with pytest.raises(pg.SchemaError, match="none"):
        plots.images(pg.Table({"a": [0.5, 1.5]}))
    one = pg.Table.from_images(np.zeros((2, 2, 2)))
    with pytest.raises(pg.DataError, match="fills of 2 rows"):
        plots.inpainting(one, [one.take([0])])
