"""What samplers and climbs begin with: a compiled density, and points near the EM point or dispersed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probgen.errors import CapabilityError, FitError
from probgen.inference.ascent import Ascent
from probgen.inference.compiled import Compiled
from probgen.inference.methods.base import Task
from probgen.inference.potential import Potential
from probgen.inference.runtime import seeded

__all__ = ["Start", "begun", "feasible", "gathered"]

CLIMB = 100  # iterations of EM
JITTER = 0.1  # of unconstrained parameters around the EM point
TRIES = 100
HOPELESS, HOPELESS_EACH = 20.0, 2.0  # nats below the best path, and more for each dimension


@dataclass(frozen=True)
class Start:
    """Where a method begins.

    Attributes:
        potential: the program's.
        density: its log posterior, compiled.
        points: ``(C, P)``.
        near: the points are near a mode already.
    """

    potential: Potential
    density: Compiled
    points: Tensor
    near: bool


def begun(task: Task, method: str, count: int, compile: str | None = None) -> Start:
    """So many points of the task's program, and the density there.

    Args:
        method: names the stream of random numbers.
        compile: in place of the task's option.

    Raises:
        CapabilityError: there is nothing to draw.
        FitError: no point with a positive density was found.
    """
    batch = next(iter(task.batches.pieces()))
    with seeded(task.seed, f"{method} start"):
        potential, points, near = started(task, batch, count)
        data = batch if potential.users is not None else None
        density = Compiled(potential.log_posterior, points, data, mode=compile or task.options["compile"])
    return Start(potential, density, points, near)


def started(task: Task, batch: Any, count: int) -> tuple[Potential, Tensor, bool]:
    """Near the EM point for programs made of families, dispersed otherwise."""
    potential = Potential(task.program, batch)
    if not potential.size:
        raise CapabilityError(f"{task.program.name!r} has no continuous parameter, so there is nothing to draw.")
    if potential.made_of_families and task.options.get("start") != "prior":
        centre = em_point(task, potential)
        potential = Potential(task.program, batch)  # with the calibrated priors
        return potential, centre + JITTER * torch.randn(count, len(centre)).to(centre), True
    return potential, torch.stack([feasible(potential) for _ in range(count)]), False


def gathered(ascent: Ascent) -> int:
    """Paths that ended where no mass worth the name can be begin where others ended; returns how many.

    They met no positive density, or a mode whose log density is lower than the best by more than a few nats a dimension.
    """
    values, size = ascent.values.nan_to_num(nan=-torch.inf), ascent.points.shape[1]
    lost = values < values.max() - HOPELESS - HOPELESS_EACH * size
    if bool(lost.any()) and bool(values.max().isfinite()):
        good = torch.nonzero(~lost)[:, 0]
        places = good[torch.arange(int(lost.sum()), device=good.device) % len(good)]
        ascent.points, ascent.values, ascent.gradients = (
            part.index_put((lost,), part[places]) for part in (ascent.points, ascent.values, ascent.gradients)
        )
    return int(lost.sum())


def em_point(task: Task, potential: Potential) -> Tensor:
    """The unconstrained vector where EM ends."""
    from probgen.inference.methods.em import ExpectationMaximisation

    em = ExpectationMaximisation(task)
    em.init()
    for _ in range(CLIMB):
        if em.step().done:
            break
    return potential.at(em.theta).detach()


def feasible(potential: Potential) -> Tensor:
    """A dispersed point of positive density."""
    with torch.no_grad():
        for _ in range(TRIES):
            u = potential.dispersed().detach()
            try:
                if bool(potential.log_posterior(u).isfinite()):
                    return u
            except torch.linalg.LinAlgError:
                continue
    raise FitError(
        f"{potential.program.name!r}: the log density is infinite or not a number at {TRIES} points in its support. Look"
        " at the data (an observed value outside its distribution's support?) and at the priors."
    )
