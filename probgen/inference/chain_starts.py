"""Where chains start: near the EM point for programs made of families, dispersed points that have climbed otherwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probgen.errors import CapabilityError, FitError
from probgen.inference.ascent import Ascent
from probgen.inference.methods.base import Task
from probgen.inference.potential import Potential

__all__ = ["chain_starts", "gathered"]

CLIMB = 100  # iterations of EM
JITTER = 0.1  # of unconstrained parameters around the EM point
TRIES = 100
HOPELESS, HOPELESS_EACH = 20.0, 2.0  # nats below the best path, and more for each dimension


def chain_starts(task: Task, batch: Any, chains: int) -> tuple[Potential, Tensor, bool]:
    """The potential, points ``(C, P)``, and whether they are near a mode already.

    Raises:
        CapabilityError: there is nothing to draw.
        FitError: no point with a positive density was found.
    """
    potential = Potential(task.program, batch)
    if not potential.size:
        raise CapabilityError(f"{task.program.name!r} has no continuous parameter, so there is nothing to draw.")
    if potential.made_of_families and task.options.get("start") != "prior":
        centre = em_point(task, potential)
        potential = Potential(task.program, batch)  # with the calibrated priors
        return potential, centre + JITTER * torch.randn(chains, len(centre)).to(centre), True
    return potential, torch.stack([feasible(potential) for _ in range(chains)]), False


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
