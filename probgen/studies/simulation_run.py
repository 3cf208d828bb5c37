"""One simulation of an imputation study: draw rows, make holes, fill them by every method, analyse, pool."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from probgen.data.amputation import ampute_patterns
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, ImproperWarning
from probgen.inference.runtime import seed_of
from probgen.studies.multiple_imputation import by_formula, frame_of, impute
from probgen.studies.pooling import pool

__all__ = ["CASES", "COMPLETE", "Batched", "Completed", "Experiment", "Outcome"]

COMPLETE = "complete data"
CASES = "complete cases"
UNTOLD = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)
Task = Mapping[int, Sequence[str]]  # simulation -> methods that are to be run


@dataclass(frozen=True)
class Completed:
    """The completed tables of one table with holes, and the seconds that they took, where somebody else measured them."""

    tables: Sequence[Any]
    seconds: float | None = None


@dataclass(frozen=True)
class Batched:
    """A method that fills the tables of several simulations at once: another program that is started once for all of them.

    Attributes:
        function: of tables with holes and their seeds; gives, for each table, its m completed tables or a :class:`Completed`,
            or an exception where it failed. What it gives for a table must not depend on the others.
        size: simulations at once.
    """

    function: Callable[[list[Table], list[int]], Sequence[Any]]
    size: int = 50


@dataclass(frozen=True)
class Outcome:
    """What one method said of one simulation; sequences over terms.

    Attributes:
        simulation: its number, from 0.
        method: its name.
        estimate, standard_error, df, lower, upper, fmi: pooled.
        seconds: of CPU that filling took.
        failure: why there are no numbers; empty where there are.
        warned: categories of warnings.
    """

    simulation: int
    method: str
    estimate: tuple[float, ...] = ()
    standard_error: tuple[float, ...] = ()
    df: tuple[float, ...] = ()
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    fmi: tuple[float, ...] = ()
    seconds: float = 0.0
    failure: str = ""
    warned: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """What came of a call."""

    value: Any
    seconds: float
    failure: str = ""
    warned: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Experiment:
    """Everything that decides what happens in simulation number i.

    Attributes:
        sample: a function of a random generator, or the population.
        rows, replace: how rows are drawn from a population; all of it where rows is None.
        ampute: a function of (table, seed), or options of :func:`probgen.ampute_patterns`.
        analysis: a formula or a function of a data frame.
        methods: options of :func:`probgen.impute`, functions of (table, seed), or :class:`Batched`.
        m, seed, confidence: as in :func:`probgen.imputation_study`.
        terms: the estimands.
        names: of all terms, where the analysis does not name them.
        family: of a formula.
    """

    sample: Callable[[np.random.Generator], Any] | Table
    rows: int | None
    replace: bool
    ampute: Callable[[Table, int], Any] | Mapping[str, Any]
    analysis: Callable[[Any], Any] | str
    methods: Mapping[str, Any]
    m: int
    seed: int
    confidence: float
    terms: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    family: str = "gaussian"

    def all_methods(self) -> tuple[str, ...]:
        """The two that every study has, and its own."""
        return (COMPLETE, CASES, *self.methods)

    # ------------------------------------------------------------------------------------------------- one data set
    def complete(self, number: int) -> Table:
        """The rows of one simulation, before holes."""
        random = np.random.default_rng(seed_of(self.seed, "sample", number))
        if not isinstance(self.sample, Table):
            return without_holes(self.sample(random))
        if self.rows is None:
            return self.sample
        return self.sample.take(random.choice(len(self.sample), self.rows, self.replace))

    def holed(self, complete: Table, number: int) -> Table:
        """The same rows with holes."""
        seed = seed_of(self.seed, "ampute", number) % 2**62
        if isinstance(self.ampute, Mapping):
            return ampute_patterns(complete, seed=seed, **self.ampute)[0]
        found = self.ampute(complete, seed)
        found = found[0] if isinstance(found, tuple) else found
        table = found if isinstance(found, Table) else Table(found, complete.schema)
        if len(table) != len(complete):
            raise DataError(f"ampute must keep all {len(complete)} rows, it gave {len(table)}.")
        return table

    def analyse(self, table: Table) -> Any:
        run = by_formula(self.analysis, self.family) if isinstance(self.analysis, str) else self.analysis
        return run(frame_of(table))

    # ------------------------------------------------------------------------------------------------------ methods
    def run(self, task: Task) -> list[Outcome]:
        """All outcomes of some simulations."""
        found: list[Outcome] = []
        drawn: dict[int, tuple[Table, Table]] = {}
        with one_thread():
            for number, methods in task.items():
                made = attempt(lambda number=number: self.draw(number))  # type: ignore[misc]
                if made.failure:
                    found += [Outcome(number, method, failure=made.failure) for method in methods]
                else:
                    drawn[number] = made.value
            for method in self.all_methods():
                wanted = [number for number in drawn if method in task[number]]
                fills = self.filled(method, wanted, drawn)
                found += [self.judged(n, method, fill, drawn[n][1]) for n, fill in zip(wanted, fills, strict=True)]
        return found

    def draw(self, number: int) -> tuple[Table, Table]:
        complete = self.complete(number)
        return complete, self.holed(complete, number)

    def filled(self, method: str, numbers: list[int], drawn: Mapping[int, tuple[Table, Table]]) -> list[Attempt]:
        """The completed tables of several simulations by one method."""
        if method == COMPLETE:
            return [Attempt([drawn[number][0]], 0.0) for number in numbers]
        if method == CASES:
            return [attempt(lambda number=number: [cases(drawn[number][1])]) for number in numbers]  # type: ignore[misc]
        how = self.methods[method]
        seeds = [seed_of(self.seed, "method", method, number) % 2**31 for number in numbers]
        tables = [drawn[number][1] for number in numbers]
        if isinstance(how, Batched):
            return batch(how, tables, seeds)
        one = self.imputer(how) if isinstance(how, Mapping) else how
        return [attempt(lambda t=table, s=seed: one(t, s)) for table, seed in zip(tables, seeds)]  # type: ignore[misc]

    def imputer(self, options: Mapping[str, Any]) -> Callable[[Table, int], Any]:
        return lambda table, seed: impute(table, **{"m": self.m, "progress": False, **options}, seed=seed)

    def judged(self, number: int, method: str, fill: Attempt, holed: Table) -> Outcome:
        """Pooled numbers of the terms, or why there are none."""
        if fill.failure:
            return Outcome(number, method, seconds=fill.seconds, failure=fill.failure, warned=fill.warned)
        single = method in (COMPLETE, CASES)
        made = attempt(lambda: self.pooled(fill.value, None if single else holed))
        warned = tuple(sorted({*fill.warned, *made.warned} - ({ImproperWarning.__name__} if single else set())))
        values = {} if made.failure else made.value
        return Outcome(number, method, **values, seconds=fill.seconds, failure=made.failure, warned=warned)

    def pooled(self, tables: Sequence[Any], holed: Table | None) -> dict[str, tuple[float, ...]]:
        ready = tables if holed is None else [completed(table, holed) for table in tables]
        found = pool([self.analyse(table) for table in ready], confidence=self.confidence, names=self.names)
        places = found.places(self.terms)
        keys = ("estimate", "standard_error", "df", "lower", "upper", "fmi")
        return {key: tuple(getattr(found, key)[places].tolist()) for key in keys}


def without_holes(data: Any) -> Table:
    """A sample as a table; it has to be complete, for the truth of its holes to be known."""
    table = data if isinstance(data, Table) else Table(data)
    if not table.known.all():
        row, place = (int(at) for at in np.argwhere(~table.known)[0])
        raise DataError(
            f"A sample must be complete before holes are made: column {table.names[place]!r}, row {row} is unknown."
        )
    return table


def cases(holed: Table) -> Table:
    """The rows that are known throughout."""
    rows = np.flatnonzero(holed.known.all(1))
    if len(rows) == 0:
        raise DataError("No row is complete.")
    return holed.take(rows)


def completed(data: Any, holed: Table) -> Table:
    """What a method gave, as a table without holes."""
    table = data if isinstance(data, Table) else Table(data, holed.schema)
    if len(table) != len(holed):
        raise DataError(f"A completed table must have all {len(holed)} rows, the method gave {len(table)}.")
    if not table.known.all():
        row, place = (int(at) for at in np.argwhere(~table.known)[0])
        raise DataError(f"The method left column {table.names[place]!r}, row {row} unknown.")
    return table


def batch(how: Batched, tables: list[Table], seeds: list[int]) -> list[Attempt]:
    """One call for all tables; a table may fail alone."""
    made = attempt(lambda: list(how.function(tables, seeds)) if tables else [])
    if not made.failure and len(made.value) != len(tables):
        raise CapabilityError(f"A batched method was given {len(tables)} tables and gave {len(made.value)} results.")
    share = made.seconds / max(len(tables), 1)
    if made.failure:
        return [Attempt(None, share, made.failure, made.warned)] * len(tables)
    return [entry(value, share, made.warned) for value in made.value]


def entry(value: Any, share: float, warned: tuple[str, ...]) -> Attempt:
    if isinstance(value, Exception):
        return Attempt(None, share, f"{type(value).__name__}: {value}", warned)
    if isinstance(value, Completed):
        return Attempt(value.tables, share if value.seconds is None else value.seconds, "", warned)
    return Attempt(value, share, "", warned)


def attempt(run: Callable[[], Any]) -> Attempt:
    """Call; what fails is told, and so are warnings. What cannot be asked for at all is raised."""
    began, value, failure = time.process_time(), None, ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = run()
        except CapabilityError:
            raise
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
    warned = {w.category.__name__ for w in caught if not issubclass(w.category, UNTOLD)}
    return Attempt(value, time.process_time() - began, failure, tuple(sorted(warned)))


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums have one order, whoever adds them up, and processes do not fight for cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
