"""Draws given a label by the gradient of a classifier: exact scores by Bayes' rule, and what networks learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema
from probgen.families.denoising import Asked, SharedNoise
from probgen.families.gaussian_diffusion import GaussianDiffusion
from probgen.families.noise_schedule import NoiseSchedule, amplitudes
from probgen.families.noised_cells import NoisedCells
from probgen.families.noised_classifier import NoisedClassifier

LABELLED = Schema((Column("a", "real"), Column("b", "real"), Column("y", "binary", levels=("no", "yes"))))
MEANS = torch.tensor([[-1.0, 0.5], [1.0, -0.2]], dtype=torch.float64)
COVS = torch.tensor([[[1.0, 0.6], [0.6, 0.8]], [[0.5, -0.3], [-0.3, 0.7]]], dtype=torch.float64)
SHARES = torch.tensor([0.3, 0.7], dtype=torch.float64)
GAMMA = 1.2


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def joint(read, gamma):
    """Log density of what is read of a and b, with each label ``(..., 2)``: a mixture of two normals, by modelled cells noisy, shown ones not."""
    z, (modelled, shown) = read[..., :2], read[..., 3:].bool().unflatten(-1, (2, 3)).unbind(-2)
    alpha, sigma = (part[..., None] for part in amplitudes(gamma))
    there, scale = modelled[..., :2] | shown[..., :2], torch.where(modelled[..., :2], alpha, 1.0)
    noise = torch.where(modelled[..., :2], sigma.square(), 1e-12)
    parts = []
    for mean, cov in zip(MEANS, COVS, strict=True):
        total = scale[..., None] * cov * scale[..., None, :] + torch.diag_embed(noise.expand_as(z))
        both = there[..., None] & there[..., None, :]
        total = torch.where(both, total, torch.eye(2))  # absent cells stand apart, at their mean
        gap = torch.where(there, z - scale * mean, 0.0)
        parts.append(torch.distributions.MultivariateNormal(torch.zeros(2), total).log_prob(gap))
    return torch.stack(parts, -1) + SHARES.log()


class Knowing(torch.nn.Module):
    """A network that takes noise away as well as can be, by the score of the density it knows."""

    def forward(self, read, number):
        gamma, z = 4 * number, read[..., :2].detach()
        with torch.enable_grad():
            z = z.requires_grad_()
            each = joint(torch.cat([z, read[..., 2:]], -1), gamma)
            label, given = (read[..., 2] > 0).long()[..., None], read[..., 8] > 0
            density = torch.where(given, each.gather(-1, label)[..., 0], each.logsumexp(-1))
            (score,) = torch.autograd.grad(density.sum(), z)
        alpha, _ = (part[..., None] for part in amplitudes(gamma))
        said = -(score + z) / alpha  # of which the noise is sigma (alpha said + z)
        return torch.cat([said, torch.zeros_like(said)], -1)


class Telling(torch.nn.Module):
    """The classifier of the same density."""

    def forward(self, read, number):
        return joint(read, 4 * number)


def process(guidance, **more):
    cells = NoisedCells(LABELLED)
    classifier = NoisedClassifier(LABELLED, "y", cells.width, (4,), guidance=guidance)
    classifier.network = Telling()
    return GaussianDiffusion(cells, Knowing(), NoiseSchedule(-9.0, 7.0), classifier=classifier, **more).double()


def predicted(of, z, x):
    """Of noisy rows ``(S, B, 3)``: the noise as it is guided, and what the network says by itself."""
    clean, asked = of.cells.read(x), Asked.rest(~x.isnan())
    gamma = torch.tensor(GAMMA)
    alone = Asked(asked.modelled, asked.shown & torch.tensor([True, True, False]))
    with torch.no_grad():
        guided = of.guided(x, clean, asked)(z, gamma)
        told = [of.predicted(z, gamma.expand(z.shape[:-1]), clean, one)[1] for one in (asked, alone)]
    return guided, *told


ROWS = torch.tensor([[math.nan, math.nan, 0.0], [math.nan, math.nan, 1.0], [math.nan, 0.4, 1.0]], dtype=torch.float64)


def test_an_exact_classifier_makes_the_score_that_of_rows_of_the_level():
    """Bayes' rule, with the other cells modelled or shown."""
    z = torch.randn(200, 3, 3)
    (signal, eps, _), given, alone = predicted(process(1.0), z, ROWS)
    modelled = ROWS[:, :2].isnan().expand(200, 3, 2)
    np.testing.assert_allclose(eps[..., :2][modelled], given[..., :2][modelled], atol=1e-9)
    assert float((given - alone)[..., :2][modelled].abs().mean()) > 0.1  # the label does say something
    alpha, sigma = amplitudes(torch.tensor(GAMMA))
    np.testing.assert_allclose(alpha * signal + sigma * eps, z, atol=1e-9)


