r"""How much the latents of a row say of it, and whether they have collapsed.

A decoder that can do without its latents leaves their guide at the prior (Bowman et al., 2016): the divergence is zero nats a row,
and no unit is active, that is, the variance over rows of its posterior mean is below 0.01 (Burda, Grosse and Salakhutdinov, 2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.distributions import Delta
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence

from probgen.data.batches import Batches, first_rows
from probgen.families.flows import FlowDistribution
from probgen.inference.amortised import GuideTracer, Weighted, has_guide, weighted
from probgen.inference.objectives.elbo import elementwise, is_normal

__all__ = ["ACTIVE", "LatentUse", "latent_use", "log_aggregate", "spread_of_means", "taken_one_by_one", "unit_nats"]

ROWS, DRAWS = 2000, 8
PAIRS = 2**20  # of a draw and a row's guide, at a time
ACTIVE = 0.01  # variance over rows of the posterior mean of an active unit
NOTHING = 0.05  # nats a row


@dataclass(frozen=True)
class LatentUse:
    """Of a fitted program with a guide.

    Attributes:
        nats: by site, the divergence of the guide from the prior, mean over rows.
        active: by site, the number of active units.
        units: by site, how many there are.
    """

    nats: dict[str, float]
    active: dict[str, int]
    units: dict[str, int]

    @property
    def collapsed(self) -> bool:
        """The latents say nothing."""
        return bool(self.nats) and sum(self.nats.values()) < NOTHING

    def record(self) -> dict[str, Any]:
        """For a fit's diagnostics."""
        if not self.nats:
            return {}
        return {
            "latent_nats": {name: round(value, 4) for name, value in self.nats.items()},
            "active_units": {name: f"{self.active[name]} of {self.units[name]}" for name in self.nats},
        }


def latent_use(program: Any, batches: Batches) -> LatentUse:
    """From the first training rows."""
    batch = next(batches.pieces())
    with torch.no_grad():
        coded = has_guide(program, batch) and not program.cells_as_latents
        return used(program, batch) if coded else LatentUse({}, {}, {})


def used(program: Any, batch: Any) -> LatentUse:
    """Of some rows."""
    if not batch.in_sequences:
        x, _ = first_rows([batch], ROWS)
        batch = batch.minibatch(torch.arange(min(ROWS, len(x)), device=x.device), batch.total)
    found = weighted(program, batch, DRAWS)
    nats, active, units = {}, {}, {}
    for name, z in found.proposal.sites.items():
        if isinstance(found.proposal.distributions[name], Delta):  # has no divergence
            continue
        q, p = found.proposal.distributions[name], found.evidence.trace.sites[name].distribution
        nats[name] = float((q.log_prob(z) - p.log_prob(z)).mean())
        spread = spread_of_means(q, z)
        active[name], units[name] = int((spread > ACTIVE).sum()), spread.numel()
    return LatentUse(nats, active, units)


def taken_one_by_one(found: Weighted, name: str) -> bool:
    """Whether guide and prior of a site are independent normals, given the sites before."""
    q, p = found.proposal.distributions[name], found.evidence.trace.sites[name].distribution
    return in_order(found) and is_normal(q) and is_normal(p)


def in_order(found: Weighted) -> bool:
    """Whether the guide draws sites in the program's order."""
    guides = found.proposal.distributions
    return [name for name in found.evidence.trace.sites if name in guides] == list(guides)


def unit_nats(found: Weighted, name: str) -> Tensor:
    r"""``(B, L)``: how far the guide of each unit of a site lies from its prior, mean over draws.

    In closed form where both are normal, given the sites before; else :math:`\log q - \log p` at the draws. Of mixtures each unit's own
    marginal counts, of flows the normal with its moments.
    """
    z, p = found.proposal.sites[name], found.evidence.trace.sites[name].distribution
    q, p = marginals(found.proposal.distributions[name]), marginals(p)
    exact = in_order(found) and isinstance(q, Normal) and isinstance(p, Normal)
    gaps = kl_divergence(q, p) if exact else q.log_prob(z) - p.log_prob(z)
    return gaps.expand(z.shape).mean(0).flatten(1)


def marginals(distribution: Any) -> Any:
    """The distributions of single units; of flows, normals with their moments."""
    if isinstance(distribution, FlowDistribution):
        mean, variance = distribution.moments()
        return Normal(mean, variance.sqrt())
    if not isinstance(distribution, MixtureSameFamily):
        return elementwise(distribution)
    parts = marginals(distribution.component_distribution)  # (..., K, L)
    weights = distribution.mixture_distribution.logits[..., None, :]  # (..., 1, K), for all L
    loc, scale = parts.loc.mT, parts.scale.mT
    return MixtureSameFamily(Categorical(logits=weights.expand(loc.shape)), Normal(loc, scale))


def spread_of_means(guide: Any, z: Tensor) -> Tensor:
    """``(L,)``: the variance over rows of each unit's posterior mean, which is one over draws of the latents before.

    Args:
        guide: of a site.
        z: its draws, ``(S, B, ..)``.
    """
    return guide.mean.expand(z.shape).mean(0).flatten(1).var(0)


def log_aggregate(program: Any, batch: Any, sites: Mapping[str, Tensor], log_share: Tensor) -> Tensor:
    r"""``(S, B)``: log density of draws under the guide's mixture over all rows, :math:`q(z) = \sum_n w_n q(z \mid x_n)`.

    Every draw is looked at under every row's guide, some draws at a time.

    Args:
        program, batch: the model and the rows.
        sites: draws ``(S, B, ..)`` of the latents.
        log_share: ``(B,)`` log weights of the rows, which sum to one.
    """
    draws, rows = next(iter(sites.values())).shape[:2]
    flat = {name: z.flatten(0, 1) for name, z in sites.items()}
    found = []
    for some in torch.arange(draws * rows, device=log_share.device).split(max(1, PAIRS // rows)):
        every = {name: z[some, None].expand(-1, rows, *z.shape[1:]) for name, z in flat.items()}
        with GuideTracer(every) as guide, pyro.plate("pairs", len(some), dim=-2):
            program.guide(batch)
        assert guide.log_q is not None
        found.append((guide.log_q + log_share).logsumexp(1))
    return torch.cat(found).unflatten(0, (draws, rows))
