"""The transformer: scikit-learn's own checks, the imputations that it hands on, and tables that come back as they were."""

import pickle
import pickletools
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import probgen as pg
from probgen.errors import CapabilityError, DataError, DataWarning, SchemaError

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: sklearn)")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from probgen.sklearn import Imputer

ROOT = Path(__file__).parents[1]
QUICK = {"model": "gaussian_mixture", "options": {"components": 1, "restarts": 1}, "random_state": 3}


def rows(n=60, d=3, share=0.2, seed=0):
    """Correlated normal numbers with holes; no row is empty."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) + rng.normal(size=(n, 1))
    x[:, 1:][rng.random((n, d - 1)) < share] = np.nan
    return x


def frame(n=60, seed=0):
    """Every type of column that keeps its type while it has holes."""
    rng = np.random.default_rng(seed)
    start = pd.Timestamp("2020-03-01")
    made = pd.DataFrame(
        {
            "real": rng.normal(size=n),
            "single": rng.exponential(size=n).astype("float32"),
            "category": pd.Categorical(rng.choice(["x", "y", "z"], n), categories=["z", "y", "x"]),
            "text": rng.choice(["u", "v"], n),
            "count": pd.array(rng.poisson(3, n), dtype="Int64"),
            "truth": pd.array(rng.random(n) < 0.5, dtype="boolean"),
            "grade": pd.Categorical(rng.choice(["lo", "mid", "hi"], n), ["lo", "mid", "hi"], ordered=True),
            "day": start + pd.to_timedelta(rng.integers(0, 900, n), "D"),
            "zoned": start.tz_localize("Europe/Paris") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
        },
        index=2 * np.arange(n)[::-1],
    )
    return made.mask(rng.random(made.shape) < 0.2).assign(whole=rng.integers(-50, 50, n))


# ---------------------------------------------------------------------------------------- scikit-learn's own checks
@parametrize_with_checks([Imputer(**QUICK, m=2)])
@pytest.mark.filterwarnings("ignore")
def test_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("run", range(3))
def test_all_checks_of_the_default(run):
    np.random.seed(run)  # noqa: NPY002
    told = check_estimator(Imputer(), on_skip=None)
    skipped = {one["check_name"]: str(one["exception"]) for one in told if one["status"] != "passed"}
    assert set(skipped) <= {"check_array_api_input"}  # needs SCIPY_ARRAY_API=1 when scipy is imported; passes there
    assert len(told) >= 40


# ------------------------------------------------------------------------------------------ imputations are handed on
def test_training_rows_get_the_imputations_of_pg_impute():
    x = rows()
    expected = pg.impute(x, "gaussian_mixture", components=1, restarts=1, m=4, seed=3, progress=False)
    imputer = Imputer(**QUICK, m=4, draw=2)
    filled = imputer.fit_transform(x)
    assert np.array_equal(filled, expected[2].to_native())
    assert np.array_equal(imputer.transform(x), filled)
    assert all(np.array_equal(a, b.to_native()) for a, b in zip(imputer.transform_all(x), expected, strict=True))
    assert np.array_equal(imputer.fit(x, y=np.arange(len(x))).transform(x), filled)  # y is not used


def test_new_rows_have_the_same_worlds_and_any_pattern():
    x, new = rows(), rows(20, seed=1)
    new[0], new[1, 0] = np.nan, np.nan  # never seen in training
    imputer = Imputer(**QUICK, m=3, draw=1).fit(x)
    filled = imputer.transform(new)
    known = ~np.isnan(new)
    assert not np.isnan(filled).any()
    assert np.array_equal(filled[known], new[known])
    assert np.array_equal(filled, imputer.imputations_.transform(new)[1].to_native())
    assert not np.array_equal(imputer.transform(x[:20])[~known[:20]], imputer.fit_transform(x)[:20][~known[:20]])


@pytest.mark.stats
def test_draws_have_the_spread_of_the_data_and_means_have_not():
    """For normal pairs with correlation r: a draw's variance is 1, that of the mean of m is r^2 + (1 - r^2)/m, and its mean
    squared error (1 + 1/m)/2 of a draw's. Five standard errors of 4000 cells."""
    r, m, n = 0.8, 4, 8000
    rng = np.random.default_rng(2)
    a, e = rng.normal(size=(2, n))
    truth = np.column_stack([a, r * a + np.sqrt(1 - r**2) * e])
    x = truth.copy()
    x[::2, 1] = np.nan
    one = Imputer(**QUICK, m=m).fit(x)
    draw = one.transform(x)[::2, 1]
    mean = one.set_params(draw="mean").transform(x)[::2, 1]
    within = 5 * np.sqrt(2 / 4000)
    shrunk = r**2 + (1 - r**2) / m
    assert draw.var() == pytest.approx(1, abs=within)
    assert mean.var() == pytest.approx(shrunk, abs=within * shrunk)
    errors = [((filled - truth[::2, 1]) ** 2).mean() for filled in (mean, draw)]
    assert errors[0] / errors[1] == pytest.approx((1 + 1 / m) / 2, abs=0.05)


