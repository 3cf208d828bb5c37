r"""Evidence lower bound (Jordan et al., 1999; Kingma and Welling, 2014), its divergences weighted or let off.

.. math::
    \mathbb E_q \Bigl[\log p(x \mid z) - \beta \sum_\ell \max\bigl(\lambda, \mathrm{KL}(q_\ell \,\|\, p_\ell)\bigr)\Bigr]

With :math:`\beta = 1` and :math:`\lambda = 0` it is the bound. A :math:`\beta` above one asks for codes that are shorter and
less entangled (Higgins et al., 2017); one that rises from zero lets the decoder learn to read the latents first (Bowman et al.,
2016), and :math:`\lambda` nats of every latent site are free, so that none of them collapses (Kingma et al., 2016; here a row, not
a minibatch, so that a row's value does not depend on its neighbours).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from probgen.errors import CapabilityError
from probgen.families.walked_path import WalkedPath
from probgen.inference.amortised import Weighted
from probgen.inference.objectives import Objective

__all__ = ["EvidenceLowerBound", "divergences", "elementwise", "is_normal"]


class EvidenceLowerBound(Objective):
    """The bound, or one with other weights.

    Args:
        beta: weight of the divergences.
        beta_steps: steps over which it rises from zero.
        free_bits: nats a row of each latent site that cost nothing more.
    """

    def __init__(self, beta: float = 1.0, beta_steps: int = 0, free_bits: float = 0.0) -> None:
        for name, value in (("beta", beta), ("beta_steps", beta_steps), ("free_bits", free_bits)):
            if value < 0:
                raise CapabilityError(f"{name} must not be negative, got {value}.")
        self.beta, self.beta_steps, self.free_bits = beta, beta_steps, free_bits

    def weight(self, step: int | None) -> float:
        """Of the divergences now."""
        rising = step is not None and step < self.beta_steps
        return self.beta * (step or 0) / self.beta_steps if rising else self.beta

    def per_row(self, found: Weighted, step: int | None = None) -> Tensor:
        if not found.proposal.sites:
            return found.evidence.rows
        value, weight = found.of_units(found.evidence.rows - found.log_prior), self.weight(step)
        for gap in divergences(found).values():
            free = gap.clamp_min(self.free_bits) if self.free_bits else gap
            value = value - weight * found.of_units(free)
        return value if value.dim() == 1 else value.mean(0)


def divergences(found: Weighted) -> dict[str, Tensor]:
    r"""Kullback-Leibler divergence of every latent site's guide from its prior, ``(B,)`` or ``(S, B)``.

    In closed form given the sites before it, where both are normal and the guide draws sites in the program's order; else
    :math:`\log q - \log p` at the draw.
    """
    sites, proposal = found.evidence.trace.sites, found.proposal
    names = [name for name in sites if name in proposal.sites]
    ordered = names == list(proposal.sites)
    gaps = {}
    for name in names:
        q, p, z = proposal.distributions[name], sites[name].distribution, proposal.sites[name]
        if isinstance(q, WalkedPath) and isinstance(p, WalkedPath):
            q, p = q.given(z), p.given(z)
        exact = ordered and is_normal(q) and is_normal(p)
        gaps[name] = torch.distributions.kl_divergence(q, p) if exact else q.log_prob(z) - p.log_prob(z)
    return gaps


def is_normal(distribution: Any) -> bool:
    """Independent normals."""
    return isinstance(elementwise(distribution), Normal)


def elementwise(distribution: Any) -> Any:
    """The distribution of single elements of independent ones."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution
