"""Rows that stand in sequences: which row belongs to which, and whole sequences as pieces."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probgen.data.coding import plain
from probgen.errors import DataError

__all__ = ["Steps", "check_lengths", "cuts", "grouped", "rows_of", "spans", "whole_sequences", "windows"]


@dataclass(frozen=True, eq=False)
class Steps:
    """S sequences laid end to end in N rows.

    Attributes:
        lengths: ``(S,)`` whole numbers of at least 1 that sum to N.
        known: ``(..., S, M)``: what the first rows know of steps before them, where sequences go on from elsewhere.
    """

    lengths: Tensor
    known: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def rows(self) -> int:
        """N, the number of time steps of all sequences together."""
        return int(self.lengths.sum())

    @cached_property
    def longest(self) -> int:
        return int(self.lengths.max())

    @cached_property
    def starts(self) -> Tensor:
        """``(S,)``: the first row of each sequence."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def sequence(self) -> Tensor:
        """``(N,)``: the sequence of each row."""
        places = torch.arange(len(self), device=self.lengths.device)
        return places.repeat_interleave(self.lengths)

    @cached_property
    def time(self) -> Tensor:
        """``(N,)``: the place of each row in its sequence, from 0."""
        return torch.arange(self.rows, device=self.lengths.device) - self.starts[self.sequence]

    @cached_property
    def going(self) -> list[int]:
        """How many sequences there are at each time step."""
        times = torch.arange(self.longest, device=self.lengths.device)
        return (self.lengths[:, None] > times).sum(0).tolist()

    @cached_property
    def by_time(self) -> Tensor:
        """``(N,)``: all first rows, then all second ones, and so on, those of the longest sequences first."""
        rank = self.lengths.argsort(descending=True, stable=True).argsort()
        return (self.time * len(self) + rank[self.sequence]).argsort()

    @cached_property
    def turned(self) -> Tensor:
        """``(N,)``: the rows with every sequence read from its end; turned twice they are what they were."""
        return (self.starts + self.lengths - 1)[self.sequence] - self.time

    def total(self, rows: Tensor) -> Tensor:
        """Sum over each sequence: ``(..., N)`` -> ``(..., S)``."""
        return rows.new_zeros(*rows.shape[:-1], len(self)).index_add(-1, self.sequence, rows)

    def settled(self, known: Tensor, cells: int) -> Tensor:
        """``(N,)``: rows before which every column has shown ``cells`` known cells, or all that its sequence has.

        Args:
            known: ``(N, D)`` mask of the known cells.
            cells: how many.
        """
        seen = known.long()
        before = seen.cumsum(0) - seen
        before = before - before[self.starts][self.sequence]
        need = self.total(seen.mT).mT.clamp_max(cells)[self.sequence]
        return (before >= need).all(1)

    def select(self, index: Tensor) -> tuple[Steps, Tensor]:
        """Some sequences, and their rows."""
        rows = torch.cat(
            [torch.arange(n, device=s.device) + s for s, n in zip(self.starts[index], self.lengths[index])]
        )
        return Steps(self.lengths[index]), rows


