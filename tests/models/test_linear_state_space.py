"""The linear-Gaussian state-space model beside the joint normal distribution, statsmodels, and simulations of itself."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.data.batches import Batch, Batches, Standardiser
from probgen.data.sequences import Steps
from probgen.inference import kalman
from probgen.inference.completion import fill_batch
from probgen.inference.evidence import log_evidence
from probgen.inference.methods.em import expected_statistics
from probgen.inference.posterior import Posterior
from probgen.program import find

pytestmark = pytest.mark.usefixtures("double")
LENGTHS = (5, 1, 4, 7, 5)
L, D = 2, 3


@dataclasses.dataclass
class Truth:
    """A state-space model in plain arrays."""

    m0: np.ndarray
    P0: np.ndarray
    A: np.ndarray
    b: np.ndarray
    Q: np.ndarray
    C: np.ndarray
    d: np.ndarray
    R: np.ndarray

    @classmethod
    def random(cls, rng, coupled):
        def spd(size):
            root = rng.normal(size=(size, size))
            return root @ root.T + 0.3 * np.eye(size)

        R = spd(D) if coupled else np.diag(rng.random(D) + 0.2)
        A = 0.6 * rng.normal(size=(L, L))
        return cls(
            rng.normal(size=L), spd(L), A, rng.normal(size=L), spd(L), rng.normal(size=(D, L)), rng.normal(size=D), R
        )

    def theta(self):
        """The same as the library's parameters."""
        coupled = np.count_nonzero(self.R - np.diag(np.diag(self.R))) > 0
        noise = {"precision": np.linalg.inv(self.R)} if coupled else {"variance": np.diag(self.R).copy()}
        found = {
            "initial": {"weight": self.m0[:, None], "precision": np.linalg.inv(self.P0)},
            "transition": {"weight": np.c_[self.A, self.b], "precision": np.linalg.inv(self.Q)},
            "emission.gaussian": {"weight": np.c_[self.C, self.d], **noise},
        }
        return {name: {k: torch.as_tensor(v)[None] for k, v in part.items()} for name, part in found.items()}

    def joint(self, T):
        """Mean and covariance of the states (T L) and of the cells (T D), and the covariance between them."""
        mean, S = np.zeros(T * L), np.zeros((T * L, T * L))
        m, P = self.m0, self.P0
        for t in range(T):
            if t:
                m, P = self.A @ m + self.b, self.A @ P @ self.A.T + self.Q
            mean[t * L : t * L + L] = m
            X = P
            for u in range(t, T):
                S[u * L : u * L + L, t * L : t * L + L], S[t * L : t * L + L, u * L : u * L + L] = X, X.T
                X = self.A @ X
        load = np.kron(np.eye(T), self.C)
        cells = load @ S @ load.T + np.kron(np.eye(T), self.R)
        return mean, S, load @ mean + np.tile(self.d, T), cells, S @ load.T

    def simulate(self, rng, T):
        mean, cells = self.joint(T)[2:4]
        return rng.multivariate_normal(mean, cells).reshape(T, D)


def condition(mean, S, my, Sy, cross, y):
    """Mean and covariance of the states given the known entries of y."""
    k = ~np.isnan(y)
    gain = np.linalg.solve(Sy[np.ix_(k, k)], cross[:, k].T).T
    return mean + gain @ (y[k] - my[k]), S - gain @ cross[:, k].T


def case(coupled, holes, seed=0):
    """A truth, a model, a batch of sequences in model coordinates."""
    rng = np.random.default_rng(seed)
    truth, sequences = Truth.random(rng, coupled), [rng.normal(size=(n, D)) for n in LENGTHS]
    if holes:
        for sequence in sequences:
            sequence[rng.random(sequence.shape) < 0.3] = np.nan
        sequences[3][2], sequences[0][-1] = np.nan, np.nan
    table = Table.from_sequences(sequences, kind="real")
    options = {"latent": L, "covariance": "full" if coupled else "diagonal", "prior": None}
    program = find("linear_state_space")(table.schema, **options).double()
    return truth, program, Batches(table, Standardiser.of(table)).batch(table)


def pieces(batch):
    """The cells of each sequence, flat."""
    edges = [*batch.steps.starts.tolist(), len(batch)]
    return [(a, b, batch.x[a:b].numpy().ravel()) for a, b in itertools.pairwise(edges)]


