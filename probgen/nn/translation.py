"""Networks that read one thing and say another: an encoder whose tokens all look at each other, a decoder that looks at them and at what it has said.

Both by attention (Vaswani et al., 2017), with the norm before each part of a layer (Xiong et al., 2020).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from probgen.nn.causal import SPREAD, CausalLayer

__all__ = ["Decoder", "Encoder", "Heard"]

Heard = tuple[Tensor, Tensor]  # tokens (B, S, W) that were read, and which of them there are, (B, S)
Memory = list[tuple[Tensor, Tensor]]  # keys and values, one pair a layer


class Look(nn.Module):
    """Tokens look at others, among which they may be, and add what they find.

    Args:
        width: W, of both.
        heads: of attention.
        dropout: of what is found.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.ask, self.offer = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.write, self.drop = nn.Linear(width, width, bias=False), nn.Dropout(dropout)

    def offered(self, others: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values ``(B, heads, S, .)`` of tokens ``(B, S, W)``."""
        key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.offer(others).chunk(2, -1))
        return key, value

    def forward(self, tokens: Tensor, offered: tuple[Tensor, Tensor] | None, seen: Tensor) -> Tensor:
        """Tokens ``(B, L, W)``, what others offer, or None for themselves, and which of those are there, ``(B, S)``."""
        asking = self.norm(tokens)
        key, value = self.offered(asking) if offered is None else offered
        query = self.ask(asking).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        found = scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None])
        return tokens + self.drop(self.write(found.transpose(1, 2).flatten(-2)))


class EncoderLayer(nn.Module):
    """Every token looks at all that are there, then a perceptron for each."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.look, self.norm, self.drop = Look(width, heads, dropout), nn.LayerNorm(width), nn.Dropout(dropout)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        tokens = self.look(tokens, None, seen)
        return tokens + self.drop(self.narrow(gelu(self.wide(self.norm(tokens)))))


class Encoder(nn.Module):
    """Layers in which the tokens of all that is read look at each other.

    Args:
        width: W, of tokens.
        layers, heads: of attention.
        dropout: share of numbers left out while it learns.

    Example:
        >>> net, tokens = Encoder(8, 2, 2), torch.randn(3, 5, 8)
        >>> there = torch.tensor([[True] * 4 + [False]] * 3)
        >>> torch.allclose(net((tokens, there))[0][:, :4], net((tokens[:, :4], there[:, :4]))[0], atol=1e-6)
        True
    """

    def __init__(self, width: int, layers: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, dropout) for _ in range(layers))
        self.drop, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)

    def forward(self, heard: Heard) -> Heard:
        tokens, seen = heard
        tokens = self.drop(tokens)
        for layer in self.layers:
            tokens = layer(tokens, seen)
        return self.norm(tokens), seen


class DecoderLayer(CausalLayer):
    """Every token looks at those before it, then at what was read, if anything was; then a perceptron for each."""

    def __init__(self, width: int, heads: int, dropout: float, layers: int, reads: bool) -> None:
        super().__init__(width, heads, dropout, layers)
        self.look = Look(width, heads, dropout) if reads else None

    def said(
        self, tokens: Tensor, memory: Any, seen: Tensor | None, offered: Any, there: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Tokens ``(B, L, W)`` with what they found, and the keys and values of all so far."""
        looked, memory = self.looked(self.before(tokens), memory, None, seen)
        tokens = tokens + self.drop(self.write(looked))
        if self.look is not None:
            tokens = self.look(tokens, offered, there)
        return tokens + self.drop(self.narrow(gelu(self.wide(self.between(tokens))))), memory


class Decoder(nn.Module):
    """Layers that say what comes next, given what was said and what was read.

    Args:
        width, layers, heads, dropout: as of the encoder.
        longest: the most tokens.
        reads: whether there is anything to be read.

    Example:
        >>> net, tokens, heard = (
        ...     Decoder(8, 2, 2, 5),
        ...     torch.randn(3, 5, 8),
        ...     (torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool)),
        ... )
        >>> offered, places = net.offered(heard), torch.arange(5)
        >>> said, _ = net(tokens, places, offered, heard[1])
        >>> first, memory = net(tokens[:, :3], places[:3], offered, heard[1])
        >>> torch.allclose(net(tokens[:, 3:], places[3:], offered, heard[1], memory=memory)[0], said[:, 3:], atol=1e-6)
        True
    """

    def __init__(
        self, width: int, layers: int, heads: int, longest: int, dropout: float = 0.0, reads: bool = True
    ) -> None:
        super().__init__()
        self.position = nn.Parameter(SPREAD * torch.randn(longest, width))
        self.layers: Any = nn.ModuleList(DecoderLayer(width, heads, dropout, layers, reads) for _ in range(layers))
        self.drop, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)

    def offered(self, heard: Heard | None) -> Memory | None:
        """What was read, as every layer looks at it."""
        return None if heard is None else [layer.look.offered(heard[0]) for layer in self.layers]

    def forward(
        self,
        tokens: Tensor,
        places: Tensor,
        offered: Memory | None = None,
        there: Tensor | None = None,
        *,
        seen: Tensor | None = None,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Memory]:
        """What is known after every token, and the memory from which to go on.

        Args:
            tokens: ``(B, L, W)``.
            places: ``(L,)`` of them among the longest.
            offered, there: what was read, and ``(B, S)``, which of it there is.
            seen: ``(B, L)`` which tokens, those of the memory first, may be looked at; None for all.
            memory: of the tokens before; None where there are none.
        """
        tokens, kept = self.drop(tokens + self.position[places]), []
        for at, layer in enumerate(self.layers):
            own = None if offered is None else offered[at]
            tokens, pair = layer.said(tokens, None if memory is None else memory[at], seen, own, there)
            kept.append(pair)
        return self.norm(tokens), kept
