"""How a criterion changes with an option of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probgen.plots.style import ACCENT, PAPER, axes_or_new, tidy

__all__ = ["selection_curve"]

LABELS = {
    "aic": "AIC",
    "bic": "BIC",
    "icl": "ICL",
    "held_out": "held-out nats a row (± 1 standard error)",
    "evidence": "log evidence, nats",
}


def selection_curve(
    records: Sequence[Mapping[str, Any]], option: str, criterion: str, axes: Axes | None = None
) -> Axes:
    """The score of each value; the best one is filled, the others are hollow.

    Args:
        records: of a selection: the value under the option's name, ``score``, ``best``, and ``se`` where there is one.
        option: the name of the option that varies.
        criterion: "bic", "aic", "icl", "held_out" or "evidence".
        axes: to draw into.
    """
    axes = axes_or_new(axes, (4.8, 3.2))
    values = [record[option] for record in records]
    numbers = all(isinstance(value, int | float) for value in values)
    x = np.array(values if numbers else range(len(values)), dtype=float)
    y = np.array([record["score"] for record in records], dtype=float)
    error = np.array([record.get("se", 0.0) for record in records])
    axes.plot(x, y, color=ACCENT, linewidth=1.2 if numbers else 0.0, zorder=1)
    axes.vlines(x, y - error, y + error, color=ACCENT, linewidth=2, zorder=2)
    face = [ACCENT if record["best"] else PAPER for record in records]
    axes.scatter(x, y, s=46, zorder=3, edgecolors=ACCENT, linewidths=1.6, facecolors=face)
    tidy(axes, "", option, LABELS.get(criterion, criterion))
    axes.set_xticks(x, [str(value) for value in values])
    return axes