def test_the_mean_is_that_of_all_draws_and_the_most_frequent_label():
    data = frame()[["real", "category", "text"]]
    imputer = Imputer(**QUICK, m=7).fit(data)
    drawn = imputer.transform_all(data)
    mean = imputer.set_params(draw="mean").transform(data)
    assert np.allclose(mean["real"], np.mean([one["real"] for one in drawn], 0))
    for name in ("category", "text"):
        votes = pd.concat([one[name].astype(object) for one in drawn], axis=1)
        counts = votes.apply(pd.Series.value_counts, axis=1).fillna(0)
        chosen = [counts.loc[row, label] for row, label in mean[name].items()]
        assert (np.array(chosen) == counts.max(axis=1)).all()


def test_random_state():
    x = rows()
    fills = [Imputer(**{**QUICK, "random_state": state}, m=1).fit_transform(x) for state in (3, 3, 4, None, None)]
    assert np.array_equal(fills[0], fills[1])
    assert all(not np.array_equal(fills[0], other) for other in fills[2:])
    assert not np.array_equal(fills[3], fills[4])
    shared = np.random.RandomState(0)
    assert not np.array_equal(*[Imputer(**{**QUICK, "random_state": shared}, m=1).fit_transform(x) for _ in range(2)])


# ------------------------------------------------------------------------------------------------- copies and pipelines
@pytest.mark.parametrize("uncertainty", ["bootstrap", "ensemble"])
def test_a_pickle_answers_with_the_same_bits(uncertainty):
    x, new = rows(), rows(20, seed=1)
    imputer = Imputer(**QUICK, m=2, uncertainty=uncertainty).fit(x)
    back = pickle.loads(pickle.dumps(imputer))
    assert np.array_equal(back.transform(new), imputer.transform(new))
    assert np.array_equal(back.transform(x), imputer.transform(x))
    fresh = clone(imputer)
    assert not hasattr(fresh, "imputations_")
    assert np.array_equal(fresh.fit_transform(x), imputer.transform(x))


def test_a_pickled_fit_is_its_file():
    """Nothing of it is rebuilt by pickle itself: one call of the reader of files, on bytes."""
    fitted = pg.fit("gaussian_mixture", np.nan_to_num(rows()), components=1, progress=False)
    texts = []
    for operation, argument, _ in pickletools.genops(pickle.dumps(fitted)):
        if operation.name in ("SHORT_BINUNICODE", "BINUNICODE"):
            texts.append(argument)
        assert operation.name not in ("BUILD", "NEWOBJ", "NEWOBJ_EX", "GLOBAL", "INST", "OBJ")
    assert texts == ["probgen.queries.persistence", "from_bytes"]
    damaged = pickle.dumps(fitted).replace(b"config.json", b"config.jsom")
    with pytest.raises(DataError, match="not a probgen model file"):
        pickle.loads(damaged)


