"""What the imputed cells look like beside the known ones, and how they came about: numbers behind the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.inference.agreement import Agreement, later
from probgen.inference.posterior import Posterior
from probgen.inference.runtime import seed_of
from probgen.studies.multiple_imputation import Imputations
from probgen.studies.rubin import jackknife, moments, rubin
from probgen.studies.scoring import is_nominal

__all__ = ["agreement", "chain_series", "growth", "imputed_cells", "imputed_columns"]

KEPT = 60  # draws of a chain that are looked at
ROWS = 2000  # rows that chains are followed on


# -------------------------------------------------------------------------------------------------------------- columns
def imputed_columns(table: Table, tables: Sequence[Table]) -> list[dict[str, Any]]:
    """One record a column: cells, means and spreads of known and imputed cells, and what lies outside.

    Imputed are the cells that every imputation filled: under a design some may stay missing. ``outside`` is the mean number
    of imputed cells beyond the known values of their column; ``distance`` of labels is the
    largest difference between shares of levels, of numbers that between means in standard deviations; ``fmi`` the fraction
    of missing information of the column's mean, of labels the largest of their shares.
    """
    return [imputed_column(table, tables, place) for place in range(table.n_columns)]


def imputed_column(table: Table, tables: Sequence[Table], place: int) -> dict[str, Any]:
    column, seen, filled = table.schema[place], table.known[:, place], imputed_cells(table, tables, place)
    record: dict[str, Any] = {
        "column": column.name, "kind": column.kind, "known": int(seen.sum()), "unknown": int((~seen).sum()),
        "imputed": int(filled.sum()),
    }  # fmt: skip
    if not filled.any() or not seen.any():
        return record
    known = table.values[seen, place]
    drawn = np.stack([one.values[filled, place] for one in tables])
    whole = np.stack([one.values[seen | filled, place] for one in tables])
    if is_nominal(column.kind):
        levels = np.arange(column.cardinality)
        own, other = (known[:, None] == levels).mean(0), (drawn[..., None] == levels).mean((0, 1))
        fmi = max(fmi_of((whole == level).astype(float)) for level in levels)
        return record | {"distance": float(np.abs(own - other).max()), "fmi": fmi}
    return record | {
        "known_mean": float(known.mean()),
        "known_sd": float(known.std()),
        "imputed_mean": float(drawn.mean()),
        "imputed_sd": float(drawn.std(1).mean()),
        "known_range": (float(known.min()), float(known.max())),
        "imputed_range": (float(drawn.min()), float(drawn.max())),
        "outside": float(((drawn < known.min()) | (drawn > known.max())).sum(1).mean()),
        "distance": float((drawn.mean() - known.mean()) / (known.std() or 1.0)),
        "fmi": fmi_of(whole),
    }


def imputed_cells(table: Table, tables: Sequence[Table], place: int) -> np.ndarray:
    """``(N,)``: the unknown cells of a column that every imputation filled."""
    filled = ~table.known[:, place] & bool(tables)
    for one in tables:
        filled &= ~np.isnan(one.values[:, place])
    return filled


def fmi_of(whole: np.ndarray) -> float:
    """Fraction of missing information of a mean, from completed columns ``(m, N)``."""
    m, n = whole.shape
    if m < 2 or n < 2:
        return float("nan")
    estimate, between = moments(whole.mean(1)[:, None])
    within = (whole.var(1, ddof=1) / n).mean()[None]
    return float(rubin(estimate, within, between, m, n - 1).fmi[0])


# --------------------------------------------------------------------------------------------------------------- chains
def chain_series(imputed: Imputations, most: int = KEPT) -> dict[str, np.ndarray]:
    """Name -> ``(sweeps, chains)``: mean and standard deviation of the imputed cells of each column, where there is a chain.

    Chained equations keep them while they run. Of posterior draws of parameters the cells are drawn
    again, for at most ``most`` draws of each chain, as the model alone draws them. Empty for other methods.
    """
    fit = imputed.fits[0]
    if "traces" in fit.diagnostics:
        return {name: np.asarray(series) for name, series in fit.diagnostics["traces"].items()}
    draws = fit.posterior.shape[1]
    if len(imputed.fits) > 1 or fit.posterior.point or fit.method not in ("gibbs", "chees", "nuts") or draws < 4:
        return {}
    rows = incomplete(imputed.table if imputed.prepared is None else imputed.prepared.model_table())
    if not len(rows):
        return {}
    return redrawn(fit, rows, min(most, draws), seed_of(imputed.seed, "chains") % 2**62)


def incomplete(table: Table) -> Table:
    """At most ``ROWS`` rows with holes, evenly spread."""
    rows = np.flatnonzero(~table.known.all(1)) if table.lengths is None else np.array([], int)
    return table.take(rows[:: max(1, -(-len(rows) // ROWS))])


def redrawn(fit: Any, rows: Table, most: int, seed: int) -> dict[str, np.ndarray]:
    """Cells drawn once for evenly spaced draws of each chain."""
    thin = replace(fit, posterior=thinned(fit.posterior, most))
    chains, draws = thin.posterior.shape
    filled = thin.fill(rows, chains * draws, seed=seed)
    found = {}
    for place in np.flatnonzero(~rows.known.all(0)):
        unknown = ~rows.known[:, place]
        cells = np.stack([one.values[unknown, place] for one in filled]).reshape(chains, draws, -1)
        name = rows.names[place]
        found[f"mean of {name}"] = cells.mean(2).T
        if cells.shape[2] > 1:
            found[f"sd of {name}"] = cells.std(2).T
    return found


def thinned(posterior: Posterior, most: int) -> Posterior:
    """Evenly spaced draws of every chain."""
    at = torch.linspace(0, posterior.shape[1] - 1, most).long()
    return replace(
        posterior,
        parameters={n: {k: v[:, at] for k, v in t.items()} for n, t in posterior.parameters.items()},
        sites={k: v[:, at] for k, v in posterior.sites.items()},
        statistics={},
    )


def agreement(series: np.ndarray, among: int = 1) -> Agreement:
    """Whether chains of a series ``(sweeps, chains)``, one of so many, agree once the way there is over."""
    return Agreement(later(np.asarray(series, dtype=float)).T[..., None], among)


# ----------------------------------------------------------------------------------------------------------- growth in m
def growth(pooled: Any, term: str) -> dict[str, np.ndarray]:
    r"""Pooled numbers of the first 2, 3, ... m imputations, with the Monte-Carlo error that each has left.

    Args:
        pooled: of :func:`probgen.pool`.
        term: name of one.

    Returns:
        ``m``, ``estimate``, ``standard_error`` and ``fmi``, each with ``..._error``: :math:`\sqrt{B / m}` of the estimate, of
        the others the jackknife's, NaN below 3.

    Raises:
        CapabilityError: fewer than 3 imputations.
    """
    if pooled.m < 3:
        raise CapabilityError(f"How numbers settle needs at least 3 imputations, got {pooled.m}.")
    at = pooled.places(term)
    estimates = pooled.estimates[:, at]
    variances = np.diagonal(pooled.covariances, axis1=1, axis2=2)[:, at]
    steps = [grown(estimates[:k], variances[:k], pooled) for k in range(2, pooled.m + 1)]
    found = {name: np.array([step[name] for step in steps]) for name in steps[0]}
    return {"m": np.arange(2, pooled.m + 1), **found}


def grown(estimates: np.ndarray, variances: np.ndarray, pooled: Any) -> dict[str, float]:
    mean, between = moments(estimates)
    parts = rubin(mean, moments(variances)[0], between, len(estimates), pooled.complete_df, rule=pooled.rule)
    found = {name: float(getattr(parts, name)[0]) for name in ("estimate", "standard_error", "fmi")}
    errors = jackknife(estimates, variances, pooled.complete_df, pooled.rule) if len(estimates) > 2 else None
    found["estimate_error"] = float(np.sqrt(between[0] / len(estimates)))
    for name in ("standard_error", "fmi"):
        found[f"{name}_error"] = float("nan") if errors is None else float(getattr(errors, name)[0])
    return found
