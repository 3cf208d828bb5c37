"""Logistic regression with a normal prior, at its mode."""

from __future__ import annotations

import numpy as np

__all__ = ["log_posterior", "mode_of"]

NEWTON = 50  # most steps to the mode
ENOUGH = 1e-10  # rise of the log density, of its size, at which the climb ends


def log_posterior(beta: np.ndarray, x: np.ndarray, y: np.ndarray, weights: np.ndarray, precision: np.ndarray) -> float:
    r"""Log density of coefficients, up to a constant: :math:`\sum_i w_i \log p(y_i \mid x_i^\top \beta) - \tfrac12 \sum_j \lambda_j \beta_j^2`."""
    eta = x @ beta
    return float(weights @ (y * eta - np.logaddexp(0.0, eta)) - 0.5 * precision @ beta**2)


def mode_of(x: np.ndarray, y: np.ndarray, weights: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mode and information there, by Newton's method with halved steps: the density is concave.

    Args:
        x: ``(N, P)``.
        y: ``(N,)`` zeros and ones.
        weights: ``(N,)``.
        precision: ``(P,)`` of the prior around zero.
    """
    beta = np.zeros(x.shape[1])
    value = log_posterior(beta, x, y, weights, precision)
    for _ in range(NEWTON):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -500, 500)))
        slope = x.T @ (weights * (y - p)) - precision * beta
        information = (x.T * (weights * p * (1 - p))) @ x + np.diag(precision)
        step, length = np.linalg.solve(information, slope), 1.0
        while (found := log_posterior(beta + length * step, x, y, weights, precision)) < value and length > 1e-6:
            length /= 2
        beta, gain, value = beta + length * step, found - value, found
        if gain < ENOUGH * (1 + abs(value)):
            break
    return beta, information
