r"""Pareto-smoothed importance weights (PSIS; Vehtari, Simpson, Gelman, Yao and Gabry, 2024).

The largest weights of a row are replaced by quantiles of a generalised Pareto distribution that is fitted to them. Its shape
:math:`\hat k` says whether the weights can be trusted: below 0.5 their variance is finite, above 0.7 (for fewer than about
2 000 draws above :math:`1 - 1 / \log_{10} S`) no practical number of draws gives a good answer.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

__all__ = ["GOOD_ENOUGH", "pareto_shape", "smoothed_log_weights", "trusted_shape"]

GOOD_ENOUGH = 0.7
FEWEST = 5  # weights in the tail
PRIOR_WEIGHT, PRIOR_SHAPE = 10.0, 0.5  # of the shape, as many observations as this weight
SMALLEST = math.log(np.finfo(float).tiny)


def trusted_shape(draws: int) -> float:
    """The largest k-hat with which so many draws give reliable answers: min(1 - 1 / log10 S, 0.7)."""
    return min(1 - 1 / math.log10(draws), GOOD_ENOUGH) if draws > 1 else -math.inf


def smoothed_log_weights(log_weights: ArrayLike, efficiency: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed log weights that sum to one over draws, and k-hat, row by row.

    Args:
        log_weights: ``(..., S)`` unnormalised log weights of S draws.
        efficiency: effective sample size of the draws divided by their number (below 1 for chains).

    Returns:
        ``(..., S)`` normalised smoothed log weights, and ``(...)`` shapes; the shape is infinite where there are too few
        different weights to fit a tail, and minus infinite where all are equal: nothing is lost by them.
    """
    weights = np.array(log_weights, dtype=float)
    flat = weights.reshape(-1, weights.shape[-1])
    flat -= flat.max(-1, keepdims=True)
    many = tail_length(flat.shape[-1], efficiency)
    shapes = np.array([smooth_tail(row, many) for row in flat])
    flat -= logsumexp(flat, axis=-1, keepdims=True)
    return flat.reshape(weights.shape), shapes.reshape(weights.shape[:-1])


def pareto_shape(log_weights: ArrayLike, efficiency: float = 1.0) -> np.ndarray:
    """K-hat of log weights ``(..., S)``."""
    return smoothed_log_weights(log_weights, efficiency)[1]


def tail_length(draws: int, efficiency: float) -> int:
    """How many of the largest weights are smoothed: min(S / 5, 3 sqrt(S / efficiency)), at most all but one."""
    return min(math.ceil(min(draws / 5, 3 * math.sqrt(draws / efficiency))), draws - 1)


def smooth_tail(row: np.ndarray, many: int) -> float:
    """Smooth the largest log weights of a row, whose maximum is 0, in place; returns k-hat."""
    if row.min() == 0.0:
        return -math.inf
    if many < FEWEST:
        return math.inf
    cutoff = max(np.partition(row, -many - 1)[-many - 1], SMALLEST)
    places = np.flatnonzero(row > cutoff)
    if len(places) < FEWEST:
        return math.inf
    places = places[np.argsort(row[places])]
    shape, scale = fit_pareto(np.exp(row[places]) - math.exp(cutoff))
    if math.isfinite(shape):
        middles = np.arange(0.5, len(places)) / len(places)
        row[places] = np.minimum(np.log(pareto_quantile(middles, shape, scale) + math.exp(cutoff)), 0.0)
    return shape


def fit_pareto(excess: np.ndarray) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution from ascending excesses (Zhang and Stephens, 2009)."""
    n = len(excess)
    grid = 30 + math.isqrt(n)
    b = 1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
    b = b / (3 * excess[int(n / 4 + 0.5) - 1]) + 1 / excess[-1]
    k = np.log1p(-b[:, None] * excess).mean(1)
    profile = n * (np.log(-b / k) - k - 1)
    weights = np.exp(profile - logsumexp(profile))
    weights = np.where(weights >= 10 * np.finfo(float).eps, weights, 0.0)
    best = float(b @ weights / weights.sum())
    shape = float(np.log1p(-best * excess).mean())
    return (n * shape + PRIOR_WEIGHT * PRIOR_SHAPE) / (n + PRIOR_WEIGHT), -shape / best


def pareto_quantile(probability: np.ndarray, shape: float, scale: float) -> np.ndarray:
    """Quantiles of the generalised Pareto distribution."""
    if abs(shape) < np.finfo(float).eps:
        return -scale * np.log1p(-probability)
    return scale * np.expm1(-shape * np.log1p(-probability)) / shape
