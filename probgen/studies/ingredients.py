"""Derived columns and what they are made of: what one tells of the other in a single row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from probgen.data.coding import code_of, codes_of
from probgen.data.evaluating import days
from probgen.data.limits import Limits
from probgen.data.schema import Column, Schema
from probgen.data.solving import FOUND, NO_VALUE, solve
from probgen.data.table import Table
from probgen.errors import SchemaError
from probgen.studies.design import Design

__all__ = ["OPEN", "bases_of", "code_in", "computed", "slack_of", "solved"]

OPEN = 3  # several levels answer: the draws decide


def parts_of(design: Design, name: str) -> tuple[str, ...]:
    return design.formulas[name].names or ()


def between(design: Design, name: str) -> set[str]:
    """The derived columns that a derived one is made of."""
    found = {part for part in parts_of(design, name) if part in design.formulas}
    return found.union(*(between(design, part) for part in found))


def bases_of(design: Design, name: str) -> list[str]:
    """The columns that a derived one is made of in the end: none of them derived."""
    found: list[str] = []
    for part in parts_of(design, name):
        found += bases_of(design, part) if part in design.formulas else [part]
    return list(dict.fromkeys(found))


def computed(design: Design, name: str, values: np.ndarray, schema: Schema) -> np.ndarray:
    """``(n,)``: a derived column from its bases, whatever is known of the columns between."""
    values, inner = values.copy(), between(design, name)
    for other, rule in design.formulas.items():
        if other in inner:
            values[:, schema.index(other)] = rule.codes(values, schema, schema[other])
    return design.formulas[name].codes(values, schema, schema[name])


def solved(
    design: Design, name: str, values: np.ndarray, table: Table, place: int, limits: Limits, slack: float
) -> tuple[np.ndarray, np.ndarray]:
    """What one base of a derived column must be, in rows where that column and the other bases are known.

    Args:
        design: with the formula.
        name: of the derived column.
        values: ``(n, D)`` the rows.
        table: where known values of the base are seen.
        place: of the base.
        limits: of the whole table's cells; the widest count.
        slack: how far the formula may be off.

    Returns:
        ``(n,)`` values, NaN where there is none, and a status: ``FOUND``, ``NO_VALUE``, ``NOT_MONOTONE``, ``OPEN``.
    """
    schema, column = table.schema, table.schema[place]
    wanted = values[:, schema.index(name)]

    def at(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        full = values[rows].copy()
        full[:, place] = x
        return computed(design, name, full, schema)

    if column.is_discrete:
        return among_levels(at, wanted, column.cardinality, slack)
    known = table.values[table.known[:, place], place]
    seen = (float(known.min()), float(known.max())) if len(known) else (1.0, 2.0)
    found, status = solve(at, wanted, seen, support_of(column, known, limits, place))
    found = np.round(found) if column.kind == "count" else found
    off = ~(np.abs(at(np.arange(len(wanted)), found) - wanted) <= slack) | ((column.kind == "positive") & ~(found > 0))
    status = np.where((status == FOUND) & off, NO_VALUE, status)
    return np.where(status == FOUND, found, np.nan), status


def support_of(column: Column, known: np.ndarray, limits: Limits, place: int) -> tuple[float, float]:
    """Where a column's values can lie: by its kind, by its limits, above zero where all known values are."""
    low, high = column.bounds if column.kind == "bounded" and column.bounds else (-np.inf, np.inf)
    if column.kind in ("positive", "count", "semicontinuous") or (len(known) and known.min() > 0):
        low = max(low, 0.0)
    return max(low, float(limits.lower[:, place].min())), min(high, float(limits.upper[:, place].max()))


def among_levels(at: Callable, wanted: np.ndarray, levels: int, slack: float) -> tuple[np.ndarray, np.ndarray]:
    """The one level that answers."""
    rows = np.arange(len(wanted))
    fits = np.stack([np.abs(at(rows, np.full(len(wanted), float(k))) - wanted) <= slack for k in range(levels)])
    status = np.where(fits.sum(0) == 1, FOUND, np.where(fits.any(0), OPEN, NO_VALUE))
    return np.where(status == FOUND, fits.argmax(0).astype(float), np.nan), status


def code_in(column: Column, label: Any, where: str) -> float:
    """A value as the column's cells hold it."""
    if column.is_discrete:
        code = code_of(label, codes_of(column.levels))
        if not code >= 0:
            raise SchemaError(f"{where}: {label!r} is no level of column {column.name!r} ({list(column.levels)}).")
        return code
    if column.kind == "datetime":
        return days(str(label).replace(" ", "T"))
    if not isinstance(label, int | float | np.number):
        raise SchemaError(f"{where}: column {column.name!r} is {column.kind}, and {label!r} is no number.")
    return float(label)


def slack_of(design: Design, table: Table, place: int) -> float:
    """How far a known derived cell may lie from its formula."""
    known = table.values[table.known[:, place], place]
    return design.tolerance * float(known.std()) + 1e-9 * (1 + float(np.abs(known).max())) if len(known) else 1e-9
