"""Paired comparison of scores on the same rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Paired", "paired"]


@dataclass(frozen=True)
class Paired:
    """Mean difference of two scores over the same rows, with its standard error.

    Example:
        >>> paired(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0])).within_noise
        False
    """

    difference: float
    standard_error: float

    @property
    def within_noise(self) -> bool:
        """True where the difference is at most two standard errors; of scores that are the same, too."""
        return abs(self.difference) <= 2 * self.standard_error

    def __str__(self) -> str:
        note = " (within noise)" if self.within_noise else ""
        return f"{self.difference:+.3f} ± {self.standard_error:.3f}{note}"


def paired(one: np.ndarray, other: np.ndarray) -> Paired:
    """``one`` minus ``other``, row by row; the error counts the rows as a sample."""
    gap = np.asarray(one, dtype=float) - np.asarray(other, dtype=float)
    error = float(gap.std(ddof=1) / np.sqrt(len(gap))) if len(gap) > 1 else float("nan")
    return Paired(float(gap.mean()), error)
