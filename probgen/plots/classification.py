"""Classifiers: do their probabilities mean what they say, and what do they mix up?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from probgen.plots.style import ACCENT, FAINT, INK, MARKERS, PAPER, axes_or_new, colours, legend, tidy

__all__ = ["confusion_matrix", "reliability_curve"]

FEW = 5  # rows below which a bin says little: its mark is faint and no line goes through it


def reliability_curve(curves: Mapping[str, Sequence[Mapping[str, float]]], axes: Axes | None = None) -> Axes:
    """Confidence against the share that was right; on the diagonal, probabilities can be taken at their word.

    Args:
        curves: model -> bins with ``confidence``, ``accuracy`` and ``count``; at most six are drawn.
        axes: to draw into.
    """
    axes = axes_or_new(axes, (4.6, 4.2))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)))
    shown = list(curves)[:6]
    for number, (name, colour) in enumerate(zip(shown, colours(len(shown)), strict=True)):
        x, y, n = (np.array([b[key] for b in curves[name]]) for key in ("confidence", "accuracy", "count"))
        enough, sizes = n >= FEW, 18 + 90 * n / n.sum()
        marks = {"color": colour, "marker": MARKERS[number], "linewidths": 0}
        axes.plot(x[enough], y[enough], color=colour, linewidth=1.4, alpha=0.75)
        axes.scatter(x[~enough], y[~enough], s=sizes[~enough], alpha=0.35, **marks)
        axes.scatter(x[enough], y[enough], s=sizes[enough], label=name, **marks)
    lowest = min((b["confidence"] for name in shown for b in curves[name]), default=0.0)
    tidy(axes, "", "confidence", "share right", grid="both")
    axes.set_xlim(max(0.0, lowest - 0.08), 1.02)
    axes.set_ylim(-0.02, 1.04)
    legend(axes, loc="lower right")
    return axes


def confusion_matrix(counts: np.ndarray, levels: Sequence[object], axes: Axes | None = None) -> Axes:
    """Rows are the truth, columns what was said; shaded by the share of each row.

    Args:
        counts: ``(L, L)``.
        levels: labels in code order.
        axes: to draw into.
    """
    axes = axes_or_new(axes, (4.4, 4.2))
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for i, j in np.ndindex(*counts.shape):
        place = (j - 0.48, i - 0.48)
        axes.add_patch(Rectangle(place, 0.96, 0.96, facecolor=ACCENT, alpha=0.06 + 0.94 * share[i, j], linewidth=0))
    if len(levels) <= 15:
        for i, j in np.ndindex(*counts.shape):
            colour = PAPER if share[i, j] > 0.5 else INK
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour)
    tidy(axes, "", "said", "true", grid="")
    axes.spines["bottom"].set_visible(False)
    names = [str(level)[:14] for level in levels]
    axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 3 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_aspect("equal")
    return axes
