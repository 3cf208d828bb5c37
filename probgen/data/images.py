"""Pictures as columns of a table: one column a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from probgen.data.coding import outside
from probgen.data.schema import Column, Image, Schema
from probgen.errors import DataError, SchemaError
from probgen.whole import check_whole, is_whole

__all__ = ["as_pictures", "picture_shape", "pictures_of", "pixel_schema"]

GREY_LEVELS = 256  # of numbers of eight bits
KINDS = ("binary", "count", "real", "bounded", "ordinal", "categorical")  # that pixels may have


def as_pictures(images: Any) -> np.ndarray:
    """``(N, H, W, C)`` float64, NaN = unknown.

    Raises:
        DataError: pictures of different sizes, another number of axes, cells that are no numbers or infinite.
    """
    try:
        found = np.asarray(images)
        numbers = found.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"Images must be numbers of shape (N, H, W) or (N, H, W, C), all of one size ({error}); cut or scale them to one size."
        ) from error
    if numbers.ndim not in (3, 4) or 0 in numbers.shape:
        raise DataError(f"Images must have shape (N, H, W) or (N, H, W, C), got {numbers.shape}.")
    if numbers.ndim == 3:
        numbers = numbers[..., None]
    bad = np.argwhere(np.isinf(numbers))
    if len(bad):
        raise DataError(
            f"Image {bad[0][0]}, pixel {tuple(map(int, bad[0][1:3]))}: the value is infinite; mark it as unknown (NaN) or correct it."
        )
    return numbers


def pixel_schema(pictures: np.ndarray, dtype: Any, kind: str | None, name: str, levels: int | None) -> Schema:
    """One column a pixel of ``(N, H, W, C)`` pictures that came as numbers of some type.

    Raises:
        DataError: a value that pixels of the kind cannot have.
        SchemaError: a kind that pixels cannot have.
    """
    if levels is not None:
        check_whole("levels", levels, 2, SchemaError)
    kind = kind or kind_of(pictures, dtype, levels)
    if kind not in KINDS:
        raise SchemaError(f"Image {name!r}: kind must be one of {', '.join(KINDS)}, got {kind!r}.")
    if levels is None and kind == "count" and dtype == np.uint8:
        levels = GREY_LEVELS
    told = description(pictures, kind, levels)
    check_pixels(pictures, Column(name, **told))
    image = Image(name, pictures.shape[1:])
    incomplete = np.isnan(pictures).any(0).ravel()
    return Schema(
        tuple(
            Column(pixel, incomplete=bool(hole), **told) for pixel, hole in zip(image.names, incomplete, strict=True)
        ),
        images=(image,),
    )


def kind_of(pictures: np.ndarray, dtype: Any, levels: int | None) -> str:
    """Black or white, grey levels, or numbers."""
    known = pictures[~np.isnan(pictures)]
    if levels is None and np.isin(known, (0.0, 1.0)).all():
        return "binary"
    whole = np.issubdtype(dtype, np.integer) or bool((known == np.round(known)).all())
    return "count" if whole and (not len(known) or known.min() >= 0) else "real"


def description(pictures: np.ndarray, kind: str, levels: int | None) -> dict[str, Any]:
    """Kind, levels and bounds of a pixel's column."""
    if kind in ("ordinal", "categorical"):
        known = pictures[~np.isnan(pictures)]
        return {"kind": kind, "levels": tuple(range(levels or int(known.max(initial=1.0)) + 1))}
    if kind == "count":
        return {"kind": kind, "bounds": None if levels is None else (0.0, levels - 1.0)}
    more: dict[str, dict[str, Any]] = {"binary": {"levels": (0, 1)}, "bounded": {"bounds": (0.0, 1.0)}}
    return {"kind": kind, **more.get(kind, {})}


def check_pixels(pictures: np.ndarray, column: Column) -> None:
    """Refuse values that are no levels, and those outside the kind's support."""
    cells = pictures.ravel()
    if column.is_discrete:
        bad = ~np.isnan(cells) & ~np.isin(cells, np.arange(len(column.levels)))
        what, remedy = f"is none of 0 to {len(column.levels) - 1}", "give another kind or more levels"
    else:
        bad, what, remedy = outside(cells, column)
    if bad.any():
        first = np.argwhere(bad.reshape(pictures.shape))[0]
        raise DataError(
            f"Image {first[0]} ({column.kind}), pixel {tuple(map(int, first[1:3]))}: the value {cells[bad.argmax()]:g} {what}"
            f" ({int(bad.sum())} such); {remedy}."
        )


def pictures_of(values: np.ndarray, schema: Schema, name: str | None) -> np.ndarray:
    """``(N, H, W, C)`` of a table's cells."""
    image = schema.image(name)
    at = schema.index(image.names[0])
    return values[:, at : at + image.pixels].reshape(len(values), *image.shape)


def picture_shape(shape: Sequence[int], pixels: int) -> tuple[int, int, int]:
    """Height, width and channels of a picture that so many columns are to be.

    Raises:
        SchemaError: no shape of a picture that can be drawn, or one of another number of pixels.

    Example:
        >>> picture_shape((4, 3), 12)
        (4, 3, 1)
    """
    sizes = tuple(shape) if isinstance(shape, Sequence) else ()
    whole = all(is_whole(size, 1) for size in sizes)
    if not whole or len(sizes) not in (2, 3) or (len(sizes) == 3 and sizes[2] not in (1, 3)):
        raise SchemaError(
            f"shape must be (height, width), or (height, width, channels) with 1 or 3 channels, got {shape!r}."
        )
    if prod(sizes) != pixels:
        raise SchemaError(
            f"shape={sizes} is a picture of {prod(sizes)} pixels; the table has {pixels} columns that can be pixels. Give"
            " shape=(height, width), or (height, width, 3), of all of them."
        )
    height, width, channels = (*map(int, sizes), 1)[:3]
    return height, width, channels
