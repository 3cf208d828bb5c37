"""Factorial chains: the structured approximation beside the sum over all joint states."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.data.batches import Batches, Standardiser
from probgen.inference import added_chains
from probgen.inference.chain import smoothed
from probgen.inference.evidence import log_evidence
from probgen.inference.tracing import Given, observe
from probgen.models import factorial_hidden_markov as module
from probgen.program import find

pytestmark = pytest.mark.usefixtures("double")
D = 3


def case(monkeypatch, shape=(3, 3), strength=1.0, seed=0, lengths=(12, 1, 20), holes=0.2):
    """One model as the exact and as the approximate program, with their parameters, and a batch drawn from it."""
    rng, (K, M) = np.random.default_rng(seed), (shape[0], len(shape))
    chains = {}
    for m in range(M):
        moves = rng.dirichlet(np.ones(K), size=K) * 0.4 + 0.6 * np.eye(K)
        chains[f"chain{m}"] = {"initial": np.log(rng.dirichlet(np.ones(K)))[None], "transition": np.log(moves)}
    weights = strength * rng.normal(size=(D, M * (K - 1)))
    mean, root = rng.normal(size=D), rng.normal(size=(D, D))
    precision = np.linalg.inv(root @ root.T + 0.5 * np.eye(D))
    sequences = []
    for length in lengths:
        path = rng.integers(K, size=(length, M))
        hot = np.concatenate([np.eye(K)[path[:, m]][:, 1:] for m in range(M)], 1)
        x = mean + hot @ weights.T + rng.multivariate_normal(np.zeros(D), np.linalg.inv(precision), length)
        sequences.append(np.where(rng.random(x.shape) < holes, np.nan, x))
    table = Table.from_sequences(sequences, kind="real")
    options = {"states": K, "chains": M, "prior": None}
    exact = find("factorial_hidden_markov")(table.schema, **options).double()
    with monkeypatch.context() as patch:
        patch.setattr(module, "MOST", 1)
        rough = find("factorial_hidden_markov")(table.schema, **options).double()
    (block,) = exact.emission.parts()
    theta = {name: {k: torch.as_tensor(v) for k, v in part.items()} for name, part in chains.items()}
    joint = block.family.made(torch.as_tensor(np.c_[mean, weights])[None], torch.as_tensor(precision)[None])
    flat = {"weight": torch.as_tensor(np.c_[weights, mean])[None], "precision": torch.as_tensor(precision)[None]}
    batch = Batches(table, Standardiser.of(table)).batch(table)
    batch.x.copy_(torch.tensor(table.values))  # the truth is in the data's own units
    return exact, theta | {"emission.gaussian": joint}, rough, theta | {"emission.gaussian": flat}, batch


@pytest.mark.parametrize(("shape", "seed", "holes"), [((3, 3), 0, 0.2), ((2, 2, 2), 1, 0.0), ((2, 2, 2, 2), 2, 0.3)])
def test_the_bound_is_below_the_sum_and_its_turns_never_fall(shape, seed, holes, monkeypatch):
    exact, all_, rough, flat, batch = case(monkeypatch, shape, seed=seed, holes=holes)
    expected = log_evidence(exact, batch, theta=all_).rows
    found = log_evidence(rough, batch, theta=flat)
    assert (found.rows <= expected + 1e-9).all()
    history = torch.stack(found.in_time.states.history)
    assert (history[1:] - history[:-1]).min() > -1e-10
    np.testing.assert_allclose(found.rows, history[-1], atol=1e-8)


@pytest.mark.parametrize(("strength", "gap"), [(0.0, 1e-9), (0.05, 1e-4), (0.3, 0.1)])
def test_the_gap_is_small_where_chains_are_weakly_coupled(strength, gap, monkeypatch):
    exact, all_, rough, flat, batch = case(monkeypatch, (2, 2, 2), strength)
    expected = log_evidence(exact, batch, theta=all_).rows
    found = log_evidence(rough, batch, theta=flat).rows
    assert (expected - found).max() < gap


def test_a_joint_value_has_the_same_mean_either_way(monkeypatch):
    exact, all_, rough, flat, batch = case(monkeypatch, (3, 3, 3), lengths=(27,))
    codes = torch.cartesian_prod(*[torch.arange(3)] * 3).unbind(1)
    means = []
    for program, theta in ((exact, all_), (rough, flat)):
        sites = {f"z{m}": code for m, code in enumerate(codes)}
        tracer = observe(program, batch, Given(theta, sites=sites), sum_out=False)
        means.append(tracer.sites["x"].distribution.mean)
    np.testing.assert_allclose(means[1], means[0], atol=1e-12)


def test_chains_in_columns_of_their_own_are_not_coupled(monkeypatch):
    exact, all_, rough, flat, batch = case(monkeypatch, (2, 2, 2), holes=0.3)
    weights, precision = torch.diag(torch.tensor([2.0, -1.5, 1.0])), torch.diag(torch.tensor([1.0, 2.0, 0.5]))
    mean = torch.tensor([0.3, -0.2, 0.1])
    (block,) = exact.emission.parts()
    all_["emission.gaussian"] = block.family.made(torch.cat([mean[:, None], weights], 1)[None], precision[None])
    flat["emission.gaussian"] = {"weight": torch.cat([weights, mean[:, None]], 1)[None], "precision": precision[None]}
    expected, found = log_evidence(exact, batch, theta=all_), log_evidence(rough, batch, theta=flat)
    np.testing.assert_allclose(found.rows, expected.rows, atol=1e-9)


def test_importance_weights_come_up_to_the_sum(monkeypatch):
    exact, all_, rough, flat, batch = case(monkeypatch, (2, 2, 2), 1.0, lengths=(8, 1, 5))
    expected = log_evidence(exact, batch, theta=all_).rows
    torch.manual_seed(0)
    ratio = (log_evidence(rough, batch, theta=flat).log_weights(4000) - expected).exp().numpy()
    error = ratio.std(0) / np.sqrt(4000)
    assert (np.abs(ratio.mean(0) - 1) <= 4 * error + 1e-9).all()
    assert error.max() < 0.1


def test_draws_have_the_probabilities_of_the_sum(monkeypatch):
    exact, all_, rough, flat, batch = case(monkeypatch, (2, 2), 1.0, lengths=(6,))
    chain = log_evidence(exact, batch, theta=all_).chain
    joint = smoothed(chain.initial, chain.transition, chain.scores, chain.steps)[1].reshape(2, 2, -1)
    bucket = log_evidence(rough, batch, theta=flat).in_time
    torch.manual_seed(0)
    drawn = [bucket.draw() for _ in range(800)]
    one, two = (np.stack([draw[name].numpy() for draw in drawn]) for name in ("z0", "z1"))
    for a in range(2):
        for b in range(2):
            np.testing.assert_allclose(((one == a) & (two == b)).mean(0), joint[a, b], atol=0.08)


def test_the_gradient_is_that_of_differences(monkeypatch):
    monkeypatch.setattr(added_chains, "TOLERANCE", 1e-13)
    monkeypatch.setattr(added_chains, "TURNS", 2000)
    _, _, rough, flat, batch = case(monkeypatch, (2, 2, 2), 0.7)
    families = {f"chain{m}": chain for m, chain in enumerate(rough.chains)}
    families |= {f"emission.{block.name}": block.family for block in rough.emission.parts()}
    leaves = {n: {k: v.requires_grad_() for k, v in f.natural(flat[n]).items()} for n, f in families.items()}
    everything = [leaf for group in leaves.values() for leaf in group.values()]
    gradients = torch.autograd.grad(log_evidence(rough, batch, natural=leaves).rows.sum(), everything)
    generator = torch.Generator().manual_seed(0)
    for leaf, gradient in zip(everything, gradients, strict=True):
        direction = torch.randn(leaf.shape, generator=generator)
        square = leaf.dim() > 2 and leaf.shape[-1] == leaf.shape[-2]
        direction = 0.5 * (direction + direction.mT) if square else direction
        values, base = [], leaf.detach().clone()
        for size in (-1e-5, 1e-5):
            leaf.data = base + size * direction
            with torch.no_grad():
                values.append(float(log_evidence(rough, batch, natural=leaves).rows.sum()))
        leaf.data = base
        assert (values[1] - values[0]) / 2e-5 == pytest.approx(float((gradient * direction).sum()), rel=1e-4, abs=1e-4)


# ------------------------------------------------------------------------------------------------------- learning
def planted(chains, sequences=6, steps=80, columns=6, seed=0):
    """Binary chains that seldom switch, whose contributions add up in noisy columns."""
    rng = np.random.default_rng(seed)
    weights, made, paths = 2 * rng.normal(size=(chains, columns)), [], []
    for _ in range(sequences):
        path = (rng.integers(2, size=chains) + np.cumsum(rng.random((steps, chains)) < 0.05, 0)) % 2
        x = path @ weights + 0.5 * rng.normal(size=(steps, columns))
        made.append(np.where(rng.random(x.shape) < 0.05, np.nan, x))
        paths.append(path)
    return Table.from_sequences(made, kind="real"), np.concatenate(paths)


def quick(table, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit("factorial_hidden_markov", table, restarts=1, progress=False, **options)


@pytest.mark.parametrize("prior", ["default", None])
def test_em_never_falls_with_more_than_a_thousand_joint_states(prior):
    table, _ = planted(11, 4, 40)
    fit = quick(table, states=2, chains=11, max_steps=20, prior=prior)
    assert fit.traits.density == "lower_bound"
    assert fit.diagnostics["largest_fall"] > -1e-9
    assert fit.history["objective"][-1] > fit.history["objective"][0]


def test_the_bounds_parameters_are_nearly_as_likely_as_those_of_exact_em(monkeypatch):
    table, _ = planted(3)
    exact = quick(table, states=2, chains=3, max_steps=60, prior=None)
    monkeypatch.setattr(module, "MOST", 1)
    rough = quick(table, states=2, chains=3, max_steps=60, prior=None)
    assert rough.diagnostics["monotone"]
    value = rough.log_prob(table)
    assert value.kind == "importance"
    per_row = (np.sum(value.value) - np.sum(exact.log_prob(table).value)) / len(table.values)
    assert per_row > -0.2


def test_verbs_beyond_the_sum(tmp_path):
    table, _ = planted(11, 2, 20)
    fit = quick(table, states=2, chains=11, max_steps=5)
    assert fit.embed(table).shape == (40, 22)
    assert fit.viterbi(table).shape == (40, 11)
    assert len(fit.decode(fit.embed(table))) == 40
    for filled in fit.fill(table, 2):
        assert not np.isnan(filled.values).any()
    assert len(fit.forecast(table, 2, draws=10)) == 2 * 2 * 6
    assert len(fit.sample(2, steps=5)) == 2
    assert find("factorial_hidden_markov").traits.density == "exact"
    fit.save(tmp_path / "fit.probgen")
    again = pg.load(tmp_path / "fit.probgen")
    np.testing.assert_array_equal(again.log_prob(table).value, fit.log_prob(table).value)
    for refused in (fit.criteria, fit.filter):
        with pytest.raises(pg.CapabilityError, match=r"exact density|too many joint states"):
            refused(table)


def test_discrete_columns_are_refused_beyond_the_sum():
    schema = Schema((Column("height", "real"), Column("smoker", "binary", levels=("no", "yes"))))
    with pytest.raises(pg.CapabilityError, match="smoker"):
        find("factorial_hidden_markov")(schema, states=2, chains=11)
