"""Pooling against R's mice 3.15, closed forms and simulations whose truth is known."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

import probgen as pg
from probgen.errors import CapabilityError, DataError, ImproperWarning
from probgen.studies.pooled_tests import reiter_df
from probgen.studies.rubin import barnard_rubin, jackknife

DIGITS = 1e-8
AGE = ["age40-59", "age60-99"]
FULL, REDUCED = [0, 1, 2, 3], [0, 3]


@pytest.fixture(scope="module")
def golden(data_folder):
    return json.loads((data_folder / "tabular" / "r_fixtures" / "nhanes2_pool.json").read_text())


@pytest.fixture(scope="module")
def completed(data_folder):
    """Design matrices (1, age40-59, age60-99, bmi), chl and hyp of the ten completed tables."""
    with (data_folder / "tabular" / "r_fixtures" / "nhanes2_m10_long.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    tables = []
    for number in range(1, 11):
        own = [row for row in rows if row[".imp"] == str(number)]
        design = [[1.0, row["age"] == "40-59", row["age"] == "60-99", float(row["bmi"])] for row in own]
        chl, hyp = [float(row["chl"]) for row in own], [row["hyp"] == "yes" for row in own]
        tables.append((np.array(design, dtype=float), np.array(chl), np.array(hyp, dtype=float)))
    return tables


@pytest.fixture(scope="module")
def nhanes(golden):
    analyses = [(p["coef"], p["vcov"], p["df"]) for p in golden["per_imputation"]]
    return pg.pool(analyses, names=golden["summary"]["term"])


def drawn(m=6, k=3, seed=0):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(m, k, k + 3))
    return rng.normal(1.0, 0.7, (m, k)), roots @ roots.swapaxes(1, 2) / 10


# ------------------------------------------------------------------------------------------------------------ R's mice
@pytest.mark.reference
def test_summary_of_mice(nhanes, golden):
    ours = {
        "estimate": nhanes.estimate, "std.error": nhanes.standard_error, "statistic": nhanes.statistic,
        "df": nhanes.df, "p.value": nhanes.p_value, "2.5 %": nhanes.lower, "97.5 %": nhanes.upper,
    }  # fmt: skip
    for name, values in ours.items():
        assert values == pytest.approx(golden["summary"][name], rel=DIGITS), name


@pytest.mark.reference
def test_parts_of_mice(nhanes, golden):
    ours = {"ubar": nhanes.within, "b": nhanes.between, "t": nhanes.total, "df": nhanes.df, "riv": nhanes.riv}
    ours |= {"lambda": nhanes.lambda_, "fmi": nhanes.fmi, "estimate": nhanes.estimate}
    for name, values in ours.items():
        assert values == pytest.approx(golden["pooled"][name], rel=DIGITS), name
    assert [nhanes.m, nhanes.complete_df] == [10, 21]


@pytest.mark.reference
def test_scalar_of_mice(golden):
    theirs = golden["pool_scalar_bmi"]
    ours = pg.pool(zip(theirs["qhat"], theirs["u"]), complete_df=21)
    named = {"qbar": "estimate", "ubar": "within", "b": "between", "t": "total", "df": "df", "r": "riv", "fmi": "fmi"}
    for name, attribute in named.items():
        assert getattr(ours, attribute)[0] == pytest.approx(theirs[name], rel=DIGITS), name


def same_test(ours, theirs):
    found = [ours.statistic, ours.df1, ours.df2, ours.p_value, ours.riv]
    assert found == pytest.approx([theirs[name] for name in ("F", "df1", "df2", "P", "RIV")], rel=DIGITS)


@pytest.mark.reference
@pytest.mark.parametrize("method", ["D1", "D2"])
def test_wald_tests_of_mice(nhanes, golden, method):
    same_test(nhanes.test(AGE, method=method), golden[method])


def log_likelihood(residuals):
    """Gaussian, at the variance that maximises it."""
    n = len(residuals)
    return -n / 2 * (np.log(2 * np.pi * (residuals @ residuals) / n) + 1)


def fitted(completed, columns):
    return np.array([np.linalg.lstsq(x[:, columns], y, rcond=None)[0] for x, y, _ in completed])


def at_own(completed, columns):
    pairs = zip(completed, fitted(completed, columns))
    return np.array([log_likelihood(y - x[:, columns] @ beta) for (x, y, _), beta in pairs])


def at_pooled(completed, columns):
    """As mice: slopes fixed at the pooled ones; intercept and variance fitted again."""
    beta = fitted(completed, columns).mean(0)
    residuals = [y - x[:, columns] @ beta for x, y, _ in completed]
    return np.array([log_likelihood(e - e.mean()) for e in residuals])


@pytest.mark.reference
def test_likelihood_ratio_tests_of_mice(completed, golden):
    full, reduced = at_own(completed, FULL), at_own(completed, REDUCED)
    pooled = at_pooled(completed, FULL), at_pooled(completed, REDUCED)
    same_test(pg.pool_likelihood_ratio(full, reduced, *pooled, df=2), golden["D3"])
    same_test(pg.pool_statistics(2 * (full - reduced), 2), golden["D2_lrt"])


@pytest.mark.reference
def test_r_squared_of_mice(completed, golden):
    """Mice takes 1.96 in place of Student's t."""
    ss = [(np.sum((y - x @ beta) ** 2), np.sum((y - y.mean()) ** 2)) for (x, y, _), beta in zip(completed, fitted(completed, FULL))]  # fmt: skip
    ours = pg.pool_r_squared([1 - rest / total for rest, total in ss], 25)
    ends = [np.tanh(ours.fisher_z + side * 1.96 * ours.standard_error) ** 2 for side in (-1, 1)]
    assert [ours.estimate, *ends, ours.fmi] == pytest.approx(golden["r2"][0], rel=DIGITS)
    wider = stats.t.ppf(0.975, ours.df) * ours.standard_error
    assert [ours.lower, ours.upper] == pytest.approx(np.tanh([ours.fisher_z - wider, ours.fisher_z + wider]) ** 2)


