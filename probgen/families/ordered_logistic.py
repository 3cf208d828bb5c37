r"""Ordinal columns by proportional odds (McCullagh, 1980).

.. math:: p(x \le l \mid k) = \sigma(c_l - \eta_k), \qquad \eta_k \sim \mathcal N(0, 1.5^2)

The cutpoints c are shared by all rows of the table, the location is each row's own; the first cutpoint and the
logarithms of the gaps are Gaussian around those of the data's own frequencies. The maximisation takes damped Newton
steps on the expected counts of the levels, from the current parameters; it never goes down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from probgen.families.base import Family, Natural, Parameters, once_per_tensor
from probgen.families.categorical import one_hot_codes
from probgen.families.newton import derivatives, newton

__all__ = ["OrderedLogistic"]

LOCATION_SPREAD = 1.5
FREE_SPREAD = 1.0
FURTHEST = 15.0  # of locations and first cutpoints
SMALLEST_GAP, LARGEST_GAP = -11.0, 4.0  # logarithms
WIDENING = 1.3  # of proposals, in variance


class OrderedLogistic(Family):
    """D columns of L ordered levels; parameters ``loc (K, D)`` and ``cutpoints (K, D, L - 1)``, equal over K."""

    def __init__(self, levels: int, columns: int = 1, table: int = 1, prior: str | None = "default") -> None:
        super().__init__(columns, table, prior)
        self.levels = levels
        self.register_buffer("center", free_of(even_cutpoints(levels)).expand(columns, -1).clone())
        self.center: Tensor  # first cutpoint and logarithms of the gaps, (D, L - 1)

    # -- parameters --------------------------------------------------------------------------------------------
    def prior(self) -> dict[str, dist.Distribution]:
        zero = torch.zeros(self.table, self.columns).to(self.center)
        return {
            "loc": dist.Normal(zero, LOCATION_SPREAD).to_event(2),
            "free": dist.Normal(self.center, FREE_SPREAD).to_event(2),
        }

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        cutpoints = cutpoints_of(sites["free"]).expand(self.table, -1, -1)
        return {"loc": sites["loc"], "cutpoints": cutpoints}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {"loc": theta["loc"], "free": free_of(theta["cutpoints"][0])}

    def describe(self, theta: Parameters) -> Parameters:
        """Without a prior, zero is where the first row's location is."""
        zero = theta["loc"][:1] if self.prior_choice is None else torch.zeros_like(theta["loc"][:1])
        return {"loc": theta["loc"] - zero, "cutpoints": theta["cutpoints"] - zero[..., None]}

    @property
    def free_parameters(self) -> int:
        """A shift of all locations and cutpoints of a column changes nothing."""
        return super().free_parameters - self.columns

    def log_prior(self, theta: Parameters) -> Tensor:
        """In the coordinates of the sites: location, first cutpoint, logarithms of the gaps."""
        return self.penalty(theta["loc"], free_of(theta["cutpoints"][0])).sum()

    def penalty(self, loc: Tensor, free: Tensor) -> Tensor:
        """Log prior of each column, (D,)."""
        away = ((free - self.center) / FREE_SPREAD).square().sum(-1)
        return -0.5 * ((loc / LOCATION_SPREAD).square().sum(0) + away)

    def start(self) -> Parameters:
        loc = torch.zeros(self.table, self.columns).to(self.center)
        return {"loc": loc, "cutpoints": cutpoints_of(self.center).expand(self.table, -1, -1)}

    def calibrate(self, statistics: Natural) -> None:
        counts = statistics["logits"].sum(0) + 0.5
        below = (counts.cumsum(-1) / counts.sum(-1, keepdim=True))[..., :-1]
        self.center = free_of(torch.logit(below.clamp(1e-6, 1 - 1e-6)))

    # -- maximum and posterior ---------------------------------------------------------------------------------
    def target(self, counts: Tensor, prior: bool) -> Callable[[Tensor], Tensor]:
        """Expected log likelihood (plus log prior) of each column, at parameters ``(K + L - 1, D)`` on one axis."""

        def value(at: Tensor) -> Tensor:
            loc, free = at[: self.table], at[self.table :].mT
            fit = (counts * log_levels(loc, cutpoints_of(free))).sum((0, -1))
            return fit + self.penalty(loc, free) if prior else fit

        return value

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Ends of the parameters' ranges, (K + L - 1, 1)."""
        gaps = self.levels - 2
        low = [-FURTHEST] * (self.table + 1) + [SMALLEST_GAP] * gaps
        high = [FURTHEST] * (self.table + 1) + [LARGEST_GAP] * gaps
        return torch.tensor(low).to(self.center)[:, None], torch.tensor(high).to(self.center)[:, None]

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        counts, prior = statistics["logits"], self.prior_choice is not None
        low, high = self.bounds()
        start = torch.cat([current["loc"], free_of(current["cutpoints"][0]).mT])
        at = newton(self.target(counts, prior), start.maximum(low).minimum(high), low, high, separate=self.table)
        loc = at[: self.table]
        if not prior:  # nothing but the first row's location says where zero is
            loc = torch.where(counts.sum(-1) > 1e-10, loc, current["loc"])
            at = torch.cat([loc - loc[0], at[self.table : self.table + 1] - loc[0], at[self.table + 1 :]])
        return self.unstack(at)

    def unstack(self, at: Tensor) -> Parameters:
        return self.assemble({"loc": at[: self.table], "free": at[self.table :].mT})

    def posterior_draw(self, statistics: Natural, sweeps: int = 20) -> Parameters:
        """A Laplace draw, then Metropolis steps with the exact target from the counts.

        Each sweep proposes all cutpoints of a column given its locations, then each location given the cutpoints,
        from the Laplace approximation's own conditionals; columns, and locations, are accepted one by one.
        """
        target = self.target(statistics["logits"], prior=True)
        first = self.start()
        start = torch.cat([first["loc"], free_of(first["cutpoints"][0]).mT])
        mode = newton(target, start, *self.bounds(), separate=self.table)
        walk = BlockWalk(mode, -derivatives(target, mode, self.table)[1], self.table)
        at = walk.first()
        for _ in range(sweeps):
            at = walk.move_cutpoints(at, target)
            at = walk.move_locations(at, lambda v: self.location_targets(statistics["logits"], v))
        return self.unstack(at)

    def location_targets(self, counts: Tensor, at: Tensor) -> Tensor:
        """The target's terms with each row's location, ``(K, D)``."""
        loc, free = at[: self.table], at[self.table :].mT
        fit = (counts * log_levels(loc, cutpoints_of(free))).sum(-1)
        return fit - 0.5 * (loc / LOCATION_SPREAD).square()

    # -- densities ---------------------------------------------------------------------------------------------
    def natural(self, theta: Parameters) -> Natural:
        return {"logits": log_levels(theta["loc"], theta["cutpoints"])}

    @once_per_tensor
    def indicators(self, x: Tensor) -> Tensor:
        """Made once for the data."""
        return one_hot_codes(x, self.levels)

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        return natural["logits"].flatten(1) @ self.indicators(x).mT

    def log_prob(self, theta: Parameters, x: Tensor) -> Tensor:
        logits = log_levels(theta["loc"], theta["cutpoints"])
        batch = torch.broadcast_shapes(logits.shape[:-1], x.shape)
        code = x.nan_to_num().long().expand(batch)[..., None]
        return torch.where(x.isnan(), 0.0, logits.expand(*batch, self.levels).gather(-1, code)[..., 0]).sum(-1)

    def sample(self, theta: Parameters) -> Tensor:
        return dist.Categorical(logits=log_levels(theta["loc"], theta["cutpoints"])).sample().to(theta["loc"])

    def fill(self, theta: Parameters, x: Tensor) -> Tensor:
        return torch.where(x.isnan(), self.sample(theta), x)

    def mean(self, theta: Parameters) -> Tensor:
        return log_levels(theta["loc"], theta["cutpoints"]).argmax(-1).to(theta["loc"])

    # -- network head ------------------------------------------------------------------------------------------
    @property
    def outputs(self) -> int:
        return self.columns * self.levels

    @property
    def output_places(self) -> Tensor:
        return torch.arange(self.outputs).reshape(self.columns, self.levels)

    def head(self, output: Tensor) -> Parameters:
        """A location and the unconstrained cutpoints of every column."""
        cells = 10.0 * (output / 10.0).tanh().unflatten(-1, (self.columns, self.levels))
        return {
            "loc": cells[..., 0],
            "cutpoints": cutpoints_of(self.center + cells[..., 1:].clamp(-6, 6)),
        }


