"""Pictures side by side: any, those of a table in a grid, and completed ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from probgen.data.images import as_pictures
from probgen.data.table import Table
from probgen.errors import DataError
from probgen.plots.style import MUTED, axes_or_new, tidy

__all__ = ["ends", "images", "inpainting", "picture_rows"]

UNKNOWN = "#a9c6de"  # of pixels that are not known
MOST = 100  # pictures that are shown
INCH = 0.62  # of a picture's longer side


def picture_rows(
    images: np.ndarray,
    axes: Axes | None = None,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    title: str = "",
    limits: tuple[float, float] | None = None,
) -> Axes:
    """Pictures side by side, ``(R, T, H, W)`` or ``(R, T, H, W, 3)``, with words beside the lines and below the columns.

    Args:
        images: R lines of T pictures; unknown pixels are pale blue.
        axes: to draw into.
        rows: words to the left of each line.
        columns: words below each column.
        title: above.
        limits: values that are black and white; the smallest and the largest where None.
    """
    lines, across, height, width = images.shape[:4]
    axes = axes_or_new(axes, (0.6 * across + 1.2, 0.6 * lines + 0.6))
    channels = images[..., None] if images.ndim == 4 else images
    gap = gap_of(width)
    show(mosaic(shades(channels, limits or ends(images)), gap), title, axes)
    places = np.arange(len(rows)) * (height + gap) + (height - 1) / 2
    axes.set_yticks(places, [f"   {word}" for word in rows])  # room for wider letters
    axes.set_xticks(np.arange(len(columns)) * (width + gap) + (width - 1) / 2, columns)
    return axes


def ends(images: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest of the known pixels."""
    return float(np.nanmin(images)), float(np.nanmax(images))


def images(
    pictures: Table | Any,
    columns: int | None = None,
    name: str | None = None,
    limits: tuple[float, float] | None = None,
    title: str = "",
    axes: Axes | None = None,
) -> Axes:
    """The first pictures, at most a hundred, in rows; unknown pixels are pale blue.

    Args:
        pictures: a table with an image, or an array ``(N, H, W)`` or ``(N, H, W, C)`` of one channel or three, NaN = unknown.
        columns: of the grid; about as many as there are rows where it is None.
        name: of the image, where the table has several.
        limits: the values that are black and white; those of the pixels' kind, or the least and the largest, where it is None.
        title: above the grid.
        axes: to draw on.

    Raises:
        SchemaError: the table has no image.
        DataError: another number of channels than one or three.
    """
    shown = coloured(pictures, name, limits)[:MOST]
    across = min(columns or math.ceil(math.sqrt(len(shown))), len(shown))
    blank = -len(shown) % across
    height, width = shown.shape[1:3]
    filled = np.concatenate([shown, np.zeros((blank, height, width, 4))])
    canvas = mosaic(filled.reshape(-1, across, height, width, 4), gap_of(width))
    return drawn(canvas, canvas.shape[1] / max(height, width) * INCH, title, axes)


def inpainting(
    table: Table,
    filled: Sequence[Table],
    complete: Table | None = None,
    name: str | None = None,
    title: str = "",
    axes: Axes | None = None,
) -> Axes:
    """A row for each picture: what is known of it, several ways to fill the rest, and the truth where there is one.

    Args:
        table: with unknown pixels, at most a hundred rows of it are shown.
        filled: as of ``fit.fill(table, draws=6)``.
        complete: the same rows with everything known.
        name: of the image, where the tables have several.
        title: above the grid.
        axes: to draw on.

    Raises:
        DataError: tables with other numbers of rows.
    """
    groups = {"known": [table], "filled in": list(filled), "truth": [] if complete is None else [complete]}
    tables = [one for group in groups.values() for one in group]
    if not filled or {len(one) for one in tables} != {len(table)}:
        raise DataError(f"Expected fills of {len(table)} rows, got {[len(one) for one in tables[1:]]}.")
    table.schema.image(name)
    pieces, heads, at = [], [], 0
    for head, group in groups.items():
        if not group:
            continue
        shown = np.stack([coloured(one.take(slice(0, MOST)), name, None) for one in group], 1)
        gap = gap_of(shown.shape[3])
        pieces.append(mosaic(shown, gap))
        heads.append((head, at + pieces[-1].shape[1] / 2))
        at += pieces[-1].shape[1] + 3 * gap
    between = np.zeros((len(pieces[0]), 3 * gap, 4))
    canvas = np.concatenate([part for piece in pieces for part in (piece, between)][:-1], 1)
    made = drawn(canvas, canvas.shape[1] / max(shown.shape[2:4]) * INCH, title, axes)
    for head, middle in heads:
        made.text(middle, -gap, head, ha="center", va="bottom", color=MUTED)
    return made


def coloured(pictures: Table | Any, name: str | None, limits: tuple[float, float] | None) -> np.ndarray:
    """``(N, H, W, 4)``."""
    x = pictures.images(name) if isinstance(pictures, Table) else as_pictures(pictures)
    if x.shape[-1] not in (1, 3):
        raise DataError(f"Pictures must have one channel or three, got {x.shape[-1]}; choose some of them.")
    return shades(x, limits or limits_of(pictures, name, x))


def shades(x: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """``(..., 4)``: one channel or three from black to white, unknown pixels in their colour, all opaque."""
    low, high = limits
    unknown = np.isnan(x).any(-1, keepdims=True)
    shade = np.clip((np.nan_to_num(x) - low) / max(high - low, 1e-300), 0.0, 1.0)
    seen = np.where(unknown, to_rgb(UNKNOWN), np.broadcast_to(shade, (*x.shape[:-1], 3)))
    return np.concatenate([seen, np.ones_like(seen[..., :1])], -1)


def limits_of(pictures: Table | Any, name: str | None, x: np.ndarray) -> tuple[float, float]:
    """Bounds or levels of the pixels; of numbers the least and the largest."""
    if isinstance(pictures, Table):
        pixel = pictures.schema[pictures.schema.image(name).names[0]]
        if pixel.bounds is not None:
            return pixel.bounds
        if pixel.levels:
            return 0.0, len(pixel.levels) - 1.0
    known = x[~np.isnan(x)]
    return (min(known.min(), 0.0), max(known.max(), 1.0)) if len(known) else (0.0, 1.0)


def gap_of(width: int) -> int:
    return max(1, round(width / 8))


def mosaic(pictures: np.ndarray, gap: int) -> np.ndarray:
    """``(R, K, H, W, 4)`` pictures on one sheet, with gaps between them through which the paper is seen."""
    rows, across, height, width, _ = pictures.shape
    sheet = np.zeros((rows * (height + gap) - gap, across * (width + gap) - gap, 4))
    for r, k in np.ndindex(rows, across):
        top, left = r * (height + gap), k * (width + gap)
        sheet[top : top + height, left : left + width] = pictures[r, k]
    return sheet


def drawn(canvas: np.ndarray, inches: float, title: str, axes: Axes | None) -> Axes:
    """A sheet of pictures without words."""
    head = 0.35 if title else 0.2
    made = axes_or_new(axes, (inches, inches * canvas.shape[0] / canvas.shape[1] + head))
    return show(canvas, title, made)


def show(canvas: np.ndarray, title: str, axes: Axes) -> Axes:
    """A sheet without ticks."""
    axes.imshow(canvas, interpolation="nearest")
    tidy(axes, title, grid="")
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    return axes