@pytest.mark.reference
def test_logistic_regression_of_mice(completed, golden):
    """Fitted by statsmodels: params, cov_params() and df_resid are read from its results."""
    api = pytest.importorskip("statsmodels.api")
    as_r = {
        "tol": 1e-9,
        "rtol": 1e-8,
        "tol_criterion": "deviance",
    }  # R's glm ends where the deviance moves that little
    results = []
    for x, chl, hyp in completed:
        design = np.column_stack([np.ones(25), x[:, 3], chl])
        results.append(api.GLM(hyp, design, family=api.families.Binomial()).fit(**as_r))
    ours, theirs = pg.pool(results, names=golden["glm"]["term"]), golden["glm"]
    found = [ours.estimate, ours.standard_error, ours.statistic, ours.df, ours.p_value, ours.lower, ours.upper]
    keys = ("estimate", "std.error", "statistic", "df", "p.value", "2.5 %", "97.5 %")
    for key, values in zip(keys, found):
        assert values == pytest.approx(theirs[key], rel=DIGITS), key


@pytest.mark.reference
def test_least_squares_of_statsmodels_by_name(completed, golden):
    api = pytest.importorskip("statsmodels.api")
    names = golden["summary"]["term"]
    results = [api.OLS(y, pd.DataFrame(x, columns=names)).fit() for x, y, _ in completed]
    turned = [api.OLS(y, pd.DataFrame(x, columns=names)[names[::-1]]).fit() for x, y, _ in completed[5:]]
    ours = pg.pool(results[:5] + turned)
    assert ours.names == tuple(names)
    assert ours.df == pytest.approx(golden["summary"]["df"], rel=DIGITS)
    same_test(ours.test(AGE), golden["D1"])


