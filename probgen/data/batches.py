"""Tables as tensors: standardisation with its log Jacobian, pieces, minibatches, and features for networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import Any, Protocol

import numpy as np
import pyro
import torch
from torch import Tensor

from probgen.data.groups import Sound
from probgen.data.holes import known, mark_complete
from probgen.data.schema import Column, Schema
from probgen.data.sequences import Steps, cuts, windows
from probgen.errors import DataError

__all__ = [
    "Batch",
    "Batches",
    "Place",
    "Source",
    "Standardiser",
    "feature_columns",
    "features",
    "first_rows",
    "n_features",
]

AFFINE = ("real", "datetime")
LOGARITHMIC = ("positive", "semicontinuous")
PIECE_ROWS = 2**17


class Source(Protocol):
    """Anything that yields tables piece by piece: a Table, or a parquet folder larger than memory."""

    schema: Schema
    weights: Any

    @property
    def row_weights(self) -> Any: ...

    def __len__(self) -> int: ...

    def pieces(self, rows: int) -> Iterator[Any]: ...

    def share(self, number: int, of: int) -> Any: ...


@dataclass(frozen=True)
class Standardiser:
    """The affine map of each column to model coordinates: x -> (x - shift) / scale.

    Real columns get mean 0 and standard deviation 1; positive ones geometric mean 1; bounded ones the unit interval;
    discrete ones and counts stay as they are. Only continuous columns carry a Jacobian.
    """

    shift: np.ndarray
    scale: np.ndarray
    continuous: np.ndarray
    offsets: np.ndarray | None = None  # mean log Jacobian of a row of the source, in nats, one a column

    @classmethod
    def of(cls, source: Source) -> Standardiser:
        """Moments over the known cells, added up over the source's pieces."""
        sums = np.zeros((3, len(source.schema)))
        if any(column.is_continuous for column in source.schema):
            for piece in source.pieces(PIECE_ROWS):
                sums += moments_of(piece)
        return cls.from_moments(source, sums)

    @classmethod
    def from_moments(cls, source: Source, sums: np.ndarray) -> Standardiser:
        """From the counts, sums and sums of squares ``(3, D)`` of a source's columns."""
        columns, sums = list(source.schema), pooled(sums, source.schema)
        count, mean = sums[0], sums[1] / np.maximum(sums[0], 1e-300)
        spread = np.sqrt(np.maximum(sums[2] / np.maximum(count, 1e-300) - mean**2, 0.0))
        shift, scale = np.zeros(len(columns)), np.ones(len(columns))
        for at, column in enumerate(columns):
            if column.kind in AFFINE:
                reference = mean[at] + origin(column)
                shift[at], scale[at] = reference, spread[at] if spread[at] > 1e-12 * abs(mean[at]) else 1.0
            elif column.kind in LOGARITHMIC:
                scale[at] = np.exp(mean[at])
            elif column.kind == "bounded":
                low, high = column.bounds or (0.0, 1.0)
                shift[at], scale[at] = low, high - low
        continuous = np.array([c.is_continuous for c in columns])
        share = count / max(total_weight(source), 1e-300)
        return cls(shift, scale, continuous, -share * np.where(continuous, np.log(scale), 0.0))

    def forward(self, values: np.ndarray) -> np.ndarray:
        if not self.continuous.any():
            return values.copy()
        x = values - self.shift
        x /= self.scale
        return x

    def inverse(self, x: np.ndarray) -> np.ndarray:
        return x * self.scale + self.shift

    def log_jacobian(self, known: np.ndarray) -> np.ndarray:
        """Log |d model coordinates / d original units| of the known cells of each row, in nats."""
        return -(known * np.where(self.continuous, np.log(self.scale), 0.0)).sum(1)

    def select(self, index: list[int]) -> Standardiser:
        return Standardiser(self.shift[index], self.scale[index], self.continuous[index])


def pooled(sums: np.ndarray, schema: Schema) -> np.ndarray:
    """Sums ``(3, D)`` with those of a sound's columns shared among them: what is loud at one time and in one band is so at others."""
    made = sums.copy()
    for image in schema.images:
        if isinstance(image, Sound) and (first := image.start(schema.names)) is not None:
            made[:, first : first + image.pixels] = sums[:, first : first + image.pixels].mean(1, keepdims=True)
    return made


def total_weight(source: Source) -> float:
    """The number of rows (time steps), or the sum of their weights."""
    if source.weights is None:
        return float(getattr(source, "n_rows", len(source)))
    return float(np.sum(source.row_weights))