def test_more_of_the_gradient_is_the_score_of_a_sharpened_density():
    r"""Of :math:`p(z)\, p(y \mid z)^s`, by differences of its logarithm."""
    z, s = torch.randn(50, 3, 3), 2.5
    (_, eps, _), _, _ = predicted(process(s), z, ROWS)
    _, sigma = amplitudes(torch.tensor(GAMMA))
    masks = torch.cat([ROWS.isnan(), torch.stack([torch.zeros(3), ~ROWS[:, 1].isnan(), torch.zeros(3)], -1)], -1)
    masks[:, 2] = 0.0

    def sharpened(a):
        cells = torch.where(ROWS[:, :2].isnan(), torch.stack([a, z[..., 1]], -1), ROWS[:, :2].nan_to_num())
        read = torch.cat([cells, torch.zeros_like(cells[..., :1]), masks.expand(50, 3, 6)], -1)
        each = joint(read, torch.tensor(GAMMA).expand(50, 3))
        told = each.gather(-1, ROWS[:, 2].long().expand(50, 3)[..., None])[..., 0]
        return (1 - s) * each.logsumexp(-1) + s * told

    slope = (sharpened(z[..., 0] + 1e-5) - sharpened(z[..., 0] - 1e-5)) / 2e-5
    np.testing.assert_allclose(eps[..., 0], -sigma * slope, atol=1e-6)


@pytest.mark.parametrize("sampler", ["heun", "ddim", "dpm"])
def test_draws_by_an_exact_classifier_are_rows_of_the_level(sampler):
    of = process(1.0, sampler=sampler, draw_steps=90 if sampler == "ddim" else 30)
    with torch.no_grad():
        drawn = of.filled(torch.tensor([[math.nan, math.nan, 1.0]]).expand(2000, 3), [SharedNoise()])[0]
    np.testing.assert_allclose(drawn[:, :2].mean(0), MEANS[1], atol=4 * math.sqrt(0.7 / 2000) + 0.01)
    np.testing.assert_allclose(np.cov(drawn[:, :2].T), COVS[1], atol=0.07)


def test_held_cells_go_with_a_classifier():
    of = process(1.0, draw_steps=40, resampling=6)
    x = torch.tensor([[math.nan, 1.0, 1.0]]).expand(1500, 3)
    with torch.no_grad():
        drawn = of.filled(x, [SharedNoise()])[0]
    assert (drawn[:, 1:] == 1.0).all()
    mean = float(MEANS[1, 0] + COVS[1, 0, 1] / COVS[1, 1, 1] * (1.0 - MEANS[1, 1]))
    assert float(drawn[:, 0].mean()) == pytest.approx(mean, abs=0.1)


def test_rows_whose_label_is_drawn_are_not_guided():
    x = torch.tensor([[math.nan, 0.3, math.nan]])
    z, of = torch.randn(20, 1, 3), process(3.0)
    clean, asked, gamma = of.cells.read(x), Asked.rest(~x.isnan()), torch.tensor(GAMMA)
    assert torch.equal(of.guided(x, clean, asked)(z, gamma)[1], of.predicted(z, gamma.expand(20, 1), clean, asked)[1])


