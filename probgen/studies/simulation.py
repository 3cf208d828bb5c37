r"""Is multiple imputation valid here? Bias, coverage and width over simulated samples (van Buuren, 2018, section 2.5).

Samples are drawn from a population whose parameters are known, cells are hidden, each method fills them m times, the
analyses of the m tables are pooled, and the pooled interval either holds the truth or does not:

.. math:: \text{bias} = \frac1S \sum_s \bar Q_s - Q, \qquad
    \text{coverage} = \frac1S \sum_s 1\{L_s \le Q \le U_s\}, \qquad \text{width} = \frac1S \sum_s (U_s - L_s)

Intervals of imputed tables cannot cover better than those of the complete data, and should be shorter than those of
the complete cases.

Example:
    >>> import probgen as pg
    >>> birds = {"x": np.arange(40.0), "y": np.arange(40.0) + np.tile([-3.0, 1.0, 2.0, 0.0], 10)}
    >>> normal = {"model": "gaussian_mixture", "components": 1}
    >>> settings = {"methods": {"normal": normal}, "ampute": {"proportion": 0.3, "mechanism": "mcar"}}
    >>> found = pg.imputation_study(birds, "y ~ x", **settings, simulations=3, rows=30, progress=False)
    >>> [record["method"] for record in found.records if record["term"] == "x"]
    ['complete data', 'complete cases', 'normal']
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import replace as changed
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, ProbgenError
from probgen.studies.analyses import read_analyses
from probgen.studies.rubin import check_confidence
from probgen.studies.simulation_records import Records
from probgen.studies.simulation_run import (
    CASES,
    COMPLETE,
    Batched,
    Completed,
    Experiment,
    Outcome,
    Task,
    without_holes,
)
from probgen.studies.simulation_summary import ImputationStudy
from probgen.whole import check_whole

__all__ = ["Batched", "Completed", "ImputationStudy", "imputation_study"]

FUNCTIONS = "a function of a module, or an object of a class of one, not a lambda or a function inside a function"


def imputation_study(
    sample: Callable[[np.random.Generator], Any] | Any,
    analysis: Callable[[Any], Any] | str,
    truth: Mapping[str, float] | Sequence[float] | float | None = None,
    *,
    methods: Mapping[str, Any],
    ampute: Callable[[Table, int], Any] | Mapping[str, Any],
    simulations: int = 200,
    rows: int | None = None,
    replace: bool = True,
    m: int = 5,
    family: str = "gaussian",
    confidence: float = 0.95,
    seed: int = 0,
    workers: int = 1,
    path: str | Path | None = None,
    progress: bool = True,
) -> ImputationStudy:
    """Bias, coverage and width of pooled analyses, over samples in which the truth is known.

    "complete data" (before holes were made) and "complete cases" (rows without holes) stand beside the methods always.

    Args:
        sample: draws a complete table, given a random generator; or a complete table that stands for the population.
        analysis: as in :meth:`Imputations.analyse`: a formula, or a function of a data frame.
        truth: term -> true value, of some terms; or all values in their order. The population's own where it is None.
        methods: name -> options of :func:`probgen.impute`, or a function of (table with holes, seed) that gives completed
            tables, or a :class:`probgen.studies.simulation.Batched` for programs that fill many tables at once.
        ampute: makes the holes: options of :func:`probgen.ampute_patterns`, or a function of (table, seed).
        simulations: how many samples.
        rows, replace: how many are drawn from a population, and whether again; all of it, with other holes, if None.
        m: imputations.
        family: of a formula, "gaussian", "binomial", "poisson" or "gamma".
        confidence: of the intervals.
        seed: of all draws; each belongs to a simulation and a method, whatever else is run and in how many processes.
        workers: processes, one thread each.
        path: folder where outcomes are kept as they come; the same call goes on where it stopped.
        progress: show a bar.

    Raises:
        CapabilityError: nothing can be simulated like this, or functions cannot be sent to other processes.
        DataError: samples have holes, the analysis lacks a term of the truth, ``path`` holds another study.

    Reference: van Buuren (2018), section 2.5.
    """
    check_numbers(simulations=simulations, m=m, workers=workers)
    check_confidence(confidence)
    source = sample if callable(sample) and not isinstance(sample, Table) else without_holes(sample)
    check_rows(source, rows, replace)
    check_methods(methods, ampute, truth, source)
    asked = Experiment(source, rows, replace, ampute, analysis, dict(methods), m, seed, confidence, family=family)
    experiment, values = prepared(asked, truth, workers)
    found = simulated(experiment, path, simulations, workers, progress)
    return ImputationStudy.of(found, experiment.all_methods(), values, simulations, m, confidence, seed)


# ------------------------------------------------------------------------------------------------------- what was asked
def check_numbers(**numbers: int) -> None:
    for name, value in numbers.items():
        check_whole(name, value)


def check_rows(source: Any, rows: int | None, replace: bool) -> None:
    if rows is None:
        return
    if not isinstance(source, Table):
        raise CapabilityError("rows are drawn from a population; a function that samples decides itself how many.")
    check_numbers(rows=rows)
    if not replace and rows > len(source):
        raise CapabilityError(f"rows={rows} cannot be drawn without replacement from {len(source)} rows.")


def check_methods(methods: Any, ampute: Any, truth: Any, source: Any) -> None:
    if not isinstance(methods, Mapping) or not methods:
        raise CapabilityError(f"methods must map names to options of pg.impute or functions, got {methods!r}.")
    for name, how in methods.items():
        if name in (COMPLETE, CASES):
            raise CapabilityError(f"{name!r} is in every study; call your method otherwise.")
        if not (isinstance(how, Mapping | Batched) or callable(how)):
            raise CapabilityError(f"methods[{name!r}] must be options, a function or a Batched, got {how!r}.")
        if isinstance(how, Mapping) and "seed" in how:
            raise CapabilityError(f"methods[{name!r}] has a seed; seeds are made of the study's, one a simulation.")
    if not (isinstance(ampute, Mapping) or callable(ampute)):
        raise CapabilityError(f"ampute must be options of pg.ampute_patterns or a function, got {ampute!r}.")
    if truth is None and not isinstance(source, Table):
        raise CapabilityError("truth must be given where samples come from a function.")


def prepared(asked: Experiment, truth: Any, workers: int) -> tuple[Experiment, dict[str, float]]:
    """With its estimands, tried on the first sample."""
    values, names = estimands(asked, truth)
    experiment = changed(asked, terms=tuple(values), names=names)
    check_holes(experiment)
    if workers > 1:
        check_sendable(experiment)
    return experiment, values


def estimands(experiment: Experiment, truth: Any) -> tuple[dict[str, float], tuple[str, ...] | None]:
    """Term -> true value, and names for an analysis that has none; from the analysis of complete data."""
    population = experiment.sample if truth is None else tried("sample", lambda: experiment.complete(0))
    table = without_holes(population)
    terms, read = read_analyses([tried("analysis", lambda: experiment.analyse(table))], None)
    named = read[0].names is not None
    if truth is None:
        return dict(zip(terms, read[0].estimate.tolist())), None
    if hasattr(truth, "keys"):
        values = {str(key): float(truth[key]) for key in truth.keys()}  # noqa: SIM118 (a pandas series has keys)
        if not named and len(values) == len(terms):
            return values, tuple(values)
        return check_terms(values, terms), None
    given = np.atleast_1d(np.asarray(truth, float))
    if given.shape != (len(terms),):
        raise DataError(f"truth has shape {given.shape}, the analysis has {len(terms)} terms: {list(terms)}.")
    return dict(zip(terms, given.tolist())), None


def check_terms(values: dict[str, float], terms: Sequence[str]) -> dict[str, float]:
    unknown = [term for term in values if term not in terms]
    if unknown or not values:
        raise DataError(f"truth must name terms of the analysis, {list(terms)}; got {list(values)}.")
    return values


def tried(what: str, run: Callable[[], Any]) -> Any:
    """Fail before any work where the first sample already cannot be used."""
    try:
        return run()
    except ProbgenError:
        raise
    except Exception as error:
        raise DataError(f"{what} failed on the first sample: {type(error).__name__}: {error}") from error


def check_holes(experiment: Experiment) -> None:
    complete = tried("sample", lambda: experiment.complete(0))
    if tried("ampute", lambda: experiment.holed(complete, 0)).known.all():
        raise DataError("ampute made no holes in the first sample.")


def check_sendable(experiment: Experiment) -> None:
    parts = {"sample": experiment.sample, "ampute": experiment.ampute, "analysis": experiment.analysis}
    for name, part in {**parts, **{f"methods[{key!r}]": how for key, how in experiment.methods.items()}}.items():
        try:
            ForkingPickler.dumps(part)
        except Exception as error:
            raise CapabilityError(
                f"{name} cannot be sent to other processes ({error}); it must be {FUNCTIONS}. Or use workers=1."
            ) from error


# ----------------------------------------------------------------------------------------------------------- the work
def simulated(
    experiment: Experiment, path: str | Path | None, simulations: int, workers: int, progress: bool
) -> list[Outcome]:
    """Outcomes of the simulations and methods asked for, in order."""
    records = Records(path, experiment)
    try:
        simulate(experiment, records, simulations, workers, progress)
    finally:
        records.close()
    order = {name: place for place, name in enumerate(experiment.all_methods())}
    chosen = [o for o in records.outcomes.values() if o.simulation < simulations and o.method in order]
    return sorted(chosen, key=lambda outcome: (outcome.simulation, order[outcome.method]))


def simulate(experiment: Experiment, records: Records, simulations: int, workers: int, progress: bool) -> None:
    """Whatever is not there yet."""
    missing = records.missing(simulations, experiment.all_methods())
    tasks = blocks(
        missing, max([how.size for how in experiment.methods.values() if isinstance(how, Batched)], default=1)
    )
    with (
        tqdm(total=simulations, initial=simulations - len(missing), desc="simulations", disable=not progress) as bar,
        closing(outcomes(experiment, tasks, workers)) as found,
    ):
        for task, made in zip(tasks, found, strict=True):
            records.add(made)
            bar.update(len(task))


def blocks(missing: Mapping[int, Sequence[str]], size: int) -> list[Task]:
    numbers = list(missing)
    return [{n: missing[n] for n in numbers[at : at + size]} for at in range(0, len(numbers), size)]


def outcomes(experiment: Experiment, tasks: Sequence[Task], workers: int) -> Generator[list[Outcome]]:
    """Of each task, in order."""
    if workers == 1 or len(tasks) < 2:
        yield from map(experiment.run, tasks)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), set_up, (experiment,))
    try:
        yield from pool.map(run_task, tasks)
    except BrokenProcessPool as error:
        raise CapabilityError(
            "A process ended at once. What it runs must be importable there: keep functions in a module, and guard a script"
            " by if __name__ == '__main__'. Or memory ran out; use fewer workers."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


WORKER: dict[str, Experiment] = {}


def set_up(experiment: Experiment) -> None:
    WORKER["experiment"] = experiment


def run_task(task: Task) -> list[Outcome]:
    return WORKER["experiment"].run(task)
