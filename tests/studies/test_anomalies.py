"""Odd rows, odd cells and odd steps."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.errors import CapabilityError, DataError
from probgen.queries.sequences import filter_states
from probgen.studies.anomaly_scores import Parts, compared

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
    assert f"{told.cells[0]['value']:.4g}" in str(told)
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
def test_rows_of_the_table_itself_are_ranked_by_models_that_have_not_seen_them(holes):
    rows = normal_rows(400, 6)
    rows[np.random.default_rng(0).random(rows.shape) < holes] = np.nan
    rows[7] = [3.0, -3.0, 3.0, -3.0, 3.0]
    found = pg.anomaly_study(Table(rows).take(~np.isnan(rows).all(1)), components=1, progress=False)
    assert found.oddest(1).tolist() == [7]
    assert found.p_values["gaussian_mixture", "surprise"][7] == pytest.approx(1 / len(found.rows))
    with pytest.raises(CapabilityError, match=r"study.oddest"):
        found.flagged()
    assert "-" in str(found).splitlines()[1]


@pytest.mark.parametrize(("rows", "columns"), [(60, 20), (100, 10)])
def test_models_that_fit_their_rows_too_well_accuse_nobody(rows, columns):
    """A model learns its own rows by heart; those that it has not seen are compared with others that it has not seen."""
    shares = []
    for seed in range(6):
        x = np.random.default_rng(seed).normal(size=(2 * rows, columns))
        found = pg.anomaly_study(
            x[:rows], x[rows:], components=1, progress=False, calibration=0.4, scores=["surprise"]
        )
        shares.append((found.p_values["gaussian_mixture", "surprise"] <= 0.1).mean())
    assert np.mean(shares) < 0.1 + 3 * np.std(shares, ddof=1) / np.sqrt(6)


def test_a_row_of_the_table_is_explained_by_the_model_that_has_not_seen_it():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 1)) + np.c_[np.zeros(40), 0.1 * rng.normal(size=(40, 2))]
    x[5, 1] += 6.0
    found = pg.anomaly_study(x, components=1, progress=False)
    told = found.explain(5)
    low, high = (float(value) for value in told.cells[0]["expected"].split("(")[1][:-1].split(" to "))
    assert told.cells[0]["column"] == "x1"
    assert high - low < 1.5  # of a model that has seen the row: 4
    assert len(found.fits["gaussian_mixture"]) == 5


class Sayer:
    """A fit that says the number in the cell."""

    def log_prob(self, table):
        return SimpleNamespace(value=-table.values[:, 0], kind="exact")


def test_scores_are_centred_by_rows_that_they_are_not_compared_with():
    """With few rows to compare with, a centre of their own would make p-values too small."""
    rng, p = np.random.default_rng(0), []
    for _ in range(3000):
        learnt, usual, new = (Table(rng.chisquare(3, size=(rows, 1))) for rows in (50, 4, 1))
        parts = Parts(Sayer(), learnt, ("typicality",), None)
        p.append(compared(parts.of(usual), parts.of(new)).p_values["typicality"][0])
    assert (np.array(p) <= 0.2 + 1e-9).mean() < 0.2 + 3 * np.sqrt(0.16 / 3000)  # centred by the four: .26


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
    """Those of two states by the forward recursion, written out."""
    rng = np.random.default_rng(12)
    states = np.cumsum(rng.random(400) < 0.1) % 2
    table = Table.from_sequences([(4 * states + rng.normal(size=400))[:, None]], kind="real")
    fit = pg.fit("hidden_markov", table, states=2, progress=False)
    found, x = pg.step_surprise(fit, table), table.values[:, 0]
    state = filter_states(fit, table).argmax(1)  # far apart, so that each step tells its state
    inner = (
        np.array([np.bincount(state[1:][state[:-1] == at], minlength=2) for at in (0, 1)])
        / np.bincount(state[:-1])[:, None]
    )
    mean, sd = (np.array([part(x[state == at]) for at in (0, 1)]) for part in (np.mean, np.std))
    now, truth = np.eye(2)[state[0]], []
    for value in x[1:]:
        joint = now @ inner * stats.norm.pdf(value, mean, sd)
        truth.append(-np.log(joint.sum()))
        now = joint / joint.sum()
    assert np.abs(found[1:] - truth).mean() < 0.05
    assert np.corrcoef(found[1:], truth)[0, 1] > 0.99


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
    ({"truth": ["odd"] * 10}, DataError, "row 0 has 'odd'"), ({"background": 3}, CapabilityError, "background must"),
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


def test_dates_are_explained_as_dates():
    rng = np.random.default_rng(0)
    days = rng.integers(0, 300, 200)
    data = {"day": np.datetime64("2024-01-01") + days, "height": days / 10 + rng.normal(size=200)}
    late = {"day": np.array(["2024-10-01"], dtype="datetime64[D]"), "height": [2.0]}
    told = pg.anomaly_study(data, late, components=1, progress=False).explain(0)
    assert {cell["column"] for cell in told.cells} == {"day", "height"}
    assert "2024-0" in next(cell["expected"] for cell in told.cells if cell["column"] == "day")


def test_sequences_are_compared_with_sequences():
    rng = np.random.default_rng(1)
    usual = Table.from_sequences([rng.normal(size=(12, 1)) for _ in range(60)], kind="real")
    odd = Table.from_sequences([rng.normal(size=(12, 1)), 5 + rng.normal(size=(12, 1))], kind="real")
    found = pg.anomaly_study(usual, odd, ["hidden_markov"], states=2, progress=False)
    assert found.oddest(1).tolist() == [1]
    for rows, new, message in (
        (usual, None, "new="),
        (usual, Table(rng.normal(size=(5, 1)), schema=usual.schema), "sequences"),
    ):
        with pytest.raises((CapabilityError, DataError), match=message):
            pg.anomaly_study(rows, new, ["hidden_markov"], states=2, progress=False)


def test_what_is_said_is_said_of_all_numbers_used():
    x = normal_rows(300, 2)
    found = pg.anomaly_study(x, normal_rows(5, 3), {"coupling_flow": {"max_steps": 20}}, progress=False)
    assert found.kind["coupling_flow"] == "exact and importance"  # cells need densities of rows with a hole
    assert "The least possible p-value" not in str(found)
    assert "The least possible p-value" in str(pg.anomaly_study(x, normal_rows(50, 3), components=1, progress=False))
