"""Two players: their losses by hand, a critic and a generator that can be known, interruption, collapse."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families.relaxed import RelaxedColumns
from probgen.inference.collapse import collapsed, compared, coverage, energy_distance
from probgen.inference.fit import find_method
from probgen.inference.objectives.adversarial import LOSSES, AdversarialObjective, slope
from tests.resuming import stopped_and_resumed

QUICK = {"hidden": (16,), "latent": 2, "max_steps": 120, "progress": False}


def normal_table(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    return Table(rng.multivariate_normal([1.0, -2.0], [[1.0, 0.8], [0.8, 1.0]], rows))


def quick(model="gan", table=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        return pg.fit(model, normal_table() if table is None else table, **QUICK | options)


# -------------------------------------------------------------------------------------------------------- losses
def test_penalties_of_a_linear_critic_are_those_of_its_slope():
    weight = torch.tensor([3.0, -4.0], requires_grad=True)
    score = lambda rows: rows @ weight + 7.0  # noqa: E731
    real, made = torch.randn(5, 2), torch.randn(5, 2)
    none = {"gradient_penalty": 0.0, "r1": 0.0, "r2": 0.0}
    bare = AdversarialObjective("wasserstein", **none).critic(score, real, made)
    torch.testing.assert_close(bare, score(made) - score(real))
    expected = {"gradient_penalty": 2.0 * (5.0 - 1) ** 2, "r1": 0.5 * 2.0 * 25.0, "r2": 0.5 * 2.0 * 25.0}
    for name, value in expected.items():
        found = AdversarialObjective("wasserstein", **none | {name: 2.0}).critic(score, real, made) - bare
        torch.testing.assert_close(found, torch.full((5,), value))
    (gradient,) = torch.autograd.grad(
        AdversarialObjective("wasserstein", **none | {"gradient_penalty": 1.0}).critic(score, real, real).mean(),
        weight,
    )
    torch.testing.assert_close(gradient, 2 * (5.0 - 1) * weight.detach() / 5.0)  # of (|w| - 1)^2


def test_the_slope_is_that_of_finite_differences():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    score, rows, step = lambda x: net(x)[:, 0], torch.randn(4, 3).double(), 1e-5
    moved = [(score(rows + step * e) - score(rows - step * e)) / (2 * step) for e in torch.eye(3).double()]
    torch.testing.assert_close(slope(score, rows), torch.stack(moved).square().sum(0), rtol=1e-6, atol=1e-9)


def test_the_best_critic_is_the_log_ratio_of_densities():
    """Its loss, averaged over both densities, is least where C = log p - log q (Goodfellow et al., 2014), and is then 2 log 2 - 2 JS."""
    grid = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    p, q = (torch.distributions.Normal(m, 1.0).log_prob(grid).exp() for m in (0.0, 1.0))
    loss, _ = LOSSES["non_saturating"]

    def mean(values):
        return (
            p * loss(values, torch.full_like(grid, -1e9)) + q * loss(torch.full_like(grid, 1e9), values)
        ).sum() * 0.008

    best = p.log() - q.log()
    mixture = (p + q) / 2
    divergence = 0.5 * ((p * (p / mixture).log()).sum() + (q * (q / mixture).log()).sum()) * 0.008
    assert float(mean(best)) == pytest.approx(2 * math.log(2) - 2 * float(divergence), abs=1e-6)
    for other in (best + 0.1, 0.9 * best, best + 0.1 * grid.sin()):
        assert mean(other) > mean(best)


@pytest.mark.parametrize("name", LOSSES)
def test_generators_climb_the_critic(name):
    real, made = torch.tensor([0.3]), torch.tensor([-0.2], requires_grad=True)
    (gradient,) = torch.autograd.grad(LOSSES[name][1](real, made).sum(), made)
    assert float(gradient) < 0
    (gradient,) = torch.autograd.grad(LOSSES[name][0](real, made).sum(), made)
    assert float(gradient) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "elbow"}, "objective must be one of 'non_saturating'"),
        ({"r1": -1.0}, "r1 must be a weight of at least 0"),
        ({"critic_steps": 0}, "critic_steps must be a whole number"),
        ({"average": 1.0}, "average must be at least 0 and below 1"),
        ({"masks": 1.5}, "masks is the share of rows"),
        ({"latent": 0}, "latent must be whole numbers"),
        ({"network": "tree"}, "network must be one of 'mlp', 'convolution'"),
        ({"method": "svi"}, "cannot be fitted by method='svi'"),
    ],
)
def test_options_that_there_are_not(options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        quick(**options)


# ------------------------------------------------------------------------------------------------ rows as numbers
SCHEMA = Schema(
    (
        Column("height", "real"),
        Column("income", "positive"),
        Column("visits", "count"),
        Column("grey", "count", bounds=(2.0, 9.0)),
        Column("smoker", "binary", levels=("no", "yes")),
        Column("town", "categorical", levels=("a", "b", "c")),
        Column("mood", "ordinal", levels=(1, 2, 3)),
        Column("spent", "semicontinuous"),
        Column("share", "bounded", bounds=(0.0, 1.0)),
    )
)


def cells(rows=50, seed=0):
    rng = np.random.default_rng(seed)
    columns = [
        rng.normal(size=rows), rng.lognormal(1.0, 2.0, rows), rng.poisson(4.0, rows), rng.integers(2, 10, rows),
        rng.integers(2, size=rows), rng.integers(3, size=rows), rng.integers(3, size=rows),
        np.where(rng.random(rows) < 0.4, 0.0, rng.lognormal(2.0, 1.0, rows)), rng.beta(2, 3, rows),
    ]  # fmt: skip
    return torch.from_numpy(np.column_stack(columns)).double()


class Pieces:
    """Batches of one piece."""

    def __init__(self, x):
        from probgen.data.batches import Batch

        self.schema, self.batch = SCHEMA, Batch(x, SCHEMA)

    def pieces(self):
        yield self.batch


def learnt():
    columns, source = RelaxedColumns(SCHEMA).double(), Pieces(cells())
    columns.learn(source)
    return columns, source.batch


def test_what_is_read_is_written_again_and_has_unit_spread():
    columns, batch = learnt()
    rows, known = columns.read(batch)
    assert known.all()
    torch.testing.assert_close(columns.write(rows), batch.x, rtol=1e-9, atol=1e-9)
    learned = rows[:, [1, 2]]  # income and visits
    torch.testing.assert_close(learned.mean(0), torch.zeros(2).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(learned.var(0, correction=0), torch.ones(2).double())


def test_generated_cells_are_cells_and_known_ones_keep_their_bits():
    columns, batch = learnt()
    hidden = torch.rand(batch.x.shape) < 0.5
    shown = batch.hiding(hidden)
    torch.manual_seed(1)
    output = torch.randn(50, columns.outputs).double().requires_grad_()
    made = columns(output, torch.rand(50, columns.noises).double(), shown)
    filled = made.fill(shown.x)
    assert torch.equal(filled[~hidden], batch.x[~hidden])
    read, _ = columns.read(shown)
    assert torch.equal(made.rows[columns.spread(~hidden)], read[columns.spread(~hidden)])
    back = columns.write(columns.read(Pieces(filled).batch)[0])
    torch.testing.assert_close(back, filled, rtol=1e-9, atol=1e-9)  # every one a value of its column
    slopes = torch.autograd.grad(made.rows.square().sum(), output)[0]
    assert (slopes != 0).any(0).all()  # each output is learnt from


def test_levels_are_drawn_with_the_probabilities_that_a_softmax_says():
    schema = Schema((Column("a", "categorical", levels=("u", "v", "w")), Column("b", "binary", levels=(0, 1))))
    columns = RelaxedColumns(schema)
    from probgen.data.batches import Batch

    torch.manual_seed(0)
    batch = Batch(torch.full((40_000, 2), torch.nan), schema)
    logits = torch.tensor([0.5, 1.5, 0.0, -1.0]).expand(len(batch), -1)
    drawn = columns(logits, torch.rand(len(batch), columns.noises), batch).fill(batch.x)
    expected = torch.tensor([0.5, 1.5, 0.0]).softmax(0)
    found = torch.bincount(drawn[:, 0].long(), minlength=3) / len(batch)
    error = 4 * (expected * (1 - expected) / len(batch)).sqrt()
    assert ((found - expected).abs() < error).all()
    share = torch.tensor(-1.0).sigmoid()
    assert abs(drawn[:, 1].mean() - share) < 4 * (share * (1 - share) / len(batch)).sqrt()


def test_hiding_cells_reads_what_a_table_with_these_holes_would():
    _, batch = learnt()
    torch.manual_seed(2)
    hidden = torch.rand(batch.x.shape) < 0.3
    from probgen.data.batches import Batch

    anew = Batch(torch.where(hidden, torch.nan, batch.x), SCHEMA)
    torch.testing.assert_close(batch.hiding(hidden).features(masks=True), anew.features(masks=True), rtol=0, atol=0)


# ------------------------------------------------------------------------------------------------ stop and go on
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"spectral": True, "objective": "hinge"},
        {"objective": "wasserstein", "critic_steps": 2},
        {"model": "cycle_gan", "identity": 1.0},
    ],
)
def test_a_fit_that_is_stopped_goes_on_to_the_same_bits(tmp_path, options):
    whole = quick(**options, max_steps=40)
    again = stopped_and_resumed(lambda **more: quick(**options, max_steps=40, **more), tmp_path / "state", at=23)
    assert again.history == whole.history
    np.testing.assert_array_equal(again.sample(20).values, whole.sample(20).values)
    for key, value in whole.program.state_dict().items():
        assert torch.equal(value, again.program.state_dict()[key]), key


@pytest.mark.parametrize(("model", "player"), [("gan", "generator"), ("cycle_gan", "generators")])
def test_only_the_player_whose_turn_it_is_moves(model, player):
    from probgen.data.batches import Batches, Standardiser
    from probgen.inference.methods.base import Task
    from probgen.program import find

    table, kind = normal_table(), find_method("adversarial")
    program = find(model)(table.schema, latent=2, hidden=(8,))
    batches = Batches(table, Standardiser.of(table), dtype=torch.float32)
    method = kind(Task(program, batches, None, 0, 10, 0.0, dict(kind.defaults)))
    method.init()
    before = {key: value.clone() for key, value in program.state_dict().items()}
    method.improve_critic(method.shown(next(method.stream)))
    moved = {key.split(".")[0] for key, value in program.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"critic"}
    before = {key: value.clone() for key, value in program.state_dict().items()}
    method.improve_generator(method.shown(next(method.stream)))
    moved = {key.split(".")[0] for key, value in program.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {player}


def test_spectral_norms_are_one():
    fit = quick(spectral=True, objective="hinge", max_steps=100)
    layers = [layer for layer in fit.program.critic.modules() if isinstance(layer, nn.Linear)]
    assert len(layers) == 2
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1.0, abs=0.02)


# ------------------------------------------------------------------------------------------------------ collapse
def test_energy_distance_of_two_normals_is_the_closed_form():
    """E|X - Y| of normals is a folded normal's mean; between N(0, 1) and N(2, 1), 2 E|X - Y| - 2 E|X - X'|."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(4000, 1, generator=rng), 2 + torch.randn(4000, 1, generator=rng)
    s = math.sqrt(2.0)
    folded = s * math.sqrt(2 / math.pi) * math.exp(-1.0) + 2 * math.erf(2 / (s * s))
    assert float(energy_distance(x, y)) == pytest.approx(2 * folded - 2 * 2 / math.sqrt(math.pi), abs=0.06)


