"""What a design says holds in every completed table, and what is known by halves tells of the parameters."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from scipy.optimize import minimize

import probgen as pg
from probgen.errors import CapabilityError, DataError, DataWarning, ImproperWarning, SchemaError

QUICK = {"components": 1, "progress": False}
RNG = np.random.default_rng(0)


def reals(columns):
    """A table of plain numbers, whatever they look like."""
    schema = pg.Schema(tuple(pg.Column(name, "real") for name in columns))
    return pg.Table(pd.DataFrame(columns), schema=schema)


def people(n=120, seed=0):
    rng = np.random.default_rng(seed)
    height = rng.normal(170, 10, n)
    weight = 70 + 0.8 * (height - 170) + rng.normal(0, 6, n)
    return {"height": height, "weight": weight, "bmi": weight / (height / 100) ** 2}


def holed(columns, share=0.25, seed=1):
    rng = np.random.default_rng(seed)
    return {name: np.where(rng.random(len(x)) < share, np.nan, x) for name, x in columns.items()}


def impute(data, design, m=3, model="gaussian_mixture", seed=1, **options):
    return pg.impute(data, model, m=m, seed=seed, design=design, **{**QUICK, **options})


# --------------------------------------------------------------------------------------------------- derived columns
BMI = pg.Design(derived={"bmi": "weight / (height / 100) ** 2"}, rounds=2)


@pytest.fixture(scope="module")
def bodies():
    whole = people()
    data = holed(whole)
    return whole, data, impute(reals(data), BMI)


def test_derived_columns_follow_in_every_row(bodies):
    _, data, imputed = bodies
    for table in imputed:
        height, weight, bmi = (table.column(name) for name in data)
        np.testing.assert_allclose(bmi, weight / (height / 100) ** 2, rtol=1e-9)
        for name, x in data.items():
            known = ~np.isnan(x)
            assert np.array_equal(table.column(name)[known], x[known])


def test_one_unknown_ingredient_of_a_known_derived_cell_is_solved_for(bodies):
    whole, data, imputed = bodies
    known = {name: ~np.isnan(x) for name, x in data.items()}
    for name, other in (("height", "weight"), ("weight", "height")):
        single = known["bmi"] & ~known[name] & known[other]
        assert single.any()
        for table in imputed:
            np.testing.assert_allclose(table.column(name)[single], whole[name][single], rtol=1e-9)


def test_two_unknown_ingredients_are_drawn_on_the_formula(bodies):
    """Given their sum c, two independent standard normals have mean c / 2 and standard deviation sqrt(1/2)."""
    a, b = RNG.normal(size=(2, 400))
    data = {"a": a.copy(), "b": b.copy(), "total": a + b}
    data["a"][:3] = data["b"][:3] = np.nan
    data["total"][:3] = 2.0
    imputed = impute(reals(data), pg.Design(totals={"total": ["a", "b"]}), m=2, prior=None)
    rows = {"a": np.full(400, np.nan), "b": np.full(400, np.nan), "total": np.full(400, 2.0)}
    drawn = imputed.transform(rows)[0].column("a")
    mean, covariance = np.array([a.mean(), b.mean()]), np.cov(a, b)  # of the population, within sampling error
    slope = covariance[0].sum() / covariance.sum()
    assert drawn.mean() == pytest.approx(mean[0] + slope * (2 - mean.sum()), abs=0.15)
    assert drawn.std() == pytest.approx(np.sqrt(covariance[0, 0] - slope * covariance[0].sum()), rel=0.12)


def test_boys(data_folder):
    """The body mass index of mice's boys was cut off after two decimals; it agrees with weight and height in all rows."""
    frame = pd.read_csv(data_folder / "tabular" / "mice_boys.csv")[["age", "hgt", "wgt", "bmi", "hc"]]
    frame.loc[:4, ["hgt", "wgt"]] = None
    frame.loc[5:9, "hgt"] = None
    imputed = impute(frame, pg.Design(derived={"bmi": "wgt / (hgt / 100) ** 2"}, bounds={"hgt": (40, 220)}), m=2)
    for table in imputed:
        found = table.to_pandas()
        assert (found["bmi"] - found["wgt"] / (found["hgt"] / 100) ** 2).abs().max() <= 0.01
        assert found["hgt"].between(40, 220).all()
    frame = pd.read_csv(data_folder / "tabular" / "mice_boys.csv")[["hgt", "wgt", "bmi"]]
    frame.loc[3, "bmi"] = 25.0
    with pytest.raises(DataError, match=r"Row 3: 'bmi' is 25\.0, but 'wgt / .*' gives 14\.3.* \(wgt = .*tolerance"):
        impute(frame, pg.Design(derived={"bmi": "wgt / (hgt / 100) ** 2"}))


