"""A latent space as it is seen: walks through it, rows beside their reconstructions, and which of its dimensions are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from probgen.data.images import picture_shape, pictures_of
from probgen.data.schema import Column, Schema
from probgen.errors import CapabilityError
from probgen.plots.columns import show_dates
from probgen.plots.pictures import ends, picture_rows
from probgen.plots.style import (
    ACCENT,
    FAINT,
    GRID,
    INK,
    MARKERS,
    MUTED,
    axes_or_new,
    colours,
    legend,
    sequential,
    tidy,
)

if TYPE_CHECKING:
    from probgen.queries.decoded import Decoded
    from probgen.studies.latent_paths import Interpolation, LatentDimensions, Reconstruction, Traversal

__all__ = [
    "as_pictures",
    "decoded_column",
    "interpolation_column",
    "interpolation_pictures",
    "latent_dimensions",
    "latent_use",
    "reconstruction_errors",
    "reconstruction_pictures",
    "traversal_column",
    "traversal_pictures",
]

Shape = tuple[int, ...] | None
Limits = tuple[float, float] | None
SHORT = 14  # letters of a level's name
MOST_LINES = 30  # columns whose errors are shown
LINES = ("-", "--", "-.")


# ---------------------------------------------------------------------------------------------------------- pictures
def as_pictures(values: np.ndarray, schema: Schema, shape: Shape = None) -> np.ndarray | None:
    """``(N, H, W)`` or ``(N, H, W, 3)`` of rows ``(N, D)``; None where the columns are no picture.

    Args:
        values: cells, or what is expected of them.
        schema: the columns.
        shape: ``(H, W)`` or ``(H, W, C)`` of all columns together; where None, of the first of ``schema.images``.

    Raises:
        SchemaError: as many columns do not make a picture of that shape.
    """
    if shape is None:
        found = pictures_of(values, schema, schema.images[0].name) if schema.images else None
    else:
        found = values.reshape(-1, *picture_shape(shape, len(schema)))
    return found if found is None or found.shape[-1] == 3 else found.mean(-1)


def traversal_pictures(
    found: Traversal, axes: Axes | None = None, *, shape: Shape = None, title: str = "", limits: Limits = None
) -> Axes:
    """One line a latent dimension, moved from its low to its high quantiles; a slot, through its most frequent codes."""
    images = needed(found.decoded.centres, found.decoded.schema, shape)
    steps = len(found.quantiles)
    words = [dimension_words(name, nats) for name, nats in zip(found.names, found.nats, strict=True)]
    shares = ["" if np.isnan(q) else f"{100 * q:.0f} %" for q in found.quantiles]
    return picture_rows(
        images.reshape(-1, steps, *images.shape[1:]), axes, rows=words, columns=shares, title=title, limits=limits
    )


def interpolation_pictures(
    found: Interpolation, axes: Axes | None = None, *, shape: Shape = None, title: str = "", limits: Limits = None
) -> Axes:
    """One line a path, from one row to the other, with its length."""
    images = np.stack([needed(d.centres, d.schema, shape) for d in found.decoded.values()])
    words = [f"{name}, {found.lengths[name]:.1f}" for name in found.decoded]
    return picture_rows(images, axes, rows=words, title=title, limits=limits)


def reconstruction_pictures(
    found: Reconstruction, axes: Axes | None = None, *, shape: Shape = None, title: str = ""
) -> Axes:
    """Rows above what is decoded from their codes."""
    schema = found.decoded.schema
    images = np.stack([needed(v, schema, shape) for v in (found.original, found.decoded.centres)])
    return picture_rows(images, axes, rows=["rows", "decoded"], title=title, limits=ends(images[0]))


def needed(values: np.ndarray, schema: Schema, shape: Shape) -> np.ndarray:
    """Pictures, or an error that says how to have them."""
    found = as_pictures(values, schema, shape)
    if found is None:
        raise CapabilityError("The columns are no picture; give shape=(H, W), or draw them column by column.")
    return found


def dimension_words(name: str, nats: float) -> str:
    """A dimension and what it says."""
    return name if np.isnan(nats) else f"{name} · {nats:.1f} nats"


# ----------------------------------------------------------------------------------------------------------- columns
def decoded_column(
    x: np.ndarray,
    found: Mapping[str, Decoded],
    name: str,
    axes: Axes | None = None,
    *,
    title: str = "",
    label: str = "",
) -> Axes:
    """What is expected of one column along paths: lines of its mean; bands of its levels where there is one path.

    Of several paths and a column with levels, lines of the probability of the level that ends the first path.

    Args:
        x: ``(T,)`` places on the paths.
        found: by the paths' names, T expectations each.
        name: of the column.
        axes: to draw into.
        title: above; the column's name where empty.
        label: of the horizontal axis.
    """
    axes = axes_or_new(axes, (3.0, 2.0))
    one = next(iter(found.values()))
    column, place = one.schema[name], one.schema.index(name)
    if name in one.levels and len(found) == 1:
        draw_bands(x, one.levels[name], column, axes)
        tidy(axes, title or name, label, grid="")
        axes.set_yticks([])
        return axes
    level = int(one.levels[name][-1].argmax()) if name in one.levels else None
    for (path, each), colour, line in zip(found.items(), colours(len(found)), LINES * len(found), strict=False):
        y = each.centres[:, place] if level is None else each.levels[name][:, level]
        axes.plot(x, y, line, color=colour, linewidth=1.8, label=path)
        if len(found) == 1:
            axes.plot(x, y, "o", color=colour, markersize=3.5)
    tidy(axes, title or (name if level is None else f"{name} = {str(column.levels[level])[:SHORT]}"), label)
    if level is not None:
        axes.set_ylim(-0.03, 1.03)
    if column.kind == "datetime":
        show_dates(axes.yaxis)
    return axes


def draw_bands(x: np.ndarray, p: np.ndarray, column: Column, axes: Axes) -> None:
    """Probabilities of levels on top of each other, each named where its band is widest."""
    shades = colours(p.shape[1]) if p.shape[1] <= 8 else [sequential()(v) for v in np.linspace(0, 1, p.shape[1])]
    edges = np.column_stack([np.zeros(len(x)), p.cumsum(1)])
    for level, shade in enumerate(shades):
        axes.fill_between(x, edges[:, level], edges[:, level + 1], color=shade, alpha=0.55, linewidth=0)
        best = int(p[:, level].argmax())
        if p[best, level] > 0.25:
            side = "left" if best == 0 else "right" if best == len(x) - 1 else "center"
            middle = (edges[best, level] + edges[best, level + 1]) / 2
            axes.text(
                x[best], middle, f" {str(column.levels[level])[:SHORT]} ", ha=side, va="center", color=INK, fontsize=8
            )
    axes.set_ylim(0, 1)
    axes.set_xlim(x[0], x[-1] if x[-1] > x[0] else x[0] + 1)


def traversal_column(found: Traversal, number: int, name: str, axes: Axes | None = None) -> Axes:
    """One column while the number-th of the dimensions moves."""
    label = dimension_words(found.names[number], found.nats[number])
    return decoded_column(found.values[number], {"": found.along(number)}, name, axes, label=label)


def interpolation_column(found: Interpolation, name: str, axes: Axes | None = None) -> Axes:
    """One column on the three paths from one row to another."""
    t = np.linspace(0, 1, len(next(iter(found.decoded.values()))))
    axes = decoded_column(t, found.decoded, name, axes)
    labels = axes.set_xticks([0, 1], [f"row {row}" for row in found.rows])
    for tick, side in zip(labels, ("left", "right"), strict=True):
        tick.label1.set_horizontalalignment(side)
    return axes


# --------------------------------------------------------------------------------------------------------- overviews
def latent_dimensions(found: LatentDimensions, axes: Axes | None = None, title: str = "") -> Axes:
    """Nats of each latent dimension, most first, and the share of rows of which it says anything."""
    if found.rows is None:
        raise CapabilityError("Codes that are points say no number of nats; there is no map of their use.")
    order = found.order
    axes = axes_or_new(axes, (5.6, 0.8 + 0.26 * len(order)))
    places = np.arange(len(order))
    axes.barh(
        places, found.nats[order], color=[ACCENT if found.used[at] > 0.05 else FAINT for at in order], height=0.7
    )
    for place, at in zip(places, order, strict=True):
        axes.text(
            found.nats[at], place, f"  {100 * found.used[at]:.0f} % of rows", va="center", color=MUTED, fontsize=8
        )
    axes.set_yticks(places, [found.names[at] for at in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, 1.22 * max(float(found.nats.max()), 0.1))
    return tidy(axes, title, "nats a row", grid="x")


def latent_use(found: Mapping[str, LatentDimensions], axes: Axes | None = None, title: str = "") -> Axes:
    """A map of posterior collapse: a line a model, a cell a latent dimension, most used first; dark says much, empty nothing.

    Models whose codes are points are left out.
    """
    kept = {name: each for name, each in found.items() if each.rows is not None}
    if not kept:
        raise CapabilityError("Codes that are points say no number of nats; there is no map of their use.")
    width = max(len(each.names) for each in kept.values())
    axes = axes_or_new(axes, (1.6 + 0.55 * width, 0.9 + 0.45 * len(kept)))
    nats = np.full((len(kept), width), np.nan)
    for line, each in enumerate(kept.values()):
        nats[line, : len(each.names)] = each.nats[each.order]
    most = float(np.nanmax(nats))
    axes.imshow(np.ma.masked_invalid(nats), cmap=sequential(), vmin=0, vmax=max(most, 0.1), aspect="auto")
    for (line, at), value in np.ndenumerate(nats):
        if np.isfinite(value) and width <= 20:
            shade = "#ffffff" if value > 0.55 * most else "#1b2530"  # inside a cell, whatever the page's colours
            axes.text(
                at, line, f"{value:.1f}" if value >= 0.05 else "0", ha="center", va="center", color=shade, fontsize=8
            )
    tidy(axes, title, "latent dimensions, most used first", grid="")
    axes.set_yticks(range(len(kept)), list(kept))
    axes.set_xticks([])
    for edge in np.arange(width + 1) - 0.5:
        axes.axvline(edge, color=GRID, linewidth=0.6)
    return axes


def reconstruction_errors(found: Mapping[str, Reconstruction], axes: Axes | None = None) -> Axes:
    """Errors of decoded rows, column by column; at 1, the code tells no more than the column by itself."""
    every = list(next(iter(found.values())).errors)
    names = [name for name in every if any(np.isfinite(each.errors.get(name, np.nan)) for each in found.values())]
    names = names[:MOST_LINES]
    axes = axes_or_new(axes, (6.4, 0.9 + 0.34 * len(names)))
    places = np.arange(len(names))
    axes.axvline(1, color=MUTED, linestyle="--", linewidth=1)
    for (model, each), colour, marker in zip(found.items(), colours(len(found)), MARKERS * len(found), strict=False):
        errors = [each.errors.get(name, np.nan) for name in names]
        axes.scatter(errors, places, color=colour, marker=marker, s=42, label=model, zorder=3, alpha=0.85)
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(left=-0.03)
    tidy(axes, "", "error of what is decoded, as a share of the column's own", grid="both")
    legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axes
