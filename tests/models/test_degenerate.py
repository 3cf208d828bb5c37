"""Data that break textbook implementations: every exact model gives finite answers or says what is wrong."""

import re
import warnings

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.program import find
from probgen.queries.fit import accepted_options

SMALL = {"components": 4, "states": 4, "factors": 1, "chains": 2, "longest": 3, "latent": 1}
EXACT = [name for name, traits in pg.available().items() if traits.density == "exact"]
LEARNED = [name for name in EXACT if "em" in pg.available()[name].methods]
CENTRED = ["gaussian_mixture", "latent_class", "hidden_markov", "semi_markov"]


def table_of(name, x):
    """Real columns, and two discrete ones where the model takes them."""
    rng = np.random.default_rng(1)
    real = [Column(f"x{i}", "real", incomplete=True) for i in range(x.shape[1])]
    schema = Schema((*real, Column("b", "binary", levels=(0, 1)), Column("c", "categorical", levels=("u", "v", "w"))))
    codes = np.column_stack([rng.integers(2, size=len(x)), rng.integers(3, size=len(x))])
    table = Table.from_codes(np.column_stack([x, codes]).astype(float), schema)
    return table.select([column.name for column in schema if column.kind in pg.available()[name].kinds])


def fitted(name, table, **more):
    options = {key: value for key, value in SMALL.items() if key in accepted_options(find(name))}
    steps = {"max_steps": 10, "restarts": 1} if name in LEARNED or "svi" in pg.available()[name].methods else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        return pg.fit(name, table, progress=False, **steps | options | more)


def check(fit, table):
    """Densities, fills and samples are numbers."""
    score = fit.log_prob(table).value
    assert np.isfinite(score).all()
    assert np.isfinite(fit.fill(table, draws=2)[1].values).all()
    assert np.isfinite(fit.sample(5).values).all()
    assert "nan" not in fit.summary().split()
    return score


def answered_or_told(message, name, table, **more):
    """Numbers, or an error with the message."""
    told = None
    try:
        check(fitted(name, table, **more), table)
    except pg.FitError as error:
        told = str(error)
    assert told is None or re.search(message, told)


NORMAL = np.random.default_rng(0).normal(size=(40, 3))
ANSWERED = {
    "rows that repeat": np.repeat(NORMAL[:2], 20, 0),
    "a column that repeats": NORMAL[:, [0, 1, 0]],
    "an outlier": np.concatenate([NORMAL, [[1e8, -1e8, 1e8]]]),
    "a row without known numbers": np.concatenate([NORMAL, np.full((1, 3), np.nan)]),
    "clusters 1e6 sd apart": NORMAL + np.repeat([[0.0], [1e6]], 20, 0),
}


@pytest.mark.parametrize("case", ANSWERED)
@pytest.mark.parametrize("name", EXACT)
def test_the_default_prior_gives_an_answer(name, case):
    values = ANSWERED[case]
    table = table_of(name, values)
    if table.known.any(1).all():
        check(fitted(name, table), table)


@pytest.mark.parametrize("case", ANSWERED)
@pytest.mark.parametrize("name", LEARNED)
def test_maximum_likelihood_gives_an_answer_or_says_that_there_is_none(name, case):
    table = table_of(name, ANSWERED[case])
    if not table.known.any(1).all():
        return
    answered_or_told(r"likelihood is unbounded .* Use prior='default'", name, table, prior=None)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.column_stack([NORMAL[:, :2], np.full(40, 7.0)]), r"Column 'x2' is constant \(7.0 in all known rows\)"),
        (np.column_stack([NORMAL[:, :2], np.full(40, np.nan)]), "Column 'x2' has no known value"),
        (NORMAL[:1], "Column 'x0' is constant"),
    ],
)
def test_columns_that_say_nothing_are_named(name, values, message):
    with pytest.raises(pg.DataError, match=message):
        fitted(name, table_of(name, values))


@pytest.mark.parametrize("name", LEARNED)
def test_fewer_rows_than_components(name):
    table = table_of(name, NORMAL[:3])
    answered_or_told("needs at least 4 rows, the table has 3; use fewer components", name, table)


@pytest.mark.parametrize("name", CENTRED)
@pytest.mark.parametrize("prior", ["default", None])
def test_far_clusters_are_found_to_their_density(name, prior):
    """The truth, less what is won by fitting it."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 2)) + np.repeat([[0.0], [1e6]], 200, 0)
    truth = multivariate_normal(np.zeros(2)).logpdf(x - np.repeat([[0.0], [1e6]], 200, 0)).mean() - np.log(2)
    key = "components" if "components" in accepted_options(find(name)) else "states"
    fit = fitted(name, pg.Table(x), prior=prior, **{key: 2})
    assert truth - 0.01 < fit.log_prob(x).value.mean() < truth + 0.03
    assert fit.diagnostics["monotone"]


def test_a_component_that_is_empty_is_told():
    table = table_of("gaussian_mixture", ANSWERED["rows that repeat"]).select(["x0", "x1", "x2"])
    fit = fitted("gaussian_mixture", table, max_steps=100)
    assert len(fit.diagnostics["empty"]["weights"]) == 2
    check(fit, table)


def test_an_objective_that_falls_is_told():
    """Rows that repeat: the noise is held at the least there may be."""
    table = table_of("factor_analysis", ANSWERED["rows that repeat"])
    with pytest.warns(pg.ConvergenceWarning, match="fell by .* nats a row"):
        pg.fit("factor_analysis", table, latent=1, prior=None, progress=False, restarts=1)


@pytest.mark.parametrize("name", ["hidden_markov", "semi_markov", "factorial_hidden_markov", "linear_state_space"])
def test_sequences_of_one_row(name):
    table = Table.from_sequences([row[None] for row in NORMAL], kind="real")
    fit = fitted(name, table)
    assert check(fit, table).shape == (40,)
    assert fit.sample(2, steps=4).n_rows == 8
