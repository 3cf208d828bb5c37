"""A fit that is moved on by new rows."""

import numpy as np
import pytest

import probgen as pg
from probgen.data import Table

CENTRES = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])


def rows(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    x = CENTRES[rng.integers(3, size=n)] + shift + rng.normal(size=(n, 2))
    x[rng.random(x.shape) < 0.1] = np.nan
    return Table(x[~np.isnan(x).all(1)])


def log_likelihood(fit, table):
    return float(np.mean(np.asarray(fit.log_prob(table))))


def test_without_latents_it_is_the_fit_to_all_rows():
    x = np.random.default_rng(0).normal(size=(300, 3)) @ np.random.default_rng(1).normal(size=(3, 3))
    options = {"components": 1, "prior": None, "progress": False}
    moved = pg.fit("gaussian_mixture", x[:100], **options).partial_fit(x[100:200]).partial_fit(x[200:])
    whole = pg.fit("gaussian_mixture", x, **options)
    np.testing.assert_allclose(moved.log_prob(x).value, whole.log_prob(x).value, atol=1e-9)
    assert moved.provenance["rows"] == 300


@pytest.mark.stats
def test_a_stream_comes_close_to_all_rows_at_once():
    first, new = rows(150, 0), rows(2000, 99)
    fit = pg.fit("gaussian_mixture", first, components=3, progress=False)
    before = log_likelihood(fit, new)
    for seed in range(1, 21):
        fit = fit.partial_fit(rows(200, seed))
    values = np.concatenate([first.values, *[rows(200, seed).values for seed in range(1, 21)]])
    whole = pg.fit("gaussian_mixture", Table(values), components=3, progress=False)
    assert log_likelihood(fit, new) > log_likelihood(whole, new) - 0.005
    assert log_likelihood(fit, new) > before
    assert len(fit.history["log_likelihood_of_new_rows"]) == 20


@pytest.mark.stats
def test_what_is_remembered_fades():
    """After a drift, a fit that remembers few rows follows; one that remembers all stays behind."""
    first = pg.fit("gaussian_mixture", rows(500, 0), components=3, progress=False)
    following = staying = first
    for seed in range(1, 16):
        drifted = rows(200, seed, shift=0.2 * seed)
        following, staying = following.partial_fit(drifted, remember=200), staying.partial_fit(drifted)
    now = rows(2000, 99, shift=3.0)
    assert log_likelihood(following, now) > log_likelihood(staying, now) + 0.2


def test_sequences_go_on_too():
    rng = np.random.default_rng(0)

    def draw():
        levels = 4.0 * (np.cumsum(rng.random((3, 60)) < 0.1, axis=1) % 2)
        return Table.from_sequences(list(levels[..., None] + rng.normal(size=(3, 60, 1))))

    fit = pg.fit("hidden_markov", draw(), states=2, progress=False)
    moved = fit.partial_fit(draw())
    assert moved.provenance["rows"] == 6
    assert np.isfinite(moved.log_prob(draw()).value).all()


def test_it_goes_on_after_a_file(tmp_path):
    fit = pg.fit("gaussian_mixture", rows(200, 0), components=3, progress=False)
    fit.save(tmp_path / "m.probgen")
    again = pg.load(tmp_path / "m.probgen")
    one, other = (f.partial_fit(rows(100, 1)) for f in (fit, again))
    np.testing.assert_array_equal(one.log_prob(rows(50, 2)).value, other.log_prob(rows(50, 2)).value)


def test_refusals():
    fit = pg.fit("gaussian_mixture", rows(200, 0), components=3, progress=False)
    with pytest.raises(pg.CapabilityError, match="remember must be a positive number of rows"):
        fit.partial_fit(rows(10, 1), remember=0)
    by_map = pg.fit("gaussian_mixture", rows(100, 0), components=2, method="map", max_steps=2000, progress=False)
    with pytest.raises(pg.CapabilityError, match="keeps no statistics"):
        by_map.partial_fit(rows(10, 1))