# ------------------------------------------------------------------------------------------------------------ theorems
@pytest.mark.parametrize("complete", [7.0, 50.0, np.inf])
def test_equal_analyses_give_the_analysis(complete):
    q, u = np.array([0.1, -2.3]), np.array([[0.3, 0.1], [0.1, 0.7]])
    ours = pg.pool([(q, u)] * 7, complete_df=complete)
    observed = complete * (complete + 1) / (complete + 3) if np.isfinite(complete) else np.inf
    assert np.array_equal(ours.estimate, q)
    for nothing in (ours.between, ours.riv, ours.lambda_, ours.between_covariance):
        assert not nothing.any()
    assert ours.total_covariance == pytest.approx(u, rel=1e-14)
    assert ours.df == pytest.approx([observed] * 2)
    assert ours.p_value == pytest.approx(2 * stats.t.sf(np.abs(q) / np.sqrt(np.diag(u)), observed))
    wald = q @ np.linalg.solve(u, q) / 2
    test = ours.test()
    exact = stats.f.sf(wald, 2, observed) if np.isfinite(complete) else stats.chi2.sf(2 * wald, 2)
    assert [test.statistic, test.riv, test.p_value] == pytest.approx([wald, 0, exact])
    assert ours.test(method="D2").p_value == pytest.approx(stats.chi2.sf(2 * wald, 2))


def test_large_sample_degrees_of_freedom_are_rubins():
    """And those of a large complete sample tend to them."""
    lambda_ = np.array([0.01, 0.3, 1.0])
    assert barnard_rubin(lambda_, 5) == pytest.approx(4 / lambda_**2)
    assert barnard_rubin(lambda_, 5, 1e12) == pytest.approx(4 / lambda_**2, rel=1e-6)
    assert (barnard_rubin(lambda_[:2], 5, 30) < 31 / 33 * 30 * (1 - lambda_[:2])).all()


def test_no_sampling_variance_leaves_the_imputations():
    """A census: all variance is between, and a t with m - 1 degrees of freedom on it."""
    ours = pg.pool([(1.0, 0.0), (2.0, 0.0), (4.0, 0.0)], complete_df=20)
    assert [ours.df[0], ours.fmi[0], ours.riv[0]] == [2, 1, np.inf]
    assert ours.total[0] == pytest.approx(4 / 3 * np.var([1, 2, 4], ddof=1))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.permutations(range(6)), st.integers(0, 1000))
def test_order_of_imputations_does_not_matter(order, seed):
    q, u = drawn(seed=seed)
    one, other = pg.pool(zip(q, u), complete_df=40), pg.pool(zip(q[order], u[order]), complete_df=40)
    for name in ("estimate", "total", "df", "p_value", "fmi", "lower"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9)
    for method in ("D1", "D2"):
        assert one.test(method=method).statistic == pytest.approx(other.test(method=method).statistic, rel=1e-9)
    assert one.monte_carlo_error().fmi == pytest.approx(other.monte_carlo_error().fmi, rel=1e-7)


def test_units_change_nothing_but_units():
    q, u = drawn()
    scale = np.array([1e6, 1e-5, 3.0])
    one, other = (
        pg.pool(zip(q, u), complete_df=40),
        pg.pool(zip(q * scale, u * np.outer(scale, scale)), complete_df=40),
    )
    assert other.standard_error == pytest.approx(one.standard_error * scale)
    assert other.fmi == pytest.approx(one.fmi)
    assert other.test().statistic == pytest.approx(one.test().statistic)


@pytest.mark.parametrize("complete", [25.0, np.inf])
def test_one_coefficient_is_tested_by_its_t(complete):
    """F of D1 is the squared t; with few imputations its degrees of freedom are Barnard and Rubin's."""
    q, u = drawn(m=4)
    ours = pg.pool(zip(q, u), complete_df=complete)
    test = ours.test("term2")
    assert test.statistic == pytest.approx(ours.statistic[1] ** 2)
    assert [test.df2, test.p_value] == pytest.approx([ours.df[1], ours.p_value[1]])


def test_reiters_degrees_of_freedom_tend_to_the_large_sample_ones():
    large, small = (pg.pool(zip(*drawn()), complete_df=df).test().df2 for df in (np.inf, 1e9))
    assert small == pytest.approx(large, rel=1e-5)
    assert reiter_df(2, 10, 0.447895940222, 21) < 21


