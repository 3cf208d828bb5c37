"""The Gaussian copula: its coordinates, its density beside SciPy's, and what it finds of planted copulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families import NormalScores

R = np.array([[1.0, 0.7, 0.3], [0.7, 1.0, -0.2], [0.3, -0.2, 1.0]])
MARGINALS = (stats.gamma(1.5), stats.t(3), stats.norm(2.0, 0.5))


def real(X):
    return Table(X, schema=Schema(tuple(Column(f"x{i}", "real") for i in range(X.shape[1]))))


def planted(rows, seed=0):
    """Rows with a Gaussian copula and three different marginals, and their true log density."""
    z = np.random.default_rng(seed).multivariate_normal(np.zeros(3), R, rows)
    x = np.column_stack([m.ppf(stats.norm.cdf(z[:, d])) for d, m in enumerate(MARGINALS)])
    joint = stats.multivariate_normal(np.zeros(3), R).logpdf(z) - stats.norm.logpdf(z).sum(1)
    return x, joint + sum(m.logpdf(x[:, d]) for d, m in enumerate(MARGINALS))


def fitted(X, **options):
    return pg.fit("gaussian_copula", real(X), progress=False, **options)


def correlation(fit):
    S = fit.parameters()["component.gaussian"]["covariance"][0]
    return S / np.sqrt(np.outer(np.diag(S), np.diag(S)))


# ------------------------------------------------------------------------------------------------------- coordinates
def awkward(name, rows=400):
    rng = np.random.default_rng(0)
    return {
        "normal": lambda: rng.normal(size=rows),
        "skewed": lambda: rng.gamma(0.5, size=rows),
        "heavy": lambda: rng.standard_cauchy(rows),
        "two groups": lambda: np.r_[rng.normal(-50, 0.1, rows // 2), rng.normal(50, 0.1, rows // 2)],
        "ties": lambda: np.round(rng.normal(size=rows)),
        "mostly zero": lambda: np.where(rng.random(rows) < 0.8, 0.0, rng.normal(5, 1, rows)),
        "outlier": lambda: np.r_[rng.normal(size=rows - 1), 1e6],
        "two rows": lambda: np.array([1.0, 2.0]),
    }[name]()


SHAPES = ("normal", "skewed", "heavy", "two groups", "ties", "mostly zero", "outlier", "two rows")


@pytest.fixture
def learnt():
    """Coordinates of one column that have seen it, in float64."""
    torch.set_default_dtype(torch.float64)

    def learn(name):
        column = torch.as_tensor(awkward(name))[:, None]
        scores = NormalScores(1)
        scores.learn(column)
        return scores, column

    yield learn
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", SHAPES)
def test_coordinates_are_an_increasing_bijection(name, learnt):
    scores, column = learnt(name)
    z = torch.linspace(-9.0, 9.0, 4001)[:, None]
    x = scores.write(z)
    assert x.isfinite().all()
    assert (x.diff(dim=0) > 0).all()
    torch.testing.assert_close(scores.read(x)[0], z, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(scores.write(scores.read(column)[0]), column, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_density_of_a_column_is_proper(name, learnt):
    """By the trapezoid rule, on points that are dense at both ends of every piece of the map, and in its tails."""
    scores, _ = learnt(name)
    t = torch.linspace(-35.0, 35.0, 8001).sigmoid()
    inside = scores.place[0, :-1, None] + t * scores.place[0].diff()[:, None]
    z = torch.linspace(-9.0, 9.0, 20_001)
    outside = scores.write(z[(z < scores.score[0, 0]) | (z > scores.score[0, -1])][:, None])
    x = torch.cat([inside.reshape(-1), outside[:, 0]]).sort()[0]
    z, log_jacobian = scores.read(x[:, None])
    density = torch.exp(log_jacobian - 0.5 * z[:, 0] ** 2) / (2 * torch.pi) ** 0.5
    assert float(torch.trapezoid(density, x)) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("name", ["normal", "skewed", "two groups"])
def test_jacobian_is_autograds(name, learnt):
    scores, column = learnt(name)
    leaf = column.clone().requires_grad_()
    slope = torch.autograd.grad(scores.read(leaf)[0].sum(), leaf)[0][:, 0]
    torch.testing.assert_close(slope.log(), scores.read(column)[1], atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize(("name", "most"), [("normal", 0.05), ("heavy", 0.05), ("two groups", 0.05), ("skewed", 0.1)])
def test_scores_are_nearly_normal(name, most, learnt):
    """Kolmogorov's distance; the skewed density is infinite at its edge, over which a smooth one has to reach."""
    scores, column = learnt(name)
    z = scores.read(column)[0][:, 0]
    assert stats.kstest(z.numpy(), "norm").statistic < most
    assert abs(float(z.mean())) < 0.1
    assert 0.85 < float(z.std()) < 1.05


