"""From the user's kind of table to pandas, and back with types, levels and index kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from probgen.data.coding import decode_column
from probgen.data.schema import Column, Schema
from probgen.errors import DataError

__all__ = ["Native", "labelled", "polars_frame", "stacked", "to_pandas"]


@dataclass(frozen=True)
class Native:
    """What kind of table the data came in: "pandas", "polars", "arrow", "numpy" or "mapping"."""

    kind: str
    dtypes: Mapping[str, Any] | None = None
    index: pd.Index | None = None
    original: Any = None  # dtypes of a polars or Arrow table, or of an array

    def take(self, rows: np.ndarray) -> Native:
        return self if self.index is None else replace(self, index=self.index[rows])

    def frame(self, values: np.ndarray, schema: Schema) -> pd.DataFrame:
        """A data frame with the original dtypes."""
        dtypes = self.dtypes or {}
        columns = {
            column.name: restored(values[:, place], column, dtypes.get(column.name))
            for place, column in enumerate(schema)
        }
        made = pd.DataFrame(columns)
        return made if self.index is None or len(self.index) != len(made) else made.set_axis(self.index, axis=0)

    def restore(self, values: np.ndarray, schema: Schema) -> Any:
        """The original kind of table."""
        return self.given_back(self.frame(values, schema))

    def given_back(self, frame: pd.DataFrame) -> Any:
        """A data frame as the original kind of table."""
        if self.kind == "polars":
            return polars_frame(frame, self.original)
        if self.kind == "arrow":
            import pyarrow as pa

            made = pa.Table.from_pandas(frame, preserve_index=False)
            fields = [self.original.field(n) if n in self.original.names else made.field(n) for n in made.column_names]
            return made.cast(pa.schema(fields))
        if self.kind == "numpy":
            return frame.to_numpy(dtype=self.original if self.original.kind == "f" else None)
        if self.kind == "mapping":
            return {name: frame[name].tolist() for name in frame}
        return frame


def polars_frame(frame: pd.DataFrame, dtypes: Mapping[str, Any]) -> Any:
    """A polars frame with these dtypes, where they can hold what is in it."""
    import polars as pl

    made = pl.from_pandas(frame.reset_index(drop=True))
    held = {n: t for n, t in dtypes.items() if n in made.columns and t not in (made.schema[n], pl.Null)}
    for name, dtype in held.items():
        if not isinstance(dtype, pl.Enum) or set(made[name].unique().drop_nulls()) <= set(dtype.categories):
            made = made.with_columns(pl.col(name).cast(dtype))
    return made


def restored(values: np.ndarray, column: Column, dtype: Any) -> pd.Series:
    """One column in its original dtype; whole numbers with holes become nullable where they must."""
    decoded = decode_column(values, column)
    unknown = np.isnan(values)
    if dtype is None:
        if column.is_discrete:
            return pd.Series(pd.Categorical(decoded, categories=list(column.levels), ordered=column.kind == "ordinal"))
        whole = column.kind == "count" and not unknown.any()
        return pd.Series(decoded.astype("int64") if whole else decoded)
    if pd.api.types.is_integer_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
        return integers(decoded, unknown, column, dtype)
    made = pd.Series(decoded if column.kind != "datetime" else pd.to_datetime(decoded))
    if column.kind == "datetime" and not pd.api.types.is_datetime64_any_dtype(dtype):
        whole_days = bool((made.dropna() == made.dropna().dt.normalize()).all())
        made = made.dt.strftime("%Y-%m-%d" if whole_days else "%Y-%m-%d %H:%M:%S").astype(object)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return made.dt.tz_localize("UTC").astype(dtype)
    if isinstance(dtype, pd.CategoricalDtype):  # new rows may lack a category that was drawn for them
        dtype = pd.CategoricalDtype(dtype.categories.union(made.dropna().unique(), sort=False), dtype.ordered)
    try:
        return made.astype(dtype)
    except (TypeError, ValueError):
        return made


def integers(decoded: np.ndarray, unknown: np.ndarray, column: Column, dtype: Any) -> pd.Series:
    """Whole numbers and truth values: rounding a draw of a real column to the type it came in."""
    if column.is_discrete:
        made = pd.Series(decoded, dtype=object)
    else:
        made = pd.Series(np.round(decoded.astype(float))).astype("Float64")
    numpy_type = isinstance(dtype, np.dtype)
    if numpy_type and unknown.any():
        nullable = "boolean" if dtype.kind == "b" else "Int64"
        return made.where(~unknown, pd.NA).astype(nullable)
    return made.where(~unknown, pd.NA).astype(dtype) if not numpy_type else made.astype(dtype)


def to_pandas(data: Any) -> tuple[pd.DataFrame, Native]:
    """A data frame of the same cells, and how to go back."""
    if isinstance(data, pd.DataFrame):
        named = (
            data
            if all(isinstance(c, str) for c in data.columns)
            else data.set_axis([str(c) for c in data.columns], axis=1)
        )
        return named, Native("pandas", dict(zip(named.columns, named.dtypes, strict=True)), data.index)
    if isinstance(data, pd.Series):
        return to_pandas(data.to_frame())
    module = type(data).__module__.split(".")[0]
    if module == "polars":
        frame = pd.DataFrame({name: polars_column(data[name]) for name in data.columns})
        return frame, Native("polars", dict(zip(frame.columns, frame.dtypes, strict=True)), original=dict(data.schema))
    if module == "pyarrow":
        frame = data.to_pandas(types_mapper=arrow_types().get)
        return frame, Native("arrow", dict(zip(frame.columns, frame.dtypes, strict=True)), original=data.schema)
    if isinstance(data, Mapping):
        frame = from_mapping(data)
        return frame, Native("mapping")
    return from_array(data)


def from_mapping(data: Mapping) -> pd.DataFrame:
    lengths = {str(name): len(values) for name, values in data.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r} has {n}" for name, n in lengths.items())
        raise DataError(f"Columns must have equal lengths; {told}.")
    return pd.DataFrame({str(name): pd.Series(list(values)) for name, values in data.items()})


def from_array(data: Any) -> tuple[pd.DataFrame, Native]:
    array = np.asarray(data)
    if array.ndim != 2:
        raise DataError(
            f"An array must have two dimensions, rows and columns; got shape {array.shape}. Use reshape(-1, 1) for one column."
        )
    if array.dtype.kind == "c":
        raise DataError("The array holds complex numbers; use their parts as two columns.")
    frame = pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])
    if array.dtype.kind == "O":
        frame = frame.infer_objects()
    return frame, Native("numpy", None, original=array.dtype)


def polars_column(series: Any) -> pd.Series:
    """Nullable whole numbers stay whole; categories keep their levels."""
    import polars as pl

    if series.dtype.is_integer():
        return pd.Series(series.to_list(), dtype="Int64", name=series.name)
    if series.dtype == pl.Boolean:
        return pd.Series(series.to_list(), dtype="boolean", name=series.name)
    if isinstance(series.dtype, pl.Categorical | pl.Enum):
        seen = series.drop_nulls().unique(maintain_order=True)
        levels = series.dtype.categories if isinstance(series.dtype, pl.Enum) else seen
        return pd.Series(pd.Categorical(series.to_list(), categories=levels.to_list()), name=series.name)
    return series.to_pandas()


def arrow_types() -> dict:
    """Nullable pandas types for Arrow's whole numbers and truth values."""
    import pyarrow as pa

    whole = {
        getattr(pa, f"{sign}int{bits}")(): pd.Series(dtype=f"{'U' if sign else ''}Int{bits}").dtype
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    }
    return {**whole, pa.bool_(): pd.BooleanDtype()}


def labelled(value: Any, labels: Sequence[Any]) -> Any:
    """A pandas series, or the rows of a data frame, by label; those without labels in their order; all else as it is.

    Args:
        value: anything.
        labels: what a row may be called; rows that are only numbered, and not called so, have no labels.
    """
    if not isinstance(value, pd.Series | pd.DataFrame):
        return value
    index = value.index
    if isinstance(index, pd.RangeIndex) and not set(index) <= set(labels):
        return [value.iloc[place] for place in range(len(value))]
    return {label: value.xs(label) for label in index.unique(0)}


def stacked(frames: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Data frames one below the other: columns ``.imp``, the number, and ``.id``, the row's label, in front."""
    parts = []
    for number, frame in frames.items():
        part = frame.reset_index(names=".id")
        part.insert(0, ".imp", number)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
