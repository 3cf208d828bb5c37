"""Particle filters beside linear Gaussian states, of which everything is known, and beside other estimates."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import probgen as pg
from probgen.data import Table
from probgen.inference.particles import filtered
from probgen.inference.runtime import seeded
from probgen.queries import log_prob as asking

QUICK = {"progress": False, "seed": 0}
LOADINGS, NOISE, CARRY, DRIFT = np.array([[1.0], [-0.6]]), 0.4, 0.9, 0.5


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit(*arguments, **{**QUICK, **options})


def walks(lengths=(30, 12, 1, 30), seed=0):
    """Sequences of two columns that lean on one state."""
    rng = np.random.default_rng(seed)
    made = []
    for length in lengths:
        z = np.zeros((length, 1))
        for time in range(length):
            z[time] = CARRY * (z[time - 1] if time else 0.0) + DRIFT * rng.normal()
        made.append(z @ LOADINGS.T + NOISE * rng.normal(size=(length, 2)))
    return made


def linear_states(scale=0.8):
    """A deep Markov model whose weights are set: a linear Gaussian one, in model coordinates, with a guide that ignores the rows."""
    fit = quiet(
        "deep_markov", pg.Table.from_sequences(walks()), latent=1, hidden=(), recurrent=2, spread="same", max_steps=1,
        dtype="float64", validation_fraction=0.0,
    )  # fmt: skip
    program = fit.program
    before = lambda value, added: math.log(math.expm1(value - added))  # noqa: E731
    with torch.no_grad():
        for weight in program.parameters():
            weight.zero_()
        program.linear.weight.fill_(CARRY)
        program.gate[-1].bias.fill_(-50.0)
        program.scale.bias.fill_(before(DRIFT, 1e-3))
        program.combined.bias[1] = before(scale, 1e-3)
        program.decoder[0][0].weight[:2] = torch.tensor(LOADINGS)
        program.decoder[1].value.fill_(before(NOISE, 1e-2) - 0.5)
    return fit


def in_units(fit, sequences):
    """A table of sequences that are these in model coordinates."""
    values = fit.standardiser.inverse(np.concatenate(sequences))
    return Table.from_codes(values, fit.schema, lengths=np.array([len(one) for one in sequences]))


def covariance(length):
    """Of the cells of one sequence, those of a row side by side."""
    steps = np.arange(length)
    moves = np.where(steps[:, None] >= steps, CARRY ** np.clip(steps[:, None] - steps, 0, None), 0.0)
    states = DRIFT**2 * moves @ moves.T
    return np.kron(states, LOADINGS @ LOADINGS.T) + NOISE**2 * np.eye(2 * length)


def exact(fit, table):
    """Log density of the known cells of every sequence."""
    found, first = [], 0
    x, known = fit.standardiser.forward(table.values), table.known
    for length in table.lengths:
        seen, cells = known[first : first + length].ravel(), x[first : first + length].ravel()
        found.append(multivariate_normal(cov=covariance(length)[np.ix_(seen, seen)]).logpdf(cells[seen]))
        found[-1] += fit.standardiser.log_jacobian(known[first : first + length]).sum()
        first += length
    return np.array(found)


def holed(table, seed=0):
    values = table.values.copy()
    values[np.random.default_rng(seed).random(values.shape) < 0.3] = np.nan
    return table.with_values(values)


@pytest.mark.stats
def test_the_density_is_that_of_linear_states():
    """Sequences of different lengths with holes; draws of whole paths from the same guide are nowhere near."""
    fit = linear_states()
    for table in (in_units(fit, walks(seed=1)), holed(in_units(fit, walks(seed=2)))):
        found, truth = fit.log_prob(table, method="particles", draws=400), exact(fit, table)
        assert (found.standard_error < 0.5).all()
        assert (np.abs(found.value - truth) < 4 * found.standard_error + 0.01).all()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = fit.log_prob(table, draws=3200)
        assert (whole.value[[0, 3]] < truth[[0, 3]] - 3).all()


@pytest.mark.stats
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_mean_of_estimates_is_the_density(share):
    """Few particles, many copies of one sequence: the estimate is unbiased on the scale of densities."""
    fit, copies = linear_states(), 300
    table = in_units(fit, walks((6,), seed=3) * copies)
    with torch.no_grad(), fit.setting(), seeded(0):
        (batch,) = fit.batches(table, len(table.values)).pieces()
        run = filtered(fit.program, batch, fit.posterior.theta(), 80, share=share)
    found = run.log_evidence.numpy() + fit.standardiser.log_jacobian(table.known).reshape(copies, 6).sum(1)
    ratio = np.exp(found - exact(fit, table)[0])
    assert len(np.unique(found)) == copies
    error = ratio.std() / math.sqrt(copies)
    assert abs(ratio.mean() - 1) < 4 * error
    assert error < 0.05


def test_pieces_do_not_change_the_numbers(monkeypatch):
    fit = linear_states()
    table = in_units(fit, walks((5, 9, 2), seed=4))
    whole = fit.log_prob(table, method="particles", draws=20)
    monkeypatch.setattr(asking, "STEPS", 9)
    assert fit.log_prob(table, method="particles", draws=20).value == pytest.approx(whole.value, abs=1e-12)
    assert whole.kind == "importance"


@pytest.mark.stats
def test_gaps_are_filled_as_they_are_given_the_rest():
    """Two rows of twelve unknown: mean, spread and what ties them, beside the conditional Gaussian."""
    fit, copies = linear_states(), 100
    sequence = walks((12,), seed=5)[0]
    x = sequence.copy()
    x[5:7] = np.nan
    seen = ~np.isnan(x).ravel()
    whole = covariance(12)
    slope = whole[np.ix_(~seen, seen)] @ np.linalg.inv(whole[np.ix_(seen, seen)])
    mean, spread = slope @ sequence.ravel()[seen], whole[np.ix_(~seen, ~seen)] - slope @ whole[np.ix_(seen, ~seen)]
    table = in_units(fit, [x] * copies)
    drawn = np.concatenate(
        [
            fit.standardiser.forward(one.values).reshape(copies, 12, 2)[:, 5:7].reshape(copies, 4)
            for one in fit.fill(table, 5)
        ]
    )
    z = (drawn - mean) @ np.linalg.inv(np.linalg.cholesky(spread)).T
    error = 1 / math.sqrt(len(z))
    assert np.abs(z.mean(0)).max() < 4.5 * error
    assert np.abs(np.cov(z.T) - np.eye(4)).max() < 4.5 * math.sqrt(2) * error


def test_particles_of_a_memory_agree_with_annealed_chains():
    table = pg.Table.from_sequences(walks((3, 5, 4, 5), seed=6))
    fit = quiet(
        "recurrent_state_space", table, latent=1, memory=3, hidden=(4,), recurrent=3, max_steps=40, learning_rate=1e-2
    )
    found = fit.log_prob(table, method="particles", draws=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        many = fit.log_prob(table, draws=20_000)
    error = np.hypot(found.standard_error, many.standard_error)
    assert (np.abs(found.value - many.value) < 5 * error + 0.01).all()


def test_what_has_no_states_has_no_particles():
    fit = quiet("vae", pg.load_dataset("iris"), latent=1, hidden=(4,), max_steps=5)
    with pytest.raises(pg.CapabilityError, match="Particles follow states of sequences"):
        fit.log_prob(pg.load_dataset("iris"), method="particles")
    mixture = quiet("gaussian_mixture", pg.load_dataset("iris"), components=2)
    with pytest.raises(pg.CapabilityError, match="method='particles' is for models with a guide"):
        mixture.log_prob(pg.load_dataset("iris"), method="particles")
