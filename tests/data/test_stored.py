"""A table as whole numbers and back: every type, every hole, every bit."""

import numpy as np
import pandas as pd
import pytest

import probgen as pg
from probgen.data.stored import Reading, dissected, of_rank, rank_of, rejoined

N = 60


def frame_of(**columns):
    return pd.DataFrame(columns)


def every_type():
    """A column of every type that pandas has, with holes where it can hold them."""
    rng = np.random.default_rng(0)
    holed = rng.random(N) < 0.2
    numbers = rng.normal(size=N)
    days = pd.to_datetime("2019-12-30") + pd.to_timedelta(rng.integers(0, 400, N), unit="D")
    frame = pd.DataFrame(
        {
            "price": np.round(rng.normal(20, 9, N), 2),
            "signed": np.round(numbers, 1) * np.where(np.arange(N) % 9, 1, -0.0),
            "double": numbers,
            "single": np.exp(numbers).astype(np.float32),
            "whole": rng.integers(-5, 900, N),
            "small": rng.integers(0, 200, N).astype(np.uint8),
            "nullable": pd.array(rng.integers(0, 40, N), dtype="Int64"),
            "Float": pd.array(np.round(numbers, 3), dtype="Float64"),
            "truth": rng.random(N) < 0.4,
            "may_be": pd.array(rng.random(N) < 0.4, dtype="boolean"),
            "category": pd.Categorical(rng.choice(["b", "a", "ä"], N), categories=["b", "a", "ä", "never"]),
            "ordered": pd.Categorical(rng.choice(["lo", "hi"], N), categories=["lo", "hi"], ordered=True),
            "code": rng.choice([3, 5, 9], N),
            "text": pd.Series(rng.choice(["yes", "no"], N)),
            "object": pd.Series(rng.choice(["1", "01"], N), dtype=object),
            "day": days,
            "second": days.as_unit("s"),
            "instant": days.tz_localize("UTC").tz_convert("Europe/Berlin") + pd.Timedelta(milliseconds=37),
            "name": [f"{i % 7} street {i}" for i in range(N)],
        }
    )
    for name in ("price", "double", "nullable", "Float", "may_be", "category", "text", "day", "instant", "name"):
        frame.loc[np.roll(holed, len(name)), name] = None
    return frame


def test_every_type_comes_back():
    frame = every_type()
    schema = pg.Table(frame.drop(columns="name")).schema
    stored = dissected(frame, schema)
    back = rejoined(stored, schema)
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert back["double"].to_numpy().tobytes() == frame["double"].to_numpy().tobytes()
    assert np.signbit(back["signed"]).equals(np.signbit(frame["signed"]))
    assert stored.readings[schema.index("signed")].how == "decimal"
    elsewhere = [column.name for column, reading in zip(schema, stored.readings) if reading is None]
    assert elsewhere == []
    assert stored.numbers[~stored.known].tolist() == [0] * int((~stored.known).sum())


def test_few_values_far_apart_are_listed():
    few = np.array([0.0, 1 / 3, 250.0, 1e7])[np.arange(300) % 4]
    frame = frame_of(a=few, b=(few * 3).astype(int), c=np.arange(300) / 8)
    schema = pg.Table(frame).schema
    for name in ("a", "b", "c"):
        schema = schema.with_kind(name, "real")
    stored = dissected(frame, schema)
    assert [reading.how for reading in stored.readings] == ["listed", "listed", "decimal"]
    pd.testing.assert_frame_equal(rejoined(stored, schema), frame, check_exact=True)


def test_cells_of_no_reading_are_kept_elsewhere_and_come_back():
    frame = every_type()
    schema = pg.Table(frame.drop(columns="name")).schema
    frame["price"] = np.where(np.arange(N) == 3, np.inf, frame["price"])
    frame["text"] = ["Yes"] * N  # none of the levels
    frame["object"] = pd.Series(["1"] * (N - 1) + ["01"], dtype=object)
    stored = dissected(frame, schema)
    assert [c.name for c, r in zip(schema, stored.readings) if r is None] == ["price", "text"]
    pd.testing.assert_frame_equal(rejoined(stored, schema), frame, check_exact=True)


@pytest.mark.parametrize(
    "index", [pd.RangeIndex(5, 5 + N), pd.RangeIndex(0, 2 * N, 2), pd.Index([f"r{i}" for i in range(N)], name="row")]
)
def test_labels_of_rows_and_the_order_of_columns_come_back(index):
    frame = every_type()[["truth", "name", "price"]].set_axis(index, axis=0)
    schema = pg.Table(frame[["price", "truth"]]).schema
    pd.testing.assert_frame_equal(rejoined(dissected(frame, schema), schema), frame, check_exact=True)


def test_a_table_comes_back_as_one():
    table = pg.Table(every_type().drop(columns="name"))
    back = rejoined(dissected(table, table.schema), table.schema)
    assert back.values.tobytes() == table.values.tobytes()
    assert back.schema == table.schema


def test_doubles_have_ranks_in_their_order():
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=500) * 10.0 ** rng.integers(-300, 300, 500), [0.0, -0.0, 5e-324, -5e-324]])
    ranks = rank_of(np.sort(x))
    assert of_rank(rank_of(x)).tobytes() == x.tobytes()
    assert (np.diff(ranks) >= 0).all()
    assert rank_of(np.array([5e-324]))[0] - rank_of(np.array([0.0]))[0] == 1


