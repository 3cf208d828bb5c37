"""How a pooled estimate moves with the shift of what was imputed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probgen.plots.style import ACCENT, CYCLE, INK, MUTED, PAPER, axes_or_new, tidy

__all__ = ["sensitivity_curve"]

LABELS = {
    "units": "shift of imputed {}",
    "sd": "shift of imputed {}, standard deviations",
    "factor": "factor of imputed {}",
    "log_odds": "shift of imputed {}, log odds",
}


def sensitivity_curve(result: Any, term: str | None = None, axes: Axes | None = None) -> Axes:
    """Estimate and interval of one term over the deltas; at random in ink, deltas with another conclusion hollow.

    Args:
        result: of :func:`probgen.sensitivity`.
        term: of the analysis; the first that is no intercept where it is None.
        axes: to draw into.
    """
    axes = axes_or_new(axes, (6.0, 3.6))
    name = result.chosen(term)
    records = result.records(name)
    x, y, low, high = (np.array([r[key] for r in records]) for key in ("delta", "estimate", "lower", "upper"))
    axes.axhline(0.0, color=MUTED, linewidth=1.0, zorder=1)
    axes.fill_between(x, low, high, color=ACCENT, alpha=0.14, linewidth=0, zorder=1)
    axes.plot(x, y, color=ACCENT, linewidth=1.6, zorder=2)
    axes.vlines(x, low, high, color=ACCENT, linewidth=1.0, alpha=0.7, zorder=2)
    marks(axes, x, y, records, result.at_random)
    tip(axes, result.tipping_points(name))
    level = f"{100 * result.pooled[0].confidence:g} %"
    tidy(axes, "", LABELS[result.scale].format(result.column), f"estimate, {level} interval")
    axes.set_title(name, loc="left", color=INK, fontweight="bold", pad=16)
    return axes


def marks(axes: Axes, x: np.ndarray, y: np.ndarray, records: Sequence[Any], at_random: float) -> None:
    """One mark a delta: hollow where the conclusion is another one, dark where nothing is shifted."""
    still = x == at_random
    face = [PAPER if r["changed"] else INK if s else ACCENT for r, s in zip(records, still, strict=True)]
    edge = [INK if s else ACCENT for s in still]
    axes.scatter(x, y, s=42, facecolors=face, edgecolors=edge, linewidths=1.6, zorder=3)
    at = int(np.flatnonzero(still)[0])
    axes.annotate(
        "at random", (x[at], y[at]), xytext=(-6, 8), textcoords="offset points", ha="right", color=INK, fontsize=8.5
    )


def tip(axes: Axes, points: Sequence[float]) -> None:
    """Broken lines where the conclusion changes, with the number on top."""
    for point in points:
        axes.axvline(point, color=CYCLE[1], linewidth=1.3, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"tips at {point:.3g}".replace("-", "−"),
            (point, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=CYCLE[1],
            fontsize=8.5,
        )
    if not points:
        axes.annotate(
            "no tipping point in this range", (1.0, 1.0), xycoords="axes fraction", xytext=(0, 2),
            textcoords="offset points", ha="right", va="bottom", color=MUTED, fontsize=8.5,
        )  # fmt: skip
