"""One pass of every regression leaves the joint distribution of parameters and data alone (Geweke, 2004)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probgen.families.shrinkage import SLAB, Shrinkage
from probgen.families.shrunken_generalised import SHAPE_SPREAD, LogisticRegression, NegativeBinomialRegression
from probgen.families.shrunken_regression import VARIANCE_RATE, VARIANCE_SHAPE, NormalRegression
from probgen.families.streams import Streams

REPLICATES, ROWS = 4000, 25
SHAPE_MIDDLE = 1.0


class SmallConstant(Shrinkage):
    """The prior with a constant that is near zero."""

    def precision(self, theta):
        found = super().precision(theta)
        return torch.cat([torch.full_like(found[:, :1], 4.0), found[:, 1:]], 1)


PRIOR = SmallConstant(1, 2, 3, ROWS, noise=4.0)


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


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
        rate = torch.full((REPLICATES,), VARIANCE_SHAPE)
        theta["variance"] = VARIANCE_RATE / torch._standard_gamma(rate, generator=generator)
    if name == "negative_binomial":
        theta["log_shape"] = SHAPE_MIDDLE + SHAPE_SPREAD * torch.randn(REPLICATES, generator=generator)
    design = torch.randn(ROWS, PRIOR.width, generator=generator)
    design[:, 0] = 1
    design = design.expand(REPLICATES, -1, -1)
    streams = Streams(range(REPLICATES))
    y = regression.draw(theta, design, streams)
    after = theta
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
