"""Recurrent networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from probgen.data.sequences import Steps

__all__ = ["BackwardRecurrence", "Memory", "Recurrence"]


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

    def forward(self, rows: Tensor, steps: Steps) -> Tensor:
        """``(N, F)`` rows of some sequences to ``(N, H)``."""
        return passed(self.cell, rows[steps.turned], steps)[steps.turned]


class Memory(nn.Module):
    r"""What is kept of all steps up to one, :math:`h_t = \mathrm{GRU}(h_{t-1}, u_t)` from :math:`h_0 = 0` (Cho et al., 2014).

    Args:
        inputs: F, of a step.
        width: M, of the memory.

    Example:
        >>> from probgen.data.sequences import Steps
        >>> memory, u = Memory(3, 8), torch.randn(7, 3)
        >>> at_once = memory(u, Steps(torch.tensor([7])))
        >>> h = memory.nothing(())
        >>> for step in u:
        ...     h = memory.next(h, step)
        >>> torch.allclose(h, at_once[-1], atol=1e-6)
        True
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.cell = nn.GRU(inputs, width, batch_first=True)

    def forward(self, rows: Tensor, steps: Steps) -> Tensor:
        """``(..., N, F)`` rows of some sequences to ``(..., N, M)``, all at once."""
        return passed(self.cell, rows, steps)

    def nothing(self, shape: tuple[int, ...]) -> Tensor:
        """``(*shape, M)``: the memory before the first step."""
        return self.cell.weight_hh_l0.new_zeros(*shape, self.cell.hidden_size)

    def next(self, before: Tensor, step: Tensor) -> Tensor:
        """The memory ``(..., M)`` after one step more, ``(..., F)``."""
        flat = before.reshape(-1, before.shape[-1]), step.reshape(-1, step.shape[-1])
        return self.cell(flat[1][:, None], flat[0][None])[1][0].reshape(before.shape)


def passed(cell: nn.GRU, rows: Tensor, steps: Steps) -> Tensor:
    """The states ``(..., N, H)`` of a network that reads rows ``(..., N, F)`` of some sequences, each from its first row on."""
    ahead = rows.flatten(0, -3) if rows.dim() > 2 else rows[None]
    in_time = ahead.movedim(0, 1)[steps.by_time]  # (N, S, F), the draws of a row side by side
    going = torch.tensor(steps.going) * len(ahead)
    read = cell(PackedSequence(in_time.flatten(0, 1), going))[0].data.unflatten(0, in_time.shape[:2])
    return read[steps.by_time.argsort()].movedim(1, 0).reshape(*rows.shape[:-1], -1)
