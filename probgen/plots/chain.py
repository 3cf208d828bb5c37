"""Chains of hidden states: how they move, how long they stay, where they were, what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from probgen.data.schema import Column
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.plots.columns import show_dates
from probgen.plots.missing import shortened
from probgen.plots.style import (
    ACCENT,
    FAINT,
    INK,
    MUTED,
    PAPER,
    axes_or_new,
    colours,
    house,
    legend,
    sequential,
    tidy,
)
from probgen.queries.components import responsibilities
from probgen.queries.marginals import Marginals
from probgen.queries.reading import percent
from probgen.queries.states import StateChain, state_chains

__all__ = ["decoded", "durations", "forecast", "transition_diagram"]

MOST_CIRCLES = 10  # states beyond which arrows say nothing
LEAST = 0.01  # of a transition that is drawn
MOST_PANELS = 4
MOST_PAST = 200
HALO = [withStroke(linewidth=2.5, foreground=PAPER)]


def chain_of(fit: Any, number: int) -> StateChain:
    """One of the program's chains."""
    found = state_chains(fit)
    if not 0 <= number < len(found):
        raise CapabilityError(f"{fit.name!r} has {len(found)} chains of states; there is no chain {number}.")
    return found[number]


# ---------------------------------------------------------------------------------------------------- transitions
def transition_diagram(fit: Any, chain: int = 0, axes: Axes | None = None) -> Axes:
    """States as circles, their areas the long-run shares, and arrows for the transitions of 1 % or more.

    An arrow's width is its probability; arrows and labels have the colour of the state they leave. More than ten states
    are drawn as a matrix. Of a semi-Markov chain the expected stay stands where the others have a loop.

    Args:
        fit: of a program with a chain of hidden states.
        chain: which one, where it has several.
        axes: to draw into.
    """
    found = chain_of(fit, chain)
    if found.states > MOST_CIRCLES:
        return draw_matrix(found, axes_or_new(axes, (6.0, 5.2)))
    flat = found.states == 2
    axes = axes_or_new(axes, (6.0, 2.9) if flat else (6.0, 5.6))
    angle = np.pi / 2 - 2 * np.pi * np.arange(found.states) / found.states + (np.pi / 2 if flat else 0.0)
    places = np.stack([np.cos(angle), np.sin(angle)], 1) * (found.states > 1)
    most = min(0.32, 0.62 * np.sin(np.pi / max(found.states, 2)))
    radii = np.maximum(most * np.sqrt(found.share / found.share.max()), 0.14)
    circles = [
        Circle(place, r, facecolor=shade, edgecolor=PAPER, linewidth=1.5, zorder=4)
        for place, r, shade in zip(places, radii, colours(found.states), strict=True)
    ]
    draw_arrows(axes, found, circles)
    for k, (circle, turn) in enumerate(zip(circles, angle, strict=True)):
        draw_state(axes, found, k, circle, turn)
    when = "when a state is left" if found.duration is not None else "a step"
    tidy(axes, f"Transitions {when} ({percent(LEAST)} or more)", grid="")
    around = most + (0.55 if found.duration is None else 0.45)
    axes.set_xlim(places[:, 0].min() - around, places[:, 0].max() + around)
    axes.set_ylim(places[:, 1].min() - around, places[:, 1].max() + around)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines["bottom"].set_visible(False)
    return axes


def draw_state(axes: Axes, found: StateChain, k: int, circle: Circle, turn: float) -> None:
    """A circle with its number and share, and what keeps it there: a loop, or its expected stay."""
    axes.add_patch(circle)
    (x, y), r, again = circle.center, circle.radius, float(found.transition[k, k])
    axes.text(x, y, f"{k}", ha="center", va="bottom", color=PAPER, fontweight="bold", fontsize=11, zorder=5)
    axes.text(x, y, percent(found.share[k]), ha="center", va="top", color=PAPER, fontsize=8, zorder=5)
    out, colour = np.array([np.cos(turn), np.sin(turn)]), circle.get_facecolor()
    if found.duration is not None:
        label, reach = f"stays {found.stay[k]:.1f}", r + 0.06
    elif again >= LEAST:
        label, reach = number(again), draw_loop(axes, circle, turn, again) + 0.05
    else:
        return
    ha = "left" if out[0] > 0.35 else "right" if out[0] < -0.35 else "center"
    va = "bottom" if out[1] > 0.35 else "top" if out[1] < -0.35 else "center"
    place = np.array([x, y]) + reach * out
    axes.text(*place, label, ha=ha, va=va, color=colour, fontsize=9, path_effects=HALO, zorder=6)


