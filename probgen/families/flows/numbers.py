r"""Cells of a table as functions of numbers on the line, on which a flow has a density.

.. math::
    x_d = g_d(u_d) \text{ for measures}, \qquad
    x_d = k \iff a_{dk} \le u_d < a_{d,k+1} \text{ for steps}, \qquad
    x_d = \arg\max_k u_{dk} \text{ for choices}

A known measure fixes its number. A known step leaves an interval, a known choice the numbers below that of the chosen level (argmax
flows; Hoogeboom et al., 2021); an unknown cell leaves everything. What is left is opened by free coordinates z, an increasing map from the whole
line for every number, so that densities of what is left are integrals over z with a known change of volume.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from probgen.data.schema import Column
from probgen.families.base import once_per_tensor
from probgen.families.columns import GAUSSIAN_LINKS, Link
from probgen.families.flows.known import Known

__all__ = ["Numbers"]

CALM = 3.0  # robust standard deviations beyond which a measure goes on as a logarithm
FARTHEST = 30.0  # of a number, so that what is drawn can be written
LEAST = 1e-6  # of a scale
Reading = tuple[Tensor, Tensor, Tensor, Tensor]  # points (NaN where open), lower and upper ends, log slopes; (..., n)


class Kind(nn.Module, ABC):
    """Columns that become numbers in the same way.

    Args:
        columns: which.
    """

    each = 1  # numbers a column

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.columns = tuple(columns)

    def learn(self, x: Tensor) -> None:
        """Places and scales, from rows ``(N, n)`` with holes."""

    @abstractmethod
    def read(self, x: Tensor) -> Reading:
        """What cells ``(..., n)`` say of their numbers."""

    @abstractmethod
    def write(self, u: Tensor) -> Tensor:
        """Cells ``(..., n)`` of numbers."""


class Measures(Kind):
    """Real, positive and bounded columns and dates: standardised by quantiles, on a logarithmic scale where they are far out."""

    shift: Tensor
    scale: Tensor

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        links = [GAUSSIAN_LINKS[column.kind] for column in columns]
        for name in ("log", "logit"):
            self.register_buffer(name, torch.tensor([link == name for link in links]), persistent=False)
        self.register_buffer("shift", torch.zeros(len(links)))
        self.register_buffer("scale", torch.ones(len(links)))

    @property
    def link(self) -> Link:
        return Link(self.log, self.logit)  # type: ignore[arg-type]

    def learn(self, x: Tensor) -> None:
        y, _ = self.link.read(x)
        levels = torch.tensor([0.01, 0.16, 0.5, 0.84, 0.99], dtype=torch.float64)
        far, near, middle, other, farthest = y.double().nanquantile(levels.to(y.device), 0)
        spread = torch.maximum((other - near) / 2, (farthest - far) / 4.65).nan_to_num(1.0)
        self.shift.copy_(middle.nan_to_num(0.0))
        self.scale.copy_(torch.where(spread > LEAST, spread, 1.0))

    def read(self, x: Tensor) -> Reading:
        y, _ = self.link.read(x)
        t = (y - self.shift) / self.scale
        far = (t.abs() - CALM).clamp_min(0.0)
        u = torch.where(far > 0, t.sign() * (CALM + far.log1p()), t)
        slope = -far.log1p() - self.scale.log() - torch.where(self.log, y, 0.0)  # type: ignore[arg-type]
        slope = slope + torch.where(self.logit, softplus(y) + softplus(-y), 0.0)  # type: ignore[arg-type]
        ends = torch.full_like(u, torch.inf)
        return u, -ends, ends, slope.nan_to_num()

    def write(self, u: Tensor) -> Tensor:
        far = (u.abs().clamp_max(FARTHEST) - CALM).clamp_min(0.0)
        t = torch.where(far > 0, u.sign() * (CALM + far.expm1()), u)
        return self.link.write(t * self.scale + self.shift)


class Amounts(Kind):
    """Semicontinuous columns: zero below a threshold, above it the logarithm of the amount."""

    threshold: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        for name, value in {"threshold": 0.0, "shift": 0.0, "scale": 1.0}.items():
            self.register_buffer(name, torch.full((len(self.columns),), value))

    def learn(self, x: Tensor) -> None:
        zeros, known = (x == 0).sum(0), (~x.isnan()).sum(0)
        self.threshold.copy_(torch.special.ndtri((zeros + 0.5).double() / (known + 1)))
        shift, scale = moments(torch.where(x > 0, x, torch.nan).log())
        self.shift.copy_(shift)
        self.scale.copy_(scale)

    def read(self, x: Tensor) -> Reading:
        log = torch.where(x > 0, x, 1.0).log()
        y = (log - self.shift) / self.scale
        point = torch.where(x > 0, self.threshold + softplus(y), torch.nan)
        slope = torch.where(x > 0, logsigmoid(y) - self.scale.log() - log, 0.0)
        ends = torch.full_like(point, torch.inf)
        return point, -ends, torch.where(x == 0, self.threshold, ends), slope

    def write(self, u: Tensor) -> Tensor:
        above = (u - self.threshold).clamp(LEAST, FARTHEST)
        y = above + (-(-above).expm1()).log()
        most = 0.9 * math.log(torch.finfo(u.dtype).max)
        return torch.where(u > self.threshold, (y * self.scale + self.shift).clamp(-most, most).exp(), 0.0)


class Levels(Kind):
    """Binary and ordinal columns: steps as high as the levels are frequent, under a standard normal."""

    edges: Tensor

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        most = max(column.cardinality for column in columns)
        self.register_buffer("edges", torch.full((len(self.columns), most + 1), torch.inf))
        self.edges[:, 0] = -torch.inf
        for row, column in zip(self.edges, self.columns, strict=True):
            row[1 : column.cardinality] = torch.special.ndtri(torch.arange(1, column.cardinality) / column.cardinality)

    def learn(self, x: Tensor) -> None:
        for row, column, cells in zip(self.edges, self.columns, x.unbind(-1), strict=True):
            counts = torch.bincount(cells[~cells.isnan()].long(), minlength=column.cardinality).double() + 1
            row[1 : column.cardinality] = torch.special.ndtri(counts.cumsum(0)[:-1] / counts.sum()).to(row)

    def read(self, x: Tensor) -> Reading:
        unknown = x.isnan()
        code = x.nan_to_num().long()[..., None]
        edges = self.edges.expand(*x.shape, -1)
        low, high = (edges.gather(-1, code + step)[..., 0] for step in (0, 1))
        return interval(x, low.masked_fill(unknown, -torch.inf), high.masked_fill(unknown, torch.inf))

    def write(self, u: Tensor) -> Tensor:
        return (u[..., None] >= self.edges[:, 1:-1]).sum(-1).to(u)


class Counts(Kind):
    """Whole numbers from zero: steps on a logarithmic scale."""

    shift: Tensor
    scale: Tensor

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self.register_buffer("shift", torch.zeros(len(self.columns)))
        self.register_buffer("scale", torch.ones(len(self.columns)))
        ends = torch.tensor([column.ends for column in columns])
        self.register_buffer("least", ends[:, 0], persistent=False)
        self.register_buffer("most", ends[:, 1], persistent=False)

    def learn(self, x: Tensor) -> None:
        shift, scale = moments(x.log1p())
        self.shift.copy_(shift)
        self.scale.copy_(scale)

    def edge(self, x: Tensor) -> Tensor:
        """Where a value begins, in double precision: those of great counts lie close together."""
        return ((x.double().log1p() - self.shift) / self.scale).to(x)

    def read(self, x: Tensor) -> Reading:
        low = torch.where(x > self.least, self.edge(x.clamp_min(0.5) - 0.5), -torch.inf)  # type: ignore[operator]
        high = torch.where(x < self.most, self.edge(x + 0.5), torch.inf)  # type: ignore[operator]
        return interval(x, low, high)

    def write(self, u: Tensor) -> Tensor:
        most = 0.5 * math.log(torch.finfo(u.dtype).max)
        value = ((u.double() * self.scale + self.shift).clamp_max(most).expm1() + 0.5).floor().to(u)
        return torch.minimum(torch.maximum(value, self.least), self.most)  # type: ignore[arg-type]


class Choice(Kind):
    """A categorical column: a number a level, of which the greatest is chosen."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self.each = columns[0].cardinality

    def read(self, x: Tensor) -> Reading:
        ends = torch.full((*x.shape[:-1], self.each), torch.inf, dtype=x.dtype, device=x.device)
        return torch.full_like(ends, torch.nan), -ends, ends, torch.zeros_like(ends)

    def write(self, u: Tensor) -> Tensor:
        return u.argmax(-1, keepdim=True).to(u)


