"""Which columns are the pixels of a picture, and pictures of rows as one PNG."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.image import imsave

from probgen.data.images import picture_shape
from probgen.data.schema import Schema
from probgen.data.table import Table

__all__ = ["Picture", "atlas", "pictures_of"]

PIXELS = ("real", "positive", "bounded", "count", "binary", "semicontinuous")
UNKNOWN = 0.5  # the shade of a pixel that is not known


@dataclass(frozen=True)
class Picture:
    """One picture a row.

    Attributes:
        name: of the image; empty where there is one alone.
        shape: height, width and channels, 1 or 3.
        places: of its pixels' columns, channels running fastest, then columns of pixels.
    """

    name: str
    shape: tuple[int, int, int]
    places: tuple[int, ...]


def pictures_of(schema: Schema, shape: tuple[int, ...] | None) -> list[Picture]:
    """The images that the schema speaks of; or one of the stated shape, of all columns that can be pixels.

    Raises:
        SchemaError: the columns do not make such a picture.
    """
    if shape is None:
        return [
            Picture(image.name, picture_shape(image.shape, image.pixels), tuple(map(schema.index, image.names)))
            for image in schema.images
        ]
    places = tuple(place for place, column in enumerate(schema) if column.kind in PIXELS)
    return [Picture("", picture_shape(shape, len(places)), places)]


def limits(table: Table, picture: Picture) -> tuple[float, float]:
    """The values that are black and white."""
    columns = [table.schema[place] for place in picture.places]
    if all(column.is_discrete for column in columns):
        return 0.0, max(len(column.levels) for column in columns) - 1.0
    if all(column.bounds for column in columns):
        return min(c.bounds[0] for c in columns if c.bounds), max(c.bounds[1] for c in columns if c.bounds)
    values = table.values[:, list(picture.places)]
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return low, high if high > low else low + 1.0


def atlas(table: Table, picture: Picture, low: float, high: float) -> tuple[str, int]:
    """The pictures of all rows side by side as a PNG's address, and how many there are in a line."""
    height, width, channels = picture.shape
    across = max(int(np.ceil(np.sqrt(len(table) * height / width))), 1)
    shades = np.clip((table.values[:, list(picture.places)] - low) / (high - low), 0, 1)
    tiles = np.where(np.isnan(shades), UNKNOWN, shades).reshape(-1, height, width, channels)
    down = -(-len(tiles) // across)
    room = np.zeros((down * across, height, width, channels))
    room[: len(tiles)] = tiles
    beside = room.reshape(down, across, height, width, channels).swapaxes(1, 2)
    sheet = beside.reshape(down * height, across * width, channels)
    return f"data:image/png;base64,{png(sheet)}", across


def png(sheet: np.ndarray) -> str:
    """Shades ``(height, width, channels)`` as text."""
    file = BytesIO()
    flat = sheet[..., 0] if sheet.shape[-1] == 1 else sheet
    settings: dict[str, Any] = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0} if flat.ndim == 2 else {}
    imsave(file, flat, format="png", **settings)
    return base64.b64encode(file.getvalue()).decode("ascii")
