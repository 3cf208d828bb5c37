"""Drawn numbers with as many decimals as the known ones have, for files that people read."""

from __future__ import annotations

from typing import Any

import numpy as np

from probgen.data.schema import Column
from probgen.data.table import Table

__all__ = ["decimals", "rounded", "whole_as_integers"]

FINEST = 9  # decimals


def decimals(values: np.ndarray) -> int | None:
    """The fewest decimals with which all numbers can be written; None where more than nine are needed.

    Example:
        >>> decimals(np.array([171.0, 165.25, 180.5])), decimals(np.array([3.0, 40.0])), decimals(np.array([1 / 3]))
        (2, 0, None)
    """
    if not len(values):
        return None
    enough = (places for places in range(FINEST + 1) if same(np.round(values, places), values))
    return next(enough, None)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for the last bit or two."""
    return bool((np.abs(one - other) <= 2 * np.spacing(np.abs(other))).all())


def rounded(completed: Table, table: Table) -> Table:
    """A completed table whose drawn numbers have the decimals of the known ones; known cells keep their bits.

    Args:
        completed: by draws.
        table: as it was, with its holes.
    """
    values = completed.values.copy()
    for place, column in enumerate(table.schema):
        known = table.known[:, place]
        places = None if column.is_discrete or column.kind == "datetime" else decimals(table.values[known, place])
        if places is not None:
            values[~known, place] = inside(values[~known, place], places, column)
    return completed.with_values(values)


def inside(drawn: np.ndarray, places: int, column: Column) -> np.ndarray:
    """Rounded, and still what the column can hold: amounts that are not zero do not become so."""
    made = np.round(drawn, places)
    if column.kind in ("positive", "semicontinuous"):
        made = np.where((drawn > 0) & (made <= 0), 10.0**-places, made)
    if column.kind == "bounded" and column.bounds is not None:
        made = np.where((made < column.bounds[0]) | (made > column.bounds[1]), drawn, made)
    return made


def whole_as_integers(frame: Any, names: list[str]) -> Any:
    """A data frame in which columns that are numbers only because they had holes are whole numbers."""
    whole = [name for name in names if frame[name].dtype.kind == "f" and is_whole(frame[name].dropna().to_numpy())]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def is_whole(values: np.ndarray) -> bool:
    return bool(((values == np.round(values)) & (np.abs(values) < 2**53)).all())