def gaussian_case(m=5, k=3, n=40, seed=1):
    """Means of k columns with known covariance, equal in all imputations: every likelihood is in closed form."""
    rng = np.random.default_rng(seed)
    means, covariance = rng.normal(0.3, 0.3, (m, k)), np.diag([1.0, 2.0, 0.5]) / n
    inverse = np.linalg.inv(covariance)

    def above_zero(at):
        """Log likelihood of each imputation at a mean, its constant left out."""
        return np.array([-0.5 * (q - at) @ inverse @ (q - at) for q in means])

    return means, covariance, above_zero


@pytest.mark.parametrize("method", ["D3", "D4"])
def test_likelihood_ratio_is_d1_where_the_likelihood_is_gaussian(method):
    means, covariance, above = gaussian_case()
    own, zero = np.zeros(len(means)), above(np.zeros(3))
    ratio = pg.pool_likelihood_ratio(own, zero, above(means.mean(0)), zero, 3, method=method)
    wald = pg.pool([(q, covariance) for q in means]).test()
    assert [ratio.statistic, ratio.riv] == pytest.approx([wald.statistic, wald.riv])
    t = 3 * (len(means) - 1)
    assert ratio.df2 == pytest.approx(wald.df2 if method == "D3" else t * (1 + 1 / wald.riv) ** 2)


def test_d4_of_stacked_tables_and_its_robust_form():
    means, _, above = gaussian_case()
    own, zero, stacked = np.zeros(5), above(np.zeros(3)), above(means.mean(0))
    rows = pg.pool_likelihood_ratio(own, zero, stacked, zero, 3, method="D4")
    summed = pg.pool_likelihood_ratio(own, zero, stacked.sum(), zero.sum(), 3, method="D4")
    robust = pg.pool_likelihood_ratio(own, zero, stacked, zero, 3, method="D4", parameters=3)
    assert rows == summed
    assert [robust.statistic, robust.df2, robust.riv] == pytest.approx([rows.statistic, rows.df2, rows.riv])
    more = pg.pool_likelihood_ratio(own, zero, stacked, zero, 3, method="D4", parameters=6)
    assert more.riv == pytest.approx(rows.riv / 2)
    assert more.df2 == pytest.approx(6 * 4 * (1 + 1 / more.riv) ** 2)


def test_a_negative_increase_of_variance_is_none():
    test = pg.pool_likelihood_ratio([-1, -1], [-3, -3], [-1, -1], [-3.5, -3.5], 1)
    assert [test.riv, test.df2, test.p_value] == [0, np.inf, stats.chi2.sf(5, 1)]


def test_synthetic_tables_by_reiter():
    q, u = drawn(m=4, k=1)
    ours = pg.pool(zip(q, u), rule="reiter2003", complete_df=30)
    b, within = q.var(0, ddof=1), u[:, 0].mean(0)
    assert ours.total == pytest.approx(within + b / 4)
    assert ours.total_covariance[0] == pytest.approx(ours.total)
    assert ours.df == pytest.approx(3 * (1 + within / (b / 4)) ** 2)
    assert np.isnan(ours.fmi).all()
    with pytest.raises(CapabilityError, match="rubin1987"):
        ours.test()
    with pytest.raises(CapabilityError, match="FMI is unknown"):
        ours.imputations_needed()


def test_contrasts_are_pooled_sums(nhanes):
    apart = nhanes.contrasts({"old - middle": {"age60-99": 1, "age40-59": -1}, "bmi": {"bmi": 1}})
    by_hand = pg.pool(
        [(q[2] - q[1], u[2, 2] + u[1, 1] - 2 * u[1, 2]) for q, u in zip(nhanes.estimates, nhanes.covariances)],
        complete_df=21,
    )
    assert apart.p_value == pytest.approx([by_hand.p_value[0], nhanes.p_value[3]])
    assert nhanes.total_covariance.diagonal() == pytest.approx(nhanes.total)
    assert nhanes.between_covariance == pytest.approx(np.cov(nhanes.estimates.T))
    values = dict(zip(nhanes.names, nhanes.estimate))
    assert nhanes.test(AGE, null=[values[name] for name in AGE]).statistic == pytest.approx(0, abs=1e-12)


