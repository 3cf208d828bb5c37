"""How many components, states or factors: one option of a model, several values, one criterion."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import CapabilityError, FitError, ProbgenError
from probgen.program import Model
from probgen.queries import Fit, fit
from probgen.queries.criteria import criteria, free_parameters
from probgen.queries.standard_errors import log_marginal_likelihood
from probgen.whole import is_whole

__all__ = ["CRITERIA", "Selection", "select"]

CRITERIA = {
    "bic": "smaller",
    "aic": "smaller",
    "icl": "smaller",
    "held_out": "larger",
    "evidence": "larger",
}
"""Name of each criterion, and which of its numbers is better."""

Record = dict[str, Any]
Tried = tuple[Record, Fit | None]


@dataclass(frozen=True, eq=False)
class Selection:
    """One model fitted with several values of one option.

    Attributes:
        model: the model's name.
        option: the name of the option that varies.
        criterion: by which the values are compared.
        scores: one record a value that could be fitted, in the order asked for: the value under the option's name, the
            number of ``parameters``, the ``score``, whether all fits ``converged``, and whether it is the ``best``; for
            "held_out" the standard error ``se`` in nats a row; for the others ``log_likelihood``, ``aic``, ``bic`` and
            ``icl`` too.
        best: the value with the best score.
        fit: the model with that value, fitted to all rows.
        failures: value, as text -> message, for values that could not be fitted.
    """

    model: str
    option: str
    criterion: str
    scores: list[Record]
    best: Any
    fit: Fit
    failures: dict[str, str]

    def records(self) -> list[Record]:
        """One record a value, ready for a data frame."""
        return [dict(record) for record in self.scores]

    @property
    def one_standard_error(self) -> Any:
        """The value with the fewest parameters whose held-out score is within one standard error of the best one.

        Raises:
            CapabilityError: the criterion is not "held_out".
        """
        if self.criterion != "held_out":
            raise CapabilityError("The one-standard-error rule needs standard errors: use criterion='held_out'.")
        top = next(record for record in self.scores if record["best"])
        close = [record for record in self.scores if record["score"] >= top["score"] - top["se"]]
        return min(close, key=lambda record: record["parameters"])[self.option]

    def __str__(self) -> str:
        width = max(len(self.option), *(len(str(record[self.option])) for record in self.scores)) + 2
        lines = [f"{self.option:<{width}}{'parameters':>12}{self.criterion:>14}"]
        for record in self.scores:
            error = f" ± {record['se']:.4f}" if "se" in record else ""
            mark = "  best" if record["best"] else ""
            shown = f"{record[self.option]!s:<{width}}{record['parameters']:>12}{record['score']:>14.3f}"
            lines.append(shown + error + mark)
        return "\n".join(lines + [f"{value} failed: {message}" for value, message in self.failures.items()])


def select(
    model: str | type[Model],
    table: Any,
    *,
    criterion: str = "bic",
    seed: int = 0,
    folds: int = 5,
    progress: bool = True,
    **options: Any,
) -> Selection:
    r"""Fit a model with several values of one option and choose the best.

    Args:
        model: a name from :func:`probgen.available`, or a Model class.
        table: a Table or anything one can be made of; with holes or in sequences, as for :func:`probgen.fit`.
        criterion: "bic", "aic" or "icl" (:class:`probgen.Criteria`; smaller is better); "held_out", the mean log
            density of rows (sequences) that were left out, by cross-validation; "evidence", the log marginal likelihood
            by Laplace's approximation at the mode (Kass and Raftery, 1995), :math:`\log K!` added for K components
            that could be renamed. The evidence needs a prior; it counts every renamed mode in full, which is too
            much where components overlap so far that the modes run into each other.
        seed: of the folds and the fits.
        folds: parts into which the rows are cut for "held_out".
        progress: show a bar for every fit.
        **options: keywords of :func:`probgen.fit`. Exactly one has several values, as a list or a range:
            ``components=range(1, 9)``, ``states=[2, 3, 4]``, ``covariance=["full", "tied"]``.

    Raises:
        CapabilityError: no option, or more than one, with several values; an unknown criterion.
        FitError: no value could be fitted.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = np.concatenate([rng.normal(-5, 1, 60), rng.normal(5, 1, 60)])
        >>> found = select("gaussian_mixture", {"x": x}, components=[1, 2, 3], restarts=2, progress=False)
        >>> found.best
        2
    """
    if criterion not in CRITERIA:
        raise CapabilityError(f"criterion must be one of {', '.join(CRITERIA)}, got {criterion!r}.")
    option, values = grid_of(options)
    source = table if isinstance(table, Table) else Table(table)
    settings = {**options, "seed": seed, "progress": progress}
    tried: list[Tried] = []
    failures: dict[str, Exception] = {}
    for value in values:
        try:
            record, fitted = scored(model, source, criterion, folds, {**settings, option: value})
        except (ProbgenError, RuntimeError) as error:  # RuntimeError: a matrix that cannot be decomposed
            failures[str(value)] = error
        else:
            tried.append(({option: value, **record}, fitted))
    record, fitted = best_of(tried, option, criterion, failures)
    fitted = fitted or quietly(model, source, {**settings, option: record[option]})
    scores = [{**other, "best": other is record} for other, _ in tried]
    told = {value: str(error) for value, error in failures.items()}
    return Selection(fitted.name, option, criterion, scores, record[option], fitted, told)


def grid_of(options: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The one option with several values."""
    several = {name: plain(value) for name, value in options.items() if isinstance(value, list | range)}
    if len(several) != 1:
        found = ", ".join(map(repr, several)) or "none"
        raise CapabilityError(
            "select varies exactly one option: give it a list or a range, such as components=range(1, 9), and the others"
            f" one value each (tuples and arrays are one value). Options with several values: {found}."
        )
    (option, values), *_ = several.items()
    if not values:
        raise CapabilityError(f"select got no value for {option!r}; give a list or a range with at least one.")
    return option, values


