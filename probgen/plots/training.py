"""How fits went."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from probgen.plots.style import ACCENT, axes_or_new, tidy

__all__ = ["training_curve"]


def training_curve(values: Sequence[float], axes: Axes | None = None, title: str = "") -> Axes:
    """The objective by step; a steep start is cut off so that the end can be seen.

    Args:
        values: nats a row, one a step.
        axes: to draw into.
        title: above.
    """
    axes = axes_or_new(axes, (3.2, 2.2))
    y = np.asarray(values, dtype=float)
    axes.plot(np.arange(1, len(y) + 1), y, color=ACCENT, linewidth=1.5, marker="o" if len(y) < 4 else "", markersize=4)
    finite = y[np.isfinite(y)]
    if len(finite) > 20:
        low, high = np.quantile(finite[len(finite) // 20 :], [0.0, 1.0])
        margin = 0.08 * (high - low) or 0.1
        axes.set_ylim(low - margin, high + margin)
    tidy(axes, title)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    return axes