# --------------------------------------------------------------------------------------------------------- simulations
def covered(truth, predictions, variances, complete_df):
    ours = pg.pool_predictions(predictions, variances, complete_df=complete_df)
    return np.mean((ours.lower <= truth) & (truth <= ours.upper))


@pytest.mark.stats
def test_coverage_where_rubins_assumptions_hold():
    """Estimates N(Q, B) about Q ~ N(0, U + B): m = 3 shows a wrong factor or wrong degrees of freedom at once."""
    rng, replicates, m, b, u = np.random.default_rng(0), 100_000, 3, 0.3, 1.0
    centre = rng.normal(0, np.sqrt(u + b), replicates)
    estimates = rng.normal(centre, np.sqrt(b), (m, replicates))
    # Satterthwaite's t is near exact here: .949; without 1 + 1/m or with the normal quantile .941
    assert covered(0.0, estimates, np.full((m, replicates), u), np.inf) == pytest.approx(0.95, abs=0.003)


@pytest.mark.stats
def test_coverage_of_a_mean_with_holes():
    """Half of 40 normal values unknown, drawn from their posterior: mean and variance are drawn first."""
    rng, replicates, n, known, m = np.random.default_rng(1), 30_000, 40, 20, 5
    y = rng.normal(3.0, 2.0, (known, replicates))
    spread = y.var(0, ddof=1)
    variance = spread * (known - 1) / rng.chisquare(known - 1, (m, replicates))
    mean = rng.normal(y.mean(0), np.sqrt(variance / known))
    filled = rng.normal(mean, np.sqrt(variance), (n - known, m, replicates)).swapaxes(0, 1)
    full = np.concatenate([np.broadcast_to(y, (m, *y.shape)), filled], 1)
    share = covered(3.0, full.mean(1), full.var(1, ddof=1) / n, n - 1)
    # .951; without 1 + 1/m .943, with Rubin's large-sample degrees of freedom .940, with the normal quantile .925
    assert share == pytest.approx(0.95, abs=0.004)


@pytest.mark.stats
def test_jackknife_agrees_with_other_imputations():
    """The errors' mean over replicates is the spread of the pooled numbers over replicates."""
    rng, m, replicates = np.random.default_rng(2), 30, 3000
    estimates, variances = rng.normal(1.0, 0.7, (m, replicates)), rng.uniform(0.8, 1.2, (m, replicates))
    ours = pg.pool_predictions(estimates, variances, complete_df=60)
    errors = jackknife(estimates, variances, 60, "rubin1987")
    for name in ("estimate", "standard_error", "fmi"):
        # twice the error of a standard deviation of 3000 numbers, and the jackknife's bias of order 1 / m
        assert np.sqrt(np.mean(getattr(errors, name) ** 2)) == pytest.approx(getattr(ours, name).std(), rel=0.08), name
    assert errors.estimate == pytest.approx(np.sqrt(ours.between / m))


def test_jackknife_leaves_each_imputation_out():
    q, u = drawn(m=5)
    without = [pg.pool(zip(np.delete(q, i, 0), np.delete(u, i, 0)), complete_df=30) for i in range(5)]
    errors = pg.pool(zip(q, u), complete_df=30).monte_carlo_error()
    for name in ("estimate", "standard_error", "p_value", "fmi"):
        left = np.array([getattr(pooled, name) for pooled in without])
        assert getattr(errors, name) == pytest.approx(np.sqrt(4 * left.var(0))), name


@pytest.mark.reference
def test_number_of_imputations_as_howmanyimputations(nhanes):
    """Its page shows 72 for a coefficient of variation of .05 and 1767 for .01, both of one fit with m = 5."""
    upper = optimize.brentq(lambda g: 1 + 0.5 * (g / 0.01) ** 2 - 1766.5, 0, 1)
    logit = np.log(upper / (1 - upper)) - stats.norm.ppf(0.975) * np.sqrt(2 / 5)
    shown = replace(nhanes, m=5, fmi=np.array([0.01, 1 / (1 + np.exp(-logit))]))
    assert shown.imputations_needed() == 72
    assert shown.imputations_needed(0.01) == 1767


