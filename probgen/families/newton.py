"""Families without a closed-form update: damped Newton steps on additive statistics.

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

from probgen.families.base import Natural, Parameters, once_per_tensor
from probgen.families.columnwise import ColumnwiseFamily, Statistics, collect, linear_score

__all__ = ["LinearTwoParameters", "TwoParameters", "derivatives", "newton"]

Objective = Callable[[Tensor], Tensor]  # (P, ...) -> (...), elementwise
BOUND = 14.0  # of the unconstrained parameters: beyond it the family is at a limit (a point mass, ...)
SPREADS = (1.5, 3.0)


class TwoParameters(ColumnwiseFamily):
    """Parameters ``names``, each ``(K, D)`` and unconstrained, with independent Gaussian priors.

    The default prior is centred at the maximum for all rows taken together; ``log_prior`` and :meth:`update` are in
    these unconstrained coordinates.
    """

    names: ClassVar[tuple[str, str]]
    lowest: ClassVar[tuple[float, float]] = (-BOUND, -BOUND)
    highest: ClassVar[tuple[float, float]] = (BOUND, BOUND)
    neutral: ClassVar[tuple[float, float]] = (0.0, 0.0)  # what a network's output of zero means

    def __init__(self, columns: int = 1, table: int = 1, prior: str | None = "default") -> None:
        super().__init__(columns, table, prior)
        self.register_buffer("center", torch.zeros(2, columns))
        self.center: Tensor

    @abstractmethod
    def expected(self, statistics: Natural, at: Tensor) -> Tensor:
        """Expected log likelihood ``(K, D)`` at parameters ``(2, K, D)``, up to a constant."""

    @abstractmethod
    def guess(self, statistics: Natural) -> Tensor:
        """A starting point ``(2, K, D)``, for instance by moments."""

    # -- parameters --------------------------------------------------------------------------------------------
    def spread(self) -> Tensor:
        """Standard deviations of the prior, (2, 1, 1)."""
        return torch.tensor(SPREADS).to(self.center)[:, None, None]

    def prior(self) -> dict[str, dist.Distribution]:
        center = self.center[:, None].expand(-1, self.table, -1)
        return {n: dist.Normal(c, s).to_event(2) for n, c, s in zip(self.names, center, SPREADS, strict=True)}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return dict(zip(self.names, self.bounded(self.stack(sites)), strict=True))

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {name: theta[name] for name in self.names}

    def stack(self, theta: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([theta[name] for name in self.names])

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Ends of the parameters' ranges, (2, 1, 1)."""
        low, high = torch.tensor([self.lowest, self.highest]).to(self.center)[..., None, None]
        return low, high

    def bounded(self, at: Tensor) -> Tensor:
        low, high = self.bounds()
        return torch.minimum(torch.maximum(at, low), high)

    def penalty(self, at: Tensor) -> Tensor:
        return (-0.5 * ((at - self.center[:, None]) / self.spread()).square()).sum(0)

    def log_prior(self, theta: Parameters) -> Tensor:
        return self.penalty(self.stack(theta)).sum()

    def start(self) -> Parameters:
        return {n: c.expand(self.table, -1).clone() for n, c in zip(self.names, self.center, strict=True)}

    def calibrate(self, statistics: Natural) -> None:
        pooled = {key: value.sum(0, keepdim=True) for key, value in statistics.items()}
        weak = lambda at: self.expected(pooled, at) - 0.5 * (at / 5.0).square().sum(0)  # noqa: E731
        self.center = newton(weak, self.bounded(self.guess(pooled)), *self.bounds())[:, 0]

    # -- maximum and posterior ---------------------------------------------------------------------------------
    def objective(self, statistics: Natural) -> Objective:
        if self.prior_choice is None:
            return lambda at: self.expected(statistics, at)
        return lambda at: self.expected(statistics, at) + self.penalty(at)

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        objective, old = self.objective(statistics), self.stack(current)
        used = statistics["log_normaliser"] > 1e-10
        guess = torch.where(used, self.bounded(self.guess(statistics)), old)
        start = torch.where(objective(guess) > objective(old), guess, old)
        new = newton(objective, start, *self.bounds())
        if self.prior_choice is None:
            new = torch.where(used, new, old)
        return dict(zip(self.names, new, strict=True))

    def posterior_draw(self, statistics: Natural, steps: int = 20) -> Parameters:
        """A Laplace draw, then Metropolis steps with the exact target from the statistics.

        Every cell of the table has its own proposals and is accepted by itself: the posterior is their product.
        """
        objective = lambda at: self.expected(statistics, at) + self.penalty(at)  # noqa: E731
        used = statistics["log_normaliser"] > 1e-10
        start = torch.where(used, self.guess(statistics), self.stack(self.start()))
        mode = newton(objective, self.bounded(start), *self.bounds())
        root = proposal_root(derivatives(objective, mode)[1])
        proposal = dist.MultivariateNormal(mode.movedim(0, -1), scale_tril=root)
        at = self.bounded(proposal.sample().movedim(-1, 0))
        for _ in range(steps):
            new = self.bounded(proposal.sample().movedim(-1, 0))
            gap = objective(new) - objective(at)
            back = proposal.log_prob(at.movedim(0, -1)) - proposal.log_prob(new.movedim(0, -1))
            at = torch.where(torch.rand_like(gap).log() < gap + back, new, at)
        return dict(zip(self.names, at, strict=True))

    # -- network head ------------------------------------------------------------------------------------------
    @property
    def outputs(self) -> int:
        return 2 * self.columns

    @property
    def dispersions(self) -> list[int]:
        return list(range(self.columns))  # of the first one, a logarithm of shape or concentration

    def head(self, output: Tensor) -> Parameters:
        """Linear near zero, within reach of float32 everywhere."""
        first, second = output.chunk(2, -1)
        cells = (
            8.0 * (first / 8.0).tanh() + self.neutral[0],
            10.0 * (second / 10.0).tanh() + self.neutral[1],
        )
        return dict(zip(self.names, cells, strict=True))


