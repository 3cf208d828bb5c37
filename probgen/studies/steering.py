r"""Rows in which a derived cell is known and several of its ingredients are not.

The ingredients are drawn given that the formula holds: of many draws from the model the one whose derived value lies
nearest to the known one is taken, and its last ingredient is then solved for, so that the formula holds exactly. With
more draws the nearest one lies nearer, and its law becomes the conditional one:

.. math:: p(x_{mis} \mid x_{obs}, f(x) = c)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from probgen.data.solving import FOUND
from probgen.studies.ingredients import bases_of, computed, solved
from probgen.studies.prepared import Prepared

__all__ = ["steered"]

DRAWS, NEAREST = 256, 16


def steered(
    rows: Prepared, draw: Callable[[np.ndarray, np.ndarray, int], np.ndarray], places: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """``(n, D)`` rows and what each breaks, -1 for nothing, as ``Prepared.finished``."""
    repeated = np.repeat(places, DRAWS)
    drawn = draw(rows.shown[repeated], repeated, seed)
    order = np.argsort(distances(rows, repeated, drawn).reshape(len(places), DRAWS), axis=1, kind="stable")
    drawn = drawn.reshape(len(places), DRAWS, -1)
    full = np.empty((len(places), len(rows.schema)))
    broken = np.zeros(len(places), dtype=int)
    open_ = np.arange(len(places))
    for rank in range(NEAREST):
        candidates = made_to_fit(rows, places[open_], drawn[open_, order[open_, rank]])
        full[open_], broken[open_] = rows.finished(places[open_], candidates)
        open_ = open_[broken[open_] >= 0]
        if not len(open_):
            break
    return full, broken


def as_rows(rows: Prepared, places: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    full = rows.values[places].copy()
    full[:, rows.modelled] = np.where(np.isnan(rows.shown[places]), drawn, full[:, rows.modelled])
    return full


def distances(rows: Prepared, places: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """``(n,)``: how far the derived cells lie from the known ones, in standard deviations; far where they are no numbers."""
    full, total = as_rows(rows, places, drawn), np.zeros(len(places))
    for name in rows.design.formulas:
        place = rows.schema.index(name)
        known = rows.table.values[rows.table.known[:, place], place]
        spread = known.std() if len(known) and known.std() > 0 else 1.0
        off = np.abs(computed(rows.design, name, full, rows.schema) - rows.values[places, place]) / spread
        total += np.where(rows.tied[places, place], np.where(np.isnan(off), 1e9, off), 0.0)
    return total


def made_to_fit(rows: Prepared, places: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """``(n, P)``: the draws with the last unknown number of each formula solved for."""
    full, taken = as_rows(rows, places, drawn), np.zeros((len(places), len(rows.schema)), dtype=bool)
    for name in rows.design.formulas:
        for part in reversed(bases_of(rows.design, name)):
            place = rows.schema.index(part)
            if rows.schema[part].is_discrete or part in rows.design.apart:
                continue
            free = np.isnan(rows.values[places, place]) & rows.tied[places, rows.schema.index(name)]
            which = np.flatnonzero(free & ~taken.any(1) if len(rows.design.formulas) == 1 else free & ~taken[:, place])
            which = which[~taken[which, rows.schema.index(name)]]
            if not len(which):
                continue
            slack = rows.slack[rows.schema.index(name)]
            found, status = solved(rows.design, name, full[which], rows.table, place, rows.limits, slack)
            full[which, place] = np.where(status == FOUND, found, full[which, place])
            taken[which, place] = taken[which, rows.schema.index(name)] = True
    return full[:, rows.modelled]
