"""The main study: a table in, and which model describes it, fills it, tells its target and draws its like."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.studies import folder, words
from probgen.studies.classification import ClassificationStudy, classification_study
from probgen.studies.density import DensityStudy, score_fits
from probgen.studies.imputation import ImputationStudy, finished, imputation_study, score_filling
from probgen.studies.preparation import Prepared, prepare, split_rows
from probgen.studies.progress import Progress, Tell, reporting
from probgen.studies.representation import RepresentationStudy, representation_study
from probgen.studies.training import Models, Recipe, fit_all, recipes, said

__all__ = ["Study", "run"]

MOST_SAMPLES = 1000
DRAWS = 50


@dataclass(frozen=True, eq=False)
class Study:
    """All that was found out about a table.

    Attributes:
        table: what was studied: without empty rows, and without empty or constant columns.
        target: the column that was predicted, if any.
        density, imputation, classification, representation: the studies; None where one could not be made.
        prediction: of a numeric target, as filling that column in held-out rows.
        final: the best model, fitted to all rows; it made ``samples`` and ``completed``.
        final_name: its label.
        samples: new rows.
        completed: the original table with its holes filled once.
        failures: (part of the study, label, why).
        notes: what was left out of the table.
        seed, fast: as given.
        seconds: that the study took.
        folder: where it was written; None where it was not.
    """

    table: Table
    target: str | None
    density: DensityStudy
    imputation: ImputationStudy | None
    classification: ClassificationStudy | None
    prediction: ImputationStudy | None
    representation: RepresentationStudy | None
    final: Any
    final_name: str
    samples: Table | None
    completed: Table | None
    failures: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    seed: int = 0
    fast: bool = False
    seconds: float = 0.0
    folder: Path | None = None

    @property
    def report(self) -> Path | None:
        """The HTML page; None where nothing was written."""
        return None if self.folder is None else self.folder / "report.html"

    @property
    def summary(self) -> list[str]:
        """What was found, in sentences."""
        return words.summary(self)

    @property
    def caveats(self) -> list[str]:
        """What a careful reader should know, in sentences."""
        return words.caveats(self)

    def to_json(self) -> str:
        """Everything but tables and fits, as text; NaN is null."""
        return json.dumps(folder.contents(self), indent=1, ensure_ascii=False, allow_nan=False)

    def write(self, out: str | Path, *, force: bool = False) -> Study:
        """The folder of ``study.json``, CSV tables and ``report.html``; the study that knows it.

        Raises:
            DataError: the folder holds something else and ``force`` is False.
        """
        place = folder.claim(out, force)
        written = replace(self, folder=place)
        folder.write(written, place)
        return written

    def __str__(self) -> str:
        return "\n".join(line.replace("**", "") for line in self.summary)


def run(
    table: Any,
    *,
    target: str | None = None,
    models: Models = None,
    out: str | Path | None = None,
    seed: int = 0,
    fast: bool = False,
    progress: Progress = True,
    test_fraction: float = 0.2,
    force: bool = False,
) -> Study:
    """Study a table.

    Splits the rows, fits the models, compares held-out log densities, hides known cells to see how they are filled,
    hides the target to see how it is told, embeds, fits the best model to all rows, and draws new rows from it.

    Args:
        table: a Table, or what a Table can be made of.
        target: the column to be predicted; the table's own where None.
        models: names, or a mapping from labels to options, Model classes, or functions from a table to a fit; all
            with a density where None.
        out: folder for ``study.json``, the CSV tables and ``report.html``; nothing is written where None.
        seed: of everything random.
        fast: fewer steps and restarts, and holes are scored with the fits of the held-out comparison.
        progress: True for a bar, False for silence, or a function of a step's name and the share done.
        test_fraction: share of the rows to hold out.
        force: write into a folder that holds something else.

    Raises:
        DataError: the table is too small, or the folder holds something else; before any work is done.
        FitError: every model failed; the message has all reasons.
    """
    began = time.perf_counter()
    place = None if out is None else folder.claim(out, force)
    source = table if isinstance(table, Table) else Table(table)
    prepared = prepare(source, target or source.schema.target, test_fraction, seed)
    made = recipes(models, seed=seed, fast=fast)
    with reporting(progress, len(made) * (1 if fast else 2) + 5) as tell:
        study = studied(prepared, made, test_fraction, seed, fast, tell)
        study = replace(study, seconds=time.perf_counter() - began)
        if place is not None:
            tell("write the report")
            study = study.write(place, force=True)
    return study


def studied(
    prepared: Prepared,
    made: dict[str, Recipe],
    test_fraction: float,
    seed: int,
    fast: bool,
    tell: Tell,
) -> Study:
    """All parts, in order; a part that fails is missing and says why."""
    table = prepared.table
    target = table.schema.target
    trained, tested = split_rows(table, test_fraction, seed)
    train, test = table.take(trained), table.take(tested)
    fits, failed = fit_all(made, train, lambda name: tell(f"fit {name}"))
    tell("score held-out rows")
    density = score_fits(fits, train, test, tested, failed)
    failures = [("the comparison", name, why) for name, why in density.failures.items()]
    ready = density.fits
    still = {name: made[name] for name in ready}
    imputation = attempt(failures, "imputation", lambda: filling(still, ready, table, test, train, seed, fast, tell))
    tell("predict the target and embed")
    classification = prediction = None
    if target is not None and table.schema[target].is_discrete:
        classification = attempt(
            failures, "classification", lambda: classification_study(ready, test, target, train=train)
        )
    elif target is not None:
        prediction = attempt(failures, "prediction", lambda: predicting(ready, train, test, target, seed))
    representation = attempt(
        failures, "representation", lambda: representation_study(ready, table, target, held_out=tested, seed=seed)
    )
    tell(f"fit {density.best} to all rows")
    final = final_fit(made[density.best], table, ready[density.best], failures, density.best, fast)
    tell("draw new rows and fill holes")
    samples = attempt(failures, "sampling", lambda: final.sample(min(len(table), MOST_SAMPLES), seed=seed))
    completed = attempt(failures, "completion", lambda: complete(prepared, final, seed))
    for part, found in (
        ("imputation", imputation),
        ("classification", classification),
        ("prediction", prediction),
        ("representation", representation),
    ):
        failures += [(part, name, why) for name, why in getattr(found, "failures", {}).items()]
    return Study(
        table, target, density, imputation, classification, prediction, representation, final, density.best,
        samples, completed, tuple(failures), prepared.notes, seed, fast,
    )  # fmt: skip


def attempt(failures: list[tuple[str, str, str]], part: str, make: Any) -> Any:
    """A part of the study, or None and a line among the failures."""
    try:
        return make()
    except Exception as error:
        failures.append((part, "every model", said(error)))
        return None


def filling(
    made: dict[str, Recipe],
    fits: dict[str, Any],
    table: Table,
    test: Table,
    train: Table,
    seed: int,
    fast: bool,
    tell: Tell,
) -> ImputationStudy:
    """Holes in the whole table and models fitted to it; in a fast study, holes in the held-out rows."""
    if fast:
        return imputation_study(test, fits=fits, reference=train, seed=seed, draws=DRAWS)
    return imputation_study(table, made, seed=seed, draws=DRAWS, tell=lambda name: tell(f"fit {name} around holes"))


def predicting(fits: dict[str, Any], train: Table, test: Table, target: str, seed: int) -> ImputationStudy:
    """A numeric target as a column to fill in rows that no fit has seen."""
    hidden = np.zeros_like(test.known)
    place = test.schema.index(target)
    hidden[:, place] = test.known[:, place]
    cells, failures = score_filling(fits, test.hide(target), test, hidden, train, 2 * DRAWS, seed)
    return finished(cells, test, failures, 1.0, "target hidden", 2 * DRAWS)


def final_fit(make: Recipe, table: Table, trained: Any, failures: list, name: str, fast: bool) -> Any:
    """The best model on all rows; in a fast study, or where that fails, the one of the training rows."""
    if fast:
        return trained
    try:
        return make(table)
    except Exception as error:
        failures.append(("the fit to all rows", name, f"{said(error)} Its fit to the training rows is used."))
        return trained


def complete(prepared: Prepared, fit: Any, seed: int) -> Table:
    """The original table with its holes filled once; known cells keep their bits.

    Columns and rows that could not be studied stay as they were.
    """
    filled = fit.fill(prepared.table, 1, seed=seed)[0]
    values = prepared.original.values.copy()
    block = np.ix_(prepared.rows, prepared.columns)
    values[block] = np.where(prepared.table.known, values[block], filled.values)
    return prepared.original.with_values(values)
