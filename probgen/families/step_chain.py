r"""Sequences cell by cell: the chain rule inside of one distribution, whose conditionals are said by a network that reads.

.. math::
    p(x_1, \dots, x_T) = \prod_{t=1}^T \prod_{d=1}^D p\bigl(x_{td} \mid x_{t1}, \dots, x_{t,d-1},\, x_{<t}\bigr)

where of long sequences :math:`x_{<t}` are the steps before in the window that says step t (see :mod:`~probgen.families.step_windows`), so that the density
is exact and sums to one for any length. A cell is a token: the vector of its level, or a linear map of its number. What is said of a
cell is read off from what the network knows after the cell before it; levels are said by the vectors by which they are read (Press and Wolf, 2017).

Unknown cells behind the last known one of a sequence integrate to one. Those before it are drawn from the chain itself, given all that stands before
them: importance draws whose weights are the densities of the known cells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from probgen.data.batches import read_column
from probgen.data.holes import known
from probgen.data.schema import Schema
from probgen.data.sequences import Steps
from probgen.families.base import Observable
from probgen.families.cell_heads import CellHeads, LevelHead
from probgen.families.step_windows import Windowing, Windows
from probgen.nn.causal import CausalNetwork

__all__ = ["StepCells", "StepChain", "StepHoles", "inner_holes"]

NUMBERS = 2**22  # in the vectors of the tokens that are read together, while nothing is learnt
Change = Callable[[Tensor], Tensor]  # of logits, before a level is drawn


class StepCells(nn.Module):
    """The cells of sequences as tokens, the network that reads them, and what it says of the next.

    Args:
        schema: the columns of a step, D.
        net: that reads.
        components: members of the mixtures that cells without levels have.
        tied: levels are said by the vectors by which they are read.
    """

    def __init__(self, schema: Schema, net: CausalNetwork, components: int = 5, tied: bool = True) -> None:
        super().__init__()
        self.schema, self.net, self.heads = schema, net, CellHeads(schema, components)
        self.readers = nn.ModuleList(reader(column, net.width) for column in schema)
        self.first = nn.Parameter(torch.randn(net.width) * net.width**-0.5)
        of = [self.heads.of[at] for at in range(len(schema))]
        self.tied = [tied and isinstance(head, LevelHead) for head in of]
        self.weights = nn.ParameterList(
            torch.empty(0) if same else torch.randn(head.each, net.width) * 0.1 * net.width**-0.5
            for head, same in zip(of, self.tied, strict=True)
        )
        self.biases = nn.ParameterList(head.start() for head in of)

    def forward(self, x: Tensor, before: Tensor) -> list[Tensor]:
        """What is said of every column's cells ``(B, L, D)``, each ``(B, L, P)``; ``before`` ``(B, D)`` is the row before the first."""
        read = [self.read(x[..., at], at) for at in range(len(self.readers))]
        tokens = read[0] if len(read) == 1 else torch.stack(read, -2).flatten(1, 2)
        heard = self.net(torch.cat([self.read_first(before)[:, None], tokens[:, :-1]], 1))[0]
        heard = heard.unflatten(1, (-1, len(read)))
        return [self.say(heard[..., at, :], at) for at in range(len(read))]

    def read(self, x: Tensor, at: int) -> Tensor:
        """Vectors ``(..., W)`` of one column's cells ``(...)``; of unknown ones any."""
        filled = torch.where(x.isnan(), self.heads.filler[at].to(x), x)
        look = self.readers[at]
        if isinstance(look, nn.Embedding):
            return look(filled.long())
        return look(read_column(filled, self.schema[at]).to(self.first))

    def read_cells(self, cells: Tensor, first: int, end: int) -> Tensor:
        """``(B, end - first, W)`` vectors of some of ``(B, L D)`` cells, step by step."""
        width = len(self.readers)
        if width == 1 or first == end:
            return self.read(cells[:, first:end], 0)
        return torch.stack([self.read(cells[:, at], at % width) for at in range(first, end)], 1)

    def read_first(self, before: Tensor) -> Tensor:
        """``(B, W)``: the token before the first: the last cell of the row before, where it is known."""
        last = before[..., -1]
        return torch.where(last.isnan()[..., None], self.first, self.read(last, len(self.readers) - 1))

    def say(self, heard: Tensor, at: int) -> Tensor:
        """``(..., P)`` of one column's cell, by what the network knows."""
        weight = cast("Tensor", self.readers[at].weight) if self.tied[at] else self.weights[at]
        return functional.linear(heard, weight, self.biases[at])

    def log_probs(self, x: Tensor, before: Tensor) -> Tensor:
        """``(B, L, D)`` log densities of cells given those before them; whatever of unknown ones."""
        filled = torch.where(x.isnan(), self.heads.filler.to(x), x)
        found = [self.heads.of[at].log_prob(said, filled[..., at]) for at, said in enumerate(self(filled, before))]
        return torch.stack(found, -1)

    def draw(self, heard: Tensor, at: int, change: Change | None) -> tuple[Tensor, Tensor]:
        """``(B,)`` cells of one column, and their log densities."""
        said = self.say(heard, at) if change is None else change(self.say(heard, at))
        drawn = self.heads.of[at].sample(said)
        return drawn, self.heads.of[at].log_prob(said, drawn)


