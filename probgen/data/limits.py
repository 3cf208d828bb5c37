"""What is known of cells whose value is not: that they lie in an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.errors import DataError, SchemaError

__all__ = ["Censored", "Limits", "censored"]


@dataclass(frozen=True, eq=False)
class Limits:
    r"""Intervals of knowledge, :math:`x_{nd} \in [lower_{nd}, upper_{nd}]`, one for every cell of a table.

    They mean something in unknown cells only; a known cell is its own interval.

    Attributes:
        lower: ``(N, D)`` in the table's units (codes of ordinal columns, days of dates), -inf where nothing is known.
        upper: ``(N, D)``, inf where nothing is known.

    Raises:
        DataError: another shape, NaN, or an empty interval; names the cell.

    Example:
        >>> limits = Limits.open((2, 1)).narrowed(np.array([0]), 0, upper=0.05)  # row 0 is below the detection limit
        >>> limits.told.tolist(), limits.hold(np.array([[0.02], [3.0]])).tolist()
        ([[True], [False]], [[True], [True]])
    """

    lower: np.ndarray
    upper: np.ndarray

    def __post_init__(self) -> None:
        if self.lower.ndim != 2 or self.lower.shape != self.upper.shape:
            raise DataError(f"Limits are two (N, D) arrays, got shapes {self.lower.shape} and {self.upper.shape}.")
        for cells, why in (
            (np.isnan(self.lower) | np.isnan(self.upper), "are not numbers; use -inf and inf where nothing is known"),
            (self.lower > self.upper, "leave no value; lower must not be above upper"),
        ):
            if cells.any():
                row, place = np.argwhere(cells)[0]
                interval = f"[{self.lower[row, place]:g}, {self.upper[row, place]:g}]"
                raise DataError(f"Limits {interval} of row {row}, column {place} {why}.")

    @classmethod
    def open(cls, shape: tuple[int, int]) -> Limits:
        """Nothing is known of any cell."""
        return cls(np.full(shape, -np.inf), np.full(shape, np.inf))

    @property
    def told(self) -> np.ndarray:
        """``(N, D)``: cells of which something is known."""
        return np.isfinite(self.lower) | np.isfinite(self.upper)

    def narrowed(self, rows: np.ndarray, place: int, lower: Any = -np.inf, upper: Any = np.inf) -> Limits:
        """Also these limits in some rows of a column."""
        low, high = self.lower.copy(), self.upper.copy()
        low[rows, place] = np.maximum(low[rows, place], lower)
        high[rows, place] = np.minimum(high[rows, place], upper)
        return Limits(low, high)

    def take(self, rows: np.ndarray) -> Limits:
        """Some rows."""
        return Limits(self.lower[rows], self.upper[rows])

    def select(self, places: Any) -> Limits:
        """Some columns."""
        return Limits(self.lower[:, places], self.upper[:, places])

    def hold(self, values: np.ndarray) -> np.ndarray:
        """``(N, D)``: False where a value lies outside; unknown ones do not."""
        return ~((values < self.lower) | (values > self.upper))

    def clipped(self, values: np.ndarray) -> np.ndarray:
        """Every value moved to the nearest end of its interval."""
        return np.clip(values, self.lower, self.upper)


@dataclass(frozen=True, eq=False)
class Censored:
    """Cells of a column of which only an interval is known; see :func:`censored`."""

    lower: Any = None
    upper: Any = None
    where: Any = None


def censored(lower: Any = None, upper: Any = None, *, where: Any = None) -> Censored:
    """Cells of which only an interval is known: below a detection limit, beyond the end of follow-up, between two visits.

    Args:
        lower: a number, a date, a formula (the name of a column is one), or an array with one number a row; unknown where
            there is no lower end.
        upper: likewise.
        where: which cells: a rule such as "event == 0", or a mask. A value that stands there is hidden: it is no value.
            All unknown cells where it is left out.

    Example:
        >>> below = censored(upper=0.05)  # every unknown cell is below the detection limit
        >>> time = censored(lower="time", where="event == 0")  # who had no event was seen until then
    """
    if lower is None and upper is None:
        raise SchemaError("censored() needs a lower or an upper limit.")
    return Censored(lower, upper, where)
