"""Gaussian diffusion: its bound against closed forms and the chain written out in full, its schedule, draws and conditions."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.distributions import kl_divergence

import probgen as pg
from probgen.data import Column, Schema
from probgen.families.denoising import Asked, SharedNoise, asked_at_random
from probgen.families.gaussian_diffusion import GaussianDiffusion
from probgen.families.noise_schedule import NoiseSchedule, amplitudes
from probgen.families.noised_cells import NoisedCells

REAL = Schema((Column("a", "real"), Column("b", "real")))
COV = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)


class Linear(torch.nn.Module):
    """The best denoiser of normal rows, of shown cells too, as the velocity that a process asks for."""

    def forward(self, read, number):
        z, (modelled, shown) = read[..., :2], read[..., 2:].bool().unflatten(-1, (2, 2)).unbind(-2)
        gamma = 4 * number[..., None]
        alpha, sigma = amplitudes(gamma)
        noisy = torch.where(modelled, sigma.square(), torch.where(shown, 1e-12, 1e12))
        weight = torch.where(modelled, alpha, torch.where(shown, 1.0, 0.0))
        total = weight[..., None] * COV * weight[..., None, :] + torch.diag_embed(noisy.expand_as(z))
        mean = (COV * weight[..., None, :] @ torch.linalg.solve(total, z[..., None]))[..., 0]
        return (alpha * z - mean) / sigma.square()


def process(steps=None, **more):
    return GaussianDiffusion(NoisedCells(REAL), Linear(), NoiseSchedule(-9.0, 7.0), steps, **more).double()


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


ROWS = torch.tensor([[0.3, -1.0], [1.5, 1.2], [-2.0, -1.0]], dtype=torch.float64)
TRUTH = dist.MultivariateNormal(torch.zeros(2, dtype=torch.float64), COV)


def test_with_the_best_denoiser_the_bound_of_endless_steps_is_the_density():
    with torch.no_grad():
        value, error = process().scored(ROWS, Asked.density(torch.ones(3, 2).bool()), 20_000, SharedNoise())
    assert float(error.max()) < 0.05
    gap = value - TRUTH.log_prob(ROWS)
    assert (gap.abs() < 4 * error + 2e-3).all(), gap


def test_shown_cells_are_conditioned_on_and_absent_ones_left_out():
    first, second = torch.tensor([True, False]).expand(3, 2), torch.tensor([False, True]).expand(3, 2)
    with torch.no_grad():
        given, error = process().scored(ROWS, Asked(first, second), 20_000, SharedNoise())
        alone, off = process().scored(ROWS, Asked.density(first), 20_000, SharedNoise())
    exact = dist.Normal(0.8 * ROWS[:, 1], 0.6).log_prob(ROWS[:, 0])
    assert ((given - exact).abs() < 4 * error + 2e-3).all()
    assert ((alone - dist.Normal(0.0, 1.0).log_prob(ROWS[:, 0])).abs() < 4 * off + 2e-3).all()


def chain_bound(of, x):
    """Minus the loss of the chain as a Pyro pair, a site a step, divergences in closed form."""
    y, T, every = of.cells.read(x), of.steps, Asked.density(torch.ones_like(x).bool())
    gamma = of.schedule(torch.linspace(0.0, 1.0, T + 1))

    def law(i):
        alpha, sigma = amplitudes(gamma[i])
        return alpha, sigma

    def back(z, signal, i):
        (alpha, sigma), (alpha_s, sigma_s) = law(i), law(i - 1)
        ratio = alpha / alpha_s
        noise = sigma.square() - ratio.square() * sigma_s.square()
        mean = ratio * sigma_s.square() / sigma.square() * z + alpha_s * noise / sigma.square() * signal
        return dist.Normal(mean, (noise.sqrt() * sigma_s / sigma).expand_as(z)).to_event(1)

    def guide():
        alpha, sigma = law(T)
        z = pyro.sample(f"z{T}", dist.Normal(alpha * y, sigma).to_event(1))
        for i in range(T, 0, -1):
            z = pyro.sample(f"z{i - 1}", back(z, y, i))

    def model():
        z = pyro.sample(f"z{T}", dist.Normal(torch.zeros_like(y), 1.0).to_event(1))
        for i in range(T, 0, -1):
            signal = of.predicted(z[None], gamma[i].expand(1, len(z)), y, every).signal
            z = pyro.sample(f"z{i - 1}", back(z, signal[0], i))

    drawn = poutine.trace(guide).get_trace()
    said = poutine.trace(poutine.replay(model, drawn)).get_trace()
    gaps = sum(kl_divergence(drawn.nodes[f"z{i}"]["fn"], said.nodes[f"z{i}"]["fn"]) for i in range(T + 1))
    alpha, _ = law(0)
    return of.cells.log_prob(x, drawn.nodes["z0"]["value"] / alpha, gamma[0]).sum(-1) - gaps


def test_one_step_at_random_is_the_chain_written_out_as_a_pyro_pair():
    of = process(steps=10)
    with torch.no_grad():
        whole = torch.stack([chain_bound(of, ROWS) for _ in range(500)])
        value, error = of.scored(ROWS, Asked.density(torch.ones(3, 2).bool()), 8000, SharedNoise())
        one = torch.stack([of.one_time(ROWS) for _ in range(500)])
    spread = (error.square() + whole.var(0) / len(whole)).sqrt()
    assert ((value - whole.mean(0)).abs() < 4 * spread).all()
    gap = (one.mean(0) - whole.mean(0)).abs()
    assert (gap < 4 * (one.var(0) / len(one) + whole.var(0) / len(whole)).sqrt()).all()
    assert (whole.mean(0) < TRUTH.log_prob(ROWS)).all()  # ten steps are few


def test_the_standard_error_is_the_spread_over_seeds():
    of, asked = process(steps=10), Asked.density(torch.ones(3, 2).bool())
    with torch.no_grad():
        found = [of.scored(ROWS, asked, 20, SharedNoise()) for _ in range(400)]
    values, errors = (torch.stack(part) for part in zip(*found, strict=True))
    ratio = errors.square().mean(0).sqrt() / values.std(0)
    assert ((ratio > 0.88) & (ratio < 1.12)).all()  # 3.5 % of standard error


def test_the_schedule_rises_whatever_its_weights_are():
    schedule = NoiseSchedule()
    torch.nn.init.normal_(schedule.weights, std=3.0)
    t = torch.linspace(0.0, 1.0, 32 * 40 + 1)
    gamma = schedule(t).detach()
    assert (gamma.diff() > 0).all()
    first, last = (end.detach() for end in schedule.ends())
    assert float(gamma[0]) == pytest.approx(float(first))
    assert float(gamma[-1]) == pytest.approx(float(last))
    rise, (_, slope) = schedule.shape(t)[0], schedule.shape((t[1:] + t[:-1]) / 2)
    np.testing.assert_allclose(rise.diff().detach(), slope.detach() / (32 * 40), atol=1e-12)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "heun", "dpm"])
def test_draws_have_the_law_that_the_network_knows(sampler):
    of = process(sampler=sampler, draw_steps=200 if sampler == "ancestral" else 40)
    x = torch.tensor([[math.nan, 1.5]]).expand(2500, 2)
    with torch.no_grad():
        drawn = of.filled(x, [SharedNoise()])[0]
        both = of.filled(torch.full((2500, 2), math.nan), [SharedNoise()])[0]
    assert (drawn[:, 1] == 1.5).all()
    assert float(drawn[:, 0].mean()) == pytest.approx(1.2, abs=4 * 0.6 / math.sqrt(2500) + 0.01)
    assert float(drawn[:, 0].std()) == pytest.approx(0.6, abs=0.04)
    assert np.corrcoef(both.T)[0, 1] == pytest.approx(0.8, abs=0.04)


VARIANCES = torch.tensor([0.25, 2.0], dtype=torch.float64)


class Alone(torch.nn.Module):
    """The best denoiser of independent normal numbers, and how far it is off."""

    def forward(self, read, number):
        alpha, sigma = amplitudes(4 * number[..., None])
        total = alpha.square() * VARIANCES + sigma.square()
        said = alpha * read[..., :2] * (1 - VARIANCES) / total
        return torch.cat([said, (VARIANCES / total).log()], -1)


def test_with_the_learnt_variance_few_steps_have_the_density_and_draw_it():
    """A step back from normal numbers is normal, and so the chain of however few steps is exact."""
    of = GaussianDiffusion(NoisedCells(REAL), Alone(), NoiseSchedule(-9.0, 7.0), 4, widens=True).double()
    with torch.no_grad():
        value, error = of.scored(ROWS, Asked.density(torch.ones(3, 2).bool()), 20_000, SharedNoise())
        drawn = of.filled(torch.full((4000, 2), math.nan), [SharedNoise()])[0]
        of.widens = False
        narrow = of.scored(ROWS, Asked.density(torch.ones(3, 2).bool()), 20_000, SharedNoise())[0]
    exact = dist.Normal(0.0, VARIANCES.sqrt()).log_prob(ROWS).sum(-1)
    assert float(error.max()) < 0.1
    assert ((value - exact).abs() < 4 * error + 3e-3).all()
    assert (narrow < exact - 1.0).all()
    np.testing.assert_allclose(drawn.std(0), VARIANCES.sqrt(), rtol=4 / math.sqrt(8000))


def test_the_mean_over_rows_has_its_best_variance_where_the_error_is():
    """Whatever is said of the variance, the bound is below that of the right one."""
    x, found = torch.randn(4000, 2) * VARIANCES.sqrt(), []
    for shift in (-1.0, 0.0, 1.0):
        network = Alone()
        network.register_forward_hook(lambda _m, _i, said, shift=shift: said + torch.tensor([0.0, 0.0, shift, shift]))
        of = GaussianDiffusion(NoisedCells(REAL), network, NoiseSchedule(-9.0, 7.0), 4, widens=True).double()
        torch.manual_seed(1)
        with torch.no_grad():
            found.append(float(of.scored(x, Asked.density(torch.ones(4000, 2).bool()), 20, SharedNoise())[0].mean()))
    assert found[1] > max(found[0], found[2]) + 0.02


def test_held_cells_are_conditioned_on_where_steps_are_repeated():
    """Held but once a step, the others listen to them too little."""
    x, spread = torch.tensor([[math.nan, 1.5]]).expand(2000, 2), []
    for times in (1, 12):
        with torch.no_grad():
            drawn = process(resampling=times, draw_steps=80).filled(x, [SharedNoise()])[0]
        assert (drawn[:, 1] == 1.5).all()
        spread.append(abs(float(drawn[:, 0].mean()) - 1.2))
    assert float(drawn[:, 0].std()) == pytest.approx(0.6, abs=0.06)
    assert spread[1] < 0.07
    assert spread[1] < spread[0]


def test_guidance_counts_where_cells_are_held_and_has_its_density_where_steps_are_repeated():
    r"""That is proportional to :math:`p(a \mid b)^{1 + w}\, p(a)^{-w}`, a normal density with w = 1."""
    precision = 2 / 0.36 - 1.0
    with torch.no_grad():
        of = process(resampling=8, draw_steps=60, guidance=1.0)
        drawn = of.filled(torch.tensor([[math.nan, 1.5]]).expand(1500, 2), [SharedNoise()])[0][:, 0]
    assert float(drawn.mean()) == pytest.approx(2 * 1.2 / 0.36 / precision, abs=0.06)
    assert float(drawn.std()) == pytest.approx(precision**-0.5, abs=0.05)


def test_levels_and_steps_are_densities():
    columns = (
        Column("c", "categorical", levels=("u", "v", "w")), Column("o", "ordinal", levels=(1, 2, 3, 4)), Column("n", "count"),
        Column("m", "count", bounds=(2, 9)),
    )  # fmt: skip
    cells = NoisedCells(columns).double()
    cells.learn(FirstRows(torch.tensor([[0.0, 1.0, 3.0, 2.0], [2.0, 3.0, 9.0, 9.0], [1.0, 0.0, 0.0, 5.0]])))
    mean, gamma = torch.randn(1, cells.width), torch.tensor(-1.0)
    for at, values in enumerate((range(3), range(4), range(3000), range(2, 10))):
        x = torch.full((len(values), 4), math.nan)
        x[:, at] = torch.tensor(list(values), dtype=x.dtype)
        total = cells.log_prob(x, mean.expand(len(x), -1), gamma)[:, at].exp().sum()
        assert float(total.detach()) == pytest.approx(1.0, abs=1e-6)


class FirstRows:
    """What coordinates are learnt from."""

    def __init__(self, x):
        self.x, self.weights = x, None

    def __len__(self):
        return len(self.x)

    def pieces(self):
        yield self


def test_reading_and_writing_are_inverse_when_nothing_is_noisy():
    table = mixed(50)
    cells = NoisedCells(table.schema).double()
    x = torch.tensor(table.values)
    cells.learn(FirstRows(x))
    again = cells.write(cells.read(x), torch.tensor(-40.0), torch.randn(50, cells.width))
    np.testing.assert_allclose(again.detach(), x, rtol=1e-5, atol=1e-6)


def mixed(rows, seed=0):
    rng = np.random.default_rng(seed)
    frame = {
        "a": rng.normal(size=rows), "b": rng.lognormal(size=rows), "c": rng.integers(3, size=rows).astype(float),
        "n": rng.poisson(4.0, rows).astype(float), "s": np.where(rng.random(rows) < 0.4, 0.0, rng.lognormal(size=rows)),
        "p": rng.beta(2, 2, rows), "y": rng.integers(2, size=rows).astype(float),
    }  # fmt: skip
    columns = (
        Column("a", "real"), Column("b", "positive"), Column("c", "categorical", levels=("u", "v", "w")),
        Column("n", "count"), Column("s", "semicontinuous"), Column("p", "bounded", bounds=(0.0, 1.0)),
        Column("y", "binary", levels=("no", "yes")),
    )  # fmt: skip
    return pg.Table.from_codes(np.column_stack(list(frame.values())), Schema(columns))


def test_asked_at_random_is_of_known_cells_only():
    known, block = torch.rand(5000, 4) < 0.7, torch.tensor([0, 0, 0, 1])
    asked = asked_at_random(known, block, 0.5)
    assert not (asked.modelled & asked.shown).any()
    assert not ((asked.modelled | asked.shown) & ~known).any()
    whole = (asked.modelled == known).all(1).double().mean()
    assert 0.5 < float(whole) < 0.62
    given = known.all(1) & asked.shown[:, 3] & asked.modelled[:, :3].all(1)
    assert float(given.double().sum() / known.all(1).sum()) > 0.08  # a label alone is shown often enough
    assert (asked_at_random(known, block, 0.0).modelled == known).all()


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal([1.0, -2.0], [[4.0, 2.4], [2.4, 4.0]], 2000)
    x[rng.random(2000) < 0.3, 0] = np.nan
    x[rng.random(2000) < 0.1, 1] = np.nan
    x = x[~np.isnan(x).all(1)]
    table = pg.Table(x)
    return pg.fit("diffusion", table, hidden=(64, 64), max_steps=800, learning_rate=3e-3, seed=0, progress=False)


def test_holes_in_rows_that_it_learnt_from_are_filled_as_a_normal_distribution_would(pair):
    row = pg.Table(np.array([[np.nan, 0.0], [1.0, -2.0]]), schema=pair.schema).take([0])
    drawn = np.array([t.values[0, 0] for t in pair.fill(row, 1000)])
    assert drawn.mean() == pytest.approx(1.0 + 0.6 * 2.0, abs=0.3)
    assert drawn.std() == pytest.approx(1.6, abs=0.2)


def test_a_trained_bound_is_below_the_density_and_near_it(pair):
    x = np.random.default_rng(1).multivariate_normal([1.0, -2.0], [[4.0, 2.4], [2.4, 4.0]], 300)
    exact = dist.MultivariateNormal(torch.tensor([1.0, -2.0]), torch.tensor([[4.0, 2.4], [2.4, 4.0]]))
    found = pair.log_prob(x)
    assert found.kind == "lower_bound"
    gap = float(exact.log_prob(torch.tensor(x)).mean()) - found.mean().value
    assert -4 * found.mean().standard_error - 0.02 < gap < 0.1
    holed = x.copy()
    holed[:, 0] = np.nan
    alone = float(dist.Normal(-2.0, 2.0).log_prob(torch.tensor(x[:, 1])).mean())
    assert pair.log_prob(holed).mean().value == pytest.approx(alone, abs=0.08)


def test_answers_do_not_depend_on_how_rows_are_read(pair):
    x = np.random.default_rng(1).normal(size=(600, 2)) * 2.0
    x[::3, 0] = np.nan
    together, filled = pair.log_prob(x, draws=10).value, pair.fill(x, 2)
    import probgen.queries.diffused as verbs

    before = verbs.ROWS
    try:
        verbs.ROWS = 97
        np.testing.assert_allclose(pair.log_prob(x, draws=10).value, together, atol=1e-3)
        np.testing.assert_allclose(pair.fill(x, 3)[1].values, filled[1].values, atol=1e-3)
    finally:
        verbs.ROWS = before


def test_one_draw_leaves_its_error_unknown(pair):
    found = pair.log_prob(np.zeros((2, 2)), draws=1)
    assert np.isnan(found.standard_error).all()
    nothing = pg.Table(np.zeros((2, 2)), schema=pair.schema).hide("x0", "x1")
    assert (pair.log_prob(nothing).value == 0).all()


def test_classes_are_found_by_the_bound_on_the_label_alone():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=800)
    x = rng.normal(2.0 * y, 1.0)
    schema = Schema((Column("x", "real"), Column("y", "binary", levels=(0, 1))))
    table = pg.Table.from_codes(np.column_stack([x, y.astype(float)]), schema)
    fit = pg.fit("diffusion", table, hidden=(64, 64), max_steps=800, learning_rate=3e-3, seed=0, progress=False)
    at = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
    rows = pg.Table.from_codes(np.column_stack([at, np.full(5, np.nan)]), schema)
    exact = 1 / (1 + np.exp(-(2 * at - 2)))
    np.testing.assert_allclose(pg.class_probabilities(fit, rows, "y")[:, 1], exact, atol=0.1)
    share = np.mean([t.values[:, 1] for t in fit.fill(rows, 400)], 0)
    np.testing.assert_allclose(share, exact, atol=0.12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": ()}, "hidden must have a width"),
        ({"hidden": (0,)}, "hidden must be whole numbers"),
        ({"steps": 0}, "steps must be whole numbers of at least 1, got 0"),
        ({"draw_steps": 1.5}, "draw_steps must be whole numbers"),
        ({"sampler": "euler"}, "sampler must be one of 'auto', 'ancestral', 'ddim', 'heun', 'dpm', got 'euler'"),
        ({"guidance": -1.0}, "guidance must be a number of at least 0, got -1.0"),
        ({"conditioning": 2}, "conditioning must be a number of at least 0 and at most 1, got 2"),
        ({"dropout": "x"}, "dropout must be a number"),
        ({"variance": "fixed"}, "variance must be 'posterior' or 'learnt', got 'fixed'"),
        ({"resampling": -1}, "resampling must be a whole number of at least 0, got -1"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        pg.fit("diffusion", mixed(30), progress=False, **options)


def test_a_short_chain_is_nearer_to_the_density_where_its_variance_is_learnt():
    torch.set_default_dtype(torch.float32)
    table, found = mixed(300), []
    for variance in ("posterior", "learnt"):
        fit = pg.fit(
            "diffusion", table, hidden=(32, 32), steps=5, variance=variance, max_steps=150, learning_rate=5e-3, seed=0, progress=False
        )  # fmt: skip
        found.append(fit.log_prob(table, draws=20).mean().value)
    assert found[1] > found[0] + 1.0


def test_questions_of_other_models_are_refused(pair):
    with pytest.raises(pg.CapabilityError, match="method='importance' is for models with a guide"):
        pair.log_prob(np.zeros((2, 2)), method="importance")
    with pytest.raises(pg.CapabilityError, match="refine needs a guide"):
        pair.fill(np.array([[np.nan, 0.0]]), refine=3)
