r"""Continuous states of a sequence that know of all those before them through a recurrent network.

.. math:: z_t \mid h_t \sim \mathcal N\bigl(\mu(h_t, t), \mathrm{diag}\,\sigma^2(h_t, t)\bigr), \qquad h_t = \mathrm{GRU}(h_{t-1}, z_{t-1}), \qquad h_0 = 0

with a vector :math:`z_0`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from probgen.data.sequences import Steps
from probgen.families.walked_path import Following, WalkedPath
from probgen.nn import Memory

__all__ = ["RecurrentPath"]


class RecurrentPath(WalkedPath):
    """States ``(N, L)`` of the rows of some sequences.

    Args:
        following: mean and standard deviation of rows' states given their memories.
        memory: from states to memories.
        start: ``(L,)``, the state that stands before the first.
        steps: the sequences.
        batch_shape: of the site, ``(N,)`` or ``(S, N)``.
    """

    def __init__(
        self,
        following: Following,
        memory: Memory,
        start: Tensor,
        steps: Steps,
        batch_shape: torch.Size | None = None,
    ) -> None:
        self.memory = memory
        super().__init__(following, start, steps, batch_shape)

    def known(self, before: Tensor) -> Tensor:
        return self.memory(before, self.steps)

    def nothing(self, *shape: int) -> Tensor:
        return self.memory.nothing(*shape)

    def next(self, known: Tensor, before: Tensor) -> Tensor:
        return self.memory.next(known, before)
