r"""A row cell by cell given what was read of it: the chain rule inside of one distribution, by a network that reads and one that says.

.. math:: p(x \mid c) = \prod_{d=1}^D p\bigl(x_d \mid x_1, \dots, x_{d-1}, c\bigr)

A cell is a token: the vector of its level, or a linear map of its number; the columns of one text, and the pixels of one colour of a picture, are read
and said by the same weights, which their places tell apart. Behind the end of a text there are ends and nothing else, at no cost. What is unknown behind the last
known cell of a row integrates to one.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from probgen.data.batches import read_column
from probgen.data.schema import Column, Schema
from probgen.errors import CapabilityError
from probgen.families.base import Observable
from probgen.families.cell_heads import CellHeads, LevelHead
from probgen.families.pixel_chain import drawn_at
from probgen.nn.translation import Decoder, Heard

__all__ = ["RowCells", "RowChain"]

NUMBERS = 2**25  # in the memories of the rows that are walked through together
Pair = tuple[Tensor, Tensor]


class RowCells(nn.Module):
    """The columns that are said, as tokens, and the network that says them.

    Args:
        schema: the columns, D of them.
        net: of D places.
        components: members of the mixtures that cells without levels have.
    """

    def __init__(self, schema: Schema, net: Decoder, components: int = 5) -> None:
        super().__init__()
        self.schema, self.net, self.heads = schema, net, CellHeads(schema, components)
        self.width = net.position.shape[1]
        self.first = nn.Parameter(torch.randn(self.width) * self.width**-0.5)
        self.alike = alike(schema)
        self.of = {column: kind for kind, columns in enumerate(self.alike) for column in columns}
        heads = [self.heads.of[columns[0]] for columns in self.alike]
        self.readers = nn.ModuleList(self.reader(columns[0]) for columns in self.alike)
        self.weights = nn.ParameterList(
            torch.empty(0)
            if isinstance(head, LevelHead)
            else torch.randn(head.each, self.width) * 0.1 * self.width**-0.5
            for head in heads
        )
        self.biases = nn.ParameterList(head.start() for head in heads)
        self.ends = ends_behind(schema)
        self.masked = any(schema.index(text.names[-1]) + 1 < len(schema) for text in schema.tokens)

    def reader(self, at: int) -> nn.Module:
        """What makes vectors of a column's cells."""
        column = self.schema.columns[at]
        if not column.is_discrete:
            return nn.Linear(read_column(torch.zeros(1), column).shape[-1], self.width)
        made = nn.Embedding(len(column.levels), self.width)
        nn.init.normal_(made.weight, std=0.5 * self.width**-0.5)
        return made

    @property
    def together(self) -> int:
        """Rows that are walked through at once."""
        return max(1, NUMBERS // (len(self.schema) * self.width * 2 * len(self.net.layers)))

    # -- reading and saying ------------------------------------------------------------------------------------
    def alive(self, x: Tensor) -> Tensor:
        """``(..., D)``: the cells that no end stands before."""
        made = torch.ones_like(x, dtype=torch.bool)
        for at, end in self.ends.items():
            made[..., at] = x[..., at - 1] != end
        return made

    def going_on(self, x: Tensor) -> Tensor:
        """``(..., D)``: the cells that are no end, because a known one behind them in their text is none."""
        made = torch.zeros_like(x, dtype=torch.bool)
        for at, end in reversed(self.ends.items()):
            made[..., at - 1] = made[..., at] | ~x[..., at].isnan() & (x[..., at] != end)
        return made

    def read(self, x: Tensor, columns: list[int]) -> Tensor:
        """``(B, n, W)`` vectors of the cells ``(B, n)`` of some columns; -1 stands for what is before the first."""
        made = self.first.expand(*x.shape, -1).clone() if -1 in columns else self.first.new_empty(*x.shape, self.width)
        for kind in {self.of[at] for at in columns if at >= 0}:
            places = [place for place, at in enumerate(columns) if at >= 0 and self.of[at] == kind]
            made[:, places] = self.vectors(x[:, places], kind)
        return made

    def vectors(self, x: Tensor, kind: int) -> Tensor:
        """``(..., W)`` of cells of columns that are read alike."""
        at, look = self.alike[kind][0], self.readers[kind]
        filled = torch.where(x.isnan(), self.heads.filler[at].to(x), x)
        if isinstance(look, nn.Embedding):
            return look(filled.long())
        return look(read_column(filled, self.schema.columns[at]).to(self.first))

    def say(self, heard: Tensor, at: int) -> Tensor:
        """``(..., P)`` of one column's cell, by what the network knows."""
        kind = self.of[at]
        look = self.readers[kind]
        weight = look.weight if isinstance(look, nn.Embedding) else self.weights[kind]
        return functional.linear(heard, cast("Tensor", weight), self.biases[kind])

    @staticmethod
    def without_end(said: Tensor, on: Tensor) -> Tensor:
        """``(..., L)`` what is said of tokens, with no chance for the last of them, the end, where a text goes on."""
        return torch.cat([said[..., :-1], said[..., -1:].masked_fill(on[..., None], -torch.inf)], -1)

    def log_probs(self, x: Tensor, heard: Heard | None, on: Tensor | None = None) -> Tensor:
        """``(B, D)`` log densities of cells given those before them, what was read, and which texts go on; whatever of unknown ones."""
        alive = self.alive(x)
        kept = torch.nonzero(alive.any(0))[:, 0].tolist()
        said = self.knows(x, kept, alive, heard)
        found = torch.zeros_like(x)
        for kind in {self.of[at] for at in kept}:
            places = [place for place, at in enumerate(kept) if self.of[at] == kind]
            columns = [kept[place] for place in places]
            some = alive[:, columns]
            cells = torch.where(x.isnan(), self.heads.filler.to(x), x)[:, columns][some]
            told = self.say(said[:, places][some], columns[0])
            if on is not None and bool(on[:, columns].any()):
                told = self.without_end(told, on[:, columns][some])
            values = self.heads.of[columns[0]].log_prob(told, cells)
            found[:, columns] = found[:, columns].masked_scatter(some, values.to(found))
        return torch.where(alive | x.isnan() | self.is_end(x), found, -torch.inf)

    def knows(self, x: Tensor, kept: list[int], alive: Tensor, heard: Heard | None) -> Tensor:
        """``(B, n, W)``: what the network knows before some columns' cells."""
        before = [at - 1 for at in kept]
        tokens = self.read(x[:, before], before)
        seen = alive[:, kept] if self.masked else None
        offered, there = self.net.offered(heard), None if heard is None else heard[1]
        return self.net(tokens, torch.tensor(kept, device=x.device), offered, there, seen=seen)[0]

    def is_end(self, x: Tensor) -> Tensor:
        """``(..., D)``: the cells that are the end of their text."""
        made = torch.zeros_like(x, dtype=torch.bool)
        for at, end in self.ends.items():
            made[..., at] = x[..., at] == end
        return made


def alike(schema: Schema) -> list[list[int]]:
    """Columns that are read and said by the same weights."""
    texts = [[schema.index(name) for name in text.names] for text in schema.tokens]
    colours = []
    for image in schema.images:
        first, channels = schema.index(image.names[0]), image.shape[2]
        colours += [list(range(first + c, first + image.pixels, channels)) for c in range(channels)]
    colours = [some for some in colours if len({looks(schema.columns[at]) for at in some}) == 1]
    taken = {at for some in (*texts, *colours) for at in some}
    return [*texts, *colours, *([at] for at in range(len(schema)) if at not in taken)]


def looks(column: Column) -> tuple:
    """What columns that are said by the same weights have in common."""
    return column.kind, column.levels, column.bounds


def ends_behind(schema: Schema) -> dict[int, float]:
    """The places, in order, of cells that stand behind others of their text, and the code of its end."""
    ends = {schema.index(name): len(schema[name].levels) - 1.0 for text in schema.tokens for name in text.names[1:]}
    return dict(sorted(ends.items()))


class RowChain(Observable):
    """Rows ``(D,)``.

    Args:
        cells: what says them.
        heard: what was read of each, or None.
        temperature: of draws.
        on: ``(B, D)`` cells of which it is known that their text goes on behind them, or None.
    """

    def __init__(
        self,
        cells: RowCells,
        heard: Heard | None = None,
        temperature: float = 1.0,
        batch_shape: torch.Size | None = None,
        on: Tensor | None = None,
    ) -> None:
        self.cells, self.heard, self.temperature, self.on = cells, heard, temperature, on
        own = torch.Size() if heard is None else heard[1].shape[:1]
        super().__init__(
            own if batch_shape is None else batch_shape, torch.Size([len(cells.schema)]), validate_args=False
        )

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> RowChain:
        return RowChain(self.cells, self.heard, self.temperature, torch.Size(batch_shape), self.on)

    def guessing(self, x: Tensor) -> RowChain:
        """The same, knowing of rows ``(B, D)`` which texts go on: no guess before a known token is an end, which it could not follow."""
        return RowChain(self.cells, self.heard, self.temperature, self.batch_shape, self.cells.going_on(x))

    def told(self, rows: int) -> Heard | None:
        """What was read, for so many rows: those of the batch, again and again."""
        if self.heard is None or len(self.heard[0]) == rows:
            return self.heard
        times = rows // len(self.heard[0])
        return self.heard[0].repeat(times, 1, 1), self.heard[1].repeat(times, 1)

    # -- density -----------------------------------------------------------------------------------------------
    def log_prob(self, value: Tensor) -> Tensor:
        return torch.where(value.isnan(), 0.0, self.each(value)).sum(-1)

    def each(self, value: Tensor) -> Tensor:
        """``(..., D)`` log densities of cells given those before them; whatever of unknown ones."""
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        x = value.expand(*shape, -1).reshape(-1, value.shape[-1])
        on = None if self.on is None else self.on.expand(*shape, -1).reshape(x.shape)
        return self.cells.log_probs(x, self.told(len(x)), on).view(*shape, -1)

    # -- draws -------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells drawn, each given the cells before it."""
        rows = x.reshape(-1, x.shape[-1]).clone()
        heard = self.told(len(rows))
        for some in torch.arange(len(rows), device=x.device).split(self.cells.together):
            own = None if heard is None else (heard[0][some], heard[1][some])
            rows[some] = Walk(self.cells, own, self.temperature).filled(rows[some])
        return torch.where(x.isnan(), rows.view(x.shape), x)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        shape = (*sample_shape, *self.batch_shape)
        blank = self.cells.first.new_full((max(1, torch.Size(shape).numel()), *self.event_shape), torch.nan)
        return self.fill(blank).reshape(*shape, -1)

    @torch.no_grad()
    def most_probable(self, x: Tensor, beams: int) -> Pair:
        """``(B, D)`` rows with the unknown cells such that the row is as probable as can be found, by so many beams each, and scores ``(B,)``.

        The score of a row is the log density of its cells from the first on that is unknown in any row; minus infinity where none is possible.

        Raises:
            CapabilityError: a column without levels is unknown.
        """
        free = [
            column.name
            for at, column in enumerate(self.cells.schema)
            if not column.is_discrete and bool(x[:, at].isnan().any())
        ]
        if free:
            raise CapabilityError(
                f"Column {free[0]!r} is unknown and has no levels, among which the most probable could be looked for; use fill or marginals."
            )
        each, heard = max(1, self.cells.together // beams), self.told(len(x))
        found = []
        for some in torch.arange(len(x), device=x.device).split(each):
            own = None if heard is None else (heard[0][some], heard[1][some])
            found.append(Walk(self.cells, own).best(x[some], beams))
        return torch.cat([rows for rows, _ in found]), torch.cat([score for _, score in found])


class Walk:
    """A network that is told cells one after another and keeps what it has found.

    Args:
        cells: what says the cells of a row.
        heard: what was read of every row.
        temperature: of draws.
    """

    def __init__(self, cells: RowCells, heard: Heard | None, temperature: float = 1.0) -> None:
        self.cells, self.temperature = cells, temperature
        self.offered, self.there = cells.net.offered(heard), None if heard is None else heard[1]
        self.memory: Any = None
        self.read: list[int] = []  # columns whose state is known

    def state(self, x: Tensor, at: int) -> Tensor:
        """``(B, W)``: what is known before one column's cells, all before it being there; what stands between is read at once."""
        new = list(range(self.read[-1] + 1 if self.read else 0, at + 1))
        before = [column - 1 for column in new]
        tokens, self.read = self.cells.read(x[:, before], before), [*self.read, *new]
        seen = self.cells.alive(x)[:, self.read] if self.cells.masked else None
        places = torch.tensor(new, device=x.device)
        said, self.memory = self.cells.net(tokens, places, self.offered, self.there, seen=seen, memory=self.memory)
        return said[:, -1]

    def over(self, x: Tensor, at: int) -> Tensor:
        """``(B,)``: the rows whose text has ended before a column."""
        end = self.cells.ends.get(at)
        return torch.zeros_like(x[:, 0], dtype=torch.bool) if end is None else x[:, at - 1] == end

    def drawn(self, said: Tensor, at: int, over: Tensor) -> Tensor:
        """``(B,)`` cells of one column by what is said of them; whatever of rows that are over."""
        return drawn_at(self.temperature, self.cells.heads.of[at], self.cells.schema.columns[at], said)

    def filled(self, x: Tensor) -> Tensor:
        """Rows with the unknown cells drawn."""
        x, on = x.clone(), self.cells.going_on(x)
        for at in torch.nonzero(x.isnan().any(0))[:, 0].tolist():
            over, unknown = self.over(x, at), x[:, at].isnan()
            cell = torch.full_like(x[:, at], self.cells.ends.get(at, 0.0))
            if not bool((over | ~unknown).all()):
                said = self.cells.say(self.state(x, at), at)
                if bool(on[:, at].any()):
                    said = self.cells.without_end(said, on[:, at])
                drawn = self.drawn(said, at, over)
                cell = torch.where(over, cell, drawn.to(x))
            x[:, at] = torch.where(unknown, cell, x[:, at])
        return x

    def best(self, x: Tensor, beams: int) -> Pair:
        """Rows with the unknown cells as the best of so many beams has them, and scores ``(B,)``."""
        rows, D = x.shape
        blank = torch.nonzero(x.isnan().any(0))[:, 0].tolist()
        if not blank:
            return x, x.new_zeros(rows)
        self.offered = None if self.offered is None else repeated(self.offered, beams)
        self.there = None if self.there is None else self.there.repeat_interleave(beams, 0)
        x, score = x.repeat_interleave(beams, 0), x.new_full((rows, beams), -torch.inf)
        on = self.cells.going_on(x)  # alike in all beams of a row
        score[:, 0] = 0.0
        for at in range(blank[0], D):
            options = self.options(x, at, on[:, at])  # (rows * beams, L), of which one is left where the cell is known
            total = (score[..., None] + options.view(rows, beams, -1)).flatten(1)
            score, chosen = total.topk(beams, 1)
            levels = options.shape[1]
            parent = (chosen // levels + beams * torch.arange(rows, device=x.device)[:, None]).flatten()
            x = x[parent]
            x[:, at] = torch.where(x[:, at].isnan(), (chosen % levels).flatten().to(x), x[:, at])
            self.memory = None if self.memory is None else [(key[parent], value[parent]) for key, value in self.memory]
        return x.view(rows, beams, D)[:, 0], score[:, 0]

    def options(self, x: Tensor, at: int, on: Tensor) -> Tensor:
        """``(B, L)`` log probabilities of what a cell can be: the end behind an end, none where a text goes on, itself where it is known."""
        over, head = self.over(x, at), self.cells.heads.of[at]
        if not isinstance(head, LevelHead):  # and so known in every row
            return head.log_prob(self.cells.say(self.state(x, at), at), x[:, at])[:, None]
        if bool(over.all()):
            found = x.new_zeros(len(x), head.each)
        else:
            found = self.cells.say(self.state(x, at), at).log_softmax(-1)
            found = self.cells.without_end(found, on)
        end = self.only(torch.full_like(x[:, at], self.cells.ends.get(at, 0.0)), head.each)
        known = torch.where(x[:, at].isnan()[:, None], 0.0, self.only(x[:, at].nan_to_num(), head.each))
        return torch.where(over[:, None], end, found) + known

    @staticmethod
    def only(codes: Tensor, levels: int) -> Tensor:
        """``(B, L)``: nought for one level of each row, and no chance for others."""
        return (
            torch.zeros(len(codes), levels)
            .to(codes)
            .masked_fill(torch.arange(levels, device=codes.device) != codes[:, None], -torch.inf)
        )


def repeated(pairs: list[Pair], times: int) -> list[Pair]:
    """Every row so many times, one after the other."""
    return [(key.repeat_interleave(times, 0), value.repeat_interleave(times, 0)) for key, value in pairs]
