"""What scores need to know of a table: counts and moments of any few columns, over the rows where all of them are known.

Rows with the same codes are merged where all columns are discrete; the weights of the table's rows count. Weights need
not be whole numbers, so that completed rows weighted by their posterior probabilities (the expected counts of EM) are a
table like any other.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.schema import Column
from probgen.data.table import Table
from probgen.errors import CapabilityError

__all__ = ["CELLS", "FamilyStatistics", "Statistics"]

CELLS = 2**24  # numbers that the table of one family may hold (128 MiB)
STRIP = 2**22  # numbers of the tables of all pairs that are held at a time
ROWS = 2**13  # rows that are turned into indicators at a time
REMEMBERED = 2**23  # numbers in cached tables
GAUSSIAN = ("real", "datetime", "positive", "bounded")
EDGE = 1e-6  # fractions are read as log odds within these bounds of zero and one


@dataclass(frozen=True)
class FamilyStatistics:
    """Counts and moments of a column and its parents.

    Attributes:
        counts: ``(R, Q)``, levels of the child by configurations of its discrete parents, or None.
        moments: ``(Q, P + 2, P + 2)``, sums of products of (1, continuous parents, child), or None.
        rows: total weight of the rows in it.
        last: levels of the last parent; 0 where it is continuous or there is none.
        floor: the least variance that the spacing of the child's values can tell from none.
    """

    counts: np.ndarray | None
    moments: np.ndarray | None
    rows: float
    last: int = 0
    floor: float = 0.0

    def fewer(self) -> FamilyStatistics:
        """The same rows without the last parent."""
        counts, moments = self.counts, self.moments
        if self.last:
            counts = None if counts is None else counts.reshape(len(counts), -1, self.last).sum(-1)
            moments = None if moments is None else moments.reshape(-1, self.last, *moments.shape[1:]).sum(1)
        elif moments is not None:
            keep = [*range(moments.shape[1] - 2), moments.shape[1] - 1]
            moments = moments[:, keep][:, :, keep]
        return FamilyStatistics(counts, moments, self.rows, 0, self.floor)

    def alone(self) -> FamilyStatistics:
        """The same rows without any parent."""
        counts = None if self.counts is None else self.counts.sum(1, keepdims=True)
        moments = None if self.moments is None else self.moments.sum(0, keepdims=True)[:, [0, -1]][:, :, [0, -1]]
        return FamilyStatistics(counts, moments, self.rows, 0, self.floor)


class Cache:
    """The arrays used last, as long as they fit."""

    def __init__(self, numbers: int) -> None:
        self.numbers, self.held, self.found = numbers, 0, OrderedDict[Any, np.ndarray]()

    def get(self, key: Any, make: Callable[[], np.ndarray]) -> np.ndarray:
        if key in self.found:
            self.found.move_to_end(key)
            return self.found[key]
        value = make()
        self.found[key], self.held = value, self.held + value.size
        while self.held > self.numbers and len(self.found) > 1:
            self.held -= self.found.popitem(last=False)[1].size
        return value


class Statistics:
    """Sufficient statistics of the columns of a table, which are named by their places.

    Args:
        table: any table with weights of rows or without; unknown cells are left out of what they belong to.

    Attributes:
        levels: levels of each discrete column, else 0.
        total: the rows' total weight.
        present: ``(N, D)``, which cells are known.
        holes: ``(D,)``, which columns have unknown cells.

    Example:
        >>> table = Table({"rain": ["yes", "no", "no", None], "wet": ["yes", "no", "yes", "no"]})
        >>> Statistics(table).counts((0, 1)).tolist()
        [[1.0, 1.0], [0.0, 1.0]]
    """

    def __init__(self, table: Table) -> None:
        self.schema, self.n_rows = table.schema, table.n_rows
        values, self.weights = merged(table)
        self.total = float(len(values) if self.weights is None else self.weights.sum())
        self.levels = [column.cardinality if column.is_discrete else 0 for column in table.schema]
        self.discrete = np.array([column.is_discrete for column in table.schema])
        self.gaussian = np.array([column.kind in GAUSSIAN for column in table.schema])
        self.present = ~np.isnan(values)
        self.holes = ~self.present.all(0)
        self.values = np.column_stack([coordinates(values[:, d], c) for d, c in enumerate(table.schema)])
        self.known = ~np.isnan(self.values)
        self.scale, self.floor = self._standardise()
        self.codes = {d: coded(values[:, d], c) for d, c in enumerate(table.schema) if has_codes(c)}
        self._tables, self._fused = Cache(REMEMBERED), Cache(4 * len(values))

    def _standardise(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers with mean 0 and variance 1; their scale, and the least variance that their spacing resolves."""
        scale, floor = np.ones(len(self.levels)), np.zeros(len(self.levels))
        for d in np.nonzero(~self.discrete)[0]:
            known = self.values[self.known[:, d], d]
            scale[d] = (known.std() if len(known) else 0.0) or 1.0
            self.values[:, d] = (self.values[:, d] - (known.mean() if len(known) else 0.0)) / scale[d]
            gaps = np.diff(np.unique(self.values[self.known[:, d], d]))
            floor[d] = max(float(np.median(gaps)) ** 2 / 12 if len(gaps) else 1.0, 1e-12)
        return scale, floor

    def reweighted(self, weights: np.ndarray) -> Statistics:
        """The same rows with other weights."""
        other = copy.copy(self)
        other.weights, other.total, other._tables = weights, float(weights.sum()), Cache(REMEMBERED)
        return other

    def resampled(self, random: np.random.Generator) -> Statistics:
        """As many rows drawn with replacement, as weights of these (the bootstrap)."""
        weights = np.ones(len(self.values)) if self.weights is None else self.weights
        drawn = random.multinomial(self.n_rows, weights / self.total)
        return self.reweighted(drawn * (self.total / self.n_rows))

    # -- counts and moments ------------------------------------------------------------------------------------
    def size(self, column: int) -> int:
        """Levels of a column's codes, with one for "unknown" where it has holes."""
        return max(self.levels[column], 2) + int(self.holes[column])

    def fused(self, columns: tuple[int, ...]) -> np.ndarray:
        """``(N,)``: the codes of some columns as one number, the last column fastest."""
        if not columns:
            return np.zeros(len(self.values), dtype=np.intp)
        if len(columns) == 1:
            return self.codes[columns[0]]
        return self._fused.get(columns, lambda: self._fuse(columns))

    def _fuse(self, columns: tuple[int, ...]) -> np.ndarray:
        return self.fused(columns[:-1]) * self.size(columns[-1]) + self.codes[columns[-1]]

    def counts(self, columns: tuple[int, ...]) -> np.ndarray:
        """Contingency table, one axis a column, of the rows where all of them are known."""
        sizes = [self.size(column) for column in columns]
        index = self.fused(columns[:-1]) * sizes[-1] + self.codes[columns[-1]]
        found = np.bincount(index, self.weights, minlength=math.prod(sizes)).reshape(sizes)
        return found[tuple(slice(max(self.levels[column], 2)) for column in columns)]

    def moments(self, discrete: tuple[int, ...], continuous: tuple[int, ...]) -> np.ndarray:
        """``(*levels, C + 1, C + 1)``: sums of products of (1, continuous), per configuration of the discrete columns."""
        if not discrete and self.known[:, list(continuous)].all():
            places = [0, *(c + 1 for c in continuous)]
            return self.gram[np.ix_(places, places)]
        known = self.known[:, list(continuous)].all(1)
        weights = known.astype(float) if self.weights is None else np.where(known, self.weights, 0.0)
        design = [np.ones(len(known)), *(np.where(known, self.values[:, c], 0.0) for c in continuous)]
        sizes = [self.size(column) for column in discrete]
        index, cells = self.fused(discrete), math.prod(sizes)
        found = np.empty((len(design), len(design), cells))
        for a, left in enumerate(design):
            weighted = weights * left
            for b, right in enumerate(design[: a + 1]):
                found[a, b] = found[b, a] = np.bincount(index, weighted * right, minlength=cells)
        kept = tuple(slice(self.levels[column]) for column in discrete)
        return np.moveaxis(found, -1, 0).reshape(*sizes, *found.shape[:2])[kept]

    @property
    def gram(self) -> np.ndarray:
        """``(D + 1, D + 1)``: sums of products of (1, all columns), unknown cells as zeros."""
        return self._tables.get("gram", self._gram)

    def _gram(self) -> np.ndarray:
        design = np.column_stack([np.ones(len(self.values)), np.where(self.known, self.values, 0.0)])
        weighted = design if self.weights is None else design * self.weights[:, None]
        return weighted.T @ design

    # -- families ----------------------------------------------------------------------------------------------
    def cells(self, node: int, parents: Sequence[int]) -> int:
        """Numbers in the table of a family."""
        configurations = math.prod(self.size(p) for p in parents if self.discrete[p])
        continuous = sum(not self.discrete[p] for p in parents)
        return configurations * (self.size(node) if self.discrete[node] else (continuous + 2) ** 2 + 2)

    def fits(self, node: int, parents: Sequence[int]) -> bool:
        """Has the table of a family at most ``CELLS`` numbers?"""
        return self.cells(node, parents) <= CELLS

    def check_cells(self, node: int, parents: Sequence[int]) -> None:
        """Refuse a table that would not fit.

        Raises:
            CapabilityError: it has more than ``CELLS`` numbers.
        """
        if not self.fits(node, parents):
            cells = self.cells(node, parents)
            names = self.schema.names
            listed = ", ".join(repr(names[p]) for p in parents)
            raise CapabilityError(
                f"The family of {names[node]!r} given {listed} has a table of {cells:.3g} numbers"
                f" ({8 * cells / 2**30:.3g} GiB; at most {CELLS} are held). Take fewer parents, merge levels, or give"
                " max_parents."
            )

    def family(self, node: int, parents: tuple[int, ...]) -> FamilyStatistics:
        """Statistics of a column given parents, over the rows where all are known.

        Raises:
            CapabilityError: the table would not fit (it says how large it would be).
        """
        self.check_cells(node, parents)
        discrete = tuple(p for p in parents if self.discrete[p])
        last = self.levels[parents[-1]] if parents else 0
        counts = moments = None
        if node in self.codes:
            table = self._tables.get((node, *discrete), lambda: self.counts((node, *discrete)))
            counts = table.reshape(len(table), -1)
        if not self.discrete[node]:
            continuous = (*(p for p in parents if not self.discrete[p]), node)
            found = self._tables.get((discrete, continuous), lambda: self.moments(discrete, continuous))
            moments = found.reshape(-1, *found.shape[-2:])
        rows = float((moments[:, 0, 0] if counts is None and moments is not None else counts).sum())  # type: ignore[union-attr]
        return FamilyStatistics(counts, moments, rows, last, float(self.floor[node]))

    # -- all pairs ---------------------------------------------------------------------------------------------
    def pairs(self, columns: Iterable[int], rows: np.ndarray | None = None) -> PairTables:
        """The contingency tables of all pairs of some discrete columns, in some rows."""
        return PairTables(self, [int(c) for c in columns], rows)


