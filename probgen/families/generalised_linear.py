r"""Discrete and count variables whose parents are continuous: generalised linear models (Nelder and Wedderburn, 1972).

.. math:: x \mid u, j \sim p\big(x \mid \eta = W_j \tilde u\big), \qquad \tilde u = (z, 1), \qquad W \sim \mathcal N

with one set of coefficients for every configuration j of the discrete parents, on standardised continuous ones z (each on
the scale of its :class:`~probgen.families.columns.Link`). In :math:`\tilde u` the log density has no fixed statistics, but
it is self-concordant (Bach, 2010): over a step that changes :math:`\eta` by at most r,

.. math:: Q(W + \Delta) \ge Q(W) + g^\top \Delta - h(r)\, \Delta^\top H \Delta, \qquad h(r) = (e^r - 1 - r) / r^2

with the gradient g and the curvature H at W, both sums over rows. The update maximises this bound along Newton's
direction: it never goes down, and becomes Newton's own step where steps are short. H and other sums come as the gradients
with respect to natural parameters that are zero.

The continuous parents have to be known: with them unknown the density has no closed form.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.families.base import (
    Cells,
    DependentFamily,
    Factor,
    Natural,
    Observable,
    Parameters,
    Symbol,
    Table,
    of_each_row,
)
from probgen.families.columns import Link
from probgen.families.conditional_gaussian import through
from probgen.families.conditional_table import row_number

__all__ = ["GeneralisedLinear", "Given", "damped", "quadratic"]

SLOPE_SPREAD, CONSTANT_SPREAD = 2.5, 5.0  # of the prior, for regressors of unit variance
FARTHEST = 8.0  # standard deviations that a regressor reaches, before data are seen


@dataclass(frozen=True)
class Given:
    """The parents of a regression.

    Attributes:
        parents: the discrete parents' numbers of levels; K is their product.
        links: of the continuous parents, U of them.
        name: of the variable, for messages.
        names: of its continuous parents, for messages.
    """

    parents: tuple[int, ...]
    links: tuple[Link | None, ...]
    name: str = "a node"
    names: tuple[str, ...] = ()


class GeneralisedLinear(DependentFamily):
    """K generalised linear models with U regressors; parameters ``weights (K, R, U + 1)``, the constant last.

    Args:
        predictors: R, the number of linear predictors.
        given: the parents.
        prior: "default" (independent normals) or None (maximum likelihood).
    """

    additive = False
    refusal = "A generalised linear model has a density only given its regressors; call its table with them."
    levels = 0  # number of values, for discrete variables

    def __init__(self, predictors: int, given: Given, prior: str | None = "default") -> None:
        super().__init__(None, math.prod(given.parents), prior)
        self.parents, self.links, self.name, self.names = given.parents, given.links, given.name, given.names
        self.regressors, self.predictors = len(given.links), predictors
        self.register_buffer("shift", torch.zeros(self.regressors))
        self.register_buffer("scale", torch.ones(self.regressors))
        self.register_buffer("farthest", torch.full((self.regressors + 1,), FARTHEST))
        self.register_buffer("center", torch.zeros(predictors))
        self.shift: Tensor
        self.scale: Tensor
        self.farthest: Tensor  # largest size of each regressor, the constant's last
        self.center: Tensor  # of the constants' prior

    # -- regressors --------------------------------------------------------------------------------------------
    def learn(self, u: Tensor) -> None:
        """Centre, scale and reach of the regressors, from the training rows ``(N, U)`` on the scale of their links."""
        seen, filled = ~u.isnan(), u.nan_to_num()
        count = seen.sum(0).clamp_min(1)
        self.shift = filled.sum(0) / count
        spread = (torch.where(seen, u - self.shift, 0.0).square().sum(0) / count).sqrt()
        self.scale = torch.where(spread > 0, spread, 1.0)
        z = torch.where(seen, (u - self.shift) / self.scale, 0.0)
        self.farthest = torch.cat([z.abs().amax(0), z.new_ones(1)])

    def standardised(self, regressors: Sequence[Tensor]) -> Tensor:
        """``(N, U + 1)``: standardised regressors and a constant, NaN where unknown."""
        z = (torch.stack(list(regressors), -1) - self.shift) / self.scale
        return torch.cat([z, torch.ones_like(z[..., :1])], -1)

    def in_units(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Slopes ``(..., U)`` and constants per unit of the regressors from those for standardised ones."""
        slopes = weights[..., :-1] / self.scale
        return slopes, weights[..., -1] - slopes @ self.shift

    # -- parameters --------------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, R, U + 1)."""
        return self.table, self.predictors, self.regressors + 1

    def spread(self) -> Tensor:
        """``(U + 1,)``: standard deviations of the weights' prior."""
        return torch.tensor([SLOPE_SPREAD] * self.regressors + [CONSTANT_SPREAD]).to(self.center)

    def middle(self) -> Tensor:
        """``(R, U + 1)``: means of the weights' prior."""
        return torch.cat([self.center.new_zeros(self.predictors, self.regressors), self.center[:, None]], 1)

    def prior(self) -> dict[str, dist.Distribution]:
        return {"weights": dist.Normal(self.middle().expand(self.shape), self.spread().expand(self.shape)).to_event(3)}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return {"weights": sites["weights"]}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {"weights": theta["weights"]}

    def describe(self, theta: Parameters) -> Parameters:
        """Slopes and constants per unit of the regressors, each on the scale of its link."""
        slopes, constant = self.in_units(theta["weights"])
        return {"slopes": slopes, "constant": constant}

    def log_prior(self, theta: Parameters) -> Tensor:
        return -0.5 * ((theta["weights"] - self.middle()) / self.spread()).square().sum()

    def start(self) -> Parameters:
        return {"weights": self.middle().expand(self.shape).clone()}

    def natural(self, theta: Parameters) -> Natural:
        """The parameters, and zeros whose gradients are the curvature and simple sums."""
        K, R, V = self.shape
        zero = theta["weights"].new_zeros
        return {**theta, "scatter": zero(K, R, R, V, V), "totals": zero(K, self.sums)}

    @property
    @abstractmethod
    def sums(self) -> int:
        """How many simple sums over the rows' own values are kept."""

    # -- the update --------------------------------------------------------------------------------------------
    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        return {**current, "weights": current["weights"] + self.ascent(statistics, current)[0]}

    def ascent(self, statistics: Natural, current: Parameters) -> tuple[Tensor, Tensor]:
        """A step of the weights ``(K, R, V)``, and how much ``(K,)`` the objective rises by it at least."""
        K, R, V = self.shape
        gradient = statistics["weights"]
        curvature = statistics["scatter"].transpose(2, 3).reshape(K, R * V, R * V)
        damp = 1e-10 * curvature.diagonal(0, -2, -1).amax(-1) + 1e-100
        curvature = curvature + damp[:, None, None] * torch.eye(R * V).to(curvature)
        if self.prior_choice is not None:
            precision = self.spread().square().reciprocal()
            gradient = gradient - precision * (current["weights"] - self.middle())
            curvature = curvature + torch.diag(precision.repeat(R))
        flat = gradient.reshape(K, R * V)
        step = torch.linalg.solve(curvature, flat[..., None])[..., 0]
        return damped(step.reshape(self.shape), (flat * step).sum(-1), self.reach(step.reshape(self.shape)))

    def reach(self, step: Tensor) -> Tensor:
        """``(K,)``: how much a step of the weights changes differences of linear predictors in any row, at most."""
        whole = torch.nn.functional.pad(step, (0, 0, 1, 0))  # also against a predictor that stays at zero
        return ((whole[:, :, None] - whole[:, None]).abs() @ self.farthest).amax((1, 2))

    def posterior_draw(self, statistics: Natural) -> Parameters:
        raise CapabilityError(
            f"The coefficients of {self.name!r} have no posterior in closed form; use method='nuts' for draws of them."
        )

    # -- densities ---------------------------------------------------------------------------------------------
    def predicted(self, weights: Tensor, u: Tensor) -> Tensor:
        """``(K, R, N)``: linear predictors."""
        return torch.einsum("krv,nv->krn", weights, u)

    @abstractmethod
    def own_density(self, natural: Natural, u: Tensor, x: Tensor) -> Tensor:
        """``(K, N)``: log density of known x."""

    @abstractmethod
    def distribution(self, theta: Parameters, u: Tensor) -> torch.distributions.Distribution:
        """Of every row, by parameters that stand one a row (or one for all)."""

    def by_level(self, natural: Natural, u: Tensor) -> Tensor:
        """``(K, L, N)``: log probabilities of all levels, for discrete variables."""
        raise CapabilityError(f"{self.name!r} has no finite set of values that could be summed out.")

    # -- use in a program --------------------------------------------------------------------------------------
    def at(self, table: Table, *index: Any) -> Observable:
        """The discrete parents come first, then the continuous ones."""
        codes, regressors = index[: len(self.parents)], index[len(self.parents) :]
        if table.theta is None or any(isinstance(value, Cells | Symbol) for value in index):
            return Regressed(self, table, codes, regressors)
        row = row_number(codes, self.parents) if codes else 0
        theta = {key: value[row] for key, value in table.theta.items()}
        u = self.standardised([through(link, value) for link, value in zip(self.links, regressors, strict=True)])
        return Predicted(self, self.distribution(theta, u))