def test_derived_columns_may_be_new_and_made_of_derived_ones():
    data = people()
    del data["bmi"]
    data["height"][:20] = np.nan
    design = pg.Design(
        derived={"heavy": "bmi > 25", "bmi": "weight / (height / 100) ** 2", "twice": lambda f: 2 * f["bmi"]}
    )
    for make in (pd.DataFrame, pl.DataFrame):
        found = impute(make(data), design, m=1)[0].to_native()
        assert list(found.columns) == ["height", "weight", "heavy", "bmi", "twice"]
        bmi = np.asarray(found["bmi"])
        assert np.array_equal(np.asarray(found["heavy"]), bmi > 25)
        assert np.array_equal(np.asarray(found["twice"]), 2 * bmi)


def test_levels_can_be_derived():
    data = people()
    data["class"] = np.where(data["bmi"] > 25, "high", "low").astype(object)
    data["class"][:10] = data["bmi"][:30] = data["weight"][:30] = np.nan
    design = pg.Design(derived={"bmi": BMI.derived["bmi"], "class": "'high' if bmi > 25 else 'low'"})
    found = impute(pd.DataFrame(data), design, m=1)[0].to_pandas()
    assert np.array_equal(found["class"], np.where(found["bmi"] > 25, "high", "low"))
    assert np.array_equal(
        found["class"][10:30], pd.Series(data["class"][10:30])
    )  # known levels kept, weights drawn so


@pytest.mark.parametrize(
    ("columns", "derived", "said"),
    [
        ({"x": [np.nan, 2.0, -3.0], "y": [4.0, 4.0, 9.0]}, "x ** 2", r"neither rises nor falls all along in 'x'"),
        ({"x": [np.nan, 2.0, -3.0], "y": [-1.0, np.exp(2), np.exp(-3)]}, "exp(x)", r"Row 0: no value of 'x' gives"),
    ],
)
def test_ingredients_without_one_answer_are_refused(columns, derived, said):
    with pytest.raises(DataError, match=said):
        impute(reals(columns), pg.Design(derived={"y": derived}))


# --------------------------------------------------------------------------------------------------- bounds and rules
def test_rejection_draws_the_truncated_law():
    """A normal cell between 0.5 and 1.5 has the truncated normal's distribution (Kolmogorov-Smirnov)."""
    x = np.append(RNG.normal(size=200), np.nan)
    imputed = impute(reals({"x": x, "y": RNG.normal(size=201)}), pg.Design(), m=1, prior=None)
    (fit,) = imputed.fits
    theta = fit.posterior.theta()["component.gaussian"]
    mean, sd = float(theta["loc"][0, 0]), float(np.sqrt(np.linalg.inv(theta["precision"][0].numpy())[0, 0]))
    narrow = replace(imputed, prepared=replace(imputed.prepared, design=pg.Design(rules=["0.5 <= x <= 1.5"])))
    (rows,) = narrow.transform({"x": np.full(4000, np.nan), "y": np.full(4000, np.nan)})
    drawn = np.column_stack([rows.column("x"), np.zeros(4000)])
    low, high = (fit.standardiser.forward(np.array([[end, 0.0]]))[0, 0] for end in (0.5, 1.5))
    expected = stats.truncnorm((low - mean) / sd, (high - mean) / sd, mean, sd)
    assert stats.kstest(fit.standardiser.forward(drawn)[:, 0], expected.cdf).pvalue > 0.001