def draw_loop(axes: Axes, circle: Circle, turn: float, share: float) -> float:
    """From the circle back to itself, on the outer side; returns how far out it reaches."""
    centre, r = np.array(circle.center), circle.radius
    side, wide, high = 0.09 / r, 0.21, r + 0.36
    ways = [(r * np.cos(side), r * np.sin(side)), (high, wide), (high, -wide), (r * np.cos(side), -r * np.sin(side))]
    out, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    points = np.array([centre + a * out + b * across for a, b in ways])
    path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    axes.add_patch(FancyArrowPatch(path=path, **arrow_style(circle, share)))
    return 0.25 * ways[0][0] + 0.75 * high


def arrow_style(circle: Circle, share: float) -> dict[str, Any]:
    width = 0.8 + 3.7 * share
    return {
        "arrowstyle": "-|>",
        "mutation_scale": 7 + 1.7 * width,
        "linewidth": width,
        "color": circle.get_facecolor(),
        "alpha": min(0.95, 0.3 + 2.2 * share),
        "zorder": 2,
        "capstyle": "butt",
        "joinstyle": "miter",
    }


def draw_arrows(axes: Axes, found: StateChain, circles: list[Circle]) -> None:
    """Bent arrows, the likeliest first, each with its label where it is furthest from all others."""
    bend = 0.28 if found.states == 2 else 0.16
    taken = [(np.array(circle.center), circle.radius + 0.06) for circle in circles]
    size = 8.5 if found.states < 6 else 7.5
    for place in np.argsort(-found.transition, axis=None, kind="stable"):
        i, j = divmod(int(place), found.states)
        share = float(found.transition[i, j])
        if i == j or share < LEAST:
            continue
        one, other = circles[i], circles[j]
        ends = {"patchA": one, "patchB": other, "shrinkA": 1, "shrinkB": 2}
        a, b = np.array(one.center), np.array(other.center)
        curve = f"arc3,rad={bend}"
        axes.add_patch(FancyArrowPatch(a, b, connectionstyle=curve, **ends, **arrow_style(one, share)))
        if share >= (0.0 if found.states < 6 else 0.05 if found.states < 8 else 0.08):
            at = label_place(a, b, bend, taken)
            taken.append((at, 0.07))
            style = {"color": one.get_facecolor(), "fontsize": size, "path_effects": HALO, "zorder": 6}
            axes.text(*at, number(share), ha="center", va="center", **style)


