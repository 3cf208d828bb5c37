"""The guide's example beside R's mice: what goes with diabetes, with half of the insulin unknown.

``python -m benchmarks.pima docs/figures/pima_beside_mice.png`` imputes, draws and prints; ``python -m benchmarks pima`` prints. What mice
makes of it, five runs of 200 imputations, is in results/pima_mice.csv: ``Rscript benchmarks/_pima_mice.R pima.csv``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes

import probgen as pg
from benchmarks._imputation_populations import read
from probgen.plots.style import ACCENT, CYCLE, MUTED, house, tidy
from probgen.studies.multiple_imputation import by_formula

M = int(os.environ.get("IMPUTATIONS", 200))
WITHOUT = "diabetes ~ glucose + mass + triceps + pressure + age + pedigree + pregnant"
WITH = f"{WITHOUT} + np.log(insulin)"
FORMULAS = {"without insulin": WITHOUT, "with insulin": WITH}
OURS: dict[str, dict[str, Any]] = {"ours": {}, "ours, main effects": {"products": "none", "matching": "none"}}
THEIRS = {"norm": "mice, norm", "pmm": "mice, pmm"}
RENAMED = {"(Intercept)": "Intercept", "np.log(insulin)": "insulin"}
COLUMNS = ["analysis", "method", "term", "estimate", "std.error", "fmi", "error", "run"]


def table() -> pg.Table:
    """With measurements in whole numbers as such."""
    raw = pg.Table(read("pima"))
    schema = raw.schema.with_kind("insulin", "positive")
    for name in ("glucose", "pressure", "triceps"):
        schema = schema.with_kind(name, "real")
    return pg.Table(raw, schema=schema)


def ours(m: int = M, seeds: tuple[int, ...] = (1, 2)) -> pd.DataFrame:
    """A line a run, analysis and term, with the Monte-Carlo error of the estimate."""
    found = []
    for method, options in OURS.items():
        for seed in seeds:
            imputed = pg.impute(table(), m=m, seed=seed, progress=False, **options)
            for analysis, formula in FORMULAS.items():
                pooled = pg.pool(imputed.analyse(formula, family="binomial"))
                found += lines(pooled, analysis, method, seed)
    return pd.DataFrame(found, columns=COLUMNS)


def lines(pooled: pg.Pooled, analysis: str, method: str, run: int) -> list[tuple]:
    error = np.sqrt(np.diag(pooled.between_covariance) / pooled.m)
    numbers = zip(pooled.names, pooled.estimate, pooled.standard_error, pooled.fmi, error, strict=True)
    return [(analysis, method, RENAMED.get(term, term), *rest, run) for term, *rest in numbers]


def theirs() -> pd.DataFrame:
    """The same of mice."""
    found = pd.read_csv(Path(__file__).parent / "results" / "pima_mice.csv", skipinitialspace=True)
    found = found[~found["term"].isin(["D1", "D3"])].replace({"term": RENAMED})
    parts = found["what"].str.split(" ", n=1)
    errors = np.sqrt(found["b"] / 200)
    return found.assign(method=parts.str[0].map(THEIRS), analysis=parts.str[1], error=errors)[COLUMNS]


def complete_cases() -> pd.DataFrame:
    """What is left without imputation."""
    found = []
    for analysis, formula in FORMULAS.items():
        fit = by_formula(formula, "binomial")(read("pima").dropna())
        rows = zip(fit.params.index, fit.params, fit.bse, strict=True)
        found += [(analysis, "complete cases", RENAMED.get(t, t), e, s, 0.0, 0.0, 0) for t, e, s in rows]
    return pd.DataFrame(found, columns=COLUMNS)


def joined(found: pd.DataFrame) -> pd.DataFrame:
    """The mean over runs."""
    groups = found.groupby(["analysis", "method", "term"], sort=False)
    means = groups[["estimate", "std.error", "fmi"]].mean()
    means["error"] = groups["error"].apply(lambda errors: np.sqrt((errors**2).sum()) / len(errors))
    return means.reset_index()


def cases() -> Iterator[dict[str, Any]]:
    """A line a method, analysis and term."""
    yield from compared(everything())


def everything() -> pd.DataFrame:
    return joined(pd.concat([complete_cases(), theirs(), ours()]))


def compared(found: pd.DataFrame) -> list[dict[str, Any]]:
    """With differences to mice's normal regressions, in Monte-Carlo errors (of imputations) and in standard errors."""
    anchor = found[found["method"] == "mice, norm"].drop(columns=["method", "fmi"])
    both = found.merge(anchor, on=["analysis", "term"], suffixes=("", "_mice"))
    gap = both["estimate"] - both["estimate_mice"]
    imputes = (both["method"] != "mice, norm") & (both["error"] > 0)
    both["monte_carlo_errors"] = gap / np.hypot(both["error"], both["error_mice"]).where(imputes)
    both["standard_errors"] = gap / both["std.error_mice"]
    both["se_ratio"] = both["std.error"] / both["std.error_mice"]
    return both.drop(columns=["estimate_mice", "std.error_mice", "error_mice"]).to_dict("records")


# -------------------------------------------------------------------------------------------------------- the figure
def figure(found: pd.DataFrame, path: str) -> None:
    """Estimates with their 95 % intervals: where all agree, and where they do not."""
    shown = [("without insulin", "glucose"), ("without insulin", "triceps"), ("with insulin", "insulin")]
    with house():
        drawn, panels = pyplot.subplots(1, 3, figsize=(10.5, 2.7), sharey=True, layout="constrained")
        for (analysis, term), axes in zip(shown, panels, strict=True):
            forest(found[(found["analysis"] == analysis) & (found["term"] == term)], axes)
            tidy(axes, f"log({term})" if term == "insulin" else term, f"log odds, {analysis}", "", grid="x")
        drawn.savefig(path, dpi=110)


def forest(found: pd.DataFrame, axes: Axes) -> None:
    """One line a method."""
    hues = {"complete cases": MUTED, "ours": ACCENT, "ours, main effects": ACCENT}
    order = ["ours", "ours, main effects", "mice, norm", "mice, pmm", "complete cases"]
    for at, method in enumerate(order):
        line = found[found["method"] == method].iloc[0]
        hue, half = hues.get(method, CYCLE[1]), 1.96 * line["std.error"]
        axes.hlines(at, line["estimate"] - half, line["estimate"] + half, color=hue, linewidth=2)
        axes.plot(line["estimate"], at, "o", color=hue, markersize=6)
    axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.locator_params(axis="x", nbins=5)


if __name__ == "__main__":
    drawn_from = everything()
    figure(drawn_from, sys.argv[1])
    print(*map(json.dumps, compared(drawn_from)), sep="\n")
