"""Maximum a posteriori by gradients: L-BFGS on the log evidence plus the log prior.

The prior's density is taken in the coordinates of the families' own updates, so that the maximum is that of EM.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probgen.data.batches import total_weight
from probgen.errors import FitError
from probgen.inference.chain_starts import feasible
from probgen.inference.methods.base import Method, Step
from probgen.inference.methods.em import ExpectationMaximisation
from probgen.inference.posterior import Posterior
from probgen.inference.potential import Potential
from probgen.inference.runtime import seeded

__all__ = ["MaximumAPosteriori"]


class MaximumAPosteriori(Method):
    """L-BFGS with a strong Wolfe line search, started where EM starts.

    Options:
        start: as for EM.
    """

    defaults = {"start": None}
    max_steps = 200
    tolerance = 1e-9
    iterates = "iteration"

    def init(self) -> None:
        task = self.task
        self.batch = next(iter(task.batches.pieces()))
        with seeded(task.seed, "map"):
            self.potential = Potential(task.program, self.batch)
            start = self.start()
        self.u = start.requires_grad_()
        self.optimiser = torch.optim.LBFGS(
            [self.u],
            max_iter=20,
            history_size=50,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-12,
            tolerance_change=0,
        )
        self.previous = -torch.inf

    def start(self) -> Tensor:
        """Where EM starts, for programs made of families; where a chain would otherwise."""
        self.weight = 1.0
        if not self.potential.made_of_families:
            return feasible(self.potential)
        em = ExpectationMaximisation(self.task)
        em.init()
        self.weight = total_weight(self.task.batches.source)
        return self.potential.at(em.theta)

    def step(self) -> Step:
        def closure() -> Tensor:
            self.optimiser.zero_grad()
            loss = -self.potential.log_mode(self.u) / self.weight
            loss.backward()
            return loss

        objective = -float(self.optimiser.step(closure).detach())
        if objective != objective:
            raise FitError("The log posterior became NaN; use prior='default' or standardise the data.")
        gain, self.previous = objective - self.previous, objective
        converged = 0 <= gain < self.task.tolerance
        return Step({"objective": objective}, converged, converged)

    def result(self) -> Posterior:
        theta, sites = self.potential.theta(self.u.detach())
        point = Posterior.at(theta)
        return Posterior(point.parameters, {name: value[None, None] for name, value in sites.items()})

    def diagnostics(self) -> dict[str, Any]:
        gradient = torch.autograd.grad(self.potential.log_mode(self.u), self.u)[0]
        return {"largest_gradient": float(gradient.abs().max())}

    def pack(self) -> dict[str, Tensor]:
        return {"u": self.u.detach()}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.u.data.copy_(tensors["u"])