def moments_of(piece: Any) -> np.ndarray:
    """``(3, D)``: count, sum and sum of squares of the continuous columns of a piece of a table, zeros for others."""
    columns = list(piece.schema)
    scaled = [at for at, column in enumerate(columns) if column.is_continuous]
    sums = np.zeros((3, len(columns)))
    values = piece.values if len(scaled) == len(columns) else piece.values[:, scaled]
    sums[:, scaled] = moments(values, piece.row_weights, [columns[at] for at in scaled])
    return sums


def origin(column: Column) -> float:
    """A fixed offset that keeps sums of squares accurate where values are large (dates)."""
    return 10_000.0 if column.kind == "datetime" else 0.0


def moments(values: np.ndarray, weights: np.ndarray | None, columns: list[Column]) -> np.ndarray:
    """Weighted count, sum and sum of squares of each column, on the scale on which it is standardised."""
    y = values - np.array([origin(c) for c in columns])
    for at, column in enumerate(columns):
        if column.kind in LOGARITHMIC:
            y[:, at] = np.log(np.where(values[:, at] > 0, values[:, at], np.nan))
    known = ~np.isnan(y)
    w = known if weights is None else known * weights[:, None]
    y = np.where(known, y, 0.0)
    return np.stack([w.sum(0), (w * y).sum(0), (w * y**2).sum(0)])


@dataclass(frozen=True)
class Place:
    """Where one process's rows of a minibatch stand in it.

    Attributes:
        first: its first row in the minibatch.
        rows: of the whole minibatch.
        weight: of the whole minibatch: the number of its rows (sequences), or the sum of their weights.
    """

    first: int
    rows: int
    weight: float


