"""What a table takes by a model, by others' compressors, and column by column."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probgen.data.native import from_mapping
from probgen.data.stored import Stored, dissected, sizes_of_peers
from probgen.data.table import Table
from probgen.errors import DataError
from probgen.queries.compression.cell_by_cell import CellByCell
from probgen.queries.compression.container import smallest, unpacked
from probgen.queries.compression.normals import coupled
from probgen.queries.compression.verbs import column_bits, decompress

__all__ = ["CompressionStudy", "compression_study"]

BYTE = 8
ASKED = 2**12  # rows of one question
LEAST = 1e-6  # mass below which a cell is narrow, and a difference of two cumulative masses coarse


@dataclass(frozen=True, eq=False)
class CompressionStudy:
    """Sizes of one table.

    Attributes:
        model: its name.
        rows: N.
        bytes: of the file.
        coded: bytes of its blocks, what the model codes.
        kept: bytes of what is kept beside: columns that the model does not know.
        said: bytes by the density of the model at the precision of the cells, with those of the holes by the entropy of their patterns; where
            the density is a bound, by the bound. A cell's probability is its mass where the column's conditional is a mixture of normals, else the
            density times its width.
        peers: bytes by others: of the text (csv) and of a Parquet file, and of the whole numbers in the fewest bytes, by columns or rows.
        columns: one record a column that is coded: ``bits`` of a known cell in the file (given the columns before it), ``given_others``, what the density
            says that one costs given all others, and ``known`` cells. Empty where the density is a bound, and of sequences.
        seconds: to "compress" and to "decompress".
        text: bytes of the table as text.
    """

    model: str
    rows: int
    bytes: int
    coded: int
    kept: int
    said: float
    peers: dict[str, int]
    columns: list[dict[str, Any]]
    seconds: dict[str, float]
    text: int

    @property
    def bits_a_row(self) -> float:
        """Of the file."""
        return self.bytes * BYTE / max(self.rows, 1)

    @property
    def ratio(self) -> float:
        """Of the file to the smallest of the others."""
        return self.bytes / min(self.peers.values())

    def to_pandas(self) -> Any:
        """The columns' records as a data frame."""
        names = ("column", "bits", "given_others", "known")
        return from_mapping({name: [record[name] for record in self.columns] for name in names})

    def __str__(self) -> str:
        beside = f"{self.coded} coded ({self.coded / max(self.said, 1e-9):.4f} of what the density says), {self.kept} kept beside"
        lines = [
            f"{self.model}: {self.rows} rows in {self.bytes} bytes, {self.bits_a_row:.3f} bits a row; {beside}",
            ", ".join(f"{name} {size} ({self.bytes / size:.2f})" for name, size in self.peers.items()),
            ", ".join(f"{self.rows / max(took, 1e-9):.0f} rows/s to {verb}" for verb, took in self.seconds.items()),
        ]
        width = max([len(record["column"]) for record in self.columns], default=0)
        for record in self.columns:
            told = f"{record['bits']:8.3f} bits a known cell, {record['given_others']:8.3f} given all others"
            lines.append(f"{record['column']:<{width}}{told}")
        return "\n".join(lines)


def compression_study(fit: Any, data: Any, *, rows: int = 2**14, columns: bool = True) -> CompressionStudy:
    """Compress a table by a model, read it back, and compare sizes with the density's word and with others' compressors.

    Args:
        fit: the model, which need not have seen these rows.
        data: a pandas data frame, or a :class:`Table`.
        rows: of a block.
        columns: also ask what every column costs, in the file and given all others: a density more a column.

    Raises:
        CapabilityError: the model cannot compress.
        DataError: the table that came back is not the one that was stored (which is never to be).

    Example:
        >>> import probgen as pg, pandas as pd
        >>> frame = pd.DataFrame({"a": list("xyxx") * 25, "b": list("uvuu") * 25})
        >>> found = pg.compression_study(pg.fit("naive_bayes", frame, progress=False), frame)
        >>> [record["column"] for record in found.columns], found.rows
        (['a', 'b'], 100)
    """
    stored = dissected(data, fit.schema)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.pgz"
        began = time.perf_counter()
        size = fit.compress(data, path, rows=rows)
        written = time.perf_counter()
        back = decompress(path, fit)
        read = time.perf_counter()
        file = unpacked(path)
        kept = sum(map(len, file.texts)) + len(smallest(file.rest))
        coded = sum(len(block.bits) for block in file.blocks)
    again = dissected(back, fit.schema)
    if not (
        np.array_equal(again.numbers, stored.numbers) and again.rest == stored.rest and again.texts == stored.texts
    ):
        raise DataError("The table that came back is not the one that was stored; please report it.")
    peers, text = sizes_of_peers(data, stored)
    alone = fit.traits.density == "exact" and not fit.traits.sequences
    records = columns_of(fit, stored, rows) if columns and alone else []
    took = {"compress": written - began, "decompress": read - written}
    said = (said_of(fit, stored) + of_holes(stored.known)) / BYTE
    return CompressionStudy(fit.name, len(stored), size, coded, kept, said, peers, records, took, text)


