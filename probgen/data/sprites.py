"""Small pictures with known factors, drawn here: what disentanglement is measured on (after Matthey et al., 2017)."""

from __future__ import annotations

import numpy as np

from probgen.data.table import Table

__all__ = ["FACTORS", "sprites"]

FACTORS = {"shape": 3, "scale": 4, "turn": 12, "across": 12, "down": 12}
"""How many values each factor has: square, ellipse or heart; half width; angle; place."""

FINE = 3  # points a side of a pixel that are looked at
SCALES = (0.16, 0.21, 0.26, 0.31)  # half widths, in widths of the picture


def sprites(rows: int | None = None, size: int = 16, seed: int = 0) -> tuple[Table, np.ndarray]:
    """White shapes on black, and the factors that they were drawn from.

    Args:
        rows: drawn at random, each combination of factors as likely as another; None for all 20 736, in order.
        size: pixels a side.
        seed: of the draw.

    Returns:
        A table of images of ``size * size`` binary pixels, and codes ``(N, 5)`` of the factors in the order of :data:`FACTORS`.

    Example:
        >>> table, factors = sprites(100)
        >>> table.n_columns, factors.shape
        (256, (100, 5))
    """
    sizes = tuple(FACTORS.values())
    every = int(np.prod(sizes))
    number = np.arange(every) if rows is None else np.random.default_rng(seed).integers(every, size=rows)
    factors = np.column_stack(np.unravel_index(number, sizes))
    pictures = np.concatenate([drawn(part, size) for part in np.array_split(factors, max(1, len(factors) // 2000))])
    return Table.from_images(pictures, kind="binary"), factors


def drawn(factors: np.ndarray, size: int) -> np.ndarray:
    """``(N, size, size)`` pixels, white where more than half of their points lie inside the shape."""
    shape, scale, turn, across, down = factors.T
    place = (np.arange(size * FINE) + 0.5) / (size * FINE)
    angle = 2 * np.pi * turn / FACTORS["turn"]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    half = np.array(SCALES)[scale][:, None, None]
    middle = lambda at, count: (0.32 + 0.36 * at / (count - 1))[:, None, None]  # noqa: E731
    x = place[None, None, :] - middle(across, FACTORS["across"])
    y = place[None, :, None] - middle(down, FACTORS["down"])
    u, v = (cos * x + sin * y) / half, (cos * y - sin * x) / half
    square = np.maximum(np.abs(u), np.abs(v)) < 0.75
    ellipse = u**2 + (v / 0.55) ** 2 < 1
    h, w = 1.25 * u, 0.2 - 1.25 * v
    heart = (h**2 + w**2 - 1) ** 3 < h**2 * w**3
    inside = np.where((shape == 0)[:, None, None], square, np.where((shape == 1)[:, None, None], ellipse, heart))
    return inside.reshape(len(factors), size, FINE, size, FINE).mean((2, 4)) > 0.5
