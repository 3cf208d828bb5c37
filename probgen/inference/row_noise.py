"""Random numbers of rows, each row's from a stream of its own: the same in whatever pieces rows are read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from probgen._pyro import Messenger, is_bookkeeping
from probgen.data.batches import Batch
from probgen.inference.amortised import FILLS
from probgen.inference.runtime import seed_of

__all__ = ["RowDraws", "RowNoise"]


class RowNoise:
    """A stream of random numbers for every row of a batch.

    Args:
        batch: the rows, whose numbers in the table are part of the seeds.
        seed, what: the other parts.
    """

    def __init__(self, batch: Batch, seed: int, *what: object) -> None:
        self.streams = [
            torch.Generator().manual_seed(seed_of(seed, *what, batch.number(row))) for row in range(len(batch))
        ]

    def __len__(self) -> int:
        return len(self.streams)

    def fill(self, out: Tensor, function: Any, dim: int, *arguments: Any, **options: Any) -> Tensor:
        """A tensor filled in place by a method such as ``normal_``, its rows along a dimension."""
        shape = [size for at, size in enumerate(out.shape) if at != dim % out.dim()]
        blank = torch.empty(shape, dtype=out.dtype)
        parts = [function(blank.clone(), *arguments, **{**options, "generator": one}) for one in self.streams]
        return out.copy_(torch.stack(parts, dim % out.dim()))

    def normal(self, like: Tensor) -> Tensor:
        """``(S, B, P)`` standard normal numbers."""
        return self.fill(torch.empty_like(like), Tensor.normal_, -2)

    def uniform(self, draws: int, like: Tensor) -> Tensor:
        """``(S, B)`` between 0 and 1."""
        return self.fill(like.new_empty(draws, len(self)), Tensor.uniform_, -1)


class RowDraws(Messenger):
    """Sites of rows are drawn with the rows' own noise."""

    def __init__(self, noise: RowNoise) -> None:
        super().__init__()
        self.noise = noise

    def _pyro_sample(self, message: dict) -> None:
        drawn = message["fn"]
        if is_bookkeeping(message) or message["done"] or message["is_observed"]:
            return
        if drawn.batch_shape[-1:] == (len(self.noise),):
            with Filling(self.noise, len(drawn.event_shape)):
                message["value"], message["done"] = drawn(), True


class Filling(TorchFunctionMode):
    """Tensors that are filled with noise are filled row by row, where they have rows before some other dimensions."""

    def __init__(self, noise: RowNoise, behind: int) -> None:
        super().__init__()
        self.noise, self.dim = noise, -1 - behind

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in FILLS and args[0].dim() >= -self.dim and args[0].shape[self.dim] == len(self.noise):
            return self.noise.fill(args[0], function, self.dim, *args[1:], **(kwargs or {}))
        return function(*args, **(kwargs or {}))
