"""Classification by a joint density: the target is hidden and asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.queries import class_probabilities

__all__ = ["ClassificationStudy", "calibration_error", "classification_study", "reliability"]

BASELINE = "majority"


@dataclass(frozen=True, eq=False)
class ClassificationStudy:
    """How well the hidden target is predicted.

    Attributes:
        levels: labels of the target.
        scores: one record a model: accuracy, log loss, Brier score, expected calibration error, in bins of as many rows (``adaptive_ece``) and by level (``classwise_ece``) too.
        reliability: model -> bins with mean confidence, accuracy and count.
        confusion: model -> ``(L, L)`` counts, truth in rows.
        probabilities: model -> ``(rows, L)``.
    """

    levels: tuple
    scores: list[dict[str, Any]]
    reliability: dict[str, list[dict[str, float]]]
    confusion: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray]

    def __str__(self) -> str:
        lines = [f"{'model':<28}{'accuracy':>10}{'log loss':>10}{'Brier':>8}{'ECE':>8}"]
        for s in self.scores:
            lines.append(
                f"{s['model']:<28}{s['accuracy']:>10.3f}{s['log_loss']:>10.3f}{s['brier']:>8.3f}{s['ece']:>8.3f}"
            )
        return "\n".join(lines)


def classification_study(fits: Mapping[str, Any], test: Table, train: Table, target: str) -> ClassificationStudy:
    """Predict the target of rows that the fits have not seen.

    Args:
        fits: by name; ensembles and class-conditional fits too.
        test: rows whose target is hidden and asked for; those where it is unknown are left out.
        train: rows that the fits have seen, for the shares of the levels.
        target: a discrete column.

    Raises:
        CapabilityError: the target is not a discrete column.
    """
    column = test.schema[target]
    if not column.is_discrete:
        raise CapabilityError(f"Classification needs a discrete target; {target!r} is {column.kind}.")
    place = test.schema.index(target)
    rows = test.take(test.known[:, place])
    truth = rows.values[:, place].astype(int)
    levels = len(column.levels)
    known = train.values[train.known[:, place], place].astype(int)
    share = (np.bincount(known, minlength=levels) + 1.0) / (len(known) + levels)
    found = {name: class_probabilities(fit, rows.hide(target), target) for name, fit in fits.items()}
    found[BASELINE] = np.tile(share, (len(rows), 1))
    return ClassificationStudy(
        column.levels,
        [score(name, p, truth) for name, p in found.items()],
        {name: reliability(p, truth) for name, p in found.items()},
        {name: confusion(p, truth, levels) for name, p in found.items()},
        found,
    )


def score(name: str, probabilities: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    chosen = probabilities[np.arange(len(truth)), truth]
    onehot = np.eye(probabilities.shape[1])[truth]
    return {
        "model": name,
        "accuracy": float((probabilities.argmax(1) == truth).mean()),
        "log_loss": float(-np.log(np.maximum(chosen, 1e-12)).mean()),
        "brier": float(((probabilities - onehot) ** 2).sum(1).mean()),
        "ece": calibration_error(probabilities, truth),
        "adaptive_ece": adaptive_calibration_error(probabilities, truth),
        "classwise_ece": classwise_calibration_error(probabilities, truth),
    }


def reliability(probabilities: np.ndarray, truth: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Confidence against accuracy of the chosen level, in equal bins of confidence."""
    confidence, hit = probabilities.max(1), probabilities.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "confidence": float(confidence[place == b].mean()),
            "accuracy": float(hit[place == b].mean()),
            "count": int((place == b).sum()),
        }
        for b in range(bins)
        if (place == b).any()
    ]


def calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error (Naeini, Cooper and Hauskrecht, 2015)."""
    found = reliability(probabilities, truth, bins)
    total = sum(b["count"] for b in found)
    return float(sum(b["count"] * abs(b["confidence"] - b["accuracy"]) for b in found) / max(total, 1))


def adaptive_calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """The same in bins of as many rows each (Nguyen and O'Connor, 2015)."""
    confidence, hit = probabilities.max(1), probabilities.argmax(1) == truth
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(truth)))
    gaps = [len(part) * abs(confidence[part].mean() - hit[part].mean()) for part in parts]
    return float(sum(gaps) / max(len(truth), 1))


def classwise_calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """The mean over levels of the error of each level's own probabilities (Kull et al., 2019)."""
    found = []
    for level in range(probabilities.shape[1]):
        p, true = probabilities[:, level], truth == level
        place = np.minimum((p * bins).astype(int), bins - 1)
        count = np.bincount(place, minlength=bins)
        gap = np.abs(np.bincount(place, p, bins) - np.bincount(place, true, bins))
        found.append(gap.sum() / max(count.sum(), 1))
    return float(np.mean(found))


def confusion(probabilities: np.ndarray, truth: np.ndarray, levels: int) -> np.ndarray:
    found = np.zeros((levels, levels), dtype=int)
    np.add.at(found, (truth, probabilities.argmax(1)), 1)
    return found