CASES = [(coupled, holes) for coupled in (False, True) for holes in (False, True)]


# ---------------------------------------------------------------------------------------------------- brute force
@pytest.mark.parametrize(("coupled", "holes"), CASES)
def test_log_evidence_is_the_joint_normals(coupled, holes):
    truth, program, batch = case(coupled, holes)
    found = log_evidence(program, batch, theta=truth.theta()).rows
    for (first, last, y), value in zip(pieces(batch), found, strict=True):
        my, Sy = truth.joint(last - first)[2:4]
        k = ~np.isnan(y)
        expected = multivariate_normal(my[k], Sy[np.ix_(k, k)]).logpdf(y[k]) if k.any() else 0.0
        assert float(value) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("coupled", "holes"), CASES)
def test_smoothed_states_are_the_joint_normals_conditional(coupled, holes):
    truth, program, batch = case(coupled, holes)
    states = log_evidence(program, batch, theta=truth.theta()).paths[0].states
    means, covariances, filtered = (
        states.means().numpy(),
        states.covariances().numpy(),
        states.filtered_means().numpy(),
    )
    for first, last, y in pieces(batch):
        T = last - first
        parts = truth.joint(T)
        mean, S = condition(*parts, y)
        np.testing.assert_allclose(means[first:last].ravel(), mean, atol=1e-10)
        for t in range(T):
            here = slice(t * L, t * L + L)
            np.testing.assert_allclose(covariances[first + t], S[here, here], atol=1e-10)
            past = np.where(np.arange(T * D) < (t + 1) * D, y, np.nan)
            np.testing.assert_allclose(filtered[first + t], condition(*parts, past)[0][here], atol=1e-10)


def dense_log_density(theta, batch):
    """The same scalar from the joint covariance matrix, differentiable in the library's parameters."""
    get = lambda name, key: theta[name][key][0]  # noqa: E731
    weight, load = get("transition", "weight"), get("emission.gaussian", "weight")
    noise = theta["emission.gaussian"]
    R = torch.diag(noise["variance"][0]) if "variance" in noise else torch.linalg.inv(noise["precision"][0])
    Q, P0 = torch.linalg.inv(get("transition", "precision")), torch.linalg.inv(get("initial", "precision"))
    A, b, C, d = weight[:, :L], weight[:, L], load[:, :L], load[:, L]
    total = torch.zeros(())
    for first, last, _ in pieces(batch):
        T, means, P, rows = last - first, [get("initial", "weight")[:, 0]], P0, {}
        for t in range(T):
            X = P
            for u in range(t, T):
                rows[u, t], X = X, A @ X
            P = A @ P @ A.mT + Q
            means.append(A @ means[-1] + b)
        S = torch.cat(
            [
                torch.cat([rows[max(t, u), min(t, u)].mT if u > t else rows[t, u] for u in range(T)], 1)
                for t in range(T)
            ]
        )
        big = torch.block_diag(*[C] * T)
        mean, Sy = torch.cat([C @ m + d for m in means[:T]]), big @ S @ big.mT + torch.block_diag(*[R] * T)
        y = batch.x[first:last].flatten()
        k = ~y.isnan()
        if k.any():
            total = total + torch.distributions.MultivariateNormal(mean[k], Sy[k][:, k]).log_prob(y[k])
    return total


