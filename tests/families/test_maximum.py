"""Maximum likelihood beside SciPy, and posteriors beside their closed forms or quadrature."""

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats
from torch.testing import assert_close

from probgen.families import (
    Bernoulli,
    Beta,
    Categorical,
    DiagonalGaussian,
    FullGaussian,
    Gamma,
    Hurdle,
    LogNormal,
    NegativeBinomial,
    OrderedLogistic,
    Poisson,
    SphericalGaussian,
)

N = 1500


@pytest.fixture
def likelihood(fitted):
    """Readable maximum-likelihood parameters of one column."""

    def fit(family, x: np.ndarray) -> dict[str, float]:
        data = torch.as_tensor(x, dtype=torch.float64)[:, None]
        theta = fitted(family, data, torch.ones(1, len(x)))
        return {key: float(value[0, 0]) for key, value in family.describe(theta).items()}

    return fit


@pytest.mark.reference
def test_gamma_is_scipys(likelihood):
    x = stats.gamma(2.3, scale=1.7).rvs(N, random_state=1)
    shape, _, scale = stats.gamma.fit(x, floc=0)
    found = likelihood(Gamma(prior=None), x)
    assert found["shape"] == pytest.approx(shape, rel=1e-5)
    assert found["mean"] == pytest.approx(shape * scale, rel=1e-5)


@pytest.mark.reference
def test_beta_is_scipys(likelihood):
    x = stats.beta(0.8, 3.0).rvs(N, random_state=2)
    a, b, _, _ = stats.beta.fit(x, floc=0, fscale=1)
    found = likelihood(Beta(prior=None), x)
    assert found["concentration"] == pytest.approx(a + b, rel=1e-3)  # two of a thousand lie by the edge
    assert found["mean"] == pytest.approx(a / (a + b), rel=1e-3)


@pytest.mark.reference
def test_log_normal_is_scipys(likelihood):
    x = stats.lognorm(0.6, scale=2.0).rvs(N, random_state=3)
    s, _, scale = stats.lognorm.fit(x, floc=0)
    found = likelihood(LogNormal(prior=None), x)
    assert found["scale"] == pytest.approx(s, rel=1e-6)
    assert found["loc"] == pytest.approx(np.log(scale), rel=1e-6)


@pytest.mark.reference
@pytest.mark.parametrize(("shape", "mean"), [(0.2, 3.0), (2.0, 5.0), (9.0, 40.0)])
def test_negative_binomial_is_scipys(likelihood, shape, mean):
    x = stats.nbinom(shape, shape / (shape + mean)).rvs(N, random_state=4)

    def loss(log):
        r, m = np.exp(log)
        return -stats.nbinom.logpmf(x, r, r / (r + m)).sum()

    best = optimize.minimize(loss, np.log([1.0, x.mean()]), method="Nelder-Mead", tol=1e-9)
    found = likelihood(NegativeBinomial(prior=None), x)
    assert [found["shape"], found["mean"]] == pytest.approx(np.exp(best.x), rel=1e-5)


def test_counts_with_little_spread_reach_the_poisson_limit(likelihood):
    x = stats.binom(20, 0.3).rvs(N, random_state=5)
    found = likelihood(NegativeBinomial(prior=None), x)
    assert found["shape"] > 1e5
    assert found["mean"] == pytest.approx(x.mean(), rel=1e-6)


def test_negative_binomial_density_is_accurate_everywhere():
    """The polynomial in log r, and Stirling's series, against SciPy's gamma function."""
    x = torch.tensor([0.0, 1.0, 2.0, 7.0, 60.0, 900.0])[:, None]
    log_shape = torch.linspace(-6.0, 9.0, 331)
    family = NegativeBinomial(table=331)
    theta = {"log_shape": log_shape[:, None], "log_mean": torch.full((331, 1), 1.3)}
    found = family.score(family.natural(theta), x)
    r = np.exp(log_shape.numpy())[:, None]
    expected = stats.nbinom.logpmf(x[:, 0].numpy(), r, r / (r + np.exp(1.3)))
    assert_close(found, torch.as_tensor(expected), atol=1e-8, rtol=1e-9)
    rows = {key: value[:, None] for key, value in theta.items()}
    assert_close(family.log_prob(rows, x), found, atol=1e-9, rtol=1e-9)
    poisson = family.score(family.natural({**theta, "log_shape": torch.full((331, 1), 13.8)}), x)[0]
    assert_close(poisson[:4], torch.as_tensor(stats.poisson(np.exp(1.3)).logpmf([0, 1, 2, 7])), atol=1e-4, rtol=0)


