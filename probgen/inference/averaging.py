"""Exponential moving averages of weights (Polyak and Juditsky, 1992): what is looked at, and kept, in place of the last step's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["MovingAverage"]


class MovingAverage:
    """Of some weights.

    Args:
        weights: that move.
        decay: of the average at every step; zero for none.
    """

    def __init__(self, weights: Sequence[Tensor], decay: float) -> None:
        self.weights, self.decay, self.steps = list(weights), decay, 0
        self.mean = [weight.detach().clone() for weight in weights] if decay else []

    def update(self) -> None:
        """After a step; the first ones count more, so that the start is forgotten."""
        if not self.decay:
            return
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.mean, [weight.detach() for weight in self.weights], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Weights are their averages inside."""
        if not self.decay:
            yield
            return
        own = [weight.detach().clone() for weight in self.weights]
        self.write(self.mean)
        try:
            yield
        finally:
            self.write(own)

    def write(self, values: Sequence[Tensor]) -> None:
        """Into the weights."""
        with torch.no_grad():
            for weight, value in zip(self.weights, values, strict=True):
                weight.copy_(value)

    def pack(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {f"mean|{at}": mean for at, mean in enumerate(self.mean)} | {"mean_steps": torch.tensor(self.steps)}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        """Go on from there."""
        self.steps = int(tensors["mean_steps"])
        self.mean = [tensors[f"mean|{at}"].to(mean) for at, mean in enumerate(self.mean)]
