"""Gated convolutions over a picture of which every pixel looks at those before it (van den Oord et al., 2016).

Two stacks: one sees the rows above, in full width, the other those cells of a row that lie to the left, and what the first has found. So each
cell sees all before it, row by row, within reach, and there is no blind spot. Colours of a pixel stand side by side as cells of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from probgen.nn.any_order import CellReadout
from probgen.nn.cells import CellEmbedding

__all__ = ["PixelNetwork", "PixelWalk"]

Told = tuple[Any, Any]  # what a level says to the two stacks


def gate(x: Tensor) -> Tensor:
    """``(B, 2 W, ...)`` to ``(B, W, ...)``."""
    signal, opening = x.chunk(2, 1)
    return signal.tanh() * opening.sigmoid()


class GatedLayer(nn.Module):
    """One layer of both stacks, each of which adds to what it reads; of a single row, where nothing is above, of one.

    Args:
        channels: of the stacks.
        width: of what is gated.
        above: rows that the vertical stack looks at, its own among them; 0 for none.
        left: cells that the horizontal stack looks at, its own among them.
        levels: of a label that both are told; 0 for none.
    """

    def __init__(self, channels: int, width: int, above: int, left: int, levels: int) -> None:
        super().__init__()
        self.left, self.on = nn.Conv2d(channels, 2 * width, (1, left)), nn.Conv2d(width, channels, 1)
        if above:
            self.above = nn.Conv2d(channels, 2 * width, (above, 2 * left - 1), padding=(0, left - 1))
            self.link, self.down = nn.Conv2d(2 * width, 2 * width, 1), nn.Conv2d(width, channels, 1)
        self.level = nn.Embedding(levels, 4 * width) if levels else None

    def told(self, level: Tensor | None) -> Told:
        """By ``(B,)`` levels."""
        return (0.0, 0.0) if self.level is None else self.level(level)[..., None, None].chunk(2, 1)

    def vertical(self, v: Tensor, told: Told) -> tuple[Tensor, Tensor]:
        """Of rows with those above them: what the other stack is told, and what is added."""
        found = self.above(v) + told[0]
        return found, self.down(gate(found))

    def horizontal(self, h: Tensor, found: Tensor | None, told: Told) -> Tensor:
        """Of cells with those to the left of them: what is added."""
        own = self.left(h) + told[1]
        return self.on(gate(own if found is None else own + self.link(found)))


class PixelNetwork(CellReadout):
    """Says every cell given those before it, all in one pass.

    Args:
        owners, blocks: as for all networks of cells.
        widths: one a layer, of what is gated; the first is that of the stacks too.
        shape: ``(H, V)``, rows of the picture and cells of a row.
        above: rows that a layer looks at; 0 for none, where there is a single one.
        left: cells of a row that a layer looks at.
        levels: of a label that all cells are told; 0 for none.
        shared: cells are read and said by the same weights.

    Example:
        >>> net = PixelNetwork(range(6), [(range(6), 2)], 8, 8, shape=(2, 3), above=2, left=3, shared=True)
        >>> net.said(net(torch.ones(5, 6), torch.ones(5, 6, dtype=torch.bool))).shape
        torch.Size([5, 12])
    """

    def __init__(
        self,
        owners: Sequence[int],
        blocks: Sequence[tuple[Sequence[int], int]],
        *widths: int,
        shape: tuple[int, int],
        above: int,
        left: int,
        levels: int = 0,
        shared: bool = False,
    ) -> None:
        super().__init__(owners, blocks)
        self.shape, self.reach = shape, (above, left)
        width, self.each = widths[0], len(owners) // self.columns
        self.embedding = None if shared else CellEmbedding(owners, width)
        inputs = (self.each if shared else width) + 1
        self.left = nn.Conv2d(inputs, width, (1, left))
        if above:
            self.above = nn.Conv2d(inputs, width, (above, 2 * left - 1), padding=(0, left - 1))
            self.link = nn.Conv2d(width, width, 1)
        self.place = nn.Parameter(torch.zeros(width, *shape))
        self.layers: Any = nn.ModuleList(GatedLayer(width, one, above, left, levels) for one in widths)
        self.read_out(width, shared)

    @property
    def size(self) -> int:
        return 2 * self.columns * max(layer.on.in_channels for layer in self.layers)

    @property
    def sees(self) -> tuple[int, int]:
        """How many rows above, and cells to either side, reach a cell through all layers."""
        (above, left), depth = self.reach, len(self.layers)
        return above + depth * max(above - 1, 0), (depth + 1) * (left - 1)

    @property
    def walked(self) -> int:
        """Numbers that a walk keeps of one row, more or less."""
        return len(self.layers) * (sum(self.reach) + 4) * self.place.shape[0] * self.shape[1]

    def read(self, numbers: Tensor, shown: Tensor) -> Tensor:
        """``(B, E, H, V)`` of cells, with a mark of those that are shown."""
        cells = numbers.unflatten(-1, (-1, self.each)) if self.embedding is None else self.embedding(numbers)
        told = shown[..., None].to(cells)
        return torch.cat([cells * told, told], -1).mT.unflatten(-1, self.shape)

    def read_one(self, numbers: Tensor, shown: Tensor, column: int) -> Tensor:
        """``(B, E)`` of one cell."""
        first = column * self.each
        cell = numbers[:, first : first + self.each] if self.embedding is None else self.embedding(numbers)[:, column]
        told = shown[:, column, None].to(cell)
        return torch.cat([cell * told, told], -1)

    def forward(self, numbers: Tensor, shown: Tensor, level: Tensor | None = None) -> Tensor:
        """``(B, F)``, ``(B, D)`` and ``(B,)`` levels to ``(B, D, W)``."""
        (above, left), cells = self.reach, self.read(numbers, shown)
        h, found = self.left(pad(cells, (left, 0))[..., :-1]) + self.place, None
        if above:
            v = self.above(pad(cells, (0, 0, above, 0))[:, :, :-1])
            h = h + self.link(v)
        for layer in self.layers:
            told = layer.told(level)
            if above:
                found, more = layer.vertical(pad(v, (0, 0, above - 1, 0)), told)
                v = v + more
            h = h + layer.horizontal(pad(h, (left - 1, 0)), found, told)
        return h.relu().flatten(2).mT

    def walk(self, rows: int, level: Tensor | None = None) -> PixelWalk:
        """Through pictures cell by cell."""
        return PixelWalk(self, rows, level)


class PixelWalk:
    """A network that is told cells one after another and keeps what it has found: all steps cost as much arithmetic as one pass.

    Args:
        net: the network.
        rows: B.
        level: ``(B,)``, or None.
    """

    def __init__(self, net: PixelNetwork, rows: int, level: Tensor | None = None) -> None:
        (above, left), (height, width) = net.reach, net.shape
        self.net = net
        self.told = [layer.told(level) for layer in net.layers]
        channels = net.place.shape[0]
        blank = net.place.new_zeros
        self.cells = blank(
            rows, net.left.in_channels, height + above, width + left
        )  # with a margin above and to the left
        self.v = [blank(rows, channels, above, width) for _ in net.layers]
        self.found: list[Tensor | None] = []
        self.h = [blank(rows, channels, 1, width + left - 1) for _ in net.layers]

    def said(self, column: int) -> Tensor:
        """``(B, P)`` of the next cell."""
        row, at = divmod(column, self.net.shape[1])
        if at == 0:
            self.begin(row)
        left = self.net.reach[1]
        cells = self.cells[:, :, row + self.net.reach[0], at : at + left]
        h = self.net.left(cells[:, :, None]) + self.start[..., at : at + 1]
        for layer, kept, found, told in zip(self.net.layers, self.h, self.found, self.told, strict=True):
            kept[..., at + left - 1] = h[..., 0]
            above = None if found is None else found[..., at : at + 1]
            h = h + layer.horizontal(kept[..., at : at + left], above, told)
        return self.net.said_by(h.relu()[..., 0, 0], column)

    def begin(self, row: int) -> None:
        """What the rows above say of a row."""
        above, left = self.net.reach
        self.start, self.found = self.net.place[None, :, row : row + 1], [None] * len(self.told)
        if not above:
            return
        v = self.net.above(self.cells[:, :, row : row + above, left:])
        self.start = self.start + self.net.link(v)
        for at, (layer, told) in enumerate(zip(self.net.layers, self.told, strict=True)):
            self.v[at] = torch.cat([self.v[at][:, :, 1:], v], 2)
            self.found[at], more = layer.vertical(self.v[at], told)
            v = v + more

    def read(self, column: int, numbers: Tensor, shown: Tensor) -> None:
        """Be told of a cell, ``(B, F)`` numbers of all and ``(B, D)``, which are shown."""
        row, at = divmod(column, self.net.shape[1])
        above, left = self.net.reach
        self.cells[:, :, row + above, at + left] = self.net.read_one(numbers, shown, column)
