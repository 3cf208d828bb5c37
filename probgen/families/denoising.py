r"""Rows that come out of noise step by step, as one distribution with a bound on its density.

Every cell of a row is in one of three states: *modelled* (noised, drawn, scored), *shown* (the network sees its value), or *absent*
(neither). Density of a row with holes: its known cells modelled, the others absent. Completion: known cells shown, the others modelled. A new row: all modelled.
Networks that learn are asked all of these at random, of the known cells of every row, so that rows with holes are not special.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from probgen.families.base import Observable

__all__ = ["Asked", "Denoised", "Noise", "NoiseProcess", "SharedNoise", "asked_at_random", "strata"]

LOOKS, LEAST = 8, 128  # at a row that training has put aside; at the rows of a minibatch together
ABSENT = 1 / 3  # of the rows in which some cells are not modelled: they are not shown either
CHUNK = 2**14  # numbers of a row that noise is drawn for at a time


class Noise(Protocol):
    """Random numbers of rows."""

    def normal(self, like: Tensor) -> Tensor:
        """``(S, B, F)`` standard normal numbers."""

    def uniform(self, draws: int, like: Tensor) -> Tensor:
        """``(draws, B)`` between 0 and 1."""


class SharedNoise:
    """All rows from one stream: torch's own."""

    def normal(self, like: Tensor) -> Tensor:
        return torch.randn_like(like)

    def uniform(self, draws: int, like: Tensor) -> Tensor:
        return torch.rand(draws, like.shape[-2], dtype=like.dtype, device=like.device)


@dataclass(frozen=True)
class Asked:
    """What is asked of rows: masks ``(B, D)`` of the cells that are modelled, and of those that are shown."""

    modelled: Tensor
    shown: Tensor

    @classmethod
    def density(cls, known: Tensor) -> Asked:
        """Of the known cells together."""
        return cls(known, torch.zeros_like(known))

    @classmethod
    def rest(cls, known: Tensor) -> Asked:
        """The unknown cells, given the known ones."""
        return cls(~known, known)

    def unshown(self) -> Asked:
        """The same cells given nothing."""
        return Asked(self.modelled, torch.zeros_like(self.shown))


def asked_at_random(known: Tensor, block: Tensor, share: float) -> Asked:
    """The joint density of most rows; of a share of them, that of some cells given the others, or given nothing.

    In every such row one to all but one of the known cells, or of the sets of columns that are alike, are not modelled, each number of them
    equally often; a part of the rows shows them, in the others they are absent.

    Args:
        known: ``(B, D)``.
        block: ``(D,)`` a number of every column, the same for those that are alike.
        share: of the rows.
    """
    kind = torch.rand(len(known), 3, device=known.device)
    out = some_of(known)
    if int(block.max()):
        present = torch.zeros(len(known), int(block.max()) + 1, dtype=torch.bool, device=known.device)
        present = present.index_put(
            (torch.nonzero(known)[:, 0], block[torch.nonzero(known)[:, 1]]), torch.tensor(True)
        )
        out = torch.where(kind[:, :1] < 0.5, out, some_of(present)[:, block])
    out = known & out & (kind[:, 1:2] < share)
    return Asked(known & ~out, out & (kind[:, 2:] >= ABSENT))


def some_of(present: Tensor) -> Tensor:
    """``(B, D)``: of every row at random one to all but one of those present; of a single one, none."""
    scores = torch.rand(present.shape, device=present.device).where(present, 2.0)
    rank, count = scores.argsort(1).argsort(1), present.sum(1, keepdim=True)
    most = 1 + (torch.rand(count.shape, device=present.device) * (count - 1)).long()
    return present & (rank < most) & (count > 1)