def test_one_row_of_ordinal_levels_has_their_frequencies(fitted):
    x = torch.tensor([0.0] * 5 + [1.0] * 11 + [2.0] * 3 + [3.0] * 21)[:, None]
    family = OrderedLogistic(4, prior=None)
    theta = fitted(family, x, torch.ones(1, 40))
    probs = family.natural(theta)["logits"].exp()[0, 0]
    assert_close(probs, torch.tensor([5.0, 11.0, 3.0, 21.0]) / 40, atol=1e-7, rtol=0)
    assert float(theta["loc"][0, 0]) == 0.0


@pytest.mark.reference
def test_proportional_odds_by_scipy(fitted):
    """Two groups, three levels: location and cutpoints by a general optimiser."""
    counts = np.array([[30.0, 20.0, 10.0], [8.0, 15.0, 25.0]])

    def loss(free):
        upper = special.expit(np.array([free[0], free[0] + np.exp(free[1])]) - np.array([[0.0], [free[2]]]))
        levels = np.diff(np.concatenate([np.zeros((2, 1)), upper, np.ones((2, 1))], 1))
        return -(counts * np.log(levels)).sum()

    best = optimize.minimize(loss, [0.0, 0.0, 0.0], tol=1e-10)
    family = OrderedLogistic(3, table=2, prior=None)
    theta = family.update({"logits": torch.as_tensor(counts)[:, None]}, family.start())
    cut = [best.x[0], best.x[0] + np.exp(best.x[1])]
    assert theta["cutpoints"][0, 0].tolist() == pytest.approx(cut, abs=1e-4)
    assert float(theta["loc"][1, 0]) == pytest.approx(best.x[2], abs=1e-4)


def test_a_level_that_never_occurs_is_all_but_impossible(fitted):
    x = torch.tensor([0.0] * 10 + [3.0] * 10)[:, None]
    family = OrderedLogistic(4, prior=None)
    logits = family.natural(fitted(family, x, torch.ones(1, 20)))["logits"]
    assert logits.isfinite().all()
    assert logits.exp()[0, 0, 1:3].sum() < 1e-3


def test_hurdle_is_share_and_log_normal(likelihood):
    x = np.where(np.arange(N) % 3 == 0, 0.0, stats.lognorm(0.5).rvs(N, random_state=6))
    found, log = likelihood(Hurdle(prior=None), x), np.log(x[x > 0])
    assert found["probs"] == pytest.approx((x > 0).mean())
    assert [found["loc"], found["scale"]] == pytest.approx([log.mean(), log.std()])


def test_simple_families_by_hand(fitted, expect):
    share = torch.ones(1, 6)
    codes = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 1.0])[:, None]
    for family, mean in ((Bernoulli(prior=None), 4 / 6), (Poisson(prior=None), 4 / 6)):
        theta = fitted(family, codes, share)
        assert float(next(iter(family.describe(theta).values()))[0, 0]) == pytest.approx(mean)
    theta = fitted(Categorical(3, columns=1, prior=None), codes, share)
    assert_close(theta["logits"][0, 0].exp(), torch.tensor([2.0, 4.0, 0.0]) / 6, atol=1e-12, rtol=0)


# ---------------------------------------------------------------------------------------------- expected statistics
def test_gradients_are_expected_statistics(cases, expect, shares, fitted, punch):
    """Fisher's identity, against sums written out by hand."""
    x = punch(cases["negative_binomial"].data(200))
    seen, share = (~x.isnan()).double(), shares(200)
    filled = x.nan_to_num()
    for family in (Poisson(2, 2), NegativeBinomial(2, 2), Bernoulli(2, 2), DiagonalGaussian(2, 2)):
        _, found = expect(
            family, fitted(family, x.clamp(0, 1) if isinstance(family, Bernoulli) else x, share), x, share
        )
        assert_close(found["log_normaliser"], share @ seen)
    _, found = expect(Poisson(2, 2), Poisson(2, 2).start(), x, share)
    assert_close(found["log_rate"], share @ filled)
    family = DiagonalGaussian(2, 2)
    _, found = expect(family, family.start(), x, share)
    assert_close(found["linear"], share @ filled)
    assert_close(found["square"], share @ filled**2)


