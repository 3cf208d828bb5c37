"""The main job from end to end, on small tables, and the page made of it."""

import json
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import probgen as pg
from probgen import report
from probgen.data.reading import read_table
from probgen.data.sprites import sprites
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, FitError
from probgen.report.caveats import caveats
from probgen.studies.density import compare_densities
from probgen.studies.main_study import study, without_constants


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    group = rng.integers(2, size=120)
    x = 3.0 * group + rng.normal(size=120)
    x[:6] = np.nan
    names = np.array(["left", '<right> & "quoted"'], dtype=object)
    return Table({"x": x, "y": x * 0.5 + rng.normal(size=120), "group": names[group]})


@pytest.fixture(scope="module")
def found(table):
    models = {"naive_bayes": {}, "latent_class": {"components": 2}}
    return study(table, target="group", models=models, fast=True, progress=False, draws=20)


@pytest.fixture(scope="module")
def page(found):
    return report.render(found)


def test_the_study_answers(found, table):
    assert set(found.density.models) == {"naive_bayes", "latent_class"}
    assert len(found.train) + len(found.test) == len(table)
    assert found.classification is not None
    assert found.summary


def test_completed_keeps_what_was_known(found, table):
    assert found.completed.known.all()
    assert np.array_equal(found.completed.values[table.known], table.values[table.known])


def test_json_is_strict(found):
    text = found.to_json()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in study.json"))
    assert content["best"] == found.best
    assert len(content["density"]) == 2


def test_files_read_back(found, table, tmp_path):
    folder = found.save(tmp_path / "out")
    names = {path.name for path in folder.iterdir()}
    assert names >= {"study.json", "scores.csv", "imputation.csv", "classification.csv", "worst_rows.csv"}
    assert names >= {"completed.csv", "samples.csv", "embedding.csv"}
    completed = read_table(folder / "completed.csv", schema=table.schema)
    assert np.array_equal(completed.values[table.known], table.values[table.known])


def test_files_of_others_are_left_alone(found, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="other files"):
        found.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_earlier_study_is_replaced_by_force_only(found, tmp_path):
    found.save(tmp_path / "out")
    with pytest.raises(DataError, match="earlier study"):
        found.save(tmp_path / "out")
    found.save(tmp_path / "out", force=True)


def test_a_model_that_fails_is_reported(table):
    models = {"latent_class": {"components": 2}, "gaussian_mixture": {"components": 5000}}
    found = study(table, models=models, fast=True, progress=False, draws=5)
    assert list(found.failures) == ["gaussian_mixture"]
    assert "5000" in found.failures["gaussian_mixture"]
    assert any("gaussian_mixture" in line for line in found.summary)
    assert "could not be fitted" in report.render(found)


def test_all_failing_is_an_error(table):
    with pytest.raises(FitError, match="5000"):
        study(table, models={"latent_class": {"components": 5000}}, fast=True, progress=False)


@pytest.mark.parametrize("target", [None, "x"])
def test_without_a_discrete_target(table, target):
    models = {"latent_class": {"components": 2}}
    found = study(table, target=target, models=models, fast=True, progress=False, draws=5)
    assert found.classification is None
    assert "How well is" not in report.render(found)


# ---------------------------------------------------------------------------------------- the page
class Page(HTMLParser):
    """Open elements, ids, references, and anything fetched from outside."""

    EMPTY = {"meta", "br", "img", "link", "hr", "input"}

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.outside, self.tags = [], [], [], [], set()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.add(tag)
        self.ids += [given["id"]] if "id" in given else []
        for key in ("href", "xlink:href", "src"):
            if key in given:
                (self.links if given[key].startswith("#") else self.outside).append(given[key])
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def parsed(page):
    parser = Page()
    parser.feed(page)
    return parser


def test_the_page_stands_alone(parsed, page):
    assert parsed.outside == []
    assert not parsed.tags & {"script", "link", "img", "iframe"}
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_the_page_is_well_formed(parsed):
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link[1:] for link in parsed.links} <= set(parsed.ids)


def test_labels_of_the_data_are_escaped(page):
    assert "<right>" not in page
    assert "&lt;right&gt; &amp;" in page


def test_every_figure_has_words(page):
    heads = re.findall(r"<svg[^>]*>", page)
    assert len(heads) >= 9
    assert all('role="img"' in head and 'aria-label="' in head for head in heads)


def test_the_page_says_what_the_study_says(page, found):
    from markupsafe import escape

    assert all(str(escape(line)) in page for line in found.summary)
    assert "within noise" in page or "behind" in page


def test_the_page_is_the_same_twice(page, found):
    assert report.render(found) == page


def test_the_page_is_written_whole(found, tmp_path):
    place = report.write(found, tmp_path / "new" / "report.html", title="Mine & yours")
    assert "<title>Mine &amp; yours</title>" in place.read_text(encoding="utf-8")
    assert [path.name for path in place.parent.iterdir()] == ["report.html"]