@pytest.mark.stats
def test_that_number_makes_standard_errors_repeatable():
    rng, cv, share = np.random.default_rng(3), 0.05, 0.4
    known = pg.pool(zip(rng.normal(size=(5, 1)), np.ones((5, 1))))
    m = replace(known, fmi=np.array([share])).imputations_needed(cv, confidence=1e-9)
    estimates = rng.normal(0, np.sqrt(share / (1 + 1 / m)), (m, 20_000))
    errors = pg.pool_predictions(estimates, np.full(estimates.shape, 1 - share)).standard_error
    assert errors.std() / errors.mean() == pytest.approx(cv, rel=0.04)


# ------------------------------------------------------------------------------------------------------ what goes in, out
def test_every_form_of_a_result_is_read():
    q, u = drawn(m=3)
    forms = [
        list(zip(q, u)),
        [(a, b, 9.0) for a, b in zip(q, u)],
        [{"estimate": a, "covariance": b} for a, b in zip(q, u)],
        [SimpleNamespace(estimate=list(a), covariance=b.tolist(), df=12) for a, b in zip(q, u)],
    ]
    read = [pg.pool(form) for form in forms]
    assert [pooled.complete_df for pooled in read] == [np.inf, 9, np.inf, 12]
    assert pg.pool(forms[1], complete_df=5).complete_df == 5
    for pooled in read:
        assert np.array_equal(pooled.total, read[0].total)
        assert pooled.names == ("term1", "term2", "term3")


def test_variances_without_covariances():
    q, u = drawn()
    ours = pg.pool([(a, np.diag(b)) for a, b in zip(q, u)])
    assert np.array_equal(ours.total, pg.pool(zip(q, u)).total)
    for asked in (ours.test, lambda: ours.contrasts({"sum": {"term1": 1, "term2": 1}})):
        with pytest.raises(DataError, match="Covariances between terms are needed"):
            asked()


def test_several_equations_of_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(0)
    x, y = pd.DataFrame({"const": np.ones(200), "x": rng.normal(size=200)}), rng.integers(0, 3, 200)
    results = [api.MNLogit(y, x.assign(x=x["x"] + shift)).fit(disp=0) for shift in (0.0, 0.1)]
    ours = pg.pool(results)
    assert len(ours.names) == len(set(ours.names)) == 4
    assert np.sqrt(ours.within) == pytest.approx(
        np.mean([r.bse.to_numpy().ravel("F") ** 2 for r in results], 0) ** 0.5
    )


def test_rows_are_pooled_like_terms():
    q, u = drawn()
    terms, rows = (
        pg.pool(zip(q, u), complete_df=20),
        pg.pool_predictions(q, np.diagonal(u, axis1=1, axis2=2), complete_df=20),
    )
    for name in ("estimate", "within", "between", "total", "standard_error", "df", "lower", "upper", "fmi"):
        assert np.array_equal(getattr(rows, name), getattr(terms, name)), name


def test_correlations_by_fisher():
    r, n = np.array([[0.3, -0.8], [0.4, -0.7], [0.35, -0.75]]), np.array([50, 52, 54])
    ours = pg.pool_correlation(r, n, confidence=0.9)
    by_hand = pg.pool([(a, [np.mean(1 / (n - 3))] * 2) for a in np.arctanh(r)], confidence=0.9)
    assert ours.estimate == pytest.approx(np.tanh(by_hand.estimate))
    assert ours.lower == pytest.approx(np.tanh(by_hand.lower))
    assert ours.fmi == pytest.approx(by_hand.fmi)
    assert pg.pool_r_squared([0.01, 0.02], 10).lower == 0
    assert pg.pool_r_squared([-0.02, -0.01], 10).estimate < 0


