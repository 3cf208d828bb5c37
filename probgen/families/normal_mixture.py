"""Mixtures of independent normals, with the density of many points as products of matrices."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

__all__ = ["NormalMixture"]


class NormalMixture(dist.MixtureSameFamily):
    r"""K components of L independent normals, the same for every row.

    .. math:: \log p(z) = \log \sum_k \pi_k \exp\Bigl(-\tfrac12 z^2 \cdot \sigma_k^{-2} + z \cdot \mu_k \sigma_k^{-2} + c_k\Bigr)

    No tensor of rows, components and latents is made. Squares are taken in double precision, where narrow components lose no digits that count.

    Example:
        >>> parts = dist.Normal(torch.zeros(3, 2), 1.0).to_event(1)
        >>> NormalMixture(dist.Categorical(torch.ones(3)), parts).log_prob(torch.zeros(5, 2))[0].exp().item()
        0.159...
    """

    parts: Any = None  # the components before they were expanded to rows

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Any:
        new = super().expand(batch_shape, _instance)
        new.parts = self.parts or self.component_distribution
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        normal = (self.parts or self.component_distribution).base_dist
        loc, scale, z = normal.loc.double(), normal.scale.double(), value.double()
        precision = scale.square().reciprocal()
        constant = -(0.5 * loc.square() * precision + scale.log()).sum(-1) - 0.5 * loc.shape[-1] * math.log(
            2 * math.pi
        )
        scores = z @ (loc * precision).mT - 0.5 * z.square() @ precision.mT + constant
        return (scores + self.mixture_distribution.logits).logsumexp(-1).to(value.dtype)
