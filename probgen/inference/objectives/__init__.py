"""Objectives: draws of a batch's local latents -> one value a row, to be maximised. One file each."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from probgen.errors import CapabilityError
from probgen.inference.amortised import Gradients, Weighted, is_point, weighted

__all__ = ["Objective", "objective"]


class Objective(ABC):
    """What is maximised. Weights are those of each draw and row, never one for a whole batch."""

    draws: ClassVar[int] = 1  # a row, unless the user says otherwise
    gradients: ClassVar[Gradients] = "paths"  # of log weights; any other weighs the guide's density

    def weigh(self, program: Any, batch: Any, draws: int, sites: Mapping[str, Tensor] | None = None) -> Weighted:
        """Draw the local latents in the way whose gradient is wanted.

        Raises:
            CapabilityError: the guide is a point, and its density is weighed.
        """
        found = weighted(program, batch, draws, sites=sites, gradients=self.gradients)
        points = [name for name, drawn in found.proposal.distributions.items() if is_point(drawn)]
        if points and self.gradients != "paths":
            name = type(self).__module__.rsplit(".", 1)[-1]
            raise CapabilityError(
                f"objective={name!r} weighs the guide's density, and that of {program.name!r} is a point at {points[0]!r}; use 'elbo'."
            )
        return found

    @abstractmethod
    def per_row(self, found: Weighted, step: int | None = None) -> Tensor:
        """``(B,)`` values whose gradient is climbed; ``step`` is how far training is, None where it has ended."""


def objective(name: str, **options: Any) -> Objective:
    """The objective of this name.

    Args:
        name: of a file of this package.
        options: of the objective; one that it does not have is refused.

    Raises:
        CapabilityError: no such objective or option.
    """
    names = [info.name for info in pkgutil.iter_modules(__path__)]
    if name not in names:
        raise CapabilityError(f"There is no objective {name!r}. Available: {', '.join(names)}.")
    module = importlib.import_module(f"{__name__}.{name}")
    own = [each for each in vars(module).values() if inspect.isclass(each) and issubclass(each, Objective)]
    made = [each for each in own if each.__module__ == module.__name__]
    if not made:
        raise CapabilityError(f"The objective {name!r} is none of log importance weights; use method={name!r}.")
    taken = inspect.signature(made[0]).parameters
    for option in options:
        if option not in taken:
            able = f"; it takes: {', '.join(taken)}" if taken else ""
            raise CapabilityError(f"The objective {name!r} has no option {option!r}{able}.")
    return made[0](**options)
