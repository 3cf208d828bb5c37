"""The command line: fast help, one clear line for an error, nothing overwritten."""

import csv
import json
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import probgen as pg
from probgen import cli
from probgen.studies.planning import UNCERTAINTIES

COMMANDS = [
    "study",
    "fit",
    "score",
    "impute",
    "sample",
    "embed",
    "browse",
    "compare",
    "compare-samples",
    "select",
    "models",
    "schema",
    "compress",
    "decompress",
]


@pytest.fixture
def run(capsys):
    """Run a command in this process; its status, output and error stream."""

    def call(*arguments):
        status = cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def small_csv(tmp_path):
    """60 rows, three columns, two holes."""
    path = tmp_path / "small.csv"
    rows = [[f"{0.1 * i + (i % 7):.3f}", f"{(i * 37 % 60) / 7:.3f}", "ab"[i % 2]] for i in range(60)]
    rows[3][0] = ""
    rows[5][2] = "NA"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["x", "y", "group"], *rows])
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved model of the packaged penguins."""
    path = tmp_path_factory.mktemp("cli") / "penguins.probgen"
    status = cli.main(["fit", "penguins", "--model", "latent_class", "--set", "components=2", "-o", str(path)])
    assert status == 0
    return path


def cells(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def error_line(status, err):
    """An error is status 2 and one line without a traceback."""
    lines = [line for line in err.splitlines() if "warning:" not in line]
    assert status == 2, err
    assert len(lines) == 1, err
    assert lines[0].startswith("probgen: error: ")
    return lines[0]


# ------------------------------------------------------------------------------------------- help
def test_help_is_fast():
    """CPU time, not wall time, of the fastest of three, so that a busy machine does not count."""
    script = "import time; from probgen.cli import parser; parser().format_help();print(time.process_time())"
    call = [sys.executable, "-c", script]
    times = [float(subprocess.run(call, capture_output=True, text=True, check=True).stdout) for _ in range(3)]
    assert min(times) < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert command in capsys.readouterr().out


def test_the_commands_are_those_of_the_help(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(re.search(f"^    {command}( |$)", text, re.MULTILINE) for command in COMMANDS)


def test_version(capsys):
    import probgen

    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == f"probgen {probgen.__version__}"


# ----------------------------------------------------------------------------------------- models
def test_models_lists_the_registry(run):
    import probgen

    status, out, _ = run("models")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == list(probgen.available())


def test_models_for_programs(run):
    status, out, _ = run("models", "--json")
    assert status == 0
    assert json.loads(out)["gaussian_mixture"]["density"] == "exact"


def test_one_model_shows_its_options(run):
    status, out, _ = run("models", "gaussian_mixture")
    assert status == 0
    assert "--set components=8" in out


def test_an_unknown_model_lists_the_names_and_the_nearest(run, small_csv, tmp_path):
    status, _, err = run("fit", small_csv, "--model", "gausian_mixture", "-o", tmp_path / "m.probgen")
    line = error_line(status, err)
    assert "'gaussian_mixture'" in line
    assert "latent_class" in line
    assert not (tmp_path / "m.probgen").exists()


# ----------------------------------------------------------------------------------------- schema
def test_schema_explains_and_saves(run, small_csv, tmp_path):
    out_file = tmp_path / "schema.json"
    status, out, _ = run("schema", small_csv, "-o", out_file)
    assert status == 0
    assert "group" in out
    assert "binary" in out
    again, second, _ = run("schema", small_csv, "--schema", out_file)
    assert again == 0
    assert second.splitlines()[0].split()[:2] == out.splitlines()[0].split()[:2]


def test_schema_of_a_named_set(run):
    status, out, _ = run("schema", "penguins")
    assert status == 0
    assert "species" in out


# ------------------------------------------------------------------------------------------ verbs
def test_fit_then_score_impute_sample_embed(run, saved, tmp_path):
    """The saved model answers every verb; each answer has the shape it should."""
    status, out, err = run("score", "penguins", "--model", saved)
    rows = out.splitlines()
    assert status == 0
    assert rows[0].split(",")[0] == "log_prob"
    assert len(rows) == 1 + 344
    assert "nats" in err

    filled = tmp_path / "filled.csv"
    assert run("impute", "penguins", "--model", saved, "-o", filled)[0] == 0
    assert len(cells(filled)) == 1 + 344
    assert not any(cell == "" for row in cells(filled) for cell in row)

    new = tmp_path / "new.csv"
    assert run("sample", "--model", saved, "-n", 7, "-o", new)[0] == 0
    assert len(cells(new)) == 8
    assert cells(new)[0] == cells(filled)[0]

    latent = tmp_path / "z.csv"
    assert run("embed", "penguins", "--model", saved, "-o", latent)[0] == 0
    assert len(cells(latent)) == 1 + 344
    assert cells(latent)[0] == ["z1", "z2"]


def test_score_says_how_far_its_numbers_go(run, tmp_path):
    """Draws, refinement and the kind of estimate are those of Fit.log_prob, and the shapes of the weights are written."""
    model = tmp_path / "vae.probgen"
    small = ("--set", "latent=1", "--set", "hidden=4,4", "--set", "max_steps=3")
    assert run("fit", "iris", "--model", "vae", *small, "--quiet", "-o", model)[0] == 0
    fit = pg.load(model)
    asked = {
        (): {},
        ("--draws", 100, "--refine", 2, "--seed", 3): {"draws": 100, "refine": 2, "seed": 3},
        ("--density", "lower_bound", "--draws", 5): {"method": "lower_bound", "draws": 5},
    }
    for options, same in asked.items():
        status, out, _ = run("score", "iris", "-m", model, *options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = fit.log_prob(pg.load_dataset("iris"), **same)
        names = ["log_prob", "standard_error", "k_hat"][: 2 + (expected.k_hat is not None)]
        assert status == 0
        assert out.splitlines()[0].split(",") == names
        found = np.array([line.split(",") for line in out.splitlines()[1:]], dtype=float)
        for place, name in enumerate(["value", *names[1:]]):
            np.testing.assert_allclose(found[:, place], getattr(expected, name), rtol=1e-8)


def test_score_refuses_what_a_density_has_no_use_for(run, saved, tmp_path):
    assert "refine needs a guide" in run("score", "penguins", "-m", saved, "--refine", 5)[2]
    assert "method must be one of" in run("score", "penguins", "-m", saved, "--density", "guess")[2]
    assert "whole number of at least 1" in run("score", "penguins", "-m", saved, "--draws", 0)[2]
    folder = tmp_path / "several"
    pg.ensemble([pg.load(saved)]).save(folder)
    status, _, err = run("score", "penguins", "-m", folder, "--draws", 5)
    assert status != 0
    assert "The density of an ensemble is exact" in err
    assert run("score", "penguins", "-m", folder)[0] == 0


def test_impute_keeps_known_cells(run, small_csv, tmp_path):
    filled = tmp_path / "filled.csv"
    arguments = ("--model", "latent_class", "--set", "components=2", "--quiet", "-o", filled)
    assert run("impute", small_csv, *arguments)[0] == 0
    pairs = [
        (before, after)
        for old, new in zip(cells(small_csv)[1:], cells(filled)[1:])
        for before, after in zip(old, new)
        if before not in ("", "NA")
    ]
    assert all(a == b or float(a) == float(b) for a, b in pairs)
    assert len(pairs) == 60 * 3 - 2


def test_impute_leaves_known_cells_letter_by_letter(run, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "zip": [f"0{code}" for code in rng.choice([1234, 5678, 9012], 60)], "flag": rng.choice(["TRUE", "FALSE"], 60),
        "tiny": [f"{value:.3e}" for value in rng.uniform(1e-5, 9e-5, 60)], "sampled": rng.integers(1, 5, 60),
        "when": [f"2021-03-{day:02d} 03:15:00" for day in rng.integers(2, 28, 60)], "b": rng.normal(size=60).round(1),
    })  # fmt: skip
    frame.loc[:9, "b"], frame.loc[20:29, "flag"] = np.nan, ""
    frame.to_csv(tmp_path / "all.csv", index=False)
    run("impute", tmp_path / "all.csv", "--weights", "sampled", "--quiet", "-o", tmp_path / "full.csv")
    before, after = (
        pd.read_csv(tmp_path / f"{name}.csv", dtype=str, keep_default_na=False) for name in ("all", "full")
    )
    assert list(after) == list(before)  # the weights, too
    assert ((before == after) | (before == "")).all(axis=None)
    assert not (after == "").any(axis=None)
    assert set(after["flag"]) == {"TRUE", "FALSE"}


def test_impute_names_what_is_not_named(run, small_csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    order = ("impute", small_csv, "-m", 2, "--set", "sweeps=1", "--report", "--quiet")
    assert run(*order)[0] == 0
    stem = Path(small_csv).stem
    made = {f"{stem}_imputed_01.csv", f"{stem}_imputed_02.csv", f"{stem}_imputations.html"}
    assert made <= {path.name for path in tmp_path.iterdir()}
    assert "is left as it is" in run(*order)[2]
    assert "put the table before --report" in run("impute", small_csv, "--report", "page")[2]


def test_impute_numbers_several_draws(run, small_csv, tmp_path):
    arguments = ("--model", "latent_class", "--set", "components=2", "--quiet")
    status, out, _ = run("impute", small_csv, *arguments, "--draws", 2, "-o", tmp_path / "f.csv")
    assert status == 0
    assert [(tmp_path / name).exists() for name in ("f_01.csv", "f_02.csv")] == [True, True]
    assert len(out.splitlines()) == 2


@pytest.fixture
def measured_csv(tmp_path):
    """Lengths to a millimetre, whole numbers with holes, a flag of 0 and 1, and numbers with all their digits."""
    path = tmp_path / "measured.csv"
    rng = np.random.default_rng(0)
    length = rng.normal(187, 9, 80)
    flag = (length + rng.normal(size=80) > 187).astype(int)
    rows = [
        [f"{x:.1f}", f"{round(2 * x)}", f"{f}", repr(float(e))] for x, f, e in zip(length, flag, rng.normal(size=80))
    ]
    for row in range(0, 80, 3):
        rows[row][row % 4] = ""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["length", "whole", "flag", "exact"], *rows])
    return path


def test_what_is_drawn_is_written_as_the_rest(run, measured_csv, tmp_path):
    """No more digits than the known cells have; whole numbers and flags without a point; known cells as they were."""
    arguments = ("--model", "gaussian_mixture", "--set", "components=1", "--quiet", "-m", 2, "-o", tmp_path / "f.csv")
    assert run("impute", measured_csv, *arguments)[0] == 0
    head, *before = cells(measured_csv)
    first, *after = cells(tmp_path / "f_01.csv")
    assert first == head
    places = {name: [row[at] for row in after] for at, name in enumerate(head)}
    assert all(re.fullmatch(r"-?\d+\.\d", cell) for cell in places["length"])
    assert all(re.fullmatch(r"-?\d+", cell) for cell in places["whole"])
    assert set(places["flag"]) == {"0", "1"}
    drawn = [row[3] for row, old in zip(after, before) if old[3] == ""]
    assert drawn
    assert max(len(cell) for cell in drawn) > 12
    assert all(old in ("", new) for row, made in zip(before, after) for old, new in zip(row, made))


def test_a_parquet_file_keeps_its_types(run, measured_csv, tmp_path):
    arguments = ("--model", "gaussian_mixture", "--set", "components=1", "--quiet", "-o", tmp_path / "f.parquet")
    assert run("impute", measured_csv, *arguments)[0] == 0
    frame = pg.read_table(tmp_path / "f.parquet").to_pandas()
    assert str(frame["whole"].dtype) == "float64"
    assert (frame["whole"] == frame["whole"].round()).all()


def test_m_is_the_number_of_tables(run, small_csv, tmp_path, capsys):
    """Elsewhere -m is the model."""
    with pytest.raises(SystemExit):
        run("impute", small_csv, "-m", "latent_class", "-o", tmp_path / "f.csv")
    said = " ".join(capsys.readouterr().err.split())
    assert "such as 20, got 'latent_class'; a model is named by --model" in said


def test_where_parameters_come_from_is_explained(capsys):
    with pytest.raises(SystemExit):
        cli.main(["impute", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} (" in said for name in UNCERTAINTIES)
    assert "Default: bootstrap where the model has it, else posterior (so for auto), else ensemble" in said


def test_one_fit_for_several_tables_is_warned_of(run, small_csv, tmp_path):
    arguments = ("--model", "latent_class", "--set", "components=2", "--method", "em", "--quiet", "--force")
    for draws, warned in ((2, True), (1, False)):
        _, _, err = run("impute", small_csv, *arguments, "-m", draws, "-o", tmp_path / "f.csv")
        assert ("warning: all tables have the same parameters" in err) is warned


def test_the_seed_decides_the_sample(run, saved, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        arguments = ("-n", 20, "--seed", seed, "-o", tmp_path / f"{name}.csv")
        assert run("sample", "--model", saved, *arguments)[0] == 0
    texts = [(tmp_path / f"{name}.csv").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]


# ----------------------------------------------------------------------------------------- errors
def test_browse_writes_a_page_coloured_by_a_column_that_the_model_does_not_know(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--columns", "island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g", "--quiet")
    settings = ("--set", "latent=2", "--set", "hidden=8,8", "--set", "max_steps=5")
    assert run("fit", "penguins", "-m", "vae", *settings, *options, "-o", "vae.probgen")[0] == 0
    status, out, err = run("browse", "penguins", "-m", "vae.probgen", "--colour", "species", "--points", "50")
    assert (status, out.strip()) == (0, "penguins_latent.html"), err
    assert '"levels":["Adelie","Chinstrap","Gentoo"]' in (tmp_path / "penguins_latent.html").read_text(
        encoding="utf-8"
    )
    assert "exists" in error_line(*run("browse", "penguins", "-m", "vae.probgen")[::2])
    words = error_line(*run("browse", "penguins", "-m", "vae.probgen", "--shape", "two", "--force")[::2])
    assert "such as 28,28" in words


def test_nothing_is_overwritten(run, small_csv, tmp_path):
    kept = tmp_path / "kept.csv"
    kept.write_text("mine")
    began = time.process_time()
    status, _, err = run("impute", small_csv, "--model", "latent_class", "-o", kept)
    assert "--force" in error_line(status, err)
    assert kept.read_text() == "mine"
    assert time.process_time() - began < 5, "the refusal comes before the work"


def test_force_overwrites(run, small_csv, tmp_path):
    kept = tmp_path / "kept.csv"
    kept.write_text("mine")
    arguments = (
        "--model",
        "latent_class",
        "--set",
        "components=2",
        "--quiet",
        "-o",
        kept,
        "--force",
    )
    assert run("impute", small_csv, *arguments)[0] == 0
    assert kept.read_text() != "mine"


def test_study_looks_into_latent_spaces(run, tmp_path):
    arguments = ["--target", "species", "--models", "probabilistic_pca", "--fast", "--quiet", "-o", tmp_path / "out"]
    columns = "species,bill_length_mm,bill_depth_mm,body_mass_g,sex"
    status, out, _ = run("study", "penguins", "--columns", columns, *arguments, "--represent", "vae,probabilistic_pca")
    assert status == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert out.strip().endswith("report.html")
    for name in ("vae", "probabilistic_pca"):
        assert f"Inside {name}" in page
    assert '<tr class="base"><td>the columns</td>' in page


def test_study_does_not_touch_a_full_folder(run, small_csv, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    status, _, err = run("study", small_csv, "--out", tmp_path / "out")
    assert "other files" in error_line(status, err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["schema", "nowhere.csv"], "nowhere.csv"),
        (["schema", "{csv}", "--columns", "x,absent"], "absent"),
        (["schema", "penguins", "--columns", "species,absent"], "absent"),
        (["schema", "penguins", "--target", "absent"], "absent"),
        (["schema", "penguins", "--weights", "year"], "--weights"),
        (["schema", "{csv}", "--target", "absent"], "absent"),
        (
            ["fit", "{csv}", "--model", "latent_class", "--set", "components", "-o", "{out}"],
            "name=value",
        ),
        (
            ["fit", "{csv}", "--model", "latent_class", "--set", "compnents=3", "-o", "{out}"],
            "compnents",
        ),
        (["fit", "{csv}", "--model", "latent_class", "--method", "magic", "-o", "{out}"], "magic"),
        (["fit", "{csv}", "--model", "old.probgen", "-o", "{out}"], "old.probgen"),
        (["sample", "--model", "latent_class", "-o", "{new}"], "latent_class"),
        (["sample", "--model", "absent.probgen", "-o", "{new}"], "absent.probgen"),
        (["score", "{csv}", "--model", "{csv}"], "small.csv"),
        (["impute", "{csv}", "--model", "latent_class", "--draws", "0", "-o", "{out}"], "--draws"),
        (["impute", "{csv}", "--model", "latent_class", "-o", "{out}.xyz"], ".csv"),
        (["impute", "{csv}", "--method", "em", "-o", "{new}"], "--method em needs a model: name one by --model"),
        (["impute", "{csv}", "--model", "auto", "--method", "em", "-o", "{new}"], "or leave out --method"),
        (["impute", "{csv}", "--uncertainty", "ensemble", "-o", "{new}"], "count twice"),
    ],
)
def test_a_wrong_input_is_one_clear_line(run, small_csv, tmp_path, arguments, said):
    places = {"csv": small_csv, "out": tmp_path / "made.probgen", "new": tmp_path / "new.csv"}
    status, _, err = run(*[a.format(**places) for a in arguments])
    assert said in error_line(status, err)
    assert list(tmp_path.iterdir()) == [small_csv], "an error leaves nothing behind"


def test_debug_shows_where(small_csv):
    from probgen import ProbgenError

    with pytest.raises((ProbgenError, OSError)):
        cli.main(["--debug", "schema", "nowhere.csv"])


def test_a_defect_of_ours_is_one_line_too(run, monkeypatch, small_csv):
    def broken(given):
        raise RuntimeError("a tensor\nof the wrong shape")

    monkeypatch.setattr(cli, "open_table", lambda *_: broken(None))
    status, _, err = run("schema", small_csv)
    assert status == 1
    assert err == "probgen: internal error (see --debug): RuntimeError: a tensor of the wrong shape\n"


def test_settings_are_read_as_json():
    read = dict(map(cli.option, ["a=4", "b=0.5", "c=full", "d=none", "e=64,32", "f=true", "g=[1]"]))
    assert read == {"a": 4, "b": 0.5, "c": "full", "d": None, "e": (64, 32), "f": True, "g": [1]}


# ----------------------------------------------------------------------------------------- select
def test_select_compares_and_saves_the_best(run, small_csv, tmp_path):
    out = tmp_path / "best.probgen"
    quick = ["--set", "max_steps=5", "--set", "restarts=1", "--quiet"]
    status, shown, _ = run(
        "select", small_csv, "--model", "latent_class", "--components", "1:3", "--criterion", "aic", *quick, "-o", out
    )
    assert status == 0
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines] == ["components", "1", "2", "3", str(out)]
    assert sum(line.endswith("best") for line in lines) == 1
    assert out.exists()
    status, shown, _ = run("select", small_csv, "-m", "gaussian_mixture", "--over", "covariance=full,tied", *quick)
    assert status == 0
    assert "tied" in shown


def test_select_needs_an_option_that_varies(run, small_csv):
    status, _, err = run("select", small_csv, "--model", "latent_class", "--quiet")
    assert "exactly one option" in error_line(status, err)
    status, _, err = run("select", small_csv, "--model", "latent_class", "--over", "components", "--quiet")
    assert "--over expects" in error_line(status, err)


def test_sequences(run, tmp_path):
    """Rows of a file as time steps: one score a sequence, one embedding a step, with the steps of the gaps."""
    path, model = tmp_path / "visits.csv", tmp_path / "visits.probgen"
    rows = [
        [who, day, f"{(day * 37 % 11) / 7 + 3 * (day > 9):.3f}"] for who in "ab" for day in range(1, 21) if day != 5
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["who", "day", "level"], *rows])
    order = ("--sequence", "who", "--time", "day")
    settings = ("--model", "hidden_markov", "--set", "states=2", "--quiet", "-o")
    status, _, err = run("fit", path, *settings, model, *order)
    assert status == 0
    assert "no --sequence" not in err
    assert len(run("score", path, "-m", model, *order)[1].split()) == 1 + 2
    assert len(run("embed", path, "-m", model, *order)[1].split()) == 1 + 40
    assert "no --sequence" in run("fit", path, *settings, tmp_path / "alone.probgen")[2]
    status, _, err = run("impute", path, "--model", model, *order, "-o", tmp_path / "filled.csv")
    assert "stand alone" in error_line(status, err)


def test_a_folder_that_is_not_there_is_told_before_the_work(run, small_csv, tmp_path):
    status, _, err = run("fit", small_csv, "--model", "latent_class", "-o", tmp_path / "nowhere" / "x.probgen")
    assert "no folder" in error_line(status, err)


@pytest.fixture
def numbered(tmp_path):
    """A network's file whose states are written like numbers."""
    tables = {"a": [0.2, 0.3, 0.5], "b": [[0.1, 0.9], [0.6, 0.4], [0.5, 0.5]]}
    fit = pg.network({"a": ["-1", "0", "1"], "b": ["01", "02"]}, {"b": ["a"]}, tables)
    pg.write_network(fit, tmp_path / "numbered.bif")
    return tmp_path / "numbered.bif"


