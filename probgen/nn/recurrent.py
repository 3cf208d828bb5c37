"""Recurrent networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Recurrence"]


class Recurrence(nn.Module):
    """Outputs of every step given the steps before it, and not given its own (Cho et al., 2014).

    Args:
        inputs: F, of a step.
        width: of the state.
        outputs: G, of a step.

    Example:
        >>> net = Recurrence(3, 8, 2)
        >>> net(torch.zeros(5, 7, 3)).shape
        torch.Size([5, 7, 2])
    """

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.cell = nn.GRU(inputs, width, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, steps: Tensor) -> Tensor:
        """``(B, T, F)`` to ``(B, T, G)``."""
        before = torch.cat([torch.zeros_like(steps[:, :1]), steps[:, :-1]], 1)
        return self.head(self.cell(before)[0])
