r"""When a stochastic optimiser has arrived, and where: averages of its last iterates (Dhaka et al., 2020).

At one learning rate the iterates end up around a point. They are there when the two halves of the latter half of them
agree, by split R-hat or in the units of the parameters; their average is then far closer to the point than the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Iterates"]

FEWEST = 40  # iterates before a look
ENOUGH = 1.1  # R-hat of iterates that have arrived


@dataclass
class Iterates:
    """Parameters at one learning rate, in order."""

    kept: list[Tensor] = field(default_factory=list)

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
