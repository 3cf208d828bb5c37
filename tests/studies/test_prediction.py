"""Hidden targets: the study beside loops by hand, its scores beside scikit-learn, its plots, and what it refuses."""

from __future__ import annotations

import functools
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import probgen as pg
from probgen import plots
from probgen.data import Column, Schema, Table
from probgen.errors import CapabilityError, DataError, FitError, SchemaError
from probgen.inference.runtime import seed_of
from probgen.studies.baselines import BASELINES, Inputs
from probgen.studies.classification import (
    adaptive_calibration_error,
    classwise_calibration_error,
    score,
)
from probgen.studies.prediction import cell_of, shuffled
from probgen.studies.prediction_scores import Forecast, answer_scores, area_under_risk, mixed_answers, risk_coverage
from probgen.studies.predictors import Tried, default_candidates, judged_baseline, judged_model, tempered, to_the_power

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: sklearn)")

MODELS = {
    "naive_bayes": {},
    "gaussian": {
        "model": "gaussian_mixture",
        "components": 1,
        "by_class": True,
        "shared": 0.1,
        "restarts": 1,
        "max_steps": 10,
    },
}
SIZES = {"rows": (24, 60), "holes": (0.0, 0.3), "repeats": 2, "folds": 2, "progress": False}


@functools.cache
def mixed_rows():
    """Numbers, a positive one, a colour, and a label that they tell of."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 240)
    schema = Schema((
        Column("a", "real"), Column("b", "positive"), Column("colour", "categorical", levels=("r", "g", "b")),
        Column("y", "binary", levels=("no", "yes")),
    ))  # fmt: skip
    colour = np.where(rng.random(240) < 0.3, label, rng.integers(0, 3, 240))
    x = np.column_stack([rng.normal(2.0 * label), np.exp(rng.normal(1.2 * label)), colour, label])
    return Table.from_codes(x, schema)


@functools.cache
def studied():
    return pg.prediction_study(mixed_rows(), "y", MODELS, ["logistic_regression", "gradient_boosting"], **SIZES)


def test_a_model_is_scored_as_by_hand():
    cell = cell_of(mixed_rows(), "y", (1, 0.3, 60), 0.3, 2, 0, 200, 0)
    train, test = cell.table.take(cell.learn), cell.table.take(cell.test)
    assert len(test) == 72
    fit = pg.fit("naive_bayes", train, target="y", progress=False)
    joint = np.stack(
        [
            np.asarray(fit.log_prob(test.with_values(np.column_stack([test.values[:, :3], np.full(72, k)]))))
            for k in (0, 1)
        ]
    )
    truth = test.values[:, 3].astype(int)
    p = np.exp(joint - np.logaddexp(*joint)).T
    found = studied().values("naive_bayes", "raw_log_loss", 60, 0.3)[1]
    assert found == pytest.approx(-np.log(p[np.arange(72), truth]).mean(), rel=1e-9)
    record = next(
        r
        for r in studied().records
        if (r["method"], r["rows"], r["holes"], r["repeat"]) == ("naive_bayes", 60, 0.3, 1)
    )
    counts = np.bincount(train.values[:, 3].astype(int)) + 1.0
    odds = (p / (counts / counts.sum())) ** record["setting"]["power"] * counts
    odds /= odds.sum(1, keepdims=True)
    assert record["log_loss"] == pytest.approx(-np.log(odds[np.arange(72), truth]).mean(), abs=2e-3)  # three decimals


def test_a_baseline_is_scored_as_by_hand():
    """Gradient boosting reads holes and codes; one setting, chosen by nobody."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    cell = cell_of(mixed_rows(), "y", (0, 0.3, 60), 0.3, 2, 0, 200, 0)
    x, y = cell.table.values[:, :3], cell.label.astype(int)
    setting = BASELINES["gradient_boosting"].settings[0]
    peer = HistGradientBoostingClassifier(
        categorical_features=[False, False, True], early_stopping=False, random_state=7, **setting
    ).fit(x[cell.learn], y[cell.learn])
    shares = (np.bincount(y[cell.learn]) + 1) / (len(cell.learn) + 2)
    expected = 60 / 61 * peer.predict_proba(x[cell.test]) + shares / 61
    ours = BASELINES["gradient_boosting"].probabilities(cell.inputs, cell.label, 2, cell.learn, cell.test, setting, 7)
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_holes_are_filled_from_the_rows_learnt_from_alone():
    table = pg.ampute(mixed_rows(), 0.3, columns=["a", "b", "colour"], seed=1)[0]
    learn, values = np.arange(60), table.values.copy()
    values[60:, 0] *= 100.0
    for imputer in ("mean", "iterative"):
        one, other = (
            Inputs(t, "y", np.zeros(0, dtype=int), 0).matrix(imputer, learn)[0]
            for t in (table, table.with_values(values))
        )
        assert not np.isnan(one).any()
        np.testing.assert_array_equal(one[learn], other[learn])
        np.testing.assert_allclose(one[learn].mean(0), 0.0, atol=1e-12)
        np.testing.assert_allclose(one[learn].std(0), 1.0, atol=1e-12)
    plain = Inputs(table, "y", np.zeros(0, dtype=int), 0).matrix("mean", learn)[0]
    logs = np.log(table.values[:, 1])
    filled = np.where(np.isnan(logs), np.nanmean(logs[learn]), logs)
    np.testing.assert_allclose(plain[:, 1], (filled - filled[learn].mean()) / filled[learn].std(), atol=1e-9)


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_every_baseline_says_probabilities_and_numbers(name):
    table = pg.ampute(mixed_rows(), 0.3, columns=["a", "b", "colour"], seed=1)[0]
    inputs, learn, ask = Inputs(table, "y", np.zeros(0, dtype=int), 0), np.arange(80), np.arange(80, 240)
    label, setting = table.values[:, 3], dict(BASELINES[name].settings[1])
    p = BASELINES[name].probabilities(inputs, label, 3, learn, ask, setting, 0)  # a third level that nobody saw
    np.testing.assert_allclose(p.sum(1), 1.0)
    assert (p > 0).all()
    assert (p.argmax(1) == label[ask]).mean() > 0.65
    told = BASELINES[name].numbers(inputs, 10 + 5 * label, learn, ask, setting, 0)
    assert ((told - 10 - 5 * label[ask]) ** 2).mean() < 25 * 0.25
    alone = BASELINES[name].probabilities(inputs, np.zeros(240), 2, learn, ask, setting, 0)
    np.testing.assert_allclose(alone, np.tile([81 / 82, 1 / 82], (160, 1)))


