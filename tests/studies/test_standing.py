"""Who goes on, who stands where, and what is said of it: against brute force, without a fit."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp

import probgen as pg
from probgen import plots
from probgen.errors import CapabilityError, DataError, DataWarning
from probgen.report import render_comparison
from probgen.studies.compare import Sitting
from probgen.studies.compare_entries import Entry, entries_of
from probgen.studies.compare_records import Records, alone
from probgen.studies.compare_task import FINAL, Result, failed
from probgen.studies.halving import rungs_of
from probgen.studies.leaderboard import leaderboard
from probgen.studies.standing import is_open, places
from probgen.studies.timed_workers import Ended, Overdue


def result(title, rows, kind="exact", stage=FINAL, **more):
    rows = np.asarray(rows, float)
    spread = rows.std(ddof=1) / np.sqrt(len(rows)) if np.isfinite(rows).all() else np.nan
    record = {
        "model": title, "name": title, "stage": stage, "status": "done", "message": "", "kind": kind, "mean": float(rows.mean()),
        "se": float(spread), "drawing_error": 0.0, "shared_error": 0.0, "trusted": True,
        "untrusted_rows": 0, "rows": 10, "scored": len(rows), "steps": 5, "converged": True, "cut": False, "seconds": 1.0,
        **more,
    }  # fmt: skip
    return Result(record, {"log_prob": rows})


def board_of(*results, left_out=(), fold=None, titles=None):
    titles = titles or list(dict.fromkeys(each.record["model"] for each in results))
    found = {each.key: each for each in results}
    facts = {"rows": {"train": 10, "test": 5}, "seconds": 60.0, "minutes": None, "folds": 0}
    entries = [Entry(title, "made", {}) for title in titles]
    return leaderboard(entries, found, dict(left_out), fold, **facts)


# ---------------------------------------------------------------------------------------------------------- halving
class Pool:
    """Scores from a table in place of fits, in an order of its own."""

    def __init__(self, scores, rng):
        self.scores, self.rng, self.asked = scores, rng, []

    def work(self, tasks, limit):
        for at in self.rng.permutation(len(tasks)):
            task = tasks[at]
            self.asked.append(task.key)
            value = self.scores[task.key]
            yield task, failed(task, "failed", "broken") if value is None else result(*value_of(task, value))


def value_of(task, value):
    return task.entry.title, [value, value], "exact", task.stage


@pytest.mark.parametrize("seed", range(12))
def test_who_goes_on_is_who_would_by_hand(seed):
    """Each rung sorted as a list; ties go to the earlier name, failures nowhere."""
    rng = np.random.default_rng(seed)
    n, eta, finalists, rungs = int(rng.integers(1, 14)), int(rng.integers(2, 4)), int(rng.integers(1, 4)), 3
    names, spared = [f"m{i}" for i in range(n)], ["spared"]
    stages = [f"rung {k}" for k in range(1, rungs + 1)] + [FINAL]
    scores = {(name, stage): float(rng.integers(0, 6)) for name in [*names, *spared] for stage in stages}
    for key in scores:
        if rng.random() < 0.15 and key[0] != "spared":
            scores[key] = None
    pool, records = Pool(scores, rng), Records(None, {}, None)
    entries = [Entry(name, "made", {}) for name in [*names, *spared]]
    left_out = Sitting(records, None, 1, False).play(pool, entries, entries[:n], rungs_of(n, rungs, eta, finalists), 0)

    going, quota, expected, out = list(names), n, [], {}
    for k in range(1, rungs + 1):
        if quota <= finalists:
            break
        stage = f"rung {k}"
        expected += [(name, stage) for name in going]
        quota = max(finalists, -(-quota // eta))
        alive = [name for name in going if scores[name, stage] is not None]
        ranked = sorted(alive, key=lambda name: (-scores[name, stage], names.index(name)))
        out |= dict.fromkeys(ranked[quota:], stage)
        going = sorted(ranked[:quota], key=names.index)
    expected += [(name, FINAL) for name in [*going, *spared]]
    assert sorted(pool.asked) == sorted(expected)
    assert left_out == out


def test_what_is_recorded_is_not_asked_again():
    scores = {(f"m{i}", stage): float(i) for i in range(4) for stage in ("rung 1", "rung 2", FINAL)}
    records, entries = Records(None, {}, None), [Entry(f"m{i}", "made", {}) for i in range(4)]
    rounds = rungs_of(4, 2, 2, 1)
    Sitting(records, None, 1, False).play(Pool(scores, np.random.default_rng(0)), entries, entries, rounds, 0)
    again = Pool(scores, np.random.default_rng(1))
    Sitting(records, None, 1, False).play(again, entries, entries, rounds, 0)
    assert again.asked == []


def test_what_is_stopped_or_dies_is_told():
    class Slow:
        def work(self, tasks, limit):
            assert limit(len(tasks)) == pytest.approx(0.45 * 60 / 3, abs=0.5)  # six tasks, two processes
            said = [Overdue(7.0), Ended(-9, 1.0, True), Ended(3, 1.0, True), Overdue(0.0)]
            yield from zip(tasks, said)

    records, entries = Records(None, {}, 1.0), [Entry(f"m{i}", "made", {}) for i in range(6)]
    Sitting(records, 1.0, 2, False).round(Slow(), [task_of(e) for e in entries], 0.45, Bar())
    told = {key[0]: each.record for key, each in records.results.items()}
    assert told["m0"]["status"] == "stopped"
    assert "7 s" in told["m0"]["message"]
    assert "memory" in told["m1"]["message"]
    assert "exit code 3" in told["m2"]["message"]
    assert "m3" not in told  # it never began
    with pytest.raises(CapabilityError, match="could not be started"):
        Sitting(records, 1.0, 2, False).heard(task_of(entries[4]), Ended(1, 0.0, False))


def task_of(entry):
    from probgen.studies.compare_task import Task

    return Task(entry, "rung 1", 0.5)


class Bar:
    def update(self, *_):
        pass

    def set_postfix_str(self, *_, **__):
        pass


def test_more_minutes_come_to_no_less(tmp_path):
    """Rungs of a later sitting have their share of what is left, and what it cannot better stays."""
    entries = [Entry(name, "made", {}) for name in "abcd"]
    first = Records(tmp_path, {**ABOUT, "entries": {}}, 1.0)
    for name, steps in zip("abcd", (9, 9, 9, 9)):
        first.add(result(name, [1.0, 2.0], stage="rung 1", cut=True, steps=steps), 50.0)

    class Slow:
        def work(self, tasks, limit):
            assert limit(len(tasks)) == pytest.approx(0.45 * (120 - 50) / 4, abs=0.5)
            news = [
                result(name, [5.0, 6.0], stage="rung 1", cut=True, steps=steps)
                for name, steps in (("c", 8), ("d", 10))
            ]
            yield from zip(tasks, [Overdue(7.0), Overdue(0.0), *news])

    records = Records(tmp_path, {**ABOUT, "entries": {}}, 2.0)
    assert not records.results
    scores = Sitting(records, 2.0, 1, False).round(Slow(), [task_of(e) for e in entries], 0.45, Bar())
    assert scores == {"a": 1.5, "b": 1.5, "c": 1.5, "d": 5.5}
    again = Records(tmp_path, {**ABOUT, "entries": {}}, 2.0)
    assert {key[0] for key in again.results} == {"a", "c", "d"}  # b was not tried with these minutes


# --------------------------------------------------------------------------------------------------- bounds and places
@pytest.mark.parametrize("opened", list(itertools.product([False, True], repeat=4)))
def test_places_are_those_that_some_truth_allows(opened):
    """True values of bounds run over everything from their number up; what is exact stays."""
    numbers = [4.0, 3.0, 2.0, 1.0]
    above = [[n, *(x + 0.5 for x in numbers if x + 0.5 > n), 9.0] if o else [n] for n, o in zip(numbers, opened)]
    seen = [set() for _ in numbers]
    for truth in itertools.product(*above):
        for sign in (1, -1):  # either of two that are equal may be ahead
            values = [value + sign * 1e-6 * at for at, value in enumerate(truth)]
            for at, value in enumerate(values):
                seen[at].add(1 + sum(other > value for other in values))
    assert places(opened) == [(min(s), max(s)) for s in seen]


def test_a_bound_is_never_ranked_without_saying_so():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=40)
    board = board_of(result("mix", rows), result("flow", rows - 1, "lower_bound"), result("tree", rows - 2))
    assert [score["place"] for score in board.scores] == ["1-2", "1-2", "3"]
    text = str(board)
    assert "flow: the number is a lower bound, so its place is at worst 2 and at best 1" in text
    assert "cannot be told against mix." in text
    assert "nobody knows whether it is better than flow" in board.verdict()
    assert "≥" in next(line for line in text.splitlines() if line.lstrip().startswith("flow"))
    page = render_comparison(board)
    assert "open</span>" in page
    assert "1–2" in page
    axes = plots.leaderboard(board)
    assert sum(bool(text.arrow_patch) for text in axes.texts if hasattr(text, "arrow_patch")) == 1


def test_importance_weights_that_cannot_be_trusted_are_bounds():
    rows = np.arange(10.0)
    fine, far = result("a", rows, "importance"), result("b", rows - 1, "importance", trusted=False)
    board = board_of(fine, far)
    assert [is_open(score) for score in board.scores] == [False, True]
    assert board.scores[0]["worst_place"] == 2
    assert any("errs low" in note for note in board.notes)


def test_those_left_out_by_a_bound_are_named():
    board = board_of(
        result("mix", np.arange(9.0)), result("vq", np.arange(5.0), "lower_bound", stage="rung 1"),
        failed(task_of(Entry("bad", "made", {})), "failed", "matrix"), left_out={"vq": "rung 1"},
    )  # fmt: skip
    told = {other["model"]: other for other in board.others}
    assert told["vq"]["status"] == "left out"
    assert told["bad"]["why"] == "failed at rung 1: matrix"
    assert "Left out by a number that is a bound, and perhaps better than that: vq." in board.notes
    assert "matrix" in render_comparison(board)


# ----------------------------------------------------------------------------------------------------------- numbers
def test_stacking_weights_are_those_of_expectation_maximisation():
    """The weights of a mixture with known parts maximise its likelihood: EM's fixed point, another way to the same optimum."""
    rows = np.random.default_rng(1).normal(-2, 1.2, size=(3, 300))
    board = board_of(*(result(f"m{i}", row) for i, row in enumerate(rows)))
    weights = np.full(3, 1 / 3)
    for _ in range(5000):
        share = np.log(weights)[:, None] + rows
        weights = np.exp(share - logsumexp(share, axis=0)).mean(1)
    assert [board.weight[f"m{i}"] for i in range(3)] == pytest.approx(weights, abs=1e-4)


