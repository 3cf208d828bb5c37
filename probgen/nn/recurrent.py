"""Recurrent networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from probgen.data.sequences import Steps

__all__ = ["BackwardRecurrence", "Memory", "Recurrence"]

MOST = 4  # times as many steps, padding included, as there are rows


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
        >>> memory, u, h = Memory(3, 8), torch.randn(7, 3), Memory(3, 8).nothing(1)
        >>> for step in u:
        ...     h = memory.next(h, step[None])
        >>> torch.allclose(h, memory(u, Steps(torch.tensor([7])))[-1:], atol=1e-6)
        True
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.cell = nn.GRU(inputs, width, batch_first=True)

    def forward(self, rows: Tensor, steps: Steps) -> Tensor:
        """``(..., N, F)`` rows of some sequences to ``(..., N, M)``, all at once."""
        return passed(self.cell, rows, steps)

    def nothing(self, *shape: int) -> Tensor:
        """``(*shape, M)``: the memory before the first step."""
        return self.cell.all_weights[0][0].new_zeros(*shape, self.cell.hidden_size)

    def next(self, before: Tensor, step: Tensor) -> Tensor:
        """The memory ``(..., n, M)`` after one step more of n sequences, ``(..., n, F)``."""
        made = torch.gru_cell(step.flatten(0, -2), before.flatten(0, -2), *self.cell.all_weights[0])
        return made.reshape(before.shape)


def passed(cell: nn.GRU, rows: Tensor, steps: Steps) -> Tensor:
    """The states ``(..., N, H)`` of a network that reads rows ``(..., N, F)`` of some sequences, each from its first row on."""
    draws = rows.reshape(-1, *rows.shape[-2:])  # (S, N, F)
    read = packed(cell, draws, steps) if len(steps) * steps.longest > MOST * steps.rows else padded(cell, draws, steps)
    return read.reshape(*rows.shape[:-1], -1)


def padded(cell: nn.GRU, draws: Tensor, steps: Steps) -> Tensor:
    """Sequences side by side, with zeros behind the shorter ones, which nobody sees."""
    blank = draws.new_zeros(len(draws), len(steps) * steps.longest, draws.shape[-1])
    place = steps.sequence * steps.longest + steps.time
    side_by_side = blank.index_copy(1, place, draws).reshape(-1, steps.longest, draws.shape[-1])
    return cell(side_by_side)[0].reshape(*blank.shape[:2], -1)[:, place]


def packed(cell: nn.GRU, draws: Tensor, steps: Steps) -> Tensor:
    """Only the rows that there are; gradients take longer."""
    in_time = draws.movedim(0, 1)[steps.by_time]  # (N, S, F)
    going = torch.tensor(steps.going) * len(draws)
    read = cell(PackedSequence(in_time.flatten(0, 1), going))[0].data.unflatten(0, in_time.shape[:2])
    return read[steps.by_time.argsort()].movedim(1, 0)