class Batch:
    """Some rows of a table in model coordinates: what a program sees.

    Attributes:
        x: ``(B, D)``, NaN where unknown.
        weights: ``(B,)`` or None.
        total: N, the number of rows of the whole table (the plate scales by N / B).
        steps: the sequences in which the rows stand, or None; weights are then one a sequence.
        first: number of the first row in the table that is read in pieces.
        numbers: of the rows from there on, where they are not in order; empty where they are.
        place: in the minibatch of which these rows are one process's share; None where they are all of it.
    """

    place: Place | None = None

    def __init__(
        self,
        x: Tensor,
        schema: Schema,
        *,
        total: int | None = None,
        weights: Tensor | None = None,
        steps: Steps | None = None,
    ) -> None:
        self.x, self.schema, self.weights, self._steps = x, schema, weights, steps
        self.total = len(x) if total is None else total
        self.first, self.numbers = 0, torch.empty(0)
        self._features: dict[bool, Tensor] = {}
        self._of: tuple[Batch, Tensor] | None = None  # the batch that these are rows of, and which
        self._parts: dict[Any, Tensor] = {}

    def __len__(self) -> int:
        return len(self.x)

    def number(self, row: int) -> int:
        """A row's number in the table that is read in pieces."""
        return self.first + (int(self.numbers[row]) if len(self.numbers) else row)

    def rows(self) -> pyro.plate:
        """The plate over rows; a minibatch stands for the whole table.

        Raises:
            DataError: there are none.
        """
        if not self.total:
            raise DataError("The table has no rows; give at least one.")
        return pyro.plate("rows", self.total, subsample=self._positions, dim=-1)

    @cached_property
    def _positions(self) -> Tensor:
        return torch.arange(len(self.x), device=self.x.device)

    @property
    def in_sequences(self) -> bool:
        """True where the rows are time steps."""
        return self._steps is not None

    @cached_property
    def steps(self) -> Steps:
        """The sequences of the rows; rows that stand alone are sequences of one step."""
        return self._steps or Steps(torch.ones(len(self.x), dtype=torch.long, device=self.x.device))

    def column(self, name: str) -> Tensor:
        """One column, ``(B,)``."""
        if name not in self._parts:
            part = self._columns[self.schema.index(name)]
            self._parts[name] = mark_complete(part) if known(self.x) is None else part
        return self._parts[name]

    @cached_property
    def _columns(self) -> Tensor:
        """``(D, B)``, each column by itself in memory."""
        return self.x.mT.contiguous()

    def select(self, names: tuple[str, ...]) -> Tensor:
        """Some columns, ``(B, len(names))``."""
        if names == self.schema.names:
            return self.x
        if names not in self._parts:
            self._parts[names] = self.x[:, [self.schema.index(name) for name in names]]
        return self._parts[names]

    def with_column(self, name: str, value: Tensor) -> Tensor:
        """Cells ``(..., B, D)`` with one column taken from elsewhere, ``(..., B)``."""
        at = self.schema.index(name)
        x = self.x.expand(*value.shape, self.x.shape[-1])
        return torch.cat([x[..., :at], value.to(x)[..., None], x[..., at + 1 :]], -1)

    def places(self, value: Tensor) -> list[int]:
        """Which columns a tensor taken from this batch holds; empty for any other tensor."""
        if value is self.x:
            return list(range(self.x.shape[1]))
        for key, part in self._parts.items():
            if part is value:
                return [self.schema.index(name) for name in ([key] if isinstance(key, str) else key)]
        return []

    def minibatch(self, index: Tensor, total: int) -> Batch:
        """Some rows that stand for ``total`` rows; what is known of the whole batch is not found out again."""
        x = self.x[index]
        if known(self.x) is None:
            mark_complete(x)
        weights = None if self.weights is None or self.in_sequences else self.weights[index]
        made = Batch(x, self.schema, total=total, weights=weights)
        made._of = (self, index)
        return made

    def sequences(self, index: Tensor) -> Batch:
        """Some sequences that stand for the whole table."""
        steps, rows = self.steps.select(index)
        made = self.minibatch(rows, self.total)
        made._steps = steps
        made.weights = None if self.weights is None else self.weights[index]
        return made

    def windows(self, starts: Tensor, lengths: Tensor) -> Batch:
        """Pieces of sequences by their first rows and lengths ``(W,)``, which know the row before them, where there is one."""
        steps = Steps(lengths)
        made = self.minibatch(
            (starts - steps.starts)[steps.sequence] + torch.arange(steps.rows, device=starts.device), self.total
        )
        at_start = self.steps.time[starts] == 0
        made._steps = Steps(lengths, torch.where(at_start[:, None], torch.nan, self.x[(starts - 1).clamp_min(0)]))
        made.weights = None if self.weights is None else self.weights[self.steps.sequence[starts]]
        return made

    def hiding(self, hidden: Tensor) -> Batch:
        """The same rows with fewer known cells, by a mask ``(B, D)``; what networks read of the others is not read again."""
        made = Batch(
            torch.where(hidden, torch.nan, self.x),
            self.schema,
            total=self.total,
            weights=self.weights,
            steps=self._steps,
        )
        read, width = self.features(masks=True), hidden.shape[1]
        owners = torch.tensor(feature_columns(self.schema), device=hidden.device)
        numbers = torch.where(hidden[:, owners], 0.0, read[:, :-width])
        made._features[True] = torch.cat([numbers, made.x.isnan().to(read)], -1)
        made.first, made.numbers = self.first, self.numbers
        return made

    def telling(self, name: str, rows: Tensor, values: Tensor) -> Batch:
        """The same rows with one column's cells known in some of them, by a mask ``(B,)``."""
        if not bool(rows.any()):
            return self
        x = self.with_column(name, torch.where(rows, values.to(self.x), self.column(name)))
        made = Batch(x, self.schema, total=self.total, weights=self.weights, steps=self._steps)
        made.first, made.numbers = self.first, self.numbers
        return made

    @property
    def weight(self) -> float:
        """The number of rows (sequences) in the mean over them, or the sum of their weights."""
        if self.weights is not None:
            return float(self.weights.sum())
        return float(len(self._steps or self.x))

    def share(self, number: int, of: int) -> Batch:
        """The rows (whole sequences) of one of several processes; the first process always has some."""
        if of == 1:
            return self
        units = cuts(len(self.x) if self._steps is None else self._steps.lengths.cpu().numpy(), of)[
            number : number + 2
        ]
        edges = units if self._steps is None else [int(self._steps.lengths[:unit].sum()) for unit in units]
        index = torch.arange(edges[0], edges[1], device=self.x.device)
        share = self.minibatch(index, self.total)
        if self._steps is not None:
            known = None if self._steps.known is None else self._steps.known[units[0] : units[1]]
            share._steps = Steps(self._steps.lengths[units[0] : units[1]], known)
            share.weights = None if self.weights is None else self.weights[units[0] : units[1]]
        share.place = Place(edges[0], len(self.x), self.weight)
        return share

    def features(self, masks: bool = False) -> Tensor:
        """What an encoder reads: centred cells, one-hot levels, and a mask for columns that have holes, or for all."""
        if masks not in self._features:
            self._features[masks] = self._read(masks)
        return self._features[masks]

    def _read(self, masks: bool) -> Tensor:
        """Those of the whole batch are made once, and rows of them taken."""
        if self._of is None:
            return features(self.x, self.schema, masks)
        whole, index = self._of
        read = whole.features(masks)
        return self.x if read is whole.x else read[index]


