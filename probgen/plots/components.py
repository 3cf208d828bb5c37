"""Components, classes and states of a fit: where they lie in the data, and what their columns are like."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patheffects import withStroke

from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.plots.columns import show_dates
from probgen.plots.missing import shortened
from probgen.plots.style import (
    CYCLE,
    FAINT,
    INK,
    MUTED,
    PAPER,
    axes_or_new,
    colours,
    legend,
    sequential,
    tidy,
)
from probgen.queries.components import Components, responsibilities
from probgen.queries.components import components as tables_of
from probgen.queries.reading import percent

__all__ = ["component_levels", "components"]

MOST_POINTS = 1500
MOST_LINES = 40
SHARES = (0.5, 0.9)  # of a component inside its two contours
HALO = [withStroke(linewidth=3.5, foreground=PAPER)]


def components(fit: Any, table: Table, x: str | None = None, y: str | None = None, axes: Axes | None = None) -> Axes:
    """The components of a fit over the data: ellipses for two columns, densities for one, a heat map for levels.

    Args:
        fit: of a mixture, latent classes, hidden states: any program whose columns depend on a discrete latent.
        table: rows to show; a row has the colours of its components, mixed by its posterior probabilities.
        x: a column; where None, the two numbers whose components lie furthest apart are chosen.
        y: a second column; None for the densities (the levels' probabilities) of x alone.
        axes: to draw into.

    Raises:
        CapabilityError: no component to be drawn, or a pair with a discrete column.
    """
    table, found = fit.read(table), component_table(fit)
    if x is None:
        numbers = sorted(number_names(found), key=found.separation, reverse=True)
        if not numbers:
            return component_levels(fit, axes=axes)
        x, y = numbers[0], numbers[1] if len(numbers) > 1 else None
    found.find(x)
    if y is not None:
        return draw_pair(found, fit, table, x, y, axes_or_new(axes, (6.4, 4.6)))
    if fit.schema[x].is_discrete:
        return component_levels(fit, (x,), axes)
    return draw_densities(found, table, x, axes_or_new(axes, (6.4, 3.6)))


def component_table(fit: Any) -> Components:
    """The program's components; where columns depend on several sets of sites, those of the most columns."""
    found = tables_of(fit)
    if not found:
        raise CapabilityError(
            f"The columns of {fit.name!r} do not depend on a discrete latent alone, so there are no components to draw."
        )
    return max(found, key=lambda made: len(made.names))


def number_names(found: Components) -> list[str]:
    return [name for name in found.names if not found.schema[name].is_discrete]


def caption(found: Components, k: int) -> str:
    """What a component is called."""
    label = shortened(found.labels[k], 16)
    return label if found.title in found.schema.names else f"{found.title} {label}"


# ---------------------------------------------------------------------------------------------------- two columns
def draw_pair(found: Components, fit: Any, table: Table, x: str, y: str, axes: Axes) -> Axes:
    """Rows in mixed colours, the 50 % and 90 % contours of every component, its label at its centre."""
    for name in (x, y):
        found.find(name)
        if found.schema[name].is_discrete:
            raise CapabilityError(f"Column {name!r} is {found.schema[name].kind}; a pair is drawn of numbers.")
    shades = colours(len(found))
    share = responsibilities(fit, table, found.index)
    places = [found.schema.index(x), found.schema.index(y)]
    rows = np.nonzero(table.known[:, places].all(1))[0]
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_POINTS])
    points = table.values[rows][:, places]
    mixed = np.clip(share[rows] @ np.array([to_rgb(shade) for shade in shades]), 0.0, 1.0)
    axes.scatter(*points.T, s=16, c=mixed, alpha=0.65, linewidths=0)
    limits = reach(points, found.ellipses(x, y, SHARES[-1]), found.weight)
    for level, width in zip(SHARES, (2.0, 1.2), strict=True):
        for line, shade in zip(found.ellipses(x, y, level), shades, strict=True):
            axes.plot(*line, color=shade, linewidth=width)
    tops = {name: found.gaussian(name) for name in (x, y)}
    centres = np.stack([back(mean) for mean, _, back in tops.values()], 1)
    for k, place in enumerate(apart(centres, limits)):
        axes.text(
            *place, shortened(found.labels[k], 16), ha="center", va="center", color=shades[k], fontweight="bold",
            fontsize=11, path_effects=HALO, clip_on=True, zorder=6,
        )  # fmt: skip
    tidy(axes, f"50 % and 90 % contours by {found.title}", x, y, grid="both")
    axes.set_xlim(*limits[0])
    axes.set_ylim(*limits[1])
    for name, axis in ((x, axes.xaxis), (y, axes.yaxis)):
        if found.schema[name].kind == "datetime":
            show_dates(axis)
    return axes