def labelled(rows=600):
    """Two classes of one number, three standard deviations apart, and some labels unknown."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=rows).astype(float)
    x = rng.normal(3.0 * y, 1.0)
    y[rng.random(rows) < 0.3] = np.nan
    schema = Schema((Column("x", "real"), Column("y", "binary", levels=("no", "yes"))))
    return pg.Table.from_codes(np.column_stack([x, y]), schema)


@pytest.fixture(scope="module")
def fit():
    torch.set_default_dtype(torch.float32)
    return pg.fit(
        "diffusion", labelled(), classifier="y", hidden=(32, 32), max_steps=400, learning_rate=3e-3, draw_steps=20,
        seed=0, progress=False,
    )  # fmt: skip


def test_a_learnt_classifier_draws_the_level_that_is_asked_for(fit):
    torch.set_default_dtype(torch.float32)
    for level, mean in (("no", 0.0), ("yes", 3.0)):
        x = fit.sample(600, given={"y": level}, seed=1).values[:, 0]
        assert x.mean() == pytest.approx(mean, abs=0.35)
        assert x.std() == pytest.approx(1.0, abs=0.25)


def test_the_classifier_knows_what_noise_leaves_of_the_label(fit):
    """Of noisy rows, by Bayes' rule at three levels of noise."""
    torch.set_default_dtype(torch.float32)
    of, ends = fit.program.process, pg.Table.from_codes(np.array([[0.0, 1.0], [3.0, 1.0]]), fit.schema)
    x = fit.batches(ends, 2).batch(ends).x
    means = of.cells.read(x)[:, 0]  # of the classes, as numbers
    spread = (means[1] - means[0]) / 3
    for gamma in (-4.0, 0.0, 3.0):
        alpha, sigma = amplitudes(torch.tensor(gamma))
        where = alpha * means.mean() + (alpha * spread * 3 + sigma) * torch.linspace(-1.0, 1.0, 9)
        z = torch.stack([where, torch.zeros(9)], -1)[None]
        noisy, label = Asked(torch.tensor([True, False]).expand(9, 2), torch.zeros(9, 2).bool()), x[:1].expand(9, 2)
        with torch.no_grad(), fit.setting():
            told = of.classifier.log_prob(of.read(z, z[0], noisy), torch.full((1, 9), gamma / 4), label)[0].exp()
        width = ((alpha * spread).square() + sigma.square()).sqrt()
        exact = torch.distributions.Normal(alpha * means, width).log_prob(where[:, None]).softmax(-1)[:, 1]
        np.testing.assert_allclose(told, exact, atol=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classifier": "x"}, "A classifier of noisy rows needs a label, a column with levels beside others: y. Got 'x'"),
        ({"classifier": "z"}, "needs a label, a column with levels beside others: y. Got 'z'"),
        ({"classifier": "y", "classifier_guidance": -1.0}, "classifier_guidance must be a number of at least 0, got -1.0"),
        ({"classifier_guidance": 2.0}, "classifier_guidance=2 is of a classifier, and there is none; name a column"),
        ({"classifier": "y", "conditioning": 0.0}, "with conditioning=0 none are learnt; fit with conditioning=0.5"),
        ({"guidance": 1.0, "conditioning": 0}, "guidance=1 compares what is said with and without known cells"),
    ],
)  # fmt: skip
def test_what_cannot_guide_is_refused(options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        pg.fit("diffusion", labelled(30), progress=False, **options)


def test_a_saved_fit_draws_the_same(fit, tmp_path):
    torch.set_default_dtype(torch.float32)
    fit.save(tmp_path / "guided.probgen")
    again = pg.load(tmp_path / "guided.probgen")
    one, other = (each.sample(20, given={"y": "yes"}, seed=3).values for each in (fit, again))
    np.testing.assert_array_equal(one, other)
