"""Hidden cells against what was imputed for them, and whether their ranks and shares are what they should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from probgen.plots.style import ACCENT, CYCLE, FAINT, GRID, INK, PAPER, axes_or_new, sequential, tidy
from probgen.studies.scoring import is_nominal
from probgen.studies.uniformity import below, bins

__all__ = ["imputation_scores", "label_calibration", "overimputation", "pit_histogram", "pit_line"]

MOST_CELLS = 150
LEVEL = 0.01  # of the bands
DOUBTED = CYCLE[1]


def overimputation(found: Any, column: str, axes: Axes | None = None) -> Axes:
    """Each hidden cell: what it was, and the mean and central 90 % of what was imputed; nine in ten lines cross the diagonal.

    The darker, the more of its row was missing. It is the figure of Amelia's ``overimpute``. Of levels without an order
    the calibration of shares is drawn instead.

    Args:
        found: of :func:`probgen.overimpute`.
        column: name.
        axes: to draw into.
    """
    if is_nominal(found.table.schema[column].kind):
        return label_calibration(found, column, axes)
    axes = axes_or_new(axes, (3.6, 3.4))
    chosen, truth = found.chosen(column), found.truth(column)
    few = np.random.default_rng(0).permutation(len(truth))[:MOST_CELLS]
    few = few[np.argsort(found.missing[chosen][few], kind="stable")]  # those with most missing on top
    drawn = found.draws[:, chosen][:, few]
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0, method="weibull")
    shade = sequential()(0.25 + 0.75 * found.missing[chosen][few] / max(found.missing.max(), 1e-9))
    axes.vlines(truth[few], low, high, colors=shade, linewidth=1.1, alpha=0.8)
    axes.scatter(truth[few], drawn.mean(0), s=12, color=shade, zorder=3, linewidths=0)
    ends = [truth.min(), truth.max()]
    axes.plot(ends, ends, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=4)
    record = next(record for record in found.columns if record["column"] == column)
    inside = " / ".join(f"{100 * record[key]:.0f}" for key in ("coverage50", "coverage80", "coverage95"))
    tidy(axes, column, f"what it was\nin 50 / 80 / 95 %: {inside} %", "what was imputed", grid="both")
    return axes


def doubted(found: Any, column: str) -> bool:
    """Whether chance does not explain a column's ranks or shares."""
    return any(record["column"] == column and record["says"] for record in found.columns)


def pit_histogram(found: Any, column: str, axes: Axes | None = None) -> Axes:
    """Ranks of hidden cells among their draws, in bins; all bars lie in the band 99 times in 100 where draws are right.

    A hump in the middle means draws too wide, a valley draws too narrow, a slope draws too low or too high.

    Args:
        found: of :func:`probgen.overimpute`.
        column: name of one with ordered values.
        axes: to draw into.
    """
    axes = axes_or_new(axes, (2.6, 2.2))
    ranks, draws = found.ranks(column), len(found.draws)
    number = max(2, min(20, bins(draws, len(ranks))))
    counts = np.histogram(found.pit(column), np.linspace(0, 1, number + 1))[0]
    each = 1 - LEVEL / number  # all bars together
    low, high = stats.binom.interval(each, len(ranks), 1 / number)
    axes.axhspan(low, high, color=GRID, linewidth=0)
    axes.axhline(len(ranks) / number, color=FAINT, linewidth=1)
    colour = DOUBTED if doubted(found, column) else ACCENT
    axes.bar((np.arange(number) + 0.5) / number, counts, width=0.86 / number, color=colour, alpha=0.85)
    tidy(axes, column, "PIT", "", grid="")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.set_yticks([])
    return axes


def pit_line(found: Any, column: str, axes: Axes | None = None) -> Axes:
    """Distribution function of the ranks minus the uniform one, in the band that holds all of it 99 times in 100.

    Args:
        found: of :func:`probgen.overimpute`.
        column: name of one with ordered values.
        axes: to draw into.
    """
    axes = axes_or_new(axes, (2.6, 2.2))
    uniform = found.bands(column)
    ranks = found.ranks(column)[: len(uniform.depths) - 1]
    points, (low, high) = uniform.points, uniform.interval(LEVEL)
    share = below(ranks, len(found.draws)) / len(ranks)
    ends = np.array([0.0, *points, 1.0])
    axes.fill_between(ends, [0.0, *(low - points), 0.0], [0.0, *(high - points), 0.0], color=GRID, linewidth=0)
    axes.axhline(0.0, color=FAINT, linewidth=1)
    axes.plot(ends, [0.0, *(share - points), 0.0], color=DOUBTED if doubted(found, column) else ACCENT, linewidth=1.6)
    tidy(axes, column, "PIT", "ECDF − uniform")
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    return axes


def label_calibration(found: Any, column: str, axes: Axes | None = None) -> Axes:
    """How often levels came true, by their share among a cell's draws and its truth; on the diagonal where draws are right.

    Args:
        found: of :func:`probgen.overimpute`.
        column: name of one with levels without an order.
        axes: to draw into.
    """
    axes = axes_or_new(axes, (3.6, 3.4))
    truth, counts = found.truth(column), found.counts(column)
    hit = np.arange(counts.shape[1]) == truth[:, None]
    both = counts + hit
    share, hit = (both / both.sum(1, keepdims=True))[both > 0], hit[both > 0]
    groups = [g for g in np.array_split(np.argsort(share, kind="stable"), 10) if len(g)]
    x, y = np.array([share[g].mean() for g in groups]), np.array([hit[g].mean() for g in groups])
    error = np.array([np.sqrt((share[g] * (1 - share[g])).sum()) / len(g) for g in groups])
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.vlines(x, np.maximum(x - 2 * error, 0), np.minimum(x + 2 * error, 1), color=FAINT, linewidth=4, alpha=0.7)
    axes.scatter(x, y, s=30, color=DOUBTED if doubted(found, column) else ACCENT, zorder=3)
    record = next(record for record in found.columns if record["column"] == column)
    told = f"right: {100 * record['accuracy']:.0f} %, Brier score {record['brier']:.2f}"
    tidy(axes, column, f"share of the draws\n{told}", "came true", grid="both")
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    return axes


def imputation_scores(scores: Sequence[dict[str, Any]], axes: Axes | None = None) -> Axes:
    """Energy score of each model minus that of the best, with two standard errors; hollow where it may be chance.

    Args:
        scores: of :func:`probgen.compare_imputations`, best first.
        axes: to draw into.
    """
    axes = axes_or_new(axes, (6.4, 0.9 + 0.36 * len(scores)))
    axes.axvline(0, color=FAINT, linewidth=1.2)
    for line, score in enumerate(scores):
        gap, error = score["difference"], 2 * score["difference_se"]
        chance = line > 0 and abs(gap) <= error
        axes.plot([gap - error, gap + error], [line, line], color=ACCENT, linewidth=2, solid_capstyle="round")
        face = PAPER if chance else ACCENT
        axes.scatter([gap], [line], s=46, zorder=3, edgecolors=ACCENT, linewidths=1.6, facecolors=face)
    tidy(axes, "", "energy score above the best (± 2 standard errors, paired by row)", grid="x")
    axes.set_yticks(range(len(scores)), [score["model"] for score in scores], color=INK)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    return axes
