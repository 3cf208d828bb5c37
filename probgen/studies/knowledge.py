"""What a table and a design say of every cell before any model is asked: values that follow, intervals, contradictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from probgen.data.apart import appended, table_with
from probgen.data.coding import decode_column
from probgen.data.formulas import Formula
from probgen.data.limits import Limits
from probgen.data.schema import Column, Schema
from probgen.data.solving import FOUND, NO_VALUE
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, SchemaError
from probgen.studies.design import Design
from probgen.studies.ingredients import OPEN, bases_of, code_in, computed, slack_of, solved
from probgen.studies.intervals import intervals, related
from probgen.studies.prepared import Prepared

__all__ = ["prepare", "staying"]


def prepare(design: Design, data: Any, schema: Schema | None = None) -> Prepared:
    """A table under a design.

    Args:
        design: what must hold.
        data: a Table, or anything that one can be made of.
        schema: of an earlier table under the same design, for new rows, whose weights do not matter and may be absent.

    Raises:
        SchemaError: the design names a column that there is not.
        DataError: known cells contradict the design; says which row, which rule, which values.
    """
    table = read(design, data, schema)
    check_names(design, table.schema)
    if schema is None:
        check_weighed_once(design, table)
    values = np.array(table.values)
    limits, censored = intervals(design, table)
    values[censored] = np.nan
    stays = staying(design, table) & ~table.known
    hidden = np.zeros(values.shape, dtype=bool)
    for _ in range(1 + len(design.formulas)):
        before = np.isnan(values).sum()
        values = with_derived(design, table, values, limits)
        mark_skipped(design, table, values, hidden)
        if np.isnan(values).sum() == before:
            break
    check_known(design, table, values, limits)
    limits = related(design, table, values, limits)
    partly = censored & np.isnan(values)
    found = Prepared(design, table, values, hidden, stays, limits, partly, weighed=schema is None)
    return with_ties(found)


def read(design: Design, data: Any, schema: Schema | None) -> Table:
    """The table with all columns that the design speaks of."""
    if isinstance(data, Table) and data.lengths is not None:
        raise CapabilityError("A design is for rows that stand alone; the rows of this table stand in sequences.")
    fresh = [name for name in (*design.derived, *design.totals) if schema is None or name in schema.names]
    if schema is not None and design.weights is not None:
        fresh.append(design.weights)  # new rows need none
    labels = (*design.exclude, *([design.groups] if design.groups is not None else []))
    if schema is None or not (isinstance(data, Table) and data.schema == schema):
        absent = () if schema is None else tuple(set(fresh) - set(names_of(data)))
        wanted = None if schema is None else schema.drop(list(absent))
        data = table_with(data, labels, design.apart, wanted)
    made = appended(data, [name for name in fresh if name not in data.schema.names])
    if schema is None or made.schema.names == schema.names:
        return made
    order = [made.schema.index(name) for name in schema.names]
    return made.with_columns(made.values[:, order], made.schema.select(schema.names))


def names_of(data: Any) -> tuple[str, ...]:
    if isinstance(data, Table):
        return data.schema.names
    found = getattr(data, "column_names", None) or getattr(data, "columns", None)
    return tuple(map(str, found if found is not None else data if isinstance(data, dict) else ()))


def named_by(design: Design) -> list[str]:
    """Columns that the design speaks of, what it derives not among them."""
    rules = [*design.formulas.values(), *design.checks, *design.kept.values(), *(r for r, _ in design.skips.values())]
    named = [*design.bounds, *design.skip, *design.censored, *design.auxiliary, *design.exclude, *design.kept]
    named += [name for name in (design.weights, design.groups) if name is not None]
    return [*named, *(name for rule in rules for name in rule.names or ())]


def check_names(design: Design, schema: Schema) -> None:
    """Every column that the design names is there."""
    for name in named_by(design):
        schema.index(name)


def check_weighed_once(design: Design, table: Table) -> None:
    """A row has one weight: the table's own, or that of the design's column."""
    if design.weights is None or table.weights is None:
        return
    if not np.array_equal(table.weights, table.values[:, table.schema.index(design.weights)]):
        raise SchemaError(
            f"The table has weights, and the design says that column {design.weights!r} holds others; leave out one of them"
            " (table.with_weights(None))."
        )


# ------------------------------------------------------------------------------------------------------------- values
def shown(column: Column, code: float) -> Any:
    found = decode_column(np.array([code]), column)[0]
    return found.item() if isinstance(found, np.generic) else found


def staying(design: Design, table: Table) -> np.ndarray:
    """``(N, D)``: cells that stay as they are, by names or by mask."""
    found = np.zeros(table.values.shape, dtype=bool)
    told = design.keep_missing
    if isinstance(told, np.ndarray) or hasattr(told, "to_numpy"):
        mask = np.asarray(told, dtype=bool)
        if mask.shape != table.values.shape:
            raise SchemaError(f"keep_missing must have shape {table.values.shape}, one mark a cell, got {mask.shape}.")
        return mask
    if not design.kept:
        for name in told:
            found[:, table.schema.index(name)] = True
    return found


# ------------------------------------------------------------------------------------------------------ what follows
def with_derived(design: Design, table: Table, values: np.ndarray, limits: Limits) -> np.ndarray:
    """Derived cells from known ingredients, and single unknown ingredients from known derived cells."""
    values = values.copy()
    for name in design.formulas:
        place = table.schema.index(name)
        found = computed(design, name, values, table.schema)
        found[~np.isfinite(found)] = np.nan
        agrees = ~(np.abs(found - values[:, place]) > slack_of(design, table, place))
        if not agrees.all():
            row = int(np.flatnonzero(~agrees)[0])
            raise DataError(
                f"Row {row}: {name!r} is {shown(table.schema[place], values[row, place])!r}, but"
                f" {design.formulas[name].text!r} gives {shown(table.schema[place], found[row])!r} ({told(design, name, table, values, row)});"
                " correct one of them, mark one as unknown, or allow more with tolerance=."
            )
        values[:, place] = np.where(np.isnan(values[:, place]), found, values[:, place])
        solve_single(design, name, table, values, limits)
    return values


def solve_single(design: Design, name: str, table: Table, values: np.ndarray, limits: Limits) -> None:
    """Fill in the one ingredient that a known derived cell leaves no choice for."""
    schema, place = table.schema, table.schema.index(name)
    parts = np.array([schema.index(part) for part in bases_of(design, name)], dtype=int)
    if not len(parts) or schema[place].is_discrete:  # a level leaves a choice
        return
    unknown = np.isnan(values[:, parts])
    single = ~np.isnan(values[:, place]) & (unknown.sum(1) == 1)
    for at, part in enumerate(parts):
        rows = np.flatnonzero(single & unknown[:, at])
        if not len(rows) or schema.names[part] in design.apart:
            continue
        slack = slack_of(design, table, place)
        found, status = solved(design, name, values[rows], table, int(part), limits, slack)
        failed = np.flatnonzero((status != FOUND) & (status != OPEN))
        if len(failed):
            refuse_unsolved(design, name, table, values, int(rows[failed[0]]), int(part), int(status[failed[0]]))
        values[rows, part] = found


def refuse_unsolved(
    design: Design, name: str, table: Table, values: np.ndarray, row: int, part: int, status: int
) -> None:
    column, wanted = table.schema.names[part], shown(table.schema[name], values[row, table.schema.index(name)])
    text, others = design.formulas[name].text, told(design, name, table, values, row)
    if status == NO_VALUE:
        raise DataError(
            f"Row {row}: no value of {column!r} gives {name!r} = {wanted!r} by {text!r} ({others}); correct a cell, or mark"
            f" {name!r} as unknown."
        )
    raise DataError(
        f"Row {row}: {text!r} neither rises nor falls all along in {column!r}, so {name!r} = {wanted!r} has several answers"
        f" ({others}); mark it as unknown, or give bounds of {column!r}."
    )


def told(design: Design, name: str, table: Table, values: np.ndarray, row: int) -> str:
    """The ingredients of a row, for messages."""
    parts = [(part, table.schema.index(part)) for part in bases_of(design, name)]
    return ", ".join(f"{part} = {shown(table.schema[place], values[row, place])!r}" for part, place in parts)


def mark_skipped(design: Design, table: Table, values: np.ndarray, hidden: np.ndarray) -> None:
    """Cells that do not apply get their value, and are hidden from the model."""
    for name, (rule, label) in design.skips.items():
        place, column = table.schema.index(name), table.schema[name]
        code = np.nan if label is None else code_in(column, label, "skip")
        holds, known = rule.truth(values, table.schema), ~np.isnan(values[:, place])
        wrong = np.flatnonzero((holds == 1) & known & (values[:, place] != code))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"Column {name!r}, row {row}: the value {shown(column, values[row, place])!r} stands where {rule.text!r} says that"
                f" there is {'none' if label is None else repr(label)}; correct it, mark it as unknown, or change the rule."
            )
        values[holds == 1, place] = code
        hidden[:, place] = (holds == 1) | (np.isnan(holds) & known & (values[:, place] == code))


def check_known(design: Design, table: Table, values: np.ndarray, limits: Limits) -> None:
    """Known cells obey bounds and rules."""
    outside = np.argwhere(~limits.hold(values) & ~does_not_apply(design, table, values))
    if len(outside):
        row, place = map(int, outside[0])
        column = table.schema[place]
        low, high = (
            shown(column, end[row, place]) if np.isfinite(end[row, place]) else None
            for end in (limits.lower, limits.upper)
        )
        raise DataError(
            f"Column {column.name!r}, row {row}: the value {shown(column, values[row, place])!r} is outside its bounds"
            f" ({low!r}, {high!r}); correct it, mark it as unknown, or widen the bounds."
        )
    for rule in design.checks:
        broken = np.flatnonzero(rule.truth(values, table.schema) == 0)
        if len(broken):
            raise DataError(
                f"Row {int(broken[0])} breaks the rule {rule.text!r} ({cells_named(rule, table, values, int(broken[0]))};"
                f" {len(broken)} such row{'s' if len(broken) > 1 else ''}); correct it, or mark a cell as unknown."
            )


def does_not_apply(design: Design, table: Table, values: np.ndarray) -> np.ndarray:
    found = np.zeros(values.shape, dtype=bool)
    for name, (rule, _) in design.skips.items():
        found[:, table.schema.index(name)] = rule.truth(values, table.schema) == 1
    return found


def cells_named(rule: Formula, table: Table, values: np.ndarray, row: int) -> str:
    names = rule.names or table.schema.names
    pairs = [(name, shown(table.schema[name], values[row, table.schema.index(name)])) for name in names]
    return ", ".join(f"{name} = {label!r}" for name, label in pairs)


def with_ties(found: Prepared) -> Prepared:
    """Unknown ingredients of known derived cells are known by halves."""
    for name in found.design.formulas:
        rows = found.tied[:, found.schema.index(name)]
        for part in bases_of(found.design, name):
            place = found.schema.index(part)
            found.partly[:, place] |= rows & np.isnan(found.values[:, place])
    return found
