"""Variational inference on the samplers' density: exact posteriors, known gaps, and what it says of itself."""

import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import probgen as pg
from probgen.errors import CapabilityError, ConvergenceWarning
from probgen.inference.guides import Flow, FullRank, LowRank, MeanField, make_guide
from probgen.inference.hoisting import hoisted
from probgen.inference.iterates import Iterates
from probgen.inference.pareto import pareto_shape, smoothed_log_weights

N, D = 60, 4


def double(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def regression():
    """A conjugate regression with correlated columns, and its posterior."""
    x = double((N, D), 1)
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    y = x @ torch.tensor([1.0, -1.0, 0.5, 2.0], dtype=torch.float64) + double(N, 2)

    def model(data):
        weights = pyro.sample("weights", dist.Normal(torch.zeros(D), 2.0).to_event(1))
        with pyro.plate("rows", N):
            pyro.sample("y", dist.Normal(data["x"] @ weights, 1.0), obs=data["y"])

    covariance = torch.linalg.inv(x.mT @ x + torch.eye(D, dtype=x.dtype) / 4)
    marginal = torch.distributions.MultivariateNormal(torch.zeros(N).to(x), 4 * x @ x.mT + torch.eye(N).to(x))
    exact = {"mean": covariance @ x.mT @ y, "covariance": covariance, "evidence": float(marginal.log_prob(y))}
    return pg.program(model), {"x": x, "y": y}, exact


def fitted(program, data, **options):
    """What it says of itself is looked at elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return pg.fit(program, data, method="advi", progress=False, **options)


@pytest.mark.parametrize("options", [{"guide": "full_rank"}, {"guide": "low_rank", "rank": 3}])
def test_guides_with_covariances_find_the_exact_posterior(regression, options):
    program, data, exact = regression
    fit = fitted(program, data, **options, guide_draws=4000)
    draws = fit.posterior.sites["weights"][0]
    sd = exact["covariance"].diagonal().sqrt()
    assert fit.posterior.shape == (1, 4000)
    assert fit.posterior.statistics["log_weight"].shape == (1, 4000)
    assert ((draws.mean(0) - exact["mean"]) / sd).abs().max() < 4 / np.sqrt(4000) + 0.02
    assert (draws.std(0) / sd - 1).abs().max() < 4 / np.sqrt(8000) + 0.02
    assert fit.diagnostics["elbo"] == pytest.approx(exact["evidence"], abs=0.01)
    assert fit.diagnostics["khat"] < 0.5
    assert fit.diagnostics["converged"]


def test_mean_field_finds_the_conditional_spreads(regression):
    """The nearest independent normal has the precisions of the full conditionals (Bishop, 2006, section 10.1.2)."""
    program, data, exact = regression
    fit = fitted(program, data, guide_draws=4000)
    draws = fit.posterior.sites["weights"][0]
    sd = torch.linalg.inv(exact["covariance"]).diagonal().rsqrt()
    assert ((draws.mean(0) - exact["mean"]) / sd).abs().max() < 4 / np.sqrt(4000) + 0.03
    assert (draws.std(0) / sd - 1).abs().max() < 4 / np.sqrt(8000) + 0.03


def correlated(correlation):
    scale = torch.linalg.cholesky(torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64))

    def model(_):
        pyro.sample("z", dist.MultivariateNormal(torch.zeros(2).to(scale), scale_tril=scale))

    return pg.program(model)


def exact_khat(correlation, seed):
    """Of draws of the nearest independent normal, whose variances are 1 - r^2: log weights are r times a product."""
    a, b = np.random.default_rng(seed).normal(size=(2, 4000))
    return float(pareto_shape(correlation * a * b))


@pytest.mark.stats
@pytest.mark.parametrize("correlation", [0.4, 0.8])
def test_khat_of_a_correlated_normal(correlation):
    """The weights of the best mean-field guide have a tail of shape r, which k-hat sees with an error near 0.15."""
    fit = fitted(correlated(correlation), {}, guide_draws=4000)
    expected = [exact_khat(correlation, seed) for seed in range(20)]
    assert abs(fit.diagnostics["khat"] - np.mean(expected)) < 3 * np.std(expected)


def test_a_run_that_stops_early_says_so(regression):
    program, data, _ = regression
    with pytest.warns(ConvergenceWarning, match="still moved after 100 steps"):
        fit = pg.fit(program, data, method="advi", guide="full_rank", max_steps=1, progress=False)
    assert not fit.diagnostics["converged"]


def test_khat_of_pareto_weights():
    weights = np.random.default_rng(0).pareto(1 / 0.6, 20_000)
    smoothed, khat = smoothed_log_weights(np.log(weights))
    assert khat == pytest.approx(0.6, abs=0.1)
    assert np.exp(smoothed).sum() == pytest.approx(1.0)


def test_importance_weighting_tightens_the_bound():
    plain = fitted(correlated(0.9), {})
    weighted = fitted(correlated(0.9), {}, objective="iwae", draws=16)
    bound = np.mean(weighted.history["objective"][-3:])
    assert plain.history["objective"][-1] < bound - 0.2
    assert bound < 0.02  # the log evidence is 0
    wide = weighted.posterior.sites["z"].std((0, 1)) / plain.posterior.sites["z"].std((0, 1))
    assert wide.min() > 1.1


def test_the_graph_walks_as_the_program_does(regression):
    program, data, _ = regression
    found = [fitted(program, data, compile=mode, max_steps=2) for mode in ("graph", "eager")]
    assert [fit.diagnostics["compiled"] for fit in found] == ["graph", "eager"]
    one, two = (fit.posterior.sites["weights"] for fit in found)
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("guide", [MeanField(3), FullRank(3), LowRank(3, 2)], ids=lambda guide: guide.name)
def test_densities_of_guides(guide):
    """Against PyTorch's multivariate normal, with the derivative by automatic differentiation."""
    parameters = guide.start(double(3, 0), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))
    parameters = parameters + 0.3 * double(parameters.shape, 1)
    noise = double((5, guide.noise), 2)
    draws = guide.draw(parameters, noise)
    columns = guide.draw(parameters, torch.eye(guide.noise, dtype=torch.float64)) - parameters[0]
    normal = torch.distributions.MultivariateNormal(parameters[0], columns.mT @ columns)
    leaf = draws.detach().requires_grad_()
    slope = torch.autograd.grad(normal.log_prob(leaf).sum(), leaf)[0]
    value, found = guide.log_density(parameters, noise)
    torch.testing.assert_close(value, normal.log_prob(draws))
    torch.testing.assert_close(found, slope)
    assert guide.units(parameters).shape == parameters.shape
    torch.testing.assert_close(guide.units(parameters)[0], (columns.mT @ columns).diagonal().sqrt())


