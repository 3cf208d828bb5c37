"""A number about probability, with what kind of number it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["Estimate"]

KINDS = ("exact", "lower_bound", "importance", "annealed", "ode", "monte_carlo")


@dataclass(frozen=True, eq=False)
class Estimate:
    """Values in nats, how they were reached, and how far they can be trusted.

    Attributes:
        value: one number a row, or one number.
        kind: "exact", "lower_bound", "importance", "annealed", "ode", or "monte_carlo", a plain average over draws.
        standard_error: Monte-Carlo standard error of each value, NaN where a single draw leaves it unknown; None where there is none.
        ess: effective number of importance draws behind each value; None where there are none.
        k_hat: Pareto shape of each value's importance weights (Vehtari et al., 2024): above 0.7 they cannot be trusted. None
            where there are none, or too few.
        units: of the value.
        shared_error: the part of the standard error that all values have in common (that of one normaliser), which a
            mean over rows does not reduce.

    Example:
        >>> Estimate(np.array([-1.0, -3.0]), "exact").mean()
        Estimate(-2.0000 nats, exact)

    Of means and sums, the effective size is the smallest and the shape the largest of the values'.
    """

    value: Any
    kind: str = "exact"
    standard_error: Any = None
    ess: Any = None
    units: str = "nats"
    shared_error: float = 0.0
    k_hat: Any = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}.")

    def take(self, rows: Any) -> Estimate:
        """The values of some rows, by place."""
        error, ess, shape = (
            None if part is None else np.asarray(part)[rows] for part in (self.standard_error, self.ess, self.k_hat)
        )
        return replace(self, value=np.asarray(self.value)[rows], standard_error=error, ess=ess, k_hat=shape)

    def mean(self) -> Estimate:
        """The mean over rows, with the Monte-Carlo error of independent rows and the one that they share."""
        n = max(len(self), 1)
        return self._reduced(float(np.mean(self.value)), 1.0 / n)

    def sum(self) -> Estimate:
        """The sum over rows."""
        return self._reduced(float(np.sum(self.value)), 1.0)

    def _reduced(self, value: float, scale: float) -> Estimate:
        error, shared = None, self.shared_error * len(self) * scale
        if self.standard_error is not None:
            own = np.maximum(np.square(self.standard_error) - self.shared_error**2, 0.0)
            error = float(np.hypot(np.sqrt(np.sum(own)) * scale, shared))
        smallest = None if self.ess is None else float(np.min(self.ess))
        largest = None if self.k_hat is None else float(np.max(self.k_hat))
        return Estimate(value, self.kind, error, smallest, self.units, shared, largest)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.value, dtype=dtype)

    def __len__(self) -> int:
        return int(np.size(self.value))

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        if np.ndim(self.value):
            return f"Estimate({len(self)} values, mean {np.mean(self.value):.4f} {self.units}, {self.kind})"
        error = "" if self.standard_error is None else f" ± {told(self.standard_error)}"
        return f"Estimate({float(self.value):.4f}{error} {self.units}, {self.kind})"


def told(error: Any) -> str:
    """A standard error, or that it is unknown."""
    return "unknown" if np.isnan(error) else f"{float(error):.4f}"
