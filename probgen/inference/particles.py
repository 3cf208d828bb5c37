r"""Particle filters over the states of sequences, with the guide as proposal (Doucet and Johansen, 2011; Maddison et al., 2017).

Particles of every sequence draw one state after another from the guide, and are weighed and chosen as they go,

.. math:: w_{ts} = \frac{p(z_{ts} \mid h_{ts})\, p(x_t \mid h_{ts}, z_{ts})}{q(z_{ts} \mid h_{ts}, x)}, \qquad
    \hat p(x_1, \dots, x_T) = \prod_t \sum_s \bar w_{t-1,s}\, w_{ts}

with h what a state knows of those before it. The estimate is unbiased, its logarithm a lower bound on average; its error grows with the length of a
sequence and not, as that of draws of whole paths, with its exponential.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro.distributions import Normal
from torch import Tensor

from probgen.data.batches import Batch
from probgen.data.sequences import Steps
from probgen.errors import CapabilityError
from probgen.families.walked_path import WalkedPath
from probgen.inference.amortised import propose, weighted
from probgen.inference.evidence import log_evidence
from probgen.inference.posterior import Theta
from probgen.inference.row_noise import RowNoise

__all__ = ["Filtered", "filtered", "state_path"]

FEWEST = 0.5  # share of particles, as an effective number, below which they are chosen anew


@dataclass
class Filtered:
    """What one run of particles leaves.

    Attributes:
        site: the name of the states.
        steps: the sequences.
        log_evidence: ``(U,)``: an estimate of every sequence's.
        log_weights: ``(S, U)``: of the particles at the last step of each sequence.
        states: by time step ``(S, n, L)``, of the sequences that go on there, the longest first.
        parents: of the particles of each time step, their number at the one before, ``(S, n)``.
    """

    site: str
    steps: Steps
    log_evidence: Tensor
    log_weights: Tensor
    states: list[Tensor] = field(default_factory=list)
    parents: list[Tensor] = field(default_factory=list)

    def path(self, uniform: Tensor) -> Tensor:
        """``(N, L)``: one particle of every sequence by its weight, and its ancestors.

        Args:
            uniform: ``(U,)`` numbers between 0 and 1 that choose it.
        """
        order = longest_first(self.steps)
        last = chosen(self.log_weights[:, order], uniform[order][None])[0]
        made, who = [], last[: self.states[-1].shape[1]]
        for states, parents in zip(reversed(self.states), reversed(self.parents), strict=True):
            who = torch.cat([who, last[len(who) : states.shape[1]]])  # and those that end here
            made.append(taken(states, who[None])[0])
            who = taken(parents[..., None], who[None])[0, :, 0]
        return torch.cat(made[::-1])[self.steps.by_time.argsort()]


def longest_first(steps: Steps) -> Tensor:
    """The sequences in the order in which they stand at every time step."""
    return steps.sequence[steps.by_time[: len(steps)]]


def state_path(program: Any, batch: Batch) -> str | None:
    """The guide's one site where it is of states that follow each other; None for guides of another form."""
    found = propose(program, batch, 1).distributions
    return next((name for name, drawn in found.items() if len(found) == 1 and isinstance(drawn, WalkedPath)), None)


def filtered(
    program: Any, batch: Batch, theta: Theta | None, particles: int, noise: RowNoise | None = None, share: float = 0.0
) -> Filtered:
    """One run of particles for every sequence.

    Args:
        program, batch, theta: the model, the sequences, the parameters.
        particles: S.
        noise: of the rows; None for the global stream.
        share: of the proposals that come from the program itself, for guides that cannot be relied upon.

    Raises:
        CapabilityError: a guide of another form.
    """
    site = state_path(program, batch)
    if site is None:
        raise CapabilityError(
            f"Particles follow states of sequences that are one site of a guide; {program.name!r} has none. Leave method out."
        )
    with torch.no_grad():
        run = Particles(program, batch, theta, site, Numbers.of(batch, particles, noise), share)
        steps = batch.steps
        for rows, going_on in zip(steps.by_time.split(steps.going), [*steps.going[1:], 0], strict=True):
            run.step(rows)
            run.select(rows, going_on)
    back = longest_first(steps).argsort()
    return Filtered(site, steps, run.total[back], torch.cat(run.ended[::-1], 1)[:, back], run.states, run.parents)


