"""Mixtures of Student-t against SciPy, brute force, gradients and a planted outlier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from sklearn.datasets import load_iris

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families import StudentT

IRIS = load_iris().data


def real(X):
    return Table(X, schema=Schema(tuple(Column(f"x{i}", "real") for i in range(X.shape[1]))))


def holed(X, share=0.25, seed=0):
    rng = np.random.default_rng(seed)
    hole = rng.random(X.shape) < share
    hole[hole.all(1), 0] = False
    return np.where(hole, np.nan, X)


def fitted(X, **options):
    return pg.fit("student_mixture", real(X), progress=False, **({"components": 1, "restarts": 1} | options))


def parameters(fit):
    """Weights, locs, scale matrices and degrees in the data's units."""
    found, scale, shift = fit.parameters(), fit.standardiser.scale, fit.standardiser.shift
    t = found["component.gaussian"]
    weights = fit.posterior.parameters["weights"]["logits"].exp().numpy().ravel()
    return weights, t["loc"] * scale + shift, t["scale"] * scale[:, None] * scale, t["degrees"]


# ------------------------------------------------------------------------------------------------------- known answers
@pytest.mark.parametrize("degrees", [2.5, 6.0])
def test_one_column_is_scipys_maximum_likelihood(degrees):
    x = stats.t(degrees, loc=3.0, scale=2.0).rvs(600, random_state=1)
    fit = fitted(x[:, None], prior=None, tolerance=1e-13, max_steps=3000)
    _, loc, scale, found = parameters(fit)
    best = optimize.minimize(
        lambda p: -stats.t(np.exp(p[0]), p[1], np.exp(p[2])).logpdf(x).sum(),
        [np.log(5.0), np.median(x), 0.0],
        tol=1e-10,
        method="Nelder-Mead",
        options={"maxiter": 4000, "maxfev": 4000},
    )
    assert fit.log_prob(real(x[:, None])).value.sum() == pytest.approx(-best.fun, abs=1e-6)
    assert [found[0], loc[0, 0], scale[0, 0, 0] ** 0.5] == pytest.approx(
        [np.exp(best.x[0]), best.x[1], np.exp(best.x[2])], rel=2e-3
    )


@pytest.mark.parametrize("covariance", ["full", "tied", "diagonal", "spherical"])
def test_density_with_holes_is_scipys(covariance):
    """Each row's known cells are a mixture of multivariate t with the same degrees of freedom."""
    X = holed(IRIS)
    fit = fitted(X, components=3, covariance=covariance, tolerance=1e-4)
    weights, loc, scale, degrees = parameters(fit)
    density = fit.log_prob(real(X)).value
    for row, value in zip(X[::3], density[::3], strict=True):
        o = ~np.isnan(row)
        terms = [
            w * stats.multivariate_t(m[o], S[np.ix_(o, o)], df).pdf(row[o])
            for w, m, S, df in zip(weights, loc, scale, degrees, strict=True)
        ]
        assert value == pytest.approx(np.log(sum(terms)), abs=1e-8)
    if covariance == "diagonal":
        assert np.abs(scale[:, ~np.eye(4, dtype=bool)]).max() < 1e-12


def test_fixed_degrees_stay_and_gaussian_data_reach_the_gaussian():
    fit = fitted(IRIS, components=2, degrees=4.0)
    np.testing.assert_array_equal(parameters(fit)[3], 4.0)
    x = np.random.default_rng(0).uniform(size=(400, 2))  # tails lighter than a Gaussian's
    fit, gaussian = (
        fitted(x, prior=None),
        pg.fit("gaussian_mixture", real(x), components=1, prior=None, progress=False),
    )
    assert parameters(fit)[3][0] > 150
    gap = fit.log_prob(real(x)).value.mean() - gaussian.log_prob(real(x)).value.mean()
    assert abs(gap) < 0.01
    for degrees in (-1.0, "many"):
        with pytest.raises(pg.CapabilityError, match="degrees"):
            fitted(IRIS, degrees=degrees)


# ------------------------------------------------------------------------------------------------------ expectation
def test_gradients_are_expected_statistics_by_quadrature():
    """E[1, u, u x, u xx', log u | known cells] of one row with a hole, integrated over u."""
    torch.set_default_dtype(torch.float64)
    try:
        family = StudentT(2, 1)
        P = torch.tensor([[[1.4, 0.5], [0.5, 0.9]]])
        theta = {"loc": torch.tensor([[0.3, -0.2]]), "precision": P, "degrees": torch.tensor([3.5])}
        leaves = {k: v.requires_grad_() for k, v in family.natural(theta).items()}
        total = family.score(leaves, torch.tensor([[1.7, torch.nan]])).sum()
        found = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    finally:
        torch.set_default_dtype(torch.float32)
    S = np.linalg.inv(P[0].numpy())
    gain, left = S[0, 1] / S[0, 0], S[1, 1] - S[0, 1] ** 2 / S[0, 0]
    x1 = -0.2 + gain * (1.7 - 0.3)

    def expected(f):
        joint = lambda u: stats.gamma(1.75, scale=1 / 1.75).pdf(u) * stats.norm(0.3, (S[0, 0] / u) ** 0.5).pdf(1.7)  # noqa: E731
        return integrate.quad(lambda u: f(u) * joint(u), 0, 40)[0] / integrate.quad(joint, 0, 40)[0]

    u = expected(lambda u: u)
    assert float(found["log_normaliser"]) == pytest.approx(1.0)
    assert float(found["scale"]) == pytest.approx(u, rel=1e-6)
    assert float(found["log_scale"]) == pytest.approx(expected(np.log), rel=1e-6)
    assert found["linear"][0].tolist() == pytest.approx([u * 1.7, u * x1], rel=1e-6)
    assert found["square"][0].tolist() == pytest.approx([u * 1.7**2, u * 1.7 * x1, u * x1**2 + left], rel=1e-6)


