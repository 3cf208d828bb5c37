"""Scores of probabilistic answers: ensembles of draws and class probabilities."""

from __future__ import annotations

import numpy as np

__all__ = [
    "brier",
    "crps",
    "expected_calibration_error",
    "intervals",
    "log_loss",
    "pit",
    "reliability",
]


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    r"""The continuous ranked probability score by draws, unbiased whatever their number.

    .. math:: \frac1m \sum_i |x_i - y| - \frac{1}{2m(m-1)} \sum_{ij} |x_i - x_j|

    Args:
        draws: ``(m, cells)``, m > 1.
        truth: ``(cells,)``.

    Returns:
        ``(cells,)``, in the units of the truth; smaller is better.

    Reference: Ferro (2014), the fair ensemble score.

    Example:
        >>> crps(np.array([[0.0], [2.0]]), np.array([1.0]))
        array([0.])
    """
    m = len(draws)
    ordered = np.sort(draws, axis=0)
    weights = 2 * np.arange(m)[:, None] - m + 1  # sum over pairs of |x_i - x_j|, by ranks
    spread = (weights * ordered).sum(0) / (m * (m - 1))
    return np.abs(draws - truth).mean(0) - spread


def intervals(draws: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Central intervals whose nominal coverage of one more draw is ``level``.

    Quantiles by plotting position k/(m+1), so that few draws do not make the interval too narrow.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0, method="weibull")
    return low, high


def pit(draws: np.ndarray, truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """Rank of the truth among the draws, in (0, 1), ties broken at random; uniform if calibrated.

    Reference: Dawid (1984).
    """
    m = len(draws)
    below, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    jitter = np.random.default_rng(seed).random(draws.shape[1])
    return (below + jitter * (equal + 1)) / (m + 1)


def log_loss(probabilities: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """``(N,)``: -log p(true level), in nats; at most 745, where the probability underflows."""
    chosen = probabilities[np.arange(len(codes)), codes]
    return -np.log(np.maximum(chosen, np.finfo(float).smallest_subnormal))


def brier(probabilities: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """``(N,)``: squared distance between the probabilities and the truth; 0 best, 2 worst.

    Reference: Brier (1950).
    """
    truth = np.eye(probabilities.shape[1])[codes]
    return np.square(probabilities - truth).sum(1)


def reliability(probabilities: np.ndarray, codes: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Stated confidence against the share that was right, in bins of equal counts.

    Confidence is the probability of the most probable level.

    Returns:
        Bins with ``confidence``, ``accuracy``, ``se`` and ``count``, by rising confidence.
    """
    confidence = probabilities.max(1)
    right = (probabilities.argmax(1) == codes).astype(float)
    order = np.argsort(confidence, kind="stable")
    parts = [p for p in np.array_split(order, min(bins, max(1, len(order) // 5))) if len(p)]
    return [
        {
            "confidence": float(confidence[part].mean()),
            "accuracy": float(right[part].mean()),
            "se": wilson_error(float(right[part].sum()), len(part)),
            "count": len(part),
        }
        for part in parts
    ]


def wilson_error(successes: float, n: int) -> float:
    """Half the width of a 68 % interval for a share, sensible at 0 and 1 too.

    Reference: Wilson (1927).
    """
    p = successes / n
    return float(np.sqrt(p * (1 - p) / n + 0.25 / n**2) / (1 + 1 / n))


def expected_calibration_error(probabilities: np.ndarray, codes: np.ndarray, bins: int = 10) -> float:
    """Mean distance between confidence and accuracy over the bins of :func:`reliability`.

    Reference: Naeini, Cooper and Hauskrecht (2015).
    """
    found = reliability(probabilities, codes, bins)
    total = sum(b["count"] for b in found)
    return sum(b["count"] * abs(b["confidence"] - b["accuracy"]) for b in found) / total