def label_place(a: np.ndarray, b: np.ndarray, bend: float, taken: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """A point on the bent arrow, away from what is there already; the middle where all are as good."""
    along = b - a
    control = 0.5 * (a + b) + bend * np.array([along[1], -along[0]])
    t = np.array([0.5, 0.45, 0.4, 0.55, 0.36, 0.32, 0.6, 0.28])[:, None]
    points = (1 - t) ** 2 * a + 2 * t * (1 - t) * control + t**2 * b
    room = np.min([np.linalg.norm(points - place, axis=1) - size for place, size in taken], axis=0)
    return points[int(np.argmax(np.minimum(room, 0.08)))]


def number(share: float) -> str:
    """A probability with two places, without its zero."""
    return f"{share:.2f}".removeprefix("0")


def draw_matrix(found: StateChain, axes: Axes) -> Axes:
    """Transition probabilities as shades, from rows to columns."""
    shown = axes.imshow(found.transition, cmap=sequential(), vmin=0.0, vmax=1.0, aspect="equal")
    if found.states <= 16:
        for (i, j), share in np.ndenumerate(found.transition):
            if share >= LEAST:
                axes.text(
                    j, i, number(share), ha="center", va="center", color=PAPER if share > 0.45 else INK, fontsize=7.5
                )
    tidy(axes, "Transition probabilities a step", "to state", "from state", grid="")
    axes.spines["bottom"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(20, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(20, integer=True))
    bar = axes.figure.colorbar(shown, ax=axes, fraction=0.045, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(colors=MUTED, length=0)
    return axes


# ------------------------------------------------------------------------------------------------------ durations
def durations(fit: Any, chain: int = 0, axes: Axes | None = None) -> Axes:
    """How long each state is kept once it is entered: probabilities of 1, 2, .. steps, and the mean.

    Args:
        fit: of a program with a chain of hidden states; those of a Markov chain are geometric.
        chain: which one, where it has several.
        axes: to draw into.
    """
    found = chain_of(fit, chain)
    axes = axes_or_new(axes, (6.4, 0.9 + 0.75 * found.states))
    share = found.durations(span_of(found))
    steps = np.arange(1, share.shape[1] + 1)
    for k, shade in enumerate(colours(found.states)):
        axes.bar(steps, 0.78 * share[k] / max(share[k].max(), 1e-12), 0.84, bottom=-k, color=shade, alpha=0.85)
        axes.axhline(-k, color=FAINT, linewidth=0.8)
        if found.stay[k] <= len(steps) + 0.5:
            axes.plot([found.stay[k]] * 2, [-k, 0.88 - k], color=INK, linewidth=1.4, linestyle=(0, (3, 2)))
        text = f"mean {found.stay[k]:.1f}" if np.isfinite(found.stay[k]) else "never left"
        axes.annotate(
            text, (1.0, 0.4 - k), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", color=MUTED, annotation_clip=False,
        )  # fmt: skip
    tidy(axes, "Steps in a state, each scaled to its own peak", "steps", grid="x")
    axes.set_yticks(0.3 - np.arange(found.states), [f"state {k}" for k in range(found.states)], color=INK)
    axes.set_xlim(0.4, len(steps) + 0.6)
    axes.set_ylim(0.02 - found.states + 0.9, 0.98)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    return axes


def span_of(found: StateChain) -> int:
    """Steps that hold nearly all of every state's stays."""
    share = found.durations(120)
    within = np.cumsum(share, 1) < 0.99 * np.maximum(share.sum(1, keepdims=True), 1e-12)
    return int(max(np.where(np.isfinite(found.stay), within.sum(1) + 1, 1).max(), 5))


# -------------------------------------------------------------------------------------------------------- decoded
def decoded(
    fit: Any,
    table: Table,
    sequence: int = 0,
    columns: Sequence[str] | None = None,
    *,
    first: float = 0,
    draws: int = 200,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """A sequence over time on its most probable path of states, with the states' probabilities beneath.

    Of several chains the paths stand as strips above their probabilities.
    Unknown cells are drawn as the median and the 90 % interval of what the model fills in.

    Args:
        fit: of a program with chains of hidden states.
        table: rows that stand in sequences.
        sequence: which one.
        columns: to be drawn; the first four where None.
        first: what the first time step is called (a year, for instance).
        draws: of the unknown cells.
        axes: to draw into: one a column, then one a chain.

    Returns:
        The axes, one a column, then one a chain.
    """
    one, chains = single(fit, table, sequence), state_chains(fit)
    if not chains:
        raise CapabilityError(f"{fit.name!r} has no chain of states to decode.")
    names = chosen(fit, columns)
    panels = stacked(axes, len(names), len(chains))
    paths = np.asarray(fit.viterbi(one)).reshape(one.n_rows, len(chains)).T
    holes = fit.marginals(one, draws=draws)
    for name, panel in zip(names, panels, strict=False):
        if len(chains) == 1:
            draw_runs(panel, paths[0], first, colours(chains[0].states))
        draw_series(panel, one, name, first)
        draw_holes(panel, holes, fit.schema[name], first)
        finish(panel, fit.schema[name], one.n_rows, first)
    for chain, path, panel in zip(chains, paths, panels[len(names) :], strict=True):
        several = chain.symbol.name if len(chains) > 1 else ""
        draw_probabilities(panel, responsibilities(fit, one, (chain.symbol,)), first, several)
        if several:
            panel.set_ylim(0, 1.3)
            draw_runs(panel, path, first, colours(chain.states), (0.84, 0.16), 0.85)
    panels[0].set_title("Most probable states", loc="left", color=INK, fontweight="bold")
    panels[-1].set_xlabel("time", color=MUTED)
    return panels


def single(fit: Any, table: Table, sequence: int) -> Table:
    """One sequence of a table, still as a sequence."""
    found = fit.read(table)
    if found.lengths is None:
        raise CapabilityError("This needs sequences; make the table with Table(data, sequence=..., time=...).")
    if not 0 <= sequence < len(found):
        raise CapabilityError(f"There is no sequence {sequence}; the table has {len(found)}, counted from 0.")
    return found.take([sequence])


def chosen(fit: Any, columns: Sequence[str] | None) -> list[str]:
    """The columns asked for, or the first few that are modelled."""
    modelled = [name for name in fit.schema.names if name not in fit.program.inputs]
    names = list(columns) if columns is not None else modelled[:MOST_PANELS]
    for name in names:
        fit.schema.index(name)
    return names


def stacked(axes: Sequence[Axes] | None, tall: int, low: int) -> list[Axes]:
    """Panels one above the other over the same times."""
    if axes is not None:
        if len(axes) != tall + low:
            raise CapabilityError(f"{tall + low} axes are needed, one a panel; got {len(axes)}.")
        return list(axes)
    from matplotlib import pyplot

    heights = [1.0] * tall + [0.5] * low
    with house():
        size = (7.6, 0.6 + 1.75 * sum(heights))
        made = pyplot.subplots(
            tall + low, figsize=size, sharex=True, height_ratios=heights, layout="constrained", squeeze=False
        )[1]
    return list(made[:, 0])


def draw_runs(
    axes: Axes,
    path: np.ndarray,
    first: float,
    shades: list[str],
    height: tuple[float, float] = (0.0, 1.0),
    alpha: float = 0.22,
) -> None:
    """A path as coloured bands: behind a series, or as a strip at some height (bottom and size, 1 = the axes)."""
    edges = np.concatenate([[0], np.nonzero(np.diff(path))[0] + 1, [len(path)]])
    style = {"transform": axes.get_xaxis_transform(), "alpha": alpha, "linewidth": 0, "zorder": 0}
    for state in np.unique(path):
        runs = [(first + a - 0.5, b - a) for a, b in pairwise(edges) if path[a] == state]
        axes.broken_barh(runs, height, facecolor=shades[state], **style)


def draw_series(axes: Axes, table: Table, name: str, first: float) -> None:
    """Known cells, joined where they follow each other."""
    values = table.values[:, table.schema.index(name)]
    times = first + np.arange(len(values))
    if table.schema[name].is_discrete:
        for code in range(table.schema[name].cardinality):
            draw_level(axes, code, times[values == code], to_rgba(INK))
        return
    marks = {"marker": "o", "markersize": 3.0} if len(values) <= MOST_PAST else {}
    axes.plot(times, values, color=INK, linewidth=1.1, zorder=3, **marks)


def draw_holes(axes: Axes, holes: Marginals, column: Column, first: float) -> None:
    """Unknown cells: median and 90 % interval, or the levels' probabilities as shades."""
    cells = holes.select(holes.column == column.name)
    if not len(cells):
        return
    times = first + cells.row
    if column.is_discrete:
        draw_levels(axes, cells, column, times)
        return
    low, middle, high = cells.quantiles([0.05, 0.5, 0.95])
    axes.vlines(times, low, high, color=INK, linewidth=1.1, alpha=0.75, zorder=3)
    axes.scatter(times, middle, s=20, facecolors=PAPER, edgecolors=INK, linewidths=1.1, zorder=4)


def draw_levels(axes: Axes, cells: Marginals, column: Column, times: np.ndarray) -> None:
    """One cell a level and time, as dark as it is probable."""
    share = np.array([[cells.probabilities[i][level] for level in column.levels] for i in range(len(cells))])
    for code in range(column.cardinality):
        draw_level(axes, code, times, [to_rgba(ACCENT, alpha) for alpha in share[:, code]])


def draw_level(axes: Axes, code: int, times: np.ndarray, colour: Any) -> None:
    """Steps at which a column has this level, as cells of a strip."""
    cells = [(time - 0.5, 1.0) for time in times]
    axes.broken_barh(cells, (code - 0.3, 0.6), facecolors=colour, linewidth=0, zorder=3)


def finish(axes: Axes, column: Column, rows: int, first: float, after: int = 0) -> None:
    """Labels and limits of a panel with a series."""
    tidy(axes, "", "", shortened(str(column.name)), grid="" if column.is_discrete else "y")
    if column.is_discrete:
        axes.set_yticks(range(column.cardinality), [shortened(str(level), 12) for level in column.levels])
        axes.set_ylim(-0.6, column.cardinality - 0.4)
    elif column.kind == "datetime":
        show_dates(axes.yaxis)
    axes.set_xlim(first - 0.5, first + rows + after - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10], integer=True))


def draw_probabilities(axes: Axes, share: np.ndarray, first: float, name: str = "") -> None:
    """Probabilities of the states given the whole sequence, stacked."""
    T, K = share.shape
    edges = first - 0.5 + np.arange(T + 1)
    held = np.concatenate([share, share[-1:]])
    labels = [f"state {k}" for k in range(K)]
    axes.stackplot(edges, held.T, step="post", colors=colours(K), labels=labels, alpha=0.85, linewidth=0)
    tidy(axes, "", "", f"p({name or 'state'})", grid="")
    axes.set_yticks([0, 1])
    axes.set_ylim(0, 1)
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10], integer=True))
    if K <= 10:
        legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.1), reverse=True, handlelength=1.0, labelspacing=0.2)


