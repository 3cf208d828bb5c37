"""What scores of anomalies are made of, and how they compare with those of rows in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.queries import Fit
from probgen.studies.conformal import conformal_p_values
from probgen.studies.surprise import cell_surprise, description_length

__all__ = ["SCORES", "Parts", "Scored", "compared", "expected", "written"]

SCORES = ("surprise", "typicality", "cells", "ratio", "complexity")
EXPECTED_DRAWS = 200
LEARNT = 1000  # rows that say where scores are centred

Compare = Callable[[np.ndarray, np.ndarray], np.ndarray]


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
    cells: np.ndarray | None = None
    cell_p_values: np.ndarray | None = None


class Parts:
    """What a model's scores of rows are made of, less what is usual among rows that it has learnt from.

    These say only where scores are centred, so that scores of all other rows in order stay exchangeable.

    Args:
        fit: the model.
        learnt: rows it was fitted to.
        wanted: names of scores.
        behind: the model in the background, for "ratio".
    """

    def __init__(self, fit: Fit, learnt: Table, wanted: Sequence[str], behind: Fit | None) -> None:
        self.fit, self.wanted, self.behind = fit, wanted, behind
        self.kinds: list[str] = []
        some = learnt.take(slice(0, LEARNT))
        self.centre = usual_of(self.surprise(fit, some))
        self.usual = np.zeros(learnt.n_columns)
        if "cells" in wanted:
            cells = cell_surprise(fit, some)
            self.usual = np.array([usual_of(column) for column in cells.T])

    def surprise(self, fit: Fit, rows: Table) -> np.ndarray:
        """Of rows, remembering what kind of number it is."""
        found = fit.log_prob(rows)
        self.kinds.append(found.kind)
        return -np.asarray(found.value)

    def of(self, rows: Table) -> dict[str, np.ndarray]:
        """Scores of rows, ``(N,)`` each; under "excess" the cells' ``(N, D)``."""
        plain = self.surprise(self.fit, rows)
        made = {"surprise": plain, "typicality": np.abs(plain - self.centre)}
        if "cells" in self.wanted:
            self.kinds.append(self.fit.log_prob(rows.take([0]).hide(rows.names[0])).kind)
            made["excess"] = cell_surprise(self.fit, rows) - self.usual
            made["cells"] = largest(made["excess"])
        if "ratio" in self.wanted and self.behind is not None:
            made["ratio"] = plain - self.surprise(self.behind, rows)
        if "complexity" in self.wanted:
            made["complexity"] = plain - description_length(rows)
        return {name: made[name] for name in (*self.wanted, "excess") if name in made}


def compared(usual: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray], within: bool = False) -> Scored:
    """P-values of scores; ``within``: rows are compared with all others of their own."""
    compare = own_ranks if within else conformal_p_values
    names = [name for name in asked if name != "excess"]
    p_values = {name: compare(usual[name], asked[name]) for name in names}
    cells = asked.get("excess")
    return Scored(
        {name: usual[name] for name in names},
        {name: asked[name] for name in names},
        p_values,
        cells,
        None if cells is None else by_column(usual["excess"], cells, compare),
    )


def usual_of(values: np.ndarray) -> float:
    """The mean of the finite ones; nought where there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else 0.0


def largest(cells: np.ndarray) -> np.ndarray:
    """Of each row, of what is known."""
    return np.where(np.isnan(cells), -np.inf, cells).max(1)


def by_column(usual: np.ndarray, asked: np.ndarray, compare: Compare) -> np.ndarray:
    """``(N, D)`` p-values of cells among those of their column, NaN where there are none."""
    p = np.full(asked.shape, np.nan)
    for at in range(asked.shape[1]):
        there, ordinary = ~np.isnan(asked[:, at]), usual[~np.isnan(usual[:, at]), at]
        if there.any() and len(ordinary):
            p[there, at] = compare(ordinary, asked[there, at])
    return p


def own_ranks(_: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The share of rows, itself among them, that are as odd as each."""
    return (len(scores) - np.searchsorted(np.sort(scores), scores, side="left")) / len(scores)


def expected(fit: Fit, one: Table, at: int) -> str:
    """What a model draws for a cell given the others: a middle and where nine in ten lie, or the likeliest levels."""
    name = one.names[at]
    filled_rows = fit.fill(one.hide(name), EXPECTED_DRAWS, seed=0)
    if one.schema[name].is_discrete:
        drawn = [str(filled.to_pandas()[name].iloc[0]) for filled in filled_rows]
        levels, counts = np.unique(drawn, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:3]
        return ", ".join(f"{levels[k]} {counts[k] / len(drawn):.0%}" for k in order)
    codes = [filled.values[0, at] for filled in filled_rows]
    values = np.repeat(one.values, 3, 0)
    values[:, at] = np.quantile(codes, [0.05, 0.5, 0.95])
    low, middle, high = map(written, one.take([0, 0, 0]).with_values(values).to_pandas()[name])
    return f"{middle} ({low} to {high})"


def written(value: Any) -> str:
    """A cell as it is shown."""
    return f"{value:.4g}" if isinstance(value, int | float | np.number) else str(value)
