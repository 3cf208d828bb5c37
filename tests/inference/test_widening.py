"""Graphs of many points against the graph of one: every operation that has a rule."""

import pytest
import torch
from torch.nn import functional

from probgen.inference.compiled import Compiled, traced
from probgen.inference.widening import NoRule, widened

POINTS = 5
X = torch.linspace(-1.0, 2.0, 28, dtype=torch.float64).reshape(7, 4)
GROUP = torch.tensor([0, 2, 2, 5, 1, 0, 3])
MASK = X > 0.3


def matrix(u):
    return (0.3 * u[:4].reshape(2, 2)).tril(-1) + torch.eye(2).to(u) * (1.0 + u[:2].exp())


FUNCTIONS = {
    "pointwise": lambda u, x: (x * u[:4].exp() - u[4] ** 2 + torch.where(x > 0, u[5], u[:4].abs() + 1)).sum(),
    "repetitions": lambda u, x: (x / u[0].exp().expand(7, 4).log1p() + u[:4].expand(7, 4).sin()).sum(),
    "repeated, then reduced": lambda u, x: (u[:4].expand(7, 4).softmax(-1) * u[:4].expand(7, 4).cumsum(0) * x).sum(),
    "repeated, then moved": lambda u, x: (u[:4].expand(7, 4).t().unsqueeze(1)[2:, 0, 1:] * x[1:, 2:].t()).sum(),
    "repetitions of a reshaped vector": lambda u, x: (u[:4].expand(7, 4).reshape(-1) * x.flatten()).logsumexp(0),
    "reductions": lambda u, x: (x * u[:4]).mean(1).prod() + (x + u[:4]).amax((0,)).sum() + (x * u[4]).amin(),
    "largest": lambda u, x: (x * u[:4]).max(1).values.sum() + (x * u[:4]).min(0)[0].mean(),
    "log-sum-exp": lambda u, x: (x[:, :, None] + u[None, None, :3]).logsumexp(-1).logsumexp(0).sum(),
    "softmax": lambda u, x: ((x * u[:4]).softmax(0) * (x + u[:4]).log_softmax(-1)).sum(),
    "cumulative": lambda u, x: (x * u[:4]).flip(0).cumsum(0).logcumsumexp(1).sum() + u.sigmoid().cumprod(-1).sum(),
    "slices": lambda u, x: (u[1:4] * u[::2][:3] * x[0, -3:]).sum() + u[-1] + u[2:].square().sum(),
    "padding": lambda u, x: (functional.pad(u, (1, 2), value=1.0)[:4] * functional.pad(x, (0, 0, 1, 1))).sum(),
    "joined": lambda u, x: (torch.cat([u[:4].expand(2, 4), x]) * torch.stack([u[:4], x[0]], -1).sum(-1)).sum(),
    "taken apart": lambda u, x: sum(((k + 1) * part).sum() for k, part in enumerate((x * u[:4]).split([1, 3], 1))),
    "unbound": lambda u, x: sum(part.square().sum() for part in (x * u[:4]).unbind(1)),
    "squeezed": lambda u, x: (u.reshape(1, 8, 1).squeeze()[:4] * u.reshape(1, 8, 1).squeeze(0)[:4, 0] * x).sum(),
    "permuted": lambda u, x: ((x * u[:4]).permute(1, 0).transpose(0, 1) * x).sum(),
    "looked up": lambda u, x: (u[GROUP, None] * x * u[GROUP][:, None].cos()).sum(),
    "masked": lambda u, x: torch.where(MASK, x * u[:4], 0.0).sum() + (x * u[:4])[MASK].sum(),
    "gathered": lambda u, x: (x * u[:4]).gather(1, GROUP[:, None] % 4).sum() + u.index_select(0, GROUP).sum(),
    "added in place": lambda u, x: (
        torch.zeros(8).to(u).index_put((GROUP,), u[:7] * x[:, 0], accumulate=True).sin().sum()
    ),
    "products with data": lambda u, x: (x @ u[:4]).sin().sum() + (x @ u.reshape(4, 2)).cos().sum() + u[:4] @ x[0],
    "products of small matrices": lambda u, x: (
        (u.reshape(2, 4) @ u.reshape(4, 2)).det() + (u.reshape(2, 4) @ x[0]).sum()
    ),
    "factorised": lambda u, x: torch.linalg.cholesky(matrix(u) @ matrix(u).T).diagonal().log().sum(),
    "triangular": lambda u, x: torch.linalg.solve_triangular(matrix(u), x[:2], upper=False).square().sum(),
    "inverse": lambda u, x: (matrix(u).inverse() @ x[:2]).sum() + matrix(u).slogdet()[1] + matrix(u).triu().sum(),
    "losses": lambda u, x: functional.binary_cross_entropy_with_logits(x * u[:4], MASK.double(), reduction="sum"),
    "not tagged as pointwise": lambda u, x: functional.softplus(x * u[:4]).sum() + functional.logsigmoid(u).sum(),
    "kinds of numbers": lambda u, x: ((x * u[:4]).float() * (u[0] > 0)).double().sum() + u.to(torch.float64).sum(),
    "filled": lambda u, x: (torch.zeros_like(u) + torch.full_like(u, 2.0) * u + u.new_ones(8)).prod(),
    "data alone": lambda u, x: x.sum() + 0.0 * u.sum(),
    "a reshaped number": lambda u, x: u[3].reshape(1, 1).expand(7, 4).sub(x).square().mean(),
}


