"""Absorbing-state diffusion: its bound is the mean over all orders, and its draws have the law of the chain rule."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema
from probgen.families.denoising import Asked, SharedNoise

SCHEMA = Schema(
    (
        Column("a", "binary", levels=(0, 1), incomplete=True),
        Column("b", "categorical", levels=("u", "v", "w"), incomplete=True),
        Column("c", "ordinal", levels=(1, 2, 3), incomplete=True),
    )
)


def table(rows=1500, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.integers(2, size=rows)
    b = np.where(rng.random(rows) < 0.8, a, 2)
    c = np.clip(a + rng.integers(2, size=rows), 0, 2)
    values = np.column_stack([a, b, c]).astype(float)
    values[rng.random((rows, 3)) < 0.1] = np.nan
    return pg.Table.from_codes(values[~np.isnan(values).all(1)], SCHEMA)


@pytest.fixture(scope="module")
def fit():
    return pg.fit("discrete_diffusion", table(), hidden=(32, 32), max_steps=600, learning_rate=3e-3, progress=False)


def in_order(process, row, order, asked):
    """Log density of a row by the chain rule in one order."""
    total, visible = 0.0, asked.shown.clone()
    for at in order:
        total += float(process.logits(row[None], visible[None], asked)[0, 0, at, int(row[0, at])])
        visible[0, at] = True
    return total


@pytest.mark.parametrize("shown", [(), (1,)])
def test_the_bound_is_the_mean_over_orders(fit, shown):
    row = torch.tensor([[1.0, 2.0, 2.0]])
    given = torch.tensor([[at in shown for at in range(3)]])
    asked = Asked(~given, given)
    with torch.no_grad(), fit.setting():
        every = [in_order(fit.program.process, row, o, asked) for o in permutations(set(range(3)) - set(shown))]
        value, error = fit.program.process.scored(row, asked, 20_000, SharedNoise())
    assert float(error) < 0.02
    assert float(value) == pytest.approx(np.mean(every), abs=4 * float(error))


def test_training_nears_the_truth(fit):
    rows = pg.Table.from_codes(np.array(list(product(range(2), range(3), range(3))), dtype=float), SCHEMA)
    a, b, c = rows.values.astype(int).T
    share = np.where(b == 2, 0.2, np.where(b == a, 0.8, 0.0)) * np.where((c == a) | (c == a + 1), 0.5, 0.0) / 2
    found = np.exp(fit.log_prob(rows, draws=400).value)
    assert found.sum() < 1.03
    np.testing.assert_allclose(found, share, atol=0.06)


def test_draws_given_cells_have_their_law(fit):
    row = pg.Table.from_codes(np.array([[np.nan, 0.0, np.nan]]), SCHEMA)
    drawn = np.concatenate([t.values for t in fit.fill(row.take(np.zeros(250, dtype=int)), 4)])
    assert (drawn[:, 1] == 0).all()
    assert (drawn[:, 0] == 0).mean() > 0.93
    assert (drawn[:, 2] == 1).mean() == pytest.approx(0.5, abs=0.12)
    probabilities = pg.class_probabilities(fit, row, "a")
    np.testing.assert_allclose(probabilities, [[1.0, 0.0]], atol=0.07)


def test_new_rows_have_the_law_of_the_bound_s_chain(fit):
    """By the chain rule averaged over orders, every row's probability; 5 standard errors of 4000 draws."""
    rows = np.array(list(product(range(2), range(3), range(3))), dtype=float)
    every = torch.tensor(rows, dtype=torch.float32)
    asked = Asked.density(torch.ones(1, 3).bool())
    with torch.no_grad(), fit.setting():
        exact = np.array(
            [
                np.mean([np.exp(in_order(fit.program.process, row[None], o, asked)) for o in permutations(range(3))])
                for row in every
            ]
        )
    assert exact.sum() == pytest.approx(1.0, abs=1e-5)
    drawn = fit.sample(4000).values
    found = np.array([(drawn == row).all(1).mean() for row in rows])
    assert (np.abs(found - exact) < 5 * np.sqrt(exact / 4000) + 1e-3).all()


def test_several_cells_at_a_time(fit):
    few = pg.fit("discrete_diffusion", table(200), hidden=(8,), max_steps=5, draw_steps=2, progress=False)
    assert len(few.sample(10)) == 10
    assert np.isfinite(few.fill(table(30), 1)[0].values).all()


def test_columns_without_levels_and_steps_without_number_are_refused():
    with pytest.raises(pg.CapabilityError, match="cannot take column 'x0', which is real"):
        pg.fit("discrete_diffusion", pg.Table(np.random.default_rng(0).normal(size=(20, 2))), progress=False)
    with pytest.raises(pg.CapabilityError, match="draw_steps must be whole numbers"):
        pg.fit("discrete_diffusion", table(20), draw_steps=-1, progress=False)


def test_equal_rows_are_drawn_apart(fit):
    row = pg.Table.from_codes(np.array([[np.nan, 2.0, np.nan]]), SCHEMA)
    drawn = fit.fill(row.take(np.zeros(200, dtype=int)), 2)
    assert 0.3 < drawn[0].values[:, 0].mean() < 0.7
    assert not np.array_equal(drawn[0].values, drawn[1].values)
