r"""Regressions of levels and counts under a shrinking prior.

Chains begin at the top of the posterior. From there, their anchor, one step with the information of then leads to a normal
distribution near the posterior given the scales and cells of today. Slopes move by elliptical slices through that normal
(Murray, Adams and MacKay, 2010; Nishihara, Murray and Adams, 2014): every draw moves, and where the normal is close, far.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import softplus

from probgen.families.shrinkage import Shrinkage, Theta
from probgen.families.shrunken_regression import INNER, Normal, Regression, predictor
from probgen.families.streams import Streams

__all__ = ["GeneralisedRegression", "LogisticRegression", "NegativeBinomialRegression"]

TRIES = 30  # angles of a slice, which shrinks towards where slopes are
ROUNDS, NEWTON, HALVINGS = 2, 50, 12  # before the first draw: alternations, and steps and halvings of each at most
CLIMBED, ROWS_A_SLOPE = 2000, 20  # rows that are enough for that
RISE = 0.1  # nats below which a step has arrived
FARTHEST = 30.0  # of linear predictors of log odds
SHAPE_SPREAD, SHAPE_STEP, SHAPE_DECADES = (
    1.5,
    0.5,
    2.0,
)  # of the log shape of counts: prior; steps, down to a hundredth
SHAPES = 25  # log shapes that are tried at first, within three standard deviations of the prior

Likelihood = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]  # eta -> (R,) log likelihood, gradient, information


def stepped(prior: Tensor, slopes: Tensor, design: Tensor, likelihood: Likelihood) -> tuple[Tensor, Normal]:
    """Log posterior ``(R,)`` at the slopes, and the normal distribution that one step of least squares leads to."""
    value, gradient, information = likelihood(predictor(design, slopes))
    ahead = one_step(prior, slopes, design, gradient, informed(design, information))
    return value - (prior * slopes.square()).sum(-1) / 2, ahead


def informed(design: Tensor, information: Tensor) -> Tensor:
    """``(R, P, P)``: what the rows say of the slopes."""
    return (design * information[..., None]).mT @ design


def one_step(prior: Tensor, slopes: Tensor, design: Tensor, gradient: Tensor, information: Tensor) -> Normal:
    """The normal distribution that a step with some information leads to."""
    rises = (gradient[..., None, :] @ design)[..., 0, :] + (information @ slopes[..., None])[..., 0]
    return Normal.of(information + torch.diag_embed(prior), rises)


def sliced(
    prior: Tensor,
    slopes: Tensor,
    ahead: Normal,
    design: Tensor,
    likelihood: Likelihood,
    noise: Tensor,
    uniform: Tensor,
) -> tuple[Tensor, Tensor]:
    """Slopes, and their linear predictors, after a move on an ellipse through them and a draw of the normal, whose middle is the normal's.

    Args:
        prior: precisions of the slopes.
        slopes: ``(R, P)``, where they are.
        ahead: a normal that does not depend on where they are.
        design: ``(R, N, P)``.
        likelihood: of linear predictors.
        noise: ``(R, P)``, standard normal.
        uniform: ``(R, 2 + TRIES)``.
    """
    away, across = slopes - ahead.mean, ahead.draw(noise) - ahead.mean
    middle, here, there = (torch.stack([ahead.mean, away, across], 1) @ design.mT).unbind(1)

    def density(cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        moved = ahead.mean + cos[:, None] * away + sin[:, None] * across
        eta = middle + cos[:, None] * here + sin[:, None] * there
        return moved, eta, likelihood(eta)[0] - (prior * moved.square()).sum(-1) / 2 - ahead.log_density(moved)

    found, reached, value = density(torch.ones_like(uniform[:, 0]), torch.zeros_like(uniform[:, 0]))
    level, angle = value + uniform[:, 0].log(), 2 * math.pi * uniform[:, 1]
    low, high, still = angle - 2 * math.pi, angle, torch.ones_like(angle, dtype=torch.bool)
    for draw in uniform[:, 2:].unbind(1):
        moved, eta, value = density(angle.cos(), angle.sin())
        taken = still & (value > level)
        found, reached = torch.where(taken[:, None], moved, found), torch.where(taken[:, None], eta, reached)
        still = still & ~taken
        if not bool(still.any()):
            break
        low, high = torch.where(angle < 0, angle, low), torch.where(angle >= 0, angle, high)
        angle = low + draw * (high - low)
    return found, reached


def ascended(prior: Tensor, slopes: Tensor, design: Tensor, likelihood: Likelihood) -> tuple[Tensor, Normal]:
    """Slopes at the top of the posterior, by Newton steps that are halved where they would fall, and the normal there.

    A chain that has arrived stays where it is, so that it does not depend on others that climb beside it.
    """
    value, ahead = stepped(prior, slopes, design, likelihood)
    climbs = torch.ones_like(value, dtype=torch.bool)
    for _ in range(NEWTON):
        step, size = ahead.mean - slopes, torch.ones_like(value)
        for _ in range(HALVINGS):
            there = slopes + size[:, None] * step
            risen = likelihood(predictor(design, there))[0] - (prior * there.square()).sum(-1) / 2 - value
            if bool((risen >= 0).all()):
                break
            size = torch.where(risen >= 0, size, size / 2)
        slopes = torch.where((climbs & (risen >= 0))[:, None], there, slopes)
        value, ahead = stepped(prior, slopes, design, likelihood)
        climbs = climbs & (risen >= RISE)
        if not bool(climbs.any()):
            break
    return slopes, ahead


class GeneralisedRegression(Regression):
    """A response whose log likelihood is a function of a linear predictor."""

    def __init__(self, prior: Shrinkage) -> None:
        self.prior = prior

    def start(self, chains: int) -> Theta:
        start = self.prior.start(chains)
        return {**start, "anchor": start["slopes"], "information": torch.zeros(chains, *2 * (self.prior.width,))}

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
        (normal, exponential, gamma), uniform = self.prior.noise_of(streams, 1)[0], streams.uniform(2 + TRIES)
        likelihood, prior, anchor = self.likelihood(theta, y, weights), self.prior.precision(theta), theta["anchor"]
        ahead = one_step(prior, anchor, design, likelihood(predictor(design, anchor))[1], theta["information"])
        slopes, eta = sliced(prior, theta["slopes"], ahead, design, likelihood, normal, uniform)
        theta = self.prior.redraw({**theta, "slopes": slopes}, exponential, gamma)
        return self.beside(theta, eta, y, weights, streams)

    def headed(self, theta: Theta, design: Tensor, y: Tensor, weights: Tensor | None) -> Theta:
        """A first guess from which steps uphill arrive."""
        return theta

    def climbed(self, theta: Theta, design: Tensor, y: Tensor, weights: Tensor | None, streams: Streams) -> Theta:
        """From a first guess to the top of the posterior, with the scales that go with it; of many rows some are enough."""
        some, seen, heavy = thinned(design, y, weights)
        theta = self.headed(theta, some, seen, heavy)
        for normal, exponential, gamma in self.prior.noise_of(streams, ROUNDS):
            likelihood = self.likelihood(theta, seen, heavy)
            slopes, there = ascended(self.prior.precision(theta), theta["slopes"], some, likelihood)
            drawn = self.prior.redraw({**theta, "slopes": there.draw(normal)}, exponential, gamma)
            theta = self.beside({**drawn, "slopes": slopes}, predictor(some, slopes), seen, heavy, streams)
        likelihood = self.likelihood(theta, y, weights)
        if some is not design:  # one step more, from the top of some rows to near that of all
            _, ahead = stepped(self.prior.precision(theta), slopes, design, likelihood)
            slopes = torch.where(self.rises(theta, slopes, ahead.mean, design, likelihood), ahead.mean, slopes)
            theta = {**theta, "slopes": slopes}
        information = likelihood(predictor(design, slopes))[2]
        return {**theta, "anchor": slopes, "information": informed(design, information)}

    def rises(self, theta: Theta, here: Tensor, there: Tensor, design: Tensor, likelihood: Likelihood) -> Tensor:
        """``(R, 1)``: whether the log posterior is higher there than here."""
        prior = self.prior.precision(theta)
        low, high = (likelihood(predictor(design, at))[0] - (prior * at.square()).sum(-1) / 2 for at in (here, there))
        return (high > low)[:, None]

    def mode(self, design: Tensor, y: Tensor) -> Theta:
        """The top of the posterior where all scales stay where they start: a quick estimate, ``design (1, N, P)``."""
        theta = self.headed(self.start(1), design, y, None)
        slopes, _ = ascended(self.prior.precision(theta), theta["slopes"], design, self.likelihood(theta, y, None))
        return {**theta, "slopes": slopes}


def thinned(design: Tensor, y: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Rows at random, as many as climbs need, with weights that make up for the others; the same ones every time."""
    many, enough = design.shape[1], max(CLIMBED, ROWS_A_SLOPE * design.shape[2])
    if many <= enough:
        return design, y, weights
    rows = torch.randperm(many, generator=torch.Generator().manual_seed(0), device="cpu")[:enough].to(y.device)
    heavy = (torch.ones_like(y) if weights is None else weights)[..., rows] * (many / enough)
    return design.mT.index_select(-1, rows).mT, y[..., rows], heavy


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
        top: logarithm of the largest mean that is expected.
        log_shape: where its prior is centred.
    """

    def __init__(self, prior: Shrinkage, top: float, log_shape: float) -> None:
        super().__init__(prior)
        self.top, self.log_shape = top, log_shape

    def start(self, chains: int) -> Theta:
        return {**super().start(chains), "log_shape": torch.full((chains,), self.log_shape)}

    def headed(self, theta: Theta, design: Tensor, y: Tensor, weights: Tensor | None) -> Theta:
        """Least squares of the logarithm, then the shape that is likeliest among a few."""
        weighted = design if weights is None else design * weights[:, None]
        cross = weighted.mT @ (y + 0.5).log().expand(design.shape[:2])[..., None]
        slopes = Normal.of(weighted.mT @ design + torch.diag_embed(self.prior.precision(theta)), cross[..., 0]).mean
        eta = predictor(design, slopes).clamp(-FARTHEST, self.top)
        tried = self.log_shape + SHAPE_SPREAD * torch.linspace(-3, 3, SHAPES)
        found = [self.shape_density(shape.expand(len(eta)), eta, y, weights) for shape in tried]
        return {**theta, "slopes": slopes, "log_shape": tried[torch.stack(found).argmax(0)]}

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
        near = SHAPE_STEP * 10 ** (-SHAPE_DECADES * streams.uniform(INNER))
        steps, uniforms = near * streams.normal(INNER), streams.uniform(INNER)
        for step, uniform in zip(steps.unbind(1), uniforms.unbind(1), strict=True):
            proposed = at + step
            there = self.shape_density(proposed, eta, y, weights)
            taken = uniform.log() < there - here
            at, here = torch.where(taken, proposed, at), torch.where(taken, there, here)
        return {**theta, "log_shape": at}

    def shape_density(self, log_shape: Tensor, eta: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """``(R,)``: log posterior of the log shape given the predictors."""
        value = negative_binomial(y, eta, log_shape)
        prior = -(((log_shape - self.log_shape) / SHAPE_SPREAD) ** 2) / 2
        return (value if weights is None else value * weights).sum(-1) + prior

    def draw(self, theta: Theta, design: Tensor, streams: Streams) -> Tensor:
        eta = predictor(design, theta["slopes"]).clamp(-FARTHEST, self.top)
        r = theta["log_shape"].exp()[:, None].expand(eta.shape)
        return streams.poisson(streams.gamma(r) / r * eta.exp())

    def log_density(self, theta: Theta, design: Tensor, y: Tensor) -> Tensor:
        eta = predictor(design, theta["slopes"]).clamp(-FARTHEST, self.top)
        return negative_binomial(y, eta, theta["log_shape"]) - (y + 1).lgamma()

    def sites(self, name: str) -> Theta:
        shape = dist.Normal(self.log_shape, SHAPE_SPREAD)
        return {**super().sites(name), "log_shape": pyro.sample(f"{name}.log_shape", shape)}


def negative_binomial(y: Tensor, eta: Tensor, log_shape: Tensor) -> Tensor:
    """``(R, N)``: log density of counts without the term of the counts alone, in double precision: large terms cancel."""
    counts, means, r = y.double(), eta.double(), log_shape.double().exp()[..., None]
    level = (counts + r).lgamma() - r.lgamma() - counts * (r + means.exp()).log()
    return (level - r * (means - log_shape.double()[..., None]).exp().log1p() + counts * means).to(eta)
