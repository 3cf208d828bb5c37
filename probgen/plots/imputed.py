"""Imputed cells beside known ones: strips, densities, bars of shares, and pairs of columns.

Known cells are grey, imputed ones blue. That they differ is no fault by itself: what is missing may be different.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probgen.data.schema import Column
from probgen.errors import DataError
from probgen.plots.columns import complete_pairs, show_dates
from probgen.plots.style import ACCENT, FAINT, INK, MUTED, axes_or_new, tidy
from probgen.studies.imputed_values import imputed_cells

__all__ = ["imputed_density", "imputed_pair", "imputed_strip"]

MOST_POINTS = 400  # of one strip
MOST_STRIPS = 20
MANY = 400  # points that are dots of a picture, not shapes of their own
MOST_LEVELS = 12
MOST_COUNTS = 30
FEW_COUNTS = 12  # that lie on lines unless they are shaken
MOST_CURVES = 40
MOST_SMOOTHED = 2000  # values that a curve is made of
FEWEST = 8  # imputed cells that a density is drawn of
INTERVAL = (0.05, 0.95)


def parts(imputed: Any, column: str) -> tuple[Column, np.ndarray, np.ndarray]:
    """The column, its known values ``(n,)``, and the imputed ones ``(m, missing)``: cells that every imputation filled."""
    place = imputed.table.schema.index(column)
    seen, filled = imputed.table.known[:, place], imputed_cells(imputed.table, imputed.tables, place)
    if not filled.any():
        why = "has no unknown cells" if seen.all() else "stays missing by design"
        raise DataError(f"Column {column!r} {why}, so that nothing was imputed.")
    drawn = np.stack([table.values[filled, place] for table in imputed.tables])
    return imputed.table.schema[place], imputed.table.values[seen, place], drawn


def imputed_strip(imputed: Any, column: str, axes: Axes | None = None) -> Axes:
    """Known values as a strip of grey points, those of each imputation as a strip of blue ones: mice's ``stripplot``.

    Args:
        imputed: of :func:`probgen.impute`.
        column: name of one with imputed cells.
        axes: to draw into.
    """
    kind, known, drawn = parts(imputed, column)
    shown = drawn[:MOST_STRIPS]
    axes = axes_or_new(axes, (1.4 + 0.32 * (len(shown) + 1), 2.8))
    rng, total = np.random.default_rng(0), shown.size
    shaken = kind.is_discrete or (kind.kind == "count" and np.ptp(np.r_[known, shown.ravel()]) <= FEW_COUNTS)
    for at, (values, colour) in enumerate([(known, MUTED), *((row, ACCENT) for row in shown)]):
        few = thinned(values, rng)
        y = few + rng.uniform(-0.28, 0.28, len(few)) if shaken else few
        alpha = float(np.clip(14 / np.sqrt(max(len(few), 1)) / 3, 0.3, 0.85))
        style = {"s": 9, "color": colour, "alpha": alpha, "linewidths": 0, "rasterized": total > MANY}
        axes.scatter(at + rng.uniform(-0.3, 0.3, len(few)), y, **style)
    tidy(axes, column, "imputation (0: known cells)", "")
    places = [0, 1, *range(5, len(shown) + 1, 5)] if len(shown) > 6 else range(len(shown) + 1)
    axes.set_xticks(list(places))
    name_values(kind, axes)
    return axes


def thinned(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At most so many points that a strip stays a strip; the extremes stay."""
    if len(values) <= MOST_POINTS:
        return values
    ends = [values.argmin(), values.argmax()]
    return values[np.r_[ends, rng.choice(len(values), MOST_POINTS - 2, replace=False)]]


def name_values(kind: Column, axes: Axes) -> None:
    """Levels and dates on the vertical axis by their names."""
    if kind.is_discrete:
        axes.set_yticks(range(kind.cardinality), [str(level)[:12] for level in kind.levels])
    elif kind.kind == "datetime":
        show_dates(axes.yaxis)
    elif kind.kind == "count":
        axes.yaxis.get_major_locator().set_params(integer=True)


def imputed_density(imputed: Any, column: str, axes: Axes | None = None) -> Axes:
    """The law of the known cells in grey, that of each imputation in blue: mice's ``densityplot``.

    Of levels and small counts shares are drawn instead: grey bars for known cells, blue points for the mean over
    imputations and lines for their 5 to 95 %. Few imputed numbers are ticks under the curve.

    Args:
        imputed: of :func:`probgen.impute`.
        column: name of one with imputed cells.
        axes: to draw into.
    """
    kind, known, drawn = parts(imputed, column)
    axes = axes_or_new(axes, (3.4, 2.4))
    whole = kind.kind == "count" and np.ptp(np.r_[known, drawn.ravel()]) <= MOST_COUNTS
    if kind.is_discrete or whole:
        draw_shares(kind, known, drawn, axes)
    else:
        draw_curves(known, drawn, axes, spike=kind.kind == "semicontinuous")
    tidy(axes, column, grid="")
    axes.set_yticks([])
    if kind.kind == "datetime":
        show_dates(axes.xaxis)
    return axes


