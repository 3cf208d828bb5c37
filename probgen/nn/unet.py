"""U-shaped networks from pictures to pictures."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

__all__ = ["UNet"]

GROUPS = 8  # of channels that are normalised together


class ConditionedBlock(nn.Module):
    """What is read plus two convolutions of it, normalised first, scaled and shifted by a vector; at the start it changes nothing.

    Args:
        channels: of what is read and written.
        condition: width of the vector; 0 for none.
        dropout: share of units that are left out at each training step.
    """

    def __init__(self, channels: int, condition: int, dropout: float = 0.0) -> None:
        super().__init__()
        groups = next(g for g in range(min(GROUPS, channels), 0, -1) if channels % g == 0)
        self.norms = nn.ModuleList(nn.GroupNorm(groups, channels) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.convolutions[1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.convolutions[1].bias)  # type: ignore[arg-type]
        self.told = nn.Linear(condition, 2 * channels) if condition else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        h = self.norms[1](self.convolutions[0](silu(self.norms[0](x))))
        if self.told is not None and condition is not None:
            scale, shift = self.told(condition)[..., None, None].chunk(2, -3)
            h = h * (1 + scale) + shift
        return x + self.convolutions[1](self.dropout(silu(h)))


class UNet(nn.Module):
    """A network that looks at a picture at several sizes and writes one of the same size (Ronneberger et al., 2015).

    Args:
        inputs: C, channels that are read.
        outputs: channels that are written; at the start they are all zero.
        widths: channels at each size, from that of the picture downwards, each half the one before.
        condition: F, width of a vector that is told for every picture, such as an embedded time; 0 for none.
        dropout: share of units that are left out at each training step.

    Example:
        >>> net = UNet(1, 2, widths=(8, 16))
        >>> net(torch.zeros(5, 1, 9, 7)).shape
        torch.Size([5, 2, 9, 7])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: tuple[int, ...] = (32, 64),
        condition: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.first = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.down = nn.ModuleList(ConditionedBlock(width, condition, dropout) for width in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.grow = nn.ModuleList(nn.Conv2d(b + a, a, 3, padding=1) for a, b in reversed(pairs))
        self.up = nn.ModuleList(ConditionedBlock(a, condition, dropout) for a, _ in reversed(pairs))
        self.last = nn.Conv2d(widths[0], outputs, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor, condition: Tensor | None = None) -> Tensor:
        """``(B, C, H, W)``, and ``(B, F)`` where there is a condition, to ``(B, outputs, H, W)``."""
        kept = [self.down[0](self.first(pictures), condition)]
        for shrink, block in zip(self.shrink, self.down[1:], strict=True):
            kept.append(block(shrink(kept[-1]), condition))
        x = kept.pop()
        for grow, block in zip(self.grow, self.up, strict=True):
            skipped = kept.pop()
            x = block(grow(torch.cat([interpolate(x, skipped.shape[-2:]), skipped], -3)), condition)
        return self.last(silu(x))
