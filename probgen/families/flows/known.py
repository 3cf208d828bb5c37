"""What the known cells of rows leave open of their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["Known"]


@dataclass(frozen=True, eq=False)
class Known:
    """What the known cells of rows leave open of their P numbers, all ``(..., P)``.

    Attributes:
        point: the number, where it is known; NaN elsewhere.
        low, high: between which it lies.
        winner: the number of the same choice that is the greatest; its own place where there is none.
        log_slope: of numbers by cells, of the known measures of each row, ``(...)``.
    """

    point: Tensor
    low: Tensor
    high: Tensor
    winner: Tensor
    log_slope: Tensor

    @cached_property
    def closed(self) -> Tensor:
        """Mask of the numbers that are known."""
        return ~self.point.isnan()

    @cached_property
    def settled(self) -> Tensor | None:
        """Any free coordinates, where there is nothing that they could open; else None."""
        return torch.zeros_like(self.point) if bool(self.closed.all()) else None

    def open(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers at free coordinates, and the log change of volume of each row."""
        u = torch.where(self.closed, self.point, z)
        if not self.bounded:
            return u, z.new_zeros(z.shape[:-1])
        above = torch.where(self.follows, z.gather(-1, self.winner.expand(z.shape)), self.high)
        left, right = self.low.isfinite(), above.isfinite()
        low, high = self.low.where(left, 0.0), above.where(right, 0.0)
        up, down = logsigmoid(z), logsigmoid(-z)
        wide = (high - low).clamp_min(torch.finfo(z.dtype).eps).where(left & right, 1.0)
        found = torch.where(left, low - down, high + up)
        found = torch.where(left & right, low + wide * up.exp(), found)
        change = torch.where(left, up, down) + torch.where(left & right, wide.log() + down, 0.0)
        cut = (left | right) & ~self.closed
        return torch.where(cut, found, u), change.where(cut, 0.0).sum(-1)

    @cached_property
    def follows(self) -> Tensor:
        """Mask of numbers below a winner."""
        return self.winner != torch.arange(self.winner.shape[-1], device=self.winner.device)

    @cached_property
    def bounded(self) -> bool:
        """Whether any number has ends."""
        return bool(self.follows.any() | self.low.isfinite().any() | self.high.isfinite().any())
