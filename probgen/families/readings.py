r"""How regressions read a column: on the real line, centred, with unit spread, and as dummies where there are levels.

Real and positive columns are read as they are or by their logarithm, counts as they are or by :math:`\log(1 + x)` (which of
both may differ between regressor and response), bounded ones by their log odds, or as they are where some lie on the bounds, ordered levels by their number, other levels by an indicator of each but the first, and amounts
that may be zero by an indicator and the logarithm of what is above zero.

What is read of rows to come ends somewhat beyond what the training rows held: products and squares have no end of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probgen.data.schema import Column
from probgen.errors import CapabilityError, FitError

__all__ = ["STEPS", "Count", "Fraction", "Line", "LogOdds", "Plain", "Reading", "reading_of"]

REACH = 3.0  # standard deviations beyond the known values
EDGE = 1e-6  # of the unit interval, from which log odds are taken
STEPS = 10  # whole numbers, at most, that counts can be told apart as


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
        self.register_buffer("ends", torch.tensor([-torch.inf, torch.inf]))  # of known values, standardised
        self.register_buffer("seen", torch.zeros(()))  # known cells of the training rows
        self.register_buffer("manner", torch.zeros(()))  # in which donors give, where it is drawn as a number
        self.centre: Tensor
        self.spread: Tensor
        self.ends: Tensor
        self.seen: Tensor
        self.manner: Tensor
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
        if not bool(w.sum() > 0):
            raise FitError(
                f"Column {self.column.name!r} is known only in rows of weight zero; drop it or those weights."
            )
        self.centre = (w[:, None] * u).sum(0) / w.sum()
        spread = ((w[:, None] * (u - self.centre).square()).sum(0) / w.sum()).sqrt()
        self.spread = torch.where(spread > 1e-9 * self.centre.abs().clamp_min(1e-3), spread, 1.0)
        self.set_ends(u)

    def set_ends(self, u: Tensor) -> None:
        """Between which values the last slot was seen."""
        if len(u):
            last = (u[..., -1] - self.centre[-1]) / self.spread[-1]
            self.ends = torch.stack([last.min(), last.max()])

    def within_reach(self, u: Tensor) -> Tensor:
        """Standardised values of the last slot, not farther than somewhat beyond what was seen."""
        return torch.minimum(torch.maximum(u, self.ends[0] - REACH), self.ends[1] + REACH)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., S)`` regressors."""
        return self.within_reach((self.raw(x) - self.centre) / self.spread)

    def gives(self, x: Tensor) -> Tensor:
        """Which cells are known as numbers on this scale, that others like them can be given."""
        return ~x.isnan()

    def unread(self, u: Tensor) -> Tensor:
        """A continuous column from what :meth:`raw` made of it."""
        raise CapabilityError(f"Column {self.column.name!r} is {self.column.kind}: it is not drawn by its reading.")

    def standardised(self, x: Tensor) -> Tensor:
        """A continuous column as a response of a regression."""
        return (self.raw(x)[..., -1] - self.centre[-1]) / self.spread[-1]

    def value(self, u: Tensor) -> Tensor:
        """A continuous column from draws of a regression."""
        return self.unread(self.within_reach(u) * self.spread[-1] + self.centre[-1])

    @property
    def response(self) -> Reading:
        """As which a column is drawn."""
        return self


class Line(Reading):
    """As it is, or by the logarithm of what it is in its own units, counts by that of one more."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.more = float(column.kind == "count")
        self.register_buffer("logarithm", torch.zeros(()))  # 1 where the logarithm is read
        self.register_buffer("origin", torch.zeros(()))  # what zero of the data is, here
        self.register_buffer("least", torch.tensor(-torch.inf))  # of positive draws that are no logarithms
        self.logarithm: Tensor
        self.origin: Tensor
        self.least: Tensor

    def learn(self, x: Tensor, weights: Tensor | None) -> None:
        super().learn(x, weights)
        if self.column.kind == "positive":
            self.least = x[~x.isnan()].min() / 2

    def raw(self, x: Tensor) -> Tensor:
        return ((x - self.origin + self.more).clamp_min(0.0).log() if self.logarithm else x)[..., None]

    def unread(self, u: Tensor) -> Tensor:
        return u.exp() - self.more + self.origin if self.logarithm else torch.maximum(u, self.least)


class Plain(Line):
    """Numbers and dates: as a regressor on this scale, as a response on one that may be the other."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.own = Line(column)

    @property
    def response(self) -> Line:
        return self.own

    def learn(self, x: Tensor, weights: Tensor | None) -> None:
        super().learn(x, weights)
        self.own.learn(x, weights)


