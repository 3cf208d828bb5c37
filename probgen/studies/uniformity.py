r"""Are ranks uniform? Chi-square over bins, and simultaneous bands of the empirical distribution function.

For R ranks on 0 .. L the count of ranks below each of L points is binomial. The band has the pointwise level at which a
uniform sample leaves it *anywhere* with the stated probability (Säilynoja, Bürkner and Vehtari, 2022), found by simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

__all__ = ["Bands", "bands", "bins", "chi_square", "histogram"]

SIMULATIONS = 10_000
FEWEST = 10.0  # ranks that a bin is to hold on average
MOST_BINS = 32


def bins(draws: int, replicates: int) -> int:
    """How many bins: the most that divide the ``draws + 1`` ranks evenly and hold ranks enough; 2 at least where any do."""
    most = min(MOST_BINS, max(2, int(replicates / FEWEST)))
    return max(number for number in range(1, most + 1) if (draws + 1) % number == 0)


def histogram(ranks: np.ndarray, draws: int) -> np.ndarray:
    """Counts of ranks ``(R,)`` in bins of equal width."""
    number = bins(draws, len(ranks))
    return np.bincount(ranks * number // (draws + 1), minlength=number)


def chi_square(ranks: np.ndarray, draws: int) -> float:
    """Probability, under uniformity, of bins at least as uneven (Talts et al., 2018)."""
    return float(stats.chisquare(histogram(ranks, draws)).pvalue)


@dataclass(frozen=True)
class Bands:
    """What uniform samples of ranks look like.

    Attributes:
        draws: L, the highest rank.
        depths: ``(R + 1, L)``: two-sided binomial tail probability of every count at every point.
        simulated: the smallest such probability of each simulated sample, sorted.
    """

    draws: int
    depths: np.ndarray
    simulated: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """``(L,)``: where the distribution function is looked at, 1 / (L + 1) .. L / (L + 1)."""
        return np.arange(1, self.draws + 1) / (self.draws + 1)

    def p_value(self, ranks: np.ndarray) -> float:
        """Share of uniform samples that come as near to leaving their band as this one."""
        depth = self.depths[below(ranks, self.draws), np.arange(self.draws)].min()
        fewer = np.searchsorted(self.simulated, depth * (1 + 1e-12), side="right")
        return float((1 + fewer) / (1 + len(self.simulated)))

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest shares ``(L,)`` of the band that a uniform sample leaves with probability ``level``."""
        pointwise = np.quantile(self.simulated, level)
        inside = self.depths >= pointwise
        replicates = len(self.depths) - 1
        return inside.argmax(0) / replicates, (replicates - inside[::-1].argmax(0)) / replicates


def below(ranks: np.ndarray, draws: int) -> np.ndarray:
    """``(L,)``: how many ranks lie below 1 .. L."""
    return np.cumsum(np.bincount(ranks, minlength=draws + 1))[:-1]


@cache
def bands(replicates: int, draws: int, simulations: int = SIMULATIONS) -> Bands:
    """For R ranks on 0 .. L; the same every time."""
    points, counts = np.arange(1, draws + 1) / (draws + 1), np.arange(replicates + 1)[:, None]
    low = stats.binom.cdf(counts, replicates, points)
    high = stats.binom.sf(counts - 1, replicates, points)
    depths = np.minimum(1.0, 2 * np.minimum(low, high))
    rng, smallest = np.random.default_rng(0), []
    for _ in range(0, simulations, 1000):
        samples = rng.multinomial(replicates, np.full(draws + 1, 1 / (draws + 1)), size=1000)
        smallest.append(depths[samples.cumsum(1)[:, :-1], np.arange(draws)].min(1))
    return Bands(draws, depths, np.sort(np.concatenate(smallest)))
