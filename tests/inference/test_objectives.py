"""Objectives beside what they are by hand: weights, bounds, and gradients."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.distributions import Normal
from torch import nn

import probgen as pg
from probgen.data import Column, Schema
from probgen.data.batches import Batch
from probgen.families.flows import Autoregressive, FlowDistribution, RationalQuadratic
from probgen.inference.amortised import weighted
from probgen.inference.objectives import objective
from probgen.inference.objectives.elbo import divergences
from probgen.program import Model, Traits

pytestmark = pytest.mark.usefixtures("double")
COLUMNS = Schema(tuple(Column(f"x{at}", "real") for at in range(3)))
NAMES = ("elbo", "iwae", "dreg", "wake_sleep")


class Linear(Model):
    """z ~ N(0, 1), x | z ~ N(a + b z, 0.5^2), q(z | x) = N(c x + d, s^2): everything is known in closed form."""

    traits = Traits("lower_bound", ("svi",), "mean", "one latent, three columns")

    def __init__(self, schema):
        super().__init__(schema)
        self.a, self.b = nn.Parameter(torch.tensor([0.1, -0.3, 0.2])), nn.Parameter(torch.tensor([1.0, 0.5, -0.7]))
        self.c, self.d = nn.Parameter(torch.tensor([0.3, 0.2, -0.1])), nn.Parameter(torch.tensor(0.1))
        self.log_s = nn.Parameter(torch.tensor(-0.4))

    def model(self, batch):
        with batch.rows():
            z = pyro.sample("z", Normal(batch.x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", Normal(self.a + self.b * z, 0.5).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.rows():
            pyro.sample("z", Normal((batch.x @ self.c + self.d)[:, None], self.log_s.exp()).to_event(1))


class Ladder(Linear):
    """Two latents, one above the other, drawn by the guide in the program's order or in the other one."""

    upwards = False

    def model(self, batch):
        with batch.rows():
            top = pyro.sample("top", Normal(batch.x.new_zeros(1), 1.0).to_event(1))
            z = pyro.sample("z", Normal(0.8 * top + self.d, 0.6).to_event(1))
            pyro.sample("x", Normal(self.a + self.b * z, 0.5).to_event(1), obs=batch.x)

    def guide(self, batch):
        seen = (batch.x @ self.c)[:, None]
        with batch.rows():
            if self.upwards:
                z = pyro.sample("z", Normal(seen, self.log_s.exp()).to_event(1))
                pyro.sample("top", Normal(0.5 * z - self.d, 0.9).to_event(1))
            else:
                top = pyro.sample("top", Normal(0.4 * seen - self.d, 0.9).to_event(1))
                pyro.sample("z", Normal(seen + 0.3 * top, self.log_s.exp()).to_event(1))


class Upwards(Ladder):
    upwards = True


class Bent(Linear):
    """The guide's normal behind a flow that reads the row, too."""

    def __init__(self, schema):
        super().__init__(schema)
        self.flow = Autoregressive(1, RationalQuadratic(4, 3.0), (4,), context=1)
        for weight in self.flow.parameters():
            weight.data = 0.7 * torch.randn_like(weight)

    def guide(self, batch):
        seen = (batch.x @ self.c + self.d)[:, None]
        with batch.rows():
            pyro.sample("z", FlowDistribution(Normal(seen, self.log_s.exp()).to_event(1), self.flow, seen))


def batch_of(rows=4):
    return Batch(torch.randn(rows, 3), COLUMNS)


def by_hand(program, x, z):
    """Log weights ``(S, B)`` from densities written out."""
    normal = torch.distributions.Normal
    joint = normal(0.0, 1.0).log_prob(z) + normal(program.a + program.b * z[..., None], 0.5).log_prob(x).sum(-1)
    return joint - normal(x @ program.c + program.d, program.log_s.exp()).log_prob(z)


def log_evidence(program, x):
    """Of the linear program, exactly."""
    covariance = program.b[:, None] * program.b + 0.25 * torch.eye(3)
    return torch.distributions.MultivariateNormal(program.a, covariance).log_prob(x)


def gradients(program, name, batch, draws, **options):
    """Of one estimate, by the names of the weights."""
    made = objective(name, **options)
    weights = dict(program.named_parameters())
    value = made.per_row(made.weigh(program, batch, draws)).sum()
    found = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    return {key: torch.zeros_like(w) if g is None else g for (key, w), g in zip(weights.items(), found, strict=True)}


def mean_gradients(program, name, batch, draws, times=100):
    """Mean over estimates, all weights in one piece, and its error."""
    drawn = [torch.cat([g.flatten() for g in gradients(program, name, batch, draws).values()]) for _ in range(times)]
    return torch.stack(drawn).mean(0), torch.stack(drawn).std(0) / math.sqrt(times)


def test_importance_weights_are_those_of_a_brute_force_computation():
    program, batch = Linear(COLUMNS), batch_of(7)
    found = weighted(program, batch, 20)
    expected = by_hand(program, batch.x, found.proposal.sites["z"][..., 0])
    torch.testing.assert_close(found.log_weights, expected, rtol=0, atol=1e-10)
    bound = objective("iwae").per_row(found)
    torch.testing.assert_close(bound, expected.exp().mean(0).log(), rtol=0, atol=1e-10)


