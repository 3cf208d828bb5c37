"""What every method is: init, step, result. The loop around them is ``probgen.inference.fit``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from probgen.data.batches import Batches
from probgen.inference.posterior import Posterior
from probgen.program import Model

__all__ = ["Method", "Step", "Task"]


@dataclass
class Task:
    """What is to be fitted, and with which random stream.

    Attributes:
        validation: batches held out from the training rows, where a method asks for them.
        options: the method's own settings, its defaults filled in.
    """

    program: Model
    batches: Batches
    validation: Batches | None
    seed: int
    max_steps: int
    tolerance: float
    options: dict[str, Any]


@dataclass
class Step:
    """What one step tells the loop: numbers for the history, and whether to stop."""

    values: dict[str, float]
    done: bool = False
    converged: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


class Method(ABC):
    """A way to fit a program. State lives in the method object of one run."""

    defaults: ClassVar[dict[str, Any]] = {}
    max_steps: ClassVar[int] = 1000
    tolerance: ClassVar[float] = 1e-6
    restarts: ClassVar[int] = 1
    validates: ClassVar[bool] = False  # wants rows held out
    iterates: ClassVar[str] = "step"  # what the progress bar counts
    wherever: ClassVar[str | None] = None  # another method: what supports that one supports this one
    approximates: ClassVar[bool] = False  # its draws come from an approximation to the posterior, not from chains
    normalises: ClassVar[bool] = True  # takes the program's density at its word; False: can do without its normaliser

    varies: bool = True  # another seed leads elsewhere; where it does not, one start is enough

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def init(self) -> None:
        """Make the state from which the first step starts."""

    @abstractmethod
    def step(self) -> Step:
        """Improve the state once."""

    @abstractmethod
    def result(self) -> Posterior:
        """What was found; network weights are left in the program."""

    def diagnostics(self) -> dict[str, Any]:
        """What a careful reader of the fit should know."""
        return {}

    def memory(self) -> dict[str, dict[str, Tensor]]:
        """Expected statistics of the rows seen, to which later rows can be added; empty where there are none."""
        return {}

    @abstractmethod
    def pack(self) -> dict[str, Tensor]:
        """The state as named tensors, for a checkpoint."""

    @abstractmethod
    def unpack(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a packed state."""
