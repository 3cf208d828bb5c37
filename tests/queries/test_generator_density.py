"""A generator's rows under noise: a linear one has a normal density that is known."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn

import probgen as pg
from probgen.errors import CapabilityError

NOISE = 0.3


def rows(count=400, seed=0):
    rng = np.random.default_rng(seed)
    return pg.Table({"a": rng.normal(3.0, 2.0, count), "b": rng.normal(-1.0, 0.5, count), "c": rng.normal(size=count)})


@functools.cache
def linear(masks=0.0):
    """A gan whose generator has been made linear."""
    fit = pg.fit("gan", rows(), latent=2, hidden=(8,), masks=masks, max_steps=5, batch_size=50, progress=False)
    generator = fit.program.generator
    width = generator.net[0].in_features
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator.net = nn.Linear(width, 3).to(next(fit.program.parameters()))
    return fit


def truth(fit, table, known=slice(None)):
    """The density of a linear map of normal numbers, with noise."""
    net = fit.program.generator.net
    weight, shift = net.weight.detach().double(), net.bias.detach().double()
    loading, shift = weight[:, :2].numpy(), shift.numpy()  # nothing is shown
    scale, loc = fit.standardiser.scale[known], fit.standardiser.shift[known]
    covariance = (loading @ loading.T + NOISE**2 * np.eye(3))[known][:, known]
    z = (table.values[:, known] - loc) / scale
    return multivariate_normal(shift[known], covariance).logpdf(z) - np.log(scale).sum()


@pytest.mark.parametrize("masks", [0.0, 0.5])
def test_a_linear_generator_has_its_normal_density(masks):
    fit, table = linear(masks), rows(30, seed=1)
    found = pg.generator_log_prob(fit, table, NOISE, chains=32, temperatures=60)
    assert found.kind == "annealed"
    gap = found.value - truth(fit, table)
    assert np.abs(gap / np.maximum(found.standard_error, 0.02)).max() < 5
    assert abs(gap.mean()) < 0.05


def test_unknown_cells_are_integrated_out():
    fit, table = linear(), rows(20, seed=2)
    found = pg.generator_log_prob(fit, table.hide("b"), NOISE, chains=32, temperatures=60)
    gap = found.value - truth(fit, table, [0, 2])
    assert np.abs(gap / np.maximum(found.standard_error, 0.02)).max() < 5


def test_the_generator_itself_still_has_no_density():
    with pytest.raises(CapabilityError, match=r"no density.*generator_log_prob"):
        linear().log_prob(rows(5))


@pytest.mark.parametrize("noise", [0.0, -1.0, float("inf"), True, "wide"])
def test_noise_that_is_none_is_refused(noise):
    with pytest.raises(CapabilityError, match="standard deviation above 0"):
        pg.generator_log_prob(linear(), rows(5), noise)


def test_other_models_and_columns_are_refused_by_name():
    mixture = pg.fit("gaussian_mixture", rows(), components=1, progress=False)
    with pytest.raises(CapabilityError, match=r"'gan'.*got 'gaussian_mixture'"):
        pg.generator_log_prob(mixture, rows(5))
    table = pg.Table({"x": rows().values[:, 0], "t": np.where(np.arange(400) % 2, "u", "v")})
    fit = pg.fit("gan", table, latent=2, hidden=(4,), max_steps=2, progress=False)
    with pytest.raises(CapabilityError, match="'t' is binary"):
        pg.generator_log_prob(fit, table)
