"""Convergence of chains: split R-hat and effective sample size (Vehtari et al., 2021), on plain arrays."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

__all__ = ["effective_sample_size", "split_rhat"]


def halves(draws: np.ndarray) -> np.ndarray:
    """Each chain cut in two: (chains, draws, ...) -> (2 chains, draws // 2, ...)."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]], 0)


def ranked(draws: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks over all chains."""
    flat = draws.reshape(-1, *draws.shape[2:])
    return ndtri((rankdata(flat, axis=0) - 0.375) / (len(flat) + 0.25)).reshape(draws.shape)


def split_rhat(draws: np.ndarray) -> np.ndarray:
    """Rank-normalised split R-hat of ``(chains, draws, ...)``; 1 where chains agree."""
    if draws.shape[1] < 4:
        return np.full(draws.shape[2:], np.nan)
    z = ranked(halves(draws))
    within, between = z.var(1, ddof=1).mean(0), z.mean(1).var(0, ddof=1)
    n = z.shape[1]
    return np.sqrt(((n - 1) / n * within + between) / np.maximum(within, 1e-300))


def effective_sample_size(draws: np.ndarray) -> np.ndarray:
    """Bulk effective sample size of ``(chains, draws, ...)`` by Geyer's initial positive sequence."""
    if draws.shape[1] < 4:
        return np.full(draws.shape[2:], np.nan)
    z = ranked(halves(draws))
    chains, n = z.shape[:2]
    covariance = autocovariance(z)  # (chains, n, ...)
    within = covariance[:, 0].mean(0) * n / (n - 1)
    between = z.mean(1).var(0, ddof=1) if chains > 1 else 0.0
    total = within * (n - 1) / n + between
    rho = 1 - (within - covariance.mean(0) * n / (n - 1)) / np.maximum(total, 1e-300)
    pairs = rho[: n // 2 * 2].reshape(n // 2, 2, *rho.shape[1:]).sum(1)
    positive = np.cumprod(pairs > 0, axis=0)
    pairs = np.minimum.accumulate(np.where(positive, pairs, 0.0), axis=0)
    time = np.maximum(-1 + 2 * pairs.sum(0), 1 / np.log10(chains * n))
    return chains * n / time


def autocovariance(z: np.ndarray) -> np.ndarray:
    """Biased autocovariance of each chain at every lag, by the fast Fourier transform."""
    n = z.shape[1]
    centred = z - z.mean(1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * n, axis=1)
    return np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :n] / n