class LinearTwoParameters(TwoParameters):
    """Two parameters and a density that is linear in statistics of the cells."""

    @abstractmethod
    def terms(self, x: Tensor) -> dict[str, Tensor]:
        """The statistics t(x) of cells that are all known, each ``(N, D)``."""

    def carrier(self, x: Tensor) -> Tensor | None:
        """The base measure's log density is zero."""
        return None

    @once_per_tensor
    def statistics(self, x: Tensor) -> Statistics:
        """All terms side by side, made once for the data."""
        return collect(self, x)

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        return linear_score(natural, self.statistics(x))


def proposal_root(hessian: Tensor, widening: float = 1.5) -> Tensor:
    """Root of a covariance a little wider than Laplace's, also where the objective is not concave."""
    values, vectors = torch.linalg.eigh(-hessian)
    covariance = (vectors * (widening / values.abs().clamp_min(0.05))[..., None, :]) @ vectors.mT
    return torch.linalg.cholesky(covariance)


def newton(
    objective: Objective, start: Tensor, low: Tensor, high: Tensor, steps: int = 25, separate: int = 1
) -> Tensor:
    """Maximise elementwise over the first axis within bounds; never goes down, stops where there is nothing to gain.

    Args:
        objective: the function.
        start: where to begin, (P, ...).
        low: lower bounds.
        high: upper bounds.
        steps: at most so many.
        separate: the first coordinates that do not interact with each other: they share one pass for the Hessian.
    """
    at = start.detach()
    value = objective(at).detach()
    resolution = 500 * torch.finfo(value.dtype).eps
    for _ in range(steps):
        gradient, hessian = derivatives(objective, at, separate)
        values, vectors = torch.linalg.eigh(hessian)
        curvature = values.abs()
        curvature = curvature.clamp_min(1e-6).maximum(1e-9 * curvature.amax(-1, keepdim=True))
        slope = held(gradient, at, low, high)
        along = (vectors.mT @ slope.movedim(0, -1)[..., None])[..., 0]
        move = (vectors @ (along / curvature)[..., None])[..., 0].movedim(-1, 0)
        move = move * (2.0 / move.abs().amax(0).clamp_min(2.0))
        gain = (slope * move).sum(0)
        at, value = backtrack(objective, at, value, move, low, high)
        if bool((gain < 1e-9 + resolution * value.abs()).all()):  # the step just made was quadratically small
            break
    return at


def held(gradient: Tensor, at: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The gradient without the parts that point out of the bounds."""
    outwards = ((at <= low) & (gradient < 0)) | ((at >= high) & (gradient > 0))
    return torch.where(outwards, 0.0, gradient)


def backtrack(
    objective: Objective, at: Tensor, value: Tensor, move: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Halve each element's move until its objective does not fall."""
    size, done = torch.ones_like(value), torch.zeros_like(value, dtype=torch.bool)
    new, best, rounding = at, value, 4 * torch.finfo(value.dtype).eps * value.abs()
    for _ in range(12):
        trial = torch.minimum(torch.maximum(at + size * move, low), high)
        found = objective(trial).detach()
        better = (found >= value - rounding) & ~done
        new, best, done = (
            torch.where(better, trial, new),
            torch.where(better, found, best),
            done | better,
        )
        if bool(done.all()):
            break
        size = torch.where(done, size, 0.5 * size)
    return new, best


def derivatives(objective: Objective, at: Tensor, separate: int = 1) -> tuple[Tensor, Tensor]:
    """Gradient ``(P, ...)`` and Hessian ``(..., P, P)`` of an elementwise objective."""
    with torch.enable_grad():
        leaf = at.detach().requires_grad_()
        gradient = torch.autograd.grad(objective(leaf).sum(), leaf, create_graph=True)[0]
        groups = [gradient[:separate], *gradient[separate:]]
        rows = [torch.autograd.grad(group.sum(), leaf, retain_graph=True)[0] for group in groups]
    corner = torch.diag_embed(rows[0][:separate].movedim(0, -1))  # (..., S, S)
    rest = torch.stack(rows[1:]).movedim((0, 1), (-2, -1))  # (..., P - S, P)
    cross, square = rest[..., :separate], rest[..., separate:]
    hessian = torch.cat([torch.cat([corner, cross.mT], -1), torch.cat([cross, square], -1)], -2)
    return gradient.detach(), hessian
