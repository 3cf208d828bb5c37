"""Convergence diagnostics and smoothed weights against ArviZ, closed forms and independent draws."""

import numpy as np
import pytest

from probgen.errors import CapabilityError
from probgen.inference import diagnostics as d
from probgen.inference.pareto import pareto_shape, smoothed_log_weights, trusted_shape


def autoregressive(chains, draws, size, strength, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(chains, draws, size))
    for t in range(1, draws):
        x[:, t] += strength * x[:, t - 1]
    return x


@pytest.fixture(scope="module")
def arviz(arviz):
    if int(arviz.__version__.split(".")[0]) >= 1:
        pytest.skip("the functions on arrays moved in ArviZ 1")
    arviz.utils.Numba.disable_numba()  # its error of the standard deviation fails with NumPy 2.4
    return arviz


DRAWS = {
    "slow": autoregressive(4, 250, 3, 0.9),
    "anticorrelated": autoregressive(4, 201, 3, -0.7),
    "independent": autoregressive(16, 51, 3, 0.0),
    "apart": autoregressive(4, 100, 3, 0.3) + np.array([0, 0, 0, 2.0])[:, None, None],
    "wider": autoregressive(4, 100, 3, 0.3) * np.array([1, 1, 1, 4.0])[:, None, None],
    "heavy": np.random.default_rng(1).standard_cauchy((4, 200, 3)),
    "counts": np.random.default_rng(1).poisson(2.0, (4, 120, 3)),
    "one chain": autoregressive(1, 300, 3, 0.5),
    "short": autoregressive(8, 5, 3, 0.5),
}


@pytest.mark.parametrize("x", DRAWS.values(), ids=DRAWS)
def test_equal_to_arviz(arviz, x):
    ours = {
        ("rhat", "rank"): d.split_rhat(x),
        ("ess", "bulk"): d.effective_sample_size(x),
        ("ess", "tail"): d.tail_effective_sample_size(x),
        ("ess", "mean"): d.mean_effective_sample_size(x),
        ("mcse", "mean"): d.mean_error(x),
        ("mcse", "sd"): d.sd_error(x),
    }
    for (name, method), found in ours.items():
        if name == "rhat" and len(x) == 1:
            continue  # ArviZ refuses one chain; ours compares its halves
        expected = [np.squeeze(getattr(arviz, name)(x[..., p], method=method)) for p in range(x.shape[-1])]
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=f"{name} {method}")
    for probability in (0.1, 0.5):
        expected = [np.squeeze(arviz.mcse(x[..., p], method="quantile", prob=probability)) for p in range(x.shape[-1])]
        np.testing.assert_allclose(d.quantile_error(x, probability), expected, rtol=1e-6)
    np.testing.assert_allclose(d.energy_fraction(x[..., 0]), arviz.bfmi(np.asarray(x[..., 0], float)), rtol=1e-6)


def test_known_effective_sample_size():
    """An AR(1) chain has n (1 - a) / (1 + a) effective draws of its mean."""
    for strength in (0.0, 0.5, 0.9):
        size = d.mean_effective_sample_size(autoregressive(32, 2000, 20, strength)).mean()
        assert size == pytest.approx(64_000 * (1 - strength) / (1 + strength), rel=0.05)


def test_the_folded_part_sees_scales():
    assert d.split_rhat(DRAWS["wider"]).min() > 1.1
    assert d.split_rhat(DRAWS["independent"]).max() < 1.05


def test_shapes_and_what_cannot_be_judged():
    x = np.stack([np.zeros((4, 50)), np.repeat(np.arange(4.0)[:, None], 50, 1), np.full((4, 50), np.nan)], -1)
    found = d.split_rhat(x)
    assert np.isnan(found[0])
    assert found[1] > 1e6
    assert np.isnan(found[2])
    assert d.effective_sample_size(np.zeros((4, 50, 2, 3))).shape == (2, 3)
    assert np.isnan(d.split_rhat(np.zeros((4, 3)))).all()
    with pytest.raises(CapabilityError, match="chains, draws"):
        d.split_rhat(np.zeros(5))


def test_nested_rhat():
    """Equal to its definition, near 1 for many chains of few draws, and large where superchains differ."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 5, 3))
    assert d.nested_rhat(x, 16).max() < 1.1
    apart = x + np.repeat(rng.normal(size=(16, 1, 3)), 4, 0)
    found = d.nested_rhat(apart, 16)
    assert found.min() > 1.2
    z = d.ranked(apart)[..., 0].reshape(16, 4, 5)
    between = z.mean((1, 2)).var(ddof=1)
    within = np.mean([g.mean(1).var(ddof=1) + np.mean([c.var(ddof=1) for c in g]) for g in z])
    assert found[0] == pytest.approx(np.sqrt(1 + between / within))
    with pytest.raises(CapabilityError, match="superchains"):
        d.nested_rhat(x, 7)


@pytest.mark.parametrize("efficiency", [1.0, 0.4, 1.3])
def test_smoothed_weights_equal_arviz(arviz, efficiency):
    rng = np.random.default_rng(0)
    heavy = rng.standard_t(3, (6, 1000)) * np.array([0.1, 0.5, 1, 2, 4, 0.0])[:, None]
    heavy[1, :300] = heavy[1].max()  # ties at the top
    weights, shapes = smoothed_log_weights(heavy, efficiency)
    expected, expected_shapes = arviz.psislw(heavy.copy(), efficiency)
    np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(shapes[:-1], expected_shapes[:-1], rtol=1e-6)
    assert shapes[-1] == -np.inf  # equal weights are no alarm here; ArviZ has no tail to fit and says infinity


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_the_shape_of_a_known_tail(k):
    """Weights u^-k have a Pareto tail of shape k."""
    u = np.random.default_rng(0).random((20, 20_000))
    assert pareto_shape(-k * np.log(u)).mean() == pytest.approx(k, abs=0.05)
    assert trusted_shape(100) == 0.5
    assert trusted_shape(10**6) == 0.7
