"""The one logistic regression: its mode is a zero of the gradient, weights are counts, and separation ends."""

import numpy as np

from probgen.studies.ridge_logistic import log_posterior, mode_of

RNG = np.random.default_rng(0)
X = np.column_stack([np.ones(80), RNG.normal(size=(80, 2))])
Y = (RNG.random(80) < 1 / (1 + np.exp(-X @ [0.3, 1.0, -0.5]))).astype(float)
PRECISION = np.array([1e-9, 0.5, 2.0])


def test_the_gradient_is_zero_at_the_mode():
    weights = RNG.exponential(size=80)
    beta, information = mode_of(X, Y, weights, PRECISION)
    p = 1 / (1 + np.exp(-X @ beta))
    np.testing.assert_allclose(X.T @ (weights * (Y - p)) - PRECISION * beta, 0.0, atol=1e-6)
    np.testing.assert_allclose(information, (X.T * (weights * p * (1 - p))) @ X + np.diag(PRECISION), rtol=1e-4)
    for step in np.eye(3) * 1e-3:
        assert log_posterior(beta + step, X, Y, weights, PRECISION) < log_posterior(beta, X, Y, weights, PRECISION)


def test_weights_are_counts():
    twice = np.repeat(np.arange(80), np.where(np.arange(80) < 30, 2, 1))
    weights = np.where(np.arange(80) < 30, 2.0, 1.0)
    one, _ = mode_of(X, Y, weights, PRECISION)
    other, _ = mode_of(X[twice], Y[twice], np.ones(110), PRECISION)
    np.testing.assert_allclose(one, other, atol=1e-7)


def test_separate_classes_have_a_mode_under_a_prior():
    beta, _ = mode_of(X, X[:, 1] > 0, np.ones(80), PRECISION)
    assert np.isfinite(beta).all()
    assert beta[1] > 2
