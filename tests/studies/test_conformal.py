"""P-values that are what they say, and bets that are rarely won without a reason."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

import probgen as pg
from probgen.errors import CapabilityError, DataError
from probgen.studies.conformal import area_under_curve, false_discoveries_held, wealth


@pytest.mark.parametrize("draw", [
    lambda rng, n: rng.normal(size=n), lambda rng, n: rng.standard_cauchy(n), lambda rng, n: rng.integers(0, 4, n),
])  # fmt: skip
def test_p_values_are_never_too_small_on_average(draw):
    rng, n = np.random.default_rng(0), 19
    p = np.array([pg.conformal_p_values(draw(rng, n), draw(rng, 1))[0] for _ in range(4000)])
    for level in (0.05, 0.1, 0.5):
        assert (p <= level + 1e-9).mean() < level + 4 * np.sqrt(level * (1 - level) / 4000)


def test_without_ties_they_are_uniform_on_their_grid():
    rng = np.random.default_rng(1)
    p = np.array([pg.conformal_p_values(rng.normal(size=9), rng.normal(size=1))[0] for _ in range(5000)])
    counts = np.bincount((10 * p).round().astype(int), minlength=11)[1:]
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("levels", [None, 3])
def test_p_values_of_a_stream_are_uniform_and_independent(levels):
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(300, 60)) if levels is None else rng.integers(0, levels, (300, 60)).astype(float)
    p = np.array([pg.online_p_values(row, seed=at) for at, row in enumerate(scores)])
    assert stats.kstest(p[:, [0, 1, 5, 59]].ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(p[:, 30], p[:, 31])[0, 1]) < 4 / np.sqrt(300)


def test_wealth_is_the_integral_over_bets():
    p = np.array([0.02, 0.5, 0.001])
    for count in (1, 2, 3):
        truth, _ = quad(lambda bet, some=p[:count]: np.prod(bet * some ** (bet - 1)), 0, 1)
        assert wealth(p)[count - 1] == pytest.approx(np.log(truth), abs=2e-3)


def test_a_stream_that_does_not_change_raises_few_alarms():
    rng, level = np.random.default_rng(3), 0.3
    alarms = np.array([len(pg.change_points(rng.normal(size=150), level, seed)) for seed in range(600)])
    assert (alarms > 0).mean() < level
    assert (alarms > 1).sum() / (alarms > 0).sum() < level  # of those with one: each begins anew


def test_two_changes_are_dated():
    rng = np.random.default_rng(4)
    stream = rng.normal(size=450) + np.repeat([0.0, 3.0, 8.0], 150)
    found = pg.change_points(stream)
    assert [round(change.start, -1) for change in found] == [150, 300]
    assert all(change.start < change.alarm < change.start + 40 for change in found)


def test_few_of_the_rows_reported_are_in_order():
    rng, level, shares = np.random.default_rng(5), 0.2, []
    for _ in range(200):
        usual, new = rng.normal(size=500), np.r_[rng.normal(size=80), 3 + rng.normal(size=20)]
        held = false_discoveries_held(pg.conformal_p_values(usual, new), level)
        shares.append(held[:80].sum() / max(held.sum(), 1))
    assert np.mean(shares) < level * 0.8 + 4 * np.std(shares) / np.sqrt(
        200
    )  # times the share in order (Bates et al., 2023)
    assert np.mean(shares) > 0.05  # it is not met by reporting nothing


def test_the_area_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(6)
    truth, scores = rng.random(300) < 0.2, rng.integers(0, 9, 300)
    assert area_under_curve(truth, scores) == pytest.approx(roc_auc_score(truth, scores))
    assert np.isnan(area_under_curve([False, False], [1.0, 2.0]))


@pytest.mark.parametrize("call", [
    lambda: pg.conformal_p_values([], [1.0]), lambda: pg.conformal_p_values([1.0], [1.0, np.nan]),
    lambda: pg.change_points([1.0, 2.0], level=1.0), lambda: pg.change_points([1.0], level="x"), lambda: pg.conformal_p_values(["a"], [1.0]), lambda: pg.change_points([1.0, np.nan]),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused(call):
    with pytest.raises((CapabilityError, DataError), match="must"):
        call()
