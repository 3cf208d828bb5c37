"""The switching state-space model beside sums over all paths of regimes, each with a Kalman filter of its own."""

from __future__ import annotations

import dataclasses
import itertools
import warnings

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Table
from probgen.data.batches import Batches, Standardiser
from probgen.families import SwitchingPath
from probgen.families.base import Table as Drawn
from probgen.inference import switching
from probgen.inference.completion import fill_batch
from probgen.inference.evidence import log_evidence
from probgen.inference.merging_filter import merged
from probgen.program import find

pytestmark = pytest.mark.usefixtures("double")
L, D = 2, 3


@pytest.fixture
def never_exact(monkeypatch):
    monkeypatch.setattr(switching, "PATHS", 1)
    monkeypatch.setattr(switching, "TOLERANCE", 1e-12)
    monkeypatch.setattr(switching, "TURNS", 1000)


@dataclasses.dataclass
class Truth:
    """A switching state-space model in plain arrays; A, b and Q have one entry a regime."""

    first: np.ndarray
    moves: np.ndarray
    m0: np.ndarray
    P0: np.ndarray
    A: np.ndarray
    b: np.ndarray
    Q: np.ndarray
    C: np.ndarray
    d: np.ndarray
    R: np.ndarray

    @classmethod
    def random(cls, rng, K, coupled):
        def spd(size):
            root = rng.normal(size=(size, size))
            return root @ root.T + 0.3 * np.eye(size)

        R = spd(D) if coupled else np.diag(rng.random(D) + 0.2)
        return cls(
            rng.dirichlet(np.ones(K)), rng.dirichlet(np.ones(K), size=K), rng.normal(size=L), spd(L),
            0.6 * rng.normal(size=(K, L, L)), rng.normal(size=(K, L)), np.stack([spd(L) for _ in range(K)]),
            rng.normal(size=(D, L)), rng.normal(size=D), R,
        )  # fmt: skip

    def theta(self):
        """The same as the library's parameters."""
        coupled = np.count_nonzero(self.R - np.diag(np.diag(self.R))) > 0
        noise = {"precision": np.linalg.inv(self.R)} if coupled else {"variance": np.diag(self.R).copy()}
        found = {
            "chain": {"initial": np.log(self.first)[None], "transition": np.log(self.moves)},
            "initial": {"weight": self.m0[None, :, None], "precision": np.linalg.inv(self.P0)[None]},
            "transition": {
                "weight": np.concatenate([self.A, self.b[..., None]], 2),
                "precision": np.linalg.inv(self.Q),
            },
            "emission.gaussian": {
                key: value[None] for key, value in {"weight": np.c_[self.C, self.d], **noise}.items()
            },
        }
        return {name: {k: torch.as_tensor(v) for k, v in part.items()} for name, part in found.items()}

    def log_path(self, path):
        return np.log(self.first[path[0]]) + sum(np.log(self.moves[a, b]) for a, b in itertools.pairwise(path))

    def filtered(self, path, x):
        """Log density of the known cells given the regimes, and the last state's mean and covariance."""
        m, P, total = self.m0, self.P0, 0.0
        for t, row in enumerate(x):
            if t:
                A, k = self.A[path[t]], path[t]
                m, P = A @ m + self.b[k], A @ P @ A.T + self.Q[k]
            seen = ~np.isnan(row)
            if seen.any():
                C, gap = self.C[seen], row[seen] - self.C[seen] @ m - self.d[seen]
                S = C @ P @ C.T + self.R[np.ix_(seen, seen)]
                gain = np.linalg.solve(S, C @ P).T
                total -= 0.5 * (gap @ np.linalg.solve(S, gap) + np.linalg.slogdet(2 * np.pi * S)[1])
                m, P = m + gain @ gap, P - gain @ C @ P
        return total, m, P

    def posterior(self, x):
        """Log density of the rows, all paths, their probabilities, and the last state's moments given each."""
        paths = list(itertools.product(range(len(self.first)), repeat=len(x)))
        found = [self.filtered(path, x) for path in paths]
        joint = np.array([self.log_path(path) + value for path, (value, _, _) in zip(paths, found, strict=True)])
        total = np.logaddexp.reduce(joint)
        return total, np.array(paths), np.exp(joint - total), found


