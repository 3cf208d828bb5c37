r"""Columns as responses of regressions on all other columns.

Numbers are normal on the scale of their :class:`~probgen.families.readings.Reading`, counts negative binomial, or rounded
numbers where that is likelier (under-dispersed counts), or levels where they are few. Levels are reached step by step, each
a logistic regression (continuation ratios; Fienberg, 1980):

.. math:: p(x > k \mid x \ge k) = \mathrm{logit}^{-1}(z^\top \beta_k)

with slopes of their own where levels have no order, and with common slopes and steps of their own where they have one.
Amounts that may be zero are a logistic regression of whether there is any, and a normal one of its logarithm; fractions
that may be none or all are two of whether they are, and a normal one of the log odds of the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from probgen.families.donors import Donors
from probgen.families.readings import Count, Fraction, Reading
from probgen.families.shrinkage import Shrinkage, Theta, joined, part
from probgen.families.shrunken_generalised import LogisticRegression, NegativeBinomialRegression
from probgen.families.shrunken_regression import NormalRegression, Regression
from probgen.families.streams import Streams

__all__ = ["CountResponse", "OrderedLevels", "Response", "response_of"]

Piece = tuple[str, Tensor | None, Tensor, Tensor]  # a regression's name, its rows (None for all), design and response

BEYOND = 1.0  # standard deviations outside the known values, where expectations end
LOGISTIC_NOISE = 2.0  # a pseudo standard deviation of what a logistic regression regresses


class Response(ABC):
    """One column given a design; its regressions by name.

    Args:
        reading: of the column.
        mains, products: M and Q, of the design.
    """

    def __init__(self, reading: Reading, mains: int, products: int) -> None:
        self.reading, self.mains, self.products = reading, mains, products
        self.parts = self.regressions()

    @abstractmethod
    def regressions(self) -> dict[str, Regression]:
        """By name."""

    def prior(self, constants: int = 1, noise: float = 1.0) -> Shrinkage:
        """Of the slopes of one of them."""
        return Shrinkage(constants, self.mains, self.products, int(self.reading.seen), noise)

    @abstractmethod
    def pieces(self, design: Tensor, x: Tensor) -> Iterator[Piece]:
        """What each regression sees, one after the other."""

    @abstractmethod
    def draw(self, theta: Theta, design: Tensor, streams: Streams, donors: Donors | None = None) -> Tensor:
        """``(R, N)`` cells in model coordinates; donors are rows that give what a regression leaves over."""

    def start(self, chains: int) -> Theta:
        """Parameters to begin with."""
        return joined({name: part.start(chains) for name, part in self.parts.items()})

    def redraw(
        self, theta: Theta, design: Tensor, x: Tensor, weights: Tensor | None, streams: Streams, first: bool
    ) -> Theta:
        """Parameters given rows whose cells ``x (N,)`` are known."""
        found = {}
        for name, rows, z, y in self.pieces(design, x):
            own = weights if weights is None or rows is None else weights[rows]
            found[name] = self.parts[name].redraw(part(theta, name), z, y, own, streams, first)
        return joined(found)

    def log_density(self, theta: Theta, design: Tensor, x: Tensor) -> Tensor:
        """``(R, N)``: of known cells, on the scale of the regressions."""
        total = torch.zeros(design.shape[:2])
        for name, rows, z, y in self.pieces(design, x):
            found = self.parts[name].log_density(part(theta, name), z, y)
            index = torch.arange(total.shape[1]) if rows is None else rows
            total = total.index_add(1, index, found.expand(total.shape[0], -1))
        return total

    def normal(self) -> NormalRegression:
        """Of what the column is drawn as; expectations stay near the known values."""
        low, high = self.reading.response.ends.tolist()
        return NormalRegression(self.prior(), (low - BEYOND, high + BEYOND))

    def number(self, name: str, theta: Theta, design: Tensor, streams: Streams, donors: Donors | None) -> Tensor:
        """``(R, N)`` numbers by one normal regression, in model coordinates."""
        reading, regression, own = self.reading.response, self.parts[name], part(theta, name)
        assert isinstance(regression, NormalRegression)
        if donors is None:
            return reading.value(regression.draw(own, design, streams))
        given = reading.standardised(donors.x)
        return reading.value(regression.draw_from(own, design, streams, donors.design, given, int(reading.manner)))

    def gives(self, x: Tensor) -> Tensor | None:
        """Which cells can be given to others; None where the column is not drawn from donors."""
        return self.reading.response.gives(x) if self.reading.response.manner > 0 else None

    def logistic(self) -> LogisticRegression:
        """Of whether something is so."""
        return LogisticRegression(self.prior(noise=LOGISTIC_NOISE))

    def sites(self, name: str) -> Theta:
        """Its parameters as sample sites of a program."""
        return joined({key: one.sites(f"{name}.{key}") for key, one in self.parts.items()})


class Number(Response):
    """On the whole line."""

    def regressions(self) -> dict[str, Regression]:
        return {"value": self.normal()}

    def pieces(self, design: Tensor, x: Tensor) -> Iterator[Piece]:
        yield "value", None, design, self.reading.response.standardised(x)

    def draw(self, theta: Theta, design: Tensor, streams: Streams, donors: Donors | None = None) -> Tensor:
        return self.number("value", theta, design, streams, donors)


class RoundedNumber(Number):
    """Whole numbers from zero up that vary less, or differently, than counts."""

    reading: Count

    def draw(self, theta: Theta, design: Tensor, streams: Streams, donors: Donors | None = None) -> Tensor:
        return self.reading.whole(super().draw(theta, design, streams, donors))


class CountResponse(Response):
    """Whole numbers from zero up that vary at least as much as Poisson's."""

    reading: Count

    def regressions(self) -> dict[str, Regression]:
        top = float(self.reading.most.clamp_min(1.0).log()) + 1.0
        return {"count": NegativeBinomialRegression(self.prior(), top, float(self.reading.log_shape))}

    def pieces(self, design: Tensor, x: Tensor) -> Iterator[Piece]:
        yield "count", None, design, x

    def gives(self, x: Tensor) -> Tensor | None:
        return None

    def draw(self, theta: Theta, design: Tensor, streams: Streams, donors: Donors | None = None) -> Tensor:
        return self.reading.whole(self.parts["count"].draw(part(theta, "count"), design, streams))