def test_rules_and_bounds_hold_in_old_and_new_rows():
    start = np.maximum(RNG.normal(0, 1, 200), -3)  # no cell contradicts the bounds
    data = holed({"start": start, "end": start + RNG.exponential(1, 200)}, 0.3)
    design = pg.Design(rules=["start <= end"], bounds={"end": (None, 5), "start": (-3, None)})
    data["end"] = np.where(data["end"] > 5, np.nan, data["end"])
    imputed = impute(reals(data), design)
    new = {"start": [0.5, np.nan, np.nan], "end": [np.nan, -1.0, np.nan]}
    for table in [*imputed, *imputed.transform(new)]:
        assert (table.column("start") <= table.column("end")).all()
        assert table.column("end").max() <= 5
        assert table.column("start").min() >= -3


def test_the_same_seed_gives_the_same_bits():
    data = reals(holed(people(), 0.3))
    one, other = (
        impute(data, pg.Design(rules=["weight < 90 or height > 150"], derived=BMI.derived, rounds=1)) for _ in "ab"
    )
    assert all(np.array_equal(a.values, b.values) for a, b in zip(one, other, strict=True))


def test_limits_from_rules():
    """What the other side of a rule says of an unknown cell stands in the limits that models can read."""
    data = {"start": [1.0, np.nan, 2.0, 0.5], "end": [np.nan, 4.0, 3.0, 1.0]}
    imputed = impute(reals(data), pg.Design(rules=["start <= end"]), m=1)
    limits = imputed.prepared.limits
    assert limits.lower[0, 1] == 1.0
    assert limits.upper[1, 0] == 4.0
    assert not limits.told[2:].any()


def test_dates():
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(RNG.integers(0, 300, 80), unit="D")
    frame = pd.DataFrame({"birth": days, "visit": days + pd.to_timedelta(RNG.integers(1, 90, 80), unit="D")})
    frame["wait"] = (frame["visit"] - frame["birth"]).dt.days.astype(float)
    frame.loc[:20, "visit"] = frame.loc[15:30, "birth"] = None
    frame.loc[:10, "wait"] = frame.loc[25:, "wait"] = None
    design = pg.Design(
        derived={"wait": "visit - birth"},
        rules=["birth <= visit"],
        bounds={"birth": ("2020-01-01", "2020-12-31"), "visit": (None, "2021-06-30")},
    )
    found = impute(frame, design, m=1)[0].to_pandas()
    assert (found["birth"] <= found["visit"]).all()
    assert found["birth"].between("2020-01-01", "2020-12-31 23:59").all()
    np.testing.assert_allclose((found["visit"] - found["birth"]) / pd.Timedelta(days=1), found["wait"], atol=1e-3)


@pytest.mark.parametrize(
    ("design", "said"),
    [
        ({"bounds": {"x": (0, 2)}}, r"Column 'x', row 3: the value 9\.0 is outside its bounds \(0\.0, 2\.0\)"),
        ({"rules": ["x < y"]}, r"Row 3 breaks the rule 'x < y' \(x = 9\.0, y = 4\.0; 1 such row\)"),
        (
            {"rules": ["z > 500 or y > 1.1"]},
            r"Row 0: none of 300 draws kept the rule 'z > 500 or y > 1\.1' \(1 such row",
        ),
        ({"rules": ["z > 4", "x > z - 3"]}, r"Row 1 breaks the rule 'z > 4'"),
        ({"rules": ["z > x + 1 and z < y - 3"]}, r"Row 1 breaks"),
        ({"rules": ["z >= x + 1 or z > 0", "z <= -2"]}, r"Row 1 breaks the rule 'z <= -2'"),
        ({"bounds": {"z": (-99, 0)}, "rules": ["z >= x or z > -99"]}, r"Row 1: |outside its bounds"),
        (
            {"derived": {"w": "log(z) + x"}, "bounds": {"w": (50, None)}},
            r"Row 0: none of 300 draws kept the limits of",
        ),
    ],
)
def test_what_breaks_a_rule_is_named(design, said):
    data = {"x": [0.5, 1.0, 1.5, 9.0, 0.1], "y": [1.0, 2.0, 3.0, 4.0, 1.2], "z": [np.nan, 2.1, 1.2, 1.5, 1.3]}
    if "derived" in design:
        data["x"] = [0.5, 51.0, 52.0, 54.0, 55.0]
    with pytest.raises(DataError, match=said):
        impute(reals(data), pg.Design(**design, tries=300))


