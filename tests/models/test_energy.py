"""Energies as a model: their normalisers, labels, completions, and densities beside a grid's."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest

import probgen as pg
from probgen.queries.reading import in_double


def mixed(rows=600, seed=0):
    """A label, and two numbers that depend on it, one of them positive."""
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=rows)
    return pg.Table(
        {
            "a": rng.normal(1.5 * label, 1.0),
            "b": np.exp(rng.normal(0.5 * (label == 1), 0.5)),
            "t": np.array(["u", "v", "w"])[label],
        }
    )


@functools.cache
def fitted(target=None):
    return pg.fit("energy", mixed(), target=target, hidden=(32,), reference=4, max_steps=250, progress=False)


def test_contrast_with_noise_leaves_a_density_that_is_nearly_normalised():
    energy = fitted().program.energy
    fitted().log_prob(mixed(5))
    assert abs(float(energy.log_z[0])) < 0.15
    assert 0 < float(energy.log_z[1]) < 0.03
    assert "log Z" in fitted().summary()


def test_a_normal_is_found():
    rng = np.random.default_rng(0)
    covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    train, test = (pg.Table(rng.multivariate_normal([1.0, -2.0], covariance, rows)) for rows in (3000, 3000))
    fit = pg.fit("energy", train, hidden=(32, 32), max_steps=600, progress=False)
    z = np.linalg.solve(np.linalg.cholesky(covariance), (test.values - [1.0, -2.0]).T)
    truth = -0.5 * (z**2).sum(0) - np.log(2 * np.pi) - 0.5 * np.log(np.linalg.det(covariance))
    found = fit.log_prob(test)
    gap = truth - found.value
    error = np.hypot(gap.std() / np.sqrt(len(gap)), found.shared_error)
    assert -3 * error < gap.mean() < 0.04


def test_densities_add_up_to_one_over_the_plane_and_the_levels():
    """In the units of the table: of both numbers a grid, of the label every level."""
    fit = fitted()
    a, log_b = np.linspace(-9, 13, 180), np.linspace(-5, 5, 160)
    cells = np.array([[x, np.exp(y)] for x in a for y in log_b])
    total = 0.0
    for code in range(3):
        rows = pg.Table.from_codes(np.column_stack([cells, np.full(len(cells), code)]), fit.schema)
        total += (np.exp(fit.log_prob(rows).value) * cells[:, 1]).sum()
    total *= (a[1] - a[0]) * (log_b[1] - log_b[0])
    assert abs(np.log(total)) < 4 * fit.log_prob(mixed(20)).shared_error + 1e-3


# --------------------------------------------------------------------------------------------------------- labels
@pytest.mark.parametrize("target", [None, "t"])
def test_probabilities_of_levels_are_shares_of_densities_in_which_the_normaliser_cancels(target):
    fit, table = fitted(target), mixed(40, seed=1)
    found = pg.class_probabilities(fit, table, "t")
    energy = in_double(fit).energy
    scores = []
    for code in range(3):
        values = table.values.copy()
        values[:, 2] = code
        batch = fit.batches(table.with_values(values), 100).batch(table.with_values(values))
        with torch.no_grad():
            scores.append(energy.log_density(energy.units.read(batch.x.double())[0]))
    np.testing.assert_allclose(found, torch.stack(scores, 1).softmax(1).numpy(), rtol=1e-4)


def test_a_targets_probabilities_are_the_softmax_of_its_logits():
    fit, table = fitted("t"), mixed(40, seed=1)
    energy = in_double(fit).energy
    with torch.no_grad():
        features = energy.units.read(fit.batches(table, 100).batch(table).x.double())[0]
        shares = energy.logits(features).softmax(1).numpy()
        total = energy.logits(features).logsumexp(1) - energy.offset
        levels = [energy.log_density(with_level(energy, features, code)) for code in range(3)]
    np.testing.assert_allclose(pg.class_probabilities(fit, table, "t"), shares, rtol=1e-4)
    torch.testing.assert_close(torch.stack(levels).logsumexp(0), total)
    torch.testing.assert_close(energy.marginal(features), total)
    labels = mixed(2000, seed=2)
    right = pg.class_probabilities(fit, labels, "t").argmax(1) == labels.values[:, 2]
    assert right.mean() > 0.6  # of three


def with_level(energy, features, code):
    features = features.clone()
    features[:, energy.label] = torch.eye(3, dtype=features.dtype)[code]
    return features


def test_scores_with_a_target_match_its_columns_and_learn_the_label():
    fit = pg.fit(
        "energy", mixed(), target="t", objective="score_matching", hidden=(16,), max_steps=200, progress=False
    )
    labels = mixed(1000, seed=2)
    right = pg.class_probabilities(fit, labels, "t").argmax(1) == labels.values[:, 2]
    assert right.mean() > 0.6


def test_a_binary_target_has_two_logits():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=300)
    table = pg.Table({"a": rng.normal(2.0 * y), "y": y.astype(bool)})
    fit = pg.fit("energy", table, target="y", hidden=(8,), reference=2, max_steps=60, progress=False)
    assert fit.program.energy.network[-1].out_features == 2
    hidden = np.exp(fit.log_prob(table.hide("y")).value)
    levels = []
    for code in (0.0, 1.0):
        values = table.values.copy()
        values[:, 1] = code
        levels.append(np.exp(fit.log_prob(table.with_values(values)).value))
    np.testing.assert_allclose(np.sum(levels, 0), hidden, rtol=1e-6)


# ---------------------------------------------------------------------------------------------------- completions
def test_a_filled_number_has_the_conditional_of_the_grid():
    fit, draws = fitted(), 800
    row = pg.Table.from_codes(np.array([[np.nan, 1.2, 1.0]]), fit.schema)
    drawn = np.array([t.values[0, 0] for t in fit.fill(row, draws, seed=1)])
    line = np.linspace(-9, 13, 4001)
    rows = np.column_stack([line, np.full(4001, 1.2), np.full(4001, 1.0)])
    density = np.exp(fit.log_prob(pg.Table.from_codes(rows, fit.schema)).value)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    assert kstest(drawn, lambda x: np.interp(x, line, below / below[-1])).pvalue > 1e-3


def test_a_filled_level_has_its_probability():
    fit, draws = fitted(), 800
    row = pg.Table.from_codes(np.array([[0.9, 1.2, np.nan]]), fit.schema)
    codes = np.array([t.values[0, 2] for t in fit.fill(row, draws, seed=1)]).astype(int)
    expected = draws * pg.class_probabilities(fit, row, "t")[0]
    assert expected.min() > 3
    assert ((np.bincount(codes, minlength=3) - expected) ** 2 / expected).sum() < chi2.isf(1e-3, 2)


def test_a_draw_depends_on_no_other_draw_and_not_on_other_rows():
    fit, table = fitted(), mixed(12, seed=3).hide("a")
    some, more = fit.fill(table, 2, seed=4), fit.fill(table, 3, seed=4)
    for one, other in zip(some, more, strict=False):
        np.testing.assert_array_equal(one.values, other.values)
    first = fit.fill(table.take(np.arange(5)), 1, seed=4)[0]
    np.testing.assert_allclose(first.values, some[0].values[:5], rtol=1e-3)


def test_rows_given_a_column_are_drawn_by_the_energy():
    rows = fitted().sample(400, given={"t": "w"})
    assert set(rows.to_pandas()["t"]) == {"w"}
    assert rows.values[:, 0].mean() == pytest.approx(3.0, abs=0.5)


def test_the_hidden_cells_of_a_row_are_annealed_with_an_error():
    fit, table = fitted(), mixed(6, seed=5)
    found = fit.log_prob(table.hide("a"))
    line = np.linspace(-9, 13, 3001)
    for row in range(3):
        rows = np.repeat(table.values[row : row + 1], 3001, 0)
        rows[:, 0] = line
        density = np.exp(fit.log_prob(pg.Table.from_codes(rows, fit.schema)).value)
        own = np.sqrt(found.standard_error[row] ** 2 - found.shared_error**2)
        assert abs(found.value[row] - np.log(np.trapezoid(density, line))) < 4 * own + 1e-3


def test_rows_with_holes_are_learnt_from():
    table = mixed()
    values = table.values.copy()
    values[np.random.default_rng(1).random(values.shape) < 0.2] = np.nan
    values[np.isnan(values).all(1), 0] = 0.0
    fit = pg.fit("energy", table.with_values(values), hidden=(32,), reference=4, max_steps=150, progress=False)
    test = mixed(500, seed=6)
    assert fit.log_prob(test).value.mean() > fitted().log_prob(test).value.mean() - 0.25


def test_levels_alone_are_summed_and_exact():
    rng = np.random.default_rng(0)
    bits = (rng.random((300, 4)) < 0.4).astype(bool)
    fit = pg.fit("energy", pg.Table(bits), hidden=(8,), reference=2, max_steps=20, progress=False)
    states = np.array(np.meshgrid(*[[0.0, 1.0]] * 4)).reshape(4, -1).T
    found = fit.log_prob(pg.Table.from_codes(states, fit.schema))
    assert found.kind == "exact"
    assert np.exp(found.value).sum() == pytest.approx(1.0, abs=1e-9)


# ------------------------------------------------------------------------------------------------------ diagnosis
def test_chains_that_started_apart_agree_on_one_hump_and_not_across_an_empty_plain():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(400, 2))
    apart = one + 30.0 * rng.integers(2, size=(400, 1))
    options = {"hidden": (8,), "reference": 2, "max_steps": 20, "progress": False}
    near, far = (pg.walk_diagnosis(pg.fit("energy", pg.Table(x), **options)) for x in (one, apart))
    assert near.agreed
    assert 0.3 < near.acceptance < 1.0
    assert all(100 < size <= 1.5 * near.draws for size in near.effective_size.values())
    assert not far.agreed


def test_other_models_have_no_walks():
    fit = pg.fit("gaussian_mixture", mixed(), components=1, progress=False)
    with pytest.raises(pg.CapabilityError, match="'gaussian_mixture' has no energy"):
        pg.walk_diagnosis(fit)
    with pytest.raises(pg.CapabilityError, match="chains must be a whole number of at least 2"):
        pg.walk_diagnosis(fitted(), chains=1)
