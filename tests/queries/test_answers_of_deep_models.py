"""What verbs say of flows, diffusions and generators where it is easy to say something wrong."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

import probgen as pg

QUICK = {"progress": False, "seed": 0}


def fitted(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit(*arguments, **QUICK | options)


def counts(rate, rows=400):
    table = pg.Table({"views": np.random.default_rng(0).poisson(rate, rows)})
    return pg.Table(table.to_pandas(), schema=table.schema.with_kind("views", "count"))


def mixed(rows=120):
    rng = np.random.default_rng(1)
    return pg.Table({"h": rng.normal(size=rows), "g": rng.choice(list("abc"), rows), "w": rng.normal(size=rows)})


@pytest.fixture(scope="module")
def given():
    """A flow given two of three columns."""
    return fitted("autoregressive_flow", mixed(), inputs=("h", "g"), max_steps=20, transforms=2, hidden=(16,))


@pytest.mark.parametrize("rate", [2000, 2_000_000])
@pytest.mark.parametrize("model", ["diffusion", "coupling_flow"])
def test_great_counts_have_their_density(model, rate):
    """Beside the mean log probability of the truth; single precision has to tell values of two millions apart."""
    table = counts(rate)
    fit = fitted(model, table, max_steps=150, hidden=(32,))
    truth = stats.poisson(rate).logpmf(table.values).mean()
    assert fit.log_prob(table).mean().value == pytest.approx(truth, abs=0.4)
    assert fit.sample(300).values.mean() == pytest.approx(rate, rel=0.05)


def test_new_rows_need_what_they_are_conditioned_on(given):
    for asked in ({}, {"given": {"w": 1.0}}):
        with pytest.raises(pg.DataError, match="says nothing of its input 'h': give it"):
            given.sample(2, **asked)
    assert not np.isnan(given.sample(2, given={"h": 1.0, "g": "a"}).values).any()


def test_nothing_is_said_of_an_input(given):
    with pytest.raises(pg.CapabilityError, match="'g' is an input of 'autoregressive_flow'"):
        pg.class_probabilities(given, mixed().take([0]), "g")


def test_a_row_with_nothing_known_is_certain():
    fit = fitted("coupling_flow", mixed(), max_steps=20, transforms=2, hidden=(16,))
    found = fit.log_prob(mixed().take([0, 1]).hide("h", "g", "w"))
    np.testing.assert_array_equal(found.value, 0.0)
    np.testing.assert_array_equal(found.standard_error, 0.0)
    assert fit.query("g").kind == "importance"


def test_states_are_compared_by_the_same_noise():
    """Both ways of asking, within what their times leave open."""
    fit, row = fitted("diffusion", mixed(), max_steps=60, hidden=(32,)), mixed().take([0])
    asked = fit.query("g", given={"h": float(row.values[0, 0]), "w": float(row.values[0, 2])})
    told = pg.class_probabilities(fit, row, "g", draws=2000)[0]
    assert asked.kind == "lower_bound"
    assert list(asked["g"].values()) == pytest.approx(told, abs=0.12)


def test_a_denoising_error_is_not_called_nats():
    fit = fitted("score_sde", pg.Table({"h": mixed().values[:, 0]}), max_steps=20, hidden=(16,))
    assert not fit.in_nats
    assert "nats" not in repr(fit)


def test_levels_of_cells_are_counted_where_there_is_no_density():
    fit = fitted("gan", mixed(), max_steps=20)
    found = fit.marginals(mixed().take([0]).hide("g"), draws=50)
    assert sum(found.probabilities[0].values()) == pytest.approx(1.0)