def test_print_and_records(nhanes):
    lines = str(nhanes).splitlines()
    assert lines[1].split() == [
        "term",
        "estimate",
        "std.error",
        "statistic",
        "df",
        "p.value",
        "2.5",
        "%",
        "97.5",
        "%",
        "fmi",
    ]
    assert lines[5].split() == [
        "bmi",
        "5.24072",
        "2.34836",
        "2.23165",
        "9.72549",
        "0.0504252",
        "-0.0118403",
        "10.4933",
        "0.488694",
    ]
    assert len({len(line) for line in lines[1:]}) == 1
    records, frame = nhanes.records(), nhanes.to_pandas()
    assert list(records[0]) == list(frame.columns)
    assert frame["fmi"].tolist() == [record["fmi"] for record in records]
    assert str(nhanes.test(AGE)) == "D1: F(2, 13.88) = 3.8173, p = 0.04775, RIV = 0.4479, m = 10"
    assert "5 %" in str(replace(nhanes, confidence=0.9))


def test_one_imputation_warns():
    with pytest.warns(ImproperWarning, match="one imputation"):
        ours = pg.pool([(1.0, 0.25)], complete_df=10)
    assert [ours.standard_error[0], ours.df[0]] == [0.5, 10]
    assert np.isnan([ours.between, ours.riv, ours.fmi, ours.lambda_]).all()
    assert np.isnan(ours.between_covariance).all()
    assert ours.total_covariance == pytest.approx(0.25)
    assert "nan" in str(ours)
    for asked in (ours.imputations_needed, ours.monte_carlo_error):
        with pytest.raises(CapabilityError, match=r"m = 1|got 1"):
            asked()
    with pytest.raises(DataError, match="at least 2"):
        ours.test()


def series(values, names):
    names = list(names)
    return pd.Series(values, index=names), pd.DataFrame(np.eye(len(names)), index=names, columns=names)


PAIR = np.eye(2)
BAD = {
    "no analyses": ([], "no analyses"),
    "not a sequence": (3.0, "one an imputation; got float"),
    "one dict": ({"estimate": 1}, "got dict"),
    "a number": ([1.0, 2.0], "Imputation 1 gave float. Expected from each imputation"),
    "an array": ([np.ones(4)], "Imputation 1 gave ndarray of length 4"),
    "other keys": ([{"mean": 1.0}], r"a dict with keys \['mean'\]"),
    "no covariance": ([SimpleNamespace(estimate=1.0)], r"Imputation 1: .* has no covariance. Expected"),
    "text": ([("high", 1.0)], "the estimate is not numeric"),
    "not square": ([([1, 2], np.ones((2, 3)))], r"expected a 2 x 2 covariance or 2 variances .* got shape \(2, 3\)"),
    "one variance": ([([1, 2], 1.0)], r"got shape \(\)"),
    "matrix of estimates": ([(PAIR, PAIR)], "a number or a vector"),
    "asymmetric": ([([1, 2], [[1, 0.5], [0.1, 1]])], "not symmetric"),
    "too correlated": ([([1, 2], [[1, 2], [2, 1]])], "exceeds what its variances allow"),
    "negative": ([(1, 1), (1, 1), (1, -1)], "Imputation 3, term 'term1': the variance is -1"),
    "not finite": ([(series([1, 2], "ab")[0], PAIR), ([1, np.nan], PAIR)], "Imputation 2, term 'b': the estimate is nan"),
    "infinite": ([([1, 2], [1, np.inf])], "term 'term2': the variance is inf"),
    "half a matrix": ([([1, 2, 3], np.where(np.eye(3)[::-1] * (1 - np.eye(3)), np.nan, np.eye(3)))], "the covariance of 'term1' and 'term3' is not finite"),
    "sizes": ([(1, 1), ([1, 2], PAIR)], r"different numbers of terms: \[1, 2\]"),
    "size of unnamed": ([series([1, 2], "ab"), (1, 1)], "Imputation 2 has 1 terms, others have 2"),
    "lacks": ([series([1, 2], "ab"), series([1, 2], "ab"), series([1], "a")], "Imputation 3 lacks the term 'b'"),
    "has more": ([series([1], "a"), series([1, 2], "ab")], "Imputation 2 has the term 'b', which others lack"),
    "twice": ([series([1, 2], "aa")], "more than one term is called 'a'"),
    "orders": ([(series([1, 2], "ab")[0], series([1, 2], "ba")[1])], "the covariance has the order"),
    "df": ([(1, 1, 0)], "df must be above 0"),
    "dfs": ([([1, 2], PAIR, [3, 4])], "df must be one number"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_analyses_are_told(name):
    analyses, told = BAD[name]
    with pytest.raises(DataError, match=told):
        pg.pool(analyses)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"confidence": 95}, DataError),
        ({"complete_df": 0}, DataError),
        ({"rule": "rubin"}, CapabilityError),
        ({"names": ["a"]}, DataError),
        ({"names": ["a", "a", "b"]}, DataError),
    ],
)
def test_bad_options_are_told(options, error):
    with pytest.raises(error):
        pg.pool(zip(*drawn()), **options)


