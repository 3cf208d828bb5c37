"""Has it settled? Traces of imputed values over sweeps, and pooled numbers as imputations are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probgen.errors import DataError
from probgen.plots.posterior import grid
from probgen.plots.style import ACCENT, FAINT, INK, MUTED, colours, tidy
from probgen.studies.imputed_values import agreement, growth

__all__ = ["chain_traces", "settling"]

MOST_PANELS = 24


def chain_traces(series: Mapping[str, np.ndarray], axes: Sequence[Axes] | None = None) -> list[Axes]:
    """One panel a series, one line a chain: lines should mix and have no trend. R-hat, of the second half, is below each.

    Args:
        series: name -> ``(sweeps, chains)``, such as the mean of a column's imputed cells after each sweep.
        axes: to draw into, one a series.

    Raises:
        DataError: a series of another shape, or none.
    """
    shown = {name: np.asarray(values, dtype=float) for name, values in list(series.items())[:MOST_PANELS]}
    if not shown:
        raise DataError("There are no series to draw; methods with chains are 'chained', 'gibbs' and 'chees'.")
    for name, values in shown.items():
        if values.ndim != 2 or values.size == 0:
            raise DataError(f"Series {name!r} must have the shape (sweeps, chains), got {values.shape}.")
    panels = grid(len(shown), width=3.4, height=2.0, across=2) if axes is None else list(axes)
    for (name, values), panel in zip(shown.items(), panels, strict=False):
        hue = colours(values.shape[1]) if values.shape[1] <= 8 else [ACCENT] * values.shape[1]
        for line, colour in zip(values.T, hue, strict=True):
            panel.plot(np.arange(1, len(line) + 1), line, color=colour, linewidth=0.9, alpha=0.7)
        rhat = agreement(values).rhat
        tidy(panel, str(name), "sweep" + (f"   (R-hat {rhat:.3f})" if np.isfinite(rhat) else ""))
        panel.margins(x=0.01)
    return list(panels)[: len(shown)]


def settling(pooled: Any, term: str, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Estimate, standard error and fraction of missing information of the first 2, 3, ... imputations.

    The band is two Monte-Carlo errors: how far the number would move with as many other imputations. Enough imputations are
    there when the band is narrow beside what one would round to.

    Args:
        pooled: of :func:`probgen.pool`.
        term: name of one.
        axes: three to draw into.
    """
    found = growth(pooled, term)
    panels = grid(3, width=2.9, height=2.2) if axes is None else list(axes)
    titles = {"estimate": f"{term}: estimate", "standard_error": "standard error", "fmi": "missing information"}
    for (name, title), panel in zip(titles.items(), panels, strict=True):
        value, error = found[name], 2 * found[f"{name}_error"]
        told = np.isfinite(error)
        low, high = (value - error)[told], (value + error)[told]
        floor, most = (-np.inf if name == "estimate" else 0.0), (1.0 if name == "fmi" else np.inf)
        panel.fill_between(
            found["m"][told], np.maximum(low, floor), np.minimum(high, most), color=FAINT, alpha=0.5, linewidth=0
        )
        panel.plot(found["m"], value, color=ACCENT, linewidth=1.6)
        panel.axhline(value[-1], color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
        tidy(panel, title, "imputations")
        view(panel, value, error, floor, most)
        panel.annotate(
            f"{value[-1]:.4g} ± {error[-1] / 2:.2g}".replace("-", "−"), (1.0, 0.97), xycoords="axes fraction", ha="right", va="top",
            color=INK, fontsize=8.5,
        )  # fmt: skip
        panel.yaxis.label.set_color(MUTED)
    return list(panels)


def view(axes: Axes, value: np.ndarray, error: np.ndarray, floor: float, most: float) -> None:
    """Limits by what comes after the first few imputations, which are wild."""
    start = min(3, len(value) - 1)
    spread = np.nan_to_num(error[start:])
    low, high = (value[start:] - spread).min(), (value[start:] + spread).max()
    pad = 0.25 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set_ylim(max(low - pad, floor), min(high + 1.6 * pad, 1.02 * most))
    axes.xaxis.get_major_locator().set_params(integer=True)