class Levels(Response):
    """Levels without order, and pairs of levels."""

    @property
    def steps(self) -> list[str]:
        """One for each level but the last."""
        return [f"step{k}" for k in range(self.reading.column.cardinality - 1)]

    def regressions(self) -> dict[str, Regression]:
        return {name: self.logistic() for name in self.steps}

    def pieces(self, design: Tensor, x: Tensor) -> Iterator[Piece]:
        for k, name in enumerate(self.steps):
            rows = torch.nonzero(x >= k)[:, 0]
            yield name, rows, rows_of(design, rows), (x[rows] > k).to(design)

    def draw(self, theta: Theta, design: Tensor, streams: Streams, donors: Donors | None = None) -> Tensor:
        drawn = torch.zeros(design.shape[:2])
        going = torch.ones_like(drawn)
        for name in self.steps:
            going = going * self.parts[name].draw(part(theta, name), design, streams)
            drawn = drawn + going
        return drawn


class OrderedLevels(Response):
    """Ordered levels: one regression of going on from a level to the next, over all levels that a row passed.

    Counts have as many levels as there are whole numbers between the least and the largest known one.
    """

    @property
    def first(self) -> float:
        """What the lowest level is written as."""
        return float(self.reading.least) if isinstance(self.reading, Count) else 0.0

    @property
    def count(self) -> int:
        """How many steps lead from the lowest to the highest level."""
        if isinstance(self.reading, Count):
            return int(self.reading.most - self.reading.least)
        return self.reading.column.cardinality - 1

    def regressions(self) -> dict[str, Regression]:
        return {"steps": LogisticRegression(self.prior(self.count, LOGISTIC_NOISE))}

    def pieces(self, design: Tensor, x: Tensor) -> Iterator[Piece]:
        rows, level = torch.nonzero(x[:, None] - self.first >= torch.arange(self.count), as_tuple=True)
        goes_on = (x[rows] - self.first > level).to(design)
        yield "steps", rows, self.with_steps(rows_of(design, rows), level), goes_on

    def with_steps(self, design: Tensor, level: Tensor) -> Tensor:
        """The design with a constant for every step in place of its own."""
        steps = one_hot(level, self.count).to(design).mT.expand(len(design), -1, -1)
        return torch.cat([steps, design.mT[:, 1:]], 1).mT

    def draw(self, theta: Theta, design: Tensor, streams: Streams, donors: Donors | None = None) -> Tensor:
        own, drawn = part(theta, "steps"), torch.zeros(design.shape[:2])
        going = torch.ones_like(drawn)
        for k in range(self.count):
            level = torch.full((design.shape[1],), k)
            going = going * self.parts["steps"].draw(own, self.with_steps(design, level), streams)
            drawn = drawn + going
        return drawn + self.first


