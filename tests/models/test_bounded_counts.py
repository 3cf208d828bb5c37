"""Counts between bounds that do not begin at zero: densities, fills and new rows know them."""

import warnings

import numpy as np
import pytest
import torch
from scipy import stats

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families import Columns
from probgen.families.kernels import Axes, ProductKernel

LOW, HIGH = 3, 9
SCHEMA = Schema((Column("c", "count", bounds=(LOW, HIGH)), Column("y", "real"), Column("w", "real")))
SHORT = {
    "vae": {"max_steps": 20, "hidden": (16,)},
    "hierarchical_vae": {"max_steps": 20, "hidden": (16,), "latent": (2, 2)},
}
EXACT = ["gaussian_mixture", "hidden_chow_liu_tree", "kernel_density", "latent_class", "bayesian_network"]


def table(rows=80):
    rng = np.random.default_rng(0)
    c = np.clip(rng.poisson(6.0, rows), LOW, HIGH).astype(float)
    values = np.column_stack([c, 0.5 * c + rng.normal(size=rows), rng.normal(size=rows)])
    values[rng.random(values.shape) < 0.2] = np.nan
    return Table.from_codes(values[~np.isnan(values).all(1)], SCHEMA)


@pytest.fixture(scope="module")
def fitted():
    made = {}

    def fit(name):
        if name not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", pg.ConvergenceWarning)
                made[name] = pg.fit(name, table(), seed=0, progress=False, **SHORT.get(name, {}))
        return made[name]

    return fit


@pytest.mark.parametrize("name", [*EXACT, "vae", "hierarchical_vae", "chained_equations"])
def test_fills_and_new_rows_stay_within(name, fitted):
    filled = np.concatenate([t.values[:, 0] for t in fitted(name).fill(table(), draws=20)])
    new = fitted(name).sample(500).values[:, 0]
    for found in (filled, new):
        assert np.isin(found, np.arange(LOW, HIGH + 1)).all()
        assert len(np.unique(found)) > 3


@pytest.mark.parametrize("name", EXACT)
def test_the_density_sums_to_one_over_what_is_within(name, fitted):
    inside = np.column_stack([np.arange(LOW, HIGH + 1), np.full((HIGH - LOW + 1, 2), [2.5, np.nan])])
    each, alone = (
        np.asarray(fitted(name).log_prob(Table.from_codes(rows, SCHEMA)))
        for rows in (inside, np.array([[np.nan, 2.5, np.nan]]))
    )
    assert np.exp(each).sum() == pytest.approx(np.exp(alone)[0], rel=1e-8)


def test_decoders_see_the_bounds():
    """Whatever a network says, its distribution is one over the values that there are."""
    columns = Columns(SCHEMA)
    x = torch.full((HIGH - LOW + 1, 3), torch.nan)
    x[:, 0] = torch.arange(LOW, HIGH + 1)
    for output in (0.0, -8.0, 8.0):
        found = columns(torch.full((1, columns.outputs), output))
        assert float(found.log_prob(x).exp().sum()) == pytest.approx(1.0, abs=1e-5)
        assert LOW <= float(found.mean[0, 0]) <= HIGH


@pytest.mark.stats
def test_kernels_steps_are_drawn_as_often_as_their_density_says():
    """Chi-squared at one in ten thousand."""
    kernel = ProductKernel(Axes(SCHEMA.select(["c"])), "gaussian")
    for at in (LOW, LOW + 1, HIGH):
        centre = torch.full((20_000, 1), float(at))
        drawn = kernel.draw(centre, torch.tensor([0.7]), torch.ones(20_000))[:, 0].numpy()
        weights = 0.7 ** np.abs(np.arange(LOW, HIGH + 1) - at)
        counts = np.bincount(drawn.astype(int), minlength=HIGH + 1)
        assert counts[:LOW].sum() == 0
        assert len(counts) == HIGH + 1
        assert stats.chisquare(counts[LOW:], weights / weights.sum() * 20_000).pvalue > 1e-4
