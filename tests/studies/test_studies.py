"""The studies on models whose scores are known."""

import numpy as np
import pytest

from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.studies.classification import classification_study
from probgen.studies.density import compare_densities
from probgen.studies.filled_cells import fill_study
from probgen.studies.representation import principal_plane, representation_study


@pytest.fixture
def parts(gaussian_table):
    return gaussian_table.split(0.5, 0.5, seed=0)


@pytest.fixture
def fits(parts, independent):
    return {"sharp": independent(parts[0], 0.4), "true": independent(parts[0])}


def test_density_ranks_and_pairs(parts, fits):
    found = compare_densities(fits, parts[1])
    assert found.models == ["true", "sharp"]
    rows = {name: fit.log_prob(parts[1]).value for name, fit in fits.items()}
    d = rows["sharp"] - rows["true"]
    assert found.scores[1]["difference"] == pytest.approx(d.mean())
    assert found.scores[1]["difference_se"] == pytest.approx(d.std(ddof=1) / np.sqrt(len(d)))
    assert found.scores[0]["difference"] == 0.0
    assert np.array_equal(found.log_prob[0], rows["true"])


def test_density_of_the_truth_is_its_entropy(parts, fits):
    """Two Gaussians (sd 2 and 1) and a fair three-way label, within 4 standard errors."""
    score = compare_densities(fits, parts[1]).scores[0]
    entropy = np.log(2 * np.pi * np.e) + np.log(2) + np.log(3)
    assert abs(score["mean"] + entropy) < 4 * score["se"]


def test_worst_rows_are_the_least_likely(parts, fits):
    values = parts[1].values.copy()
    values[17, 0] = 60.0
    found = compare_densities(fits, parts[1].with_values(values))
    worst = next(row for row in found.worst if row["model"] == "true")
    assert worst["row"] == 17


def test_the_order_of_models_does_not_matter(parts, fits):
    one = compare_densities(fits, parts[1])
    other = compare_densities(dict(reversed(fits.items())), parts[1])
    assert one.scores == other.scores


def test_imputation_by_the_truth_is_calibrated_and_no_better_than_the_column(parts, fits):
    found = fill_study(fits, parts[1], parts[0], draws=100, seed=0)
    scores = {s["model"]: s for s in found.scores}
    assert scores["true"]["coverage90"] == pytest.approx(0.9, abs=0.06)
    assert scores["true"]["rmse"] == pytest.approx(1.0, abs=0.12)
    assert scores["true"]["crps"] == pytest.approx(scores["marginal"]["crps"], rel=0.05)
    assert scores["true"]["log_loss"] == pytest.approx(np.log(3), abs=0.05)
    assert scores["sharp"]["coverage90"] < 0.6


def test_only_hidden_known_cells_are_scored(parts, fits):
    values = parts[1].values.copy()
    values[:200, 0] = np.nan
    test = parts[1].with_values(values)
    found = fill_study(fits, test, parts[0], draws=10)
    assert not found.hidden[:200, 0].any()
    assert sum(r["cells"] for r in found.columns if r["model"] == "true") == found.hidden.sum()


def test_imputation_repeats_with_its_seed(parts, fits):
    one, two, other = (fill_study(fits, parts[1], parts[0], draws=10, seed=s).columns for s in (1, 1, 2))
    assert one == two
    assert one != other


def test_classification_without_information(parts, fits):
    found = classification_study(fits, parts[1], parts[0], "label")
    score = found.scores[1]
    assert score["log_loss"] == pytest.approx(np.log(3), abs=0.01)
    assert score["brier"] == pytest.approx(2 / 3, abs=0.01)
    assert found.probabilities["true"].sum(1) == pytest.approx(1.0)
    assert all(counts.sum() == len(parts[1]) for counts in found.confusion.values())


def test_constant_predictions_are_the_shares(parts, fits):
    found = classification_study(fits, parts[1], parts[0], "label")
    assert np.ptp(found.probabilities["majority"], axis=0) == pytest.approx(0.0)
    assert found.scores[-1]["model"] == "majority"
    assert len(found.reliability["majority"]) == 1


def test_rows_without_a_label_do_not_count(parts, fits):
    values = parts[1].values.copy()
    values[:100, 2] = np.nan
    found = classification_study(fits, parts[1].with_values(values), parts[0], "label")
    assert len(found.probabilities["true"]) == len(parts[1]) - 100


def test_a_numeric_target_is_refused(parts, fits):
    with pytest.raises(CapabilityError, match="'x' is real"):
        classification_study(fits, parts[1], parts[0], "x")


def test_models_without_embedding_are_passed_over(parts, fits):
    found = representation_study(fits, parts[1], "label")
    assert found.scores == []
    assert found.embeddings == {}


def test_principal_plane_keeps_a_planes_distances():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(50, 2)) * [3, 1]
    turned = flat @ np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    plane = principal_plane(turned)
    apart = [np.linalg.norm(p[:, None] - p[None], axis=2) for p in (turned, plane)]
    assert apart[0] == pytest.approx(apart[1])
    assert plane[:, 0].std() > plane[:, 1].std()
    assert principal_plane(turned[:, :1]).shape == (50, 2)


def test_tables_with_one_kind_of_column(independent):
    rng = np.random.default_rng(0)
    numbers = Table({"x": rng.normal(size=200), "y": rng.normal(size=200)})
    found = fill_study({"m": independent(numbers)}, numbers, numbers, draws=10)
    assert np.isnan(found.scores[0]["accuracy"])
    labels = Table({"a": list("uvwuv" * 40), "b": list("xxyzx" * 40)})
    found = fill_study({"m": independent(labels)}, labels, labels, draws=10)
    assert np.isnan(found.scores[0]["rmse"])
