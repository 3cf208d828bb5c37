"""The chain's passes, compiled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probgen.data.sequences import Steps
from probgen.native import call, library, takes

__all__ = ["backward", "forward", "usable"]

STATES = 64  # as in the source


def usable(states: int, like: Tensor) -> bool:
    """True where the compiled passes take these numbers: float64 in memory, few states, a compiler at hand."""
    return states <= STATES and takes("chain", like)


def passes() -> Any:
    """The compiled functions."""
    return library("chain")


def forward(initial: Tensor, A: Tensor, likelihood: Tensor, steps: Steps) -> tuple[Tensor, Tensor]:
    """Filtered probabilities ``(N, K)`` and scales ``(N, 1)``."""
    alpha, scale = torch.empty_like(likelihood), torch.empty_like(likelihood[:, :1])
    inputs = (steps.starts, steps.lengths, initial.contiguous(), A.contiguous(), likelihood, alpha, scale)
    call(passes().forward, len(steps), len(A), *inputs)
    return alpha, scale


def backward(
    A: Tensor, likelihood: Tensor, alpha: Tensor, scale: Tensor, weight: Tensor, steps: Steps
) -> tuple[Tensor, Tensor, Tensor]:
    """Expected counts: first states (K,), transitions (K, K), states (N, K); sequences count ``weight`` (S,) times."""
    state, first, counts = torch.empty_like(alpha), A.new_zeros(len(A)), A.new_zeros(len(A), len(A))
    turned, weight = A.mT.contiguous(), weight.contiguous()
    inputs = (steps.starts, steps.lengths, turned, likelihood, alpha, scale, weight, state, first, counts)
    call(passes().backward, len(steps), len(A), *inputs)
    return first, A * counts, state
