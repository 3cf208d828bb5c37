"""What scores of anomalies are made of, and how they compare with those of rows in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probgen.data.table import Table
from probgen.queries import Fit
from probgen.studies.conformal import conformal_p_values
from probgen.studies.surprise import cell_surprise, description_length, surprise

__all__ = ["SCORES", "Scored", "compared", "drawn_like", "expected", "parts_of"]

SCORES = ("surprise", "typicality", "cells", "ratio", "complexity")
EXPECTED_DRAWS = 200


@dataclass(frozen=True, eq=False)
class Scored:
    """One model's scores by name.

    Attributes:
        usual: of rows in order, ``(M,)`` each.
        asked: of the rows asked about, ``(N,)`` each.
        p_values: of these.
        cells: ``(N, D)`` excess surprise of cells, None where it was not asked for.
        cell_p_values: of these.
    """

    usual: dict[str, np.ndarray]
    asked: dict[str, np.ndarray]
    p_values: dict[str, np.ndarray]
    cells: np.ndarray | None
    cell_p_values: np.ndarray | None


def parts_of(fit: Fit, rows: Table, wanted: Sequence[str], behind: Fit | None) -> dict[str, np.ndarray]:
    """What scores of rows are made of."""
    made = {"surprise": surprise(fit, rows)}
    if "cells" in wanted:
        made["cells"] = cell_surprise(fit, rows)
    if "ratio" in wanted and behind is not None:
        made["ratio"] = made["surprise"] - surprise(behind, rows)
    if "complexity" in wanted:
        made["complexity"] = made["surprise"] - description_length(rows)
    return made


def compared(wanted: Sequence[str], usual: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray]) -> Scored:
    """Scores and p-values from their parts."""
    centre = float(usual["surprise"].mean())
    found, cells, cell_p_values = Scored({}, {}, {}, None, None), None, None
    for score in wanted:
        if score == "typicality":
            pair = [np.abs(part["surprise"] - centre) for part in (usual, asked)]
        elif score == "cells":
            mean = np.nanmean(usual["cells"], 0)
            cells, cell_p_values = asked["cells"] - mean, by_column(usual["cells"], asked["cells"])
            pair = [largest(part["cells"] - mean) for part in (usual, asked)]
        else:
            pair = [part[score] for part in (usual, asked)]
        found.usual[score], found.asked[score] = pair
        found.p_values[score] = conformal_p_values(*pair)
    return Scored(found.usual, found.asked, found.p_values, cells, cell_p_values)


def largest(cells: np.ndarray) -> np.ndarray:
    """Of each row, of what is known."""
    return np.where(np.isnan(cells), -np.inf, cells).max(1)


def by_column(usual: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """``(N, D)`` p-values of cells among those of their column."""
    p = np.full(asked.shape, np.nan)
    for at in range(asked.shape[1]):
        there, ordinary = ~np.isnan(asked[:, at]), usual[~np.isnan(usual[:, at]), at]
        if there.any() and len(ordinary):
            p[there, at] = conformal_p_values(ordinary, asked[there, at])
    return p


def drawn_like(fit: Fit, rows: Table, count: int, seed: int) -> Table:
    """So many rows drawn from a model, with the holes of rows drawn from a table."""
    drawn = fit.sample(count, seed=seed)
    some = np.random.default_rng(seed).integers(len(rows), size=count)
    return drawn.with_values(np.where(rows.known[some], drawn.values, np.nan))


def expected(fit: Fit, one: Table, at: int) -> str:
    """What a model draws for a cell given the others: a middle and where nine in ten lie, or the likeliest levels."""
    name = one.names[at]
    drawn = [filled.to_pandas()[name].iloc[0] for filled in fit.fill(one.hide(name), EXPECTED_DRAWS, seed=0)]
    if one.schema[name].is_discrete:
        levels, counts = np.unique(np.asarray(drawn, dtype=str), return_counts=True)
        order = np.argsort(-counts, kind="stable")[:3]
        return ", ".join(f"{levels[k]} {counts[k] / len(drawn):.0%}" for k in order)
    low, middle, high = np.quantile(np.asarray(drawn, dtype=float), [0.05, 0.5, 0.95])
    return f"{middle:.4g} ({low:.4g} to {high:.4g})"
