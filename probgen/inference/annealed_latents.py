r"""Annealed importance sampling of the local latents: the evidence of rows by chains from their guide (Neal, 2001).

Chains of latents start at draws of the guide q and go through the temperatures 0 = beta_0 < .. < beta_T = 1 of

.. math:: f_\beta(z) = q(z \mid x)^{1 - \beta}\, p(x, z)^\beta, \qquad
    \log w = \sum_t (\beta_t - \beta_{t-1}) \bigl(\log p(x, z_{t-1}) - \log q(z_{t-1} \mid x)\bigr),

moved by Hamiltonian Monte Carlo after each (Wu, Burda, Salakhutdinov and Grosse, 2017). The mean weight is an unbiased estimate of p(x), its
logarithm a lower bound on average. A first run of other chains adapts each row's step size at each temperature to its acceptance
by stochastic approximation; the chains that count take those steps as they are, so that weights stay unbiased.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.distributions import constraints
from torch import Tensor

from probgen.data.batches import Batch
from probgen.errors import CapabilityError
from probgen.inference.amortised import GuideTracer, Proposal, is_point, of_units, propose, standing_still
from probgen.inference.evidence import log_evidence
from probgen.inference.posterior import Theta
from probgen.inference.row_noise import RowDraws, RowNoise

__all__ = ["LatentPath", "annealed_weights", "check_density", "proposed"]

LEAPFROGS = 2  # steps of a trajectory
ACCEPTANCE = 0.75
FIRST_CHAINS, FIRST_MOVES, RATE = 8, 20, 0.3  # of the run that adapts steps
SPREAD_DRAWS = 64  # of the guide, from which the scale of each latent is read
LIMITS = 1e-4, 2.0  # of steps, in these scales


@dataclass
class Point:
    """Chains ``(S, N, P)``, their log densities ``(S, U)`` under guide and program, and the gradients."""

    z: Tensor
    log_q: Tensor
    log_p: Tensor
    slope_q: Tensor
    slope_p: Tensor

    def value(self, beta: float) -> Tensor:
        """The log density between the two."""
        return (1 - beta) * self.log_q + beta * self.log_p

    def slope(self, beta: float) -> Tensor:
        """Its gradient."""
        return (1 - beta) * self.slope_q + beta * self.slope_p


def proposed(program: Any, batch: Batch, draws: int, noise: RowNoise) -> Proposal:
    """Draws ``(S, B, ..)`` of the guide with the rows' own noise, a dimension for a single draw too.

    Raises:
        CapabilityError: there is no guide, or one without a density over real numbers.
    """
    with RowDraws(noise), pyro.plate("chains", draws, dim=-2):
        found = propose(program, batch, 1)
    check_density(program, found)
    return found


def check_density(program: Any, proposal: Proposal) -> None:
    """Refuse programs whose latents are not real numbers drawn from a guide with a density."""
    if not proposal.distributions:
        raise CapabilityError(
            f"{program.name!r} has no guide for continuous latents: leave out method, refine, temperatures and sweeps."
        )
    for name, drawn in proposal.distributions.items():
        support = getattr(drawn, "support", None)
        if is_point(drawn) or not isinstance(getattr(support, "base_constraint", support), type(constraints.real)):
            raise CapabilityError(
                f"{program.name!r} has no guide with a density over real numbers at {name!r}, which annealing, refining and"
                " sweeps move along: leave out method, refine, temperatures and sweeps."
            )


class LatentPath:
    """From the guide of some rows to their joint density with the data.

    Args:
        program, batch, theta: the model, the rows, the parameters.
        noise: of the rows.
    """

    def __init__(self, program: Any, batch: Batch, theta: Theta | None, noise: RowNoise) -> None:
        self.program, self.batch, self.theta, self.noise = program, batch, theta, noise
        first = proposed(program, batch, SPREAD_DRAWS, noise).sites
        self.shapes: dict[str, torch.Size] = {name: value.shape[2:] for name, value in first.items()}
        self.scale = self.pack(first).std(0).clamp_min(1e-6)  # (N, P)

    def pack(self, sites: Mapping[str, Tensor]) -> Tensor:
        """``(S, N, P)``: the latents of a row side by side."""
        return torch.cat(
            [sites[name].flatten(2) if shape else sites[name][..., None] for name, shape in self.shapes.items()], -1
        )

    def unpack(self, z: Tensor) -> dict[str, Tensor]:
        """The sites of packed latents."""
        pieces = z.split([math.prod(shape) for shape in self.shapes.values()], -1)
        return {
            name: piece.reshape(*piece.shape[:-1], *shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def at(self, z: Tensor) -> Point:
        """Both densities there."""
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            sites = self.unpack(z)
            with GuideTracer(sites) as guide, pyro.plate("chains", len(z), dim=-2):
                self.program.guide(self.batch)
            with pyro.plate("chains", len(z), dim=-2):
                evidence = log_evidence(self.program, self.batch, theta=self.theta, sites=sites)
            assert guide.log_q is not None
            log_q, log_p = of_units(self.batch, guide.log_q), of_units(self.batch, evidence.rows)
            slope_q, slope_p = (torch.autograd.grad(each.sum(), z)[0] for each in (log_q, log_p))
        return Point(z.detach(), log_q.detach(), log_p.detach(), slope_q, slope_p)

    def of_rows(self, units: Tensor) -> Tensor:
        """Values of rows (sequences) ``(..., U)`` at each row (step), ``(..., N, 1)``."""
        steps = self.batch.steps if self.batch.in_sequences else None
        return (units if steps is None else units[..., steps.sequence])[..., None]

    def start(self, chains: int) -> Point:
        """Draws of the guide."""
        return self.at(self.pack(proposed(self.program, self.batch, chains, self.noise).sites))

    def move(self, point: Point, beta: float, step: Tensor) -> tuple[Point, Tensor]:
        """One trajectory of leapfrog steps of some size ``(U,)``, accepted or not; and the probabilities of acceptance."""
        width, momenta = self.of_rows(step) * self.scale, self.noise.normal(point.z)
        before = point.value(beta) - 0.5 * of_units(self.batch, momenta.square().sum(-1))
        there, momenta = point, momenta + 0.5 * width * point.slope(beta)
        for left in reversed(range(LEAPFROGS)):
            there = self.at(there.z + width * momenta)
            momenta = momenta + (1.0 if left else 0.5) * width * there.slope(beta)
        after = there.value(beta) - 0.5 * of_units(self.batch, momenta.square().sum(-1))
        likely = (after - before).clamp_max(0.0).exp().nan_to_num(0.0)
        chosen = of_units_first(self.batch, self.noise.uniform(len(point.z), point.z)) < likely
        return self.chosen(chosen, there, point), likely

    def chosen(self, first: Tensor, one: Point, other: Point) -> Point:
        """Where told the one, elsewhere the other."""
        wide = self.of_rows(first)
        return Point(
            torch.where(wide, one.z, other.z), torch.where(first, one.log_q, other.log_q),
            torch.where(first, one.log_p, other.log_p), torch.where(wide, one.slope_q, other.slope_q),
            torch.where(wide, one.slope_p, other.slope_p),
        )  # fmt: skip

    def steps(self, betas: list[float], tick: Callable[[], Any]) -> list[Tensor]:
        """A step size ``(U,)`` for every temperature, from a run of chains that do not count."""
        point = self.start(FIRST_CHAINS)
        log_step = torch.full_like(point.log_q[0], math.log(self.scale.shape[-1] ** -0.25))
        low, high = map(math.log, LIMITS)
        found = []
        for number, beta in enumerate([betas[1]] * FIRST_MOVES + betas[1:]):
            point, likely = self.move(point, beta, log_step.exp())
            if number >= FIRST_MOVES:
                found.append(log_step.exp())
                tick()
            log_step = (log_step + RATE * (likely.mean(0) - ACCEPTANCE)).clamp(low, high)
        return found

    def log_weights(self, chains: int, betas: list[float], steps: list[Tensor], tick: Callable[[], Any]) -> Tensor:
        """``(S, U)``: log weights whose mean weight is the evidence on average."""
        point = self.start(chains)
        total = torch.zeros(point.log_q.shape, dtype=torch.float64, device=point.z.device)
        for number, beta in enumerate(betas[1:]):
            total += (beta - betas[number]) * (point.log_p.double() - point.log_q.double())
            if beta < 1.0:
                point, _ = self.move(point, beta, steps[number])
            tick()
        return total


def of_units_first(batch: Batch, rows: Tensor) -> Tensor:
    """Of values of time steps ``(..., N)`` the first of each sequence."""
    return rows[..., batch.steps.starts] if batch.in_sequences else rows


def annealed_weights(
    program: Any,
    batch: Batch,
    chains: int,
    temperatures: int,
    theta: Theta | None,
    noise: RowNoise,
    together: int,
    tick: Callable[[], Any],
) -> Tensor:
    """``(S, U)``: log weights of chains from each row's guide.

    Args:
        program, batch, theta: the model, the rows, the parameters.
        chains: S, a row.
        temperatures: T, steps of the path; 1 is importance sampling.
        noise: of the rows.
        together: chains that run side by side.
        tick: called after every step of a run.
    """
    betas = torch.linspace(0.0, 1.0, temperatures + 1, dtype=torch.float64).tolist()
    with standing_still(program):
        path = LatentPath(program, batch, theta, noise)
        steps = path.steps(betas, tick) if temperatures > 1 else []
        runs = [min(together, chains - done) for done in range(0, chains, together)]
        return torch.cat([path.log_weights(run, betas, steps, tick) for run in runs])
