r"""Regressions under a shrinking prior, drawn in R chains side by side, one draw given the last.

A regression reads ``design (R, N, P)``, whose first column is 1, and responses ``y (N,)``. Slopes of a normal response are drawn exactly;
other responses are in :mod:`probgen.families.shrunken_generalised`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.errors import FitError
from probgen.families.donors import chosen, given_by, neighbours
from probgen.families.shrinkage import Shrinkage, Theta
from probgen.families.streams import Streams

__all__ = ["INNER", "Normal", "NormalRegression", "Regression", "predictor"]

INNER = 3  # alternations of slopes and scales for each pass over the rows
CLIMB = 8  # of them, before the first draw of a normal response
VARIANCE_SHAPE, VARIANCE_RATE = 0.5, 5e-4  # of the inverse gamma prior of the residual variance
UNBIASED_SHAPE = 1.0  # where rows tell the main effects: draws have the unbiased estimate as their mean (Kim, 2004)
JITTER = 1e3  # units of rounding, of the mean precision


class Regression(ABC):
    """One response: how its parameters are drawn given rows, and values given parameters."""

    prior: Shrinkage

    @abstractmethod
    def start(self, chains: int) -> Theta:
        """Parameters to begin with."""

    @abstractmethod
    def redraw(
        self, theta: Theta, design: Tensor, y: Tensor, weights: Tensor | None, streams: Streams, first: bool
    ) -> Theta:
        """Parameters given rows, one draw a chain; on the first call chains move to where the posterior is."""

    @abstractmethod
    def draw(self, theta: Theta, design: Tensor, streams: Streams) -> Tensor:
        """``(R, N)`` responses."""

    @abstractmethod
    def log_density(self, theta: Theta, design: Tensor, y: Tensor) -> Tensor:
        """``(R, N)``: of the responses given parameters."""

    def sites(self, name: str) -> Theta:
        """Its parameters as sample sites of a program, without an axis of chains."""
        return self.prior.sites(name)


def predictor(design: Tensor, slopes: Tensor) -> Tensor:
    """``(R, N)``."""
    return (slopes[..., None, :] @ design.mT)[..., 0, :]


class Normal(NamedTuple):
    """A normal distribution in P dimensions: its mean and the Cholesky factor of its precision, one a chain."""

    mean: Tensor
    root: Tensor

    @classmethod
    def of(cls, precision: Tensor, shift: Tensor) -> Normal:
        """From the precision and precision times mean."""
        root = rooted(precision)
        return cls(torch.cholesky_solve(shift[..., None], root)[..., 0], root)

    def draw(self, noise: Tensor) -> Tensor:
        return self.mean + torch.linalg.solve_triangular(self.root.mT, noise[..., None], upper=True)[..., 0]

    def log_density(self, value: Tensor) -> Tensor:
        """Up to a constant."""
        away = (self.root.mT @ (value - self.mean)[..., None])[..., 0]
        return self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - away.square().sum(-1) / 2


def rooted(precision: Tensor) -> Tensor:
    """Cholesky factors; regressors that determine each other up to rounding are told apart by a little more than rounding."""
    root, failed = torch.linalg.cholesky_ex(precision)
    if bool(failed.any()):
        more = JITTER * torch.finfo(precision.dtype).eps * precision.diagonal(dim1=-2, dim2=-1).mean(-1)
        root, failed = torch.linalg.cholesky_ex(
            precision + torch.diag_embed(more[..., None].expand(precision.shape[:-1]))
        )
    if bool(failed.any()):
        raise FitError(
            "The normal equations of a regression cannot be solved: columns repeat each other or differ by many orders of"
            " magnitude. Fit with dtype=torch.float64, and drop columns that follow from others."
        )
    return root


class NormalRegression(Regression):
    r"""A response on the whole line, :math:`y \sim \mathcal N(z^\top \beta, \sigma^2)`; parameters ``slopes``, ``variance``.

    Args:
        prior: of the slopes.
        ends: between which expectations of draws are.
    """

    def __init__(self, prior: Shrinkage, ends: tuple[float, float] = (-math.inf, math.inf)) -> None:
        self.prior, self.ends = prior, ends
        self.shape = UNBIASED_SHAPE if prior.few_mains else VARIANCE_SHAPE

    def start(self, chains: int) -> Theta:
        return {**self.prior.start(chains), "variance": torch.ones(chains)}

    def redraw(
        self, theta: Theta, design: Tensor, y: Tensor, weights: Tensor | None, streams: Streams, first: bool
    ) -> Theta:
        weighted = design if weights is None else design * weights[:, None]
        gram, cross = weighted.mT @ design, weighted.mT @ y.expand(design.shape[:2])[..., None]
        total = float(len(design[0]) if weights is None else weights.sum())
        times = CLIMB + INNER if first else INNER
        variances = streams.gamma(torch.full((len(streams), times), self.shape + total / 2))
        for at, (normal, exponential, gamma) in enumerate(self.prior.noise_of(streams, times)):
            precision = gram / theta["variance"][:, None, None] + torch.diag_embed(self.prior.precision(theta))
            slopes = Normal.of(precision, cross[..., 0] / theta["variance"][:, None]).draw(normal)
            away = (y - predictor(design, slopes)).square()
            rate = VARIANCE_RATE + (away if weights is None else away * weights).sum(-1) / 2
            theta = self.prior.redraw({**theta, "slopes": slopes}, exponential, gamma)
            theta["variance"] = rate / variances[:, at]
        return theta

    def expectation(self, theta: Theta, design: Tensor) -> Tensor:
        """``(R, N)``: of draws."""
        return predictor(design, theta["slopes"]).clamp(*self.ends)

    def draw(self, theta: Theta, design: Tensor, streams: Streams) -> Tensor:
        noise = streams.normal(design.shape[1])
        return self.expectation(theta, design) + theta["variance"].sqrt()[:, None] * noise

    def draw_from(
        self, theta: Theta, design: Tensor, streams: Streams, donors: Tensor, given: Tensor, manner: int
    ) -> Tensor:
        """The same with what donors, of ``donors (R, D, P)`` and responses ``given (R, D)``, have in place of noise."""
        mains = slice(1, 1 + self.prior.mains)
        mean, means = self.expectation(theta, design), self.expectation(theta, donors)
        near = neighbours(mean, design[..., mains], means, donors[..., mains], streams.uniform(mean.shape[1]))
        return chosen(given_by(near, mean, means, given, manner), streams)

    def log_density(self, theta: Theta, design: Tensor, y: Tensor) -> Tensor:
        variance = theta["variance"][..., None]
        away = y - predictor(design, theta["slopes"])
        return -(away.square() / variance + variance.log() + math.log(2 * math.pi)) / 2

    def sites(self, name: str) -> Theta:
        variance = pyro.sample(f"{name}.variance", dist.InverseGamma(self.shape, VARIANCE_RATE))
        return {**super().sites(name), "variance": variance}
