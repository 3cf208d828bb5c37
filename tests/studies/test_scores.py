"""Scores against closed forms."""

import numpy as np
import pytest
from scipy.stats import norm

from probgen.studies.classification import calibration_error, confusion, reliability
from probgen.studies.filled_cells import crps, numeric_scores
from probgen.studies.paired import paired


def gaussian_crps(mean, sd, y):
    """Gneiting and Raftery (2007), equation 21."""
    z = (y - mean) / sd
    return sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))


@pytest.mark.parametrize("m", [2, 5, 400])
def test_crps_of_a_gaussian_ensemble_is_unbiased(m):
    """The mean over many cells is within 4 standard errors of the closed form, even with two draws."""
    rng = np.random.default_rng(m)
    cells = 40_000 if m < 100 else 4_000
    for y in (0.0, 1.7):
        found = crps(rng.normal(0.5, 2.0, (m, cells)), np.full(cells, y))
        assert abs(found.mean() - gaussian_crps(0.5, 2.0, y)) < 4 * found.std() / np.sqrt(cells)


def test_crps_by_the_double_sum():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=3)
    pairs = np.abs(x[:, None] - x[None]).sum((0, 1))
    assert crps(x, y) == pytest.approx(np.abs(x - y).mean(0) - pairs / (2 * 7 * 6))


def test_coverage_of_a_known_gaussian():
    """Truth and draws from one law: coverage within 4 binomial errors (and the 1/m of sample quantiles)."""
    rng = np.random.default_rng(1)
    found = numeric_scores(rng.normal(size=20_000), rng.normal(size=(400, 20_000)), 1.0)
    for level in (0.5, 0.9):
        error = 4 * np.sqrt(level * (1 - level) / 20_000) + 1 / 400
        assert abs(found[f"coverage{100 * level:.0f}"] - level) < error
    assert found["width90"] == pytest.approx(2 * norm.ppf(0.95), rel=0.02)
    assert found["rmse"] == pytest.approx(1.0, abs=0.03)


def test_narrow_draws_cover_too_little():
    rng = np.random.default_rng(2)
    found = numeric_scores(rng.normal(size=5_000), 0.5 * rng.normal(size=(200, 5_000)), 1.0)
    assert found["coverage90"] == pytest.approx(2 * norm.cdf(0.5 * norm.ppf(0.95)) - 1, abs=0.03)


def test_paired_error_by_hand():
    a, b = np.array([1.0, 2.0, 4.0, 8.0]), np.array([1.5, 1.0, 3.0, 3.0])
    d = [-0.5, 1.0, 1.0, 5.0]
    mean = sum(d) / 4
    found = paired(a, b)
    assert found.difference == pytest.approx(mean)
    assert found.standard_error == pytest.approx((sum((x - mean) ** 2 for x in d) / 3 / 4) ** 0.5)
    assert found.within_noise


def test_pairing_takes_out_what_is_common():
    rng = np.random.default_rng(3)
    rows = 100 * rng.normal(size=500)
    found = paired(rows + 0.5 + 0.1 * rng.normal(size=500), rows)
    assert not found.within_noise
    assert found.standard_error < 0.01


def test_equal_scores_have_no_difference():
    found = paired(np.ones(10), np.ones(10))
    assert (found.difference, found.standard_error) == (0.0, 0.0)


def test_a_calibrated_forecaster_has_no_calibration_error():
    rng = np.random.default_rng(4)
    p = rng.dirichlet([1.0, 1.0, 1.0], 50_000)
    truth = (rng.random((50_000, 1)) > p.cumsum(1)[:, :-1]).sum(1)
    assert calibration_error(p, truth) < 0.01


def test_an_overconfident_forecaster_has_it():
    rng = np.random.default_rng(5)
    truth = rng.integers(2, size=20_000)
    said = np.where(rng.random(20_000) < 0.7, truth, 1 - truth)
    p = np.full((20_000, 2), 0.05)
    p[np.arange(20_000), said] = 0.95
    assert calibration_error(p, truth) == pytest.approx(0.25, abs=0.02)


def test_bins_count_every_row_and_confusion_too():
    rng = np.random.default_rng(6)
    p, truth = rng.dirichlet([1.0, 1.0], 300), rng.integers(2, size=300)
    assert sum(b["count"] for b in reliability(p, truth)) == 300
    counts = confusion(p, truth, 2)
    assert counts.sum() == 300
    assert counts.trace() == (p.argmax(1) == truth).sum()