@pytest.mark.parametrize("size", [1, 2, 5])
def test_density_of_a_flow(size):
    """The change of variables, with Jacobians by automatic differentiation; and the way back's own derivative."""
    flow = Flow(size)
    start = flow.start(double(size, 0), 1 + double(size, 3).square())
    noise = double((4, size), 2)
    straight = FullRank(size)
    own = straight.log_density(start[: 1 + size], noise)
    for bent, plain in zip(flow.log_density(start, noise), own, strict=True):
        torch.testing.assert_close(bent, plain)  # it begins as a normal
    parameters = start + 0.3 * double(start.shape, 1)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda e: flow.draw(parameters, e[None])[0]))(noise)
    expected = dist.Normal(0.0, 1.0).log_prob(noise).sum(1) - torch.linalg.slogdet(jacobians)[1]
    value, slope = flow.log_density(parameters, noise)
    torch.testing.assert_close(value, expected)
    along = torch.func.vmap(torch.func.jacrev(lambda e: flow.log_density(parameters, e[None])[0][0]))(noise)
    torch.testing.assert_close((slope[:, None] @ jacobians)[:, 0], along)  # chain rule: by the noise


@pytest.mark.slow
@pytest.mark.parametrize("curved", ["banana", "funnel"])
def test_a_flow_follows_curved_posteriors(curved):
    """The log evidence is 0: normals miss half a nat and more, the flow a tenth at most."""

    def model(_):
        first = pyro.sample("first", dist.Normal(0.0, 1.5 if curved == "funnel" else 1.0))
        if curved == "funnel":
            with pyro.plate("four", 4):
                pyro.sample("rest", dist.Normal(0.0, (first / 2).exp()))
        else:
            pyro.sample("rest", dist.Normal(first.square(), 0.5))

    normal, flow = (fitted(pg.program(model), {}, guide=guide) for guide in ("full_rank", "flow"))
    assert normal.diagnostics["elbo"] < -0.4
    assert -0.1 < flow.diagnostics["elbo"] < 0.02
    middle = flow.posterior.sites["first"][0]
    assert abs(float(middle.mean())) < 0.2
    assert float(middle.std()) == pytest.approx(1.5 if curved == "funnel" else 1.0, rel=0.12)


