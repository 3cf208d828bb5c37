r"""A table's columns as numbers that gradients pass through: what a generator writes, and a critic reads.

Numbers of continuous columns are written as they are, in coordinates of about mean nought and variance one; those with ends by a hyperbolic tangent. What
a cell cannot be half of (a level, a count, whether there is anything) is what it is on the way forward; backwards it passes as if it had been
the relaxed value, of levels the softmax of logits with Gumbel noise (Jang, Gu and Poole, 2017; Maddison, Mnih and Teh, 2017):

.. math:: \ell = \operatorname{argmax}_k (o_k + g_k), \qquad
    \frac{\partial \ell}{\partial o} := \frac{\partial}{\partial o} \operatorname{softmax}\Bigl(\frac{o + g}{\tau}\Bigr), \qquad g_k \sim \mathrm{Gumbel}(0, 1)

So a critic cannot tell generated cells by their being neither zero nor one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from probgen.data.batches import Batch, feature_columns, first_rows
from probgen.data.schema import Column, Schema
from probgen.families.base import Observable

__all__ = ["Generated", "RelaxedColumns"]

ROWS = 2**14  # that coordinates are learnt from
TEMPERATURE = 0.5
FAR = 60.0  # of a logarithm, which a generator may not pass
INSIDE = 1e-6  # of a bounded column's ends


def straight(exact: Tensor, relaxed: Tensor) -> Tensor:
    """The exact value, with the gradient of the relaxed one (Bengio, Léonard and Courville, 2013)."""
    return relaxed + (exact - relaxed).detach()


class Part(nn.Module):
    """Columns of one kind.

    Args:
        columns: which they are.
    """

    outputs: int = 1  # of a generator, a column
    noises: int = 0  # uniform numbers, a column
    numbers: int = 1  # that it is read as
    learns: ClassVar[bool] = False  # coordinates

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(len(columns), self.numbers))
        self.register_buffer("scale", torch.ones(len(columns), self.numbers))
        self.loc: Tensor
        self.scale: Tensor

    def learn(self, numbers: Tensor, known: Tensor) -> None:
        """Coordinates from ``(N, C, F)`` numbers, of which some are known ``(N, C, 1)``."""
        count = known.sum(0).clamp_min(1)
        mean = (numbers * known).sum(0) / count
        spread = ((numbers - mean).square() * known).sum(0).div(count).sqrt()
        self.loc, self.scale = mean.to(self.loc), torch.where(spread > 1e-6, spread, 1.0).to(self.scale)

    def relax(self, output: Tensor, noise: Tensor) -> Tensor:
        """``(B, C, F)`` coordinates from ``(B, C, outputs)`` and ``(B, C, noises)``."""
        return output

    def write(self, numbers: Tensor) -> Tensor:
        """``(B, C)`` cells from ``(B, C, F)`` numbers."""
        return numbers[..., 0]


class Logarithms(Part):
    """Of positive columns."""

    learns = True

    def write(self, numbers: Tensor) -> Tensor:
        return numbers[..., 0].clamp(-FAR, FAR).exp()


class Unit(Part):
    """Between two ends."""

    def relax(self, output: Tensor, noise: Tensor) -> Tensor:
        return output.tanh()

    def write(self, numbers: Tensor) -> Tensor:
        return ((numbers[..., 0] + 1) / 2).clamp(INSIDE, 1 - INSIDE)


class Steps(Part):
    """Whole numbers between two ends."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        ends = torch.tensor([column.ends for column in columns])
        self.register_buffer("least", ends[:, :1], persistent=False)
        self.register_buffer("span", ends[:, 1:] - ends[:, :1], persistent=False)
        self.least: Tensor
        self.span: Tensor

    def relax(self, output: Tensor, noise: Tensor) -> Tensor:
        relaxed = output.tanh()
        return straight(2 * self.steps(relaxed) / self.span - 1, relaxed)

    def steps(self, numbers: Tensor) -> Tensor:
        return ((numbers + 1) / 2 * self.span).round()

    def write(self, numbers: Tensor) -> Tensor:
        return (self.least + self.steps(numbers))[..., 0]


class Counts(Part):
    """Whole numbers without an upper end."""

    learns = True

    def relax(self, output: Tensor, noise: Tensor) -> Tensor:
        whole = counted(self.loc + self.scale * output)
        return straight((whole.log1p() - 1 - self.loc) / self.scale, output)

    def write(self, numbers: Tensor) -> Tensor:
        return counted(numbers)[..., 0]


