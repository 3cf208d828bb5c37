"""Coupled Gaussians with holes: marginals, conditionals and expectations beside the textbook's formulas."""

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from probgen.families import FullGaussian, TiedGaussian, gaussian, gaussian_joint
from probgen.families.gaussian_joint import Patterns, wishart

N, D, K = 60, 4, 3


@pytest.fixture
def theta():
    root = torch.randn(K, D, D)
    return {"loc": torch.randn(K, D), "precision": root @ root.mT + torch.eye(D)}


@pytest.fixture
def x(punch):
    x = punch(2 * torch.randn(N, D))
    x[0], x[1] = torch.randn(D), torch.nan  # nothing unknown, nothing known
    return x


def conditional(loc, covariance, row):
    """Mean (D,) and covariance (D, D) of a row given its known cells; zeros in the covariance where known."""
    seen, hole = ~row.isnan(), row.isnan()
    gain = covariance[hole][:, seen] @ torch.linalg.inv(covariance[seen][:, seen])
    mean, spread = row.clone(), torch.zeros_like(covariance)
    mean[hole] = loc[hole] + gain @ (row[seen] - loc[seen])
    inner = covariance[hole][:, hole] - gain @ covariance[seen][:, hole]
    at = hole.nonzero()[:, 0]
    spread[at[:, None], at] = inner
    return mean, spread


@pytest.mark.reference
def test_holes_leave_scipys_marginals(theta, x):
    family = FullGaussian(D, K)
    scores = family.score(family.natural(theta), x)
    covariance = torch.linalg.inv(theta["precision"])
    for k in range(K):
        for n in range(N):
            seen = ~x[n].isnan()
            expected = 0.0
            if seen.any():
                marginal = stats.multivariate_normal(theta["loc"][k, seen], covariance[k][seen][:, seen])
                expected = marginal.logpdf(x[n, seen])
            assert float(scores[k, n]) == pytest.approx(float(expected), abs=1e-9)


def test_gradient_is_the_expectation_step_of_ghahramani_and_jordan(theta, x, expect):
    family, share = FullGaussian(D, K), torch.rand(K, N)
    found = family.moments(expect(family, theta, x, share)[1])
    covariance = torch.linalg.inv(theta["precision"])
    for k in range(K):
        first, second = torch.zeros(D), torch.zeros(D, D)
        for n in range(N):
            mean, spread = conditional(theta["loc"][k], covariance[k], x[n])
            first += share[k, n] * mean
            second += share[k, n] * (torch.outer(mean, mean) + spread)
        assert_close(found[0][k], share[k].sum())
        assert_close(found[1][k], first)
        assert_close(found[2][k], second)


def test_both_orders_of_work_agree(theta, x):
    """One marginal a pattern, or one a row: the same densities and the same gradients."""
    family = FullGaussian(D, K)
    patterns = family.patterns(x)
    assert isinstance(patterns, Patterns)
    found = []
    for way in (family.by_group, family.by_row):
        leaves = {k: v.detach().requires_grad_() for k, v in family.natural(theta).items()}
        score = sum(way(leaves, x, patterns))
        found.append((score, torch.autograd.grad(score.sin().sum(), list(leaves.values()))))
    assert_close(*found)
    assert_close(found[0][0], family.score(family.natural(theta), x))


@pytest.mark.stats
def test_fill_draws_from_the_conditional(theta):
    family, draws = FullGaussian(D, K), 20_000
    row = torch.tensor([0.7, torch.nan, -1.1, torch.nan])
    one = {key: value[0].expand(draws, *value[0].shape) for key, value in theta.items()}
    filled = family.fill(one, row.expand(draws, D))
    hole = row.isnan()
    assert torch.equal(filled[:, ~hole], row[~hole].expand(draws, 2))
    mean, spread = conditional(theta["loc"][0], torch.linalg.inv(theta["precision"][0]), row)
    got = filled[:, hole]
    assert ((got.mean(0) - mean[hole]).abs() < 4 * got.std(0) / draws**0.5).all()
    products = torch.einsum("ni,nj->nij", got - mean[hole], got - mean[hole])
    error = 4 * products.std(0) / draws**0.5
    assert ((products.mean(0) - spread[hole][:, hole]).abs() < error).all()


def test_maximum_likelihood_is_mean_and_covariance(fitted):
    x = torch.randn(200, D) @ torch.randn(D, D)
    family = FullGaussian(D, prior=None)
    theta = fitted(family, x, torch.ones(1, 200))
    assert_close(theta["loc"][0], x.mean(0))
    assert_close(family.describe(theta)["covariance"][0], torch.cov(x.T, correction=0))


def test_tied_covariance_is_the_pooled_one(fitted):
    x, label = torch.randn(200, D), torch.arange(200) % 2
    share = torch.stack([label == 0, label == 1]).double()
    family = TiedGaussian(D, 2, prior=None)
    found = family.describe(fitted(family, x, share))["covariance"]
    centred = torch.cat([x[label == k] - x[label == k].mean(0) for k in range(2)])
    assert_close(found[0], centred.T @ centred / 200)
    assert torch.equal(found[0], found[1])


def test_diagonal_structure_is_full_structure_with_a_diagonal_matrix(x):
    diagonal, full = gaussian(D, K, "diagonal"), gaussian(D, K, "full")
    theta = {"loc": torch.randn(K, D), "precision": torch.rand(K, D) + 0.5}
    matrix = {"loc": theta["loc"], "precision": torch.diag_embed(theta["precision"])}
    one, other = (f.score(f.natural(t), x) for f, t in ((diagonal, theta), (full, matrix)))
    assert_close(one, other)


@pytest.mark.stats
def test_wishart_matrices_have_their_moments():
    root = torch.randn(3, 3)
    scatter = (root @ root.T + torch.eye(3)).expand(20_000, 3, 3)
    drawn = wishart(torch.full((20_000,), 7.5), scatter)
    V = torch.linalg.inv(scatter[0])
    error = 4 * drawn.std(0) / 20_000**0.5
    assert ((drawn.mean(0) - 7.5 * V).abs() < error).all()
    sd = (7.5 * (V**2 + torch.outer(V.diagonal(), V.diagonal()))).sqrt()
    assert_close(drawn.std(0), sd, rtol=0.05, atol=0)


def test_rows_that_are_filled_together_are_filled_as_each_alone(monkeypatch):
    """Two components that differ in nothing but the sign of a correlation, three patterns of holes."""
    torch.manual_seed(0)
    loc = torch.zeros(60, 3)
    precision = torch.linalg.inv(torch.tensor([[[1.0, r, 0.3], [r, 1.0, 0.0], [0.3, 0.0, 2.0]] for r in (0.6, -0.6)]))
    theta = {"loc": loc, "precision": precision[torch.arange(60) % 2]}
    x = torch.randn(60, 3)
    for rows, cells in ((slice(0, 20), [0]), (slice(20, 40), [1, 2]), (slice(40, 60), [0, 1, 2])):
        x[rows, cells] = torch.nan
    family = FullGaussian(3)
    torch.manual_seed(1)
    together = family.conditional(theta, x)
    monkeypatch.setattr(gaussian_joint, "ROWS_A_ROOT", 10**6)
    torch.manual_seed(1)
    alone = family.conditional(theta, x)
    assert_close(together, alone)
    mean = together[0][0]  # of the first cell given the others, by hand
    P = precision[0]
    assert mean[0] == pytest.approx(float(-(P[0, 1] * x[0, 1] + P[0, 2] * x[0, 2]) / P[0, 0]), abs=1e-5)
