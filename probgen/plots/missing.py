"""Where a table has holes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from probgen.data.table import Table
from probgen.plots.style import ACCENT, FAINT, INK, MUTED, axes_or_new, tidy

__all__ = ["missing_patterns", "missing_shares"]

MOST_COLUMNS = 40


def missing_patterns(table: Table, axes: Axes | None = None, most: int = 10) -> Axes:
    """The commonest combinations of unknown columns, one line each, with the number of rows.

    Args:
        table: to be shown.
        axes: to draw into.
        most: patterns shown; the rest is counted in the title.
    """
    axes = axes_or_new(axes)
    places = shown_columns(table)
    patterns, counts = np.unique(~table.known[:, places], axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shown = patterns[order[:most]]  # (P, D) True = unknown
    for line, pattern in enumerate(shown):
        for unknown, colour, marker, filled in ((False, FAINT, "s", True), (True, ACCENT, "s", False)):
            at = np.flatnonzero(pattern == unknown)
            style = {"facecolors": colour} if filled else {"facecolors": "none", "linewidths": 1.6}
            axes.scatter(at, np.full(len(at), line), s=70, marker=marker, edgecolors=colour, **style)
        axes.annotate(
            f"{counts[order[line]]}", (1.0, line), xycoords=("axes fraction", "data"), va="center", color=MUTED
        )
    names = [table.names[d] for d in places]
    rest = len(counts) - len(shown)
    tidy(axes, "Patterns of unknown cells" + (f" ({rest} rarer ones not shown)" if rest else ""), grid="")
    axes.set_xticks(range(len(names)), [shortened(n) for n in names], rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks([])
    axes.set_xlim(-0.7, len(names) - 0.1)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.spines["bottom"].set_visible(False)
    axes.annotate("rows", (1.0, -0.55), xycoords=("axes fraction", "data"), color=MUTED, va="bottom")
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
