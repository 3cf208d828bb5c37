"""What the models learnt: embeddings of the rows, probed for the target, beside the data themselves and principal components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from probgen.data.batches import Standardiser, features
from probgen.data.table import Table
from probgen.queries import Fit
from probgen.studies.neighbourhoods import continuity, trustworthiness
from probgen.studies.partitions import adjusted_rand, clustered, normalised_information
from probgen.studies.probes import linear_probe, neighbour_probe

__all__ = ["RepresentationStudy", "principal_plane", "representation_study"]

DATA, COMPONENTS = "the columns", "principal components"  # what embeddings have to be better than
LEAST = 10  # rows with a known target, for probes
GROUPS = 30  # most levels that clusters are compared with


@dataclass(frozen=True, eq=False)
class RepresentationStudy:
    """Embeddings of every row.

    Attributes:
        embeddings: model -> ``(N, L)``.
        projection: model -> ``(N, 2)``, the two directions of largest variance.
        scores: one record for each model, the columns as networks read them, and as many of their principal components as the middle
            one of the embeddings has coordinates:

            ``dimensions``; ``linear`` and ``neighbours``, the share of the target that a probe tells (accuracy, or R squared), with
            ``linear_error``, ``neighbours_error``, ``baseline`` (what is told without codes) and ``measure``; ``ari`` and ``nmi`` of a mixture on the codes with
            the target's levels; ``trustworthiness`` and ``continuity`` of their neighbourhoods.
    """

    embeddings: dict[str, np.ndarray]
    projection: dict[str, np.ndarray]
    scores: list[dict[str, Any]]


def representation_study(
    fits: Mapping[str, Fit], table: Table, target: str | None = None, seed: int = 0
) -> RepresentationStudy:
    """Embed a table, its target hidden so that no embedding can repeat it, and judge what the embeddings hold.

    Args:
        fits: by name; those that do not embed are passed over.
        table: the rows.
        target: a column that embeddings are probed for.
        seed: of the folds.
    """
    asked = table if target is None else table.hide(target)
    embeddings = {name: fit.embed(asked) for name, fit in fits.items() if fit.traits.embedding != "none"}
    projection = {name: principal_plane(values) for name, values in embeddings.items()}
    if not embeddings:
        return RepresentationStudy({}, {}, [])
    read = as_read(table if target is None else table.drop([target]))
    middle = sorted(values.shape[1] for values in embeddings.values())[len(embeddings) // 2]
    compared = {**embeddings, COMPONENTS: principal_components(read, middle), DATA: read}
    scores = [{"model": name, **judged(values, read, table, target, seed)} for name, values in compared.items()]
    return RepresentationStudy(embeddings, projection, scores)


def judged(codes: np.ndarray, read: np.ndarray, table: Table, target: str | None, seed: int) -> dict[str, Any]:
    """All scores of one representation."""
    found: dict[str, Any] = {
        "dimensions": int(codes.shape[1]),
        "trustworthiness": trustworthiness(read, codes),
        "continuity": continuity(read, codes),
    }
    if target is None:
        return found
    column, values = table.schema[target], table.values[:, table.schema.index(target)]
    if (~np.isnan(values)).sum() < LEAST:
        return found
    for name, probe in (("linear", linear_probe), ("neighbours", neighbour_probe)):
        told = probe(codes, values, column.is_discrete, seed)
        found |= {name: told.score, f"{name}_error": told.error, "baseline": told.baseline, "measure": told.measure}
    if column.is_discrete and column.cardinality <= GROUPS:
        known = ~np.isnan(values)
        groups = clustered(codes[known], column.cardinality, seed)
        if groups is not None:
            labels = values[known].astype(int)
            found |= {"ari": adjusted_rand(groups, labels), "nmi": normalised_information(groups, labels)}
    return found


def as_read(table: Table) -> np.ndarray:
    """``(N, F)``: the columns as networks read them, standardised, levels one-hot, holes zero."""
    x = torch.as_tensor(Standardiser.of(table).forward(table.values))
    return features(x, table.schema).nan_to_num().numpy()


def principal_components(values: np.ndarray, count: int) -> np.ndarray:
    """``(N, count)``, or as many as there are."""
    centred = values - values.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return centred @ directions[:count].T


def principal_plane(values: np.ndarray) -> np.ndarray:
    """Coordinates on the first two principal components; the second is zero for one-dimensional embeddings."""
    plane = principal_components(values, 2)
    return plane if plane.shape[1] == 2 else np.column_stack([plane, np.zeros(len(plane))])
