r"""Semicontinuous columns: a spike at zero and a positive part (Cragg, 1971).

.. math:: p(x = 0 \mid k) = 1 - \pi_k, \qquad \log x \mid x > 0, k \sim \mathcal N(\mu_k, \tau_k^{-1})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.families.base import Family, Natural, Parameters
from probgen.families.bernoulli import Bernoulli
from probgen.families.columnwise import ExponentialFamily
from probgen.families.log_normal import LogNormal, finite

__all__ = ["Hurdle", "TwoParts"]


class TwoParts(Family):
    """What families of two parts share: ``occurrence`` of something positive, and its ``amount``."""

    occurrence: Family
    amount: Family

    def prior(self) -> dict[str, dist.Distribution]:
        return {**self.occurrence.prior(), **self.amount.prior()}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return {**self.occurrence.assemble(sites), **self.amount.assemble(sites)}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {**self.occurrence.disassemble(theta), **self.amount.disassemble(theta)}

    def log_prior(self, theta: Parameters) -> Tensor:
        return self.occurrence.log_prior(theta) + self.amount.log_prior(theta)

    def start(self) -> Parameters:
        return {**self.occurrence.start(), **self.amount.start()}


class Hurdle(TwoParts, ExponentialFamily):
    """D columns; ``logits`` of being positive, ``loc`` and ``precision`` of the positive part's logarithm."""

    occurrence: Bernoulli
    amount: LogNormal

    def __init__(self, columns: int = 1, table: int = 1, prior: str | None = "default") -> None:
        super().__init__(columns, table, prior)
        self.occurrence = Bernoulli(columns, table, prior)
        self.amount = LogNormal(columns, table, prior)

    def describe(self, theta: Parameters) -> Parameters:
        return {**self.occurrence.describe(theta), **self.amount.describe(theta)}

    def calibrate(self, statistics: Natural) -> None:
        self.occurrence.calibrate(occurrences(statistics))
        self.amount.calibrate(amounts(statistics))

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        occurrence = self.occurrence.update(occurrences(statistics), current)
        return {**occurrence, **self.amount.update(amounts(statistics), current)}

    def posterior_draw(self, statistics: Natural) -> Parameters:
        occurrence = self.occurrence.posterior_draw(occurrences(statistics))
        return {**occurrence, **self.amount.posterior_draw(amounts(statistics))}

    def natural(self, theta: Parameters) -> Natural:
        zero, amount = self.occurrence.natural(theta), self.amount.natural(theta)
        return {
            "log_normaliser": zero["log_normaliser"],
            "positive": zero["logit"] + amount["log_normaliser"],
            "linear": amount["linear"],
            "square": amount["square"],
        }

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        positive, log = (x > 0).to(x), log_of_positive(x)
        return {"positive": positive, "linear": log, "square": log * log}

    def carrier(self, x: Tensor) -> Tensor:
        return -log_of_positive(x)

    def distribution(self, theta: Parameters) -> dist.Distribution:
        return ZeroOrPositive(self.occurrence.distribution(theta), self.amount.distribution(theta))

    @property
    def outputs(self) -> int:
        return self.occurrence.outputs + self.amount.outputs

    @property
    def dispersions(self) -> list[int]:
        return [self.occurrence.outputs + at for at in self.amount.dispersions]

    def head(self, output: Tensor) -> Parameters:
        logits, rest = output.split([self.occurrence.outputs, self.amount.outputs], -1)
        return {**self.occurrence.head(logits), **self.amount.head(rest)}


class ZeroOrPositive(torch.distributions.Distribution):
    """Zero, or a draw of a positive distribution."""

    arg_constraints: ClassVar[dict] = {}

    def __init__(self, occurrence: dist.Distribution, amount: dist.Distribution) -> None:
        self.occurrence, self.amount = occurrence, amount
        super().__init__(occurrence.batch_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        positive = value > 0
        amount = torch.where(positive, self.amount.log_prob(torch.where(positive, value, 1.0)), 0.0)
        return self.occurrence.log_prob(positive.to(value)) + amount

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        positive, amount = self.occurrence.sample(sample_shape), self.amount.sample(sample_shape)
        return torch.where(positive > 0, finite(amount), 0.0)

    @property
    def mean(self) -> Tensor:
        return self.occurrence.mean * self.amount.mean

    @property
    def variance(self) -> Tensor:
        square = self.amount.variance + self.amount.mean.square()
        return self.occurrence.mean * square - self.mean.square()


def log_of_positive(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1.0).log()


def occurrences(statistics: Natural) -> Natural:
    return {"log_normaliser": statistics["log_normaliser"], "logit": statistics["positive"]}


def amounts(statistics: Natural) -> Natural:
    return {
        "log_normaliser": statistics["positive"],
        "linear": statistics["linear"],
        "square": statistics["square"],
    }