def log_levels(loc: Tensor, cutpoints: Tensor) -> Tensor:
    """Log probabilities of all levels ``(..., L)``, without cancellation."""
    gap = cutpoints - loc[..., None]
    low = logsigmoid(gap[..., :1])
    high = logsigmoid(-gap[..., -1:])
    width = (cutpoints[..., 1:] - cutpoints[..., :-1]).clamp_min(1e-6)
    inner = logsigmoid(gap[..., 1:]) + logsigmoid(-gap[..., :-1]) + torch.log(-torch.expm1(-width))
    return torch.cat([low, inner, high], -1)


def cutpoints_of(free: Tensor) -> Tensor:
    """First cutpoint and log gaps to increasing cutpoints."""
    return torch.cat(
        [
            free[..., :1],
            free[..., :1] + free[..., 1:].clamp(SMALLEST_GAP, LARGEST_GAP).exp().cumsum(-1),
        ],
        -1,
    )


def free_of(cutpoints: Tensor) -> Tensor:
    gaps = (cutpoints[..., 1:] - cutpoints[..., :-1]).clamp_min(1e-5)
    return torch.cat([cutpoints[..., :1], gaps.log()], -1)


def even_cutpoints(levels: int) -> Tensor:
    return torch.logit(torch.arange(1, levels) / levels)


