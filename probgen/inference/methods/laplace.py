r"""Laplace's approximation: a normal at the mode of the posterior on the unconstrained scale (Tierney and Kadane, 1986).

.. math:: q(u) = \mathcal N(u \mid \hat u, (-H)^{-1}), \qquad
    \log p(x) \approx \log p(x, \hat u) + \tfrac P2 \log 2\pi - \tfrac12 \log\lvert -H \rvert

with H the second derivatives at the mode. How far the draws can be trusted is told by the Pareto k of their weights.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from probgen.errors import FitError
from probgen.inference.approximation import Approximation, approximate_posterior, told_of
from probgen.inference.ascent import Ascent
from probgen.inference.chain_starts import begun
from probgen.inference.methods.base import Method, Step
from probgen.inference.methods.chees import check_counts
from probgen.inference.posterior import Posterior
from probgen.inference.runtime import seeded

__all__ = ["Laplace"]

DIFFERENCE = 1e-4  # step of differences of gradients, on the scale of the climb
CLOSE = 1e-10  # nats in five steps, where a climb ends


class Laplace(Method):
    """The highest of several climbs, and the curvature there.

    Options:
        starts: points from which the mode is looked for.
        draws: from the approximation.
        compile: see :class:`~probgen.inference.compiled.Compiled`.
        start: as for EM.
    """

    defaults = {"starts": 8, "draws": 1000, "compile": "auto", "start": None}
    max_steps = 500
    wherever = "nuts"
    approximates = True
    iterates = "step"

    def init(self) -> None:
        task, options = self.task, self.task.options
        check_counts(options, starts=1, draws=1)
        start = begun(task, "laplace", options["starts"])
        self.potential, self.density = start.potential, start.density
        self.ascent = Ascent(self.density, start.points)
        self.history: list[float] = []

    def step(self) -> Step:
        self.ascent.step()
        best = float(self.ascent.values.max())
        self.history.append(best)
        risen = best - self.history[-6] if len(self.history) > 5 else math.inf
        done = risen < CLOSE or not bool(self.ascent.moving.any())
        return Step({"objective": best / len(self.task.batches)}, done, done)

    def result(self) -> Posterior:
        best = int(self.ascent.values.argmax())
        self.mode, self.value = self.ascent.points[best], float(self.ascent.values[best])
        information = -self.second_derivatives()
        try:
            factor = torch.linalg.cholesky(information)
        except torch.linalg.LinAlgError as error:
            raise FitError(
                f"{self.task.program.name!r}: the posterior is not curved downwards at its highest point, so no normal fits"
                " there (a parameter that the data leave free, or a mode at the edge). Give proper priors, or use"
                " method='chees'."
            ) from error
        size = len(self.mode)
        self.log_evidence = self.value + 0.5 * size * math.log(2 * math.pi) - float(factor.diagonal().log().sum())
        with seeded(self.task.seed, "laplace"):
            noise = torch.randn(self.task.options["draws"], size).to(self.mode)
        points = self.mode + torch.linalg.solve_triangular(factor.mT, noise.mT, upper=True).mT
        log_q = -0.5 * noise.square().sum(1) - 0.5 * size * math.log(2 * math.pi) + factor.diagonal().log().sum()
        self.found = Approximation(points, log_q, self.density(points)[0])
        return approximate_posterior(self.potential, self.found)

    def second_derivatives(self) -> Tensor:
        """``(P, P)`` at the mode, by central differences of gradients."""
        scale = self.ascent.variance().sqrt() if self.ascent.moves else torch.ones_like(self.mode)
        moves = torch.diag(DIFFERENCE * scale)
        _, above = self.density(self.mode + moves)
        _, below = self.density(self.mode - moves)
        found = (above - below) / (2 * DIFFERENCE * scale)[:, None]
        return 0.5 * (found + found.mT)

    def diagnostics(self) -> dict[str, Any]:
        return {"log_evidence": self.log_evidence, **told_of(self.found)}

    def pack(self) -> dict[str, Tensor]:
        return {**self.ascent.pack(), "history": torch.tensor(self.history, dtype=torch.float64)}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.ascent = Ascent.unpack(self.density, tensors)
        self.history = tensors["history"].tolist()
