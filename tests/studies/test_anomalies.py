"""Odd rows, odd cells and odd steps."""

import functools

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.errors import CapabilityError, DataError

COVARIANCE = 0.8 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))


def normal_rows(rows, seed):
    return np.random.default_rng(seed).multivariate_normal(np.zeros(5), COVARIANCE, rows)


@functools.cache
def normal_fit():
    return pg.fit("gaussian_mixture", normal_rows(3000, 0), components=1, progress=False)


def test_cells_have_their_conditional_densities():
    rows = normal_rows(20, 1)
    fit = normal_fit()
    covariance = np.cov(normal_rows(3000, 0).T, bias=True)
    mean, precision = normal_rows(3000, 0).mean(0), np.linalg.inv(covariance)
    shift = (rows - mean) @ precision / np.diag(precision)  # distance from the conditional mean
    truth = -stats.norm.logpdf(shift, scale=np.diag(precision) ** -0.5)
    np.testing.assert_allclose(pg.cell_surprise(fit, Table(rows)), truth, atol=0.02)


def test_the_planted_cell_is_named_and_explained():
    rng = np.random.default_rng(2)
    rows, place = normal_rows(300, 3), rng.integers(0, 5, 300)
    rows[np.arange(300), place] += rng.choice([-4.0, 4.0], 300)
    found = pg.anomaly_study(normal_rows(2000, 4), rows, components=1, progress=False)
    named = found.oddest_cell() == np.array([f"x{at}" for at in place])
    assert named.mean() > 0.9
    told = found.explain(int(np.flatnonzero(named)[0]))
    assert told.cells[0]["column"] == f"x{place[np.flatnonzero(named)[0]]}"
    assert "expected" in str(told)
    assert f"{told.cells[0]['value']:.6g}" in str(told)
    low, high = told.cells[0]["expected"].split("(")[1][:-1].split(" to ")
    assert not float(low) < told.cells[0]["value"] < float(high)


def test_p_values_of_rows_in_order_are_uniform_whatever_the_model():
    x = np.random.default_rng(5).standard_t(2, size=(3000, 3))  # which one normal describes badly
    found = pg.anomaly_study(
        x[:2000], x[2000:], {"gaussian_mixture": {"components": 1}}, calibration=0.5, progress=False
    )
    for score in ("surprise", "typicality", "cells"):
        p = found.p_values["gaussian_mixture", score]
        # the calibration rows are shared, which correlates the p-values: the error counts both samples
        assert stats.kstest(p, "uniform").statistic < 1.63 * np.sqrt(1 / 1000 + 1 / 1000)


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_rows_of_the_table_itself_are_scored_by_models_that_have_not_seen_them(holes):
    rows = normal_rows(400, 6)
    rows[np.random.default_rng(0).random(rows.shape) < holes] = np.nan
    rows[7] = [3.0, -3.0, 3.0, -3.0, 3.0]
    found = pg.anomaly_study(Table(rows).take(~np.isnan(rows).all(1)), components=1, progress=False)
    assert found.flagged().tolist() == [7]
    p = np.delete(found.p_values["gaussian_mixture", "surprise"], 7)
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_rows_may_be_too_likely():
    wide, bare = normal_rows(2000, 7), np.zeros((30, 5))
    found = pg.anomaly_study(np.c_[wide, normal_rows(2000, 8)], np.c_[bare, bare], components=1, progress=False)
    assert (found.p_values["gaussian_mixture", "surprise"] > 0.9).all()
    assert (found.p_values["gaussian_mixture", "typicality"] < 0.05).all()


def test_a_background_takes_away_what_is_odd_to_it_too():
    rng = np.random.default_rng(9)
    usual = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 2000)
    broken = rng.normal(size=(200, 2))  # the same columns, no correlation
    far = 4 + rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 200)
    found = pg.anomaly_study(
        usual, np.r_[broken, far], components=1, scores=["surprise", "ratio"], background="latent_class",
        truth=np.arange(400) < 200, progress=False,
    )  # fmt: skip
    area = {line["score"]: line["auc"] for line in found.records()}
    assert area["ratio"] > 0.7 > 0.5 > area["surprise"]


