r"""Counts, and amounts that may be zero, given continuous parents: log-linear models.

.. math::
    x \mid u \sim \mathrm{Poisson}(e^{w^\top \tilde u}), \qquad
    x \mid u \sim \mathrm{NegativeBinomial}(\text{mean } e^{w^\top \tilde u}, \text{shape } r)

Given the shape, the negative binomial is a logistic one in w and the bound of
:class:`~probgen.families.generalised_linear.GeneralisedLinear` holds. Given w, the expected log likelihood as a function
of log r is smooth: its values at Chebyshev's nodes around the current shape are sums over rows, and the polynomial
through them is maximised. The update takes the one of both steps that rises more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.families.base import Natural, Parameters
from probgen.families.discrete_regression import MultinomialLogit
from probgen.families.gaussian_regression import DiagonalRegression
from probgen.families.generalised_linear import GeneralisedLinear, Given, quadratic
from probgen.families.hurdle import TwoParts, ZeroOrPositive, log_of_positive
from probgen.families.negative_binomial import HIGHEST, LOWEST, OverdispersedPoisson, log_rising, rest_of_density

__all__ = ["HurdleRegression", "NegativeBinomialRegression", "PoissonRegression"]

LARGEST = 20.0  # of logarithms of means that counts are drawn with
NODES, REACH = 14, 1.0  # of the polynomial in the log shape, and how far it goes to both sides
SHAPE_SPREAD = 1.5


class CountRegression(GeneralisedLinear):
    """A count whose log mean is linear."""

    def __init__(self, given: Given, prior: str | None = "default") -> None:
        super().__init__(1, given, prior)

    @property
    def sums(self) -> int:
        """Of ones, counts and their squares."""
        return 3

    def calibrate(self, statistics: Natural) -> None:
        n, first, _ = statistics["totals"].sum(0)
        self.center = ((first + 0.5) / (n + 0.5)).log()[None]

    def simple(self, natural: Natural, x: Tensor) -> Tensor:
        """The sums that are kept, as a part of the density that is zero."""
        return natural["totals"] @ torch.stack([torch.ones_like(x), x, x.square()])

    def log_mean(self, theta: Parameters, u: Tensor) -> Tensor:
        """Of every row."""
        return torch.einsum("...v,...v->...", theta["weights"][..., 0, :], u).clamp(-LARGEST, LARGEST)

    def describe(self, theta: Parameters) -> Parameters:
        slopes, constant = self.in_units(theta["weights"][:, 0])
        return {"slopes": slopes, "constant": constant}


class PoissonRegression(CountRegression):
    """Variance equal to the mean."""

    def own_density(self, natural: Natural, u: Tensor, x: Tensor) -> Tensor:
        eta = self.predicted(natural["weights"], u)[:, 0]
        score = x * eta - eta.exp() - (x + 1).lgamma()
        if natural["scatter"].requires_grad:
            score = score + quadratic(natural["scatter"][:, 0, 0], u) * eta.detach().exp()
        return score + self.simple(natural, x)

    def distribution(self, theta: Parameters, u: Tensor) -> torch.distributions.Distribution:
        return torch.distributions.Poisson(self.log_mean(theta, u).exp(), validate_args=False)


class NegativeBinomialRegression(CountRegression):
    """More variance than the mean; parameters ``weights`` and ``log_shape (K,)``."""

    def __init__(self, given: Given, prior: str | None = "default") -> None:
        super().__init__(given, prior)
        self.register_buffer("shape_center", torch.tensor(1.0))
        self.shape_center: Tensor

    # -- parameters --------------------------------------------------------------------------------------------
    def prior(self) -> dict[str, dist.Distribution]:
        shape = dist.Normal(self.shape_center.expand(self.table), SHAPE_SPREAD).to_event(1)
        return super().prior() | {"log_shape": shape}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return {"weights": sites["weights"], "log_shape": sites["log_shape"].clamp(LOWEST, HIGHEST)}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {"weights": theta["weights"], "log_shape": theta["log_shape"]}

    def describe(self, theta: Parameters) -> Parameters:
        return super().describe(theta) | {"shape": theta["log_shape"].exp()}

    def log_prior(self, theta: Parameters) -> Tensor:
        return super().log_prior(theta) + self.penalty(theta["log_shape"]).sum()

    def penalty(self, log_shape: Tensor) -> Tensor:
        """Log prior of shapes."""
        return -0.5 * ((log_shape - self.shape_center) / SHAPE_SPREAD).square()

    def start(self) -> Parameters:
        return super().start() | {"log_shape": self.shape_center.expand(self.table).clone()}

    def calibrate(self, statistics: Natural) -> None:
        super().calibrate(statistics)
        n, first, second = statistics["totals"].sum(0)
        mean = first / n.clamp_min(1e-10)
        excess = (second / n.clamp_min(1e-10) - mean.square() - mean).clamp_min(1e-3 * (mean.square() + 1e-6))
        self.shape_center = (mean.square() / excess).clamp(0.05, 50.0).log()

    def natural(self, theta: Parameters) -> Natural:
        zero = theta["weights"].new_zeros
        return super().natural(theta) | {"grid": zero(self.table, NODES)}

    # -- the update --------------------------------------------------------------------------------------------
    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        step, rise = self.ascent(statistics, current)
        log_shape, other = self.best_shape(statistics, current["log_shape"])
        turn = rise >= other
        return {
            "weights": current["weights"] + torch.where(turn[:, None, None], step, 0.0),
            "log_shape": torch.where(turn, current["log_shape"], log_shape),
        }

    def best_shape(self, statistics: Natural, current: Tensor) -> tuple[Tensor, Tensor]:
        """The best log shape ``(K,)`` near the current one, and how much is gained by it."""
        coefficients = torch.linalg.solve(powers(nodes().to(current)), statistics["grid"][..., None])[..., 0]  # (K, G)

        def value(s: Tensor) -> Tensor:  # (K, S): at log shapes that far from the current ones
            found = (powers(s) * coefficients[:, None]).sum(-1)
            return found + self.penalty(current[:, None] + s) if self.prior_choice is not None else found

        low = (LOWEST - current[:, None]).clamp(-REACH, 0.0)
        high = (HIGHEST - current[:, None]).clamp(0.0, REACH)
        middle, width = torch.zeros_like(low), (high - low)
        for _ in range(6):  # each round looks closer, around the best point so far
            line = torch.linspace(-0.5, 0.5, 41).to(low)
            tried = torch.cat([middle, (middle + width * line).maximum(low).minimum(high)], 1)
            middle = tried.gather(1, value(tried).argmax(1, keepdim=True))
            width = width / 16
        return current + middle[:, 0], (value(middle) - value(torch.zeros_like(middle)))[:, 0]

    # -- densities ---------------------------------------------------------------------------------------------
    def own_density(self, natural: Natural, u: Tensor, x: Tensor) -> Tensor:
        eta, log_shape = self.predicted(natural["weights"], u)[:, 0], natural["log_shape"][:, None]
        score = log_density(x, eta, log_shape)
        if natural["scatter"].requires_grad:
            old, shape = eta.detach(), log_shape.detach()
            share = (old - shape).sigmoid()
            score = score + quadratic(natural["scatter"][:, 0, 0], u) * (x + shape.exp()) * share * (1 - share)
            for at, node in enumerate(nodes().tolist()):
                score = score + natural["grid"][:, at, None] * log_density(x, old, shape + node)
        return score + self.simple(natural, x)

    def distribution(self, theta: Parameters, u: Tensor) -> torch.distributions.Distribution:
        return OverdispersedPoisson(*torch.broadcast_tensors(theta["log_shape"], self.log_mean(theta, u)))


def log_density(x: Tensor, log_mean: Tensor, log_shape: Tensor) -> Tensor:
    """Of counts under a negative binomial."""
    constant, count = rest_of_density(log_shape, log_mean)
    return constant + x * count + log_rising(x, log_shape) - (x + 1).lgamma()


def nodes() -> Tensor:
    """``(G,)``: Chebyshev's nodes on the polynomial's range."""
    return REACH * torch.cos((torch.arange(NODES, dtype=torch.float64) + 0.5) * math.pi / NODES)


def powers(s: Tensor) -> Tensor:
    """``(..., G)``: Chebyshev's polynomials at places in their range."""
    return torch.cos(torch.arange(NODES).to(s) * torch.acos((s / REACH).clamp(-1.0, 1.0))[..., None])


