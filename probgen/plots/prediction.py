"""Discriminative or generative: how well a hidden target is told with growing rows and growing holes, and whether the confidence is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from probgen.plots.classification import reliability_curve
from probgen.plots.style import CYCLE, FAINT, INK, MUTED, axes_or_new, house, legend, tidy

if TYPE_CHECKING:
    from probgen.studies.prediction import PredictionStudy

__all__ = ["abstention_curve", "discriminative_or_generative", "learning_curves", "reliability_by_holes"]

FAMILIES = {"generative": CYCLE[0], "discriminative": CYCLE[1], "none": FAINT}
WORDS = {
    "log_loss": "log loss (nats a row)",
    "ece": "expected calibration error",
    "accuracy": "accuracy",
    "brier": "Brier score",
}


def discriminative_or_generative(
    studies: Mapping[str, PredictionStudy],
    measure: str = "log_loss",
    dashed: Sequence[str] = ("gradient_boosting_imputed",),
) -> Figure:
    """A row a data set, a column a share of holes; rows learnt from to the right, the score upwards.

    What is worse than all that is drawn thick or dashed may lie outside. Thick lines are the weighted mean of each family, with one standard error over repeats; thin ones its members.

    Args:
        studies: title -> study of :func:`probgen.prediction_study`.
        measure: of its records.
        dashed: members that are drawn as dashes, to be told from the others.
    """
    from matplotlib import pyplot

    shares = next(iter(studies.values())).holes
    with house():
        figure, panels = pyplot.subplots(
            len(studies), len(shares), figsize=(2.7 * len(shares) + 0.9, 1.95 * len(studies) + 0.9), sharex="row", sharey="row",
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for place, (line, (title, study)) in enumerate(zip(panels, studies.items(), strict=True)):
            for axes, share in zip(line, shares, strict=True):
                learning_curves(study, axes, share, measure, dashed)
                if place == 0:
                    axes.set_title(f"{share:.0%} of the cells unknown", loc="center", color=INK, fontsize=10)
                if place == len(panels) - 1:
                    axes.set_xlabel("rows learnt from", color=MUTED)
            spans = np.array([span(study, share, measure, dashed) for share in shares])
            line[0].set_ylim(spans[:, 0].min(), spans[:, 1].max())
            line[0].set_ylabel(f"{title}\n", color=INK, fontweight="bold", fontsize=10.5)
        figure.supylabel(WORDS.get(measure, measure), color=MUTED, fontsize=9.5)
        figure.legend(
            handles=handles(dashed), loc="outside lower center", ncols=3, frameon=False, labelcolor=MUTED, fontsize=9
        )
    return figure


def handles(dashed: Sequence[str]) -> list[Line2D]:
    """What the lines mean."""
    found = [
        Line2D([], [], color=FAMILIES[f], linewidth=2.4, label=f"{f}, stacked")
        for f in ("generative", "discriminative")
    ]
    found.append(Line2D([], [], color=FAMILIES["none"], linewidth=1.4, linestyle=(0, (1, 1.5)), label="labels alone"))
    found += [
        Line2D([], [], color=FAMILIES[f], linewidth=0.9, alpha=0.55, label=f"{f}, one method")
        for f in ("generative", "discriminative")
    ]
    named = ", ".join(name.replace("_", " ") for name in dashed)
    return found + [
        Line2D([], [], color=FAMILIES["discriminative"], linewidth=1.3, linestyle=(0, (4, 2)), label=named)
    ] * bool(dashed)


def span(study: PredictionStudy, holes: float | None, measure: str, dashed: Sequence[str]) -> tuple[float, float]:
    """From a little below everything to a little above the stacks and what is dashed; above everything where there are none."""
    curves = {method: study.curve(method, measure, holes) for method in study.methods}
    main = {name: curve for name, curve in curves.items() if name.endswith(", stacked") or name in dashed} or curves
    low = min(float(mean.min()) for _, mean, _ in curves.values() if len(mean))
    high = max(float((mean + np.nan_to_num(error)).max()) for _, mean, error in main.values() if len(mean))
    return low - 0.07 * (high - low), high + 0.07 * (high - low)


def learning_curves(
    study: PredictionStudy,
    axes: Axes | None = None,
    holes: float | None = None,
    measure: str = "log_loss",
    dashed: Sequence[str] = (),
) -> Axes:
    """A measure by rows learnt from, at one share of holes: one colour a family, its stack thick.

    Args:
        study: of :func:`probgen.prediction_study`.
        axes: to draw into.
        holes: the largest share where None.
        measure: of its records.
        dashed: members that are drawn as dashes.
    """
    axes = axes_or_new(axes, (5.0, 3.8))
    for method in study.methods:
        rows, mean, error = study.curve(method, measure, holes)
        if not len(rows):
            continue
        family, stack = study.families[method], method.endswith(", stacked")
        colour = FAMILIES[family]
        if stack:
            band = np.nan_to_num(error)
            axes.fill_between(rows, mean - band, mean + band, color=colour, alpha=0.18, linewidth=0)
            axes.plot(
                rows,
                mean,
                color=colour,
                linewidth=2.4,
                marker="o" if family == "generative" else "s",
                markersize=4,
                zorder=4,
            )
        elif family == "none":
            axes.plot(rows, mean, color=colour, linewidth=1.4, linestyle=(0, (1, 1.5)), zorder=1)
        elif not method.endswith(", chosen"):
            style: dict[str, Any] = (
                {"linewidth": 1.3, "linestyle": (0, (4, 2)), "zorder": 3}
                if method in dashed
                else {"linewidth": 0.9, "alpha": 0.5}
            )
            axes.plot(rows, mean, color=colour, **style)
    tidy(axes, "", "", "")
    axes.set_xscale("log")
    axes.set_xticks(study.rows, [str(n) for n in study.rows])
    axes.minorticks_off()
    axes.set_ylim(*span(study, holes, measure, dashed))
    return axes


def reliability_by_holes(
    curves: Mapping[str, Mapping[float, Mapping[str, Sequence[Mapping[str, float]]]]],
) -> Figure:
    """Confidence against the share that was right: a row a data set, a column a share of holes.

    Args:
        curves: title -> share of holes -> method -> bins, as ``study.reliability(method, rows, holes)`` gives them.
    """
    from matplotlib import pyplot

    shares = list(next(iter(curves.values())))
    right = [
        b["accuracy"]
        for found in curves.values()
        for methods in found.values()
        for bins in methods.values()
        for b in bins
    ]
    low = min(0.3, min(right) - 0.05)
    with house():
        figure, panels = pyplot.subplots(
            len(curves), len(shares), figsize=(2.6 * len(shares) + 0.9, 2.3 * len(curves) + 0.5), sharex="row", sharey=True,
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for place, (line, (title, found)) in enumerate(zip(panels, curves.items(), strict=True)):
            for at, (axes, share) in enumerate(zip(line, shares, strict=True)):
                reliability_curve({name.replace("_", " "): bins for name, bins in found[share].items()}, axes)
                axes.get_legend().remove()
                axes.set_title(f"{title}, {share:.0%} unknown", loc="left", color=INK, fontsize=9.5)
                axes.set_ylim(low, 1.05)
                axes.set_xlabel("confidence" if place == len(panels) - 1 else "", color=MUTED)
                axes.set_ylabel("share right" if at == 0 else "", color=MUTED)
        marks, names = panels[0, 0].get_legend_handles_labels()
        figure.legend(marks, names, loc="outside lower center", ncols=3, frameon=False, labelcolor=MUTED)
    return figure


def abstention_curve(
    study: PredictionStudy,
    methods: Sequence[str] | None = None,
    axes: Axes | None = None,
    *,
    rows: int | None = None,
    holes: float | None = None,
) -> Axes:
    """The share of errors where only the most confident rows are answered.

    Args:
        study: of :func:`probgen.prediction_study`, of a target with levels.
        methods: names; the stacks of both families where None.
        axes: to draw into.
        rows, holes: the most where None.
    """
    axes = axes_or_new(axes, (5.0, 3.6))
    shown = methods or [name for name in study.methods if name.endswith(", stacked")] or study.methods
    for name in shown:
        found = study.abstention(name, rows, holes)
        label = f"{name}: {found['area']:.3f}"
        axes.plot(found["coverage"], found["risk"], color=FAMILIES[study.families[name]], linewidth=1.8, label=label)
    tidy(axes, "", "share of rows answered", "share of errors among them")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    legend(axes, loc="upper left")
    return axes
