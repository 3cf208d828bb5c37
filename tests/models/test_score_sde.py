"""Score-based models: the probability flow with an exact score has the exact density, and a fit nears it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema
from probgen.families.denoising import Asked, SharedNoise
from probgen.families.denoising_samplers import Guess, sampler_named
from probgen.families.noise_schedule import amplitudes
from probgen.families.noised_cells import NoisedCells
from probgen.families.score_process import LEAST, ScoreProcess

REAL = Schema((Column("a", "real"), Column("b", "real")))
MEANS = torch.tensor([[0.8, 0.6], [-0.8, -0.6]], dtype=torch.float64)
SPREAD = 0.5


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


class Mixture(torch.nn.Module):
    """What a network would say that knows a mixture of two normals."""

    def forward(self, read, number):
        w, log_sigma = read[..., :2], 2 * number
        sigma = log_sigma.exp()[..., None]
        norm = (1 + sigma.square()).sqrt()
        z, variance = w * norm, SPREAD**2 + sigma.square()
        logits = -0.5 * ((z[..., None, :] - MEANS).square() / variance[..., None, :]).sum(-1)
        each = (SPREAD**2 * z[..., None, :] + sigma[..., None, :].square() * MEANS) / variance[..., None, :]
        mean = (logits.softmax(-1)[..., None] * each).sum(-2)
        return (mean - z / norm.square()) * norm / sigma


def exact(x):
    parts = torch.distributions.Normal(MEANS, math.sqrt(SPREAD**2 + LEAST**2))
    return parts.log_prob(x[:, None]).sum(-1).logsumexp(-1) - math.log(2)


@pytest.mark.parametrize("sde", ["vp", "subvp", "ve"])
def test_the_flow_of_an_exact_score_has_the_exact_density(sde):
    of = ScoreProcess(NoisedCells(REAL), Mixture(), sde, draw_steps=40).double()
    x = MEANS[torch.arange(50) % 2] + SPREAD * torch.randn(50, 2)
    with torch.no_grad():
        value, error = of.scored(x, Asked.density(torch.ones(50, 2).bool()), 1, SharedNoise())
    np.testing.assert_allclose(value, exact(x), atol=1e-3)
    assert float(error.max()) < 1e-3


@pytest.mark.parametrize(("sde", "sampler"), [("vp", "heun"), ("subvp", "heun"), ("ve", "heun"), ("vp", "dpm")])
def test_draws_of_an_exact_score_are_of_the_mixture(sde, sampler):
    of = ScoreProcess(NoisedCells(REAL), Mixture(), sde, sampler=sampler).double()
    with torch.no_grad():
        drawn = of.filled(torch.full((3000, 2), math.nan), [SharedNoise()])[0]
    assert float(drawn[:, 0].std()) == pytest.approx(math.sqrt(0.64 + 0.25), abs=0.04)
    assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(0.48 / math.sqrt(0.89 * 0.61), abs=0.05)


BETA = (0.1, 20.0)  # at times 0 and 1, between which it rises evenly


def transition(sde, t):
    """Signal, noise, drift and squared diffusion of an equation at a time, as Song et al. (2021, appendix B) state them."""
    beta, total = BETA[0] + (BETA[1] - BETA[0]) * t, BETA[0] * t + (BETA[1] - BETA[0]) * t**2 / 2
    left = -math.expm1(-total)
    if sde == "vp":
        return math.exp(-total / 2), math.sqrt(left), -beta / 2, beta
    return math.exp(-total / 2), left, -beta / 2, beta * -math.expm1(-2 * total)


@pytest.mark.parametrize("sde", ["vp", "subvp"])
@pytest.mark.parametrize("t", [0.05, 0.3, 0.7])
def test_the_flow_is_that_of_the_published_equation_in_another_clock(sde, t):
    r"""At a time, dw/dt = f w - g^2 score(w) / 2, times dt / d log(noise / signal) by differences."""
    alpha, noise, drift, diffusion = transition(sde, t)
    log_sigma = [math.log(part[1] / part[0]) for part in (transition(sde, t - 1e-5), transition(sde, t + 1e-5))]
    of = ScoreProcess(NoisedCells(REAL), Mixture(), sde).double()
    w = torch.randn(1, 20, 2, requires_grad=True)
    parts = torch.distributions.Normal(alpha * MEANS, math.sqrt((alpha * SPREAD) ** 2 + noise**2))
    density = parts.log_prob(w[..., None, :]).sum(-1).logsumexp(-1)
    (score,) = torch.autograd.grad(density.sum(), w)
    wanted = (drift * w - diffusion * score / 2) * 2e-5 / (log_sigma[1] - log_sigma[0])
    asked = Asked.density(torch.ones(20, 2).bool())
    found = of.velocity(torch.zeros(20, 2), asked)(w, torch.tensor(math.log(noise / alpha)))
    np.testing.assert_allclose(found.detach(), wanted.detach(), atol=1e-6)


def test_random_signs_are_right_on_average(monkeypatch):
    monkeypatch.setattr("probgen.families.score_process.EXACT", 1)
    of = ScoreProcess(NoisedCells(REAL), Mixture(), "ve", draw_steps=20).double()
    x = torch.randn(60, 2) * 0.9
    with torch.no_grad():
        value, error = of.scored(x, Asked.density(torch.ones(60, 2).bool()), 1, SharedNoise())
    gap = float((value - exact(x)).mean())
    assert abs(gap) < 4 * float(error.square().sum().sqrt()) / 60 + 1e-3
    assert float(error.mean()) > 1e-3


def test_a_fit_nears_the_density_and_fills_holes():
    torch.set_default_dtype(torch.float32)
    rng = np.random.default_rng(0)
    covariance = [[1.0, 0.8], [0.8, 1.0]]
    x = np.column_stack([*rng.multivariate_normal([0.0, 0.0], covariance, 1500).T])
    positive = np.column_stack([x[:, 0], np.exp(x[:, 1])])
    schema = Schema((Column("a", "real"), Column("b", "positive")))
    fit = pg.fit(
        "score_sde", pg.Table.from_codes(positive, schema), hidden=(64, 64), max_steps=600, learning_rate=3e-3, progress=False
    )  # fmt: skip
    rows = positive[:100]
    truth = torch.distributions.MultivariateNormal(torch.zeros(2).double(), torch.tensor(covariance).double())
    expected = float((truth.log_prob(torch.tensor(x[:100])) - torch.tensor(x[:100, 1])).mean())
    found = fit.log_prob(rows)
    assert found.kind == "ode"
    assert found.mean().value == pytest.approx(expected, abs=0.12)
    holed = pg.Table.from_codes(np.array([[1.5, np.nan]]), schema)
    drawn = np.log([t.values[0, 1] for t in fit.fill(holed, 400)])
    assert drawn.mean() == pytest.approx(1.2, abs=0.3)
    assert drawn.std() == pytest.approx(0.6, abs=0.15)


def test_other_columns_and_equations_are_refused():
    torch.set_default_dtype(torch.float32)
    x = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(pg.CapabilityError, match="sde must be one of 'vp', 'subvp', 've', got 'sub'"):
        pg.fit("score_sde", x, sde="sub", progress=False)
    labelled = pg.Table.from_codes(np.column_stack([x[:, 0], x[:, 1] > 0]).astype(float), Schema((REAL["a"], Column("y", "binary", levels=(0, 1)))))  # fmt: skip
    with pytest.raises(pg.CapabilityError, match="cannot take column 'y', which is binary"):
        pg.fit("score_sde", labelled, progress=False)
    with pytest.raises(pg.CapabilityError, match="sampler must be 'heun' or 'dpm', got 'ddim'"):
        pg.fit("score_sde", x, sampler="ddim", progress=False)


def moved(sampler, steps):
    """A number whose signal is normal with a standard deviation of 1/2, brought back with the best guess."""

    def predict(z, gamma):
        alpha, sigma = amplitudes(gamma)
        signal = 0.25 * alpha / (0.25 * alpha**2 + sigma**2) * z
        return Guess(signal, (z - alpha * signal) / sigma)

    gammas = torch.linspace(8.0, -8.0, steps + 1)
    return float(sampler_named(sampler)(predict, torch.ones(1), gammas, iter(())))


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("heun", 2), ("dpm", 2)])
def test_rules_have_their_order(sampler, order):
    """The exact way of a normal number keeps it in units of its standard deviation."""
    spread = [float((0.25 * a**2 + s**2).sqrt()) for a, s in map(amplitudes, torch.tensor([8.0, -8.0]))]
    far, near = (abs(moved(sampler, steps) - spread[1] / spread[0]) for steps in (80, 160))
    assert far / near == pytest.approx(2.0**order, rel=0.15)
