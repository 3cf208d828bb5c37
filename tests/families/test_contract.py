"""What every family promises, whatever it is a distribution of."""

import pytest
import torch
from torch.testing import assert_close

from probgen.families import CoupledGaussian, OrderedLogistic, TiedGaussian

N = 300


def test_density_integrates_to_one(columnwise, shares, fitted):
    family = columnwise.family(columns=1)
    theta = fitted(family, columnwise.data(N)[:, :1], shares(N))
    points, weights = columnwise.rule()
    total = (family.score(family.natural(theta), points[:, None]) + weights).logsumexp(1)
    assert_close(total, torch.zeros(2), atol=2e-5, rtol=0)


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_coupled_density_integrates_to_one(covariance, cases, shares, fitted):
    family = cases[covariance].family()
    theta = fitted(family, cases[covariance].data(N), shares(N))
    axis = torch.linspace(-9.0, 9.0, 361)
    grid = torch.cartesian_prod(axis, axis)
    total = family.score(family.natural(theta), grid).logsumexp(1) + 2 * torch.log(axis[1] - axis[0])
    assert_close(total, torch.zeros(2), atol=1e-6, rtol=0)


def test_table_and_rows_agree_on_holes(case, shares, fitted, punch):
    family, x = case.family(), punch(case.data(N))
    theta = fitted(family, x, shares(N))
    scores = family.score(family.natural(theta), x)
    assert scores.isfinite().all()
    for k in range(2):
        rows = {key: value[k].expand(N, *value[k].shape) for key, value in theta.items()}
        assert_close(family.log_prob(rows, x), scores[k], atol=1e-9, rtol=1e-9)


def test_unknown_cells_are_integrated_out(columnwise, shares, fitted):
    family, x = columnwise.family(), columnwise.data(50)
    natural = family.natural(fitted(family, x, shares(50)))
    hole = torch.full_like(x[:, :1], torch.nan)
    left = family.score(natural, torch.cat([x[:, :1], hole], 1))
    right = family.score(natural, torch.cat([hole, x[:, 1:]], 1))
    assert_close(left + right, family.score(natural, x), atol=1e-10, rtol=1e-10)
    assert_close(family.score(natural, hole.expand(-1, 2).clone()), torch.zeros(2, 50))


