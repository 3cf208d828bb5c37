r"""Positive columns with a Gamma distribution.

.. math:: p(x \mid k) = \frac{(r/m)^r}{\Gamma(r)} x^{r-1} e^{-r x / m},
    \qquad \log r_k,\ \log m_k \sim \text{Gaussians centred at the data's}

with shape r and mean m. The maximisation has no closed form: a few Newton steps on (n, sum x, sum log x).
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.families.base import Natural, Parameters
from probgen.families.newton import LinearTwoParameters

__all__ = ["Gamma"]


class Gamma(LinearTwoParameters):
    """D positive columns; parameters ``log_shape`` and ``log_mean``."""

    names = ("log_shape", "log_mean")
    filler = 1.0

    def describe(self, theta: Parameters) -> Parameters:
        return {"shape": theta["log_shape"].exp(), "mean": theta["log_mean"].exp()}

    def expected(self, statistics: Natural, at: Tensor) -> Tensor:
        """Of the data: n (r log r - r log m - log Gamma(r)) + r sum log x - r / m sum x, up to a constant."""
        n, total, log_total = statistics["log_normaliser"], statistics["linear"], statistics["log"]
        shape = at[0].exp()
        constant = shape * (at[0] - at[1]) - shape.lgamma()
        return n * constant + shape * log_total - shape * torch.exp(-at[1]) * total

    def guess(self, statistics: Natural) -> Tensor:
        """Mean by moments, shape by Minka's (2002) first approximation."""
        n = statistics["log_normaliser"].clamp_min(1e-10)
        mean = (statistics["linear"] / n).clamp_min(1e-10)
        gap = (mean.log() - statistics["log"] / n).clamp_min(1e-6)
        shape = (3 - gap + ((gap - 3).square() + 24 * gap).sqrt()) / (12 * gap)
        return torch.stack([shape.clamp(1e-3, 1e5).log(), mean.log()])

    def natural(self, theta: Parameters) -> Natural:
        """(log normaliser, -rate, shape - 1)."""
        shape = theta["log_shape"].exp()
        constant = shape * (theta["log_shape"] - theta["log_mean"]) - shape.lgamma()
        return {
            "log_normaliser": constant,
            "linear": -shape * torch.exp(-theta["log_mean"]),
            "log": shape - 1.0,
        }

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        return {"linear": x, "log": x.log()}

    def distribution(self, theta: Parameters) -> dist.Distribution:
        shape = theta["log_shape"].exp()
        return dist.Gamma(shape, shape * torch.exp(-theta["log_mean"]), validate_args=False)
