r"""How far draws can be trusted: convergence of chains and Monte Carlo errors, on plain arrays ``(chains, draws, ...)``.

All functions work on many parameters at once. With n draws in each of M chains, W the mean of the chains' variances and
B/n the variance of their means,

.. math:: \hat R = \sqrt{\frac{n - 1}{n} + \frac{B / n}{W}}, \qquad
          n_\mathrm{eff} = \frac{M n}{-1 + 2 \sum_t \hat\rho_t},

on halves of chains and on normal scores of ranks (Vehtari, Gelman, Simpson, Carpenter and Bürkner, 2021). A parameter with
a value that is not finite, or with fewer than four draws a chain, gets NaN; so does the R-hat of what never moves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri
from scipy.stats import beta

from probgen.errors import CapabilityError

__all__ = [
    "effective_sample_size",
    "energy_fraction",
    "mean_effective_sample_size",
    "mean_error",
    "nested_rhat",
    "quantile_error",
    "sd_error",
    "split_rhat",
    "tail_effective_sample_size",
]

FEWEST_DRAWS = 4
TAILS = (0.05, 0.95)
ONE_ERROR = (0.1586553, 0.8413447)  # probabilities of a Gaussian one standard deviation below and above its mean


def over_parameters(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """A function of ``(chains, draws, P)`` as one of ``(chains, draws, ...)``, NaN for what has too little to go on."""

    @wraps(function)
    def of_any_shape(draws: ArrayLike, *arguments: Any, **options: Any) -> np.ndarray:
        x = np.asarray(draws, dtype=float)
        if x.ndim < 2:
            raise CapabilityError(f"Draws need the shape (chains, draws, ...), got {x.shape}.")
        flat = x.reshape(*x.shape[:2], -1)
        found, usable = np.full(flat.shape[2], np.nan), np.isfinite(flat).all((0, 1))
        if x.shape[1] >= FEWEST_DRAWS and usable.any():
            with np.errstate(divide="ignore", invalid="ignore"):  # of what never moves
                found[usable] = function(flat[..., usable], *arguments, **options)
        return found.reshape(x.shape[2:])

    return of_any_shape


# -------------------------------------------------------------------------------------------------- agreement of chains
@over_parameters
def split_rhat(draws: np.ndarray) -> np.ndarray:
    """Rank-normalised split R-hat, the larger of those of the bulk and of the folded draws; 1 where chains agree.

    It sees chains that differ in location (bulk) and chains that differ in scale (folded: distances from the median).
    """
    parts = halves(draws)
    folded = np.abs(parts - np.median(flattened(parts), axis=1))
    return np.maximum(plain_rhat(ranked(parts)), plain_rhat(ranked(folded)))


def plain_rhat(z: np.ndarray) -> np.ndarray:
    n = z.shape[1]
    return np.sqrt((n - 1) / n + z.mean(1).var(0, ddof=1) / z.var(1, ddof=1).mean(0))


def nested_rhat(draws: ArrayLike, superchains: int) -> np.ndarray:
    r"""R-hat for many short chains (Margossian et al., 2022): of superchains, groups of chains with a common start.

    .. math:: \hat R_\nu = \sqrt{1 + \hat B_\nu / \hat W_\nu}

    with B the variance of the superchains' means, and W the mean over superchains of the variance between the means of
    their chains plus the mean variance within these, all on normal scores of ranks. It can be near 1 after few draws.

    Args:
        draws: ``(chains, draws, ...)``, the chains of a superchain next to each other.
        superchains: how many groups there are; they have equally many chains.

    Raises:
        CapabilityError: the chains cannot be divided into so many groups, or there are fewer than two.
    """
    chains = np.shape(draws)[0]
    if superchains < 2 or chains % superchains:
        raise CapabilityError(
            f"{chains} chains cannot be divided into {superchains} superchains: give a divisor of {chains} of at least 2."
        )
    return nested_rhat_of_groups(draws, superchains)


@over_parameters
def nested_rhat_of_groups(draws: np.ndarray, superchains: int) -> np.ndarray:
    z = ranked(draws).reshape(superchains, -1, *draws.shape[1:])  # (superchains, chains, draws, P)
    means = z.mean(2)
    among = means.var(1, ddof=1) if z.shape[1] > 1 else np.zeros_like(means[:, 0])
    within = (among + z.var(2, ddof=1).mean(1)).mean(0)
    return np.sqrt(1 + means.mean(1).var(0, ddof=1) / within)


# ------------------------------------------------------------------------------------------------ effective sample sizes
@over_parameters
def effective_sample_size(draws: np.ndarray) -> np.ndarray:
    """Bulk effective sample size: how many independent draws tell as much of the location."""
    return geyer(ranked(halves(draws)))


@over_parameters
def tail_effective_sample_size(draws: np.ndarray) -> np.ndarray:
    """The smaller effective sample size of the 5 % and of the 95 % quantile."""
    return np.minimum(*(size_of_quantile(draws, tail) for tail in TAILS))


@over_parameters
def mean_effective_sample_size(draws: np.ndarray) -> np.ndarray:
    """Effective sample size of the mean, without ranks."""
    return geyer(halves(draws))


def size_of_quantile(draws: np.ndarray, probability: float) -> np.ndarray:
    """That of the share of draws below the quantile."""
    return geyer(halves((draws <= np.quantile(draws, probability, axis=(0, 1))).astype(float)))


def geyer(z: np.ndarray) -> np.ndarray:
    """Geyer's initial monotone sequence (1992) over all chains of ``(chains, draws, P)``."""
    chains, n = z.shape[:2]
    covariance = mean_autocovariance(z)  # (n, P)
    within = covariance[0] * n / (n - 1)
    total = within * (n - 1) / n + (z.mean(1).var(0, ddof=1) if chains > 1 else 0.0)
    rho = 1 - (within - covariance) / total
    rho[0] = 1.0
    last = max(0, (n - 4) // 2 if n % 2 == 0 else (n - 3) // 2)  # of the pairs of lags that are looked at
    even, pairs = rho[0 : 2 * last + 1 : 2], rho[0 : 2 * last + 2].reshape(last + 1, 2, -1).sum(1)
    ends = np.vstack([pairs[:-1] <= 0, np.ones((1, z.shape[2]), dtype=bool)]).argmax(
        0
    )  # the first pair that is left out
    kept = np.arange(last + 1)[:, None] < ends
    time = -1 + 2 * np.where(kept, np.minimum.accumulate(pairs, 0), 0.0).sum(0)
    time += np.maximum(np.take_along_axis(even, ends[None], 0)[0], 0.0)
    moves = np.ptp(z, axis=(0, 1)) >= np.finfo(float).resolution
    return np.where(moves, chains * n / np.maximum(time, 1 / np.log10(chains * n)), chains * n)


def mean_autocovariance(z: np.ndarray) -> np.ndarray:
    """``(n, P)``: biased autocovariance at every lag, the mean over chains, by the fast Fourier transform."""
    n = z.shape[1]
    length = next_fast_len(2 * n, real=True)
    spectrum = rfft(z - z.mean(1, keepdims=True), length, axis=1)
    return irfft((spectrum.real**2 + spectrum.imag**2).mean(0), length, axis=0)[:n] / n


# ---------------------------------------------------------------------------------------------------- Monte Carlo errors
@over_parameters
def mean_error(draws: np.ndarray) -> np.ndarray:
    """Monte Carlo standard error of the mean: the standard deviation over the root of the effective sample size."""
    return draws.reshape(-1, draws.shape[2]).std(0, ddof=1) / np.sqrt(geyer(halves(draws)))


@over_parameters
def sd_error(draws: np.ndarray) -> np.ndarray:
    """Monte Carlo standard error of the standard deviation, by the delta method on squared distances from the mean."""
    squares = (draws - draws.mean((0, 1))) ** 2
    variance = squares.mean((0, 1))
    spread = (squares**2).mean((0, 1)) - variance**2
    return np.sqrt(spread / geyer(halves(squares)) / variance / 4)


@over_parameters
def quantile_error(draws: np.ndarray, probability: float) -> np.ndarray:
    """Monte Carlo standard error of a quantile: half the distance of the order statistics one standard error away."""
    size = size_of_quantile(draws, probability)
    ordered = np.sort(draws.reshape(-1, draws.shape[2]), 0)
    total, which = len(ordered), np.arange(draws.shape[2])
    low, high = (beta.ppf(p, size * probability + 1, size * (1 - probability) + 1) * total - 1 for p in ONE_ERROR)
    first = np.floor(np.maximum(low, 0)).astype(int)
    final = np.ceil(np.minimum(high, total - 1)).astype(int)
    return (ordered[final, which] - ordered[first, which]) / 2


def energy_fraction(energy: ArrayLike) -> np.ndarray:
    """Energy's fraction of missing information (E-BFMI; Betancourt, 2016) of each chain, from energies ``(chains, draws)``.

    Below about 0.3 the momenta do not explore the range of energies, so that tails are badly seen.
    """
    e = np.atleast_2d(np.asarray(energy, dtype=float))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.square(np.diff(e, axis=1)).mean(1) / e.var(1, ddof=1)


# -------------------------------------------------------------------------------------------------------------- the parts
def halves(draws: np.ndarray) -> np.ndarray:
    """Each chain cut in two: (chains, draws, P) -> (2 chains, draws // 2, P)."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]], 0)


def ranked(draws: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks over all chains (Blom, 1958)."""
    scores = normal_scores(flattened(draws))
    return np.ascontiguousarray(scores.T).reshape(draws.shape)


def flattened(draws: np.ndarray) -> np.ndarray:
    """``(P, chains x draws)``: sorting is quicker along what lies together in memory."""
    return np.ascontiguousarray(draws.reshape(-1, draws.shape[2]).T)


def normal_scores(flat: np.ndarray) -> np.ndarray:
    """Of ranks from 1 along the last axis, their mean where values are tied."""
    order, n = flat.argsort(1), flat.shape[1]
    ordered = np.take_along_axis(flat, order, 1)
    rises = ordered[:, 1:] != ordered[:, :-1]
    place = np.arange(1.0, n + 1)
    ranks = place if rises.all() else places_of_ties(place, rises)
    scores = ndtri((ranks - 0.375) / (n + 0.25))
    found = np.empty_like(flat)
    np.put_along_axis(found, order, np.broadcast_to(scores, flat.shape), 1)
    return found


def places_of_ties(place: np.ndarray, rises: np.ndarray) -> np.ndarray:
    """Mean places of what is tied in ordered rows, each of which rises or not from place to place."""
    edge = np.ones((len(rises), 1), dtype=bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, rises]), place, 0.0), 1)
    final = np.minimum.accumulate(np.where(np.hstack([rises, edge]), place, np.inf)[:, ::-1], 1)[:, ::-1]
    return (first + final) / 2