def single(function):
    """Value and gradient at one point, as a graph."""

    def whole(u, x):
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            value = function(leaf, x)
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    return traced(whole, torch.linspace(0.1, 1.0, 8, dtype=torch.float64), X)


def points():
    return torch.randn(POINTS, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_many_points_are_one_by_one(name):
    graph = single(FUNCTIONS[name])
    found = widened(graph, POINTS)(points(), X)
    wanted = [graph(u, X) for u in points()]
    for part, parts in zip(found, zip(*wanted, strict=True), strict=True):
        torch.testing.assert_close(part, torch.stack(parts), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["pointwise", "log-sum-exp", "products with data", "gathered", "joined"])
def test_data_of_their_own(name):
    graph = single(FUNCTIONS[name])
    data = X + 0.1 * torch.arange(POINTS)[:, None, None]
    try:
        found = widened(graph, POINTS, own_data=True)(points(), data)
    except NoRule:
        assert name == "products with data"  # matrices of every point, times vectors
        return
    wanted = [graph(u, x) for u, x in zip(points(), data, strict=True)]
    for part, parts in zip(found, zip(*wanted, strict=True), strict=True):
        torch.testing.assert_close(part, torch.stack(parts), rtol=1e-12, atol=1e-12)


def test_repetitions_are_put_off():
    """The logarithm of a scale that all rows share is taken once a point, not once a row."""
    graph = widened(traced(lambda u, x: (u[:1].expand(7).exp()[:, None] * x).sum(), points()[0], X), POINTS)
    exponentials = []

    class Sizes(torch.fx.Interpreter):
        def call_function(self, target, args, kwargs):
            found = super().call_function(target, args, kwargs)
            if "exp.default" in str(target):
                exponentials.append(found.numel())
            return found

    Sizes(graph).run(points(), X)
    assert exponentials == [POINTS]


def test_changes_in_place():
    """A program may write into its tensors."""

    def function(u, x):
        changed = torch.zeros(3, 2).to(u)
        changed[1:, 0] = u[0] * u[1:3]
        changed[0] = u[3]
        copied = u.clone()
        copied.masked_fill_(u > 0, 2.0)
        return (changed * copied[:2]).exp().sum() + x.sum()

    density = Compiled(function, points(), X)
    plain = Compiled(function, points(), X, mode="eager")
    assert density.mode == "graph"
    for found, wanted in zip(density(points()), plain(points()), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "function",
    [
        lambda u, x: torch.linalg.cholesky(u[0].exp() * torch.eye(80).to(u)).sum(),  # large
        lambda u, x: x[u[:1].long().abs() % 7].sum(),  # a place that depends on the point
        lambda u, x: torch.linalg.eigh(u.reshape(2, 4).T @ u.reshape(2, 4))[0].sum(),
    ],
)
def test_left_to_vmap(function):
    with pytest.raises(NoRule):
        widened(traced(function, points()[0], X), POINTS)
