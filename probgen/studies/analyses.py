"""Results of m analyses, whatever wrote them, as arrays: estimates, covariances, degrees of freedom, names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from probgen.errors import DataError

__all__ = ["Analysis", "read_analyses"]

EXPECTED = (
    "Expected from each imputation: a fitted statsmodels result, (estimate, covariance), (estimate, covariance, df), a "
    "dict with the keys 'estimate', 'covariance' (or 'variance') and perhaps 'df', or an object with such attributes"
)


@dataclass(frozen=True, eq=False)
class Analysis:
    """One completed table's result.

    Attributes:
        names: of the K terms; None where the result does not tell.
        estimate: ``(K,)``.
        covariance: ``(K, K)``; NaN off the diagonal where only variances came.
        df: residual degrees of freedom; None where unknown.
    """

    names: tuple[str, ...] | None
    estimate: np.ndarray
    covariance: np.ndarray
    df: float | None


def read_analyses(analyses: Iterable[Any], names: Sequence[str] | None) -> tuple[tuple[str, ...], list[Analysis]]:
    """All analyses, checked, with the same terms in the same order.

    Raises:
        DataError: there are none, one cannot be read, or their terms differ.
    """
    if isinstance(analyses, (str, Mapping)) or not isinstance(analyses, Iterable):
        raise DataError(f"analyses must be a sequence of results, one an imputation; got {type(analyses).__name__}.")
    read = [read_analysis(result, number) for number, result in enumerate(analyses, 1)]
    if not read:
        raise DataError("There are no analyses to pool: pass one result an imputation.")
    terms = chosen_names(read, names)
    same = [aligned(analysis, terms, number) for number, analysis in enumerate(read, 1)]
    for number, analysis in enumerate(same, 1):
        check_numbers(analysis, terms, number)
    return tuple(names) if names is not None else terms, same


def read_analysis(result: Any, number: int) -> Analysis:
    estimate, covariance, df = parts(result, number)
    if covariance is None:
        raise DataError(f"Imputation {number}: the result ({type(result).__name__}) has no covariance. {EXPECTED}.")
    values = as_array(estimate, "estimate", number)
    spread = as_array(covariance, "covariance", number)
    names = labels(estimate) or model_names(result, values.size)
    check_labels(names, labels(covariance), number)
    if values.ndim > 1 and not hasattr(result, "cov_params"):
        raise DataError(f"Imputation {number}: the estimate must be a number or a vector, got shape {values.shape}.")
    flat = values.ravel(order="F")
    return Analysis(names, flat, square(spread, flat.size, number), degrees(df, number))


def parts(result: Any, number: int) -> tuple[Any, Any, Any]:
    """Estimate, covariance and degrees of freedom, as they came."""
    if hasattr(result, "params") and hasattr(result, "cov_params"):
        return result.params, result.cov_params(), getattr(result, "df_resid", None)
    if isinstance(result, (tuple, list)) and len(result) in (2, 3):
        return result[0], result[1], result[2] if len(result) == 3 else None
    keys = ("estimate", "covariance", "variance", "df")
    known = result if isinstance(result, Mapping) else {key: getattr(result, key, None) for key in keys}
    estimate, covariance, variance, df = (known.get(key) for key in keys)
    if estimate is None:
        raise DataError(f"Imputation {number} gave {described(result)}. {EXPECTED}.")
    return estimate, variance if covariance is None else covariance, df


def described(result: Any) -> str:
    if isinstance(result, Mapping):
        return f"a dict with keys {list(result)}"
    return f"{type(result).__name__} of length {len(result)}" if hasattr(result, "__len__") else type(result).__name__


def as_array(values: Any, what: str, number: int) -> np.ndarray:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as problem:
        raise DataError(f"Imputation {number}: the {what} is not numeric ({problem}). {EXPECTED}.") from problem


def labels(values: Any) -> tuple[str, ...] | None:
    """Of a series or a frame; those of a frame that is not square by column and row (several equations)."""
    index = getattr(values, "index", None)
    if index is None or callable(index):
        return None
    columns = getattr(values, "columns", None)
    if columns is None or list(columns) == list(index):
        return tuple(":".join(map(str, n)) if isinstance(n, tuple) else str(n) for n in index)
    return tuple(f"{column}:{row}" for column in columns for row in index)


def model_names(result: Any, size: int) -> tuple[str, ...] | None:
    """Names of a statsmodels model that was fitted to arrays."""
    names = getattr(getattr(result, "model", None), "exog_names", None)
    return tuple(map(str, names)) if names is not None and len(names) == size else None


def check_labels(names: tuple[str, ...] | None, others: tuple[str, ...] | None, number: int) -> None:
    if names is None:
        return
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"Imputation {number}: more than one term is called {twice[0]!r}; give each its own name.")
    if others is not None and len(others) == len(names) and set(others) == set(names) and others != names:
        raise DataError(f"Imputation {number}: the covariance has the order {others}, the estimate {names}.")


def square(spread: np.ndarray, size: int, number: int) -> np.ndarray:
    """A covariance matrix; off its diagonal is unknown where variances came."""
    if spread.ndim < 2 and spread.size == size:
        matrix = np.full((size, size), np.nan)
        np.fill_diagonal(matrix, spread)
        return matrix
    if spread.shape != (size, size):
        raise DataError(
            f"Imputation {number}: expected a {size} x {size} covariance or {size} variances for {size} terms, "
            f"got shape {spread.shape}."
        )
    return spread


def degrees(df: Any, number: int) -> float | None:
    if df is None:
        return None
    value = as_array(df, "df", number)
    if value.size != 1:
        raise DataError(f"Imputation {number}: df must be one number, got shape {value.shape}.")
    if np.isnan(value).any():
        return None
    if value.item() <= 0:
        raise DataError(
            f"Imputation {number}: df must be above 0, got {value.item():g}; the model has too many terms."
        )
    return float(value.item())


def chosen_names(read: list[Analysis], names: Sequence[str] | None) -> tuple[str, ...]:
    """The first analysis that names its terms decides their order."""
    sizes = [len(analysis.estimate) for analysis in read]
    named = next((analysis.names for analysis in read if analysis.names), None)
    if named is None and len(set(sizes)) > 1:
        raise DataError(
            f"The analyses have different numbers of terms: {sizes}. Every imputation needs the same model."
        )
    if names is not None and (isinstance(names, str) or len(names) != sizes[0] or len(set(names)) < len(names)):
        raise DataError(f"names must be {sizes[0]} different names, one a term; got {names!r}.")
    return named or tuple(names or (f"term{place}" for place in range(1, sizes[0] + 1)))


def aligned(analysis: Analysis, terms: tuple[str, ...], number: int) -> Analysis:
    """With its terms in the common order."""
    if analysis.names is None:
        if len(analysis.estimate) != len(terms):
            raise DataError(f"Imputation {number} has {len(analysis.estimate)} terms, others have {len(terms)}.")
        return analysis
    missing, extra = [t for t in terms if t not in analysis.names], [n for n in analysis.names if n not in terms]
    if missing or extra:
        told = f"lacks the term {missing[0]!r}" if missing else f"has the term {extra[0]!r}, which others lack"
        raise DataError(
            f"Imputation {number} {told}. Every analysis must have the same terms: a level may be absent from that "
            "completed table, so fix the levels (a categorical column) before the formula is read."
        )
    order = [analysis.names.index(term) for term in terms]
    return replace(
        analysis,
        names=terms,
        estimate=analysis.estimate[order],
        covariance=analysis.covariance[np.ix_(order, order)],
    )


def check_numbers(analysis: Analysis, terms: tuple[str, ...], number: int) -> None:
    variances = np.diag(analysis.covariance)
    for what, values in (("estimate", analysis.estimate), ("variance", variances)):
        bad = ~np.isfinite(values) | ((values < 0) & (what == "variance"))
        if bad.any():
            place = int(bad.argmax())
            raise DataError(
                f"Imputation {number}, term {terms[place]!r}: the {what} is {values[place]:g}. It must be finite"
                f"{' and not negative' if what == 'variance' else ''}; look at the analysis of this completed table."
            )
    if not np.isnan(analysis.covariance[~np.eye(len(terms), dtype=bool)]).all():
        check_covariance(analysis.covariance, terms, number)


def check_covariance(covariance: np.ndarray, terms: tuple[str, ...], number: int) -> None:
    """Finite, symmetric and no larger than its variances allow."""
    if not np.isfinite(covariance).all():
        one, other = (terms[place] for place in np.argwhere(~np.isfinite(covariance))[0])
        raise DataError(f"Imputation {number}: the covariance of {one!r} and {other!r} is not finite.")
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-9 * np.abs(covariance).max()):
        raise DataError(f"Imputation {number}: the covariance is not symmetric.")
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    if (np.abs(covariance) > scale * (1 + 1e-6)).any():
        raise DataError(f"Imputation {number}: a covariance exceeds what its variances allow.")
