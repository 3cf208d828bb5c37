"""Long sequences as windows of limited length, each of whose steps is said by one of them.

The first window of a sequence says all of its steps; each later one begins ``stride`` steps behind the one before it and says the
last ``stride`` of its own, given the others, so that every step is said given at least ``context - stride`` steps before
it, as far as there are so many.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from probgen.data.sequences import Steps
from probgen.errors import CapabilityError
from probgen.whole import check_whole

__all__ = ["Windowing", "Windows"]


@dataclass(frozen=True)
class Windowing:
    """How sequences are cut.

    Attributes:
        context: steps of a window.
        stride: steps from one window to the next, at most as many.
    """

    context: int
    stride: int

    @classmethod
    def of(cls, context: int, stride: int | None) -> Windowing:
        """Checked; half of the context is the stride unless told otherwise.

        Example:
            >>> Windowing.of(64, None)
            Windowing(context=64, stride=32)
        """
        check_whole("context", context)
        stride = max(1, context // 2) if stride is None else stride
        check_whole("stride", stride)
        if stride > context:
            raise CapabilityError(
                f"stride={stride} would leave steps out of windows of context={context}; it is at most the context."
            )
        return cls(context, stride)

    def __call__(self, steps: Steps) -> Windows:
        """The windows of some sequences."""
        lengths = steps.lengths
        more = (lengths - self.context).clamp_min(0)
        counts = 1 + torch.div(more + self.stride - 1, self.stride, rounding_mode="floor")
        sequence = torch.arange(len(steps), device=lengths.device).repeat_interleave(counts)
        number = torch.arange(len(sequence), device=lengths.device) - (counts.cumsum(0) - counts)[sequence]
        offset = number * self.stride
        length = (lengths[sequence] - offset).clamp_max(self.context)
        place = torch.arange(int(length.max()), device=lengths.device)
        rows = (steps.starts[sequence] + offset)[:, None] + torch.minimum(place, length[:, None] - 1)
        unsaid = torch.where(number > 0, self.context - self.stride, 0)
        said = (place < length[:, None]) & (place >= unsaid[:, None])
        return Windows(rows, said, sequence, number)


@dataclass(frozen=True, eq=False)
class Windows:
    """W windows of at most L steps.

    Attributes:
        rows: ``(W, L)`` numbers of rows; behind the end of a shorter window its last one.
        said: ``(W, L)``: whose cells it says.
        sequence: ``(W,)`` that each belongs to.
        number: ``(W,)`` of each in its sequence, from 0.
    """

    rows: Tensor
    said: Tensor
    sequence: Tensor
    number: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Tensor) -> Windows:
        """Some of them."""
        return Windows(self.rows[index], self.said[index], self.sequence[index], self.number[index])

    def split(self, count: int) -> Iterator[Windows]:
        """So many at a time."""
        if count >= len(self):
            yield self
            return
        for index in torch.arange(len(self), device=self.rows.device).split(count):
            yield self.take(index)

    def before(self, x: Tensor, steps: Steps) -> Tensor:
        """``(..., W, D)``: the row before each window, NaN where there is none, of rows ``(..., N, D)``."""
        if len(self) == len(steps) and steps.known is not None:
            return steps.known.to(x).expand(*x.shape[:-2], -1, -1)
        inside = x[..., (self.rows[:, 0] - 1).clamp_min(0), :]
        outside = x.new_tensor(torch.nan) if steps.known is None else steps.known[self.sequence].to(x)
        return torch.where((self.number > 0)[:, None], inside, outside)
