r"""Pooling: one answer from the analyses of m completed tables.

Each completed table is analysed as if it were complete; the spread of the m results says what the holes cost.
The arithmetic is in :mod:`probgen.studies.rubin`, tests of several terms in :mod:`probgen.studies.pooled_tests`,
predictions and correlations in :mod:`probgen.studies.pooled_values`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy import special, stats

from probgen.data.native import from_mapping
from probgen.errors import CapabilityError, DataError
from probgen.studies.analyses import read_analyses
from probgen.studies.pooled_tests import PooledTest, d1, pool_statistics, wald_statistics
from probgen.studies.rubin import (
    RULES,
    MonteCarloError,
    Rubin,
    check_confidence,
    jackknife,
    moments,
    rubin,
    warn_of_one,
)

__all__ = ["Pooled", "pool"]

INTERCEPTS = ("(Intercept)", "Intercept", "const", "intercept")
COLUMNS = tuple(field.name for field in fields(Rubin))


@dataclass(frozen=True, eq=False)
class Pooled(Rubin):
    r"""Pooled estimates of K terms; arrays are ``(K,)`` where nothing else is said.

    Attributes:
        names: of the terms.
        m: number of imputations.
        rule: "rubin1987" or "reiter2003".
        confidence: of the intervals.
        complete_df: residual degrees of freedom of the complete data; infinite where unknown.
        estimates: ``(m, K)``, one row an imputation.
        covariances: ``(m, K, K)``; NaN off the diagonal where only variances came.
        estimate: mean of the estimates.
        within: :math:`\bar U`, mean of the variances.
        between: :math:`B`, variance of the estimates; NaN with one imputation.
        total: :math:`T`, variance of the pooled estimate.
        standard_error: its square root.
        df: degrees of freedom (Barnard and Rubin, 1999).
        statistic: estimate over standard error.
        p_value: two-sided, of the hypothesis that the term is 0.
        lower, upper: ends of the confidence interval.
        riv: relative increase in variance due to what is missing.
        lambda\_: its share of the total variance.
        fmi: fraction of missing information.
        relative_efficiency: of m imputations against infinitely many, 1 / (1 + FMI / m).
    """

    names: tuple[str, ...]
    m: int
    rule: str
    confidence: float
    complete_df: float
    estimates: np.ndarray
    covariances: np.ndarray

    @property
    def within_covariance(self) -> np.ndarray:
        """``(K, K)``: mean of the covariances."""
        return moments(self.covariances)[0]

    @property
    def between_covariance(self) -> np.ndarray:
        """``(K, K)``: covariance of the estimates over imputations; NaN with one imputation."""
        if self.m == 1:
            return np.full(self.covariances.shape[1:], np.nan)
        gap = (self.estimates - self.estimates[0]) - (self.estimates - self.estimates[0]).mean(0)
        return gap.T @ gap / (self.m - 1)

    @property
    def total_covariance(self) -> np.ndarray:
        """``(K, K)`` of the pooled estimates; that of the only analysis with one imputation."""
        if self.m == 1:
            return self.within_covariance
        share = 1 / self.m + (self.rule == "rubin1987")
        return self.within_covariance + share * self.between_covariance

    def monte_carlo_error(self) -> MonteCarloError:
        r"""How far estimate, standard error, p value and FMI would move with other m imputations, by the jackknife.

        That of the estimate is :math:`\sqrt{B / m}`. Sources: Royston, Carlin and White (2009), von Hippel (2020).

        Raises:
            CapabilityError: fewer than 3 imputations.
        """
        if self.m < 3:
            raise CapabilityError(f"The jackknife over imputations needs at least 3 of them, got {self.m}.")
        variances = np.diagonal(self.covariances, axis1=1, axis2=2)
        return jackknife(self.estimates, variances, self.complete_df, self.rule)

    def imputations_needed(self, cv: float = 0.05, confidence: float = 0.95) -> int:
        r"""How many imputations make every standard error repeatable up to a coefficient of variation ``cv``.

        .. math:: m = 1 + \tfrac12 (\gamma / cv)^2

        :math:`\gamma` is the upper limit of the FMI's two-sided interval; its logit has standard error
        :math:`\sqrt{2/m}` (Harel, 2007). Impute a few times, ask, impute again (von Hippel, 2020). At least 2.

        Raises:
            CapabilityError: one imputation, or synthetic data: the FMI is unknown.
        """
        check_confidence(confidence)
        if not cv > 0:
            raise DataError(f"cv must be above 0, got {cv}.")
        if np.isnan(self.fmi).any():
            raise CapabilityError(f"The FMI is unknown (m = {self.m}, rule {self.rule!r}); impute at least twice.")
        high = special.logit(self.fmi.max()) + stats.norm.ppf(0.5 + confidence / 2) * np.sqrt(2 / self.m)
        return max(2, int(np.ceil(1 + 0.5 * (special.expit(high) / cv) ** 2)))

    def test(
        self, terms: str | Sequence[str] | None = None, *, null: float | np.ndarray = 0.0, method: str = "D1"
    ) -> PooledTest:
        """Do several terms all have their ``null`` value? A Wald test.

        Args:
            terms: names; all but the intercept where it is None.
            null: one value, or one a term.
            method: "D1" (from all covariances) or "D2" (from the imputations' Wald statistics; see
                :func:`pool_statistics`). D3 and D4 need log likelihoods: :func:`pool_likelihood_ratio`.

        Raises:
            DataError: an unknown term, covariances that are unknown or singular, one imputation.
            CapabilityError: an unknown method, or synthetic data.
        """
        if method not in ("D1", "D2"):
            raise CapabilityError(
                f"method must be 'D1' or 'D2', got {method!r}; for D3 and D4 use pool_likelihood_ratio."
            )
        if self.rule != "rubin1987":
            raise CapabilityError(
                f"Tests of several terms are for rule 'rubin1987', this was pooled by {self.rule!r}."
            )
        chosen = self.places(terms)
        if np.shape(null) not in ((), (len(chosen),)):
            raise DataError(f"null must be one number, or {len(chosen)}, one a term; got shape {np.shape(null)}.")
        spread = self.known_covariances(chosen)
        gap = self.estimates[:, chosen] - np.broadcast_to(null, len(chosen))
        if method == "D1":
            return d1(gap, spread, self.complete_df)
        return pool_statistics(wald_statistics(gap, spread), len(chosen))

    def places(self, terms: str | Sequence[str] | None) -> list[int]:
        if terms is None:
            terms = [name for name in self.names if name not in INTERCEPTS]
        wanted = [terms] if isinstance(terms, str) else list(terms)
        unknown = [term for term in wanted if term not in self.names]
        if unknown or not wanted or len(set(wanted)) < len(wanted):
            raise DataError(f"terms must be different names out of {list(self.names)}, got {wanted}.")
        return [self.names.index(term) for term in wanted]

    def known_covariances(self, chosen: Sequence[int]) -> np.ndarray:
        spread = self.covariances[np.ix_(range(self.m), chosen, chosen)]
        if np.isnan(spread).any():
            raise DataError("Covariances between terms are needed; the analyses gave variances only.")
        return spread

    def contrasts(self, weights: Mapping[str, Mapping[str, float]]) -> Pooled:
        """Weighted sums of terms, pooled: sums of each imputation's estimates, so nothing is approximated.

        Args:
            weights: name of the sum -> term -> weight, such as ``{"old - young": {"old": 1, "young": -1}}``.

        Raises:
            DataError: an unknown term, or covariances that are unknown.
        """
        spread = self.known_covariances(range(len(self.names)))
        matrix = np.zeros((len(weights), len(self.names)))
        for row, parts in enumerate(weights.values()):
            matrix[row, self.places(list(parts))] = list(parts.values())
        return pooled(
            tuple(weights),
            self.estimates @ matrix.T,
            matrix @ spread @ matrix.T,
            self.complete_df,
            self.rule,
            self.confidence,
        )

    def records(self) -> list[dict[str, Any]]:
        """One record a term, with all pooled numbers."""
        columns = {name: getattr(self, name).tolist() for name in COLUMNS}
        return [
            {"term": term} | {name: values[place] for name, values in columns.items()}
            for place, term in enumerate(self.names)
        ]

    def to_pandas(self) -> Any:
        """The records as a data frame."""
        return from_mapping({"term": list(self.names)} | {name: getattr(self, name) for name in COLUMNS})

    def __str__(self) -> str:
        ends = [f"{100 * (1 + side * self.confidence) / 2:.4g} %" for side in (-1, 1)]
        head = ["term", "estimate", "std.error", "statistic", "df", "p.value", *ends, "fmi"]
        shown = ("estimate", "standard_error", "statistic", "df", "p_value", "lower", "upper", "fmi")
        columns = [self.names] + [[f"{number:.6g}" for number in getattr(self, name)] for name in shown]
        widths = [max(map(len, [title, *column])) for title, column in zip(head, columns)]
        lines = [" ".join(f"{cell:>{w}}" for cell, w in zip(row, widths)) for row in [head, *zip(*columns)]]
        return "\n".join([f"{self.rule}, m = {self.m}, complete-data df = {self.complete_df:g}", *lines])


def pool(
    analyses: Iterable[Any],
    *,
    complete_df: float | None = None,
    confidence: float = 0.95,
    rule: str = "rubin1987",
    names: Sequence[str] | None = None,
) -> Pooled:
    r"""One answer from the analyses of m completed tables: estimates, intervals, what the holes cost.

    .. math:: \bar Q = \frac1m \sum_i \hat Q_i, \quad T = \bar U + (1 + \tfrac1m) B, \quad
        \bar Q \pm t_\nu \sqrt T

    with :math:`\bar U` the mean of the variances, :math:`B` the variance of the estimates, :math:`\nu` of Barnard
    and Rubin. It is R's ``mice::pool``; degrees of freedom are their exact limits where :math:`B = 0`.

    Args:
        analyses: one result an imputation: a fitted statsmodels result (``params``, ``cov_params()``, ``df_resid``), a
            tuple (estimate, covariance) or (estimate, covariance, df), a dict with these keys, or an object with these
            attributes. Estimates are numbers or vectors ``(K,)``; variances ``(K,)`` may come instead of a covariance
            ``(K, K)``, but then terms cannot be tested together. Named terms (a pandas index) may come in any order.
        complete_df: residual degrees of freedom that the analysis would have without holes; the smallest that the
            analyses tell where it is None, infinite where they tell none.
        confidence: of the intervals.
        rule: "rubin1987", for tables with holes; "reiter2003", for tables made synthetic out of complete ones.
        names: of the terms, in place of those of the analyses.

    Raises:
        DataError: nothing to pool, results without covariance, terms that differ, numbers that are not finite.

    Warns:
        ImproperWarning: there is one imputation, so that nothing is known of the holes' cost.

    Sources: Rubin (1987), Barnard and Rubin (1999), Reiter (2003).

    Example:
        >>> print(pool([(1.0, 0.04), (1.3, 0.05), (1.1, 0.03)], complete_df=50, names=["slope"]))
        rubin1987, m = 3, complete-data df = 50
         term estimate std.error statistic      df    p.value    2.5 %  97.5 %      fmi
        slope  1.13333  0.266667      4.25 7.53846 0.00320446 0.511784 1.75488 0.544252
    """
    check_confidence(confidence)
    if rule not in RULES:
        raise CapabilityError(f"rule must be one of {', '.join(RULES)}; got {rule!r}.")
    if complete_df is not None and not complete_df > 0:
        raise DataError(f"complete_df must be above 0, got {complete_df}.")
    terms, read = read_analyses(analyses, names)
    told = [analysis.df for analysis in read if analysis.df is not None]
    df = float(complete_df if complete_df is not None else min(told, default=np.inf))
    warn_of_one(len(read))
    estimates = np.stack([analysis.estimate for analysis in read])
    return pooled(terms, estimates, np.stack([analysis.covariance for analysis in read]), df, rule, confidence)


def pooled(
    names: tuple[str, ...],
    estimates: np.ndarray,
    covariances: np.ndarray,
    complete_df: float,
    rule: str,
    confidence: float,
) -> Pooled:
    mean, between = moments(estimates)
    within = moments(np.diagonal(covariances, axis1=1, axis2=2))[0]
    parts = rubin(mean, within, between, len(estimates), complete_df, rule=rule, confidence=confidence)
    return Pooled(
        **vars(parts), names=names, m=len(estimates), rule=rule, confidence=confidence, complete_df=complete_df,
        estimates=estimates, covariances=covariances,
    )  # fmt: skip