# ------------------------------------------------------------------------------------------------------- forecast
def forecast(
    fit: Any,
    table: Table,
    steps: int,
    sequence: int = 0,
    columns: Sequence[str] | None = None,
    *,
    first: float = 0,
    draws: int = 1000,
    seed: int = 0,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """A sequence and what comes after it: the mean, the 50 % and the 90 % intervals (shades for levels).

    Args:
        fit: of a program over sequences.
        table: rows that stand in sequences; of a long one the last part is drawn.
        steps: how many to look ahead.
        sequence: which one.
        columns: to be drawn; the first four where None.
        first: what the first time step is called (a year, for instance).
        draws: paths ahead.
        seed: of these draws.
        axes: to draw into, one a column.

    Returns:
        The axes, one a column.
    """
    one, names = single(fit, table, sequence), chosen(fit, columns)
    panels = stacked(axes, len(names), 0)
    ahead = fit.forecast(one, steps, draws=draws, seed=seed)
    past = max(0, one.n_rows - max(MOST_PAST, 3 * steps))
    for name, panel in zip(names, panels, strict=True):
        column, cells = fit.schema[name], ahead.select(ahead.column == name)
        draw_series(panel, one, name, first)
        draw_ahead(panel, cells, column, first + cells.row)
        finish(panel, column, one.n_rows - past, first + past, steps)
        panel.axvline(first + one.n_rows - 0.5, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    panels[0].set_title(f"{steps} steps ahead: mean, 50 % and 90 %", loc="left", color=INK, fontweight="bold")
    panels[-1].set_xlabel("time", color=MUTED)
    return panels


def draw_ahead(axes: Axes, cells: Marginals, column: Column, times: np.ndarray) -> None:
    """Mean and intervals, or the levels' probabilities."""
    if column.is_discrete:
        draw_levels(axes, cells, column, times)
        return
    low, lower, upper, high = cells.quantiles([0.05, 0.25, 0.75, 0.95])
    for bottom, top, alpha in ((low, high, 0.18), (lower, upper, 0.32)):
        axes.fill_between(times, bottom, top, color=ACCENT, alpha=alpha, linewidth=0)
    axes.plot(times, cells.mean, color=ACCENT, linewidth=1.8, marker="o" if len(times) < 3 else "", markersize=4)
