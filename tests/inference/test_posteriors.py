"""The eleven posteriors of posteriordb under every sampler, within Monte-Carlo error of the reference draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from tests.inference.plain_pyro import PlainPyro
from tests.inference.posteriors import NAMES, compare, posterior
from tests.inference.sampling import assert_agrees, sampled

FAST = {"eight_schools-eight_schools_noncentered", "arK-arK", "gp_pois_regr-gp_regr"}
FLAT = ("kidiq-kidscore_momiq", "earnings-logearn_height", "mesquite-logmesquite", "nes1980-nes")


def test_every_posterior_has_a_program(data_folder):
    assert {path.stem for path in (data_folder / "posteriors").glob("*.json")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_density_and_gradient_are_finite_everywhere_near_the_origin(name, data_folder, double):
    model, data, _ = posterior(name, data_folder)
    plain = PlainPyro(model, data)
    for _ in range(3):
        u = (0.5 * torch.randn(plain.size)).requires_grad_()
        value = plain.log_posterior(u)
        value.backward()
        assert value.isfinite()
        assert u.grad.isfinite().all()


@pytest.mark.reference
@pytest.mark.parametrize("name", FLAT)
def test_flat_regressions_have_the_moments_of_the_reference_in_closed_form(name, data_folder, double):
    """Given sigma, beta is Gaussian: one Newton step from anywhere is its mean; E sigma^2 scales its covariance."""
    model, data, reference = posterior(name, data_folder)
    plain = PlainPyro(model, data)
    known = {key: torch.tensor(column.to_numpy()) for key, column in pd.DataFrame(reference).T.items()}
    rows = torch.tensor([key.startswith("beta") for key in reference])
    beta, sigma = known["mean"][rows], known["mean"][~rows]

    def log_density(beta):
        return plain.log_posterior(torch.cat([beta, sigma.log()]), ["beta", "sigma"])

    covariance = -torch.linalg.inv(torch.autograd.functional.hessian(log_density, beta))
    mean = beta + covariance @ torch.func.grad(log_density)(beta)
    sd = (covariance.diagonal() * (1 + (known["sd"][~rows] / sigma) ** 2)).sqrt()
    errors = known["sd"][rows] / known["n_draws"][rows].sqrt()
    assert ((mean - beta).abs() < 4 * errors).all()
    assert ((sd / known["sd"][rows] - 1).abs() < 4 / (2 * known["n_draws"][rows]).sqrt()).all()


def test_comparison_counts_both_errors():
    rng = np.random.default_rng(0)
    reference = {"beta[2]": {"mean": 1.0, "sd": 2.0, "n_draws": 100}}
    draws = {"beta": rng.normal(1.0, 2.0, (4, 1000, 2))}
    row = compare(draws, reference).loc["beta[2]"]
    own = draws["beta"][..., 1]
    assert row.z == pytest.approx((own.mean() - 1) / np.hypot(2 / 4000**0.5, 2 / 100**0.5), rel=0.02)
    assert row.sd_ratio == pytest.approx(own.std() / 2)
    assert row.ess > 3000


@pytest.mark.reference
@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
@pytest.mark.parametrize("method", ["chees", pytest.param("nuts", marks=pytest.mark.slow)])
def test_sampler_agrees_with_the_reference_draws(name, method, data_folder):
    model, data, reference = posterior(name, data_folder)
    draws, fit = sampled(model, data, method)
    assert_agrees(compare(draws, reference), fit)
