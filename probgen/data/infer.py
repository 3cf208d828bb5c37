"""What kind of column is this? Rules on pandas columns, each with a reason that one can print."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from probgen.data.schema import Column
from probgen.errors import DataError, SchemaError

__all__ = ["infer_column"]

EXACT = 2**53  # from where on not all whole numbers are numbers of double precision
UNKNOWN_TEXT = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")


def infer_column(series: pd.Series) -> Column:
    """The kind of one column, with the reason."""
    name, values = str(series.name), series.dropna()
    found: dict[str, Any] = {"name": name, "incomplete": len(values) < len(series), "dtype": str(series.dtype)}
    if len(values) == 0:
        raise DataError(f"Column {name!r} has no known value in {len(series)} rows; drop it.")
    if isinstance(series.dtype, pd.CategoricalDtype):
        return from_categories(series, found)
    if pd.api.types.is_bool_dtype(values) or set(map(type, values.unique())) <= {bool, np.bool_}:
        return Column(kind="binary", levels=(False, True), reason="true or false", **found)
    if pd.api.types.is_datetime64_any_dtype(values):
        return Column(kind="datetime", reason="dates", **found)
    if pd.api.types.is_numeric_dtype(values):
        if pd.api.types.is_complex_dtype(values):
            raise DataError(f"Column {name!r} holds complex numbers; use their parts as two columns.")
        return from_numbers(values, found)
    return from_labels(values, len(series), found)


def from_categories(series: pd.Series, found: dict[str, Any]) -> Column:
    used = series.cat.categories.tolist()
    if len(used) < 2:
        raise DataError(
            f"Column {found['name']!r} has a single category, {used[0]!r}; a constant says nothing: drop it."
        )
    if series.cat.ordered and len(used) > 2:
        return Column(kind="ordinal", levels=tuple(used), reason="an ordered categorical", **found)
    kind = "binary" if len(used) == 2 else "categorical"
    return Column(kind=kind, levels=tuple(used), reason=f"a categorical of {len(used)} levels", **found)


def from_labels(values: pd.Series, rows: int, found: dict[str, Any]) -> Column:
    labels = sorted(set(values.astype(str).unique().tolist()) - set(UNKNOWN_TEXT))
    name = found["name"]
    if not labels:
        raise DataError(f"Column {name!r} has no known value in {rows} rows; drop it.")
    if looks_like_dates(labels):
        return Column(kind="datetime", reason="text that reads as dates", **found)
    if len(labels) > max(20, 0.5 * rows):
        raise SchemaError(
            f"Column {name!r} has {len(labels)} different texts in {rows} rows (for instance {labels[0]!r}): it looks like an"
            " identifier. Drop it, or say what it is with a schema."
        )
    if len(labels) == 1:
        raise DataError(f"Column {name!r} has one value only, {labels[0]!r}; a constant says nothing: drop it.")
    kind = "binary" if len(labels) == 2 else "categorical"
    return Column(kind=kind, levels=tuple(labels), reason=f"text with {len(labels)} levels", **found)


def looks_like_dates(labels: list[str]) -> bool:
    """ISO dates, every one of them."""
    if not all(len(text) >= 8 and text[:4].isdigit() and text[4] in "-/" for text in labels):
        return False
    return bool(pd.to_datetime(pd.Series(labels), errors="coerce", format="ISO8601").notna().all())


def from_numbers(values: pd.Series, found: dict[str, Any]) -> Column:
    x = values.to_numpy(dtype=float)
    check_finite(values, found["name"])
    check_exact(values, found["name"])
    distinct = np.unique(x)
    whole = bool(np.all(x == np.round(x)))
    if len(distinct) == 2:
        levels = tuple(int(v) if whole else float(v) for v in distinct)
        return Column(kind="binary", levels=levels, reason="two values", **found)
    low, high = float(distinct[0]), float(distinct[-1])
    small = whole and low >= 0 and not (low > 2 * (high - low) and low > 20) and high <= 1000 and len(distinct) <= 200
    if whole and 2 < len(distinct) <= 10 and low > 20 and low > 2 * (high - low):
        levels = tuple(int(v) for v in distinct)
        return Column(kind="ordinal", levels=levels, reason=f"{len(levels)} whole numbers far from zero", **found)
    if small and len(distinct) > 1:
        return Column(kind="count", reason="whole numbers from zero up", **found)
    return from_reals(x, low, high, found)


def check_exact(values: pd.Series, name: str) -> None:
    """Refuse whole numbers that numbers of double precision cannot tell apart."""
    if not pd.api.types.is_integer_dtype(values.dtype):
        return
    large = values[values.astype(object).map(abs) >= EXACT]
    if len(large):
        raise SchemaError(
            f"Column {name!r} has whole numbers as large as {large.iloc[0]}, which cannot be told apart in double precision: it looks"
            " like an identifier. Drop it, or read it as text."
        )


def from_reals(x: np.ndarray, low: float, high: float, found: dict[str, Any]) -> Column:
    zero = float(np.mean(x == 0))
    fractions = low >= 0 and high <= 1 and low < 0.05 and high > 0.95
    if low == 0 and 0.1 <= zero <= 0.95 and not (fractions and high == 1):
        return Column(kind="semicontinuous", reason=f"{zero:.0%} exact zeros, the rest positive", **found)
    if low > 0 and skewness(x) > 1 and abs(skewness(np.log(x))) < skewness(x):
        return Column(kind="positive", reason=f"positive and skewed ({skewness(x):.1f})", **found)
    if fractions:
        return Column(kind="bounded", bounds=(0.0, 1.0), reason="fractions from 0 to 1", **found)
    return Column(kind="real", reason="numbers", **found)


def skewness(x: np.ndarray) -> float:
    centred = x - x.mean()
    spread = centred.std()
    return 0.0 if spread == 0 else float((centred**3).mean() / spread**3)


def check_finite(values: pd.Series, name: str) -> None:
    infinite = np.nonzero(np.isinf(values.to_numpy(dtype=float)))[0]
    if len(infinite):
        row = values.index[infinite[0]]
        raise DataError(f"Column {name!r}, row {row}: the value is infinite; mark it as unknown (NaN) or correct it.")
