"""One fit of a comparison: which rows it learns from, which rows it is scored on, and what came of it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import FitError, ProbgenError
from probgen.estimate import Estimate
from probgen.inference.fit import find_method
from probgen.inference.pareto import GOOD_ENOUGH
from probgen.inference.runtime import seed_of
from probgen.queries import Fit, fit
from probgen.queries.criteria import free_parameters, known_rows, need_exact_point
from probgen.queries.log_prob import CHANCE, NO_MEAN
from probgen.queries.loo import loo
from probgen.queries.standard_errors import log_marginal_likelihood
from probgen.studies.compare_entries import Entry

__all__ = ["FINAL", "Ground", "Result", "Task", "failed"]

FINAL = "final"
FEWEST_STEPS = 50
FOR_STEPS = 0.6  # share of a fit's time after which it takes no further step; the rest is for finishing and scoring


@dataclass(frozen=True)
class Task:
    """A fit that is asked for.

    Attributes:
        entry: the model.
        stage: "rung 1", "rung 2", ..., "final", "fold 1", ...
        effort: share of a whole fit's rows and steps.
    """

    entry: Entry
    stage: str
    effort: float = 1.0

    @property
    def key(self) -> tuple[str, str]:
        """By which its result is found."""
        return self.entry.title, self.stage


@dataclass(frozen=True, eq=False)
class Result:
    """What came of a task.

    Attributes:
        record: numbers and words.
        arrays: ``log_prob`` of each scored row, ``standard_error`` and ``k_hat`` where there are any.
    """

    record: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        return self.record["model"], self.record["stage"]

    @property
    def done(self) -> bool:
        """Whether there is a score."""
        return self.record["status"] == "done"


def failed(task: Task, status: str, message: str, seconds: float = 0.0) -> Result:
    """A task without a score: "failed" or "stopped", and why."""
    return Result(
        {
            "model": task.entry.title, "name": task.entry.model, "stage": task.stage, "status": status, "message": message,
            "seconds": seconds,
        }
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Ground:
    """The rows and settings that all tasks share.

    Attributes:
        train: all training rows.
        test: rows that finalists are scored on and that no rung saw.
        order: places of the training rows that rungs learn from, the first of them first; the others are validation rows.
        fewest: rows that a rung needs for every column to vary.
        folds: parts of the training rows in cross-validation; 0 for none.
        seed: of everything.
        marginal: "bic", "laplace" or None.
    """

    train: Table
    test: Table
    order: np.ndarray
    validation: np.ndarray
    fewest: int
    folds: int
    seed: int
    marginal: str | None

    def parts(self, task: Task) -> tuple[Table, Table]:
        """Rows to learn from, and rows to be scored on."""
        if task.stage == FINAL:
            return self.train, self.test
        if task.stage.startswith("fold"):
            held_out = self.fold() == int(task.stage.split()[1]) - 1
            return self.train.take(~held_out), self.train.take(held_out)
        rows = min(len(self.order), max(self.fewest, round(task.effort * len(self.train))))
        return self.train.take(np.sort(self.order[:rows])), self.train.take(self.validation)

    def fold(self) -> np.ndarray:
        """``(N,)`` number of the fold that each training row is held out in."""
        return np.random.default_rng(seed_of(self.seed, "folds")).permutation(len(self.train)) % self.folds

    def run(self, task: Task, seconds: float = math.inf) -> Result:
        """Fit and score; what fails says why. After a share of the seconds a fit is cut short, and what it has is scored."""
        began, cpu = time.perf_counter(), time.process_time()
        learnt, scored = self.parts(task)
        seed = seed_of(self.seed, task.entry.title, task.stage) % 2**31
        options = with_effort(task)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told by the records
            try:
                made = fit(
                    task.entry.model, learnt, seed=seed, progress=False, callback=Until(FOR_STEPS * seconds), **options
                )
                fitted = time.perf_counter() - began
                found = made.log_prob(scored, seed=seed, progress=False)
                check_numbers(found)
                more = self.criteria(made) if task.stage == FINAL else {}
            except Exception as error:  # one model's failure is a line of the table
                told = str(error) if isinstance(error, ProbgenError) else f"{type(error).__name__}: {error}"
                return failed(task, "failed", told, time.perf_counter() - began)
        record = {
            "model": task.entry.title, "name": task.entry.model, "stage": task.stage, "status": "done", "message": "",
            **scores(found), "rows": len(learnt), "scored": len(scored), "steps": made.diagnostics.get("steps"),
            "converged": bool(made.diagnostics.get("converged")), "cut": bool(made.diagnostics.get("interrupted")), "method": made.method, "fit_seconds": fitted, **more,
            "seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu,
        }  # fmt: skip
        parts = {"log_prob": found.value, "standard_error": found.standard_error, "k_hat": found.k_hat}
        return Result(record, {name: np.asarray(part) for name, part in parts.items() if part is not None})

    def criteria(self, made: Fit) -> dict[str, Any]:
        """What the training rows themselves say of a fit to them."""
        return {**leave_one_out(made, self.train), **marginal(made, self.train, self.marginal)}


def check_numbers(found: Estimate) -> None:
    """Refuse densities that are no numbers, beside which nothing can be ranked."""
    wrong = np.flatnonzero(np.isnan(np.asarray(found.value, float)))
    if len(wrong):
        raise FitError(
            f"the log density of {len(wrong)} of {len(found)} rows is not a number (first: row {wrong[0]}); its fit has diverged"
        )


class Until:
    """Called after every step of a fit, ends it after so many seconds as an interruption would: what there is is kept."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def __call__(self, step: int, values: Mapping[str, float], method: Any) -> None:
        if time.monotonic() > self.end:
            raise KeyboardInterrupt


