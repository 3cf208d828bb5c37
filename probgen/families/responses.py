r"""Columns as responses of regressions on all other columns.

Numbers are normal on the scale of their :class:`~probgen.families.readings.Reading`, counts negative binomial. Levels are
reached step by step, each a logistic regression (continuation ratios; Fienberg, 1980):

.. math:: p(x > k \mid x \ge k) = \mathrm{logit}^{-1}(z^\top \beta_k)

with slopes of their own where levels have no order, and with common slopes and steps of their own where they have one.
Amounts that may be zero are a logistic regression of whether there is any, and a normal one of its logarithm.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from probgen.families.readings import Count, Reading
from probgen.families.shrinkage import Shrinkage, Theta
from probgen.families.shrunken_regression import (
    LogisticRegression,
    NegativeBinomialRegression,
    NormalRegression,
    Regression,
)
from probgen.families.streams import Streams

__all__ = ["Response", "response_of"]

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
    def pieces(self, design: Tensor, x: Tensor) -> dict[str, tuple[Tensor | None, Tensor, Tensor]]:
        """What each regression sees: rows (None for all), design, response."""

    @abstractmethod
    def draw(self, theta: Theta, design: Tensor, streams: Streams) -> Tensor:
        """``(R, N)`` cells in model coordinates."""

    def start(self, chains: int) -> Theta:
        """Parameters to begin with."""
        return joined({name: part.start(chains) for name, part in self.parts.items()})

    def redraw(
        self, theta: Theta, design: Tensor, x: Tensor, weights: Tensor | None, streams: Streams, first: bool
    ) -> Theta:
        """Parameters given rows whose cells ``x (N,)`` are known."""
        found = {}
        for name, (rows, z, y) in self.pieces(design, x).items():
            own = weights if weights is None or rows is None else weights[rows]
            found[name] = self.parts[name].redraw(part(theta, name), z, y, own, streams, first)
        return joined(found)

    def log_density(self, theta: Theta, design: Tensor, x: Tensor) -> Tensor:
        """``(R, N)``: of known cells, on the scale of the regressions."""
        total = torch.zeros(design.shape[:2])
        for name, (rows, z, y) in self.pieces(design, x).items():
            found = self.parts[name].log_density(part(theta, name), z, y)
            index = torch.arange(total.shape[1]) if rows is None else rows
            total = total.index_add(1, index, found.expand(total.shape[0], -1))
        return total

    def sites(self, name: str) -> Theta:
        """Its parameters as sample sites of a program."""
        return joined({key: one.sites(f"{name}.{key}") for key, one in self.parts.items()})


def joined(parts: Mapping[str, Theta]) -> Theta:
    """Parameters of all parts, each key with the part's name in front."""
    return {f"{name}.{key}": value for name, theta in parts.items() for key, value in theta.items()}


def part(theta: Theta, name: str) -> Theta:
    """Parameters of one part."""
    return {key.removeprefix(f"{name}."): value for key, value in theta.items() if key.startswith(f"{name}.")}


class Number(Response):
    """On the whole line."""

    def regressions(self) -> dict[str, Regression]:
        return {"value": NormalRegression(self.prior())}

    def pieces(self, design: Tensor, x: Tensor) -> dict[str, tuple[Tensor | None, Tensor, Tensor]]:
        return {"value": (None, design, self.reading.standardised(x))}

    def draw(self, theta: Theta, design: Tensor, streams: Streams) -> Tensor:
        return self.reading.value(self.parts["value"].draw(part(theta, "value"), design, streams))


class CountResponse(Response):
    """Whole numbers from zero up."""

    def regressions(self) -> dict[str, Regression]:
        assert isinstance(self.reading, Count)
        return {
            "count": NegativeBinomialRegression(
                self.prior(), *self.reading.middle_and_top, float(self.reading.log_shape)
            )
        }

    def pieces(self, design: Tensor, x: Tensor) -> dict[str, tuple[Tensor | None, Tensor, Tensor]]:
        return {"count": (None, design, x)}

    def draw(self, theta: Theta, design: Tensor, streams: Streams) -> Tensor:
        return self.parts["count"].draw(part(theta, "count"), design, streams)


