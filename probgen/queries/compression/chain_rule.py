r"""A block of rows, column by column, by a model whose density is exact for any set of known cells.

.. math::
    -\log_2 p(x) = -\sum_d \log_2 p(x_d \mid x_1, \dots, x_{d-1})

Writer and reader take the same walk: they ask the same questions of the same number of rows at once, with one thread, so that they get
the same bits. Levels are symbols. Numbers go digit by digit, sixteen at a time, by the mass of the interval that each digit leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from probgen.data.schema import Column
from probgen.data.stored import Reading
from probgen.data.table import Table, distinct_rows
from probgen.queries.compression.coders import Coder
from probgen.queries.compression.densities import Piecewise, first_knots, fitted_density
from probgen.queries.compression.normals import NormalMixture, coupled
from probgen.queries.marginals import class_probabilities

__all__ = ["ChainRule"]

DIGIT = 4  # bits
SMOOTH = 24  # bits below the first are even
ASKED = 2**16  # rows of one question
LISTED = 256  # counts that are asked about one by one


class ChainRule:
    """The conditionals of a fit, and the walk over a block.

    Args:
        fit: whose density is exact.
        readings: of the columns.
    """

    def __init__(self, fit: Any, readings: Sequence[Reading | None]) -> None:
        self.fit, self.readings, self.coupled = fit, readings, coupled(fit)
        self.lengths = np.zeros(0, np.int64)  # of the sequences of a block
        self.after_column: Callable[[int], None] = lambda place: None

    def code(self, coder: Coder, numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
        """``(B, D)`` whole numbers, written or read; zeros where unknown."""
        found = np.zeros_like(numbers)
        values = np.full(numbers.shape, np.nan)
        for place, (column, reading) in enumerate(zip(self.fit.schema, self.readings)):
            rows = np.nonzero(known[:, place])[0]
            if reading is None or not len(rows):
                continue
            some = self.column(coder, place, column, reading, self.context(values, rows), numbers[rows, place])
            found[rows, place] = some
            values[rows, place] = reading.values(some)
            self.after_column(place)
        return found

    def context(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """What is given of some rows when a column of them is asked about."""
        return values[rows]

    def column(
        self, coder: Coder, place: int, column: Column, reading: Reading, before: np.ndarray, numbers: np.ndarray
    ) -> np.ndarray:
        """One column of some rows."""
        if reading.span == 1 and not column.is_discrete:
            return np.full(len(before), reading.low, np.int64)
        if column.is_discrete:
            return coder.code(self.levels(place, column, before), numbers)
        if column.kind == "count" and reading.span <= LISTED:
            listed = reading.values(np.arange(reading.low, reading.high + 1))
            return reading.low + coder.code(self.listed(place, listed, before), numbers - reading.low)
        if column.kind == "semicontinuous" and reading.values(np.array([reading.low]))[0] == 0:
            return self.with_atom(coder, place, reading, before, numbers)
        return self.number(coder, place, reading, before, numbers)

    # -- levels --------------------------------------------------------------------------------------------------
    def levels(self, place: int, column: Column, before: np.ndarray) -> np.ndarray:
        """``(M, L)`` probabilities of levels; rows that are alike are asked about once."""
        first, which = distinct_rows(before)
        found = [
            class_probabilities(self.fit, self.table(before[part]), column.name)
            for part in np.split(first, range(ASKED, len(first), ASKED))
        ]
        return np.concatenate(found)[which]

    def listed(self, place: int, values: np.ndarray, before: np.ndarray) -> np.ndarray:
        """``(M, V)`` probabilities, up to a factor, of values that are all a column has."""
        first, which = distinct_rows(before)
        heights = self.log_density(place, before[first], np.broadcast_to(values, (len(first), len(values))))
        return np.exp(heights - heights.max(1, keepdims=True))[which]

    # -- numbers -------------------------------------------------------------------------------------------------
    def with_atom(
        self, coder: Coder, place: int, reading: Reading, before: np.ndarray, numbers: np.ndarray
    ) -> np.ndarray:
        """Zero, or a positive number."""
        nothing = self.log_density(place, before, np.zeros((len(before), 1)))[:, 0]
        zero = np.exp(
            np.minimum(nothing - self.log_density(place, before, np.full((len(before), 1), np.nan))[:, 0], 0)
        )
        more = coder.code(np.stack([zero, 1 - zero], 1), (numbers > reading.low).astype(np.int64)) > 0
        found = np.full(len(before), reading.low, np.int64)
        positive = replace(reading, low=reading.low + 1)
        found[more] = self.number(coder, place, positive, before[more], numbers[more])
        return found

    def number(
        self, coder: Coder, place: int, reading: Reading, before: np.ndarray, numbers: np.ndarray
    ) -> np.ndarray:
        """By digits, the first ones by the model and what is below them evenly."""
        found = np.zeros(len(before), np.int64)
        pieces = max(1, ASKED // 16)
        for at in range(0, len(before), pieces):
            part = slice(at, at + pieces)
            found[part] = self.digits(coder, reading, self.density(place, reading, before[part]), numbers[part])
        return found

    def digits(
        self, coder: Coder, reading: Reading, density: Piecewise | NormalMixture, numbers: np.ndarray
    ) -> np.ndarray:
        """``(M,)`` whole numbers by the masses of the intervals that their digits leave."""
        total = max(1, (reading.span - 1).bit_length())
        total += -total % DIGIT
        rank, done = numbers - reading.low, np.zeros(len(numbers), np.int64)
        for left in range(total - DIGIT, -1, -DIGIT):
            if total - left > SMOOTH + DIGIT:
                return reading.low + (done | coder.bits(left + DIGIT, rank & ((1 << (left + DIGIT)) - 1)))
            ends = done[:, None] + (np.arange(17, dtype=np.int64) << left)
            edges = reading.edges(reading.low + np.minimum(ends, reading.span))
            mass = np.maximum(np.diff(density.cumulative(edges), axis=1), 0.0)
            mass += np.where(np.diff(np.minimum(ends, reading.span), axis=1) > 0, mass.sum(1, keepdims=True) * 1e-7, 0)
            done = done | (coder.code(mass, rank >> left & 15) << left)
        return reading.low + done

    def density(self, place: int, reading: Reading, before: np.ndarray) -> Piecewise | NormalMixture:
        """Of a number given the columns before it."""
        if self.coupled is not None and place in self.coupled.places:
            return self.coupled.density(place, before)
        standardiser = self.fit.standardiser
        middle, scale = (float(np.asarray(part)[place]) for part in (standardiser.shift, standardiser.scale))
        low, high = reading.edges(np.array([reading.low, reading.high + 1]))
        knots = first_knots(low, high, middle, scale)
        return fitted_density(lambda at: self.log_density(place, before, at), knots, len(before))

    # -- the model -----------------------------------------------------------------------------------------------
    def log_density(self, place: int, before: np.ndarray, values: np.ndarray) -> np.ndarray:
        """``(M, V)`` log densities of the columns before together with values of this one."""
        whole = np.repeat(before, values.shape[1], 0)
        whole[:, place] = values.reshape(-1)
        parts = np.split(whole, range(ASKED, len(whole), ASKED))
        return np.concatenate([self.fit.log_prob(self.table(part)).value for part in parts]).reshape(values.shape)

    def table(self, values: np.ndarray) -> Table:
        return Table.from_codes(values, self.fit.schema)