def draw_curves(known: np.ndarray, drawn: np.ndarray, axes: Axes, spike: bool) -> None:
    """Kernel densities; zeros of semicontinuous columns are left out of them and told."""
    told = f"zero: {(known == 0).mean():.0%} known, {(drawn == 0).mean():.0%} imputed" if spike else ""
    inner = known[known != 0] if spike and (known != 0).sum() > 1 else known
    rows = [row[row != 0] if spike else row for row in drawn]
    x = grid_of(inner, np.concatenate(rows) if any(map(len, rows)) else inner)
    own, least = smooth(inner, x), 0.5 * width_of(inner)
    axes.fill_between(x, own, color=FAINT, alpha=0.55, linewidth=0)
    axes.plot(x, own, color=MUTED, linewidth=1.4)
    top = own.max()
    if np.mean([len(row) for row in rows]) >= FEWEST:
        curves = [smooth(row, x, least) for row in rows[:MOST_CURVES] if len(row) > 1]
        for curve in curves:
            axes.plot(x, curve, color=ACCENT, alpha=0.45, linewidth=0.9)
        top = max(top, min(5 * top, max((curve.max() for curve in curves), default=top)))
    else:
        pooled = np.concatenate(rows)
        axes.plot(pooled, np.full(len(pooled), -0.06 * top), "|", color=ACCENT, alpha=0.5, markersize=8)
    axes.set_ylim(-0.12 * top if len(drawn[0]) < FEWEST else 0, 1.06 * top)
    if told:
        axes.set_xlabel(told)


def width_of(values: np.ndarray) -> float:
    """Of Gaussian kernels, by Silverman's rule (1986), narrower where tails are heavy."""
    quartiles = np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.349
    return float(0.9 * (min(values.std(), quartiles) or values.std() or 1.0) * len(values) ** -0.2)


def smooth(values: np.ndarray, x: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Kernel density, of kernels at least so wide: few imputed values are not to look like spikes."""
    width = max(width_of(values), least)
    few = values if len(values) <= MOST_SMOOTHED else np.quantile(values, np.linspace(0, 1, MOST_SMOOTHED))
    return np.exp(-0.5 * np.square((x[:, None] - few) / width)).mean(1) / (width * np.sqrt(2 * np.pi))


def grid_of(known: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Over the known values and nearly all imputed ones; not below zero without need."""
    low, high = known.min(), known.max()
    reach = (high - low) or 1.0
    ends = np.quantile(drawn, [0.002, 0.998])
    start, end = max(min(low, ends[0]), low - reach), min(max(high, ends[1]), high + reach)
    pad = 0.06 * (end - start)
    positive = low >= 0 and drawn.min() >= 0
    return np.linspace(max(start - pad, 0.0) if positive else start - pad, end + pad, 260)


def draw_shares(kind: Column, known: np.ndarray, drawn: np.ndarray, axes: Axes) -> None:
    """Shares of levels: bars of the known cells, intervals over the imputations."""
    support = np.arange(kind.cardinality) if kind.is_discrete else np.unique(np.r_[known, drawn.ravel()])
    own = np.array([(known == value).mean() for value in support])
    others = np.stack([(drawn == value).mean(1) for value in support], 1)  # (m, levels)
    if kind.is_discrete and len(support) > MOST_LEVELS:
        kept = np.sort(np.argsort(-np.maximum(own, others.mean(0)), kind="stable")[:MOST_LEVELS])
        support, own, others = support[kept], own[kept], others[:, kept]
    at = np.arange(len(support)) if kind.is_discrete else support
    low, high = np.quantile(others, INTERVAL, axis=0)
    axes.bar(at, own, color=FAINT, width=0.72)
    axes.vlines(at, low, high, color=ACCENT, linewidth=2.2)
    axes.scatter(at, others.mean(0), color=ACCENT, s=20, zorder=3)
    axes.set_ylim(0, 1.08 * max(own.max(), high.max()))
    if not kind.is_discrete:
        axes.xaxis.get_major_locator().set_params(integer=True)
    else:
        labels = [str(kind.levels[int(code)])[:12] for code in support]
        turned = len(support) > 4 or sum(map(len, labels)) > 24
        axes.set_xticks(at, labels, **({"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if turned else {}))


def imputed_pair(imputed: Any, x: str, y: str, number: int | None = None, axes: Axes | None = None) -> Axes:
    """Two columns: rows where both are known in grey, rows where one was imputed in blue: mice's ``xyplot``.

    Args:
        imputed: of :func:`probgen.impute`.
        x, y: names of columns.
        number: of the imputation, from 1; all together where it is None.
        axes: to draw into.

    Raises:
        DataError: there is no such imputation.
    """
    if number is not None and not 1 <= number <= imputed.m:
        raise DataError(f"number must be an imputation between 1 and {imputed.m}, got {number}.")
    axes = axes_or_new(axes, (3.2, 3.0))
    places = [imputed.table.schema.index(x), imputed.table.schema.index(y)]
    holes = np.flatnonzero(~imputed.table.known[:, places].all(1))
    tables = imputed.tables if number is None else imputed.tables[number - 1 : number]
    known = complete_pairs(imputed.table, x, y)
    axes.scatter(*known, s=11, color=MUTED, alpha=0.4, linewidths=0, rasterized=known.shape[1] > MANY)
    drawn = [complete_pairs(table.take(holes), x, y) for table in tables] if len(holes) else [np.zeros((2, 0))]
    points = np.concatenate(drawn, 1)
    alpha = float(np.clip(60 / max(points.shape[1], 1), 0.15, 0.75))
    many = points.shape[1] > MANY
    axes.scatter(*points, s=11, color=ACCENT, alpha=alpha, linewidths=0, marker="D", rasterized=many)
    tidy(axes, "all imputations" if number is None else f"imputation {number}", x, y, grid="both")
    for which, name, axis in (("x", x, axes.xaxis), ("y", y, axes.yaxis)):
        column = imputed.table.schema[name]
        if column.is_discrete:
            axis.set_ticks(range(column.cardinality), [str(level)[:10] for level in column.levels])
            if which == "x" and column.cardinality > 3:
                axes.tick_params(axis="x", rotation=35)
        elif column.kind == "datetime":
            show_dates(axis)
    axes.title.set_color(INK)
    return axes
