"""Discriminative or generative? A hidden column told by joint densities, by a density a class, and by methods that learn nothing but the target.

Which is better with how many rows is the question of Ng and Jordan (2002). Here holes are added to it: a density integrates them out, the others need them filled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from probgen.data.missing import ampute
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, FitError
from probgen.inference.runtime import seed_of
from probgen.studies.baselines import BASELINES
from probgen.studies.classification import reliability
from probgen.studies.paired import Paired, paired
from probgen.studies.prediction_checks import check_sizes, checked
from probgen.studies.prediction_scores import Answer, answer_scores, area_under_risk, risk_coverage
from probgen.studies.predictors import (
    Cell,
    Tried,
    attempted,
    judged_baseline,
    judged_model,
    shares_alone,
    stacked,
    tempered,
)

__all__ = ["PredictionStudy", "prediction_study"]

Key = tuple[str, int, float, int]  # method, rows, share of holes, repeat


@dataclass(frozen=True, eq=False)
class PredictionStudy:
    """How well a hidden target is told, by method, rows learnt from, and holes.

    Attributes:
        target: the column.
        levels: its labels; none for numbers.
        records: one a (method, rows, holes, repeat): ``family``, and the scores: of levels ``log_loss``, ``accuracy``, ``brier``, ``ece``, ``adaptive_ece``, ``classwise_ece``;
            of numbers ``log_loss`` (minus the log density, nats in the target's units), ``rmse``, ``crps`` and ``coverage90``. ``held_out`` is the log loss by cross-validation
            among the rows learnt from, ``setting`` what it chose.
        families: method -> "generative", "discriminative" or "none".
        answers: (method, rows, holes, repeat) -> probabilities ``(N, L)``, or a forecast of numbers.
        truth: repeat -> codes or values of the test rows.
        unlabelled: rows without a label that models learnt from beside the others.
        failures: "method, rows, holes, repeat" -> message.
    """

    target: str
    levels: tuple
    records: list[dict[str, Any]]
    families: dict[str, str]
    answers: dict[Key, Answer]
    truth: dict[int, np.ndarray]
    unlabelled: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """Names, in the order in which they were tried."""
        return list(self.families)

    @property
    def rows(self) -> list[int]:
        """Numbers of rows learnt from."""
        return sorted({record["rows"] for record in self.records})

    @property
    def holes(self) -> list[float]:
        """Shares of the features' cells that were hidden."""
        return sorted({record["holes"] for record in self.records})

    def values(
        self, method: str, measure: str = "log_loss", rows: int | None = None, holes: float | None = None
    ) -> np.ndarray:
        """``(repeats,)`` of one measure; with the most rows and the most holes unless told.

        Raises:
            CapabilityError: a method, measure, number of rows or share of holes that the study does not have.
        """
        return np.array(list(self.by_repeat(method, measure, rows, holes).values()))

    def by_repeat(self, method: str, measure: str, rows: int | None, holes: float | None) -> dict[int, float]:
        """One measure, of the repeats in which the method got to an answer."""
        rows, holes = self.rows[-1] if rows is None else rows, self.holes[-1] if holes is None else holes
        cells = [r for r in self.records if (r["method"], r["rows"], r["holes"]) == (method, rows, holes)]
        found = {record["repeat"]: record[measure] for record in cells if measure in record}
        if not found:
            have = f"methods {', '.join(self.methods)}; rows {self.rows}; holes {self.holes}"
            raise CapabilityError(
                f"The study has no {measure!r} of {method!r} with {rows} rows and {holes} holes; it has {have}."
            )
        return found

    def curve(
        self, method: str, measure: str = "log_loss", holes: float | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows learnt from, and at each the mean of a measure over repeats with its standard error."""
        share = self.holes[-1] if holes is None else holes
        have = {(r["method"], r["rows"], r["holes"]) for r in self.records}
        rows = [n for n in self.rows if (method, n, share) in have]
        found = [self.values(method, measure, n, share) for n in rows]
        errors = [v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else np.nan for v in found]
        return np.array(rows), np.array([v.mean() for v in found]), np.array(errors)

    def difference(
        self, one: str, other: str, measure: str = "log_loss", rows: int | None = None, holes: float | None = None
    ) -> Paired:
        """Mean of a measure of one method minus another's, paired over the repeats that both have, with its standard error.

        Raises:
            CapabilityError: as of ``values``, or no repeat in which both got to an answer.
        """
        first, second = (self.by_repeat(name, measure, rows, holes) for name in (one, other))
        both = [repeat for repeat in first if repeat in second]
        if not both:
            raise CapabilityError(f"There is no repeat with answers of both {one!r} and {other!r}; see failures.")
        return paired(*(np.array([own[repeat] for repeat in both]) for own in (first, second)))

    def pooled(
        self, method: str, rows: int | None = None, holes: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities and true codes of the test rows of all repeats."""
        if not self.levels:
            raise CapabilityError(f"{self.target!r} is a number; confidence and abstention are of levels.")
        self.values(method, "log_loss", rows, holes)  # refuses what there is not
        rows, holes = self.rows[-1] if rows is None else rows, self.holes[-1] if holes is None else holes
        parts = [r for r in self.truth if (method, rows, holes, r) in self.answers]
        p = np.concatenate([np.asarray(self.answers[method, rows, holes, r]) for r in parts])
        return p, np.concatenate([self.truth[r] for r in parts]).astype(int)

    def reliability(self, method: str, rows: int | None = None, holes: float | None = None) -> list[dict[str, float]]:
        """Bins of confidence with the share that was right, over all repeats."""
        return reliability(*self.pooled(method, rows, holes))

    def abstention(self, method: str, rows: int | None = None, holes: float | None = None) -> dict[str, Any]:
        """``coverage`` and ``risk``: the share of errors where only that share of the rows is answered, the most confident; ``area`` under it."""
        p, truth = self.pooled(method, rows, holes)
        coverage, risk = risk_coverage(p, truth)
        return {"coverage": coverage, "risk": risk, "area": area_under_risk(p, truth)}

    def __str__(self) -> str:
        shown = ("log_loss", "accuracy", "ece") if self.levels else ("log_loss", "rmse", "crps", "coverage90")
        lines = []
        for share in self.holes:
            lines.append(f"{self.target}: {self.rows[-1]} rows, {share:.0%} of the features' cells unknown")
            lines.append(f"{'method':<30}" + "".join(f"{name:>20}" for name in shown))
            for method in self.methods:
                cells = [self.curve(method, name, share) for name in shown]
                if len(cells[0][0]) and cells[0][0][-1] == self.rows[-1]:
                    lines.append(f"{method:<30}" + "".join(f"{f'{m[-1]:.3f} ± {e[-1]:.3f}':>20}" for _, m, e in cells))
        return "\n".join(lines + [f"{name} failed: {message}" for name, message in self.failures.items()])


def prediction_study(
    table: Any,
    target: str,
    models: Mapping[str, Mapping[str, Any]] | Sequence[str] | None = None,
    baselines: Sequence[str] | None = None,
    *,
    rows: Sequence[int] = (50, 100, 200),
    holes: Sequence[float] = (0.0, 0.2, 0.5),
    repeats: int = 3,
    test_fraction: float = 0.3,
    folds: int = 3,
    unlabelled: int = 0,
    draws: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> PredictionStudy:
    """Tell a hidden column by generative models and by discriminative baselines, with growing rows and growing holes.

    Each repeat keeps other rows for the test. Holes are made completely at random (:func:`probgen.ampute`) in the features of all rows, those of the test too; fewer rows are the
    first of more. Every method has the same folds of the same rows: baselines choose their settings by them, and of each family there is one method "chosen" and one
    "stacked" (a weighted mean of distributions), by the held-out log density of the target. The test rows are asked once.

    Args:
        table: a Table or anything one can be made of; rows whose target is unknown are left out.
        target: levels are classified, numbers regressed.
        models: names, or a mapping from names to options; ``model=`` is the registered name where the key is not, ``by_class=True`` fits one a class
            (:func:`probgen.class_conditional`). Where None, some that are fitted in about a second.
        baselines: of :data:`probgen.studies.baselines.BASELINES`, of scikit-learn; all where None. What needs numbers gets the holes filled by a chain of ridge regressions
            (``IterativeImputer``), levels as indicators, positive columns by their logarithm; "gradient_boosting" reads holes itself, "gradient_boosting_mean" has means and
            most frequent levels in their place. Around a number stands a normal distribution as wide as held-out errors.
        rows: numbers of rows to learn from.
        holes: shares of the features' cells to hide.
        repeats: splits.
        test_fraction: share of the rows that each split keeps for the test.
        folds: of cross-validation.
        unlabelled: rows without a label that models may learn from, too. Baselines have them for filling holes.
        draws: of every hidden number.
        seed: everything random comes from it.
        progress: show a bar.

    Raises:
        CapabilityError: a model, baseline or option that there is not; scikit-learn is not installed; a target in sequences.
        DataError: too few rows, or a target of one level or value.
    """
    source, candidates, chosen = checked(table, target, models, baselines)
    check_sizes(source, rows, holes, repeats, test_fraction, folds, unlabelled, draws)
    found = PredictionStudy(target, tuple(source.schema[target].levels), [], {}, {}, {}, unlabelled)
    cells = [(r, share, n) for r in range(repeats) for share in holes for n in rows]
    for which in tqdm(cells, desc="prediction", disable=not progress):
        cell = cell_of(source, target, which, test_fraction, folds, unlabelled, draws, seed)
        try_all(found, cell, which, candidates, chosen)
    if not any(family == "generative" for family in found.families.values()) and candidates:
        raise FitError("Every model failed: " + "; ".join(f"{k}: {v}" for k, v in found.failures.items()))
    return found


def try_all(
    found: PredictionStudy,
    cell: Cell,
    which: tuple[int, float, int],
    candidates: Mapping[str, dict[str, Any]],
    chosen: Sequence[str],
) -> None:
    """Put every method of one cell into the study, or why it failed."""
    repeat, share, n = which
    found.truth[repeat] = cell.label[cell.test]
    alone = shares_alone(cell)
    for family in (
        {name: partial(judged_model, cell, name, options) for name, options in candidates.items()},
        {name: partial(judged_baseline, cell, name, BASELINES[name]) for name in chosen},
    ):
        ready: list[Tried] = []
        for name, judged in family.items():
            tried = attempted(cell, judged)
            if isinstance(tried, str):
                found.failures[f"{name}, {n} rows, {share:.0%} holes, repeat {repeat}"] = tried
            else:
                ready.append(tempered(cell, tried))
        for one in [*ready, *(stacked(cell, ready, alone) if len(ready) > 1 else [])]:
            record(found, cell, one, which)
    record(found, cell, alone, which)


def record(found: PredictionStudy, cell: Cell, tried: Tried, which: tuple[int, float, int]) -> None:
    """Put the scores of one method into the study."""
    repeat, holes, rows = which
    truth = found.truth[repeat]
    raw = {} if tried.raw is None else answer_scores(tried.raw, truth)
    found.families[tried.name] = tried.family
    found.answers[tried.name, rows, holes, repeat] = tried.answer
    found.records.append({
        "method": tried.name, "family": tried.family, "rows": rows, "holes": holes, "repeat": repeat, **answer_scores(tried.answer, truth),
        **{f"raw_{name}": raw[name] for name in ("log_loss", "brier", "ece") if name in raw},
        "held_out": float(-tried.held_out(cell).mean()), "setting": tried.setting,
    })  # fmt: skip


def cell_of(
    source: Table,
    target: str,
    which: tuple[int, float, int],
    test_fraction: float,
    folds: int,
    unlabelled: int,
    draws: int,
    seed: int,
) -> Cell:
    """The rows of one cell: a test that does not depend on it, holes that do not depend on how many rows are learnt from."""
    repeat, share, n = which
    table = source
    if share:
        features = [name for name in source.names if name != target]
        table = ampute(source, share, columns=features, seed=seed_of(seed, "holes", share, repeat) % 2**31)[0]
    order = shuffled(source, target, seed_of(seed, "split", repeat) % 2**31)
    kept = round(test_fraction * len(source))
    learn, extra = order[kept : kept + n], order[kept + n : kept + n + unlabelled]
    known = source.values[learn, source.schema.index(target)]
    if len(np.unique(known)) < 2:
        raise DataError(f"All {n} rows to learn from have one value of {target!r}; give more of them in rows=.")
    return Cell(table, target, learn, extra, order[:kept], folds, draws, seed_of(seed, "cell", *which))


def shuffled(source: Table, target: str, seed: int) -> np.ndarray:
    """Places in a random order over which the levels are spread evenly."""
    order = np.random.default_rng(seed).permutation(len(source))
    if not source.schema[target].is_discrete:
        return order
    label = source.values[order, source.schema.index(target)]
    place = np.empty(len(order))
    for level in np.unique(label):
        own = np.flatnonzero(label == level)
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
    return order[np.argsort(place, kind="stable")]
