r"""Pictures pixel by pixel, row by row: the chain rule with every conditional by one convolutional network.

.. math:: p(x \mid y) = \prod_{d=1}^D p(x_d \mid x_1, \dots, x_{d-1}, y)

What is unknown behind the last known cell of a row integrates to one. What is unknown before it is guessed, cell by cell, given the cells before it:

.. math:: p(x_O) = \mathbb E_{x_U \sim q} \prod_{d \in O} p(x_d \mid x_1, \dots, x_{d-1}), \qquad
    q(x_U \mid x_O) = \prod_{d \in U} p(x_d \mid x_1, \dots, x_{d-1})

so that weights of guesses are what they make of the known cells that follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from probgen.data.batches import feature_columns
from probgen.data.schema import Column, Schema
from probgen.errors import CapabilityError
from probgen.families.base import Observable
from probgen.families.cell_chain import CellChain, Cells
from probgen.families.cell_heads import CellHeads, drawn_code
from probgen.families.level_mixture import LevelMixture, among
from probgen.nn import PixelNetwork

__all__ = [
    "Copied",
    "Guessed",
    "GuessedLevels",
    "PixelChain",
    "checked_temperature",
    "drawn_at",
    "pixel_cells",
    "reach_of",
    "waiting",
]

NUMBERS = 2**25  # of all rows that are walked through together


def pixel_cells(schema: Schema, hidden: tuple[int, ...], kernel: int, levels: int, components: int) -> Cells:
    """The columns of one picture; or any columns, as a picture of one row.

    Args:
        schema: the columns.
        hidden: widths of the layers.
        kernel: rows, and pixels of a row, that a layer looks at.
        levels: of a label that all cells are told; 0 for none.
        components: of mixtures.
    """
    heads, owners = CellHeads(schema, components), feature_columns(schema)
    if schema.images:
        height, width, colours = schema.images[0].shape
        size, reach = (height, width * colours), (kernel if height > 1 else 0, kernel * colours)
        shared = len(heads.blocks) == 1
    else:
        size, reach, shared = (1, len(schema)), (0, len(schema)), False
    net = PixelNetwork(
        owners, heads.blocks, *hidden, shape=size, above=reach[0], left=reach[1], levels=levels, shared=shared
    )
    net.begin(heads.start())
    return Cells(schema, heads, net)


def reach_of(cells: Cells) -> list[str]:
    """A line of how far pixels see."""
    rows, pixels = cast("PixelNetwork", cells.net).sees
    return [f"reach      {rows} rows above, {pixels} cells to either side"] if cells.schema.images else []


def waiting(x: Tensor) -> bool:
    """Whether unknown cells stand before known ones in any row."""
    known = ~x.isnan()
    return bool((known[:, 1:] & ~known[:, :-1].cummin(-1).values).any())


class PixelChain(CellChain):
    """Rows ``(D,)``.

    Args:
        cells: the columns, and what says them.
        level: of a label, for every row or one for all; None where there is none.
        temperature: of draws.
    """

    def __init__(
        self,
        cells: Cells,
        level: Tensor | None = None,
        temperature: float = 1.0,
        batch_shape: torch.Size | None = None,
    ) -> None:
        self.level, self.temperature = level, temperature
        shape = (torch.Size() if level is None else level.shape) if batch_shape is None else batch_shape
        order = torch.arange(len(cells.schema), device=cells.heads.filler.device)[None]
        super().__init__(cells, order, shape)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> PixelChain:
        return PixelChain(self.cells, self.level, self.temperature, torch.Size(batch_shape))

    def levels_of(self, shape: torch.Size) -> Tensor | None:
        """``(B,)`` for all rows of some shape."""
        return None if self.level is None else self.level.long().expand(shape).flatten()

    # -- density -----------------------------------------------------------------------------------------------
    def log_prob(self, value: Tensor) -> Tensor:
        return torch.where(value.isnan(), 0.0, self.each(value)).sum(-1)

    def each(self, value: Tensor) -> Tensor:
        """``(..., D)`` log densities of cells given those before them; whatever of unknown ones."""
        shape = value.shape[:-1] if self.level is None else torch.broadcast_shapes(value.shape[:-1], self.level.shape)
        x, level = value.expand(*shape, -1).flatten(0, -2), self.levels_of(shape)
        if torch.is_grad_enabled():
            return self.scored(self.cells, x, level).view(*shape, -1)
        cells = self.cells.double()
        found = [
            self.scored(cells, x[some].double(), None if level is None else level[some])
            for some in torch.arange(len(x), device=x.device).split(cells.rows)
        ]
        return torch.cat(found).view(*shape, -1)

    def scored(self, cells: Cells, x: Tensor, level: Tensor | None = None) -> Tensor:
        """``(B, D)`` of some rows."""
        state = cells.net(cells.read(x), ~x.isnan(), level)
        return cells.heads.log_prob(cells.net.said(state), torch.where(x.isnan(), cells.heads.filler.to(x), x))

    # -- draws -------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells drawn, each given the cells before it."""
        cells, filled, level = self.cells.double(), x.double().clone(), self.levels_of(x.shape[:-1])
        net = cast("PixelNetwork", cells.net)
        rows = filled.view(-1, x.shape[-1])
        for some in torch.arange(len(rows), device=x.device).split(max(1, NUMBERS // net.walked)):
            rows[some] = self.walked(cells, rows[some], None if level is None else level[some])
        return torch.where(x.isnan(), filled.to(x), x)

    def walked(self, cells: Cells, x: Tensor, level: Tensor | None) -> Tensor:
        """Some rows with their unknown cells drawn."""
        numbers, shown, net = cells.read(x).clone(), ~x.isnan(), cast("PixelNetwork", cells.net)
        blank = torch.nonzero(~shown.all(0))[:, 0].tolist()
        walk = net.walk(len(x), level)
        for column in range(max(blank, default=-1) + 1):
            said = walk.said(column)
            if column in blank:
                drawn = torch.where(shown[:, column], x[:, column], self.drawn(cells, said, column).to(x))
                x[:, column], shown[:, column] = drawn, True
                cells.read_one(numbers, drawn, column)
            walk.read(column, numbers, shown)
        return x

    def drawn(self, cells: Cells, said: Tensor, column: int) -> Tensor:
        """``(B,)`` cells of one column by what is said of them; probabilities to the power of one over the temperature."""
        return drawn_at(self.temperature, cells.heads.of[column], cells.schema[column], said)


def values_of(column: Column) -> Sequence[float]:
    """All that a cell can be; empty where they are not a few."""
    if column.is_discrete:
        return range(len(column.levels))
    if column.kind == "count" and column.bounds is not None and column.bounds[1] < float("inf"):
        return range(int(column.bounds[0]), int(column.bounds[1]) + 1)
    return ()


def drawn_at(temperature: float, head: Any, column: Column, said: Tensor) -> Tensor:
    """``(B,)`` cells of one column by what is said of them; probabilities to the power of one over the temperature."""
    if temperature == 1.0:
        return head.sample(said)
    values = torch.tensor(values_of(column), device=said.device).to(said)
    every = head.log_prob(said[:, None].expand(-1, len(values), -1), values.expand(len(said), -1))
    return values[drawn_code(every / temperature)]


def checked_temperature(temperature: float, schema: Schema) -> float:
    """A number above zero; other than one only where every cell has a few values."""
    if not 0 < temperature < float("inf"):
        raise CapabilityError(f"temperature must be a number above 0, got {temperature!r}.")
    free = [column.name for column in schema if not values_of(column)]
    if temperature != 1.0 and free:
        raise CapabilityError(
            f"temperature is for cells with levels and bounded counts, and column {free[0]!r} is neither; leave it at 1, or give the"
            " column bounds (schema.with_kind(name, 'count', bounds=(0, 255)))."
        )
    return float(temperature)


class Guessed(TorchDistribution):
    """Complete rows whose unknown cells are guessed, each given the cells before it.

    No gradient runs through the density: weighted with it, a chain learns from its guesses as from what they stand for (Fisher's identity).

    Args:
        chain: that guesses, at temperature one: it fills rows, and says log densities of ``each`` of their cells.
        x: ``(B, D)`` rows, NaN = unknown.
    """

    arg_constraints: dict = {}
    support = constraints.dependent  # levels, numbers or both: nothing that chains of real numbers could move along

    def __init__(self, chain: Any, x: Tensor, batch_shape: torch.Size | None = None) -> None:
        self.chain, self.x = chain, x
        own = torch.broadcast_shapes(chain.batch_shape, x.shape[:-1])
        super().__init__(own if batch_shape is None else batch_shape, x.shape[-1:], validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Guessed:
        return Guessed(self.chain, self.x, torch.Size(batch_shape))

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.chain.fill(self.x.expand(*sample_shape, *self.batch_shape, -1))

    rsample = sample

    @torch.no_grad()
    def log_prob(self, value: Tensor) -> Tensor:
        return torch.where(self.x.isnan(), self.chain.each(value), 0.0).sum(-1)


class GuessedLevels(LevelMixture):
    """The same, a level guessed first."""

    support: Any = constraints.dependent


def guesses(cells: Cells, x: Tensor, level: Tensor | None = None, logits: Tensor | None = None) -> TorchDistribution:
    """What is unknown of pictures, of those without a label by a mixture over its levels.

    Args:
        cells: the columns, and what says them.
        x: ``(B, D)``.
        level: ``(B,)``, NaN = unknown; None where there is no label.
        logits: of levels.
    """
    if level is None or logits is None:
        return Guessed(PixelChain(cells), x)
    shares = among(logits.detach().log_softmax(-1).expand(len(x), -1), level)
    return GuessedLevels(lambda level: Guessed(PixelChain(cells, level), x), shares)


class Copied(Observable):
    """The cells of rows that are complete already.

    Args:
        u: ``(..., D)``.
    """

    def __init__(self, u: Tensor) -> None:
        self.u = u
        super().__init__(u.shape[:-1], u.shape[-1:], validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Nought: known cells are those of the complete rows."""
        return self.u.new_zeros(self.batch_shape)

    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells from the complete rows."""
        return torch.where(x.isnan(), self.u.to(x), x)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.u

    @property
    def mean(self) -> Tensor:
        return self.u
