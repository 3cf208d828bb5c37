r"""Whether short chains, of which one draw each is taken, have settled.

Such chains need not mix well: what matters is that their ends are draws from where they lead, whatever they began with.
They have settled where they agree by R-hat, as far as so few draws can tell, or where they move slowly but go nowhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import f as fisher_f
from scipy.stats import t as student_t

from probgen.inference.diagnostics import split_rhat

__all__ = ["Agreement", "drift", "later", "rhat_limit"]

FAR_APART = 1.2  # R-hat
RARELY = 0.01  # how often chains that agree are taken for some that do not
DRIFTS, MAY_DRIFT = 1e-3, 0.05  # p-values below which chains that are apart have not settled, or should go on
FEWEST_CHAINS, FEWEST_DRAWS = 5, 8  # that tell whether they drift; whether they agree


def later(series: np.ndarray, axis: int = 0) -> np.ndarray:
    """Without the first third, the way there."""
    return np.asarray(series).take(range(series.shape[axis] // 3, series.shape[axis]), axis)


def rhat_limit(draws: int, chains: int, series: int) -> float:
    r"""R-hat above which chains are apart: 1.2, or what chains that agree exceed once in a hundred times.

    With n draws in each of h half chains, :math:`\hat R^2 = (n - 1 + F) / n`, where F has h - 1 and h (n - 1) degrees of
    freedom.

    Args:
        draws: of every chain.
        chains: how many.
        series: of how many numbers the largest R-hat is taken.
    """
    n, halves = draws // 2, 2 * chains
    if chains < 2 or draws < FEWEST_DRAWS:
        return float("inf")
    by_chance = fisher_f.isf(RARELY / (2 * max(series, 1)), halves - 1, halves * (n - 1))
    return float(max(FAR_APART, ((n - 1 + by_chance) / n) ** 0.5))


def drift(draws: ArrayLike) -> float:
    r"""How sure it is that chains have not settled: a p-value over all that moves, from the two halves of every chain.

    Chains of which one draw each is taken need not mix well, but what they draw must have the same mean and the same spread in
    both halves. With a and b a chain's means in them, the mean of :math:`a - b` is judged by Student's test, equality of
    variances by the correlation of :math:`a - b` and :math:`a + b` (Pitman, 1939; Morgan, 1939). Chains are independent, so
    that their own autocorrelation does not matter.

    Args:
        draws: ``(chains, draws, ...)``; NaN for fewer than five chains.
    """
    x = np.asarray(draws, dtype=float).reshape(*np.shape(draws)[:2], -1)
    chains, half = len(x), x.shape[1] // 2
    if chains < FEWEST_CHAINS or half < 1:
        return float("nan")
    first, second = x[:, :half].mean(1), x[:, half : 2 * half].mean(1)
    apart, total = first - second, first + second
    moving = (apart.std(0) > 0) & (total.std(0) > 0)
    apart, total = apart[:, moving], total[:, moving]
    if not apart.size:
        return float("nan")
    by_mean = student_t.sf(np.abs(apart.mean(0)) / apart.std(0, ddof=1) * chains**0.5, chains - 1)
    together = ((apart - apart.mean(0)) * (total - total.mean(0))).mean(0) / (apart.std(0) * total.std(0))
    ratio = np.abs(together) * ((chains - 2) / np.maximum(1 - together**2, 1e-12)) ** 0.5
    found = np.concatenate([by_mean, student_t.sf(ratio, chains - 2)])
    return float(min(1.0, 2 * found.min() * len(found)))


class Agreement:
    """Of chains ``(chains, draws, ...)``, later part.

    Attributes:
        rhat: the largest of all series that move; not a number where it cannot be told.
        limit: see :func:`rhat_limit`.
        drift: see :func:`drift`.
    """

    def __init__(self, draws: ArrayLike, series: int | None = None) -> None:
        x = np.asarray(draws, dtype=float)
        x = x.reshape(*x.shape[:2], -1)
        self.limit = rhat_limit(x.shape[1], len(x), x.shape[2] if series is None else series)
        self.rhat = self.drift = float("nan")
        if np.isfinite(self.limit) and x.shape[2]:
            found = split_rhat(x)
            self.rhat = float(np.nanmax(found)) if np.isfinite(found).any() else float("nan")
            self.drift = drift(x)

    @property
    def settled(self) -> bool:
        """False where chains are apart, and drift or are too few to tell."""
        return not self.apart or self.drift >= DRIFTS

    @property
    def may_drift(self) -> bool:
        """False where a drift would have been seen by now."""
        return not self.drift >= MAY_DRIFT

    @property
    def apart(self) -> bool:
        """Whether R-hat is larger than chance explains."""
        return self.rhat > self.limit
