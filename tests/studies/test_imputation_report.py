"""The page about imputations: it says what is in it, and what stands out."""

import re
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest

import probgen as pg
from probgen import cli, plots
from probgen.errors import DataError, ImproperWarning
from probgen.report.imputation import find, render_imputations
from probgen.report.imputation_words import by_chance
from probgen.studies.multiple_imputation import Imputations
from probgen.studies.propensity import propensity

QUICK = {"components": 1, "progress": False}


class Text(HTMLParser):
    """Text, ids and tags of a page; complains about tags that do not close."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.words = [], [], []
        self.feed(page)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def __str__(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=90)
    y = np.where(rng.random(90) < 0.3, np.nan, x + rng.normal(size=90))
    label = np.where(rng.random(90) < 0.2, None, np.where(x > 0, "<up> & on", "down"))
    return pg.Table({"x": x, "y": y, "label": label.astype(object)})


@pytest.fixture(scope="module")
def imputed(table):
    return pg.impute(table, "gaussian_mixture", m=4, seed=3, **QUICK)


@pytest.fixture(scope="module")
def page(imputed):
    hidden = pg.overimpute(imputed.table, "gaussian_mixture", m=9, share=0.3, **QUICK)
    return render_imputations(find(imputed, {"slope": "y ~ x"}, hidden))


def test_the_page_is_one_sound_file(page):
    text = Text(page)
    assert len(text.ids) == len(set(text.ids))
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", page)
    assert "<up>" not in page.replace("&lt;up&gt;", "")


def test_the_page_says_what_was_missing_and_done(page, table):
    text, unknown = str(Text(page)), int((~table.known).sum())
    assert f"{unknown} of 270 cells" in text
    assert "in 2 of 3 columns (y, label)" in text
    assert f"{int(table.known.all(1).sum())} of 90 rows were complete" in text
    assert "drawn 4 times" in text
    assert "proper: yes" in text
    assert "pg.impute(table, 'gaussian_mixture', m=4, uncertainty='bootstrap', seed=3, components=1)" in text
    assert table.fingerprint() in text
    assert "known cells were hidden and imputed" in text


def test_the_answers_are_those_of_pool(page, imputed):
    pooled = pg.pool(imputed.analyse("y ~ x"))
    assert f"{pooled.estimate[1]:.4f}" in page
    assert f"{pooled.standard_error[1]:.4f}" in page


def test_every_figure_is_there_with_words(page):
    assert page.count("<svg") == page.count("<figcaption>") == 9
    assert all(len(alt) > 20 for alt in re.findall(r'role="img" aria-label="([^"]*)"', page))


def test_what_stands_out_is_said(table):
    """Values outside, improper parameters, one imputation, chains that disagree: none of it is said of sound ones."""
    with pytest.warns(ImproperWarning):
        plain = pg.impute(table, "gaussian_mixture", m=1, uncertainty="none", **QUICK)
    wild = plain.tables[0].values.copy()
    wild[np.isnan(table.values[:, 1]), 1] = 99.0
    plain.fits[0].diagnostics["traces"] = {
        "mean of y": (np.random.default_rng(0).normal(size=(30, 4)) + 5 * np.arange(4)).tolist()
    }
    worst = Imputations(table, (table.with_values(wild),), plain.fits, "none", 0)
    text = str(Text(render_imputations(find(worst))))
    assert "proper: no" in text
    assert "Proper: no." in text
    assert "Do not read intervals off these tables" in text
    assert "There is one imputation" in text
    assert re.search(r"Imputed values of y lie outside the observed range \(.* to .*\) in (\d+) of \1 cells", text)
    assert "Chains do not agree on mean of y" in text
    assert "standard deviations above known ones" in text


def test_cells_below_zero_are_told():
    rng = np.random.default_rng(2)
    values = np.abs(rng.normal(size=200))
    holed = pg.Table({"x": np.where(np.arange(200) < 5, np.nan, values), "y": rng.normal(size=200)})
    holed = pg.Table(holed, schema=holed.schema.with_kind("x", "real"))
    plain = pg.impute(holed, "gaussian_mixture", m=3, **QUICK)
    drawn = holed.values.copy()
    drawn[:5, 0] = [0.3, 0.2, -0.75, 0.4, 0.9]
    made = Imputations(holed, (holed.with_values(drawn),) * 3, plain.fits, "bootstrap", 0)
    assert "Imputed values of x go below zero, to -0.75" in render_imputations(find(made))


def test_chance_puts_some_outside():
    """Of n + 1 values from one law each is an extreme with chance 2 / (n + 1)."""
    rng = np.random.default_rng(3)
    known, drawn = np.sort(rng.normal(size=(4000, 20)), 1), rng.normal(size=(4000, 7))
    found = ((drawn < known[:, :1]) | (drawn > known[:, -1:])).sum(1)
    assert found.mean() == pytest.approx(by_chance(20, 7), abs=4 * found.std() / np.sqrt(4000))


def test_sound_imputations_pass(imputed):
    found = find(imputed)
    text = str(Text(render_imputations(found)))
    assert "Nothing stands out" in text
    assert "What stands out" not in text


def test_a_complete_table_is_told_so():
    whole = {"x": np.arange(12.0) % 5, "y": np.random.default_rng(0).normal(size=12)}
    hidden = pg.overimpute(whole, "gaussian_mixture", m=5, share=0.3, **QUICK)
    page = render_imputations(find(pg.impute(whole, "gaussian_mixture", m=2, **QUICK), None, hidden))
    text = str(Text(page))
    assert page.count("<svg") == 2
    assert "Every cell is known: there was nothing to impute" in text


def test_one_column_with_holes_alone():
    x = np.where(np.arange(30) < 6, np.nan, np.random.default_rng(1).normal(size=30))
    text = str(Text(render_imputations(find(pg.impute({"x": x}, "gaussian_mixture", m=3, **QUICK)))))
    assert "6 of 30 cells (20 %) were unknown, in 1 of 1 columns (x)" in text
    assert "6 rows had no known cell" in text


def test_nothing_is_overwritten_unasked(imputed, tmp_path):
    place = imputed.report(tmp_path / "page.html", lambda frame: (frame["y"].mean(), frame["y"].var() / len(frame)))
    assert place.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    before = place.stat().st_mtime_ns
    with pytest.raises(DataError, match="left as it is"):
        imputed.report(place)
    assert place.stat().st_mtime_ns == before
    imputed.report(place, title="Another", overwrite=True)
    assert "<h1>Another</h1>" in place.read_text(encoding="utf-8")
    with pytest.raises(DataError, match="There is no folder"):
        imputed.report(tmp_path / "none" / "page.html")


def test_the_command_line_writes_a_page(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pg, "overimpute", partial(pg.overimpute, m=4))  # as quick as can be
    table.to_pandas().to_csv(tmp_path / "holed.csv", index=False)
    order = [
        "impute",
        tmp_path / "holed.csv",
        "--model",
        "gaussian_mixture",
        "--set",
        "components=1",
        "--quiet",
        "--draws",
        3,
    ]
    order += ["-o", tmp_path / "filled.csv", "--report", tmp_path / "page.html"]
    assert cli.main([str(word) for word in order]) == 0
    assert capsys.readouterr().out.split()[-1] == str(tmp_path / "page.html")
    assert "known cells were hidden" in (tmp_path / "page.html").read_text(encoding="utf-8")
    for filled in tmp_path.glob("filled_*.csv"):
        filled.unlink()
    assert cli.main([str(word) for word in order]) == 2
    assert "page.html exists" in capsys.readouterr().err
    assert not (tmp_path / "filled_01.csv").exists()
    order[order.index("gaussian_mixture")] = "model.probgen"
    assert cli.main([str(word) for word in [*order, "--force"]]) == 2
    assert "--report goes with the name of a model" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ cells that stay missing
@pytest.fixture(scope="module")
def skipped():
    """Numbers of men do not apply; whose sex is unknown has one in some imputations only; comments stay missing."""
    rng = np.random.default_rng(5)
    sex = rng.choice(["female", "male"], 150).astype(object)
    number = np.where((sex == "male") | (rng.random(150) < 0.3), np.nan, rng.poisson(2.5, 150).astype(float))
    sex[rng.random(150) < 0.2] = None
    holes = {"age": 0.2, "comment": 0.4}
    frame = {name: np.where(rng.random(150) < share, np.nan, rng.normal(size=150)) for name, share in holes.items()}
    frame |= {"sex": sex, "number": number, "id": [f"p{row}" for row in range(150)]}
    design = pg.Design(skip={"number": "sex == 'male'"}, keep_missing="comment", exclude="id")
    return pg.impute(frame, "gaussian_mixture", m=3, seed=1, design=design, **QUICK)


def test_a_page_about_cells_that_stay_missing(skipped):
    found = find(skipped)
    known, whole = skipped.table.known, np.all([table.known for table in skipped], 0)
    stay = int((~known & ~whole).sum())
    records = {record["column"]: record for record in found.columns}
    place = skipped.table.schema.index("number")
    assert records["number"]["imputed"] == (~known & whole)[:, place].sum() < records["number"]["unknown"]
    drawn = [table.values[~known[:, place] & whole[:, place], place] for table in skipped]
    assert records["number"]["imputed_mean"] == pytest.approx(np.mean(drawn))
    assert records["number"]["fmi"] >= 0
    assert records["comment"]["imputed"] == 0
    assert "comment" not in found.propensities
    text = str(Text(render_imputations(found)))
    assert f"{stay} cells of them stay missing in some imputation or in all, as the design says" in text
    assert "Each of the others was drawn 3 times" in text
    assert "nan" not in text.split("How it was made")[0].replace("unanalysed", "").split()


def test_a_propensity_among_rows_to_which_the_column_applies(skipped):
    found = propensity(skipped.table, skipped.tables, "number")
    place = skipped.table.schema.index("number")
    filled = np.all([table.known[:, place] for table in skipped], 0)
    assert len(found.score) == filled.sum()
    assert found.unknown.sum() == (filled & ~skipped.table.known[:, place]).sum()
    for name in ("age", "sex"):  # columns beside it have cells without a value
        one = propensity(skipped.table, skipped.tables, name)
        assert len(one.score) == 150
        assert np.isfinite([one.shift, one.shift_error]).all()
    with pytest.raises(DataError, match="cells that were imputed"):
        propensity(skipped.table, skipped.tables, "comment")
    with pytest.raises(DataError, match="stays missing by design"):
        plots.imputed_density(skipped, "comment")


def test_curves_of_cells_that_stay_missing_are_drawn(skipped):
    """Imputed numbers of known women have a curve although those of men have none."""
    axes = plots.imputed_strip(skipped, "number")
    drawn = np.concatenate([one.get_offsets()[:, 1] for one in axes.collections])
    assert np.isfinite(drawn).all()
    for line in plots.propensity_plot(skipped, "age")[1].lines:
        assert np.isfinite(line.get_ydata()).all()


def test_a_table_in_which_all_holes_stay_has_its_patterns():
    x, y = np.random.default_rng(1).normal(size=(2, 40))
    table = {"x": np.where(np.arange(40) < 9, np.nan, x), "y": y}
    stays = pg.impute(table, "gaussian_mixture", m=2, design=pg.Design(keep_missing="x"), **QUICK)
    text = str(Text(render_imputations(find(stays))))
    assert "9 of 80 cells" in text
    assert "Every cell is known" not in text


def test_chains_under_a_design_are_followed_in_the_models_columns(skipped):
    """Columns that the model does not see, and auxiliary ones, are no obstacle."""
    frame = skipped.table.to_pandas()[["id", "age", "comment"]]
    options = {"uncertainty": "posterior", "chains": 2, "draws": 20, "warmup": 20}
    design = pg.Design(exclude="id", auxiliary="comment")
    imputed = pg.impute(frame, "gaussian_mixture", m=2, design=design, **QUICK, **options)
    assert set(find(imputed).chains) == {f"{what} of {name}" for what in ("mean", "sd") for name in ("age", "comment")}


# ------------------------------------------------------------------------------------------------- how it was made
def made_of(imputed):
    return str(Text(render_imputations(find(imputed))))


def test_the_page_says_under_which_design(skipped):
    text = made_of(skipped)
    said = """design=pg.Design(skip={'number': "sex == 'male'"}, keep_missing=('comment',), exclude=('id',))"""
    assert f"seed=1, components=1, {said})" in text
    assert "All completed tables keep a design" in text


def test_the_page_says_which_mechanism(table):
    mechanism = pg.Mechanism("self_masking", columns=["y"], direction={"y": "high"}, chains=1, warmup=4, thin=1)
    masked = pg.impute(table, m=2, mechanism=mechanism, progress=False)
    text = made_of(masked)
    told = "pg.Mechanism('self_masking', columns=('y',), direction={'y': 'high'}, chains=1, warmup=4, thin=1)"
    assert f"components=1, mechanism={told})" in text
    assert "which are unknown was modelled together with what they are (self_masking)" in text
    assert masked.choice in text


def test_the_page_says_by_how_much_draws_were_shifted(imputed):
    moved = imputed.shifted({"y": 1.5}, scale="sd")
    text = made_of(moved)
    assert "components=1).shifted({'y': 1.5}, scale='sd', given='known')" in text
    assert "moved away from what the model expects: y by 1.5 (sd, given the known cells)" in text
    assert "moved away" not in made_of(imputed)