class LogOdds(Reading):
    """Numbers between bounds."""

    def raw(self, x: Tensor) -> Tensor:
        inside = x.clamp(EDGE, 1 - EDGE)
        return (inside.log() - (-inside).log1p())[..., None]

    def gives(self, x: Tensor) -> Tensor:
        return (x > 0) & (x < 1)

    def unread(self, u: Tensor) -> Tensor:
        return u.sigmoid()


class Fraction(LogOdds):
    """Numbers between bounds, of which some may lie on them: those are read as they are, the others by log odds."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.inside = LogOdds(column)
        self.register_buffer("reached", torch.zeros(2, dtype=torch.bool))  # whether there are cells at 0, at 1
        self.reached: Tensor

    @property
    def response(self) -> LogOdds:
        return self.inside

    def learn(self, x: Tensor, weights: Tensor | None) -> None:
        self.reached = torch.stack([(x <= 0).any(), (x >= 1).any()])
        super().learn(x, weights)
        inside = (x > 0) & (x < 1)
        if bool(inside.any()) and (weights is None or bool(weights[inside].sum() > 0)):
            self.inside.learn(x[inside], None if weights is None else weights[inside])

    def raw(self, x: Tensor) -> Tensor:
        return x[..., None] if bool(self.reached.any()) else super().raw(x)


class Count(Plain):
    """Counts: negative binomial, rounded numbers, or step by step as ordered levels; which of them is learnt.

    Attributes:
        log_shape: of a negative binomial with the counts' own moments.
        form: 0 for a negative binomial, 1 for rounded numbers, 2 for steps.
        least, most: of the known counts.
    """

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        for name in ("log_shape", "form", "least", "most"):
            self.register_buffer(name, torch.zeros(()))
        self.log_shape: Tensor
        self.form: Tensor
        self.least: Tensor
        self.most: Tensor

    def learn(self, x: Tensor, weights: Tensor | None) -> None:
        super().learn(x, weights)
        counts = x[~x.isnan()]
        mean, variance = counts.mean(), counts.var(correction=0)
        self.least, self.most = counts.min(), counts.max()
        self.log_shape = (mean.square() / (variance - mean).clamp_min(mean / 50 + 1e-6)).clamp(0.1, 500.0).log()

    def whole(self, x: Tensor) -> Tensor:
        """Drawn counts: whole, within bounds, and not far beyond the known ones; rounded numbers of a short scale stay on it."""
        if self.form == 1 and self.most - self.least < STEPS:
            return torch.minimum(torch.maximum(x.round(), self.least), self.most)
        most = self.most + REACH * (self.most - self.least).clamp_min(1.0)
        low, high = self.column.ends
        return torch.minimum(x.round(), most).clamp(low, high)


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

    def within_reach(self, u: Tensor) -> Tensor:
        return u


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
        if len(amount) > 1 and bool(w.sum() > 0):
            mean = (w * amount).sum() / w.sum()
            spread = ((w * (amount - mean).square()).sum() / w.sum()).sqrt()
            self.centre = torch.stack([self.centre[0], mean])
            self.spread = torch.stack([self.spread[0], spread if spread > 0 else torch.ones(())])
            self.set_ends(amount[:, None])

    def gives(self, x: Tensor) -> Tensor:
        return x > 0

    def unread(self, u: Tensor) -> Tensor:
        return u.exp()

    def forward(self, x: Tensor) -> Tensor:
        any_, amount = ((self.raw(x) - self.centre) / self.spread).unbind(-1)
        return torch.stack([any_, torch.where(x <= 0, 0.0, self.within_reach(amount))], -1)


READINGS: dict[str, type[Reading]] = {
    "real": Plain,
    "datetime": Plain,
    "positive": Plain,
    "bounded": Fraction,
    "count": Count,
    "binary": Scores,
    "ordinal": Scores,
    "categorical": Dummies,
    "semicontinuous": Amounts,
}


def reading_of(column: Column) -> Reading:
    """The reading that a column's kind calls for."""
    return READINGS[column.kind](column)
