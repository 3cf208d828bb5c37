"""Outputs of a network that do not depend on what it reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Constants"]


class Constants(nn.Module):
    """Learnt numbers in place of some outputs.

    Args:
        outputs: of the network before.
        places: of the outputs that are replaced.
        shared: one number for all of them.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), Constants(3, [2]))
        >>> net(torch.randn(5, 2))[:, 2].tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, outputs: int, places: Sequence[int], shared: bool = False) -> None:
        super().__init__()
        mask = torch.zeros(outputs, dtype=torch.bool)
        mask[list(places)] = True
        self.register_buffer("mask", mask, persistent=False)
        self.mask: Tensor
        self.value = nn.Parameter(torch.zeros(1 if shared else outputs))

    def forward(self, output: Tensor) -> Tensor:
        """``(..., outputs)`` to the same shape."""
        return torch.where(self.mask, self.value.to(output), output)
