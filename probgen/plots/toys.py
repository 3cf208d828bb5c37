"""Known densities and what models make of them, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probgen.data.toys import PLANE
from probgen.errors import DataError
from probgen.plots.style import FAINT, INK, MUTED, house, sequential

if TYPE_CHECKING:
    from probgen.studies.toy_study import ToyStudy

__all__ = ["density_plane", "point_cloud", "toy_gallery"]

INCH = 1.18  # of a picture
SHADE = 0.6  # power of the density that is shown: faint parts are seen too


def density_plane(log_density: np.ndarray, reach: float, axes: Axes, peak: float | None = None) -> Axes:
    """A density in the plane as shades.

    Args:
        log_density: ``(G, G)``, the first line at the top.
        reach: half the side of the window.
        axes: to draw into.
        peak: the density of the darkest shade; the largest where it is None.
    """
    heights = np.exp(np.minimum(np.nan_to_num(log_density, nan=-np.inf), 50.0))
    top = float(heights.max()) if peak is None else peak
    shades = np.clip(heights / max(top, 1e-300), 0, 1) ** SHADE
    window = (-reach, reach, -reach, reach)
    axes.imshow(shades, extent=window, cmap=sequential(), vmin=0, vmax=1, interpolation="bilinear")
    return bare(axes, reach)


def point_cloud(points: np.ndarray, reach: float, axes: Axes, colour: str = INK) -> Axes:
    """Rows as dots."""
    axes.scatter(*points.T, s=1.6, color=colour, alpha=0.55, linewidths=0)
    return bare(axes, reach)


def bare(axes: Axes, reach: float) -> Axes:
    """A square in a thin frame, no ticks."""
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
    axes.set_aspect("equal", anchor="N")
    for spine in axes.spines.values():
        spine.set(color=FAINT, linewidth=0.6)
    return axes


def toy_gallery(study: ToyStudy, figure: Figure | None = None) -> Figure:
    """One column a density: rows of it, the truth, and of every model its density, rows drawn from it, and its divergence from the truth.

    Args:
        study: of :func:`probgen.toy_study` with ``points``.
        figure: to draw into.

    Raises:
        DataError: nothing of the study lies in the plane, or it was made without ``points``.
    """
    names = [name for name in study.toys if (name, "") in study.planes]
    if not names:
        raise DataError("There is nothing to draw: toy_study needs points=80 and a density in the plane.")
    lines = 2 + 2 * len(study.models)
    with house():
        if figure is None:
            from matplotlib import pyplot

            figure = pyplot.figure(figsize=(INCH * len(names) + 1.3, INCH * lines + 0.3 * len(study.models) + 0.6))
        heights = [1.0, 1.0] + [1.0, 1.24] * len(study.models)
        panels = figure.subplots(lines, len(names), squeeze=False, height_ratios=heights)
        for column, name in zip(panels.T, names, strict=True):
            paint_truth(study, name, column[:2])
            for at, model in enumerate(study.models):
                paint_model(study, name, model, column[2 + 2 * at : 4 + 2 * at])
        write_names(study, panels)
        figure.subplots_adjust(
            left=1.22 / figure.get_figwidth(),
            right=0.995,
            top=1 - 0.3 / figure.get_figheight(),
            bottom=0.004,
            wspace=0.05,
            hspace=0.03,
        )
    return figure


def paint_truth(study: ToyStudy, name: str, panels: np.ndarray) -> None:
    """Rows and density of the truth."""
    reach = PLANE[name].window
    point_cloud(study.rows[name].values[:1000], reach, panels[0]).set_title(name.replace("_", " "), color=INK)
    density_plane(study.planes[name, ""], reach, panels[1])


def paint_model(study: ToyStudy, name: str, model: str, panels: np.ndarray) -> None:
    """Density and draws of one fit, and its divergence below; no picture where the fit failed."""
    reach, score = PLANE[name].window, study.score(name, model)
    if score is None:
        for axes in panels:
            bare(axes, reach)
        panels[0].text(0, 0, "could not\nbe fitted", ha="center", va="center", color=MUTED)
        return
    peak = float(np.exp(study.planes[name, ""].max()))
    density_plane(study.planes[name, model], reach, panels[0], peak)
    point_cloud(study.drawn[name, model], reach, panels[1], "#1f6fb4")
    best = min((s["kl"] for s in study.scores if s["toy"] == name), default=np.inf)
    told = {"color": INK, "fontweight": "bold"} if score["kl"] == best else {"color": MUTED}
    panels[1].set_xlabel(f"{nats(score['kl'])} ± {nats(score['error'])}", fontsize=8.5, labelpad=2, **told)


def nats(value: float) -> str:
    """Three decimals of a small number, two of others.

    Example:
        >>> nats(0.0123), nats(1.234), nats(float("inf"))
        ('0.012', '1.23', '∞')
    """
    return "∞" if np.isinf(value) else f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def write_names(study: ToyStudy, panels: Any) -> None:
    """Words to the left of the lines."""
    words = ["rows", "truth"] + [
        word for model in study.models for word in (f"{model.replace('_', chr(10))}", "its rows")
    ]
    for at, (axes, word) in enumerate(zip(panels[:, 0], words, strict=True)):
        name = at > 1 and at % 2 == 0
        style = {"color": INK, "fontweight": "bold"} if name else {"color": MUTED}
        axes.set_ylabel(word, rotation=0, ha="right", va="center", labelpad=6, **style)