def test_bad_tests_are_told(nhanes):
    with pytest.raises(DataError, match="different names out of"):
        nhanes.test("chl")
    with pytest.raises(CapabilityError, match="pool_likelihood_ratio"):
        nhanes.test(AGE, method="D3")
    redundant = pg.pool([([1, 2], np.ones((2, 2))), ([2, 3], np.ones((2, 2)))])
    with pytest.raises(DataError, match="singular"):
        redundant.test()
    with pytest.raises(DataError, match=r"Imputation 2: the statistic is -1"):
        pg.pool_statistics([1.0, -1.0], 2)
    with pytest.raises(DataError, match="at least 2"):
        pg.pool_statistics([1.0], 2)
    with pytest.raises(DataError, match="above 0"):
        pg.pool_statistics([1.0, 2.0], 0)
    with pytest.raises(DataError, match=r"cv must be above 0"):
        nhanes.imputations_needed(0)


def test_bad_likelihoods_are_told():
    two, three = [-1.0, -2.0], [-1.0, -2.0, -3.0]
    with pytest.raises(DataError, match="full has 2 log likelihoods, reduced 3"):
        pg.pool_likelihood_ratio(two, three, two, two, 1)
    with pytest.raises(DataError, match="full_at_pooled has 3"):
        pg.pool_likelihood_ratio(two, two, three, two, 1)
    with pytest.raises(DataError, match="Imputation 2: reduced is nan"):
        pg.pool_likelihood_ratio(two, [-1.0, np.nan], two, two, 1)
    with pytest.raises(DataError, match="must be a vector"):
        pg.pool_likelihood_ratio(two, two, -3.0, two, 1)
    with pytest.raises(DataError, match="parameters is for D4"):
        pg.pool_likelihood_ratio(two, two, two, two, 1, parameters=3)
    with pytest.raises(CapabilityError, match="'D3' or 'D4'"):
        pg.pool_likelihood_ratio(two, two, two, two, 1, method="D2")


def test_bad_rows_are_told():
    with pytest.raises(DataError, match=r"Imputation 2, row 1: the variance is -1"):
        pg.pool_predictions(np.ones((2, 2)), [[1, 1], [1, -1]])
    with pytest.raises(DataError, match=r"must both be \(m, N\)"):
        pg.pool_predictions(np.ones((2, 2)), np.ones(2))
    with pytest.raises(DataError, match="Imputation 2: the correlation is 1, not between"):
        pg.pool_correlation([0.5, 1.0], 20)
    with pytest.raises(DataError, match="above 3"):
        pg.pool_correlation([0.5, 0.6], 3)


def test_a_null_hypothesis_has_one_number_a_term():
    rng = np.random.default_rng(0)
    pooled = pg.pool([(rng.normal(size=2), np.eye(2))] * 3, names=["a", "b"], complete_df=50)
    with pytest.raises(pg.DataError, match="2, one a term"):
        pooled.test(["a", "b"], null=[1, 2, 3])
