"""What the models learnt: embeddings of the rows, probed for the target, beside the data themselves and principal components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from probgen.data.batches import Standardiser, features
from probgen.data.table import Table
from probgen.errors import DataError
from probgen.queries import Fit
from probgen.queries.latent_posterior import posterior_draws
from probgen.studies.disentanglement import by_quantiles, disentanglement
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

            With ``factors``, ``mig``, ``sap``, ``dci``, ``completeness`` and ``informativeness`` of the codes (``pg.disentanglement``). With ``draws``, of
            models whose codes have a posterior, ``unsure``, the share of the codes' variance that is the posterior's, and ``linear_drawn`` and
            ``neighbours_drawn``, the mean of the probes' scores over draws of the codes, with ``linear_drawn_sd`` and ``neighbours_drawn_sd`` over them.
        uncertainty: model -> ``(N, L)`` posterior standard deviations of the codes, where there are draws.
    """

    embeddings: dict[str, np.ndarray]
    projection: dict[str, np.ndarray]
    scores: list[dict[str, Any]]
    uncertainty: dict[str, np.ndarray] = field(default_factory=dict)


def representation_study(
    fits: Mapping[str, Fit],
    table: Table,
    target: str | None = None,
    seed: int = 0,
    *,
    factors: Sequence[str] = (),
    draws: int = 0,
) -> RepresentationStudy:
    """Embed a table, its target hidden so that no embedding can repeat it, and judge what the embeddings hold.

    Args:
        fits: by name; those that do not embed are passed over.
        table: the rows.
        target: a column that embeddings are probed for.
        seed: of the folds, and of draws.
        factors: columns that are known to have made the rows. They are hidden from the models, and codes are judged by whether each has a latent of its own.
        draws: of the codes from their posterior, which the probes read one by one; none unless told.
    """
    hidden = [*([] if target is None else [target]), *factors]
    asked = table.hide(*hidden) if hidden else table
    embeds = {name: fit for name, fit in fits.items() if fit.traits.embedding != "none"}
    embeddings = {name: fit.embed(known_to(fit, asked)) for name, fit in embeds.items()}
    projection = {name: principal_plane(values) for name, values in embeddings.items()}
    if not embeddings:
        return RepresentationStudy({}, {}, [])
    read = as_read(table.drop(hidden) if hidden else table)
    middle = sorted(values.shape[1] for values in embeddings.values())[len(embeddings) // 2]
    compared = {**embeddings, COMPONENTS: principal_components(read, middle), DATA: read}
    scores = [{"model": name, **judged(values, read, table, target, seed)} for name, values in compared.items()]
    if factors:
        known = factor_codes(table, factors)
        scores = [record | factor_scores(compared[record["model"]], known) for record in scores]
    drawn = {
        name: posterior_draws(fit, known_to(fit, asked), draws, seed=seed) for name, fit in embeds.items() if draws > 1
    }
    sure = {name: z for name, z in drawn.items() if z is not None}
    scores = [
        record | drawn_scores(sure[record["model"]], table, target, seed) if record["model"] in sure else record
        for record in scores
    ]
    return RepresentationStudy(embeddings, projection, scores, {name: z.std(0, ddof=1) for name, z in sure.items()})


def known_to(fit: Fit, table: Table) -> Table:
    """The table without columns that the model has never heard of."""
    others = [name for name in table.names if name not in fit.schema.names]
    return table.drop(others) if others else table


def factor_codes(table: Table, factors: Sequence[str]) -> np.ndarray:
    """``(N, K)`` whole numbers from 0: levels, numbers by their quantiles; NaN where unknown."""
    values = table.select(list(factors)).values
    if not (~np.isnan(values)).all(1).any():
        raise DataError("There is no row in which all factors are known.")
    found = np.full(values.shape, np.nan)
    for at, name in enumerate(factors):
        known = ~np.isnan(values[:, at])
        column = values[known, at]
        few = table.schema[name].is_discrete or len(np.unique(column)) <= GROUPS
        found[known, at] = np.unique(column, return_inverse=True)[1] if few else by_quantiles(column)
    return found


def factor_scores(codes: np.ndarray, factors: np.ndarray) -> dict[str, float]:
    """Disentanglement, of the rows whose factors are all known."""
    known = ~np.isnan(factors).any(1)
    found = disentanglement(codes[known], factors[known].astype(int))
    return {
        "mig": found.mig, "sap": found.sap, "dci": found.disentanglement, "completeness": found.completeness,
        "informativeness": found.informativeness,
    }  # fmt: skip


def drawn_scores(drawn: np.ndarray, table: Table, target: str | None, seed: int) -> dict[str, float]:
    """Of codes ``(S, N, L)`` drawn from their posterior."""
    within = drawn.var(0, ddof=1).mean()
    found = {"unsure": float(within / max(drawn.reshape(-1, drawn.shape[-1]).var(0).mean(), 1e-300))}
    if target is None or np.isfinite(table.values[:, table.schema.index(target)]).sum() < LEAST:
        return found
    values, discrete = table.values[:, table.schema.index(target)], table.schema[target].is_discrete
    for name, probe in (("linear", linear_probe), ("neighbours", neighbour_probe)):
        told = [probe(codes, values, discrete, seed).score for codes in drawn]
        found |= {f"{name}_drawn": float(np.mean(told)), f"{name}_drawn_sd": float(np.std(told, ddof=1))}
    return found


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
