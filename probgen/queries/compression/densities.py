r"""The distribution of one number given the columns before it, from nothing but the model's density.

.. math::
    F(v \mid x_{<d}) = \frac{\int_a^v p(x_{<d}, u)\,du}{\int_a^b p(x_{<d}, u)\,du}

The log density is asked for at knots that every row has of its own: a first set over the whole column, and further ones
where the row's mass turns out to lie. Between knots the logarithm is a line, and its integral is known. Any such density is a proper code;
how near it is to the model's own decides how many bits it costs above :math:`-\log_2 p`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["Piecewise", "first_knots", "fitted_density"]

ROUNDS, MORE = 2, 16  # further sets of knots
LOWEST = -600.0  # of a log density below its row's greatest
SLOPE = 1e-6  # below which a piece is flat


class Piecewise:
    """Densities of rows whose logarithms are lines between knots.

    Args:
        knots: ``(M, K)``, rising.
        heights: ``(M, K)`` log densities there.
    """

    def __init__(self, knots: np.ndarray, heights: np.ndarray) -> None:
        heights = np.where(np.isfinite(heights), heights, -np.inf)
        top = heights.max(1, keepdims=True)
        self.knots = knots
        self.heights = np.maximum(heights - np.where(np.isfinite(top), top, 0.0), LOWEST)
        left, right = self.heights[:, :-1], self.heights[:, 1:]
        self.mass = np.diff(knots, axis=1) * mean_exp(left, right)
        total = np.cumsum(self.mass, 1)
        self.before = np.concatenate([np.zeros((len(knots), 1)), total], 1)

    def cumulative(self, values: np.ndarray) -> np.ndarray:
        """``(M, E)`` integrals up to values, not normalised."""
        last = self.knots.shape[1] - 2
        at = np.clip(count_below(self.knots, values) - 1, 0, last)
        low, high = np.take_along_axis(self.knots, at, 1), np.take_along_axis(self.knots, at + 1, 1)
        left, right = np.take_along_axis(self.heights, at, 1), np.take_along_axis(self.heights, at + 1, 1)
        width = high - low
        share = np.clip((values - low) / np.where(width > 0, width, 1.0), 0.0, 1.0)
        part = width * share * mean_exp(left, left + share * (right - left))
        return np.take_along_axis(self.before, at, 1) + part

    def spread_knots(self, count: int) -> np.ndarray:
        """``(M, count)`` places, half by mass and half by a flattened mass that also reaches the tails."""
        flat = np.diff(self.knots, axis=1) * mean_exp(self.heights[:, :-1] * 0.25, self.heights[:, 1:] * 0.25)
        shares = (np.arange(count // 2) + 0.5) / (count // 2)
        found = []
        for mass in (self.mass, flat):
            total = np.concatenate([np.zeros((len(mass), 1)), np.cumsum(mass, 1)], 1)
            goal = shares * total[:, -1:]
            at = np.clip(count_below(total, goal) - 1, 0, mass.shape[1] - 1)
            size = np.take_along_axis(mass, at, 1)
            within = np.clip((goal - np.take_along_axis(total, at, 1)) / np.where(size > 0, size, 1.0), 0.0, 1.0)
            low, high = np.take_along_axis(self.knots, at, 1), np.take_along_axis(self.knots, at + 1, 1)
            found.append(low + within * (high - low))
        return np.concatenate(found, 1)


def mean_exp(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of the exponential of a line from one height to another, its mean."""
    rise = right - left
    steep = np.abs(rise) > SLOPE
    safe = np.where(steep, rise, 1.0)
    return np.where(steep, (np.exp(right) - np.exp(left)) / safe, np.exp(0.5 * (left + right)))


def count_below(knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``(M, E)``: how many knots of a row lie at or below each value."""
    found = np.zeros(values.shape, np.int64)
    for column in knots.T:  # few knots, many rows
        found += column[:, None] <= values
    return found


def first_knots(low: float, high: float, middle: float, scale: float) -> np.ndarray:
    """``(K,)``: evenly over the column, evenly in its logarithm where it is positive, and densely where most of it lies."""
    even = np.linspace(low, high, 13)
    logs = np.geomspace(max(low, 1e-300), high, 13) if low > 0 else even
    dense = middle + scale * np.sinh(np.linspace(-3, 3, 25)) / 2
    found = np.unique(np.clip(np.concatenate([even, logs, dense]), low, high))
    return np.unique(np.concatenate([found[:1], found[1:-1], [low, high]]))


def fitted_density(log_density: Callable[[np.ndarray], np.ndarray], knots: np.ndarray, rows: int) -> Piecewise:
    """Of every row, with knots where its mass is.

    Args:
        log_density: of ``(M, K)`` values.
        knots: ``(K,)`` of the first look.
        rows: M.
    """
    places = np.broadcast_to(knots, (rows, len(knots))).copy()
    heights = log_density(places)
    for _ in range(ROUNDS):
        more = Piecewise(places, heights).spread_knots(MORE)
        places, heights = np.hstack([places, more]), np.hstack([heights, log_density(more)])
        order = np.argsort(places, 1, kind="stable")
        places, heights = np.take_along_axis(places, order, 1), np.take_along_axis(heights, order, 1)
    return Piecewise(places, heights)