class PairTables:
    """Contingency tables of all pairs of discrete columns, by products of indicators, some columns at a time.

    The last level of a column is not multiplied out: its indicator is what the others leave of the column's known rows.
    """

    def __init__(self, statistics: Statistics, columns: list[int], rows: np.ndarray | None) -> None:
        self.statistics, self.columns = statistics, columns
        self.rows = np.arange(len(statistics.values)) if rows is None else rows
        self.levels = [statistics.levels[column] for column in columns]
        self.starts = np.concatenate([[0], np.cumsum(self.levels)]).astype(np.intp)

    def strips(self) -> list[range]:
        """Runs of columns whose tables with all columns fit in memory."""
        width = max(1, STRIP // max(int(self.starts[-1]), 1))
        found, begin = [], 0
        while begin < len(self.columns):
            end = begin + 1
            while end < len(self.columns) and self.starts[end + 1] - self.starts[begin] <= width:
                end += 1
            found.append(range(begin, end))
            begin = end
        return found

    def strip(self, columns: range) -> np.ndarray:
        """``(levels of these columns, all levels)``: how often two levels are seen together."""
        weights, whole = self.statistics.weights, range(len(self.columns))
        short = 0.0
        exact = weights is None or bool(np.all(weights == np.round(weights)))
        dtype = np.float32 if exact and self.statistics.total < 2**24 else np.float64
        for start in range(0, len(self.rows), ROWS):
            rows = self.rows[start : start + ROWS]
            right = self.indicators(rows, whole, dtype)
            left = right if columns == whole else self.indicators(rows, columns, dtype)
            weighted = left if weights is None else left * weights[rows, None].astype(dtype)
            short = short + (weighted.T @ right).astype(np.float64)
        return self.spread(self.spread(np.asarray(short), columns).T, whole).T

    def widths(self, columns: range) -> list[int]:
        """Indicators of each column: its levels but the last, and one more, "known", where it has holes."""
        return [self.levels[c] - 1 + int(self.statistics.holes[self.columns[c]]) for c in columns]

    def indicators(self, rows: np.ndarray, columns: range, dtype: Any) -> np.ndarray:
        """``(rows, 1 + sum of widths)``: one, then each column's levels but the last and where it is known."""
        widths = self.widths(columns)
        found, at = np.ones((len(rows), 1 + sum(widths)), dtype=dtype), 1
        for column, width in zip(columns, widths, strict=True):
            codes, levels = self.statistics.codes[self.columns[column]][rows], self.levels[column]
            for level in range(levels - 1):
                np.equal(codes, level, out=found[:, at + level], casting="unsafe")
            if width == levels:
                np.less(codes, levels, out=found[:, at + levels - 1], casting="unsafe")
            at += width
        return found

    def spread(self, short: np.ndarray, columns: range) -> np.ndarray:
        """Rows (one; levels but the last, known) as rows of all levels."""
        found, at, to = np.empty((sum(self.levels[c] for c in columns), short.shape[1])), 1, 0
        for column, width in zip(columns, self.widths(columns), strict=True):
            levels = self.levels[column]
            found[to : to + levels - 1] = short[at : at + levels - 1]
            known = short[at + levels - 1] if width == levels else short[0]
            found[to + levels - 1] = known - short[at : at + levels - 1].sum(0)
            at, to = at + width, to + levels
        return found


def coordinates(values: np.ndarray, column: Column) -> np.ndarray:
    """A column on the scale on which it is Gaussian: logarithm, log odds, log(1 + x), or as it is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if column.kind == "positive":
            return np.log(np.maximum(values, np.finfo(float).tiny))
        if column.kind == "count":
            return np.log1p(values)
        if column.kind == "semicontinuous":
            return np.log(np.where(values == 0, np.nan, np.abs(values)))
        if column.kind == "bounded" and column.bounds is not None:
            low, high = column.bounds
            fraction = np.clip((values - low) / (high - low), EDGE, 1 - EDGE)
            return np.log(fraction / (1 - fraction))
    return values.copy()


def has_codes(column: Column) -> bool:
    """Discrete, or zero with some probability."""
    return column.is_discrete or column.kind == "semicontinuous"


def coded(values: np.ndarray, column: Column) -> np.ndarray:
    """``(N,)`` whole numbers; one more than the last where unknown. Of a semicontinuous column: is it not zero?"""
    found = values if column.is_discrete else np.where(np.isnan(values), np.nan, values != 0)
    return np.where(np.isnan(found), max(column.cardinality, 2), found).astype(np.intp)


def merged(table: Table) -> tuple[np.ndarray, np.ndarray | None]:
    """Values and weights with rows that agree made one, where that is possible and pays."""
    values, weights = table.values, table.row_weights
    if not all(column.is_discrete for column in table.schema):
        return values, weights
    group, groups = np.zeros(len(values), dtype=np.intp), 1
    for d, column in enumerate(table.schema):
        group, groups = (
            group * (column.cardinality + 1) + coded(values[:, d], column),
            groups * (column.cardinality + 1),
        )
        if groups > 4 * len(values):
            seen, group = np.unique(group, return_inverse=True)
            groups = len(seen)
            if 2 * groups > len(values):
                return values, weights
    _, first, group = np.unique(group, return_index=True, return_inverse=True)
    return values[first], np.bincount(group, weights, minlength=len(first)).astype(float)
