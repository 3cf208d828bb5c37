"""Compress and decompress."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probgen.data.files import check_goal, write_whole
from probgen.data.stored import Reading, Stored, dissected, rejoined
from probgen.errors import CapabilityError, DataError
from probgen.program import UserProgram
from probgen.queries.compression.bits_back import BitsBack
from probgen.queries.compression.cell_by_cell import CellByCell
from probgen.queries.compression.chain_rule import ChainRule
from probgen.queries.compression.coders import Coder, Empty, Meter, Reader, Writer
from probgen.queries.compression.container import Block, File, checksum, packed, unpacked
from probgen.queries.compression.hidden_states import HiddenStates
from probgen.queries.compression.holes import code_holes, describe_holes
from probgen.queries.compression.texts import packed_texts, unpacked_texts
from probgen.whole import check_whole, is_whole

__all__ = ["column_bits", "compress", "decompress", "identity"]

ROWS = 2**14
CODED = ("exact", "lower_bound")  # densities


def compress(fit: Any, data: Any, path: str | os.PathLike, *, rows: int = ROWS, overwrite: bool = False) -> int:
    """See :meth:`Fit.compress`."""
    goal = Path(path)
    check_model(fit)
    check_whole("rows", rows)
    check_goal(goal, overwrite)
    stored = dissected(data, fit.schema)
    if fit.traits.sequences and "lengths" not in stored.layout:
        raise DataError(
            f"{fit.name!r} is a model of sequences; give a Table made with sequence=..., or from_sequences."
        )
    told = describe_holes(stored.known | ~modelled(stored.readings))
    header = header_of(stored, told, rows)
    with one_thread():
        coder, edges = Blocks(fit, stored.readings, told), edges_of(stored.layout, len(stored))
        blocks = [coder.written(stored, edges[at : at + rows + 1]) for at in range(0, len(edges) - 1, rows)]
    texts = [packed_texts(cells) for cells in stored.texts.values()]
    content = packed(File(identity(fit), header, stored.rest, blocks, texts))
    write_whole(goal, content, overwrite)
    return len(content)


def decompress(path: str | os.PathLike, fit: Any, *, rows: slice | None = None) -> Any:
    """The table of a file that :meth:`Fit.compress` made, with the model that compressed it.

    Args:
        path: of the file.
        fit: the model.
        rows: a range of rows; only the blocks that hold them are decoded. All where it is None.

    Returns:
        a data frame or a :class:`Table`, as it was given to be compressed: equal in every bit, type and hole.

    Raises:
        DataError: the file is missing, of another kind, damaged, or made with another model.

    Example:
        >>> import probgen as pg, tempfile, pathlib, pandas as pd
        >>> frame = pd.DataFrame({"a": ["x", "y", "x", None] * 5, "b": ["u", "v", None, "v"] * 5})
        >>> fit = pg.fit("naive_bayes", frame, progress=False)
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "table.pgz"
        >>> size = fit.compress(frame, path)
        >>> pg.decompress(path, fit).equals(frame)
        True
    """
    check_model(fit)
    file = unpacked(Path(path))
    if file.model != identity(fit):
        raise DataError(
            f"{path} was compressed with another model than this {fit.name!r} (its hash is {file.model.hex()}, this one's"
            f" {identity(fit).hex()}); give the fit that made it, from its saved file."
        )
    header = file.header
    readings = readings_from(header, fit.schema)
    edges, step = edges_of(header.get("layout", {}), header["n"]), header.get("rows", ROWS)
    total = len(edges) - 1
    start, stop = range_of(rows, total)
    first, last = start // step, max(start // step, -(-stop // step))
    if len(file.blocks) != -(-total // step):
        raise DataError(f"{path} is damaged: it has {len(file.blocks)} blocks and should have {-(-total // step)}.")
    with one_thread():
        coder = Blocks(fit, readings, header.get("holes"))
        parts = [
            coder.read(file.blocks[at], edges[at * step : (at + 1) * step + 1], at)
            for at in (range(first, last) if stop > start else ())
        ]
    shape = (0, len(fit.schema))
    numbers = np.concatenate([np.zeros(shape, np.int64), *(part[0] for part in parts)])
    known = np.concatenate([np.zeros(shape, bool), *(part[1] for part in parts)])
    layout, whole = header.get("layout", {}), int(edges[-1])
    texts = {name: unpacked_texts(part, whole) for name, part in zip(layout.get("texts", {}), file.texts)}
    within = slice(edges[start] - edges[first * step], edges[stop] - edges[first * step])
    stored = Stored(numbers[within], known[within], readings, file.rest, layout, texts)
    return rejoined(stored, fit.schema, None if rows is None else slice(start, stop))


def range_of(rows: slice | None, total: int) -> tuple[int, int]:
    """Where a range of rows begins and ends."""
    ends = (None, None) if rows is None else (rows.start, rows.stop) if isinstance(rows, slice) else ("", "")
    if not all(end is None or is_whole(end, -(2**62)) for end in ends):
        raise DataError(f"rows must be a slice of whole numbers such as slice(100, 120), got {rows!r}.")
    start, stop, stride = (rows or slice(None)).indices(total)
    if stride != 1:
        raise DataError(f"rows must be a range without a step, got {rows}.")
    return start, max(start, stop)


def edges_of(layout: dict[str, Any], rows: int) -> np.ndarray:
    """Where the rows, or the sequences in which they stand, begin and end."""
    lengths = layout.get("lengths", [1] * rows)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


# ---------------------------------------------------------------------------------------------------------- blocks
class Blocks:
    """Rows of a table as bits, by what the fit can say.

    Args:
        fit: the model.
        readings: of the columns; those without are kept elsewhere, and count as known where holes are coded.
        told: of the holes.
    """

    def __init__(self, fit: Any, readings: tuple[Reading | None, ...], told: Any) -> None:
        self.readings, self.told, self.elsewhere = readings, told, ~modelled(readings)
        self.coder, self.names = coder_of(fit)(fit, readings), fit.schema.names

    def written(self, stored: Stored, edges: np.ndarray) -> Block:
        """The bits of the rows (the sequences) between some edges."""
        part = slice(edges[0], edges[-1])
        numbers, known, self.coder.lengths = stored.numbers[part], stored.known[part], np.diff(edges)
        check = checksum(numbers, known)
        if isinstance(self.coder, BitsBack):
            bits = self.coder.write(numbers, known, lambda stack: self.holes(stack, known))
            return Block(check, bits)
        writer = Writer()
        coded = self.coder.code(writer, numbers, self.holes(writer, known))
        lost = np.argwhere((coded != numbers) & known & ~self.elsewhere)
        if len(lost):
            raise DataError(
                f"Row {lost[0][0]} of a block has a cell in column {self.names[lost[0][1]]!r} that the model rules out: letters behind the end of a text;"
                " correct the row."
            )
        return Block(check, writer.finish())

    def read(self, block: Block, edges: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of these bits."""
        rows, self.coder.lengths = int(edges[-1] - edges[0]), np.diff(edges)
        shape = (rows, len(self.readings))
        nothing = np.zeros(shape, np.int64)
        try:
            numbers, known = self.decoded(block.bits, nothing)
        except (AssertionError, Empty):  # of constriction: no symbol has such bits; the stack ran empty
            raise strayed(at) from None
        if checksum(numbers, known) != block.check:
            raise strayed(at)
        return numbers, known

    def decoded(self, bits: bytes, nothing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whole numbers and their mask."""
        if isinstance(self.coder, BitsBack):
            return self.coder.read(bits, len(nothing), lambda stack: self.holes(stack, nothing > 0))
        reader = Reader(bits)
        known = self.holes(reader, nothing > 0)
        return self.coder.code(reader, nothing, known), known

    def holes(self, coder: Coder, known: np.ndarray) -> np.ndarray:
        """The mask, written or read."""
        return code_holes(coder, known | self.elsewhere, self.told) & ~self.elsewhere


def modelled(readings: tuple[Reading | None, ...]) -> np.ndarray:
    """``(D,)``: which columns the model codes."""
    return np.array([reading is not None for reading in readings])


def strayed(at: int) -> DataError:
    """A block whose bits do not mean what the encoder meant by them."""
    return DataError(
        f"Block {at} does not decode to the rows that were encoded: this machine's arithmetic gives the model other bits than the"
        " encoder's did; decode it with the same versions of torch and numpy, on the same kind of processor."
    )


def coder_of(fit: Any) -> type:
    """How blocks are coded."""
    if CellByCell.takes(fit):
        return CellByCell
    if fit.traits.density == "lower_bound":
        return BitsBack
    return HiddenStates if fit.traits.sequences else ChainRule


def column_bits(fit: Any, stored: Stored, rows: int) -> np.ndarray:
    """``(D,)``: what the columns cost in the file, each given those before it."""
    spent, meter, chain = np.zeros(len(stored.readings)), Meter(), coder_of(fit)(fit, stored.readings)

    def after_column(place: int) -> None:
        spent[place] += meter.bits_spent
        meter.bits_spent = 0.0

    chain.after_column = after_column
    edges = edges_of(stored.layout, len(stored))
    with one_thread():
        for at in range(0, len(edges) - 1, rows):
            some = edges[at : at + rows + 1]
            chain.lengths = np.diff(some)
            chain.code(meter, stored.numbers[some[0] : some[-1]], stored.known[some[0] : some[-1]])
    return spent


# ---------------------------------------------------------------------------------------------------------- header
def header_of(stored: Stored, told: Any, rows: int) -> dict[str, Any]:
    """What a decoder has to know beside the model."""
    found: dict[str, Any] = {"n": len(stored)}
    if rows != ROWS:
        found["rows"] = rows
    if any(reading is None or not usual(reading) for reading in stored.readings):
        found["columns"] = [None if reading is None else short(reading) for reading in stored.readings]
    if told is not None:
        found["holes"] = told
    if stored.layout:
        found["layout"] = stored.layout
    return found


def usual(reading: Reading) -> bool:
    """Levels of a table, which the schema says."""
    return reading.how == "level" and reading.labels == () and reading.dtype == "float64"


def short(reading: Reading) -> dict[str, Any]:
    """Without what is as it usually is."""
    found = asdict(reading)
    return {k: v for k, v in found.items() if k in ("how", "low", "high") or v != getattr(Reading, k)}


def readings_from(header: dict[str, Any], schema: Any) -> tuple[Reading | None, ...]:
    if "columns" not in header:
        return tuple(Reading("level", 0, len(column.levels) - 1, labels=()) for column in schema)
    return tuple(None if told is None else reading_from(told) for told in header["columns"])


def reading_from(told: dict[str, Any]) -> Reading:
    found = Reading(**told)
    return found if found.labels is None else replace(found, labels=tuple(found.labels))


# ----------------------------------------------------------------------------------------------------------- model
def check_model(fit: Any) -> None:
    """Refuse models that a table cannot be coded with."""
    traits = fit.traits
    bound_of_sequences = traits.sequences and traits.density != "exact"
    if isinstance(fit.program, UserProgram) or traits.density not in CODED or bound_of_sequences:
        raise CapabilityError(
            f"{fit.name!r} cannot compress: its density is {traits.density.replace('_', ' ')}{' of sequences' if traits.sequences else ''}."
            " Models of rows whose density is exact can, those with latents of rows under a guide, those that say cells one after another, and"
            " hidden_markov."
        )
    if fit.program.inputs:
        raise CapabilityError(f"{fit.name!r} says nothing of its inputs {list(fit.program.inputs)}; fit one without.")


def identity(fit: Any) -> bytes:
    """A hash of what decides what the model says: name, columns, levels with their types, and weights."""
    digest = hashlib.sha256()
    columns = [[c.name, c.kind, list(map(level_text, c.levels)), c.bounds] for c in fit.schema]
    digest.update(json.dumps([fit.name, columns, str(fit.dtype)]).encode())
    tensors = {f"program/{key}": value for key, value in fit.program.state_dict().items()}
    for name, theta in fit.posterior.parameters.items():
        tensors |= {f"posterior/{name}/{key}": value for key, value in theta.items()}
    tensors |= {f"sites/{name}": value for name, value in fit.posterior.sites.items()}
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name].detach().cpu().numpy()).tobytes())
    for part in ("shift", "scale"):
        digest.update(np.ascontiguousarray(getattr(fit.standardiser, part)).tobytes())
    return digest.digest()[:8]


def level_text(level: Any) -> str:
    """A level as text, of numbers and truth values with their type: 1 is another level than "1"."""
    value = level.item() if isinstance(level, np.generic) else level
    return f"{value} {type(value).__name__}" if isinstance(value, int | float) else str(value)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums are added in one order, whatever the number of threads that others use (numpy's are by einsum, which has one)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # cells as far from each other as doubles can be
            yield
    finally:
        torch.set_num_threads(before)