def test_differences_and_their_errors():
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=50), rng.normal(-0.5, 1, size=50)
    board = board_of(result("a", one), result("b", other, "annealed", shared_error=0.3))
    gap = other - one
    last = board.scores[1]
    assert last["difference"] == pytest.approx(gap.mean())
    assert last["difference_se"] == pytest.approx(np.sqrt(gap.var(ddof=1) / 50 + 0.3**2))
    assert board.to_pandas()["model"].tolist() == ["a", "b"]


def test_impossible_rows_do_not_spoil_the_table():
    board = board_of(
        result("a", [-1.0, -2.0, -3.0]), result("b", [-3.0, -4.0, -np.inf]), result("c", [-3.0, -9.0, -np.inf])
    )
    assert sum(board.weight.values()) == pytest.approx(1)
    assert [score["difference"] for score in board.scores] == [0.0, -np.inf, -np.inf]
    assert board.best == "a"
    assert "-inf" in str(board)
    assert "some rows are impossible" in [text.get_text() for text in plots.leaderboard(board).texts]


def test_of_models_to_whom_all_rows_are_not_possible_the_more_possible_stands_first():
    board = board_of(
        result("a", [-1.0, -np.inf, -np.inf]), result("b", [-9.0, -9.0, -np.inf]), result("c", [-5.0, -5.0, -np.inf])
    )
    assert [score["model"] for score in board.scores] == ["c", "b", "a"]
    assert [score["difference"] for score in board.scores] == [0.0, -4.0, -np.inf]
    nowhere = board_of(*(result(name, [-np.inf, -np.inf]) for name in "ab"))
    assert np.isnan(nowhere.scores[1]["difference"])


