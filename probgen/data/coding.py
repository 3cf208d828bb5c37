"""Cells as numbers and back, with every value checked against its column's kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from probgen.data.infer import UNKNOWN_TEXT
from probgen.data.schema import Column
from probgen.errors import DataError

__all__ = ["code_of", "codes_of", "decode_column", "encode_column", "is_missing", "is_unknown", "not_held"]

DAY = np.timedelta64(1, "D")
EPOCH = pd.Timestamp("1970-01-01")


def encode_column(series: pd.Series, column: Column) -> np.ndarray:
    """float64 codes or values, NaN = unknown."""
    if column.is_discrete:
        return encode_levels(series, column)
    if column.kind == "datetime":
        return encode_dates(series, column)
    x = numbers(series, column)
    refuse(np.isinf(x), series, column, "is infinite", "mark it as unknown (NaN) or correct it")
    check_support(x, series, column)
    return x


def encode_levels(series: pd.Series, column: Column) -> np.ndarray:
    found = level_codes(series, column)
    known = ", ".join(map(repr, column.levels[:12]))
    refuse(
        found == -1.0,
        series,
        column,
        "is none of its levels",
        f"known levels are {known}; add it to the schema or mark it as unknown",
    )
    return found


def level_codes(series: pd.Series, column: Column) -> np.ndarray:
    """Codes of labels: NaN = unknown, -1 = none of the levels."""
    codes = codes_of(column.levels)
    values = series.astype(object).where(series.notna(), None)
    return np.array([code_of(value, codes) for value in values], dtype=float)


def codes_of(levels: Sequence[Any]) -> dict[Any, float]:
    """Codes by label, by its text, and by ``(is the value a text, number)`` where a text stands for a number."""
    codes: dict[Any, float] = {}
    for code, level in enumerate(levels):
        codes[level] = float(code)
        codes.setdefault(str(level), float(code))
    numbers = [(not isinstance(level, str), number_in(level)) for level in levels]
    times = Counter(numbers)
    for code, number in enumerate(numbers):
        if number[1] is not None and times[number] == 1:  # "1" and "01" are two labels
            codes.setdefault(number, float(code))
    return codes


def code_of(value: Any, codes: dict[Any, float]) -> float:
    """The code of a label, NaN where it is a mark of an unknown cell, -1 where it is neither.

    A number is also the label that is written like it (1.0 is "1" or "01"), and a text the number that it stands for.
    """
    if value in codes:
        return codes[value]
    if is_unknown(value):
        return np.nan
    found = codes.get(str(value))
    return found if found is not None else codes.get((isinstance(value, str), number_in(value)), -1.0)


def number_in(value: Any) -> float | None:
    """The finite number that a value is, or that a text stands for."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | int | float | np.integer | np.floating):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def is_unknown(value: Any) -> bool:
    """None, NaN, or a text that is a mark of an unknown cell."""
    return is_missing(value) or (isinstance(value, str) and value.strip() in UNKNOWN_TEXT)


def is_missing(value: Any) -> bool:
    """None, NaN or pandas' mark of what there is not."""
    return value is None or value is pd.NA or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def encode_dates(series: pd.Series, column: Column) -> np.ndarray:
    dates = pd.to_datetime(series, errors="coerce", utc=True).dt.tz_localize(None)
    refuse((dates.isna() & series.notna()).to_numpy(), series, column, "is not a date", "write it as YYYY-MM-DD")
    days = (dates - EPOCH) / pd.Timedelta(days=1)
    return days.to_numpy(dtype=float)


def numbers(series: pd.Series, column: Column) -> np.ndarray:
    if pd.api.types.is_complex_dtype(series):
        raise DataError(f"Column {column.name!r} holds complex numbers; use their parts as two columns.")
    plain = series.astype(object).where(series.notna(), None)
    plain = plain.map(lambda v: None if is_unknown(v) else v)
    x = pd.to_numeric(plain, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    refuse(
        np.isnan(x) & plain.notna().to_numpy(), series, column, "is not a number", "correct it, or set another kind"
    )
    return x


def check_support(x: np.ndarray, series: pd.Series, column: Column) -> None:
    bad, what, remedy = outside(x, column)
    refuse(bad, series, column, what, remedy)


def outside(x: np.ndarray, column: Column) -> tuple[np.ndarray, str, str]:
    """Which numbers the column's kind cannot hold, what is wrong with them, and what to do."""
    if column.kind == "positive":
        return x <= 0, "is not positive", "correct it, or use kind 'real' or 'semicontinuous'"
    if column.kind == "count":
        bad = (x < 0) | (np.nan_to_num(x) != np.round(np.nan_to_num(x)))
        if bad.any() or column.bounds is None:
            return bad, "is not a count", "use kind 'real'"
    if column.kind == "semicontinuous":
        return x < 0, "is negative", "correct it, or use kind 'real'"
    if column.kind in ("bounded", "count") and column.bounds is not None:
        low, high = column.bounds
        return (x < low) | (x > high), f"is outside [{low:g}, {high:g}]", "correct it, or widen the bounds"
    return np.zeros(len(x), bool), "", ""


def not_held(series: pd.Series, column: Column) -> np.ndarray:
    """Which known cells the column's kind cannot hold: labels that are none of its levels, numbers outside its support."""
    if column.is_discrete:
        return level_codes(series, column) == -1.0
    if column.kind == "datetime":
        return np.zeros(len(series), bool)
    return outside(numbers(series, column), column)[0]


def refuse(bad: np.ndarray, series: pd.Series, column: Column, what: str, remedy: str) -> None:
    """Name the first bad cell."""
    places = np.nonzero(bad)[0]
    if len(places):
        value, row = series.iloc[int(places[0])], series.index[int(places[0])]
        more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
        raise DataError(
            f"Column {column.name!r} ({column.kind}), row {row}: the value {plain(value)!r} {what}{more}; {remedy}."
        )


def plain(value: Any) -> Any:
    """A number of numpy's as Python writes it."""
    return value.item() if isinstance(value, np.generic) else value


def decode_column(values: np.ndarray, column: Column) -> np.ndarray:
    """Labels, dates or numbers; None (NaT, NaN) where unknown."""
    unknown = np.isnan(values)
    if column.is_discrete:
        labels = np.array([*column.levels, None], dtype=object)
        return labels[np.where(unknown, len(column.levels), values).astype(int)]
    if column.kind == "datetime":
        nanoseconds = np.where(unknown, 0.0, values) * 86_400_000_000
        dates = nanoseconds.round().astype("int64").astype("datetime64[us]")
        return np.where(unknown, np.datetime64("NaT"), dates)
    return values.copy()
