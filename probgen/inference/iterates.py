r"""When a stochastic optimiser has arrived, and where: averages of its last iterates (Dhaka et al., 2020).

At one learning rate the iterates end up around a point. They are there when the two halves of the latter half of them
agree, by split R-hat or in the units of the parameters, or when the objective has not risen for a while; their average is
then far closer to the point than the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Iterates"]

FEWEST = 120  # iterates before a look
ENOUGH = 1.1  # R-hat of iterates that have arrived
WHILE = 6  # rounds without a rise


@dataclass
class Iterates:
    """Parameters at one learning rate, in order."""

    kept: list[Tensor] = field(default_factory=list)
    objectives: list[float] = field(default_factory=list)  # of rounds

    def latter(self) -> Tensor:
        """The second half of them, stacked."""
        return torch.stack(self.kept[len(self.kept) // 2 :])

    def mean(self) -> Tensor:
        """Their average."""
        return self.latter().mean(0)

    def arrived(self, units: Tensor, tolerance: float) -> bool:
        """The halves agree: every parameter by R-hat < 1.1, or by less than the tolerance of its unit."""
        if len(self.kept) < FEWEST:
            return False
        one, two = self.latter()[-(len(self.kept) // 4) * 2 :].chunk(2)
        drift = two.mean(0) - one.mean(0)
        within = 0.5 * (one.var(0) + two.var(0))
        agree = (within + 0.5 * drift.square() < ENOUGH**2 * within) | (drift.abs() < tolerance * units)
        return bool(agree.all())

    def level(self) -> bool:
        """The objective of the last rounds has not risen by more than two standard errors."""
        if len(self.objectives) < WHILE:
            return False
        one, two = torch.tensor(self.objectives[-(len(self.objectives) // 4) * 2 - 2 :]).chunk(2)
        error = (0.5 * (one.var() + two.var()) * (1 / len(one) + 1 / len(two))).sqrt()
        return bool(two.mean() - one.mean() < 2 * error)
