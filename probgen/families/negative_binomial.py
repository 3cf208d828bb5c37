r"""Count columns with more spread than the Poisson: a Poisson with a Gamma rate.

.. math:: x \mid \lambda \sim \mathrm{Poisson}(\lambda), \qquad \lambda \mid k \sim \mathrm{Gamma}(r_k, r_k / m_k)

As a function of the un-normalised natural parameters of the latent Gamma the log density has the expectations of
(1, :math:`\lambda`, :math:`\log \lambda`) given x as its gradient. So EM needs nothing new: the statistics are those
of a Gamma, and so is the update.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.families.base import Natural, Parameters, known
from probgen.families.gamma import gamma_expected, gamma_guess, gamma_natural
from probgen.families.newton import TwoParameters

__all__ = ["NegativeBinomial"]


class NegativeBinomial(TwoParameters):
    """D columns of counts; parameters ``log_shape`` (small: overdispersed) and ``log_mean``."""

    names = ("log_shape", "log_mean")

    def describe(self, theta: Parameters) -> Parameters:
        return {"shape": theta["log_shape"].exp(), "mean": theta["log_mean"].exp()}

    def expected(self, statistics: Natural, at: Tensor) -> Tensor:
        return gamma_expected(statistics, at)

    def guess(self, statistics: Natural) -> Tensor:
        return gamma_guess(statistics)

    def natural(self, theta: Parameters) -> Natural:
        return gamma_natural(theta)

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        seen = known(x)
        filled = x if seen is None else torch.where(seen, x, 0.0)
        total = torch.zeros(())
        for d in range(x.shape[-1]):
            column = self.score_column({key: value[:, d] for key, value in natural.items()}, filled[:, d])
            total = total + (column if seen is None else torch.where(seen[:, d], column, 0.0))
        return total

    def score_column(self, natural: Natural, x: Tensor) -> Tensor:
        """``(K, N)`` for one column, through its distinct values."""
        values, where = torch.unique(x, return_inverse=True)
        shape, rate = natural["log"][:, None] + 1.0, -natural["linear"][:, None]
        log_density = (
            natural["log_normaliser"][:, None]
            + (values + shape).lgamma()
            - (values + shape) * torch.log1p(rate)
            - (values + 1.0).lgamma()
        )
        return log_density[:, where]

    def distribution(self, theta: Parameters) -> dist.Distribution:
        shape = theta["log_shape"].clamp(-10, 10).exp()
        return OverdispersedPoisson(shape, theta["log_mean"].clamp(-15, 15).exp())


class OverdispersedPoisson(torch.distributions.NegativeBinomial):
    """A negative binomial by shape and mean."""

    def __init__(self, shape: Tensor, mean: Tensor) -> None:
        super().__init__(shape, logits=mean.log() - shape.log(), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.logits.exp()
