r"""Columns on an interval, mapped to (0, 1).

.. math:: p(x \mid k) = \frac{x^{mc - 1} (1 - x)^{(1 - m) c - 1}}{B(mc, (1 - m) c)},
    \qquad \log c_k,\ \operatorname{logit} m_k \sim \text{Gaussians centred at the data's}

with mean m and concentration c. The maximisation takes a few Newton steps on (n, sum log x, sum log(1 - x)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from probgen.families.base import Natural, Parameters
from probgen.families.newton import LinearTwoParameters

__all__ = ["Beta"]

EDGE = 1e-6  # cells on the ends of the interval are moved inside by this
SMALLEST = 1e-4  # of the two shapes


class Beta(LinearTwoParameters):
    """D columns in (0, 1); parameters ``log_concentration`` and ``logit_mean``."""

    names = ("log_concentration", "logit_mean")
    filler = 0.5
    neutral = (math.log(2.0), 0.0)  # uniform

    def describe(self, theta: Parameters) -> Parameters:
        return {
            "concentration": theta["log_concentration"].exp(),
            "mean": theta["logit_mean"].sigmoid(),
        }

    def shapes(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """The exponents mc and (1 - m)c."""
        concentration = at[0].exp()
        a, b = concentration * at[1].sigmoid(), concentration * torch.sigmoid(-at[1])
        return a + SMALLEST, b + SMALLEST

    def expected(self, statistics: Natural, at: Tensor) -> Tensor:
        a, b = self.shapes(at)
        constant = statistics["log_normaliser"] * log_constant(a, b)
        return (a - 1.0) * statistics["log"] + (b - 1.0) * statistics["log_rest"] + constant

    def guess(self, statistics: Natural) -> Tensor:
        """A concentration near two and the mean of the log odds."""
        n = statistics["log_normaliser"].clamp_min(1e-10)
        logit = (statistics["log"] - statistics["log_rest"]) / n
        return torch.stack([torch.ones_like(logit), (0.5 * logit).clamp(-5, 5)])

    def natural(self, theta: Parameters) -> Natural:
        a, b = self.shapes(self.stack(theta))
        return {"log_normaliser": log_constant(a, b), "log": a - 1.0, "log_rest": b - 1.0}

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        inside = x.clamp(EDGE, 1 - EDGE)
        return {"log": inside.log(), "log_rest": torch.log1p(-inside)}

    def distribution(self, theta: Parameters) -> InsideBeta:
        return InsideBeta(*self.shapes(self.stack(theta)))


class InsideBeta(torch.distributions.Beta):
    """A beta distribution whose cells on the ends of the interval count as just inside."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__(a, b, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        inside, a, b = value.clamp(EDGE, 1 - EDGE), self.concentration1, self.concentration0
        return (a - 1.0) * inside.log() + (b - 1.0) * torch.log1p(-inside) + log_constant(a, b)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return super().sample(torch.Size(sample_shape)).clamp(EDGE, 1 - EDGE)


def log_constant(a: Tensor, b: Tensor) -> Tensor:
    """Minus the logarithm of the beta function."""
    return (a + b).lgamma() - a.lgamma() - b.lgamma()
