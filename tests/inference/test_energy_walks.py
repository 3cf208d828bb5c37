"""Walks leave what they should as it is, and paths find normalisers that are known."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import nn

import probgen as pg
from probgen.data import Column, Schema
from probgen.families.denoising import SharedNoise
from probgen.families.units import Units
from probgen.inference.annealing import Annealed
from probgen.inference.energy_paths import Path, log_normaliser, log_unnormalised, spaced, summed
from probgen.inference.energy_walks import Walk, supply
from probgen.queries.reading import in_double

PLANE = Schema((Column("a", "real"), Column("b", "real")))
LEVELS = Schema(
    (
        Column("x", "binary", levels=(0, 1)),
        Column("y", "categorical", levels=("a", "b", "c")),
        Column("z", "categorical", levels=("a", "b", "c")),
    )
)
COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 1.5]], dtype=torch.float64)
CHANCE = 1e-4


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def walked(walk, features, step, sweeps):
    """Where chains ``(C, N, F)`` are after some sweeps."""
    place, draws = walk.at(features), supply(SharedNoise(), walk, len(features))
    with torch.no_grad():
        for _ in range(sweeps):
            place, likely = walk.sweep(place, (1.0,), torch.full((features.shape[1],), step), next(draws))
    return place.features, likely


# ------------------------------------------------------------------------------------------- continuous columns
@pytest.mark.parametrize(("leapfrogs", "step"), [(1, 0.9), (3, 0.9)])
def test_a_normal_stays_as_it_is_however_long_the_steps(leapfrogs, step):
    precision, root, chains = COVARIANCE.inverse(), torch.linalg.cholesky(COVARIANCE), 20_000
    density = lambda x: (-0.5 * torch.einsum("...i,ij,...j->...", x, precision, x),)  # noqa: E731
    walk = Walk(Units(PLANE), density, torch.zeros(1, 2, dtype=torch.bool), leapfrogs)
    found, likely = walked(walk, (torch.randn(chains, 1, 2) @ root.T), step, 15)
    assert 0.2 < likely.mean() < 0.95  # without Metropolis' correction the spread would be another
    found = found[:, 0]
    assert (found.mean(0).abs() < 4 * (COVARIANCE.diagonal() / chains).sqrt()).all()
    spread = (COVARIANCE.diagonal()[:, None] * COVARIANCE.diagonal() + COVARIANCE.square()).sqrt()
    assert ((found.T @ found / chains - COVARIANCE).abs() < 4 * spread / math.sqrt(chains)).all()


def test_held_cells_keep_their_bits_and_the_others_are_drawn_given_them():
    precision, chains = COVARIANCE.inverse(), 20_000
    density = lambda x: (-0.5 * torch.einsum("...i,ij,...j->...", x, precision, x),)  # noqa: E731
    known = torch.tensor([[True, False], [False, False]])
    walk = Walk(Units(PLANE), density, known, 3)
    found, _ = walked(walk, torch.full((chains, 2, 2), 1.5), 0.7, 60)
    assert (found[:, 0, 0] == 1.5).all()
    mean, variance = 0.8 * 1.5, 1.5 - 0.64
    assert float(found[:, 0, 1].mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / chains))
    assert float(found[:, 0, 1].var()) == pytest.approx(variance, abs=4 * variance * math.sqrt(2 / chains))
    assert float(found[:, 1, 0].mean()) == pytest.approx(0.0, abs=4 / math.sqrt(chains))


# --------------------------------------------------------------------------------------------- discrete columns
class Table:
    """A network over the levels, and all its states."""

    def __init__(self):
        self.units = Units(LEVELS)
        self.network = nn.Sequential(nn.Linear(7, 12), nn.Tanh(), nn.Linear(12, 1))
        with torch.no_grad():
            self.network[0].weight.mul_(4.0)
            self.network[2].weight.mul_(5.0)
        states = [[float(x), *np.eye(3)[y], *np.eye(3)[z]] for x, y, z in product(range(2), range(3), range(3))]
        self.states = torch.tensor(np.array(states))
        with torch.no_grad():
            self.share = self.density(self.states)[0].softmax(0)

    def density(self, x):
        return (self.network(x)[..., 0],)

    def counts(self, features):
        return (features[:, None] == self.states).all(-1).double().sum(0)


def test_gibbs_with_gradients_has_the_distribution_that_enumeration_has():
    table, chains = Table(), 20_000
    walk = Walk(table.units, table.density, torch.zeros(1, 7, dtype=torch.bool))
    start = table.states[torch.zeros(chains, dtype=torch.long)][:, None]  # all at one state
    found, _ = walked(walk, start, 0.1, 60)
    counts, expected = table.counts(found[:, 0]), chains * table.share
    assert counts.sum() == chains
    assert expected.min() > 1.0
    assert float(((counts - expected).square() / expected).sum()) < chi2.isf(CHANCE, len(expected) - 1)


def test_gibbs_with_gradients_given_a_level():
    table, chains = Table(), 10_000
    known = torch.tensor([[False, True, True, True, False, False, False]])
    walk = Walk(table.units, table.density, known)
    found, _ = walked(walk, table.states[3].expand(chains, 1, 7).clone(), 0.1, 60)
    held = (table.states[:, 1:4] == table.states[3, 1:4]).all(-1)
    counts, expected = table.counts(found[:, 0]), chains * table.share / table.share[held].sum()
    assert counts[~held].sum() == 0
    assert float(((counts - expected).square() / expected)[held].sum()) < chi2.isf(CHANCE, int(held.sum()) - 1)


# ------------------------------------------------------------------------------------------------------- paths
def rough(table, **options):
    """An energy with a network whose weights are large, in double precision."""
    fit = pg.fit("energy", table, hidden=(12,), reference=3, max_steps=2, progress=False, **options)
    with torch.no_grad():
        fit.program.energy.network[-1].weight.mul_(20.0)
        fit.program.energy.offset.fill_(0.7)
    return fit, in_double(fit).energy


def plane_table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    return pg.Table(np.column_stack([x, x + rng.normal(size=300)]))


def grid_log_z(energy, reach=25.0, step=0.05):
    line = torch.arange(-reach, reach, step)
    with torch.no_grad():
        rows = [energy.log_density(torch.stack([x.expand(len(line)), line], 1)).logsumexp(0) for x in line]
    return float(torch.stack(rows).logsumexp(0)) + 2 * math.log(step)


@pytest.mark.parametrize("base", ["mixture", "independent"])
def test_the_annealed_normaliser_is_the_grids_within_its_error(base):
    _, energy = rough(plane_table(), base=base)
    with torch.no_grad():
        found = log_normaliser(energy)
    truth = grid_log_z(energy)
    assert abs(truth) > 0.3  # there is something to find
    assert 0.0 < float(found.error) < 0.03
    assert abs(float(found.value) - truth) < 3.5 * float(found.error)


def test_a_hidden_cell_is_annealed_out():
    _, energy = rough(plane_table())
    features = torch.tensor([[0.4, 0.0], [-1.5, 0.0]])
    seen = torch.tensor([[True, False], [True, False]])
    line = torch.arange(-25.0, 25.0, 0.01)
    with torch.no_grad():
        found = log_unnormalised(energy, features, seen, 32, SharedNoise())
        truth = [
            float(energy.log_density(torch.stack([x.expand(len(line)), line], 1)).logsumexp(0)) + math.log(0.01)
            for x in features[:, 0]
        ]
    for row in range(2):
        assert abs(float(found.value[row]) - truth[row]) < 4 * float(found.error[row])


def test_sums_over_levels_are_those_of_chains():
    rng = np.random.default_rng(0)
    codes = np.column_stack([rng.integers(2, size=200), rng.integers(3, size=200), rng.integers(3, size=200)])
    _, energy = rough(pg.Table.from_codes(codes.astype(float), LEVELS))
    nothing = torch.zeros(1, 7)
    with torch.no_grad():
        exact = log_normaliser(energy)
        direct = energy.log_density(Table().states).logsumexp(0)
        path, betas = Path(energy, nothing, nothing.bool()), spaced(60)
        steps = path.steps(betas, SharedNoise())
        chains = Annealed.averaged(path.anneal(2000, betas, steps, SharedNoise())[1])
        one = torch.tensor([[True, False, False, False, False, False, False]])
        given = summed(energy, torch.ones(1, 7), one)
    assert float(exact.error) == 0.0
    assert float(exact.value) == pytest.approx(float(direct), abs=1e-9)
    assert abs(float(chains.value) - float(direct)) < 4 * float(chains.error)
    half = energy.log_density(Table().states[9:]).logsumexp(0).detach()
    assert float(given) == pytest.approx(float(half), abs=1e-9)


def test_drawn_rows_have_the_moments_of_the_grid():
    fit, energy = rough(plane_table())
    line = torch.arange(-12.0, 12.0, 0.05)
    points = torch.cartesian_prod(line, line)
    with torch.no_grad():
        weight = torch.cat([energy.log_density(part) for part in points.split(2**16)]).softmax(0)
    features = energy.units.read(next(fit.batches(fit.sample(4000), 10_000).pieces()).x.double())[0]
    mean = weight @ points
    spread = (weight @ (points - mean).square()).sqrt()
    assert ((features.mean(0) - mean).abs() < 5 * spread / math.sqrt(2000)).all()  # resampled rows are not all apart
    assert ((features.std(0) / spread - 1).abs() < 0.15).all()
