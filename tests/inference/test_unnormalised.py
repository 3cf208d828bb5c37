"""Objectives without a normaliser: where they are least is known of normal densities. Interruption, and refusals."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.inference.energy_chains import AnnealedDraws
from probgen.inference.fit import find_method
from probgen.inference.objectives.unnormalised import (
    LIKELIHOOD,
    OBJECTIVES,
    denoising,
    exact_score,
    noise_contrastive,
    sliced,
)
from tests.resuming import stopped_and_resumed

QUICK = {"hidden": (8,), "reference": 2, "max_steps": 30, "progress": False}
ALL = slice(0, 3)


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


class Normal:
    """log f(x) = -1/2 (x - m)' P (x - m) - c, at the maximum likelihood estimate of some rows, or at another covariance."""

    def __init__(self, rows, more=0.0):
        centred = rows - rows.mean(0)
        covariance = centred.T @ centred / len(rows) + more * torch.eye(rows.shape[1])
        self.mean = rows.mean(0).clone().requires_grad_()
        self.precision = covariance.inverse().requires_grad_()

    def __call__(self, x, noise=None):
        away = x - self.mean
        return -0.5 * torch.einsum("...i,ij,...j->...", away, self.precision, away)

    def gradients(self, loss):
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [self.mean, self.precision])])


def rows_of(count=500):
    return torch.randn(count, 3) @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.2, -0.4], [0.0, 0.0, 0.7]]) + 1.0


# ------------------------------------------------------------------------------------------------------- scores
def test_score_matching_of_a_normal_is_least_at_its_maximum_likelihood_estimate():
    rows = rows_of()
    best, other = Normal(rows), Normal(rows, more=0.1)
    at_best, at_other = (model.gradients(exact_score(model, rows, ALL).mean()) for model in (best, other))
    assert at_best.abs().max() < 1e-10
    assert at_other.abs().max() > 0.05
    value = -best.precision.trace() + 0.5 * ((rows - best.mean) @ best.precision).square().sum(1).mean()
    assert float(exact_score(best, rows, ALL).detach().mean()) == pytest.approx(float(value.detach()), abs=1e-10)


def test_the_trace_is_that_of_a_curved_density():
    f = lambda x, noise=None: -(x**4).sum(-1) - (x[..., 0] * x[..., 1]) ** 2  # noqa: E731
    x = rows_of(5)
    score = torch.stack([torch.autograd.functional.jacobian(f, row) for row in x])
    trace = torch.stack([torch.autograd.functional.hessian(f, row).trace() for row in x])
    torch.testing.assert_close(exact_score(f, x, ALL), trace + 0.5 * score.square().sum(1))


def test_slices_are_the_trace_on_average():
    rows = rows_of(4)
    model = Normal(rows_of())
    each = torch.stack([sliced(model, rows, ALL, 50).detach() for _ in range(200)])
    error = each.std(0) / math.sqrt(len(each))
    assert (error > 0).all()
    assert ((each.mean(0) - exact_score(model, rows, ALL)).abs() < 4.5 * error).all()


def test_denoising_learns_the_density_of_noisy_rows():
    """Vincent (2011): least where score matching of the noisy rows is, a normal with the noise's variance added."""
    rows, sigma = rows_of(300), 0.6
    right, wrong = Normal(rows, more=sigma**2), Normal(rows)
    scale = torch.full((300,), sigma)

    def worst(model):
        each = torch.stack([model.gradients(denoising(model, rows, ALL, scale).mean()) for _ in range(600)])
        each = each[:, 3:]  # by the precision; of the mean noise of both signs has no gradient
        return float((each.mean(0).abs() / (each.std(0) / math.sqrt(len(each)))).max())

    assert worst(right) < 4.5
    assert worst(wrong) > 20


def test_many_widths_are_denoising_at_each():
    """The identity holds a row with the row's own width."""
    rows, model = rows_of(6), Normal(rows_of())
    scale = torch.linspace(0.1, 1.0, 6)
    torch.manual_seed(1)
    together = denoising(model, rows, ALL, scale)
    torch.manual_seed(1)
    eps = torch.randn(6, 3)
    score = lambda x: -(x - model.mean) @ model.precision  # noqa: E731
    each = [
        0.5 * (scale[:, None] * score(rows + sign * scale[:, None] * eps) + sign * eps).square().sum(1)
        for sign in (1, -1)
    ]
    torch.testing.assert_close(together, (each[0] + each[1]) / 2)


# -------------------------------------------------------------------------------------------- contrast with noise
def estimated(nu, count=4000):
    """Log Z and precision of a standard normal, from noise twice as wide."""
    x, noise = torch.randn(count), 2 * torch.randn(nu, count)
    c, precision = torch.zeros((), requires_grad=True), torch.full((), 0.5, requires_grad=True)
    optimiser = torch.optim.LBFGS([c, precision], max_iter=60, line_search_fn="strong_wolfe")
    log_noise = lambda y: -y.square() / 8 - math.log(2) - 0.5 * math.log(2 * math.pi)  # noqa: E731

    def closure():
        optimiser.zero_grad()
        ratio = [-0.5 * precision * y.square() - c - log_noise(y) for y in (x, noise)]
        loss = noise_contrastive(ratio[0], ratio[1], nu).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    return float(c.detach()), float(precision.detach())


