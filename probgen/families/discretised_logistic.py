r"""Counts with an upper bound, such as grey levels: a logistic distribution in steps (Salimans et al., 2017).

.. math:: p(x \mid k) = F\Bigl(\frac{x + \frac12 - \mu_k}{s_k}\Bigr) - F\Bigl(\frac{x - \frac12 - \mu_k}{s_k}\Bigr),
    \qquad F(a) = \frac1{1 + e^{-a}}, \qquad x = L, L + 1, \dots, H

with everything below the first level L counted as L and everything above the last one H as H, so that it sums to one exactly. Location
and scale are in units in which the levels reach from -1 to 1. The statistics are how often each level occurs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from probgen.families.base import Natural, Parameters, once_per_tensor
from probgen.families.columnwise import mask_cells
from probgen.families.newton import TwoParameters

__all__ = ["DiscretisedLogistic"]


class DiscretisedLogistic(TwoParameters):
    """D columns of whole numbers ``first, ..., first + levels - 1``; parameters ``log_scale`` and ``loc``, in half ranges.

    Args:
        levels: how many there are, at least 2.
        columns: D.
        table: K, the number of parameter rows.
        prior: "default" or None (maximum likelihood).
        first: the lowest of them.
    """

    names = ("log_scale", "loc")
    lowest, highest = (-9.0, -14.0), (7.0, 14.0)
    neutral = (-1.0, 0.0)  # the middle, and everything within reach

    def __init__(
        self, levels: int, columns: int = 1, table: int = 1, prior: str | None = "default", first: int = 0
    ) -> None:
        super().__init__(columns, table, prior)
        self.reach = 0.5 * levels  # the range of all levels over two
        self.size, self.first = levels, first

    def describe(self, theta: Parameters) -> Parameters:
        """In levels."""
        loc = self.first + self.reach * (theta["loc"] + 1.0) - 0.5
        return {"scale": self.reach * theta["log_scale"].exp(), "loc": loc}

    def distribution(self, theta: Parameters) -> SteppedLogistic:
        return SteppedLogistic(theta["log_scale"], theta["loc"], self.size, self.first)

    def every(self, theta: Parameters) -> Tensor:
        """``(K, D, L)``: log probability of every level."""
        wide = {key: value[..., None] for key, value in theta.items()}
        return self.distribution(wide).log_prob(self.first + torch.arange(self.size).to(wide["loc"]))

    def natural(self, theta: Parameters) -> Natural:
        return {"log_normaliser": torch.zeros_like(theta["loc"]), "levels": self.every(theta)}

    # -- maximisation ------------------------------------------------------------------------------------------
    def expected(self, statistics: Natural, at: Tensor) -> Tensor:
        return (statistics["levels"] * self.every(dict(zip(self.names, at, strict=True)))).sum(-1)

    def guess(self, statistics: Natural) -> Tensor:
        """By moments."""
        counts, n = statistics["levels"], statistics["log_normaliser"].clamp_min(1e-10)
        at = (torch.arange(self.size).to(counts) + 0.5) / self.reach - 1.0
        mean = (counts * at).sum(-1) / n
        variance = ((counts * at**2).sum(-1) / n - mean**2).clamp_min(0.1 / self.reach**2)
        return torch.stack([0.5 * (3.0 * variance / math.pi**2).log(), mean])

    # -- densities ---------------------------------------------------------------------------------------------
    @once_per_tensor
    def codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(D, N)`` places of the levels, some place for unknown cells, and which are known."""
        return (x.mT.nan_to_num() - self.first).long().clamp(0, self.size - 1), ~x.mT.isnan()

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        """One look-up a column, so that no indicators of levels stand in memory."""
        codes, seen = self.codes(x)
        total = natural["log_normaliser"] @ seen.to(x)
        for d, (code, known) in enumerate(zip(codes, seen, strict=True)):
            found = natural["levels"][:, d].index_select(1, code)
            total = total + mask_cells(found, known.expand_as(found))
        return total


class SteppedLogistic(torch.distributions.Distribution):
    """A logistic distribution rounded to levels, those beyond the ends counted at the ends."""

    arg_constraints: ClassVar[dict] = {}

    def __init__(self, log_scale: Tensor, loc: Tensor, levels: int, first: int = 0) -> None:
        self.log_scale, self.loc, self.levels, self.first = log_scale, loc, levels, first
        super().__init__(loc.shape, validate_args=False)

    def edges(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised lower and upper edge of a level, by its place after the first."""
        step, inverse = 2.0 / self.levels, torch.exp(-self.log_scale)
        lower = (step * place - 1.0 - self.loc) * inverse
        return lower, lower + step * inverse

    def log_prob(self, value: Tensor) -> Tensor:
        """No cancellation: F(b) - F(a) = F(b) F(-a) (1 - exp(a - b))."""
        place = value - self.first
        lower, upper = self.edges(place)
        width = (2.0 / self.levels) * torch.exp(-self.log_scale)
        below, above = logsigmoid(upper), logsigmoid(-lower)
        inner = below + above + torch.log(-torch.expm1(-width))
        return torch.where(place <= 0, below, torch.where(place >= self.levels - 1, above, inner))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            uniform = torch.rand(*sample_shape, *self.loc.shape).to(self.loc).clamp(1e-7, 1 - 1e-7)
            drawn = self.loc + self.log_scale.exp() * uniform.logit()
            return self.first + (0.5 * self.levels * (drawn + 1.0)).floor().clamp(0, self.levels - 1)

    def moment(self, order: int) -> Tensor:
        """Of the place after the first: differences of its powers, each times the probability to reach it."""
        total = torch.zeros_like(self.loc)
        for level in range(1, self.levels):
            lower, _ = self.edges(torch.as_tensor(float(level)).to(self.loc))
            total = total + (level**order - (level - 1) ** order) * torch.sigmoid(-lower)
        return total

    @property
    def mean(self) -> Tensor:
        return self.first + self.moment(1)

    @property
    def variance(self) -> Tensor:
        mean = self.moment(1)
        return (self.moment(2) - mean**2).clamp_min(0.0)
