"""The one value that a formula's missing ingredient must have had."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["FOUND", "NOT_MONOTONE", "NO_VALUE", "solve"]

FOUND, NO_VALUE, NOT_MONOTONE = 0, 1, 2
GRID, WIDENINGS, HALVINGS = 33, 60, 200


def solve(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    wanted: np.ndarray,
    observed: tuple[float, float],
    support: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """X with f(x) = wanted in every row, by bisection, for an f that rises or falls all along.

    Args:
        function: f of (places of rows, x in those rows), both ``(n,)``.
        wanted: ``(n,)``.
        observed: where to look first; the range is widened towards the support until it holds the answer.
        support: what x can be.

    Returns:
        ``(n,)`` x, NaN where there is none, and why: ``FOUND``, ``NO_VALUE``, ``NOT_MONOTONE``.
    """
    rows = np.arange(len(wanted))
    low, high = np.full(len(wanted), observed[0]), np.full(len(wanted), observed[1])
    for _ in range(WIDENINGS):
        short = ~bracketed(function, rows, wanted, low, high)
        if not short.any():
            break
        low[short], high[short] = widened(low[short], high[short], support)
    status = np.where(bracketed(function, rows, wanted, low, high), FOUND, NO_VALUE)
    grid = low + np.linspace(0, 1, GRID)[:, None] * (high - low)
    with np.errstate(all="ignore"):
        slopes = np.sign(np.diff(np.stack([function(rows, x) for x in grid]), axis=0))
    status[~(np.all(slopes == slopes[0], 0) & (slopes[0] != 0))] = NOT_MONOTONE
    found = bisected(function, rows, wanted, low, high)
    return np.where(status == FOUND, found, np.nan), status


def bracketed(
    function: Callable, rows: np.ndarray, wanted: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Whether f is below what is wanted at one end and above it at the other."""
    with np.errstate(all="ignore"):
        return (function(rows, low) - wanted) * (function(rows, high) - wanted) <= 0


def widened(low: np.ndarray, high: np.ndarray, support: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Twice the range, as far as the support goes."""
    width = np.maximum(high - low, 1e-6 * (1 + np.abs(low)))
    return np.maximum(low - width / 2, support[0]), np.minimum(high + width / 2, support[1])


def bisected(
    function: Callable, rows: np.ndarray, wanted: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    with np.errstate(all="ignore"):
        ends = [(end, function(rows, end) == wanted) for end in (low, high)]
        rising = function(rows, high) >= function(rows, low)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = (function(rows, middle) < wanted) == rising
            low, high = np.where(below, middle, low), np.where(below, high, middle)
    found = (low + high) / 2
    for end, exact in ends:
        found = np.where(exact, end, found)
    return found
