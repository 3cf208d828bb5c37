"""Samplers and approximations of users' programs, against exact posteriors and exact evidences."""

import shutil

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.special import betaln, gammaln

import probgen as pg
from probgen.inference.compiled import Compiled
from probgen.inference.metric import Metric
from probgen.inference.potential import Potential
from tests.inference.fit_in_processes import schools, schools_data

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.7 * RNG.normal(size=60)
REGRESSION = {"x": torch.tensor(X), "y": torch.tensor(Y)}
COVARIANCE = np.linalg.inv(X.T @ X / 0.49 + np.eye(3) / 4)
MEAN = COVARIANCE @ X.T @ Y / 0.49
COIN = torch.tensor(RNG.random(40) < 0.3).double()
COUNTS = torch.tensor(RNG.poisson(3.0, 30)).double()


def regression(data):
    b = pyro.sample("b", dist.Normal(torch.zeros(3), 2.0).to_event(1))
    with pyro.plate("rows", len(data["y"])):
        pyro.sample("y", dist.Normal(data["x"] @ b, 0.7), obs=data["y"])


def coin(tosses):
    p = pyro.sample("p", dist.Beta(2.0, 3.0))
    with pyro.plate("tosses", len(tosses)):
        pyro.sample("x", dist.Bernoulli(p), obs=tosses)


def counts(x):
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Poisson(rate), obs=x)


def evidences():
    marginal = X @ X.T * 4 + 0.49 * np.eye(60)
    value = -0.5 * (np.linalg.slogdet(2 * np.pi * marginal)[1] + Y @ np.linalg.solve(marginal, Y))
    yield regression, REGRESSION, value
    heads = float(COIN.sum())
    yield coin, COIN, betaln(2 + heads, 3 + 40 - heads) - betaln(2, 3)
    total = float(COUNTS.sum())
    constant = gammaln(COUNTS.numpy() + 1).sum()
    yield counts, COUNTS, gammaln(2 + total) - (2 + total) * np.log(31) - gammaln(2) - constant


EVIDENCES = {model.__name__: (model, data, value) for model, data, value in evidences()}
SHORT = {"chees": {"chains": 16, "warmup": 120, "draws": 150}, "nuts": {"chains": 4, "warmup": 150, "draws": 300}}


@pytest.mark.parametrize("name", EVIDENCES)
def test_evidence_by_tempering_is_exact_within_its_error(name):
    model, data, exact = EVIDENCES[name]
    found = pg.fit(pg.program(model), data, method="smc", seed=1, progress=False).diagnostics
    assert abs(found["log_evidence"] - exact) < 4 * found["log_evidence_error"]
    assert 0.0 < found["log_evidence_error"] < 0.2
    assert found["temperature"] == 1.0


def test_tempering_keeps_two_modes_in_proportion():
    def two(_):
        x = pyro.sample("x", dist.Normal(0.0, 10.0))
        parts = dist.MixtureSameFamily(
            dist.Categorical(torch.tensor([0.25, 0.75])), dist.Normal(torch.tensor([-8.0, 8.0]), 0.5)
        )
        pyro.factor("likelihood", parts.log_prob(x))

    fit = pg.fit(pg.program(two), torch.zeros(1), method="smc", particles=2048, seed=0, progress=False)
    share = float((fit.posterior.sites["x"] < 0).double().mean())
    assert abs(share - 0.25) < 0.06
    prior = np.exp(-0.5 * np.array([8.0, 8.0]) ** 2 / (100 + 0.25)) / np.sqrt(2 * np.pi * 100.25)
    found = fit.diagnostics
    assert abs(found["log_evidence"] - np.log(prior @ [0.25, 0.75])) < 4 * found["log_evidence_error"]


