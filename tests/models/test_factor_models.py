"""Factor analysis and probabilistic principal components against scikit-learn, SciPy and their own theorems."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.decomposition import FactorAnalysis as Peer

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families import FactorAnalyser, PrincipalComponents

WINE = load_wine().data
STANDARD = (WINE - WINE.mean(0)) / WINE.std(0)
MODELS = ("factor_analysis", "probabilistic_pca")
FAMILIES = {"factor_analysis": FactorAnalyser, "probabilistic_pca": PrincipalComponents}


def real(X):
    return Table(X, schema=Schema(tuple(Column(f"x{i}", "real") for i in range(X.shape[1]))))


def holed(X, share=0.25, seed=0):
    rng = np.random.default_rng(seed)
    hole = rng.random(X.shape) < share
    hole[hole.all(1), 0] = False
    return np.where(hole, np.nan, X)


def fitted(name, X, **options):
    return pg.fit(name, real(X), progress=False, **({"latent": 2} | options))


def parameters(fit):
    """Loc, loading and noise in the data's units."""
    found = fit.parameters()["columns.gaussian"]
    scale, shift = fit.standardiser.scale, fit.standardiser.shift
    loc, W = found["loc"][0] * scale + shift, found["loading"][0] * scale[:, None]
    return loc, W, found["noise"][0] * scale**2


# ------------------------------------------------------------------------------------------------------- known answers
@pytest.mark.parametrize("latent", [1, 3, 12])
def test_probabilistic_pca_is_scikit_learns_on_standardised_columns(latent):
    """Scikit-learn divides by n - 1; rows shrunk about their mean give it the maximum-likelihood covariance."""
    shrunk = STANDARD * np.sqrt(177 / 178)
    score = PCA(latent).fit(shrunk).score(STANDARD)
    standard = fitted("probabilistic_pca", STANDARD, latent=latent, prior=None)
    assert standard.log_prob(real(STANDARD)).value.mean() == pytest.approx(score, abs=1e-8)
    raw = fitted("probabilistic_pca", WINE, latent=latent, prior=None)
    assert raw.log_prob(real(WINE)).value.mean() == pytest.approx(score - np.log(WINE.std(0)).sum(), abs=1e-8)
    assert raw.diagnostics["steps"] == 2  # closed form: the second step has nothing to gain


def test_probabilistic_pca_embeds_as_scikit_learn_up_to_signs_and_shrinkage():
    """E[f | x] is the principal score over its standard deviation, shrunk by sqrt(1 - noise / eigenvalue)."""
    fit, peer = fitted("probabilistic_pca", WINE, prior=None), PCA(2).fit(STANDARD * np.sqrt(177 / 178))
    shrink = np.sqrt(1 - peer.noise_variance_ / peer.explained_variance_)
    expected = peer.transform(STANDARD) / np.sqrt(peer.explained_variance_) * shrink
    np.testing.assert_allclose(np.abs(fit.embed(real(WINE))), np.abs(expected), atol=1e-8)


@pytest.mark.parametrize(("data", "latent"), [("wine", 1), ("wine", 2), ("digits", 3)])
def test_factor_analysis_is_scikit_learns(data, latent):
    X = WINE if data == "wine" else load_digits().data
    X = X[:, X.std(0) > 0.5]
    Z = (X - X.mean(0)) / X.std(0)
    peer = Peer(latent, tol=1e-12, max_iter=5000, svd_method="lapack").fit(Z)
    fit = fitted("factor_analysis", X, latent=latent, prior=None, tolerance=1e-9)
    assert fit.log_prob(real(X)).value.mean() == pytest.approx(peer.score(Z) - np.log(X.std(0)).sum(), abs=1e-8)
    assert fit.diagnostics["steps"] <= 4


