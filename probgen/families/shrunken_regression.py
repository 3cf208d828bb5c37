r"""Regressions under a shrinking prior, drawn in R chains side by side, one draw given the last.

A regression reads ``design (R, N, P)``, whose first column is 1, and columns ``x (N,)`` in model coordinates. Slopes of a
normal response are drawn exactly. Others are proposed from the normal distribution that one step of weighted least squares
from where they are leads to, and accepted or not by Metropolis and Hastings' rule (Gamerman, 1997), so that the draws keep
the posterior as it is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import softplus

from probgen.families.shrinkage import Shrinkage, Theta
from probgen.families.streams import Streams

__all__ = ["LogisticRegression", "NegativeBinomialRegression", "NormalRegression", "Regression"]

INNER = 3  # alternations of slopes and scales for each pass over the rows
CLIMB = 8  # of them, before the first draw
VARIANCE_SHAPE, VARIANCE_RATE = 0.5, 5e-4  # of the inverse gamma prior of the residual variance
FARTHEST = 30.0  # of linear predictors of log odds
SHAPE_SPREAD, SHAPE_STEP = 1.5, 0.4  # of the log shape of counts: prior, random walk
SHAPE_ENDS = (-5.0, 8.0)


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
    return (design @ slopes[..., None])[..., 0]


class Normal(NamedTuple):
    """A normal distribution in P dimensions: its mean and the Cholesky factor of its precision, one a chain."""

    mean: Tensor
    root: Tensor

    @classmethod
    def of(cls, precision: Tensor, shift: Tensor) -> Normal:
        """From the precision and precision times mean."""
        root = torch.linalg.cholesky(precision)
        return cls(torch.cholesky_solve(shift[..., None], root)[..., 0], root)

    def draw(self, noise: Tensor) -> Tensor:
        return self.mean + torch.linalg.solve_triangular(self.root.mT, noise[..., None], upper=True)[..., 0]

    def log_density(self, value: Tensor) -> Tensor:
        """Up to a constant."""
        away = (self.root.mT @ (value - self.mean)[..., None])[..., 0]
        return self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - away.square().sum(-1) / 2


class NormalRegression(Regression):
    r"""A response on the whole line, :math:`y \sim \mathcal N(z^\top \beta, \sigma^2)`; parameters ``slopes``, ``variance``."""

    def __init__(self, prior: Shrinkage) -> None:
        self.prior = prior

    def start(self, chains: int) -> Theta:
        return {**self.prior.start(chains), "variance": torch.ones(chains)}

    def redraw(
        self, theta: Theta, design: Tensor, y: Tensor, weights: Tensor | None, streams: Streams, first: bool
    ) -> Theta:
        weighted = design if weights is None else design * weights[:, None]
        gram, cross = weighted.mT @ design, weighted.mT @ y.expand(design.shape[:2])[..., None]
        total = float(len(design[0]) if weights is None else weights.sum())
        times = CLIMB + INNER if first else INNER
        shape = torch.full((len(streams), times), VARIANCE_SHAPE + total / 2)
        variances = streams.gamma(shape)
        for at, (normal, exponential, gamma) in enumerate(self.prior.noise_of(streams, times)):
            precision = gram / theta["variance"][:, None, None] + torch.diag_embed(self.prior.precision(theta))
            slopes = Normal.of(precision, cross[..., 0] / theta["variance"][:, None]).draw(normal)
            away = (y - predictor(design, slopes)).square()
            rate = VARIANCE_RATE + (away if weights is None else away * weights).sum(-1) / 2
            theta = self.prior.redraw({**theta, "slopes": slopes}, exponential, gamma)
            theta["variance"] = rate / variances[:, at]
        return theta

    def draw(self, theta: Theta, design: Tensor, streams: Streams) -> Tensor:
        noise = streams.normal(design.shape[1])
        return predictor(design, theta["slopes"]) + theta["variance"].sqrt()[:, None] * noise

    def log_density(self, theta: Theta, design: Tensor, y: Tensor) -> Tensor:
        variance = theta["variance"][..., None]
        away = y - predictor(design, theta["slopes"])
        return -(away.square() / variance + variance.log() + math.log(2 * math.pi)) / 2

    def sites(self, name: str) -> Theta:
        variance = pyro.sample(f"{name}.variance", dist.InverseGamma(VARIANCE_SHAPE, VARIANCE_RATE))
        return {**super().sites(name), "variance": variance}


Likelihood = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]  # eta -> (R,) log likelihood, gradient, information


def stepped(prior: Tensor, slopes: Tensor, design: Tensor, likelihood: Likelihood) -> tuple[Tensor, Normal]:
    """Log posterior ``(R,)`` at the slopes, and the normal distribution that one step of least squares leads to."""
    eta = predictor(design, slopes)
    value, gradient, information = likelihood(eta)
    precision = (design * information[..., None]).mT @ design + torch.diag_embed(prior)
    shift = (design.mT @ (information * eta + gradient)[..., None])[..., 0]
    return value - (prior * slopes.square()).sum(-1) / 2, Normal.of(precision, shift)


def moved(
    prior: Tensor, slopes: Tensor, design: Tensor, likelihood: Likelihood, normal: Tensor, uniform: Tensor
) -> Tensor:
    """Slopes after one proposal of Gamerman's."""
    here, forth = stepped(prior, slopes, design, likelihood)
    proposed = forth.draw(normal)
    there, back = stepped(prior, proposed, design, likelihood)
    ratio = there - here + back.log_density(slopes) - forth.log_density(proposed)
    return torch.where((uniform.log() < ratio)[:, None], proposed, slopes)


