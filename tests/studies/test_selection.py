"""Choosing a number of components: a published choice, the truth of simulations, and what the numbers are."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.datasets import load_iris

import probgen as pg
from probgen import plots
from probgen.data import Column, Schema, Table

IRIS = Table(load_iris().data, schema=Schema(tuple(Column(name, "real") for name in "abcd")))
QUICK = {"restarts": 2, "progress": False}


def clusters(holes=0.0, seed=0):
    """Three groups in the plane, and a coin for each."""
    rng = np.random.default_rng(seed)
    z = np.repeat([0, 1, 2], 40)
    values = np.column_stack(
        [rng.normal(6.0 * np.array([[0, 0], [1, 0], [0, 1]])[z], 1.0), rng.random(120) < 0.1 + 0.4 * z]
    )
    values[rng.random(values.shape) < holes] = np.nan
    schema = Schema((Column("x", "real"), Column("y", "real"), Column("b", "binary", levels=(False, True))))
    return Table.from_codes(values[~np.isnan(values).all(1)], schema)


def two_state_sequences():
    rng, made = np.random.default_rng(1), []
    for length in (60, 70, 50, 60):
        moves = rng.random(length) < 0.1
        z = np.cumsum(moves) % 2
        made.append((4.0 * z + rng.normal(size=length))[:, None])
    return Table.from_sequences(made, kind="real")


@pytest.mark.reference
def test_bic_of_iris_chooses_two_components():
    """As R's mclust does among unrestricted covariances: -574.018."""
    found = pg.select("gaussian_mixture", IRIS, components=range(1, 4), prior=None, tolerance=1e-8, progress=False)
    assert found.best == 2
    assert found.scores[1]["score"] == pytest.approx(574.018, abs=2e-3)
    assert found.fit.program.options["components"] == 2
    assert [record["parameters"] for record in found.records()] == [14, 29, 44]


@pytest.mark.parametrize("criterion", ["bic", "icl", "held_out", "evidence"])
def test_simulated_clusters_are_counted(criterion):
    found = pg.select("latent_class", clusters(), components=[2, 3, 4], criterion=criterion, folds=2, **QUICK)
    assert found.best == 3 if criterion != "held_out" else found.one_standard_error == 3
    assert len(found.fit.posterior.parameters["weights"]["logits"][0, 0, 0]) == found.best


def test_clusters_are_counted_in_spite_of_holes():
    assert pg.select("gaussian_mixture", clusters(holes=0.15), components=[2, 3, 4], **QUICK).best == 3


@pytest.mark.parametrize("criterion", ["bic", "held_out"])
def test_states_of_sequences_are_counted(criterion):
    table = two_state_sequences()
    found = pg.select("hidden_markov", table, states=[1, 2, 3], criterion=criterion, folds=2, **QUICK)
    assert found.best == 2 if criterion == "bic" else found.best > 1


def test_scores_are_those_of_the_fits():
    found = pg.select("gaussian_mixture", IRIS, components=[1, 2], criterion="aic", **QUICK)
    criteria = found.fit.criteria(IRIS)
    record = next(record for record in found.records() if record["best"])
    for key in ("aic", "bic", "icl", "log_likelihood", "parameters"):
        assert record[key] == pytest.approx(getattr(criteria, key))
    assert record["score"] == record["aic"]
    assert "best" in str(found)


def test_held_out_scores_by_hand():
    table = clusters()
    found = pg.select("latent_class", table, components=[1, 3], criterion="held_out", folds=3, seed=5, **QUICK)
    fold = np.random.default_rng(5).permutation(120) % 3
    values = np.empty(120)
    for number in range(3):
        fit = pg.fit("latent_class", table.take(fold != number), components=3, seed=5, **QUICK)
        values[fold == number] = np.asarray(fit.log_prob(table.take(fold == number)))
    record = found.records()[1]
    assert record["score"] == pytest.approx(values.mean())
    assert record["se"] == pytest.approx(values.std(ddof=1) / np.sqrt(120))
    whole = pg.fit("latent_class", table, components=3, seed=5, **QUICK)
    np.testing.assert_array_equal(found.fit.log_prob(table).value, whole.log_prob(table).value)


def test_other_options_than_numbers():
    options = {"covariance": ["full", "diagonal", "spherical"], "components": 3}
    found = pg.select("gaussian_mixture", clusters().select(["x", "y"]), **options, **QUICK)
    assert found.best == "spherical"
    assert found.option == "covariance"


def test_models_without_an_exact_density_are_compared_on_held_out_rows():
    found = pg.select(
        "vae", IRIS, latent=[1, 2], hidden=(8,), criterion="held_out", folds=2, max_steps=40, progress=False
    )
    assert found.records()[1]["parameters"] > found.records()[0]["parameters"] > 50


def test_values_that_cannot_be_fitted_are_told():
    few = IRIS.take(np.arange(6))
    found = pg.select("gaussian_mixture", few, components=[1, 20], **QUICK)
    assert found.best == 1
    assert "20" in found.failures
    assert "20 failed" in str(found)
    with pytest.raises(pg.FitError, match="components=30"):
        pg.select("gaussian_mixture", few, components=[20, 30], **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one option"),
        ({"components": [1, 2], "covariance": ["full", "tied"]}, "'components', 'covariance'"),
        ({"components": []}, "at least one"),
        ({"komponents": [1, 2]}, "no option 'komponents'"),
        ({"components": [1, 2], "criterion": "dic"}, "criterion must be one of"),
        ({"components": [1, 2], "criterion": "held_out", "folds": 1}, "folds must be between"),
        ({"components": [1, 2], "criterion": "evidence", "prior": None}, "prior='default'"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        pg.select("gaussian_mixture", IRIS, **options, **QUICK)


def test_the_one_standard_error_rule_needs_errors():
    found = pg.select("gaussian_mixture", IRIS, components=[1, 2], **QUICK)
    with pytest.raises(pg.CapabilityError, match="held_out"):
        _ = found.one_standard_error


@pytest.mark.parametrize("values", [[1, 2, 3], ["full", "tied", "diagonal"]])
def test_the_best_value_is_filled(values):
    records = [{"K": v, "score": -float(i), "se": 0.1, "best": i == 1} for i, v in enumerate(values)]
    axes = plots.selection_curve(records, "K", "held_out", Figure().subplots())
    axes.figure.canvas.draw()
    shown = [collection for collection in axes.collections if len(collection.get_facecolor()) == 3]
    fills = [tuple(colour) for colour in shown[0].get_facecolor()]
    assert fills[0] == fills[2] != fills[1]
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(v) for v in values]
    assert (
        plots.selection_curve([{"K": 1, "score": 2.0, "best": True}], "K", "bic", Figure().subplots()).get_ylabel()
        == "BIC"
    )
