"""What is known of each unknown cell, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.schema import Column
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.inference.evidence import posterior_marginals
from probgen.inference.patterns import affordable
from probgen.queries import diffused
from probgen.queries.any_order import level_probabilities
from probgen.queries.log_prob import untold
from probgen.whole import check_whole

__all__ = ["Marginals", "class_probabilities", "marginals", "node_probabilities"]

ROWS = 8192


@dataclass(frozen=True)
class Marginals:
    """Posterior marginals of the unknown cells, one entry a cell, in the table's order.

    Attributes:
        row, column: places of the cells (column by name).
        mean, sd: of the cell; NaN for categories, whose codes have no mean.
        draws: ``(draws, cells)`` values (codes for discrete columns).
        probabilities: for discrete cells, place in this list -> probabilities of the levels; elsewhere absent.
    """

    row: np.ndarray
    column: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    draws: np.ndarray
    probabilities: dict[int, dict[Any, float]]

    def __len__(self) -> int:
        return len(self.row)

    def quantiles(self, q: float | list[float]) -> np.ndarray:
        """Quantiles of each cell: ``(cells,)`` or ``(len(q), cells)``."""
        if not np.all((np.asarray(q) >= 0) & (np.asarray(q) <= 1)):
            raise CapabilityError(f"Quantiles are asked for by numbers from 0 to 1, got {q}.")
        return np.quantile(self.draws, q, axis=0)

    def select(self, mask: np.ndarray) -> Marginals:
        """Some of the cells."""
        places = np.nonzero(mask)[0]
        probabilities = {
            new: self.probabilities[old] for new, old in enumerate(places.tolist()) if old in self.probabilities
        }
        return Marginals(
            self.row[places],
            self.column[places],
            self.mean[places],
            self.sd[places],
            self.draws[:, places],
            probabilities,
        )

    def records(self) -> list[dict[str, Any]]:
        """One dictionary a cell."""
        low, middle, high = self.quantiles([0.05, 0.5, 0.95]) if len(self) else np.zeros((3, 0))
        return [
            {"row": int(self.row[i]), "column": str(self.column[i]), "mean": self.mean[i], "sd": self.sd[i],
             "q05": low[i], "median": middle[i], "q95": high[i], "probabilities": self.probabilities.get(i)}
            for i in range(len(self))
        ]  # fmt: skip


def marginals(fit: Any, table: Table, draws: int, seed: int, refine: int = 0, sweeps: int = 0) -> Marginals:
    """By draws for numbers; by the density itself for discrete columns, where there is one."""
    row, at = np.nonzero(~table.known)
    check_whole("draws", draws)
    how = {name: steps for name, steps in {"refine": refine, "sweeps": sweeps}.items() if steps}
    tables = fit.fill(table, draws, seed=seed, **how) if len(row) else []
    filled = np.stack([t.values[row, at] for t in tables]) if len(row) else np.zeros((draws, 0))
    names = np.array(fit.schema.names, dtype=object)[at] if len(row) else np.array([], dtype=object)
    discrete = np.array([fit.schema[int(a)].kind in ("binary", "categorical") for a in at], dtype=bool)
    mean = np.where(discrete, np.nan, filled.mean(0))
    sd = np.where(discrete, np.nan, filled.std(0, ddof=1) if draws > 1 else np.nan)
    alone = table.lengths is None and fit.traits.density != "none"
    shares = cell_probabilities(fit, table, row, at, refine) if alone else drawn_probabilities(fit, at, filled)
    return Marginals(row, names, mean, sd, filled, shares)


def drawn_probabilities(fit: Any, at: np.ndarray, filled: np.ndarray) -> dict[int, dict[Any, float]]:
    """Shares of the draws, for cells that depend on other rows, and for models without a density."""
    found: dict[int, dict[Any, float]] = {}
    for cell, number in enumerate(at):
        column = fit.schema[int(number)]
        if column.is_discrete:
            share = np.bincount(filled[:, cell].astype(int), minlength=len(column.levels)) / len(filled)
            found[cell] = dict(zip(column.levels, share.tolist(), strict=True))
    return found


def cell_probabilities(
    fit: Any, table: Table, row: np.ndarray, at: np.ndarray, refine: int = 0
) -> dict[int, dict[Any, float]]:
    """From the density itself."""
    found: dict[int, dict[Any, float]] = {}
    at_once = node_probabilities(fit, table) if fit.traits.network and len(fit.posterior) == 1 else {}
    for number in np.unique(at):
        column = fit.schema[int(number)]
        if column.name in at_once:
            for cell in np.nonzero(at == number)[0]:
                values = at_once[column.name][row[cell]].tolist()
                found[int(cell)] = dict(zip(column.levels, values, strict=True))
            continue
        if not column.is_discrete:
            continue
        cells = np.nonzero(at == number)[0]
        probabilities = class_probabilities(fit, table.take(row[cells]), column.name, refine=refine)
        for cell, values in zip(cells, probabilities, strict=True):
            found[int(cell)] = dict(zip(column.levels, values.tolist(), strict=True))
    return found


def node_probabilities(fit: Any, table: Table) -> dict[str, np.ndarray]:
    """``(N, L)`` of every discrete column that is a node, and of hidden nodes, from one backward pass over the rows."""
    found: dict[str, np.ndarray] = {}
    once, which = table.distinct()
    done = 0
    with fit.setting():
        for batch in fit.batches(once, min(ROWS, fit.program.piece_rows)).pieces():
            for rows, group in affordable(fit.program, batch, fit.posterior.theta()):
                _, shares = posterior_marginals(fit.program, group, fit.posterior.theta())
                places = np.arange(len(batch)) if rows is None else rows.cpu().numpy()
                for name, values in shares.items():
                    kept = found.setdefault(name, np.full((len(once), values.shape[1]), np.nan))
                    kept[done + places] = values.double().cpu().numpy()
            done += len(batch)
    return {name: values[which] for name, values in found.items()}


def class_probabilities(
    fit: Any, table: Any, column: str, *, draws: int = 200, seed: int = 0, refine: int = 0
) -> np.ndarray:
    """``(N, L)``: p(column = level | the other known cells), from the joint density at every level (Bayes' rule).

    The column's own values in ``table`` are not looked at. ``draws``, ``seed`` and ``refine`` are those of :meth:`Fit.log_prob`. An ensemble, or the fits of
    classes, are asked as one fit is.
    """
    if not hasattr(fit, "program"):  # several fits as one distribution
        return by_bayes(fit, fit.read(table), column, {})
    if column in fit.program.inputs:
        raise CapabilityError(
            f"{column!r} is an input of {fit.name!r}, which says nothing of it; ask about another column."
        )
    if fit.traits.any_order:  # says so directly
        checked_discrete(fit, column)
        return level_probabilities(fit, fit.read(table), column)
    how = {"refine": refine} if refine else {}  # models of others may not know it
    known = fit.read(table)
    if fit.traits.diffuses:
        checked_discrete(fit, column)
        return diffused.class_probabilities(fit, known, fit.schema.index(column), check_whole("draws", draws), seed)
    return by_bayes(fit, known, column, {"draws": draws, "seed": seed, **how})


def by_bayes(fit: Any, known: Table, column: str, how: dict[str, Any]) -> np.ndarray:
    """From the joint density at every level."""
    place, kind = fit.schema.index(column), checked_discrete(fit, column)
    scores = []
    for code in range(len(kind.levels)):
        values = known.values.copy()
        values[:, place] = code
        with untold():  # most levels of a row may be far off, and do not count
            scores.append(np.asarray(fit.log_prob(known.with_values(values), **how)))
    joint = np.stack(scores, 1)
    joint = np.exp(joint - joint.max(1, keepdims=True))
    return joint / joint.sum(1, keepdims=True)


def checked_discrete(fit: Any, name: str) -> Column:
    """A column of a fit, refused where it has no levels."""
    column = fit.schema[name]
    if not column.is_discrete:
        raise CapabilityError(f"class_probabilities needs a discrete column; {name!r} is {column.kind}.")
    return column