def reach(points: np.ndarray, lines: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``(2, 2)`` limits that show all points, and the contours within one more range of them."""
    low, high = points.min(0), points.max(0)
    span = np.where(high > low, high - low, 1.0)
    heavy = lines[weight > 0.01]
    below = np.maximum(np.minimum(low, heavy.min((0, 2))), low - 0.5 * span)
    above = np.minimum(np.maximum(high, heavy.max((0, 2))), high + 0.5 * span)
    return np.stack([below - 0.04 * span, above + 0.04 * span], 1)


def apart(places: np.ndarray, limits: np.ndarray, least: float = 0.055) -> np.ndarray:
    """Places of labels ``(K, 2)``, moved until no two are nearer than a share of the figure."""
    low, span = limits[:, 0], limits[:, 1] - limits[:, 0]
    at = (places - low) / span
    for _ in range(50):
        moved = False
        for i, j in combinations(range(len(at)), 2):
            gap = at[j] - at[i]
            far = float(np.linalg.norm(gap))
            if far < 0.999 * least:
                push = 0.5 * (least - far) * (gap / far if far > 1e-6 else np.array([0.0, 1.0]))
                at[i], at[j], moved = at[i] - push, at[j] + push, True
        if not moved:
            break
    return low + at * span


# ----------------------------------------------------------------------------------------------------- one column
def draw_densities(found: Components, table: Table, name: str, axes: Axes) -> Axes:
    """The column's histogram, each component's density times its weight, and their sum."""
    column, place = found.schema[name], found.schema.index(name)
    data = table.values[table.known[:, place], place]
    atoms = column.kind == "semicontinuous"
    shown = data[data > 0] if atoms else data
    bins, grid, whole = scale_of(shown, column.kind == "count")
    heights = np.histogram(shown, bins)[0] / (len(data) * np.diff(bins))
    axes.bar(bins[:-1], heights, np.diff(bins), align="edge", color=FAINT, alpha=0.55, linewidth=0)
    parts = found.weight[:, None] * found.density(name, grid)
    style = {"marker": "o", "markersize": 3.2} if whole else {}
    if len(found) > 1:
        axes.plot(grid, parts.sum(0), color=INK, linewidth=1.1, linestyle=(0, (4, 2)), label="all together")
    for k, shade in enumerate(colours(len(found))):
        label = f"{caption(found, k)}  {percent(found.weight[k])}"
        axes.plot(grid, parts[k], color=shade, linewidth=1.8, label=label if k < len(CYCLE) else None, **style)
    zeros = f" (and zero: {percent(float(np.mean(data == 0)))})" if atoms else ""
    tidy(axes, f"{name}{zeros}", name, "share of rows" if whole else "density")
    axes.set_ylim(0, 1.15 * max(heights.max(), float(np.quantile(parts.sum(0), 0.98))))
    axes.set_xlim(bins[0], bins[-1])
    legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if column.kind == "datetime":
        show_dates(axes.xaxis)
    return axes


def scale_of(data: np.ndarray, count: bool) -> tuple[np.ndarray, np.ndarray, bool]:
    """Edges of the bins, the places at which densities are drawn, and whether these are all the values."""
    low, high = float(data.min()), float(data.max())
    if count and high - low < 80:
        edges = np.arange(low - 1.5, high + 2.5)
        return edges[edges > -1], np.arange(max(low - 1, 0), high + 2), True
    if count:
        return edges_of(data), np.unique(np.linspace(low, high, 400).round()), False
    edges = edges_of(data)
    return edges, np.linspace(edges[0], edges[-1], 501), False


def edges_of(data: np.ndarray, bins: int = 26) -> np.ndarray:
    """Edges between the values that occur, each bin as wide as the others, one empty bin at both ends."""
    values = np.unique(data)
    unit = float(np.diff(values).min()) if len(values) > 1 else 1.0
    width = unit * max(1.0, np.ceil((values[-1] - values[0]) / (bins * unit)))
    start = values[0] - 0.5 * unit
    edges = start + width * np.arange(-1, np.ceil((values[-1] - start) / width) + 2)
    return np.maximum(edges, 0.0)[(edges > 0).argmax() - 1 :] if values[0] > 0 and edges[0] < 0 else edges


# --------------------------------------------------------------------------------------------------------- levels
def component_levels(fit: Any, columns: tuple[str, ...] | None = None, axes: Axes | None = None) -> Axes:
    """A profile plot: the probability of every level of the discrete columns in each component.

    Args:
        fit: of any program whose columns depend on a discrete latent.
        columns: discrete columns; all of them where None. Of a binary column the second level is shown.
        axes: to draw into.
    """
    found = component_table(fit)
    names = [name for name in columns or found.names if found.schema[name].is_discrete]
    if not names:
        raise CapabilityError("There is no discrete column to draw; use components(fit, table) for numbers.")
    lines = [(name, code) for name in names for code in shown_levels(found, name)]
    rest, lines = len(lines) - MOST_LINES, lines[:MOST_LINES]
    share = np.stack([found.levels(name)[:, code] for name, code in lines])  # (lines, K)
    axes = axes_or_new(axes, (2.6 + 0.62 * max(len(found), 3), 1.1 + 0.27 * (len(lines) + 0.4 * len(names))))
    heights = places_of(lines)
    draw_cells(share, heights, axes)
    firsts = [at for at, (name, _) in enumerate(lines) if at == 0 or name != lines[at - 1][0]]
    tidy(axes, f"Levels by {found.title}" + (f" ({rest} more not shown)" if rest > 0 else ""), grid="")
    axes.spines["bottom"].set_visible(False)
    axes.set_yticks(heights, [level_name(found, *line, at in firsts) for at, line in enumerate(lines)])
    heads = [f"{shortened(label, 10)}\n{percent(weight)}" for label, weight in zip(found.labels, found.weight)]
    axes.set_xticks(range(len(found)), heads, color=INK)
    axes.xaxis.tick_top()
    axes.set_xlim(-0.5, len(found) - 0.5)
    axes.set_ylim(heights[-1] + 0.55, -0.55)
    return axes


def shown_levels(found: Components, name: str) -> list[int]:
    column = found.schema[name]
    return [1] if column.kind == "binary" else list(range(column.cardinality))


def places_of(lines: list[tuple[str, int]]) -> np.ndarray:
    """Heights of the lines, a gap between columns of several levels."""
    several = [sum(name == other for other, _ in lines) > 1 for name, _ in lines]
    gaps = [
        0.4 * (at > 0 and name != lines[at - 1][0] and (several[at] or several[at - 1]))
        for at, (name, _) in enumerate(lines)
    ]
    return np.arange(len(lines)) + np.cumsum(gaps)


def draw_cells(share: np.ndarray, heights: np.ndarray, axes: Axes) -> None:
    """One shaded cell a probability, with its number while there is room."""
    shades = sequential()
    for (line, k), value in np.ndenumerate(share):
        axes.barh(heights[line], 0.94, 0.9, left=k - 0.47, color=shades(float(value)), linewidth=0)
        if share.shape[1] <= 16:
            colour = PAPER if value > 0.45 else INK if value > 0.05 else MUTED
            axes.text(k, heights[line], f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=8.5)


def level_name(found: Components, name: str, code: int, first: bool) -> str:
    """A line's label: the level, with the column's name at its first one."""
    level = shortened(str(found.schema[name].levels[code]), 16)
    return f"{shortened(str(name))} = {level}" if first else level
