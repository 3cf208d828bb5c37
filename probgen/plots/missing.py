"""Where a table has holes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from probgen.data.missing import flux as data_flux
from probgen.data.missing import missing_patterns as data_patterns
from probgen.data.table import Table
from probgen.errors import DataError
from probgen.plots.labels import label_points
from probgen.plots.style import ACCENT, FAINT, GRID, INK, MUTED, PAPER, axes_or_new, tidy

__all__ = ["flux", "missing_patterns", "missing_shares"]

MOST_COLUMNS = 40
MOST_LABELS = 22
CELLS = ListedColormap([GRID, ACCENT])  # known, unknown


def missing_patterns(table: Table, axes: Axes | None = None, most: int = 10) -> Axes:
    """The commonest combinations of unknown columns, one line each: R's ``md.pattern``, sorted by rows.

    On the left the number of rows that have the pattern, on the right how many columns it lacks, below the unknown cells of
    each column; columns with fewest come first.

    Args:
        table: to be shown.
        axes: to draw into.
        most: patterns shown; the rest is counted in the title.
    """
    names, patterns, counts, holes = patterns_of(table)
    shown = min(most, len(counts))
    axes = axes_or_new(axes, (1.9 + 0.36 * len(names), 1.5 + 0.24 * shown))
    cells = np.where(patterns[:shown], 1.0, 0.0)
    axes.pcolormesh(np.arange(len(names) + 1) - 0.5, np.arange(shown + 1) - 0.5, cells, cmap=CELLS, vmin=0, vmax=1,
                    edgecolors=PAPER, linewidth=1.6)  # fmt: skip
    small = {"fontsize": 8.5 if shown <= 20 else 7.5, "va": "center"}
    for line in range(shown):
        left = {"xycoords": ("axes fraction", "data"), "xytext": (-6, 0), "textcoords": "offset points"}
        axes.annotate(f"{counts[line]}", (0.0, line), ha="right", color=INK, **left, **small)
    for line in range(shown):
        right = {"xycoords": ("axes fraction", "data"), "xytext": (6, 0), "textcoords": "offset points"}
        axes.annotate(f"{int(patterns[line].sum())}", (1.0, line), ha="left", color=MUTED, **right, **small)
    rest = len(counts) - shown
    tidy(axes, "Patterns of unknown cells" + (f" ({rest} rarer ones not shown)" if rest else ""), grid="")
    write_columns(axes, names, holes, len(table.names) > len(names))
    axes.set_yticks([])
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(shown - 0.5, -0.5)
    axes.spines["bottom"].set_visible(False)
    return axes


def patterns_of(table: Table) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Names of columns, fewest holes first; different patterns, the commonest first; their rows; holes of each column."""
    found = data_patterns(table.select([table.names[place] for place in shown_columns(table)]))
    order = np.argsort(-found.counts, kind="stable")
    return list(found.names), ~found.known[order], found.counts[order], found.holes


def write_columns(axes: Axes, names: Sequence[str], holes: np.ndarray, some: bool) -> None:
    """Names of the columns with their unknown cells; upright where there are many."""
    labels = [f"{shortened(name)}  {count}" for name, count in zip(names, holes, strict=True)]
    turned = {"rotation": 90} if len(names) > 14 else {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), labels, **turned)
    axes.tick_params(axis="x", labelsize=8.5 if len(names) <= 14 else 7.5)
    told = "columns with the most unknown cells" if some else "columns with their unknown cells"
    axes.set_xlabel(f"left: rows · right: columns missing · below: {told}", fontsize=8, color=MUTED)


def flux(table: Table, axes: Axes | None = None) -> Axes:
    """Outflux against influx of every column (van Buuren, 2018, section 4.1.3).

    Columns high up are known where others are not, and help to impute them; columns to the right are unknown where others
    are known. Complete columns sit at (0, 1); on the dashed line influx and outflux are balanced. The
    axes show the part where columns are.

    Args:
        table: with holes.
        axes: to draw into.

    Raises:
        DataError: the table has no holes, so that there is no outflux.
    """
    if table.known.all():
        raise DataError("The table has no holes: every influx is 0, and outflux is not defined.")
    axes = axes_or_new(axes, (5.6, 4.6))
    records = data_flux(table).records
    x, y = np.array([[record["influx"], record["outflux"]] for record in records]).T
    axes.plot([0, 1], [1, 0], color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.scatter(x, y, s=34, color=ACCENT, zorder=3)
    tidy(
        axes, "Flux", "influx: unknown where others are known", "outflux: known where others are unknown", grid="both"
    )
    for values, limit in ((x, axes.set_xlim), (y, axes.set_ylim)):
        pad = max(0.05, 0.3 * np.ptp(values))
        limit(max(values.min() - pad, -0.04), min(values.max() + pad, 1.07))
    told = np.argsort(-np.hypot(x, 1 - y), kind="stable")[:MOST_LABELS]
    label_points(axes, x[told], y[told], [shortened(records[at]["column"]) for at in told])
    return axes


def missing_shares(table: Table, axes: Axes | None = None) -> Axes:
    """The share of unknown cells in each column."""
    axes = axes_or_new(axes)
    places = shown_columns(table)
    share = (~table.known[:, places]).mean(0)
    lines = np.arange(len(places))
    axes.barh(lines, share, color=ACCENT, height=0.62)
    for line, value in zip(lines, share, strict=True):
        text = f" {value:.1%}" if value else " complete"
        axes.text(value, line, text, va="center", color=INK if value else MUTED, fontsize=8.5)
    tidy(axes, "Unknown cells, by column", grid="")
    axes.set_yticks(lines, [shortened(table.names[d], 22) for d in places])
    axes.set_xticks([])
    axes.set_xlim(0, max(share.max() * 1.25, 0.01))
    axes.spines["bottom"].set_visible(False)
    axes.invert_yaxis()
    return axes


def shown_columns(table: Table) -> np.ndarray:
    """All columns; of a wide table those with the most holes, in their order."""
    if table.n_columns <= MOST_COLUMNS:
        return np.arange(table.n_columns)
    return np.sort(np.argsort(table.known.mean(0), kind="stable")[:MOST_COLUMNS])


def shortened(name: str, length: int = 18) -> str:
    """A name that fits."""
    return name if len(name) <= length else name[: length - 1] + "…"
