"""The look of all figures: quiet axes, one accent, colours that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb

__all__ = [
    "ACCENT",
    "CYCLE",
    "FAINT",
    "GRID",
    "INK",
    "MUTED",
    "PAPER",
    "axes_or_new",
    "colours",
    "house",
    "sequential",
    "tidy",
]

INK = "#1f2933"
MUTED = "#66717e"
GRID = "#e3e7ec"
PAPER = "#fffffe"
FAINT = "#b9c2cc"
ACCENT = "#1f6fb4"
CYCLE = ("#1f6fb4", "#dd7a1c", "#11936f", "#b8538c", "#56a8dd", "#8a6d1d", "#6a5acd", "#c4402f")
"""Blue, orange, green, purple, sky, ochre, violet, red: neighbours differ in lightness as well as hue."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""One a colour, so that no distinction rests on colour alone."""

SETTINGS = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "figure.dpi": 110,
}


@contextmanager
def house() -> Iterator[None]:
    """The house's fonts and sizes while a figure is made."""
    with mpl.rc_context(SETTINGS):
        yield


def axes_or_new(axes: Axes | None, size: tuple[float, float] = (6.4, 3.6)) -> Axes:
    """The axes given, or those of a new figure of this size in inches."""
    if axes is not None:
        return axes
    from matplotlib import pyplot

    with house():
        return pyplot.subplots(figsize=size, layout="constrained")[1]


def tidy(axes: Axes, title: str = "", x: str = "", y: str = "", grid: str = "y") -> Axes:
    """Frame off, faint grid behind the data, title to the left.

    Args:
        axes: to be tidied.
        title: above, to the left; empty for none.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        grid: "x", "y", "both" or "".
    """
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == "bottom" and grid != "x")
        axes.spines[side].set_color(FAINT)
    axes.set_axisbelow(True)
    axes.grid(visible=False)
    if grid:
        axes.grid(visible=True, axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    axes.tick_params(colors=MUTED, length=0, labelcolor=MUTED)
    axes.set_xlabel(x, color=MUTED)
    axes.set_ylabel(y, color=MUTED)
    axes.set_title(title, loc="left", color=INK, fontweight="bold")
    axes.set_facecolor("none")
    return axes


def colours(n: int) -> list[str]:
    """As many colours as asked for: the cycle while it lasts, then lighter and lighter shades of it."""
    return [mixed(CYCLE[i % len(CYCLE)], PAPER, 1.0 - 0.55 ** (i // len(CYCLE))) for i in range(n)]


def mixed(colour: str, other: str, share: float) -> str:
    """The first colour with this share of the other."""
    return to_hex((1.0 - share) * np.array(to_rgb(colour)) + share * np.array(to_rgb(other)))


def sequential() -> LinearSegmentedColormap:
    """From nothing to the accent."""
    return LinearSegmentedColormap.from_list("probgen", ["#edf3f9", "#8fbbe0", ACCENT, "#0d3b66"])


def legend(axes: Axes, **options: Any) -> None:
    """A legend without a frame."""
    axes.legend(frameon=False, labelcolor=MUTED, handletextpad=0.5, **options)