def test_the_test_is_not_learnt_from():
    """Other labels of the test rows: every answer stays as it is. Fewer rows are the first of more."""
    cell, wider = (cell_of(mixed_rows(), "y", (0, 0.0, n), 0.3, 2, 0, 200, 0) for n in (24, 60))
    order = shuffled(mixed_rows(), "y", seed_of(0, "split", 0) % 2**31)
    np.testing.assert_array_equal(cell.test, order[:72])
    np.testing.assert_array_equal(wider.learn[:24], cell.learn)
    assert not set(wider.learn) & set(cell.test)
    values = cell.table.values.copy()
    values[cell.test, 3] = 1 - values[cell.test, 3]
    moved = replace(cell, table=cell.table.with_values(values))
    for judged in (
        lambda c: judged_model(c, "naive_bayes", {}),
        lambda c: judged_baseline(c, "logistic_regression", BASELINES["logistic_regression"]),
    ):
        one, other = (tempered(c, judged(c)) for c in (cell, moved))
        np.testing.assert_array_equal(one.answer, other.answer)
        assert one.answer.shape == (72, 2)


def test_labels_of_rows_without_a_label_are_not_looked_at():
    """They stand in the table all the same; others in their place change nothing."""
    cell = cell_of(mixed_rows(), "y", (0, 0.0, 24), 0.3, 2, 100, 200, 0)
    assert len(cell.extra) == 100
    values = cell.table.values.copy()
    values[cell.extra, 3] = 1 - values[cell.extra, 3]
    moved = replace(cell, table=cell.table.with_values(values))
    by_class = {"model": "latent_class", "components": 1, "by_class": True, "rounds": 2, "restarts": 1, "max_steps": 5}
    for name, options in (("naive_bayes", {}), ("by class", by_class)):
        one, other = (judged_model(c, name, options) for c in (cell, moved))
        np.testing.assert_array_equal(one.answer, other.answer)
        np.testing.assert_array_equal(one.out, other.out)


