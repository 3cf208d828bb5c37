r"""Multivariate Student-t columns: Gaussians whose precision each row scales by a weight of its own.

.. math::
    u \mid k \sim \mathrm{Gamma}(\tfrac{\nu_k}2, \tfrac{\nu_k}2), \qquad
    x \mid k, u \sim \mathcal N(\mu_k, (u P_k)^{-1})
    \quad\Longrightarrow\quad x_o \mid k \sim t_{\nu_k}(\mu_o, \Sigma_{oo}) \text{ for any known cells } o

The complete density is linear in :math:`T(x, u) = (1, u, u x, u x x^\top, \log u)`. With un-normalised coefficients
(c, e, h, -P/2, a), u and the unknown cells m integrate out in closed form,

.. math:: c + \tfrac12 \log |2\pi P_{mm}^{-1}| + \log \Gamma(a + \tfrac{|o|}2)
    - (a + \tfrac{|o|}2) \log\bigl(-e - h_*^\top x_o + \tfrac12 x_o^\top P_* x_o\bigr),

(stars: after the Schur complement), so that the gradient is the expectation of T given the known cells: Fisher's
identity again. The maximisation is that of parameter-expanded EM (Liu, Rubin and Wu, 1998): the scale of u is free
during the update, which takes fewer iterations and is as monotone. The degrees of freedom, with a Gamma(2, 0.1) prior
(Juarez and Steel, 2010), are the root of a decreasing function.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import softplus

from probgen.errors import CapabilityError
from probgen.families.base import Family, Natural, Parameters
from probgen.families.gaussian import gaussian
from probgen.families.gaussian_joint import LOG_TWO_PI, CoupledGaussian

__all__ = ["StudentT"]

LEAST, MOST = 0.5, 200.0  # degrees of freedom that are estimated
SHAPE, RATE = 2.0, 0.1  # of their prior
FIRST = 5.0  # where they start
SWEEPS = 4  # over the blocks of the expanded parameters, an update


class StudentT(CoupledGaussian):
    """K rows of loc (D), precision (D, D) of the scale matrix, and degrees.

    Args:
        columns: D.
        table: K.
        prior: "default" or None, as for the Gaussian of the same covariance structure.
        covariance: "full", "tied", "diagonal" or "spherical" scale matrices.
        degrees: "estimate", one for each row of the table, or a fixed number.
    """

    def __init__(
        self,
        columns: int,
        table: int = 1,
        prior: str | None = "default",
        covariance: str = "full",
        degrees: str | float = "estimate",
    ) -> None:
        super().__init__(columns, table, prior)
        self.gaussian: Family = gaussian(columns, table, covariance, prior)  # of x given u
        if degrees != "estimate" and not (isinstance(degrees, int | float) and 0 < degrees < math.inf):
            raise CapabilityError(f"degrees must be 'estimate' or a positive number, got {degrees!r}.")
        self.fixed = None if degrees == "estimate" else float(degrees)

    # -- parameters --------------------------------------------------------------------------------------------
    def prior(self) -> dict[str, dist.Distribution]:
        sites = self.gaussian.prior()
        if self.fixed is None:
            shape = torch.full((self.table,), SHAPE).to(self.center)
            sites["degrees"] = dist.Gamma(shape, RATE).to_event(1)
        return sites

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        theta = self.gaussian.assemble({key: value for key, value in sites.items() if key != "degrees"})
        degrees = sites["degrees"] if self.fixed is None else torch.full((self.table,), self.fixed).to(theta["loc"])
        return self.joined(theta, degrees)

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        sites = self.gaussian.disassemble(self.inner(theta))
        return sites if self.fixed is not None else {**sites, "degrees": theta["degrees"]}

    def describe(self, theta: Parameters) -> Parameters:
        return {"loc": theta["loc"], "scale": torch.linalg.inv(theta["precision"]), "degrees": theta["degrees"]}

    def log_prior(self, theta: Parameters) -> Tensor:
        """In the coordinates of loc, precision and degrees."""
        value = self.gaussian.log_prior(self.inner(theta))
        if self.fixed is not None:
            return value
        return value + ((SHAPE - 1) * theta["degrees"].log() - RATE * theta["degrees"]).sum()

    def start(self) -> Parameters:
        first = FIRST if self.fixed is None else self.fixed
        return self.joined(self.gaussian.start(), torch.full((self.table,), first).to(self.center))

    def calibrate(self, statistics: Natural) -> None:
        """By the rows' weights, so that outliers do not set the scale of the prior."""
        self.gaussian.calibrate(self.weighted(statistics, torch.ones_like(statistics["scale"]), by_weight=True))

    def calibrate_within(self, statistics: Natural) -> None:
        """Parts of a single row are outliers, which heavy tails are for."""
        if float(self.moments(statistics)[0].amin()) < 1.5:
            return
        self.gaussian.calibrate_within(self.weighted(statistics, torch.ones_like(statistics["scale"]), by_weight=True))

    def inner(self, theta: Parameters) -> Parameters:
        """Loc and precision as the Gaussian keeps them."""
        P = theta["precision"] if isinstance(self.gaussian, CoupledGaussian) else diagonal(theta["precision"])
        return {"loc": theta["loc"], "precision": P}

    def joined(self, inner: Parameters, degrees: Tensor) -> Parameters:
        P = inner["precision"] if isinstance(self.gaussian, CoupledGaussian) else inner["precision"].diag_embed()
        return {"loc": inner["loc"], "precision": P, "degrees": degrees}

    def weighted(self, statistics: Natural, expansion: Tensor, by_weight: bool = False) -> Natural:
        """The Gaussian's statistics, rows weighted by u / expansion; ``by_weight`` counts rows by their weight too."""
        n, s, square = self.moments(statistics)
        weight = statistics["scale"] / expansion
        count = weight if by_weight else n
        if isinstance(self.gaussian, CoupledGaussian):
            packed = statistics["square"] / expansion[:, None]
            return {"log_normaliser": count, "weight": weight, "linear": s / expansion[:, None], "square": packed}
        wide = {"log_normaliser": count, "weight": weight}
        cells = {key: value[:, None].expand_as(s) for key, value in wide.items()}
        return {**cells, "linear": s / expansion[:, None], "square": diagonal(square) / expansion[:, None]}

    # -- maximum and posterior ---------------------------------------------------------------------------------
    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        """Gaussian, degrees and the scale of u in turn; each raises the expected log density of the expanded model."""
        expansion, inner, degrees = torch.ones_like(current["degrees"]), self.inner(current), current["degrees"]
        for _ in range(SWEEPS):
            inner = self.gaussian.update(self.weighted(statistics, expansion), inner)
            if self.fixed is None:
                degrees = self.best_degrees(statistics, expansion, degrees)
            expansion = self.best_expansion(statistics, self.joined(inner, degrees))
        return self.joined(inner, degrees)

    def best_expansion(self, statistics: Natural, theta: Parameters) -> Tensor:
        """The scale of u, ``(K,)``: one where nothing is gained."""
        n, s, square = self.moments(statistics)
        loc, P, degrees, total = theta["loc"], theta["precision"], theta["degrees"], statistics["scale"]
        pull = (P @ loc[..., None])[..., 0]
        distance = (P * square).sum((-2, -1)) - 2 * (pull * s).sum(-1) + total * (pull * loc).sum(-1)
        found = (distance + degrees * total) / (n * (self.columns + degrees)).clamp_min(1e-300)
        return torch.where(n > 1e-10, found, 1.0)

    def best_degrees(self, statistics: Natural, expansion: Tensor, current: Tensor) -> Tensor:
        """Where the derivative changes sign, by bisection of log degrees."""
        gap = self.gap(statistics, expansion)
        n, weak = statistics["log_normaliser"], 0.0 if self.prior_choice is None else 1.0
        low, high = (torch.full_like(n, math.log(end)) for end in (LEAST, MOST))
        for _ in range(60):
            middle = 0.5 * (low + high)
            half = 0.5 * middle.exp()
            slope = 0.5 * (n * (half.log() + 1 - torch.digamma(half)) + gap)
            slope = slope + weak * (0.5 * (SHAPE - 1) / half - RATE)
            low, high = torch.where(slope > 0, middle, low), torch.where(slope > 0, high, middle)
        found = (0.5 * (low + high)).exp()
        return found if self.prior_choice is not None else torch.where(n > 1e-10, found, current)

    def gap(self, statistics: Natural, expansion: Tensor) -> Tensor:
        """Expected sum of log u - u, for u over its scale."""
        n, total = statistics["log_normaliser"], statistics["scale"]
        return statistics["log_scale"] - n * expansion.log() - total / expansion

    def posterior_draw(self, statistics: Natural) -> Parameters:
        """Gaussian by its conjugate posterior, degrees by their own on a grid of 2 000 points."""
        one = torch.ones_like(statistics["scale"])
        inner = self.gaussian.posterior_draw(self.weighted(statistics, one))
        if self.fixed is not None:
            return self.joined(inner, self.fixed * one)
        log = torch.linspace(math.log(LEAST), math.log(MOST), 2000).to(one)
        half = 0.5 * log.exp()
        weight = statistics["log_normaliser"][:, None] * (half * half.log() - half.lgamma())
        weight = weight + half * self.gap(statistics, one)[:, None] + SHAPE * log - 2 * RATE * half
        return self.joined(inner, 2 * half[dist.Categorical(logits=weight).sample()])

    # -- densities ---------------------------------------------------------------------------------------------
    def natural(self, theta: Parameters) -> Natural:
        """Coefficients of 1, u, u x, u xx' (packed) and log u."""
        found, half = super().natural(theta), 0.5 * theta["degrees"]
        quadratic = -0.5 * (found["linear"] * theta["loc"]).sum(-1)
        constant = found["log_normaliser"] - quadratic + half * half.log() - half.lgamma()
        return {**found, "log_normaliser": constant, "scale": quadratic - half, "log_scale": half}

    def has_large_temporaries(self, x: Tensor) -> bool:
        return True

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        exponent, volume = self.integrate({**natural, "log_normaliser": natural["scale"]}, x)
        rate = (-exponent).clamp_min(torch.finfo(x.dtype).tiny)
        count = (~x.isnan()).sum(-1)
        shapes = natural["log_scale"][:, None] + 0.5 * torch.arange(self.columns + 1).to(
            x
        )  # by the number of known cells
        return natural["log_normaliser"][:, None] + volume + shapes.lgamma()[:, count] - shapes[:, count] * rate.log()

    def log_prob(self, theta: Parameters, x: Tensor) -> Tensor:
        distance, log_det, count = self.distance(theta, x)
        degrees = theta["degrees"]
        half = 0.5 * (degrees + count)
        constant = half.lgamma() - (0.5 * degrees).lgamma() - 0.5 * count * (LOG_TWO_PI + (0.5 * degrees).log())
        return constant - log_det - half * torch.log1p(distance / degrees)

    # -- rows --------------------------------------------------------------------------------------------------
    def sd(self, theta: Parameters) -> Tensor:
        """Infinite where there are no more than two degrees of freedom."""
        degrees = theta["degrees"]
        widening = torch.where(degrees > 2, degrees / (degrees - 2).clamp_min(1e-12), torch.inf)
        return self.scale(theta) * widening.sqrt()[..., None]

    def radius(self, theta: Parameters, share: float) -> Tensor:
        degrees = theta["degrees"]
        return (degrees * torch.expm1(-2.0 / degrees * math.log1p(-share))).sqrt()

    def sample(self, theta: Parameters) -> Tensor:
        loc = theta["loc"]
        return loc + (super().sample(theta) - loc) * stretch(theta["degrees"], 0.0, 0.0)[..., None]

    def fill(self, theta: Parameters, x: Tensor) -> Tensor:
        """The weight u given the known cells, then the Gaussian's conditional."""
        distance, _, count = self.distance(theta, x)
        mean, noise = self.conditional(theta, x)
        return torch.where(x.isnan(), mean + noise * stretch(theta["degrees"], distance, count)[..., None], x)

    # -- network head ------------------------------------------------------------------------------------------
    @property
    def outputs(self) -> int:
        return self.gaussian.outputs + 1

    @property
    def dispersions(self) -> list[int]:
        return [*self.gaussian.dispersions, self.gaussian.outputs]

    def head(self, output: Tensor) -> Parameters:
        """The Gaussian's parameters, and degrees above 2."""
        degrees = 2.0 + softplus(output[..., -1] + FIRST)
        return self.joined(self.gaussian.head(output[..., :-1]), degrees)


def stretch(degrees: Tensor, distance: Tensor | float, count: Tensor | float) -> Tensor:
    """1 / sqrt(u) for a draw of u given ``count`` known cells at a squared distance."""
    return dist.Gamma(0.5 * (degrees + count), 0.5 * (degrees + distance)).sample().clamp_min(1e-12).rsqrt()


def diagonal(matrix: Tensor) -> Tensor:
    return matrix.diagonal(0, -2, -1)
