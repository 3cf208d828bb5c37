r"""Gaussian columns: diagonal, spherical, full and tied covariance.

.. math::
    x \mid k \sim \mathcal N(\mu_k, P_k^{-1}), \qquad
    \mu_k \mid P_k \sim \mathcal N(m, (\kappa P_k)^{-1}), \qquad P_k \sim \mathrm{Wishart}(\nu, \Psi^{-1})

(Gamma in place of Wishart for the diagonal and the spherical form). The default prior is that of Fraley and
Raftery (2007): :math:`\kappa = 0.01`, :math:`\nu = D + 2`, and a scatter :math:`\Psi` that is the data's own
covariance over :math:`K^{2/D}`; it keeps components from collapsing and hardly moves the rest.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import softplus

from probgen.errors import CapabilityError
from probgen.families.base import Family, Natural, Parameters
from probgen.families.columnwise import ExponentialFamily
from probgen.families.gaussian_joint import FullGaussian, TiedGaussian, by_anchor, is_apart, is_far

__all__ = [
    "COVARIANCES",
    "Covariance",
    "DiagonalGaussian",
    "FullGaussian",
    "SphericalGaussian",
    "TiedGaussian",
    "gaussian",
]

LOG_TWO_PI = math.log(2 * math.pi)
SHRINKAGE = 0.01  # kappa, in observations


class NormalGamma(ExponentialFamily):
    """Independent Gaussians in some coordinates of the cells, with a Normal-Gamma prior."""

    def __init__(self, columns: int = 1, table: int = 1, prior: str | None = "default") -> None:
        super().__init__(columns, table, prior)
        self.register_buffer("center", torch.zeros(columns))
        self.register_buffer("rate", torch.full((columns,), 0.5))
        self.center: Tensor
        self.rate: Tensor
        self.register_buffer("concentration", torch.tensor(SHRINKAGE))
        self.concentration: Tensor
        self.shape = 1.5

    @abstractmethod
    def coordinates(self, x: Tensor) -> Tensor:
        """The cells in the coordinates in which they are Gaussian."""

    @abstractmethod
    def pool(self, value: Tensor) -> Tensor:
        """Sum over the columns that share a precision."""

    def calibrate(self, statistics: Natural) -> None:
        n, s, square = moments(statistics, 0)
        n = n.clamp_min(1e-10)
        self.center = s / n
        self.rate = (0.5 * (square / n - self.center**2) / self.table ** (2 / self.columns)).clamp_min(1e-8)
        self.concentration = torch.full_like(self.concentration, SHRINKAGE)

    def calibrate_within(self, statistics: Natural) -> None:
        n, s, square = moments(statistics)
        within = (square - s**2 / n.clamp_min(1e-10)).sum(0) / n.sum(0).clamp_min(1e-10)
        total = square.sum(0) / n.sum(0).clamp_min(1e-10) - (s.sum(0) / n.sum(0).clamp_min(1e-10)) ** 2
        share = float((within / total.clamp_min(1e-300)).amin())
        if is_apart(share * self.table ** (2 / self.columns)):
            self.rate = torch.minimum(self.rate, 0.5 * within)
            self.concentration = torch.full_like(self.concentration, SHRINKAGE * share)

    def prior(self) -> dict[str, dist.Distribution]:
        rate = self.pool(self.rate.expand(self.table, -1))
        shape = self.pool(torch.full_like(self.rate, self.shape).expand(self.table, -1))
        white = torch.zeros_like(self.rate).expand(self.table, -1)
        return {"precision": dist.Gamma(shape, rate).to_event(2), "white": dist.Normal(white, 1.0).to_event(2)}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        precision = sites["precision"].expand_as(sites["white"])
        loc = self.center + sites["white"] / (self.concentration * precision).sqrt()
        return {"loc": loc, "precision": precision}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        loc, precision = theta["loc"], theta["precision"]
        white = (loc - self.center) * (self.concentration * precision).sqrt()
        return {"precision": precision[..., : self.pool(self.rate[None]).shape[-1]], "white": white}

    def describe(self, theta: Parameters) -> Parameters:
        return {"loc": theta["loc"], "scale": theta["precision"].rsqrt()}

    def log_prior(self, theta: Parameters) -> Tensor:
        precision, gap = theta["precision"], theta["loc"] - self.center
        normal = 0.5 * precision.log() - 0.5 * self.concentration * precision * gap**2
        rate, shape = self.pool(self.rate.expand_as(precision)), self.pool(torch.full_like(precision, self.shape))
        shared = precision[..., : rate.shape[-1]]
        return normal.sum() + ((shape - 1) * shared.log() - rate * shared).sum()

    def start(self) -> Parameters:
        zero = torch.zeros(self.table, self.columns).to(self.center)
        return {"loc": zero, "precision": zero + 1.0}

    def posterior(self, statistics: Natural) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Strength, centre, shape and rate of the Normal-Gamma posterior; strengths are (K, D), the rest pooled.

        Rows may have weights, as in scale mixtures: then ``statistics["weight"]`` is their sum.
        """
        n, s, square = moments(statistics)
        weight = statistics.get("weight", n)
        if self.prior_choice is None:
            loc = s / weight.clamp_min(1e-10)
            return weight, loc, self.pool(0.5 * n), self.pool(0.5 * (square - weight * loc**2))
        strength = weight + self.concentration
        loc = (s + self.concentration * self.center) / strength
        rate = self.rate + 0.5 * (square + self.concentration * self.center**2 - strength * loc**2)
        return strength, loc, self.pool(self.shape + 0.5 * n), self.pool(rate)

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        anchored = (current["loc"],) if "anchor" in statistics else ()
        strength, loc, shape, rate = self.posterior(statistics, *anchored)
        if self.prior_choice is not None:  # the mode of the joint density of loc and precision
            shape = shape + self.pool(torch.full_like(loc, 0.5)) - 1.0
        precision = (shape / rate).expand_as(loc)
        used = strength > (1e-10 if self.prior_choice is None else 0.0)
        return {
            "loc": torch.where(used, loc, current["loc"]),
            "precision": torch.where(used, precision, current["precision"]),
        }

    def posterior_draw(self, statistics: Natural) -> Parameters:
        strength, loc, shape, rate = self.posterior(statistics)
        precision = dist.Gamma(shape, rate).sample().expand_as(loc)
        return {"loc": dist.Normal(loc, (strength * precision).rsqrt()).sample(), "precision": precision}

    def natural(self, theta: Parameters) -> Natural:
        loc, precision = theta["loc"], theta["precision"]
        linear = precision * loc
        constant = 0.5 * (precision.log() - LOG_TWO_PI - linear * loc)
        return {"log_normaliser": constant, "linear": linear, "square": -0.5 * precision}

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        y = self.coordinates(x)
        return {"linear": y, "square": y * y}

    @property
    def outputs(self) -> int:
        return 2 * self.columns

    @property
    def dispersions(self) -> list[int]:
        return list(range(self.columns, 2 * self.columns))

    def head(self, output: Tensor) -> Parameters:
        loc, raw = output.chunk(2, -1)
        return {"loc": loc, "precision": (softplus(raw + 0.5) + 1e-2) ** -2}  # standard deviation near 1 at 0