def test_models_that_are_the_same_are_within_noise():
    board = board_of(result("a", np.arange(9.0)), result("b", np.arange(9.0)))
    assert board.scores[1]["within_noise"]
    assert "within noise of it: b" in board.verdict()


def test_cross_validation_pairs_rows_and_folds():
    rng = np.random.default_rng(3)
    fold = np.arange(30) % 3
    rows = {"a": rng.normal(size=30), "b": rng.normal(-1, 1, size=30)}
    parts = [result(t, v[fold == k], stage=f"fold {k + 1}") for t, v in rows.items() for k in range(3)]
    finals = [result(t, v[:9]) for t, v in rows.items()]
    board = board_of(*finals, *parts, fold=fold)
    b = next(score for score in board.scores if score["model"] == "b")
    gap = rows["b"] - rows["a"]
    means = [gap[fold == k].mean() for k in range(3)]
    assert "s.e. over" in render_comparison(board)
    assert b["cross_validated"] == pytest.approx(rows["b"].mean())
    assert b["cross_validated_difference_se"] == pytest.approx(gap.std(ddof=1) / np.sqrt(30))
    assert b["cross_validated_folds_se"] == pytest.approx(np.std(means, ddof=1) / np.sqrt(3))


def test_models_far_behind_stand_at_the_margin():
    rows = np.arange(9.0)
    board = board_of(
        *(result(f"m{i}", rows - i + 0.1 * np.sin(rows * i)) for i in range(4)), result("far", rows - 500)
    )
    texts = [text.get_text() for text in plots.leaderboard(board).texts]
    assert any(text.startswith("−500") for text in texts)


