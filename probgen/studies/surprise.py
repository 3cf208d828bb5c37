r"""How odd rows, cells and time steps are to a model, in nats: what it would take to write them down, beyond what is usual.

.. math::
    -\log p(x), \qquad
    -\log p(x_j \mid x_{-j}) = \log p(x_{-j}) - \log p(x), \qquad
    -\log p(x_t \mid x_1, \dots, x_{t-1})
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Any

import numpy as np

from probgen.data.schema import Image
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.queries import Fit

__all__ = ["cell_surprise", "description_length", "step_surprise", "surprise"]

PREFIX_ROWS = 2**17  # time steps of beginnings that are asked about at once


def surprise(fit: Fit, table: Table) -> np.ndarray:
    """``(N,)`` minus the log density of every row's (every sequence's) known cells, nats in original units."""
    return -np.asarray(fit.log_prob(table).value)


def cell_surprise(fit: Fit, table: Any) -> np.ndarray:
    """``(N, D)`` minus the log density of every known cell given the others of its row, NaN where it is unknown.

    Each takes two densities of the row, with and without the cell: D + 1 for all. They are conditional densities where those are exact; bounds and
    estimates subtract only about. Columns have units of their own: compare a cell with those of other rows, not with those of other columns.

    Raises:
        CapabilityError: the rows are steps of sequences.
    """
    table = fit.read(table)
    if table.lengths is not None:
        raise CapabilityError("Cells of sequences are told by their steps: see step_surprise.")
    whole, found = surprise(fit, table), np.full(table.values.shape, np.nan)
    for at, name in enumerate(table.names):
        rows = table.known[:, at]
        if rows.any():
            found[rows, at] = whole[rows] - surprise(fit, table.take(rows).hide(name))
    return found


def step_surprise(fit: Fit, table: Any) -> np.ndarray:
    """``(N,)`` minus the log density of every time step given those before it in its sequence.

    From the densities of a sequence's beginnings: :math:`T^2 / 2` steps are read for T.

    Raises:
        CapabilityError: the rows stand in no sequences.
    """
    table = fit.read(table)
    if table.lengths is None:
        raise CapabilityError(
            "Steps have an order in sequences; make the table with Table(data, sequence=..., time=...)."
        )
    found, first = [], 0
    for length in table.lengths:
        steps = np.arange(first, first + length)
        found.append(np.diff(beginnings(fit, table, steps), prepend=0.0))
        first += length
    return np.concatenate(found)


def beginnings(fit: Fit, table: Table, steps: np.ndarray) -> np.ndarray:
    """Surprise of the first step, of the first two, and so on."""
    found, at, length = [], 1, len(steps)
    while at <= length:
        some = [at]
        while some[-1] < length and sum(some) + some[-1] + 1 <= PREFIX_ROWS:
            some.append(some[-1] + 1)
        values = np.concatenate([table.values[steps[:count]] for count in some])
        found.append(surprise(fit, Table.from_codes(values, table.schema, lengths=np.array(some))))
        at = some[-1] + 1
    return np.concatenate(found)


def description_length(table: Table) -> np.ndarray:
    """``(N,)`` nats that compressors need for the pictures of every row, each the best of several (Serrà et al., 2020).

    Pixels as bytes, and as differences to the pixel at the left, above, and both; by zlib, bz2 and lzma.

    Raises:
        CapabilityError: the table has no picture, or a pixel is unknown or no whole number from 0 to 255.
    """
    if not table.schema.images:
        raise CapabilityError(
            "Complexity is that of pictures, and this table has none; make it with Table.from_images."
        )
    return np.sum([shortest(pixels_of(table, image)) for image in table.schema.images], 0)


def pixels_of(table: Table, image: Image) -> np.ndarray:
    """``(N, H, W, ...)`` bytes."""
    values = table.values[:, [table.schema.index(name) for name in image.names]]
    with np.errstate(invalid="ignore"):
        wrong = np.argwhere(~((values >= 0) & (values <= 255) & (values == np.round(values))))
    if len(wrong):
        row, pixel = wrong[0]
        raise CapabilityError(
            f"Complexity needs whole numbers from 0 to 255: row {row}, pixel {image.names[pixel]!r} is {values[row, pixel]}."
        )
    return values.astype(np.uint8).reshape(len(values), *image.shape)


def shortest(pictures: np.ndarray) -> np.ndarray:
    """Nats of each picture by its best compressor."""
    across = np.diff(pictures, axis=2, prepend=np.uint8(0))
    down = np.diff(pictures, axis=1, prepend=np.uint8(0))
    both = np.diff(across, axis=1, prepend=np.uint8(0))
    sizes = [
        min(
            size
            for each in filtered
            for data in (each.tobytes(),)
            for size in (len(zlib.compress(data, 9)), len(bz2.compress(data)), len(bare_lzma(data)))
        )
        for filtered in zip(pictures, across, down, both, strict=True)
    ]
    return 8 * np.log(2) * np.array(sizes, dtype=float)


def bare_lzma(data: bytes) -> bytes:
    """Without a header, which would be longer than small pictures."""
    return lzma.compress(data, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}])
