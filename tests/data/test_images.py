"""Pictures as columns: there and back, and what is refused."""

import os

import numpy as np
import pytest

import probgen as pg

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 3, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    ("images", "options", "kind"),
    [
        (GREY, {}, "count"),
        (GREY > 100, {}, "binary"),
        ((GREY > 100).astype(float), {}, "binary"),
        (GREY / 255.0, {}, "real"),
        (GREY / 255.0, {"kind": "bounded"}, "bounded"),
        (GREY // 64, {"kind": "ordinal", "levels": 4}, "ordinal"),
        (RNG.integers(0, 256, (5, 3, 4, 3), dtype=np.uint8), {}, "count"),
    ],
)
def test_there_and_back(images, options, kind):
    table = pg.Table.from_images(images, **options)
    assert {column.kind for column in table.schema} == {kind}
    shape = (*images.shape, 1)[:4]
    np.testing.assert_array_equal(table.images(), images.reshape(shape))
    again = pg.Table.from_images(table.images(), schema=table.schema)
    np.testing.assert_array_equal(again.values, table.values)
    assert again.schema == pg.Schema.from_json(table.schema.to_json()) == table.schema


def test_columns_stand_by_rows_columns_and_channels():
    images = np.arange(2 * 2 * 3 * 2.0).reshape(2, 2, 3, 2)
    table = pg.Table.from_images(images, name="photo")
    assert table.names[:3] == ("photo[0,0,0]", "photo[0,0,1]", "photo[0,1,0]")
    assert table.column("photo[1,2,1]").tolist() == images[:, 1, 2, 1].tolist()


def test_grey_levels_have_bounds():
    assert pg.Table.from_images(GREY).schema[0].bounds == (0, 255)
    assert pg.Table.from_images(GREY // 16, levels=16).schema[0].bounds == (0, 15)
    with pytest.raises(pg.DataError, match=r"the value 17.*outside \[0, 16\]"):
        pg.Table.from_images(np.full((1, 2, 2), 17), levels=17)


def test_holes_and_other_columns():
    images = GREY.astype(float)
    images[0, 0, 0] = np.nan
    table = pg.Table.from_images(images, levels=256, others={"label": list("abcab")}, target="label")
    assert table.schema.target == "label"
    assert np.isnan(table.images()[0, 0, 0, 0])
    assert table.schema[0].incomplete
    assert not table.schema[1].incomplete
    asked = pg.Table.from_images(GREY, schema=table.schema)
    assert not asked.known[:, -1].any()
    told = pg.Table.from_images(GREY, schema=table.schema, others={"label": list("bbbbb")})
    assert told.column("label").tolist() == list("bbbbb")
    assert "image of 3 x 4 x 1 pixels, count [0, 255], has holes" in str(table.schema)
    assert len(str(table.schema).splitlines()) == 2


def test_an_image_stays_while_all_its_columns_do():
    table = pg.Table.from_images(GREY, others={"label": list("abcab")})
    image = table.schema.images
    assert image == (pg.Image("image", (3, 4)),)
    assert table.drop("label").schema.images == table.select(["label", *image[0].names]).schema.images == image
    assert table.drop("image[1,1]").schema.images == ()
    assert table.select(table.names[::-1]).schema.images == ()
    assert table.schema.with_kind("image[0,0]", "real").images == image
    assert table.take([0]).schema.images == table.schema.with_target("label").images == image
    np.testing.assert_array_equal(table.select(["label", *image[0].names]).images(), table.images())


def test_old_json_still_reads():
    text = pg.Schema((pg.Column("a", "real"),)).to_json()
    assert "images" not in text
    assert pg.Schema.from_json(text).images == ()


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        (np.zeros((4, 4)), {}, r"\(N, H, W\)"),
        ([np.zeros((2, 2)), np.zeros((3, 2))], {}, "all of one size"),
        ([[["a"]]], {}, "must be numbers"),
        (np.full((1, 2, 2), np.inf), {}, "infinite"),
        (np.full((1, 2, 2), 0.5), {"kind": "binary"}, "none of 0 to 1"),
        (np.full((1, 2, 2), 1.5), {"kind": "bounded"}, r"outside \[0, 1\]"),
        (np.full((1, 2, 2), -1), {"kind": "count"}, "is not a count"),
        (np.zeros((2, 2, 2)), {"others": {"a": [1.0, 2.0, 3.5]}}, "2 images and 3 rows"),
        (np.zeros((2, 2, 2)), {"schema": pg.Table.from_images(GREY).schema}, "must begin with images of shape"),
    ],
)
def test_what_is_no_image_is_told(images, options, said):
    with pytest.raises(pg.DataError, match=said):
        pg.Table.from_images(images, **options)


def test_wrong_schemas_are_told():
    with pytest.raises(pg.SchemaError, match="kind must be one of"):
        pg.Table.from_images(GREY, kind="datetime")
    with pytest.raises(pg.SchemaError, match="side by side"):
        pg.Schema((pg.Column("image[0,0]", "real"),), images=(pg.Image("image", (1, 2)),))
    with pytest.raises(pg.SchemaError, match=r"Table\.from_images"):
        pg.Table({"a": [0.5, 1.5]}).images()
    with pytest.raises(pg.SchemaError, match="shape must be"):
        pg.Image("image", (2,))


def test_data_sets_of_pictures_have_their_image():
    digits = pg.load_dataset("digits")
    assert digits.images().shape == (1797, 8, 8, 1)
    assert digits.schema.target == "target"
    digits.check_for_fit()  # the corners are always black
    assert pg.sprites(20)[0].images().shape == (20, 16, 16, 1)


@pytest.mark.skipif("PROBGEN_DATA" not in os.environ, reason="PROBGEN_DATA names no folder")
def test_larger_data_sets_have_their_image():
    assert pg.load_dataset("binarized_mnist", split="test").images().shape == (10_000, 28, 28, 1)
    grey = pg.load_dataset("mnist", split="test")
    assert grey.schema[300].bounds == (0, 255)
    assert grey.images().max() == 255
    assert (grey.schema.target, grey.schema["target"].cardinality) == ("target", 10)


def test_a_saved_fit_keeps_its_image(tmp_path):
    table = pg.Table.from_images(GREY > 100)
    fit = pg.fit("latent_class", table, components=2, progress=False)
    fit.save(tmp_path / "a.probgen")
    again = pg.load(tmp_path / "a.probgen")
    assert again.schema.images == table.schema.images
    assert fit.fill(table, draws=1)[0].images().shape == (5, 3, 4, 1)