def case(K=2, lengths=(8, 1, 5, 7, 5), coupled=False, holes=True, seed=0, model="switching_state_space"):
    """A truth, a model, a batch of sequences in model coordinates."""
    rng = np.random.default_rng(seed)
    truth, sequences = Truth.random(rng, K, coupled), [2 * rng.normal(size=(n, D)) for n in lengths]
    if holes:
        for sequence in sequences:
            sequence[rng.random(sequence.shape) < 0.3] = np.nan
        sequences[0][3], sequences[0][-1] = np.nan, np.nan
    table = Table.from_sequences(sequences, kind="real")
    options = {"latent": L, "covariance": "full" if coupled else "diagonal", "prior": None}
    options |= {"states": K} if model == "switching_state_space" else {}
    program = find(model)(table.schema, **options).double()
    return truth, program, Batches(table, Standardiser.of(table)).batch(table)


def sequences_of(batch):
    edges = [*batch.steps.starts.tolist(), len(batch)]
    return [batch.x[a:b].numpy() for a, b in itertools.pairwise(edges)]


CASES = [(2, coupled, holes) for coupled in (False, True) for holes in (False, True)] + [(3, False, True)]


# ---------------------------------------------------------------------------------------------------- brute force
@pytest.mark.parametrize(("K", "coupled", "holes"), CASES)
def test_short_sequences_are_summed_over_all_paths(K, coupled, holes):
    truth, program, batch = case(K, (8, 1, 5, 7, 5) if K == 2 else (5, 1, 4), coupled, holes)
    evidence = log_evidence(program, batch, theta=truth.theta())
    expected = [truth.posterior(x)[0] for x in sequences_of(batch)]
    np.testing.assert_allclose(evidence.rows, expected, atol=1e-9)
    assert evidence.log_weights(3) is None


def test_regimes_and_states_given_all_rows_are_those_of_all_paths():
    truth, program, batch = case()
    found = log_evidence(program, batch, theta=truth.theta()).paths[0].means()
    start = batch.steps.starts.tolist()
    for at, x in zip(start, sequences_of(batch), strict=True):
        _, paths, weights, states = truth.posterior(x)
        expected = np.stack([(weights[:, None] * (paths == k)).sum(0) for k in range(2)], 1)
        np.testing.assert_allclose(found["s"][at : at + len(x)], expected, atol=1e-9)
        last = sum(w * m for w, (_, m, _) in zip(weights, states, strict=True))
        np.testing.assert_allclose(found["z"][at + len(x) - 1], last, atol=1e-9)


def test_the_merging_filter_is_exact_in_the_first_two_rows_and_near_later():
    truth, program, batch = case(lengths=(7, 6))
    found = log_evidence(program, batch, theta=truth.theta()).paths[0].filtered()
    for at, x in zip(batch.steps.starts.tolist(), sequences_of(batch), strict=True):
        for t in range(len(x)):
            _, paths, weights, states = truth.posterior(x[: t + 1])
            expected = [weights[paths[:, -1] == k].sum() for k in range(2)]
            expected += list(sum(w * m for w, (_, m, _) in zip(weights, states, strict=True)))
            np.testing.assert_allclose(found[at + t], expected, atol=1e-9 if t < 2 else 0.2)


def test_merged_gaussians_keep_mean_and_covariance():
    rng = np.random.default_rng(0)
    weight, m = rng.random((4, 3, 2)), rng.normal(size=(4, 3, 2, L))
    roots = rng.normal(size=(4, 3, 2, L, L))
    P = roots @ roots.swapaxes(-1, -2)
    mean, spread = (v.numpy() for v in merged(*map(torch.as_tensor, (np.log(weight), m, P))))
    share = weight / weight.sum(1, keepdims=True)
    second = np.einsum("nik,nikab->nkab", share, P + m[..., None] * m[..., None, :])
    np.testing.assert_allclose(mean, np.einsum("nik,nikl->nkl", share, m))
    np.testing.assert_allclose(spread, second - mean[..., None] * mean[..., None, :])


