"""Ten textbook programs: exact posteriors, published estimates, and runs of other engines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp
from scipy.stats import beta, dirichlet, expon, gamma, halfnorm, norm, poisson

from tests.inference.plain_pyro import PlainPyro
from tests.inference.posteriors import compare
from tests.inference.sampling import assert_agrees, sampled
from tests.inference.textbook import DISASTERS, MOVED, SEEDED, START, TEXTBOOKS, dipper_density, remission_density

NAMES = [pytest.param(name, marks=pytest.mark.slow) if book.slow else name for name, book in TEXTBOOKS.items()]


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
    data, (shape, rate), rates = TEXTBOOKS["hierarchical"].data(), np.exp(u[:2]), np.exp(u[2:])
    prior = expon.logpdf(shape) + gamma.logpdf(rate, 0.1) + gamma.logpdf(rates, shape, scale=1 / rate).sum()
    return prior + poisson.logpmf(data["failures"].numpy(), rates * data["hours"].numpy()).sum() + u.sum()


def topics_by_hand(u):
    """Words are independent given the mixed topics of their document."""
    plain = PlainPyro(TEXTBOOKS["topic_model"].model, TEXTBOOKS["topic_model"].data())
    free, values = plain.split(torch.as_tensor(u)), plain.constrain(torch.as_tensor(u))
    maps = {name: plain.transforms[name].inv for name in values}
    jacobian = sum(float(maps[name].log_abs_det_jacobian(free[name], values[name]).sum()) for name in values)
    topics, shares = values["topics"].numpy(), values["shares"].numpy()
    prior = sum(dirichlet.logpdf(row, prior) for row, prior in zip(topics, SEEDED.numpy(), strict=True))
    prior += sum(dirichlet.logpdf(row, np.ones(2)) for row in shares)
    words = TEXTBOOKS["topic_model"].data()["words"].numpy().astype(int)
    return prior + np.log((shares @ topics)[np.arange(8), words]).sum() + jacobian


def galaxies_by_hand(u):
    """Sticks in logits, means as they are, standard deviations in logarithms."""
    broken, means, log_sd = expit(u[:4]), u[4:9], u[9:]
    weights = np.append(broken, 1.0) * np.append(1.0, np.cumprod(1 - broken))
    prior = np.log(broken * (1 - broken)).sum() + norm.logpdf(means, 21, 6).sum() + norm.logpdf(log_sd, 0.5, 0.5).sum()
    x = TEXTBOOKS["dirichlet_process"].data()["velocity"].numpy()[:, None]
    return prior + logsumexp(np.log(weights) + norm.logpdf(x, means, np.exp(log_sd)), axis=1).sum()


def returns_by_hand(u):
    """The autoregression step by step."""
    mu, phi, tau, white = u[0], expit(u[1]), np.exp(u[2]), u[3:]
    h = [tau * white[0]]
    for shock in white[1:]:
        h.append(phi * h[-1] + tau * np.sqrt(1 - phi**2) * shock)
    prior = norm.logpdf(mu, 0, 2) + beta.logpdf(phi, 20, 1.5) + np.log(phi * (1 - phi))
    prior += halfnorm.logpdf(tau) + u[2] + norm.logpdf(white).sum()
    x = TEXTBOOKS["stochastic_volatility"].data()["returns"].numpy()
    return prior + norm.logpdf(x, 0, np.exp((mu + np.array(h)) / 2)).sum()


BY_HAND = {
    "topic_model": topics_by_hand,
    "dirichlet_process": galaxies_by_hand,
    "stochastic_volatility": returns_by_hand,
    "capture_recapture": dippers_by_hand,
    "change_point": change_by_hand,
    "hierarchical": pumps_by_hand,
    "survival": lambda u: remission_density(*u),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_programs_have_the_densities_that_are_written_by_hand(name, double):
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


@pytest.mark.reference
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["chees", pytest.param("nuts", marks=pytest.mark.slow)])
def test_sampler_agrees_with_what_is_known(name, method):
    book = TEXTBOOKS[name]
    data = book.data()
    draws, fit = sampled(book.model, data, method, **book.options.get(method, {}))
    assert_agrees(compare(book.quantities(draws), book.reference()), fit)