def test_statistics_are_additive(case, shares, fitted, expect, punch):
    family, x, share = case.family(), punch(case.data(N)), shares(N)
    theta = fitted(family, x, share)
    whole = expect(family, theta, x, share)
    pieces = [expect(family, theta, x[at].clone(), share[:, at]) for at in torch.arange(N).chunk(3)]
    assert_close(sum(value for value, _ in pieces), whole[0], atol=1e-9, rtol=1e-12)
    for key, value in whole[1].items():
        assert_close(sum(found[key] for _, found in pieces), value, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("prior", ["default", None])
def test_update_is_the_maximum(case, prior, shares, fitted, expect, punch, coordinates):
    family, x, share = case.family(prior=prior), case.data(N), shares(N)
    if not isinstance(family, CoupledGaussian):  # with holes a coupled Gaussian's update is one step of many
        x = punch(x)
    theta = fitted(family, x, share)
    for _ in range(case.rounds):
        theta = family.update(expect(family, theta, x, share)[1], theta)
    u, back = coordinates(family, theta)

    def value(u):
        theta = back(u)
        fit = (share * family.score(family.natural(theta), x)).sum()
        return fit if prior is None else fit + family.log_prior(theta)

    leaf = u.clone().requires_grad_()
    top = value(leaf)
    assert torch.autograd.grad(top, leaf)[0].abs().max() < 1e-4
    for size in torch.logspace(-3, -0.3, 50):
        assert value(u + size * torch.randn_like(u)) <= top + 1e-8


@pytest.mark.parametrize("prior", ["default", None])
def test_update_never_goes_down_on_a_mixture_with_holes(case, prior, shares, fitted, expect, punch):
    """Expectation maximisation is monotone in log likelihood plus log prior (Dempster et al., 1977)."""
    family, x = case.family(prior=prior), punch(case.data(N))
    theta, values = fitted(family, x, (5 * shares(N)).softmax(0)), []
    for _ in range(12):
        scores = family.score(family.natural(theta), x)
        prior_value = 0.0 if prior is None else float(family.log_prior(theta))
        values.append(float(scores.logsumexp(0).sum()) + prior_value)
        _, statistics = expect(family, theta, x, scores.softmax(0).detach())
        theta = family.update(statistics, theta)
    rises = torch.tensor(values).diff()
    assert rises.min() > -1e-7, values
    assert rises.sum() > 0


@pytest.mark.parametrize("prior", ["default", None])
def test_a_row_without_data_stays_sound(case, prior, shares, fitted, expect):
    family, x = case.family(prior=prior), case.data(N)
    current = fitted(family, x, shares(N))
    share = torch.stack([torch.ones(N), torch.zeros(N)])
    theta = family.update(expect(family, current, x, share)[1], current)
    assert all(value.isfinite().all() for value in theta.values())
    assert family.score(family.natural(theta), x).isfinite().all()
    if prior is None and not isinstance(family, (TiedGaussian, OrderedLogistic)):
        before, after = (family.score(family.natural(t), x)[1] for t in (current, theta))
        assert_close(before, after, atol=1e-8, rtol=1e-8)


def test_no_prior_is_maximum_likelihood(case, fitted, expect):
    """Many copies of the data drown the prior."""
    x = case.data(N)
    likelihood, posterior = case.family(1, None), case.family(1)
    bare = fitted(likelihood, x, torch.ones(1, N))
    drowned = fitted(posterior, x, torch.full((1, N), 1e7))
    scores = [f.score(f.natural(t), x) for f, t in ((likelihood, bare), (posterior, drowned))]
    assert_close(*scores, atol=1e-4, rtol=1e-4)


def test_fill_leaves_known_cells_and_stays_in_the_support(case, shares, fitted, punch):
    family, x = case.family(), punch(case.data(N))
    theta = fitted(family, x, shares(N))
    rows = {key: value[0].expand(N, *value[0].shape) for key, value in theta.items()}
    full, again = family.fill(rows, x), family.fill(rows, x)
    hole = x.isnan()
    assert torch.equal(full[~hole], x[~hole])
    assert full.isfinite().all()
    assert family.log_prob(rows, full).isfinite().all()
    assert not torch.equal(full[hole], again[hole])
    assert full[hole].unique().numel() > 1
    if case.whole:
        assert torch.equal(full, full.round())
        assert torch.isin(full, case.rule()[0]).all()


@pytest.mark.stats
def test_samples_have_the_density_they_are_drawn_from(columnwise, shares, fitted):
    """Mean log density of draws = minus the entropy by quadrature, within four standard errors."""
    family = columnwise.family(columns=1)
    theta = fitted(family, columnwise.data(N)[:, :1], shares(N))
    points, weights = columnwise.rule()
    density = family.score(family.natural(theta), points[:, None])[0]
    expected = torch.where(density.isfinite(), (density + weights).exp() * density, 0.0).sum()
    rows = {key: value[0].expand(4000, *value[0].shape) for key, value in theta.items()}
    drawn = family.log_prob(rows, family.sample(rows))
    assert abs(drawn.mean() - expected) < 4 * drawn.std() / 4000**0.5 + 1e-4


def test_mean_and_standard_deviation_are_those_of_the_density(columnwise, shares, fitted):
    family = columnwise.family(columns=1)
    theta = fitted(family, columnwise.data(N)[:, :1], shares(N))
    sd = family.sd(theta)[:, 0]
    if sd.isnan().any():  # codes have no spread
        assert hasattr(family, "levels")
        return
    points, weights = columnwise.rule()
    cells = (family.score(family.natural(theta), points[:, None]) + weights).exp()
    points = torch.where(cells.amax(0) > 0, points, 0.0)
    mean = cells @ points
    assert_close(family.mean(theta)[:, 0], mean, atol=1e-3, rtol=1e-3)
    assert_close(sd, (cells @ points**2 - mean**2).sqrt(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_coupled_standard_deviations_are_those_of_draws(covariance, cases, shares, fitted):
    family = cases[covariance].family()
    theta = fitted(family, cases[covariance].data(N), shares(N))
    rows = {key: value[0].expand(40_000, *value[0].shape) for key, value in theta.items()}
    assert_close(family.sample(rows).std(0), family.sd(theta)[0], rtol=0.02, atol=0.0)


def test_prior_sites_make_parameters(case, shares, fitted):
    family, x = case.family(), case.data(20)
    fitted(family, x, shares(20))
    for _ in range(10):
        sites = {key: d.sample() for key, d in family.prior().items()}
        theta = family.assemble(sites)
        assert all(value.shape[0] == 2 for value in theta.values())
        assert family.score(family.natural(theta), x).isfinite().all()
        assert torch.as_tensor(family.log_prior(theta)).isfinite()
        for key, value in family.disassemble(theta).items():
            assert value.shape == sites[key].shape
        again = family.assemble(family.disassemble(theta))
        for key, value in theta.items():
            assert_close(again[key], value, atol=1e-6, rtol=1e-6)


def test_posterior_draws_are_sound_and_concentrate(case, shares, fitted, expect):
    family, x = case.family(), case.data(N)
    theta = fitted(family, x, shares(N))
    statistics = expect(family, theta, x, 1e4 * shares(N))[1]
    peak = family.update(statistics, theta)
    draw = family.posterior_draw(statistics)
    assert {k: v.shape for k, v in draw.items()} == {k: v.shape for k, v in theta.items()}
    scores = [family.score(family.natural(t), x).mean() for t in (peak, draw)]
    assert_close(*scores, atol=1e-3, rtol=1e-3)
    nothing = {key: torch.zeros_like(value) for key, value in statistics.items()}
    assert all(v.isfinite().all() for v in family.posterior_draw(nothing).values())


# ------------------------------------------------------------------------------------------------ a network's head
OUTPUTS = [-30.0, -8.0, 0.0, 8.0, 30.0, None]


@pytest.mark.parametrize("output", OUTPUTS)
def test_head_is_finite_in_single_precision(case, output, punch):
    family, x = case.family(1), punch(case.data(64))
    family, x = family.float(), x.float()
    shape = (64, family.outputs)
    value = torch.randn(shape).mul(10.0).clamp(-30, 30) if output is None else torch.full(shape, output)
    leaf = value.float().requires_grad_()
    theta = family.head(leaf)
    density = family.log_prob(theta, x)
    assert density.dtype == torch.float32
    assert density.isfinite().all()
    assert torch.autograd.grad(density.sum(), leaf)[0].isfinite().all()
    drawn = family.sample({key: v.detach() for key, v in theta.items()})
    assert drawn.isfinite().all()
    assert family.log_prob(theta, drawn).isfinite().all()


def test_head_starts_near_a_sensible_distribution(case):
    """At output zero the density of ordinary data is ordinary."""
    family, x = case.family(1).float(), case.data(200).float()
    density = family.log_prob(family.head(torch.zeros(200, family.outputs).float()), x)
    assert density.mean() > -40


def test_head_rows_equal_table_rows(case, shares):
    """The same parameters mean the same density in both uses."""
    family, x = case.family(1), case.data(20)
    theta = family.head(torch.randn(1, family.outputs))
    score = family.score(family.natural(theta), x)[0]
    rows = {key: value.expand(20, *value.shape[1:]) for key, value in theta.items()}
    assert_close(family.log_prob(rows, x), score, atol=1e-8, rtol=1e-8)