def leaves_of(program, theta):
    families = {"chain": program.chain, "initial": program.initial, "transition": program.transition}
    families |= {f"emission.{block.name}": block.family for block in program.emission.parts()}
    return {n: {k: v.requires_grad_() for k, v in f.natural(theta[n]).items()} for n, f in families.items()}


@pytest.mark.parametrize("exact", [True, False])
def test_the_gradient_is_that_of_differences(exact, request):
    if not exact:
        request.getfixturevalue("never_exact")
    truth, program, batch = case(lengths=(6, 4, 1))
    leaves = leaves_of(program, truth.theta())
    flat = [leaf for group in leaves.values() for leaf in group.values()]
    gradients = torch.autograd.grad(log_evidence(program, batch, natural=leaves).rows.sum(), flat)
    generator = torch.Generator().manual_seed(0)
    for leaf, gradient in zip(flat, gradients, strict=True):
        direction = torch.randn(leaf.shape, generator=generator)
        direction = (
            0.5 * (direction + direction.mT) if leaf.dim() > 2 and leaf.shape[-1] == leaf.shape[-2] else direction
        )
        values, base = [], leaf.detach().clone()
        for size in (-1e-5, 1e-5):
            leaf.data = base + size * direction
            with torch.no_grad():
                values.append(float(log_evidence(program, batch, natural=leaves).rows.sum()))
        leaf.data = base
        assert (values[1] - values[0]) / 2e-5 == pytest.approx(float((gradient * direction).sum()), rel=1e-4, abs=1e-5)


# ----------------------------------------------------------------------------------------------------- the bound
@pytest.mark.parametrize(("K", "seed"), [(2, 0), (2, 1), (3, 2)])
def test_the_bound_is_below_and_its_turns_never_fall(K, seed, never_exact):
    truth, program, batch = case(K, (6, 1, 5, 5), seed=seed)
    evidence = log_evidence(program, batch, theta=truth.theta())
    exact = np.array([truth.posterior(x)[0] for x in sequences_of(batch)])
    approximate = evidence.paths[0].states.approximate
    history = torch.stack(approximate.history)
    assert (history[1:] - history[:-1]).min() > -1e-10
    np.testing.assert_allclose(evidence.rows, history[-1], atol=1e-8)
    assert (evidence.rows.numpy() <= exact + 1e-9).all()
    assert evidence.rows.numpy()[1] == pytest.approx(exact[1], abs=1e-9)  # one row, where nothing switches


def test_importance_weights_come_up_to_the_sum(never_exact):
    truth, program, batch = case(2, (8, 6, 5, 7, 1))
    evidence = log_evidence(program, batch, theta=truth.theta())
    torch.manual_seed(0)
    weights = evidence.log_weights(4000)
    exact = np.array([truth.posterior(x)[0] for x in sequences_of(batch)])
    ratio = (weights.numpy() - exact).T
    mean, error = np.exp(ratio).mean(1), np.exp(ratio).std(1) / np.sqrt(4000)
    assert (np.abs(mean - 1) <= 4 * error + 1e-9).all()
    assert error.max() < 0.1


def single(model, lengths):
    truth, program, batch = case(1, lengths, model=model)
    theta = truth.theta()
    if model == "linear_state_space":
        del theta["chain"]
    return log_evidence(program, batch, theta=theta).rows


def test_one_regime_is_the_linear_model():
    found, expected = (single(model, (60, 5, 1)) for model in ("switching_state_space", "linear_state_space"))
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_equal_regimes_are_the_linear_model_through_the_bound():
    truth, program, batch = case(2, (60, 40, 1))
    for name in ("A", "b", "Q"):
        setattr(truth, name, np.stack([getattr(truth, name)[0]] * 2))
    found = log_evidence(program, batch, theta=truth.theta())
    assert found.paths[0].states.approximate is not None
    one, other, same = case(1, (60, 40, 1), model="linear_state_space")
    theta = {key: value for key, value in truth.theta().items() if key != "chain"}
    theta["transition"] = {key: value[:1] for key, value in theta["transition"].items()}
    expected = log_evidence(other, batch, theta=theta).rows
    np.testing.assert_allclose(found.rows, expected, atol=1e-8)
    assert len(one.first) == 1
    assert len(same) == len(batch)