@pytest.mark.parametrize("nu", [1, 4])
def test_contrast_with_noise_finds_the_normaliser(nu):
    found = np.array([estimated(nu) for _ in range(30)])
    error = found.std(0, ddof=1) / math.sqrt(30)
    assert error.max() < 0.02
    assert abs(found[:, 0].mean() - 0.5 * math.log(2 * math.pi)) < 4 * error[0] + 1e-3  # and the bias of 4000 rows
    assert abs(found[:, 1].mean() - 1.0) < 4 * error[1] + 2e-3


# ------------------------------------------------------------------------------------------------------ the model
def plane(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    return pg.Table(rng.multivariate_normal([1.0, -2.0], [[1.0, 0.8], [0.8, 1.0]], rows))


@pytest.mark.parametrize("objective", [*OBJECTIVES, *LIKELIHOOD])
def test_every_objective_trains_and_is_reproducible(objective):
    more = {"chain_steps": 2, "temperatures": 4}
    one, other = (pg.fit("energy", plane(), objective=objective, **QUICK, **more) for _ in range(2))
    assert one.history["objective"] == other.history["objective"]
    for (name, a), b in zip(one.program.energy.named_parameters(), other.program.energy.parameters(), strict=True):
        assert torch.equal(a, b), name
    found = one.log_prob(plane(20, seed=1))
    assert found.kind == "annealed"
    assert np.isfinite(found.value).all()
    assert 0 < found.shared_error < 0.1


@pytest.mark.filterwarnings("ignore:Interrupted")
@pytest.mark.parametrize("objective", ["noise_contrastive", "contrastive_divergence", "annealed_likelihood"])
def test_a_fit_that_was_interrupted_goes_on_as_if_nothing_had_been(objective, tmp_path):
    options = {**QUICK, "objective": objective, "chain_steps": 2, "temperatures": 4, "validate_every": 5}
    fit = partial(pg.fit, "energy", plane(), **options)
    whole, resumed = fit(), stopped_and_resumed(fit, tmp_path / "state", 17)
    assert whole.history["objective"] == resumed.history["objective"]
    np.testing.assert_array_equal(whole.log_prob(plane(5)).value, resumed.log_prob(plane(5)).value)


def test_annealed_weights_are_even_at_the_mixture_itself():
    """Of an energy that its base term already is, weights of the path are all the same."""
    fit = pg.fit("energy", plane(), **QUICK)
    energy = fit.program.energy.double()
    with torch.no_grad():
        energy.network[-1].weight.zero_()
        energy.network[-1].bias.zero_()
        drawn, share = AnnealedDraws(energy, 64, 5, 1).draw(torch.zeros(1, 2))
    assert drawn.shape == (64, 2)
    torch.testing.assert_close(share, torch.full((64,), 1 / 64))


def test_likelihood_by_draws_finds_a_shift():
    """The gradient of the data's and the draws' energies is nought where their features agree."""
    table = plane(2000)
    options = {**QUICK, "max_steps": 250, "learning_rate": 1e-2, "chain_steps": 5, "base": "independent"}
    fit = pg.fit("energy", table, objective="contrastive_divergence", **options)
    drawn = fit.sample(2000).values
    assert np.abs(drawn.mean(0) - table.values.mean(0)).max() < 0.15
    assert np.corrcoef(drawn.T)[0, 1] > 0.5  # of columns that the base term has apart


# ------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "elbo"}, "objective must be one of 'noise_contrastive'"),
        ({"objective": "contrastive_divergence", "chains": "tempered"}, "chains must be one of 'persistent', 'data'"),
        ({"noise_scale": 0.0}, "noise_scale is a standard deviation above 0"),
        ({"noise_rows": 0}, "noise_rows"),
        ({"base": "flat"}, "base must be one of"),
        ({"target": "x0"}, "target has to be a discrete column"),
        ({"hidden": 8}, "hidden must be the widths"),
        ({"reference": 0}, "reference must be"),
        ({"method": "svi"}, "up to a factor"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        pg.fit("energy", plane(), **{**QUICK, **options})


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "noise_contrastive"])
def test_scores_of_levels_are_refused_by_the_columns_name(objective):
    table = pg.Table({"a": [0.1, 0.7, 0.4, 1.9], "colour": ["red", "blue", "red", "blue"]})
    with pytest.raises(pg.CapabilityError, match="column 'colour' has levels"):
        pg.fit("energy", table, objective=objective, **QUICK)


def test_counts_are_refused_by_their_kind():
    with pytest.raises(pg.CapabilityError, match="cannot take column 'visits'"):
        pg.fit("energy", pg.Table({"visits": [1, 5, 9, 30, 2, 14], "a": [0.1, 0.4, 0.2, 0.9, 0.3, 0.5]}), **QUICK)


def test_the_method_is_found_by_name():
    assert find_method("unnormalised").normalises is False