def test_contradicting_limits_are_named():
    data = {"x": [5.0, 1.0, 2.0, 1.5], "y": [np.nan, 2.0, 2.5, 2.6]}
    with pytest.raises(DataError, match=r"Column 'y', row 0: no value is left between 5 and 3"):
        impute(reals(data), pg.Design(rules=["x <= y"], bounds={"y": (None, 3)}))


def test_squeezing_moves_and_counts():
    """What 50 tries do not bring inside goes to the bound, and is told."""
    x = np.append(RNG.normal(size=50), np.nan)
    data = {"x": x, "y": RNG.normal(size=51), "least": np.append(np.full(50, -99.0), 500.0)}
    design = pg.Design(rules=["x >= least"], exclude="least", tries=50)
    with pytest.raises(DataError, match="Row 50: none of 50 draws"):
        impute(reals(data), design)
    with pytest.warns(DataWarning, match="Cells were moved to their bounds: 1 of 'x'"):
        found = impute(reals(data), replace(design, squeeze=True), m=1)
    assert found[0].column("x")[-1] == 500
    assert found.prepared.squeezed == {"x": 1}


# ------------------------------------------------------------------------------------- what does not apply, or stays
def pregnancies(n=200):
    rng = np.random.default_rng(5)
    sex = rng.choice(["female", "male"], n)
    frame = pd.DataFrame({"sex": sex, "age": rng.normal(40, 8, n), "number": rng.poisson(2.5, n).astype(float)})
    frame.loc[sex == "male", "number"] = 0.0
    frame.loc[rng.random(n) < 0.3, "number"] = None
    frame.loc[rng.random(n) < 0.2, "sex"] = None
    return frame


def test_cells_that_do_not_apply():
    """Men have none; a known number above 0 says female; a 0 of unknown sex stays open between the two."""
    frame = pregnancies()
    imputed = impute(frame, pg.Design(skip={"number": ("sex == 'male'", 0)}), m=20)
    for table in imputed:
        found = table.to_pandas()
        assert (found.loc[found["sex"] == "male", "number"] == 0).all()
        assert (found.loc[frame["number"] > 0, "sex"] == "female").all()
        assert found.loc[frame["number"].notna(), "number"].equals(frame.loc[frame["number"].notna(), "number"])
    open_ = frame["sex"].isna() & (frame["number"] == 0)
    share = np.mean([(table.to_pandas()["sex"] == "male")[open_].mean() for table in imputed])
    women = frame.loc[(frame["sex"] == "female"), "number"].dropna()
    none = (women == 0).mean()  # Bayes: P(male | 0) with as many men as women
    assert share == pytest.approx(1 / (1 + none), abs=0.12)


def test_cells_that_do_not_apply_tell_the_model_nothing():
    """Women's numbers are drawn from women's: zeros of men would pull them down."""
    frame = pregnancies(400)
    imputed = impute(frame, pg.Design(skip={"number": ("sex == 'male'", 0)}), m=10)
    drawn = [t.to_pandas().loc[(frame["sex"] == "female") & frame["number"].isna(), "number"].mean() for t in imputed]
    assert np.mean(drawn) == pytest.approx(2.5, abs=0.5)


def test_cells_that_do_not_apply_may_stay_missing():
    frame = pregnancies()
    frame.loc[frame["sex"] == "male", "number"] = None
    imputed = impute(frame, pg.Design(skip={"number": "sex == 'male'"}), m=3)
    for table in imputed:
        found = table.to_pandas()
        assert (found["number"].isna() == (found["sex"] == "male")).all()


