"""Ranks of simulation-based calibration: how far from uniform, with simultaneous bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from probgen.plots.style import ACCENT, CYCLE, FAINT, GRID, INK, MUTED, house, tidy
from probgen.studies.uniformity import below, histogram

__all__ = ["calibration", "ecdf_difference", "rank_histogram"]

FAILED = CYCLE[1]


def calibration(check: Any, quantities: Sequence[str] | None = None, most: int = 4) -> Figure:
    """For each quantity the difference of its ranks' distribution function from a uniform one, and their histogram.

    Args:
        check: of :func:`probgen.check_calibration`.
        quantities: names; the least uniform ones where None.
        most: columns, at most.
    """
    from matplotlib import pyplot

    names = list(quantities or [record["quantity"] for record in check.table])[:most]
    with house():
        figure, axes = pyplot.subplots(
            2, len(names), figsize=(2.7 * len(names) + 0.5, 4.3), sharey="row", squeeze=False, layout="constrained"
        )
        for column, name in enumerate(names):
            ecdf_difference(check, name, axes[0, column])
            rank_histogram(check, name, axes[1, column])
        axes[0, 0].set_ylabel("ECDF − uniform", color=MUTED)
        axes[1, 0].set_ylabel("data sets", color=MUTED)
        verdict = "Calibrated" if check.passed else "Not calibrated"
        figure.suptitle(
            f"{verdict}: {check.replicates} simulated data sets, {check.draws} draws each; p = {check.p_value:.2g}",
            x=0.01, ha="left", color=INK, fontsize=10.5, fontweight="bold",
        )  # fmt: skip
    return figure


def colour_of(check: Any, name: str) -> str:
    """The accent, or another colour where the ranks are not uniform."""
    return FAILED if check.says(check.names.index(name)) else ACCENT


def ecdf_difference(check: Any, name: str, axes: Axes) -> Axes:
    """Share of ranks below each point minus the uniform one; the band holds all of a uniform line 99 times in 100.

    Args:
        check: of :func:`probgen.check_calibration`; its level is that of the band.
        name: of a quantity.
        axes: to draw into.
    """
    at, uniform = check.names.index(name), check.bands
    points, (low, high) = uniform.points, uniform.interval(check.level)
    share = below(check.ranks[:, at], check.draws) / check.replicates
    ends, off = np.array([0.0, *points, 1.0]), np.array([0.0, *(share - points), 0.0])
    axes.fill_between(ends, [0.0, *(low - points), 0.0], [0.0, *(high - points), 0.0], color=GRID, linewidth=0)
    axes.axhline(0.0, color=FAINT, linewidth=1)
    axes.plot(ends, off, color=colour_of(check, name), linewidth=1.6)
    tidy(axes, name, "", "")
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    return axes


def rank_histogram(check: Any, name: str, axes: Axes) -> Axes:
    """Counts of ranks in bins, with the central 99 % of what a bin of uniform ranks holds.

    Args:
        check: of :func:`probgen.check_calibration`; its level is that of the band.
        name: of a quantity.
        axes: to draw into.
    """
    counts = histogram(check.ranks[:, check.names.index(name)], check.draws)
    low, high = stats.binom.interval(1 - check.level, check.replicates, 1 / len(counts))
    edges = np.linspace(0, 1, len(counts) + 1)
    axes.axhspan(low, high, color=GRID, linewidth=0)
    axes.axhline(check.replicates / len(counts), color=FAINT, linewidth=1)
    axes.bar(edges[:-1], counts, width=0.86 / len(counts), align="edge", color=colour_of(check, name), alpha=0.85)
    tidy(axes, "", "rank / draws", "", grid="")
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    return axes