class Regressed(Observable):
    """A variable with continuous parents, as factors over symbols."""

    def __init__(self, family: GeneralisedLinear, table: Table, codes: tuple, regressors: tuple) -> None:
        self.family, self.table, self.codes, self.regressors = family, table, codes, regressors
        self.number: Callable[[int], int] = int  # of a row in its table
        super().__init__(torch.Size(), torch.Size(), validate_args=False)

    def factor(self, value: Any) -> Factor:
        family, natural = self.family, self.table.natural
        u = family.standardised([cells.value if isinstance(cells, Cells) else cells for cells in self.regressors])
        unknown, sizes = u.isnan().any(-1), [symbol.size for symbol in self.codes]
        if not isinstance(value, Symbol):
            self.refuse(unknown & ~value.isnan(), u)
            seen = ~value.isnan()
            score = family.own_density(natural, u.nan_to_num(), torch.where(seen, value, 0.0))
            return of_each_row(
                self.codes, torch.where(seen, score, 0.0).unflatten(0, sizes) if sizes else score[0] * seen
            )
        barren = torch.zeros_like(unknown) if self.barren is None else self.barren
        self.refuse(unknown & ~barren, u)
        scores = family.by_level(natural, u.nan_to_num())
        scores = torch.where(unknown, -math.log(value.size), scores)
        return of_each_row((*self.codes, value), scores.unflatten(0, sizes) if sizes else scores[0])

    def refuse(self, rows: Tensor, u: Tensor) -> None:
        """Say which parent is unknown where it is needed."""
        if bool(rows.any()):
            row = int(torch.nonzero(rows)[0])
            at = int(torch.nonzero(u[row].isnan())[0])
            raise CapabilityError(
                f"Node {self.family.name!r} depends on the continuous column {self.family.names[at]!r}, which is unknown in"
                f" row {self.number(row)}; a {type(self.family).__name__} has no closed density then. Fill the column first"
                " (a network without this edge can), or ask approximately: fit.query(..., method='importance')."
            )

    @property
    def levels(self) -> int:
        """Number of values of a discrete variable."""
        return self.family.levels


