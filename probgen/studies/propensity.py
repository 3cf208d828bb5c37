r"""Observed and imputed values at the same propensity to be missing (van Buuren, 2018, section 6.6).

Which rows lack a column is told from their other columns, completed, by a logistic regression. Where cells are missing at
random given these, rows with the same propensity have the same law of the column whether it was observed or imputed
(Rosenbaum and Rubin, 1983; Raghunathan and Bondarenko, 2007). Differences in the column itself prove nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probgen.data.table import Table
from probgen.errors import DataError
from probgen.studies.imputed_values import imputed_cells
from probgen.studies.ridge_logistic import mode_of
from probgen.studies.scoring import Encoding

__all__ = ["Propensity", "propensity"]

FREE = 1e-9  # penalty of the intercept
MOST_ODDS = 50.0
POWERS = (1, 2, 3)  # of the logit of the propensity, which residuals are taken from


@dataclass(frozen=True, eq=False)
class Propensity:
    """How likely each row lacks a column, and the column at that propensity.

    Attributes:
        column: the one that is missing.
        unknown: ``(N,)``, where it was; of the N rows in which it is known or was imputed.
        score: ``(N,)`` probabilities, averaged over imputations.
        values: ``(m, N)``, the completed column, as coded.
        residuals: ``(m, N)``, of its regression on a cubic of the score's logit, in standard deviations of those of known
            cells; codes of labels count as numbers.
    """

    column: str
    unknown: np.ndarray
    score: np.ndarray
    values: np.ndarray
    residuals: np.ndarray

    @property
    def shift(self) -> float:
        """Mean residual of imputed cells minus that of known ones, in standard deviations of the latter."""
        return float(self.residuals[:, self.unknown].mean() - self.residuals[:, ~self.unknown].mean())

    @property
    def shift_error(self) -> float:
        """Its standard error as if imputed values were seen: a guide to what is large."""
        few, many = int(self.unknown.sum()), int((~self.unknown).sum())
        imputed = self.residuals[:, self.unknown]
        between = imputed.mean(1).var(ddof=1) if len(imputed) > 1 else 0.0
        return float(np.sqrt(imputed.var() / few + 1.0 / many + between))

    def shares(self, levels: int) -> tuple[np.ndarray, np.ndarray]:
        """Shares of the codes 0, 1, ...: ``(levels,)`` of known cells that count by the odds of being missing, and ``(m, levels)``."""
        odds = np.minimum(self.score / np.maximum(1 - self.score, 1e-9), MOST_ODDS)[~self.unknown]
        codes = np.arange(levels)
        own = (odds[:, None] * (self.values[0, ~self.unknown][:, None] == codes)).sum(0) / max(odds.sum(), 1e-300)
        return own, (self.values[:, self.unknown][..., None] == codes).mean(1)


def propensity(table: Table, tables: Sequence[Table], column: str, penalty: float = 1.0) -> Propensity:
    """Of one column. Rows in which it stays missing by design do not count; other columns that do so tell that they do.

    Args:
        table: with its holes.
        tables: completed.
        column: name; some of its cells are known and some were imputed.
        penalty: of the squared coefficients of the logistic regression, on standardised columns.

    Raises:
        DataError: no cell of the column was imputed, or none is known.
    """
    place = table.schema.index(column)
    filled = imputed_cells(table, tables, place)
    rows = np.flatnonzero(table.known[:, place] | filled)
    unknown = filled[rows]
    if not unknown.any() or unknown.all():
        raise DataError(f"Column {column!r} must have cells that are known and cells that were imputed.")
    others = [other for other in range(table.n_columns) if other != place]
    encoding = Encoding.of(table)
    features = [features_of(encoding, one.values[rows], others) for one in tables]
    score = np.mean([fitted_probabilities(x, unknown, penalty) for x in features], 0)
    values = np.stack([one.values[rows, place] for one in tables])
    return Propensity(column, unknown, score, values, residuals_of(values, score, unknown))


def features_of(encoding: Encoding, values: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """``(N, F)``: columns as numbers; cells without a value are the mean, and an indicator says where they are."""
    if not places:
        return np.zeros((len(values), 0))
    absent = np.isnan(values[:, places])
    found = [np.nan_to_num(encoding(values, places), nan=0.0), absent[:, absent.any(0)]]
    return np.concatenate(found, 1)


def fitted_probabilities(features: np.ndarray, outcome: np.ndarray, penalty: float) -> np.ndarray:
    """``(N,)``: of a ridge logistic regression, whose intercept is hardly penalised."""
    x = np.column_stack([np.ones(len(features)), features])
    ridge = np.r_[FREE, np.full(x.shape[1] - 1, penalty)]
    beta, _ = mode_of(x, outcome, np.ones(len(x)), ridge)
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x @ beta, -30, 30))))


def residuals_of(values: np.ndarray, score: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """What a cubic of the logit leaves of each completed column, over the spread of what it leaves of known cells."""
    logit = np.log(np.clip(score, 1e-9, 1 - 1e-9) / np.clip(1 - score, 1e-9, 1))
    logit = (logit - logit.mean()) / (logit.std() or 1.0)
    design = np.column_stack([np.ones(len(score)), *(logit**power for power in POWERS)])
    left = values - (design @ np.linalg.lstsq(design, values.T, rcond=None)[0]).T
    return left / (left[:, ~unknown].std() or 1.0)