def test_a_value_where_none_applies_is_refused():
    frame = pregnancies()
    frame.loc[7, ["sex", "number"]] = ["male", 3.0]
    with pytest.raises(DataError, match=r"Column 'number', row 7: the value 3\.0 stands where \"sex == 'male'\" says"):
        impute(frame, pg.Design(skip={"number": ("sex == 'male'", 0)}))


def test_cells_that_stay_missing():
    data = holed({"a": RNG.normal(size=60), "b": RNG.normal(size=60), "c": RNG.normal(size=60)}, 0.3)
    mask = np.zeros((60, 3), dtype=bool)
    mask[:30, 1] = True
    open_ = np.isnan(data["b"])
    for keep, stays in (("b", open_), (mask, open_ & mask[:, 1]), ({"b": "a > 0"}, None)):
        table = impute(reals(data), pg.Design(keep_missing=keep), m=1)[0]
        expected = open_ & (table.column("a") > 0) if stays is None else stays
        assert np.array_equal(np.isnan(table.column("b")), expected)
        assert not np.isnan(table.column("a")).any()


# ------------------------------------------------------------------------------------------------- roles of columns
def test_identifiers_auxiliary_columns_and_weights():
    n = 80
    frame = pd.DataFrame(people(n))[["height", "weight"]]
    frame.insert(0, "id", [f"patient {k}" for k in range(n)])
    frame["stay"] = pd.array([2**60 + k for k in range(n)], dtype="Int64")
    frame["helps"] = frame["weight"] + RNG.normal(size=n)
    frame["w"] = np.where(np.arange(n) < 40, 1.0, 3.0)
    frame.loc[:15, "weight"] = None
    frame.loc[3, "id"] = None
    design = pg.Design(exclude=["id", "stay"], auxiliary="helps", weights="w")
    for made in (frame, pl.from_pandas(frame)):
        imputed = impute(made, design, m=2)
        assert imputed.table.schema.names == ("id", "height", "weight", "stay", "w")
        found = imputed[0].to_native()
        assert list(found["stay"]) == list(frame["stay"])
        assert [x for x in found["id"] if isinstance(x, str)] == list(frame["id"].dropna())
        assert imputed.fits[0].schema.names == ("height", "weight", "helps")
        new = {
            "id": ["x", "y"],
            "stay": [1, 2],
            "height": [170.0, 180.0],
            "weight": [None, 80.0],
            "helps": [70.0, None],
            "w": [1, 1],
        }
        (first, _) = imputed.transform(pd.DataFrame(new))
        assert first.column("id").tolist() == ["x", "y"]
        assert abs(first.column("weight")[0] - 70.0) < 8  # the auxiliary column says so


def test_weights_count_in_the_fit():
    """Rows of weight zero say nothing of the mean of the rest."""
    x = np.concatenate([RNG.normal(0, 1, 100), RNG.normal(50, 1, 100), np.full(60, np.nan)])
    data = {"x": x, "y": RNG.normal(size=260), "w": np.repeat([1.0, 0.0, 1.0], [100, 100, 60])}
    table = impute(reals(data), pg.Design(weights="w"), m=1, prior=None)[0]
    assert abs(table.column("x")[200:].mean()) < 1


@pytest.mark.parametrize("more", [{}, {"censored": {"y": (-9, None)}, "rounds": 1}])
def test_weights_of_the_table_count_under_a_design(more):
    """As those of a column do: rows of weight zero say nothing, and the completed tables have the weights."""
    x = np.concatenate([RNG.normal(0, 1, 100), RNG.normal(50, 1, 100), np.full(60, np.nan)])
    weights = np.repeat([1.0, 0.0, 1.0], [100, 100, 60])
    table = reals({"x": x, "y": RNG.normal(size=260), "w": weights}).with_weights(weights)
    imputed = impute(table, pg.Design(exclude="w", **more), m=1, prior=None)
    assert abs(imputed[0].column("x")[200:].mean()) < 1
    assert np.array_equal(imputed[0].weights, weights)
    impute(table, pg.Design(weights="w"), m=1)
    with pytest.raises(SchemaError, match="The table has weights, and the design says that column 'w' holds others"):
        impute(table.with_weights(1 + weights), pg.Design(weights="w"), m=1)


