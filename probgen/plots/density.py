"""Held-out log densities of several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probgen.plots.style import ACCENT, FAINT, INK, MUTED, PAPER, axes_or_new, tidy

__all__ = ["density_differences", "density_rows"]


def density_differences(scores: Sequence[Mapping[str, Any]], axes: Axes | None = None) -> Axes:
    """Paired difference of each model to the best one, with bars of two standard errors.

    Args:
        scores: of a density study: records with ``model``, ``difference``, ``difference_se``; best first.
        axes: to draw into.

    A bar that crosses zero is a difference within noise; its mark is hollow.
    """
    axes = axes_or_new(axes, (6.4, 0.6 + 0.36 * len(scores)))
    axes.axvline(0, color=FAINT, linewidth=1.2)
    for line, score in enumerate(scores):
        gap, error = score["difference"], np.nan_to_num(2 * score["difference_se"])
        if not np.isfinite(gap):
            axes.text(0, line, "no density for some rows  ", va="center", ha="right", color=MUTED)
            continue
        noise = line > 0 and abs(gap) <= error
        axes.plot([gap - error, gap + error], [line, line], color=ACCENT, linewidth=2, solid_capstyle="round")
        axes.scatter([gap], [line], s=46, zorder=3, edgecolors=ACCENT, linewidths=1.6, facecolors=hollow(noise))
    tidy(axes, "", "nats a row behind the best (± 2 standard errors, paired)", grid="x")
    axes.set_yticks(range(len(scores)), [score["model"] for score in scores], color=INK)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    return axes


def hollow(noise: bool) -> str:
    """Fill of a mark: the page's own colour where it is within noise."""
    return PAPER if noise else ACCENT


def density_rows(log_prob: np.ndarray, models: Sequence[str], axes: Axes | None = None, most: int = 12) -> Axes:
    """The spread of the rows' log densities: a line from the 5 % to the 95 % quantile, a box for the middle half.

    Args:
        log_prob: ``(models, rows)``.
        models: names in the order of the lines.
        axes: to draw into.
        most: models shown.
    """
    shown = list(models)[:most]
    axes = axes_or_new(axes, (6.4, 0.6 + 0.36 * len(shown)))
    for line in range(len(shown)):
        rows = log_prob[line][np.isfinite(log_prob[line])]
        low, first, middle, third, high = np.quantile(rows, [0.05, 0.25, 0.5, 0.75, 0.95])
        axes.plot([low, high], [line, line], color=FAINT, linewidth=2, solid_capstyle="round")
        axes.plot([first, third], [line, line], color=ACCENT, linewidth=8, solid_capstyle="butt")
        axes.plot([middle], [line], marker="|", markersize=12, markeredgewidth=2, color=INK)
        worst = rows[rows < low]
        axes.scatter(worst, np.full(len(worst), line), s=9, color=MUTED, linewidths=0)
    tidy(axes, "", "log density of a row, nats (dots: the lowest 5 %)", grid="x")
    axes.set_yticks(range(len(shown)), shown, color=INK)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    return axes
