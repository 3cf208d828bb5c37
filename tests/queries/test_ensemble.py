"""Mixtures of fits."""

from __future__ import annotations

import numpy as np
import pytest

import probgen as pg
from tests.networks import random_network


@pytest.fixture(scope="module")
def members():
    return [random_network(seed)[0] for seed in (30, 31, 32)]


def test_densities_are_averaged_and_holes_summed(members):
    made = pg.ensemble(members, weights=[1, 2, 1])
    table = members[0].sample(50, seed=1).hide("c")
    expected = np.log(
        sum(w * np.exp(f.log_prob(table).value) for w, f in zip([0.25, 0.5, 0.25], members, strict=True))
    )
    np.testing.assert_allclose(made.log_prob(table).value, expected, rtol=1e-12)
    np.testing.assert_allclose(made.embed(table).sum(1), 1.0)


def test_weights_are_those_of_the_source(members):
    made = pg.ensemble(members, weights=[0.2, 0.5, 0.3])
    found = pg.ensemble(members, made.sample(20_000, seed=2))
    np.testing.assert_allclose(found.weights, [0.2, 0.5, 0.3], atol=0.08)
    table = made.sample(20_000, seed=2)
    assert found.log_prob(table).mean().value >= made.log_prob(table).mean().value


def test_fills_follow_the_mixture(members):
    made = pg.ensemble(members[:2])
    row = members[0].sample(1, seed=3).hide("a", "f")
    many = row.take(np.zeros(4000, dtype=int))
    drawn = made.fill(many, 1, seed=4)[0]
    np.testing.assert_array_equal(drawn.values[:, 1:5], many.values[:, 1:5])
    states = np.array([[a, f] for a in range(2) for f in range(3)], dtype=float)
    values = np.repeat(row.values, 6, 0)
    values[:, [0, 5]] = states
    share = np.exp(made.log_prob(pg.Table.from_codes(values, row.schema)).value)
    share = share / share.sum()
    counts = np.array([(drawn.values[:, [0, 5]] == s).all(1).mean() for s in states])
    assert np.abs((counts - share) / np.sqrt(share * (1 - share) / 4000)).max() < 4.5


def test_save_and_load(members, tmp_path):
    made = pg.ensemble(members, weights=[1, 2, 1])
    made.save(tmp_path / "three")
    table = members[0].sample(20, seed=5).hide("b")
    np.testing.assert_array_equal(pg.load(tmp_path / "three").log_prob(table).value, made.log_prob(table).value)
    with pytest.raises(pg.DataError, match="exists"):
        made.save(tmp_path / "three")
    with pytest.raises(pg.DataError, match="no folder of an ensemble"):
        pg.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: pg.ensemble([]), "at least one fit"),
        (lambda m: pg.ensemble(m[0]), "at least one fit, in a list"),
        (lambda m: pg.ensemble(m, weights=["a", "b", "c"]), "must be 3 numbers"),
        (lambda m: pg.ensemble(m).sample(0), "n must be a whole number"),
        (lambda m: pg.ensemble(m).fill(m[0].sample(2), 0), "draws must be a whole number"),
        (lambda m: pg.ensemble(m, weights=[1, 2]), "must be 3 numbers"),
        (lambda m: pg.ensemble(m, weights=[1, -2, 1]), "none negative"),
        (
            lambda m: pg.ensemble([*m, pg.fit("latent_class", {"x": [1.0, 2.0, 3.5]}, components=1, progress=False)]),
            "other columns",
        ),
    ],
)
def test_bad_members_are_refused(members, change, message):
    with pytest.raises(pg.CapabilityError, match=message):
        change(members)


def test_rows_count_by_their_weight(members):
    values = np.concatenate([member.sample(6, seed=6).values for member in members[:2]])
    rows, weights = pg.Table.from_codes(values, members[0].schema), np.array([9, 6, 8] * 2 + [1, 0, 2] * 2)
    repeated = rows.take(np.repeat(np.arange(12), weights))
    found = pg.ensemble(members, rows.with_weights(weights)).weights
    np.testing.assert_allclose(found, pg.ensemble(members, repeated).weights, rtol=1e-6)
    assert np.abs(found - pg.ensemble(members, rows).weights).max() > 1e-3
    with pytest.raises(pg.DataError, match="All weights are zero"):
        pg.ensemble(members, rows.with_weights(np.zeros(12)))


def test_rows_that_no_member_can_draw_are_named():
    never = [pg.network({"a": ["x", "y"], "b": ["p", "q"]}, {}, {"a": [1, 0], "b": [s, 1 - s]}) for s in (0.2, 0.6)]
    rows = pg.Table.from_codes(np.array([[0.0, 1.0], [1.0, 0.0]]), never[0].schema)
    made = pg.ensemble(never, rows.with_weights([1.0, 0.0]))
    for ask in (lambda: pg.ensemble(never, rows), lambda: made.embed(rows), lambda: made.fill(rows.hide("b"))):
        with pytest.raises(pg.DataError, match="row 1 have probability zero under every member"):
            ask()
