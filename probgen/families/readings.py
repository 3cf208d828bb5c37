r"""How regressions read a column: on the real line, centred, with unit spread, and as dummies where there are levels.

Real columns are read as they are or by their logarithm (which of both may differ between regressor and response), positive ones by their logarithm, bounded ones by their log odds,
counts by :math:`\log(1 + x)`, ordered levels by their number, other levels by an indicator of each but the first, and
amounts that may be zero by an indicator and the logarithm of what is above zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probgen.data.schema import Column
from probgen.errors import CapabilityError

__all__ = ["Count", "Line", "Plain", "Reading", "reading_of"]

REACH = 3.0  # standard deviations beyond the known values
EDGE = 1e-6  # of the unit interval, from which log odds are taken


class Reading(nn.Module):
    """One column as S regressors, standardised by the training rows.

    Attributes:
        slots: S, how many regressors the column is.
        curved: whether squares of them say something new.
    """

    slots = 1
    curved = True

    def __init__(self, column: Column) -> None:
        super().__init__()
        self.column = column
        self.register_buffer("centre", torch.zeros(self.slots_of(column)))
        self.register_buffer("spread", torch.ones(self.slots_of(column)))
        self.register_buffer("reach", torch.tensor([-REACH, REACH]))  # of draws, standardised
        self.register_buffer("seen", torch.zeros(()))  # known cells of the training rows
        self.centre: Tensor
        self.spread: Tensor
        self.reach: Tensor
        self.seen: Tensor
        self.slots = len(self.centre)

    def slots_of(self, column: Column) -> int:
        return 1

    def raw(self, x: Tensor) -> Tensor:
        """``(..., S)`` before standardisation; NaN where x is."""
        return x[..., None]

    def learn(self, x: Tensor, weights: Tensor | None) -> None:
        """Centre and spread from the known cells of the training rows."""
        seen = ~x.isnan()
        self.seen = seen.sum().to(x)
        u = self.raw(x[seen])
        w = torch.ones(len(u)) if weights is None else weights[seen]
        self.centre = (w[:, None] * u).sum(0) / w.sum()
        spread = ((w[:, None] * (u - self.centre).square()).sum(0) / w.sum()).sqrt()
        self.spread = torch.where(spread > 1e-9 * self.centre.abs().clamp_min(1e-3), spread, 1.0)
        self.set_reach(u)

    def set_reach(self, u: Tensor) -> None:
        """Draws end somewhat beyond the known values: extrapolated curves have no end of their own."""
        if len(u):
            last = (u[..., -1] - self.centre[-1]) / self.spread[-1]
            self.reach = torch.stack([last.min() - REACH, last.max() + REACH])

    def forward(self, x: Tensor) -> Tensor:
        """``(..., S)`` regressors."""
        return (self.raw(x) - self.centre) / self.spread

    def unread(self, u: Tensor) -> Tensor:
        """A continuous column from what :meth:`raw` made of it."""
        raise CapabilityError(f"Column {self.column.name!r} is {self.column.kind}: it is not drawn by its reading.")

    def standardised(self, x: Tensor) -> Tensor:
        """A continuous column as a response of a regression."""
        return (self.raw(x)[..., -1] - self.centre[-1]) / self.spread[-1]

    def value(self, u: Tensor) -> Tensor:
        """A continuous column from draws of a regression."""
        return self.unread(
            torch.minimum(torch.maximum(u, self.reach[0]), self.reach[1]) * self.spread[-1] + self.centre[-1]
        )


class Line(Reading):
    """As it is, or by the logarithm of what it is in its own units."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.register_buffer("logarithm", torch.zeros(()))  # 1 where the logarithm is read
        self.register_buffer("origin", torch.zeros(()))  # what zero of the data is, here
        self.logarithm: Tensor
        self.origin: Tensor

    def raw(self, x: Tensor) -> Tensor:
        return ((x - self.origin).clamp_min(1e-300).log() if self.logarithm else x)[..., None]

    def unread(self, u: Tensor) -> Tensor:
        return u.exp() + self.origin if self.logarithm else u


