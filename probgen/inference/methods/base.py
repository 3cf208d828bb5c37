"""What every method is: init, step, result. The loop around them is ``probgen.inference.fit``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from probgen.data.batches import Batches
from probgen.inference.communication import Communicator, OneProcess
from probgen.inference.posterior import Posterior
from probgen.program import Model

__all__ = ["Method", "Step", "Task", "first_of_the_best"]

SAME = 1e-11  # scores that differ by less than this part of them differ by rounding


@dataclass
class Task:
    """What is to be fitted, and with which random stream.

    Attributes:
        validation: batches held out from the training rows, where a method asks for them.
        options: the method's own settings, its defaults filled in.
        rows: the processes among which the rows are divided; this one alone where chains are.
        chains: the processes among which the chains are divided; this one alone where rows are.
    """

    program: Model
    batches: Batches
    validation: Batches | None
    seed: int
    max_steps: int
    tolerance: float
    options: dict[str, Any]
    rows: Communicator = field(default_factory=OneProcess)
    chains: Communicator = field(default_factory=OneProcess)


@dataclass
class Step:
    """What one step tells the loop: numbers for the history, and whether to stop."""

    values: dict[str, float]
    done: bool = False
    converged: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


class Method(ABC):
    """A way to fit a program. State lives in the method object of one run.

    With several processes a method that ``divides`` rows finds them in ``task.rows`` and adds up what it reads of its own
    rows; one that divides chains finds them in ``task.chains``, walks ``task.chains.share(chains)`` of them, and puts
    the draws together in :meth:`result` by ``task.chains.concatenate``. A method that does neither computes the same in
    every process.
    """

    defaults: ClassVar[dict[str, Any]] = {}
    max_steps: ClassVar[int] = 1000
    tolerance: ClassVar[float] = 1e-6
    restarts: ClassVar[int] = 1
    validates: ClassVar[bool] = False  # wants rows held out
    iterates: ClassVar[str] = "step"  # what the progress bar counts
    wherever: ClassVar[str | None] = None  # another method: what supports that one supports this one
    approximates: ClassVar[bool] = False  # its draws come from an approximation to the posterior, not from chains
    independent: ClassVar[bool] = False  # its draws do not depend on each other: there is no chain to judge
    divides: ClassVar[Literal["rows", "chains"]] = "rows"  # among the processes
    in_step: ClassVar[bool] = True  # all processes take every step together; False: they meet only in result()
    in_nats: ClassVar[bool] = True  # its objective is a log density a row
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


def first_of_the_best(found: Iterable[Any], score: Callable[[Any], float]) -> Any:
    """Starts often end at one maximum under other labels, where rounding, and so the number of processes, must not choose."""
    found = list(found)
    top = max(score(one) for one in found)
    return next((one for one in found if score(one) >= top - SAME * max(1.0, abs(top))), found[0])