class GeneralisedRegression(Regression):
    """A response whose log likelihood is a function of a linear predictor."""

    def __init__(self, prior: Shrinkage) -> None:
        self.prior = prior

    def start(self, chains: int) -> Theta:
        return self.prior.start(chains)

    @abstractmethod
    def likelihood(self, theta: Theta, y: Tensor, weights: Tensor | None) -> Likelihood:
        """Of the rows."""

    def beside(self, theta: Theta, eta: Tensor, y: Tensor, weights: Tensor | None, streams: Streams) -> Theta:
        """What is left to draw given the slopes."""
        return theta

    def redraw(
        self, theta: Theta, design: Tensor, y: Tensor, weights: Tensor | None, streams: Streams, first: bool
    ) -> Theta:
        if first:
            theta = self.climbed(theta, design, y, weights, streams)
        (normal, exponential, gamma), uniform = self.prior.noise_of(streams, 1)[0], streams.uniform(1)[:, 0]
        likelihood = self.likelihood(theta, y, weights)
        slopes = moved(self.prior.precision(theta), theta["slopes"], design, likelihood, normal, uniform)
        theta = self.prior.redraw({**theta, "slopes": slopes}, exponential, gamma)
        return self.beside(theta, predictor(design, slopes), y, weights, streams)

    def climbed(self, theta: Theta, design: Tensor, y: Tensor, weights: Tensor | None, streams: Streams) -> Theta:
        """From no slopes to a draw of the normal approximation, with the scales that go with it."""
        for normal, exponential, gamma in self.prior.noise_of(streams, CLIMB):
            likelihood = self.likelihood(theta, y, weights)
            _, normal_there = stepped(self.prior.precision(theta), theta["slopes"], design, likelihood)
            drawn = {**theta, "slopes": normal_there.draw(normal)}
            theta = {**self.prior.redraw(drawn, exponential, gamma), "slopes": normal_there.mean}
        return theta