def test_a_row_is_judged_by_what_has_not_seen_it():
    """Features that are the row's own number: whoever has seen it knows its label, others know nothing."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(90, 1)), rng.integers(0, 2, 90)
    schema = Schema((Column("x", "real"), Column("y", "binary", levels=("a", "b"))))
    table = Table.from_codes(np.column_stack([x, y]), schema)
    found = pg.prediction_study(
        table, "y", {"kernel": {"model": "kernel_density", "by_class": True}}, ["random_forest"], rows=(60,), holes=(0.0,),
        repeats=1, progress=False,
    )  # fmt: skip
    for method in ("kernel", "random_forest"):
        assert found.values(method, "held_out")[0] > 0.66
        assert found.values(method)[0] > 0.6


def test_holes_are_made_in_features_only_and_completely_at_random():
    cell = cell_of(mixed_rows(), "y", (0, 0.3, 60), 0.3, 2, 0, 200, 0)
    assert cell.table.known[:, 3].all()
    for rows in (cell.learn, cell.test):
        share = (~cell.table.known[rows, :3]).mean()
        assert abs(share - 0.3) < 4 * np.sqrt(0.21 / (3 * len(rows)))


def test_scores_are_those_of_scikit_learn():
    from sklearn import metrics

    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(3), 400)
    truth = np.array([rng.choice(3, p=row) for row in p**2 / (p**2).sum(1, keepdims=True)])
    found = score("", p, truth)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, p), abs=1e-12)
    assert found["accuracy"] == metrics.accuracy_score(truth, p.argmax(1))
    assert found["brier"] == pytest.approx(((p - np.eye(3)[truth]) ** 2).sum(1).mean(), abs=1e-12)
    confidence, hit = p.max(1), p.argmax(1) == truth
    by_hand = sum(
        abs((hit[m] * 1.0 - confidence[m]).sum()) for b in range(10) if (m := (confidence * 10).astype(int) == b).any()
    )
    assert found["ece"] == pytest.approx(by_hand / 400, abs=1e-12)
    order = np.argsort(confidence)
    adaptive = np.mean([abs((hit[m] * 1.0 - confidence[m]).mean()) for m in order.reshape(10, 40)])
    assert adaptive_calibration_error(p, truth) == pytest.approx(adaptive, abs=1e-12)
    own = [
        sum(abs((p[m, k] - (truth[m] == k)).sum()) for b in range(10) if (m := (p[:, k] * 10).astype(int) == b).any())
        for k in range(3)
    ]
    assert classwise_calibration_error(p, truth) == pytest.approx(np.mean(own) / 400, abs=1e-12)


def test_the_least_confident_are_left_out_first():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.4, 0.6]])
    truth = np.array([0, 1, 1, 1])
    coverage, risk = risk_coverage(p, truth)
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(risk, [0, 0, 0.5 / 3, 0.25])  # two rows at .6, one wrong: half an error each
    assert area_under_risk(p, truth) == pytest.approx((0.5 / 3 + 0.25) / 4)
    found = studied().abstention("naive_bayes", 60, 0.0)
    assert found["risk"][-1] == pytest.approx(1 - studied().values("naive_bayes", "accuracy", 60, 0.0).mean())
    assert found["area"] < found["risk"][-1]


def test_powers_of_likelihood_ratios():
    p, shares = np.random.default_rng(3).dirichlet(np.ones(3), 20), np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(to_the_power(p, shares, 1.0), p, atol=1e-12)
    np.testing.assert_allclose(to_the_power(p, shares, 0.0), np.tile(shares, (20, 1)), atol=1e-12)
    ratio = to_the_power(p, shares, 2.0) / shares
    expected = (p / shares) ** 2
    np.testing.assert_allclose(ratio[:, 0] / ratio[:, 2], expected[:, 0] / expected[:, 2])


def test_overconfidence_is_taken_back():
    """The same column four times: naive Bayes counts it four times, the power is near a quarter."""
    rng = np.random.default_rng(4)
    label = rng.integers(0, 2, 1200)
    x = rng.normal(label)
    schema = Schema((*(Column(f"x{k}", "real") for k in range(4)), Column("y", "binary", levels=("a", "b"))))
    table = Table.from_codes(np.column_stack([x, x, x, x, label]), schema)
    found = pg.prediction_study(table, "y", ["naive_bayes"], [], rows=(600,), holes=(0.0,), repeats=1, progress=False)
    assert found.records[0]["setting"]["power"] == pytest.approx(0.25, abs=0.06)
    assert found.values("naive_bayes")[0] < found.values("naive_bayes", "raw_log_loss")[0] - 0.05


def test_few_rows_that_are_all_told_right_make_nobody_certain():
    """The power written out, beside a row more of every label by its share; without that row it would be as high as it may."""
    cell = cell_of(mixed_rows(), "y", (0, 0.0, 24), 0.3, 2, 0, 200, 0)
    truth = cell.label[cell.left_out].astype(int)
    out = np.where(np.eye(2)[truth] > 0, 0.93, 0.07)
    one = tempered(cell, Tried("one", "discriminative", out, np.full((72, 2), 0.5), {}))
    shares = (np.bincount(truth) + 1) / 26
    grid = np.linspace(0, 4, 4001)
    told = np.stack([to_the_power(out, shares, power) for power in grid])
    likelihood = np.log(told[:, np.arange(24), truth]).sum(1)
    assert grid[likelihood.argmax()] == 4.0
    best = grid[(likelihood + (np.log(told) @ shares).mean(1)).argmax()]
    assert one.setting["power"] == pytest.approx(best, abs=2e-3)
    assert best < 2


def test_the_stack_is_no_worse_on_held_out_rows():
    found = studied()
    for family in ("generative", "discriminative"):
        own = [m for m in found.methods if found.families[m] == family and "," not in m]
        for rows in SIZES["rows"]:
            for share in SIZES["holes"]:
                held = np.stack([found.values(m, "held_out", rows, share) for m in own])
                np.testing.assert_array_equal(found.values(f"{family}, chosen", "held_out", rows, share), held.min(0))
                assert (
                    found.values(f"{family}, stacked", "held_out", rows, share) <= held.min(0) + 1e-3
                ).all()  # of EM


def test_one_seed_is_one_study_whoever_else_takes_part():
    again = pg.prediction_study(mixed_rows(), "y", {"naive_bayes": {}}, ["gradient_boosting"], **SIZES)
    for method in ("naive_bayes", "gradient_boosting"):
        for rows in SIZES["rows"]:
            np.testing.assert_array_equal(
                again.values(method, "log_loss", rows), studied().values(method, "log_loss", rows)
            )
    other = pg.prediction_study(mixed_rows(), "y", {"naive_bayes": {}}, [], **SIZES, seed=1)
    assert (other.values("naive_bayes") != again.values("naive_bayes")).all()


def test_numbers_are_told_as_by_linear_regression():
    """A joint normal with the target hidden: density, intervals and errors in closed form."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(700, 3))
    y = 3 * x[:, 0] - x[:, 1] + 2 * rng.normal(size=700) + 50
    schema = Schema(tuple(Column(name, "real") for name in ("a", "b", "c", "y")))
    table = Table.from_codes(np.column_stack([x, y]), schema)
    found = pg.prediction_study(
        table, "y", {"gaussian": {"model": "gaussian_mixture", "components": 1, "prior": None, "restarts": 1}}, ["logistic_regression"],
        rows=(300,), holes=(0.0,), repeats=1, folds=2, draws=500, progress=False,
    )  # fmt: skip
    cell = cell_of(table, "y", (0, 0.0, 300), 0.3, 2, 0, 500, 0)
    design = np.column_stack([np.ones(700), x])
    beta = np.linalg.lstsq(design[cell.learn], y[cell.learn], rcond=None)[0]
    spread = (y[cell.learn] - design[cell.learn] @ beta).std()
    away = (y - design @ beta)[cell.test]
    z = away / spread
    crps = spread * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    expected = {
        "log_loss": -stats.norm.logpdf(away, scale=spread).mean(), "rmse": np.sqrt((away**2).mean()), "crps": crps.mean(),
        "coverage90": (np.abs(z) < stats.norm.ppf(0.95)).mean(),
    }  # fmt: skip
    for name, value in expected.items():
        tolerance = 1e-6 if name == "log_loss" else 0.02 * abs(value)
        assert found.values("gaussian", name)[0] == pytest.approx(value, abs=tolerance)
        assert found.values("logistic_regression", name)[0] == pytest.approx(value, rel=0.03)
    assert "coverage90" in str(found)
    with pytest.raises(CapabilityError, match="'y' is a number"):
        found.abstention("gaussian")


