"""Known and imputed values at the same propensity to be missing (van Buuren, 2018, section 6.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probgen.plots.imputed import (
    FEWEST,
    INTERVAL,
    MANY,
    MOST_CURVES,
    MOST_LEVELS,
    grid_of,
    name_values,
    smooth,
    width_of,
)
from probgen.plots.posterior import grid
from probgen.plots.style import ACCENT, FAINT, MUTED, tidy
from probgen.studies.propensity import propensity

__all__ = ["propensity_plot"]

MOST_POINTS = 700
BINS = 6


def propensity_plot(imputed: Any, column: str, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Left, the column against the probability that it is missing; right, what is left after a regression on that.

    The probability is that of a logistic regression on the other columns, averaged over imputations. Lines are means of
    sixths of the rows. At the same probability, grey (known) and blue (imputed) should agree: then the curves on the right
    lie over each other. Of levels the right shows shares: known cells count by the odds of being missing.

    Args:
        imputed: of :func:`probgen.impute`.
        column: name of one with imputed cells.
        axes: two to draw into.
    """
    found = propensity(imputed.table, imputed.tables, column)
    left, right = grid(2, width=3.8, height=2.9) if axes is None else list(axes)
    draw_scatter(imputed, found, left)
    if imputed.table.schema[column].is_discrete:
        draw_levels(imputed, found, right)
    else:
        draw_residuals(found, right)
    right.set_yticks([])
    right.set_ylim(bottom=0)
    return [left, right]


def draw_residuals(found: Any, axes: Axes) -> None:
    """What a regression on the propensity leaves of known and of imputed cells."""
    known, drawn = found.residuals[:, ~found.unknown], found.residuals[:, found.unknown]
    x, middle = grid_of(known[0], drawn.ravel()), known.mean(0)
    axes.fill_between(x, smooth(middle, x), color=FAINT, alpha=0.55, linewidth=0)
    axes.plot(x, smooth(middle, x), color=MUTED, linewidth=1.4)
    for row in drawn[:MOST_CURVES]:
        if len(row) >= FEWEST:
            axes.plot(x, smooth(row, x, 0.5 * width_of(middle)), color=ACCENT, alpha=0.45, linewidth=0.9)
    if drawn.shape[1] < FEWEST:
        axes.plot(drawn.ravel(), np.full(drawn.size, 0.03), "|", color=ACCENT, alpha=0.5, markersize=10)
    told = f"residual, sd   (shift {found.shift:+.2f})".replace("-", "−")
    tidy(axes, "at equal propensity", told, grid="")


def draw_levels(imputed: Any, found: Any, axes: Axes) -> None:
    """Shares of levels among imputed cells, and among known ones that weigh as much as their like are missing."""
    kind = imputed.table.schema[found.column]
    own, others = found.shares(kind.cardinality)
    shown = np.sort(np.argsort(-np.maximum(own, others.mean(0)), kind="stable")[:MOST_LEVELS])
    at, (low, high) = np.arange(len(shown)), np.quantile(others[:, shown], INTERVAL, axis=0)
    axes.bar(at, own[shown], color=FAINT, width=0.72)
    axes.vlines(at, low, high, color=ACCENT, linewidth=2.2)
    axes.scatter(at, others.mean(0)[shown], color=ACCENT, s=20, zorder=3)
    names = [str(kind.levels[code])[:12] for code in shown]
    turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, names)) > 24 else {}
    tidy(axes, "at equal propensity", "", grid="")
    axes.set_xticks(at, names, **turned)


def draw_scatter(imputed: Any, found: Any, axes: Axes) -> None:
    """Points, and means of groups of rows with like propensity."""
    rng, kind = np.random.default_rng(0), imputed.table.schema[found.column]
    for rows, colour, marker in ((~found.unknown, MUTED, "o"), (found.unknown, ACCENT, "D")):
        x = np.tile(found.score[rows], len(found.values) if colour == ACCENT else 1)
        y = found.values[:, rows].ravel() if colour == ACCENT else found.values[0, rows]
        few = rng.permutation(len(x))[:MOST_POINTS]
        shaken = rng.uniform(-0.25, 0.25, len(few)) if kind.is_discrete else 0.0
        axes.scatter(
            x[few],
            y[few] + shaken,
            s=10,
            color=colour,
            alpha=0.3,
            linewidths=0,
            marker=marker,
            rasterized=len(few) > MANY,
        )
        if kind.kind not in ("binary", "categorical") and len(np.unique(x)) >= BINS:
            draw_means(axes, x, y, colour)
    tidy(axes, found.column, "probability of being missing", "", grid="both")
    name_values(kind, axes)


def draw_means(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    """Means of equally many points each."""
    groups = np.array_split(np.argsort(x, kind="stable"), BINS)
    axes.plot(
        [x[g].mean() for g in groups],
        [y[g].mean() for g in groups],
        color=colour,
        linewidth=2.0,
        marker="o",
        markersize=4,
    )