# ---------------------------------------------------------------------------------------------------------- draws
@pytest.mark.parametrize("exact", [True, False])
def test_draws_of_the_last_state_have_the_moments_of_all_paths(exact, request):
    if not exact:
        request.getfixturevalue("never_exact")
    truth, program, batch = case(2, (6,))
    _, paths, weights, states = truth.posterior(sequences_of(batch)[0])
    mean = sum(w * m for w, (_, m, _) in zip(weights, states, strict=True))
    second = sum(w * (P + np.outer(m, m)) for w, (_, m, P) in zip(weights, states, strict=True))
    bucket = log_evidence(program, batch, theta=truth.theta()).paths[0]
    torch.manual_seed(0)
    drawn = [bucket.draw() for _ in range(1500)]
    z, s = (np.stack([draw[name].numpy() for draw in drawn]) for name in ("z", "s"))
    covariance = second - np.outer(mean, mean)
    np.testing.assert_allclose(z[:, -1].mean(0), mean, atol=4 * np.sqrt(covariance.diagonal().max() / 1500) + 0.03)
    np.testing.assert_allclose(np.cov(z[:, -1].T), covariance, atol=0.2 * covariance.diagonal().max())
    share = (weights[:, None] * paths).sum(0)
    np.testing.assert_allclose(s.mean(0), share, atol=0.06)


def test_new_states_move_by_the_regime_of_their_own_row():
    truth, program, batch = case(2, (40, 1, 9))
    truth.Q = truth.Q * 1e-12
    theta = truth.theta()
    tables = [Drawn(f, f.natural(theta[n]), theta[n]) for n, f in program.named_children() if n in theta]
    chain, initial, transition = tables
    torch.manual_seed(0)
    codes = chain(batch.steps).sample()
    z, s = (v.numpy() for v in (SwitchingPath(initial, transition, batch.steps, codes).sample(), codes))
    for at, length in zip(batch.steps.starts.tolist(), batch.steps.lengths.tolist(), strict=True):
        for t in range(at + 1, at + length):
            np.testing.assert_allclose(z[t], truth.A[s[t]] @ z[t - 1] + truth.b[s[t]], atol=1e-4)


def test_filled_cells_follow_their_states():
    truth, program, batch = case(2, (5, 4))
    streams = [lambda _, n=n: torch.random.fork_rng() for n in range(3)]
    with torch.no_grad():
        filled = list(fill_batch(program, batch, truth.theta(), streams))
    known = ~batch.x.isnan()
    for x in filled:
        assert not x.isnan().any()
        assert torch.equal(x[known], batch.x[known])


# ------------------------------------------------------------------------------------------------------- learning
def planted(sequences=4, steps=120, seed=0, holes=0.1):
    """A slow and a fast rotation that take turns, seen through three noisy columns."""
    rng = np.random.default_rng(seed)

    def turn(angle, size):
        return size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    A, C, made, regimes = [turn(0.15, 0.99), turn(1.2, 0.95)], rng.normal(size=(3, 2)), [], []
    for _ in range(sequences):
        s, z, rows = rng.integers(2), 2 * rng.normal(size=2), []
        for _ in range(steps):
            s = 1 - s if rng.random() > 0.97 else s
            z = A[s] @ z + 0.3 * rng.normal(size=2)
            rows.append(C @ z + 0.3 * rng.normal(size=3))
            regimes.append(s)
        made.append(np.where(rng.random((steps, 3)) < holes, np.nan, rows))
    return Table.from_sequences(made, kind="real"), np.array(regimes)