def test_mixtures_of_forecasts():
    one, other = (
        Forecast(np.full(2, m), np.full((10, 2), m), np.log(np.full(2, d))) for m, d in ((0.0, 0.2), (1.0, 0.6))
    )
    found = mixed_answers([one, other], np.array([0.3, 0.7]))
    np.testing.assert_allclose(np.exp(found.log_density), 0.3 * 0.2 + 0.7 * 0.6)
    np.testing.assert_allclose(found.mean, 0.7)
    assert found.draws.sum(0).tolist() == [7, 7]
    assert answer_scores(found, np.array([0.7, 0.7]))["rmse"] == 0


def test_rows_without_a_label_help_the_models():
    rng = np.random.default_rng(6)
    label = rng.integers(0, 2, 600)
    x = rng.normal(2.2 * label[:, None], size=(600, 4))
    schema = Schema((*(Column(f"x{k}", "real") for k in range(4)), Column("y", "binary", levels=("a", "b"))))
    table = Table.from_codes(np.column_stack([x, label]), schema)
    once = {"restarts": 1, "max_steps": 5}
    models = {
        "naive_bayes": {},
        "by class": {"model": "latent_class", "components": 1, "by_class": True, "rounds": 4, **once},
    }
    loss = {
        extra: pg.prediction_study(
            table, "y", models, [], rows=(12,), holes=(0.0,), repeats=3, folds=2, unlabelled=extra, progress=False
        )
        for extra in (0, 250)
    }
    for method in models:
        assert loss[250].values(method, "raw_log_loss").mean() < loss[0].values(method, "raw_log_loss").mean()
    assert loss[250].unlabelled == 250


