"""Columns that are read as numbers alike, held against noise alike, and written alike; see :mod:`~probgen.families.noised_cells`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot

from probgen.data.schema import Column
from probgen.families.columns import softplus_pair

__all__ = ["FewSteps", "Group", "Levels", "Numbers", "OpenSteps", "Spikes", "Steps", "group_key", "make_group"]

WIDEST = 1024  # from the least to the greatest value of a count whose grid is even
MANY = 64  # values of a grid of which logits are said
LOGISTIC = math.sqrt(3.0) / math.pi  # the scale of a logistic distribution of variance 1
FURTHEST = 40.0  # of a logarithm that is drawn
NUMBERS = ("real", "datetime", "positive", "bounded")


class Group(nn.Module, ABC):
    """C columns that are read alike, W numbers each."""

    width = 1
    outputs = 1  # numbers that a network says of a column

    def __init__(self, index: list[int]) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor(index), persistent=False)
        self.register_buffer("centre", torch.zeros(len(index)))
        self.register_buffer("spread", torch.ones(len(index)))
        self.index: Tensor
        self.centre: Tensor
        self.spread: Tensor

    def learn(self, x: Tensor, weights: Tensor | None) -> None:
        """Mean and standard deviation of the known cells ``(N, C)`` in the group's coordinates."""
        y = self.coordinate(x)
        share = (~y.isnan()).to(y) * (1.0 if weights is None else weights[:, None])
        total = share.sum(0).clamp_min(1e-12)
        self.centre = (share * y.nan_to_num()).sum(0) / total
        variance = (share * (y.nan_to_num() - self.centre).square()).sum(0) / total
        self.spread = torch.where(variance > 1e-12, variance.sqrt(), 1.0)

    @abstractmethod
    def coordinate(self, x: Tensor) -> Tensor:
        """Where a cell lies, before it is standardised; NaN where there is nothing to learn from."""

    def standardised(self, x: Tensor) -> Tensor:
        """The coordinate with mean 0 and standard deviation 1."""
        return (self.coordinate(x) - self.centre) / self.spread

    @abstractmethod
    def read(self, x: Tensor) -> Tensor:
        """``(..., C)`` cells, NaN where unknown, to numbers ``(..., C, W)``, NaN there."""

    def noise(self, z: Tensor, said: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The noise in numbers ``(..., C, W)`` by what a network says of them, ``(..., C, outputs)``; amplitudes are ``(..., 1, 1)``."""
        return sigma * (alpha * said + z)

    @abstractmethod
    def log_prob(self, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """``(..., C)``: log density of known cells given means ``(..., C, W)`` and scales ``(C, W)``."""

    @abstractmethod
    def write(self, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
        """Cells ``(..., C)`` that standard normal noise ``(..., C, W)`` draws."""


class Numbers(Group):
    """Continuous columns: as they are, as logarithms of positive ones, as log odds of bounded ones."""

    def __init__(self, index: list[int], columns: list[Column]) -> None:
        super().__init__(index)
        for name, kind in (("log", "positive"), ("logit", "bounded")):
            self.register_buffer(name, torch.tensor([c.kind == kind for c in columns]), persistent=False)
        self.log: Tensor
        self.logit: Tensor

    def coordinate(self, x: Tensor) -> Tensor:
        y = torch.where(self.log, x.clamp_min(torch.finfo(x.dtype).tiny).log(), x)
        return torch.where(self.logit, x.clamp(1e-6, 1 - 1e-6).logit(), y)

    def read(self, x: Tensor) -> Tensor:
        return self.standardised(x)[..., None]

    def log_prob(self, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        return normal(self.standardised(x), mean[..., 0], scale[..., 0]) + self.log_slope(x)

    def log_slope(self, x: Tensor) -> Tensor:
        """Log derivative of the standardised coordinate."""
        raw = self.coordinate(x)
        return torch.where(self.log, -raw, torch.where(self.logit, softplus_pair(raw), 0.0)) - self.spread.log()

    def write(self, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
        y = (mean + scale * noise)[..., 0] * self.spread + self.centre
        return torch.where(self.log, y.clamp(-FURTHEST, FURTHEST).exp(), torch.where(self.logit, y.sigmoid(), y))


class Steps(Group):
    """Columns on a grid of whole numbers, with ends or without; wide ones are read as logarithms."""

    def __init__(self, index: list[int], columns: list[Column]) -> None:
        super().__init__(index)
        low, high = torch.tensor([ends_of(column) for column in columns]).mT
        wide = high - low > WIDEST
        for name, value in (("low", low), ("high", high), ("wide", wide)):
            self.register_buffer(name, value, persistent=False)
        self.low: Tensor
        self.high: Tensor
        self.wide: Tensor

    def learn(self, x: Tensor, weights: Tensor | None) -> None:
        super().learn(x, weights)
        self.centre = torch.where(self.wide, self.centre, (self.low + self.high).to(x) / 2)
        self.spread = torch.where(self.wide, self.spread, (self.high - self.low).to(x) / 2)

    def coordinate(self, x: Tensor) -> Tensor:
        return torch.where(self.wide, (x - self.low).clamp_min(-0.9).log1p(), x)

    def read(self, x: Tensor) -> Tensor:
        return self.standardised(x)[..., None]

    def log_prob(self, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        width, first, last = LOGISTIC * scale[..., 0], x <= self.low, x >= self.high
        ends = (self.standardised(x.double() + side).to(x) for side in (-0.5, 0.5))
        low, high = ((end - mean[..., 0]) / width for end in ends)
        inner = (
            -(low - high).clamp(max=-1e-6).expm1()
        ).log()  # of the first and the last value the tails belong to them
        return (
            logsigmoid(high).where(~last, 0.0)
            + logsigmoid(-low).where(~first, 0.0)
            + inner.where(~(first | last), 0.0)
        )

    def write(self, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
        y = (mean + LOGISTIC * scale * logistic(noise))[..., 0] * self.spread + self.centre
        value = torch.where(self.wide, self.low + y.clamp(max=FURTHEST).expm1(), y)
        return value.round().clamp(self.low.to(y), self.high.to(y))


class FewSteps(Steps):
    """As many values as each other, and not many."""

    def __init__(self, index: list[int], columns: list[Column], values: int) -> None:
        super().__init__(index, columns)
        self.outputs = values

    def noise(self, z: Tensor, said: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        values = torch.linspace(-1.0, 1.0, self.outputs, dtype=z.dtype, device=z.device)
        share = (said + fit_of(z, values, alpha, sigma)).softmax(-1)
        return (z - alpha * (share * values).sum(-1, keepdim=True)) / sigma


class OpenSteps(Steps):
    """Values without a last one, or very many: each of the first has a logit, and those behind them share a normal distribution."""

    outputs = MANY + 2  # the logit of all behind comes last but one, what is said of their number last

    def noise(self, z: Tensor, said: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        ahead = torch.arange(MANY, dtype=z.dtype, device=z.device)
        values = self.standardised(self.low.to(z) + ahead[:, None]).mT  # (C, K)
        middle = (values[:, -1:] + 1.0).clamp_min(0.0)  # where most cells lie, if that is far behind
        spread = (alpha.square() + sigma.square()).sqrt()
        behind = -0.5 * ((z - alpha * middle) / spread).square() + (sigma / spread).log()
        share = (said[..., :-1] + torch.cat([fit_of(z, values, alpha, sigma), behind], -1)).softmax(-1)
        guess = middle + alpha * (z - alpha * middle) / spread.square() - sigma.square() * said[..., -1:]
        mean = (share[..., :-1] * values).sum(-1, keepdim=True) + share[..., -1:] * guess
        return (z - alpha * mean) / sigma


class Levels(Group):
    """Columns with as many levels as each other, in no order: 1 for the level, -1 for every other one."""

    def __init__(self, index: list[int], levels: int) -> None:
        super().__init__(index)
        self.width = self.outputs = levels

    def learn(self, x: Tensor, weights: Tensor | None) -> None:
        pass

    def coordinate(self, x: Tensor) -> Tensor:
        return x

    def read(self, x: Tensor) -> Tensor:
        hot = 2.0 * one_hot(x.nan_to_num().long(), self.width).to(x) - 1.0
        return torch.where(x.isnan()[..., None], torch.nan, hot)

    def noise(self, z: Tensor, said: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        share = (said + 2 * alpha * z / sigma.square()).softmax(-1)
        return (z - alpha * (2 * share - 1)) / sigma

    def log_prob(self, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        found = (2 * mean / scale.square()).log_softmax(-1)
        code = x.long().expand(found.shape[:-1])
        return found.gather(-1, code[..., None])[..., 0]

    def write(self, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
        gumbel = -(-torch.special.log_ndtr(noise)).log()
        return (2 * mean / scale.square() + gumbel).argmax(-1).to(mean)


class Spikes(Group):
    """Columns that are zero or positive: whether, and the logarithm of how much."""

    width = outputs = 2

    def noise(self, z: Tensor, said: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        some = (said[..., :1] + 2 * alpha * z[..., :1] / sigma.square()).sigmoid()
        amount = some * (alpha * z[..., 1:] - sigma.square() * said[..., 1:])
        return (z - alpha * torch.cat([2 * some - 1, amount], -1)) / sigma

    def coordinate(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, torch.nan).log()

    def read(self, x: Tensor) -> Tensor:
        amount = torch.where(x == 0, 0.0, self.standardised(x))
        return torch.stack([torch.where(x > 0, 1.0, -1.0).where(~x.isnan(), torch.nan), amount], -1)

    def log_prob(self, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        odds, some = mean[..., 0] / (LOGISTIC * scale[..., 0]), x > 0
        raw = torch.where(some, x, 1.0).log()
        much = normal((raw - self.centre) / self.spread, mean[..., 1], scale[..., 1]) - self.spread.log() - raw
        return torch.where(some, logsigmoid(odds) + much, logsigmoid(-odds))

    def write(self, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
        some = mean[..., 0] + LOGISTIC * scale[..., 0] * logistic(noise[..., 0]) > 0
        y = (mean[..., 1] + scale[..., 1] * noise[..., 1]) * self.spread + self.centre
        return torch.where(some, y.clamp(-FURTHEST, FURTHEST).exp(), 0.0)


def fit_of(z: Tensor, values: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """``(..., K)``: log density of noisy numbers ``(..., 1)`` at each of some values, up to a constant."""
    return -0.5 * ((z - alpha * values) / sigma).square()


def normal(y: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return -0.5 * ((y - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)


def logistic(noise: Tensor) -> Tensor:
    """A standard logistic number for every standard normal one."""
    return torch.special.log_ndtr(noise) - torch.special.log_ndtr(-noise)


def ends_of(column: Column) -> tuple[float, float]:
    """Least and greatest value of a column on a grid."""
    return (0.0, len(column.levels) - 1.0) if column.is_discrete else column.ends


def group_key(column: Column) -> tuple[str, int]:
    """Columns with the same key share a group: its kind, and how many values there are where that counts."""
    if column.kind == "categorical":
        return ("levels", len(column.levels))
    if column.kind == "semicontinuous":
        return ("spikes", 0)
    if column.kind in NUMBERS:
        return ("numbers", 0)
    low, high = ends_of(column)
    if high - low > WIDEST:
        return ("open", 0)
    return ("few", int(high - low) + 1) if high - low < MANY else ("steps", 0)


def make_group(key: tuple[str, int], index: list[int], columns: list[Column]) -> Group:
    """The group of a key and its columns."""
    if key[0] == "levels":
        return Levels(index, key[1])
    if key[0] == "spikes":
        return Spikes(index)
    if key[0] == "few":
        return FewSteps(index, columns, key[1])
    if key[0] == "open":
        return OpenSteps(index, columns)
    return Numbers(index, columns) if key[0] == "numbers" else Steps(index, columns)
