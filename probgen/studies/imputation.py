"""How well are holes filled? Hide known cells, fill them in, look at what was hidden."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.missing import ampute
from probgen.data.schema import Column
from probgen.data.table import Table
from probgen.errors import DataError, FitError
from probgen.studies.comparison import Difference, share_with_error
from probgen.studies.scoring import crps, intervals, log_loss, pit
from probgen.studies.training import Models, fit_all, recipes, said

__all__ = ["BASELINE", "CellScores", "ImputationScore", "ImputationStudy", "imputation_study", "score_filling"]

BASELINE = "column by itself"
"""Label of the baseline: a cell's distribution is that of its column, whatever the row says."""

LEVELS = (0.5, 0.9)


@dataclass(frozen=True, eq=False)
class CellScores:
    """One model's answers for the hidden cells, one entry a cell.

    Attributes:
        row: place in the table; rows of later repeats are counted on.
        column: place of the column.
        numeric: False for discrete cells.
        error: squared error of the mean of the draws, in the column's standard deviations (numeric cells).
        crps: in the column's standard deviations (numeric cells).
        inside, width: by level, whether the interval holds the truth, and its standardised width (numeric cells).
        pit: rank of the truth among the draws (numeric cells).
        right, log_loss: of the most probable level, of the true level (discrete cells).
    """

    row: np.ndarray
    column: np.ndarray
    numeric: np.ndarray
    error: np.ndarray
    crps: np.ndarray
    inside: dict[float, np.ndarray]
    width: dict[float, np.ndarray]
    pit: np.ndarray
    right: np.ndarray
    log_loss: np.ndarray

    def subset(self, chosen: np.ndarray) -> CellScores:
        """Some cells."""
        return self.each(lambda values: values[chosen])

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> CellScores:
        """The same change to every array."""
        changed = {
            key: {level: change(v) for level, v in value.items()} if isinstance(value, dict) else change(value)
            for key, value in vars(self).items()
        }
        return CellScores(**changed)


@dataclass(frozen=True)
class ImputationScore:
    """One model, over all cells or over those of one column. Numbers are NaN where there are no such cells.

    Attributes:
        model: label.
        column: name; "" for all columns together.
        cells: that were hidden and filled.
        rmse: of the mean of the draws, in the columns' standard deviations.
        crps: mean, in the columns' standard deviations.
        crps_se: its standard error, rows as units.
        coverage, width: of the central intervals, by level; widths in standard deviations.
        accuracy: of the most probable level.
        log_loss: of the true level, nats.
        log_loss_se: its standard error, rows as units.
        crps_gain, log_loss_gain: paired difference to the baseline; negative is better than the baseline.
    """

    model: str
    column: str
    cells: int
    rmse: float
    crps: float
    crps_se: float
    coverage: dict[float, float]
    width: dict[float, float]
    accuracy: float
    log_loss: float
    log_loss_se: float
    crps_gain: Difference
    log_loss_gain: Difference


@dataclass(frozen=True, eq=False)
class ImputationStudy:
    """Scores of filled cells.

    Attributes:
        scores: one entry a model over all columns, best first, the baseline among them.
        columns: one entry a model and column.
        cells: label -> scores cell by cell.
        failures: label -> why there is no score.
        fraction: share of the known cells that was hidden.
        mechanism: how they were chosen.
        draws: a cell.
    """

    scores: tuple[ImputationScore, ...]
    columns: tuple[ImputationScore, ...]
    cells: dict[str, CellScores]
    failures: dict[str, str] = field(default_factory=dict)
    fraction: float = 0.2
    mechanism: str = "mcar"
    draws: int = 50

    @property
    def best(self) -> str:
        """The label of the best model, the baseline left out."""
        return next(s.model for s in self.scores if s.model != BASELINE)

    def score(self, model: str, column: str = "") -> ImputationScore:
        """The entry of a model, over all columns or for one."""
        return next(s for s in (*self.scores, *self.columns) if (s.model, s.column) == (model, column))

    def __str__(self) -> str:
        width = max(len(s.model) for s in self.scores)
        lines = [f"{'model':{width}}   RMSE   CRPS   50 %   90 %  accuracy  log loss"]
        lines += [
            f"{s.model:{width}} {s.rmse:6.3f} {s.crps:6.3f} {s.coverage[0.5]:6.2f} {s.coverage[0.9]:6.2f}"
            f" {s.accuracy:9.3f} {s.log_loss:9.3f}"
            for s in self.scores
        ]
        return "\n".join(lines + [f"{name}: {why}" for name, why in self.failures.items()])


