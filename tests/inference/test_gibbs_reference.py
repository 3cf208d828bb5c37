"""Gibbs sampling gives what Hamiltonian chains and a long run of them give, within four Monte Carlo standard errors."""

import numpy as np
import pytest

import probgen as pg
from probgen.inference.diagnostics import effective_sample_size

ANCHORS = {"gaussian_mixture": ("component.gaussian", "loc"), "latent_class": ("columns.binary", "logits")}


def mixture():
    rng = np.random.default_rng(0)
    return pg.Table({"x": rng.choice([-3.0, 3.0], 60, p=[0.4, 0.6]) + rng.normal(size=60)})


def classes():
    rng = np.random.default_rng(1)
    hidden = rng.random(80) < 0.4
    answers = rng.random((80, 5)) < np.where(hidden, 0.9, 0.1)[:, None]
    return pg.Table({f"q{k}": np.where(answers[:, k], "yes", "no") for k in range(5)})


def moments(fit, anchor):
    """Mean and its standard error of every parameter and its square, components in the order of an anchor's draws."""
    family, key = anchor
    place = fit.posterior.parameters[family][key].flatten(3)[..., 0].double().mean((0, 1)).argsort().numpy()
    flat = [
        in_order(value.double().numpy(), place)
        for theta in fit.posterior.parameters.values()
        for value in theta.values()
    ]
    draws = np.concatenate(flat, -1)
    draws = np.concatenate([draws, draws**2], -1)
    return draws.mean((0, 1)), draws.std((0, 1)), effective_sample_size(draws)


def in_order(value, place):
    """Components, which are on the first axis of two, in this order."""
    axis = 2 + list(value.shape[2:]).index(2)
    return np.take(value, place, axis).reshape(*value.shape[:2], -1)


@pytest.mark.slow
@pytest.mark.stats
@pytest.mark.parametrize(("model", "table"), [("gaussian_mixture", mixture()), ("latent_class", classes())])
def test_gibbs_gives_what_hamiltonian_chains_give(model, table):
    """Components are far apart and all chains start near one mode, so that labels stay."""
    common = {"components": 2, "seed": 0, "progress": False}
    gibbs = pg.fit(model, table, method="gibbs", chains=2, draws=400, warmup=50, **common)
    chees = pg.fit(model, table, method="chees", chains=16, draws=100, warmup=100, **common)
    (one, sd, size), (two, other_sd, other_size) = (moments(fit, ANCHORS[model]) for fit in (gibbs, chees))
    z = (one - two) / np.sqrt(sd**2 / size + other_sd**2 / other_size)
    assert size.min() > 100
    assert np.abs(z).max() < 4
