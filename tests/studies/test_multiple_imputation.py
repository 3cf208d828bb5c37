"""Multiple imputation: what is known stays, noise is each row's own, parameters differ as they should."""

import datetime
from contextlib import nullcontext

import numpy as np
import pandas as pd
import polars as pl
import pytest
import statsmodels.formula.api as models

import probgen as pg
from probgen.errors import CapabilityError, DataError, ImproperWarning

RNG = np.random.default_rng(0)
N = 300
X = RNG.normal(size=N)
Y = 1.0 + 2.0 * X + 0.5 * RNG.normal(size=N)
HIDDEN = RNG.random(N) < 0.4
HOLED = {"x": X, "y": np.where(HIDDEN, np.nan, Y)}
QUICK = {"components": 1, "progress": False}


@pytest.fixture(scope="module")
def imputed():
    return pg.impute(HOLED, "gaussian_mixture", m=5, seed=1, **QUICK)


def mixed_frame():
    """Dates, nullable integers, categories and text, all with holes."""
    n = 60
    rng = np.random.default_rng(3)
    day = pd.Series(pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"))
    frame = pd.DataFrame(
        {
            "when": day,
            "visits": pd.array(rng.poisson(3.0, n), dtype="Int64"),
            "group": pd.Categorical(rng.choice(["a", "b", "c"], n)),
            "sex": rng.choice(["f", "m"], n),
            "size": rng.normal(size=n).astype(np.float32),
            "passed": pd.array(rng.random(n) < 0.4, dtype="boolean"),
        }
    )
    for at, name in enumerate(frame.columns):
        frame.loc[rng.random(n) < 0.2, name] = None
        frame.loc[at, name] = day[0] if name == "when" else frame[name].dropna().iloc[0]
    return frame


# ---------------------------------------------------------------------------------------------------------- the tables
def test_known_cells_keep_their_bits(imputed):
    for table in imputed:
        assert table.known.all()
        assert np.array_equal(table.column("x"), X)
        assert np.array_equal(table.column("y")[~HIDDEN], Y[~HIDDEN])


def test_draws_are_no_means(imputed):
    """Around the regression line unknown cells lie as far as known ones do, and differ from table to table."""
    line = np.polyfit(X[~HIDDEN], Y[~HIDDEN], 1)
    spread = np.mean([np.std((table.column("y") - np.polyval(line, X))[HIDDEN]) for table in imputed])
    assert spread == pytest.approx(0.5, rel=0.15)
    between = np.std([table.column("y")[HIDDEN] for table in imputed], axis=0)
    assert between.min() > 0.05


@pytest.mark.parametrize(
    "options",
    [
        {"model": "gaussian_mixture", "uncertainty": "none", "components": 1},
        {"model": "gaussian_mixture", "uncertainty": "bootstrap", "components": 1},
        {"model": "auto", "matching": "none"},
        {"model": "auto", "matching": "values"},
    ],
    ids=["one estimate", "bootstrap", "normal noise", "donors"],
)
def test_noise_of_rows_is_their_own(options):
    """Neither neighbouring rows nor the tables share noise: correlations over 10^5 draws stay below 0.01.

    Rows that are the same in all that is known have five donors in common, as in mice, and tables have all donors in common;
    so rows that are drawn from donors differ here, and are compared with each other only.
    """
    donors = options.get("matching") == "values"
    x = np.random.default_rng(5).normal(size=200_000) if donors else np.zeros(200_000)
    rows = {"x": x, "y": np.full(200_000, np.nan)}
    with pytest.warns(ImproperWarning) if options.get("uncertainty") == "none" else nullcontext():
        found = pg.impute(HOLED, m=2, progress=False, **options)
    line = np.polyfit(X[~HIDDEN], Y[~HIDDEN], 1)
    away = [table.column("y") - np.polyval(line, x) for table in found.transform(rows)]
    first, second = (noise - noise.mean() for noise in away)
    for lag in (1, 2, 1024):
        assert abs(np.corrcoef(first[:-lag:2][:90_000], first[lag::2][:90_000])[0, 1]) < 0.01
    assert donors or abs(np.corrcoef(first, second)[0, 1]) < 0.01


def test_new_rows_are_filled_with_the_parameters_of_the_same_table():
    """World i of the new rows is world i of the old ones, also where their pattern of holes is new."""
    few = {name: values[:30] for name, values in HOLED.items()}  # so that the worlds lie apart
    found = pg.impute(few, "gaussian_mixture", m=3, seed=2, **QUICK)
    many = 20_000
    rows = {"x": np.full(many, np.nan), "y": np.full(many, 3.0)}
    (fit,) = found.fits
    means = [table.column("x").mean() for table in found.transform(rows)]
    wanted = []
    for number in range(3):
        theta = fit.posterior.theta(number)["component.gaussian"]
        loc, covariance = theta["loc"][0].numpy(), np.linalg.inv(theta["precision"][0].numpy())
        y = fit.standardiser.forward(np.array([[0.0, 3.0]]))[0, 1]
        inner = loc[0] + covariance[0, 1] / covariance[1, 1] * (y - loc[1])
        wanted.append(fit.standardiser.inverse(np.array([[inner, 0.0]]))[0, 0])
    np.testing.assert_allclose(means, wanted, atol=4 * 0.3 / np.sqrt(many))
    assert np.ptp(wanted) > 8 * 0.3 / np.sqrt(many)  # the worlds differ by more than the test's tolerance


def test_one_seed_one_result(imputed):
    again = pg.impute(HOLED, "gaussian_mixture", m=5, seed=1, **QUICK)
    other = pg.impute(HOLED, "gaussian_mixture", m=5, seed=2, **QUICK)
    assert all(np.array_equal(a.values, b.values) for a, b in zip(imputed, again, strict=True))
    assert not np.array_equal(imputed[0].values, other[0].values)


@pytest.mark.parametrize("make", [lambda frame: frame, pl.from_pandas], ids=["pandas", "polars"])
@pytest.mark.parametrize("options", [{"model": "gaussian_mixture", "components": 1}, {}], ids=["mixture", "default"])
def test_types_levels_and_dates_are_kept(make, options):
    frame = make(mixed_frame())
    found = pg.impute(frame, m=2, progress=False, **options)
    completed = found[0].to_native()
    assert type(completed) is type(frame)
    assert list(completed.columns) == list(frame.columns)
    assert list(map(str, completed.dtypes)) == list(map(str, frame.dtypes))
    for name in frame.columns:
        before, after = (list(table[name]) for table in (frame, completed))
        assert not any(value is None or value is pd.NaT or value is pd.NA or value != value for value in after), name
        assert all(pd.isna(old) or old == new for old, new in zip(before, after, strict=True)), name
    assert isinstance(completed["when"][0], datetime.datetime)


def test_a_row_with_nothing_known_is_filled():
    columns = {"x": np.append(X, np.nan), "y": np.append(HOLED["y"], np.nan)}
    found = pg.impute(columns, "gaussian_mixture", m=2, **QUICK)
    assert len(found[0]) == N + 1
    assert found[0].known.all()


# ------------------------------------------------------------------------------------------------------ the parameters
def test_the_bootstrap_spreads_as_theory_says():
    """Of complete rows: the mean's draws have standard deviation s / sqrt(N + 1) (Rubin, 1981)."""
    fit = pg.fit("gaussian_mixture", {"x": X, "y": Y}, method="bootstrap", draws=400, prior=None, **QUICK)
    loc = fit.posterior.parameters["component.gaussian"]["loc"][0, :, 0].numpy()
    np.testing.assert_allclose(loc.std(0), 1 / np.sqrt(N + 1), rtol=4 / np.sqrt(2 * 400))
    np.testing.assert_allclose(loc.mean(0), 0.0, atol=4 / np.sqrt(N * 400))


def test_the_bootstrap_knows_weights():
    """Rows of weight zero say nothing; rows of weight two count twice."""
    doubled = pg.Table({"x": np.append(X, 50.0), "y": np.append(Y, -50.0)}, weights=np.append(np.full(N, 2.0), 0.0))
    fit = pg.fit("gaussian_mixture", doubled, method="bootstrap", draws=200, prior=None, **QUICK)
    found = fit.standardiser.inverse(fit.posterior.parameters["component.gaussian"]["loc"][0, :, 0].numpy())
    assert found.mean(0)[0] == pytest.approx(X.mean(), abs=4 * X.std() / np.sqrt(N * 200))


def test_data_augmentation_and_the_bootstrap_agree():
    """The slope's total standard error by Gibbs draws and by refits, within a third (m = 40)."""
    errors = {}
    for uncertainty, options in (("bootstrap", {}), ("posterior", {"chains": 1, "draws": 40, "thin": 5})):
        found = pg.impute(HOLED, "gaussian_mixture", m=40, uncertainty=uncertainty, **QUICK | options)
        slopes = [np.polyfit(table.column("x"), table.column("y"), 1)[0] for table in found]
        errors[uncertainty] = np.std(slopes)
    assert errors["posterior"] / errors["bootstrap"] == pytest.approx(1.0, abs=0.35)


def test_without_uncertainty_of_parameters_tables_differ_too_little(imputed):
    with pytest.warns(ImproperWarning, match="too short"):
        improper = pg.impute(HOLED, "gaussian_mixture", m=40, uncertainty="none", **QUICK)
    proper = pg.impute(HOLED, "gaussian_mixture", m=40, **QUICK)
    spread = [np.std([np.polyfit(t.column("x"), t.column("y"), 1)[0] for t in found]) for found in (improper, proper)]
    assert spread[0] < 0.85 * spread[1]
    assert proper.proper
    assert not improper.proper


def test_an_ensemble_is_as_many_fits():
    found = pg.impute(HOLED, "gaussian_mixture", m=3, uncertainty="ensemble", restarts=1, **QUICK)
    assert len(found.fits) == 3
    locs = [fit.posterior.theta()["component.gaussian"]["loc"][0, 1].item() for fit in found.fits]
    assert len(set(locs)) == 3
    assert [len(table) for table in found.transform(pg.Table(HOLED).take([0, 1]))] == [2, 2, 2]


# --------------------------------------------------------------------------------------------------------- the analysis
def test_an_analysis_by_formula_is_that_of_every_table(imputed):
    found = imputed.analyse("y ~ x")
    wanted = [models.ols("y ~ x", table.to_pandas()).fit() for table in imputed]
    assert [list(r.params) for r in found] == [list(r.params) for r in wanted]
    robust = imputed.analyse("y ~ x", cov_type="HC1")
    assert robust[0].bse["x"] != found[0].bse["x"]


def test_an_analysis_that_fails_names_its_imputation(imputed):
    calls = []

    def fragile(frame):
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError("no variance")
        return frame["y"].mean()

    with pytest.raises(DataError, match="imputation 2 failed: ZeroDivisionError: no variance"):
        imputed.analyse(fragile)
    with pytest.raises(CapabilityError, match="binomial"):
        imputed.analyse("y ~ x", family="weibull")


def test_all_tables_as_one_data_frame(imputed):
    frame = imputed.to_pandas(include_original=True)
    assert list(frame.columns) == [".imp", ".id", "x", "y"]
    assert frame[".imp"].value_counts().to_dict() == dict.fromkeys(range(6), N)
    assert frame["y"][frame[".imp"] == 0].isna().sum() == HIDDEN.sum()
    assert "40" in str(imputed) or f"{HIDDEN.mean():.1%}" in str(imputed)


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"m": 0}, "m, the number of imputations"),
        ({"m": 2.5}, "m, the number of imputations"),
        ({"uncertainty": "jackknife"}, "bootstrap, posterior, laplace, ensemble, none"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(CapabilityError, match=message):
        pg.impute(HOLED, "gaussian_mixture", **QUICK | options)


def test_a_model_that_em_cannot_fit_is_told_what_can():
    with pytest.raises(CapabilityError, match="uncertainty='ensemble'"):
        pg.impute(HOLED, "vae", m=2, uncertainty="bootstrap", progress=False)


def test_a_column_without_any_known_cell_is_refused():
    with pytest.raises(DataError, match="'z'"):
        pg.impute({**HOLED, "z": np.full(N, np.nan)}, "gaussian_mixture", m=2, **QUICK)


# ------------------------------------------------------------------------------------------------------ what it is in words
def test_all_imputations_are_told_in_a_line(imputed):
    """Of any kind, without their tables."""
    mechanism = pg.Mechanism("self_masking", chains=1, warmup=2, thin=1)
    masked = pg.impute(HOLED, "gaussian_mixture", m=2, mechanism=mechanism, **QUICK)
    moved = imputed.shifted({"y": 1.0})
    said = "(m={}, model='gaussian_mixture', uncertainty='bootstrap')"
    for one, name in ((imputed, "Imputations"), (masked, "MaskedImputations"), (moved, "ShiftedImputations")):
        assert repr(one) == name + said.format(one.m)
        assert str(one).startswith(repr(one))
    assert "shifted: y by 1 (units, given the known cells)" in str(moved)
    assert "self_masking: log odds" in str(masked)


def test_the_design_is_what_was_given(imputed):
    design = pg.Design(bounds={"y": (-50, 50)})
    under = pg.impute(HOLED, "gaussian_mixture", m=2, design=design, **QUICK)
    assert under.design is design
    assert under.prepared.limits.upper[HIDDEN, 1].tolist() == [50.0] * int(HIDDEN.sum())
    assert imputed.design is None
    assert imputed.prepared is None
    assert repr(design) == "pg.Design(bounds={'y': (-50, 50)})"
    mask = pg.Design(keep_missing=np.ones((2, 3), dtype=bool), censored={"y": pg.censored(upper=2.0)}, rounds=2)
    assert repr(mask) == "pg.Design(keep_missing=<array 2x3>, censored={'y': pg.censored(upper=2.0)}, rounds=2)"
    assert repr(pg.Design()) == "pg.Design()"