# ----------------------------------------------------------------------------------------------------------- options
TABLE = pg.Table({"x": np.arange(20.0), "y": np.arange(20.0) % 3, "c": ["a", "b"] * 10})


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ({"gaussian_mixture": {"komponents": 2}}, {}, "no option 'komponents'. Did you mean 'components'"),
        (["factor_analysis"], {"states": 3}, "None of the models compared has an option 'states'"),
        ({"quick": {"hidden": (8,)}}, {}, "None of the group 'quick' has an option 'hidden'"),
        (["gan"], {}, "states no density"),
        (["gaussian_mixture"], {"seed": 1}, "compare gives every fit its own"),
        (["gaussian_mixtur"], {}, "Did you mean 'gaussian_mixture'"),
        ({"spline_flow": {"inputs": ["x"]}, "made": {}}, {}, "different columns cannot be compared"),
        ({"a": 3}, {}, "must be a mapping"),
        ([], {}, "got no model"),
        (int, {}, "given by their names"),
        ({3: {"model": "made"}}, {}, "titles are words; got 3"),
    ],
)
def test_what_nobody_takes_is_refused(models, options, message):
    with pytest.raises(CapabilityError, match=message):
        entries_of(models, TABLE, None, options)


def test_titles_groups_and_shared_options():
    models = {"quick": {"components": 3}, "gaussian_mixture": {"components": 5}, "two": {"model": "gaussian_mixture"}}
    found = {e.title: e for e in entries_of(models, TABLE, "c", {"max_steps": 7})}
    assert found["gaussian_mixture"].options["components"] == 5
    assert found["latent_class"].options["components"] == 3
    assert "components" not in found["two"].options
    assert found["two"].model == "gaussian_mixture"
    assert all(entry.options["max_steps"] == 7 for entry in found.values())
    assert found["naive_bayes"].options["target"] == "c"
    assert "target" not in found["factor_analysis"].options


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 1}, "folds must be"),
        ({"workers": 0}, "workers must be"),
        ({"eta": 1}, "eta must be"),
        ({"minutes": 0}, "minutes must be"),
        ({"minutes": float("nan")}, "minutes must be"),
        ({"minutes": [3]}, "minutes must be"),
        ({"test_fraction": "a fifth"}, "test_fraction must"),
        ({"halve": "some"}, "halve must be"),
        ({"marginal": "smc"}, "marginal must be"),
        ({"test_fraction": 1.5}, "test_fraction must"),
        ({"folds": 99}, "at most the number of training rows"),
    ],
)
def test_settings_without_sense_are_refused(settings, message):
    with pytest.raises(CapabilityError, match=message):
        pg.compare(TABLE, ["factor_analysis"], **settings)


