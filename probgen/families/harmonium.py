r"""Exponential-family harmonium (Smolensky, 1986; Welling, Rosen-Zvi and Hinton, 2005): one undirected layer.

.. math::
    E(x, h) = -b^\top \phi(x) - c^\top h - \phi(x)^\top W h + \tfrac12 \sum_g \lambda_g y_g^2,
    \qquad h \in \{0, 1\}^H

Given one side the other is independent, and either side sums out in closed form:

.. math::
    \log \sum_h e^{-E(x, h)} &= b^\top \phi - \tfrac12 \lambda^\top y^2 + \sum_j \log(1 + e^{c_j + \phi^\top W_j})
    = -F(x) \\
    \log \int e^{-E(x, h)} dx &= c^\top h + \sum_d A_d(b + W h, \lambda)

The inverse temperature :math:`\beta` leads from a mixture of independent columns close to the data to the energy; see
:mod:`probgen.families.base_rate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from pyro.distributions import Bernoulli, Distribution
from torch import Tensor, nn
from torch.nn.functional import softplus

from probgen.data.schema import Column, Schema
from probgen.errors import CapabilityError
from probgen.families.base_rate import Origin, origin, separate
from probgen.families.units import GRID, Conditional, Units, coin
from probgen.whole import is_whole

__all__ = ["Harmonium", "Stack"]

COMPONENTS = 32  # of the mixture that paths begin at


class Sight(NamedTuple):
    """Visible units as the latent ones see them.

    Attributes:
        features: ``(..., F)``.
        free: those that are not held fixed, zeros for the others.
        field: log odds of the hidden units, ``(..., H)``.
        scores: log densities under the components at the beginning of the path, ``(..., K)``.
    """

    features: Tensor
    free: Tensor
    field: Tensor
    scores: Tensor


class Harmonium(nn.Module):
    """Visible units of mixed kinds and H binary hidden units. Features have shape ``(..., F)``, hidden ``(..., H)``.

    Args:
        schema: the visible columns.
        hidden: H.
    """

    base: Tensor
    base_share: Tensor

    def __init__(self, schema: Schema, hidden: int) -> None:
        super().__init__()
        self.units, self.hidden = Units(schema), hidden
        self.weight = nn.Parameter(torch.zeros(self.units.features, hidden))
        self.bias = nn.Parameter(torch.zeros(self.units.features))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.log_precision = nn.Parameter(torch.zeros(len(self.units.gaussian)))
        self.register_buffer("base", torch.zeros(COMPONENTS, self.units.features))
        self.register_buffer("base_share", torch.full((COMPONENTS,), -math.log(COMPONENTS)))
        self.log_z = torch.full((3,), torch.nan, dtype=torch.float64)

    def get_extra_state(self) -> Tensor:
        """Log Z, its standard error and effective sample size once they are known, whatever the dtype of the rest."""
        return self.log_z

    def set_extra_state(self, state: Tensor) -> None:
        self.log_z = state

    @property
    def precision(self) -> Tensor:
        return self.log_precision.exp()

    def start(self, mean: Tensor, square: Tensor) -> None:
        """Nearly independent columns with the data's frequencies, given means of features and of their squares."""
        with torch.no_grad():
            self.units.calibrate(mean, square)
            centre = mean.clamp(1e-3, 1 - 1e-3)
            centre[slice(*self.units.split)] = 0.0
            self.weight.copy_(0.01 * torch.randn(self.weight.shape, dtype=torch.float32))
            self.bias.copy_(self.units.natural_of(centre) - 0.5 * self.weight.sum(1))
            self.hidden_bias.zero_()
            self.log_precision.zero_()
        self.log_z = torch.full_like(self.log_z, torch.nan)

    def start_paths(self, features: Tensor, known: Tensor, weights: Tensor | None) -> None:
        """Fit the mixture that paths begin at to some rows of the data."""
        weights = features.new_ones(len(features)) if weights is None else weights
        natural, log_share = separate(self.units, features, known, weights, COMPONENTS)
        self.base.copy_(natural)
        self.base_share.copy_(log_share)

    # -- one side given the other ------------------------------------------------------------------------------
    def field(self, features: Tensor) -> Tensor:
        """Log odds of the hidden units given the visible ones."""
        return features @ self.weight + self.hidden_bias

    def natural(self, hidden: Tensor) -> Tensor:
        """Natural parameters of the visible units given the hidden ones."""
        return hidden @ self.weight.mT + self.bias

    def uniform(self) -> Distribution:
        """Every hidden state alike: what the energy of the hidden units is relative to in a program."""
        return Bernoulli(logits=torch.zeros_like(self.hidden_bias)).to_event(1)

    def posterior(self, x: Tensor) -> Distribution:
        """p(h | x), exact where every column is known; see :meth:`recognise`."""
        return Bernoulli(logits=self.recognise(x)).to_event(1)

    def visible(self, hidden: Tensor) -> Conditional:
        """p(x | h) as a distribution over columns."""
        return Conditional(self.units, self.natural(hidden), self.precision)

    def recognise(self, x: Tensor, rounds: int = 10) -> Tensor:
        """Log odds of the hidden units given the known columns; unknown ones by their mean field."""
        features, seen, _ = self.units.read(x)
        if not seen.all():
            known = self.units.spread(seen)
            guess = self.origin(features, known).mean()
            for _ in range(rounds):
                features = torch.where(known, features, guess)
                guess = self.units.mean(self.natural(self.field(features).sigmoid()), self.precision)
        return self.field(features)

    # -- the energy with one side summed out -------------------------------------------------------------------
    def linear(self, features: Tensor) -> Tensor:
        """The part of -E that involves the visible units alone."""
        line = features @ self.bias
        return line + self.units.quadratic(features, self.precision).sum(-1) if self.units.gaussian else line

    def free_energy(self, features: Tensor) -> Tensor:
        """F, minus the log of the unnormalised density, ``(...)``."""
        return -self.linear(features) - softplus(self.field(features)).sum(-1)

    def log_marginal(self, hidden: Tensor) -> Tensor:
        """Log of the unnormalised marginal of the hidden units, ``(...)``."""
        return hidden @ self.hidden_bias + self.units.log_normaliser(self.natural(hidden), self.precision).sum(-1)

    def log_ratio(self, hidden: Tensor) -> Tensor:
        """The same against :meth:`uniform`."""
        return self.log_marginal(hidden) + self.hidden * math.log(2.0)

    def lift(self, features: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden units drawn given the visible ones, and log p(known units | h) - log q(h | visible), ``(N,)``."""
        field = self.field(features)
        hidden = coin(field)
        cells = self.units.cells(self.natural(hidden), self.precision, features)
        return hidden, torch.where(seen, cells, 0.0).sum(-1) + softplus((1 - 2 * hidden) * field).sum(-1)

    def log_joint(self, states: Tensor, features: Tensor, seen: Tensor) -> Tensor:
        """``(N, S)``: log of the unnormalised density of N rows' known units with each of S hidden states."""
        free = self.units.log_normaliser(self.natural(states), self.precision)  # (S, D)
        return self.linear(features)[:, None] + self.field(features) @ states.mT + (~seen).to(free) @ free.mT

    # -- the path from the mixture -----------------------------------------------------------------------------
    def origin(self, features: Tensor | None = None, known: Tensor | None = None) -> Origin:
        """The mixture at inverse temperature 0, given known features."""
        return origin(self.units, self.base, self.base_share, features, known)

    def draw_base(self, *shape: int) -> Tensor:
        """Features drawn from the mixture."""
        return self.origin().draw(*shape)

    def log_base_normaliser(self) -> float:
        """Log of what sums over the mixture and the hidden units come to at inverse temperature 0."""
        return self.hidden * math.log(2.0)

    def sight(self, features: Tensor, start: Origin) -> Sight:
        """Visible units as the latent ones see them."""
        free = start.free(features)
        return Sight(features, free, self.field(features), start.scores(free))

    def rise(self, seen: Sight, start: Origin, now: Tensor | float, then: Tensor | float) -> Tensor:
        """What the log density, all latent units summed out and not normalised, gains between inverse temperatures."""
        gain = (softplus(then * seen.field) - softplus(now * seen.field)).sum(-1)
        gain = gain + start.log_density(seen.scores, 1.0 - then) - start.log_density(seen.scores, 1.0 - now)
        line = self.linear(seen.features)
        if self.units.gaussian:
            line = line - self.units.quadratic(seen.free, torch.ones_like(self.precision)).sum(-1)
        step = then - now
        return gain + (step[..., 0] if isinstance(step, Tensor) else step) * line

    def temper(self, seen: Sight, start: Origin, beta: Tensor | float) -> Tensor:
        """One Gibbs sweep at an inverse temperature: all latent units, then the visible ones that are not known."""
        hidden, pull = coin(beta * seen.field), start.choose(seen.scores, 1.0 - beta)
        natural = pull + beta * (self.natural(hidden) - pull)
        drawn = self.units.sample(natural, 1.0 + beta * (self.precision - 1.0))
        return drawn if start.known is None else torch.where(start.known, seen.features, drawn)

    def sweep(self, features: Tensor, known: Tensor | None = None) -> Tensor:
        """One Gibbs sweep of the energy: hidden units, then the visible ones that are not known."""
        drawn = self.units.sample(self.natural(coin(self.field(features))), self.precision)
        return drawn if known is None else torch.where(known, features, drawn)

    # -- looking at one column ---------------------------------------------------------------------------------
    def pseudo_log_likelihood(self, features: Tensor, unit: Tensor, count: Tensor | int | None = None) -> Tensor:
        r"""``(N,)``: :math:`D \log p(x_i \mid x_{-i})` for one given unit i a row (Besag, 1975).

        With i drawn at random from ``count`` units (all D where it is None) this is an unbiased estimate of the log
        pseudo-likelihood. Continuous units are integrated numerically and scored in their standardised coordinates.
        """
        out = features.new_empty(len(features))
        for mine, columns, values, log_weight in self.alternatives():
            rows = torch.isin(unit, mine)
            if rows.any():
                own = columns[torch.searchsorted(mine, unit[rows])]  # (n, L) features of the row's unit
                out[rows] = self.conditional(features[rows], own, values, log_weight)
        return out * (self.units.columns if count is None else count)

    def conditional(self, features: Tensor, own: Tensor, values: Tensor, log_weight: float) -> Tensor:
        """Log density of the features ``own`` given all others, over the ``values`` (V, L) that they may have."""
        now, weight, bias = features.gather(1, own), self.weight[own], self.bias[own]  # (n, L), (n, L, H), (n, L)
        rest = self.field(features) - torch.einsum("nl,nlh->nh", now, weight)
        first, second = self.units.split
        gaussian = (own >= first) & (own < second)
        curve = torch.zeros_like(bias)
        curve[gaussian] = self.precision[own[gaussian] - first]

        def score(value: Tensor) -> Tensor:  # (n, V, L) -> (n, V)
            line = torch.einsum("nvl,nl->nv", value, bias) - 0.5 * torch.einsum("nvl,nl->nv", value.square(), curve)
            return line + softplus(rest[:, None] + torch.einsum("nvl,nlh->nvh", value, weight)).sum(-1)

        every = score(values.expand(len(features), -1, -1)) + log_weight
        return score(now[:, None])[:, 0] - every.logsumexp(1)

    def alternatives(self) -> list[tuple[Tensor, Tensor, Tensor, float]]:
        """For each kind of unit: which units, their features ``(n, L)``, values ``(V, L)``, log quadrature weight."""
        first, second = self.units.split
        place = torch.arange(self.units.features, device=self.base.device)
        reach = 6.0 / self.precision.min().sqrt() + self.reach() if second > first else 1.0
        grid = torch.linspace(-1.0, 1.0, GRID).to(self.base)[:, None] * reach
        found: list = [
            (place[:first], place[:first, None], torch.tensor([[0.0], [1.0]]).to(self.base), 0.0),
            (place[first:second], place[first:second, None], grid, math.log(2.0 * reach / (GRID - 1))),
        ]
        at, unit = second, second
        for levels, group in self.units.levelled:
            width = levels * len(group)
            columns = place[at : at + width].reshape(len(group), levels)
            found.append((place[unit : unit + len(group)], columns, torch.eye(levels).to(self.base), 0.0))
            at, unit = at + width, unit + len(group)
        return [entry for entry in found if len(entry[0])]

    def reach(self) -> float:
        """The farthest that a continuous unit's conditional mean can lie from 0."""
        rows = slice(*self.units.split)
        far = self.bias[rows].abs() + self.weight[rows].abs().sum(1)
        return float((far / self.precision).max())


class Stack(nn.ModuleList):
    """Layers of the given widths on the columns; the visible units of each are the hidden ones of the layer below."""

    def __init__(self, schema: Schema, widths: int | tuple[int, ...]) -> None:
        super().__init__()
        sizes = tuple(widths) if isinstance(widths, tuple | list) else (widths,)
        if not sizes or any(not is_whole(size, 1) for size in sizes):
            raise CapabilityError(f"hidden must be the number of units of each layer, at least 1, got {widths!r}.")
        for size in sizes:
            self.append(Harmonium(schema, size))
            schema = Schema(tuple(Column(f"h{at}", "binary", levels=(0, 1)) for at in range(size)))

    def __getitem__(self, at: int) -> Harmonium:  # type: ignore[override]
        return super().__getitem__(at)  # type: ignore[return-value]

    def __iter__(self) -> Iterator[Harmonium]:  # type: ignore[override]
        return super().__iter__()  # type: ignore[return-value]
