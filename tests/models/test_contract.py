"""What every registered model promises. A new model file is tested here with no edit."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.program import accepted_options, find

SMALL = {"components": 2, "latent": 2, "hidden": (16,), "factors": 1, "layers": 1, "width": 16, "transforms": 2}
SMALL_ENERGY = {**SMALL, "hidden": (8,)}  # few enough states to be summed one by one, thousands of times
SCHEMA = Schema(
    (
        Column("height", "real", incomplete=True),
        Column("weight", "real"),
        Column("income", "positive", incomplete=True),
        Column("visits", "count"),
        Column("smoker", "binary", levels=("no", "yes"), incomplete=True),
        Column("town", "categorical", levels=("a", "b", "c")),
        Column("mood", "ordinal", levels=(1, 2, 3)),
        Column("spent", "semicontinuous"),
        Column("share", "bounded", bounds=(0.0, 1.0)),
    )
)
MODELS = sorted(pg.available())
EXACT = [
    name for name in MODELS if pg.available()[name].density in ("exact", "exact_short", "annealed")
]  # small ones are enumerated
CONSISTENT = [
    name for name in EXACT if not pg.available()[name].any_order
]  # others: one set of known cells at a time, see test_any_order.py
WITH_DISCRETE = [
    (name, column)
    for name in CONSISTENT
    for column in ("smoker", "town", "mood")
    if SCHEMA[column].kind in pg.available()[name].kinds
]
SCORED = [name for name in MODELS if pg.available()[name].density != "none"]
KIND = {
    "exact": "exact",
    "exact_short": "exact",
    "annealed": "exact",
    "lower_bound": "importance",
    "bound": "lower_bound",
    "annealed_bound": "lower_bound",
    "annealed_walk": "annealed",
    "ode": "ode",
}


def mixed_table(rows=150, seed=0):
    """Two groups, all kinds of columns, holes in three of them."""
    rng = np.random.default_rng(seed)
    z = rng.integers(2, size=rows)
    height = rng.normal(2.0 * z, 1.0)
    columns = [
        height,
        height + rng.normal(0, 0.5, rows) - z,
        rng.lognormal(0.5 * z, 0.6),
        rng.negative_binomial(3, 0.4 + 0.2 * z).astype(float),
        (rng.random(rows) < 0.3 + 0.4 * z).astype(float),
        (rng.integers(3, size=rows) * (1 - z) + 2 * z).astype(float),
        np.clip(rng.integers(3, size=rows) + z - 1, 0, 2).astype(float),
        np.where(rng.random(rows) < 0.4, 0.0, rng.lognormal(z, 0.5)),
        rng.beta(2 + z, 3),
    ]
    values = np.column_stack(columns)
    for place in (0, 2, 4):
        values[rng.random(rows) < 0.15, place] = np.nan
    return Table.from_codes(values, SCHEMA)


def table_for(name, rows=150, seed=0):
    """The mixed table without the kinds of columns that the model refuses."""
    table, kinds = mixed_table(rows, seed), pg.available()[name].kinds
    return table.select([column.name for column in SCHEMA if column.kind in kinds])


def fitted(name, table=None, seed=0, **more):
    """A quick fit with small settings."""
    small = SMALL if pg.available()[name].normalised else SMALL_ENERGY
    options = {key: value for key, value in small.items() if key in accepted_options(find(name))}
    steps = 30 if "em" in pg.available()[name].methods[:1] else 120
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = table_for(name) if table is None else table
        more = {"max_steps": steps, "restarts": 1} | more
        return pg.fit(name, table, seed=seed, progress=False, **options, **more)


@functools.cache
def once(name):
    return fitted(name)


@pytest.mark.parametrize("name", MODELS)
def test_the_second_instance_trains_as_well_as_the_first_and_to_the_same_bits(name):
    first, second, table = fitted(name), fitted(name), table_for(name)
    assert first.history["objective"] == second.history["objective"]
    np.testing.assert_array_equal(first.fill(table, 1)[0].values, second.fill(table, 1)[0].values)
    if name in SCORED:
        np.testing.assert_array_equal(first.log_prob(table).value, second.log_prob(table).value)


def without_slopes(fit):
    """The objective of regressions of which nothing is known yet."""
    columns, total = fit.program.columns, 0.0
    with torch.no_grad(), fit.setting():
        x = torch.cat([batch.x for batch in fit.batches(table_for(fit.name), 1000).pieces()])
        features = columns.features(x).nan_to_num()[None]
        for at, response in enumerate(columns.responses):
            known = torch.nonzero(~x[:, at].isnan())[:, 0]
            if len(known) < len(x):
                design = columns.design(features[:, known], at)
                total += float(response.log_density(response.start(1), design, x[known, at]).mean())
    return total


@pytest.mark.parametrize("name", MODELS)
def test_fitting_raises_the_objective(name):
    fit = once(name)
    history = fit.history["objective"]
    start = without_slopes(fit) if fit.method == "chained" else np.mean(history[:2])  # chains begin at the top
    assert np.mean(history[-5:]) > start or len(history) <= 2


@pytest.mark.parametrize(("name", "column"), WITH_DISCRETE)
def test_a_hidden_discrete_column_is_summed_out(name, column):
    fit, table = once(name), table_for(name, 40, seed=1)
    place = table.schema.index(column)
    parts = []
    for code in range(len(table.schema[column].levels)):
        values = table.values.copy()
        values[:, place] = code
        parts.append(np.exp(np.asarray(fit.log_prob(table.with_values(values)))))
    np.testing.assert_allclose(np.sum(parts, 0), np.exp(np.asarray(fit.log_prob(table.hide(column)))), rtol=1e-8)


@pytest.mark.parametrize("name", CONSISTENT)
@pytest.mark.parametrize(
    ("column", "low", "high"), [("height", -12, 16), ("income", 1e-6, 80), ("share", 1e-5, 1 - 1e-5)]
)
def test_a_hidden_continuous_column_is_integrated_out(name, column, low, high):
    fit, row = once(name), table_for(name, 3, seed=2)
    place, points = row.schema.index(column), 20_001
    grid = (
        np.exp(np.linspace(np.log(low), np.log(high), points))
        if column == "income"
        else np.linspace(low, high, points)
    )
    for number in range(2):
        values = np.repeat(row.values[number : number + 1], points, 0)
        values[:, place] = grid
        density = np.exp(np.asarray(fit.log_prob(Table.from_codes(values, row.schema))))
        expected = np.exp(np.asarray(fit.log_prob(row.take([number]).hide(column))))[0]
        assert np.trapezoid(density, grid) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("name", [name for name in CONSISTENT if "semicontinuous" in pg.available()[name].kinds])
def test_a_hidden_semicontinuous_column_is_summed_at_zero_and_integrated_elsewhere(name):
    fit, row = once(name), table_for(name, 1, seed=2)
    grid = np.exp(np.linspace(np.log(1e-5), np.log(1e4), 20_001))
    values = np.repeat(row.values, 20_002, 0)
    values[:, row.schema.index("spent")] = [0.0, *grid]
    density = np.exp(np.asarray(fit.log_prob(Table.from_codes(values, row.schema))))
    expected = np.exp(np.asarray(fit.log_prob(row.hide("spent"))))[0]
    assert density[0] + np.trapezoid(density[1:], grid) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("name", EXACT)
def test_nothing_known_has_probability_one(name):
    table = table_for(name, 5)
    assert np.asarray(once(name).log_prob(table.hide(*table.names))) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", EXACT)
def test_one_row_is_scored_as_among_many(name):
    fit, table = once(name), table_for(name, 30, seed=3)
    together = np.asarray(fit.log_prob(table))
    alone = [np.asarray(fit.log_prob(table.take([i])))[0] for i in range(30)]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_fill_keeps_known_cells_and_stays_in_the_support(name):
    fit, table = once(name), table_for(name, 60, seed=4)
    table = table.hide(*{"visits", "mood", "share", "spent"} & set(table.names))
    for filled in fit.fill(table, 3):
        assert not np.isnan(filled.values).any()
        np.testing.assert_array_equal(filled.values[table.known], table.values[table.known])
        Table(filled.to_pandas(), schema=table.schema)  # every value is checked against its kind
    again = fit.fill(table, 3)
    np.testing.assert_array_equal(again[2].values, fit.fill(table, 3)[2].values)
    assert not np.array_equal(again[0].values, again[1].values)


@pytest.mark.parametrize("name", [name for name in MODELS if "real" in pg.available()[name].kinds])
def test_noise_is_independent_across_equal_rows(name):
    fit, row = once(name), table_for(name, 1, seed=5).hide("weight", "height")
    drawn = np.stack([t.values[:, 1] for t in fit.fill(row.take(np.zeros(200, dtype=int)), 20)])
    noise = (
        drawn if fit.posterior.point else drawn - drawn.mean(1, keepdims=True)
    )  # rows of a draw share its parameters
    between = np.corrcoef(noise.T[:40])
    assert np.abs(between[np.triu_indices(40, 1)]).mean() < 0.3  # 0.18 is expected of 20 draws
    assert len(np.unique(drawn)) >= 0.99 * drawn.size  # some of 4000 numbers in single precision may be the same


@pytest.mark.parametrize("name", MODELS)
def test_save_and_load_give_equal_answers(name, tmp_path):
    fit, table = once(name), table_for(name, 20, seed=6)
    fit.save(tmp_path / "model.probgen")
    again = pg.load(tmp_path / "model.probgen")
    if name in SCORED:
        np.testing.assert_array_equal(again.log_prob(table).value, fit.log_prob(table).value)
    np.testing.assert_array_equal(again.fill(table, 1)[0].values, fit.fill(table, 1)[0].values)
    assert again.history == fit.history
    with pytest.raises(pg.DataError, match="exists"):
        fit.save(tmp_path / "model.probgen")


@pytest.mark.parametrize("name", MODELS)
def test_every_verb_answers_in_the_right_shape(name):
    fit, table = once(name), table_for(name, 12, seed=7)
    if name in SCORED:
        estimate = fit.log_prob(table)
        assert len(estimate) == 12
        assert estimate.kind == KIND[fit.traits.density]
        assert (estimate.standard_error is None) == (estimate.kind == "exact")
    assert len(fit.sample(7)) == 7
    Table(fit.sample(50, seed=1).to_pandas(), schema=table.schema)
    cells = fit.marginals(table, draws=20)
    assert len(cells) == int((~table.known).sum())
    assert cells.quantiles([0.1, 0.9]).shape == (2, len(cells))
    for probabilities in cells.probabilities.values():
        assert sum(probabilities.values()) == pytest.approx(1.0)
    if "town" in table.names and name in SCORED:
        np.testing.assert_allclose(pg.class_probabilities(fit, table, "town").sum(1), 1.0)
    if fit.traits.embedding != "none":
        latent = fit.embed(table)
        assert latent.shape[0] == 12
        assert np.isfinite(latent).all()
        assert len(fit.decode(latent)) == 12


@pytest.mark.parametrize("name", [name for name in MODELS if name not in SCORED])
def test_models_without_a_density_say_so(name):
    with pytest.raises(pg.CapabilityError, match="has no density"):
        once(name).log_prob(table_for(name, 5))


@pytest.mark.parametrize("name", EXACT)
def test_float32_agrees_with_float64(name):
    fit = fitted(name, dtype="float32", max_steps=5)
    exact = fitted(name, max_steps=5)
    table = table_for(name, 20)
    np.testing.assert_allclose(fit.log_prob(table).value, exact.log_prob(table).value, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_unknown_options_are_refused_with_the_list(name):
    with pytest.raises(pg.CapabilityError, match="no option 'komponents'"):
        pg.fit(name, table_for(name), komponents=3)


@pytest.mark.parametrize("name", MODELS)
def test_summary_fits_a_page(name):
    lines = once(name).summary().splitlines()
    assert lines[0].startswith(f"{name} fitted by")
    assert len(lines) <= 30
    assert not [line for line in lines if "nan" in line.split()]


@pytest.mark.parametrize("name", MODELS)
def test_point_estimates_export_to_arviz(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = once(name).to_arviz()
    assert made.attrs["model"] == name