@dataclass(frozen=True)
class Numbers:
    """Random numbers of all steps, ``(S, N, ..)``: of each row from a stream of its own, or from the global one."""

    like: Tensor
    noise: RowNoise | None

    @classmethod
    def of(cls, batch: Batch, particles: int, noise: RowNoise | None) -> Numbers:
        return cls(batch.x.new_empty(particles, len(batch), 1), noise)

    def normal(self, width: int) -> Tensor:
        """``(S, N, width)``, standard normal."""
        like = self.like.expand(-1, -1, width)
        return torch.randn_like(like) if self.noise is None else self.noise.normal(like)

    def uniform(self, particles: int) -> Tensor:
        """``(particles, N)``."""
        like = self.like[:particles, :, 0]
        return torch.rand_like(like) if self.noise is None else self.noise.uniform(particles, like)


class Particles:
    """The particles of the sequences that still go on, the longest first."""

    def __init__(
        self, program: Any, batch: Batch, theta: Theta | None, site: str, numbers: Numbers, share: float
    ) -> None:
        self.program, self.batch, self.theta, self.site, self.share = program, batch, theta, site, share
        found = weighted(program, batch, 1, theta=theta)
        self.guide: WalkedPath = found.proposal.distributions[site]
        self.prior: Any = found.evidence.trace.sites[site].distribution
        count, shape = len(numbers.like), (len(numbers.like), len(batch.steps))
        self.normal = numbers.normal(len(self.guide.start))
        self.choice = numbers.uniform(1)[0]
        self.from_prior = numbers.uniform(count) < share if share else None
        self.guided, self.known = (
            path.next(path.nothing(*shape), path.start.expand(*shape, -1)) for path in (self.guide, self.prior)
        )
        self.log_weights = self.normal.new_zeros(shape, dtype=torch.float64)
        self.total = self.log_weights[0].clone()
        self.ended: list[Tensor] = []
        self.states: list[Tensor] = []
        self.parents = [torch.arange(count, device=self.normal.device)[:, None].expand(shape)]

    def step(self, rows: Tensor) -> None:
        """Draw the states of some rows and weigh them."""
        z, log_q = self.proposed(rows)
        part = self.batch.minibatch(rows, len(rows))
        part._steps = Steps(torch.ones_like(rows), self.known)
        with pyro.plate("particles", len(z), dim=-2):
            found = log_evidence(self.program, part, theta=self.theta, sites={self.site: z})
        self.log_weights = self.log_weights + (found.rows - log_q).double()
        self.known, self.guided = self.prior.next(self.known, z), self.guide.next(self.guided, z)
        self.states.append(z)

    def proposed(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """States of some rows from the guide, or from both with the density of their mixture (Hesterberg, 1995)."""
        noise, (loc, scale) = self.normal[:, rows], self.guide.following(self.guided, rows)
        guide = Normal(loc, scale)
        if self.from_prior is None:
            z = loc + scale * noise
            return z, guide.log_prob(z).sum(-1)
        prior = Normal(*self.prior.following(self.known, rows))
        chosen = self.from_prior[:, rows, None]
        z = torch.where(chosen, prior.loc + prior.scale * noise, loc + scale * noise)
        both = guide.log_prob(z).sum(-1) + math.log1p(-self.share), prior.log_prob(z).sum(-1) + math.log(self.share)
        return z, torch.logaddexp(*both)

    def select(self, rows: Tensor, going_on: int) -> None:
        """Count the sequences that end; choose among the particles of the others where few of them weigh anything."""
        self.ended.append(self.log_weights[:, going_on:])
        count = len(self.log_weights)
        evidence = self.log_weights.logsumexp(0) - math.log(count)
        left = self.log_weights[:, :going_on]
        size = 1 / left.softmax(0).square().sum(0)
        anew = size < FEWEST * count
        ends = torch.arange(len(evidence), device=anew.device) >= going_on
        ends[:going_on] |= anew
        self.total[: len(evidence)] += torch.where(ends, evidence, 0.0)
        if going_on:
            own = torch.arange(count, device=anew.device)[:, None]
            parents = torch.where(anew, chosen(left, (own + self.choice[rows[:going_on]]) / count), own)
            self.log_weights = torch.where(anew, 0.0, left)
            self.guided, self.known = (taken(each[:, :going_on], parents) for each in (self.guided, self.known))
            self.parents.append(parents)


def chosen(log_weights: Tensor, points: Tensor) -> Tensor:
    """Where points ``(K, n)`` between 0 and 1 fall among the shares of particles ``(S, n)``."""
    shares = log_weights.softmax(0).nan_to_num(1 / len(log_weights))
    found = torch.searchsorted(shares.cumsum(0).mT.contiguous(), points.mT.to(shares).contiguous()).mT
    return found.clamp_max(len(shares) - 1)


def taken(values: Tensor, who: Tensor) -> Tensor:
    """``(K, n, M)``: of values ``(S, n, M)`` those of some particles ``(K, n)``."""
    return values.gather(0, who[..., None].expand(*who.shape, values.shape[-1]))
