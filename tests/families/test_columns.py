"""Columns of all kinds as one distribution."""

import math

import pytest
import torch
from torch.testing import assert_close

from probgen.data.schema import Column, Schema
from probgen.families import Columns
from probgen.families.base import Symbol
from probgen.families.columns import Link

KINDS = {
    "real": lambda n: torch.randn(n),
    "positive": lambda n: torch.randn(n).exp(),
    "binary": lambda n: (torch.rand(n) < 0.4).double(),
    "bounded": lambda n: torch.distributions.Beta(2.0, 3.0).sample((n,)),
    "count": lambda n: torch.poisson(torch.full((n,), 3.0)),
    "categorical": lambda n: torch.randint(3, (n,)).double(),
    "ordinal": lambda n: torch.randint(4, (n,)).double(),
    "semicontinuous": lambda n: torch.where(torch.rand(n) < 0.3, 0.0, torch.randn(n).exp()),
    "datetime": lambda n: torch.randn(n),
}
LEVELS = {"binary": ("no", "yes"), "categorical": ("a", "b", "c"), "ordinal": (1, 2, 3, 4)}
N = 40


def column(name: str, kind: str) -> Column:
    bounds = (0.0, 1.0) if kind == "bounded" else None
    return Column(name, kind, levels=LEVELS.get(kind, ()), bounds=bounds)


@pytest.fixture
def schema() -> Schema:
    """Every kind, and three of them a second time, so that blocks interleave."""
    again = [column("real again", "real"), column("count again", "count"), column("ordinal again", "ordinal")]
    return Schema(tuple([column(kind, kind) for kind in KINDS] + again))


@pytest.fixture
def x(schema) -> torch.Tensor:
    return torch.stack([KINDS[c.kind](N) for c in schema], 1)


@pytest.mark.parametrize("covariance", [None, "full", "diagonal", "tied", "spherical"])
def test_a_hole_is_a_column_left_out(schema, x, covariance):
    """Without coupling the density is a product over columns; with it the discrete columns still factor out."""
    columns = Columns(schema, table=2, covariance=covariance)
    joint = columns.draw("x")(Symbol("z", 2))
    total = joint.factor(x)
    assert total.value.shape == (2, N)
    assert total.value.isfinite().all()
    coupled = [i for i, c in enumerate(schema) if c.kind in ("real", "positive", "bounded", "datetime")]
    groups = [coupled] if covariance else [[i] for i in coupled]
    groups += [[i] for i in range(len(schema)) if i not in coupled]
    parts = []
    for group in groups:
        only = torch.full_like(x, torch.nan)
        only[:, group] = x[:, group]
        parts.append(joint.factor(only).value)
    assert_close(sum(parts), total.value, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("covariance", [None, "full"])
def test_rows_agree_with_the_table(schema, x, covariance):
    draw = Columns(schema, table=2, covariance=covariance).draw("x")
    hole = torch.rand_like(x) < 0.3
    x = torch.where(hole, torch.nan, x)
    index = torch.arange(N) % 2
    scores = draw(Symbol("z", 2)).factor(x).value
    assert_close(draw(index).log_prob(x), scores[index, torch.arange(N)], atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("covariance", [None, "full"])
def test_fill_and_sample_keep_every_column_in_its_support(schema, x, covariance):
    draw = Columns(schema, table=2, covariance=covariance).draw("x")
    rows = draw(torch.arange(N) % 2)
    hole = torch.rand_like(x) < 0.4
    filled = rows.fill(torch.where(hole, torch.nan, x))
    assert torch.equal(filled[~hole], x[~hole])
    for values in (filled, rows.sample()):
        assert rows.log_prob(values).isfinite().all()
        for i, c in enumerate(schema):
            assert_in_support(c, values[:, i])
    assert rows.mean.shape == x.shape


def assert_in_support(c: Column, values: torch.Tensor) -> None:
    assert values.isfinite().all(), c.name
    if c.kind in ("binary", "categorical", "ordinal"):
        assert set(values.tolist()) <= set(range(len(c.levels))), c.name
    if c.kind == "count":
        assert torch.equal(values, values.round())
    if c.kind in ("count", "semicontinuous"):
        assert (values >= 0).all(), c.name
    if c.kind == "positive":
        assert (values > 0).all()
    if c.kind == "bounded":
        assert ((values >= 0) & (values <= 1)).all()


def test_a_decoders_output_is_split_over_the_blocks(schema, x):
    columns = Columns(schema)
    output = torch.randn(N, columns.outputs, requires_grad=True)
    joint = columns(output)
    density = joint.log_prob(torch.where(torch.rand_like(x) < 0.3, torch.nan, x))
    assert density.shape == (N,)
    gradient = torch.autograd.grad(density.sum(), output)[0]
    assert gradient.isfinite().all()
    assert (gradient != 0).any(0).all()  # every output matters


def test_coupled_density_includes_the_jacobian():
    """A positive and a bounded column under one Gaussian: the density integrates to one in the data's units."""
    schema = Schema((column("a", "positive"), column("b", "bounded")))
    joint = Columns(schema, covariance="full").draw("x")()
    u = torch.linspace(-12.0, 12.0, 481)
    points = torch.cartesian_prod(u, u)
    x = torch.stack([points[:, 0].exp(), points[:, 1].sigmoid()], 1)
    log_volume = points[:, 0] + x[:, 1].log() + torch.log1p(-x[:, 1])
    spread = {"loc": torch.zeros(1, 2), "precision": torch.tensor([[[1.0, 0.4], [0.4, 0.8]]])}
    family = joint.parts[0][0].family
    y, log_jacobian = joint.parts[0][0].read(x)
    density = family.score(family.natural(spread), y)[0] + log_jacobian
    total = (density + log_volume).logsumexp(0) + 2 * math.log(u[1] - u[0])
    assert float(total) == pytest.approx(0.0, abs=1e-6)


def test_links_jacobian_by_autograd():
    link = Link(torch.tensor([True, False, False]), torch.tensor([False, True, False]))
    x = torch.tensor([[0.4, 0.3, -2.0], [3.0, 0.9, 0.1]])
    for row in x:
        jacobian = torch.autograd.functional.jacobian(lambda v: link.read(v[None])[0][0], row)
        assert_close(link.read(row[None])[1][0], jacobian.diagonal().log().sum())
    assert_close(link.write(link.read(x)[0]), x)
    y, log_jacobian = link.read(torch.tensor([[torch.nan, 0.3, 1.0]]))
    assert y.isnan().tolist() == [[True, False, False]]
    assert_close(log_jacobian[0], -torch.log(torch.tensor(0.3 * 0.7)))