def imputation_study(
    table: Any,
    models: Models = None,
    *,
    fraction: float = 0.2,
    repeats: int = 1,
    draws: int = 50,
    mechanism: str = "mcar",
    seed: int = 0,
    fast: bool = False,
    fits: Mapping[str, Any] | None = None,
    reference: Table | None = None,
    tell: Callable[[str], None] | None = None,
) -> ImputationStudy:
    """Hide known cells at random, fill them, and score what comes back.

    Models are fitted to the table with its holes, as a user would, unless ``fits`` are given.

    Args:
        table: a Table, or what a Table can be made of; its own holes stay holes and are not scored.
        models: as in :func:`density_study`.
        fraction: of the known cells to hide.
        repeats: other cells are hidden each time.
        draws: completed tables a model; at least 2.
        mechanism: "mcar", "mar" or "mnar", see :func:`probgen.ampute`.
        seed: of the holes, the fits and the draws.
        fast: fewer steps and restarts.
        fits: models that are fitted already, to other rows.
        reference: the rows from which the baseline knows the columns, where ``fits`` are given.
        tell: called with a label before each fit.

    Reference: van Buuren (2018), Flexible Imputation of Missing Data; Gneiting and Raftery (2007).
    """
    if draws < 2:
        raise DataError(f"draws must be at least 2, got {draws}.")
    source = table if isinstance(table, Table) else Table(table)
    made = {} if fits is not None else recipes(models, seed=seed, fast=fast)
    parts: dict[str, list[CellScores]] = {}
    failures: dict[str, str] = {}
    for repeat in range(repeats):
        holed, hidden = ampute(source, fraction, mechanism, seed=seed + repeat)
        ready, failed = (dict(fits), {}) if fits is not None else fit_all(made, holed, tell)
        failures.update(failed)
        known = holed if reference is None else reference
        found, failed = score_filling(ready, holed, source, hidden, known, draws, seed + repeat)
        failures.update(failed)
        for name, scores in found.items():
            shift = repeat * len(source)
            moved = CellScores(**{**vars(scores), "row": scores.row + shift})
            parts.setdefault(name, []).append(moved)
    cells = {name: joined(p) for name, p in parts.items() if len(p) == repeats}
    return finished(cells, source, failures, fraction, mechanism, draws)


def finished(
    cells: dict[str, CellScores],
    table: Table,
    failures: dict[str, str],
    fraction: float,
    mechanism: str,
    draws: int,
) -> ImputationStudy:
    """Summaries over all columns and column by column."""
    if set(cells) <= {BASELINE}:
        reasons = "; ".join(f"{name}: {message}" for name, message in failures.items())
        raise FitError(f"No model could fill the holes. {reasons}")
    base = cells[BASELINE]
    whole = [summarise(name, "", found, base) for name, found in cells.items()]
    columns = [
        summarise(name, column, found.subset(found.column == d), base.subset(base.column == d))
        for d, column in enumerate(table.names)
        if (base.column == d).any()
        for name, found in cells.items()
    ]
    return ImputationStudy(
        tuple(sorted(whole, key=badness)), tuple(columns), cells, failures, fraction, mechanism, draws
    )


def badness(score: ImputationScore) -> float:
    """CRPS and log loss relative to the baseline, each with the weight of its cells."""
    return float(
        np.nansum([score.crps_gain.mean * score.crps_gain.n, score.log_loss_gain.mean * score.log_loss_gain.n])
    )


def score_filling(
    fits: Mapping[str, Any],
    holed: Table,
    truth: Table,
    hidden: np.ndarray,
    reference: Table,
    draws: int,
    seed: int,
) -> tuple[dict[str, CellScores], dict[str, str]]:
    """Scores by label, the baseline first; models that cannot fill are in the second mapping.

    Args:
        fits: label -> fit.
        holed: the table with holes.
        truth: the table without the extra holes.
        hidden: ``(N, D)`` mask of the cells to score.
        reference: rows from which the baseline knows the columns.
        draws: completed tables.
        seed: of the draws.
    """
    row, at = np.nonzero(hidden)
    y = truth.values[row, at]
    scale = standard_deviations(truth)
    found = {BASELINE: baseline(reference, truth, row, at, y, scale, draws, seed)}
    failures = {}
    for name, fit in fits.items():
        try:
            x = np.stack([filled.values[row, at] for filled in fit.fill(holed, draws, seed=seed)])
            probabilities = level_probabilities(fit, holed, row, at, x)
            found[name] = score_cells(truth, row, at, y, x, x.mean(0), probabilities, scale)
        except Exception as error:
            failures[name] = said(error)
    return found, failures


def standard_deviations(table: Table) -> np.ndarray:
    """``(D,)``, of the known cells; 1 where a column has no spread."""
    with np.errstate(invalid="ignore"):
        sd = np.array([np.std(column[~np.isnan(column)]) for column in table.values.T])
    return np.where(np.isfinite(sd) & (sd > 0), sd, 1.0)


def baseline(
    reference: Table,
    truth: Table,
    row: np.ndarray,
    at: np.ndarray,
    y: np.ndarray,
    scale: np.ndarray,
    draws: int,
    seed: int,
) -> CellScores:
    """Draws from each column's known cells; their mean; the shares of the levels."""
    rng = np.random.default_rng([seed, 1])
    x, point, shares = np.empty((draws, len(y))), np.empty(len(y)), {}
    for d in np.unique(at):
        cells = at == d
        known = reference.values[reference.known[:, d], d]
        x[:, cells] = rng.choice(known, size=(draws, int(cells.sum())))
        point[cells] = known.mean()
        if reference.schema[int(d)].is_discrete:
            counts = np.bincount(known.astype(int), minlength=reference.schema[int(d)].cardinality)
            p = (counts + 1 / len(counts)) / (len(known) + 1)
            shares[int(d)] = np.tile(p, (int(cells.sum()), 1))
    return score_cells(truth, row, at, y, x, point, shares, scale)


