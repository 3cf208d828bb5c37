"""Holes: made on purpose (amputation), to see how well they are filled, and described."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import DataError

__all__ = ["ColumnFlux", "Flux", "MissingPatterns", "ampute", "flux", "missing_patterns"]


def ampute(
    table: Table, fraction: float, mechanism: str = "mcar", columns: Sequence[str] | None = None, seed: int = 0
) -> tuple[Table, np.ndarray]:
    r"""Hide a share of the known cells.

    Args:
        table: to be thinned out; every row keeps at least one known cell.
        fraction: of the known cells of ``columns`` to hide.
        mechanism: "mcar" (completely at random), "mar" (more often where the other, known columns are large) or "mnar"
            (more often where the cell itself is large).
        columns: that may lose cells; all where it is None.
        seed: of the random numbers.

    Returns:
        The table with holes, and the mask ``(N, D)`` of the cells that were hidden.

    Reference: Rubin (1976).

    Example:
        >>> table, hidden = ampute(Table({"a": np.arange(10.0), "b": np.arange(10.0) ** 2}), 0.3, seed=4)
        >>> int(hidden.sum())
        6
    """
    if not 0 < fraction < 1:
        raise DataError(f"fraction must lie between 0 and 1, got {fraction}.")
    if mechanism not in ("mcar", "mar", "mnar"):
        raise DataError(f"mechanism must be 'mcar', 'mar' or 'mnar', got {mechanism!r}.")
    rng = np.random.default_rng(seed)
    eligible = table.known.copy()
    if columns is not None:
        chosen = [table.schema.index(name) for name in columns]
        eligible[:, np.setdiff1d(np.arange(table.n_columns), chosen)] = False
    keys = np.where(eligible, rng.gumbel(size=eligible.shape) + tendency(table, mechanism), -np.inf)
    hidden = np.zeros_like(eligible)
    for place in np.nonzero(eligible.any(0))[0]:
        hidden[np.argsort(-keys[:, place])[: round(fraction * eligible[:, place].sum())], place] = True
    hidden = keep_one(table.known, hidden, rng)
    return table.with_values(np.where(hidden, np.nan, table.values)), hidden


def tendency(table: Table, mechanism: str) -> np.ndarray:
    """Log odds of being hidden, up to a constant a column."""
    if mechanism == "mcar":
        return np.zeros(table.values.shape)
    z = (table.values - np.nanmean(table.values, 0)) / np.maximum(np.nanstd(table.values, 0), 1e-12)
    z = np.nan_to_num(z)
    if mechanism == "mnar":
        return 1.5 * z
    others = z.sum(1, keepdims=True) - z
    return 1.5 * others / max(np.sqrt(table.n_columns - 1), 1.0)


def keep_one(known: np.ndarray, hidden: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give back one cell of each row that lost all."""
    hidden = hidden.copy()
    for row in np.nonzero(~(known & ~hidden).any(1) & known.any(1))[0]:
        hidden[row, rng.choice(np.nonzero(known[row])[0])] = False
    return hidden


@dataclass(frozen=True, eq=False)
class MissingPatterns:
    """The different patterns of known cells in a table; printed as mice's ``md.pattern`` prints them.

    Attributes:
        names: of the columns, those with fewest holes first.
        known: ``(P, D)``, True where a pattern knows a column.
        counts: ``(P,)`` rows that have it.
        holes: ``(D,)`` unknown cells a column.
        which: ``(N,)``, the pattern of each row.
    """

    names: tuple[str, ...]
    known: np.ndarray
    counts: np.ndarray
    holes: np.ndarray
    which: np.ndarray

    @property
    def complete(self) -> int:
        """Rows without holes."""
        return int(self.counts[self.known.all(1)].sum())

    @property
    def monotone(self) -> bool:
        """Whether a row that lacks a column lacks all that follow it."""
        return bool((self.known[:, :-1] >= self.known[:, 1:]).all())

    def __str__(self) -> str:
        rows = [
            [str(count), *("1" if cell else "0" for cell in pattern), str(int((~pattern).sum()))]
            for count, pattern in zip(self.counts, self.known, strict=True)
        ]
        return aligned([["", *map(str, self.names), ""], *rows, ["", *map(str, self.holes), str(self.holes.sum())]])


