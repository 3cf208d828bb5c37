"""What do the models' latents say about a row? Embed, project, probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.studies.comparison import mean_with_error
from probgen.studies.training import said

__all__ = [
    "RepresentationScore",
    "RepresentationStudy",
    "nearest_neighbours",
    "principal_components",
    "representation_study",
    "ridge_classifier",
]

FOLDS = 5
NEIGHBOURS = 10


@dataclass(frozen=True)
class RepresentationScore:
    """One model's embedding.

    Attributes:
        model: label.
        size: L, coordinates a row.
        explained: share of the embedding's variance in its first two principal components.
        linear, linear_se: cross-validated accuracy of a linear probe for the target; NaN without one.
        neighbours, neighbours_se: the same for the nearest neighbours' vote.
    """

    model: str
    size: int
    explained: float
    linear: float = float("nan")
    linear_se: float = float("nan")
    neighbours: float = float("nan")
    neighbours_se: float = float("nan")


@dataclass(frozen=True, eq=False)
class RepresentationStudy:
    """Embeddings of a table, the target hidden from the models.

    Attributes:
        scores: one entry a model that embeds; best linear probe first where there is a target.
        embeddings: label -> ``(N, L)``.
        projections: label -> ``(N, 2)``, the first two principal components.
        target: the column that was hidden and probed for.
        labels: ``(N,)`` its labels, None where unknown; None without a target.
        majority: accuracy of always saying the commonest level; NaN without a discrete target.
        probed: rows on which probes were judged.
        failures: label -> why there is no embedding.
    """

    scores: tuple[RepresentationScore, ...]
    embeddings: dict[str, np.ndarray]
    projections: dict[str, np.ndarray]
    target: str | None = None
    labels: np.ndarray | None = None
    majority: float = float("nan")
    probed: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> str | None:
        """The label of the first entry; None where no model embeds."""
        return self.scores[0].model if self.scores else None

    def __str__(self) -> str:
        lines = [
            f"{s.model}: {s.size} coordinates, {s.explained:.0%} of their variance in two;"
            f" linear probe {s.linear:.3f}, neighbours {s.neighbours:.3f}"
            for s in self.scores
        ]
        return "\n".join(lines) or "no model embeds rows"


def representation_study(
    fits: Mapping[str, Any],
    table: Table,
    target: str | None = None,
    *,
    held_out: np.ndarray | None = None,
    seed: int = 0,
) -> RepresentationStudy:
    """Embed rows with their target hidden, and see how much of the target the embedding holds.

    Args:
        fits: label -> fit; those without an embedding are passed over.
        table: rows to embed.
        target: hidden from the models; a discrete one is probed for.
        held_out: places of rows that the fits have not seen, on which probes are judged by cross-validation among
            themselves; all rows where None.
        seed: of the folds.
    """
    hidden = table if target is None else table.hide(target)
    embeddings, failures = embed_all(fits, hidden)
    codes = None
    if target is not None and table.schema[target].is_discrete:
        codes = table.values[:, table.schema.index(target)]
    rows = probe_rows(codes, held_out, len(table))
    scores = [score_of(name, z, codes, rows, seed) for name, z in embeddings.items()]
    if len(rows):
        scores.sort(key=lambda s: -s.linear)
    return RepresentationStudy(
        scores=tuple(scores),
        embeddings=embeddings,
        projections={name: principal_components(z)[0] for name, z in embeddings.items()},
        target=target,
        labels=None if target is None else table.column(target),
        majority=majority_of(codes, rows),
        probed=len(rows),
        failures=failures,
    )


def embed_all(fits: Mapping[str, Any], table: Table) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Embeddings by label; a model that has none is no failure."""
    found, failures = {}, {}
    for name, fit in fits.items():
        try:
            found[name] = np.asarray(fit.embed(table), dtype=float)
        except CapabilityError:
            continue
        except Exception as error:
            failures[name] = said(error)
    return found, failures


