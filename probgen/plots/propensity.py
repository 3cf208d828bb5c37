"""Known and imputed values at the same propensity to be missing (van Buuren, 2018, section 6.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probgen.plots.imputed import FEWEST, MOST_CURVES, grid_of, name_values
from probgen.plots.posterior import density, grid
from probgen.plots.style import ACCENT, FAINT, MUTED, tidy
from probgen.studies.propensity import propensity

__all__ = ["propensity_plot"]

MOST_POINTS = 700
BINS = 6


def propensity_plot(imputed: Any, column: str, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Left, the column against the probability that it is missing; right, what is left after a regression on that.

    The probability is that of a logistic regression on the other columns, averaged over imputations. Lines are means of
    sixths of the rows. At the same probability, grey (known) and blue (imputed) should agree: then the curves on the right
    lie over each other.

    Args:
        imputed: of :func:`probgen.impute`.
        column: name of one with imputed cells.
        axes: two to draw into.
    """
    found = propensity(imputed.table, imputed.tables, column)
    left, right = grid(2, width=3.8, height=2.9) if axes is None else list(axes)
    draw_scatter(imputed, found, left)
    known, drawn = found.residuals[:, ~found.unknown], found.residuals[:, found.unknown]
    x = grid_of(known[0], drawn.ravel())
    right.fill_between(x, density(known.mean(0), x), color=FAINT, alpha=0.55, linewidth=0)
    right.plot(x, density(known.mean(0), x), color=MUTED, linewidth=1.4)
    for row in drawn[:MOST_CURVES]:
        if len(row) >= FEWEST:
            right.plot(x, density(row, x), color=ACCENT, alpha=0.45, linewidth=0.9)
    if drawn.shape[1] < FEWEST:
        right.plot(drawn.ravel(), np.zeros(drawn.size), "|", color=ACCENT, alpha=0.5, markersize=10)
    tidy(right, f"at equal propensity: {found.shift:+.2f} sd", "residual, in sd of known cells", grid="")
    right.set_yticks([])
    right.set_ylim(bottom=0)
    return [left, right]


def draw_scatter(imputed: Any, found: Any, axes: Axes) -> None:
    """Points, and means of groups of rows with like propensity."""
    rng, kind = np.random.default_rng(0), imputed.table.schema[found.column]
    for rows, colour, marker in ((~found.unknown, MUTED, "o"), (found.unknown, ACCENT, "D")):
        x = np.tile(found.score[rows], len(found.values) if colour == ACCENT else 1)
        y = found.values[:, rows].ravel() if colour == ACCENT else found.values[0, rows]
        few = rng.permutation(len(x))[:MOST_POINTS]
        shaken = rng.uniform(-0.25, 0.25, len(few)) if kind.is_discrete else 0.0
        axes.scatter(x[few], y[few] + shaken, s=10, color=colour, alpha=0.3, linewidths=0, marker=marker)
        if kind.kind not in ("binary", "categorical") and len(np.unique(x)) >= BINS:
            draw_means(axes, x, y, colour)
    tidy(axes, found.column, "probability of being missing", "", grid="both")
    name_values(kind, axes)


def draw_means(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    """Means of equally many points each."""
    groups = np.array_split(np.argsort(x, kind="stable"), BINS)
    axes.plot(
        [x[g].mean() for g in groups], [y[g].mean() for g in groups], color=colour, linewidth=2.0, marker="o", markersize=4
    )
