r"""Which rows do not belong, how sure that is, and which of their cells are odd given the others.

==============  ==================================================================================================
score           of a row
==============  ==================================================================================================
``surprise``    :math:`-\log p(x)`
``typicality``  its distance from the mean surprise of rows in order: rows may be too likely (Nalisnick et al., 2019)
``cells``       the largest excess of a cell's :math:`-\log p(x_j \mid x_{-j})` over that column's usual one
``ratio``       :math:`\log p_0(x) - \log p(x)` with a background model :math:`p_0` (Ren et al., 2019)
``complexity``  :math:`-\log p(x) - L(x)`, L the nats that compressors need for its pictures (Serrà et al., 2020)
==============  ==================================================================================================
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from probgen.data.native import from_mapping
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, ProbgenError
from probgen.inference.runtime import seed_of
from probgen.queries import Fit
from probgen.studies.anomaly_scores import SCORES, Parts, Scored, compared, expected, written
from probgen.studies.conformal import area_under_curve, false_discoveries_held
from probgen.studies.models import Models, check_options, fit_models, settings_of
from probgen.studies.surprise import description_length

__all__ = ["AnomalyStudy", "Explanation", "anomaly_study"]

WIDE = 64  # columns up to which all cells are looked at where nothing is asked
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a row is odd, cell by cell, the oddest first.

    Attributes:
        row: its place among those asked about.
        p_value: of the row.
        cells: one record a known cell: column, value, ``excess`` (nats that it is more surprising, given the others, than such cells usually are), its
            ``p_value`` among the same column's, and what was ``expected`` there.
    """

    row: int
    p_value: float
    cells: list[dict[str, Any]]

    def __str__(self) -> str:
        lines = [
            f"row {self.row}, p = {self.p_value:.3g}",
            f"{'column':<20}{'value':>14}{'excess nats':>13}{'p':>8}  expected",
        ]
        for cell in self.cells:
            value = written(cell["value"])
            lines.append(
                f"{cell['column']:<20}{value:>14}{cell['excess']:>13.2f}{cell['p_value']:>8.3f}  {cell['expected']}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class AnomalyStudy:
    """Scores of rows, larger ones odder, and their conformal p-values.

    Attributes:
        rows: those asked about.
        models: names.
        scores: (model, score) -> ``(N,)``.
        calibration: (model, score) -> scores of rows in order that the model has not seen.
        p_values: (model, score) -> ``(N,)``.
        cells: model -> ``(N, D)`` excess surprise of cells in nats, NaN where unknown; where "cells" is asked for.
        cell_p_values: model -> ``(N, D)``.
        kind: model -> the kinds of its log densities; only exact ones make differences that are conditional densities.
        truth: ``(N,)`` which rows are odd, where that is known.
        fits: model -> its fits: one, or one a fold where the table's own rows are asked about.
        fold: ``(N,)`` which of them scored each row.
        own: whether the rows asked about are the table's own: their p-values are ranks among themselves, and accuse nobody.
        failures: model -> message.
    """

    rows: Table
    models: list[str]
    scores: dict[tuple[str, str], np.ndarray]
    calibration: dict[tuple[str, str], np.ndarray]
    p_values: dict[tuple[str, str], np.ndarray]
    cells: dict[str, np.ndarray]
    cell_p_values: dict[str, np.ndarray]
    kind: dict[str, str]
    truth: np.ndarray | None
    fits: dict[str, list[Fit]]
    fold: np.ndarray
    own: bool = False
    failures: dict[str, str] = field(default_factory=dict)

    def chosen(self, model: str | None, score: str | None) -> tuple[str, str]:
        """Keys of the dictionaries; the first model and score where none is named.

        Raises:
            CapabilityError: one that the study does not have.
        """
        found = next(
            (key for key in self.scores if model in (None, key[0]) and score in (None, key[1])), None
        )  # fmt: skip
        if found is None:
            have = ", ".join(f"{a} by {b}" for b, a in self.scores)
            raise CapabilityError(f"The study has no {score or 'score'} by {model or 'any model'}; it has {have}.")
        return found

    def flagged(self, level: float = 0.1, model: str | None = None, score: str | None = None) -> np.ndarray:
        """Places of the rows to report, the oddest first: on average at most this share of them is in order.

        One odd row among N needs a p-value of ``level / N``, and so N / ``level`` rows that it is compared with.

        Raises:
            CapabilityError: the table's own rows are asked about, of which nothing can be promised.
        """
        if self.own:
            raise CapabilityError(
                "Rows of the table itself are ranked among each other, which says which are oddest and not how many are wrong: see"
                " study.oddest(10), or keep rows that are in order apart and give the others as new=."
            )
        p = self.p_values[self.chosen(model, score)]
        held = np.flatnonzero(false_discoveries_held(p, level))
        return held[np.argsort(p[held], kind="stable")]

    def oddest(self, count: int = 10, model: str | None = None, score: str | None = None) -> np.ndarray:
        """Places of the rows with the highest scores, the oddest first."""
        return np.argsort(-self.scores[self.chosen(model, score)], kind="stable")[:count]

    def oddest_cell(self, model: str | None = None) -> np.ndarray:
        """``(N,)`` names of the columns whose cells are oddest given the others."""
        cells = self.cells[self.chosen(model, "cells")[0]]
        return np.asarray(self.rows.names)[np.where(np.isnan(cells), -np.inf, cells).argmax(1)]

    def explain(self, row: int, model: str | None = None, most: int = 8) -> Explanation:
        """Why a row is odd: its oddest cells, and what the model expects there given the others.

        Args:
            row: its place.
            model: the first where it is None.
            most: cells, at most.
        """
        key = self.chosen(model, "cells")
        if not 0 <= row < len(self.rows):
            raise CapabilityError(f"There is no row {row}; the study asks about rows 0 to {len(self.rows) - 1}.")
        name, one = key[0], self.rows.take([row])
        fit = self.fits[name][self.fold[row]]
        excess = self.cells[name][row]
        order = [at for at in np.argsort(-np.nan_to_num(excess, nan=-np.inf)) if not np.isnan(excess[at])][:most]
        told = one.to_pandas()
        records = [
            {
                "column": self.rows.names[at], "value": told[self.rows.names[at]].iloc[0], "excess": float(excess[at]),
                "p_value": float(self.cell_p_values[name][row, at]), "expected": expected(fit, one, at),
            } for at in order
        ]  # fmt: skip
        return Explanation(row, float(self.p_values[key][row]), records)

    def records(self) -> list[dict[str, Any]]:
        """One a model and score: rows reported at one in ten false ones, and, where the truth is known, the area under the curve."""
        found = []
        for (model, score), values in self.scores.items():
            line: dict[str, Any] = {
                "model": model,
                "score": score,
                "reported": None if self.own else len(self.flagged(0.1, model, score)),
                "kind": self.kind[model],
            }
            if self.truth is not None:
                line["auc"] = area_under_curve(self.truth, values)
            found.append(line)
        return found

    def to_pandas(self) -> Any:
        """One line a row asked about: scores and p-values."""
        columns = {f"{m} {s}": v for (m, s), v in self.scores.items()}
        return from_mapping(columns | {f"{m} {s} p": v for (m, s), v in self.p_values.items()})

    def __str__(self) -> str:
        lines = [
            f"{'model':<28}{'score':<14}{'reported':>9}" + (f"{'AUC':>8}" if self.truth is not None else "") + "  kind"
        ]
        for s in self.records():
            auc = f"{s['auc']:>8.3f}" if "auc" in s else ""
            lines.append(
                f"{s['model']:<28}{s['score']:<14}{'-' if s['reported'] is None else s['reported']:>9}{auc}  {s['kind']}"
            )
        return "\n".join([*lines, *self.notes()])

    def notes(self) -> list[str]:
        """What a reader has to know: p-values that cannot be small enough, models that failed."""
        told = [f"{name} failed: {message}" for name, message in self.failures.items()]
        least = 1 / (1 + len(next(iter(self.calibration.values()))))
        if not self.own and least > 0.1 / len(self.rows):
            told.append(
                f"The least possible p-value is {least:.3g}: to report one row of {len(self.rows)} at 0.1 takes {10 * len(self.rows)} rows to compare"
                " with; see study.oddest(), or raise calibration or the level."
            )
        return told


def anomaly_study(
    table: Any,
    new: Any = None,
    models: Models = ("gaussian_mixture",),
    *,
    scores: Sequence[str] | None = None,
    background: str | Fit | None = None,
    truth: Any = None,
    calibration: float = 0.3,
    target: str | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> AnomalyStudy:
    """Fit models to rows that are in order, and say which others are not, by the scores above.

    A share of the rows is not shown to the models: conformal p-values compare scores with theirs, and are valid whatever the models, if those rows and a new
    one in order are exchangeable, holes included; weights of rows do not count there. Where there are no new rows, the table's own are asked about: each is scored by a
    model that has seen four fifths of the others and is ranked among all, which tells the oddest, and not how many are wrong.

    Args:
        table: rows in order (or nearly all of them).
        new: rows asked about, with the same columns; None for the table's own.
        models: names, or a mapping from names to their options.
        scores: names; "surprise" and "typicality" where it is None, "cells" too up to 64 columns.
        background: a model's name, or a fit to other rows than these, for "ratio".
        truth: of the rows asked about, which are odd (True or False, 1 or 0); for the areas under the curves alone.
        calibration: share of the table that is not shown to the models.
        target: for models that need a labelled column.
        seed: of the split and the fits.
        progress: whether fits show theirs.
        **options: given to every model that accepts them.

    Raises:
        CapabilityError: an unknown score, "ratio" without a background.
        DataError: new rows with other columns, a truth of another length, or too few rows.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> new = np.r_[rng.normal(size=(20, 3)), [[9.0, 0.0, 0.0]]]
        >>> found = anomaly_study(rng.normal(size=(1000, 3)), new, components=1, progress=False)
        >>> found.flagged().tolist(), str(found.oddest_cell()[20])
        ([20], 'x0')
    """
    source = table if isinstance(table, Table) else Table(table)
    source.check_for_fit()
    rows, known = asked_about(new, source, truth)
    wanted = checked(scores, source, background, calibration, new is None)
    check_options(options, settings_of(models, source))
    fitting = Fitting(models, background, target, seed, progress, options)
    found = AnomalyStudy(rows, [], {}, {}, {}, {}, {}, {}, known, {}, np.zeros(len(rows), dtype=int), new is None)
    if new is None:
        across(found, source, wanted, fitting)
    else:
        beside(found, source.split(1 - calibration, calibration, seed=seed), wanted, fitting)
    if not found.models:
        raise CapabilityError("; ".join(f"{name}: {message}" for name, message in found.failures.items()))
    return found


@dataclass(frozen=True)
class Fitting:
    """How models, and the one in the background, are fitted."""

    models: Models
    background: str | Fit | None
    target: str | None
    seed: int
    progress: bool
    options: Mapping[str, Any]

    def to(self, part: Table, number: int, failures: dict[str, str]) -> tuple[dict[str, Fit], Fit | None]:
        """Fits to some rows, and the background's; why others failed goes into ``failures``."""
        how: dict[str, Any] = {
            "target": self.target, "progress": self.progress, "seed": seed_of(self.seed, "anomalies", number) % 2**31,
        }  # fmt: skip
        fits, unable = fit_models(part, self.models, options=self.options, **how)
        failures.update(unable)
        if isinstance(self.background, str):
            return fits, fit_models(part, [self.background], **how)[0][self.background]
        return fits, self.background


def asked_about(new: Any, source: Table, truth: Any) -> tuple[Table, np.ndarray | None]:
    """The rows, read by the schema of others, and which of them are odd."""
    rows = source if new is None else new if isinstance(new, Table) else Table(new, schema=source.schema)
    if (rows.lengths is None) != (source.lengths is None):
        raise DataError("New rows must stand in sequences where those learnt from do, and alone where they do.")
    if rows.names != source.names:
        raise DataError(
            f"New rows must have the columns {', '.join(source.names[:8])}; got {', '.join(rows.names[:8])}."
        )
    if truth is None:
        return rows, None
    given = np.asarray(truth)
    if given.dtype != bool:
        wrong = [at for at, value in enumerate(given.ravel().tolist()) if value not in (0, 1)]
        if wrong:
            raise DataError(
                f"truth must be True or False, 1 or 0; row {wrong[0]} has {given.ravel().tolist()[wrong[0]]!r}."
            )
    known = given.astype(bool)
    if known.shape != (len(rows),):
        raise DataError(f"truth must say of each of the {len(rows)} rows whether it is odd, got shape {known.shape}.")
    return rows, known


def checked(
    scores: Sequence[str] | None, table: Table, background: Any, calibration: float, own: bool
) -> tuple[str, ...]:
    """Names of scores that can be had."""
    if not 0 < calibration < 1 or round(calibration * len(table)) < 1 or len(table) < FOLDS:
        raise DataError(
            f"calibration={calibration} of {len(table)} rows leaves nothing to compare with, or to learn from."
        )
    if background is not None and not isinstance(background, str | Fit):
        raise CapabilityError(f"background must be a model's name or a fit, got {background!r}.")
    if own and table.lengths is not None:
        raise CapabilityError(
            "Sequences are compared with others: give those asked about as new=, or see pg.step_surprise."
        )
    if scores is None:
        wanted = ["surprise", "typicality"]
        if table.n_columns <= WIDE and table.n_columns > 1 and table.lengths is None:
            wanted.append("cells")
        return (*wanted, "ratio") if background is not None else tuple(wanted)
    wanted = [scores] if isinstance(scores, str) else list(scores)
    unknown = [name for name in wanted if name not in SCORES]
    if unknown or not wanted:
        raise CapabilityError(f"scores must be some of {', '.join(map(repr, SCORES))}, got {unknown or scores!r}.")
    if "ratio" in wanted and background is None:
        raise CapabilityError(
            "The score 'ratio' compares with a background model; give background='latent_class', or a fit."
        )
    if "complexity" in wanted:
        description_length(table)
    if "cells" in wanted and table.lengths is not None:
        raise CapabilityError("The score 'cells' is of rows that stand alone; of sequences see pg.step_surprise.")
    return tuple(wanted)


def attempt(found: AnomalyStudy, name: str, ask: Callable[[], None]) -> None:
    """Score by a model; where it cannot say, why goes into the failures."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of importance weights: the kind of the number is told
            ask()
    except ProbgenError as error:
        found.failures[name] = str(error)


def beside(found: AnomalyStudy, pieces: Sequence[Table], wanted: Sequence[str], fitting: Fitting) -> None:
    """Scores of new rows by models of the first part of a table, compared with those of the second."""
    fits, behind = fitting.to(pieces[0], 0, found.failures)

    def ask(name: str, fit: Fit) -> None:
        parts = Parts(fit, pieces[0], wanted, behind)
        add(found, name, [fit], compared(parts.of(pieces[1]), parts.of(found.rows)), parts.kinds)

    for name, fit in fits.items():
        attempt(found, name, partial(ask, name, fit))


def across(found: AnomalyStudy, source: Table, wanted: Sequence[str], fitting: Fitting) -> None:
    """Scores of all rows by models that have not seen them."""
    found.fold[:] = np.random.default_rng(fitting.seed).permutation(len(source)) % FOLDS
    fits: dict[str, list[Fit]] = {}
    scores: dict[str, dict[str, np.ndarray]] = {}
    kinds: dict[str, list[str]] = {}

    def ask(name: str, fit: Fit, learnt: Table, others: np.ndarray, behind: Fit | None) -> None:
        parts = Parts(fit, learnt, wanted, behind)
        for key, values in parts.of(source.take(others)).items():
            whole = scores.setdefault(name, {})
            whole.setdefault(key, np.full((len(source), *values.shape[1:]), np.nan))[others] = values
        fits.setdefault(name, []).append(fit)
        kinds.setdefault(name, []).extend(parts.kinds)

    for number in range(FOLDS):
        learnt, others = source.take(found.fold != number), found.fold == number
        own, behind = fitting.to(learnt, number, found.failures)
        for name, fit in own.items():
            attempt(found, name, partial(ask, name, fit, learnt, others, behind))
    for name, whole in scores.items():
        if name not in found.failures:
            add(found, name, fits[name], compared(whole, whole, within=True), kinds[name])


def add(found: AnomalyStudy, name: str, fits: list[Fit], scored: Scored, kinds: Sequence[str]) -> None:
    """One model's scores."""
    found.models.append(name)
    found.fits[name], found.kind[name] = fits, " and ".join(sorted(set(kinds)))
    for score in scored.asked:
        key = name, score
        found.scores[key], found.calibration[key] = scored.asked[score], scored.usual[score]
        found.p_values[key] = scored.p_values[score]
    if scored.cells is not None and scored.cell_p_values is not None:
        found.cells[name], found.cell_p_values[name] = scored.cells, scored.cell_p_values
