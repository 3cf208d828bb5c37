r"""Discrete variables given continuous parents: multinomial logistic regression and proportional odds.

.. math::
    \log \frac{p(x = l \mid u)}{p(x = 0 \mid u)} = w_l^\top \tilde u \qquad \text{or} \qquad
    p(x \le l \mid u) = \sigma(g_l - w^\top \tilde u), \quad 0 = g_0 < g_1 < \dots
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from probgen.families.base import Natural, Parameters
from probgen.families.generalised_linear import GeneralisedLinear, Given, bend, quadratic
from probgen.families.newton import backtrack, newton

__all__ = ["MultinomialLogit", "ProportionalOdds"]

GAP_SPREAD = 1.0  # of the logarithms of gaps between cutpoints, in the prior
LOWEST_GAP, HIGHEST_GAP, FURTHEST = -11.0, 4.0, 1e6


class DiscreteRegression(GeneralisedLinear):
    """L levels; see :class:`~probgen.families.generalised_linear.GeneralisedLinear` for the rest."""

    def __init__(self, levels: int, predictors: int, given: Given, prior: str | None = "default") -> None:
        super().__init__(predictors, given, prior)
        self.levels = levels

    @property
    def sums(self) -> int:
        """Expected counts of the levels."""
        return self.levels

    def own_density(self, natural: Natural, u: Tensor, x: Tensor) -> Tensor:
        scores = self.by_level(natural, u)
        return scores.gather(1, x.long().expand(len(scores), 1, -1))[:, 0]


class MultinomialLogit(DiscreteRegression):
    """Log odds of every level against the first are linear; R = L - 1."""

    def __init__(self, levels: int, given: Given, prior: str | None = "default") -> None:
        super().__init__(levels, levels - 1, given, prior)

    def calibrate(self, statistics: Natural) -> None:
        counts = statistics["totals"].sum(0) + 0.5
        self.center = (counts[1:] / counts[0]).log()

    def by_level(self, natural: Natural, u: Tensor) -> Tensor:
        eta = self.predicted(natural["weights"], u)
        scores = torch.cat([torch.zeros_like(eta[:, :1]), eta], 1).log_softmax(1)
        if natural["scatter"].requires_grad:
            p = scores.detach()[:, 1:].exp()  # (K, R, N)
            q = quadratic(natural["scatter"], u)  # (K, R, R, N)
            spread = (q.diagonal(0, 1, 2).mT * p).sum(1) - torch.einsum("krsn,krn,ksn->kn", q, p, p)
            scores = scores + spread[:, None]
        return scores + natural["totals"][..., None]

    def distribution(self, theta: Parameters, u: Tensor) -> torch.distributions.Distribution:
        eta = torch.einsum("...rv,...v->...r", theta["weights"], u)
        return torch.distributions.Categorical(
            logits=torch.cat([torch.zeros_like(eta[..., :1]), eta], -1), validate_args=False
        )


class ProportionalOdds(DiscreteRegression):
    """Ordered levels; parameters ``weights (K, 1, U + 1)`` and ``log_gaps (K, L - 2)`` between cutpoints, the first at zero.

    The bound of the update holds for the two logistic terms of every row; what depends on the gaps alone is kept as it
    is, a sum over expected counts of the levels.
    """

    def __init__(self, levels: int, given: Given, prior: str | None = "default") -> None:
        super().__init__(levels, 1, given, prior)
        self.register_buffer("gaps_center", torch.zeros(levels - 2))
        self.gaps_center: Tensor

    # -- parameters --------------------------------------------------------------------------------------------
    def prior(self) -> dict[str, dist.Distribution]:
        gaps = dist.Normal(self.gaps_center.expand(self.table, -1), GAP_SPREAD).to_event(2)
        return super().prior() | ({"log_gaps": gaps} if self.levels > 2 else {})

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        gaps = sites.get("log_gaps", sites["weights"].new_zeros(self.table, 0))
        return {"weights": sites["weights"], "log_gaps": gaps.clamp(LOWEST_GAP, HIGHEST_GAP)}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {key: theta[key] for key in self.prior()}

    def describe(self, theta: Parameters) -> Parameters:
        """``slopes (K, U)`` per unit of the regressors, and ``cutpoints (K, L - 1)``: P(x <= l) = sigma(cutpoint - slopes u)."""
        slopes, constant = self.in_units(theta["weights"][:, 0])
        return {"slopes": slopes, "cutpoints": whole(cuts_of(theta["log_gaps"])) - constant[:, None]}

    def log_prior(self, theta: Parameters) -> Tensor:
        gaps = ((theta["log_gaps"] - self.gaps_center) / GAP_SPREAD).square().sum()
        return super().log_prior(theta) - 0.5 * gaps

    def start(self) -> Parameters:
        return super().start() | {"log_gaps": self.gaps_center.expand(self.table, -1).clone()}

    def calibrate(self, statistics: Natural) -> None:
        counts = statistics["totals"].sum(0) + 0.5
        cuts = torch.logit((counts.cumsum(0) / counts.sum())[:-1])
        self.center = -cuts[:1]
        self.gaps_center = (cuts[1:] - cuts[:-1]).log().clamp(LOWEST_GAP, HIGHEST_GAP)

    def natural(self, theta: Parameters) -> Natural:
        K, V = self.table, self.regressors + 1
        zero = theta["weights"].new_zeros
        return {
            "weights": theta["weights"],
            "cuts": cuts_of(theta["log_gaps"]),
            "scatter": zero(K, self.levels - 1, V, V),  # one for every cutpoint
            "totals": zero(K, self.levels),
        }

    # -- the update --------------------------------------------------------------------------------------------
    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        at = torch.cat([current["weights"][:, 0], current["log_gaps"]], 1).mT  # (P, K)
        low, high = torch.full_like(at, -FURTHEST), torch.full_like(at, FURTHEST)
        low[self.regressors + 1 :], high[self.regressors + 1 :] = LOWEST_GAP, HIGHEST_GAP
        near, bound = self.target(statistics, current, False), self.target(statistics, current, True)
        move = newton(near, at, low, high) - at
        weights, gaps = backtrack(bound, at, bound(at), move, low, high)[0].mT.split(
            [self.regressors + 1, self.levels - 2], 1
        )
        return {"weights": weights[:, None], "log_gaps": gaps}

    def target(self, statistics: Natural, current: Parameters, bounded: bool) -> Callable[[Tensor], Tensor]:
        """What is maximised at parameters ``(P, K)``: the bound, or the approximation near ``current`` that it ends in."""
        w0, g0, counts = current["weights"][:, 0], cuts_of(current["log_gaps"]), statistics["totals"]
        own = gap_slope(g0, counts)
        V, prior = self.regressors + 1, self.prior_choice is not None

        def value(at: Tensor) -> Tensor:
            w, free = at[:V].mT, at[V:].mT
            dw, cuts = w - w0, cuts_of(free)
            dg = cuts - g0
            moved = torch.nn.functional.pad(dg, (1, 0))  # (K, L - 1): of all cutpoints
            along = torch.einsum("kjvw,kv,kw->kj", statistics["scatter"], dw, dw)
            cross = torch.einsum("kjv,kv->kj", statistics["scatter"][..., -1], dw)
            curve = (along - 2 * moved * cross + moved.square() * statistics["scatter"][..., -1, -1]).sum(1)
            reach = (moved - dw[:, -1:]).abs().amax(1) + dw[:, :-1].abs() @ self.farthest[:-1]
            fit = (statistics["weights"][:, 0] * dw).sum(1) + ((statistics["cuts"] - own) * dg).sum(1)
            found = fit - (bend(reach) if bounded else 0.5) * curve + gap_terms(cuts, counts)
            return found + self.penalty(w, free) if prior else found

        return value

    def penalty(self, w: Tensor, free: Tensor) -> Tensor:
        """Log prior of every row of the table."""
        away = ((w - self.middle()[0]) / self.spread()).square().sum(1)
        return -0.5 * (away + ((free - self.gaps_center) / GAP_SPREAD).square().sum(1))

    # -- densities ---------------------------------------------------------------------------------------------
    def by_level(self, natural: Natural, u: Tensor) -> Tensor:
        eta = self.predicted(natural["weights"], u)  # (K, 1, N)
        cuts = whole(natural["cuts"])  # (K, L - 1)
        gap = cuts[..., None] - eta  # (K, L - 1, N)
        scores = levels_between(gap, cuts)
        if natural["scatter"].requires_grad:
            slope = gap.detach().sigmoid()
            q = quadratic(natural["scatter"], u) * slope * (1 - slope)  # (K, L - 1, N)
            scores = scores + torch.nn.functional.pad(q, (0, 0, 0, 1)) + torch.nn.functional.pad(q, (0, 0, 1, 0))
        return scores + natural["totals"][..., None]

    def distribution(self, theta: Parameters, u: Tensor) -> torch.distributions.Distribution:
        eta = torch.einsum("...rv,...v->...r", theta["weights"], u)  # (N, 1)
        cuts = whole(cuts_of(theta["log_gaps"]))
        return torch.distributions.Categorical(logits=row_levels(cuts, eta), validate_args=False)


def cuts_of(log_gaps: Tensor) -> Tensor:
    """Cutpoints ``(..., L - 2)`` after the first, which stands at zero."""
    return log_gaps.exp().cumsum(-1)


def whole(cuts: Tensor) -> Tensor:
    """All cutpoints, the one at zero first."""
    return torch.nn.functional.pad(cuts, (1, 0))


def gap_terms(cuts: Tensor, counts: Tensor) -> Tensor:
    """``(K,)``: the part of the expected log likelihood that depends on the gaps alone."""
    width = whole(cuts).diff(dim=-1)
    return (counts[:, 1:-1] * torch.log(-torch.expm1(-width))).sum(-1)


def gap_slope(cuts: Tensor, counts: Tensor) -> Tensor:
    """``(K, L - 2)``: derivatives of :func:`gap_terms` with respect to the cutpoints."""
    each = counts[:, 1:-1] / torch.expm1(whole(cuts).diff(dim=-1))
    return each - torch.nn.functional.pad(each[:, 1:], (0, 1)) if each.shape[1] else each


def levels_between(gap: Tensor, cuts: Tensor) -> Tensor:
    """``(K, L, N)``: log probabilities of the levels between cutpoints, without cancellation."""
    width = cuts.diff(dim=-1)[..., None]
    inner = logsigmoid(gap[:, 1:]) + logsigmoid(-gap[:, :-1]) + torch.log(-torch.expm1(-width))
    return torch.cat([logsigmoid(gap[:, :1]), inner, logsigmoid(-gap[:, -1:])], 1)


def row_levels(cuts: Tensor, eta: Tensor) -> Tensor:
    """``(N, L)``: the same for parameters that stand one a row."""
    gap = (cuts - eta)[..., None]
    flat = gap.reshape(-1, gap.shape[-2], 1)
    found = levels_between(flat, cuts.expand(*gap.shape[:-1]).reshape(flat.shape[:2]))
    return found[..., 0].reshape(*gap.shape[:-2], -1)
