"""Flows of tables beside quadrature, autograd, normal distributions and each other's estimates."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families.flows.numbers import Numbers

NAMES = ("coupling_flow", "autoregressive_flow", "spline_flow")
SLOWLY = [pytest.param(name, marks=() if name == "spline_flow" else pytest.mark.slow) for name in NAMES]
SMALL = {"hidden": (16, 16), "transforms": 2}
COLUMNS = (
    Column("real", "real"),
    Column("positive", "positive"),
    Column("share", "bounded", bounds=(0.0, 1.0)),
    Column("spent", "semicontinuous"),
    Column("yes", "binary", levels=("no", "yes")),
    Column("mood", "ordinal", levels=(1, 2, 3, 4)),
    Column("visits", "count"),
    Column("score", "count", bounds=(1, 5)),
    Column("town", "categorical", levels=("a", "b", "c")),
)
RHO = 0.8


def mixed_rows(rows, seed=0):
    rng = np.random.default_rng(seed)
    values = [
        rng.normal(size=rows), rng.lognormal(1, 2, rows), rng.beta(2, 3, rows), np.where(rng.random(rows) < 0.4, 0, rng.lognormal(size=rows)),
        rng.integers(2, size=rows), rng.integers(4, size=rows), rng.poisson(2, rows), rng.integers(1, 6, rows), rng.integers(3, size=rows),
    ]  # fmt: skip
    return torch.as_tensor(np.column_stack(values))


def learnt_numbers():
    numbers = Numbers(COLUMNS)
    numbers = numbers.double()
    numbers.learn(mixed_rows(400))
    return numbers


def noise(rows, numbers):
    return torch.randn(rows, numbers.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def normal_pairs(rows, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, 2))
    x[:, 1] = RHO * x[:, 0] + np.sqrt(1 - RHO**2) * x[:, 1]
    return Table(x)


@functools.cache
def of_pairs(name):
    return quick(name, normal_pairs(1500))


def quick(name, table, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        options = (
            {"max_steps": 300, "learning_rate": 5e-3, "batch_size": 256, "validation_fraction": 0.0} | SMALL | options
        )
        return pg.fit(name, table, seed=0, progress=False, **options)


def mixed_pairs(rows, seed=0):
    """A number, and two discrete columns that go with it."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=rows)
    yes = (z + rng.logistic(size=rows) > 0.5).astype(float)
    town = np.clip(np.floor(z + 1.5 + 0.5 * rng.normal(size=rows)), 0, 2)
    schema = Schema((COLUMNS[0], COLUMNS[4], COLUMNS[8]))
    return Table.from_codes(np.column_stack([z, yes, town]), schema)


@functools.cache
def of_mixed():
    return quick("spline_flow", mixed_pairs(1000), max_steps=200)


# ------------------------------------------------------------------------------------------------------ numbers
def test_what_is_open_leads_back_to_the_known_cells():
    numbers, x = learnt_numbers(), mixed_rows(300, seed=1)
    u, _ = numbers.read(x).open(3 * noise(300, numbers))
    assert_close(numbers.write(u), x, rtol=1e-9, atol=1e-9)


def test_an_unknown_cell_leaves_everything_open():
    numbers = learnt_numbers()
    known, z = numbers.read(torch.full((5, 9), torch.nan, dtype=torch.float64)), noise(5, numbers)
    u, change = known.open(z)
    assert_close(u, z)
    assert not change.any()
    assert not known.closed.any()
    assert not known.log_slope.any()


def test_changes_of_volume_of_free_coordinates_are_those_of_the_jacobian():
    numbers, x = learnt_numbers(), mixed_rows(6, seed=2)
    known, z = numbers.read(x), noise(6, numbers)
    _, change = known.open(z)
    for row in range(6):
        one = numbers.read(x[row : row + 1])
        jacobian = torch.autograd.functional.jacobian(lambda at, one=one: one.open(at[None])[0][0], z[row])
        open_ = ~one.closed[0]
        assert_close(change[row], torch.linalg.slogdet(jacobian[open_][:, open_]).logabsdet)


