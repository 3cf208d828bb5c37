"""Columns, real against generated."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from probgen.data.schema import Column
from probgen.data.table import Table
from probgen.plots.style import ACCENT, FAINT, MUTED, axes_or_new, tidy

__all__ = ["column_against", "pair_against"]

REAL, GENERATED = FAINT, ACCENT
MOST_POINTS = 800
MOST_LEVELS = 12


def column_against(real: Table, generated: Table, name: str, axes: Axes | None = None) -> Axes:
    """One column: the data in grey, what the model draws as a blue line or blue marks."""
    axes = axes_or_new(axes, (3.2, 2.2))
    column, place = real.schema[name], real.schema.index(name)
    data, drawn = known(real, place), known(generated, place)
    if column.is_discrete:
        draw_levels(column, data, drawn, axes)
    else:
        draw_numbers(data, drawn, axes, whole=column.kind == "count")
    tidy(axes, name, grid="")
    axes.set_yticks([])
    if column.kind == "datetime":
        show_dates(axes.xaxis)
    return axes


def known(table: Table, place: int) -> np.ndarray:
    """Known values of a column."""
    return table.values[table.known[:, place], place]


def draw_levels(column: Column, data: np.ndarray, drawn: np.ndarray, axes: Axes) -> None:
    """Shares of the levels, the commonest where there are many."""
    levels = column.cardinality
    share = np.bincount(data.astype(int), minlength=levels) / max(len(data), 1)
    model = np.bincount(drawn.astype(int), minlength=levels) / max(len(drawn), 1)
    shown = np.arange(levels) if levels <= MOST_LEVELS else np.sort(np.argsort(-share)[:MOST_LEVELS])
    lines = np.arange(len(shown))
    axes.bar(lines, share[shown], color=REAL, width=0.68)
    axes.scatter(lines, model[shown], color=GENERATED, s=34, zorder=3, marker="D")
    turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if len(shown) > 4 else {}
    axes.set_xticks(lines, [str(column.levels[i])[:12] for i in shown], **turned)
    axes.set_ylim(0, 1.12 * max(share[shown].max(), model[shown].max()))


def draw_numbers(data: np.ndarray, drawn: np.ndarray, axes: Axes, whole: bool = False) -> None:
    """Histograms over the same bins; draws outside the data's range widen them up to a point."""
    low, high = np.quantile(data, [0, 1])
    reach = 0.25 * (high - low)
    low, high = max(low - reach, min(low, drawn.min())), min(high + reach, max(high, drawn.max()))
    bins = np.linspace(low, high, 27)
    if whole and high - low < 60:
        bins = np.arange(np.floor(low) - 0.5, np.ceil(high) + 1.5)
    axes.hist(data, bins=bins, density=True, color=REAL)
    heights, _ = np.histogram(drawn, bins=bins)
    axes.stairs(heights / (len(drawn) * np.diff(bins)), bins, color=GENERATED, linewidth=1.8)


def pair_against(real: Table, generated: Table, x: str, y: str, axes: Axes | None = None) -> Axes:
    """Two columns: rows of the data in grey, rows that the model draws in blue."""
    axes = axes_or_new(axes, (3.2, 3.0))
    for table, colour, marker, size in ((real, MUTED, "o", 13), (generated, GENERATED, "D", 9)):
        points = complete_pairs(table, x, y)
        axes.scatter(*points, s=size, color=colour, alpha=0.45, linewidths=0, marker=marker)
    tidy(axes, "", x, y, grid="both")
    for which, name, axis in (("x", x, axes.xaxis), ("y", y, axes.yaxis)):
        column = real.schema[name]
        if column.is_discrete:
            axis.set_ticks(range(column.cardinality), [str(level)[:10] for level in column.levels])
        elif column.kind == "datetime" and which == "x":
            show_dates(axes.xaxis)
    return axes


def complete_pairs(table: Table, x: str, y: str) -> np.ndarray:
    """``(2, n)`` values of rows where both are known; discrete codes are shaken a little to be seen."""
    places = [table.schema.index(x), table.schema.index(y)]
    points = table.values[table.known[:, places].all(1)][:MOST_POINTS][:, places].T
    rng = np.random.default_rng(0)
    for line, place in enumerate(places):
        if table.schema[place].is_discrete:
            points[line] = points[line] + rng.uniform(-0.22, 0.22, points.shape[1])
    return points


def show_dates(axis: Axis) -> None:
    """Days since 1970 as dates: matplotlib counts from the same day."""
    locator = AutoDateLocator(maxticks=5)
    axis.set_major_locator(locator)
    axis.set_major_formatter(ConciseDateFormatter(locator))