def probe_rows(codes: np.ndarray | None, held_out: np.ndarray | None, n: int) -> np.ndarray:
    """Rows with a label; none where folds would be too small to learn from."""
    if codes is None:
        return np.zeros(0, dtype=int)
    rows = np.arange(n) if held_out is None else np.asarray(held_out)
    rows = rows[~np.isnan(codes[rows])]
    enough = len(rows) >= 2 * FOLDS and len(np.unique(codes[rows])) > 1
    return rows if enough else np.zeros(0, dtype=int)


def majority_of(codes: np.ndarray | None, rows: np.ndarray) -> float:
    """Share of the commonest level."""
    if codes is None or len(rows) == 0:
        return float("nan")
    return float(np.unique(codes[rows], return_counts=True)[1].max() / len(rows))


def score_of(name: str, z: np.ndarray, codes: np.ndarray | None, rows: np.ndarray, seed: int) -> RepresentationScore:
    """One embedding."""
    explained = principal_components(z)[1]
    if codes is None or len(rows) == 0:
        return RepresentationScore(name, z.shape[1], explained)
    x, y = z[rows], codes[rows].astype(int)
    linear = mean_with_error(cross_validate(ridge_classifier, x, y, seed))
    near = mean_with_error(cross_validate(nearest_neighbours, x, y, seed))
    return RepresentationScore(name, z.shape[1], explained, *linear, *near)


def principal_components(z: np.ndarray) -> tuple[np.ndarray, float]:
    """``(N, 2)`` coordinates and the share of variance in them; one coordinate gets a zero beside it.

    Signs are fixed: the largest loading of each component is positive.

    Example:
        >>> projected, share = principal_components(np.outer(np.arange(4.0), [3.0, 4.0]))
        >>> projected[:, 0].round(6).tolist(), round(share, 6)
        ([-7.5, -2.5, 2.5, 7.5], 1.0)
    """
    centred = z - z.mean(0)
    _, size, loadings = np.linalg.svd(centred, full_matrices=False)
    loadings = loadings[:2]
    largest = loadings[np.arange(len(loadings)), np.abs(loadings).argmax(1)]
    found = centred @ (loadings * np.where(largest < 0, -1.0, 1.0)[:, None]).T
    if found.shape[1] < 2:
        found = np.column_stack([found, np.zeros(len(z))])
    total = float(np.square(size).sum())
    return found, float(np.square(size[:2]).sum() / total) if total > 0 else 1.0


def cross_validate(classify: Any, x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """``(N,)``: whether each row was classified rightly by the other folds; levels spread over folds."""
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    fold = np.empty(len(y), dtype=int)
    fold[order] = np.arange(len(y)) % FOLDS
    right = np.empty(len(y))
    for k in range(FOLDS):
        test = fold == k
        loc, scale = x[~test].mean(0), x[~test].std(0)
        scaled = (x - loc) / np.where(scale > 1e-12, scale, 1.0)
        right[test] = classify(scaled[~test], y[~test], scaled[test]) == y[test]
    return right


def ridge_classifier(x: np.ndarray, y: np.ndarray, new: np.ndarray, ridge: float = 1.0) -> np.ndarray:
    """Least squares on indicators of the classes, with a ridge; the class with the largest value."""
    classes, codes = np.unique(y, return_inverse=True)
    wide = np.column_stack([x, np.ones(len(x))])
    penalty = ridge * np.eye(wide.shape[1])
    penalty[-1, -1] = 0.0
    weights = np.linalg.solve(wide.T @ wide + penalty, wide.T @ np.eye(len(classes))[codes])
    return classes[(np.column_stack([new, np.ones(len(new))]) @ weights).argmax(1)]


def nearest_neighbours(x: np.ndarray, y: np.ndarray, new: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """The commonest class among the k nearest rows."""
    classes, codes = np.unique(y, return_inverse=True)
    k = min(k, len(x))
    found = []
    for piece in np.array_split(new, max(1, len(new) * len(x) // 2_000_000)):
        far = np.square(piece).sum(1)[:, None] - 2 * piece @ x.T + np.square(x).sum(1)
        near = np.argpartition(far, k - 1, axis=1)[:, :k]
        votes = np.stack([(codes[near] == c).sum(1) for c in range(len(classes))], 1)
        found.append(classes[votes.argmax(1)])
    return np.concatenate(found)
