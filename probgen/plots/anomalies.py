"""Odd rows beside those in order, and which of their cells are odd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probgen.plots.style import CYCLE, FAINT, INK, MUTED, PAPER, house, legend, sequential, tidy

if TYPE_CHECKING:
    from probgen.studies.anomalies import AnomalyStudy

__all__ = ["anomalies", "odd_cells", "odd_scores"]

ODD = CYCLE[1]
LETTERS = 9  # of a value that is written into a cell


def anomalies(
    study: AnomalyStudy, model: str | None = None, score: str | None = None, level: float = 0.1, most: int = 10
) -> Figure:
    """Scores of rows in order and of those asked about; and the cells of the oddest rows, by how much more surprising they are than usual.

    Args:
        study: of :func:`probgen.anomaly_study`; cells are drawn where it has them.
        model, score: the first ones where they are None.
        level: share of the rows reported that may be in order.
        most: rows whose cells are drawn.
    """
    from matplotlib import pyplot

    name, kind = study.chosen(model, score)
    with_cells = name in study.cells
    with house():
        wide = min(1.4 + 0.62 * study.rows.n_columns, 9.0) if with_cells else 0.0
        figure, panels = pyplot.subplots(
            1, 1 + with_cells, figsize=(4.6 + wide, 3.6), squeeze=False, layout="constrained",
            width_ratios=[4.2, wide] if with_cells else [1.0],
        )  # fmt: skip
        odd_scores(study, panels[0, 0], name, kind, level)
        if with_cells:
            odd_cells(study, panels[0, 1], name, np.argsort(-study.scores[name, kind], kind="stable")[:most])
    return figure


def odd_scores(study: AnomalyStudy, axes: Axes, model: str, score: str, level: float = 0.1) -> Axes:
    """How the scores of rows in order are spread, and those asked about below; marked are the ones to report.

    Args:
        study: of :func:`probgen.anomaly_study`.
        axes: to draw into.
        model, score: names.
        level: share of the rows reported that may be in order.
    """
    usual, asked = study.calibration[model, score], study.scores[model, score]
    held = np.zeros(0, dtype=int) if study.own else study.flagged(level, model, score)
    low, high = np.quantile(np.r_[usual, asked], [0.0, 1.0])
    axes.hist(
        usual[np.isfinite(usual)], bins=np.linspace(low, high, 60), density=True, color=FAINT, label="rows in order"
    )
    foot = axes.get_ylim()[1]
    rest = np.setdiff1d(np.arange(len(asked)), held)
    noise = np.random.default_rng(0).uniform(-0.16, -0.04, len(asked)) * foot
    axes.scatter(asked[rest], noise[rest], s=9, color=MUTED, alpha=0.6, linewidths=0, label="asked about")
    if len(held):
        axes.scatter(
            asked[held], noise[held], s=22, marker="D", color=ODD, linewidths=0, label=f"reported ({len(held)})"
        )
    tidy(axes, f"{score}, {model.replace('_', ' ')}", "nats", "", grid="")
    axes.set_yticks([])
    axes.set_ylim(-0.2 * foot, 1.05 * foot)
    legend(axes, loc="upper right")
    return axes


def odd_cells(study: AnomalyStudy, axes: Axes, model: str, rows: np.ndarray) -> Axes:
    """A line a row with the values of its cells, shaded by their excess surprise in nats.

    Args:
        study: of :func:`probgen.anomaly_study`, with cells.
        axes: to draw into.
        model: name.
        rows: places.
    """
    excess, told = study.cells[model][rows], study.rows.take(rows).to_pandas()
    top = max(float(np.nanmax(excess, initial=1.0)), 1.0)
    shades = sequential()(np.nan_to_num(np.clip(excess / top, 0, 1)))
    axes.imshow(shades, aspect="auto")
    for at, column in enumerate(study.rows.names):
        for line, value in enumerate(told[column]):
            if np.isnan(excess[line, at]):
                continue
            text = value if isinstance(value, str) else f"{value:.4g}"
            dark = excess[line, at] > 0.5 * top
            axes.text(
                at, line, str(text)[:LETTERS], ha="center", va="center", fontsize=7.5, color=PAPER if dark else INK
            )
    axes.set_xticks(range(len(study.rows.names)), study.rows.names, rotation=40, ha="right")
    axes.set_yticks(range(len(rows)), [f"row {row}" for row in rows])
    axes.tick_params(length=0, colors=MUTED)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(f"cells: excess surprise, 0 to {top:.0f} nats", loc="left", color=INK)
    return axes