class IndependentGaussian(NormalGamma):
    """Gaussian cells as they are; the forms differ in how the precision is tied over columns.

    Where clusters lie too far apart for common coordinates, each row has its own, as ``CentredGaussian`` has them.
    """

    def coordinates(self, x: Tensor) -> Tensor:
        return x

    def natural(self, theta: Parameters) -> Natural:
        if not is_far(theta["loc"], theta["precision"]):
            return super().natural(theta)
        return super().natural(theta | {"loc": torch.zeros_like(theta["loc"])}) | {"anchor": theta["loc"]}

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        if "anchor" not in natural:
            return super().score(natural, x)
        score = super().score
        return torch.cat([score(own, x - anchor) for own, anchor in by_anchor(natural)])

    def posterior(self, statistics: Natural, anchor: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if anchor is None:
            return super().posterior(statistics)
        n, s, square = moments(statistics)
        mean = s / n.clamp_min(1e-10)
        within, gap = square - n * mean**2, anchor + mean - self.center
        if self.prior_choice is None:
            return n, anchor + mean, self.pool(0.5 * n), self.pool(0.5 * within)
        strength = n + self.concentration
        rate = self.rate + 0.5 * (within + self.concentration * n / strength * gap**2)
        return strength, self.center + n / strength * gap, self.pool(self.shape + 0.5 * n), self.pool(rate)

    def distribution(self, theta: Parameters) -> dist.Distribution:
        return dist.Normal(theta["loc"], theta["precision"].rsqrt(), validate_args=False)


class DiagonalGaussian(IndependentGaussian):
    """One precision for each row and column."""

    def pool(self, value: Tensor) -> Tensor:
        return value


class SphericalGaussian(IndependentGaussian):
    """One precision for each row, shared by its columns."""

    def pool(self, value: Tensor) -> Tensor:
        return value.sum(-1, keepdim=True)


def moments(statistics: Natural, over: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Number, sum and sum of squares; ``over=0`` takes all rows together."""
    found = (statistics["log_normaliser"], statistics["linear"], statistics["square"])
    return found if over is None else tuple(value.sum(over) for value in found)  # type: ignore[return-value]


COVARIANCES: dict[str, type[Family]] = {
    "full": FullGaussian,
    "tied": TiedGaussian,
    "diagonal": DiagonalGaussian,
    "spherical": SphericalGaussian,
}


Covariance = str | Callable[[int, int, str | None], Family]


def gaussian(columns: int, table: int = 1, covariance: Covariance = "full", prior: str | None = "default") -> Family:
    """A table of Gaussians with the given covariance structure: a name, or a family that makes one of its own."""
    if callable(covariance):
        return covariance(columns, table, prior)
    if covariance not in COVARIANCES:
        raise CapabilityError(f"covariance must be one of {', '.join(COVARIANCES)}, got {covariance!r}.")
    return COVARIANCES[covariance](columns, table, prior)  # type: ignore[call-arg, arg-type]