class Levels(Response):
    """Levels without order, and pairs of levels."""

    @property
    def steps(self) -> list[str]:
        """One for each level but the last."""
        return [f"step{k}" for k in range(self.reading.column.cardinality - 1)]

    def regressions(self) -> dict[str, Regression]:
        return {name: LogisticRegression(self.prior(noise=LOGISTIC_NOISE)) for name in self.steps}

    def pieces(self, design: Tensor, x: Tensor) -> dict[str, tuple[Tensor | None, Tensor, Tensor]]:
        found: dict[str, tuple[Tensor | None, Tensor, Tensor]] = {}
        for k, name in enumerate(self.steps):
            rows = torch.nonzero(x >= k)[:, 0]
            found[name] = (rows, design[:, rows], (x[rows] > k).to(design))
        return found

    def draw(self, theta: Theta, design: Tensor, streams: Streams) -> Tensor:
        drawn = torch.zeros(design.shape[:2])
        going = torch.ones_like(drawn)
        for name in self.steps:
            going = going * self.parts[name].draw(part(theta, name), design, streams)
            drawn = drawn + going
        return drawn


class OrderedLevels(Response):
    """Ordered levels: one regression of going on from a level to the next, over all levels that a row passed."""

    def regressions(self) -> dict[str, Regression]:
        return {"steps": LogisticRegression(self.prior(self.reading.column.cardinality - 1, LOGISTIC_NOISE))}

    def pieces(self, design: Tensor, x: Tensor) -> dict[str, tuple[Tensor | None, Tensor, Tensor]]:
        steps = torch.arange(self.reading.column.cardinality - 1)
        rows, level = torch.nonzero(x[:, None] >= steps, as_tuple=True)
        return {"steps": (rows, self.with_steps(design[:, rows], level), (x[rows] > level).to(design))}

    def with_steps(self, design: Tensor, level: Tensor) -> Tensor:
        """The design with a constant for every step in place of its own."""
        steps = one_hot(level, self.reading.column.cardinality - 1).to(design).expand(len(design), -1, -1)
        return torch.cat([steps, design[..., 1:]], -1)

    def draw(self, theta: Theta, design: Tensor, streams: Streams) -> Tensor:
        own, drawn = part(theta, "steps"), torch.zeros(design.shape[:2])
        going = torch.ones_like(drawn)
        for k in range(self.reading.column.cardinality - 1):
            level = torch.full((design.shape[1],), k)
            going = going * self.parts["steps"].draw(own, self.with_steps(design, level), streams)
            drawn = drawn + going
        return drawn


class AmountResponse(Response):
    """Zero, or positive."""

    def regressions(self) -> dict[str, Regression]:
        return {"some": LogisticRegression(self.prior(noise=LOGISTIC_NOISE)), "amount": NormalRegression(self.prior())}

    def pieces(self, design: Tensor, x: Tensor) -> dict[str, tuple[Tensor | None, Tensor, Tensor]]:
        rows = torch.nonzero(x > 0)[:, 0]
        amount = self.reading.standardised(x[rows])
        return {"some": (None, design, (x > 0).to(design)), "amount": (rows, design[:, rows], amount)}

    def draw(self, theta: Theta, design: Tensor, streams: Streams) -> Tensor:
        some = self.parts["some"].draw(part(theta, "some"), design, streams)
        amount = self.parts["amount"].draw(part(theta, "amount"), design, streams)
        return some * self.reading.value(amount)


RESPONSES: dict[str, type[Response]] = {
    "count": CountResponse,
    "binary": Levels,
    "categorical": Levels,
    "ordinal": OrderedLevels,
    "semicontinuous": AmountResponse,
}


def response_of(reading: Reading, mains: int, products: int) -> Response:
    """The response that a column's kind calls for."""
    return RESPONSES.get(reading.column.kind, Number)(reading, mains, products)
