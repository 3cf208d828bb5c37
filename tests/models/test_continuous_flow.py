"""Continuous flows: the equation with an exact velocity has the exact density, cells keep their probability, and a fit nears it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import probgen as pg
from probgen.data import Column, Schema
from probgen.families.denoising import Asked, SharedNoise
from probgen.families.dequantised_cells import DequantisedCells
from probgen.families.flow_matching import CLOCK, FlowMatching, paired

REAL = Schema((Column("a", "real"), Column("b", "real")))
MIXED = Schema((
    Column("h", "real"), Column("g", "categorical", levels=("u", "v", "w")), Column("o", "ordinal", levels=(1, 2, 3, 4)),
    Column("n", "count"), Column("s", "semicontinuous"), Column("r", "bounded", bounds=(0.0, 1.0)),
))  # fmt: skip
MEANS = torch.tensor([[0.8, 0.6], [-0.8, -0.6]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
ALL = torch.ones(50, 2).bool()


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


class Mixture(torch.nn.Module):
    """What a network would say that knows the mean direction of straight ways to a mixture of two normals."""

    def __init__(self, spread):
        super().__init__()
        self.spread = spread

    def forward(self, read, number):
        t = (number / CLOCK + 0.5)[..., None, None]
        norm = (t.square() + (1 - t).square()).sqrt()
        u = read[..., None, :2] * norm
        variance = (t * self.spread).square() + (1 - t).square()
        logits = WEIGHTS.log() - 0.5 * ((u - t * MEANS).square() / variance).sum(-1)
        slope = (t * self.spread**2 - (1 - t)) / variance  # of the direction by u
        each = MEANS + slope * (u - t * MEANS)
        direction = (logits.softmax(-1)[..., None] * each).sum(-2)
        return (direction - (2 * t - 1)[..., 0] / norm[..., 0] ** 2 * u[..., 0, :]) * norm[..., 0]


def exact(x, spread):
    parts = torch.distributions.Normal(MEANS, spread)
    return (parts.log_prob(x[:, None]).sum(-1) + WEIGHTS.log()).logsumexp(-1)


@pytest.mark.parametrize("spread", [1.0, 0.5, 0.1])
def test_the_equation_of_an_exact_velocity_has_the_exact_density(spread):
    of = FlowMatching(DequantisedCells(REAL), Mixture(spread), draw_steps=40)
    x = MEANS[torch.multinomial(WEIGHTS, 50, True)] + spread * torch.randn(50, 2)
    x = x.clamp(-2.9, 2.9)  # beyond, numbers are logarithms
    with torch.no_grad():
        value, error = of.scored(x, Asked.density(ALL), 1, SharedNoise())
    np.testing.assert_allclose(value, exact(x, spread), atol=1e-3)
    assert float(error.max()) < 3e-3


@pytest.mark.parametrize("sampler", ["euler", "heun", "adaptive"])
def test_draws_of_an_exact_velocity_are_of_the_mixture(sampler):
    steps = 100 if sampler == "euler" else 20
    of = FlowMatching(DequantisedCells(REAL), Mixture(0.5), sampler=sampler, draw_steps=steps)
    with torch.no_grad():
        drawn = of.filled(torch.full((4000, 2), math.nan), [SharedNoise()])[0].numpy()
    mean, variance = -0.4 * MEANS[0].numpy(), 0.84 * MEANS[0].numpy() ** 2 + 0.25
    assert drawn.mean(0) == pytest.approx(mean, abs=0.05)
    assert drawn.var(0) == pytest.approx(variance, abs=0.05)
    assert np.mean(drawn @ MEANS[0].numpy() > 0) == pytest.approx(
        float((WEIGHTS * torch.special.ndtr(torch.tensor([2.0, -2.0]))).sum()), abs=0.03
    )


def test_steps_that_rows_choose_do_not_depend_on_other_rows():
    of = FlowMatching(DequantisedCells(REAL), Mixture(0.1), sampler="adaptive")
    eps = torch.randn(1, 8, 2)
    velocity = of.velocity(torch.zeros(8, 2), Asked.rest(~ALL[:8]))
    alone_velocity = of.velocity(torch.zeros(1, 2), Asked.rest(~ALL[:1]))
    times = torch.linspace(0, 1, 21)
    together = of.solver(velocity, eps, times, torch.ones(8, 2))[0, 3]
    alone = of.solver(alone_velocity, eps[:, 3:4], times, torch.ones(1, 2))[0, 0]
    np.testing.assert_allclose(together, alone, atol=1e-12)
    fine = FlowMatching(DequantisedCells(REAL), Mixture(0.1)).solver(
        velocity, eps, torch.linspace(0, 1, 4001), torch.ones(8, 2)
    )
    np.testing.assert_allclose(together, fine[0, 3], atol=5e-3)


def test_random_signs_are_right_on_average(monkeypatch):
    monkeypatch.setattr("probgen.families.flow_matching.EXACT", 1)
    of, x = FlowMatching(DequantisedCells(REAL), Mixture(0.5)), MEANS[torch.arange(60) % 2] + 0.5 * torch.randn(60, 2)
    with torch.no_grad():
        value, error = of.scored(x, Asked.density(torch.ones(60, 2).bool()), 1, SharedNoise())
    gap = float((value - exact(x, 0.5)).mean())
    assert abs(gap) < 4 * float(error.square().sum().sqrt()) / 60 + 1e-3
    assert float(error.mean()) > 1e-3


class Nothing(torch.nn.Module):
    def forward(self, read, number):
        return torch.zeros((*read.shape[:-1], self.width))


def standing(schema):
    """Numbers are standard normal and stay where they are."""
    cells, network = DequantisedCells(schema), Nothing()
    network.width = cells.width
    return FlowMatching(cells, network)


def test_cells_of_standard_normal_numbers_have_the_chance_of_their_numbers():
    """Numbers within a cell are drawn as the flow has them, so that the bound is the probability, of each cell and of all."""
    schema = Schema(tuple(MIXED[name] for name in ("g", "o", "n")))
    of = standing(schema)
    rows = torch.tensor(list(itertools.product(range(3), range(4), range(400)))).double()
    with torch.no_grad():
        value, error = of.scored(rows, Asked.density(torch.ones_like(rows).bool()), 2, SharedNoise())
    assert float(value.exp().sum()) == pytest.approx(1.0, abs=1e-3)
    inner = rows[:, 2] < 100  # farther out numbers are spread evenly, and a standard normal one would not be
    assert float(error[inner].max()) < 1e-3
    np.testing.assert_allclose(value.exp()[rows[:, 2] == 1].reshape(3, 4), float(value.exp()[1]), rtol=2e-3)


def test_numbers_of_cells_are_written_as_the_cells():
    cells = DequantisedCells(MIXED)
    x = torch.tensor([[0.4, 2, 3, 0, 0.0, 0.2], [1e6, 0, 0, 7, 3.5, 0.999], [-1.0, 1, 1, 1e5, 0.0, 0.5]])
    u, log_q = cells.read(x, torch.rand(200, 3, cells.width))
    np.testing.assert_allclose(cells.write(u), x.expand(200, 3, 6), rtol=1e-6)
    assert bool(log_q.isfinite().all())


def test_noise_is_paired_with_the_rows_for_the_shortest_ways():
    u, eps, free = torch.randn(5, 2), torch.randn(2, 5, 2), torch.tensor([True, True, False, True, True])
    found = paired(u, eps, free)
    rows = [0, 1, 3, 4]
    for drawn, given in zip(eps, found, strict=True):
        ways = [float((u[rows] - drawn[list(p)]).square().sum()) for p in itertools.permutations(rows)]
        assert float((u[rows] - given[rows]).square().sum()) == pytest.approx(min(ways))
        assert torch.equal(given[2], drawn[2])


def pairs_of(rows, seed=0):
    """A normal number, and the exponential of one that goes with it."""
    x = np.random.default_rng(seed).multivariate_normal([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], rows)
    return x, pg.Table.from_codes(np.column_stack([x[:, 0], np.exp(x[:, 1])]), Schema((Column("a", "real"), Column("b", "positive"))))  # fmt: skip


@pytest.mark.parametrize("transport", [False, True])
def test_a_fit_nears_the_density_and_fills_holes(transport):
    torch.set_default_dtype(torch.float32)
    x, table = pairs_of(1500)
    fit = pg.fit(
        "continuous_flow",
        table,
        hidden=(64, 64),
        transport=transport,
        max_steps=600,
        learning_rate=3e-3,
        progress=False,
    )
    x, test = pairs_of(100, 1)
    expected = float((multivariate_normal.logpdf(x, cov=[[1.0, 0.8], [0.8, 1.0]]) - x[:, 1]).mean())
    found = fit.log_prob(test)
    assert found.kind == "ode"
    assert found.mean().value == pytest.approx(expected, abs=0.1)
    holed = pg.Table.from_codes(np.array([[1.5, np.nan]]), test.schema)
    drawn = np.log([t.values[0, 1] for t in fit.fill(holed, 400)])
    assert drawn.mean() == pytest.approx(1.2, abs=0.3)
    assert drawn.std() == pytest.approx(0.6, abs=0.15)


def test_a_row_far_out_costs_tens_of_nats():
    torch.set_default_dtype(torch.float32)
    x = np.random.default_rng(0).normal(size=(600, 2))
    x[0] = 1000.0
    fit = pg.fit("continuous_flow", x, hidden=(32,), max_steps=200, learning_rate=3e-3, progress=False)
    score = fit.log_prob(x).value
    assert -200 < score[0] < -20
    assert score[1:].mean() == pytest.approx(-2.84, abs=0.15)


def test_levels_have_their_shares():
    torch.set_default_dtype(torch.float32)
    rng = np.random.default_rng(0)
    g = rng.choice(3, p=[0.6, 0.3, 0.1], size=1500)
    y = (rng.random(1500) < np.array([0.1, 0.5, 0.9])[g]).astype(float)
    schema = Schema((Column("g", "categorical", levels=("u", "v", "w")), Column("y", "binary", levels=(0, 1))))
    table = pg.Table.from_codes(np.column_stack([g, y]).astype(float), schema)
    fit = pg.fit("continuous_flow", table, hidden=(64, 64), max_steps=600, learning_rate=3e-3, progress=False)
    states = np.array(list(itertools.product(range(3), range(2))), dtype=float)
    truth = np.array([0.54, 0.06, 0.15, 0.15, 0.01, 0.09])
    found = fit.log_prob(pg.Table.from_codes(states, schema))
    assert found.kind == "lower_bound"
    assert float(np.exp(found.value).sum()) < 1.03
    kl = float((truth * (np.log(truth) - found.value)).sum())
    assert -0.03 < kl < 0.3
    given = pg.class_probabilities(
        fit, pg.Table.from_codes(np.array([[0.0, np.nan], [1.0, np.nan], [2.0, np.nan]]), schema), "y"
    )
    assert given[:, 1] == pytest.approx([0.1, 0.5, 0.9], abs=0.12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "rk9"}, "sampler must be one of 'euler', 'heun', 'adaptive', got 'rk9'"),
        ({"draw_steps": 0}, "draw_steps"),
        ({"hidden": ()}, "hidden must have a width"),
        ({"conditioning": 2.0}, "conditioning must be a number of at least 0 and at most 1, got 2.0"),
    ],
)
def test_options_without_meaning_are_refused(options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        pg.fit("continuous_flow", np.random.default_rng(0).normal(size=(30, 2)), progress=False, **options)