def windows(steps: Steps, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """First rows and lengths ``(W,)`` of windows of at most so many steps, which hold every row once; longer sequences are cut where chance falls.

    Example:
        >>> starts, lengths = windows(Steps(torch.tensor([3, 9])), 4, torch.Generator().manual_seed(0))
        >>> starts.tolist(), lengths.tolist()
        ([0, 3, 4, 8], [3, 1, 4, 4])
    """
    long = steps.lengths > most
    drawn = torch.randint(most, (len(steps),), generator=generator).to(steps.lengths.device)
    early = torch.where(long, drawn, 0)  # steps by which the first window begins before the sequence
    counts = torch.div(steps.lengths + early + most - 1, most, rounding_mode="floor")
    sequence = torch.arange(len(steps), device=early.device).repeat_interleave(counts)
    number = torch.arange(len(sequence), device=early.device) - (counts.cumsum(0) - counts)[sequence]
    begin = number * most - early[sequence]
    end = torch.minimum(begin + most, steps.lengths[sequence])
    begin = begin.clamp_min(0)
    return steps.starts[sequence] + begin, end - begin


def check_lengths(lengths: Any, rows: int) -> np.ndarray:
    """Lengths as whole numbers.

    Raises:
        DataError: a length below 1, or a sum that is not the number of rows.
    """
    found = np.asarray(lengths)
    if found.ndim != 1 or found.dtype.kind not in "iu" or len(found) == 0 or (found < 1).any():
        raise DataError("lengths must be whole numbers of at least 1, one a sequence; leave empty sequences out.")
    if found.sum() != rows:
        raise DataError(f"lengths sum to {found.sum()}, the table has {rows} rows; they must agree.")
    return found.astype(np.int64)


def spans(lengths: np.ndarray) -> np.ndarray:
    """``(S + 1,)`` edges of the sequences."""
    return np.concatenate([[0], np.cumsum(lengths)])


def rows_of(lengths: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The rows of some sequences, in the order asked for."""
    edges = spans(lengths)
    return np.concatenate([np.arange(edges[i], edges[i + 1]) for i in index]) if len(index) else np.zeros(0, int)


def whole_sequences(lengths: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Consecutive sequences that together have at most ``rows`` rows; a longer one stands alone."""
    first, used = 0, 0
    for at, length in enumerate(lengths):
        if at > first and used + length > rows:
            yield np.arange(first, at)
            first, used = at, 0
        used += int(length)
    yield np.arange(first, len(lengths))


def grouped(frame: pd.DataFrame, sequence: str | None, time: str | None) -> tuple[pd.DataFrame, np.ndarray]:
    """The frame sorted into sequences, with a row of unknown cells for every missing time step, and the lengths.

    Args:
        frame: one row a time step, in any order.
        sequence: the column that names the sequence of a row; None where all rows are one sequence.
        time: a column of whole numbers, the time step inside the sequence; None where the rows stand in order.
    """
    for name in (sequence, time):
        if name is not None and (not isinstance(name, Hashable) or name not in frame.columns):
            raise DataError(f"There is no column {name!r}; the table has {', '.join(map(repr, frame.columns))}.")
    key = pd.Series(0, index=frame.index) if sequence is None else frame[sequence]
    if key.isna().any():
        raise DataError(f"Row {int(np.argmax(key.isna()))} has no value in {sequence!r}, the column of sequences.")
    rest = frame.drop(columns=[name for name in (sequence, time) if name is not None])
    groups = rest.groupby(key.to_numpy(), sort=False)
    if time is None:
        made = [group for _, group in groups]
    else:
        steps = whole_steps(frame[time], time)
        made = [with_gaps(group, steps.loc[group.index], name, time) for name, group in groups]
    return pd.concat(made, ignore_index=True), np.array([len(group) for group in made])


def whole_steps(column: pd.Series, name: str) -> pd.Series:
    """Time steps as whole numbers."""
    if column.isna().any():
        raise DataError(f"Row {int(np.argmax(column.isna()))} has no value in {name!r}, the column of time steps.")
    if pd.api.types.is_datetime64_any_dtype(column):
        raise DataError(
            f"The time steps in {name!r} are dates; make them whole numbers, for days (dates - dates.min()).dt.days."
        )
    steps = pd.to_numeric(column, errors="coerce")
    bad = steps.isna() | (steps != steps.round())
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"Row {row}: time step {plain(column.iloc[row])!r} in {name!r} is not a whole number; divide the times by the step"
            " between them and round, and count the days (months, ..) of dates."
        )
    return steps.astype("int64")


def with_gaps(group: pd.DataFrame, steps: pd.Series, name: Any, time: str) -> pd.DataFrame:
    """One sequence in the order of its time steps, unknown rows in the gaps."""
    if steps.duplicated().any():
        raise DataError(f"Sequence {name!r} has time step {steps[steps.duplicated()].iloc[0]} twice in {time!r}.")
    whole = range(int(steps.min()), int(steps.max()) + 1)
    if len(whole) > 1000 * len(steps):
        raise DataError(
            f"Sequence {name!r} has {len(steps)} rows over {len(whole)} time steps of {time!r}; use a coarser time step."
        )
    return group.set_axis(steps.to_numpy(), axis=0).reindex(whole)


def cuts(units: int | np.ndarray, parts: int) -> list[int]:
    """Where rows, or sequences of these lengths, are cut into parts of about as many rows; the first is never empty.

    Example:
        >>> cuts(5, 2), cuts(1, 2), cuts(np.array([9, 1, 1, 1]), 2)
        ([0, 3, 5], [0, 1, 1], [0, 1, 4])
    """
    if not isinstance(units, np.ndarray):
        each, left = divmod(units, parts)
        return [part * each + min(part, left) for part in range(parts + 1)]
    middle = np.cumsum(units) - units / 2
    inner = np.searchsorted(middle, np.arange(1, parts) * units.sum() / parts)
    return [0, *np.clip(inner, 1, len(units)).tolist(), len(units)]