def strata(draws: int, like: Tensor, noise: Noise) -> Tensor:
    """``(H, 2, B)``: two times of each of H equal stretches from 0 to 1 for every row; of a single draw one, ``(1, 1, B)``."""
    each, H = (1, 1) if draws == 1 else (2, draws // 2)
    u = noise.uniform(H * each, like).unflatten(0, (H, each))
    return (torch.arange(H, dtype=u.dtype, device=u.device)[:, None, None] + u) / H


def mean_of_strata(terms: Tensor) -> tuple[Tensor, Tensor]:
    """``(B,)`` the mean of terms ``(H, 2, B)``, and its standard error: what pairs within a stretch differ by."""
    terms = terms.double()
    gap = terms[:, 0] - terms[:, 1] if terms.shape[1] == 2 else torch.full_like(terms[:, 0], torch.nan)
    return terms.mean((0, 1)), gap.square().sum(0).sqrt() / (2 * len(terms))


class NoiseProcess(nn.Module, ABC):
    """A way from rows to noise that is given, and one back that is learnt.

    Args:
        block: ``(D,)`` a number of every column, the same for those that are alike.
        conditioning: share of the rows of which a part of the cells is not modelled while it learns.
    """

    kind: str = "lower_bound"  # of the number that is told of a row

    def __init__(self, block: Tensor, conditioning: float) -> None:
        super().__init__()
        self.register_buffer("block", block, persistent=False)
        self.block: Tensor
        self.conditioning = conditioning

    @property
    @abstractmethod
    def numbers(self) -> int:
        """F, how many normal numbers a step of a row takes."""

    @abstractmethod
    def terms(self, x: Tensor, asked: Asked, times: Tensor, noise: Noise) -> Tensor:
        """``(S, B)``: at times ``(S, B)``, each an unbiased estimate of the bound on the log density of the modelled cells."""

    @abstractmethod
    def draw(self, x: Tensor, asked: Asked, noises: Sequence[Noise]) -> Tensor:
        """``(S, B, D)``: the modelled cells of rows, drawn once by each noise given those that are shown; other places mean nothing."""

    def one_time(self, x: Tensor) -> Tensor:
        """``(B,)``: the bound at one time a row, times being spread over the rows; what is asked is random while learning."""
        known, looks = ~x.isnan(), -(-LEAST // len(x)) if torch.is_grad_enabled() else LOOKS
        learning = self.training and torch.is_grad_enabled()
        asked = asked_at_random(known, self.block, self.conditioning) if learning else Asked.density(known)
        count = looks * len(x)
        times = (torch.rand((), device=x.device) + torch.arange(count, device=x.device) / count) % 1.0
        return self.terms(x, asked, times.to(x).reshape(len(x), looks).mT, SharedNoise()).mean(0)

    def scored(self, x: Tensor, asked: Asked, draws: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """``(B,)``: the bound, the mean over times of every row, and its standard error."""
        blank = x.new_empty(len(x), self.numbers)
        times = strata(draws, blank, noise)
        some = max(1, CHUNK // (2 * self.numbers))
        parts = [
            self.terms(x, asked, part.flatten(0, 1), noise).unflatten(0, part.shape[:2]) for part in times.split(some)
        ]
        return mean_of_strata(torch.cat(parts))

    def filled(self, x: Tensor, noises: Sequence[Noise]) -> Tensor:
        """``(S, B, D)``: rows whose NaN cells are drawn given the others, which keep their bits."""
        drawn = self.draw(x, Asked.rest(~x.isnan()), noises)
        return torch.where(x.isnan(), drawn.to(x), x)


class Denoised(Observable):
    """A row of columns, as what a process makes of noise. Its ``log_prob`` is the bound at a random time, unbiased."""

    def __init__(self, process: NoiseProcess) -> None:
        self.process = process
        super().__init__(torch.Size(), torch.Size([len(process.block)]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.process.one_time(value)

    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells drawn given the known ones."""
        return self.process.filled(x, [SharedNoise()])[0]

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        rows = torch.full(
            (max(1, sample_shape.numel()), *self.event_shape), torch.nan, device=self.process.block.device
        )
        return self.fill(rows).reshape(*sample_shape, *self.event_shape)


def in_steps(noises: Sequence[Noise], like: Tensor, steps: int) -> Any:
    """Normal numbers ``(S, B, F)`` for one step after the other, some steps drawn at a time.

    Args:
        noises: S of them.
        like: ``(B, F)``.
        steps: how many there will be, whatever the rows are.
    """
    some = min(max(1, CHUNK // like.shape[-1]), steps)
    while True:
        drawn = torch.stack([noise.normal(like.new_empty(some, *like.shape)) for noise in noises], 1)
        yield from drawn