def test_weights_of_new_rows_may_be_absent():
    data = {"x": RNG.normal(size=60), "w": np.ones(60), "y": np.where(np.arange(60) < 20, np.nan, RNG.normal(size=60))}
    imputed = impute(reals(data), pg.Design(weights="w"), m=2)
    new = {"x": [0.5, 1.0], "y": [np.nan, np.nan]}
    wanted = imputed.transform({**new, "w": [1.0, 2.0]})
    for weights in ({}, {"w": [np.nan, 1.0]}):
        for one, other in zip(imputed.transform({**new, **weights}), wanted, strict=True):
            assert one.names == ("x", "w", "y")
            assert np.array_equal(one.column("y"), other.column("y"))
    data["w"][3] = np.nan
    with pytest.raises(DataError, match=r"weights must be finite .* row 3 has nan"):
        impute(reals(data), pg.Design(weights="w"), m=2)


def test_a_weighted_analysis():
    """Weighted least squares with a sandwich covariance: weights of two count as the row twice in the estimate."""
    data = pd.DataFrame({"x": RNG.normal(size=60), "y": RNG.normal(size=60), "w": np.repeat([1.0, 2.0], 30)})
    data.loc[:9, "y"] = None
    imputed = impute(data, pg.Design(weights="w"), m=2)
    (one, _) = imputed.analyse("y ~ x", weights="w")
    frame = imputed[0].to_pandas()
    doubled = pd.concat([frame, frame[30:]])
    np.testing.assert_allclose(one.params["x"], np.polyfit(doubled["x"], doubled["y"], 1)[0], rtol=1e-8)
    assert one.cov_type == "HC1"