def test_states_that_look_like_numbers_are_asked_for_as_they_are_written(run, numbered):
    status, out, _ = run("query", numbered, "-t", "b", "-g", "a=-1", "--json")
    assert status == 0
    assert json.loads(out)[0] == {"node": "b", "state": "01", "probability": pytest.approx(0.1)}
    status, out, _ = run("query", numbered, "-t", "a", "-g", "b=01", "--joint", "--method", "importance")
    assert status == 0
    assert "together: a" in out


def test_the_most_probable_states_of_some_nodes(run, numbered):
    assert run("query", numbered, "--most-probable", "-t", "b", "-g", "a=0")[:2] == (0, "b = 01\n")
    assert run("query", numbered, "--most-probable", "-t", "a")[:2] == (0, "a = 1\n")
    status, _, err = run("query", numbered, "--most-probable", "--do", "a=0")
    assert "--most-probable goes with -g and -t" in error_line(status, err)


def test_labels_of_rows_come_back_from_a_compressed_file(run, small_csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("fit", small_csv, "-m", "naive_bayes", "--quiet", "-o", "m.probgen")
    frame = pd.read_csv(small_csv).set_axis(pd.Index([f"row {i}" for i in range(60)], name="id"))
    frame.to_parquet("labelled.parquet")
    assert run("compress", "labelled.parquet", "-m", "m.probgen")[0] == 0
    assert run("decompress", "labelled.pgz", "-m", "m.probgen", "-o", "back.parquet")[0] == 0
    pd.testing.assert_frame_equal(pd.read_parquet("back.parquet"), frame, check_exact=True)
    assert run("decompress", "labelled.pgz", "-m", "m.probgen", "-o", "back.csv")[0] == 0
    pd.testing.assert_frame_equal(pd.read_csv("back.csv"), frame.reset_index(), check_exact=True)


def test_a_table_is_compressed_and_comes_back(run, small_csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        run("fit", small_csv, "-m", "gaussian_mixture", "--set", "components=2", "--quiet", "-o", "m.probgen")[0] == 0
    )
    status, out, err = run("compress", small_csv, "-m", "m.probgen")
    assert (status, out) == (0, "small.pgz\n")
    assert f"{small_csv.stat().st_size} bytes became {Path('small.pgz').stat().st_size}" in err
    assert run("decompress", "small.pgz", "-m", "m.probgen", "-o", "back.csv")[:2] == (0, "back.csv\n")
    pd.testing.assert_frame_equal(pd.read_csv("back.csv"), pd.read_csv(small_csv), check_exact=True)
    assert "exists" in error_line(*run("compress", small_csv, "-m", "m.probgen")[::2])
    content = Path("small.pgz").read_bytes()
    Path("small.pgz").write_bytes(content[:-20])
    assert "damaged" in error_line(*run("decompress", "small.pgz", "-m", "m.probgen", "-o", "again.csv")[::2])
    assert not Path("again.csv").exists()