def quick(table, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit("switching_state_space", table, restarts=1, progress=False, **options)


@pytest.mark.parametrize(("prior", "covariance"), [("default", "diagonal"), (None, "full")])
def test_em_never_falls_with_short_and_long_sequences(prior, covariance):
    table, _ = planted(6, 30)
    pieces = [table.take([i]).values[:n] for i, n in enumerate((30, 8, 8, 1, 30, 3))]
    fit = quick(Table.from_sequences(pieces, kind="real"), prior=prior, covariance=covariance, max_steps=25)
    assert fit.diagnostics["monotone"]
    assert fit.diagnostics["largest_fall"] > -1e-9


def test_planted_regimes_and_motions_are_recovered():
    table, regimes = planted()
    fit = quick(table, max_steps=40)
    found = fit.embed(table)[:, :2].argmax(1)
    assert max((found == regimes).mean(), (found != regimes).mean()) > 0.9
    roots = sorted(np.abs(np.angle(np.linalg.eigvals(A))).max() for A in fit.parameters()["transition"]["matrix"])
    np.testing.assert_allclose(roots, [0.15, 1.2], atol=0.15)


def test_verbs_of_long_sequences(tmp_path):
    table, _ = planted(2, 40)
    fit = quick(table, max_steps=8)
    value = fit.log_prob(table)
    assert value.kind == "importance"
    assert (value.standard_error > 0).all()
    short = Table.from_sequences([table.values[:6], table.values[6:9]], kind="real", names=list(table.names))
    assert fit.log_prob(short).kind == "exact"
    both = Table.from_sequences([table.values[:40], table.values[:6]], kind="real", names=list(table.names))
    mixed = fit.log_prob(both)
    assert mixed.standard_error[1] == 0
    assert mixed.value[1] == pytest.approx(fit.log_prob(short).value[0])
    latent = fit.embed(table)
    assert latent.shape == (80, 4)
    np.testing.assert_allclose(latent[:, :2].sum(1), 1.0)
    assert len(fit.decode(latent)) == 80
    assert fit.filter(table).shape == (80, 4)
    ahead = fit.forecast(table, 3, draws=30)
    assert len(ahead) == 2 * 3 * 3
    assert len(fit.sample(3, steps=7)) == 3
    fit.save(tmp_path / "fit.probgen")
    np.testing.assert_array_equal(pg.load(tmp_path / "fit.probgen").log_prob(table).value, value.value)
    with pytest.raises(pg.CapabilityError, match="exact density"):
        fit.criteria(table)


@pytest.mark.slow
def test_forecast_intervals_cover():
    table, _ = planted(20, 60, seed=3, holes=0.0)
    past = Table.from_sequences([table.take([i]).values[:57] for i in range(20)], kind="real", names=list(table.names))
    fit = quick(past, max_steps=20)
    low, high = fit.forecast(past, 3, draws=100).quantiles([0.1, 0.9])
    truth = np.concatenate([table.take([i]).values[57:].ravel() for i in range(20)])
    assert 0.68 < ((truth >= low) & (truth <= high)).mean() < 0.92


@pytest.mark.slow
@pytest.mark.stats
def test_nine_tenths_of_what_comes_lie_in_forecast_intervals():
    table, _ = planted(100, 60, seed=3, holes=0.0)
    sequences = [table.take([i]).values for i in range(100)]
    past = Table.from_sequences([x[:57] for x in sequences], kind="real", names=list(table.names))
    draws = quick(past, max_steps=20).forecast(past, 3, draws=199).draws
    low, high = np.quantile(draws, [0.05, 0.95], axis=0, method="weibull")  # 10th and 190th of 199: covers 90 %
    truth = np.concatenate([x[57:].ravel() for x in sequences])
    assert 0.88 < ((truth > low) & (truth < high)).mean() < 0.92


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 0}, "at least 1"),
        ({"states": 0}, "at least 1"),
        ({"covariance": "tied"}, "'diagonal' or 'full'"),
        ({"topology": "ring"}, "topology must be"),
    ],
)
def test_bad_options_are_refused(options, message):
    table, _ = planted(2, 10)
    with pytest.raises(pg.CapabilityError, match=message):
        pg.fit("switching_state_space", table, **options)