def columns_of(fit: Any, stored: Stored, rows: int) -> list[dict[str, Any]]:
    """What every coded column costs."""
    table, found = as_table(fit, stored), []
    whole, spent = np.asarray(fit.log_prob(table)), column_bits(fit, stored, rows)
    for place, column in enumerate(fit.schema):
        known = stored.known[:, place]
        if stored.readings[place] is None or not known.any():
            continue
        others = np.asarray(fit.log_prob(table.hide(column.name)))
        nats = (whole - others)[known].sum() + widths_of(fit, stored, place)
        count = int(known.sum())
        given = -nats / np.log(2) / count
        found.append({"column": column.name, "bits": spent[place] / count, "given_others": given, "known": count})
    return found


def said_of(fit: Any, stored: Stored) -> float:
    """Bits by the density of the model, cells being intervals of their columns' precision."""
    bound = fit.traits.density != "exact" and not CellByCell.takes(fit)
    how = {"method": "lower_bound", "draws": 50} if bound else {}
    rows = fit.log_prob(as_table(fit, stored), **how)
    widths = sum(widths_of(fit, stored, place) for place, reading in enumerate(stored.readings) if reading is not None)
    return -(np.asarray(rows).sum() + widths + masses_of(fit, stored)) / np.log(2)


def masses_of(fit: Any, stored: Stored) -> float:
    """Nats by which the masses of cells, each given the columns before it, are above density times width.

    Of the columns whose conditionals are mixtures of normals; a component narrower than a cell has a density times width above one.
    """
    gaussian = None if fit.traits.sequences else coupled(fit)
    table, found = as_table(fit, stored), 0.0
    for place in () if gaussian is None else gaussian.places:
        column, reading, known = fit.schema[place], stored.readings[place], np.nonzero(stored.known[:, place])[0]
        if reading is None or not column.is_continuous or column.kind == "semicontinuous":
            continue
        for rows in (known[at : at + ASKED] for at in range(0, len(known), ASKED)):
            numbers, order = stored.numbers[rows, place], np.arange(len(fit.schema))
            before, upto = (np.where(order < end, table.values[rows], np.nan) for end in (place, place + 1))
            edges = reading.edges(np.stack([numbers, numbers + 1], 1))
            mass = np.diff(gaussian.density(place, before).cumulative(edges), axis=1)[:, 0]  # type: ignore[union-attr]
            after, first = (np.asarray(fit.log_prob(Table.from_codes(part, fit.schema))) for part in (upto, before))
            gain = np.log(np.maximum(mass, LEAST)) - (after - first + np.log(reading.widths(numbers)))
            found += float(gain[mass > LEAST].sum())
    return found


def widths_of(fit: Any, stored: Stored, place: int) -> float:
    """Sum of the log widths of a column's known cells, in its own units; of levels, counts and atoms there are none."""
    column, reading = fit.schema[place], stored.readings[place]
    if reading is None or not column.is_continuous:
        return 0.0
    numbers = stored.numbers[stored.known[:, place], place]
    numbers = numbers[reading.values(numbers) != 0] if column.kind == "semicontinuous" else numbers
    return float(np.log(reading.widths(numbers)).sum())


def of_holes(known: np.ndarray) -> float:
    """Bits of all masks by the entropy of their patterns."""
    counts = np.unique(known, axis=0, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def as_table(fit: Any, stored: Stored) -> Table:
    """The cells that are coded, as the model reads them."""
    values = np.full(stored.numbers.shape, np.nan)
    for place, reading in enumerate(stored.readings):
        if reading is not None:
            known = stored.known[:, place]
            values[known, place] = reading.values(stored.numbers[known, place])
    lengths = stored.layout.get("lengths")
    return Table.from_codes(values, fit.schema, lengths=None if lengths is None else np.array(lengths))
