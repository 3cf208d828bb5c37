"""One program under several methods."""

from __future__ import annotations

import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.datasets import load_iris

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.inference.diagnostics import effective_sample_size

REAL2 = Schema((Column("a", "real"), Column("b", "real")))
PAIR = Table(load_iris().data[:, [0, 2]], schema=REAL2)


def overall(fit):
    """Label-free summaries of each draw: mean of the mixture, sum of squared weights."""
    theta = fit.posterior.parameters
    weights = theta["weights"]["logits"].exp().double().numpy().reshape(*fit.posterior.shape, -1)
    loc = theta["component.gaussian"]["loc"].double().numpy()
    mean = np.einsum("cdk,cdkj->cdj", weights, loc)
    return np.concatenate([mean, (weights**2).sum(-1, keepdims=True)], -1)


def test_em_is_the_gradient_mode():
    em = pg.fit("gaussian_mixture", PAIR, components=2, tolerance=1e-12, max_steps=2000, restarts=1, progress=False)
    mode = pg.fit("gaussian_mixture", PAIR, components=2, method="map", progress=False)
    for name, theta in em.parameters().items():
        for key, value in theta.items():
            np.testing.assert_allclose(mode.parameters()[name][key], value, atol=1e-4)


@pytest.mark.slow
def test_variational_means_are_near_the_mode():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        em = pg.fit("gaussian_mixture", PAIR, components=2, restarts=1, progress=False)
        svi = pg.fit("gaussian_mixture", PAIR, components=2, method="svi", max_steps=1500, progress=False)
    assert not svi.posterior.point
    found = overall(svi)
    assert np.abs(found.mean((0, 1)) - overall(em)[0, 0])[:2].max() < 0.15


@pytest.mark.slow
def test_nuts_agrees_with_a_long_reference_run():
    """Reference: data augmentation with the families' own posteriors, 20 000 sweeps."""
    nuts = pg.fit(
        "gaussian_mixture", PAIR, components=2, method="nuts", chains=2, warmup=300, draws=300, progress=False
    )
    reference = gibbs(nuts, 20_000)
    ours = overall(nuts)
    ess = effective_sample_size(ours)
    error = np.sqrt(ours.var((0, 1)) / ess + reference.var(0) / (len(reference) / 20))
    assert nuts.diagnostics["rhat"] < 1.1
    assert (np.abs(ours.mean((0, 1)) - reference.mean(0)) < 4 * error).all()


def gibbs(fit, sweeps):
    """z given theta by the posterior of the mixture, theta given z by the conjugate families."""
    program, x = fit.program, torch.as_tensor(fit.standardiser.forward(PAIR.values))
    weights, block = program.weights, program.component.parts()[0]
    family, theta, kept = block.family, fit.posterior.theta(), []
    torch.manual_seed(1)
    for _ in range(sweeps):
        score = family.score(family.natural(theta["component.gaussian"]), x) + theta["weights"]["logits"].mT
        z = torch.distributions.Categorical(logits=score.mT).sample()
        member = torch.nn.functional.one_hot(z, 2).to(x)
        T = family.statistics(x)
        sums = member.mT @ T
        statistics = {"log_normaliser": member.sum(0), "linear": sums[:, :2], "square": sums[:, 2:]}
        theta = {
            "weights": weights.posterior_draw({"logits": member.sum(0)[None]}),
            "component.gaussian": family.posterior_draw(statistics),
        }
        share = theta["weights"]["logits"].exp()[0].numpy()
        kept.append([*(share @ theta["component.gaussian"]["loc"].numpy()), (share**2).sum()])
    return np.array(kept[500:])


def test_a_users_program_under_nuts_has_the_conjugate_posterior():
    data = torch.tensor([1.0] * 7 + [0.0] * 3, dtype=torch.float64)

    def coin(tosses):
        p = pyro.sample("p", dist.Beta(torch.tensor(2.0), torch.tensor(2.0)))
        with pyro.plate("tosses", len(tosses)):
            pyro.sample("x", dist.Bernoulli(p), obs=tosses)

    fit = pg.fit(pg.program(coin), data, method="nuts", chains=2, warmup=200, draws=500, progress=False)
    draws = fit.posterior.sites["p"].numpy()[..., None]
    exact = torch.distributions.Beta(9.0, 5.0)
    error = np.sqrt(float(exact.variance) / effective_sample_size(draws)[0])
    assert abs(draws.mean() - float(exact.mean)) < 4 * error
    assert draws.std() == pytest.approx(float(exact.stddev), rel=0.15)
    assert fit.to_arviz().posterior["p"].shape == (2, 500)


def test_weights_are_repetitions():
    rows = np.r_[np.arange(150), np.arange(50)]
    repeated = pg.fit("gaussian_mixture", PAIR.take(rows), components=1, restarts=1, progress=False)
    weighted = PAIR.with_weights(np.where(np.arange(150) < 50, 2.0, 1.0))
    fit = pg.fit("gaussian_mixture", weighted, components=1, restarts=1, progress=False)
    np.testing.assert_allclose(fit.log_prob(PAIR).value, repeated.log_prob(PAIR).value, atol=1e-8)


def test_a_discrete_latent_of_infinitely_many_values_is_refused():
    def two_coins(tosses):
        which = pyro.sample("which", dist.Poisson(torch.tensor(0.5)))
        with pyro.plate("tosses", len(tosses)):
            pyro.sample("x", dist.Bernoulli(0.2 + 0.6 * which.clamp(max=1.0)), obs=tosses)

    with pytest.raises(pg.CapabilityError, match="'which'"):
        pg.fit(pg.program(two_coins), torch.ones(5), method="nuts", progress=False)
