r"""Rubin's rules for numbers that are pooled one by one: variances, degrees of freedom, missing information.

For m estimates :math:`\hat Q_i` with variances :math:`U_i`,

.. math:: \bar Q = \frac1m \sum_i \hat Q_i, \quad \bar U = \frac1m \sum_i U_i, \quad
    B = \frac1{m - 1} \sum_i (\hat Q_i - \bar Q)^2, \quad T = \bar U + (1 + \tfrac1m) B .

Sources: Rubin (1987), Barnard and Rubin (1999), Reiter (2003).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats

from probgen.errors import DataError, ImproperWarning

RULES = ("rubin1987", "reiter2003")

__all__ = ["MonteCarloError", "Rubin", "barnard_rubin", "jackknife", "moments", "rubin"]


@dataclass(frozen=True, eq=False)
class Rubin:
    """Pooled numbers and what they are made of; every array has the shape of one analysis' estimates."""

    estimate: np.ndarray
    within: np.ndarray
    between: np.ndarray
    total: np.ndarray
    standard_error: np.ndarray
    df: np.ndarray
    statistic: np.ndarray
    p_value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    riv: np.ndarray
    lambda_: np.ndarray
    fmi: np.ndarray
    relative_efficiency: np.ndarray


def rubin(
    estimate: np.ndarray,
    within: np.ndarray,
    between: np.ndarray,
    m: int,
    complete_df: float | np.ndarray = np.inf,
    *,
    rule: str = "rubin1987",
    confidence: float = 0.95,
) -> Rubin:
    """Everything that follows from means and variances of m analyses."""
    if m == 1:
        total, df, riv, lambda_, fmi = single(within, complete_df)
    elif rule == "rubin1987":
        total, df, riv, lambda_, fmi = missing_data(within, between, m, complete_df)
    else:
        total, df, riv, lambda_, fmi = partially_synthetic(within, between, m)
    error = np.sqrt(total)
    statistic = ratio(estimate, error)
    half = stats.t.ppf(0.5 + confidence / 2, df) * error
    p_value = 2 * stats.t.sf(np.abs(statistic), df)
    parts = (estimate, within, between, total, error, df, statistic, p_value, estimate - half, estimate + half)
    return Rubin(*parts, riv, lambda_, fmi, 1 / (1 + fmi / m))


Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Total variance, degrees of freedom, RIV, lambda, FMI."""


def missing_data(within: np.ndarray, between: np.ndarray, m: int, complete_df: float | np.ndarray) -> Parts:
    r"""Rubin (1987): RIV :math:`(1 + 1/m) B / \bar U`, its share lambda, FMI (RIV + 2 / (df + 3)) / (1 + RIV)."""
    added = (1 + 1 / m) * between
    lambda_ = ratio(added, within + added)
    df = barnard_rubin(lambda_, m, complete_df)
    return within + added, df, ratio(added, within), lambda_, lambda_ + (1 - lambda_) * 2 / (df + 3)


def partially_synthetic(within: np.ndarray, between: np.ndarray, m: int) -> Parts:
    r"""Reiter (2003): :math:`T = \bar U + B / m`, df :math:`(m - 1)(1 + m \bar U / B)^2`; nothing is missing."""
    total = within + between / m
    df = barnard_rubin(ratio(between / m, total), m, np.inf)
    nothing = np.full_like(total, np.nan)
    return total, df, ratio((1 + 1 / m) * between, within), nothing, nothing


def single(within: np.ndarray, complete_df: float | np.ndarray) -> Parts:
    """One analysis: what it says of itself. The variance between imputations is unknown."""
    nothing = np.full_like(within, np.nan)
    return within, np.broadcast_to(np.asarray(complete_df, dtype=float), within.shape), nothing, nothing, nothing


def barnard_rubin(lambda_: np.ndarray, m: int, complete_df: float | np.ndarray = np.inf) -> np.ndarray:
    r"""Degrees of freedom of the pooled t statistic (Barnard and Rubin, 1999).

    .. math:: \frac1\nu = \frac{\lambda^2}{m - 1} +
        \left[ \frac{\nu_{com} + 1}{\nu_{com} + 3} \nu_{com} (1 - \lambda) \right]^{-1}

    With infinite :math:`\nu_{com}` these are Rubin's (1987); with :math:`\lambda = 0` those of the observed data.
    Where :math:`\lambda = 1` there is no sampling variance, so :math:`\nu_{com}` says nothing and Rubin's are taken.

    Example:
        >>> float(barnard_rubin(np.array(0.3933500927349), 10, 21).round(6))
        9.725487
    """
    lambda_, complete = np.asarray(lambda_, dtype=float), np.asarray(complete_df, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = complete * (1 - 2 / (complete + 3)) * (1 - lambda_)
        lost = np.where(np.isinf(complete) | (lambda_ == 1), 0.0, 1 / observed)
        return 1 / (lambda_**2 / (m - 1) + lost)


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """0 where the top is 0; infinite where only the bottom is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(top == 0, 0.0, top / bottom)


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over the first axis: exactly 0 where all are equal, unknown where there is one."""
    shifted = values - values[0]
    between = shifted.var(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)
    return values[0] + shifted.mean(0), between


@dataclass(frozen=True, eq=False)
class MonteCarloError:
    """Standard errors of pooled numbers over other sets of as many imputations; arrays over terms."""

    estimate: np.ndarray
    standard_error: np.ndarray
    p_value: np.ndarray
    fmi: np.ndarray


def jackknife(
    estimates: np.ndarray, variances: np.ndarray, complete_df: float | np.ndarray, rule: str
) -> MonteCarloError:
    r"""Each imputation left out in turn (Royston, Carlin and White, 2009; von Hippel, 2020); at least 3 are needed.

    .. math:: \sqrt{\frac{m - 1}m \sum_i (g_{-i} - \bar g)^2}

    Args:
        estimates, variances: ``(m, K)``.
        complete_df, rule: as in :func:`rubin`.
    """
    m = len(estimates)
    mean, between = leave_one_out(estimates)
    left = rubin(mean, leave_one_out(variances)[0], between, m - 1, complete_df, rule=rule)
    names = ("estimate", "standard_error", "p_value", "fmi")
    return MonteCarloError(*(np.sqrt((m - 1) * getattr(left, name).var(0)) for name in names))


def leave_one_out(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances ``(m, K)`` of all rows but one."""
    m = len(values)
    gap = (values - values[0]) - (values - values[0]).mean(0)
    squares = (gap**2).sum(0) - gap**2 * m / (m - 1)
    return moments(values)[0] - gap / (m - 1), np.maximum(squares, 0.0) / (m - 2)


def check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise DataError(f"confidence must lie between 0 and 1, got {confidence}.")


def warn_of_one(m: int) -> None:
    if m == 1:
        told = (
            "There is one imputation: intervals leave out what the holes cost. Impute at least twice, better 20 times."
        )
        warnings.warn(told, ImproperWarning, stacklevel=3)
