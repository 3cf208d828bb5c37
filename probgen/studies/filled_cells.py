"""How well are holes filled: known cells are hidden, filled by draws, and compared with the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.missing import ampute
from probgen.data.table import Table
from probgen.queries import Fit, class_probabilities

__all__ = ["FillStudy", "crps", "fill_study"]

BASELINE = "marginal"


@dataclass(frozen=True, eq=False)
class FillStudy:
    """Scores of filled cells against the hidden truth.

    Attributes:
        scores: one record a model: RMSE of the mean of the draws and CRPS (both over the column's standard deviation),
            coverage of the 50 % and 90 % intervals, accuracy and log loss of discrete cells.
        columns: the same a model and column.
        hidden: ``(N, D)`` mask of the hidden cells.
    """

    scores: list[dict[str, Any]]
    columns: list[dict[str, Any]]
    hidden: np.ndarray

    def __str__(self) -> str:
        lines = [f"{'model':<28}{'RMSE':>8}{'CRPS':>8}{'cover 90':>10}{'accuracy':>10}{'log loss':>10}"]
        for s in self.scores:
            numbers = [s["rmse"], s["crps"], s["coverage90"], s["accuracy"], s["log_loss"]]
            lines.append(
                f"{s['model']:<28}" + "".join(f"{n:>{w}.3f}" for n, w in zip(numbers, (8, 8, 10, 10, 10), strict=True))
            )
        return "\n".join(lines)


def fill_study(
    fits: Mapping[str, Fit],
    test: Table,
    train: Table,
    *,
    fraction: float = 0.2,
    mechanism: str = "mcar",
    draws: int = 100,
    seed: int = 0,
) -> FillStudy:
    """Hide known cells of rows that the fits have not seen, fill them, score the draws.

    Args:
        fits: fitted models by name.
        test: rows that were not used in the fits.
        train: rows from which scales and the baseline (draws from each column's own values) are taken.
        fraction, mechanism: of the cells to hide (see :func:`probgen.data.ampute`).
        draws: completed tables a model.
        seed: of holes and draws.
    """
    holed, hidden = ampute(test, fraction, mechanism, seed=seed)
    rows = []
    for name, fit in fits.items():
        filled = np.stack([table.values for table in fit.fill(holed, draws, seed=seed)])
        rows += [score_column(name, test, train, filled, hidden, place, fit, holed) for place in scored(hidden)]
    baseline = marginal_draws(train, holed, draws, seed)
    rows += [score_column(BASELINE, test, train, baseline, hidden, place, None, holed) for place in scored(hidden)]
    names = [*fits, BASELINE]
    return FillStudy([overall(name, [r for r in rows if r["model"] == name]) for name in names], rows, hidden)


def scored(hidden: np.ndarray) -> list[int]:
    return [int(place) for place in np.nonzero(hidden.any(0))[0]]


def marginal_draws(train: Table, holed: Table, draws: int, seed: int) -> np.ndarray:
    """Unknown cells from the known values of their own column."""
    rng = np.random.default_rng(seed)
    filled = np.repeat(holed.values[None], draws, 0)
    for place in range(holed.n_columns):
        unknown = ~holed.known[:, place]
        pool = train.values[train.known[:, place], place]
        filled[:, unknown, place] = rng.choice(pool, (draws, int(unknown.sum())))
    return filled


def score_column(
    name: str,
    test: Table,
    train: Table,
    filled: np.ndarray,
    hidden: np.ndarray,
    place: int,
    fit: Fit | None,
    holed: Table,
) -> dict[str, Any]:
    """One model and column."""
    column, cells = test.schema[place], hidden[:, place]
    truth, drawn = test.values[cells, place], filled[:, cells, place]
    record: dict[str, Any] = {"model": name, "column": column.name, "kind": column.kind, "cells": int(cells.sum())}
    if column.kind in ("binary", "categorical"):
        probabilities = level_probabilities(fit, holed, column.name, cells, drawn, len(column.levels))
        chosen = probabilities[np.arange(len(truth)), truth.astype(int)]
        hit = probabilities.argmax(1) == truth
        return record | {"accuracy": float(hit.mean()), "log_loss": float(-np.log(np.maximum(chosen, 1e-12)).mean())}
    scale = float(np.nanstd(train.values[:, place])) or 1.0
    return record | numeric_scores(truth, drawn, scale)


def level_probabilities(
    fit: Fit | None, holed: Table, column: str, cells: np.ndarray, drawn: np.ndarray, levels: int
) -> np.ndarray:
    """From the density where there is one; from the draws, with one pseudo-draw, for the baseline."""
    if fit is not None and fit.traits.density != "none":
        return class_probabilities(fit, holed.take(cells), column)
    counts = np.stack([(drawn == level).sum(0) for level in range(levels)], 1) + 1.0 / levels
    return counts / counts.sum(1, keepdims=True)


def numeric_scores(truth: np.ndarray, drawn: np.ndarray, scale: float) -> dict[str, float]:
    low50, high50 = np.quantile(drawn, [0.25, 0.75], axis=0)
    low90, high90 = np.quantile(drawn, [0.05, 0.95], axis=0)
    return {
        "rmse": float(np.sqrt(((drawn.mean(0) - truth) ** 2).mean()) / scale),
        "crps": float(crps(drawn, truth).mean() / scale),
        "coverage50": float(((truth >= low50) & (truth <= high50)).mean()),
        "coverage90": float(((truth >= low90) & (truth <= high90)).mean()),
        "width90": float((high90 - low90).mean() / scale),
    }


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    r"""Continuous ranked probability score of each cell from its draws, the fair estimator (Ferro, 2014).

    .. math:: \frac1m \sum_i |x_i - y| - \frac1{2 m (m - 1)} \sum_{i,j} |x_i - x_j|
    """
    m = len(draws)
    ordered = np.sort(draws, axis=0)
    weight = (2 * np.arange(1, m + 1) - m - 1)[:, None]
    spread = (weight * ordered).sum(0) / (m * (m - 1)) if m > 1 else 0.0
    return np.abs(draws - truth).mean(0) - spread


def overall(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all columns: root mean square of RMSE, means of the rest, each cell counted once."""

    def pooled(key: str, power: int = 1) -> float:
        found = [(row[key] ** power, row["cells"]) for row in rows if key in row]
        if not found:
            return float("nan")
        values, sizes = np.array(found).T
        return float(np.average(values, weights=sizes) ** (1 / power))

    keys = ("crps", "coverage50", "coverage90", "width90", "accuracy", "log_loss")
    cells = sum(row["cells"] for row in rows)
    return {"model": name, "rmse": pooled("rmse", 2), **{key: pooled(key) for key in keys}, "cells": cells}
