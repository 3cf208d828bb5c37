"""Where chains start: near the EM point for programs made of families, dispersed points that have climbed otherwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probgen.errors import CapabilityError, FitError
from probgen.inference.methods.base import Task
from probgen.inference.potential import Potential

__all__ = ["chain_starts"]

CLIMB = 100  # iterations of EM
JITTER = 0.1  # of unconstrained parameters around the EM point
TRIES = 100


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
