r"""Continuous states of a sequence of which each depends on those before it, through networks.

.. math:: z_t \mid z_1, \dots, z_{t-1} \sim \mathcal N\bigl(\mu(h_t, t), \mathrm{diag}\,\sigma^2(h_t, t)\bigr), \qquad h_t = m(z_0, \dots, z_{t-1})

with a vector :math:`z_0`. One site holds the states of all rows of all sequences: their density is one pass over all rows at once, and only
draws go step by step, all sequences side by side. Families of them say what a step knows of those before it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from pyro.distributions import Normal, TorchDistribution, constraints
from torch import Tensor

from probgen.data.sequences import Steps

__all__ = ["Following", "WalkedPath"]

Following = Callable[
    [Tensor, Tensor], tuple[Tensor, Tensor]
]  # what is known of the steps before (..., n, M) and rows (n,) -> means and scales


class WalkedPath(TorchDistribution, ABC):
    """States ``(N, L)`` of the rows of some sequences.

    Args:
        following: mean and standard deviation of rows' states given what is known of the steps before.
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
        self.last: list[Any] = []  # states, and what was known given them
        super().__init__(batch_shape or torch.Size([steps.rows]), start.shape, validate_args=False)

    @abstractmethod
    def known(self, before: Tensor) -> Tensor:
        """What all rows know, ``(..., N, M)``, given the states of the steps right before, ``(..., N, L)``."""

    @abstractmethod
    def nothing(self, *shape: int) -> Tensor:
        """``(*shape, M)``: what is known before anything is."""

    @abstractmethod
    def next(self, known: Tensor, before: Tensor) -> Tensor:
        """What is known ``(..., n, M)`` once one more step is, ``(..., n, L)``."""

    def like(self, following: Following, batch_shape: torch.Size) -> Any:
        """The same path with other normals, of another shape."""
        made = copy(self)
        made.following = following
        TorchDistribution.__init__(made, batch_shape, self.event_shape, validate_args=False)
        return made

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Any:
        return self.like(self.following, torch.Size(batch_shape))

    def moved(self, shift: Tensor, log_factor: Tensor) -> Any:
        """Every row's normal with its mean and log scale moved by ``(N, L)``."""

        def following(known: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            loc, scale = self.following(known, rows)
            return loc + shift[rows], scale * log_factor[rows].exp()

        return self.like(following, self.batch_shape)

    def known_of(self, value: Tensor) -> Tensor:
        """What rows know of the steps before them, ``(..., N, M)``, where the states are ``(..., N, L)``.

        That of the last states is kept, for this path and those made of it: a path lives for one run of a program.
        """
        if self.steps.known is not None:  # of sequences of one step that go on from elsewhere
            return self.steps.known
        mark = value._version, torch.is_grad_enabled()
        if not (self.last and self.last[0] is value and self.last[1] == mark):
            before = torch.cat([self.start.expand(*value.shape[:-2], 1, -1), value[..., :-1, :]], -2)
            first = (self.steps.time == 0)[:, None]
            self.last[:] = value, mark, self.known(torch.where(first, self.start, before))
        return self.last[2]

    def given(self, value: Tensor) -> Any:
        """Every row's normal distribution given the states before, ``(..., N)`` of ``(L,)``."""
        rows = torch.arange(self.steps.rows, device=value.device)
        return Normal(*self.following(self.known_of(value), rows)).to_event(1)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.given(value).log_prob(value)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        shape = (*sample_shape, *self.batch_shape[:-1])
        noise = self.start.new_empty(*shape, self.steps.rows, len(self.start)).normal_()
        return self.walked(shape, lambda loc, scale, rows: loc + scale * noise[..., rows, :])

    @property
    def mean(self) -> Tensor:
        """The path on which every state is the mean given those before."""
        return self.walked(self.batch_shape[:-1], lambda loc, *_: loc)

    def walked(self, shape: tuple[int, ...], draw: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """``(*shape, N, L)``: step by step, at each the longest sequences first."""
        steps, made = self.steps, []
        z, known = self.start.expand(*shape, len(steps), -1), self.nothing(*shape, len(steps))
        for rows in steps.by_time.split(steps.going):
            known = self.next(known[..., : len(rows), :], z[..., : len(rows), :])
            z = draw(*self.following(known, rows), rows).expand(*shape, len(rows), -1)
            made.append(z)
        return torch.cat(made, -2).index_select(-2, steps.by_time.argsort())