def test_the_bounds_lie_below_the_evidence_and_rise_to_it():
    program, batch = Linear(COLUMNS), batch_of(3)
    exact = log_evidence(program, batch.x)
    with torch.no_grad():
        one = objective("elbo").per_row(weighted(program, batch, 20_000))
        many = torch.stack([objective("iwae").per_row(weighted(program, batch, 50)) for _ in range(400)])
        all_of_them = objective("iwae").per_row(weighted(program, batch, 400_000))
    assert bool((one < many.mean(0)).all())
    assert bool((many.mean(0) < exact + 4 * many.std(0) / 20).all())
    torch.testing.assert_close(all_of_them, exact, rtol=0, atol=0.02)


def test_divergences_are_exact_where_they_can_be_and_right_elsewhere():
    program, batch = Linear(COLUMNS), batch_of(3)
    found = weighted(program, batch, 200_000)
    (gap,) = divergences(found).values()
    mean, sd = batch.x @ program.c + program.d, program.log_s.exp()
    torch.testing.assert_close(gap, ((mean**2 + sd**2 - 1) / 2 - sd.log()).expand_as(gap))
    z = found.proposal.sites["z"]
    drawn = found.proposal.log_q - torch.distributions.Normal(0.0, 1.0).log_prob(z[..., 0])
    torch.testing.assert_close(drawn.mean(0), gap.mean(0), rtol=0, atol=0.02)


@pytest.mark.parametrize("made", [Ladder, Upwards])
def test_the_bound_of_two_layers_is_the_mean_log_weight_in_either_order(made):
    program, batch = made(COLUMNS), batch_of(3)
    found = weighted(program, batch, 200_000)
    value = objective("elbo").per_row(found)
    error = found.log_weights.std(0) / math.sqrt(len(found.log_weights))
    assert bool(((value - found.log_weights.mean(0)).abs() < 4 * error + 1e-3).all())


def test_beta_and_free_bits_weigh_the_divergences():
    program, batch = Linear(COLUMNS), batch_of(5)
    found = weighted(program, batch)
    gap = divergences(found)["z"]
    plain = objective("elbo").per_row(found)
    torch.testing.assert_close(objective("elbo", beta=3.0).per_row(found), plain - 2 * gap)
    rising = objective("elbo", beta=2.0, beta_steps=10)
    torch.testing.assert_close(rising.per_row(found, 5), plain)
    torch.testing.assert_close(rising.per_row(found, 0), plain + gap)
    torch.testing.assert_close(rising.per_row(found), plain - gap)
    free = float(gap.detach().median())
    torch.testing.assert_close(objective("elbo", free_bits=free).per_row(found), plain + gap - gap.clamp_min(free))


def test_wake_sleep_weighs_the_gradients_of_both_densities():
    program, batch = Linear(COLUMNS), batch_of(4)
    made = objective("wake_sleep")
    found = made.weigh(program, batch, 6)
    weights = list(program.parameters())
    mine = torch.autograd.grad(made.per_row(found).sum(), weights, retain_graph=True)
    z = found.proposal.sites["z"].detach()[..., 0]
    share = by_hand(program, batch.x, z).softmax(0).detach()
    log_q = torch.distributions.Normal(batch.x @ program.c + program.d, program.log_s.exp()).log_prob(z)
    joint = by_hand(program, batch.x, z) + log_q
    theirs = torch.autograd.grad((share * (joint + log_q)).sum(), weights)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("made", [Linear, Ladder, Upwards, Bent])
def test_doubly_reparameterised_gradients_have_the_same_mean_and_less_noise(made):
    program, batch = made(COLUMNS), Batch(torch.randn(1, 3).expand(200, 3), COLUMNS)
    torch.manual_seed(1)
    plain, error = mean_gradients(program, "iwae", batch, 8)
    torch.manual_seed(2)
    twice, other = mean_gradients(program, "dreg", batch, 8)
    assert bool(((plain - twice).abs() < 4.5 * (error**2 + other**2).sqrt() + 1e-9).all()), (plain, twice, error)
    guide = slice(6, 9)  # c, which the guide alone has
    assert float((other[guide] / error[guide]).max()) < 0.8


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_climbs_to_the_top_of_the_evidence(name):
    """Which is known: the mean, and the first principal direction less the noise (Tipping and Bishop, 1999)."""
    program = Linear(COLUMNS)
    x = torch.randn(200, 1) @ torch.tensor([[0.9, -0.4, 0.6]]) + 0.5 * torch.randn(200, 3)
    values, directions = torch.linalg.eigh(torch.cov(x.T, correction=0))
    top = Linear(COLUMNS)
    top.a.data, top.b.data = x.mean(0), directions[:, -1] * (values[-1] - 0.25).sqrt()
    made, optimiser = objective(name), torch.optim.Adam(program.parameters(), lr=0.02)
    for _ in range(800):
        optimiser.zero_grad()
        (-made.per_row(made.weigh(program, Batch(x, COLUMNS), max(made.draws, 4))).mean()).backward()
        optimiser.step()
    assert log_evidence(program, x).mean() > log_evidence(top, x).mean() - 0.01


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("iwae", {"beta": 2.0}, "no option 'beta'"),
        ("elbo", {"beta": -1.0}, "must not be negative"),
        ("elbow", {}, "Available: "),
        ("contrastive", {}, "use method="),
    ],
)
def test_what_an_objective_does_not_have_is_refused(name, options, said):
    with pytest.raises(pg.CapabilityError, match=said):
        objective(name, **options)
