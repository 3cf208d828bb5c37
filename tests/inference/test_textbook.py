"""Ten textbook programs: exact posteriors, published estimates, and runs of other engines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp
from scipy.stats import expon, gamma, poisson

from tests.inference.plain_pyro import PlainPyro
from tests.inference.posteriors import compare
from tests.inference.sampling import METHODS, assert_agrees, needs_engine, sampled
from tests.inference.textbook import DISASTERS, MOVED, START, TEXTBOOKS, dipper_density, remission_density

NAMES = [pytest.param(name, marks=pytest.mark.slow) if book.slow else name for name, book in TEXTBOOKS.items()]


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_references_agree_with_published_estimates():
    """Pumps: BUGS examples, volume 1 (alpha 0.70, sd 0.27; rate of pump 10 1.99). Dippers: Lebreton et al. (1992),
    survival .560, capture .903, standard errors .025 and .029. Ideology: Agresti (2007), .975, error .129."""
    pumps, dippers, ideology = (
        TEXTBOOKS[name].reference() for name in ("hierarchical", "capture_recapture", "ordinal")
    )
    assert (pumps["alpha"]["mean"], pumps["alpha"]["sd"]) == pytest.approx((0.70, 0.27), abs=0.005)
    assert pumps["rate[10]"]["mean"] == pytest.approx(1.99, abs=0.005)
    assert (dippers["survival"]["mean"], dippers["survival"]["sd"]) == pytest.approx((0.560, 0.025), abs=0.002)
    assert (dippers["capture"]["mean"], dippers["capture"]["sd"]) == pytest.approx((0.903, 0.029), abs=0.01)
    assert (ideology["effect"]["mean"], ideology["effect"]["sd"]) == pytest.approx((0.975, 0.129), abs=0.01)


def test_data_are_those_of_the_sources():
    """Coal mining: 191 disasters in 112 years; 82 galaxies; the Nile as statsmodels has it; 426 releases."""
    import statsmodels.api as sm

    assert TEXTBOOKS["change_point"].data()["disasters"].sum() == 191
    assert len(TEXTBOOKS["dirichlet_process"].data()["velocity"]) == 82
    assert len(TEXTBOOKS["capture_recapture"].data()["seen"]) == 426
    np.testing.assert_array_equal(TEXTBOOKS["kalman"].data()["flow"], sm.datasets.nile.load_pandas().data.volume)


def dippers_by_hand(u):
    phi, p = expit(u)
    return dipper_density(phi, p) + np.log(phi * (1 - phi) * p * (1 - p))


def change_by_hand(u):
    """Gamma(2, 1) rates in the coordinates of their logarithms, the year of the change equally likely."""
    x = np.array(DISASTERS)
    years = [
        poisson.logpmf(x[:t], np.exp(u[0])).sum() + poisson.logpmf(x[t:], np.exp(u[1])).sum() for t in range(len(x))
    ]
    return gamma.logpdf(np.exp(u), 2).sum() + u.sum() + logsumexp(years) - np.log(len(x))


def pumps_by_hand(u):
    """All parameters in the coordinates of their logarithms."""
    data, (alpha, beta), rates = TEXTBOOKS["hierarchical"].data(), np.exp(u[:2]), np.exp(u[2:])
    prior = expon.logpdf(alpha) + gamma.logpdf(beta, 0.1) + gamma.logpdf(rates, alpha, scale=1 / beta).sum()
    return prior + poisson.logpmf(data["failures"].numpy(), rates * data["hours"].numpy()).sum() + u.sum()


BY_HAND = {
    "capture_recapture": dippers_by_hand,
    "change_point": change_by_hand,
    "hierarchical": pumps_by_hand,
    "survival": lambda u: remission_density(*u),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_programs_have_the_densities_of_their_exact_references(name, double):
    book = TEXTBOOKS[name]
    plain = PlainPyro(book.model, book.data())
    for _ in range(3):
        u = 0.5 * torch.randn(plain.size)
        assert float(plain.log_posterior(u)) == pytest.approx(BY_HAND[name](u.numpy()), abs=1e-8)


def test_level_of_the_nile_is_gaussian_with_the_smoothed_moments(double):
    book = TEXTBOOKS["kalman"]
    plain, T = PlainPyro(book.model, book.data()), 100
    at, log_density = torch.zeros(T), plain.log_posterior
    covariance = -torch.linalg.inv(torch.autograd.functional.hessian(log_density, at))
    leaf = at.requires_grad_()
    white = covariance @ torch.autograd.grad(log_density(leaf), leaf)[0]  # the mean: one Newton step
    steps = torch.ones(T, T).tril() * torch.tensor([START[1], *[MOVED] * (T - 1)])
    means, sds = START[0] + steps @ white, (steps @ covariance @ steps.mT).diagonal().sqrt()
    for name, known in book.reference().items():
        t = int(name[6:-1]) - 1
        assert (float(means[t]), float(sds[t])) == pytest.approx((known["mean"], known["sd"]), rel=1e-9)


@needs_engine
@pytest.mark.reference
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_sampler_agrees_with_what_is_known(name, method):
    book = TEXTBOOKS[name]
    data = book.data()
    draws, fit = sampled(book.model, data, method)
    assert_agrees(compare(book.quantities(draws), book.reference()), fit)
