"""The paired differences of a comparison: points for numbers that can be ordered, arrows for bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probgen.plots.style import ACCENT, CYCLE, FAINT, INK, MUTED, PAPER, axes_or_new, legend, tidy
from probgen.studies.standing import is_open

__all__ = ["leaderboard"]

FAR = 4.0  # times the median distance from the best: beyond, a model is written at the margin
ARROW = 0.07  # of the width


def leaderboard(board: Any, axes: Axes | None = None) -> Axes:
    """Difference of every finalist to the highest number, with bars of two standard errors of the paired difference.

    Args:
        board: a :class:`probgen.Leaderboard`, or its ``scores``.
        axes: to draw into.

    An open mark is within noise. A lower bound has an arrow to the right: its model is at least so good, and nobody knows how much better; so has an
    importance estimate whose weights cannot be trusted. A diamond is an estimate. Models far behind are written at the left margin.
    """
    scores: Sequence[Mapping[str, Any]] = getattr(board, "scores", board)
    axes = axes_or_new(axes, (7.2, 1.0 + 0.32 * len(scores)))
    low, high = limits(scores)
    width = high - low
    axes.axvline(0, color=FAINT, linewidth=1.2)
    for line, score in enumerate(scores):
        gap, error = score["difference"], np.nan_to_num(2 * score["difference_se"])
        if not gap >= low:
            told = f"−{-gap:.3g} ± {error:.2g} nats" if np.isfinite(gap) else "some rows are impossible"
            axes.text(low + 0.025 * width, line, told, va="center", color=MUTED)
            axes.plot([low + 0.01 * width], [line], marker="<", color=MUTED, markersize=5)
            continue
        bound = is_open(score)
        colour = CYCLE[1] if bound else ACCENT
        axes.plot([gap - error, gap + error], [line, line], color=colour, linewidth=2, solid_capstyle="round")
        if bound:
            arrow = {"arrowstyle": "->", "color": colour, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (gap + error + ARROW * width, line), (gap + error, line), arrowprops=arrow)
        fill = PAPER if line and score["within_noise"] else colour
        axes.scatter(
            [gap], [line], s=42, zorder=3, marker=marker(score), edgecolors=colour, linewidths=1.6, facecolors=fill
        )
    tidy(axes, "", "nats a row behind the highest number (± 2 standard errors, paired)", grid="x")
    axes.set_yticks(range(len(scores)), [f"{s['model']}  {s['place']}" for s in scores], color=INK)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_xlim(low, high)
    explain(axes, scores)
    return axes


def limits(scores: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """From the models that are not far behind, to the last arrow."""
    gaps = np.array([score["difference"] for score in scores], float)
    errors = np.nan_to_num([2 * score["difference_se"] for score in scores])
    finite = np.isfinite(gaps)
    near = finite & (gaps >= FAR * np.median(gaps[finite])) if (gaps[finite] < 0).any() else finite
    low, high = float((gaps - errors)[near].min()), max(0.0, float((gaps + errors)[near].max()))
    width = max(high - low, 1e-9)
    arrows = any(is_open(score) and ok for score, ok in zip(scores, near, strict=True))
    return low - 0.05 * width, high + (ARROW + 0.05 if arrows else 0.05) * width


def marker(score: Mapping[str, Any]) -> str:
    """A circle where the number is what it says."""
    return "o" if score["kind"] in ("exact", "ode", "lower_bound") else "D"


def explain(axes: Axes, scores: Sequence[Mapping[str, Any]]) -> None:
    """What the marks mean, of those that are there."""
    kinds = {"exact": [], "estimate": [], "bound: at least so good": []}  # type: dict[str, list[Any]]
    for score in scores:
        name = "bound: at least so good" if is_open(score) else "exact" if marker(score) == "o" else "estimate"
        kinds[name].append(score)
    if sum(map(bool, kinds.values())) < 2:
        return
    for name, members in kinds.items():
        if members:
            colour, mark = CYCLE[1] if name.startswith("bound") else ACCENT, "D" if name == "estimate" else "o"
            mark = ">" if name.startswith("bound") else mark
            axes.plot([], [], marker=mark, color=colour, linestyle="", markersize=6, label=name)
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.9 / (1.0 + len(scores))), ncols=3)
