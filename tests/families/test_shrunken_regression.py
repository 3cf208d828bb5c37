"""One pass of every regression leaves the joint distribution of parameters and data alone (Geweke, 2004)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probgen.errors import FitError
from probgen.families.shrinkage import SLAB, Shrinkage
from probgen.families.shrunken_generalised import (
    SHAPE_SPREAD,
    LogisticRegression,
    NegativeBinomialRegression,
    ascended,
)
from probgen.families.shrunken_regression import VARIANCE_RATE, Normal, NormalRegression
from probgen.families.streams import Streams

REPLICATES, ROWS = 4000, 25
SHAPE_MIDDLE = 1.0


class SmallConstant(Shrinkage):
    """The prior with a constant that is near zero."""

    def precision(self, theta):
        found = super().precision(theta)
        return torch.cat([torch.full_like(found[:, :1], 4.0), found[:, 1:]], 1)


PRIOR = SmallConstant(1, 2, 3, ROWS, noise=4.0)


def half_cauchy(generator, *shape):
    return torch.empty(*shape).cauchy_(generator=generator).abs()


def from_the_prior(generator, count):
    """Scales and slopes; the slab is an observation, which rejection conditions on."""
    kept, wanted = [], count
    while wanted > 0:
        local = half_cauchy(generator, 4 * count, PRIOR.products)
        overall = PRIOR.overall_scale * half_cauchy(generator, 4 * count)
        wide = (overall[:, None] * local).square()
        accepted = torch.rand(4 * count, generator=generator).log() < -0.5 * (1 + wide / SLAB**2).log().sum(-1)
        kept.append((local[accepted], overall[accepted]))
        wanted -= int(accepted.sum())
    local, overall = (torch.cat(parts)[:count] for parts in zip(*kept, strict=True))
    theta = {
        "slopes": torch.zeros(count, PRIOR.width),
        "ridge": half_cauchy(generator, count) ** -2,
        "overall": overall**-2,
        "local": local**-2,
    }
    noise = torch.randn(count, PRIOR.width, generator=generator)
    return {**theta, "slopes": noise * PRIOR.precision(theta).rsqrt()}


def cases():
    return {
        "normal": NormalRegression(PRIOR),
        "logistic": LogisticRegression(PRIOR),
        "negative_binomial": NegativeBinomialRegression(PRIOR, 12.0, SHAPE_MIDDLE),
    }


@pytest.mark.parametrize("name", ["normal", "logistic", "negative_binomial"])
def test_a_pass_leaves_the_joint_distribution_alone(name):
    regression = cases()[name]
    generator = torch.Generator().manual_seed(3)
    theta = from_the_prior(generator, REPLICATES)
    if name == "normal":
        rate = torch.full((REPLICATES,), regression.shape)
        theta["variance"] = VARIANCE_RATE / torch._standard_gamma(rate, generator=generator)
    if name == "negative_binomial":
        theta["log_shape"] = SHAPE_MIDDLE + SHAPE_SPREAD * torch.randn(REPLICATES, generator=generator)
    design = torch.randn(ROWS, PRIOR.width, generator=generator)
    design[:, 0] = 1
    design = design.expand(REPLICATES, -1, -1)
    streams = Streams(range(REPLICATES))
    y = regression.draw(theta, design, streams)
    anchor = 0.5 * torch.randn(
        REPLICATES, PRIOR.width, generator=generator
    )  # any, as long as it knows nothing of the slopes
    information = torch.diag(torch.full((PRIOR.width,), 5.0)).expand(REPLICATES, -1, -1)
    after = theta if name == "normal" else {**theta, "anchor": anchor, "information": information}
    for _ in range(4):
        after = regression.redraw(after, design, y, None, streams, first=False)
    before, passed = functionals(regression, theta, design, y), functionals(regression, after, design, y)
    z = {key: float(paired(passed[key] - value)) for key, value in before.items()}
    assert max(map(abs, z.values())) < 4, z
    assert float((after["slopes"] != theta["slopes"]).any(-1).double().mean()) > 0.9


def functionals(regression, theta, design, y):
    """Numbers whose mean a pass must not move."""
    found = {f"slope {k}": theta["slopes"][:, k].tanh() for k in range(PRIOR.width)}
    found |= {f"size {k}": theta["slopes"][:, k].abs().clamp_min(1e-3).log() for k in range(PRIOR.width)}
    found |= {key: theta[key].log() for key in ("ridge", "overall", "variance") if key in theta}
    found |= {f"local {k}": theta["local"][:, k].log() for k in range(PRIOR.products)}
    found |= {key: theta[key] for key in ("log_shape",) if key in theta}
    return found | {"fit": regression.log_density(theta, design, y).sum(-1).clamp(-500, 500)}


def paired(differences):
    """Their mean, in standard errors."""
    return differences.mean() / (differences.std() / np.sqrt(len(differences)))


def test_chains_of_skewed_counts_begin_at_the_top_and_move():
    generator = torch.Generator().manual_seed(4)
    a, b = torch.randn(2, 400, generator=generator)
    y = torch.poisson((1 + 1.5 * a + 0.7 * b).exp(), generator=generator)
    design = torch.stack([torch.ones(400), a, b], -1).expand(6, -1, -1)
    regression = NegativeBinomialRegression(Shrinkage(1, 2, 0, 400), float(y.max().log()) + 1, 0.0)
    streams, theta = Streams(range(6)), regression.start(6)
    for sweep in range(10):
        before = theta["slopes"]
        theta = regression.redraw(theta, design, y, None, streams, first=sweep == 0)
        assert bool((theta["slopes"] != before).all())
    torch.testing.assert_close(theta["slopes"], torch.tensor([1.0, 1.5, 0.7]).expand(6, -1), atol=0.15, rtol=0)
    assert float(theta["log_shape"].min()) > 1.5  # Poisson's, but for what a prior says


def test_regressors_that_repeat_each_other_are_told_apart_or_refused():
    z = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    twice = torch.cat([torch.ones_like(z), z, z], 1)[None]
    regression = NormalRegression(Shrinkage(1, 2, 0, 50))
    found = regression.redraw(regression.start(1), twice, z[:, 0], None, Streams([0]), first=True)
    assert float(found["slopes"][0, 1:].sum()) == pytest.approx(1.0, abs=0.05)
    with pytest.raises(FitError, match="repeat each other"):
        Normal.of(torch.full((1, 2, 2), torch.nan), torch.zeros(1, 2))


def test_the_anchor_is_near_the_top_of_all_rows_where_they_are_many():
    """Climbs see some rows; slices need a normal around the posterior of all."""
    generator = torch.Generator().manual_seed(0)
    design = torch.cat([torch.ones(20_000, 1), torch.randn(20_000, 6, generator=generator)], 1)[None]
    y = (torch.rand(20_000, generator=generator) < (design[0] @ torch.linspace(-1, 1, 7)).sigmoid()).to(design)
    regression = LogisticRegression(Shrinkage(1, 6, 0, len(y)))
    theta = regression.redraw(regression.start(1), design, y, None, Streams([0]), True)
    top, there = ascended(
        regression.prior.precision(theta), theta["anchor"], design, regression.likelihood(theta, y, None)
    )
    away = (there.root.mT @ (theta["anchor"] - top)[..., None]).square().sum()
    assert float(away) < 0.3  # of 7 on average for a draw of the posterior; for the top of 2 000 rows 21