def with_effort(task: Task) -> Mapping[str, Any]:
    """Options, with fewer steps of a network where the effort is less than whole."""
    if task.effort >= 1 or not task.entry.by_gradient:
        return task.entry.options
    steps = task.entry.options.get("max_steps") or find_method(task.entry.method).max_steps
    return {**task.entry.options, "max_steps": max(min(FEWEST_STEPS, steps), math.ceil(task.effort * steps))}


def scores(found: Estimate) -> dict[str, Any]:
    """Mean, its error over rows and by drawing, and what kind of number it is."""
    values, mean = np.asarray(found.value, float), found.mean()
    drawn = 0.0 if mean.standard_error is None else float(mean.standard_error)
    spread = (
        float(values.std(ddof=1) / np.sqrt(len(values))) if np.isfinite(values).all() and len(values) > 1 else np.nan
    )
    shape = np.asarray([] if found.k_hat is None else found.k_hat)
    far = int((shape > GOOD_ENOUGH).sum())
    trusted = far <= CHANCE * max(len(shape), 1) and not (shape > NO_MEAN).any()
    return {
        "kind": found.kind, "mean": float(values.mean()), "se": spread, "drawing_error": drawn,
        "shared_error": float(found.shared_error), "trusted": bool(trusted), "untrusted_rows": far,
    }  # fmt: skip


def leave_one_out(made: Fit, train: Table) -> dict[str, Any]:
    """The elpd of the training rows, where the posterior has draws (Vehtari, Gelman and Gabry, 2017)."""
    if made.posterior.point or len(made.posterior) < 2:
        return {}
    try:
        found = loo(made, train)
    except Exception as error:  # the score stands without it
        return {"no_loo": str(error)}
    return {"elpd_loo": found.elpd, "loo_se": found.standard_error, "loo_bad_rows": len(found.bad_rows)}


def marginal(made: Fit, train: Table, how: str | None) -> dict[str, Any]:
    r"""Log p(training rows) under the model, parameters integrated out, in nats, and how it was reached.

    "bic" is minus half the BIC, :math:`\log p(x \mid \hat\theta) - \frac p2 \log N` (Schwarz, 1978); "laplace" is
    :func:`probgen.select`'s evidence.
    """
    if how is None:
        return {}
    try:
        need_exact_point(made, "the log marginal likelihood")
        if how == "laplace":
            return {"log_marginal": float(log_marginal_likelihood(made, train)), "marginal": "laplace"}
        weights = np.ones(len(train)) if train.weights is None else train.weights
        values = np.asarray(made.log_prob(train, progress=False))
        total = float(weights[weights > 0] @ values[weights > 0])
        return {
            "log_marginal": total - 0.5 * free_parameters(made) * math.log(known_rows(made, train)),
            "marginal": "bic",
        }
    except Exception as error:  # the score stands without it
        return {"no_marginal": str(error)}
