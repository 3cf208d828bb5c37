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

__all__ = ["GOOD_ENOUGH", "estimable", "pareto_shape", "smoothed_log_weights", "trusted_shape"]

GOOD_ENOUGH = 0.7
FEWEST = 5  # weights in the tail
GRID, TOGETHER = 30, 2**21  # candidates for the shape of a tail, and numbers that are worked on at a time
PRIOR_WEIGHT, PRIOR_SHAPE = 10.0, 0.5  # of the shape, as many observations as this weight
# log weights below the largest by more say nothing, and their reciprocals overflow
SMALLEST = math.log(np.finfo(float).tiny) / 2


def trusted_shape(draws: int) -> float:
    """The largest k-hat with which so many draws give reliable answers: min(1 - 1 / log10 S, 0.7)."""
    return min(1 - 1 / math.log10(draws), GOOD_ENOUGH) if draws > 1 else -math.inf


def estimable(draws: int) -> bool:
    """True where so many draws have a tail long enough for a shape."""
    return tail_length(draws, 1.0) >= FEWEST


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
    flat -= flat.max(-1, keepdims=True, initial=-np.inf)
    many = tail_length(flat.shape[-1], efficiency)
    rows = max(1, TOGETHER // max(many * (GRID + math.isqrt(max(many, 0))), 1))
    shapes = [smooth_tails(flat[at : at + rows], many) for at in range(0, len(flat), rows)]
    flat -= logsumexp(flat, axis=-1, keepdims=True)
    return flat.reshape(weights.shape), np.concatenate([np.empty(0), *shapes]).reshape(weights.shape[:-1])


def pareto_shape(log_weights: ArrayLike, efficiency: float = 1.0) -> np.ndarray:
    """K-hat of log weights ``(..., S)``."""
    return smoothed_log_weights(log_weights, efficiency)[1]


def tail_length(draws: int, efficiency: float) -> int:
    """How many of the largest weights are smoothed: min(S / 5, 3 sqrt(S / efficiency)), at most all but one."""
    return min(math.ceil(min(draws / 5, 3 * math.sqrt(draws / efficiency))), draws - 1)


def smooth_tails(flat: np.ndarray, many: int) -> np.ndarray:
    """Smooth the largest log weights of rows ``(R, S)``, whose maxima are 0, in place; returns k-hat."""
    shapes = np.where(flat.min(1) == 0.0, -math.inf, math.inf)
    if many < FEWEST:
        return shapes
    cutoff = np.maximum(np.partition(flat, -many - 1, axis=1)[:, -many - 1], SMALLEST)
    above = np.where(shapes > 0, (flat > cutoff[:, None]).sum(1), 0)
    for length in np.unique(above[above >= FEWEST]):  # one for all, but for ties
        rows = np.flatnonzero(above == length)
        shapes[rows] = smooth_together(flat, rows, cutoff[rows, None], int(length))
    return shapes


def smooth_together(flat: np.ndarray, rows: np.ndarray, cutoff: np.ndarray, length: int) -> np.ndarray:
    """Smooth tails of one length."""
    places = np.argsort(flat[rows], axis=1)[:, -length:]
    shape, scale = fit_pareto(np.exp(np.take_along_axis(flat[rows], places, 1)) - np.exp(cutoff))
    middles = np.arange(0.5, length) / length
    smooth = np.log(pareto_quantile(middles, shape[:, None], scale[:, None]) + np.exp(cutoff))
    fitted = np.isfinite(shape)
    flat[rows[fitted, None], places[fitted]] = np.minimum(smooth, 0.0)[fitted]
    return shape


def fit_pareto(excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shapes and scales ``(R,)`` of generalised Pareto distributions from ascending excesses ``(R, n)`` (Zhang and Stephens, 2009)."""
    n = excess.shape[-1]
    grid = GRID + math.isqrt(n)
    b = 1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
    b = b / (3 * excess[:, [int(n / 4 + 0.5) - 1]]) + 1 / excess[:, -1:]  # (R, G)
    k = np.log1p(-b[..., None] * excess[:, None]).mean(-1)
    profile = n * (np.log(-b / k) - k - 1)
    weights = np.exp(profile - logsumexp(profile, axis=1, keepdims=True))
    weights = np.where(weights >= 10 * np.finfo(float).eps, weights, 0.0)
    best = (b * weights).sum(1) / weights.sum(1)
    shape = np.log1p(-best[:, None] * excess).mean(1)
    return (n * shape + PRIOR_WEIGHT * PRIOR_SHAPE) / (n + PRIOR_WEIGHT), -shape / best


def pareto_quantile(probability: np.ndarray, shape: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Quantiles of generalised Pareto distributions."""
    flat = np.abs(shape) < np.finfo(float).eps
    some = np.where(flat, 1.0, shape)
    return np.where(flat, -scale * np.log1p(-probability), scale * np.expm1(-some * np.log1p(-probability)) / some)