class Plain(Line):
    """Real numbers and dates: as a regressor on this scale, as a response on one that may be the other."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.response = Line(column)

    def learn(self, x: Tensor, weights: Tensor | None) -> None:
        super().learn(x, weights)
        self.response.learn(x, weights)

    def standardised(self, x: Tensor) -> Tensor:
        return self.response.standardised(x)

    def value(self, u: Tensor) -> Tensor:
        return self.response.value(u)


class Logarithm(Reading):
    """Positive numbers."""

    def raw(self, x: Tensor) -> Tensor:
        return x.log()[..., None]

    def unread(self, u: Tensor) -> Tensor:
        return u.exp()


class LogOdds(Reading):
    """Numbers between bounds."""

    def raw(self, x: Tensor) -> Tensor:
        inside = x.clamp(EDGE, 1 - EDGE)
        return (inside.log() - (-inside).log1p())[..., None]

    def unread(self, u: Tensor) -> Tensor:
        return u.sigmoid()


class Count(Reading):
    """Counts."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.register_buffer("log_shape", torch.zeros(()))  # of a negative binomial with the counts' own moments
        self.log_shape: Tensor

    def learn(self, x: Tensor, weights: Tensor | None) -> None:
        super().learn(x, weights)
        counts = x[~x.isnan()]
        mean, variance = counts.mean(), counts.var(correction=0)
        self.log_shape = (mean.square() / (variance - mean).clamp_min(mean / 50)).clamp(0.1, 500.0).log()

    def raw(self, x: Tensor) -> Tensor:
        return x.log1p()[..., None]

    @property
    def middle_and_top(self) -> tuple[float, float]:
        """Of logarithms of means: one that is typical, and one that none should exceed."""
        most = (self.reach[1] - REACH) * self.spread[0] + self.centre[0]
        return float(self.centre[0].expm1().clamp_min(0.1).log()), float(most) + 1.0


class Scores(Reading):
    """Ordered levels, and pairs of levels."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.curved = column.cardinality > 2


class Dummies(Reading):
    """Levels without order."""

    curved = False

    def slots_of(self, column: Column) -> int:
        return column.cardinality - 1

    def raw(self, x: Tensor) -> Tensor:
        levels = torch.arange(1, self.column.cardinality, device=x.device)
        return torch.where(x.isnan()[..., None], torch.nan, (x[..., None] == levels).to(x.dtype))


class Amounts(Reading):
    """Zero or positive: whether there is any, and the logarithm of how much, over its mean where there is none."""

    curved = False

    def slots_of(self, column: Column) -> int:
        return 2

    def raw(self, x: Tensor) -> Tensor:
        positive = x > 0
        amount = torch.where(positive, x, 1.0).log()
        known = torch.where(x.isnan(), torch.nan, positive.to(x.dtype))
        return torch.stack([known, torch.where(x.isnan(), torch.nan, amount)], -1)

    def learn(self, x: Tensor, weights: Tensor | None) -> None:
        super().learn(x, weights)
        seen = x > 0
        w = torch.ones(int(seen.sum())) if weights is None else weights[seen]
        amount = x[seen].log()
        if len(amount) > 1:
            mean = (w * amount).sum() / w.sum()
            spread = ((w * (amount - mean).square()).sum() / w.sum()).sqrt()
            self.centre = torch.stack([self.centre[0], mean])
            self.spread = torch.stack([self.spread[0], spread if spread > 0 else torch.ones(())])
            self.set_reach(amount[:, None])

    def unread(self, u: Tensor) -> Tensor:
        return u.exp()

    def forward(self, x: Tensor) -> Tensor:
        any_, amount = super().forward(x).unbind(-1)
        return torch.stack([any_, torch.where(x == 0, 0.0, amount)], -1)


READINGS: dict[str, type[Reading]] = {
    "real": Plain,
    "datetime": Plain,
    "positive": Logarithm,
    "bounded": LogOdds,
    "count": Count,
    "binary": Scores,
    "ordinal": Scores,
    "categorical": Dummies,
    "semicontinuous": Amounts,
}


def reading_of(column: Column) -> Reading:
    """The reading that a column's kind calls for."""
    return READINGS[column.kind](column)
