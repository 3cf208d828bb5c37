"""Pareto smoothed importance sampling (Vehtari, Simpson, Gelman, Yao and Gabry, 2024)."""

from __future__ import annotations

import warnings

import numpy as np

__all__ = ["GOOD", "pareto_khat"]

GOOD = 0.7  # above, importance weights have no useful mean


def pareto_khat(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Smoothed log weights ``(S,)`` that add up to one, and the shape k of their upper tail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the import
        import arviz

    if int(arviz.__version__.split(".")[0]) >= 1:
        from arviz_stats.base import array_stats

        smoothed, khat = array_stats.psislw(-log_weights)  # it takes log likelihoods, the weights of leaving out
    else:
        smoothed, khat = arviz.psislw(log_weights)
    return np.asarray(smoothed), float(khat)