def counted(numbers: Tensor) -> Tensor:
    """The nearest count."""
    return (numbers + 1).clamp(0.0, FAR / 2).expm1().round()


def switched(logits: Tensor, uniform: Tensor) -> Tensor:
    """On or off, by the log odds."""
    noisy = logits + uniform.logit(INSIDE)
    return straight((noisy > 0).to(noisy), (noisy / TEMPERATURE).sigmoid())


class Switches(Part):
    """Of two levels."""

    noises = 1

    def relax(self, output: Tensor, noise: Tensor) -> Tensor:
        return switched(output, noise)

    def write(self, numbers: Tensor) -> Tensor:
        return (numbers[..., 0] > 0.5).to(numbers)


class Levels(Part):
    """Of several levels in no order."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.outputs = self.noises = self.numbers = len(columns[0].levels)
        super().__init__(columns)

    def relax(self, output: Tensor, noise: Tensor) -> Tensor:
        noisy = output - noise.clamp(INSIDE, 1 - INSIDE).log().neg().log()
        exact = one_hot(noisy.argmax(-1), noisy.shape[-1]).to(noisy)
        return straight(exact, (noisy / TEMPERATURE).softmax(-1))

    def write(self, numbers: Tensor) -> Tensor:
        return numbers.argmax(-1).to(numbers)


class OrderedLevels(Levels):
    """Of several levels in an order: read as one number between -1 and 1."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self.numbers = 1
        self.register_buffer("grid", torch.linspace(-1, 1, self.outputs), persistent=False)
        self.grid: Tensor
        self.loc, self.scale = self.loc[:, :1], self.scale[:, :1]

    def relax(self, output: Tensor, noise: Tensor) -> Tensor:
        return (super().relax(output, noise) * self.grid).sum(-1, keepdim=True)

    def write(self, numbers: Tensor) -> Tensor:
        return ((numbers[..., 0] + 1) / 2 * (self.outputs - 1)).round()


class NothingOrMore(Part):
    """Zeros, and positive numbers: a switch, and a logarithm where it is on."""

    outputs, noises, numbers, learns = 2, 1, 2, True

    def learn(self, numbers: Tensor, known: Tensor) -> None:
        """Zeros stay where they are."""
        on = (numbers[..., :1] > 0.5) & known.bool()
        square = (numbers.square() * on).sum(0) / on.sum(0).clamp_min(1)
        self.scale = torch.where(square > 1e-12, square.sqrt(), 1.0).to(self.scale)
        self.scale[:, 0] = 1.0

    def relax(self, output: Tensor, noise: Tensor) -> Tensor:
        on = switched(output[..., :1], noise)
        return torch.cat([on, on * output[..., 1:]], -1)

    def write(self, numbers: Tensor) -> Tensor:
        return torch.where(numbers[..., 0] > 0.5, numbers[..., 1].clamp(-FAR, FAR).exp(), 0.0)


PARTS: dict[str, type[Part]] = {
    "real": Part,
    "datetime": Part,
    "positive": Logarithms,
    "bounded": Unit,
    "count": Counts,
    "steps": Steps,
    "binary": Switches,
    "categorical": Levels,
    "ordinal": OrderedLevels,
    "semicontinuous": NothingOrMore,
}


def part_of(column: Column) -> tuple[str, int]:
    """Columns with the same name share a part."""
    if column.kind == "count" and column.bounds is not None and torch.tensor(column.ends).isfinite().all():
        return ("steps", 0)
    return (column.kind, len(column.levels) if column.kind in ("categorical", "ordinal") else 0)