class BlockWalk:
    """Metropolis within Gibbs around a mode; the precision ``(D, P, P)`` has no entries between locations."""

    def __init__(self, mode: Tensor, precision: Tensor, rows: int) -> None:
        self.mode, self.rows = mode, rows
        values, vectors = torch.linalg.eigh(precision)
        values = values.abs().clamp_min(0.05)
        self.root = vectors * values.rsqrt()[..., None, :]  # of the covariance, (D, P, P)
        precision = (vectors * values[..., None, :]) @ vectors.mT
        self.own = precision.diagonal(0, -2, -1)[:, :rows].mT  # (K, D)
        self.cross = precision[:, :rows, rows:]  # (D, K, L - 1)
        self.corner = torch.linalg.cholesky(precision[:, rows:, rows:] / WIDENING)

    def first(self) -> Tensor:
        noise = torch.randn_like(self.mode).mT[..., None]
        return self.mode + (self.root @ noise)[..., 0].mT

    def move_cutpoints(self, at: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
        """One proposal a column."""
        loc, free = (at - self.mode).split([self.rows, len(at) - self.rows])
        pull = (self.cross.mT @ loc.mT[..., None])[..., 0]  # (D, L - 1)
        center = -torch.cholesky_solve(pull[..., None], self.corner * WIDENING**0.5)[..., 0]
        proposal = dist.MultivariateNormal(center, precision_matrix=self.corner @ self.corner.mT)
        new = proposal.sample()
        trial = torch.cat([at[: self.rows], self.mode[self.rows :] + new.mT])
        ratio = target(trial) - target(at) + proposal.log_prob(free.mT) - proposal.log_prob(new)
        return torch.where(torch.rand_like(ratio).log() < ratio, trial, at)

    def move_locations(self, at: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
        """One proposal a row and column."""
        loc, free = (at - self.mode).split([self.rows, len(at) - self.rows])
        center = -(self.cross @ free.mT[..., None])[..., 0].mT / self.own
        proposal = dist.Normal(center, (WIDENING / self.own).sqrt())
        new = proposal.sample()
        trial = torch.cat([self.mode[: self.rows] + new, at[self.rows :]])
        ratio = target(trial) - target(at) + proposal.log_prob(loc) - proposal.log_prob(new)
        kept = torch.where(torch.rand_like(ratio).log() < ratio, trial[: self.rows], at[: self.rows])
        return torch.cat([kept, at[self.rows :]])