class AmountResponse(Response):
    """Zero, or positive."""

    def regressions(self) -> dict[str, Regression]:
        return {"some": self.logistic(), "amount": self.normal()}

    def pieces(self, design: Tensor, x: Tensor) -> Iterator[Piece]:
        rows = torch.nonzero(x > 0)[:, 0]
        yield "some", None, design, (x > 0).to(design)
        yield "amount", rows, rows_of(design, rows), self.reading.standardised(x[rows])

    def draw(self, theta: Theta, design: Tensor, streams: Streams, donors: Donors | None = None) -> Tensor:
        some = self.parts["some"].draw(part(theta, "some"), design, streams)
        return some * self.number("amount", theta, design, streams, donors)


class FractionResponse(Response):
    """From 0 to 1; where there are cells at 0 or at 1, whether one is there comes first."""

    reading: Fraction

    def regressions(self) -> dict[str, Regression]:
        ends = {name: self.logistic() for name, reached in zip(("none", "all"), self.reading.reached) if reached}
        return {**ends, "between": self.normal()}

    def pieces(self, design: Tensor, x: Tensor) -> Iterator[Piece]:
        if "none" in self.parts:
            yield "none", None, design, (x <= 0).to(design)
        if "all" in self.parts:
            some = torch.nonzero(x > 0)[:, 0]
            yield "all", some, rows_of(design, some), (x[some] >= 1).to(design)
        rows = torch.nonzero((x > 0) & (x < 1))[:, 0]
        yield "between", rows, rows_of(design, rows), self.reading.response.standardised(x[rows])

    def draw(self, theta: Theta, design: Tensor, streams: Streams, donors: Donors | None = None) -> Tensor:
        drawn = self.number("between", theta, design, streams, donors)
        for name, value in (("all", 1.0), ("none", 0.0)):
            if name in self.parts:
                there = self.parts[name].draw(part(theta, name), design, streams)
                drawn = torch.where(there > 0, value, drawn)
        return drawn


def rows_of(design: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a design whose columns lie one after the other in memory; the first ones are not copied."""
    if len(rows) and int(rows[-1]) == len(rows) - 1:
        return design[:, : len(rows)]
    return design.mT.gather(-1, rows.expand(*design.mT.shape[:-1], -1)).mT


FORMS: tuple[type[Response], ...] = (
    CountResponse,
    RoundedNumber,
    OrderedLevels,
)  # of counts, as Count.form numbers them
RESPONSES: dict[str, type[Response]] = {
    "binary": Levels,
    "categorical": Levels,
    "ordinal": OrderedLevels,
    "semicontinuous": AmountResponse,
    "bounded": FractionResponse,
}


def response_of(reading: Reading, mains: int, products: int) -> Response:
    """The response that a column's kind, or what was learnt of a count, calls for."""
    kind = FORMS[int(reading.form)] if isinstance(reading, Count) else RESPONSES.get(reading.column.kind, Number)
    return kind(reading, mains, products)