def test_gradients_of_negative_binomial_and_hurdle(cases, expect, shares, punch):
    from probgen.families.negative_binomial import nodes

    x, share = punch(cases["negative_binomial"].data(200)), shares(200)
    family = NegativeBinomial(2, 2)
    _, found = expect(family, family.start(), x, share)
    r, counts = nodes().exp().numpy(), x.nan_to_num().numpy()[..., None]
    rising = torch.as_tensor(special.gammaln(counts + r) - special.gammaln(r))
    assert_close(found["grid"], torch.einsum("kn,ndg->kdg", share, rising), atol=1e-5, rtol=1e-7)
    assert_close(found["count"], share @ x.nan_to_num())

    x = punch(cases["hurdle"].data(200))
    family = Hurdle(2, 2)
    _, found = expect(family, family.start(), x, share)
    log = torch.where(x > 0, x, 1.0).log()
    assert_close(found["log_normaliser"], share @ (~x.isnan()).double())
    assert_close(found["positive"], share @ (x > 0).double())
    assert_close(found["linear"], share @ log)
    assert_close(found["square"], share @ log**2)


def test_gradients_of_codes_are_expected_counts(cases, expect, shares, punch):
    for name, levels in (("categorical", 4), ("ordered", 5)):
        x, share = punch(cases[name].data(200)), shares(200)
        family = cases[name].family()
        _, found = expect(family, family.start(), x, share)
        by_hand = torch.stack([share @ (x == level).double() for level in range(levels)], -1)
        assert_close(found["logits"], by_hand)


# --------------------------------------------------------------------------------------------------------- posteriors
DRAWS = 4000


def agrees(draws: torch.Tensor, mean: torch.Tensor | float, sd: torch.Tensor | float, slack: float = 0.0) -> bool:
    """Mean and standard deviation of draws ``(DRAWS, ...)`` within four standard errors (plus relative slack)."""
    centred = (draws - draws.mean(0)).square()
    mean_error = draws.std(0) / DRAWS**0.5
    sd_error = centred.std(0) / DRAWS**0.5 / (2 * draws.std(0))
    near = (draws.mean(0) - mean).abs() <= 4 * mean_error + slack * torch.as_tensor(sd)
    spread = (draws.std(0) - sd).abs() <= 4 * sd_error + slack * torch.as_tensor(sd)
    return bool(near.all() and spread.all())


def repeated(statistics: dict, rows: int = DRAWS) -> dict:
    return {key: value.expand(rows, *value.shape[1:]) for key, value in statistics.items()}


@pytest.mark.stats
def test_conjugate_draws_have_their_posteriors_moments(cases, expect):
    x = cases["poisson"].data(40)
    family, one = Poisson(2, DRAWS), Poisson(2, 1)
    found = expect(one, one.start(), x)[1]
    shape, rate = (v[0] for v in family.shape_and_rate())
    gamma = stats.gamma(shape + x.sum(0), scale=1 / (rate + 40))
    draws = family.posterior_draw(repeated(found))["rate"]
    assert agrees(draws, torch.as_tensor(gamma.mean()), torch.as_tensor(gamma.std()))

    x = cases["bernoulli"].data(40)
    family, one = Bernoulli(2, DRAWS), Bernoulli(2, 1)
    beta = stats.beta(1.5 + x.sum(0), 1.5 + 40 - x.sum(0))
    draws = family.describe(family.posterior_draw(repeated(expect(one, one.start(), x)[1])))["probs"]
    assert agrees(draws, torch.as_tensor(beta.mean()), torch.as_tensor(beta.std()))

    x = cases["categorical"].data(40)
    family, one = Categorical(4, 2, DRAWS), Categorical(4, 2, 1)
    concentration = 1.25 + torch.stack([(x == level).double().sum(0) for level in range(4)], -1)
    total = concentration.sum(-1, keepdim=True)
    mean = concentration / total
    draws = family.posterior_draw(repeated(expect(one, one.start(), x)[1]))["logits"].exp()
    assert agrees(draws, mean, (mean * (1 - mean) / (total + 1)).sqrt())