def test_slopes_of_known_measures_are_those_of_autograd():
    numbers = learnt_numbers()
    x = mixed_rows(50, seed=3)
    x[0, 0], x[1, 1] = 80.0, 1e9  # far out
    x[:, 3] = x[:, 3].clamp_min(0.1)
    x = x[:, :4].clone().requires_grad_()
    rest = mixed_rows(50, seed=3)[:, 4:]
    known = numbers.read(torch.cat([x, rest], 1))
    (slopes,) = torch.autograd.grad(known.point.nan_to_num().sum(), x)
    assert_close(known.log_slope, slopes.log().sum(1))


# ---------------------------------------------------------------------------------------------------- densities
@pytest.mark.parametrize("name", NAMES)
def test_densities_of_complete_measures_are_exact_and_integrate_to_one(name):
    grid = np.linspace(-10, 10, 241)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    found = of_pairs(name).log_prob(Table(points))
    assert found.kind == "exact"
    assert found.standard_error is None
    assert np.exp(found.value).sum() * (grid[1] - grid[0]) ** 2 == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_correlated_normal_is_learnt(name):
    test = normal_pairs(4000, seed=1)
    x = test.values
    truth = (
        -0.5 * (x[:, 0] ** 2 + (x[:, 1] - RHO * x[:, 0]) ** 2 / (1 - RHO**2))
        - np.log(2 * np.pi)
        - 0.5 * np.log(1 - RHO**2)
    )
    gap = truth - of_pairs(name).log_prob(test).value
    error = gap.std() / np.sqrt(len(gap))
    assert -3 * error < gap.mean() < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_a_hidden_number_is_integrated_out_without_bias(name):
    fit, grid = of_pairs(name), np.linspace(-9, 9, 2001)
    for at in (0.0, 2.0):
        rows = np.column_stack([np.full(len(grid), at), grid])
        expected = np.log(np.trapezoid(np.exp(fit.log_prob(Table(rows)).value), grid))
        row = Table(rows[:1]).hide(fit.schema.names[1])
        found = fit.log_prob(row, draws=4000)
        assert found.kind == "importance"
        assert abs(found.value[0] - expected) < 4 * found.standard_error[0] + 1e-4
        assert found.standard_error[0] < 0.02


def test_discrete_columns_sum_to_the_density_of_the_rest():
    fit = of_mixed()
    for at in (-1.5, 0.4):
        every = np.array([[at, yes, town] for yes in range(2) for town in range(3)], dtype=float)
        joint = fit.log_prob(Table.from_codes(every, fit.schema), draws=4000)
        row = Table.from_codes(every[:1], fit.schema).hide("yes", "town")
        alone = fit.log_prob(row, draws=4000)
        error = np.sqrt((joint.standard_error**2 * np.exp(joint.value) ** 2).sum()) / np.exp(alone.value[0])
        gap = np.log(np.exp(joint.value).sum()) - alone.value[0]
        assert abs(gap) < 4 * np.hypot(error, alone.standard_error[0])
        assert error < 0.05


def test_all_cells_of_a_mixed_table_sum_and_integrate_to_one():
    fit, grid = of_mixed(), np.linspace(-8, 8, 161)
    every = np.array([[at, yes, town] for at in grid for yes in range(2) for town in range(3)])
    density = np.exp(fit.log_prob(Table.from_codes(every, fit.schema), draws=200).value).reshape(len(grid), 6).sum(1)
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=0.01)


def test_a_discrete_cell_is_the_integral_over_its_interval():
    table = mixed_pairs(800).select(["real", "yes"])
    fit = quick("autoregressive_flow", table, max_steps=150)
    rows, row = fit.program.rows.double(), Table.from_codes(np.array([[0.3, 1.0]]), table.schema)
    batch = next(fit.batches(row, 1).pieces())
    known = rows.numbers.read(batch.x.double())
    edge = float(known.low[0, 1])
    grid = torch.linspace(edge, edge + 60, 200_001, dtype=torch.float64)
    u = torch.stack([known.point[0, 0].expand(len(grid)), grid], 1)
    with torch.no_grad():
        x, change = rows.flow.inverse(u)
        density = (rows.noise().log_prob(x) + change + known.log_slope).exp()
    expected = float(torch.trapezoid(density, grid).log()) + fit.standardiser.log_jacobian(row.known)[0]
    rows.float()
    found = fit.log_prob(row, draws=10_000)
    assert abs(found.value[0] - expected) < 4 * found.standard_error[0] + 1e-4
    assert found.standard_error[0] < 0.01