def test_hoisting_changes_no_number():
    def function(x, a):
        y = (x.expand(3, 2).pow(2.0) / a + torch.ones_like(x) / a).unsqueeze(-1).sum(-1)
        return y.view(3, 2)[0:3].pow(1.0).sum(1), x

    x, a = double((3, 2), 0), double(2, 1)
    graph = make_fx(function)(x.clone(), a.clone())
    before = len(graph.graph.nodes)
    once, main = hoisted(graph, 1)
    assert len(main.graph.nodes) < before - 4
    torch.testing.assert_close(main(x, *once(a)), function(x, a))


def test_iterates_arrive():
    rng = torch.Generator().manual_seed(0)
    still = [torch.randn(3, generator=rng) for _ in range(400)]
    drifting = [value + 0.02 * number for number, value in enumerate(still)]
    assert Iterates(still).arrived(torch.ones(3), 1e-6)
    assert not Iterates(drifting).arrived(torch.ones(3), 0.03)
    assert Iterates(drifting).arrived(torch.full((3,), 1e3), 0.03)
    assert not Iterates(still[:20]).arrived(torch.ones(3), 0.03)


def test_a_run_goes_on_from_its_checkpoint(regression, tmp_path):
    program, data, _ = regression
    whole = fitted(program, data, max_steps=4)
    fitted(program, data, max_steps=2, checkpoint=tmp_path / "advi")
    resumed = fitted(program, data, max_steps=4, checkpoint=tmp_path / "advi")
    torch.testing.assert_close(resumed.posterior.sites["weights"], whole.posterior.sites["weights"])
    assert resumed.history["objective"] == whole.history["objective"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"guide": "planar"}, "guide must be one of mean_field"),
        ({"objective": "renyi"}, "objective must be one of elbo, iwae"),
        ({"draws": 0}, "draws must be a whole number"),
        ({"objective": "iwae", "draws": 1}, "at least 2"),
        ({"learning_rate": 0.0}, "learning_rate must lie above 0"),
        ({"guide_draws": 10}, "guide_draws must be a whole number"),
    ],
)
def test_what_cannot_be_is_refused(options, what):
    with pytest.raises(CapabilityError, match=what):
        fitted(correlated(0.4), {}, **options)


def test_full_covariances_of_many_numbers_are_refused():
    for guide in ("full_rank", "flow"):
        with pytest.raises(CapabilityError, match="low_rank"):
            make_guide(guide, 1000, 5)


def test_steps_out_of_the_support_cost_themselves_only():
    """A density that ends: draws beyond are skipped, and counted."""

    def model(data):
        z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        pyro.factor("end", torch.where(z > 1.5, -torch.inf, 0.0))

    fit = fitted(pg.program(model), {}, draws=4, max_steps=20)
    assert fit.diagnostics["skipped_steps"] > 0
    assert fit.posterior.sites["z"].isfinite().all()


@pytest.mark.slow
def test_a_mixture_is_flagged():
    """Weights, means and precisions of overlapping components depend on each other."""
    rng = np.random.default_rng(0)
    x = rng.choice([-2.0, 0.0, 2.5], 300) + rng.normal(size=300)
    with pytest.warns(ConvergenceWarning, match="k-hat of the mean_field guide"):
        fit = pg.fit("gaussian_mixture", pg.Table({"x": x}), components=3, method="advi", seed=0, progress=False)
    assert fit.diagnostics["khat"] > 0.7
    assert fit.log_prob(pg.Table({"x": x[:5]})).value.shape == (5,)


def test_weights_of_nearly_nought_give_no_warning():
    """All but one of a row are e^-705 of it: reciprocals of their differences overflow."""
    rng = np.random.default_rng(0)
    log_weights = np.where(rng.uniform(size=(200, 50)) < 0.5, -705.0, -705 + rng.uniform(size=(200, 50)))
    log_weights[:, 0] = 0
    smoothed, shape = smoothed_log_weights(log_weights)
    np.testing.assert_allclose(np.exp(smoothed[:, 0]), 1.0)
    assert (shape == np.inf).all()
