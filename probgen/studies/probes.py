r"""What simple readers tell from codes: a linear one and the nearest neighbours (Alain and Bengio, 2017).

Their settings (the strength of shrinkage, the number of neighbours) are chosen inside every training part of a cross-validation, so that the
rows on which they are judged have no say (Varma and Simon, 2006).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from probgen.errors import DataError

__all__ = ["Probe", "linear_probe", "neighbour_probe"]

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of shrinkage, for each row
NEIGHBOURS = (1, 3, 10, 30, 100)
FOLDS, INNER, MOST = 5, 3, 3000  # parts outside and inside, and rows at most

Reader = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # codes, targets, new codes -> what is read


@dataclass(frozen=True)
class Probe:
    """How much a reader tells.

    Attributes:
        score: share of labels told, or of a number's variance (R squared).
        error: standard error, of rows drawn anew.
        measure: "accuracy" or "r2".
        baseline: the same without codes: the most frequent label, or the mean.
        chosen: the setting that most parts chose.
    """

    score: float
    error: float
    measure: str
    baseline: float
    chosen: float


def linear_probe(codes: np.ndarray, target: np.ndarray, discrete: bool, seed: int = 0) -> Probe:
    """Softmax regression of labels ``0, 1, ..``, ridge regression of numbers, on ``(N, L)`` codes."""
    make = softmax_reader if discrete else ridge_reader
    return probed(codes, target, discrete, [(value, make(value)) for value in STRENGTHS], seed)


def neighbour_probe(codes: np.ndarray, target: np.ndarray, discrete: bool, seed: int = 0) -> Probe:
    """The vote, or the mean, of the nearest rows."""
    rows = min(int((~np.isnan(target)).sum()), MOST)
    settings = [k for k in NEIGHBOURS if k < (rows - rows // FOLDS - 1) * (1 - 1 / INNER) - 1] or [1]
    return probed(codes, target, discrete, [(float(k), neighbour_reader(k, discrete)) for k in settings], seed)


def probed(
    codes: np.ndarray, target: np.ndarray, discrete: bool, readers: Sequence[tuple[float, Reader]], seed: int
) -> Probe:
    """Nested cross-validation over rows whose target is known."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(~np.isnan(target)))[:MOST]
    if len(rows) < 2 * FOLDS:
        raise DataError(f"{len(rows)} rows with a known target are too few for a probe; it needs {2 * FOLDS}.")
    x, y = codes[rows], target[rows].astype(int) if discrete else target[rows]
    told, base, chosen = np.empty(len(y)), np.empty(len(y)), []
    parts = np.arange(len(y)) % FOLDS
    for part in range(FOLDS):
        inside, outside = parts != part, parts == part
        setting, reader = best_reader(x[inside], y[inside], discrete, readers)
        chosen.append(setting)
        told[outside] = read(reader, x[inside], y[inside], x[outside])
        base[outside] = np.bincount(y[inside]).argmax() if discrete else y[inside].mean()
    score, error = judged(told, y, discrete)
    most = max(set(chosen), key=chosen.count)
    return Probe(score, error, "accuracy" if discrete else "r2", judged(base, y, discrete)[0], float(most))


def best_reader(x: np.ndarray, y: np.ndarray, discrete: bool, readers: Sequence[tuple[float, Reader]]) -> Any:
    """The reader that tells most of rows left out inside."""
    if len(readers) == 1:
        return readers[0]
    parts = np.arange(len(y)) % INNER
    scores = []
    for _, reader in readers:
        told = np.empty(len(y))
        for part in range(INNER):
            told[parts == part] = read(reader, x[parts != part], y[parts != part], x[parts == part])
        scores.append(judged(told, y, discrete)[0])
    return readers[int(np.argmax(scores))]


def read(reader: Reader, x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """What a reader says of new codes, all on the scale of the codes it learns from."""
    shift, scale = x.mean(0), np.maximum(x.std(0), 1e-12)
    return reader((x - shift) / scale, y, (new - shift) / scale)


def judged(told: np.ndarray, y: np.ndarray, discrete: bool) -> tuple[float, float]:
    """Accuracy or R squared, and its standard error."""
    if discrete:
        right = told == y
        rate = (right.sum() + 2) / (len(y) + 4)  # Agresti and Coull (1998): no error of zero where all are right
        return float(right.mean()), float(np.sqrt(rate * (1 - rate) / (len(y) + 4)))
    left, spread = (told - y) ** 2, max(float(y.var()), 1e-300)
    return float(1 - left.mean() / spread), float(left.std() / spread / np.sqrt(len(y)))


def softmax_reader(strength: float) -> Reader:
    """Multinomial logistic regression at the mode under normal coefficients."""

    def tell(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
        levels, codes = np.unique(y, return_inverse=True)
        if len(levels) == 1:
            return np.full(len(new), levels[0])
        design, hot = np.column_stack([np.ones(len(x)), x]), np.eye(len(levels))[codes]

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            beta = flat.reshape(design.shape[1], -1)
            eta = design @ beta
            eta -= eta.max(1, keepdims=True)
            log_total = np.log(np.exp(eta).sum(1, keepdims=True))
            slope = design.T @ (np.exp(eta - log_total) - hot) / len(x)
            shrunk = strength * beta / 100
            shrunk[0] = 0.0
            value = -((eta - log_total) * hot).sum() / len(x) + (shrunk * beta).sum() / 2
            return value, (slope + shrunk).ravel()

        start = np.zeros(design.shape[1] * len(levels))
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
        eta = np.column_stack([np.ones(len(new)), new]) @ found.reshape(design.shape[1], -1)
        return levels[eta.argmax(1)]

    return tell


def ridge_reader(strength: float) -> Reader:
    """Least squares, slopes shrunk."""

    def tell(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
        gram = x.T @ x + strength * np.eye(x.shape[1])
        return y.mean() + new @ np.linalg.solve(gram, x.T @ (y - y.mean()))

    return tell


def neighbour_reader(neighbours: int, discrete: bool) -> Reader:
    """The nearest rows of those it learns from."""

    def tell(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
        distance = (x**2).sum(1) - 2 * new @ x.T
        near = y[np.argpartition(distance, neighbours - 1, axis=1)[:, :neighbours]]
        if not discrete:
            return near.mean(1)
        votes = np.stack([(near == level).sum(1) for level in range(int(y.max()) + 1)], 1)
        return votes.argmax(1)

    return tell