def test_complete_rows_stay_exact_among_others():
    fit, table = of_pairs("spline_flow"), normal_pairs(6, seed=2)
    values = table.values.copy()
    values[2:4, 1] = np.nan
    found = fit.log_prob(table.with_values(values))
    assert found.kind == "importance"
    assert not found.standard_error[[0, 1, 4, 5]].any()
    assert (found.standard_error[2:4] > 0).all()
    np.testing.assert_allclose(found.value[:2], fit.log_prob(table).value[:2], atol=1e-5)


def test_chains_and_refined_guides_agree_with_plain_draws():
    fit, row = of_mixed(), mixed_pairs(4, seed=3).hide("real")
    plain = fit.log_prob(row, draws=4000)
    chains = fit.log_prob(row, method="annealed", draws=32, temperatures=20, progress=False)
    moved = fit.log_prob(row, draws=2000, refine=20)
    for other in (chains, moved):
        error = np.hypot(plain.standard_error, other.standard_error)
        assert (np.abs(plain.value - other.value) < 4 * error + 1e-3).all()


# -------------------------------------------------------------------------------------------------------- cells
@pytest.mark.parametrize("sweeps", [0, 2])
def test_a_hole_is_filled_from_the_exact_conditional(sweeps):
    fit = of_pairs("spline_flow")
    rows = Table(np.column_stack([np.full(500, 1.5), np.zeros(500)])).hide(fit.schema.names[1])
    drawn = np.stack([table.values[:, 1] for table in fit.fill(rows, 4, sweeps=sweeps)]).ravel()
    grid = np.linspace(-9, 9, 4001)
    density = np.exp(fit.log_prob(Table(np.column_stack([np.full(len(grid), 1.5), grid]))).value)
    below = np.interp(drawn, grid, np.cumsum(density) / density.sum())
    from scipy.stats import kstest

    assert kstest(below, "uniform").pvalue > 0.001
    assert abs(drawn.mean() - 1.5 * RHO) < 0.08
    assert drawn.std() == pytest.approx(np.sqrt(1 - RHO**2), abs=0.06)


def test_levels_are_filled_with_the_probabilities_of_the_density():
    fit = of_mixed()
    row = Table.from_codes(np.array([[1.0, 0.0, 0.0]]), fit.schema).hide("town")
    expected = pg.class_probabilities(fit, row, "town")[0]
    drawn = fit.fill(row.take(np.zeros(3000, dtype=int)), 1)[0].values[:, 2]
    found = np.bincount(drawn.astype(int), minlength=3) / len(drawn)
    np.testing.assert_allclose(found, expected, atol=0.04)


@pytest.mark.slow
def test_training_on_holes_recovers_the_truth():
    train, test = normal_pairs(3000), normal_pairs(4000, seed=1)
    hidden = np.random.default_rng(2).random(train.values.shape) < 0.3
    hidden[:, 1] &= ~hidden[:, 0]
    fit = quick("spline_flow", train.with_values(np.where(hidden, np.nan, train.values)), max_steps=500)
    x = test.values
    truth = (
        -0.5 * (x[:, 0] ** 2 + (x[:, 1] - RHO * x[:, 0]) ** 2 / (1 - RHO**2))
        - np.log(2 * np.pi)
        - 0.5 * np.log(1 - RHO**2)
    )
    assert (truth - fit.log_prob(test).value).mean() < 0.03


def test_what_is_rehearsed_is_none_of_the_flows_concern():
    fit = of_mixed()
    program = fit.program
    with fit.setting():
        batch = next(fit.batches(mixed_pairs(50), 50).pieces())
        program.zero_grad()
        z = torch.zeros(50, program.rows.numbers.size)
        program.rehearse(batch, {"u": z}).sum().backward()
    assert not any(
        p.grad is not None and p.grad.any()
        for p in [*program.rows.flow.parameters(), *program.rows.noise.parameters()]
    )
    assert any(p.grad is not None and p.grad.any() for p in program.rows.guesser.parameters())
    program.zero_grad()


