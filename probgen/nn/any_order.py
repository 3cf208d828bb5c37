"""Networks that say every cell of a row given those cells that they are shown, or those before it in an order.

Cells are read as numbers, some a column. A network's ``forward`` leads to a state, from which ``said`` makes what is said of all columns
side by side, and ``said_of`` what is said of one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from probgen.nn.cells import SMALL, AttentionLayer, CellEmbedding
from probgen.nn.mlp import mlp

__all__ = ["CellNetwork", "CellReadout", "CellTransformer", "OrderedMLP", "ShownMLP"]


class CellNetwork(nn.Module, ABC):
    """What all of them are.

    Args:
        owners: the column of each of the F numbers that are read.
        blocks: groups of columns, and how many numbers are said of each column of a group; groups lie one after another.
    """

    def __init__(self, owners: Sequence[int], blocks: Sequence[tuple[Sequence[int], int]]) -> None:
        super().__init__()
        self.register_buffer("owners", torch.tensor(owners), persistent=False)
        self.owners: Tensor
        self.columns = max(owners) + 1
        self.blocks = [(list(index), each) for index, each in blocks]
        told = [(column, each) for index, each in self.blocks for column in index]
        ends = [0, *accumulate(each for _, each in told)]
        self.outputs = ends[-1]
        #: where what is said of a column stands
        self.places = {column: slice(*edges) for (column, _), edges in zip(told, pairwise(ends), strict=True)}

    @property
    @abstractmethod
    def size(self) -> int:
        """Numbers in the largest layer of one row."""

    @abstractmethod
    def begin(self, said: Tensor) -> None:
        """Say this ``(outputs,)``, more or less, before anything is learnt."""

    @abstractmethod
    def forward(self, numbers: Tensor, shown: Tensor) -> Tensor:
        """``(..., F)`` numbers and ``(..., D)``, which cells are shown, to a state."""

    @abstractmethod
    def said(self, state: Tensor) -> Tensor:
        """``(..., outputs)``, of all columns."""

    @abstractmethod
    def said_of(self, state: Tensor, column: int) -> Tensor:
        """``(..., P)``, of one column."""


class Perceptron(CellNetwork):
    """Whose state is a vector, of which everything is said linearly."""

    last: nn.Linear

    @property
    def size(self) -> int:
        return max(self.last.in_features, self.last.out_features)

    def begin(self, said: Tensor) -> None:
        self.last.bias.data += said

    def said(self, state: Tensor) -> Tensor:
        return self.last(state)

    def said_of(self, state: Tensor, column: int) -> Tensor:
        place = self.places[column]
        return functional.linear(state, self.last.weight[place], self.last.bias[place])


class ShownMLP(Perceptron):
    """Reads the cells that are shown, zeros in place of others, and which they are (Uria, Murray and Larochelle, 2014).

    Args:
        owners, blocks: as for all of them.
        widths: of the layers between, at least one.

    Example:
        >>> net = ShownMLP([0, 1, 2], [([0, 1, 2], 2)], 16)
        >>> state = net(torch.ones(5, 3), torch.tensor([True, False, False]).expand(5, 3))
        >>> net.said(state).shape, net.said_of(state, 1).shape
        (torch.Size([5, 6]), torch.Size([5, 2]))
    """

    def __init__(self, owners: Sequence[int], blocks: Sequence[tuple[Sequence[int], int]], *widths: int) -> None:
        super().__init__(owners, blocks)
        self.body = nn.Sequential(mlp(len(owners) + self.columns, *widths), nn.ReLU())
        self.last = nn.Linear(widths[-1], self.outputs)

    def forward(self, numbers: Tensor, shown: Tensor) -> Tensor:
        return self.body(torch.cat([numbers * shown[..., self.owners], shown.to(numbers)], -1))


class OrderedMLP(Perceptron):
    """Says each column given those before it in one order, all in one pass (MADE; Germain et al., 2015).

    Every unit has a degree, the number of columns that it may look at, and sees units of its own degree or less.

    Args:
        owners, blocks: as for all of them.
        widths: of the layers between, at least one.
        order: the columns, the first first.

    Example:
        >>> net = OrderedMLP([0, 1, 2], [([0, 1, 2], 2)], 16, order=[2, 0, 1])
        >>> net.said(net(torch.zeros(5, 3), torch.ones(5, 3, dtype=torch.bool))).shape
        torch.Size([5, 6])
    """

    def __init__(
        self,
        owners: Sequence[int],
        blocks: Sequence[tuple[Sequence[int], int]],
        *widths: int,
        order: Sequence[int],
    ) -> None:
        super().__init__(owners, blocks)
        rank = torch.empty(self.columns, dtype=torch.long)
        rank[list(order)] = torch.arange(self.columns)
        between = [torch.arange(width) * self.columns // width for width in widths]
        said = torch.cat([rank[column].expand(each) for index, each in self.blocks for column in index])
        degrees = [rank[list(owners)] + 1, *between, said]
        layers = [nn.Linear(len(one), len(other)) for one, other in pairwise(degrees)]
        self.layers: Any = nn.ModuleList(layers[:-1])
        self.last = layers[-1]
        for at, (below, above) in enumerate(pairwise(degrees)):
            self.register_buffer(f"mask{at}", (above[:, None] >= below).float())

    def mask(self, at: int) -> Tensor:
        """``(above, below)``: which units of one layer see which of the layer below."""
        return getattr(self, f"mask{at}")

    def forward(self, numbers: Tensor, shown: Tensor) -> Tensor:
        state = numbers * shown[..., self.owners]
        for at, layer in enumerate(self.layers):
            state = functional.linear(state, layer.weight * self.mask(at), layer.bias).relu()
        return state

    def said(self, state: Tensor) -> Tensor:
        return functional.linear(state, self.last.weight * self.mask(len(self.layers)), self.last.bias)

    def said_of(self, state: Tensor, column: int) -> Tensor:
        place = self.places[column]
        weight = self.last.weight[place] * self.mask(len(self.layers))[place]
        return functional.linear(state, weight, self.last.bias[place])


class CellReadout(CellNetwork):
    """Whose state is a vector a column, of which the column is said linearly, each by weights of its own or all by the same."""

    def read_out(self, width: int, shared: bool = False) -> None:
        """Make the weights, for vectors of some width."""
        self.weights = nn.ParameterList(
            SMALL * width**-0.5 * torch.randn(1 if shared else len(index), width, each) for index, each in self.blocks
        )
        self.biases = nn.ParameterList(torch.zeros(len(index), each) for index, each in self.blocks)

    def begin(self, said: Tensor) -> None:
        for bias, part in zip(self.biases, said.split([bias.numel() for bias in self.biases]), strict=True):
            bias.data += part.view_as(bias)

    def said(self, state: Tensor) -> Tensor:
        parts = [
            state[:, index] @ weight[0] + bias
            if len(weight) == 1
            else torch.einsum("bdw,dwp->bdp", state[:, index], weight) + bias
            for (index, _), weight, bias in zip(self.blocks, self.weights, self.biases, strict=True)
        ]
        return torch.cat([part.flatten(-2) for part in parts], -1)

    def said_of(self, state: Tensor, column: int) -> Tensor:
        return self.said_by(state[:, column], column)

    def said_by(self, vector: Tensor, column: int) -> Tensor:
        """``(..., P)``, of one column by its vector ``(..., W)``."""
        number = next(at for at, (index, _) in enumerate(self.blocks) if column in index)
        row, weight = self.blocks[number][0].index(column), self.weights[number]
        return vector @ weight[min(row, len(weight) - 1)] + self.biases[number][row]


class CellTransformer(CellReadout):
    """One token a cell, its column's vector and its value's or that of the unknown; all look at the cells that are shown.

    What is not shown is looked at by no token, so that what is said of a cell does not depend on which others are asked for.

    Args:
        owners, blocks: as for all of them.
        widths: one a layer, of which the first is that of the tokens.

    Example:
        >>> net = CellTransformer([0, 1, 2], [([0, 1, 2], 2)], 16)
        >>> state = net(torch.ones(5, 3), torch.tensor([True, False, False]).expand(5, 3))
        >>> net.said(state).shape, net.said_of(state, 1).shape
        (torch.Size([5, 6]), torch.Size([5, 2]))
    """

    def __init__(self, owners: Sequence[int], blocks: Sequence[tuple[Sequence[int], int]], *widths: int) -> None:
        super().__init__(owners, blocks)
        width = widths[0]
        self.embedding = CellEmbedding(owners, width)
        self.unknown, self.summary = nn.Parameter(torch.randn(width) / 2), nn.Parameter(torch.randn(width) / 2)
        self.layers = nn.ModuleList(AttentionLayer(width) for _ in widths)
        self.norm = nn.LayerNorm(width)
        self.read_out(width)

    @property
    def size(self) -> int:
        return 4 * (self.columns + 1) * len(self.summary)

    def forward(self, numbers: Tensor, shown: Tensor) -> Tensor:
        told = shown[..., None]
        cells = torch.where(told, self.embedding(numbers), self.embedding.column + self.unknown)
        tokens = torch.cat([self.summary.expand(len(cells), 1, -1), cells], 1)
        seen = torch.cat([torch.ones_like(shown[:, :1]), shown], 1)
        for layer in self.layers:
            tokens = layer(tokens, seen)
        return self.norm(tokens[:, 1:])