def test_simple_pictures_are_likely_and_complex_ones_are_not():
    rng = np.random.default_rng(10)
    pictures = np.clip(rng.normal(128, 40, (400, 8, 8)).round(), 0, 255)
    plain = np.full((40, 8, 8), 128.0)
    tables = [Table.from_images(part, kind="real") for part in (pictures, plain)]
    found = pg.anomaly_study(
        tables[0], tables[1], components=1, scores=["surprise", "complexity"], progress=False, truth=np.ones(40)
    )
    p = {score: found.p_values["gaussian_mixture", score].max() for score in ("surprise", "complexity")}
    assert p["surprise"] > 0.9
    assert p["complexity"] < 0.02
    assert (pg.description_length(tables[1]) < pg.description_length(tables[0])[:40]).all()


def test_mixed_columns_with_holes():
    rng = np.random.default_rng(11)
    group = rng.integers(0, 3, 900)
    data = {
        "size": 5.0 * group + rng.normal(size=900),
        "kind": np.array(["cat", "dog", "eel"])[group],
        "legs": rng.poisson(3, 900),
    }
    table = Table(data)
    values = table.values.copy()
    values[rng.random(900) < 0.3, 1] = np.nan
    values[0] = [0.0, 2.0, 3.0]  # an eel of a cat's size
    holed = table.with_values(values)
    found = pg.anomaly_study(
        holed.take(slice(1, None)), holed.take([0]), {"latent_class": {"components": 4}}, progress=False
    )
    told = str(found.explain(0))
    assert found.p_values["latent_class", "cells"][0] < 0.02
    assert "eel" in told
    assert "cat 9" in told.replace("cat 100", "cat 99")
    assert str(found).splitlines()[1].startswith("latent_class")
    assert len(found.to_pandas()) == 1


def test_steps_have_their_densities_given_the_past():
    rng = np.random.default_rng(12)
    states = np.cumsum(rng.random(400) < 0.1) % 2
    table = Table.from_sequences([(4 * states + rng.normal(size=400))[:, None]], kind="real")
    fit = pg.fit("hidden_markov", table, states=2, progress=False)
    found = pg.step_surprise(fit, table)
    assert found.sum() == pytest.approx(-fit.log_prob(table).value.sum(), rel=1e-6)
    alone = pg.step_surprise(fit, Table.from_sequences([table.values[:50]], kind="real"))
    np.testing.assert_allclose(alone, found[:50], rtol=1e-5, atol=1e-5)  # the future says nothing


def test_a_series_that_changes_is_told_when():
    rng = np.random.default_rng(13)

    def series(noise):
        return lfilter([1.0], [1.0, -0.9], np.r_[rng.normal(size=50), noise])[50:, None]

    usual = [series(rng.normal(size=60)) for _ in range(20)]
    odd = series(np.r_[rng.normal(size=120), 4 * rng.normal(size=60)])
    fit = pg.fit("linear_state_space", Table.from_sequences(usual, kind="real"), progress=False)
    found = pg.change_points(pg.step_surprise(fit, Table.from_sequences([odd], kind="real")))
    assert len(found) >= 1
    assert abs(found[0].start - 120) < 6


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"scores": ["oddness"]}, CapabilityError, "scores must be some of"), ({"scores": "ratio"}, CapabilityError, "background="),
    ({"truth": [True]}, DataError, "each of the 10 rows"), ({"calibration": 1.0}, DataError, "calibration=1.0"),
    ({"scores": "complexity"}, CapabilityError, "this table has none"),
])  # fmt: skip
def test_what_cannot_be_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        pg.anomaly_study(normal_rows(50, 0), normal_rows(10, 1), components=1, progress=False, **options)


def test_other_columns_are_refused_by_name():
    schema = Schema(tuple(Column(name, "real") for name in "abcde"))
    with pytest.raises(DataError, match="must have the columns x0"):
        pg.anomaly_study(normal_rows(50, 0), Table.from_codes(normal_rows(5, 1), schema), progress=False)


def test_pixels_that_are_no_bytes_are_named():
    table = Table.from_images(np.full((2, 3, 3), 0.5), kind="real")
    with pytest.raises(CapabilityError, match=r"row 0, pixel .* is 0\.5"):
        pg.description_length(table)
    with pytest.raises(CapabilityError, match="sequences"):
        pg.step_surprise(normal_fit(), Table(normal_rows(3, 0)))
