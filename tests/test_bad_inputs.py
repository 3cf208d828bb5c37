"""Bad input gets one clear error of the right class before any work is done."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import probgen as pg
from probgen.data import Column, Schema, Table, ampute, load, read_table
from probgen.plots import embedding_plane

NUMBERS = pd.DataFrame({"a": np.arange(12.0) ** 1.5, "b": np.cos(np.arange(12.0)), "c": list("xyz") * 4})
TABLE = Table(NUMBERS)


def changed(**cells):
    return NUMBERS.assign(**cells)


def with_cell(column, row, value):
    frame = NUMBERS.astype({column: object})
    frame.loc[row, column] = value
    return frame


def fitted(**options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit("gaussian_mixture", TABLE, components=1, max_steps=3, restarts=1, progress=False, **options)


def schema(*columns):
    return Schema(columns)


CASES = [
    ("no rows", lambda: Table(NUMBERS.iloc[:0]), pg.DataError, "no rows"),
    ("no columns", lambda: Table(pd.DataFrame(index=range(3))), pg.DataError, "no columns"),
    ("unknown column only", lambda: Table(changed(a=np.nan)), pg.DataError, "'a' has no known value"),
    ("infinite", lambda: Table(changed(a=[np.inf] + [1.0] * 11)), pg.DataError, "'a', row 0"),
    ("complex", lambda: Table(changed(a=1j)), pg.DataError, "'a' holds complex"),
    ("complex array", lambda: Table(np.ones((3, 2)) * 1j), pg.DataError, "complex"),
    ("repeated names", lambda: Table(pd.DataFrame(np.eye(3), columns=["a", "a", "b"])), pg.DataError, "repeat: 'a'"),
    ("identifier", lambda: Table({"id": [f"n{i}" for i in range(50)]}), pg.SchemaError, "identifier"),
    ("one text", lambda: Table(changed(c="x")), pg.DataError, "one value only"),
    ("one category", lambda: Table(changed(c=pd.Categorical(["x"] * 12))), pg.DataError, "single category"),
    ("constant number", lambda: pg.fit("gaussian_mixture", changed(a=1.0)), pg.DataError, "'a' is constant"),
    ("empty row", lambda: pg.fit("gaussian_mixture", with_empty_row()), pg.DataError, "Row 3 has no known cell"),
    ("one dimension", lambda: Table(np.arange(5.0)), pg.DataError, "two dimensions"),
    ("three dimensions", lambda: Table(np.zeros((2, 2, 2))), pg.DataError, r"shape \(2, 2, 2\)"),
    ("unequal lengths", lambda: Table({"a": [1, 2], "b": [1]}), pg.DataError, "'a' has 2, 'b' has 1"),
    ("short weights", lambda: Table(NUMBERS, weights=[1.0]), pg.DataError, r"shape \(12,\)"),
    ("negative weight", lambda: Table(NUMBERS, weights=[1.0] * 11 + [-2.0]), pg.DataError, "row 11 has -2.0"),
    ("unknown weight", lambda: Table(NUMBERS, weights=[np.nan] + [1.0] * 11), pg.DataError, "row 0 has nan"),
    ("zero weights", lambda: pg.fit("gaussian_mixture", TABLE.with_weights(np.zeros(12))), pg.DataError, "weights are zero"),
    ("unseen level", lambda: fitted().log_prob(with_cell("c", 5, "w")), pg.DataError, "'c'.*row 5.*'w'.*known levels"),
    ("no rows to classify", lambda: pg.class_probabilities(fitted(), TABLE.take([]), "c"), pg.DataError, "no rows; give at least one"),
    ("missing column", lambda: fitted().log_prob(NUMBERS[["a", "b"]]), pg.DataError, "lacks column 'c'"),
    ("not a number", lambda: fitted().log_prob(with_cell("a", 2, "much")), pg.DataError, "row 2.*'much'.*not a number"),
    ("wrong width", lambda: Table(np.eye(3), schema=schema(Column("a", "real"))), pg.DataError, "3 columns, the schema 1"),
    ("below bounds", lambda: kind("a", "bounded", [0.5, -1.0], bounds=(0, 1)), pg.DataError, r"row 1.*outside \[0, 1\]"),
    ("not positive", lambda: kind("a", "positive", [1.0, 0.0]), pg.DataError, "row 1.*not positive"),
    ("negative count", lambda: kind("a", "count", [1, -1]), pg.DataError, "row 1.*not a count"),
    ("fractional count", lambda: kind("a", "count", [1, 1.5]), pg.DataError, "row 1.*not a count"),
    ("negative spike", lambda: kind("a", "semicontinuous", [0.0, -1.0]), pg.DataError, "row 1.*negative"),
    ("not a date", lambda: kind("a", "datetime", ["2020-01-01", "soon"]), pg.DataError, "row 1.*not a date"),
    ("unknown kind", lambda: Column("a", "number"), pg.SchemaError, "'number'"),
    ("reversed bounds", lambda: Column("a", "bounded", bounds=(1.0, 0.0)), pg.SchemaError, "low < high"),
    ("no bounds", lambda: Column("a", "bounded"), pg.SchemaError, "no bounds"),
    ("three binary levels", lambda: Column("a", "binary", levels=(1, 2, 3)), pg.SchemaError, "exactly 2"),
    ("repeated levels", lambda: Column("a", "categorical", levels=(1, 1, 2)), pg.SchemaError, "repeat"),
    ("repeated columns", lambda: schema(Column("a", "real"), Column("a", "real")), pg.SchemaError, "a repeat"),
    ("kind of no column", lambda: TABLE.schema.with_kind("z", "real"), pg.SchemaError, "no column 'z'"),
    ("kind without levels", lambda: TABLE.schema.with_kind("a", "ordinal"), pg.SchemaError, "needs levels"),
    ("hide no column", lambda: TABLE.hide("z"), pg.SchemaError, "no column 'z'"),
    ("target no column", lambda: Table(NUMBERS, target="z"), pg.SchemaError, "no column 'z'"),
    ("broken schema", lambda: Schema.from_json("{"), pg.SchemaError, "not a schema"),
    ("other json", lambda: Schema.from_json("[1]"), pg.SchemaError, "not a schema"),
    ("no file", lambda: read_table("nowhere.csv"), pg.DataError, "no file nowhere.csv"),
    ("split over one", lambda: TABLE.split(0.9, 0.3), pg.DataError, "sum to at most 1"),
    ("ampute all", lambda: ampute(TABLE, 1.5), pg.DataError, "between 0 and 1"),
    ("mechanism", lambda: ampute(TABLE, 0.1, "mcnar"), pg.DataError, "mechanism"),
    ("data set", lambda: load("penguin"), pg.DataError, "no data set 'penguin'"),
    ("model", lambda: pg.fit("gaussian_mixtur", TABLE), pg.CapabilityError, "Did you mean 'gaussian_mixture'"),
    ("option", lambda: pg.fit("gaussian_mixture", TABLE, clusters=3), pg.CapabilityError, "no option 'clusters'"),
    ("method", lambda: pg.fit("gaussian_mixture", TABLE, method="mcmc"), pg.CapabilityError, "no method 'mcmc'"),
    ("method of another", lambda: pg.fit("vae", TABLE, method="em"), pg.CapabilityError, "'vae' cannot be fitted"),
    ("option of another", lambda: fitted(batch_size=3), pg.CapabilityError, "no option 'batch_size'"),
    ("too few rows", lambda: pg.fit("gaussian_mixture", TABLE, components=13), pg.FitError, "at least 13 rows"),
    ("no components", lambda: pg.fit("gaussian_mixture", TABLE, components=0), pg.CapabilityError, "at least 1"),
    ("prior", lambda: pg.fit("gaussian_mixture", TABLE, components=2, prior="flat"), pg.CapabilityError, "'flat'"),
    ("covariance", lambda: fitted(covariance="round"), pg.CapabilityError, "covariance must be one of"),
    ("start", lambda: fitted(start="middle"), pg.FitError, "start must be one of"),
    ("start of wrong shape", lambda: fitted(start=np.ones((3, 2))), pg.FitError, "shape"),
    ("no target", lambda: pg.fit("naive_bayes", NUMBERS[["a", "b"]]), pg.CapabilityError, "latent_class"),
    ("numeric target", lambda: pg.fit("naive_bayes", TABLE, target="a"), pg.CapabilityError, "'a' is real"),
    ("families as text", lambda: limited_families("poisson"), pg.CapabilityError, "dictionary"),
    ("plane of one column", lambda: embedding_plane(np.zeros((3, 1))), pg.CapabilityError, r"\(N, 2\)"),
    ("device", lambda: fitted(device="cuda"), pg.CapabilityError, "no CUDA device"),
    ("dtype", lambda: fitted(dtype="int8"), pg.CapabilityError, "float32"),
    ("no draws", lambda: fitted().fill(TABLE, 0), pg.CapabilityError, "at least 1"),
    ("no sample", lambda: fitted().sample(-1), pg.CapabilityError, "at least 1"),
    ("classes of a number", lambda: pg.class_probabilities(fitted(), TABLE, "a"), pg.CapabilityError, "discrete"),
    ("latent of wrong width", lambda: fitted().decode(np.zeros((2, 9))), pg.CapabilityError, r"\(N, 1\)"),
    ("latent that is no number", lambda: fitted().decode([[np.nan]]), pg.CapabilityError, "finite"),
    ("half a sample", lambda: fitted().sample(2.5), pg.CapabilityError, "n=2.5"),
    ("draws as text", lambda: fitted().fill(TABLE, "x"), pg.CapabilityError, "'x'"),
    ("quantile", lambda: fitted().marginals(TABLE.hide("a")).quantiles([2]), pg.CapabilityError, "from 0 to 1"),
    ("no steps", lambda: limited(max_steps=0), pg.CapabilityError, "max_steps must"),
    ("steps as text", lambda: limited(max_steps="9"), pg.CapabilityError, "'9'"),
    ("restarts", lambda: limited(restarts=-1), pg.CapabilityError, "restarts must"),
    ("tolerance", lambda: limited(tolerance="x"), pg.CapabilityError, "tolerance must"),
    ("device", lambda: fitted(device="zz"), pg.CapabilityError, "device must be"),
    ("option nearly right", lambda: limited(component=2), pg.CapabilityError, "Did you mean 'components'"),
    ("list as a sequence column", lambda: steps(["who"]), pg.DataError, "no column"),
    ("unknown time", lambda: steps("who", day=np.nan), pg.DataError, "no value in 'day'"),
    ("date as a time", lambda: steps("who", day=pd.Timestamp("2020-01-01")), pg.DataError, "whole numbers"),
    ("time as text", lambda: steps("who", day="2020-01-01"), pg.DataError, "count the days"),
    ("numpy number", lambda: Table(changed(b=np.inf), schema=TABLE.schema), pg.DataError, "the value inf is"),
    ("folder of a save", lambda: fitted().save("nowhere/x.probgen"), pg.DataError, "no folder nowhere"),
    ("folder as a model", lambda: pg.load("."), pg.DataError, "no folder of an ensemble"),
    ("no model file", lambda: pg.load("nowhere.probgen"), pg.DataError, "no file"),
]  # fmt: skip


def with_empty_row():
    frame = NUMBERS.copy()
    frame.loc[3] = None
    return frame


def limited(**options):
    return pg.fit("gaussian_mixture", TABLE, progress=False, **options)


def limited_families(families):
    return pg.fit("hidden_markov", TABLE, families=families, progress=False)


def steps(sequence, day=1):
    frame = pd.DataFrame({"who": ["p"] * 3, "day": [1, 2, 3], "x": [0.0, 1.0, 2.5]})
    return Table(frame.assign(day=day), sequence=sequence, time="day")


def kind(name, what, values, **more):
    return Table({name: values}, schema=schema(Column(name, what, **more)))


@pytest.mark.parametrize(("make", "error", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert type(caught.value) is error
    assert str(caught.value).rstrip().endswith((".", ")"))


def test_there_are_at_least_thirty():
    assert len(CASES) >= 30


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("a.csv", b"", "cannot be read"), ("a.csv", b"a,a\n1,2\n", "repeat"), ("a.parquet", b"PAR", "cannot be read"),
     ("a.xyz", b"1", "expected .csv")],
)  # fmt: skip
def test_damaged_files(tmp_path: Path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(pg.DataError, match=message):
        read_table(tmp_path / name)


def test_a_folder_with_a_damaged_file(tmp_path: Path):
    (tmp_path / "a.parquet").write_bytes(b"PAR")
    with pytest.raises(pg.DataError, match="cannot be read"):
        read_table(tmp_path)


def test_foreign_and_damaged_model_files(tmp_path: Path):
    fit = fitted()
    fit.save(tmp_path / "good.probgen")
    data = (tmp_path / "good.probgen").read_bytes()
    for content in (b"not a zip", data[: len(data) // 2]):
        (tmp_path / "bad.probgen").write_bytes(content)
        with pytest.raises(pg.DataError, match="not a probgen model file"):
            pg.load(tmp_path / "bad.probgen")
    assert (tmp_path / "good.probgen").read_bytes() == data


def test_a_collapse_is_told_with_its_remedy():
    rng = np.random.default_rng(0)
    rows = np.r_[np.repeat(rng.normal(size=(1, 2)), 30, 0), rng.normal(size=(3, 2)) + 50]
    with pytest.raises(pg.FitError, match="prior='default'"):
        pg.fit("gaussian_mixture", rows, components=2, prior=None, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isfinite(pg.fit("gaussian_mixture", rows, components=2, progress=False).log_prob(rows).value).all()
