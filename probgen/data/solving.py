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
    inside = bracketed(function, rows, wanted, low, high)
    low, high = np.where(inside, low, observed[0]), np.where(inside, high, observed[1])
    status = np.where(inside, FOUND, NO_VALUE)
    status[~monotone(function, rows, low, high)] = NOT_MONOTONE
    found = bisected(function, rows, wanted, low, high)
    return np.where(status == FOUND, found, np.nan), status


def bracketed(
    function: Callable, rows: np.ndarray, wanted: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Whether f is below what is wanted at one end and above it at the other."""
    with np.errstate(all="ignore"):
        return (function(rows, low) - wanted) * (function(rows, high) - wanted) <= 0


def monotone(function: Callable, rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whether f rises, or falls, from each of some points between the ends to the next."""
    grid = low + np.linspace(0, 1, GRID)[:, None] * (high - low)
    with np.errstate(all="ignore"):
        steps = np.sign(np.diff(np.stack([function(rows, x) for x in grid]), axis=0))
    return np.all(steps == steps[0], 0) & (steps[0] != 0)


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
