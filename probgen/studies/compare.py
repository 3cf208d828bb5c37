r"""Which of many models describes a table best, within a time that is given: successive halving, in several processes.

The score of a model is the mean log density of test rows, in nats and in the data's own units,

.. math:: \hat e_m = \frac1N \sum_n \log p_m(x_n), \qquad
    \widehat{\mathrm{se}}(\hat e_m - \hat e_b)^2 = \frac1{N (N - 1)} \sum_n
        \bigl(\log \tfrac{p_m(x_n)}{p_b(x_n)} - (\hat e_m - \hat e_b)\bigr)^2,

with b the model with the highest number.

Models that train networks go through rungs first: all of them with a ninth of the rows and steps, the best third with a third (see
:mod:`probgen.studies.halving`), scored on validation rows, at most 1000, taken from the training rows. The finalists, and all models that are
fitted by other means (they are cheap and none is thrown away), are fitted to all training rows and scored on the test rows.

Seeds belong to a model and a stage, so that results are the same in one process or several, and after going on. Only the time decides
otherwise. A fit may take the time that is left until the end of its round (rungs share 45 % of what there is when a sitting begins), divided by the fits that each process has before
it; time that is not used goes to the later ones. After 60 % of its share it takes no further step and what it has is scored, which is told as
"cut"; at the end of its share its process is stopped, which is told as "stopped", and the next round is without it.

Reference: Jamieson and Talwalkar (2016); Li et al. (2018); Yao et al. (2018).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.inference.runtime import seed_of
from probgen.studies.compare_entries import Entry, entries_of
from probgen.studies.compare_records import Records, alone
from probgen.studies.compare_task import FINAL, Ground, Result, Task, failed
from probgen.studies.halving import Rung, rungs_of, survivors
from probgen.studies.leaderboard import Leaderboard, leaderboard
from probgen.studies.models import Models
from probgen.studies.telling import told
from probgen.studies.timed_workers import Ended, Overdue, Workers
from probgen.whole import check_whole

__all__ = ["Leaderboard", "compare"]

HALVED = ("deep", "all", "none")
MARGINALS = ("bic", "laplace", None)
VALIDATION, MOST_VALIDATION = 0.2, 1000  # share and most of the rows that rungs are scored on
FEWEST = 200  # rows of a rung
BEFORE_FINALS, BEFORE_FOLDS = 0.45, 0.75  # shares of the time by which rungs, and then finals, have to end


def compare(
    table: Any,
    models: Models = "all",
    *,
    test: Any = None,
    test_fraction: float = 0.2,
    target: str | None = None,
    minutes: float | None = None,
    workers: int = 1,
    halve: str = "deep",
    rungs: int = 2,
    eta: int = 3,
    finalists: int = 3,
    folds: int = 0,
    marginal: str | None = "bic",
    seed: int = 0,
    folder: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> Leaderboard:
    """Fit many models, rank them by the log density of rows that none of them saw (how: :mod:`probgen.studies.compare`).

    Args:
        table: a Table or anything one can be made of.
        models: names, groups ("quick", "deep", "all": those with a density of these columns), or a mapping from these, or from titles, to options: ``{"small": {"model": "gaussian_mixture", "components": 2}}``.
        test: test rows; ``test_fraction`` of the table's rows where None.
        target: for models that need a labelled column, and by whose levels rows are split.
        minutes: of wall clock, those of earlier sittings included; None for no limit.
        workers: processes, one thread each.
        halve: which models rungs are for: "deep", "all", or "none".
        rungs: rounds of halving at most.
        eta: one in so many of a rung's models goes on, with so many times the effort.
        finalists: so many of the halved models get into the final at least.
        folds: of a cross-validation of the finalists on the training rows; 0 for none.
        marginal: likelihood of the training rows, for exact densities and point estimates: "bic", "laplace" (takes a Hessian), or None.
        seed: of everything random.
        folder: where each result is kept as it comes (``results.parquet``; test rows in ``rows.parquet``). The same call goes on where it stopped, by
            whatever end; models may be added; more minutes try again what was stopped or cut short.
        progress: show a bar.
        **options: of :func:`probgen.fit`, given to every model that takes them. Draws of a posterior add leave-one-out densities of training rows.

    Raises:
        CapabilityError: a model that there is not or that has no density, an option that no model takes, a setting without sense.
        DataError: rows that cannot be fitted to; a folder that holds something else.
        FitError: no model got to a score.
    """
    check_settings(halve, marginal, minutes, workers=workers, rungs=rungs, eta=eta, finalists=finalists, folds=folds)
    train, held_out = divided(table, test, test_fraction, target, seed)
    entries = entries_of(models, train, target, options)
    ground = ground_of(train, held_out, folds, seed, marginal)
    plan = {"halve": halve, "rungs": rungs, "eta": eta, "finalists": finalists}
    halved = [entry for entry in entries if halve == "all" or (halve == "deep" and entry.by_gradient)]
    rounds = rungs_of(len(halved), rungs, eta, finalists)
    with alone(folder), Workers(ground, workers) as pool:
        kept = Records(folder, description(ground, plan, entries), minutes)
        left_out = Sitting(kept, minutes, workers, progress).play(pool, entries, halved, rounds, folds)
        board = board_of(ground, entries, kept.results, left_out, minutes=minutes, folds=folds, seconds=kept.spent)
        kept.publish(board.results)
    return board.scored()


# ----------------------------------------------------------------------------------------------------- what was asked
def check_settings(halve: str, marginal: str | None, minutes: float | None, **numbers: Any) -> None:
    """Refuse before anything is read."""
    for name, value in numbers.items():
        check_whole(name, value, 0 if name in ("rungs", "folds") else 2 if name == "eta" else 1)
    if numbers["folds"] == 1:
        raise CapabilityError("folds must be 0 (no cross-validation) or at least 2, got 1.")
    if halve not in HALVED:
        raise CapabilityError(f"halve must be one of {', '.join(HALVED)}, got {halve!r}.")
    if marginal not in MARGINALS:
        raise CapabilityError(f"marginal must be 'bic', 'laplace' or None, got {marginal!r}.")
    if minutes is not None and not (is_number(minutes) and minutes > 0):
        raise CapabilityError(f"minutes must be a positive number, or None for no limit, got {minutes!r}.")


def is_number(value: Any) -> bool:
    """Of any library, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def divided(table: Any, test: Any, fraction: float, target: str | None, seed: int) -> tuple[Table, Table]:
    """Training rows and test rows, with the same columns."""
    source = table if isinstance(table, Table) else Table(table)
    source = source if target is None else source.with_target(target)
    source.check_for_fit()
    if test is not None:
        if isinstance(test, Table) and test.names != source.names:
            raise DataError(f"test has columns {list(test.names)}, the table has {list(source.names)}.")
        return source, Table(test, schema=source.schema)
    if not (is_number(fraction) and 0 < fraction < 1):
        raise CapabilityError(f"test_fraction must lie between 0 and 1, got {fraction!r}.")
    labelled = target is not None and source.schema[target].is_discrete and source.lengths is None
    parts = source.split(
        1 - fraction, fraction, seed=seed_of(seed, "test") % 2**31, stratify=target if labelled else None
    )
    return parts[0], parts[1]


