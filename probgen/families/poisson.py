r"""Count columns whose variance equals their mean.

.. math:: p(x \mid k) = \lambda_k^x e^{-\lambda_k} / x!, \qquad \lambda_k \sim \mathrm{Gamma}(a, b)

The default prior is worth half an observation with the mean of the data.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import softplus

from probgen.families.base import Natural, Parameters
from probgen.families.columnwise import ExponentialFamily

__all__ = ["Poisson"]

STRENGTH = 0.5


class Poisson(ExponentialFamily):
    """D columns of counts; parameter ``rate`` of shape ``(K, D)``."""

    closed = True

    def __init__(self, columns: int = 1, table: int = 1, prior: str | None = "default") -> None:
        super().__init__(columns, table, prior)
        self.register_buffer("center", torch.ones(columns))
        self.center: Tensor

    def shape_and_rate(self) -> tuple[Tensor, Tensor]:
        """Of the Gamma prior: mode and strength of the pooled mean."""
        rate = torch.full_like(self.center, STRENGTH).expand(self.table, -1)
        return 1.0 + STRENGTH * self.center.expand(self.table, -1), rate

    def prior(self) -> dict[str, dist.Distribution]:
        return {"rate": dist.Gamma(*self.shape_and_rate()).to_event(2)}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return {"rate": sites["rate"]}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {"rate": theta["rate"]}

    def log_prior(self, theta: Parameters) -> Tensor:
        shape, rate = self.shape_and_rate()
        return ((shape - 1) * theta["rate"].log() - rate * theta["rate"]).sum()

    def start(self) -> Parameters:
        return {"rate": self.center.expand(self.table, -1).clone()}

    def calibrate(self, statistics: Natural) -> None:
        n = statistics["log_normaliser"].sum(0).clamp_min(1e-10)
        self.center = (statistics["log_rate"].sum(0) / n).clamp_min(1e-3)

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        total, n = statistics["log_rate"], statistics["log_normaliser"]
        if self.prior_choice is not None:
            shape, rate = self.shape_and_rate()
            total, n = total + shape - 1, n + rate
        return {"rate": torch.where(n > 1e-10, (total / n).clamp_min(1e-10), current["rate"])}

    def posterior_draw(self, statistics: Natural) -> Parameters:
        shape, rate = self.shape_and_rate()
        return {"rate": dist.Gamma(shape + statistics["log_rate"], rate + statistics["log_normaliser"]).sample()}

    def natural(self, theta: Parameters) -> Natural:
        return {"log_normaliser": -theta["rate"], "log_rate": theta["rate"].log()}

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        return {"log_rate": x}

    def carrier(self, x: Tensor) -> Tensor:
        return -(x + 1).lgamma()

    def distribution(self, theta: Parameters) -> dist.Distribution:
        return dist.Poisson(theta["rate"], validate_args=False)

    @property
    def outputs(self) -> int:
        return self.columns

    def head(self, output: Tensor) -> Parameters:
        return {"rate": softplus(output + 0.5) + 1e-4}
