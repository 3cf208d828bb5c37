"""Networks that read a row as the set of its known cells: what is unknown does not enter at all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from probgen.nn.mlp import mlp
from probgen.nn.residual import ResidualBlock

__all__ = ["Attention", "CellEmbedding", "KnownCells"]

HEADS = 4
ALONE = 32  # width of a cell's vector where no layer is told
SMALL = 0.3  # of an output's first weights, for what is normalised is several times as large as what a perceptron ends with


class CellEmbedding(nn.Module):
    """A vector for every cell: one of its column plus, times its numbers, some more.

    Args:
        columns: the column that each of the F numbers belongs to.
        width: W.
    """

    def __init__(self, columns: Sequence[int], width: int) -> None:
        super().__init__()
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.columns: Tensor
        self.one = list(columns) == list(range(len(columns)))  # number a column
        self.column = nn.Parameter(torch.randn(max(columns) + 1, width) / 2)
        self.value = nn.Parameter(torch.randn(len(columns), width) / 2)

    def forward(self, numbers: Tensor) -> Tensor:
        """``(B, F)`` to ``(B, D, W)``."""
        own = numbers[..., None] * self.value
        if self.one:
            return self.column + own
        return self.column.expand(len(numbers), -1, -1).index_add(1, self.columns, own)


class KnownCells(nn.Module):
    """A sum over known cells of a network of each, then a network of the sum (Zaheer et al., 2017; Ma et al., 2019).

    Args:
        columns: the column that each of the F numbers belongs to.
        widths: of the layers, and of the output.
    """

    def __init__(self, columns: Sequence[int], *widths: int) -> None:
        super().__init__()
        hidden = widths[:-1] or (ALONE,)
        width = hidden[0]
        self.embedding = CellEmbedding(columns, width)
        self.each = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.scale = len(self.embedding.column) ** -0.5
        self.all = mlp(*hidden, widths[-1])

    def forward(self, numbers: Tensor, known: Tensor) -> Tensor:
        """``(B, F)`` numbers and a mask ``(B, D)`` to ``(B, outputs)``."""
        cells = self.each(self.embedding(numbers))
        return self.all(self.scale * torch.where(known[..., None], cells, 0.0).sum(-2))


class Attention(nn.Module):
    """A transformer over known cells, read off at a token of its own (Vaswani et al., 2017; Devlin et al., 2019).

    Args:
        columns: the column that each of the F numbers belongs to.
        widths: of the layers, at least one, and of the output; tokens have the first.
    """

    def __init__(self, columns: Sequence[int], *widths: int) -> None:
        super().__init__()
        hidden = widths[:-1] or (ALONE,)
        width = hidden[0]
        self.embedding = CellEmbedding(columns, width)
        self.summary = nn.Parameter(torch.randn(width) / 2)
        self.layers = nn.ModuleList(AttentionLayer(width) for _ in hidden)
        head = nn.Linear(width, widths[-1])
        head.weight.data *= SMALL
        self.last = nn.Sequential(nn.LayerNorm(width), head)

    def forward(self, numbers: Tensor, known: Tensor) -> Tensor:
        """``(B, F)`` numbers and a mask ``(B, D)`` to ``(B, outputs)``."""
        cells = torch.where(known[..., None], self.embedding(numbers), 0.0)
        tokens = torch.cat([self.summary.expand(len(cells), 1, -1), cells], 1)
        seen = torch.cat([torch.ones_like(known[:, :1]), known], 1)
        for layer in self.layers:
            tokens = layer(tokens, seen)
        return self.last(tokens[:, 0])


class AttentionLayer(nn.Module):
    """Every token looks at those that are seen, then each by itself passes a residual block.

    Args:
        width: of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = HEADS if width % HEADS == 0 else 1
        self.norm = nn.LayerNorm(width)
        self.read = nn.Linear(width, 3 * width)
        self.write = nn.Linear(width, width)
        self.each = ResidualBlock(width)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """``(B, T, W)`` tokens and a mask ``(B, T)`` to the same shape."""
        parts = self.read(self.norm(tokens)).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
        query, key, value = parts.unbind(0)
        looked = scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None])
        return self.each(tokens + self.write(looked.transpose(-2, -3).flatten(-2)))
