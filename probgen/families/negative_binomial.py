r"""Count columns with more spread than the Poisson: a Poisson with a Gamma rate.

.. math:: x \mid \lambda \sim \mathrm{Poisson}(\lambda), \qquad \lambda \mid k \sim \mathrm{Gamma}(r_k, r_k / m_k)

with shape r and mean m, the rate integrated out:

.. math:: \log p(x \mid k) = \log \frac{\Gamma(x + r)}{\Gamma(r)} - \log x!
    - r \log \frac{r + m}{r} + x \log \frac{m}{r + m}

Treating :math:`\lambda` as missing data would make EM crawl in r and leave samplers without the statistics of a
posterior for r. But the first term is a smooth function of log r, and the polynomial through its values at fixed
shapes :math:`r_g` (Chebyshev's nodes) is good to ten digits. So the family is an exponential one, with statistics x
and :math:`\log \Gamma(x + r_g) / \Gamma(r_g)`; the update is the maximum itself and posterior draws have their target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from probgen.data.holes import known
from probgen.families.base import Natural, Parameters, once_per_tensor
from probgen.families.newton import TwoParameters

__all__ = ["NegativeBinomial"]

LOWEST, HIGHEST = -6.0, 13.8  # of log r: beyond a million the Poisson limit is reached
MARGIN = 0.5  # the nodes reach this much further
NODES = 80


@dataclass(frozen=True, eq=False)
class Histogram:
    """The distinct counts of one column, where they stand, and their part of the density at the grid's shapes."""

    values: Tensor  # (V,)
    where: Tensor  # (N,)
    seen: Tensor | None  # (N,)
    log_factorial: Tensor  # (V,)
    rising: Tensor  # (G, V)


class NegativeBinomial(TwoParameters):
    """D columns of counts; parameters ``log_shape`` (small: overdispersed) and ``log_mean``."""

    names = ("log_shape", "log_mean")
    lowest, highest = (LOWEST, -14.0), (HIGHEST, 14.0)

    def describe(self, theta: Parameters) -> Parameters:
        return {"shape": theta["log_shape"].exp(), "mean": theta["log_mean"].exp()}

    def natural(self, theta: Parameters) -> Natural:
        constant, count = rest_of_density(theta["log_shape"], theta["log_mean"])
        grid = interpolation(theta["log_shape"])  # (K, D, G)
        return {"log_normaliser": constant, "count": count, "grid": grid}

    # -- maximisation ------------------------------------------------------------------------------------------
    def expected(self, statistics: Natural, at: Tensor) -> Tensor:
        natural = self.natural(dict(zip(self.names, at, strict=True)))
        rising = (statistics["grid"] * natural["grid"]).sum(-1)
        rest = statistics["count"] * natural["count"]
        return statistics["log_normaliser"] * natural["log_normaliser"] + rest + rising

    def guess(self, statistics: Natural) -> Tensor:
        """The mean, and the best shape of the grid."""
        n, total = statistics["log_normaliser"].clamp_min(1e-10), statistics["count"]
        log_mean = (total / n).clamp_min(1e-6).log()
        log_shape = nodes().to(n).expand(*n.shape, -1)
        constant, count = rest_of_density(log_shape, log_mean[..., None])
        profile = n[..., None] * constant + total[..., None] * count + statistics["grid"]
        best = profile.argmax(-1, keepdim=True)
        return torch.stack([log_shape.gather(-1, best)[..., 0].clamp(LOWEST, HIGHEST), log_mean])

    # -- densities ---------------------------------------------------------------------------------------------
    @once_per_tensor
    def histograms(self, x: Tensor) -> list[Histogram]:
        """One a column, made once for the data."""
        seen = known(x)
        filled = x if seen is None else torch.where(seen, x, 0.0)
        masks = [None] * x.shape[-1] if seen is None else seen.unbind(-1)
        return [histogram(column, mask) for column, mask in zip(filled.unbind(-1), masks, strict=True)]

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        columns = enumerate(self.histograms(x))
        scores = [score_column({key: value[:, d] for key, value in natural.items()}, column) for d, column in columns]
        return sum(scores[1:], start=scores[0])

    def distribution(self, theta: Parameters) -> OverdispersedPoisson:
        return OverdispersedPoisson(theta["log_shape"].clamp(LOWEST, HIGHEST), theta["log_mean"].clamp(-15, 15))


