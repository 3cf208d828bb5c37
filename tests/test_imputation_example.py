"""docs/imputation_example.md beside R's mice 3.15: five runs of 200 imputations, by benchmarks/_pima_mice.R."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import probgen as pg

MICE = Path(__file__).parents[1] / "benchmarks" / "results" / "pima_mice.csv"
WITHOUT = "diabetes ~ glucose + mass + triceps + pressure + age + pedigree + pregnant"
SHORT = "diabetes ~ glucose + mass + age + pedigree + pregnant"
WITH = f"{WITHOUT} + np.log(insulin)"
ERRORS = 4.0  # Monte-Carlo errors that chance may bring
SYSTEMATIC = 0.02  # standard errors by which two models of the same columns may differ
RUNS, EACH = 5, 200


@pytest.fixture(scope="module")
def table(data_folder):
    """As on the page."""
    schema = pg.read_table(data_folder / "tabular" / "pima.csv").schema.with_kind("insulin", "positive")
    for name in ("glucose", "pressure", "triceps"):
        schema = schema.with_kind(name, "real")
    return pg.read_table(data_folder / "tabular" / "pima.csv", schema=schema)


@pytest.fixture(scope="module")
def main_effects(table):
    return pg.impute(table, m=100, products="none", matching="none", seed=1, progress=False)


@pytest.fixture(scope="module")
def with_products(table):
    return pg.impute(table, m=40, seed=1, progress=False)


def mice(what):
    """Means over the runs of one method and analysis, a line a term."""
    found = pd.read_csv(MICE, skipinitialspace=True)
    found = found[found["what"] == what].groupby("term", sort=False)
    return found[["estimate", "std.error", "b", "fmi"]].mean().assign(runs=found.size())


def pooled(imputed, formula):
    return pg.pool(imputed.analyse(formula, family="binomial"))


def compared(found, anchor):
    """Differences of estimates in Monte-Carlo errors of both and in standard errors; ratios of standard errors."""
    anchor = anchor.loc[[{"Intercept": "(Intercept)", "np.log(insulin)": "insulin"}.get(n, n) for n in found.names]]
    own = np.diag(found.between_covariance) / found.m
    error = np.sqrt(own + anchor["b"].to_numpy() / (RUNS * EACH))
    gap = found.estimate - anchor["estimate"].to_numpy()
    return gap, error, anchor["std.error"].to_numpy()


def check_same(found, anchor):
    gap, error, spread = compared(found, anchor)
    assert (np.abs(gap) < ERRORS * error + SYSTEMATIC * spread).all(), dict(zip(found.names, gap / error, strict=True))
    noise = found.monte_carlo_error().standard_error
    assert (np.abs(found.standard_error - spread) < ERRORS * noise + 2 * SYSTEMATIC * spread).all()


def test_constants_are_whole():
    anchor = mice("norm without insulin")
    assert (anchor["runs"] == RUNS).all()
    assert len(anchor) == 8 + 2


@pytest.mark.parametrize(("formula", "what"), [(WITHOUT, "norm without insulin"), (WITH, "norm with insulin")])
def test_main_effects_are_those_of_mice(main_effects, formula, what):
    """Normal regressions on the same columns, one of them by its logarithm."""
    check_same(pooled(main_effects, formula), mice(what))


@pytest.mark.parametrize("method", ["norm", "pmm"])
def test_defaults_agree_where_main_effects_are_right(with_products, method):
    check_same(pooled(with_products, WITHOUT), mice(f"{method} without insulin"))


def test_defaults_differ_where_relations_bend(with_products):
    """The page says so of insulin: by one standard error, far beyond Monte-Carlo error."""
    gap, error, spread = compared(found := pooled(with_products, WITH), mice("norm with insulin"))
    place = found.names.index("np.log(insulin)")
    assert gap[place] > 4 * error[place]
    assert 0.5 < gap[place] / spread[place] < 1.5


def test_tests_of_several_coefficients_are_those_of_mice(main_effects):
    """D1 and D3 of skinfold and pressure; with m = 100 chance moves F by 0.03 and the increase in variance by 0.04."""
    full, reduced = (main_effects.analyse(formula, family="binomial") for formula in (WITHOUT, SHORT))
    all_terms, fewer = pg.pool(full), pg.pool(reduced)
    ratio = pg.pool_likelihood_ratio(
        [fit.llf for fit in full],
        [fit.llf for fit in reduced],
        [fit.model.loglike(all_terms.estimate) for fit in full],
        [fit.model.loglike(fewer.estimate) for fit in reduced],
        df=2,
    )
    anchor = mice("norm without insulin")
    for name, found in (("D1", all_terms.test(["triceps", "pressure"])), ("D3", ratio)):
        assert found.statistic == pytest.approx(anchor.loc[name, "estimate"], abs=0.15)
        assert found.riv == pytest.approx(anchor.loc[name, "fmi"], abs=0.15)
