"""Why products: intervals for the ratio of weight and height (van Buuren, 2018, section 6.4.1), filled with and without them.

``python -m benchmarks.products docs/figures/products.png`` simulates and draws; ``python -m benchmarks products`` prints.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

import probgen as pg
from benchmarks._imputation_peers import Mice, missing
from benchmarks._imputation_populations import fimd_c
from probgen.data.table import Table
from probgen.plots.style import ACCENT, CYCLE, INK, MUTED, house, tidy
from probgen.studies.simulation_run import Batched

SIMULATIONS = int(os.environ.get("SIMULATIONS", 40))
THEIRS, WITHOUT, WITH = "R's mice", "main effects", "with products"
SMALL = 115  # cm; the boys that are drawn


def simulated() -> pg.ImputationStudy:
    """The same samples for all methods."""
    case = fimd_c()["ratio"]
    theirs = {} if missing("mice") else {THEIRS: Batched(Mice("default", case.m))}
    ours = {WITHOUT: {"model": "auto", "products": "none"}, WITH: {"model": "auto"}}
    return pg.imputation_study(
        case.sample, case.analysis, case.truth, methods={**theirs, **ours}, ampute=case.holes, m=case.m,
        simulations=SIMULATIONS, progress=False,
    )  # fmt: skip


def cases() -> Iterator[dict[str, Any]]:
    """A line a method."""
    kept = ("method", "truth", "bias", "coverage", "coverage_error", "width", "simulations", "failed", "seconds")
    for record in simulated().records:
        yield {key: record[key] for key in kept}


# ------------------------------------------------------------------------------------------------------------- the figure
def figure(found: pg.ImputationStudy, path: str) -> None:
    """Ratios of small boys as they were filled, and every simulation's interval."""
    with house():
        drawn, (left, middle, right) = pyplot.subplots(
            1, 3, figsize=(11, 3.1), width_ratios=(1, 1, 2.1), layout="constrained"
        )
        case = fimd_c()["ratio"]
        holed = case.holes(case.sample, 0)
        ratios(holed, Mice("default", 5)([holed], [1])[0].tables[0], f"filled by {THEIRS}", left)  # type: ignore[union-attr]
        ratios(holed, pg.impute(holed, m=5, seed=1, progress=False)[0], f"filled {WITH}", middle)
        middle.set_ylabel("")
        intervals(found, right)
        drawn.savefig(path, dpi=110)


def ratios(holed: Table, filled: Table, title: str, axes: Axes) -> None:
    """Weight over height against height: known ones in grey, those with an imputed part in blue."""
    height, weight = filled.column("hgt"), filled.column("wgt")
    known = holed.known[:, [holed.schema.index("hgt"), holed.schema.index("wgt")]].all(1)
    for rows, colour, size in ((known, MUTED, 12), (~known, ACCENT, 14)):
        axes.scatter(height[rows], 100 * weight[rows] / height[rows], s=size, color=colour, alpha=0.55, linewidths=0)
    tidy(axes, title, "height, cm", "weight over height, kg/m", grid="both")
    axes.set(xlim=(48, SMALL), ylim=(4, 23))


def intervals(found: pg.ImputationStudy, axes: Axes) -> None:
    """One line a simulation, sorted; those that miss the truth in orange."""
    truth, start, ticks = found.truth["whr"], 0, {}
    for method in (THEIRS, WITHOUT, WITH):
        ends = np.array([(o.lower[0], o.upper[0]) for o in found.outcomes if o.method == method and not o.failure])
        ends = ends[ends.mean(1).argsort()]
        at, missed = start + np.arange(len(ends)), (ends[:, 0] > truth) | (ends[:, 1] < truth)
        for rows, colour in ((missed, CYCLE[1]), (~missed, ACCENT)):
            axes.vlines(at[rows], *ends[rows].T, color=colour, linewidth=1.6)
        ticks[f"{method}\n{(~missed).sum()} of {len(ends)} cover"] = at.mean()
        start += len(ends) + 8
    axes.axhline(truth, color=INK, linewidth=1)
    tidy(axes, f"intervals for the ratio's slope, {found.simulations} simulations", "", "")
    axes.set_xticks(list(ticks.values()), list(ticks))
    axes.set_ylim(-0.75, 1.75)


if __name__ == "__main__":
    if missing("mice"):
        sys.exit(f"The figure shows mice beside us. {missing('mice')}")
    measured = simulated()
    print(measured)
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    figure(measured, sys.argv[1])