@pytest.mark.parametrize(("coupled", "holes"), CASES)
def test_the_gradient_is_that_of_the_joint_normal_once_and_twice(coupled, holes):
    truth, program, batch = case(coupled, holes)
    theta = {n: {k: v.clone().requires_grad_() for k, v in part.items()} for n, part in truth.theta().items()}
    leaves = [leaf for part in theta.values() for leaf in part.values()]
    direction = [torch.randn_like(leaf) for leaf in leaves]
    direction = [0.5 * (v + v.mT) if v.dim() == 3 and v.shape[1] == v.shape[2] else v for v in direction]

    def slopes(value):
        first = torch.autograd.grad(value, leaves, create_graph=True)
        slope = sum((g * v).sum() for g, v in zip(first, direction, strict=True))
        second = torch.autograd.grad(slope, leaves)
        return slope.detach(), sum((g * v).sum() for g, v in zip(second, direction, strict=True))

    ours = slopes(log_evidence(program, batch, theta=theta).rows.sum())
    dense = slopes(dense_log_density(theta, batch))
    torch.testing.assert_close(torch.stack(ours), torch.stack(dense), rtol=1e-8, atol=1e-8)
    plain = torch.autograd.grad(log_evidence(program, batch, theta=theta).rows.sum(), leaves)  # the smoother
    slope = sum((g * v).sum() for g, v in zip(plain, direction, strict=True))
    torch.testing.assert_close(slope, dense[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("coupled", [False, True])
def test_fill_draws_have_the_conditional_mean_and_covariance(coupled):
    truth, program, batch = case(coupled, holes=True)
    draws = 3000  # as many copies of every sequence
    many = Batch(batch.x.repeat(draws, 1), program.schema, steps=Steps(torch.tensor(LENGTHS * draws)))
    with torch.no_grad():
        (filled,) = fill_batch(program, many, truth.theta(), [lambda _: nullcontext()])
        drawn = filled.numpy().reshape(draws, len(batch), D)
    for first, last, y in pieces(batch):
        miss = np.isnan(y)
        if not miss.any():
            continue
        my, Sy = truth.joint(last - first)[2:4]
        k = ~miss
        gain = np.linalg.solve(Sy[np.ix_(k, k)], Sy[np.ix_(k, miss)]).T if k.any() else np.zeros((miss.sum(), 0))
        mean, S = my[miss] + gain @ (y[k] - my[k]), Sy[np.ix_(miss, miss)] - gain @ Sy[np.ix_(k, miss)]
        x = drawn[:, first:last].reshape(draws, -1)[:, miss]
        sd = np.sqrt(np.diag(S))
        assert np.abs((x.mean(0) - mean) / sd).max() < 4.5 / np.sqrt(draws)
        gap = (np.cov(x.T).reshape(S.shape) - S) / np.outer(sd, sd)
        assert np.abs(gap).max() < 4.5 * np.sqrt(2 / draws)


# ---------------------------------------------------------------------------------------------------------- fitting
def oscillation(rng, sequences, T, holes=0.2):
    """Two turning states behind three columns."""
    A = 0.98 * np.array([[0.95, 0.2], [-0.2, 0.95]])
    truth = Truth(np.zeros(2), np.eye(2), A, np.zeros(2), 0.09 * np.eye(2), rng.normal(size=(D, L)),
                  np.array([3.0, 0.0, -1.0]), 0.25 * np.eye(D))  # fmt: skip
    made = [truth.simulate(rng, T) for _ in range(sequences)]
    for sequence in made:
        sequence[rng.random(sequence.shape) < holes] = np.nan
    return truth, made


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit("linear_state_space", *arguments, progress=False, **options)


@pytest.mark.parametrize("prior", ["default", None])
@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_em_never_falls(prior, covariance):
    _, sequences = oscillation(np.random.default_rng(1), 4, 25)
    table = Table.from_sequences(sequences, kind="real")
    fit = quiet(table, latent=2, prior=prior, covariance=covariance, max_steps=25, tolerance=0.0)
    assert np.diff(fit.history["objective"]).min() > -1e-10


def test_em_stays_where_the_gradient_is_zero():
    _, sequences = oscillation(np.random.default_rng(2), 6, 8)
    table = Table.from_sequences(sequences, kind="real")
    gradient = quiet(table, latent=1, method="map", tolerance=1e-11, max_steps=25)
    assert gradient.diagnostics["largest_gradient"] < 1e-2  # nats, of a log posterior that is a sum over 115 cells
    em = quiet(table, latent=1, start=gradient.posterior.theta(), max_steps=5, tolerance=0.0)
    np.testing.assert_allclose(em.history["objective"], gradient.history["objective"][-1], atol=1e-8)
    before, after = gradient.parameters(), em.parameters()
    for name, group in before.items():
        for key, value in group.items():
            np.testing.assert_allclose(after[name][key], value, atol=1e-3)


def test_em_recovers_the_turning():
    truth, sequences = oscillation(np.random.default_rng(4), 40, 40)
    fit = quiet(Table.from_sequences(sequences, kind="real"), latent=2, max_steps=60)
    found = np.linalg.eigvals(fit.parameters()["transition"]["matrix"][0])
    expected = np.linalg.eigvals(truth.A)
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(expected), atol=0.02)


def test_weights_of_sequences_are_repetitions():
    _, sequences = oscillation(np.random.default_rng(5), 3, 12)
    once = Table.from_sequences(sequences, kind="real", weights=[1.0, 3.0, 2.0])
    repeated = Table.from_sequences([sequences[i] for i in (0, 1, 1, 1, 2, 2)], kind="real")
    options = {"latent": 1, "max_steps": 10, "tolerance": 0.0, "prior": None}
    program = find("linear_state_space")(once.schema, latent=1, prior=None).double()
    theta = quiet(repeated, **options).posterior.theta()
    found = []
    for table in (once, repeated):
        batch = Batches(table, Standardiser.of(repeated)).batch(table)
        families = log_evidence(program, batch, theta=theta).trace.families
        found.append(expected_statistics(program, families, theta, batch)[1])
    for name, group in found[0].items():
        for key, value in group.items():
            torch.testing.assert_close(value, found[1][name][key])


# -------------------------------------------------------------------------------------------------- known answers
def nile():
    datasets = pytest.importorskip("statsmodels.api").datasets
    return datasets.nile.load_pandas().data["volume"].to_numpy()


def at_variances(table, variances, noise, **options):
    """A structural model with given variances of its noisy states and of its columns, in model coordinates."""
    fit = quiet(table, prior=None, method="map", max_steps=1, **options)
    theta = {name: dict(part) for name, part in fit.posterior.theta().items()}
    theta["transition"]["variance"] = torch.as_tensor(variances)[None]
    theta["emission.gaussian"]["variance"] = torch.as_tensor(noise)[None]
    return dataclasses.replace(fit, posterior=Posterior.at(theta))


@pytest.mark.reference
def test_nile_in_original_units():
    """statsmodels: first level N(0, 1e6), first observation not counted; log likelihood -632.5378."""
    y = nile()
    table = Table.from_sequences([y], kind="real", names=["volume"])
    shift, scale = y.mean(), y.std()
    options = {"structure": "local_level", "diffuse": (-shift / scale, 1e6 / scale**2)}
    theirs = at_variances(table, [1478.81136 / scale**2], [15078.01098 / scale**2], **options)
    assert float(theirs.log_prob(table).value[0]) == pytest.approx(-632.53776, abs=1e-5)
    ours = quiet(table, prior=None, method="map", tolerance=1e-10, **options)
    assert -632.53777 < float(ours.log_prob(table).value[0]) < -632.5376  # a flat top
    assert ours.parameters()["transition"]["variance"][0, 0] * scale**2 == pytest.approx(1478.8, rel=0.02)
    assert ours.parameters()["emission.gaussian"]["variance"][0, 0] * scale**2 == pytest.approx(15078.0, rel=0.005)
    assert ours.history["objective"][-1] * 100 == pytest.approx(float(ours.log_prob(table).value[0]), abs=1e-6)


@pytest.mark.reference
def test_nile_with_a_level_that_is_really_diffuse():
    """Durbin and Koopman (2012): 15099 and 1469.1."""
    y = nile()
    fit = quiet(
        Table.from_sequences([y], kind="real"), structure="local_level", prior=None, method="map", tolerance=1e-12
    )
    assert fit.parameters()["emission.gaussian"]["variance"][0, 0] * y.var() == pytest.approx(15099, rel=1e-3)
    assert fit.parameters()["transition"]["variance"][0, 0] * y.var() == pytest.approx(1469.1, rel=1e-3)


@pytest.mark.reference
@pytest.mark.parametrize("holes", [False, True])
def test_trend_and_season_score_as_in_statsmodels(holes):
    peer = pytest.importorskip("statsmodels.api").tsa.UnobservedComponents
    rng = np.random.default_rng(0)
    t = np.arange(90)
    y = 0.05 * t + np.sin(2 * np.pi * t / 12) + 0.3 * rng.normal(size=90)
    y = (y - y.mean()) / y.std()
    if holes:
        y[[20, 41, 42, 43, 77]] = np.nan
        y = (y - np.nanmean(y)) / np.nanstd(y)
    theirs = peer(y, "lltrend", seasonal=12)  # approximately diffuse: variance 1e6, 13 observations burned
    expected = theirs.loglike([0.07, 0.02, 0.003, 0.004])  # irregular, level, trend, seasonal
    fit = at_variances(
        Table.from_sequences([y], kind="real"), [0.02, 0.003, 0.004, *[0.0] * 10], [0.07],
        structure="local_trend+seasonal:12",
    )  # fmt: skip
    assert float(fit.log_prob(Table.from_sequences([y], kind="real")).value[0]) == pytest.approx(expected, abs=2e-5)
    smoothed = theirs.smooth([0.07, 0.02, 0.003, 0.004]).smoothed_state.T
    np.testing.assert_allclose(fit.embed(Table.from_sequences([y], kind="real")), smoothed, atol=1e-4)


def test_burned_rows_have_no_units():
    """Log densities change by the Jacobian of the counted cells only, in every column of every sequence."""
    rng = np.random.default_rng(6)
    sequences = [rng.normal(size=(n, 2)).cumsum(0) for n in (9, 14)]
    sequences[0][:3, 1], sequences[1][5] = np.nan, np.nan
    table, scaled = (Table.from_sequences([c * s for s in sequences], kind="real") for c in (1.0, 10.0))
    fits = [at_variances(t, [0.1, 0.01] * 2, [0.2, 0.3], structure="local_trend") for t in (table, scaled)]
    gap = fits[0].log_prob(table).value - fits[1].log_prob(scaled).value
    cells = [2 * (9 - 5), 2 * (14 - 2) - 2]  # the second column's second known cell is in row 4; row 5 is unknown
    np.testing.assert_allclose(gap, np.array(cells) * np.log(10), atol=1e-8)


# ------------------------------------------------------------------------------------------------- what users ask
@pytest.mark.stats
def test_forecast_intervals_cover():
    rng = np.random.default_rng(7)
    _, sequences = oscillation(rng, 200, 26, holes=0.1)
    ahead = 6
    table = Table.from_sequences(sequences, kind="real")
    fit = quiet(table, latent=2, max_steps=30)
    cut = Table.from_sequences([s[:-ahead] for s in sequences], schema=table.schema)
    draws = fit.forecast(cut, ahead, draws=199).draws
    low, high = np.quantile(draws, [0.05, 0.95], axis=0, method="weibull")  # 10th and 190th of 199: covers 90 %
    future = np.stack([s[-ahead:] for s in sequences]).reshape(-1)
    seen = ~np.isnan(future)
    assert 0.88 < ((future > low) & (future < high))[seen].mean() < 0.92


@pytest.mark.parametrize("holes", [False, True])
def test_prefix_sums_give_what_steps_give(holes, monkeypatch):
    """Both ways through the rows, for sequences of unequal lengths: values, gradients, moments, draws' law."""
    rng = np.random.default_rng(13)
    sequences = [rng.normal(size=(n, D)) for n in (40, 1, 2, 33, 17)]
    if holes:
        for sequence in sequences:
            sequence[rng.random(sequence.shape) < 0.3] = np.nan
    table = Table.from_sequences(sequences, kind="real")
    program = find("linear_state_space")(table.schema, latent=L, prior=None).double()
    batch, theta = Batches(table, Standardiser.of(table)).batch(table), Truth.random(rng, False).theta()
    found = []
    for scanned in (False, True):
        monkeypatch.setattr(kalman, "worth_scanning", lambda *_, scanned=scanned: scanned)
        evidence = log_evidence(program, batch, theta=theta)
        states = evidence.paths[0].states
        assert states.scanned == scanned
        gradients = expected_statistics(program, evidence.trace.families, theta, batch)[1]
        torch.manual_seed(0)
        draws = torch.stack([states.draw() for _ in range(400)])
        gap = (draws.mean(0) - states.means()) / states.covariances().diagonal(0, -2, -1).sqrt()
        assert gap.abs().max() < 4.5 / 20
        flat = [value for group in gradients.values() for value in group.values()]
        found.append([evidence.rows, states.means(), states.filtered_means(), states.covariances(), *flat])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_sequences_of_one_row_and_a_long_one():
    rng = np.random.default_rng(8)
    rows = quiet(Table.from_sequences(list(rng.normal(size=(40, 1, 3))), kind="real"), latent=2, max_steps=20)
    assert np.isfinite(rows.log_prob(Table.from_sequences(list(rng.normal(size=(5, 1, 3))), kind="real")).value).all()
    walk = rng.normal(size=(10_000, 2)).cumsum(0)
    walk[rng.random(walk.shape) < 0.05] = np.nan
    long = Table.from_sequences([walk], kind="real")
    fit = quiet(long, latent=2, max_steps=1)
    assert np.isfinite(fit.history["objective"]).all()
    assert np.isfinite(fit.log_prob(long).value).all()
    assert not np.isnan(fit.fill(long, 1)[0].values).any()


def test_new_sequences_and_embeddings():
    _, sequences = oscillation(np.random.default_rng(9), 8, 30)
    table = Table.from_sequences(sequences, kind="real")
    fit = quiet(table, latent=2, max_steps=15)
    new = fit.sample(400, steps=25)
    assert (len(new), new.n_rows, new.lengths.tolist()) == (400, 10_000, [25] * 400)
    np.testing.assert_array_equal(new.values, fit.sample(400, steps=25).values)
    early = new.values.reshape(400, 25, D)[:, 0]
    first = fit.log_prob(new.hide("x0", "x1", "x2")).value
    np.testing.assert_allclose(first, 0.0, atol=1e-12)
    assert np.isfinite(early).all()
    both = fit.embed(table), fit.filter(table)
    assert both[0].shape == both[1].shape == (240, 2)
    last = table.lengths.cumsum() - 1
    np.testing.assert_allclose(both[0][last], both[1][last], atol=1e-10)
    assert np.abs(both[0] - both[1]).max() > 0.01
    centre = fit.decode(both[0]).values
    error = np.nanstd(centre - table.values) / np.nanstd(table.values)
    assert error < 0.6
    with pytest.raises(pg.CapabilityError, match="steps"):
        fit.sample(3, steps=0)


def test_samples_follow_the_model():
    truth, program, _ = case(False, False)
    schema = program.schema
    table = Table.from_sequences([np.random.default_rng(1).normal(size=(30, D))], kind="real", names=schema.names)
    fit = quiet(table, latent=L, max_steps=1)
    flat = dataclasses.replace(
        fit,
        posterior=Posterior.at(truth.theta()),
        standardiser=dataclasses.replace(fit.standardiser, shift=np.zeros(D), scale=np.ones(D)),
    )
    drawn = flat.sample(20_000, steps=3).values.reshape(20_000, -1)
    mean, cells = truth.joint(3)[2:4]
    sd = np.sqrt(np.diag(cells))
    assert np.abs((drawn.mean(0) - mean) / sd).max() < 4.5 / np.sqrt(20_000)
    assert np.abs((np.cov(drawn.T) - cells) / np.outer(sd, sd)).max() < 4.5 * np.sqrt(2 / 20_000)


def test_positive_columns_follow_their_logarithms():
    """A log-normal random walk scores as the walk of its logarithms, with the Jacobian."""
    rng = np.random.default_rng(10)
    walk = rng.normal(size=(40, 1)).cumsum(0) * 0.1
    plain, positive = Table.from_sequences([walk], kind="real"), Table.from_sequences([np.exp(walk)], kind="positive")
    variances = {"structure": "local_level"}
    one = at_variances(plain, [0.02 / walk.var()], [0.01 / walk.var()], **variances)
    other = at_variances(positive, [0.02], [0.01], **variances)
    gap = one.log_prob(plain).value[0] - other.log_prob(positive).value[0]
    assert gap == pytest.approx(walk[1:].sum(), abs=1e-4)  # the first row is not counted


def test_a_structure_is_saved_and_loaded(tmp_path):
    y = np.random.default_rng(11).normal(size=50).cumsum()
    table = Table.from_sequences([y], kind="real")
    fit = quiet(table, structure="local_trend", max_steps=5)
    fit.save(tmp_path / "trend.probgen")
    again = pg.load(tmp_path / "trend.probgen")
    np.testing.assert_array_equal(again.log_prob(table).value, fit.log_prob(table).value)
    assert again.program.burn == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structure": "cubic"}, "structure is made of"),
        ({"structure": "seasonal:1"}, "structure is made of"),
        ({"structure": "local_level", "covariance": "full"}, "stand alone"),
        ({"covariance": "spherical"}, "covariance must be"),
        ({"latent": 0}, "latent must be"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        pg.fit("linear_state_space", Table.from_sequences([np.arange(5.0)], kind="real"), **options)


def test_other_kinds_are_refused_by_name():
    schema = Schema((Column("height", "real"), Column("visits", "count")))
    table = Table.from_codes(np.random.default_rng(0).integers(5, size=(10, 2)).astype(float), schema)
    with pytest.raises(pg.CapabilityError, match="'visits', which is count"):
        pg.fit("linear_state_space", table)