class Batches:
    """A source as batches of tensors.

    Args:
        source: a Table or a parquet folder.
        standardiser: its affine map.
        batch_size: rows a minibatch; None for the whole piece.
        rows: rows a piece when reading in order.
        dtype, device: of the tensors.
        first: number of the source's first row in the table of which it is a share.

    Attributes:
        window: steps of longer sequences that are together in a minibatch, or None for whole sequences.
    """

    window: int | None = None

    def __init__(
        self,
        source: Source,
        standardiser: Standardiser,
        *,
        batch_size: int | None = None,
        rows: int = PIECE_ROWS,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
        schema: Schema | None = None,
        first: int = 0,
    ) -> None:
        self.source, self.standardiser, self.batch_size, self.first = source, standardiser, batch_size, first
        self.rows, self.dtype, self.device = rows, dtype, device
        self.schema = schema or source.schema
        self.total = len(source)
        self._kept: list[Batch] | None = None

    def __len__(self) -> int:
        return self.total

    def over(self, source: Source) -> Batches:
        """Another source in the same coordinates."""
        return Batches(
            source, self.standardiser, batch_size=self.batch_size, rows=self.rows, dtype=self.dtype, device=self.device,
            schema=self.schema,
        )  # fmt: skip

    def share(self, number: int, of: int) -> Batches:
        """The rows of one of several processes, in the same coordinates and pieces of the same size."""
        if of == 1:
            return self
        source = self.source.share(number, of)
        made = self.over(source)
        made.first = self.first + source.first
        return made

    def resize(self, rows: int) -> None:
        """Read in pieces of this many rows from now on."""
        if min(self.rows, self.total) != min(rows, self.total):
            self._kept = None
        self.rows = rows

    def pieces(self) -> Iterator[Batch]:
        """All rows in order. A table in memory keeps its tensors, so that data statistics are made once."""
        if self._kept is None and hasattr(self.source, "values"):
            self._kept = list(self.made())
        yield from self.made() if self._kept is None else self._kept

    def made(self) -> Iterator[Batch]:
        """The source's pieces as batches, made now."""
        first = self.first
        for table in self.source.pieces(self.rows):
            batch = self.batch(table)
            batch.first, first = first, first + len(batch)
            yield batch

    def batch(self, table: Any) -> Batch:
        """A table as one batch that stands for the whole source."""
        x = torch.as_tensor(self.standardiser.forward(table.values), dtype=self.dtype, device=self.device)
        weights = (
            None if table.weights is None else torch.as_tensor(table.weights, dtype=self.dtype, device=self.device)
        )
        lengths = getattr(table, "lengths", None)
        steps = None if lengths is None else Steps(torch.as_tensor(lengths, device=self.device))
        return Batch(x, self.schema, total=len(x), weights=weights, steps=steps)

    def epoch(self, seed: int, number: int = 0, of: int = 1) -> Iterator[Batch]:
        """Minibatches of rows (of whole sequences) in an order drawn from the seed; a folder is shuffled within its pieces.

        Of several processes, each with its ``number``, every one has its share of the rows of the same minibatches.
        """
        generator = torch.Generator().manual_seed(seed)
        for piece in self.pieces():
            if piece.in_sequences and self.window is not None:
                yield from self.windows(piece, generator, number, of)
                continue
            if piece.in_sequences:
                order = torch.randperm(len(piece.steps), generator=generator).to(self.device)
                some = order.split(self.batch_size or len(order))
                yield from (
                    (piece.sequences(index).share(number, of) for index in some)
                    if len(some) > 1
                    else [piece.share(number, of)]
                )
                continue
            order = torch.randperm(len(piece), generator=generator).to(self.device)
            for index in order.split(self.batch_size or len(piece)):
                yield self.part(piece, index, number, of)

    def windows(self, piece: Batch, generator: torch.Generator, number: int, of: int) -> Iterator[Batch]:
        """Minibatches of pieces of sequences, cut at random places."""
        assert self.window is not None
        starts, lengths = windows(piece.steps, self.window, generator)
        order = torch.randperm(len(starts), generator=generator).to(self.device)
        for index in order.split(self.batch_size or len(order)):
            yield piece.windows(starts[index], lengths[index]).share(number, of)

    def part(self, piece: Batch, index: Tensor, number: int, of: int) -> Batch:
        """One process's rows of a minibatch."""
        if of == 1:
            return piece.minibatch(index, self.total)
        edges = cuts(len(index), of)
        made = piece.minibatch(index[edges[number] : edges[number + 1]], self.total)
        weight = len(index) if piece.weights is None else float(piece.weights[index].sum())
        made.place = Place(edges[number], len(index), float(weight))
        return made