def test_default_models_take_the_table():
    assert "naive_bayes" in default_candidates(mixed_rows(), "y")
    numbers = default_candidates(mixed_rows(), "a")
    assert "naive_bayes" not in numbers
    assert not any(own.get("by_class") for own in numbers.values())


def test_a_model_that_fails_is_told_and_the_others_go_on():
    models = {"naive_bayes": {}, "large": {"model": "gaussian_mixture", "components": 50}}
    found = pg.prediction_study(mixed_rows(), "y", models, [], rows=(24,), holes=(0.0,), repeats=1, progress=False)
    assert any("large" in name and "at least 50 rows" in message for name, message in found.failures.items())
    assert "naive_bayes" in found.methods
    assert "large" not in found.methods


def test_a_baseline_that_fails_is_told_and_the_others_go_on():
    """A class of one row cannot be divided, which the sigmoid of the support vectors needs."""
    codes = np.random.default_rng(7).normal(size=(90, 2))
    codes[:, 1] = np.arange(90) % 2
    codes[45, 1] = 2  # stands in the middle of the order: neither first nor last
    table = Table.from_codes(codes, Schema((Column("x", "real"), Column("y", "categorical", levels=("a", "b", "c")))))
    found = pg.prediction_study(
        table, "y", ["naive_bayes"], ["support_vector_machine", "logistic_regression"], rows=(60,), holes=(0.0,), repeats=1,
        folds=2, progress=False,
    )  # fmt: skip
    assert [name.split(",")[0] for name in found.failures] == ["support_vector_machine"]
    assert "logistic_regression" in found.methods
    assert np.isfinite(found.values("logistic_regression")).all()


def test_nothing_known_is_told():
    """Of few rows with nearly everything unknown."""
    given = {"rows": (6,), "holes": (0.99,), "repeats": 1, "progress": False}
    with pytest.raises(FitError, match="None of the features has cells"):
        pg.prediction_study(mixed_rows(), "y", ["naive_bayes"], ["logistic_regression"], **given)
    found = pg.prediction_study(mixed_rows(), "y", [], ["logistic_regression"], **given)
    assert "0 feature" in found.failures["logistic_regression, 6 rows, 99% holes, repeat 0"]
    assert found.methods == ["labels alone"]


def test_differences_are_of_the_repeats_that_both_have():
    study = replace(studied(), records=[
        {"method": name, "rows": 9, "holes": 0.0, "repeat": repeat, "log_loss": value}
        for name, repeat, value in (("a", 0, 5.0), ("a", 2, 2.0), ("a", 3, 4.0), ("b", 1, 9.0), ("b", 2, 1.0), ("b", 3, 1.0), ("c", 1, 1.0))
    ])  # fmt: skip
    found = study.difference("a", "b")
    assert found.difference == pytest.approx(2.0)
    assert found.standard_error == pytest.approx(np.std([1.0, 3.0], ddof=1) / np.sqrt(2))
    with pytest.raises(CapabilityError, match="no repeat with answers of both 'a' and 'c'"):
        study.difference("a", "c")


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(CapabilityError, match=r"probgen\[sklearn\]"):
        pg.prediction_study(mixed_rows(), "y", progress=False)
    assert pg.prediction_study(mixed_rows(), "y", ["naive_bayes"], [], rows=(24,), repeats=1, progress=False).methods


