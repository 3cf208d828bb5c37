r"""Columns on an interval, mapped to (0, 1).

.. math:: p(x \mid k) = \frac{x^{mc - 1} (1 - x)^{(1 - m) c - 1}}{B(mc, (1 - m) c)},
    \qquad \log c_k,\ \operatorname{logit} m_k \sim \text{Gaussians centred at the data's}

with mean m and concentration c. The maximisation takes a few Newton steps on (n, sum log x, sum log(1 - x)).
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.families.base import Natural, Parameters, once_per_tensor
from probgen.families.columnwise import Statistics, collect, linear_score
from probgen.families.newton import TwoParameters

__all__ = ["Beta"]

EDGE = 1e-6  # cells on the ends of the interval are moved inside by this


class Beta(TwoParameters):
    """D columns in (0, 1); parameters ``log_concentration`` and ``logit_mean``."""

    names = ("log_concentration", "logit_mean")
    filler = 0.5

    def describe(self, theta: Parameters) -> Parameters:
        return {"concentration": theta["log_concentration"].exp(), "mean": theta["logit_mean"].sigmoid()}

    def shapes(self, at: Tensor) -> tuple[Tensor, Tensor]:
        concentration = at[0].exp()
        return concentration * at[1].sigmoid(), concentration * torch.sigmoid(-at[1])

    def expected(self, statistics: Natural, at: Tensor) -> Tensor:
        a, b = self.shapes(at)
        log_beta = a.lgamma() + b.lgamma() - (a + b).lgamma()
        return a * statistics["log"] + b * statistics["log_rest"] - statistics["log_normaliser"] * log_beta

    def guess(self, statistics: Natural) -> Tensor:
        n = statistics["log_normaliser"].clamp_min(1e-10)
        logit = (statistics["log"] - statistics["log_rest"]) / n
        return torch.stack([torch.full_like(logit, 1.5), logit.clamp(-6, 6)])

    def natural(self, theta: Parameters) -> Natural:
        a, b = self.shapes(self.stack(theta))
        constant = (a + b).lgamma() - a.lgamma() - b.lgamma()
        return {"log_normaliser": constant, "log": a - 1.0, "log_rest": b - 1.0}

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        inside = x.clamp(EDGE, 1 - EDGE)
        return {"log": inside.log(), "log_rest": torch.log1p(-inside)}

    def carrier(self, x: Tensor) -> Tensor | None:
        return None

    @once_per_tensor
    def statistics(self, x: Tensor) -> Statistics:
        return collect(self, x)

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        return linear_score(natural, self.statistics(x))

    def distribution(self, theta: Parameters) -> dist.Distribution:
        a, b = self.shapes(self.stack(theta))
        return InsideBeta(a.clamp_min(1e-4), b.clamp_min(1e-4))


class InsideBeta(torch.distributions.Beta):
    """A beta distribution whose cells on the ends of the interval count as just inside."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__(a, b, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value.clamp(EDGE, 1 - EDGE))

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return super().sample(sample_shape).clamp(EDGE, 1 - EDGE)
