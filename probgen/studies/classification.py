"""Predict a discrete column by hiding it: p(target | the other known cells)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import DataError, FitError
from probgen.studies.comparison import Difference, compare, mean_with_error
from probgen.studies.scoring import brier, expected_calibration_error, log_loss, reliability
from probgen.studies.training import said

__all__ = ["CLASS_SHARES", "ClassificationScore", "ClassificationStudy", "classification_study"]

CLASS_SHARES = "class shares"
"""Label of the baseline: the training rows' shares, whatever the row says."""


@dataclass(frozen=True)
class ClassificationScore:
    """One model as a classifier.

    Attributes:
        model: label.
        accuracy, accuracy_se: share of rows whose most probable level is the true one.
        log_loss, log_loss_se: of the true level, nats.
        brier: squared distance to the truth, 0 to 2.
        ece: expected calibration error.
        ece_if_calibrated: the median that a perfectly calibrated forecaster with these probabilities would show on
            so many rows; an ``ece`` near it is as good as calibrated.
        difference: paired difference in log loss to the best model.
    """

    model: str
    accuracy: float
    accuracy_se: float
    log_loss: float
    log_loss_se: float
    brier: float
    ece: float
    ece_if_calibrated: float
    difference: Difference


@dataclass(frozen=True, eq=False)
class ClassificationStudy:
    """Classification of held-out rows.

    Attributes:
        target: the column.
        levels: its labels, in code order.
        scores: one entry a model, best log loss first.
        probabilities: label -> ``(N, L)``.
        truth: ``(N,)`` codes.
        reliability: label -> bins of confidence and accuracy.
        confusion: label -> ``(L, L)`` counts, rows true, columns predicted.
        failures: label -> why there is no score.
    """

    target: str
    levels: tuple
    scores: tuple[ClassificationScore, ...]
    probabilities: dict[str, np.ndarray]
    truth: np.ndarray
    reliability: dict[str, list[dict[str, float]]]
    confusion: dict[str, np.ndarray]
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The label of the best model, the baseline left out."""
        return next(s.model for s in self.scores if s.model != CLASS_SHARES)

    def score(self, model: str) -> ClassificationScore:
        """The entry of a model."""
        return next(s for s in self.scores if s.model == model)

    def __str__(self) -> str:
        width = max(len(s.model) for s in self.scores)
        lines = [f"{'model':{width}}  accuracy  log loss   Brier     ECE"]
        lines += [
            f"{s.model:{width}} {s.accuracy:9.3f} {s.log_loss:9.3f} {s.brier:7.3f} {s.ece:7.3f}" for s in self.scores
        ]
        return "\n".join(lines + [f"{name}: {why}" for name, why in self.failures.items()])


def classification_study(
    fits: Mapping[str, Any], test: Table, target: str, *, train: Table | None = None, bins: int = 10
) -> ClassificationStudy:
    """Classify rows by the joint density at every level.

    Args:
        fits: label -> fit; each knows the target as one of its columns.
        test: rows that no fit has seen; those whose target is unknown are left out.
        target: a discrete column.
        train: rows whose class shares make the baseline; without them there is none.
        bins: of the reliability curve.

    Raises:
        DataError: the target is not discrete, or unknown in all rows.
        FitError: no model could classify.
    """
    column = test.schema[target]
    if not column.is_discrete:
        raise DataError(f"classification needs a discrete target; {target!r} is {column.kind}.")
    place = test.schema.index(target)
    labelled = test.take(test.known[:, place])
    if len(labelled) == 0:
        raise DataError(f"The target {target!r} is unknown in all rows of the test table.")
    truth = labelled.values[:, place].astype(int)
    found, failures = probabilities_of(fits, labelled, target)
    if train is not None:
        found[CLASS_SHARES] = class_shares(train, target, len(truth))
    losses = {name: log_loss(p, truth) for name, p in found.items()}
    differences = compare(losses, higher_is_better=False)
    order = sorted(differences, key=lambda name: losses[name].mean())
    return ClassificationStudy(
        target=target,
        levels=column.levels,
        scores=tuple(score_of(name, found[name], truth, differences[name], bins) for name in order),
        probabilities={name: found[name] for name in order},
        truth=truth,
        reliability={name: reliability(found[name], truth, bins) for name in order},
        confusion={name: confusion(found[name], truth) for name in order},
        failures=failures,
    )


def probabilities_of(
    fits: Mapping[str, Any], table: Table, target: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Class probabilities by label; models that cannot tell are in the second mapping."""
    from probgen.queries import class_probabilities

    found, failures = {}, {}
    hidden = table.hide(target)
    for name, fit in fits.items():
        try:
            p = class_probabilities(fit, hidden, target)
            if not np.isfinite(p).all():
                raise FitError("the class probabilities of some rows are not numbers")
            found[name] = p
        except Exception as error:
            failures[name] = said(error)
    if not found:
        reasons = "; ".join(f"{name}: {message}" for name, message in failures.items())
        raise FitError(f"No model could classify {target!r}. {reasons}")
    return found, failures


def class_shares(train: Table, target: str, rows: int) -> np.ndarray:
    """``(rows, L)``: the same shares for all, none of them zero."""
    place, levels = train.schema.index(target), len(train.schema[target].levels)
    codes = train.values[train.known[:, place], place].astype(int)
    counts = np.bincount(codes, minlength=levels) + 1 / levels
    return np.tile(counts / counts.sum(), (rows, 1))


def score_of(name: str, p: np.ndarray, truth: np.ndarray, difference: Difference, bins: int) -> ClassificationScore:
    """One line of the comparison."""
    right = (p.argmax(1) == truth).astype(float)
    accuracy, accuracy_se = mean_with_error(right)
    loss, loss_se = mean_with_error(log_loss(p, truth))
    return ClassificationScore(
        model=name,
        accuracy=accuracy,
        accuracy_se=accuracy_se,
        log_loss=loss,
        log_loss_se=loss_se,
        brier=float(brier(p, truth).mean()),
        ece=expected_calibration_error(p, truth, bins),
        ece_if_calibrated=calibrated_error(p, bins),
        difference=difference,
    )


def calibrated_error(p: np.ndarray, bins: int, repeats: int = 200, seed: int = 0) -> float:
    """Median expected calibration error when labels are drawn from the probabilities themselves."""
    rng = np.random.default_rng(seed)
    edges = p.cumsum(1)[:, :-1]
    labels = ((rng.random((len(p), 1)) > edges).sum(1) for _ in range(repeats))
    return float(np.median([expected_calibration_error(p, codes, bins) for codes in labels]))


def confusion(p: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """``(L, L)`` counts: rows true, columns predicted."""
    counts = np.zeros((p.shape[1], p.shape[1]), dtype=int)
    np.add.at(counts, (truth, p.argmax(1)), 1)
    return counts