@pytest.mark.parametrize("method", SHORT)
def test_chains_have_the_exact_posterior(method):
    fit = pg.fit(pg.program(regression), REGRESSION, method=method, seed=0, progress=False, **SHORT[method])
    draws = fit.posterior.sites["b"].reshape(-1, 3).numpy()
    sd = np.sqrt(np.diag(COVARIANCE))
    assert fit.diagnostics["divergences"] == 0
    assert fit.diagnostics["rhat"] < 1.02
    error = sd / np.sqrt(fit.diagnostics["ess"])
    assert (np.abs(draws.mean(0) - MEAN) < 4 * error).all()
    assert np.allclose(draws.std(0) / sd, 1.0, atol=4 / np.sqrt(2 * fit.diagnostics["ess"]))
    assert {"lp", "energy", "acceptance_rate", "diverging", "n_steps", "step_size"} <= set(fit.posterior.statistics)


def test_laplace_is_exact_for_a_normal_posterior():
    fit = pg.fit(pg.program(regression), REGRESSION, method="laplace", progress=False)
    assert fit.diagnostics["log_evidence"] == pytest.approx(EVIDENCES["regression"][2], abs=1e-6)
    assert fit.diagnostics["khat"] < 0.5


def test_pathfinder_finds_a_normal_posterior():
    fit = pg.fit(pg.program(regression), REGRESSION, method="pathfinder", progress=False)
    draws = fit.posterior.sites["b"].reshape(-1, 3).numpy()
    assert np.allclose(draws.mean(0), MEAN, atol=5 * np.sqrt(np.diag(COVARIANCE)).max() / 30)
    assert fit.diagnostics["khat"] < 0.7


def funnel(_):
    scale = pyro.sample("scale", dist.Normal(0.0, 3.0))
    with pyro.plate("rows", 8):
        pyro.sample("x", dist.Normal(0.0, (0.5 * scale).exp()))


def test_an_approximation_that_does_not_fit_says_so():
    with pytest.warns(pg.ConvergenceWarning, match="Pareto k"):
        fit = pg.fit(pg.program(schools), schools_data(), method="laplace", progress=False)
    assert fit.diagnostics["khat"] > 0.7


@pytest.mark.parametrize(("method", "limit"), [("chees", {"max_leapfrogs": 64}), ("nuts", {"max_depth": 5})])
def test_divergences_are_told(method, limit):
    short = {"target_acceptance": 0.6, "warmup": 60, "draws": 60}
    fit = pg.fit(pg.program(funnel), torch.zeros(1), method=method, progress=False, seed=3, **short, **limit)
    assert fit.diagnostics["divergences"] > 0
    assert "diverg" in str(fit.diagnose())


@pytest.mark.parametrize("method", ["chees", "nuts", "laplace", "pathfinder", "smc"])
def test_the_same_seed_gives_the_same_bits(method):
    fits = [
        pg.fit(pg.program(coin), COIN, method=method, seed=5, progress=False, **SHORT.get(method, {}))
        for _ in range(2)
    ]
    assert torch.equal(fits[0].posterior.sites["p"], fits[1].posterior.sites["p"])


@pytest.mark.parametrize(("model", "data", "_"), EVIDENCES.values(), ids=list(EVIDENCES))
def test_graphs_give_what_the_program_gives(model, data, _):
    torch.set_default_dtype(torch.float64)
    potential = Potential(pg.program(model), data)
    points = torch.stack([potential.dispersed() for _ in range(5)])
    plain = Compiled(potential.log_posterior, points, data, mode="eager")(points)
    graph = Compiled(potential.log_posterior, points, data)
    assert graph.mode == "graph"
    for one, two in zip(plain, graph(points), strict=True):
        assert torch.allclose(one, two, rtol=1e-12, atol=1e-12)
    other = torch.utils._pytree.tree_map(lambda leaf: leaf.flip(0), data)
    again = graph.with_data(other)
    wanted = Compiled(potential.log_posterior, points, other, mode="eager")(points)
    assert torch.allclose(again(points)[0], wanted[0])
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
def test_a_compiler_gives_what_the_graph_gives():
    """Of many programs in one process, at points laid out in any way."""
    points = torch.randn(4, 3, dtype=torch.float64)
    for power in range(1, 12):

        def function(u, data, power=power):
            return -(((u - data).square() + 1) ** (power / 2)).sum()

        lowered = Compiled(function, points, torch.ones((), dtype=torch.float64), mode="inductor")
        graph = Compiled(function, points, torch.ones((), dtype=torch.float64))
        assert lowered.mode == "inductor"
        for wanted, found in zip(graph(points), lowered(points.mT.contiguous().mT), strict=True):
            torch.testing.assert_close(found, wanted)