def test_in_a_pipeline():
    rng = np.random.default_rng(0)
    x = rows(90)
    y = (x[:, 0] + 0.3 * rng.normal(size=90) > 0).astype(int)
    pipeline = make_pipeline(Imputer(**QUICK, m=1), LogisticRegression())
    assert cross_val_score(pipeline, x, y, cv=3).min() > 0.7
    grid = {"imputer__model": ["gaussian_mixture", "probabilistic_pca"], "imputer__options": [{}, {"max_steps": 20}]}
    pipeline.set_params(imputer__uncertainty="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # improper, and 20 steps are few
        search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(x, y)
    assert search.best_params_["imputer__model"] in grid["imputer__model"]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# --------------------------------------------------------------------------------------------------- tables come back
def test_pandas_comes_back_as_it_was():
    data = frame()
    imputer = Imputer(**QUICK, m=1)
    filled = imputer.fit_transform(data)
    assert filled.dtypes.astype(str).to_dict() == data.dtypes.astype(str).to_dict()
    assert filled.index.equals(data.index)
    assert filled.notna().all(axis=None)
    assert list(imputer.get_feature_names_out()) == list(filled.columns) == list(data.columns)
    for name in data:
        known = data[name].notna()
        assert (filled[name][known] == data[name][known]).all(), name


def test_polars_and_arrow_come_back_as_they_were():
    polars = pytest.importorskip("polars")
    data = polars.from_pandas(frame())
    imputer = Imputer(**QUICK, m=1).fit(data)
    filled = imputer.transform(data)
    assert filled.schema == data.schema
    assert sum(filled.null_count().row(0)) == 0
    arrow = data.to_arrow()
    assert imputer.transform(arrow).schema.equals(arrow.schema)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow"])
def test_new_rows_need_no_weights(kind):
    """Weights of a design belong to the fit: the same draws come with them, without them, and with holes in them."""
    a, noise = np.random.default_rng(0).normal(size=(2, 60))
    data = pd.DataFrame({"a": a, "w": 1.0 + a**2, "b": np.where(np.arange(60) < 16, np.nan, a + noise)})
    options = {"components": 1, "design": pg.Design(weights="w")}
    imputer = Imputer("gaussian_mixture", options=options, m=2, random_state=0).fit(data)
    new = data.head(8)
    wanted = imputer.transform(new)
    cases = [new.drop(columns="w"), new.assign(w=np.nan)]
    if kind != "pandas":
        polars = pytest.importorskip("polars")
        cases = [
            polars.from_pandas(case) if kind == "polars" else polars.from_pandas(case).to_arrow() for case in cases
        ]
    for case in cases:
        filled = imputer.transform(case)
        filled = filled if kind == "pandas" else filled.to_pandas()
        assert list(filled.columns) == ["a", "w", "b"]
        assert np.array_equal(filled[["a", "b"]], wanted[["a", "b"]])
        assert filled["w"].isna().all()
    with pytest.raises(ValueError, match="yet now missing"):
        imputer.transform(new.drop(columns="b"))


@pytest.mark.parametrize("wanted", ["pandas", "polars"])
def test_set_output(wanted):
    polars = pytest.importorskip("polars")
    whole = frame()
    numbers = whole[["real", "single", "whole"]]
    kind = {"pandas": pd.DataFrame, "polars": polars.DataFrame}[wanted]
    for data in (numbers.to_numpy(), whole, polars.from_pandas(whole)):
        imputer = Imputer(**QUICK, m=2).set_output(transform=wanted).fit(data)
        for filled in (imputer.transform(data), *imputer.transform_all(data)):
            assert type(filled) is kind
            assert list(filled.columns) == list(imputer.get_feature_names_out())
    assert str(filled["count"].dtype) == "Int64"


def test_arrays_come_back_as_arrays():
    x = rows().astype(np.float32)
    filled = Imputer(**QUICK, m=1).fit_transform(x)
    assert type(filled) is np.ndarray
    assert filled.dtype == np.float32
    texts = np.array([["a", "u"], ["b", "v"], ["a", "?"], ["", "u"], ["b", "u"]])  # "?" and "" are unknown
    filled = Imputer(**QUICK, m=1).fit_transform(texts)
    assert filled[2, 1] in ("u", "v")
    assert filled[3, 0] in ("a", "b")
    assert np.array_equal(filled[[0, 1, 4]], texts[[0, 1, 4]])


def test_columns_without_text_names_keep_them():
    data = pd.DataFrame(rows(), columns=[3, 1, 2])
    assert list(Imputer(**QUICK, m=1, add_indicator=True).fit_transform(data)) == [
        3, 1, 2, "missingindicator_1", "missingindicator_2",
    ]  # fmt: skip


def test_a_category_that_new_rows_lack_can_be_drawn():
    """New rows whose type of column names fewer categories than the training rows'."""
    data = frame()[["real", "category"]]
    new = pd.DataFrame({"real": np.zeros(40), "category": pd.Categorical([None] * 40, categories=["x"])})
    imputer = Imputer(**QUICK, m=1).fit(data)
    assert set(imputer.transform(new)["category"]) == {"x", "y", "z"}
    assert imputer.imputations_.transform(new)[0].to_pandas()["category"].notna().all()


def test_indicators_are_those_of_scikit_learn():
    x = np.column_stack([rows(), np.full(60, np.nan)])
    theirs = SimpleImputer(add_indicator=True, keep_empty_features=True)
    ours = Imputer(**QUICK, m=1, add_indicator=True, keep_empty_features=True)
    expected = theirs.fit_transform(x)
    with pytest.warns(DataWarning, match="filled with 0"):
        filled = ours.fit_transform(x)
    assert filled.shape == expected.shape
    assert np.array_equal(filled[:, 3:], expected[:, 3:])
    assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())