# ------------------------------------------------------------------------------------------------------- censoring
def tobit(x, limit, known):
    """Maximum likelihood of a normal sample that is censored from below: mean, log sd, and their covariance."""
    mean, log_sd = x[known].mean(), np.log(x[known].std())

    def score(theta):
        z, c = (x[known] - theta[0]) / np.exp(theta[1]), (limit - theta[0]) / np.exp(theta[1])
        return -(stats.norm.logpdf(z).sum() - known.sum() * theta[1] + (~known).sum() * stats.norm.logcdf(c))

    found = minimize(score, [mean, log_sd], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
    step = 1e-4 * np.eye(2)
    hessian = [
        [
            (score(found.x + a + b) - score(found.x + a - b) - score(found.x - a + b) + score(found.x - a - b)) / 4e-8
            for b in step
        ]
        for a in step
    ]
    return found.x, np.linalg.inv(hessian)


def censored_sample(seed, n=200, limit=2.0):
    x = np.random.default_rng(seed).normal(3, 2, n)
    return x, np.where(x >= limit, x, np.nan)


def pooled_mean(imputed):
    found = imputed.analyse(lambda frame: (frame["x"].mean(), frame["x"].var() / len(frame)))
    return pg.pool(found)


def test_censored_cells_give_the_tobit_estimate():
    """Mean and standard deviation of a sample of which 31 % is below 2: those of the censored likelihood."""
    x, data = censored_sample(2)
    imputed = impute(reals({"x": data}), pg.Design(censored={"x": (None, 2.0)}), m=10, prior=None)
    theta, covariance = tobit(x, 2.0, x >= 2.0)
    means = [table.column("x").mean() for table in imputed]
    spreads = [np.log(table.column("x").std()) for table in imputed]
    errors = np.sqrt(np.diag(covariance))
    assert np.mean(means) == pytest.approx(theta[0], abs=0.5 * errors[0])
    assert np.mean(spreads) == pytest.approx(theta[1], abs=0.6 * errors[1])
    for table in imputed:
        assert table.column("x")[x < 2.0].max() <= 2.0
        assert np.array_equal(table.column("x")[x >= 2.0], x[x >= 2.0])


@pytest.mark.slow
@pytest.mark.stats
def test_intervals_of_censored_samples_cover():
    """The pooled 95 % interval of the mean covers at its rate (100 samples of 100, 31 % censored; .88 to 1 is 3 errors)."""
    covered = []
    for seed in range(100):
        _, data = censored_sample(1000 + seed, n=100)
        imputed = impute(reals({"x": data}), pg.Design(censored={"x": (None, 2.0)}), m=10, prior=None, seed=seed)
        low, high = np.ravel(pooled_mean(imputed).intervals())
        covered.append(low <= 3.0 <= high)
    assert np.mean(covered) >= 0.88


def test_right_censored_times():
    """The time that stands beside "no event yet" is a lower limit, no value; the event's column is not in the model."""
    rng = np.random.default_rng(3)
    age, noise = rng.normal(size=(2, 300))
    time, end = 10 + 2 * age + noise, rng.uniform(8, 14, 300)
    frame = reals({"time": np.minimum(time, end), "event": (time <= end) * 1.0, "age": age})
    design = pg.Design(censored={"time": pg.censored(lower="time", where="event == 0")})
    imputed = impute(frame, design, m=5)
    assert imputed.fits[0].schema.names == ("time", "age")
    assert not imputed.table.known[:, 0].all()
    slopes = []
    for table in imputed:
        assert (table.column("time")[time > end] >= end[time > end]).all()
        slopes.append(np.polyfit(age, table.column("time"), 1)[0])
    assert np.mean(slopes) == pytest.approx(2.167, abs=0.09)  # of the censored likelihood, whose error is .078
    naive = np.polyfit(age, np.minimum(time, end), 1)[0]
    assert naive < 1.7  # the test would see it
    new = {"time": [12.0, 9.0], "event": [0.0, 1.0], "age": [0.0, 0.0]}
    first = imputed.transform(new)[0].column("time")
    assert first[0] >= 12
    assert first[1] == 9


def test_interval_censoring_by_columns():
    x = RNG.normal(size=150)
    low, high = np.floor(x), np.floor(x) + 1
    exact = np.arange(150) < 60
    data = {
        "x": np.where(exact, x, np.nan),
        "low": np.where(exact, np.nan, low),
        "high": np.where(exact, np.nan, high),
    }
    imputed = impute(reals(data), pg.Design(censored={"x": ("low", "high")}, rounds=2), m=2)
    for table in imputed:
        assert ((table.column("x") >= low) & (table.column("x") <= high)).all()
    assert imputed.fits[0].schema.names == ("x",)


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (("high", "low"), r"Column 'x', row 0: no value is left between"),
        (pg.censored(upper=np.zeros(3)), r"limits of shape \(3,\) for 5 rows; name a column"),
        (pg.censored(upper="low", where="x != 1"), r"Column 'x', row 1 is censored, but neither limit is known"),
    ],
)
def test_bad_limits_are_refused(interval, said):
    data = {"x": [np.nan, 2.0, 3.0, 1.0, 7.0], "low": [0.5, np.nan, 1.0, 1.0, 1.0], "high": [2.0, 2.0, 1.0, 1.5, 1.0]}
    with pytest.raises((DataError, SchemaError), match=said):
        impute(reals(data), pg.Design(censored={"x": interval}))


# ---------------------------------------------------------------------------------------------------- bad designs
@pytest.mark.parametrize(
    ("design", "said"),
    [
        ({"derived": {"a": "b + 1", "b": "a - 1"}}, "made of each other"),
        ({"derived": {"a": "b"}, "exclude": ["a"]}, "Column 'a' cannot be in 'derived' and in 'exclude'"),
        ({"skip": {"a": "b > 1"}, "derived": {"a": "b"}}, "Column 'a' is in 'derived'"),
        ({"bounds": {"a": 3}}, r"bounds\['a'\] must be a pair"),
        ({"rules": ["a <"]}, "is no formula"),
        ({"rules": ["__import__('os')"]}, "the functions of formulas are"),
        ({"rules": ["a.b > 1"]}, "holds what no formula may"),
        ({"censored": {"a": 3}}, "must be a pair"),
        ({"tries": 0}, "tries must be a whole number"),
        ({"tolerance": -1.0}, "tolerance must be"),
    ],
)
def test_designs_that_do_not_hold_together(design, said):
    with pytest.raises(SchemaError, match=said):
        pg.Design(**design)


