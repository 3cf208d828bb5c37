r"""Positive columns: the logarithm is Gaussian.

.. math:: \log x \mid k \sim \mathcal N(\mu_k, \tau_k^{-1}), \qquad (\mu_k, \tau_k) \sim \text{Normal-Gamma}
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.families.base import Parameters
from probgen.families.gaussian import NormalGamma

__all__ = ["LogNormal"]


class LogNormal(NormalGamma):
    """D positive columns; ``loc`` and ``precision`` of the logarithm."""

    filler = 1.0

    def coordinates(self, x: Tensor) -> Tensor:
        return x.log()

    def carrier(self, x: Tensor) -> Tensor:
        return -x.log()

    def pool(self, value: Tensor) -> Tensor:
        return value

    def distribution(self, theta: Parameters) -> dist.Distribution:
        return dist.LogNormal(theta["loc"], theta["precision"].rsqrt(), validate_args=False)

    def sample(self, theta: Parameters) -> Tensor:
        return finite(super().sample(theta))


def finite(x: Tensor) -> Tensor:
    """Positive numbers kept within what the dtype can hold."""
    held = torch.finfo(x.dtype)
    return x.clamp(held.tiny, held.max)
