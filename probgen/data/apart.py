"""Tables with columns that no model sees: identifiers and texts as they are, and columns that a formula will fill."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from probgen.data.infer import infer_column
from probgen.data.native import to_pandas
from probgen.data.schema import Column, Schema
from probgen.data.table import Table
from probgen.errors import DataError

__all__ = ["appended", "table_with"]

EXACT = 2**53  # whole numbers up to here are floats without loss


def table_with(data: Any, kept: Collection[str], unseen: Collection[str], schema: Schema | None = None) -> Table:
    """A table of which some columns are for no model.

    Args:
        data: a Table, or anything that one can be made of.
        kept: columns that come back as they are; they may hold any label.
        unseen: columns that may be without a known value.
        schema: of the other columns, by name; inferred where it is None.
    """
    if isinstance(data, Table) and schema is None:
        return data
    if isinstance(data, Table):
        data = data.to_native() if data.lengths is None else data
    frame, native = to_pandas(data)
    if schema is not None and native.kind == "numpy":
        return Table(data, schema=schema)
    columns = [
        as_labels(frame[name])
        if name in kept
        else column_for(frame[name], name in unseen, None if schema is None else schema)
        for name in (frame.columns if schema is None else schema.names)
        if name in frame.columns or refuse_absent(name)
    ]
    return Table(data, schema=Schema(tuple(columns), images=() if schema is None else schema.images))


def refuse_absent(name: str) -> bool:
    raise DataError(f"The table lacks column {name!r}; add it, with NaN where it is unknown.")


def column_for(series: pd.Series, unseen: bool, schema: Schema | None) -> Column:
    if schema is not None:
        return schema[str(series.name)]
    if unseen and series.isna().all():
        return Column(str(series.name), "real", reason="nothing known yet", incomplete=True, dtype=str(series.dtype))
    return infer_column(series)


def as_labels(series: pd.Series) -> Column:
    """A column whose cells keep their bits: numbers where numbers hold them, else every different cell is a label."""
    found: Mapping[str, Any] = {"name": str(series.name), "dtype": str(series.dtype), "reason": "kept as it is"}
    known = series.dropna()
    numeric = pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series)
    if numeric and not known.empty and np.abs(known.astype(float)).max() <= EXACT:
        return Column(kind="real", **found)
    if pd.api.types.is_datetime64_any_dtype(series) and not known.empty:
        return Column(kind="datetime", **found)
    if known.empty:
        return Column(kind="real", **found)
    return Column(kind="categorical", levels=tuple(known.unique().tolist()), **found)


def appended(table: Table, names: Sequence[str]) -> Table:
    """The table with further columns of numbers, nothing of which is known."""
    fresh = tuple(Column(name, "real", reason="derived", incomplete=True) for name in names)
    values = np.column_stack([table.values, np.full((table.n_rows, len(fresh)), np.nan)])
    schema = replace(table.schema, columns=table.schema.columns + fresh)
    return table.with_columns(values, schema) if fresh else table