@pytest.mark.stats
@pytest.mark.parametrize("make", [DiagonalGaussian, SphericalGaussian, LogNormal])
def test_normal_gamma_draws_have_their_posteriors_moments(make, cases, expect):
    x = cases["diagonal"].data(30)
    x = x.exp() if make is LogNormal else x
    family, one = make(2, DRAWS), make(2, 1)
    draws = family.posterior_draw(repeated(expect(one, one.start(), x)[1]))
    y = x.log() if make is LogNormal else x
    kappa = 30 + 0.01
    loc = y.sum(0) / kappa
    shape, rate = 1.5 + 15.0, 0.5 + 0.5 * ((y**2).sum(0) - kappa * loc**2)
    if make is SphericalGaussian:
        shape, rate = 2 * shape, rate.sum().expand(2)
    assert agrees(draws["precision"], shape / rate, shape**0.5 / rate)
    assert agrees(draws["loc"], loc, (rate / (kappa * (shape - 1))).sqrt())


@pytest.mark.stats
def test_normal_wishart_draws_have_their_posteriors_moments(cases, expect):
    x = cases["full"].data(30)
    family, one = FullGaussian(2, DRAWS), FullGaussian(2, 1)
    draws = family.posterior_draw(repeated(expect(one, one.start(), x)[1]))
    kappa, freedom = 30.01, 34.0
    loc = x.sum(0) / kappa
    scatter = torch.eye(2) + x.T @ x - kappa * torch.outer(loc, loc)
    V = scatter.inverse()
    sd = (freedom * (V**2 + torch.outer(V.diagonal(), V.diagonal()))).sqrt()
    assert agrees(draws["precision"], freedom * V, sd)
    assert agrees(draws["loc"], loc, (scatter.diagonal() / (kappa * (freedom - 3))).sqrt())


def by_quadrature(target, at: torch.Tensor, reach: float = 3.0, size: int = 241) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each coordinate under exp(target), on a grid around ``at``."""
    axes = [torch.linspace(float(v) - reach, float(v) + reach, size) for v in at]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    value = target(grid.flatten(1)).reshape(grid.shape[1:])
    weight = (value - value.max()).exp()
    weight = weight / weight.sum()
    mean = torch.stack([(weight * g).sum() for g in grid])
    return mean, torch.stack([(weight * (g - m) ** 2).sum().sqrt() for g, m in zip(grid, mean)])


@pytest.mark.stats
@pytest.mark.parametrize("name", ["gamma", "beta", "negative_binomial"])
@pytest.mark.parametrize("rows", [15, 200])
def test_draws_without_closed_form_have_the_posteriors_moments(name, rows, cases, expect):
    """Laplace and Metropolis against quadrature; what is left of the Laplace start is below one per cent."""
    x = cases[name].data(rows)[:, :1]
    family, one = cases[name].family(DRAWS, columns=1), cases[name].family(1, columns=1)
    statistics = expect(one, one.start(), x)[1]
    draws = family.stack(family.posterior_draw(repeated(statistics)))[..., 0].mT
    target = lambda u: (one.expected(statistics, u[..., None]) + one.penalty(u[..., None]))[..., 0]  # noqa: E731
    mode = one.stack(one.update(statistics, one.start()))[:, 0, 0]
    mean, sd = by_quadrature(target, mode)
    assert agrees(draws, mean, sd, slack=0.01)


@pytest.mark.stats
@pytest.mark.parametrize(("table", "levels"), [(1, 3), (2, 2)])
def test_ordinal_draws_have_the_posteriors_moments(table, levels):
    counts = torch.tensor([[9.0, 6.0, 3.0], [1.0, 4.0, 4.0]])[:table, None, :levels]
    family = OrderedLogistic(levels, DRAWS, table)
    drawn = family.disassemble(family.posterior_draw({"logits": counts.expand(-1, DRAWS, -1)}))
    draws = torch.cat([drawn["loc"].mT, drawn["free"]], -1)
    one = OrderedLogistic(levels, 1, table)
    mode = one.disassemble(one.update({"logits": counts}, one.start()))
    center = torch.cat([mode["loc"][:, 0], mode["free"][0]])
    one_target = OrderedLogistic(levels, 81**3, table)
    target = one_target.target(counts.expand(-1, 81**3, -1), prior=True)
    mean, sd = by_quadrature(target, center, reach=5.0, size=81)
    assert agrees(draws, mean, sd, slack=0.02)
