"""What the models learnt: embeddings of the rows, seen in two dimensions and probed for the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.queries import Fit

__all__ = ["RepresentationStudy", "nearest_neighbour_accuracy", "principal_plane", "representation_study"]


@dataclass(frozen=True, eq=False)
class RepresentationStudy:
    """Embeddings of every row.

    Attributes:
        embeddings: model -> ``(N, L)``.
        projection: model -> ``(N, 2)``, the two directions of largest variance.
        scores: one record a model: dimensions, and how often the ten nearest neighbours tell a row's target.
    """

    embeddings: dict[str, np.ndarray]
    projection: dict[str, np.ndarray]
    scores: list[dict[str, Any]]


def representation_study(fits: Mapping[str, Fit], table: Table, target: str | None = None) -> RepresentationStudy:
    """Embed the table with the target hidden, so that the embedding cannot simply repeat it."""
    asked = table if target is None else table.hide(target)
    embeddings = {name: fit.embed(asked) for name, fit in fits.items() if fit.traits.embedding != "none"}
    projection = {name: principal_plane(values) for name, values in embeddings.items()}
    scores = []
    for name, values in embeddings.items():
        accuracy = None
        if target is not None and table.schema[target].is_discrete:
            labels = table.values[:, table.schema.index(target)]
            known = ~np.isnan(labels)
            accuracy = nearest_neighbour_accuracy(values[known], labels[known].astype(int))
        scores.append({"model": name, "dimensions": int(values.shape[1]), "knn_accuracy": accuracy})
    return RepresentationStudy(embeddings, projection, scores)


def principal_plane(values: np.ndarray) -> np.ndarray:
    """Coordinates on the first two principal components; the second is zero for one-dimensional embeddings."""
    centred = values - values.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ directions[:2].T
    return plane if plane.shape[1] == 2 else np.column_stack([plane, np.zeros(len(plane))])


def nearest_neighbour_accuracy(
    values: np.ndarray, labels: np.ndarray, neighbours: int = 10, most: int = 5000
) -> float:
    """Leave-one-out accuracy of the vote of the nearest neighbours."""
    values, labels = values[:most], labels[:most]
    neighbours = min(neighbours, len(values) - 1)
    squares = (values**2).sum(1)
    distance = squares[:, None] + squares - 2 * values @ values.T
    np.fill_diagonal(distance, np.inf)
    near = labels[np.argpartition(distance, neighbours - 1, axis=1)[:, :neighbours]]
    votes = np.stack([(near == level).sum(1) for level in range(labels.max() + 1)], 1)
    return float((votes.argmax(1) == labels).mean())
