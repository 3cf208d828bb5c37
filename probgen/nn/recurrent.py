"""Recurrent networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["BackwardRecurrence", "Recurrence"]


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


class BackwardRecurrence(nn.Module):
    """States of every step of sequences that lie end to end, read from their last step to their first (Cho et al., 2014).

    Args:
        inputs: F, of a step.
        width: H, of the state.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.cell = nn.GRU(inputs, width, batch_first=True)

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """``(N, F)`` rows of sequences of some lengths to ``(N, H)``."""
        pieces = [piece.flip(0) for piece in rows.split(lengths.tolist())]
        packed = nn.utils.rnn.pack_sequence(pieces, enforce_sorted=False)
        read, _ = nn.utils.rnn.pad_packed_sequence(self.cell(packed)[0], batch_first=True)
        return torch.cat([states[:length].flip(0) for states, length in zip(read, lengths.tolist(), strict=True)])
