"""Tables: values and what is known of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from probgen.data.coding import decode_column, encode_column
from probgen.data.infer import infer_column
from probgen.data.native import Native, to_pandas
from probgen.data.schema import Schema
from probgen.errors import DataError, DataWarning

__all__ = ["Table"]


class Table:
    """Rows and columns, each cell known or unknown. Immutable.

    Args:
        data: a pandas, polars or Arrow table, a two-dimensional array, or a mapping from names to columns.
        schema: the columns' kinds; inferred where it is None.
        weights: one non-negative number a row.
        target: the column that is to be predicted, if any.

    Attributes:
        values: ``(N, D)`` float64, NaN = unknown; codes for discrete columns, days since 1970 for dates.
        schema: the columns.
        weights: ``(N,)`` or None.

    Example:
        >>> table = Table({"height": [1.5, None, 1.9, 1.7], "smoker": ["no", "yes", "no", None]})
        >>> table.known.sum()
        np.int64(6)
        >>> table.column("smoker").tolist()
        ['no', 'yes', 'no', None]
    """

    def __init__(
        self, data: Any, schema: Schema | None = None, weights: Any = None, target: str | None = None
    ) -> None:
        if isinstance(data, Table):
            data, weights = data.to_pandas(), data.weights if weights is None else weights
        frame, native = to_pandas(data)
        check_frame(frame)
        found = schema or Schema(tuple(infer_column(frame[name]) for name in frame.columns))
        if schema is not None:
            frame = matching(by_position(frame, schema) if native.kind == "numpy" else frame, schema)
        values = np.column_stack([encode_column(frame[c.name], c) for c in found])
        self._set(
            values, found if target is None else found.with_target(target), check_weights(weights, len(frame)), native
        )

    def _set(self, values: np.ndarray, schema: Schema, weights: np.ndarray | None, native: Native) -> None:
        values = np.ascontiguousarray(values, dtype=np.float64)
        values.setflags(write=False)
        self.values, self.schema, self.weights, self._native = values, schema, weights, native

    @classmethod
    def _made(cls, values: np.ndarray, schema: Schema, weights: np.ndarray | None, native: Native) -> Table:
        table = cls.__new__(cls)
        table._set(values, schema, weights, native)
        return table

    @classmethod
    def from_codes(cls, values: np.ndarray, schema: Schema, weights: Any = None) -> Table:
        """A table from numbers that are already coded as ``values`` are."""
        if values.ndim != 2 or values.shape[1] != len(schema):
            raise DataError(f"values must have shape (rows, {len(schema)}), got {values.shape}.")
        return cls._made(values, schema, check_weights(weights, len(values)), Native("pandas"))

    # -- reading -----------------------------------------------------------------------------------------------
    @property
    def known(self) -> np.ndarray:
        """``(N, D)`` mask of the known cells."""
        return ~np.isnan(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        return self.schema.names

    @property
    def n_rows(self) -> int:
        return len(self.values)

    @property
    def n_columns(self) -> int:
        return len(self.schema)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        unknown = int((~self.known).sum())
        return f"Table({self.n_rows} rows, {self.n_columns} columns, {unknown} unknown cells)"

    def column(self, name: str) -> np.ndarray:
        """One column with its labels; None or NaN where unknown."""
        place = self.schema.index(name)
        return decode_column(self.values[:, place], self.schema[place])

    def fingerprint(self) -> str:
        """A hash of values, weights and schema."""
        digest = hashlib.sha256(self.schema.to_json().encode())
        digest.update(np.where(self.known, self.values, np.nan).tobytes())
        digest.update(b"" if self.weights is None else self.weights.tobytes())
        return digest.hexdigest()[:16]

    # -- other tables ------------------------------------------------------------------------------------------
    def take(self, rows: Any) -> Table:
        """Some rows, by place or by mask."""
        index = np.arange(len(self))[
            rows if isinstance(rows, slice) else np.asarray(rows, dtype=None if len(rows) else int)
        ]
        weights = None if self.weights is None else self.weights[index]
        return self._made(self.values[index], self.schema, weights, self._native.take(index))

    def pieces(self, rows: int) -> Iterator[Table]:
        """All rows in order, at most ``rows`` at a time."""
        if len(self) <= rows:
            yield self
            return
        for start in range(0, len(self), rows):
            yield self.take(np.arange(start, min(start + rows, len(self))))

    def select(self, names: Sequence[str]) -> Table:
        """Some columns."""
        places = [self.schema.index(name) for name in names]
        return self._made(self.values[:, places], self.schema.select(names), self.weights, self._native)

    def drop(self, names: Sequence[str]) -> Table:
        """All columns but these."""
        return self.select(self.schema.drop(names).names)

    def hide(self, *names: str) -> Table:
        """The same table with these columns unknown."""
        values = self.values.copy()
        values[:, [self.schema.index(name) for name in names]] = np.nan
        return self.with_values(values)

    def with_values(self, values: np.ndarray) -> Table:
        """Other values in the same columns and rows."""
        if values.shape != self.values.shape:
            raise DataError(f"values must have shape {self.values.shape}, got {values.shape}.")
        return self._made(values, self.schema, self.weights, self._native)

    def with_weights(self, weights: Any) -> Table:
        """Other row weights."""
        return self._made(self.values, self.schema, check_weights(weights, len(self)), self._native)

    def with_target(self, target: str | None) -> Table:
        """Another column to be predicted."""
        return self._made(self.values, self.schema.with_target(target), self.weights, self._native)

    def split(self, *fractions: float, seed: int = 0, stratify: str | None = None) -> tuple[Table, ...]:
        """Random parts with these shares of the rows, reproducible from the seed.

        Example:
            >>> train, test = Table({"x": np.arange(10.0)}).split(0.8, 0.2, seed=1)
            >>> len(train), len(test)
            (8, 2)
        """
        if not fractions or any(f <= 0 for f in fractions) or sum(fractions) > 1 + 1e-9:
            raise DataError(f"fractions must be positive and sum to at most 1, got {fractions}.")
        order = np.random.default_rng(seed).permutation(len(self))
        if stratify is not None:  # spread every level evenly over the order
            codes = pd.Series(self.values[order, self.schema.index(stratify)]).fillna(-1)
            place = (codes.groupby(codes).cumcount() + 0.5) / codes.map(codes.value_counts())
            order = order[np.argsort(place.to_numpy(), kind="stable")]
        edges = np.round(np.cumsum(fractions) * len(self)).astype(int)
        return tuple(self.take(np.sort(order[a:b])) for a, b in zip([0, *edges], edges, strict=False))

    # -- back --------------------------------------------------------------------------------------------------
    def to_pandas(self) -> pd.DataFrame:
        """A data frame with the labels, types and index that the data came with."""
        return self._native.frame(self.values, self.schema)

    def to_native(self) -> Any:
        """The type of table that the data came in."""
        return self._native.restore(self.values, self.schema)

    # -- fitness -----------------------------------------------------------------------------------------------
    def check_for_fit(self) -> None:
        """Refuse what no model can learn from.

        Raises:
            DataError: an unknown column or row, or a constant number; the message says which and what to do. A discrete
                column may show one of its levels only.
        """
        seen = self.known
        empty = np.nonzero(~seen.any(1))[0]
        if len(empty):
            raise DataError(
                f"Row {int(empty[0])} has no known cell ({len(empty)} such rows); drop them before fitting."
            )
        for place, column in enumerate(self.schema):
            known = self.values[seen[:, place], place]
            if len(known) == 0:
                raise DataError(f"Column {column.name!r} has no known value; drop it before fitting.")
            if not column.is_discrete and np.all(known == known[0]):
                shown = decode_column(known[:1], column)[0]
                raise DataError(
                    f"Column {column.name!r} is constant ({shown!r} in all known rows); drop it before fitting."
                )
        if self.weights is not None and not (self.weights > 0).any():
            raise DataError("All weights are zero; give at least one row a positive weight.")


def check_frame(frame: pd.DataFrame) -> None:
    if frame.shape[1] == 0:
        raise DataError("The table has no columns; give at least one.")
    if len(frame) == 0:
        raise DataError(f"The table has no rows (columns: {', '.join(map(str, frame.columns))}); give at least one.")
    repeated = frame.columns[frame.columns.duplicated()].tolist()
    if repeated:
        raise DataError(f"Column names repeat: {', '.join(map(repr, repeated))}; rename them.")


def by_position(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """An array's columns have no names: they are the schema's, in order."""
    if frame.shape[1] != len(schema):
        raise DataError(f"The array has {frame.shape[1]} columns, the schema {len(schema)}; they must agree.")
    return frame.set_axis(list(schema.names), axis=1)


def matching(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The schema's columns of a frame; extra ones are left out with a warning."""
    import warnings

    missing = [name for name in schema.names if name not in frame.columns]
    if missing:
        raise DataError(
            f"The table lacks column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, frame.columns))}."
            " Add it, with NaN where it is unknown."
        )
    extra = [name for name in frame.columns if name not in schema.names]
    if extra:
        warnings.warn(
            f"Columns that the schema does not know are left out: {', '.join(map(repr, extra))}.",
            DataWarning,
            stacklevel=4,
        )
    return frame[list(schema.names)]


def check_weights(weights: Any, rows: int) -> np.ndarray | None:
    if weights is None:
        return None
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != (rows,):
        raise DataError(f"weights must have shape ({rows},), one a row, got {found.shape}.")
    bad = np.nonzero(~np.isfinite(found) | (found < 0))[0]
    if len(bad):
        raise DataError(f"weights must be finite and not negative; row {int(bad[0])} has {found[bad[0]]}.")
    return found
