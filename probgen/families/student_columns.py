r"""Real columns with heavy tails, each cell by itself: Student's t.

.. math:: p(x \mid k) = \frac{\Gamma(\frac{\nu_k + 1}2)}{\Gamma(\frac{\nu_k}2)} \sqrt{\frac{P_k}{\pi \nu_k}}
    \Bigl(1 + \frac{P_k (x - \mu_k)^2}{\nu_k}\Bigr)^{-\frac{\nu_k + 1}2}

As in :mod:`~probgen.families.student_t` a hidden weight u scales the precision, here of one cell, where there it is that of a row. The
complete density is linear in (1, u, u x, u x^2, log u), u integrates out of it in closed form, and the update is that of
parameter-expanded EM (Liu, Rubin and Wu, 1998).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import softplus

from probgen.families.base import Natural, Parameters, once_per_tensor
from probgen.families.columnwise import ColumnwiseFamily, mask_cells
from probgen.families.gaussian import LOG_TWO_PI, DiagonalGaussian
from probgen.families.student_t import FIRST, LEAST, MOST, RATE, SHAPE

__all__ = ["StudentColumns"]

SWEEPS = 2  # over the blocks of the expanded parameters, an update
HALVINGS = 40  # of the interval in which the degrees lie


class StudentColumns(ColumnwiseFamily):
    """D independent columns; parameters ``loc``, ``precision`` (of the scale) and ``degrees``, each ``(K, D)``."""

    def __init__(self, columns: int = 1, table: int = 1, prior: str | None = "default") -> None:
        super().__init__(columns, table, prior)
        self.gaussian = DiagonalGaussian(columns, table, prior)  # of x given u

    # -- parameters --------------------------------------------------------------------------------------------
    def prior(self) -> dict[str, dist.Distribution]:
        shape = torch.full((self.table, self.columns), SHAPE).to(self.gaussian.center)
        return {**self.gaussian.prior(), "degrees": dist.Gamma(shape, RATE).to_event(2)}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return {**self.gaussian.assemble(sites), "degrees": sites["degrees"]}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {**self.gaussian.disassemble(theta), "degrees": theta["degrees"]}

    def describe(self, theta: Parameters) -> Parameters:
        return {**self.gaussian.describe(theta), "degrees": theta["degrees"]}

    def log_prior(self, theta: Parameters) -> Tensor:
        degrees = theta["degrees"]
        return self.gaussian.log_prior(theta) + ((SHAPE - 1) * degrees.log() - RATE * degrees).sum()

    def start(self) -> Parameters:
        inner = self.gaussian.start()
        return {**inner, "degrees": torch.full_like(inner["loc"], FIRST)}

    def calibrate(self, statistics: Natural) -> None:
        """By the cells' weights, so that outliers do not set the scale of the prior."""
        self.gaussian.calibrate(weighted(statistics) | {"log_normaliser": statistics["scale"]})

    # -- maximum and posterior ---------------------------------------------------------------------------------
    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        """Gaussian, degrees and the scale of u in turn; each raises the expected log density of the expanded model."""
        inner, degrees = {key: current[key] for key in ("loc", "precision")}, current["degrees"]
        expansion = torch.ones_like(degrees)
        for _ in range(SWEEPS):
            inner = self.gaussian.update(weighted(statistics, expansion), inner)
            degrees = self.best_degrees(statistics, expansion, degrees)
            expansion = best_expansion(statistics, inner, degrees)
        return {**inner, "degrees": degrees}

    def best_degrees(self, statistics: Natural, expansion: Tensor, current: Tensor) -> Tensor:
        """Where the derivative changes sign, by bisection of log degrees."""
        n, rest, weak = statistics["log_normaliser"], gap(statistics, expansion), float(self.prior_choice is not None)
        low, high = (torch.full_like(n, math.log(end)) for end in (LEAST, MOST))
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            half = 0.5 * middle.exp()
            slope = 0.5 * (n * (half.log() + 1 - torch.digamma(half)) + rest) + weak * (
                0.5 * (SHAPE - 1) / half - RATE
            )
            low, high = torch.where(slope > 0, middle, low), torch.where(slope > 0, high, middle)
        found = (0.5 * (low + high)).exp()
        return found if weak else torch.where(n > 1e-10, found, current)

    def posterior_draw(self, statistics: Natural) -> Parameters:
        """Gaussian by its conjugate posterior, degrees by their own on a grid of 2 000 points."""
        inner, n = self.gaussian.posterior_draw(weighted(statistics)), statistics["log_normaliser"][..., None]
        log = torch.linspace(math.log(LEAST), math.log(MOST), 2000).to(n)
        half, rest = 0.5 * log.exp(), gap(statistics, torch.ones_like(n[..., 0]))[..., None]
        weight = n * (half * half.log() - half.lgamma()) + half * rest + SHAPE * log - 2 * RATE * half
        return {**inner, "degrees": 2 * half[dist.Categorical(logits=weight).sample()]}

    # -- densities ---------------------------------------------------------------------------------------------
    def natural(self, theta: Parameters) -> Natural:
        """Coefficients of 1, u, u x, u x^2 and log u."""
        found, half = self.gaussian.natural(theta), 0.5 * theta["degrees"]
        quadratic = -0.5 * theta["precision"] * theta["loc"] ** 2
        constant = 0.5 * (theta["precision"].log() - LOG_TWO_PI) + half * half.log() - half.lgamma()
        return {
            "log_normaliser": constant, "scale": quadratic - half, "log_scale": half,
            "linear": theta["precision"] * theta["loc"], "square": found["square"],
        }  # fmt: skip

    @once_per_tensor
    def cells_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cells with a stand-in for unknown ones, and which are known."""
        return torch.where(x.isnan(), self.filler, x), ~x.isnan()

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        """U is integrated out of every cell."""
        filled, seen = self.cells_of(x)
        total = torch.zeros(()).to(x)
        for d in range(x.shape[-1]):
            own, cell = {key: value[:, d, None] for key, value in natural.items()}, filled[:, d]
            rate = -(own["scale"] + own["linear"] * cell + own["square"] * cell**2)
            shape = own["log_scale"] + 0.5
            value = own["log_normaliser"] + shape.lgamma() - shape * rate.clamp_min(torch.finfo(x.dtype).tiny).log()
            total = total + mask_cells(value, seen[:, d].expand_as(value))
        return total

    def distribution(self, theta: Parameters) -> dist.Distribution:
        return dist.StudentT(theta["degrees"], theta["loc"], theta["precision"].rsqrt(), validate_args=False)

    def mean(self, theta: Parameters) -> Tensor:
        """The centre, also where there is no expectation."""
        return theta["loc"]

    def sd(self, theta: Parameters) -> Tensor:
        """Infinite where there are no more than two degrees of freedom."""
        degrees = theta["degrees"]
        widening = torch.where(degrees > 2, degrees / (degrees - 2).clamp_min(1e-12), torch.inf)
        return (widening / theta["precision"]).sqrt()

    # -- network head ------------------------------------------------------------------------------------------
    @property
    def outputs(self) -> int:
        return 3 * self.columns

    @property
    def dispersions(self) -> list[int]:
        return list(range(self.columns, 3 * self.columns))

    def head(self, output: Tensor) -> Parameters:
        """The Gaussian's parameters, and degrees above 2."""
        loc_and_scale, last = output.split([2 * self.columns, self.columns], -1)
        return {**self.gaussian.head(loc_and_scale), "degrees": 2.0 + softplus(last + FIRST)}


def weighted(statistics: Natural, expansion: Tensor | float = 1.0) -> Natural:
    """The Gaussian's statistics, cells weighted by u / expansion."""
    found = {"weight": "scale", "linear": "linear", "square": "square"}
    return {"log_normaliser": statistics["log_normaliser"]} | {k: statistics[v] / expansion for k, v in found.items()}


def best_expansion(statistics: Natural, inner: Parameters, degrees: Tensor) -> Tensor:
    """The scale of u, ``(K, D)``: one where nothing is gained."""
    n, total, loc = statistics["log_normaliser"], statistics["scale"], inner["loc"]
    distance = inner["precision"] * (statistics["square"] - 2 * loc * statistics["linear"] + total * loc**2)
    found = (distance + degrees * total) / (n * (1 + degrees)).clamp_min(1e-300)
    return torch.where(n > 1e-10, found, 1.0)


def gap(statistics: Natural, expansion: Tensor) -> Tensor:
    """Expected sum of log u - u, for u over its scale."""
    return statistics["log_scale"] - statistics["log_normaliser"] * expansion.log() - statistics["scale"] / expansion