def test_a_class_may_be_absent_from_the_test():
    values = mixed_rows().values.copy()
    schema = mixed_rows().schema.with_kind("y", "categorical", levels=("no", "yes", "never"))
    table = Table.from_codes(values, schema)
    found = pg.prediction_study(
        table, "y", ["naive_bayes"], ["logistic_regression"], rows=(30,), holes=(0.0,), repeats=1, progress=False
    )
    assert found.answers["naive_bayes", 30, 0.0, 0].shape == (72, 3)
    assert np.isfinite([record["log_loss"] for record in found.records]).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": "z"}, SchemaError, "no column 'z'"),
        (
            {"models": {"gaussian": {"model": "gaussian_mixture", "componets": 2}}},
            CapabilityError,
            "Did you mean 'components'",
        ),
        ({"models": ["naive_baes"]}, CapabilityError, "naive_bayes"),
        ({"models": ["gan"]}, CapabilityError, "'gan' has no density"),
        ({"target": "a", "models": {"latent_class": {"by_class": True}}}, CapabilityError, "by class: 'a' is real"),
        ({"baselines": ["random_forrest"]}, CapabilityError, "Did you mean 'random_forest'"),
        ({"models": [], "baselines": []}, CapabilityError, "nothing to try"),
        ({"rows": (500,)}, DataError, "168 rows to learn from .* 500 were asked"),
        ({"rows": (3,)}, CapabilityError, "at least 6"),
        ({"rows": ()}, CapabilityError, "at least one number"),
        ({"rows": 24}, CapabilityError, r"rows must be several numbers, such as \(24,\)"),
        ({"holes": 0.5}, CapabilityError, "holes must be several numbers"),
        ({"test_fraction": 0.001}, DataError, "is no row"),
        ({"alone": True}, DataError, "no column beside 'y'"),
        ({"models": "naive_baes"}, CapabilityError, "There is no model 'naive_baes'"),
        ({"baselines": "random_forrest"}, CapabilityError, "Did you mean 'random_forest'"),
        ({"holes": (1.0,)}, CapabilityError, r"below 1, got 1\.0"),
        ({"test_fraction": 1}, CapabilityError, "test_fraction"),
        ({"folds": 1}, CapabilityError, "folds must be a whole number of at least 2"),
        ({"repeats": 0}, CapabilityError, "repeats"),
        ({"one": True}, DataError, "1 value"),
    ],
)
def test_bad_requests(change, error, message):
    table = mixed_rows()
    if change.pop("alone", False):
        table = table.drop(["a", "b", "colour"])
    if change.pop("one", False):
        table = table.take(table.values[:, 3] == 1)
    given = {"target": "y", "models": ["naive_bayes"], "baselines": [], "rows": (24,), "progress": False, **change}
    with pytest.raises(error, match=message):
        pg.prediction_study(table, given.pop("target"), **given)


def test_what_the_study_does_not_have_is_listed():
    with pytest.raises(CapabilityError, match="it has methods naive_bayes, gaussian"):
        studied().values("forest")
    assert studied().difference("naive_bayes", "labels alone").difference < 0
    assert "labels alone" in str(studied())


def test_the_figures(tmp_path):
    study = studied()
    figure = plots.discriminative_or_generative({"one": study, "other": study}, dashed=("gradient_boosting",))
    assert len(figure.axes) == 4
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() > 2]
    np.testing.assert_allclose(thick[0].get_ydata(), study.curve("generative, stacked", "log_loss", 0.0)[1])
    figure.savefig(tmp_path / "one.png")
    names = ("generative, stacked", "gradient_boosting")
    curves = {"one": {share: {name: study.reliability(name, 60, share) for name in names} for share in study.holes}}
    curves["one"][0.0]["gradient_boosting"] = [{"confidence": 0.5, "accuracy": 0.1, "count": 3}]
    figure = plots.reliability_by_holes(curves)
    assert all(axes.get_ylim()[0] < 0.1 for axes in figure.axes)
    figure.savefig(tmp_path / "two.png")
    axes = plots.abstention_curve(study)
    assert len(axes.lines) == 2
    axes.figure.savefig(tmp_path / "three.png")
