"""Networks that are told a number of every row beside what they read, such as how noisy it is."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

__all__ = ["TimedMLP", "Waves"]


class Waves(nn.Module):
    """A number as sines and cosines of many frequencies (Vaswani et al., 2017).

    Args:
        width: how many, half of each.
        slowest, fastest: frequencies, in radians a unit.

    Example:
        >>> Waves(8)(torch.zeros(3)).shape
        torch.Size([3, 8])
    """

    def __init__(self, width: int, slowest: float = 0.1, fastest: float = 10.0) -> None:
        super().__init__()
        exponents = torch.linspace(math.log(slowest), math.log(fastest), width // 2)
        self.register_buffer("frequencies", exponents.exp(), persistent=False)
        self.frequencies: Tensor

    def forward(self, number: Tensor) -> Tensor:
        """``(...)`` to ``(..., width)``."""
        angles = number[..., None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1)


class TimedBlock(nn.Module):
    """What is read plus a perceptron of it, normalised first, then scaled and shifted by what is told; at the start it changes nothing."""

    def __init__(self, width: int, told: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.told, self.first, self.last = nn.Linear(told, 2 * width), nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        for part in (self.last.weight, self.last.bias):
            nn.init.zeros_(part)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.told(told).chunk(2, -1)
        h = self.norm(x) * (1 + scale) + shift
        return x + self.last(self.dropout(silu(self.first(silu(h)))))


class TimedMLP(nn.Module):
    """A residual perceptron that is told a number of every row, beside a linear map; at the start all that they say is zero.

    Args:
        inputs: F, numbers that are read.
        hidden: widths, a residual block for each.
        outputs: numbers that are said.
        dropout: share of units that are left out at each training step.

    Example:
        >>> TimedMLP(4, (16, 16), 3)(torch.zeros(5, 4), torch.zeros(5)).shape
        torch.Size([5, 3])
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        told = max(32, hidden[0] // 2)
        self.waves, self.clock = Waves(told), nn.Linear(told, told)
        self.joins = nn.ModuleList(
            nn.Identity() if a == b and at else nn.Linear(a, b)
            for at, (a, b) in enumerate(zip((inputs, *hidden), hidden, strict=False))
        )
        self.blocks = nn.ModuleList(TimedBlock(width, told, dropout) for width in hidden)
        self.last, self.straight = nn.Linear(hidden[-1], outputs), nn.Linear(inputs, outputs, bias=False)
        self.gain = nn.Linear(told, inputs)
        for part in (self.last.weight, self.last.bias, self.straight.weight):
            nn.init.zeros_(part)

    def forward(self, x: Tensor, number: Tensor) -> Tensor:
        """``(..., F)`` and ``(...)`` to ``(..., outputs)``."""
        told = silu(self.clock(self.waves(number)))
        h = x
        for join, block in zip(self.joins, self.blocks, strict=True):
            h = block(join(h), told)
        return self.last(silu(h)) + self.straight(x * (1 + self.gain(told)))
