"""Flows beside autograd's Jacobians, quadrature, known densities and the same maps of Pyro and zuko."""

from __future__ import annotations

import importlib
import math

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms
from torch.testing import assert_close

import probgen as pg
from probgen.families.flows import (
    Affine,
    Autoregressive,
    Composed,
    Coupling,
    FlowDistribution,
    Inverted,
    LearntLinear,
    Permuted,
    RationalQuadratic,
    Standardised,
)
from probgen.families.latent import prior_named
from probgen.nn import ContextMLP, MaskedMLP

D, C = 4, 3
MADE = {
    "affine coupling": lambda size, context: Coupling(size, Affine(), (16,), context),
    "spline coupling": lambda size, context: Coupling(size, RationalQuadratic(5, 3.0), (16, 12), context),
    "affine autoregressive": lambda size, context: Autoregressive(size, Affine(), (16, 12), context),
    "spline autoregressive": lambda size, context: Autoregressive(size, RationalQuadratic(5, 3.0), (16,), context),
    "affine without hidden units": lambda size, context: Autoregressive(size, Affine(), (), context),
    "masked": lambda size, context: Inverted(Autoregressive(size, Affine(), (16,), context)),
    "linear": lambda size, context: LearntLinear(size, context=context),
    "permuted": lambda size, context: Permuted(size),
    "standardised": lambda size, context: Standardised(size),
}  # fmt: skip


def several(size, context):
    parts = ("affine coupling", "linear", "spline autoregressive", "permuted", "masked", "standardised")
    return Composed(*(MADE[name](size, context) for name in parts))


MADE["composed"] = several


def made(name, size=D, context=0):
    """With weights that are not those it begins with."""
    flow = MADE[name](size, context)
    for parameter in flow.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    return flow


def context_of(flow, rows, context):
    return torch.randn(rows, context) if context else None