# ---------------------------------------------------------------------------------------------------------- holes
@pytest.mark.parametrize("name", MODELS)
def test_density_embedding_and_fill_with_holes_are_the_gaussians_own(name):
    """Rows one by one with SciPy and the joint Gaussian of columns and factors."""
    X = holed(WINE)
    fit = fitted(name, X, max_steps=300)
    loc, W, noise = parameters(fit)
    covariance = W @ W.T + np.diag(np.broadcast_to(noise, len(loc)))
    density, factors = fit.log_prob(real(X)).value, fit.embed(real(X))
    for row, value, f in list(zip(X, density, factors, strict=True))[:40]:
        o = ~np.isnan(row)
        inverse = np.linalg.inv(covariance[np.ix_(o, o)])
        assert value == pytest.approx(multivariate_normal(loc[o], covariance[np.ix_(o, o)]).logpdf(row[o]), abs=1e-8)
        np.testing.assert_allclose(f, W[o].T @ inverse @ (row - loc)[o], atol=1e-8)
    nothing = real(np.full((2, 13), np.nan))
    np.testing.assert_allclose(fit.embed(nothing), 0.0, atol=1e-12)
    np.testing.assert_allclose(fit.log_prob(nothing).value, 0.0, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_fill_has_the_conditional_mean(name):
    X = holed(WINE)
    fit = fitted(name, X, max_steps=300)
    loc, W, noise = parameters(fit)
    covariance = W @ W.T + np.diag(np.broadcast_to(noise, len(loc)))
    rows, draws = X[:20], 200
    drawn = np.stack([table.values for table in fit.fill(real(rows), draws)])
    for n, row in enumerate(rows):
        o, m = ~np.isnan(row), np.isnan(row)
        gain = covariance[np.ix_(m, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
        left = covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)]
        z = (drawn[:, n, m].mean(0) - loc[m] - gain @ (row - loc)[o]) / np.sqrt(np.diag(left) / draws)
        assert np.abs(z).max(initial=0.0) < 4.5


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("prior", ["default", None])
def test_em_with_holes_is_monotone(name, prior):
    fit = fitted(name, holed(WINE), prior=prior, tolerance=1e-8, max_steps=400)
    assert np.diff(fit.history["objective"]).min() > -1e-10
    assert fit.diagnostics["converged"]


@pytest.mark.parametrize("name", MODELS)
def test_em_is_the_gradient_mode(name):
    """Up to a rotation of the factors: loc and covariance."""
    X = holed(WINE[:, :6], 0.1)
    em = fitted(name, X, tolerance=1e-12, max_steps=3000)
    mode = fitted(name, X, method="map", tolerance=1e-13)
    for one, other in zip(model_of(em), model_of(mode), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def model_of(fit):
    theta = fit.posterior.parameters["columns.gaussian"]
    return theta["loc"][0, 0, 0].numpy(), torch.linalg.inv(theta["precision"][0, 0, 0]).numpy()


# -------------------------------------------------------------------------------------------------------- the family
def moments(family, x, weights):
    leaves = {k: v.detach().requires_grad_() for k, v in family.natural(family.start()).items()}
    total = (weights * family.score(leaves, x)).sum()
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("prior", "rows"), [(None, 178), ("default", 178), ("default", 6)])
def test_updates_reach_the_maximum_for_complete_rows(name, prior, rows):
    """Closed form at once for principal components. No gradient is left, and nothing nearby is better; with few rows the prior switches factors off."""
    torch.set_default_dtype(torch.float64)
    try:
        check_maximum(FAMILIES[name](13, 2, prior, factors=2), torch.as_tensor(STANDARD[:rows]), prior)
    finally:
        torch.set_default_dtype(torch.float32)


def check_maximum(family, x, prior):
    weights = torch.stack([torch.linspace(0.2, 0.9, len(x)), torch.linspace(0.8, 0.1, len(x))])
    if prior is not None:
        family.calibrate(moments(family, x, weights))
    statistics = moments(family, x, weights)
    theta = family.start()
    for _ in range(200 if isinstance(family, FactorAnalyser) else 3):
        theta = family.update(statistics, theta)
    sites = {key: value.clone().requires_grad_() for key, value in family.disassemble(theta).items()}

    def objective(sites):
        theta = family.assemble(sites)
        value = sum((part * statistics[key]).sum() for key, part in family.natural(theta).items())
        return value if prior is None else value + family.log_prior(theta)

    top = objective(sites)
    gradients = dict(zip(sites, torch.autograd.grad(top, list(sites.values())), strict=True))
    gradients["noise"] = gradients["noise"] * sites["noise"]
    assert all(g.abs().max() < 2e-3 for g in gradients.values())
    for size in torch.logspace(-3, -0.5, 40):
        moved = {key: value + size * torch.randn_like(value) for key, value in sites.items()}
        moved["noise"] = sites["noise"] * torch.exp(size * torch.randn_like(sites["noise"]))
        assert objective(moved) <= top + 1e-7


# --------------------------------------------------------------------------------------------------- mixed columns
def mixed(rows=200):
    rng = np.random.default_rng(0)
    f = rng.normal(size=rows)
    columns = [f + rng.normal(0, 0.3, rows), rng.lognormal(f, 0.2), 1 / (1 + np.exp(-f - rng.normal(0, 0.3, rows)))]
    columns += [2 * f + rng.normal(0, 0.5, rows), (rng.random(rows) < 0.4).astype(float)]
    schema = Schema(
        (
            Column("a", "real"),
            Column("b", "positive"),
            Column("c", "bounded", bounds=(0.0, 1.0)),
            Column("d", "real"),
            Column("e", "binary", levels=(0, 1)),
        )
    )
    return Table.from_codes(np.column_stack(columns), schema), f


@pytest.mark.parametrize("name", MODELS)
def test_a_planted_factor_is_found_and_decoded(name):
    table, f = mixed()
    fit = pg.fit(name, table, latent=1, progress=False)
    z = fit.embed(table)
    assert abs(np.corrcoef(z[:, 0], f)[0, 1]) > 0.95
    known = fit.embed(table.hide("b", "d"))
    assert abs(np.corrcoef(known[:, 0], f)[0, 1]) > 0.9
    decoded = fit.decode(z).values
    for place in range(4):
        assert np.corrcoef(np.argsort(np.argsort(decoded[:, place])), f)[0, 1] ** 2 > 0.8
    loc = fit.decode(np.zeros((1, 1))).values[0]
    np.testing.assert_allclose(loc[0], table.values[:, 0].mean(), atol=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_decode_is_linear_in_the_factors(name):
    fit = fitted(name, WINE)
    loc, W, _ = parameters(fit)
    z = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_allclose(fit.decode(z).values, loc + z @ W.T, atol=1e-8)
    with pytest.raises(pg.CapabilityError, match="shape"):
        fit.decode(np.zeros((3, 4)))


@pytest.mark.parametrize("name", MODELS)
def test_too_many_factors_are_refused(name):
    with pytest.raises(pg.CapabilityError, match="continuous columns"):
        fitted(name, WINE[:, :3], latent=4)
    with pytest.raises(pg.CapabilityError, match="whole number"):
        fitted(name, WINE[:, :3], latent=0)


@pytest.mark.stats
@pytest.mark.parametrize("name", MODELS)
def test_posterior_draws_agree_with_the_weighted_prior(name):
    """Four rows of two columns; the reference is 400 000 draws from the prior, weighted by the likelihood."""
    torch.set_default_dtype(torch.float64)
    try:
        family = FAMILIES[name](2, 3000, factors=1)
        x = torch.as_tensor(STANDARD[:4, [0, 5]])
        one = FAMILIES[name](2, 1, factors=1)
        statistics = {key: value.expand(3000, *value.shape[1:]) for key, value in moments(one, x, 1.0).items()}
        drawn = summaries(family, family.posterior_draw(statistics))
        wide = FAMILIES[name](2, 400_000, factors=1)
        theta = wide.assemble({key: site.sample() for key, site in wide.prior().items()})
        weight = wide.score(wide.natural(theta), x).sum(1).softmax(0)
        reference = summaries(wide, theta)
    finally:
        torch.set_default_dtype(torch.float32)
    mean = weight @ reference
    sd = (weight @ (reference - mean).square()).sqrt()
    error = sd * (1 / 3000 + weight.square().sum()).sqrt()
    assert weight.square().sum() < 1 / 400  # effective draws of the reference
    assert ((drawn.mean(0) - mean).abs() < 4 * error).all()
    assert ((drawn.std(0) / sd - 1).abs() < 0.2).all()


def summaries(family, theta):
    """What a rotation of the factors leaves: loc, log noise, products of loadings."""
    W = theta["loading"][..., 0]
    products = W[:, [0, 0, 1]] * W[:, [0, 1, 1]]
    return torch.cat([theta["loc"], theta["noise"].log(), products], 1)