def level_probabilities(
    fit: Any, holed: Table, row: np.ndarray, at: np.ndarray, draws: np.ndarray
) -> dict[int, np.ndarray]:
    """Column -> ``(cells, levels)``: by the density where it is exact, else shares of the draws."""
    found = {}
    exact = getattr(getattr(fit, "traits", None), "density", "none") == "exact"
    for d in np.unique(at):
        column = holed.schema[int(d)]
        if not column.is_discrete:
            continue
        cells = np.flatnonzero(at == d)
        if exact:
            from probgen.queries import class_probabilities

            found[int(d)] = class_probabilities(fit, holed.take(row[cells]), column.name)
        else:
            found[int(d)] = shares_of_draws(draws[:, cells], column)
    return found


def shares_of_draws(draws: np.ndarray, column: Column) -> np.ndarray:
    """``(cells, levels)`` shares, with one pseudo-draw spread over the levels so that none is zero."""
    levels = column.cardinality
    counts = np.stack([(draws == code).sum(0) for code in range(levels)], 1)
    return (counts + 1 / levels) / (len(draws) + 1)


def score_cells(
    truth: Table,
    row: np.ndarray,
    at: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    point: np.ndarray,
    probabilities: dict[int, np.ndarray],
    scale: np.ndarray,
) -> CellScores:
    """All scores of one model, cell by cell."""
    numeric = np.array([not truth.schema[int(d)].is_discrete for d in at], dtype=bool)
    sd = scale[at]
    right, loss = np.full(len(y), np.nan), np.full(len(y), np.nan)
    for d, p in probabilities.items():
        cells = np.flatnonzero(at == d)
        codes = y[cells].astype(int)
        right[cells], loss[cells] = p.argmax(1) == codes, log_loss(p, codes)
    bands = {level: intervals(x, level) for level in LEVELS}
    return CellScores(
        row=row,
        column=at,
        numeric=numeric,
        error=np.where(numeric, np.square((point - y) / sd), np.nan),
        crps=np.where(numeric, crps(x, y) / sd, np.nan),
        inside={q: np.where(numeric, (lo <= y) & (y <= hi), np.nan) for q, (lo, hi) in bands.items()},
        width={q: np.where(numeric, (hi - lo) / sd, np.nan) for q, (lo, hi) in bands.items()},
        pit=np.where(numeric, pit(x, y), np.nan),
        right=right,
        log_loss=loss,
    )


def joined(parts: list[CellScores]) -> CellScores:
    """The cells of all repeats."""
    arrays = [vars(part) for part in parts]
    made: dict[str, Any] = {}
    for key, value in arrays[0].items():
        if isinstance(value, dict):
            made[key] = {q: np.concatenate([a[key][q] for a in arrays]) for q in value}
        else:
            made[key] = np.concatenate([a[key] for a in arrays])
    return CellScores(**made)


def summarise(name: str, column: str, cells: CellScores, base: CellScores) -> ImputationScore:
    """Means over cells, with errors that count rows, not cells."""
    numeric, discrete = cells.numeric, ~cells.numeric
    crps_mean, crps_se = by_rows(cells.crps, cells.row, numeric)
    loss, loss_se = by_rows(cells.log_loss, cells.row, discrete)
    return ImputationScore(
        model=name,
        column=column,
        cells=len(cells.row),
        rmse=float(np.sqrt(mean_of(cells.error[numeric]))),
        crps=crps_mean,
        crps_se=crps_se,
        coverage={q: mean_of(v[numeric]) for q, v in cells.inside.items()},
        width={q: mean_of(v[numeric]) for q, v in cells.width.items()},
        accuracy=mean_of(cells.right[discrete]),
        log_loss=loss,
        log_loss_se=loss_se,
        crps_gain=gain(cells.crps - base.crps, cells.row, numeric),
        log_loss_gain=gain(cells.log_loss - base.log_loss, cells.row, discrete),
    )


def mean_of(values: np.ndarray) -> float:
    """The mean; NaN of nothing."""
    return float(values.mean()) if len(values) else float("nan")


def by_rows(values: np.ndarray, row: np.ndarray, chosen: np.ndarray) -> tuple[float, float]:
    """Mean over the chosen cells, and its error with whole rows as units."""
    if not chosen.any():
        return float("nan"), float("nan")
    rows = int(row.max()) + 1
    sums = np.bincount(row[chosen], weights=values[chosen], minlength=rows)
    return share_with_error(sums, np.bincount(row[chosen], minlength=rows).astype(float))


def gain(difference: np.ndarray, row: np.ndarray, chosen: np.ndarray) -> Difference:
    """Paired difference over cells; its error with whole rows as units."""
    return Difference(*by_rows(difference, row, chosen), n=int(chosen.sum()))