class LogisticRegression(GeneralisedRegression):
    """Yes (1) or no (0)."""

    def likelihood(self, theta: Theta, y: Tensor, weights: Tensor | None) -> Likelihood:
        w = 1.0 if weights is None else weights

        def of(eta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            eta = eta.clamp(-FARTHEST, FARTHEST)
            p = eta.sigmoid()
            return (w * (y * eta - softplus(eta))).sum(-1), w * (y - p), w * (p * (1 - p)).clamp_min(1e-6)

        return of

    def draw(self, theta: Theta, design: Tensor, streams: Streams) -> Tensor:
        eta = predictor(design, theta["slopes"])
        return (streams.uniform(design.shape[1]) < eta.sigmoid()).to(eta)

    def log_density(self, theta: Theta, design: Tensor, y: Tensor) -> Tensor:
        eta = predictor(design, theta["slopes"]).clamp(-FARTHEST, FARTHEST)
        return y * eta - softplus(eta)


class NegativeBinomialRegression(GeneralisedRegression):
    r"""Counts of mean :math:`\mu = e^{z^\top\beta}` and variance :math:`\mu + \mu^2 / r`; also ``log_shape``, of r.

    Args:
        prior: of the slopes.
        middle: where linear predictors begin.
        top: where they stop.
        log_shape: the prior's middle of the logarithm of r, which is that of counts whose mean did not vary.
    """

    def __init__(self, prior: Shrinkage, middle: float, top: float, log_shape: float) -> None:
        super().__init__(prior)
        self.middle, self.top, self.log_shape = middle, top, log_shape

    def start(self, chains: int) -> Theta:
        theta = super().start(chains)
        theta["slopes"][:, 0] = self.middle
        return {**theta, "log_shape": torch.full((chains,), self.log_shape)}

    def likelihood(self, theta: Theta, y: Tensor, weights: Tensor | None) -> Likelihood:
        r, w = theta["log_shape"].exp()[:, None], 1.0 if weights is None else weights

        def of(eta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            eta = eta.clamp(-FARTHEST, self.top)
            share = (eta - r.log()).sigmoid()  # mu / (mu + r)
            value = y * eta - (y + r) * (r + eta.exp()).log()
            return (w * value).sum(-1), w * (y - (y + r) * share), w * (r * share).clamp_min(1e-6)

        return of

    def beside(self, theta: Theta, eta: Tensor, y: Tensor, weights: Tensor | None, streams: Streams) -> Theta:
        at, eta = theta["log_shape"], eta.clamp(-FARTHEST, self.top)
        here = self.shape_density(at, eta, y, weights)
        for step, uniform in zip(streams.normal(INNER).unbind(1), streams.uniform(INNER).unbind(1), strict=True):
            proposed = at + SHAPE_STEP * step
            there = self.shape_density(proposed, eta, y, weights)
            taken = uniform.log() < there - here
            at, here = torch.where(taken, proposed, at), torch.where(taken, there, here)
        return {**theta, "log_shape": at}

    def shape_density(self, log_shape: Tensor, eta: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """``(R,)``: log posterior of the log shape given the predictors."""
        r = log_shape.clamp(*SHAPE_ENDS).exp()[:, None]
        value = (y + r).lgamma() - r.lgamma() + r * r.log() - (y + r) * (r + eta.exp()).log()
        inside = (log_shape > SHAPE_ENDS[0]) & (log_shape < SHAPE_ENDS[1])
        total = (value if weights is None else value * weights).sum(-1)
        prior = -(((log_shape - self.log_shape) / SHAPE_SPREAD) ** 2) / 2
        return torch.where(inside, total + prior, -torch.inf)

    def draw(self, theta: Theta, design: Tensor, streams: Streams) -> Tensor:
        eta = predictor(design, theta["slopes"]).clamp(-FARTHEST, self.top)
        r = theta["log_shape"].exp()[:, None].expand(eta.shape)
        return streams.poisson(streams.gamma(r) / r * eta.exp())

    def log_density(self, theta: Theta, design: Tensor, y: Tensor) -> Tensor:
        eta = predictor(design, theta["slopes"]).clamp(-FARTHEST, self.top)
        r = theta["log_shape"].exp()[..., None]
        value = (y + r).lgamma() - r.lgamma() - (y + 1).lgamma() + r * r.log() + y * eta
        return value - (y + r) * (r + eta.exp()).log()

    def sites(self, name: str) -> Theta:
        shape = dist.Normal(self.log_shape, SHAPE_SPREAD)
        return {**super().sites(name), "log_shape": pyro.sample(f"{name}.log_shape", shape)}
