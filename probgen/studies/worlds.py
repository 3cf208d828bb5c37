"""The m parameters of m imputations: one fit with m draws, or m fits; and what they fill."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import ImproperWarning
from probgen.inference.runtime import seed_of
from probgen.queries import Fit, conditionals, fit
from probgen.studies.planning import POSTERIOR, able_to

__all__ = ["completed", "drawn", "drawn_weights", "reweighed", "world_of", "worlds"]

AVERAGED = 20  # draws, for one estimate


def worlds(
    model: Any, rows: Table, m: int, uncertainty: str, seed: int, progress: bool, options: Mapping[str, Any]
) -> tuple[Fit, ...]:
    """One fit with m draws of its parameters, or m fits."""
    common = {"seed": seed, "progress": progress, **options}
    able = able_to(model)
    if uncertainty == "none":
        warnings.warn(
            "uncertainty='none' draws all imputations with the same parameters: pooled intervals will be too short.",
            ImproperWarning,
            stacklevel=3,
        )
        return (one_estimate(model, rows, common, able),)
    if uncertainty == "ensemble":
        return tuple(member(model, rows, number, seed, common) for number in range(m))
    if uncertainty == "bootstrap":
        return (fit(model, rows, method="bootstrap", draws=m, **common),)
    if uncertainty == "laplace":
        return (fit(model, rows, method="laplace", **common),)
    method = next(name for name in POSTERIOR if name in able)
    return (fit(model, rows, **{"method": method, **common, **({"draws": m} if method == "chained" else {})}),)


def one_estimate(model: Any, rows: Table, common: Mapping[str, Any], able: Sequence[str]) -> Fit:
    """The model's own; of chained equations, which draw, the mean of draws."""
    if "chained" not in able:
        return fit(model, rows, **common)
    drawn = fit(model, rows, **{"method": "chained", **common, "draws": AVERAGED})
    return replace(drawn, posterior=drawn.posterior.mean())


def member(model: Any, rows: Table, number: int, seed: int, common: Mapping[str, Any]) -> Fit:
    """One fit of an ensemble: rows weighted anew, another start."""
    own = seed_of(seed, "member", number) % 2**62
    return fit(model, reweighed(rows, np.random.default_rng(own)), **{**common, "seed": own})


def reweighed(rows: Table, random: np.random.Generator) -> Table:
    """Random row weights: one draw of the Bayesian bootstrap (Rubin, 1981)."""
    return rows.with_weights(drawn_weights(rows.weights, len(rows), random))


def drawn_weights(weights: np.ndarray | None, rows: int, random: np.random.Generator) -> np.ndarray:
    r"""``(rows,)`` weights times exponential variables, with the sum that they had: of equal ones a flat Dirichlet's draw."""
    own = np.ones(rows) if weights is None else weights
    made = random.exponential(size=rows) * own
    return np.asarray(made * own.sum() / made.sum())


def world_of(fits: Sequence[Fit], number: int, m: int) -> Fit:
    """The fit of imputation ``number`` of m, with its one draw of the parameters."""
    if len(fits) > 1:
        return fits[number]
    size = len(fits[0].posterior)
    at = number * size // m if m <= size else number % size  # as ``fill`` divides draws among tables
    return replace(fits[0], posterior=fits[0].posterior.only(at)) if size > 1 else fits[0]


def completed(fits: Sequence[Fit], rows: Table, told: Table, m: int, seed: int) -> list[Table]:
    """M completed tables; cells of the rows that the fit was told of are those that it drew itself, where it did."""
    if len(fits) > 1 or fits[0].posterior.cells is None or len(fits[0].posterior) != m:
        return drawn(fits, rows, m, seed)
    ended = conditionals.ended(fits[0], told)
    if len(told) == len(rows):
        return [rows.with_values(one.values) for one in ended]
    place = rows.known.any(1)
    made = []
    for one, other in zip(ended, drawn(fits, rows.take(np.flatnonzero(~place)), m, seed), strict=True):
        values = rows.values.copy()
        values[place], values[~place] = one.values, other.values
        made.append(rows.with_values(values))
    return made


def drawn(fits: Sequence[Fit], rows: Table, m: int, seed: int) -> list[Table]:
    """M completed tables; the i-th with the i-th parameters."""
    if len(fits) == 1:
        return fits[0].fill(rows, m, seed=seed)
    return [one.fill(rows, 1, seed=seed_of(seed, "imputation", at) % 2**62)[0] for at, one in enumerate(fits)]
