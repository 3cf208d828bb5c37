"""Tables, schemas, standardisation, streams: what goes in comes back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import probgen as pg
from probgen.data import ParquetFolder, Schema, Table, ampute, load, names, read_table
from probgen.data.batches import Batches, Standardiser, features, n_features
from probgen.data.datasets import CATALOGUE


def mixed_frame():
    return pd.DataFrame(
        {
            "age": pd.array([20, None, 41, 35, 28, 52], dtype="Int64"),
            "ok": pd.array([True, False, None, True, True, False], dtype="boolean"),
            "town": pd.Series(["a", "b", None, "a", "c", "b"], dtype="string"),
            "grade": pd.Categorical(["low", "high", "mid", None, "low", "mid"], ["low", "mid", "high"], ordered=True),
            "day": pd.to_datetime(["2020-01-01", "2020-02-01", None, "2021-03-04", "2019-05-06", "2020-07-08"]),
            "x": [0.5, np.nan, -1.5, 2.25, 3.0, 1e-3],
        }
    ).set_axis([10, 11, 12, 20, 21, 22])


def test_pandas_round_trip_keeps_types_levels_and_index_and_leaves_the_frame_alone():
    frame = mixed_frame()
    before = frame.copy(deep=True)
    table = Table(frame)
    pd.testing.assert_frame_equal(table.to_native(), frame)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(table.take([4, 1]).to_pandas(), frame.iloc[[4, 1]])
    assert {c.name: c.kind for c in table.schema} == {
        "age": "count", "ok": "binary", "town": "categorical", "grade": "ordinal", "day": "datetime", "x": "real",
    }  # fmt: skip


def test_polars_arrow_arrays_and_mappings_round_trip():
    frame = pl.DataFrame(
        {"a": [1, None, 3, 7], "b": [0.5, 1.5, None, 2.0], "c": ["x", "y", "x", None], "d": [True, None, False, True]}
    )
    assert Table(frame).to_native().equals(frame)
    arrow = pa.table({"a": [1, None, 3], "b": [0.5, 1.5, None], "c": ["x", "y", None]})
    assert Table(arrow).to_native().equals(arrow)
    array = np.array([[0.5, 1.0], [np.nan, 2.5], [3.0, -1.0]])
    np.testing.assert_array_equal(Table(array).to_native(), array)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.5, -2.0, 3.25, 0.1], "real"),
        (list(np.exp(np.linspace(0, 8, 40))), "positive"),
        ([0.01, 0.5, 0.99, 0.3], "bounded"),
        ([0, 3, 1, 2, 9], "count"),
        ([0, 1, 1, 0], "binary"),
        (["u", "v", "w", "u"], "categorical"),
        ([0.0, 0.0, 1.7, 2.5, 0.0, 9.1], "semicontinuous"),
        (["2020-01-01", "2021-02-03", "2020-05-05"], "datetime"),
        ([2007, 2008, 2009, 2008], "ordinal"),
        ([1800, 1950, 2007, 1999, 1904, 2011, 1987, 1911, 1923, 1934, 1955], "real"),
    ],
)
def test_kinds_are_inferred_with_a_reason(values, kind):
    column = Table({"x": values}).schema["x"]
    assert column.kind == kind
    assert column.reason


def test_schema_round_trips_and_is_edited():
    schema = Table(mixed_frame()).schema.with_kind("age", "real").with_target("town")
    assert Schema.from_json(schema.to_json()) == schema
    assert schema["age"].reason == "set by the user"
    assert "<- target" in schema.explain()
    encoded = Table(mixed_frame().iloc[::-1], schema=schema)
    np.testing.assert_array_equal(encoded.values[::-1], Table(mixed_frame(), schema=schema).values)


def test_splits_are_seeded_disjoint_complete_and_stratified():
    table = load("penguins")
    one, other = table.split(0.8, 0.2, seed=3), table.split(0.8, 0.2, seed=3)
    assert [t.fingerprint() for t in one] == [t.fingerprint() for t in other]
    assert sum(map(len, one)) == len(table)
    rows = [set(t.to_pandas().index) for t in one]
    assert not rows[0] & rows[1]
    parts = table.split(0.5, 0.5, seed=1, stratify="species")
    counts = [np.bincount(t.values[:, 0].astype(int)) for t in parts]
    assert np.abs(counts[0] - counts[1]).max() <= 2


def test_standardisation_is_exact_and_its_jacobian_that_of_autograd():
    table = Table(mixed_frame())
    standardiser = Standardiser.of(table)
    x = standardiser.forward(table.values)
    np.testing.assert_allclose(standardiser.inverse(x), table.values, rtol=1e-12)
    known = table.known
    places = [i for i, c in enumerate(table.schema) if c.is_continuous]
    for row in range(len(table)):
        cells = [i for i in places if known[row, i]]
        leaf = torch.tensor(table.values[row, cells], requires_grad=True)
        y = (leaf - torch.tensor(standardiser.shift[cells])) / torch.tensor(standardiser.scale[cells])
        slope = torch.autograd.grad(y.sum(), leaf)[0] if cells else torch.ones(0)
        assert standardiser.log_jacobian(known)[row] == pytest.approx(float(slope.log().sum()))


def test_minibatches_hold_every_row_once_and_follow_the_seed():
    table = load("penguins")
    batches = Batches(table, Standardiser.of(table), batch_size=50)
    first = [batch.x for batch in batches.epoch(1)]
    again = [batch.x for batch in batches.epoch(1)]
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, again, strict=True))
    everything = torch.cat(first)
    assert len(everything) == len(table)
    assert torch.allclose(everything.nansum(0), next(batches.pieces()).x.nansum(0))
    read = features(everything, table.schema)
    assert read.shape[1] == n_features(table.schema)
    assert torch.isfinite(read).all()


@pytest.mark.parametrize("mechanism", ["mcar", "mar", "mnar"])
def test_amputation_hides_what_was_asked(mechanism):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 1)) + rng.normal(size=(2000, 3))
    table, hidden = ampute(Table(x), 0.3, mechanism, seed=1)
    assert hidden.mean() == pytest.approx(0.3, abs=0.05)  # every row keeps a cell
    assert table.known.any(1).all()
    np.testing.assert_array_equal(hidden, ~table.known)
    gap = x[hidden].mean() - x[~hidden].mean()
    assert (abs(gap) < 0.1) if mechanism == "mcar" else gap > 0.2


def test_a_folder_of_parquet_files_streams_as_the_table_in_memory(tmp_path):
    frame = pd.concat([mixed_frame().reset_index(drop=True)] * 40, ignore_index=True).assign(x=np.linspace(-1, 1, 240))
    for number in range(4):
        pq.write_table(
            pa.Table.from_pandas(frame.iloc[number * 60 : (number + 1) * 60]), tmp_path / f"{number}.parquet"
        )
    folder = read_table(tmp_path)
    assert isinstance(folder, ParquetFolder)
    assert len(folder) == 240
    pieces = list(folder.pieces(50))
    assert [len(piece) for piece in pieces] == [50, 50, 50, 50, 40]
    values = np.concatenate([piece.values for piece in pieces])
    np.testing.assert_array_equal(values, Table(frame, schema=folder.schema).values)
    streamed, inside = (
        pg.fit("latent_class", source, components=2, restarts=1, progress=False)
        for source in (folder, Table(frame, schema=folder.schema))
    )
    np.testing.assert_allclose(streamed.history["objective"], inside.history["objective"], rtol=1e-10)
    bad = frame.iloc[:60].assign(town="nowhere")
    pq.write_table(pa.Table.from_pandas(bad), tmp_path / "9.parquet")
    with pytest.raises(pg.DataError, match=r"'town'.*'nowhere'"):
        list(ParquetFolder(tmp_path, folder.schema).pieces(50))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "parquet", "feather"])
def test_files_are_read(tmp_path, suffix):
    frame = pd.DataFrame({"a": [1.5, np.nan, 2.5, -1.0], "b": ["x", None, "y", "x"], "w": [1.0, 2.0, 1.0, 0.0]})
    path = tmp_path / f"data.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "feather":
        frame.to_feather(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",", na_rep="?")
    table = read_table(path, weights="w", target="b")
    assert table.names == ("a", "b")
    assert table.schema.target == "b"
    np.testing.assert_array_equal(table.weights, frame["w"])
    np.testing.assert_array_equal(table.known, frame[["a", "b"]].notna())


def test_every_data_set_states_its_address_and_licence():
    for name in names():
        info = CATALOGUE[name]
        assert info.address.startswith("https://")
        assert info.licence


def test_data_that_are_not_here_are_told_with_their_address(monkeypatch):
    monkeypatch.delenv("PROBGEN_DATA", raising=False)
    with pytest.raises(pg.DataError, match=r"https://github\.com/arranger1044/DEBD"):
        load("nltcs")


def test_sets_of_the_folder_load(data_folder, monkeypatch):
    monkeypatch.setenv("PROBGEN_DATA", str(data_folder))
    assert len(load("nltcs", split="test")) == 3236
    assert load("pima").known.sum() == 768 * 9 - 652


def test_weights_and_fingerprints():
    table = load("penguins")
    assert table.fingerprint() == load("penguins").fingerprint()
    assert table.with_weights(np.ones(344)).fingerprint() != table.fingerprint()
    assert table.hide("sex").fingerprint() != table.fingerprint()


@pytest.mark.parametrize("kind", ["categorical", "enum"])
def test_categories_of_polars(kind):
    """Levels of an Enum keep their order, those of a Categorical the order of appearance."""
    dtype = pl.Categorical if kind == "categorical" else pl.Enum(["low", "mid", "high"])
    frame = pl.DataFrame({"grade": pl.Series(["mid", None, "low", "mid", "high", "low"], dtype=dtype)})
    table = pg.Table(frame)
    assert set(table.schema["grade"].levels) == {"low", "mid", "high"}
    back = table.to_native()
    assert back["grade"].to_list() == frame["grade"].to_list()
    assert back["grade"].dtype == frame["grade"].dtype


def test_whole_numbers_beyond_double_precision_are_not_taken_for_numbers():
    ids = 10**17 + np.arange(50)
    with pytest.raises(pg.SchemaError, match=r"'id' has whole numbers as large as 100000000000000000, .* identifier"):
        pg.Table(pd.DataFrame({"a": np.arange(50.0) ** 0.5, "id": ids}))


def test_times_of_day_come_back():
    texts = [f"2021-03-{day:02d} 03:32:00" for day in range(1, 28)]
    table = pg.Table(pd.DataFrame({"t": texts, "a": np.arange(27.0) ** 0.5}))
    assert table.to_native()["t"].tolist() == texts