def reader(column: Any, width: int) -> nn.Module:
    """What makes vectors of one column's cells."""
    if not column.is_discrete:
        return nn.Linear(read_column(torch.zeros(1), column).shape[-1], width)
    made = nn.Embedding(len(column.levels), width)
    nn.init.normal_(made.weight, std=0.5 * width**-0.5)
    return made


class StepChain(Observable):
    """Rows ``(D,)``, the steps of some sequences, each given those before it.

    Args:
        cells: what says them.
        steps: the sequences.
        windowing: how long ones are cut.
        filled: ``(..., N, D)``, the rows with what is unknown before known cells drawn; None where nothing is.
    """

    def __init__(self, cells: StepCells, steps: Steps, windowing: Windowing, filled: Tensor | None = None) -> None:
        self.cells, self.steps, self.windowing, self.filled = cells, steps, windowing, filled
        self.last: list[Any] = []  # rows, and what was found of them
        super().__init__(torch.Size(), torch.Size([len(cells.schema)]), validate_args=False)

    def given(self, filled: Tensor | None) -> StepChain:
        """The same chain, where some unknown cells have been drawn."""
        if filled is None:
            return self
        made = StepChain(self.cells, self.steps, self.windowing, filled)
        made.last = self.last
        return made

    def log_prob(self, value: Tensor) -> Tensor:
        """``(..., N)``: of the known cells of each row, given the cells before them."""
        found, seen = self.terms(value if self.filled is None else self.filled), known(value)
        return (found if seen is None else torch.where(seen, found, 0.0)).sum(-1)

    def terms(self, x: Tensor) -> Tensor:
        """``(..., N, D)`` log densities of all cells given those before them, kept for the rows asked about last."""
        mark = x._version, torch.is_grad_enabled()
        if not (self.last and self.last[0] is x and self.last[1] == mark):
            self.last[:] = x, mark, self.scored(x.reshape(-1, *x.shape[-2:])).reshape(x.shape)
        return self.last[2]

    def scored(self, x: Tensor) -> Tensor:
        """``(S, N, D)``: of S completions, in double precision where nothing is learnt from it."""
        windows, learning = self.windowing(self.steps), torch.is_grad_enabled()
        if learning and windows.rows.numel() == x.shape[-2]:  # each row once, in order
            cells, before = x.unflatten(1, windows.rows.shape).flatten(0, 1), windows.before(x, self.steps)
            return self.cells.log_probs(cells, before.flatten(0, 1)).view(x.shape)
        found, rows = [], []
        for some in windows.split(len(windows) if learning else self.together(windows, len(x))):
            cells, before = x[:, some.rows].flatten(0, 1), some.before(x, self.steps).flatten(0, 1)
            said = self.cells.log_probs(cells, before).unflatten(0, (len(x), -1))[:, some.said]
            found.append(said if learning else said.double())
            rows.append(some.rows[some.said])
        return found[0].new_empty(x.shape).index_copy(1, torch.cat(rows), torch.cat(found, 1))

    def together(self, windows: Windows, completions: int) -> int:
        """How many windows are read at once."""
        return max(1, NUMBERS // (completions * windows.rows.shape[1] * len(self.cells.schema) * self.cells.net.width))

    # -- draws -------------------------------------------------------------------------------------------------
    def fill(self, x: Tensor, change: Change | None = None) -> Tensor:
        """Rows ``(N, D)`` with the unknown cells drawn, those before known ones being given."""
        begun = x if self.filled is None else torch.where(x.isnan(), self.filled.to(x), x)
        return self.walked(begun[None], begun.isnan(), change)[0][0]

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        shape = (*sample_shape, self.steps.rows, *self.event_shape)
        blank = self.cells.first.new_full(shape, torch.nan).reshape(-1, *shape[-2:])
        return self.walked(blank, blank[0].isnan(), None)[0].reshape(shape)

    @torch.no_grad()
    def walked(self, x: Tensor, wanted: Tensor, change: Change | None = None) -> tuple[Tensor, Tensor]:
        """Completions ``(S, N, D)`` with the wanted cells ``(N, D)`` drawn, each given all before it, and the log density of the draws, ``(S, N)``."""
        windows, x, total = self.windowing(self.steps), x.clone(), x.new_zeros(x.shape[:-1])
        asked = (wanted.any(-1)[windows.rows] & windows.said).any(-1)
        for number in windows.number[asked].unique().tolist():
            now = windows.take(asked & (windows.number == number))
            for some in now.split(self.together(now, len(x))):
                rows, said = some.rows[some.said], some.said
                before = some.before(x, self.steps)
                drawn, density = self.window_walked(
                    x[:, some.rows], before, wanted[some.rows] & said[..., None], change
                )
                x[:, rows], total[:, rows] = drawn[:, said], density[:, said]
        return x, total

    def window_walked(self, x: Tensor, before: Tensor, wanted: Tensor, change: Change | None) -> tuple[Tensor, Tensor]:
        """Windows ``(S, W, L, D)`` with the wanted cells ``(W, L, D)`` drawn; what stands between two of them is read at once."""
        cells, width = x.flatten(0, 1).flatten(1), x.shape[-1]  # (S W, L D)
        asked, found = wanted.flatten(1).repeat(len(x), 1), torch.zeros_like(cells)
        memory, read, tokens = None, 0, [self.cells.read_first(before.flatten(0, 1))[:, None]]
        for place in torch.nonzero(asked.any(0))[:, 0].tolist():
            tokens.append(self.cells.read_cells(cells, read, place))
            heard, memory = self.cells.net(torch.cat(tokens, 1), memory)
            drawn, density = self.cells.draw(heard[:, -1], place % width, change)
            cells[:, place] = torch.where(asked[:, place], drawn.to(cells), cells[:, place])
            found[:, place] = torch.where(asked[:, place], density.to(cells), 0.0)
            read, tokens = place, []
        return cells.view(x.shape), found.view(x.shape).sum(-1)


class StepHoles(Observable):
    """Rows with the cells drawn that are unknown before known ones of their sequence, each given all before it.

    Args:
        chain: the sequences.
        x: ``(N, D)`` their rows.
        holes: ``(N, D)`` which cells.
        still: the draws' density has no gradient.
    """

    def __init__(
        self,
        chain: StepChain,
        x: Tensor,
        holes: Tensor,
        still: bool = False,
        batch_shape: torch.Size = torch.Size(),  # noqa: B008
    ) -> None:
        self.chain, self.x, self.holes, self.still = chain, x, holes, still
        self.drawn: tuple[Tensor, Tensor] | None = None  # the last draws, and their log density
        super().__init__(batch_shape, chain.event_shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> StepHoles:
        return StepHoles(self.chain, self.x, self.holes, self.still, torch.Size(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        if self.still and self.drawn is not None and self.drawn[0] is value:
            return self.drawn[1]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.still):
            return torch.where(self.holes, self.chain.terms(value), 0.0).sum(-1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        shape = (*sample_shape, *self.batch_shape[:-1], *self.x.shape)
        value, density = self.chain.walked(self.x.expand(shape).reshape(-1, *self.x.shape), self.holes)
        self.drawn = value.reshape(shape), density.reshape(shape[:-1])
        return self.drawn[0]


def inner_holes(x: Tensor, steps: Steps) -> Tensor | None:
    """``(N, D)``: the unknown cells before some known one of their sequence; None where there are none."""
    seen = known(x)
    if seen is None:
        return None
    count = seen.flatten().cumsum(0).view(seen.shape)
    last = count[steps.starts + steps.lengths - 1, -1][steps.sequence]
    found = ~seen & (count < last[:, None])
    return found if bool(found.any()) else None