# ------------------------------------------------------------------------------------ columns that no model can learn
def test_constant_columns_are_filled_with_their_value():
    data = pd.DataFrame({"a": rows()[:, 1], "one": [5.0, None] * 30, "text": ["k", None] * 30})
    filled = Imputer(**QUICK, m=1).fit_transform(data)
    assert (filled["one"] == 5).all()
    assert (filled["text"] == "k").all()
    assert Imputer(m=1).fit_transform(np.array([[1.0, 2.0]])).tolist() == [[1, 2]]  # one row, nothing to learn


def test_empty_columns_are_left_out_or_zero():
    data = pd.DataFrame({"a": rows()[:, 1], "none": np.nan, "text": pd.Series([None] * 60, dtype="str")})
    imputer = Imputer(**QUICK, m=1)
    with pytest.warns(DataWarning, match="left out: 'none', 'text'"):
        imputer.fit(data)
    assert list(imputer.transform(data)) == ["a"] == list(imputer.get_feature_names_out())
    with pytest.warns(DataWarning, match="filled with 0"):
        filled = imputer.set_params(keep_empty_features=True).fit_transform(data)
    assert (filled["none"] == 0).all()
    assert filled["text"].isna().all()
    with pytest.warns(DataWarning):
        assert imputer.set_params(keep_empty_features=False).fit_transform(data[["none"]]).shape == (60, 0)


def test_an_unseen_value_stays_and_tells_nothing():
    data = frame()[["real", "category", "text"]].assign(size=np.exp(2 * rows()[:, 0]))  # sizes are positive
    imputer = Imputer(model="gaussian_mixture", options={"components": 2, "restarts": 1}, m=1, random_state=0).fit(
        data
    )
    new = pd.DataFrame({"real": [None, 1.0], "category": ["w", None], "text": [None, "u"], "size": [-2.5, None]})
    with pytest.warns(DataWarning, match=r"'w' in 'category'; -2\.5 in 'size'"):
        filled = imputer.transform(new)
    unknown = imputer.transform(new.assign(category=None, size=None))
    assert filled.loc[0, "category"] == "w"
    assert filled.loc[0, "size"] == -2.5
    assert filled["real"].equals(unknown["real"])
    assert filled["text"].equals(unknown["text"])
    assert filled.loc[1, "category"] in ("x", "y", "z")


def test_kinds_by_schema():
    x = np.exp(rows())
    schema = pg.Schema(tuple(pg.Column(name, "positive") for name in "abc"))
    assert Imputer(**QUICK, m=1, schema=schema).fit_transform(x).min() > 0
    named = pd.DataFrame(x, columns=list("abc"))
    assert Imputer(**QUICK, m=1, schema=schema).fit_transform(named).to_numpy().min() > 0


