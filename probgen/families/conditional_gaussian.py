r"""Linear-Gaussian variables whose parents may be discrete and continuous (Lauritzen and Wermuth, 1989).

.. math:: x \mid u, j \sim \mathcal N(b_j + w_j^\top u, \sigma_j^2)

with one regression for every configuration j of the discrete parents. Positive and bounded columns stand on the scale of
:class:`~probgen.families.columns.Link` (logarithm, log odds), as children and as parents. As a function of
:math:`v = (x, u, 1)` the log density is the quadratic form :math:`v^\top A_j v`: what is unknown of v is integrated out
together with what other variables say of it, and the gradient with respect to the natural parameters is
:math:`\mathbb E[v v^\top]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probgen.families.base import Cells, Factor, Observable, Parameters, Symbol, Table
from probgen.families.columns import Link
from probgen.families.conditional_table import row_number
from probgen.families.gaussian_regression import DiagonalRegression

__all__ = ["ConditionalGaussian", "QuadraticFactor"]


@dataclass(frozen=True)
class QuadraticFactor(Factor):
    """A log density ``value + v' square v`` with v = (cells..., 1).

    Attributes:
        value: ``(N,)``, the log Jacobian of the known cells of the child.
        cells: the child, then its continuous parents.
        square: ``(*symbols, P, P)``, symmetric.
    """

    cells: tuple[Cells, ...]
    square: Tensor


class ConditionalGaussian(DiagonalRegression):
    """One column given discrete parents (a row of the table each configuration) and continuous ones (regressors).

    Args:
        parents: the discrete parents' numbers of levels.
        link: coordinates of the column; None for its own.
        links: of the continuous parents.
        prior: "default" or None (maximum likelihood).
    """

    def __init__(
        self,
        parents: tuple[int, ...] = (),
        link: Link | None = None,
        links: tuple[Link | None, ...] = (),
        prior: str | None = "default",
    ) -> None:
        super().__init__(1, math.prod(parents), prior, len(links))
        self.parents, self.link, self.links = tuple(parents), link, tuple(links)

    def read(self, x: Tensor) -> Tensor:
        """A column in its family's coordinates."""
        return through(self.link, x)

    def write(self, y: Tensor) -> Tensor:
        """Back to the table's coordinates."""
        return y if self.link is None else self.link.write(y[:, None])[:, 0]

    # -- use in a program --------------------------------------------------------------------------------------
    def at(self, table: Table, *index: Any) -> Observable:
        """The discrete parents come first, then the continuous ones."""
        codes, regressors = index[: len(self.parents)], index[len(self.parents) :]
        if any(isinstance(value, Cells | Symbol) for value in index) or table.theta is None:
            return Unresolved(self, table, codes, regressors)
        if not index:
            return Root(self, table)
        return self.given_numbers(table.theta, codes, regressors)

    def given_numbers(self, theta: Parameters, codes: tuple, regressors: tuple) -> Resolved:
        """The distribution at codes of the discrete parents and numbers of the continuous ones."""
        row = row_number(codes, self.parents) if codes else torch.zeros((), dtype=torch.long)
        weight, variance = theta["weight"][row, 0], theta["variance"][row, 0]
        loc = weight[..., -1]
        for at, (value, link) in enumerate(zip(regressors, self.links, strict=True)):
            loc = loc + weight[..., at] * through(link, value)
        return Resolved(self, loc, variance.sqrt().expand(loc.shape))

    def forms(self, natural: dict[str, Tensor]) -> Tensor:
        """``(K, P, P)``: the symmetric matrices of the quadratic forms."""
        half, square = 0.5 * natural["cross"], natural["square"][..., None]  # (K, 1, U + 1), (K, 1, 1)
        inputs = natural["inputs"][:, 0]
        corner = natural["log_normaliser"][..., None]  # (K, 1, 1), on the constant's own place
        width = inputs.shape[-1]
        inputs = inputs + torch.nn.functional.pad(corner, (width - 1, 0, width - 1, 0))
        return torch.cat([torch.cat([square, half], 2), torch.cat([half.mT, inputs], 2)], 1)


class Unresolved(Observable):
    """The column given parents that may be unknown."""

    continuous = True

    def __init__(self, family: ConditionalGaussian, table: Table, codes: tuple, regressors: tuple) -> None:
        self.family, self.table, self.codes, self.regressors = family, table, codes, regressors
        super().__init__(torch.Size(), torch.Size(), validate_args=False)

    def cells(self, name: str, x: Tensor) -> Cells:
        """The column as something that factors and other columns refer to."""
        return Cells(name, self.family.read(x), x, self.family.write)

    def factor(self, value: Any) -> Factor:
        forms = self.family.forms(self.table.natural)
        square = forms.reshape(*self.family.parents, *forms.shape[1:])
        return QuadraticFactor(
            self.codes, log_jacobian(self.family.link, value.raw), (value, *self.regressors), square
        )


class Resolved(Observable):
    """The column given numbers: normal in the coordinates of its family."""

    continuous = True

    def __init__(self, family: ConditionalGaussian, loc: Tensor, scale: Tensor) -> None:
        self.family, self.loc, self.scale = family, loc, scale
        super().__init__(loc.shape, torch.Size(), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Resolved:
        return Resolved(self.family, self.loc.expand(batch_shape), self.scale.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        y = self.family.read(value)
        found = -0.5 * ((y - self.loc) / self.scale).square() - self.scale.log() - 0.5 * math.log(2 * math.pi)
        return torch.where(value.isnan(), 0.0, found.nan_to_num() + log_jacobian(self.family.link, value))

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.family.write(self.loc + self.scale * torch.randn_like(self.loc))

    def fill(self, x: Tensor) -> Tensor:
        """X with its unknown cells drawn."""
        return torch.where(x.isnan(), self.sample().to(x), x)

    @property
    def mean(self) -> Tensor:
        return self.family.write(self.loc)


class Root(Unresolved):
    """A column without parents: the same distribution in all rows."""

    def __init__(self, family: ConditionalGaussian, table: Table, batch_shape: torch.Size = torch.Size()) -> None:  # noqa: B008
        super().__init__(family, table, (), ())
        self._batch_shape = torch.Size(batch_shape)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Root:
        return Root(self.family, self.table, batch_shape)

    @property
    def numbers(self) -> Resolved:
        assert self.table.theta is not None
        return self.family.given_numbers(self.table.theta, (), ()).expand(self.batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.numbers.log_prob(value)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.numbers.sample()

    def fill(self, x: Tensor) -> Tensor:
        """X with its unknown cells drawn."""
        return self.numbers.fill(x)

    @property
    def mean(self) -> Tensor:
        return self.numbers.mean


def through(link: Link | None, x: Tensor) -> Tensor:
    """A column of numbers on the scale of its link."""
    return x if link is None else link.read(x[:, None])[0][:, 0]


def log_jacobian(link: Link | None, x: Tensor) -> Tensor:
    """``(N,)``: of the known cells, zero elsewhere."""
    return torch.zeros_like(x) if link is None else link.read(x[:, None])[1]