class RelaxedColumns(nn.Module):
    """The columns of a schema, read and written.

    Args:
        schema: the columns.

    Attributes:
        numbers: F, of a row that is read.
        outputs: how many a generator gives.
        noises: uniform numbers that a row takes, for its levels.
        width: D.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        groups: dict[tuple, list[int]] = defaultdict(list)
        for at, column in enumerate(schema):
            groups[part_of(column)].append(at)
        self.members = list(groups.values())
        self.parts = nn.ModuleList(PARTS[k[0]]([schema[at] for at in own]) for k, own in groups.items())
        self.width = len(schema)
        owners = feature_columns(schema)
        self.places = [[place for place, owner in enumerate(owners) if owner == at] for at in range(self.width)]
        self.numbers = len(owners)
        self.outputs = sum(p.outputs * len(own) for p, own in self.pairs())
        self.noises = sum(p.noises * len(own) for p, own in self.pairs())
        index = torch.tensor([place for own in self.members for at in own for place in self.places[at]])
        for name, value in {
            "owner": torch.tensor(owners),
            "index": index,
            "order": index.argsort(),
            "columns": torch.tensor([at for own in self.members for at in own]).argsort(),
        }.items():
            self.register_buffer(name, value, persistent=False)
        self.owner: Tensor
        self.index: Tensor  # numbers, part by part
        self.order: Tensor  # back
        self.columns: Tensor

    def pairs(self) -> list[tuple[Part, list[int]]]:
        """The parts and their columns."""
        return list(zip(cast("list[Part]", list(self.parts)), self.members, strict=True))

    @property
    def output_places(self) -> list[list[int]]:
        """Of every column, which outputs of a generator describe it."""
        found: list[list[int]] = [[] for _ in range(self.width)]
        first = 0
        for part, own in self.pairs():
            for at in own:
                found[at] = list(range(first, first + part.outputs))
                first += part.outputs
        return found

    def split(self, values: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """``(B, C, ...)`` of every part."""
        widths = [size * len(own) for size, own in zip(sizes, self.members, strict=True)]
        pieces = values.split(widths, -1)
        return [
            piece.unflatten(-1, (len(own), size)) for piece, own, size in zip(pieces, self.members, sizes, strict=True)
        ]

    def learn(self, batches: Any) -> None:
        """Coordinates from the first rows, before anything is fitted."""
        x, _ = first_rows(batches.pieces(), ROWS)
        read = Batch(x, batches.schema).features(masks=True)
        numbers = self.split(read[:, : self.numbers][:, self.index], [part.numbers for part, _ in self.pairs()])
        for (part, own), values in zip(self.pairs(), numbers, strict=True):
            if part.learns:
                part.learn(values, (~x[:, own].isnan())[..., None])

    def spread(self, mask: Tensor) -> Tensor:
        """``(B, F)`` from a mask of cells ``(B, D)``."""
        return mask[..., self.owner]

    def coordinates(self) -> tuple[Tensor, Tensor]:
        """``(F,)`` where numbers are nought, and their unit."""
        loc = torch.cat([part.loc.flatten() for part, _ in self.pairs()])
        scale = torch.cat([part.scale.flatten() for part, _ in self.pairs()])
        return loc[self.order], scale[self.order]

    def read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """``(B, F)`` numbers in these coordinates, nought where unknown, and which cells are known ``(B, D)``."""
        read = batch.features(masks=True)
        loc, scale = self.coordinates()
        known = read[:, self.numbers :] < 0.5
        return ((read[:, : self.numbers] - loc) / scale) * self.spread(known), known

    def forward(self, output: Tensor, uniform: Tensor, batch: Batch) -> Generated:
        """Rows of which the known cells stay, by a generator's outputs for the others."""
        shown, known = self.read(batch)
        return Generated(torch.where(self.spread(known), shown, self.relaxed(output, uniform)), self)

    def relaxed(self, output: Tensor, uniform: Tensor) -> Tensor:
        """``(B, F)`` numbers by a generator's outputs, and uniform numbers ``(B, noises)``."""
        outputs = self.split(output, [part.outputs for part, _ in self.pairs()])
        noises = self.split(uniform, [part.noises for part, _ in self.pairs()])
        made = [part.relax(o, n) for (part, _), o, n in zip(self.pairs(), outputs, noises, strict=True)]
        return torch.cat([piece.flatten(-2) for piece in made], -1)[..., self.order]

    def write(self, rows: Tensor) -> Tensor:
        """``(B, D)`` cells in a batch's coordinates."""
        loc, scale = self.coordinates()
        numbers = self.split((loc + scale * rows)[..., self.index], [part.numbers for part, _ in self.pairs()])
        cells = [part.write(own) for (part, _), own in zip(self.pairs(), numbers, strict=True)]
        return torch.cat(cells, -1)[..., self.columns]


class Generated(Observable):
    """Rows as a generator wrote them: a point for each, given the noise.

    A point has no density; at the known cells, which it keeps, it counts as one.

    Args:
        rows: ``(B, F)``.
        columns: whose numbers they are.
    """

    def __init__(self, rows: Tensor, columns: RelaxedColumns) -> None:
        self.rows, self.columns = rows, columns
        super().__init__(rows.shape[:-1], torch.Size([columns.width]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return value.new_zeros(value.shape[:-1])

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.columns.write(self.rows)

    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells as they were generated; known cells keep their bits."""
        return torch.where(x.isnan(), self.columns.write(self.rows).to(x), x)

    @property
    def mean(self) -> Tensor:
        return self.columns.write(self.rows)
