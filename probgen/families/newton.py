"""Families with two parameters a column and no closed form: a few damped Newton steps on additive statistics.

The parameters live on the whole real plane with Gaussian priors, so that the prior of the samplers, the prior of the
maximisation and the coordinates of both are the same.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.families.base import Natural, Parameters
from probgen.families.columnwise import ColumnwiseFamily

__all__ = ["TwoParameters", "newton"]

Objective = Callable[[Tensor], Tensor]  # (2, ...) -> (...), elementwise
BOUND = 14.0  # of the unconstrained parameters: beyond it the family is at a limit (Poisson, a point mass, ...)
SPREADS = (1.5, 3.0)


class TwoParameters(ColumnwiseFamily):
    """Parameters ``names``, each ``(K, D)`` and unconstrained, with independent Gaussian priors.

    The default prior is centred at the maximum for all rows taken together; ``log_prior`` and :meth:`update` are in
    these unconstrained coordinates.
    """

    names: ClassVar[tuple[str, str]]

    def __init__(self, columns: int = 1, table: int = 1, prior: str | None = "default") -> None:
        super().__init__(columns, table, prior)
        self.register_buffer("center", torch.zeros(2, columns))
        self.center: Tensor

    @abstractmethod
    def expected(self, statistics: Natural, at: Tensor) -> Tensor:
        """Expected log likelihood ``(K, D)`` at parameters ``(2, K, D)``, up to a constant."""

    @abstractmethod
    def guess(self, statistics: Natural) -> Tensor:
        """A starting point ``(2, K, D)`` by moments."""

    def spread(self) -> Tensor:
        return torch.tensor(SPREADS).to(self.center)[:, None, None]

    def prior(self) -> dict[str, dist.Distribution]:
        center = self.center[:, None].expand(-1, self.table, -1)
        return {n: dist.Normal(c, s).to_event(2) for n, c, s in zip(self.names, center, SPREADS, strict=True)}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return {name: sites[name] for name in self.names}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return dict(theta)

    def stack(self, theta: Parameters) -> Tensor:
        return torch.stack([theta[name] for name in self.names])

    def penalty(self, at: Tensor) -> Tensor:
        return (-0.5 * ((at - self.center[:, None]) / self.spread()).square()).sum(0)

    def log_prior(self, theta: Parameters) -> Tensor:
        return self.penalty(self.stack(theta)).sum()

    def start(self) -> Parameters:
        return {n: c.expand(self.table, -1).clone() for n, c in zip(self.names, self.center, strict=True)}

    def calibrate(self, statistics: Natural) -> None:
        pooled = {key: value.sum(0, keepdim=True) for key, value in statistics.items()}
        weak = lambda at: self.expected(pooled, at) - 0.5 * (at / 5.0).square().sum(0)  # noqa: E731
        self.center = newton(weak, self.guess(pooled))[:, 0]

    def objective(self, statistics: Natural) -> Objective:
        if self.prior_choice is None:
            return lambda at: self.expected(statistics, at)
        return lambda at: self.expected(statistics, at) + self.penalty(at)

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        objective, old = self.objective(statistics), self.stack(current)
        used = statistics["log_normaliser"] > 1e-10
        guess = torch.where(used, self.guess(statistics), old)
        start = torch.where(objective(guess) > objective(old), guess, old)
        new = newton(objective, start)
        if self.prior_choice is None:
            new = torch.where(used, new, old)
        return dict(zip(self.names, new, strict=True))

    def posterior_draw(self, statistics: Natural, steps: int = 5) -> Parameters:
        """A Laplace draw, then independence Metropolis steps with the exact target from the statistics."""
        objective = lambda at: self.expected(statistics, at) + self.penalty(at)  # noqa: E731
        mode = newton(objective, self.stack(self.start()))
        _, hessian = derivatives(objective, mode)
        root = torch.linalg.cholesky(torch.linalg.inv(-hessian) * 1.5)  # (K, D, 2, 2), a little wide
        proposal = dist.MultivariateNormal(mode.movedim(0, -1), scale_tril=root)
        at = proposal.sample()
        for _ in range(steps):
            new = proposal.sample()
            ratio = objective(new.movedim(-1, 0)) - proposal.log_prob(new)
            ratio = ratio - objective(at.movedim(-1, 0)) + proposal.log_prob(at)
            at = torch.where((torch.rand_like(ratio).log() < ratio)[..., None], new, at)
        return dict(zip(self.names, at.movedim(-1, 0), strict=True))

    @property
    def outputs(self) -> int:
        return 2 * (self.columns or 1)

    def head(self, output: Tensor) -> Parameters:
        return dict(zip(self.names, (10.0 * (output / 10.0).tanh()).chunk(2, -1), strict=True))


def newton(objective: Objective, start: Tensor, steps: int = 25) -> Tensor:
    """Maximise elementwise over the first axis of two; never goes down, stops where nothing moves."""
    at = start.detach().clamp(-BOUND, BOUND)
    value = objective(at).detach()
    for _ in range(steps):
        gradient, hessian = derivatives(objective, at)
        values, vectors = torch.linalg.eigh(hessian)
        curvature = values.abs().clamp_min(1e-6 * (1 + values.abs().amax(-1, keepdim=True)))
        slope = gradient.movedim(0, -1)[..., None]
        move = (vectors @ ((vectors.mT @ slope)[..., 0] / curvature)[..., None])[..., 0].clamp(-2.0, 2.0).movedim(-1, 0)
        at, value, moved = backtrack(objective, at, value, move)
        if moved < 1e-9:
            break
    return at


def backtrack(objective: Objective, at: Tensor, value: Tensor, move: Tensor) -> tuple[Tensor, Tensor, float]:
    """Halve each element's move until its objective does not fall."""
    size, done, new = torch.ones_like(value), torch.zeros_like(value, dtype=torch.bool), at
    best = value
    for _ in range(12):
        trial = (at + size * move).clamp(-BOUND, BOUND)
        found = objective(trial).detach()
        better = (found >= value) & ~done
        new, best, done = torch.where(better, trial, new), torch.where(better, found, best), done | better
        if bool(done.all()):
            break
        size = torch.where(done, size, 0.5 * size)
    return new, best, float((new - at).abs().max())


def derivatives(objective: Objective, at: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient ``(2, ...)`` and Hessian ``(..., 2, 2)`` of an elementwise objective."""
    with torch.enable_grad():
        leaf = at.detach().requires_grad_()
        gradient = torch.autograd.grad(objective(leaf).sum(), leaf, create_graph=True)[0]
        rows = [torch.autograd.grad(gradient[i].sum(), leaf, retain_graph=True)[0] for i in range(2)]
    return gradient.detach(), torch.stack(rows, 0).movedim((0, 1), (-2, -1)).detach()