def test_edges_lie_between_neighbours():
    for reading in (
        Reading("decimal", -5, 9, 2),
        Reading("decimal", -5, 9, 2, signed=True),
        Reading("listed", 0, 3, labels=(-1.0, 0.0, 0.25, 9.0)),
        Reading("date", 0, 9, 24),
        Reading("float", 2**50, 2**50 + 20, 2**12),
        Reading("float", -40, 40, 2**45, gap=2**13),
    ):
        numbers = np.arange(reading.low, reading.high + 1)
        values, edges = reading.values(numbers), reading.edges(np.append(numbers, reading.high + 1))
        assert (edges[:-1] <= values).all()
        assert (values <= edges[1:]).all()
        assert (np.diff(edges) >= 0).all()


def both_ways(frame, schema):
    """What is stored of a frame, which has to come back from it."""
    stored = dissected(frame, schema)
    pd.testing.assert_frame_equal(rejoined(stored, schema), frame, check_exact=True)
    return stored


@pytest.mark.parametrize("hole", [None, np.nan, pd.NA])
def test_holes_of_objects_come_back_as_what_they_were(hole):
    cells = {"level": ["a", hole, "b", "a"], "text": ["one", "two", hole, ""]}
    frame = frame_of(**{name: pd.Series(some, dtype=object) for name, some in cells.items()})
    schema = pg.Table(frame[["level"]]).schema
    stored = both_ways(frame, schema)
    assert stored.readings[0] is not None
    assert list(stored.texts) == ["text"]
    back = rejoined(stored, schema)
    assert type(back["level"][1]) is type(hole)
    assert type(back["text"][2]) is type(hole)


def test_unknown_doubles_may_have_a_sign():
    """As nought divided by nought has on many processors."""
    minus = np.copysign(np.nan, -1.0)
    frame = frame_of(a=[1.5, minus, -0.0, np.nan], b=[2.5, minus, 3.0, 1.0])
    stored = both_ways(frame, pg.Table(frame[["a"]]).schema)
    assert stored.known[:, 0].tolist() == [True, False, True, False]


@pytest.mark.parametrize("dtype", ["float64", "Float64"])
def test_a_level_of_minus_nought_keeps_its_sign(dtype):
    frame = frame_of(a=pd.Series([-0.0, 2.0, 2.0], dtype=dtype), b=[1, 2, 1])
    schema = pg.Table(frame.abs()).schema.with_kind("a", "categorical", [0.0, 2.0])
    stored = both_ways(frame, schema)
    assert np.signbit(rejoined(stored, schema)["a"].to_numpy(float)).tolist() == [True, False, False]


def test_dates_too_far_apart_and_those_of_arrow_are_kept_elsewhere():
    days = pd.Series(pd.to_datetime(["2000-01-01", "2001-05-06", "1960-02-03"]))
    schema = pg.Table(frame_of(day=days)).schema
    for cells in (
        pd.Series([pd.Timestamp.min, pd.Timestamp.max, pd.NaT]),
        pd.Series(np.array(["-200000-01-01T00:00:00.000001", "200000-01-01", "NaT"], "M8[us]")),
        days.astype("timestamp[ns][pyarrow]"),
    ):
        assert both_ways(frame_of(day=cells), schema).readings == (None,)


def test_arrays_in_cells_come_back():
    frame = frame_of(a=[1.5, 2.5], b=pd.Series([np.arange(3.0), np.array([-0.0])], dtype=object))
    schema = pg.Table(frame[["a"]]).schema
    back = rejoined(dissected(frame, schema), schema)
    assert [cell.tobytes() for cell in back["b"]] == [cell.tobytes() for cell in frame["b"]]


def test_the_greatest_doubles_come_back_without_a_warning():
    frame = frame_of(a=[1e308, -1e308, np.finfo(float).max, 5e-324])
    schema = pg.Table(frame_of(a=[1.5, 2.5, -3.0])).schema
    assert both_ways(frame, schema).readings[0].how == "listed"
    assert both_ways(frame[2:3], schema).readings[0].how == "float"


def test_a_table_keeps_the_order_of_its_columns_and_loses_none():
    table = pg.Table(every_type()[["price", "truth", "small"]])
    schema = table.select(["small", "price", "truth"]).schema
    back = rejoined(dissected(table, schema), schema)
    assert back.values.tobytes() == table.values.tobytes()
    assert back.schema == table.schema
    with pytest.raises(pg.DataError, match="does not know column 'truth' of the Table"):
        dissected(table, schema.select(["small", "price"]))


def test_what_cannot_be_stored_is_refused():
    frame = frame_of(a=[1.5, 2.5, 3.0] * 5, b=["u", "v", "u"] * 5)
    schema = pg.Table(frame).schema
    with pytest.raises(pg.DataError, match="no column 'b'"):
        dissected(frame[["a"]], schema)
    with pytest.raises(pg.DataError, match=r"data frame or a probgen Table.*got builtins\.list"):
        dissected([[1.0, 2.0]], schema)
    with pytest.raises(pg.DataError, match="too large"):
        dissected(frame.assign(odd=pd.Series([2**80] * 15, dtype=object)), schema)
    with pytest.raises(pg.DataError, match="Weights of rows"):
        dissected(pg.Table(frame, weights=np.ones(15)), schema)
    with pytest.raises(pg.DataError, match="Columns \\['odd'\\]"):
        dissected(frame.assign(odd=[object()] * 15), schema)
    with pytest.raises(pg.DataError, match="'mixed' does not come back"):
        dissected(frame.assign(mixed=pd.Series(["x", None, np.nan] * 5, dtype=object)), schema)