def test_points_may_have_data_of_their_own():
    torch.set_default_dtype(torch.float64)
    data = torch.stack([COIN, COIN.flip(0), 1 - COIN, torch.ones_like(COIN)])
    potential = Potential(pg.program(coin), COIN)
    points = torch.randn(4, 1)
    found = Compiled(potential.log_posterior, points, data, own_data=True)(points)
    for at in range(4):
        value, gradient = Compiled(potential.log_posterior, points[:1], data[at], mode="eager")(points[at : at + 1])
        assert torch.allclose(found[0][at], value[0])
        assert torch.allclose(found[1][at], gradient[0])
    torch.set_default_dtype(torch.float32)


def test_the_metric_of_a_normal_is_its_covariance():
    root = RNG.normal(size=(5, 5))
    covariance = torch.tensor(root @ root.T + 0.1 * np.eye(5))
    draws = torch.tensor(RNG.multivariate_normal(np.zeros(5), covariance.numpy(), 1000))
    metric = Metric.learnt(draws, -torch.linalg.solve(covariance, draws.mT).mT)
    assert torch.allclose(metric.factor @ metric.factor.mT, covariance, rtol=0.05, atol=0.15)
    assert torch.allclose(metric.inverse @ metric.factor, torch.eye(5, dtype=torch.float64), atol=1e-8)


def test_a_density_that_does_not_trace_is_walked_all_the_same():
    def stubborn(data):
        p = pyro.sample("p", dist.Beta(2.0, 3.0))
        if float(p.detach()) >= 0.0:  # control flow on a value
            pyro.sample("x", dist.Bernoulli(p).expand([40]).to_event(1), obs=data)

    fit = pg.fit(pg.program(stubborn), COIN, method="nuts", progress=False, chains=2, warmup=40, draws=40)
    assert fit.diagnostics["compiled"] == "eager"
    assert abs(float(fit.posterior.sites["p"].mean()) - float((2 + COIN.sum()) / 45)) < 0.08


def test_momenta_beyond_the_range_of_numbers_diverge():
    def steep(data):
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.factor("wall", -1e155 * x**4)
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=data)

    short = {"chains": 2, "warmup": 30, "draws": 20, "start": "prior"}
    fit = pg.fit(pg.program(steep), torch.zeros(()), method="nuts", progress=False, **short)
    assert fit.diagnostics["divergences"] > 0


def test_data_outside_the_support_are_told():
    with pytest.raises((pg.FitError, ValueError)):
        pg.fit(pg.program(counts), -COUNTS, method="chees", progress=False)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"method": "chees", "chains": 1}, "chains"),
        ({"method": "chees", "warmup": 3}, "warmup"),
        ({"method": "nuts", "draws": 0}, "draws"),
        ({"method": "smc", "particles": 100, "islands": 16}, "islands"),
        ({"method": "smc", "effective": 1.5}, "effective"),
        ({"method": "nuts", "compile": "jit"}, "compile"),
    ],
)
def test_wrong_options_are_refused_by_name(options, word):
    with pytest.raises(pg.CapabilityError, match=word):
        pg.fit(pg.program(coin), COIN, progress=False, **options)


def test_tempering_needs_a_prior_to_draw_from():
    def flat(data):
        b = pyro.sample("b", dist.ImproperUniform(dist.constraints.real, (), ()))
        pyro.sample("y", dist.Normal(b, 1.0).expand([60]).to_event(1), obs=data["y"])

    with pytest.raises(pg.CapabilityError, match="improper"):
        pg.fit(pg.program(flat), REGRESSION, method="smc", progress=False)
