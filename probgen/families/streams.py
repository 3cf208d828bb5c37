"""Random numbers for many chains side by side: what a chain draws does not depend on how many others there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["Streams"]


class Streams:
    """One generator for each of R chains; every draw is stacked along a first axis of R.

    Args:
        seeds: of the chains.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.device = torch.empty(0).device
        self.generators = [torch.Generator(self.device).manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self.generators)

    def stacked(self, draw: Callable[[Tensor, torch.Generator], object], *shape: int) -> Tensor:
        """``(R, *shape)``, each chain's part written by ``draw(part, generator)``."""
        made = torch.empty(len(self), *shape)
        for part, generator in zip(made, self.generators, strict=True):
            draw(part, generator)
        return made

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return self.stacked(lambda part, generator: part.normal_(generator=generator), *shape)

    def uniform(self, *shape: int) -> Tensor:
        """Between 0 and 1."""
        return self.stacked(lambda part, generator: part.uniform_(generator=generator), *shape)

    def exponential(self, *shape: int) -> Tensor:
        """Of mean 1."""
        return self.stacked(lambda part, generator: part.exponential_(generator=generator), *shape)

    def gamma(self, shape: Tensor) -> Tensor:
        """Gamma variables of rate 1, given their shapes ``(R, ...)``."""
        drawn = [torch._standard_gamma(a, generator=g) for a, g in zip(shape, self.generators, strict=True)]
        return torch.stack(drawn)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Whole numbers from 0 to ``high - 1``."""
        return (self.uniform(*shape) * high).long().clamp_max(high - 1)

    def choices(self, weights: Tensor, *shape: int) -> Tensor:
        """Places in ``weights (N,)``, with probabilities proportional to them."""
        upto = weights.cumsum(0)
        return torch.searchsorted(upto, self.uniform(*shape) * upto[-1], right=True).clamp_max(len(weights) - 1)

    def poisson(self, rate: Tensor) -> Tensor:
        """Counts, given their means ``(R, ...)``."""
        return torch.stack([torch.poisson(a, generator=g) for a, g in zip(rate, self.generators, strict=True)])
