"""A table of any kind with its holes filled, and all else as it was: names, types, index, and values no model can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from probgen.data.coding import is_unknown, not_held, plain
from probgen.data.infer import check_finite
from probgen.data.native import polars_frame, to_pandas
from probgen.data.schema import Schema
from probgen.data.table import Table, check_frame

__all__ = ["Cells", "as_numbers", "held"]


class Cells:
    """The cells of a data frame or an array, by the places of their columns.

    Args:
        data: a pandas, polars or Arrow table, or a two-dimensional array.

    Attributes:
        unknown: ``(N, D)`` mask.
        labels: of the columns, as they came.
        names: of the columns, as texts.
        named: False for an array, whose columns are numbered.

    Raises:
        DataError: no rows, repeated names, or an infinite number.
    """

    def __init__(self, data: Any) -> None:
        self.frame, self.native = to_pandas(data)
        check_frame(self.frame)
        for name in self.frame:
            if pd.api.types.is_float_dtype(self.frame[name]):
                check_finite(self.frame[name].dropna(), str(name))
        self.named = self.native.kind != "numpy"
        self.names = tuple(map(str, self.frame.columns))
        self.labels = list(data.columns if self.native.kind == "pandas" else self.frame.columns)
        self.unknown = np.column_stack([unknown(self.frame[name]) for name in self.frame])

    @staticmethod
    def series(table: Table) -> list[pd.Series]:
        """The columns of a completed table, in the types of the data that it was made of."""
        frame = table.to_pandas()
        return [frame.iloc[:, at] for at in range(frame.shape[1])]

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.labels)

    def values(self, place: int) -> list[Any]:
        """The first two different known values of a column."""
        return self.frame.iloc[:, place][~self.unknown[:, place]].drop_duplicates().head(2).tolist()

    def holds_numbers(self, place: int) -> bool:
        """True where zero is a value of the column's type."""
        return pd.api.types.is_numeric_dtype(self.frame.dtypes.iloc[place])

    def columns(self, places: Sequence[int], names: Sequence[str]) -> pd.DataFrame:
        """Some columns, under these names."""
        return self.frame.iloc[:, list(places)].set_axis(list(names), axis=1)

    def filled(self, filling: Mapping[int, Any], added: Mapping[str, Any], kind: str, labels: Any) -> Any:
        """The columns that have a filling, with the unknown cells taken from there.

        Args:
            filling: by place of the column: as many values as there are rows, one value for all, or None to leave its holes.
            added: further columns, by name.
            kind: of table: "pandas", "polars", or "default" for what came in.
            labels: of all these columns.
        """
        columns = [merged(self.frame.iloc[:, at], self.unknown[:, at], new) for at, new in filling.items()]
        columns += [pd.Series(values, index=self.frame.index, name=name) for name, values in added.items()]
        made = pd.DataFrame({column.name: column for column in columns}, index=self.frame.index)
        if kind == "default" or kind == self.native.kind:
            return relabelled(self.native.given_back(made), labels)
        return relabelled(polars_frame(made, {}) if kind == "polars" else made, labels)


def relabelled(made: Any, labels: Sequence[Any]) -> Any:
    """The same table with these names of columns, where it has names."""
    if hasattr(made, "rename_columns"):
        return made.rename_columns([str(label) for label in labels])
    if hasattr(made, "columns"):
        made.columns = list(labels)
    return made


def held(frame: pd.DataFrame, schema: Schema) -> tuple[pd.DataFrame, list[str]]:
    """The frame without the values that the schema's kinds cannot hold, and words on these."""
    frame, told = frame.copy(), []
    for column in schema:
        odd = not_held(frame[column.name], column)
        if odd.any():
            first = plain(frame[column.name].iloc[int(np.argmax(odd))])
            told.append(f"{first!r} in {column.name!r}" + (f" (and {odd.sum() - 1} more)" if odd.sum() > 1 else ""))
            frame[column.name] = frame[column.name].astype(object).mask(odd, None)
    return frame, told


def as_numbers(array: np.ndarray) -> np.ndarray:
    """An array of any type as floats, or as objects where some cell is a text that is no number.

    Raises:
        TypeError: a cell is neither a text nor a number.
    """
    if array.dtype.kind in "fM":
        return array
    cells = array.astype(object)
    try:
        return np.where(pd.isna(cells), np.nan, cells).astype(np.float64)
    except ValueError:
        return cells


def unknown(series: pd.Series) -> np.ndarray:
    """Missing values; in columns of text, also the usual marks of them."""
    missing = series.isna().to_numpy(dtype=bool)
    if isinstance(series.dtype, pd.CategoricalDtype) or not (
        pd.api.types.is_object_dtype(series.dtype) or pd.api.types.is_string_dtype(series.dtype)
    ):
        return missing
    return missing | np.array([is_unknown(value) for value in series], dtype=bool)


def merged(series: pd.Series, holes: np.ndarray, new: Any) -> pd.Series:
    """The column with its holes filled, in its own type where that holds what is drawn for them."""
    if new is None or not holes.any():
        return series
    values = new.array if isinstance(new, pd.Series) else pd.array([new] * len(series), dtype=object)
    drawn = pd.Series(values, index=series.index, name=series.name)
    if drawn.dtype == series.dtype:
        return series.where(~holes, drawn)
    kind = type_for(series, drawn[holes])
    return series.astype(kind).where(~holes, drawn.astype(object).where(holes, series).astype(kind))


def type_for(series: pd.Series, drawn: pd.Series) -> Any:
    """The column's type, widened by new categories, or ``object`` where it cannot hold the new values."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.CategoricalDtype(dtype.categories.union(pd.Index(drawn.unique()), sort=False), dtype.ordered)
    try:
        drawn.astype(dtype)
    except (TypeError, ValueError):
        return object
    return dtype
