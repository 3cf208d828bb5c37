"""Logs of fits."""

from __future__ import annotations

import csv
import sys
import warnings

import pytest

import probgen as pg


def quick(path, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit(
            "vae", pg.load_dataset("iris"), latent=2, hidden=(8,), max_steps=60, validate_every=20, progress=False,
            seed=0, callback=pg.CsvLog(path, **more.pop("log", {})), **more,
        )  # fmt: skip


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_line_a_step_with_what_the_fit_told(tmp_path):
    fit = quick(tmp_path / "fit.csv")
    rows = read(tmp_path / "fit.csv")
    assert [int(row["step"]) for row in rows] == list(range(60))
    assert [float(row["objective"]) for row in rows] == pytest.approx(fit.history["objective"])
    assert sum(bool(row["validation"]) for row in rows) == 3


def test_fewer_lines_keep_those_with_rows_held_out(tmp_path):
    quick(tmp_path / "fit.csv", log={"every": 25})
    assert [int(row["step"]) for row in read(tmp_path / "fit.csv")] == [0, 19, 25, 39, 50, 59]


def test_a_resumed_fit_goes_on_with_its_log(tmp_path):
    quick(tmp_path / "whole.csv")
    log, calls = pg.CsvLog(tmp_path / "part.csv"), []

    def stopping(step, values, method):
        log(step, values, method)
        calls.append(step)
        if step == 30:
            raise KeyboardInterrupt

    part = {"latent": 2, "hidden": (8,), "max_steps": 60, "validate_every": 20, "progress": False, "seed": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table, state = pg.load_dataset("iris"), tmp_path / "state"
        pg.fit("vae", table, callback=stopping, checkpoint=state, **part)
        pg.fit("vae", table, callback=pg.CsvLog(tmp_path / "part.csv"), checkpoint=state, **part)
    assert read(tmp_path / "part.csv") == read(tmp_path / "whole.csv")


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    with pytest.raises(pg.DataError, match="no log of a fit"):
        quick(tmp_path / "data.csv")
    assert (tmp_path / "data.csv").read_text() == "a,b\n1,2\n"


def test_tensorboard_is_asked_for_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(pg.CapabilityError, match="pip install tensorboard"):
        pg.TensorBoardLog(tmp_path)
