r"""A block of rows by a model that says their cells one after another: the walk on which it draws rows, with cells from the file in place of draws.

.. math::
    -\log_2 p(x) = -\sum_d \log_2 p(x_d \mid x_1, \dots, x_{d-1})

All conditionals of a row take as long as one draw of it. A cell that is unknown is walked on with its most probable value, which the reader finds, too:
the cells behind it cost what they cost given that value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.stored import Reading
from probgen.errors import CapabilityError
from probgen.families.pixel_chain import PixelChain
from probgen.families.row_chain import RowCells, Walk
from probgen.nn import PixelNetwork
from probgen.queries.compression.coders import Coder

__all__ = ["CellByCell"]

LISTED = 2**12  # values of a cell


class CellByCell:
    """Blocks of rows of a fit whose program walks through ``cells``.

    Args:
        fit: the model.
        readings: of the columns.

    Raises:
        CapabilityError: a column is neither of levels nor of few counts.
    """

    def __init__(self, fit: Any, readings: Sequence[Reading | None]) -> None:
        self.fit, self.readings = fit, readings
        for column, reading in zip(fit.schema, readings):
            if reading is not None and not (column.is_discrete or (column.kind == "count" and reading.span <= LISTED)):
                raise CapabilityError(
                    f"{fit.name!r} compresses levels and counts up to {LISTED}, and column {column.name!r} is {column.kind}; leave it out of the fit, or"
                    " take a model whose density is exact for any known cells, such as made or gaussian_mixture."
                )

    @classmethod
    def takes(cls, fit: Any) -> bool:
        """Whether the rows of a fit are walked through."""
        cells = getattr(fit.program, "cells", None)
        return isinstance(cells, RowCells) or isinstance(getattr(cells, "net", None), PixelNetwork)

    def code(self, coder: Coder, numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
        """``(B, D)`` whole numbers, written or read; zeros where unknown."""
        told = Told(self, coder, numbers, known)
        with torch.no_grad(), self.fit.setting():
            if isinstance(self.fit.program.cells, RowCells):
                self.rows(told)
            else:
                self.pictures(told)
        return told.found

    def pictures(self, told: Told) -> None:
        """A label, where there is one, and the cells that it is told to."""
        program, level = self.fit.program, None
        shape = (len(told.found), len(program.pixels))
        if program.label:
            chances = program.logits.log_softmax(-1).expand(len(told.found), -1)
            level = told.levels(self.fit.schema.index(program.label), chances)
        told.places = [self.fit.schema.index(name) for name in program.pixels]
        blank = program.cells.heads.filler.new_full(shape, torch.nan)
        ToldPictures(program.cells, level, told).fill(blank)

    def rows(self, told: Told) -> None:
        """Cell by cell, without those behind the end of a text."""
        program = self.fit.program
        told.places = [self.fit.schema.index(name) for name in program.said]
        blank = program.cells.heads.filler.new_full((len(told.found), len(program.said)), torch.nan)
        for begin in range(0, len(blank), program.cells.together):
            told.begin = begin
            walk = ToldWalk(program.cells, told)
            filled = walk.filled(blank[begin : begin + program.cells.together]).cpu().numpy()
            some = slice(begin, begin + len(filled))
            for at in walk.texts:  # the ends behind an end are not walked to
                place = told.places[at]
                told.found[some, place] = np.where(told.known[some, place], filled[:, at], 0)


class Told:
    """What the file says of a block.

    Args:
        block: how its columns are read.
        coder: that writes or reads.
        numbers: ``(B, D)``.
        known: ``(B, D)``.
    """

    def __init__(self, block: CellByCell, coder: Coder, numbers: np.ndarray, known: np.ndarray) -> None:
        self.block, self.coder, self.numbers, self.known = block, coder, numbers, known
        self.found, self.begin = np.zeros_like(numbers), 0
        self.places: list[int] = []  # of the walk's columns

    def cells(self, at: int, head: Any, said: Tensor, over: Tensor | None = None) -> Tensor:
        """``(M,)`` cells of the walk's column ``at``, in the units of the model; those of rows that are over cost nothing, and are the end."""
        place = self.places[at]
        column, reading = self.block.fit.schema[place], self.block.readings[place]
        if column.is_discrete:
            values = torch.arange(len(column.levels), device=said.device).to(said)
        elif reading is not None:
            listed = torch.tensor(reading.values(np.arange(reading.low, reading.high + 1)), device=said.device)
            values = self.standardised(listed, place).to(said)
        else:
            return head.sample(said)
        every = head.log_prob(said[:, None].expand(-1, len(values), -1), values.expand(len(said), -1))
        return values[self.levels(place, every, over).long()]

    def standardised(self, values: Tensor, place: int) -> Tensor:
        """As the model has them."""
        shift, scale = (
            np.asarray(part)[place] for part in (self.block.fit.standardiser.shift, self.block.fit.standardiser.scale)
        )
        return (values - float(shift)) / float(scale)

    def levels(self, place: int, log_probs: Tensor, over: Tensor | None = None) -> Tensor:
        """``(M,)`` which of a column's values, given ``(M, L)`` of their log probabilities."""
        rows = np.arange(self.begin, self.begin + len(log_probs))
        reading, known = self.block.readings[place], self.known[rows, place]
        guessed = log_probs if over is None else log_probs[:, :-1]  # no end is guessed, since letters may follow
        chosen = guessed.argmax(-1).cpu().numpy()
        ended = np.zeros(len(rows), bool) if over is None else over.cpu().numpy()
        chosen[ended] = log_probs.shape[1] - 1
        low = 0 if reading is None else reading.low
        least = 0 if self.block.fit.schema[place].is_discrete else low
        asked = known & ~ended & (reading is not None)
        chances = (
            log_probs[torch.from_numpy(asked)] - log_probs[torch.from_numpy(asked)].amax(-1, keepdim=True)
        ).exp()
        chosen[asked] = self.coder.code(chances.double().cpu().numpy(), self.numbers[rows[asked], place] - least)
        self.found[rows, place] = np.where(known & (reading is not None), chosen + least, 0)
        return torch.from_numpy(chosen).to(log_probs)


class ToldPictures(PixelChain):
    """Draws that are told."""

    def __init__(self, cells: Any, level: Tensor | None, told: Told) -> None:
        super().__init__(cells, level)
        self.told = told

    def walked(self, cells: Any, x: Tensor, level: Tensor | None) -> Tensor:
        found = super().walked(cells, x, level)
        self.told.begin += len(x)
        return found

    def drawn(self, cells: Any, said: Tensor, column: int) -> Tensor:
        return self.told.cells(column, cells.heads.of[column], said)


class ToldWalk(Walk):
    """Draws that are told."""

    def __init__(self, cells: RowCells, told: Told) -> None:
        super().__init__(cells, None)
        self.told = told
        self.texts = {cells.schema.index(name) for text in cells.schema.tokens for name in text.names}

    def drawn(self, said: Tensor, at: int, over: Tensor) -> Tensor:
        return self.told.cells(at, self.cells.heads.of[at], said, over if at in self.texts else None)