# ------------------------------------------------------------------------------------------------- odd columns
@pytest.mark.parametrize("name", SLOWLY)
def test_a_row_far_out_costs_some_tens_of_nats(name):
    values = np.random.default_rng(0).normal(size=(1000, 2))
    plain = quick(name, Table(values), max_steps=150).log_prob(Table(values[:-1])).value.mean()
    values[-1, 0] = 1000.0
    fit = quick(name, Table(values), max_steps=150)
    found = fit.log_prob(Table(values)).value
    assert found[-1] > -60
    assert found[:-1].mean() > plain - 0.1
    assert fit.log_prob(Table(np.array([[0.0, -1000.0]]))).value > -100


def test_columns_with_ties_are_told_of():
    rng = np.random.default_rng(0)
    schema = Schema((Column("plain", "real"), Column("steps", "real")))
    table = Table.from_codes(np.column_stack([rng.normal(size=500), rng.integers(8, size=500)]), schema)
    with pytest.warns(pg.DataWarning, match="Column 'steps' is real, but has 8 distinct values in 450 known cells"):
        pg.fit("spline_flow", table, max_steps=2, progress=False, **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pg.fit("spline_flow", table.select(["plain"]), max_steps=2, progress=False, **SMALL)


# ------------------------------------------------------------------------------------------------------- inputs
def conditional_rows(rows, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.uniform(-2, 2, rows)
    schema = Schema((Column("a", "real"), Column("y", "real"), Column("yes", "binary", levels=(0, 1))))
    values = np.column_stack(
        [a, np.sin(2 * a) + 0.2 * rng.normal(size=rows), rng.random(rows) < 1 / (1 + np.exp(-2 * a))]
    )
    return Table.from_codes(values.astype(float), schema)


@pytest.mark.parametrize("name", SLOWLY)
def test_inputs_are_conditioned_on(name):
    table, test = (conditional_rows(2000, seed).select(["a", "y"]) for seed in (0, 1))
    fit = quick(name, table, inputs="a", max_steps=500)
    a, y = test.values.T
    truth = -0.5 * ((y - np.sin(2 * a)) / 0.2) ** 2 - np.log(0.2) - 0.5 * np.log(2 * np.pi)
    assert 0 < (truth - fit.log_prob(test).value).mean() + 0.02 < 0.12
    drawn = fit.fill(test.hide("y"), 1)[0].values[:, 1]
    assert np.corrcoef(drawn, np.sin(2 * a))[0, 1] > 0.9


def test_probabilities_given_inputs():
    fit = quick("spline_flow", conditional_rows(2000).select(["a", "yes"]), inputs=("a",))
    rows = conditional_rows(200, seed=1).select(["a", "yes"])
    found = pg.class_probabilities(fit, rows, "yes")[:, 1]
    assert np.abs(found - 1 / (1 + np.exp(-2 * rows.values[:, 0]))).mean() < 0.06


def test_unknown_inputs_are_refused():
    fit = quick("coupling_flow", conditional_rows(200), inputs="a", max_steps=2)
    with pytest.raises(pg.DataError, match="Column 'a' is an input of 'coupling_flow' and unknown in row 0"):
        fit.log_prob(conditional_rows(3).hide("a"))


@pytest.mark.parametrize("name", NAMES)
def test_bad_options_are_refused(name):
    table = conditional_rows(50)
    for options, message in (
        ({"inputs": ("b",)}, "inputs must name some columns and leave others: 'a', 'y', 'yes'. Got"),
        ({"inputs": ("a", "y", "yes")}, "inputs must name some columns"),
        ({"transforms": 0}, "transforms must be whole numbers of at least 1, got 0"),
        ({"hidden": 8}, "hidden must be the widths of layers"),
    ):
        with pytest.raises(pg.CapabilityError, match=message):
            pg.fit(name, table, progress=False, **options)
