"""Rows as points in a plane."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from probgen.errors import CapabilityError
from probgen.plots.style import ACCENT, FAINT, MARKERS, axes_or_new, colours, legend, sequential, tidy

__all__ = ["embedding_plane"]

MOST_POINTS = 3000
SHAKE = 0.012  # of the range: posterior probabilities pile up in corners, where one mark would hide hundreds


def embedding_plane(
    points: np.ndarray, labels: np.ndarray | None = None, axes: Axes | None = None, title: str = ""
) -> Axes:
    """A projected embedding, coloured by a label or a number; points are shaken by about a hundredth of the range.

    Args:
        points: ``(N, 2)``.
        labels: ``(N,)`` labels (None = unknown, drawn faint), or numbers for shades; one colour where None.
        axes: to draw into.
        title: above.
    """
    if np.ndim(points) != 2 or np.shape(points)[1] != 2:
        raise CapabilityError(
            f"points must have shape (N, 2), got {np.shape(points)}; choose or project to two columns."
        )
    axes = axes_or_new(axes, (5.2, 4.4))
    kept = np.sort(np.random.default_rng(0).permutation(len(points))[:MOST_POINTS])
    points = shaken(points[kept])
    labels = None if labels is None else np.asarray(labels)[kept]
    if labels is None:
        axes.scatter(*points.T, s=18, color=ACCENT, alpha=0.6, linewidths=0)
    elif labels.dtype.kind in "fiu":
        shades = axes.scatter(*points.T, s=18, c=labels.astype(float), cmap=sequential(), linewidths=0)
        axes.figure.colorbar(shades, ax=axes, fraction=0.04, pad=0.02).outline.set_visible(False)  # type: ignore[operator]
    else:
        draw_classes(points, labels, axes)
    tidy(axes, title, "first component", "second component", grid="both")
    axes.set_xticklabels([])
    axes.set_yticklabels([])
    return axes


def shaken(points: np.ndarray) -> np.ndarray:
    """Points moved by a little, so that equal ones are seen as many."""
    noise = np.random.default_rng(1).normal(size=points.shape)
    return points + SHAKE * np.ptp(points, axis=0) * noise


def draw_classes(points: np.ndarray, labels: np.ndarray, axes: Axes) -> None:
    """One colour and mark a class; classes beyond the eighth, and unknown ones, are faint."""
    texts = np.array(["" if label is None else str(label) for label in labels])
    names, counts = np.unique(texts[texts != ""], return_counts=True)
    shown = sorted(names[np.argsort(-counts, kind="stable")][: len(MARKERS)])
    rest = ~np.isin(texts, shown)
    if rest.any():
        axes.scatter(*points[rest].T, s=12, color=FAINT, linewidths=0, label="other or unknown")
    for name, colour, marker in zip(shown, colours(len(shown)), MARKERS, strict=False):
        axes.scatter(*points[texts == name].T, s=22, color=colour, marker=marker, alpha=0.7, linewidths=0, label=name)
    legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
