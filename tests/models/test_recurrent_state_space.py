"""States with a memory beside loops written by hand, integrals, and linear Gaussian models."""

from __future__ import annotations

import math
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch.distributions import Normal
from torch.nn.functional import softplus

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.data.sequences import Steps
from probgen.families.recurrent_path import RecurrentPath
from probgen.inference.evidence import log_evidence
from probgen.nn import BackwardRecurrence, Memory, recurrent

QUICK = {"progress": False, "seed": 0}
LENGTHS = torch.tensor([3, 5, 1, 5, 2])
SMALL = {"latent": 2, "memory": 6, "hidden": (8,), "recurrent": 8}


def fitted(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit(*arguments, **{**QUICK, **options})


def recalled(sequences=60, seed=0, longest=7):
    """Every step shows, with noise, a sign that only the first step showed clearly, beside a coin; some cells are unknown."""
    rng = np.random.default_rng(seed)
    made = []
    for length in rng.integers(2, longest + 1, size=sequences):
        sign, clear = rng.choice([-1.0, 1.0]), np.arange(length) == 0
        made.append(
            np.column_stack([sign * (1 + clear) + 0.5 * rng.normal(size=length), rng.integers(2, size=length)])
        )
    values = np.concatenate(made)
    values[rng.random(values.shape) < 0.1] = np.nan
    schema = Schema((Column("a", "real", incomplete=True), Column("b", "binary", levels=(0, 1), incomplete=True)))
    return Table.from_codes(values, schema, lengths=np.array([len(one) for one in made]))


@cache
def quick():
    return fitted("recurrent_state_space", recalled(), max_steps=60, learning_rate=1e-2, **SMALL)


def by_hand(memory, states, start):
    """``(T, M)``: torch's own cell, one step of one sequence after the other."""
    cell = torch.nn.GRUCell(memory.cell.input_size, memory.cell.hidden_size).to(states)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict({name: getattr(memory.cell, f"{name}_l0").detach() for name in names})
    h, before, found = torch.zeros(1, cell.hidden_size).to(states), start, []
    for state in states:
        h = cell(before[None], h)
        found.append(h[0])
        before = state
    return torch.stack(found)


# ---------------------------------------------------------------------------------------------------------- the network
@pytest.mark.parametrize("most", [0, 4])  # packed, or padded
def test_all_at_once_is_one_step_after_the_other(monkeypatch, most):
    monkeypatch.setattr(recurrent, "MOST", most)
    torch.manual_seed(0)
    memory, u, steps = Memory(3, 4).double(), torch.randn(6, 16, 3, dtype=torch.float64), Steps(LENGTHS)
    together = memory(u, steps)
    assert together.shape == (6, 16, 4)
    for first, length in zip(steps.starts.tolist(), LENGTHS.tolist(), strict=True):
        h = memory.nothing(6, 1)
        for row in range(first, first + length):
            h = memory.next(h, u[:, row : row + 1])
            torch.testing.assert_close(together[:, row], h[:, 0])
    torch.testing.assert_close(memory(u[2], steps), together[2])


def test_readers_begin_at_the_end_of_every_sequence():
    torch.manual_seed(0)
    reader, x, steps = BackwardRecurrence(3, 4), torch.randn(16, 3), Steps(LENGTHS)
    pieces = [reader.cell(one.flip(0)[None])[0][0].flip(0) for one in x.split(LENGTHS.tolist())]
    torch.testing.assert_close(reader(x, steps), torch.cat(pieces))


# ------------------------------------------------------------------------------------------------------------- the path
def path_of(steps, seed=0):
    torch.manual_seed(seed)
    memory, nudge = Memory(2, 5).double(), torch.randn(steps.rows, 2, dtype=torch.float64)
    start = torch.tensor([0.3, -0.2], dtype=torch.float64)

    def following(h, rows):
        return h[..., :2].sin() + nudge[rows], 0.3 + h[..., 2:4].abs()

    return RecurrentPath(following, memory, start, steps)


def log_density_by_hand(path, z):
    """``(N,)``, one sequence after the other."""
    found = []
    for rows in torch.arange(path.steps.rows).split(path.steps.lengths.tolist()):
        loc, scale = path.following(by_hand(path.memory, z[rows], path.start), rows)
        found.append(Normal(loc, scale).log_prob(z[rows]).sum(-1))
    return torch.cat(found)


def test_the_density_is_that_of_a_loop():
    path = path_of(Steps(LENGTHS)).expand(torch.Size([4, 16]))
    z = path.rsample()
    assert z.shape == (4, 16, 2)
    torch.testing.assert_close(path.log_prob(z), torch.stack([log_density_by_hand(path, one) for one in z]))
    shift, log_factor = torch.randn(2, 16, 2, dtype=torch.float64)
    moved = path.moved(shift, log_factor)
    both = moved.given(z).base_dist, path.given(z).base_dist
    torch.testing.assert_close(both[0].loc, both[1].loc + shift)
    torch.testing.assert_close(both[0].scale, both[1].scale * log_factor.exp())


def test_what_is_known_of_the_last_states_is_that_of_these_states():
    path = path_of(Steps(LENGTHS))
    z, other = path.rsample().detach(), path.rsample().detach()
    before = path.known_of(z).clone()
    assert path.expand(torch.Size([16])).known_of(z) is path.known_of(z)
    assert not torch.equal(path.known_of(other), before)
    torch.testing.assert_close(path.known_of(z), before)
    z[0] += 1.0
    assert not torch.equal(path.known_of(z), before)
    with torch.no_grad():
        assert not path.known_of(z).requires_grad
    assert path.known_of(z).requires_grad


def test_draws_follow_the_density():
    """What is left of each draw by its own conditional is standard normal noise, independent from step to step."""
    path = path_of(Steps(LENGTHS)).expand(torch.Size([20_000, 16]))
    with torch.no_grad():
        z = path.rsample()
        normal = path.given(z).base_dist
        noise = ((z - normal.loc) / normal.scale).flatten(1)
    torch.testing.assert_close(noise.mean(0), torch.zeros(32).double(), rtol=0, atol=0.03)
    torch.testing.assert_close(noise.mT.cov(), torch.eye(32).double(), rtol=0, atol=0.05)


def test_the_mean_is_walked():
    path = path_of(Steps(LENGTHS))
    torch.testing.assert_close(path.given(path.mean).mean, path.mean)


# ------------------------------------------------------------------------------------------------------------ the model
def test_the_program_is_what_the_page_says():
    """Rows with holes, several sequences: log p(z) + log p(known cells | z, h) by a loop."""
    fit, table = quick(), recalled(8, seed=3)
    program = fit.program
    with torch.no_grad(), fit.setting():
        batch = next(fit.batches(table, 1000).pieces())
        z = torch.randn(len(batch), 2)
        found = log_evidence(program, batch, sites={"z": z}).rows
        rows = []
        for at in torch.arange(len(batch)).split(batch.steps.lengths.tolist()):
            h = by_hand(program.memory, z[at], program.before)
            loc, scale = program.prior(h).chunk(2, -1)
            shown = program.columns(program.decoder(torch.cat([h, z[at]], -1))).log_prob(batch.x[at])
            rows.append(Normal(loc, softplus(scale) + 1e-3).log_prob(z[at]).sum(-1) + shown)
    torch.testing.assert_close(found, torch.cat(rows), rtol=1e-4, atol=1e-4)


def test_the_density_of_a_short_sequence_is_an_integral_over_its_states():
    table = recalled()
    options = SMALL | {"latent": 1}
    fit = fitted("recurrent_state_space", table, max_steps=120, learning_rate=2e-2, dtype="float64", **options)
    rows = Table.from_codes(np.array([[1.8, 1.0], [np.nan, 0.0], [0.4, 1.0]]), table.schema, lengths=np.array([3]))
    exact = integrated(fit, rows)
    found = fit.log_prob(rows, draws=20_000)
    assert found.value[0] == pytest.approx(exact, abs=4 * found.standard_error[0] + 0.002)


def integrated(fit, rows):
    """Log density of one sequence by sums over grids of its states."""
    program, grid = fit.program, torch.linspace(-9, 9, 121, dtype=torch.float64)[:, None]
    memory, width = program.memory, float(grid[1] - grid[0])
    with torch.no_grad(), fit.setting():
        x = next(fit.batches(rows, 10).pieces()).x
        h, total = memory.next(memory.nothing(1), program.before[None]), torch.zeros(1)
        for step in x:  # memories (paths so far, M)
            h, z = h.repeat_interleave(len(grid), 0), grid.repeat(len(h), 1)
            loc, scale = program.following(h, None)
            shown = program.columns(program.decoder(torch.cat([h, z], -1))).log_prob(step)
            total = total.repeat_interleave(len(grid)) + Normal(loc, scale).log_prob(z)[:, 0] + shown + math.log(width)
            if len(total) < len(grid) ** len(x):
                h = memory.next(h, z)
        return float(total.logsumexp(0)) + fit.standardiser.log_jacobian(rows.known).sum()


# ------------------------------------------------------------------------------------------------ linear Gaussian models
INTO, ONWARDS = np.array([[1.0, 0.4], [-0.3, 0.8]]), np.array([[0.9, -0.5], [0.2, 0.7]])
SHOWN = np.array([[1.0, 0.5, -0.4, 0.8]])
SCALES, NOISE, EPSILON = np.array([0.6, 0.9]), 0.7, 1e-5


def linear(memory=1.0, keep=0.5):
    """A fit whose weights are set: what is kept, u, is small enough for tanh to be the identity.

    m_t = keep m_{t-1} + (1 - keep) A z_{t-1}, z_t = memory B m_t + noise, x_t = C (m_t, z_t) + noise. The guide is the prior.
    """
    rng = np.random.default_rng(0)
    table = Table.from_codes(
        rng.normal(size=(40, 1)), Schema((Column("x", "real", incomplete=True),)), lengths=np.array([4] * 10)
    )
    fit = fitted(
        "recurrent_state_space", table, latent=2, memory=2, hidden=(), recurrent=4, spread="same", max_steps=1,
        dtype="float64", validation_fraction=0.0,
    )  # fmt: skip
    program = fit.program
    with torch.no_grad():
        cell, prior, shown = program.memory.cell, program.prior[0], program.decoder[0][0]
        for weight in program.parameters():
            weight.zero_()
        cell.weight_ih_l0[4:] = EPSILON * torch.tensor(INTO)  # gates of reset, of keeping, and what is new
        cell.bias_ih_l0[2:4] = math.log(keep / (1 - keep)) if keep else -torch.inf
        prior.weight[:2] = memory * torch.tensor(ONWARDS) / EPSILON
        prior.bias[2:] = torch.tensor(np.log(np.expm1(SCALES - 1e-3)))
        program.above.weight[:2] = torch.eye(2)
        program.combined.weight[:, :2] = 2 * prior.weight
        program.combined.bias[:] = prior.bias
        shown.weight[:1] = torch.tensor(SHOWN / np.array([EPSILON, EPSILON, 1.0, 1.0]))
        program.before[:] = torch.tensor([1.0, -2.0])
        program.decoder[1].value.fill_(math.log(math.expm1(NOISE - 1e-2)) - 0.5)
    return fit


def moments(steps, memory=1.0, keep=0.5):
    """Mean and covariance of x_1, .., x_T, by affine maps of all noises."""
    noises = 3 * steps
    z, m = np.zeros((2, noises + 1)), np.zeros((2, noises + 1))  # the last column is the constant
    z[:, -1], rows = [1.0, -2.0], []
    for time in range(steps):
        m = keep * m + (1 - keep) * INTO @ z
        z = memory * ONWARDS @ m
        z[:, 3 * time : 3 * time + 2] += np.diag(SCALES)
        x = SHOWN @ np.concatenate([m, z])
        x[:, 3 * time + 2] += NOISE
        rows.append(x[0])
    affine = np.array(rows)
    return affine[:, -1], affine[:, :-1] @ affine[:, :-1].T


def exactly(fit, table, **options):
    """Log density in nats of every sequence, unknown steps left out, in the data's own units."""
    found, jacobian = [], fit.standardiser.log_jacobian(table.known)
    values = fit.standardiser.forward(table.values)[:, 0]
    for at in np.split(np.arange(len(values)), np.cumsum(table.lengths)[:-1]):
        mean, covariance = moments(len(at), **options)
        seen = ~np.isnan(values[at])
        density = multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(values[at][seen])
        found.append(density + jacobian[at].sum())
    return np.array(found)


def observed(fit, lengths=(3, 1, 4, 2)):
    values = 2 * np.random.default_rng(1).normal(size=(sum(lengths), 1))
    values[[1, 5]] = np.nan
    return Table.from_codes(values, fit.schema, lengths=np.array(lengths))


@pytest.mark.stats
@pytest.mark.parametrize(
    "options",
    [
        {"memory": 0.0, "keep": 0.0},  # states that know nothing of one another, seen through what the memory adds
        {"memory": 1.0, "keep": 0.0},  # a linear state-space model
        {"memory": 1.0, "keep": 0.6},  # one with a memory of all states
    ],
)
def test_importance_weighted_densities_of_linear_models_are_exact(options):
    fit = linear(**options)
    table = observed(fit)
    found = fit.log_prob(table, draws=20_000, refine=60)
    assert found.kind == "importance"
    assert found.standard_error.max() < 0.1
    assert (np.abs(found.value - exactly(fit, table, **options)) < 4 * found.standard_error + 0.002).all()
    chains = fit.log_prob(table, method="annealed", draws=32, temperatures=40, progress=False)
    assert (np.abs(chains.value - exactly(fit, table, **options)) < 5 * chains.standard_error + 0.02).all()


@pytest.mark.stats
def test_a_memory_switched_off_leaves_a_factor_analysis():
    """Without a GRU and its memory every row is a factor analyser's."""
    fit = linear(memory=0.0)
    with torch.no_grad():
        fit.program.memory.cell.weight_ih_l0.zero_()
    table = observed(fit)
    sd = math.sqrt(((SHOWN[0, 2:] * SCALES) ** 2).sum() + NOISE**2)
    x = fit.standardiser.forward(table.values)[:, 0]
    rows = np.where(np.isnan(x), 0.0, -0.5 * (x / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi))
    rows = rows + fit.standardiser.log_jacobian(table.known)
    exact = np.add.reduceat(rows, np.cumsum([0, *table.lengths[:-1]]))
    found = fit.log_prob(table, draws=20_000)
    assert (np.abs(found.value - exact) < 4 * found.standard_error + 0.002).all()


@pytest.mark.stats
def test_holes_are_filled_by_the_conditional():
    """Later steps and the unknown one between, given the others: mean and covariance of a Gaussian."""
    fit, rows = linear(), 1500
    x = np.array([1.5, np.nan, -1.0, np.nan])
    values = fit.standardiser.inverse(x[:, None])
    table = Table.from_codes(np.tile(values, (rows, 1)), fit.schema, lengths=np.full(rows, 4))
    (filled,) = fit.fill(table, 1, sweeps=3)
    drawn = fit.standardiser.forward(filled.values).reshape(rows, 4)[:, [1, 3]]
    mean, covariance = moments(4)
    seen, hidden = [0, 2], [1, 3]
    slope = covariance[np.ix_(hidden, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
    centre = mean[hidden] + slope @ (x[seen] - mean[seen])
    spread = covariance[np.ix_(hidden, hidden)] - slope @ covariance[np.ix_(seen, hidden)]
    white = np.linalg.solve(np.linalg.cholesky(spread), (drawn - centre).T)
    assert np.abs(white.mean(1)).max() < 0.1  # 4 / sqrt(1500)
    assert np.cov(white) == pytest.approx(np.eye(2), abs=0.15)


def test_what_is_drawn_has_the_models_moments():
    fit = linear()
    mean, covariance = moments(4)
    x = fit.standardiser.forward(fit.sample(10_000, steps=4).values).reshape(-1, 4)
    white = np.linalg.solve(np.linalg.cholesky(covariance), (x - mean).T)
    assert np.abs(white.mean(1)).max() < 0.04
    assert np.cov(white) == pytest.approx(np.eye(4), abs=0.06)


# ---------------------------------------------------------------------------------------------------------- what it does
def test_the_first_step_is_remembered():
    """Its sign is that of all others: drawn where nothing else is known, 0.977 of them would have it by the truth."""
    table, lengths = recalled(300), np.full(200, 7)
    sizes = {"latent": 2, "memory": 16, "hidden": (16,), "recurrent": 16, "batch_size": 50}
    fit = fitted("recurrent_state_space", table, max_steps=400, beta_steps=200, learning_rate=1e-2, **sizes)
    values = np.full((1400, 2), np.nan)
    values[::7, 0] = np.repeat([2.0, -2.0], 100)
    asked = Table.from_codes(values, table.schema, lengths=lengths)
    drawn = fit.fill(asked, 1)[0].values[:, 0].reshape(200, 7)
    assert (np.sign(drawn[:, -1]) == np.sign(values[::7, 0])).mean() > 0.9
    np.testing.assert_array_equal(drawn[:, 0], values[::7, 0])
    assert fit.embed(table).shape == (len(table.values), 2)
    assert len(fit.forecast(table, 2)) == 2 * 2 * len(table)


def test_a_state_is_decoded_with_the_steps_before_it():
    fit, table = quick(), recalled(6, seed=2)
    z = fit.embed(table)
    found = fit.decode(z, lengths=table.lengths)
    np.testing.assert_array_equal(found.lengths, table.lengths)
    first = np.cumsum([0, *table.lengths[:-1]])
    alone = fit.decode(z)
    np.testing.assert_allclose(alone.values[first], found.values[first], rtol=1e-5)
    assert np.abs(alone.values - found.values).max() > 0.01
    with torch.no_grad(), fit.setting():
        last = torch.arange(first[-1], len(z))
        states = torch.as_tensor(z[last]).float()
        h = by_hand(fit.program.memory, states, fit.program.before)
        means = fit.program.columns(fit.program.decoder(torch.cat([h, states], -1))).mean
    np.testing.assert_allclose(
        fit.standardiser.inverse(means.double().numpy()), found.values[last], rtol=1e-4, atol=1e-4
    )
    with pytest.raises(pg.DataError, match="lengths sum to 3"):
        fit.decode(z, lengths=[1, 2])


def test_sequences_count_by_their_weights():
    rng = np.random.default_rng(0)
    values = np.repeat([0.0, 6.0], 120) + rng.normal(size=240)
    table = pg.Table.from_sequences(list(values.reshape(60, 4, 1)), kind="real", names=["a"])
    weights = np.repeat([1.0, 1e-6], 30)
    table = pg.Table(table, weights=weights)
    fit = fitted("recurrent_state_space", table, max_steps=150, learning_rate=2e-2, validation_fraction=0.0, **SMALL)
    assert fit.sample(300, steps=4).values.mean() == pytest.approx(0.0, abs=0.3)


def test_pieces_do_not_matter(monkeypatch):
    from probgen.queries import log_prob as asking

    fit, table = quick(), recalled(4, seed=4)
    asked = {"method": "annealed", "draws": 2, "temperatures": 2, "progress": False, "refine": 2}
    whole = fit.log_prob(table, **asked)
    monkeypatch.setattr(asking, "PIECE", 9)
    np.testing.assert_allclose(fit.log_prob(table, **asked).value, whole.value, rtol=1e-4)


@pytest.mark.parametrize("wrong", [{"memory": 0}, {"latent": 1.5}, {"hidden": 8}, {"recurrent": True}])
def test_sizes_are_whole_numbers(wrong):
    with pytest.raises(pg.CapabilityError, match=next(iter(wrong))):
        pg.fit("recurrent_state_space", recalled(5), **wrong, **QUICK)
