r"""A Gaussian whose mean adds one contribution a code, for any number of codes.

.. math:: x \mid z \sim \mathcal N\Big(\mu + \sum_m w^{(m)}_{z^{(m)}}, \Sigma\Big), \qquad w^{(m)}_0 = 0

It is a regression on the codes' indicators, so that nothing has a row for every joint value: what a row of data says
of the codes is a quadratic function of their indicators, whatever the holes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from probgen.families.base import Factor, Latent, Observable, Symbol, Table, event_shape
from probgen.families.gaussian_regression import FullRegression, PotentialFactor

__all__ = ["AdditiveRegression", "IndicatorFactor"]


@dataclass(frozen=True)
class IndicatorFactor(PotentialFactor):
    """The log density ``value + linear' u - u' square u / 2`` of rows, u the indicators of several codes side by side.

    Every code of K values has K - 1 indicators; those of its first value are all zero.

    Attributes:
        symbols: the codes.
        value: ``(N,)``.
        linear: ``(N, U)``.
        square: ``(N, U, U)``, or one for all rows, ``(1, U, U)``.
    """

    @property
    def places(self) -> list[slice]:
        """Where the indicators of each code are."""
        edges = torch.tensor([0, *(symbol.size - 1 for symbol in self.symbols)]).cumsum(0).tolist()
        return [slice(*edge) for edge in pairwise(edges)]


class AdditiveRegression(FullRegression):
    """Contributions of all codes, and a covariance that all their values share.

    Args:
        columns: D.
        table: the number of joint values, which costs nothing.
        prior: "default" or None (maximum likelihood).
        shape: number of values of each code.
    """

    def __init__(self, columns: int, table: int, prior: str | None, shape: tuple[int, ...]) -> None:
        super().__init__(columns, 1, prior, sum(size - 1 for size in shape))
        assert table == math.prod(shape)
        self.shape = shape

    def at(self, table: Table, *index: Any) -> Observable:
        """The columns given a symbol for every code, or given the number ``(N,)`` of a joint value."""
        if all(isinstance(symbol, Symbol) for symbol in index):
            return Added(table, index)
        return super().at(table, self.indicators(*torch.unravel_index(index[0].long(), self.shape)))

    def indicators(self, *codes: Tensor) -> Tensor:
        """``(..., U)``."""
        hot = [torch.nn.functional.one_hot(c, size)[..., 1:] for c, size in zip(codes, self.shape, strict=True)]
        return torch.cat(hot, -1).to(self.center)


class Added(Observable):
    """Columns whose codes have no values yet: rows speak of all of them together."""

    def __init__(self, table: Table, symbols: tuple[Any, ...]) -> None:
        self.table, self.symbols, self.family = table, symbols, table.family
        super().__init__(torch.Size(), event_shape(table.family), validate_args=False)

    def factor(self, value: Any) -> Factor:
        assert isinstance(self.table.family, AdditiveRegression)
        constant, linear, square = self.table.family.potential(self.table.natural, value)
        rows = constant[0].expand(len(value))
        return IndicatorFactor(self.symbols, rows, Latent("indicators"), linear[0], square[0])
