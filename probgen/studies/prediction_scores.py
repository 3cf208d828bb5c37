"""Answers about a hidden target, and what they are worth: of levels as probabilities, of numbers as draws with their density."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from probgen.studies.classification import score
from probgen.studies.filled_cells import crps

__all__ = ["Forecast", "answer_scores", "area_under_risk", "log_scores", "mixed_answers", "risk_coverage", "taken"]

IMPOSSIBLE = 1e-12


@dataclass(frozen=True, eq=False)
class Forecast:
    """What is said of numbers.

    Attributes:
        mean: ``(N,)``.
        draws: ``(m, N)``.
        log_density: ``(N,)`` of the true values, in nats and the target's units.
    """

    mean: np.ndarray
    draws: np.ndarray
    log_density: np.ndarray


Answer = np.ndarray | Forecast  # probabilities (N, L), or a forecast


def log_scores(answer: Answer, truth: np.ndarray) -> np.ndarray:
    """``(N,)`` log density, or log probability, of what was true."""
    if isinstance(answer, Forecast):
        return answer.log_density
    return np.log(np.maximum(answer[np.arange(len(truth)), truth.astype(int)], IMPOSSIBLE))


def answer_scores(answer: Answer, truth: np.ndarray) -> dict[str, float]:
    """Of levels those of :func:`probgen.classification_study`; of numbers RMSE, CRPS, log loss and the coverage of 90 % intervals."""
    if isinstance(answer, Forecast):
        low, high = np.quantile(answer.draws, [0.05, 0.95], axis=0)
        return {
            "log_loss": float(-answer.log_density.mean()),
            "rmse": float(np.sqrt(((answer.mean - truth) ** 2).mean())),
            "crps": float(crps(answer.draws, truth).mean()),
            "coverage90": float(((truth >= low) & (truth <= high)).mean()),
        }
    found = score("", answer, truth.astype(int))
    return {key: value for key, value in found.items() if key != "model"}


def mixed_answers(answers: Sequence[Answer], weights: np.ndarray) -> Answer:
    """A weighted mean of distributions; of draws, as many of each as its weight says."""
    if not isinstance(answers[0], Forecast):
        return np.tensordot(weights, np.stack([np.asarray(a) for a in answers]), 1)
    forecasts: list[Any] = list(answers)
    count = len(forecasts[0].draws)
    edges = np.round(np.cumsum(weights) * count).astype(int)
    draws = np.concatenate([f.draws[a:b] for f, a, b in zip(forecasts, [0, *edges[:-1]], edges, strict=True)])
    with np.errstate(divide="ignore"):
        density = logsumexp(np.log(weights)[:, None] + np.stack([f.log_density for f in forecasts]), axis=0)
    return Forecast(weights @ np.stack([f.mean for f in forecasts]), draws, density)


def taken(answers: Sequence[Answer]) -> Answer:
    """Answers about one group of rows after the other."""
    if not isinstance(answers[0], Forecast):
        return np.concatenate([np.asarray(a) for a in answers])
    parts: list[Any] = list(answers)
    return Forecast(
        np.concatenate([p.mean for p in parts]),
        np.concatenate([p.draws for p in parts], 1),
        np.concatenate([p.log_density for p in parts]),
    )


def risk_coverage(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the rows answered, those with the highest confidence first, and the share of errors among them (El-Yaniv and Wiener, 2010).

    Rows of the same confidence are answered together: in their order each counts as their mean.

    Example:
        >>> coverage, risk = risk_coverage(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]))
        >>> coverage.tolist(), risk.tolist()
        ([0.5, 1.0], [0.0, 0.5])
    """
    confidence, wrong = probabilities.max(1), (probabilities.argmax(1) != truth).astype(float)
    _, group = np.unique(-confidence, return_inverse=True)
    wrong = (np.bincount(group, wrong) / np.bincount(group))[group][np.argsort(group, kind="stable")]
    answered = np.arange(1, len(truth) + 1)
    return answered / len(truth), np.cumsum(wrong) / answered


def area_under_risk(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean share of errors over all shares of rows answered (Geifman and El-Yaniv, 2017); smaller is better."""
    return float(risk_coverage(probabilities, truth)[1].mean())
