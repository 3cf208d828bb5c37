"""Fits that the figures are drawn of."""

import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import probgen as pg

mpl.use("Agg")

EARTHQUAKES = """13 14 8 10 16 26 32 27 18 32 36 24 22 23 22 18 25 21 21 14 8 11 14 23 18 17 19 20 22 19 13 26 13 14 22
24 21 22 26 21 23 24 27 41 31 27 35 26 28 36 39 21 17 22 17 19 15 34 10 15 22 18 15 20 15 22 19 16 30 27 29 23 20 16 21
21 25 16 18 15 18 14 10 15 8 15 6 11 8 7 18 16 13 12 13 20 15 16 12 18 15 16 13 15 16 11 11"""
"""A year from 1900 to 2006, magnitude 7 or more (Zucchini, MacDonald and Langrock, 2016)."""


@pytest.fixture(autouse=True)
def closed():
    """No figure is left open."""
    from matplotlib import pyplot

    yield
    pyplot.close("all")


@pytest.fixture(scope="session")
def earthquakes():
    counts = np.array(EARTHQUAKES.split(), dtype=float)
    return pg.Table.from_sequences([counts], kind="count", names=["count"])


@pytest.fixture(scope="session")
def markov(earthquakes):
    options = {"families": {"count": "poisson"}, "prior": None, "restarts": 2}
    return pg.fit("hidden_markov", earthquakes, states=3, seed=0, progress=False, **options)


@pytest.fixture(scope="session")
def weather():
    """Two sequences of all kinds of columns, with holes."""
    rng, made = np.random.default_rng(0), []
    for T in (40, 30):
        z = (np.arange(T) // 6) % 2
        frame = {
            "warmth": rng.normal(3.0 * z, 1.0),
            "wind": np.exp(rng.normal(0.8 * z, 0.3)),
            "sky": np.array(["clear", "cloud", "rain"], dtype=object)[np.where(rng.random(T) < 0.8, z, 2)],
        }
        frame["warmth"][10:13], frame["sky"][12:15] = np.nan, None
        made.append(pd.DataFrame(frame))
    return pg.Table.from_sequences(made)


@pytest.fixture(scope="session")
def mixed():
    """Rows of two groups that a mixture finds: a number with a known law, a positive one, counts, levels, dates."""
    rng = np.random.default_rng(1)
    z = rng.random(400) < 0.3
    x = np.where(z, rng.normal(100.0, 5.0, 400), rng.normal(20.0, 2.0, 400))
    x[:7] = np.nan
    return pg.Table(
        {
            "x": x,
            "weight": np.exp(rng.normal(np.where(z, 4.0, 1.0), 0.4)),
            "visits": rng.poisson(np.where(z, 9.0, 2.0)),
            "spent": np.where(rng.random(400) < 0.5, 0.0, np.exp(rng.normal(np.where(z, 2.0, 0.0), 0.5))),
            "kind": np.array(["a", "b", "c"], dtype=object)[np.where(rng.random(400) < 0.9, z * 1, 2)],
            "smoker": np.where(rng.random(400) < np.where(z, 0.8, 0.2), "yes", "no").astype(object),
            "day": np.datetime64("2020-01-01") + (rng.normal(200.0 + 300.0 * z, 20.0)).astype("timedelta64[D]"),
        }
    )


@pytest.fixture(scope="session")
def mixture(mixed):
    return pg.fit("gaussian_mixture", mixed, components=2, seed=0, progress=False, restarts=1)


@pytest.fixture(scope="session")
def classes(mixed):
    return pg.fit("latent_class", mixed, components=2, seed=0, progress=False, restarts=1)


@pytest.fixture(scope="session")
def quick():
    """A fit of few steps: what a figure shows of it need not be the best."""

    def fitted(table, model="hidden_markov", **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pg.ConvergenceWarning)
            return pg.fit(model, table, seed=0, progress=False, restarts=1, **{"max_steps": 8, **options})

    return fitted