# ------------------------------------------------------------------------------------------------------ maximisation
@pytest.mark.parametrize("covariance", ["full", "tied", "diagonal"])
@pytest.mark.parametrize("prior", ["default", None])
def test_em_with_holes_is_monotone(covariance, prior):
    rng = np.random.default_rng(0)
    X = holed(IRIS + 0.3 * rng.standard_t(2, size=IRIS.shape), 0.15)
    fit = fitted(X, components=2, covariance=covariance, prior=prior, tolerance=1e-9, max_steps=300)
    assert np.diff(fit.history["objective"]).min() > -1e-10


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_em_is_the_gradient_mode(covariance):
    rng = np.random.default_rng(0)
    X = holed(IRIS[::2, [0, 2]] + 0.2 * rng.standard_t(2, size=(75, 2)), 0.1)
    options = {"components": 2, "covariance": covariance}
    em = fitted(X, tolerance=1e-12, max_steps=5000, **options)
    mode = fitted(X, method="map", tolerance=1e-13, **options)
    for one, other in zip(parameters(em), parameters(mode), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_parameter_expansion_takes_fewer_iterations():
    """The fixed point is the same as that of plain EM, whose update leaves the scale of u at one."""
    torch.set_default_dtype(torch.float64)
    try:
        x = torch.as_tensor(stats.multivariate_t([0, 0, 0], np.eye(3), 1.5).rvs(400, random_state=0))
        steps, tops = zip(*(climb(kind(3, 1, None), x) for kind in (StudentT, Plain)), strict=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert tops[0] == pytest.approx(tops[1], abs=1e-5)
    assert steps[0] < 0.7 * steps[1]


class Plain(StudentT):
    def best_expansion(self, statistics, theta):
        return torch.ones_like(statistics["scale"])


def climb(family, x):
    theta, previous, steps = family.start(), -np.inf, 0
    while True:
        leaves = {k: v.detach().requires_grad_() for k, v in family.natural(theta).items()}
        total = family.score(leaves, x).sum()
        found = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
        if float(total.detach()) - previous < 1e-7:
            break
        theta, previous, steps = family.update(found, theta), float(total.detach()), steps + 1
    return steps, previous


# ---------------------------------------------------------------------------------------------------- what it is for
def test_outliers_move_a_gaussians_mean_and_not_the_ts():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    X[:10] += 30.0
    heavy = parameters(fitted(X))[1][0]
    gaussian = pg.fit("gaussian_mixture", real(X), components=1, progress=False)
    mean = gaussian.parameters()["component.gaussian"]["loc"][0] * X.std(0) + X.mean(0)
    assert np.abs(mean).min() > 1.2
    assert np.abs(heavy).max() < 0.25


def test_fill_is_the_conditional_t():
    """Quantiles of one column given the other two, with SciPy's t of nu + 2 degrees."""
    X = stats.multivariate_t([1.0, -1.0, 0.0], np.array([[2, 1, 0.5], [1, 1.5, 0.3], [0.5, 0.3, 1]]), 3).rvs(
        500, random_state=0
    )
    fit = fitted(X)
    _, loc, scale, degrees = parameters(fit)
    m, S, df = loc[0], scale[0], degrees[0]
    row = np.array([6.0, np.nan, -2.0])
    gain = S[1, [0, 2]] @ np.linalg.inv(S[np.ix_([0, 2], [0, 2])])
    gap = row[[0, 2]] - m[[0, 2]]
    distance = gap @ np.linalg.inv(S[np.ix_([0, 2], [0, 2])]) @ gap
    left = (S[1, 1] - gain @ S[[0, 2], 1]) * (df + distance) / (df + 2)
    law = stats.t(df + 2, m[1] + gain @ gap, left**0.5)
    drawn = np.concatenate([t.values[:, 1] for t in fit.fill(real(np.tile(row, (500, 1))), 4)])
    assert stats.kstest(drawn, law.cdf).pvalue > 1e-3
    sample = fit.sample(2000, seed=1).values[:, 0]
    assert stats.kstest(sample, stats.t(df, m[0], S[0, 0] ** 0.5).cdf).pvalue > 1e-3