class Numbers(nn.Module):
    """The columns of a table as P numbers.

    Args:
        columns: D of them; a binary, ordinal or counted one has one number, a categorical one as many as levels.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.columns = tuple(columns)
        groups: list[tuple[type[Kind], list[int]]] = []
        for kind, kinds in KINDS.items():
            places = [at for at, column in enumerate(columns) if column.kind in kinds]
            if places:
                groups += [(kind, [at]) for at in places] if kind is Choice else [(kind, places)]
        self.kinds = [kind([columns[at] for at in places]) for kind, places in groups]
        self.registered = nn.ModuleList(self.kinds)
        self.places = [places for _, places in groups]
        self.widths = [len(places) * kind.each for kind, places in zip(self.kinds, self.places, strict=True)]
        self.size: int = sum(self.widths)
        owner = [at for kind, places in zip(self.kinds, self.places, strict=True) for at in places * kind.each]
        self.register_buffer("owner", torch.tensor(owner), persistent=False)  # the column of each number
        self.owner: Tensor

    def learn(self, x: Tensor) -> None:
        """Places and scales of the columns, from rows ``(N, D)`` with holes."""
        for kind, places in zip(self.kinds, self.places, strict=True):
            kind.learn(x[:, places])

    @once_per_tensor
    def read(self, x: Tensor) -> Known:
        """What cells ``(..., D)`` leave open of their numbers."""
        parts = [kind.read(x[..., places]) for kind, places in zip(self.kinds, self.places, strict=True)]
        point, low, high, slope = (torch.cat(part, -1) for part in zip(*parts, strict=True))
        return Known(point, low, high, self.winners(x), slope.sum(-1))

    def winners(self, x: Tensor) -> Tensor:
        """``(..., P)``: the chosen number of the choice that each one belongs to; itself where there is none."""
        found = torch.arange(self.size, device=x.device).expand(*x.shape[:-1], -1).clone()
        first = 0
        for kind, places, width in zip(self.kinds, self.places, self.widths, strict=True):
            if isinstance(kind, Choice):
                code, own = x[..., places], slice(first, first + width)
                found[..., own] = torch.where(code.isnan(), found[..., own], first + code.nan_to_num().long())
            first += width
        return found

    def write(self, u: Tensor) -> Tensor:
        """The cells ``(..., D)`` of numbers."""
        out = u.new_empty(*u.shape[:-1], len(self.columns))
        for kind, places, part in zip(self.kinds, self.places, u.split(self.widths, -1), strict=True):
            out[..., places] = kind.write(part)
        return out


KINDS: dict[type[Kind], tuple[str, ...]] = {
    Measures: tuple(GAUSSIAN_LINKS),
    Amounts: ("semicontinuous",),
    Levels: ("binary", "ordinal"),
    Counts: ("count",),
    Choice: ("categorical",),
}


def interval(x: Tensor, low: Tensor, high: Tensor) -> Reading:
    """Numbers of which ends are known."""
    return torch.full_like(x, torch.nan), low, high, torch.zeros_like(x)


def moments(y: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of the known cells of columns; 0 and 1 where there are none."""
    mean = y.double().nanmean(0)
    scale = (y.double() - mean).square().nanmean(0).sqrt()
    return mean.nan_to_num(0.0), torch.where(scale > LEAST, scale, 1.0)
