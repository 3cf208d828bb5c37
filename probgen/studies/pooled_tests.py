"""Tests of several coefficients at once, over multiply imputed tables: D1, D2, D3, D4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from probgen.errors import CapabilityError, DataError

__all__ = ["PooledTest", "d1", "pool_likelihood_ratio", "pool_statistics", "wald_statistics"]


@dataclass(frozen=True)
class PooledTest:
    """An F test pooled over imputations.

    Attributes:
        method: "D1", "D2", "D3" or "D4".
        statistic: F; D2 may fall below 0, with p value 1.
        df1, df2: its degrees of freedom; ``df2`` is infinite in large samples with nothing missing.
        p_value: probability of a larger F.
        riv: average relative increase in variance due to what is missing.
        m: number of imputations.
    """

    method: str
    statistic: float
    df1: float
    df2: float
    p_value: float
    riv: float
    m: int

    def __str__(self) -> str:
        head = f"{self.method}: F({self.df1:g}, {self.df2:.2f}) = {self.statistic:.4f}"
        return f"{head}, p = {self.p_value:.4g}, RIV = {self.riv:.4f}, m = {self.m}"


def f_test(method: str, statistic: float, df1: float, df2: float, riv: float, m: int) -> PooledTest:
    p_value = stats.f.sf(statistic, df1, df2) if np.isfinite(df2) else stats.chi2.sf(df1 * statistic, df1)
    return PooledTest(method, float(statistic), float(df1), float(df2), float(p_value), float(riv), m)


def d1(estimates: np.ndarray, covariances: np.ndarray, complete_df: float = np.inf) -> PooledTest:
    r"""Are K coefficients all 0? From estimates and covariances (Li, Raghunathan and Rubin, 1991).

    .. math:: D_1 = \frac{\bar Q^\top \bar U^{-1} \bar Q}{K (1 + r)}, \qquad
        r = (1 + \tfrac1m) \operatorname{tr}(B \bar U^{-1}) / K

    With finite complete degrees of freedom the second ones are Reiter's (2007), as in mice. His need K(m - 1) > 4 and
    a sample that is not too small; elsewhere large-sample and observed ones are joined as Barnard and Rubin (1999) do,
    which for K = 1 gives theirs.

    Args:
        estimates: ``(m, K)``.
        covariances: ``(m, K, K)``.
        complete_df: residual degrees of freedom of the complete data.
    """
    m, k = estimates.shape
    several(m)
    mean, gap = estimates.mean(0), estimates - estimates.mean(0)
    within = covariances.mean(0)
    riv = (1 + 1 / m) * sum(solved(within, row, "mean") for row in gap) / (m - 1) / k
    df2 = large_sample_df(k, m, riv) if np.isinf(complete_df) else reiter_df(k, m, riv, complete_df)
    return f_test("D1", solved(within, mean, "mean") / (k * (1 + riv)), k, df2, riv, m)


def solved(covariance: np.ndarray, vector: np.ndarray, which: str) -> float:
    """The quadratic form of the inverse, in units of standard deviations."""
    scale = np.sqrt(np.diag(covariance))
    if (scale == 0).any() or np.linalg.matrix_rank(covariance / np.outer(scale, scale), hermitian=True) < len(scale):
        raise DataError(f"The {which} covariance of the tested terms is singular: leave out redundant terms.")
    return float(vector / scale @ np.linalg.solve(covariance / np.outer(scale, scale), vector / scale))


def large_sample_df(k: float, m: int, riv: float) -> float:
    """Second degrees of freedom of D1 and D3 in large samples (Li, Raghunathan and Rubin, 1991)."""
    if riv == 0:
        return np.inf
    t = k * (m - 1)
    if t > 4:
        return 4 + (t - 4) * (1 + (1 - 2 / t) / riv) ** 2
    return t * (1 + 1 / k) * (1 + 1 / riv) ** 2 / 2


def reiter_df(k: int, m: int, riv: float, complete_df: float) -> float:
    """Second degrees of freedom in small samples (Reiter, 2007, equations 1 and 2)."""
    t, observed = k * (m - 1), complete_df * (complete_df + 1) / (complete_df + 3)
    a = riv * t / (t - 2) if t > 4 else np.inf
    if observed <= 4 * (1 + a):
        return 1 / (1 / large_sample_df(k, m, riv) + (1 + riv) / observed)
    c1, c2 = observed - 2 * (1 + a), observed - 4 * (1 + a)
    missing = (
        a**2 * c1 / ((1 + a) ** 2 * c2)
        + 8 * a**2 * c1 / ((1 + a) * c2**2)
        + 4 * a**2 / ((1 + a) * c2)
        + 4 * a**2 / (c2 * c1)
        + 16 * a**2 * c1 / c2**3
        + 8 * a**2 / c2**2
    )
    return 4 + 1 / (1 / c2 + missing / (t - 4))


def wald_statistics(estimates: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    r"""``(m,)``: :math:`\hat Q_i^\top U_i^{-1} \hat Q_i` of each imputation."""
    pairs = enumerate(zip(estimates, covariances), 1)
    return np.array([solved(covariance, estimate, f"imputation {i}'s") for i, (estimate, covariance) in pairs])


def pool_statistics(statistics: Sequence[float] | np.ndarray, df: float) -> PooledTest:
    r"""One test from m chi-square statistics, Wald's or likelihood ratios: D2.

    .. math:: D_2 = \frac{\bar d / K - \frac{m + 1}{m - 1} r}{1 + r}, \quad
        r = (1 + \tfrac1m) \operatorname{var}(\sqrt{d_i}), \quad \nu_2 = K^{-3/m} (m - 1) (1 + 1/r)^2

    It needs the least and is the least powerful and the least exact; prefer D1 or the likelihood ratio.

    Args:
        statistics: ``(m,)``, none below 0.
        df: K, the number of coefficients tested.

    Raises:
        DataError: a statistic is not finite or below 0, or there is only one.

    Source: Li, Meng, Raghunathan and Rubin (1991).

    Example:
        >>> print(pool_statistics([6.2, 4.1, 8.8, 5.0, 7.4], df=2))
        D2: F(2, 127.21) = 2.4803, p = 0.08776, RIV = 0.1683, m = 5
    """
    values = log_likelihoods(statistics, "statistics")
    if (values < 0).any():
        place = int((values < 0).argmax())
        raise DataError(f"Imputation {place + 1}: the statistic is {values[place]:g}; chi-square is never negative.")
    m = len(values)
    several(m)
    check_df(df)
    riv = (1 + 1 / m) * float(np.sqrt(values).var(ddof=1)) if np.ptp(values) else 0.0
    df2 = df ** (-3 / m) * (m - 1) * (1 + 1 / riv) ** 2 if riv else np.inf
    return f_test("D2", (values.mean() / df - (m + 1) / (m - 1) * riv) / (1 + riv), df, df2, riv, m)


def pool_likelihood_ratio(
    full: Sequence[float] | np.ndarray,
    reduced: Sequence[float] | np.ndarray,
    full_at_pooled: Sequence[float] | np.ndarray | float,
    reduced_at_pooled: Sequence[float] | np.ndarray | float,
    df: float,
    *,
    method: str = "D3",
    parameters: int | None = None,
) -> PooledTest:
    r"""The likelihood-ratio test of nested models over m imputations.

    With :math:`\bar d` the mean of :math:`2 (\ell_i^1 - \ell_i^0)` at each imputation's own estimates, and
    :math:`\tilde d` at estimates that all imputations share,

    .. math:: D = \frac{\tilde d}{K (1 + r)}, \qquad r = \frac{m + 1}{K (m - 1)} (\bar d - \tilde d)

    D3 (Meng and Rubin, 1992) shares the pooled estimates; D4 (Chan and Meng, 2022) those that maximise the likelihood
    of the m tables stacked, does not depend on the parametrisation, and has :math:`\nu_2 = K (m - 1) (1 + 1/r)^2`. A
    negative r is set to 0. Which parameters are shared is the caller's: mice's D3 shares the coefficients of a linear
    model, and refits its intercept and residual variance.

    Args:
        full, reduced: ``(m,)`` log likelihoods of both models at each imputation's own estimates, in nats.
        full_at_pooled, reduced_at_pooled: ``(m,)`` at the shared estimates; for D4 also one number each, the maximal
            log likelihood of all m tables stacked.
        df: K, the number of parameters that the reduced model lacks.
        method: "D3" or "D4".
        parameters: D4 only: h, the number of parameters of the full model. Given, r is Chan and Meng's robust one,
            which holds under the alternative too: :math:`\frac{2 (m + 1)}{h (m - 1)} (\bar\ell^1 - \tilde\ell^1)`
            with :math:`\nu_2 = h (m - 1) (1 + 1/r)^2`.

    Raises:
        DataError: values that are not finite, or lengths that differ.
        CapabilityError: an unknown method.

    Example:
        >>> own, less = [-9.0, -9.5, -8.7], [-12.0, -13.1, -12.2]
        >>> print(pool_likelihood_ratio(own, less, [-9.4, -9.8, -9.0], [-12.1, -13.3, -12.3], df=2))
        D3: F(2, 36.75) = 2.2619, p = 0.1185, RIV = 0.4000, m = 3
    """
    if method not in ("D3", "D4"):
        raise CapabilityError(
            f"method must be 'D3' or 'D4', got {method!r}; D2 is pool_statistics, D1 is Pooled.test."
        )
    if parameters is not None and (method == "D3" or parameters < df):
        raise DataError(f"parameters is for D4 and not below df = {df:g}; got {parameters} with {method}.")
    own, less = log_likelihoods(full, "full"), log_likelihoods(reduced, "reduced")
    m = len(own)
    several(m)
    check_df(df)
    shared = at_shared(full_at_pooled, "full_at_pooled", m, method)
    common = 2 * (shared - at_shared(reduced_at_pooled, "reduced_at_pooled", m, method))
    if len(less) != m:
        raise DataError(f"full has {m} log likelihoods, reduced {len(less)}; one an imputation is needed.")
    h = parameters or df
    excess = 2 * (own.mean() - shared) if parameters else 2 * (own - less).mean() - common
    riv = max(0.0, (m + 1) / (h * (m - 1)) * excess)
    df2 = large_sample_df(df, m, riv) if method == "D3" else chan_meng_df(h, m, riv)
    return f_test(method, common / (df * (1 + riv)), df, df2, riv, m)


def chan_meng_df(h: float, m: int, riv: float) -> float:
    return h * (m - 1) * (1 + 1 / riv) ** 2 if riv else np.inf


def at_shared(values: Sequence[float] | np.ndarray | float, what: str, m: int, method: str) -> float:
    """Mean log likelihood of an imputation at the shared estimates."""
    if method == "D4" and np.ndim(values) == 0:
        return float(log_likelihoods([values], what)[0]) / m  # type: ignore[list-item]
    found = log_likelihoods(values, what)
    if len(found) != m:
        raise DataError(f"{what} has {len(found)} log likelihoods; expected {m}, one an imputation.")
    return float(found.mean())


def log_likelihoods(values: Sequence[float] | np.ndarray | float, what: str) -> np.ndarray:
    found = np.asarray(values, dtype=float)
    if found.ndim != 1:
        raise DataError(f"{what} must be a vector with one number an imputation, got shape {found.shape}.")
    if not np.isfinite(found).all():
        place = int((~np.isfinite(found)).argmax())
        raise DataError(f"Imputation {place + 1}: {what} is {found[place]:g}; it must be finite.")
    return found


def several(m: int) -> None:
    if m < 2:
        raise DataError(f"A pooled test needs at least 2 imputations, got {m}.")


def check_df(df: float) -> None:
    if not (np.isfinite(df) and df > 0):
        raise DataError(f"df, the number of coefficients tested, must be above 0; got {df}.")