def test_rows_of_one_distribution_are_told_apart_as_often_as_the_level_says():
    torch.manual_seed(0)
    rows = [compared(torch.randn(80, 2), torch.randn(80, 2), torch.arange(2), ("a", "b")) for _ in range(100)]
    assert sum(found["energy_distance_p"] <= 0.05 for found in rows) <= 12  # 5 expected; 12 has probability .002
    assert np.mean([found["coverage"] for found in rows]) == pytest.approx(1 - 2.0**-5, abs=0.02)  # Naeem et al., 2020
    assert not any(map(collapsed, rows))


def test_a_third_of_the_modes_is_a_third_of_the_rows():
    torch.manual_seed(0)
    centres = torch.tensor([[-5.0], [0.0], [5.0]])
    real = centres[torch.arange(300) % 3] + 0.1 * torch.randn(300, 1)
    made = centres[torch.ones(300, dtype=torch.long)] + 0.1 * torch.randn(300, 1)
    found, precise = coverage(real, made)
    assert found == pytest.approx((1 - 2.0**-5) / 3, abs=0.03)
    assert precise > 0.9
    wide = {"least_spread": 1.0, "least_spread_column": "x", "coverage": found}
    assert "only 33% of the data's rows have a generated row near them" in str(collapsed(wide))


class Stuck(nn.Module):
    """A generator that says one thing, and learns nothing."""

    def __init__(self, outputs):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(outputs))

    def forward(self, z, _rows, _known):
        return self.value.detach().expand(len(z), -1) + 0.0 * self.value


def test_a_planted_collapse_is_told():
    from probgen.models.gan import GAN

    table = normal_table()
    program = GAN(table.schema, latent=2, hidden=(8,))
    program.generator = Stuck(2)
    with pytest.warns(pg.ConvergenceWarning, match="the generator has collapsed: the generated values of column"):
        fit = pg.fit(program, table, max_steps=210, progress=False)
    assert fit.diagnostics["least_spread"] == 0.0
    assert fit.diagnostics["coverage"] < 0.2  # 5 of 40 rows have a point among their neighbours
    assert fit.diagnostics["energy_distance"] > fit.diagnostics["energy_distance_by_chance"]


def test_a_generator_that_is_as_good_as_the_data_is_left_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = pg.fit("gan", normal_table(), hidden=(32, 32), latent=4, max_steps=500, progress=False)
    assert fit.diagnostics["coverage"] > 0.7
