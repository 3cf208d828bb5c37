"""Comparisons as they run: in one process or two, killed and taken up again, out of time."""

import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import probgen as pg
from probgen import cli
from probgen.estimate import Estimate
from probgen.studies.compare import enough_to_vary, ground_of
from probgen.studies.compare_entries import Entry
from probgen.studies.compare_task import FINAL, Task, with_effort
from probgen.studies.timed_workers import Ended, Overdue, Workers

MODELS = {
    "factor_analysis": {"latent": 1, "max_steps": 30},
    "one": {"model": "gaussian_mixture", "components": 1},
    "narrow": {"model": "made", "hidden": (4,), "max_steps": 60},
    "wide": {"model": "made", "hidden": (16,), "max_steps": 60},
}
HOW = {"rungs": 1, "finalists": 1, "folds": 2, "progress": False}


def rows(n=120):
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    return pd.DataFrame({"x": x, "y": 0.8 * x + rng.normal(0, 0.5, n)})


SCRIPT = """
import pandas as pd, probgen as pg, time
from probgen.studies import compare_records as records
add = records.Records.add
def slowly(self, *given):
    add(self, *given)
    time.sleep(0.3)
records.Records.add = slowly
pg.compare(pd.read_csv({table!r}), {models!r}, folder={folder!r}, workers=1, **{how!r})
"""


def test_killed_and_resumed_in_two_processes_is_as_if_nothing_had_been(tmp_path):
    """The script has no guard; it is killed after two fits at least, and goes on with another number of processes."""
    table = str(tmp_path / "rows.csv")
    rows().to_csv(table, index=False)
    folder = tmp_path / "killed"
    code = SCRIPT.format(table=table, models=MODELS, folder=str(folder), how=HOW)
    running = subprocess.Popen([sys.executable, "-c", code])
    done = []
    while running.poll() is None and len(done) < 2:
        time.sleep(0.05)
        done = sorted((folder / "fits").glob("*.npz"))
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in (folder / "fits").glob("*.npz")}
    assert 2 <= len(before) < 9

    frame = pd.read_csv(table)
    resumed = pg.compare(frame, MODELS, folder=folder, workers=2, **HOW)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing is fitted twice
    whole = pg.compare(frame, MODELS, workers=1, **HOW)
    told = [
        [{k: v for k, v in r.items() if "seconds" not in k and k != "clock"} for r in b.results]
        for b in (resumed, whole)
    ]
    assert told[0] == told[1]
    assert all((resumed.log_prob[title] == whole.log_prob[title]).all() for title in whole.log_prob)
    assert len(whole.results) == 2 + 3 + 6
    assert len(whole.scores) == 3
    saved = pd.read_parquet(folder / "results.parquet")
    assert len(saved) == 11
    assert set(saved["stage"]) == {"rung 1", "final", "fold 1", "fold 2"}


RUNS = """
import os, time
class Runs:
    def run(self, task, seconds):
        if task == "sleep":
            time.sleep(60)
        if task == "die":
            os._exit(3)
        return task * 2
"""


def test_a_slow_task_is_stopped_and_one_that_dies_is_told(tmp_path, monkeypatch):
    (tmp_path / "slow_runs.py").write_text(RUNS)
    monkeypatch.syspath_prepend(str(tmp_path))
    from slow_runs import Runs

    with Workers(Runs(), 1) as pool:
        found = dict(pool.work(["a", "sleep", "b", "die", "c"], lambda waiting: 0.5))
        process = pool.all[0].process
    assert (found["a"], found["b"], found["c"]) == ("aa", "bb", "cc")
    assert isinstance(found["sleep"], Overdue)
    assert 0.5 <= found["sleep"].seconds < 5
    assert isinstance(found["die"], Ended)
    assert (found["die"].code, found["die"].started) == (3, True)
    assert not process.is_alive()


def test_a_fit_without_time_is_cut_short_and_scored():
    train, test = pg.Table(rows()).split(0.8, 0.2)
    ground = ground_of(train, test, 0, 0, "bic")
    task = Task(Entry("made", "made", {"max_steps": 10**6, "patience": 10**6}), FINAL)
    found = ground.run(task, 0.5)
    assert found.done
    assert found.record["cut"]
    assert found.record["steps"] < 10**6
    assert np.isfinite(found.arrays["log_prob"]).all()


def test_rungs_see_no_validation_and_no_test_row():
    train, test = pg.Table(rows()).split(0.8, 0.2)
    ground = ground_of(train, test, 3, 0, None)
    entry = Entry("made", "made", {"max_steps": 900})
    small, validation = ground.parts(Task(entry, "rung 1", 0.5))
    assert not {tuple(r) for r in small.values} & {tuple(r) for r in validation.values}
    bigger, again = ground.parts(Task(entry, "rung 2", 0.9))
    assert {tuple(r) for r in small.values} <= {tuple(r) for r in bigger.values}
    assert (again.values == validation.values).all()
    learnt, scored = ground.parts(Task(entry, FINAL))
    assert len(learnt) == len(train)
    assert (scored.values == test.values).all()
    folds = [ground.parts(Task(entry, f"fold {k}"))[1].values for k in (1, 2, 3)]
    assert sorted(map(tuple, np.concatenate(folds))) == sorted(map(tuple, train.values))


