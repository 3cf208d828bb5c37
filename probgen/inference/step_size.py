"""Step sizes of Hamiltonian samplers by Nesterov's dual averaging (Hoffman and Gelman, 2014, section 3.2)."""

from __future__ import annotations

import math
from dataclasses import InitVar, asdict, dataclass, field

import torch
from torch import Tensor

__all__ = ["DualAveraging"]


@dataclass
class DualAveraging:
    """Towards an acceptance rate.

    Attributes:
        target: the rate.
        log_step: logarithm of the present step.
        boldness: how many times the first step the search leans towards; 10 for a single chain, whose acceptance is noisy.
        log_average: of the step to keep.
    """

    target: float
    log_step: float
    boldness: InitVar[float] = 10.0
    mean: float = field(init=False)
    log_average: float = field(init=False)
    statistic: float = 0.0
    count: int = 0

    def __post_init__(self, boldness: float) -> None:
        self.mean, self.log_average = self.log_step + math.log(boldness), self.log_step

    def update(self, acceptance: float) -> float:
        """The next step after one with this acceptance."""
        self.count += 1
        rate = 1.0 / (self.count + 10)
        self.statistic = (1 - rate) * self.statistic + rate * (self.target - acceptance)
        self.log_step = self.mean - math.sqrt(self.count) / 0.05 * self.statistic
        weight = self.count**-0.75
        self.log_average = weight * self.log_step + (1 - weight) * self.log_average
        return math.exp(self.log_step)

    def pack(self) -> Tensor:
        """The state, for a checkpoint."""
        return torch.tensor(list(asdict(self).values()), dtype=torch.float64)

    @classmethod
    def unpack(cls, packed: Tensor) -> DualAveraging:
        """From a packed state."""
        target, log_step, mean, log_average, statistic, count = packed.tolist()
        made = cls(target, log_step)
        made.mean, made.log_average, made.statistic, made.count = mean, log_average, statistic, int(count)
        return made