@pytest.mark.parametrize("context", [0, C])
@pytest.mark.parametrize("name", MADE)
def test_changes_of_volume_are_those_of_the_jacobian(name, context):
    flow, x, c = made(name, context=context), torch.randn(6, D), torch.randn(6, C) if context else None
    for way in (flow.forward, flow.inverse):
        _, change = way(x, c)
        for row in range(len(x)):
            given = None if c is None else c[row]
            jacobian = torch.autograd.functional.jacobian(lambda one, at=way, given=given: at(one, given)[0], x[row])
            assert_close(change[row], torch.linalg.slogdet(jacobian).logabsdet, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("context", [0, C])
@pytest.mark.parametrize("name", MADE)
def test_the_inverse_leads_back(name, context):
    flow, x = made(name, context=context), 2 * torch.randn(50, D)
    c = context_of(flow, 50, context)
    y, there = flow(x, c)
    again, back = flow.inverse(y, c)
    tolerance = 1e-6 if "spline" in name or name == "composed" else 1e-8
    assert_close(again, x, atol=tolerance, rtol=0)
    assert_close(there, -back, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", MADE)
def test_gradients_run_through_both_directions(name):
    flow, x, c = made(name, context=C), torch.randn(3, D, requires_grad=True), torch.randn(3, C, requires_grad=True)
    weights = [parameter for parameter in flow.parameters() if parameter.requires_grad]
    for way in (flow.forward, flow.inverse):
        value, change = way(x, c)
        loss = (value.sin().sum(-1) + change).sum()
        found = torch.autograd.grad(loss, [x, *weights], allow_unused=True)
        step = 1e-6
        for tensor, gradient in zip([x, *weights], found, strict=True):
            if gradient is None:
                continue
            direction = torch.randn_like(tensor)
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    tensor += sign * step * direction
                    moved, moved_change = way(x, c)
                    ends.append((moved.sin().sum(-1) + moved_change).sum())
                    tensor -= sign * step * direction
            assert_close((gradient * direction).sum(), (ends[0] - ends[1]) / (2 * step), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("name", ["affine coupling", "spline coupling", "affine autoregressive", "composed", "masked"])
def test_every_flow_begins_as_a_map_that_keeps_volume(name):
    x = torch.randn(20, D)
    for context in (0, C):
        y, change = MADE[name](D, context)(x, context_of(None, 20, context))
        assert_close(change, torch.zeros(20), atol=1e-12, rtol=0)
        assert_close(y.sort(-1).values, x.sort(-1).values, atol=1e-12, rtol=0)  # but for the order


def test_a_masked_network_looks_at_the_inputs_before_only():
    for hidden, context in [((16, 12), 0), ((3, 2), 2), ((), 2), ((5,), 2)]:
        net = MaskedMLP(D, hidden, 2, context)
        c = torch.randn(context) if context else None
        at = [torch.autograd.functional.jacobian(lambda x, net=net, c=c: net(x, c), torch.randn(D)) for _ in range(20)]
        seen = torch.stack(at).abs().amax((0, 2))  # (D, D)
        assert bool((seen[torch.ones(D, D).triu().bool()] == 0).all())
        if not hidden or min(hidden) > D:
            assert bool((seen[torch.ones(D, D).tril(-1).bool()] > 0).all())


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
def test_a_context_reaches_every_output_of_a_masked_network(size, hidden):
    """Also the first one, which no input reaches."""
    net, x = MaskedMLP(size, hidden, 2, C), torch.randn(size)
    said = net(x.expand(50, -1), torch.randn(50, C))  # (50, D, P)
    assert bool((said.var(0).amax(-1) > 0).all())


@pytest.mark.parametrize("hidden", [(), (16,), (16, 12), (2, 3)])
def test_a_walk_finds_what_a_pass_says(hidden):
    net = MaskedMLP(D, hidden, 3, C)
    x, c, told = torch.randn(5, 7, D), torch.randn(7, C), []

    def choose(at, said):
        told.append(said)
        return x[..., at]

    assert_close(net.walked(choose, x.shape[:-1], c), x)
    assert_close(torch.stack(told, -2), net(x, c))


def test_a_context_is_read_once_for_all_draws():
    net, x, c = ContextMLP(D, 16, 2, context=C), torch.randn(9, 5, D), torch.randn(5, C)
    side_by_side = torch.cat([x, c.expand(9, -1, -1)], -1)
    weight = torch.cat([net.first.weight, net.context.weight], 1)
    assert_close(net(x, c), net.rest(side_by_side @ weight.T + net.first.bias))


# ------------------------------------------------------------------------------------------------------- peers
def test_affine_maps_are_those_of_pyro():
    """Its autoregressive and coupling transforms round our networks."""

    class Said(torch.nn.Module):
        permutation = list(range(D))

        def forward(self, x):
            theta = net(x)
            return theta[..., 1], flow.map.log_scale(theta)

    x = torch.randn(10, D)
    flow = made("affine autoregressive")
    net = flow.net
    peer = transforms.AffineAutoregressive(Said(), log_scale_min_clip=-99, log_scale_max_clip=99)
    y, change = flow(x)
    told = peer(x)
    assert_close(y, told)
    assert_close(change, peer.log_abs_det_jacobian(x, told))
    assert_close(flow.inverse(x)[0], peer.inv(x.clone()))

    flow = made("affine coupling")

    def half(first):
        theta = flow.net(first).unflatten(-1, (2, 2))
        return theta[..., 1], flow.map.log_scale(theta)

    peer = transforms.AffineCoupling(D // 2, half, log_scale_min_clip=-99, log_scale_max_clip=99)
    y, change = flow(x)
    assert_close(y, peer(x))
    assert_close(change, peer.log_abs_det_jacobian(x, y))


@pytest.mark.parametrize("inverse", [False, True])
def test_splines_are_those_of_pyro(inverse):
    peer = importlib.import_module("pyro.distributions.transforms.spline")._monotonic_rational_spline
    spline = RationalQuadratic(6, 3.0)
    x, theta = 2.5 * torch.randn(2000), 2 * torch.randn(2000, spline.parameters)
    widths, heights, inner = theta.split([6, 6, 5], -1)
    slopes = torch.nn.functional.softplus(inner + math.log(math.expm1(1 - 1e-3)))
    expected, change = peer(x, widths.softmax(-1), heights.softmax(-1), slopes, inverse=inverse, bound=3.0)
    y, mine = spline.inverse(x, theta) if inverse else spline.forward(x, theta)
    edges = spline.edges(heights if inverse else widths)
    same = (x.abs() > 3) | ((x > edges[:, 1]) & (x < edges[:, -2]))  # at the square's sides its slope is .999
    assert 1000 < same.sum() < 2000
    assert_close(y[same], expected[same], atol=1e-9, rtol=0)
    assert_close(mine[same], change[same], atol=1e-9, rtol=0)


@pytest.mark.reference
def test_an_autoregressive_spline_is_that_of_zuko():
    zuko = pytest.importorskip("zuko", reason="zuko is not installed")
    flow, x = made("spline autoregressive"), torch.randn(20, D)

    def meta(value):
        theta = flow.net(value).split([5, 5, 4], -1)
        made = zuko.transforms.MonotonicRQSTransform(*theta, bound=3.0)
        made.horizontal, made.vertical = flow.map.edges(theta[0]), flow.map.edges(theta[1])
        slopes = 1e-3 + torch.nn.functional.softplus(theta[2] + math.log(math.expm1(1 - 1e-3)))
        made.derivatives = torch.nn.functional.pad(slopes, (1, 1), value=1.0)
        return made

    peer = zuko.transforms.AutoregressiveTransform(meta, passes=D)
    y, change = flow(x)
    expected, expected_change = peer.call_and_ladj(x)
    assert_close(y, expected)
    assert_close(change, expected_change.sum(-1) if expected_change.dim() > 1 else expected_change)
    assert_close(flow.inverse(y)[0], peer.inv(y), atol=1e-9, rtol=0)


# ----------------------------------------------------------------------------------------------- distributions
def standard(*shape):
    return dist.Normal(torch.zeros(shape), 1.0).to_event(1)


@pytest.mark.parametrize("name", ["spline autoregressive", "affine autoregressive", "composed", "spline coupling"])
def test_densities_integrate_to_one(name):
    size = 1 if "autoregressive" in name else 2
    axis = torch.linspace(-9, 9, 401)
    grid = torch.cartesian_prod(*[axis] * size).reshape(-1, size)
    flow = made(name, size=size)
    if name == "composed":
        for parameter in flow.parameters():
            parameter.data *= 0.4
    density = FlowDistribution(standard(size), flow).log_prob(grid).detach()
    cell = math.log(18 / 400) * size
    assert float((density + cell).logsumexp(0)) == pytest.approx(0, abs=2e-3)


def test_shapes_are_those_of_pyro():
    flow, loc, c = made("affine autoregressive", context=C), torch.randn(5, D), torch.randn(5, C)
    q = FlowDistribution(dist.Normal(loc, 0.5).to_event(1), flow, c)
    assert (q.batch_shape, q.event_shape) == ((5,), (D,))
    wide = q.expand((7, 5))
    z = wide.rsample()
    assert z.shape == (7, 5, D)
    assert wide.log_prob(z).shape == (7, 5)
    assert q.rsample((2, 3)).shape == (2, 3, 5, D)
    assert q.log_prob(torch.randn(D)).shape == (5,)
    assert q.log_prob(torch.randn(9, 1, D)).shape == (9, 5)
    rows = [FlowDistribution(dist.Normal(loc[at], 0.5).to_event(1), flow, c[at]).log_prob(z[:, at]) for at in range(5)]
    assert_close(wide.log_prob(z), torch.stack(rows, 1))


def test_the_density_of_a_draw_is_that_of_its_value():
    """What is kept from the draw is what is found anew, and is not kept where something else is asked."""
    flow, c = made("affine autoregressive", context=C), torch.randn(5, C)
    q = FlowDistribution(standard(5, D), flow, c)
    z = q.rsample()
    kept = q.log_prob(z)
    assert kept is q.log_prob(z)
    fresh = FlowDistribution(standard(5, D), flow, c)
    assert_close(fresh.log_prob(z.detach()), kept)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.1
    assert_close(q.log_prob(z), fresh.log_prob(z.detach()))
    assert bool(((q.log_prob(z) - kept).abs() > 1e-3).all())
    leaf = z.detach().requires_grad_()
    first, second = (torch.autograd.grad(fresh.log_prob(leaf).sum(), leaf)[0] for _ in range(2))
    assert_close(first, second)


def test_means_are_those_of_many_draws():
    flow, c = made("composed", context=C), torch.randn(3, C)
    for parameter in flow.parameters():
        parameter.data *= 0.4
    q = FlowDistribution(dist.Normal(torch.randn(3, D), 0.7).to_event(1), flow, c).expand((2, 3))
    drawn = q.rsample((40_000,)).detach()
    sd = drawn.std(0)
    assert_close(q.mean, q.mean)
    assert float(((q.mean - drawn.mean(0)) / sd).detach().abs().max()) < 0.05
    assert_close(q.stddev / sd, torch.ones(2, 3, D), atol=0.1, rtol=0)
    affine = FlowDistribution(dist.Normal(torch.ones(D), 0.7).to_event(1), made("linear"))
    assert_close(affine.mean, affine.flow(torch.ones(D))[0], atol=1e-10, rtol=0)


def test_a_start_standardises():
    flow, y = (
        Composed(Standardised(2), LearntLinear(2), Standardised(2)),
        torch.tensor([3.0, -1.0]) + torch.randn(500, 2) * 4,
    )
    flow.start(y)
    x, _ = flow.inverse(y)
    assert_close(x.mean(0), torch.zeros(2), atol=1e-9, rtol=0)
    assert_close(x.std(0, correction=0), torch.ones(2), atol=1e-9, rtol=0)


def standardised(make, layers):
    return Composed(Standardised(2), *(flow for _ in range(layers) for flow in (make(), Permuted(2))), Standardised(2))


def splines():
    return RationalQuadratic(8, 4.0)


LEARNT = {
    "spline coupling": lambda: standardised(lambda: Coupling(2, splines(), (32,)), 4),
    "masked splines": lambda: standardised(lambda: Inverted(Autoregressive(2, splines(), (32,))), 2),
    "the prior of latents": lambda: prior_named("flow", 2, 0, 0, None).flow,
}


@pytest.mark.parametrize("name", LEARNT)
def test_a_banana_is_learnt_to_near_its_entropy(name):
    """x ~ N(0, 1), y | x ~ N(x^2, 0.3^2) has the entropy of its two normals; a normal distribution loses much of it."""

    def drawn(rows):
        x = torch.randn(rows)
        return torch.stack([x, x.square() + 0.3 * torch.randn(rows)], -1)

    torch.set_default_dtype(torch.float32)
    entropy = 1 + math.log(2 * math.pi) + math.log(0.3)
    flow, steps = LEARNT[name](), 400
    flow.start(drawn(2000))
    optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        (-FlowDistribution(standard(2), flow).log_prob(drawn(256)).mean()).backward()
        optimiser.step()
        schedule.step()
    test = drawn(20_000)
    with torch.no_grad():
        found = -FlowDistribution(standard(2), flow).log_prob(test)
    error = float(found.std()) / math.sqrt(len(test))
    normal = -dist.MultivariateNormal(test.mean(0), torch.cov(test.T)).log_prob(test).mean()
    assert float(found.mean()) > entropy - 4 * error  # nothing is better than the truth
    assert float(found.mean()) < entropy + 0.1 + 4 * error
    assert float(normal) > entropy + 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Coupling(1, Affine()), "at least 2 numbers"),
        (lambda: Autoregressive(0, Affine()), "at least 1 number,"),
        (lambda: Composed(Permuted(2), Permuted(3)), "equally many"),
        (lambda: Composed(), "no flow"),
        (lambda: Permuted(3, [0, 1, 1]), "each of 0 .. 2 once"),
        (lambda: RationalQuadratic(0), "bins must be"),
        (lambda: Affine(0.0), "most must be"),
        (lambda: Coupling(2, Affine(), context=2)(torch.zeros(2)), "context of 2 numbers, got one of 0"),
        (lambda: Autoregressive(2, Affine())(torch.zeros(2), torch.zeros(3)), "context of 0 numbers, got one of 3"),
        (lambda: FlowDistribution(dist.Laplace(torch.zeros(2), 1.0).to_event(1), Permuted(2)).mean, "normal noise"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(make, said):
    with pytest.raises(pg.CapabilityError, match=said):
        make()
