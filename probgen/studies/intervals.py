"""What a design says of cells whose value is unknown: bounds, censoring, and rules whose other side is known."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from probgen.data.evaluating import Cells, Coded, days, number, value
from probgen.data.formulas import formula
from probgen.data.limits import Censored, Limits
from probgen.data.table import Table
from probgen.errors import DataError, SchemaError
from probgen.studies.design import Design, is_date
from probgen.studies.ingredients import code_in

__all__ = ["intervals", "related"]


def intervals(design: Design, table: Table) -> tuple[Limits, np.ndarray]:
    """Bounds and censoring as limits, and the censored cells."""
    limits, hidden = Limits.open(table.values.shape), np.zeros(table.values.shape, dtype=bool)
    everywhere = np.arange(table.n_rows)
    for name, ends in supports(design, table).items():
        limits = narrowed(limits, table, everywhere, name, *(np.full(table.n_rows, end) for end in ends))
    for name, (low, high) in design.bounds.items():
        column = table.schema[name]
        if column.is_discrete and column.kind != "ordinal":
            raise SchemaError(f"bounds: the levels of column {name!r} ({column.kind}) have no order.")
        bounds = [np.nan if end is None else code_in(column, end, "bounds") for end in (low, high)]
        limits = narrowed(limits, table, everywhere, name, *(np.full(table.n_rows, end) for end in bounds))
    for name, interval in design.intervals.items():
        low, high = (ends_of(end, table, name) for end in (interval.lower, interval.upper))
        cells = cells_of(interval, table, name, low, high)
        limits = narrowed(limits, table, np.flatnonzero(cells), name, low[cells], high[cells])
        hidden[cells, table.schema.index(name)] = True
    return limits, hidden


def supports(design: Design, table: Table) -> dict[str, tuple[float, float]]:
    """What the kinds of columns allow, where random intercepts are added to them."""
    lowest = {c.name: (0.0, np.nan) for c in table.schema if c.kind in ("count", "semicontinuous")}
    inside = {c.name: c.bounds for c in table.schema if c.kind == "bounded" and c.bounds is not None}
    return {} if design.groups is None else {**lowest, **inside}


def narrowed(limits: Limits, table: Table, rows: np.ndarray, name: str, low: np.ndarray, high: np.ndarray) -> Limits:
    """Limits with further ends, NaN where there is none; the first empty interval is told."""
    place = table.schema.index(name)
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    empty = np.flatnonzero(np.maximum(low, limits.lower[rows, place]) > np.minimum(high, limits.upper[rows, place]))
    if len(empty):
        row = int(rows[empty[0]])
        ends = max(low[empty[0]], limits.lower[row, place]), min(high[empty[0]], limits.upper[row, place])
        raise DataError(
            f"Column {name!r}, row {row}: no value is left between {ends[0]:g} and {ends[1]:g}; its limits and rules"
            " contradict each other."
        )
    return limits.narrowed(rows, place, low, high)


def ends_of(end: Any, table: Table, name: str) -> np.ndarray:
    """``(N,)``: one end of a column's intervals, NaN where there is none."""
    if end is None:
        return np.full(table.n_rows, np.nan)
    if isinstance(end, str) and not is_date(end):
        return formula(end).codes(table.values, table.schema, table.schema[name])
    if isinstance(end, str | int | float | np.number):
        return np.full(table.n_rows, code_in(table.schema[name], end, "censored"))
    found = np.asarray(end, dtype=float)
    if found.shape != (table.n_rows,):
        raise DataError(
            f"censored[{name!r}] has limits of shape {found.shape} for {table.n_rows} rows; name a column instead, which new"
            " rows have too."
        )
    return found


def cells_of(interval: Censored, table: Table, name: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """``(N,)``: the rows in which a column is censored."""
    ends = ~(np.isnan(low) & np.isnan(high))
    if interval.where is None:
        return ~table.known[:, table.schema.index(name)] & ends
    if isinstance(interval.where, str) or callable(interval.where):
        cells = formula(interval.where).truth(table.values, table.schema) == 1
    else:
        cells = np.asarray(interval.where, dtype=bool)
    if cells.shape != (table.n_rows,):
        raise DataError(f"censored[{name!r}]: where must have one mark a row ({table.n_rows}), got {cells.shape}.")
    if (cells & ~ends).any():
        row = int(np.flatnonzero(cells & ~ends)[0])
        raise DataError(f"Column {name!r}, row {row} is censored, but neither limit is known; give one.")
    return cells


def related(design: Design, table: Table, values: np.ndarray, limits: Limits) -> Limits:
    """Limits that rules such as "start <= end" put on a column where the other side is known."""
    for rule in design.checks:
        for name, low, high in ends_in(rule.tree, Cells(values, table.schema, rule.text, rule.renamed)):
            rows = np.flatnonzero(np.isnan(values[:, table.schema.index(name)]))
            limits = narrowed(limits, table, rows, name, low[rows], high[rows])
    return limits


def ends_in(tree: Any, cells: Cells) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(column, lower, upper) from comparisons that must all hold."""
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
        return [found for part in tree.values for found in ends_in(part, cells)]
    if not isinstance(tree, ast.Compare):
        return []
    found, sides = [], [tree.left, *tree.comparators]
    for op, left, right in zip(tree.ops, sides, sides[1:], strict=False):
        if isinstance(op, ast.Lt | ast.LtE):
            found += one_side(left, right, cells, upper=True) + one_side(right, left, cells, upper=False)
        elif isinstance(op, ast.Gt | ast.GtE):
            found += one_side(left, right, cells, upper=False) + one_side(right, left, cells, upper=True)
    return found


def one_side(bound: ast.expr, by: ast.expr, cells: Cells, upper: bool) -> list[tuple[str, np.ndarray, np.ndarray]]:
    if not isinstance(bound, ast.Name):
        return []
    column, end = cells.schema[cells.renamed.get(bound.id, bound.id)], value(by, cells)
    if column.is_discrete or isinstance(end, Coded):
        return []
    end = days(end) if isinstance(end, str) else number(end, cells)
    full, none = np.broadcast_to(end, len(cells.values)), np.full(len(cells.values), np.nan)
    return [(column.name, *((none, full) if upper else (full, none)))]
