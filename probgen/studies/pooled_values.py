"""Numbers pooled one by one: predictions of rows, correlations, R squared."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from probgen.errors import DataError
from probgen.studies.rubin import Rubin, check_confidence, moments, rubin, warn_of_one

__all__ = ["PooledCorrelation", "PooledPredictions", "pool_correlation", "pool_predictions", "pool_r_squared"]


@dataclass(frozen=True, eq=False)
class PooledPredictions:
    """Predictions of N rows, each pooled by Rubin's rules; arrays ``(N,)``.

    Attributes:
        m: number of imputations.
        estimate: mean prediction.
        within: mean of the variances.
        between: variance of the predictions over imputations.
        total: variance of the pooled prediction.
        standard_error: its square root.
        df: degrees of freedom (Barnard and Rubin, 1999).
        lower, upper: ends of the intervals.
        fmi: fraction of missing information.
    """

    m: int
    estimate: np.ndarray
    within: np.ndarray
    between: np.ndarray
    total: np.ndarray
    standard_error: np.ndarray
    df: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    fmi: np.ndarray


def pool_predictions(
    predictions: Any, variances: Any, *, complete_df: float = np.inf, confidence: float = 0.95
) -> PooledPredictions:
    """Predictions of the same N rows by m analyses, pooled row by row.

    Args:
        predictions: ``(m, N)``, on a scale where they are about normal (a logistic regression's linear predictor).
        variances: ``(m, N)``: of the expected value, for confidence intervals; with the residual variance added, for
            prediction intervals.
        complete_df: residual degrees of freedom of the complete data.
        confidence: of the intervals.

    Raises:
        DataError: shapes that differ, numbers that are not finite, variances below 0.

    Source: Miles (2016).

    Example:
        >>> pool_predictions([[1.0, 2.0], [3.0, 2.0]], [[1.0, 4.0], [1.0, 4.0]]).total
        array([4., 4.])
    """
    values, spread = np.asarray(predictions, dtype=float), np.asarray(variances, dtype=float)
    check_confidence(confidence)
    if values.ndim != 2 or values.shape != spread.shape or not len(values):
        raise DataError(f"predictions and variances must both be (m, N), got {values.shape} and {spread.shape}.")
    for what, found in (("prediction", values), ("variance", spread)):
        bad = ~np.isfinite(found) | ((found < 0) & (what == "variance"))
        if bad.any():
            i, row = np.argwhere(bad)[0]
            raise DataError(f"Imputation {i + 1}, row {row}: the {what} is {found[i, row]:g}.")
    warn_of_one(len(values))
    mean, between = moments(values)
    parts = vars(rubin(mean, moments(spread)[0], between, len(values), complete_df, confidence=confidence))
    names = [field.name for field in fields(PooledPredictions)][1:]
    return PooledPredictions(len(values), **{name: parts[name] for name in names})


@dataclass(frozen=True, eq=False)
class PooledCorrelation:
    """A correlation or an R squared, pooled on Fisher's z scale: numbers, or arrays of the shape of one imputation's.

    Attributes:
        estimate: pooled, on the scale that came in.
        lower, upper: ends of the interval, with Student's t of ``df``.
        fisher_z: pooled inverse hyperbolic tangent of the correlation.
        standard_error: of ``fisher_z``.
        df: degrees of freedom of ``fisher_z``.
        fmi: fraction of missing information of ``fisher_z``.
        m: number of imputations.
    """

    estimate: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    fisher_z: np.ndarray
    standard_error: np.ndarray
    df: np.ndarray
    fmi: np.ndarray
    m: int


def pool_correlation(correlations: Any, n: Any, *, confidence: float = 0.95) -> PooledCorrelation:
    r"""Correlations of m completed tables by Fisher's z, :math:`\operatorname{artanh} r` of variance 1 / (n - 3).

    Args:
        correlations: ``(m,)``, or ``(m, ...)`` for several, strictly between -1 and 1.
        n: number of rows, one or ``(m,)``.
        confidence: of the interval.

    Raises:
        DataError: a correlation outside, or fewer than 4 rows.

    Sources: Fisher (1915), Schafer (1997).

    Example:
        >>> pool_correlation([0.5, 0.55, 0.6], 100).estimate.round(4)
        np.float64(0.5513)
    """
    z = fisher_z(correlations, "correlation")
    parts = pooled_z(z, n, confidence)
    return correlation(parts, len(z), *(np.tanh(value) for value in (parts.estimate, parts.lower, parts.upper)))


def pool_r_squared(values: Any, n: Any, *, confidence: float = 0.95) -> PooledCorrelation:
    r"""R squared, or adjusted R squared, of m linear models, by Fisher's z of its root, as mice's ``pool.r.squared``.

    The interval takes Student's t where mice takes 1.96, and ends at 0 where mice squares a negative root.

    Args:
        values: ``(m,)``, below 1; adjusted ones may be negative.
        n: number of rows, one or ``(m,)``.
        confidence: of the interval.

    Raises:
        DataError: a value outside, or fewer than 4 rows.

    Source: Harel (2009).

    Example:
        >>> pool_r_squared([0.40, 0.45, 0.42], 100).estimate.round(4)
        np.float64(0.4235)
    """
    squared = np.asarray(values, dtype=float)
    z = fisher_z(np.sign(squared) * np.sqrt(np.abs(squared)), "R squared (its root)")
    parts = pooled_z(z, n, confidence)
    ends = (np.tanh(np.maximum(end, 0.0)) ** 2 for end in (parts.lower, parts.upper))
    return correlation(parts, len(z), np.sign(parts.estimate) * np.tanh(parts.estimate) ** 2, *ends)


def fisher_z(values: Any, what: str) -> np.ndarray:
    found = np.asarray(values, dtype=float)
    if not found.ndim or not len(found):
        raise DataError(f"Expected one {what} an imputation, got shape {found.shape}.")
    bad = ~(np.abs(found) < 1)
    if bad.any():
        place = np.argwhere(bad)[0]
        raise DataError(f"Imputation {place[0] + 1}: the {what} is {found[tuple(place)]:g}, not between -1 and 1.")
    return np.arctanh(found)


def pooled_z(z: np.ndarray, n: Any, confidence: float) -> Rubin:
    check_confidence(confidence)
    rows = np.asarray(n, dtype=float)
    if rows.shape not in ((), (len(z),)) or not (np.isfinite(rows) & (rows > 3)).all():
        raise DataError(f"n must be a number of rows above 3, one or {len(z)} (one an imputation); got {n!r}.")
    warn_of_one(len(z))
    mean, between = moments(z)
    within = np.broadcast_to((1 / (rows - 3)).mean(), mean.shape)
    return rubin(mean, within, between, len(z), confidence=confidence)


def correlation(parts: Rubin, m: int, estimate: Any, lower: Any, upper: Any) -> PooledCorrelation:
    return PooledCorrelation(estimate, lower, upper, parts.estimate, parts.standard_error, parts.df, parts.fmi, m)