def test_rungs_take_fewer_steps_of_networks_alone():
    network, search = Entry("made", "made", {"max_steps": 900}), Entry("em", "gaussian_mixture", {"max_steps": 900})
    steps = [
        with_effort(Task(network, stage, effort))["max_steps"] for stage, effort in (("rung 1", 1 / 9), (FINAL, 1.0))
    ]
    assert steps == [100, 900]
    assert with_effort(Task(search, "rung 1", 1 / 9))["max_steps"] == 900
    assert (
        with_effort(Task(Entry("made", "made", {"max_steps": 30}), "rung 1", 1 / 9))["max_steps"] == 30
    )  # all few of them


def test_a_rung_has_two_values_of_every_column():
    """The first rows of the order are alike in one column; fits refuse a constant."""
    frame = rows(400)
    frame["flag"] = np.where(np.arange(400) == 399, "yes", "no")
    frame.loc[:5, "x"] = np.nan
    table, order = pg.Table(frame), np.arange(400)
    assert enough_to_vary(table, order) == 400
    assert enough_to_vary(table, order[::-1]) == 2
    assert enough_to_vary(table.drop(["flag"]), order) == 8  # six holes, then two numbers
    ground = ground_of(table, table.take(np.arange(9)), 0, 0, None)
    small = ground.parts(Task(Entry("made", "made", {}), "rung 1", 0.1))[0]
    rare = 399 in ground.order
    assert len(small) == (int(np.flatnonzero(ground.order == 399)[0]) + 1 if rare else len(ground.order))
    assert not rare or len(np.unique(small.values[:, 2])) == 2


def test_marginal_and_leave_one_out_are_those_of_the_fit():
    table = pg.Table(rows(60))
    train, test = table.split(0.7, 0.3)
    options = {"components": 1, "method": "gibbs", "draws": 60, "tune": 20, "chains": 2}
    options = {k: v for k, v in options.items() if k in accepted("gaussian_mixture", {"method": "gibbs"})}
    drawn = ground_of(train, test, 0, 0, "bic").run(Task(Entry("g", "gaussian_mixture", options), FINAL))
    assert np.isfinite(drawn.record["elpd_loo"])
    assert "point" in drawn.record["no_marginal"]
    task = Task(Entry("em", "gaussian_mixture", {"components": 1}), FINAL)
    bic, laplace = (ground_of(train, test, 0, 0, how).run(task).record for how in ("bic", "laplace"))
    fitted = pg.fit("gaussian_mixture", train, components=1, progress=False)
    assert bic["log_marginal"] == pytest.approx(-0.5 * fitted.criteria(train).bic, abs=1e-3)
    weighted = ground_of(train.with_weights(np.arange(42) % 3 + 0.5), test, 0, 0, "bic")
    found = pg.fit("gaussian_mixture", weighted.train, components=1, progress=False).criteria(weighted.train).bic
    assert weighted.run(task).record["log_marginal"] == pytest.approx(-0.5 * found, abs=1e-3)
    assert laplace["log_marginal"] != bic["log_marginal"]
    assert "elpd_loo" not in bic


def test_a_fit_that_diverged_has_no_place(monkeypatch):
    from probgen.queries.fit import Fit

    train, test = pg.Table(rows(60)).split(0.7, 0.3)
    task = Task(Entry("em", "gaussian_mixture", {"components": 1}), FINAL)
    monkeypatch.setattr(Fit, "log_prob", lambda self, rows, **_: Estimate(np.r_[-1.0, np.nan, np.zeros(16)]))
    found = ground_of(train, test, 0, 0, "bic").run(task)
    assert found.record["status"] == "failed"
    assert "1 of 18 rows is not a number (first: row 1)" in found.record["message"]


@pytest.mark.parametrize("name", ["log_marginal_likelihood", "leave_one_out"])
def test_a_score_stands_without_what_training_rows_say(monkeypatch, name):
    def broken(*_):
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(f"probgen.studies.compare_task.{'loo' if name == 'leave_one_out' else name}", broken)
    train, test = pg.Table(rows(60)).split(0.7, 0.3)
    gibbs = {"components": 1, "method": "gibbs", "draws": 10, "tune": 5, "chains": 2}
    options = gibbs if name == "leave_one_out" else {"components": 1}
    options = {k: v for k, v in options.items() if k in accepted("gaussian_mixture", options)}
    found = ground_of(train, test, 0, 0, "laplace").run(Task(Entry("em", "gaussian_mixture", options), FINAL))
    assert found.done
    assert found.record["no_loo" if name == "leave_one_out" else "no_marginal"] == "singular"


def accepted(model, options):
    from probgen.studies.compare_entries import accepted

    return accepted(model, options)


def test_the_command_line_writes_a_page(tmp_path, capsys):
    table, out = tmp_path / "rows.csv", tmp_path / "out"
    rows().to_csv(table, index=False)
    given = ["compare", str(table), "--models", "factor_analysis,probabilistic_pca", "--output", str(out), "--quiet"]
    assert cli.main(given) == 0
    assert "has the highest number" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert page.index("minus half the BIC") > page.index("factor_analysis")
    assert cli.main([*given, "--seed", "1"]) == 2  # another comparison
    assert "Give another folder" in capsys.readouterr().err