def missing_patterns(table: Table) -> MissingPatterns:
    """Which cells are unknown together: the distinct patterns, how often each occurs, and the holes of each column.

    Args:
        table: with or without holes; rows count once each, whatever they weigh.

    Reference: Schafer (1997); van Buuren (2018), section 4.1.

    Example:
        >>> nan = float("nan")
        >>> print(missing_patterns(Table({"a": [1.0, 2.0, nan, 4.0], "b": [0.5, 2.5, 1.5, 3.5]})))
           b a
        3  1 1 0
        1  1 0 1
           0 1 1
    """
    unknown = ~table.known
    order = np.argsort(unknown.sum(0), kind="stable")
    packed = np.ascontiguousarray(np.packbits(unknown[:, order], axis=1))  # ordered as the patterns, quick to sort
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
    _, first, which, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    names = tuple(table.names[place] for place in order)
    return MissingPatterns(names, ~unknown[first][:, order], counts, unknown.sum(0)[order], which)


@dataclass(frozen=True)
class ColumnFlux:
    """How one column is connected to the others by known and unknown cells (see :func:`flux`)."""

    column: str
    known: float
    influx: float
    outflux: float
    average_inbound: float
    average_outbound: float
    incomplete: float


@dataclass(frozen=True)
class Flux:
    """One record a column; iterated, and printed as a table.

    Attributes:
        columns: in the table's order.
    """

    columns: tuple[ColumnFlux, ...]

    def __iter__(self) -> Iterator[ColumnFlux]:
        return iter(self.columns)

    @property
    def records(self) -> list[dict[str, Any]]:
        """One dictionary a column."""
        return [asdict(column) for column in self.columns]

    def __str__(self) -> str:
        head = ["", "known", "influx", "outflux", "inbound", "outbound", "incomplete"]
        rows = [[str(name), *(f"{x:.3f}" for x in numbers)] for name, *numbers in map(fields_of, self.columns)]
        return aligned([head, *rows])


def fields_of(column: ColumnFlux) -> list[Any]:
    return list(vars(column).values())


def flux(table: Table) -> Flux:
    r"""Which columns can be imputed from the others, and which help to impute them.

    With r = 1 for known cells, of column j:

    .. math:: \text{influx}_j = \frac{\sum_{k,i} (1 - r_{ij}) r_{ik}}{\sum_{k,i} r_{ik}},\qquad
        \text{outflux}_j = \frac{\sum_{k,i} r_{ij} (1 - r_{ik})}{\sum_{k,i} (1 - r_{ik})}

    The inbound statistic of (j, k) is the share of the rows without j that know k, the outbound statistic the share of
    the rows with j that lack k; both are averaged over the other columns k. ``incomplete`` is the share of incomplete
    rows among those with j. A mean over no row counts as 0 among the averages, and is NaN for outflux (no holes at
    all) and ``incomplete`` (j is never known).

    Args:
        table: with holes.

    Returns:
        A record a column: shares between 0 and 1.

    Reference: van Buuren (2018), section 4.1.3; White and Carlin (2010) for ``incomplete``.

    Example:
        >>> nan = float("nan")
        >>> print(flux(Table({"a": [1.0, 2.0, nan, 4.0], "b": [0.5, 2.5, 1.5, 3.5]})))
           known influx outflux inbound outbound incomplete
        a  0.750  0.143   0.000   1.000    0.000      0.000
        b  1.000  0.000   1.000   0.000    0.250      0.250
    """
    known = table.known.astype(float)
    unknown = 1 - known
    into, out = unknown.T @ known, known.T @ unknown  # (D, D): j unknown and k known, and the reverse
    others = max(table.n_columns - 1, 1)
    rows = (
        known.mean(0),
        into.sum(1) / np.maximum(known.sum(), 1),
        share(out.sum(1), unknown.sum()),
        np.nan_to_num(share(into, unknown.sum(0)[:, None])).sum(1) / others,
        np.nan_to_num(share(out, known.sum(0)[:, None])).sum(1) / others,
        share(known.T @ unknown.any(1), known.sum(0)),
    )
    numbers = np.stack(rows, 1).tolist()
    return Flux(tuple(ColumnFlux(name, *row) for name, row in zip(table.names, numbers, strict=True)))


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """A part of the whole, NaN where the whole is nothing."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)


def aligned(rows: list[list[str]]) -> str:
    """Lines of a table, the first column to the left of two blanks, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{row[0]:<{widths[0]}}  "
        + " ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