class HurdleRegression(TwoParts, GeneralisedLinear):
    """A spike at zero with linear log odds, and a positive part whose logarithm is linear with normal noise.

    Parameters are those of a logistic regression (of being positive) and ``weight (K, 1, U + 1)``, ``variance (K, 1)``.
    """

    occurrence: MultinomialLogit
    amount: DiagonalRegression

    def __init__(self, given: Given, prior: str | None = "default") -> None:
        super().__init__(1, given, prior)
        self.occurrence = MultinomialLogit(2, given, prior)
        self.amount = DiagonalRegression(1, self.table, prior, self.regressors)

    def learn(self, u: Tensor) -> None:
        super().learn(u)
        self.occurrence.learn(u)

    @property
    def sums(self) -> int:
        return self.occurrence.sums

    # -- parameters --------------------------------------------------------------------------------------------
    def describe(self, theta: Parameters) -> Parameters:
        occurrence = {f"occurrence_{k}": v[:, 0] for k, v in self.occurrence.describe(theta).items()}
        slopes, constant = self.in_units(theta["weight"][:, 0])
        return {**occurrence, "slopes": slopes, "constant": constant, "variance": theta["variance"][:, 0]}

    def calibrate(self, statistics: Natural) -> None:
        self.occurrence.calibrate(statistics)
        self.amount.calibrate(statistics)

    def natural(self, theta: Parameters) -> Natural:
        occurrence = self.occurrence.natural({"weights": theta["weights"]})
        return {**occurrence, **self.amount.natural(theta)}

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        weights = self.occurrence.update(statistics, {"weights": current["weights"]})
        return {**weights, **self.amount.update(statistics, current)}

    # -- densities ---------------------------------------------------------------------------------------------
    def own_density(self, natural: Natural, u: Tensor, x: Tensor) -> Tensor:
        positive, y = x > 0, log_of_positive(x)
        amount = natural["log_normaliser"] + natural["square"] * y.square()
        amount = amount + (natural["cross"][:, 0] @ u.mT) * y + quadratic(natural["inputs"][:, 0], u) - y
        return self.occurrence.own_density(natural, u, positive.to(x)) + torch.where(positive, amount, 0.0)

    def distribution(self, theta: Parameters, u: Tensor) -> torch.distributions.Distribution:
        log_odds = torch.einsum("...v,...v->...", theta["weights"][..., 0, :], u)
        loc = torch.einsum("...v,...v->...", theta["weight"][..., 0, :], u)
        scale = theta["variance"][..., 0].sqrt().expand(loc.shape)
        amount = dist.LogNormal(loc, scale, validate_args=False)
        return ZeroOrPositive(dist.Bernoulli(logits=log_odds, validate_args=False), amount)
