r"""Ordinal columns by proportional odds (McCullagh, 1980).

.. math:: p(x \le l \mid k) = \sigma(c_l - \eta_k), \qquad \eta_k \sim \mathcal N(0, 1.5^2)

The cutpoints c are shared by all rows of the table, the location is each row's own. The maximisation works on the
expected counts of the levels, by L-BFGS from the current parameters; it never goes down.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from probgen.families.base import Family, Natural, Parameters, once_per_tensor

__all__ = ["OrderedLogistic"]

LOCATION_SPREAD = 1.5
FREE_SPREAD = 1.0


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

    def log_prior(self, theta: Parameters) -> Tensor:
        free = free_of(theta["cutpoints"][0])
        return self.penalty(theta["loc"], free)

    def penalty(self, loc: Tensor, free: Tensor) -> Tensor:
        away = ((free - self.center) / FREE_SPREAD).square().sum()
        return -0.5 * ((loc / LOCATION_SPREAD).square().sum() + away)

    def start(self) -> Parameters:
        loc = torch.zeros(self.table, self.columns).to(self.center)
        return {"loc": loc, "cutpoints": cutpoints_of(self.center).expand(self.table, -1, -1)}

    def calibrate(self, statistics: Natural) -> None:
        counts = statistics["logits"].sum(0) + 0.5
        below = (counts.cumsum(-1) / counts.sum(-1, keepdim=True))[..., :-1]
        self.center = free_of(torch.logit(below.clamp(1e-6, 1 - 1e-6)))

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        counts = statistics["logits"]
        start = (current["loc"].clone(), free_of(current["cutpoints"][0]).clone())

        def objective(loc: Tensor, free: Tensor) -> Tensor:
            value = (counts * log_levels(loc, cutpoints_of(free))).sum()
            return value if self.prior_choice is None else value + self.penalty(loc, free)

        loc, free = climb(objective, start)
        return {"loc": loc, "cutpoints": cutpoints_of(free).expand(self.table, -1, -1)}

    def posterior_draw(self, statistics: Natural, steps: int = 5) -> Parameters:
        """A Laplace draw, then independence Metropolis steps with the exact target from the counts."""
        mode = self.disassemble(self.update(statistics, self.start()))
        shapes = [mode["loc"].shape, mode["free"].shape]
        sizes = [shape.numel() for shape in shapes]

        def target(flat: Tensor) -> Tensor:
            loc, free = (p.reshape(s) for p, s in zip(flat.split(sizes), shapes, strict=True))
            return (statistics["logits"] * log_levels(loc, cutpoints_of(free))).sum() + self.penalty(loc, free)

        with torch.enable_grad():
            at_mode = torch.cat([mode["loc"].reshape(-1), mode["free"].reshape(-1)])
            hessian = torch.autograd.functional.hessian(target, at_mode)
        proposal = dist.MultivariateNormal(at_mode, covariance_matrix=1.2 * torch.linalg.inv(-hessian))
        flat = proposal.sample()
        for _ in range(steps):
            new = proposal.sample()
            ratio = target(new) - proposal.log_prob(new) - target(flat) + proposal.log_prob(flat)
            flat = new if torch.rand(()).log() < ratio else flat
        loc, free = (p.reshape(s) for p, s in zip(flat.split(sizes), shapes, strict=True))
        return self.assemble({"loc": loc, "free": free})

    # -- densities ---------------------------------------------------------------------------------------------
    def natural(self, theta: Parameters) -> Natural:
        return {"logits": log_levels(theta["loc"], theta["cutpoints"])}

    @once_per_tensor
    def indicators(self, x: Tensor) -> Tensor:
        """One-hot codes ``(N, D * L)`` with zeros for unknown cells."""
        levels = torch.arange(self.levels, device=x.device, dtype=x.dtype)
        return (x[..., None] == levels).to(x.dtype).flatten(1)

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
        return (self.columns or 1) * self.levels

    def head(self, output: Tensor) -> Parameters:
        """A location and the unconstrained cutpoints of every column."""
        cells = 10.0 * (output / 10.0).tanh().unflatten(-1, (self.columns or 1, self.levels))
        return {"loc": cells[..., 0], "cutpoints": cutpoints_of(self.center + cells[..., 1:].clamp(-6, 6))}


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
    return torch.cat([free[..., :1], free[..., :1] + free[..., 1:].clamp(-12, 6).exp().cumsum(-1)], -1)


def free_of(cutpoints: Tensor) -> Tensor:
    gaps = (cutpoints[..., 1:] - cutpoints[..., :-1]).clamp_min(1e-5)
    return torch.cat([cutpoints[..., :1], gaps.log()], -1)


def even_cutpoints(levels: int) -> Tensor:
    return torch.logit(torch.arange(1, levels) / levels)


def climb(objective, start: tuple[Tensor, Tensor], steps: int = 30) -> tuple[Tensor, Tensor]:  # noqa: ANN001
    """L-BFGS from ``start``; returns the start itself where nothing better was found."""
    leaves = [value.detach().clone().requires_grad_() for value in start]
    optimiser = torch.optim.LBFGS(leaves, max_iter=steps, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = -objective(*leaves)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    found = tuple(leaf.detach() for leaf in leaves)
    better = bool(objective(*found) >= objective(*start))
    return (found[0], found[1]) if better else start