def test_a_number_that_never_varies_is_left_out_and_told():
    x = np.random.default_rng(0).normal(size=(60, 2))
    values = np.column_stack([x, np.full(60, 3.5)])
    answer = study(Table(values), models=["gaussian_mixture"], fast=True, progress=False, draws=5)
    assert answer.table.names == ("x0", "x1")
    assert answer.summary[-1] == "Left out, because it never varies: x2."


def test_a_picture_keeps_counted_pixels_that_never_vary_and_others_are_told():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 4, (60, 2, 2)).astype(float)
    grey[:, 0, 0] = 0.0
    counted = Table.from_images(grey, levels=4)
    models = {"latent_class": {"components": 2}, "kernel_density": {"bandwidth": 0.5}}
    answer = study(counted, models=models, fast=True, progress=False, draws=5)
    assert answer.table.schema.images == counted.schema.images
    assert set(answer.density.models) == set(models)
    assert not any("never varies" in line for line in answer.summary)

    shades = Table.from_images(np.where(grey > 0, rng.uniform(0.2, 0.8, grey.shape), 0.3), kind="bounded")
    shades = shades.with_values(np.where(np.arange(4) == 0, 0.3, shades.values))
    kept, told = without_constants(shades)
    assert kept.schema.images == ()
    assert told[0] == "Left out, because it never varies: image[0,0]."
    assert told[1].startswith("Without these pixels image is no picture any more")


# ------------------------------------------------------------------------------------------------------ latent spaces
SHORT = {"max_steps": 20, "hidden": (8,)}


@pytest.fixture(scope="module")
def looked_into(table):
    represent = {
        "probabilistic_pca": {"latent": 1},
        "autoencoder": {"latent": 2, **SHORT},
        "vq_vae": {"slots": 2, **SHORT},
    }
    return study(
        table, target="group", models={"naive_bayes": {}}, represent=represent, fast=True, progress=False, draws=5
    )


def test_latent_spaces_are_looked_into(looked_into):
    assert list(looked_into.latents) == ["probabilistic_pca", "autoencoder", "vq_vae"]
    assert list(looked_into.fits) == ["naive_bayes"]
    assert {row["model"] for row in looked_into.representation.scores} > set(looked_into.latents)
    content = json.loads(looked_into.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in study.json"))
    lengths = content["latents"]["vq_vae"]["path_lengths"]
    assert lengths["shortest"] <= lengths["straight"]
    assert "group" in content["latents"]["autoencoder"]["reconstruction_errors"]


def test_the_page_shows_latent_spaces_column_by_column(looked_into, page):
    text = report.render(looked_into)
    for name in looked_into.latents:
        assert f'id="latent-{name}"' in text
    assert "through its most frequent codes" in text
    assert "Rows decoded, rows drawn" not in text
    assert "Inside" not in page


def test_the_page_shows_pictures_where_columns_are_pixels():
    pixels = sprites(150, size=6)[0]
    found = study(
        pixels, models={"latent_class": {"components": 2}}, represent={"vae": {"latent": 2, **SHORT}}, fast=True,
        progress=False, draws=5,
    )  # fmt: skip
    text = report.render(found)
    assert "Rows decoded, rows drawn" in text
    assert text.count("<image") >= 4


def test_what_embeds_no_rows_is_not_looked_into(table):
    with pytest.raises(CapabilityError, match="kernel_density embeds no rows"):
        study(table, models={"naive_bayes": {}}, target="group", represent=["kernel_density"], progress=False)


# ------------------------------------------------------------------------------------------- importance weights
def test_a_density_keeps_the_shapes_of_its_weights(table):
    rows = table.take(range(6, 120)).drop("group")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = pg.fit("vae", rows, latent=1, hidden=(4,), max_steps=5, progress=False)
        mixture = pg.fit("gaussian_mixture", rows, components=2, progress=False)
        density = compare_densities({"vae": network, "gaussian_mixture": mixture}, rows)
        assert np.array_equal(density.k_hat["vae"], network.log_prob(rows).k_hat)
    assert set(density.k_hat) == {"vae"}


def test_the_page_tells_of_rows_whose_weights_cannot_be_trusted(found, page):
    assert "k-hat" not in page
    shapes = {"latent_class": np.array([0.9, 0.2, 0.71, -np.inf]), "naive_bayes": np.full(4, 0.7)}
    told = replace(found, density=replace(found.density, k_hat=shapes))
    sentences = [line for line in caveats(told) if "k-hat" in line]
    assert len(sentences) == 1
    assert "of latent_class is above 0.7 in 2 of 4 held-out rows" in sentences[0]
    assert "probgen score --refine 100" in sentences[0]
    assert "above 0.7 in 2 of 4 held-out rows" in report.render(told)