# ---------------------------------------------------------------------------------------------------- features
def features(x: Tensor, schema: Schema, masks: bool = False) -> Tensor:
    """``(..., F)`` numbers of order one, zeros for unknown cells, and a mask for columns with holes; with ``masks``, for all."""
    if not masks and all(column.kind == "binary" and not column.incomplete for column in schema):
        return x if known(x) is None else x.nan_to_num()
    pieces = [read_alike(x[..., run], schema.columns[run]) for run in runs(schema)]
    told = [at for at, column in enumerate(schema) if masks or column.incomplete]
    unknown = x.isnan() if len(told) == len(schema) else x[..., told].isnan()
    return torch.cat([*pieces, unknown.to(x)], -1)


def first_rows(pieces: Iterable[Batch], rows: int) -> tuple[Tensor, Tensor | None]:
    """Cells and weights of the first pieces that together hold that many rows."""
    kept: list[Batch] = []
    for batch in pieces:
        kept.append(batch)
        if sum(map(len, kept)) >= rows:
            break
    x = torch.cat([batch.x for batch in kept])
    if all(batch.weights is None for batch in kept):
        return x, None
    return x, torch.cat([torch.ones_like(b.x[:, 0]) if b.weights is None else b.weights for b in kept])


def n_features(schema: Schema, masks: bool = False) -> int:
    """F, the width of :func:`features`."""
    return len(feature_columns(schema)) + sum(masks or column.incomplete for column in schema)


def feature_columns(schema: Schema) -> list[int]:
    """The column that each number of :func:`features` is of, masks left out."""
    widths = {"categorical": lambda column: len(column.levels), "semicontinuous": lambda _: 2}
    counts = [widths.get(column.kind, lambda _: 1)(column) for column in schema]
    return [at for at, count in enumerate(counts) for _ in range(count)]


def read_column(x: Tensor, column: Column) -> Tensor:
    """One column's features, ``(..., 1)`` or ``(..., L)``."""
    return read_alike(x[..., None], [column])


def runs(schema: Schema) -> list[slice]:
    """Neighbouring columns that are read alike."""
    lengths = [len(list(own)) for _, own in groupby(schema, look)]
    ends = list(accumulate(lengths))
    return [slice(end - length, end) for length, end in zip(lengths, ends, strict=True)]


def look(column: Column) -> tuple[str, int]:
    """What tells how a column is read."""
    if column.kind == "count" and column.bounds is not None and math.isfinite(column.bounds[1]):
        return "steps", 0
    return column.kind, len(column.levels)


def read_alike(x: Tensor, columns: Sequence[Column]) -> Tensor:
    """Features of ``(..., C)`` cells of columns that are read alike, ``(..., C)`` or ``(..., C L)``."""
    kind, levels = look(columns[0])
    if kind in AFFINE or kind == "binary":
        read = x
    elif kind == "positive":
        read = x.clamp_min(1e-30).log()
    elif kind == "bounded":
        read = 2 * x - 1
    elif kind == "steps":
        least, most = x.new_tensor([column.bounds for column in columns]).T
        read = 2 * (x - least) / (most - least) - 1
    elif kind == "count":
        read = x.clamp_min(0).log1p() - 1
    elif kind == "semicontinuous":
        read = torch.stack([(x > 0).to(x), torch.where(x > 0, x, 1.0).log()], -1).where(~x.isnan()[..., None], 0.0)
        return read.nan_to_num().flatten(-2)
    elif kind == "ordinal":
        read = 2 * x / max(levels - 1, 1) - 1
    else:
        return (x[..., None] == torch.arange(levels, device=x.device)).to(x).flatten(-2)
    return read.nan_to_num()