class Predicted(Observable):
    """A variable given numbers."""

    def __init__(self, family: GeneralisedLinear, distribution: torch.distributions.Distribution) -> None:
        self.family, self.own = family, distribution
        super().__init__(distribution.batch_shape, torch.Size(), validate_args=False)

    @property
    def levels(self) -> int:
        """Number of values of a discrete variable."""
        return self.family.levels

    def log_prob(self, value: Tensor) -> Tensor:
        seen = ~value.isnan()
        return torch.where(seen, self.own.log_prob(torch.where(seen, value, 0.0)), 0.0)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.own.sample()

    def fill(self, x: Tensor) -> Tensor:
        """X with its unknown cells drawn."""
        return torch.where(x.isnan(), self.sample().to(x), x)

    @property
    def mean(self) -> Tensor:
        return self.own.logits.argmax(-1).to(self.own.logits) if hasattr(self.own, "logits") else self.own.mean


def damped(step: Tensor, slope: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """The part of Newton's step at which the bound is largest, and the bound's rise.

    Args:
        step: ``(K, R, V)``.
        slope: ``(K,)``: gradient times step.
        reach: ``(K,)`` of the whole step.
    """
    r = reach.clamp_min(1e-8)
    size = torch.where(reach > 1e-8, torch.log1p(r) / r, 1.0)
    rise = slope * (size - bend(size * r) * size.square())
    return size[:, None, None] * step, rise


def bend(r: Tensor) -> Tensor:
    """The function h(r), one half at zero."""
    small = r < 1e-3
    safe = torch.where(small, 1.0, r)
    return torch.where(small, 0.5 + r / 6, (torch.expm1(safe) - safe) / safe.square())


def quadratic(scatter: Tensor, u: Tensor) -> Tensor:
    """``(..., N)``: u' S u for matrices ``(..., V, V)``."""
    return ((u @ scatter) * u).sum(-1)