class OverdispersedPoisson(torch.distributions.Distribution):
    """A negative binomial by the logarithms of shape and mean, accurate up to the Poisson limit."""

    arg_constraints: ClassVar[dict] = {}

    def __init__(self, log_shape: Tensor, log_mean: Tensor) -> None:
        self.log_shape, self.log_mean = log_shape, log_mean
        super().__init__(log_mean.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        constant, count = rest_of_density(self.log_shape, self.log_mean)
        return constant + value * count + log_rising(value, self.log_shape) - (value + 1.0).lgamma()

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            shape = self.log_shape.exp()
            rate = torch.distributions.Gamma(shape, shape * torch.exp(-self.log_mean), validate_args=False)
            return torch.poisson(rate.sample(torch.Size(sample_shape)).clamp_max(1e9))

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        return self.log_mean.exp() * (1.0 + torch.exp(self.log_mean - self.log_shape))


def histogram(x: Tensor, seen: Tensor | None) -> Histogram:
    values, where = torch.unique(x, return_inverse=True)
    rising = log_rising(values, nodes().to(x)[:, None])
    return Histogram(values, where, seen, (values + 1.0).lgamma(), rising)


def score_column(natural: Natural, column: Histogram) -> Tensor:
    """``(K, N)`` for one column, through its distinct values."""
    values = (
        natural["log_normaliser"][:, None]
        + natural["count"][:, None] * column.values
        + natural["grid"] @ column.rising
        - column.log_factorial
    )
    cells = values[:, column.where]
    return cells if column.seen is None else torch.where(column.seen, cells, 0.0)


def rest_of_density(log_shape: Tensor, log_mean: Tensor) -> tuple[Tensor, Tensor]:
    """-r log((r + m) / r) and log(m / (r + m)): the constant and what a count multiplies."""
    excess = torch.nn.functional.softplus(log_mean - log_shape)  # log((r + m) / r)
    return -log_shape.exp() * excess, log_mean - log_shape - excess


def log_rising(x: Tensor, log_shape: Tensor) -> Tensor:
    """Difference log Gamma(x + r) - log Gamma(r), without cancellation for large r (Stirling's series)."""
    shape = log_shape.exp()
    large = shape > 16.0
    low, high = torch.where(large, 1.0, shape), torch.where(large, shape, 16.0)
    series = (high + x - 0.5) * torch.log1p(x / high) - x + stirling(high + x) - stirling(high)
    return torch.where(large, x * log_shape + series, (x + low).lgamma() - low.lgamma())


def stirling(r: Tensor) -> Tensor:
    """What Stirling's formula leaves out of log Gamma(r)."""
    inverse = 1.0 / r
    square = inverse * inverse
    return inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))


@cache
def nodes() -> Tensor:
    """Log shapes of the grid, (G,)."""
    return from_unit(torch.cos(angles()))


def angles() -> Tensor:
    return (torch.arange(NODES, dtype=torch.float64) + 0.5) * torch.pi / NODES


def from_unit(s: Tensor) -> Tensor:
    return 0.5 * (LOWEST + HIGHEST) + (0.5 * (HIGHEST - LOWEST) + MARGIN) * s


@cache
def to_coefficients() -> Tensor:
    """From values at the nodes to coefficients of Chebyshev's polynomials, (G, G)."""
    order = torch.arange(NODES, dtype=torch.float64)[:, None]
    scale = torch.where(order > 0, 2.0, 1.0) / NODES
    return scale * torch.cos(order * angles())


def interpolation(log_shape: Tensor) -> Tensor:
    """Weights (..., G) with which values at the nodes give the value at ``log_shape``."""
    s = (log_shape - 0.5 * (LOWEST + HIGHEST)) / (0.5 * (HIGHEST - LOWEST) + MARGIN)
    order = torch.arange(NODES).to(s)
    return torch.cos(order * torch.acos(s)[..., None]) @ to_coefficients().to(s)
