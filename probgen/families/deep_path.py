r"""Continuous states of a sequence that follow each other through networks.

.. math:: z_t \mid z_{t-1} \sim \mathcal N\bigl(\mu(z_{t-1}, t), \mathrm{diag}\,\sigma^2(z_{t-1}, t)\bigr), \qquad z_0 \text{ a vector}

One site holds the states of all rows of all sequences: their density is one pass over all rows at once, and only draws go step by step, all
sequences side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from pyro.distributions import Normal, TorchDistribution, constraints
from torch import Tensor

from probgen.data.sequences import Steps

__all__ = ["DeepPath"]

Following = Callable[
    [Tensor, Tensor], tuple[Tensor, Tensor]
]  # states before (..., n, L) and rows (n,) -> means and scales


class DeepPath(TorchDistribution):
    """States ``(N, L)`` of the rows of some sequences.

    Args:
        following: mean and standard deviation of rows' states given those before them.
        start: ``(L,)``, what stands before the first.
        steps: the sequences.
        batch_shape: of the site, ``(N,)`` or ``(S, N)``.
    """

    arg_constraints: dict = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, following: Following, start: Tensor, steps: Steps, batch_shape: torch.Size | None = None
    ) -> None:
        self.following, self.start, self.steps = following, start, steps
        super().__init__(batch_shape or torch.Size([steps.rows]), start.shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> DeepPath:
        return DeepPath(self.following, self.start, self.steps, torch.Size(batch_shape))

    def moved(self, shift: Tensor, log_factor: Tensor) -> DeepPath:
        """Every row's normal with its mean and log scale moved by ``(N, L)``."""

        def following(before: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            loc, scale = self.following(before, rows)
            return loc + shift[rows], scale * log_factor[rows].exp()

        return DeepPath(following, self.start, self.steps, self.batch_shape)

    def given(self, value: Tensor) -> Any:
        """Every row's normal distribution given the states before, ``(..., N)`` of ``(L,)``."""
        before = torch.cat([self.start.expand(*value.shape[:-2], 1, -1), value[..., :-1, :]], -2)
        first = (self.steps.time == 0)[:, None]
        before = torch.where(first, self.start, before)
        rows = torch.arange(self.steps.rows, device=value.device)
        return Normal(*self.following(before, rows)).to_event(1)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.given(value).log_prob(value)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        shape = (*sample_shape, *self.batch_shape[:-1])
        noise = self.start.new_empty(*shape, self.steps.rows, len(self.start)).normal_()
        return self.walked(shape, lambda loc, scale, rows: loc + scale * noise[..., rows, :])

    @property
    def mean(self) -> Tensor:
        """The path on which every state is the mean given the one before."""
        return self.walked(self.batch_shape[:-1], lambda loc, *_: loc)

    def walked(self, shape: tuple[int, ...], draw: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """``(*shape, N, L)``: step by step."""
        made, order = [], []
        before = self.start.expand(*shape, len(self.steps), -1)
        for going, rows in self.times():
            before = draw(*self.following(before[..., :going, :], rows), rows)
            before = before.expand(*shape, *before.shape[-2:])
            made.append(before)
            order.append(rows)
        return torch.cat(made, -2).index_select(-2, torch.cat(order).argsort())

    def times(self) -> Iterator[tuple[int, Tensor]]:
        """How many sequences, the longest first, still go on at each step, and their rows there."""
        lengths, longest_first = self.steps.lengths.sort(descending=True, stable=True)
        starts = self.steps.starts[longest_first]
        for time in range(self.steps.longest):
            going = int((lengths > time).sum())
            yield going, starts[:going] + time