@pytest.mark.parametrize(
    ("design", "said"),
    [
        ({"rules": ["x <= nothing"]}, "no column 'nothing'"),
        ({"bounds": {"sex": ("f", "m")}}, "have no order"),
        ({"rules": ["sex == 'q'"]}, "'q' is no level of column 'sex'"),
        ({"rules": ["sex + 1 > 2"]}, "whose levels are texts"),
        ({"skip": {"x": ("sex == 'f'", "none")}}, "'none' is no number"),
        ({"keep_missing": np.ones((2, 2), dtype=bool)}, "keep_missing must have shape"),
        ({"derived": {"x": "'a' if sex == 'f' else 'b'"}}, "gives texts, but column 'x'"),
    ],
)
def test_designs_that_do_not_fit_the_table(design, said):
    frame = pd.DataFrame({"x": [0.5, None, 2.5, 3.0], "sex": ["f", "m", "m", "f"]})
    with pytest.raises(SchemaError, match=said):
        impute(frame, pg.Design(**design))


def test_other_things_are_no_designs():
    with pytest.raises(CapabilityError, match=r"design must be a pg\.Design"):
        impute(reals(people()), {"bounds": {}})
    sequences = pg.Table.from_sequences([np.zeros((3, 1)), np.ones((2, 1))], kind="real")
    with pytest.raises(CapabilityError, match="stand in sequences"):
        pg.impute(sequences, "hidden_markov", design=pg.Design())


# -------------------------------------------------------------------------------------------------- other models
@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("gaussian_mixture", {"components": 2, "uncertainty": "none"}),
        ("gaussian_mixture", {"components": 1, "uncertainty": "ensemble"}),
        ("gaussian_mixture", {"components": 1, "uncertainty": "posterior", "chains": 1, "draws": 4, "warmup": 20}),
        ("gaussian_copula", {"uncertainty": "ensemble"}),
        ("bayesian_network", {}),
        ("kernel_density", {"uncertainty": "ensemble"}),
    ],
)
def test_any_model_keeps_the_design(model, options, data_folder):
    """nhanes2 with a ratio, a bound, a rule and a censored cell: 25 rows of mixed kinds."""
    frame = pd.read_csv(data_folder / "tabular" / "mice_nhanes2.csv")
    frame["ratio"] = frame["chl"] / frame["bmi"]
    frame.loc[frame["ratio"].notna().to_numpy().nonzero()[0][:3], "bmi"] = None
    low = np.where(frame["chl"].isna(), 150.0, np.nan)
    design = pg.Design(
        derived={"ratio": "chl / bmi"},
        bounds={"bmi": (15, 45)},
        rules=["chl > 4 * bmi or hyp == 'no'"],
        censored={"chl": pg.censored(lower=low)},
        rounds=1,
        tries=3000,
    )
    expected = pytest.warns(ImproperWarning) if options.get("uncertainty") == "none" else nullcontext()
    with expected:
        imputed = pg.impute(frame, model, m=2, seed=0, progress=False, design=design, **options)
    assert len(imputed) == 2
    for table in imputed:
        found = table.to_pandas()
        assert found.notna().all().all()
        np.testing.assert_allclose(found["ratio"], found["chl"] / found["bmi"], rtol=0.01)
        assert found["bmi"].between(15, 45).all()
        assert (found["chl"][~np.isnan(low)] >= 150).all()
        assert ((found["chl"] > 4 * found["bmi"]) | (found["hyp"] == "no")).all()