# ------------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"draw": 5}, CapabilityError, "from 0 to m - 1 = 4"),
        ({"draw": "median"}, CapabilityError, "'median'"),
        ({"m": 0}, CapabilityError, "at least 1, got 0"),
        ({"options": 3}, CapabilityError, "dictionary"),
        ({"options": {"component": 3}}, CapabilityError, "Did you mean 'components'"),
        ({"model": "gaussian_mixtur"}, CapabilityError, "Did you mean 'gaussian_mixture'"),
        ({"uncertainty": "some"}, CapabilityError, "'some'"),
        ({"schema": pg.Schema((pg.Column("a", "real"),))}, SchemaError, "has 1 columns, X has 3"),
        ({"random_state": "zero"}, ValueError, "zero"),
    ],
)
def test_refused_parameters(change, error, message):
    with pytest.raises(error, match=message):
        Imputer(**{**QUICK, **change}).fit(rows())


def test_refused_data():
    x = rows()
    imputer = Imputer(**QUICK, m=1)
    with pytest.raises(NotFittedError):
        imputer.transform(x)
    imputer.fit(x)
    with pytest.raises(ValueError, match="X has 2 features, but Imputer is expecting 3 features as input"):
        imputer.transform(x[:, :2])
    with pytest.raises(ValueError, match="infinity"):
        imputer.transform(np.where(np.isnan(x), np.inf, x))
    data = pd.DataFrame(x, columns=list("abc"))
    with pytest.raises(DataError, match="'a', row 4: the value is infinite"):
        imputer.fit(data.assign(a=np.where(data.index == 4, -np.inf, 1.0)))
    with pytest.raises(ValueError, match="same order"):
        imputer.fit(data).transform(data[["b", "a", "c"]])
    with pytest.raises(SchemaError, match="identifier"):
        imputer.fit(data.assign(name=[f"person {number}" for number in range(60)]))


# ------------------------------------------------------------------------------------------------------ how it is found
def run(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip() or done.stderr


def test_found_when_it_is_first_named():
    script = (
        "import sys, probgen as pg; early = 'sklearn' in sys.modules; pg.sklearn.Imputer; import probgen.sklearn as s;"
    )
    assert run(f"{script} print(early, s is pg.sklearn)") == "False True"
    assert "sklearn" in dir(pg)


def test_without_scikit_learn():
    told = run("import sys; sys.modules['sklearn'] = None; import probgen; probgen.sklearn")
    assert "ImportError: probgen.sklearn needs scikit-learn 1.6 or later; pip install scikit-learn." in told


def test_a_design_adds_what_it_derives_and_leaves_out_what_only_helps():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"w": rng.normal(70, 9, 80), "h": rng.normal(1.7, 0.1, 80), "s": rng.choice(list("ab"), 80)})
    frame.loc[::5, "w"] = np.nan
    design = pg.Design(derived={"bmi": "w / h**2"}, auxiliary="s")
    imputer = Imputer(m=2, random_state=0, options={"design": design}, add_indicator=True).fit(frame)
    assert list(imputer.get_feature_names_out()) == ["w", "h", "bmi", "missingindicator_w"]
    for rows in (frame, frame.tail(7)):
        made = imputer.transform(rows)
        assert list(made.columns) == list(imputer.get_feature_names_out())
        np.testing.assert_allclose(made["bmi"], made["w"] / made["h"] ** 2)
        assert made.index.equals(rows.index)


def test_a_design_may_name_identifiers_and_columns_that_never_vary():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"id": [f"patient {k}" for k in range(60)], "a": rng.normal(size=60), "w": 1.0})
    frame["b"] = frame["a"] + rng.normal(size=60)
    frame.loc[:19, "b"] = np.nan
    design = pg.Design(exclude=["id"], weights="w")
    made = Imputer(m=2, random_state=0, options={"design": design, "sweeps": 3}).fit(frame)
    filled = made.transform(frame)
    assert filled["id"].tolist() == frame["id"].tolist()
    assert (filled["w"] == 1.0).all()
    assert not filled["b"].isna().any()
    new = frame.iloc[:5].assign(id=[f"new {k}" for k in range(5)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert made.transform(new)["id"].tolist() == new["id"].tolist()