def plain(values: list[Any] | range) -> list[Any]:
    """Python's own numbers in place of numpy's."""
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def quietly(model: Any, table: Table, options: Mapping[str, Any]) -> Fit:
    """A fit whose warnings are in its diagnostics."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit(model, table, **options)


def scored(model: Any, table: Table, criterion: str, folds: int, options: Mapping[str, Any]) -> Tried:
    """The record of one value, and its fit where that is one to all rows."""
    if criterion == "held_out":
        return held_out(model, table, folds, options), None
    fitted = quietly(model, table, options)
    return judged(fitted, table, criterion), fitted


def judged(fitted: Fit, table: Table, criterion: str) -> Record:
    """The criteria of a fit to all rows."""
    found = criteria(fitted, table)
    numbers = {"aic": found.aic, "bic": found.bic, "icl": found.icl}
    score = log_marginal_likelihood(fitted, table) if criterion == "evidence" else numbers[criterion]
    return {
        "parameters": found.parameters, "score": score, "log_likelihood": found.log_likelihood, **numbers,
        "converged": fitted.diagnostics["converged"],
    }  # fmt: skip


def held_out(model: Any, table: Table, folds: int, options: Mapping[str, Any]) -> Record:
    """Mean log density of left-out rows (sequences), in nats, with the standard error over rows."""
    if not is_whole(folds, 2) or folds > len(table):
        raise CapabilityError(f"folds must be between 2 and the number of rows, {len(table)}; got {folds!r}.")
    fold = np.random.default_rng(options["seed"]).permutation(len(table)) % folds
    values, converged = np.empty(len(table)), []
    for number in range(folds):
        fitted = quietly(model, table.take(fold != number), options)
        values[fold == number] = np.asarray(fitted.log_prob(table.take(fold == number)))
        converged.append(fitted.diagnostics["converged"])
    weights = np.ones(len(table)) if table.weights is None else table.weights
    share = weights / weights.sum()
    mean = float(share @ values)
    spread = (values - mean) ** 2 if np.isfinite(mean) else np.full(len(table), np.nan)
    error = float(np.sqrt(share**2 @ spread * len(table) / (len(table) - 1)))
    return {"parameters": free_parameters(fitted), "score": mean, "se": error, "converged": all(converged)}


def best_of(tried: list[Tried], option: str, criterion: str, failures: Mapping[str, Exception]) -> Tried:
    """The record with the best finite score, and its fit."""
    finite = [pair for pair in tried if np.isfinite(pair[0]["score"])]
    if not finite:
        told = {str(error): error for error in failures.values()}
        if not tried and len(told) == 1:  # it is not the values that were wrong
            raise next(iter(told.values()))
        listed = "; ".join(f"{option}={value}: {error}" for value, error in failures.items())
        raise FitError(f"No value of {option!r} could be fitted and has a finite score. {listed}")
    sign = 1.0 if CRITERIA[criterion] == "larger" else -1.0
    return max(finite, key=lambda pair: sign * pair[0]["score"])