def ground_of(train: Table, test: Table, folds: int, seed: int, marginal: str | None) -> Ground:
    """What all fits share."""
    if len(train) < 10 or len(test) < 2:
        raise DataError(
            f"A comparison needs 10 training rows and 2 test rows at least; there are {len(train)} and {len(test)}."
        )
    if folds > len(train):
        raise CapabilityError(f"folds must be at most the number of training rows, {len(train)}; got {folds}.")
    order = np.random.default_rng(seed_of(seed, "rungs")).permutation(len(train))
    held = min(MOST_VALIDATION, max(1, round(VALIDATION * len(train))))
    order, validation = order[held:], np.sort(order[:held])
    fewest = max(min(FEWEST, len(order)), enough_to_vary(train, order))
    return Ground(train, test, order, validation, fewest, folds, seed, marginal)


def board_of(ground: Ground, entries: Sequence[Entry], results: Any, left_out: Any, **asked: Any) -> Leaderboard:
    """The table of all results."""
    rows = {"train": len(ground.train), "test": len(ground.test)}
    weighted = ground.train.weights is not None
    fold = ground.fold() if asked["folds"] else None
    return leaderboard(entries, results, left_out, fold, weighted=weighted, rows=rows, **asked)


def enough_to_vary(train: Table, order: np.ndarray) -> int:
    """How many rows of the order it takes for every number to have two values, as fits want it; all where some never do."""
    if train.lengths is not None:
        return len(order)
    values = np.where(train.known, train.values, np.nan)[order]
    needed = 1
    for column in values.T:
        known = np.flatnonzero(~np.isnan(column))
        other = known[column[known] != column[known[0]]] if len(known) else known
        needed = max(needed, int(other[0]) + 1 if len(other) else 1)
    return needed


