"""What a table takes: columns add up to the file, and what one costs given the others is Bayes' rule."""

import zlib

import numpy as np
import pandas as pd
import pytest

import probgen as pg
from probgen.data.stored import by_columns, by_rows, dissected


@pytest.fixture(scope="module")
def studied():
    rng = np.random.default_rng(0)
    z = rng.random(800) < 0.4
    frame = pd.DataFrame({name: rng.random(800) < np.where(z, 0.9, 0.1) for name in "abcd"})
    frame["copy"] = frame["a"]
    fit = pg.fit("bayesian_network", frame, progress=False)
    return frame, fit, pg.compression_study(fit, frame)


def test_columns_add_up_to_what_is_coded(studied):
    _, _, found = studied
    bits = sum(record["bits"] * record["known"] for record in found.columns)
    assert found.coded * 8 - 40 <= bits <= found.coded * 8
    assert found.coded == pytest.approx(found.said, rel=0.01, abs=8)
    assert found.to_pandas()["column"].tolist() == ["a", "b", "c", "d", "copy"]


def test_a_column_given_all_others_is_bayes_rule(studied):
    frame, fit, found = studied
    for record in found.columns:
        shares = pg.class_probabilities(fit, pg.Table(frame, schema=fit.schema), record["column"])
        told = shares[np.arange(len(frame)), frame[record["column"]].astype(int)]
        assert record["given_others"] == pytest.approx(-np.log2(told).mean(), rel=1e-6)
    assert found.columns[-1]["given_others"] < 0.02  # it is told by the first


def test_peers_get_bits_by_rows_or_columns(studied):
    frame, fit, found = studied
    stored = dissected(frame, fit.schema)
    assert by_rows(stored) == np.packbits(frame.to_numpy(), axis=1).tobytes()
    assert by_columns(stored) == b"".join(np.packbits(frame[name]).tobytes() for name in frame)
    assert found.peers["numbers + zlib"] == min(
        len(zlib.compress(part, 9)) for part in (by_rows(stored), by_columns(stored))
    )
    assert found.ratio == found.bytes / min(found.peers.values())
    wide = pd.DataFrame({"a": np.arange(300), "b": [0, 1, 5] * 100})
    numbers = dissected(wide, pg.Table(wide).schema)
    assert len(by_rows(numbers)) == 300 * 3


def test_it_says_what_it_found(studied):
    _, _, found = studied
    text = str(found)
    assert "800 rows" in text
    assert "of what the density says" in text
    assert "numbers + lzma" in text


def test_a_spike_in_a_wide_cell_is_a_mass_and_no_density():
    """Noughts and a few numbers far from them: the sum over cells of the integral of the density, by quadrature."""
    rng = np.random.default_rng(1)
    group = rng.random(600) < 0.5
    x = np.where(rng.random(600) < 0.7 + 0.2 * group, 0, rng.choice([1500, 1700, 1900, 2300], 600))
    frame = pd.DataFrame({"group": np.where(group, "a", "b"), "x": x})
    schema = pg.Table(frame).schema.with_kind("x", "real")
    fit = pg.fit("gaussian_mixture", pg.Table(frame, schema=schema), components=2, progress=False)
    found, reading = pg.compression_study(fit, frame, columns=False), dissected(frame, fit.schema).readings[1]
    assert reading.how == "listed"
    bits = 0.0
    for (name, value), count in frame.groupby(["group", "x"]).size().items():
        number = [0, 1500, 1700, 1900, 2300].index(value)
        low, high = reading.edges(np.array([number, number + 1], dtype=np.int64))
        steps = np.concatenate([-np.geomspace(value - low, 1e-9, 4000), [0.0], np.geomspace(1e-9, high - value, 4000)])
        rows = pg.Table(pd.DataFrame({"group": name, "x": value + steps}), schema=fit.schema)
        bits -= count * np.log2(np.trapezoid(np.exp(np.asarray(fit.log_prob(rows))), value + steps))
    assert found.said * 8 == pytest.approx(bits, rel=1e-3)
    assert found.said * 0.98 <= found.coded <= found.said * 1.01 + 4
    holed = pg.compression_study(fit, frame.assign(x=np.nan), columns=False)
    assert holed.coded == pytest.approx(holed.said, abs=8)