def test_unknown_cells_stay_unknown_and_weights_are_repetitions(learnt):
    scores, column = learnt("skewed")
    holed = torch.cat([column, torch.full((5, 1), torch.nan)])
    z, log_jacobian = scores.read(holed)
    assert z[-5:].isnan().all()
    assert (log_jacobian[-5:] == 0).all()
    again, weighted = NormalScores(1), NormalScores(1)
    again.learn(torch.cat([holed, column[:100]]))
    weighted.learn(holed, torch.where(torch.arange(405) < 100, 2.0, 1.0))
    for key in ("place", "score", "slope"):
        torch.testing.assert_close(getattr(again, key), getattr(weighted, key), atol=1e-9, rtol=1e-9)


# ------------------------------------------------------------------------------------------------------------ density
@pytest.mark.parametrize("components", [1, 2])
def test_density_with_holes_is_scipys_in_the_scores(components):
    X, _ = planted(300)
    X[np.random.default_rng(1).random(X.shape) < 0.2] = np.nan
    X = X[~np.isnan(X).all(1)]
    fit = fitted(X, components=components, restarts=1, tolerance=1e-4)
    block = fit.program.component.parts()[0]
    with torch.no_grad():
        z, log_jacobian = block.link.read(torch.as_tensor(fit.standardiser.forward(X)))
    found = fit.parameters()["component.gaussian"]
    weights = fit.posterior.parameters["weights"]["logits"].exp().numpy().ravel()
    density = fit.log_prob(real(X)).value - fit.standardiser.log_jacobian(~np.isnan(X))
    for row, value, jacobian in list(zip(z.numpy(), density, log_jacobian.numpy(), strict=True))[:60]:
        o = ~np.isnan(row)
        terms = [
            w * stats.multivariate_normal(m[o], S[np.ix_(o, o)]).pdf(row[o])
            for w, m, S in zip(weights, found["loc"], found["covariance"], strict=True)
        ]
        assert value == pytest.approx(np.log(sum(terms)) + jacobian, abs=1e-8)


def test_a_planted_copula_is_found():
    """Latent correlations within four standard errors, and a density near the truth on new rows."""
    (X, _), (new, truth) = planted(2000), planted(4000, seed=1)
    fit = fitted(X)
    error = (1 - R**2) / np.sqrt(2000)
    assert (np.abs(correlation(fit) - R) < 4 * error + 1e-9).all()
    gaussian = pg.fit("gaussian_mixture", real(X), components=1, progress=False)
    ours, peer = (truth - f.log_prob(real(new)).value for f in (fit, gaussian))
    assert 0 < ours.mean() < 0.05
    assert peer.mean() > 0.5
    sample = fit.sample(2000).values
    for d in range(3):
        assert stats.ks_2samp(sample[:, d], X[:, d]).pvalue > 1e-3


def test_only_ranks_and_spacings_matter():
    """A column and its exponential, read as positive: the same copula, and densities that differ by the Jacobian."""
    X, _ = planted(300)
    exponential = X.copy()
    exponential[:, 2] = np.exp(X[:, 2])
    schema = Schema((Column("x0", "real"), Column("x1", "real"), Column("x2", "positive")))
    one, other = fitted(X), pg.fit("gaussian_copula", Table(exponential, schema=schema), progress=False)
    np.testing.assert_allclose(correlation(one), correlation(other), atol=1e-6)
    gap = one.log_prob(real(X)).value - other.log_prob(Table(exponential, schema=schema)).value
    np.testing.assert_allclose(gap, X[:, 2], atol=1e-4)


def test_fill_is_the_conditional_of_the_scores():
    X, _ = planted(1000)
    fit = fitted(X)
    block = fit.program.component.parts()[0]
    asked = real(np.tile([X[0, 0], np.nan, X[0, 2]], (400, 1)))
    drawn = np.concatenate([t.values for t in fit.fill(asked, 3)])
    with torch.no_grad():
        z = block.link.read(torch.as_tensor(fit.standardiser.forward(drawn)))[0].numpy()
    found = fit.parameters()["component.gaussian"]
    m, S = found["loc"][0], found["covariance"][0]
    gain = S[1, [0, 2]] @ np.linalg.inv(S[np.ix_([0, 2], [0, 2])])
    law = stats.norm(m[1] + gain @ (z[0, [0, 2]] - m[[0, 2]]), np.sqrt(S[1, 1] - gain @ S[[0, 2], 1]))
    assert stats.kstest(z[:, 1], law.cdf).pvalue > 1e-3


def test_em_is_monotone_with_holes_and_components():
    X, _ = planted(400)
    X[np.random.default_rng(1).random(X.shape) < 0.2] = np.nan
    fit = fitted(X[~np.isnan(X).all(1)], components=3, restarts=1, tolerance=1e-5, max_steps=2000)
    assert np.diff(fit.history["objective"]).min() > -1e-10