# ----------------------------------------------------------------------------------------------------------- folders
ABOUT = {"train": "1", "entries": {"a": "made {}"}}


def test_a_folder_is_of_one_comparison(tmp_path):
    records = Records(tmp_path / "new", ABOUT, None)
    records.add(result("a", [1.0, 2.0]), 3.0)
    records.publish([{"model": "a", "stage": FINAL, "mean": 1.5}])
    files = {path: path.read_bytes() for path in sorted((tmp_path / "new").rglob("*")) if path.is_file()}
    for about in ({**ABOUT, "train": "2"}, {**ABOUT, "entries": {"a": "made {hidden: 3}"}}):
        with pytest.raises(DataError, match="holds"):
            Records(tmp_path / "new", about, None)
    assert files == {path: path.read_bytes() for path in sorted((tmp_path / "new").rglob("*")) if path.is_file()}
    more = Records(tmp_path / "new", {**ABOUT, "entries": {"b": "vae {}"}}, None)
    assert more.spent == 3.0
    assert more.results["a", FINAL].arrays["log_prob"].tolist() == [1.0, 2.0]
    assert pd.read_parquet(tmp_path / "new" / "rows.parquet")["log_prob"].tolist() == [1.0, 2.0]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="no comparison"):
        Records(tmp_path / "other", ABOUT, None)
    with pytest.raises(DataError, match="is a file"):
        Records(tmp_path / "other" / "notes.txt", ABOUT, None)


def test_a_file_that_cannot_be_read_is_fitted_again(tmp_path):
    records = Records(tmp_path, ABOUT, None)
    for title in ("a", "b", "c", "d"):
        records.add(result(title, [1.0, 2.0]), 1.0)
    files = {path.name.split("_")[1][0]: path for path in (tmp_path / "fits").glob("*.npz")}
    files["a"].write_bytes(files["a"].read_bytes()[:200])
    files["b"].write_bytes(b"")
    np.savez(files["c"], log_prob=np.zeros(2))
    with pytest.warns(DataWarning, match="is damaged .* fitted again") as told:
        assert [key[0] for key in Records(tmp_path, ABOUT, None).results] == ["d"]
    assert len(told) == 3
    (tmp_path / "comparison.json").write_text('{"train":')
    with pytest.raises(DataError, match=r"comparison.json is damaged .* remove its folder"):
        Records(tmp_path, ABOUT, None)


def test_a_folder_is_of_one_process_at_a_time(tmp_path):
    pytest.importorskip("fcntl", reason="the system has no such locks")
    with alone(tmp_path / "new"), pytest.raises(DataError, match="Another comparison is at work"):
        pg.compare(TABLE, ["factor_analysis"], folder=tmp_path / "new", progress=False)
    with alone(tmp_path / "new"), alone(None), alone(None):
        pass
    assert list((tmp_path / "new").iterdir()) == []  # nothing is left behind


def test_numbers_of_other_libraries_are_kept(tmp_path):
    records = Records(tmp_path, {**ABOUT, "seed": np.int64(3)}, np.float32(2.0))
    records.add(result("a", [1.0, 2.0], steps=np.int64(3)), 1.0)
    found = Records(tmp_path, {**ABOUT, "seed": 3}, 2.0)
    assert found.results["a", FINAL].record["steps"] == 3


def test_results_of_models_that_are_not_compared_this_time_stay_in_the_table(tmp_path):
    records = Records(tmp_path, ABOUT, None)
    for title in ("a", "b"):
        records.add(result(title, [1.0, 2.0]), 1.0)
    records.publish([records.results["b", FINAL].record])
    assert pd.read_parquet(tmp_path / "results.parquet")["model"].tolist() == ["b", "a"]


def test_more_minutes_try_again_what_had_too_few(tmp_path):
    records = Records(tmp_path, ABOUT, 1.0)
    for title, more in (("a", {}), ("b", {"cut": True}), ("c", {"status": "stopped"})):
        records.add(result(title, [1.0, 2.0], **more), 1.0)
    assert {key[0] for key in Records(tmp_path, ABOUT, 1.0).results} == {"a", "b", "c"}
    assert {key[0] for key in Records(tmp_path, ABOUT, 2.0).results} == {"a"}
    assert {key[0] for key in Records(tmp_path, ABOUT, None).results} == {"a"}
