"""Networks that read tokens from the first to the last, and say of each what they know once they have read it.

Both give, besides what they say, the memory from which they can go on: token by token as all tokens at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CausalNetwork", "CausalTransformer", "RecurrentReader"]

SPREAD = 0.02  # of a transformer's first weights
PERIOD = 10_000.0  # of the slowest pair of rotary positions


class CausalNetwork(nn.Module, ABC):
    """From tokens ``(B, L, W)`` to what is known after each, ``(B, L, W)``.

    Args:
        width: W.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @abstractmethod
    def forward(self, tokens: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
        """What is known after every token, and the memory from which to go on; None is that of nothing read."""


class RecurrentReader(CausalNetwork):
    """A gated recurrent network (Cho et al., 2014), or one of long short-term memory (Hochreiter and Schmidhuber, 1997).

    Args:
        width: of tokens and states.
        layers: of cells.
        cell: "gru" or "lstm".
        dropout: between layers and behind the last.

    Example:
        >>> net, tokens = RecurrentReader(8), torch.randn(2, 5, 8)
        >>> said, memory = net(tokens)
        >>> first, kept = net(tokens[:, :3])
        >>> torch.allclose(torch.cat([first, net(tokens[:, 3:], kept)[0]], 1), said, atol=1e-6)
        True
    """

    def __init__(self, width: int, layers: int = 1, cell: str = "gru", dropout: float = 0.0) -> None:
        super().__init__(width)
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.cell = kind(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.after = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
        said, memory = self.cell(tokens, memory)
        return self.after(said), memory


class CausalTransformer(CausalNetwork):
    """Every token looks at itself and those before it (Vaswani et al., 2017; Radford et al., 2019).

    Args:
        width: of tokens; a multiple of the heads, with rotary positions of twice the heads.
        layers: of attention, each with a perceptron four times as wide.
        heads: of attention.
        longest: the most tokens.
        positions: "learnt" vectors, or "rotary" (Su et al., 2024), which say how far apart two tokens are.
        dropout: of tokens, attention and what layers add.

    Example:
        >>> net, tokens = CausalTransformer(8, 2, 2, longest=5), torch.randn(2, 5, 8)
        >>> said, memory = net(tokens)
        >>> first, kept = net(tokens[:, :3])
        >>> torch.allclose(torch.cat([first, net(tokens[:, 3:], kept)[0]], 1), said, atol=1e-6)
        True
    """

    def __init__(
        self, width: int, layers: int, heads: int, longest: int, positions: str = "learnt", dropout: float = 0.0
    ) -> None:
        super().__init__(width)
        rotary = positions == "rotary"
        self.position = None if rotary else nn.Parameter(SPREAD * torch.randn(longest, width))
        self.register_buffer("turns", turns(longest, width // heads) if rotary else None, persistent=False)
        self.turns: Tensor | None
        self.layers = nn.ModuleList(CausalLayer(width, heads, dropout, layers) for _ in range(layers))
        self.drop, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)

    def forward(self, tokens: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
        before = 0 if memory is None else memory[0][0].shape[-2]
        now = slice(before, before + tokens.shape[1])
        if self.position is not None:
            tokens = tokens + self.position[now]
        tokens, kept = self.drop(tokens), []
        for at, layer in enumerate(self.layers):
            told = None if self.turns is None else self.turns[now]
            tokens, pair = layer(tokens, None if memory is None else memory[at], told)
            kept.append(pair)
        return self.norm(tokens), kept


class CausalLayer(nn.Module):
    """Attention to the tokens before, then a perceptron for each, both added to what was there."""

    def __init__(self, width: int, heads: int, dropout: float, layers: int) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.wide, self.narrow = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        self.drop = nn.Dropout(dropout)
        for layer in (self.read, self.wide):
            nn.init.normal_(layer.weight, std=SPREAD)
        for layer in (self.write, self.narrow):  # of which as many are added up
            nn.init.normal_(layer.weight, std=SPREAD * (2 * layers) ** -0.5)

    def forward(self, tokens: Tensor, memory: Any, told: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        looked, memory = self.looked(self.before(tokens), memory, told)
        tokens = tokens + self.drop(self.write(looked))
        return tokens + self.drop(self.narrow(functional.gelu(self.wide(self.between(tokens))))), memory

    def looked(
        self, tokens: Tensor, memory: Any, told: Tensor | None, seen: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What tokens ``(B, L, W)`` find in themselves and those before, of which some are seen, and the keys and values of them all."""
        parts = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.read(tokens).chunk(3, -1)]
        query, key, value = parts if told is None else (turned(parts[0], told), turned(parts[1], told), parts[2])
        if memory is not None:
            key, value = torch.cat([memory[0], key], -2), torch.cat([memory[1], value], -2)
        found = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=visible(query.shape[-2], key, memory is not None, seen),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=memory is None and seen is None,
        )
        return found.transpose(1, 2).flatten(-2), (key, value)


def visible(new: int, key: Tensor, later: bool, seen: Tensor | None) -> Tensor | None:
    """``(new, L)``, or ``(B, 1, new, L)`` where some of the L are seen in each row: which of all tokens the last ones may look at; None for all, or all before."""
    every = key.shape[-2]
    before = torch.ones(new, every, dtype=torch.bool, device=key.device).tril(every - new)
    if seen is not None:
        return before & seen[:, None, None]
    return before if later and new > 1 else None


def turns(longest: int, width: int) -> Tensor:
    """``(longest, width / 2, 2)``: cosine and sine of the angle of every position and pair of numbers."""
    slow = PERIOD ** -(torch.arange(0, width, 2) / width)
    angle = torch.arange(longest)[:, None] * slow
    return torch.stack([angle.cos(), angle.sin()], -1)


def turned(vectors: Tensor, told: Tensor) -> Tensor:
    """Vectors ``(..., L, width)`` of which every pair of numbers is turned by its position's angle."""
    first, second = vectors.chunk(2, -1)
    cos, sin = told.to(vectors).unbind(-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
