"""How well holes are filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probgen.plots.style import FAINT, INK, MARKERS, axes_or_new, colours, legend, tidy

__all__ = ["imputation_columns", "interval_coverage"]

LABELS = {
    "rmse": "RMSE, in standard deviations",
    "crps": "CRPS, in standard deviations",
    "log_loss": "log loss, nats",
}


def imputation_columns(
    records: Sequence[Mapping[str, Any]],
    models: Sequence[str],
    baseline: str,
    measure: str = "crps",
    axes: Axes | None = None,
) -> Axes:
    """A loss column by column: grey bars for the baseline, marks for the models.

    Args:
        records: one a model and column, with ``model``, ``column`` and the measure.
        models: to be shown, at most six.
        baseline: its label in the records.
        measure: "rmse", "crps" or "log_loss"; columns without it are left out.
        axes: to draw into.
    """
    found = {(r["model"], r["column"]): r[measure] for r in records if np.isfinite(r.get(measure, np.nan))}
    columns = list(dict.fromkeys(column for _, column in found))
    axes = axes_or_new(axes, (6.4, 0.9 + 0.4 * len(columns)))
    lines = np.arange(len(columns))
    axes.barh(
        lines,
        [found.get((baseline, c), np.nan) for c in columns],
        color=FAINT,
        alpha=0.55,
        height=0.62,
        label=baseline,
    )
    shown = list(models)[:6]
    for number, (model, colour) in enumerate(zip(shown, colours(len(shown)), strict=True)):
        offset = 0.0 if len(shown) == 1 else 0.4 * (number / (len(shown) - 1) - 0.5)
        values = [found.get((model, c), np.nan) for c in columns]
        axes.scatter(values, lines + offset, s=32, color=colour, marker=MARKERS[number], zorder=3, label=model)
    tidy(axes, "", LABELS[measure] + " (smaller is better)", grid="x")
    axes.set_yticks(lines, columns, color=INK)
    axes.set_xlim(left=0)
    axes.set_ylim(len(columns) - 0.5, -0.5)
    legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axes


def interval_coverage(records: Sequence[Mapping[str, Any]], models: Sequence[str], axes: Axes | None = None) -> Axes:
    """Share of hidden numbers inside the 50 % and the 90 % intervals; the ticks mark where it should be.

    Args:
        records: one a model, with ``model``, ``coverage50`` and ``coverage90``.
        models: to be shown.
        axes: to draw into.
    """
    found = {r["model"]: r for r in records}
    axes = axes_or_new(axes, (6.4, 0.9 + 0.36 * len(models)))
    for level, colour, marker in ((0.5, colours(2)[0], "o"), (0.9, colours(2)[1], "s")):
        values = [found[model][f"coverage{100 * level:.0f}"] for model in models]
        axes.axvline(level, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.scatter(
            values,
            range(len(models)),
            s=46,
            color=colour,
            marker=marker,
            zorder=3,
            label=f"{100 * level:.0f} % interval",
        )
    tidy(axes, "", "share of hidden numbers inside the interval", grid="x")
    axes.set_yticks(range(len(models)), list(models), color=INK)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(len(models) - 0.5, -0.5)
    legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axes
