"""Whole paths drawn by importance: candidates from a proposal, then one of them for every sequence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from probgen.data.sequences import Steps

__all__ = ["Resampled"]

CANDIDATES = 256
SHARED = 16  # draws that are taken from the same candidates


class Resampled:
    """Draws from what a proposal approximates, sequence by sequence (sampling importance resampling; Rubin, 1988).

    Args:
        propose: makes so many paths ``(count, N, ...)``.
        log_weights: their log importance weights ``(count, S)``.
        steps: the sequences.
    """

    def __init__(
        self, propose: Callable[[int], Tensor], log_weights: Callable[[Tensor], Tensor], steps: Steps
    ) -> None:
        self.propose, self.log_weights, self.steps, self.drawn = propose, log_weights, steps, 0

    def draw(self) -> Tensor:
        """One path ``(N, ...)``."""
        if self.drawn % SHARED == 0:
            self.paths = self.propose(CANDIDATES)
            self.weights = self.log_weights(self.paths).mT.softmax(1)  # (S, count)
        self.drawn += 1
        chosen = torch.multinomial(self.weights, 1)[:, 0][self.steps.sequence]
        return self.paths[chosen, torch.arange(len(chosen), device=chosen.device)]