def description(ground: Ground, plan: Mapping[str, Any], entries: Sequence[Entry]) -> dict[str, Any]:
    """What results depend on."""
    return {
        "train": ground.train.fingerprint(), "test": ground.test.fingerprint(), "seed": ground.seed, "folds": ground.folds,
        "marginal": ground.marginal, **plan,
        "entries": {entry.title: f"{entry.model} {told(entry.options)}" for entry in entries},
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------- the work
class Sitting:
    """One call: its clock, its records, its bar.

    Args:
        records: what is there already.
        minutes: of all sittings.
        workers: processes.
        progress: show a bar.
    """

    def __init__(self, records: Records, minutes: float | None, workers: int, progress: bool) -> None:
        self.records, self.workers, self.progress = records, workers, progress
        self.began, self.before = time.monotonic(), records.spent
        self.seconds = float("inf") if minutes is None else 60.0 * minutes

    def clock(self) -> float:
        """Seconds of this sitting and those before."""
        return self.before + time.monotonic() - self.began

    def play(
        self, pool: Any, entries: Sequence[Entry], halved: Sequence[Entry], rounds: Sequence[Rung], folds: int
    ) -> dict[str, str]:
        """All rounds; who was left out where.

        Args:
            pool: with ``work(tasks, limit)``, as :class:`probgen.studies.timed_workers.Workers` has it.
            entries: all models.
            halved: those of them that rungs are for.
            rounds: the rungs.
            folds: of the cross-validation.
        """
        left_out: dict[str, str] = {}
        going = {entry.title: entry for entry in halved}
        total = (
            sum(rung.entrants for rung in rounds)
            + len(entries)
            - len(halved)
            + (rounds[-1].keep if rounds else len(halved))
        )
        with tqdm(total=total, desc="compare", disable=not self.progress) as bar:
            for at, rung in enumerate(rounds, 1):
                stage = f"rung {rung.number}"
                tasks = [Task(entry, stage, rung.effort) for entry in going.values()]
                scores = self.round(pool, tasks, BEFORE_FINALS * at / len(rounds), bar)
                kept = survivors(list(going), scores, rung.keep)
                left_out |= {title: stage for title in going if title in scores and title not in kept}
                going = {title: going[title] for title in kept}
            spared = {entry.title for entry in entries} - {entry.title for entry in halved}
            chosen = [entry for entry in entries if entry.title in spared or entry.title in going]
            finals = [
                Task(entry, FINAL) for entry in sorted(chosen, key=lambda e: e.by_gradient)
            ]  # the cheap ones first
            scored = self.round(pool, finals, BEFORE_FOLDS if folds else 1.0, bar)
            again = [
                Task(task.entry, f"fold {n + 1}")
                for task in finals
                if task.entry.title in scored
                for n in range(folds)
            ]
            bar.total += len(again)
            self.round(pool, again, 1.0, bar)
        return left_out

    def round(self, pool: Any, tasks: Sequence[Task], share: float, bar: Any) -> dict[str, float]:
        """Title -> mean of all tasks of a round that have one; only what is not there yet is run."""
        missing = [task for task in tasks if task.key not in self.records.results]
        bar.update(len(tasks) - len(missing))

        def limit(waiting: int) -> float:
            return (share * (self.seconds - self.before) - (self.clock() - self.before)) / -(-waiting // self.workers)

        for task, said in pool.work(missing, limit):
            result = self.heard(task, said)
            if isinstance(said, Overdue) and said.seconds == 0:  # what never began is no result
                self.records.skip(task.key)
            else:
                self.records.add(result, self.clock())
            bar.update()
            bar.set_postfix_str(f"{task.entry.title}, {task.stage}", refresh=False)
        found = {task.entry.title: self.records.results.get(task.key) for task in tasks}
        return {title: result.record["mean"] for title, result in found.items() if result is not None and result.done}

    def heard(self, task: Task, said: Any) -> Result:
        """What a process said, or why it said nothing."""
        if isinstance(said, Overdue):
            return failed(task, "stopped", f"stopped after {said.seconds:.0f} s, its share of the time", said.seconds)
        if isinstance(said, Ended):
            if not said.started:
                raise CapabilityError(
                    f"A process could not be started (exit code {said.code}); use fewer workers or free memory."
                )
            why = (
                "was killed, as a system short of memory does"
                if said.code == -9
                else f"ended with exit code {said.code}"
            )
            return failed(task, "failed", f"its process {why}", said.seconds)
        return said
