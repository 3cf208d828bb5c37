"""Names beside points, which do not lie over each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from probgen.plots.style import FAINT, INK, MUTED

__all__ = ["label_points"]

LETTER, LINE = 0.56, 1.25  # width of a letter and height of a line, in font sizes
RINGS = 14  # distances that are tried, each in all directions
MOST_TOGETHER = 4  # names of one point that are written out


def label_points(axes: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str], size: float = 8.5) -> None:
    """A name beside each point, the nearest free place first; points at one place share a label.

    Args:
        axes: with its limits set.
        x, y: of the points.
        names: of the points.
        size: of the letters, points.
    """
    places, merged = together(np.column_stack([x, y]), names)
    axes.figure.draw_without_rendering()  # lays the axes out
    pixels = axes.transData.transform(places)
    unit = size * axes.figure.dpi / 72
    frame = axes.get_window_extent()
    taken = [(px - 0.5 * unit, py - 0.5 * unit, px + 0.5 * unit, py + 0.5 * unit) for px, py in pixels]
    for at in np.argsort(-pixels[:, 1], kind="stable"):
        width, height = unit * LETTER * len(merged[at]), unit * LINE
        box, ring = free_place(pixels[at], width, height, unit, taken, tuple(frame.extents))
        taken.append(box)
        corner = axes.transData.inverted().transform((box[0], (box[1] + box[3]) / 2))
        leader = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            merged[at], places[at], corner, va="center", ha="left", fontsize=size, color=INK if ring < 2 else MUTED,
            arrowprops=leader if ring > 1 else None,
        )  # fmt: skip


def together(points: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Different places, and the names at each."""
    places, which = np.unique(points.round(3), axis=0, return_inverse=True)
    merged = []
    for place in range(len(places)):
        here = [str(name) for name, at in zip(names, which.reshape(-1), strict=True) if at == place]
        rest = len(here) - MOST_TOGETHER
        merged.append(", ".join(here[:MOST_TOGETHER]) + (f" and {rest} more" if rest > 0 else ""))
    return places, merged


def free_place(
    point: np.ndarray, width: float, height: float, unit: float, taken: Sequence[tuple], frame: tuple
) -> tuple[tuple[float, float, float, float], int]:
    """The nearest box beside a point that meets no other and stays inside, and how many rings away it is."""
    best, cost = None, np.inf
    for ring in range(RINGS):
        reach = unit * (0.75 + 0.8 * ring)
        for angle in np.pi * np.array([0, 1, 0.25, 0.75, 1.25, 1.75, 0.5, 1.5]):
            across, up = reach * np.cos(angle), reach * np.sin(angle)
            left = (
                point[0] + across - (width if across < -1e-6 * reach else 0.0 if across > 1e-6 * reach else width / 2)
            )
            middle = point[1] + up
            box = (left, middle - height / 2, left + width, middle + height / 2)
            bad = sum(overlap(box, other) for other in taken) + 20 * unit * outside(box, frame)
            if bad < cost - 1e-9:
                best, cost, found = box, bad, ring
            if bad == 0:
                return box, ring
    assert best is not None
    return best, found


def overlap(one: tuple, other: tuple) -> float:
    """Area that two boxes share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return across * up if across > 0 and up > 0 else 0.0


def outside(box: tuple, frame: tuple) -> float:
    """How far a box sticks out of the frame."""
    return (
        max(frame[0] - box[0], 0) + max(box[2] - frame[2], 0) + max(frame[1] - box[1], 0) + max(box[3] - frame[3], 0)
    )
