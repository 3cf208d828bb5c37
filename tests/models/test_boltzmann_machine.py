"""Energies against brute force, quadrature, scikit-learn, and distributions that are known."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.data.batches import Batch
from probgen.families.harmonium import Harmonium
from probgen.inference import annealing
from probgen.inference.amortised import weighted
from probgen.inference.annealing import anneal, annealed, enumerated, forward, log_normaliser, reverse, visible_states
from probgen.inference.gibbs_chains import TemperedChains, complete, generate, settle
from probgen.inference.objectives.contrastive import gap
from probgen.queries.energy import in_double

MIXED = Schema(
    (
        Column("town", "categorical", levels=("a", "b", "c")),
        Column("height", "real"),
        Column("smoker", "binary", levels=("no", "yes")),
        Column("income", "positive"),
        Column("mood", "ordinal", levels=(1, 2, 3, 4)),
    )
)


def binary_schema(width):
    return Schema(tuple(Column(f"x{at}", "binary", levels=(0, 1)) for at in range(width)))


def binary_table(values):
    return Table.from_codes(np.asarray(values, dtype=float), binary_schema(np.shape(values)[1]))


def fitted(table, name="boltzmann_machine", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit(name, table, progress=False, **options)


def quickly(table, name="boltzmann_machine", **options):
    """With plain chains, where what is tested is not the training."""
    return fitted(table, name, chains="persistent", **options)


def random_layer(schema, hidden, spread=0.7, seed=0):
    """An energy with weights of order one, in double precision."""
    torch.manual_seed(seed)
    layer = Harmonium(schema, hidden).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(spread * torch.randn(parameter.shape))
        layer.base.copy_(0.5 * torch.randn(layer.base.shape))
        layer.base_share.copy_(torch.randn(len(layer.base_share)).log_softmax(0))
        layer.units.shift.fill_(0.3)
        layer.units.scale.fill_(1.7)
    return layer.requires_grad_(False)


def energy(layer, features, hidden):
    """E(x, h) as the module's docstring states it."""
    b, c, W = layer.bias, layer.hidden_bias, layer.weight
    y = features[..., slice(*layer.units.split)]
    quadratic = 0.5 * (layer.precision * y**2).sum(-1)
    return -(features @ b) - hidden @ c - torch.einsum("...f,fh,...h->...", features, W, hidden) + quadratic


def every(width):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=width)), dtype=torch.float64)


def nothing_known(layer):
    return torch.zeros(1, layer.units.features, dtype=torch.float64), torch.zeros(1, layer.units.columns, dtype=bool)


# ---------------------------------------------------------------------------------------------------- the energy
def test_log_z_is_the_sum_over_both_sides():
    layer = random_layer(binary_schema(7), 5)
    brute = torch.stack([-energy(layer, v, h) for v in every(7) for h in every(5)]).logsumexp(0)
    assert float(log_normaliser(layer).value) == pytest.approx(float(brute), abs=1e-10)
    visible = torch.cat([-layer.free_energy(states) for states in visible_states(layer)]).logsumexp(0)
    assert float(visible) == pytest.approx(float(brute), abs=1e-10)


def test_categories_sum_out():
    schema = Schema((MIXED["town"], MIXED["smoker"], MIXED["mood"]))
    layer = random_layer(schema, 4)
    codes = list(itertools.product(range(3), range(2), range(4)))
    features, seen, _ = layer.units.read(torch.tensor(codes, dtype=torch.float64))
    assert seen.all()
    brute = torch.stack([-energy(layer, v, h) for v in features for h in every(4)]).logsumexp(0)
    assert float(log_normaliser(layer).value) == pytest.approx(float(brute), abs=1e-10)
    states = torch.cat(list(visible_states(layer)))
    assert {tuple(row.tolist()) for row in states} == {tuple(row.tolist()) for row in features}
    torch.testing.assert_close(layer.units.write(features), torch.tensor(codes, dtype=torch.float64))


def test_continuous_columns_integrate_to_one_in_the_units_of_the_data():
    layer = random_layer(Schema((MIXED["height"], MIXED["income"], MIXED["smoker"])), 4, spread=0.5)
    grid = torch.linspace(-30.0, 30.0, 601, dtype=torch.float64)
    first, second, third = torch.meshgrid(grid, grid, torch.arange(2.0, dtype=torch.float64), indexing="ij")
    x = torch.stack([first, second.exp(), third], -1).reshape(-1, 3)  # heights, incomes on a logarithmic grid, smokers
    features, _, log_jacobian = layer.units.read(x)
    density = -layer.free_energy(features) + log_jacobian - log_normaliser(layer).value
    total = (density + second.reshape(-1)).exp().sum() * (grid[1] - grid[0]) ** 2
    assert float(total) == pytest.approx(1.0, abs=1e-6)


def test_holes_are_summed_and_integrated_out():
    layer = random_layer(MIXED, 5, spread=0.5)
    row = torch.tensor([1.0, 0.4, torch.nan, 2.5, torch.nan], dtype=torch.float64)
    features, seen, log_jacobian = layer.units.read(row[None])
    known = enumerated(layer, features, seen) + log_jacobian
    filled = torch.stack([row.clone() for _ in range(8)])
    filled[:, 2], filled[:, 4] = torch.arange(8) // 4, torch.arange(8) % 4
    complete_features, _, jacobian = layer.units.read(filled)
    summed = (-layer.free_energy(complete_features) + jacobian).logsumexp(0)
    assert float(known) == pytest.approx(float(summed), abs=1e-10)

    grid = torch.linspace(-40.0, 40.0, 8001, dtype=torch.float64)
    lines = row.repeat(len(grid), 1)
    lines[:, 1] = grid
    features, seen, log_jacobian = layer.units.read(lines)
    total = (enumerated(layer, features, seen) + log_jacobian).exp().sum() * (grid[1] - grid[0])
    row[1] = torch.nan
    features, seen, log_jacobian = layer.units.read(row[None])
    assert float(total.log()) == pytest.approx(float(enumerated(layer, features, seen) + log_jacobian), abs=1e-8)


def test_the_program_states_the_same_energy():
    """With the guide p(h | x) every importance weight is the unnormalised density: minus the free energy."""
    fit = quickly(mixed_table(), hidden=6, max_steps=50)
    program, x = in_double(fit), torch.tensor(mixed_table(20).values)
    layer = program.layers[0]
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            weights = weighted(program, Batch(x, MIXED), 4).log_weights
    finally:
        torch.set_default_dtype(torch.float32)
    features, _, log_jacobian = layer.units.read(x)
    expected = (-layer.free_energy(features) + log_jacobian).expand(4, -1)
    torch.testing.assert_close(weights, expected.detach())


def test_the_gradient_of_the_log_likelihood_is_the_difference_of_statistics():
    layer = random_layer(binary_schema(6), 4).requires_grad_(True)
    data, states = every(6)[[3, 17, 40, 40]], every(6)
    log_z = (-layer.free_energy(states)).logsumexp(0)
    (-layer.free_energy(data).mean() - log_z).backward()
    exact = [p.grad.clone() for p in layer.parameters() if p.numel()]
    p = (-layer.free_energy(states) - log_z).exp().detach()
    share = {"data": torch.full((4,), 0.25, dtype=torch.float64), "model": p}
    rows = {"data": data, "model": states}
    on = {k: layer.field(v).sigmoid().detach() for k, v in rows.items()}
    statistics = {
        k: [torch.einsum("n,nf,nh->fh", share[k], rows[k], on[k]), share[k] @ rows[k], share[k] @ on[k]] for k in rows
    }
    for got, positive, negative in zip(exact, statistics["data"], statistics["model"], strict=True):
        torch.testing.assert_close(got, positive - negative)
    layer.zero_grad()
    often = torch.multinomial(p, 200_000, replacement=True)
    gap(layer, data, states[often]).backward()
    torch.testing.assert_close(-layer.weight.grad, exact[0], atol=0.01, rtol=0.0)


@pytest.mark.reference
def test_pseudo_likelihood_is_that_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.neural_network")
    layer = random_layer(binary_schema(9), 5)
    x = np.random.default_rng(0).integers(2, size=(40, 9)).astype(float)
    peer = sklearn.BernoulliRBM(n_components=5, random_state=3)
    peer.components_ = layer.weight.T.numpy()
    peer.intercept_visible_, peer.intercept_hidden_ = layer.bias.numpy(), layer.hidden_bias.numpy()
    peer.n_features_in_ = 9
    flipped = np.random.RandomState(3).randint(0, 9, 40)  # the units that score_samples flips
    ours = layer.pseudo_log_likelihood(torch.from_numpy(x), torch.from_numpy(flipped))
    np.testing.assert_allclose(ours, peer.score_samples(x), rtol=0, atol=1e-8)


def test_pseudo_likelihood_of_mixed_columns_is_that_of_the_density():
    layer = random_layer(MIXED, 4, spread=0.5)
    torch.manual_seed(1)
    features = layer.draw_base(6)
    joint = -layer.free_energy(features)
    for unit in range(5):
        seen = torch.ones(6, 5, dtype=bool)
        seen[:, unit] = False
        hidden = torch.where(layer.units.spread(seen), features, 0.0)
        expected = joint - enumerated(layer, hidden, seen)
        found = layer.pseudo_log_likelihood(features, torch.full((6,), unit), 1)
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=0.0)


# ----------------------------------------------------------------------------------------------------- annealing
def path_by_hand(layer, states, beta, known=None):
    """Log of the path's unnormalised density, components and hidden states summed one by one."""
    known = torch.zeros(states.shape[-1], dtype=bool) if known is None else known
    share = layer.base_share.softmax(0) * (mixture_cells(layer, states)[:, :, known].sum(-1).exp())
    cells = mixture_cells(layer, states)[:, :, ~known].sum(-1)
    mixture = ((share / share.sum(1, keepdim=True)).log() + (1 - beta) * cells).logsumexp(1)
    return mixture + torch.stack([-beta * energy(layer, states, h) for h in every(layer.hidden)]).logsumexp(0)


def mixture_cells(layer, states):
    """``(N, K, F)``: log probability of each bit under each component."""
    return -torch.nn.functional.softplus((1 - 2 * states)[:, None] * layer.base)


def test_the_path_keeps_the_component_as_a_latent_unit():
    layer, states = random_layer(binary_schema(5), 3), every(5)
    for known in (None, torch.tensor([True, False, False, True, False])):
        held = None if known is None else known.expand(32, -1)
        start = layer.origin(states, held)
        rise = layer.rise(layer.sight(states, start), start, 0.3, 0.8)
        expected = path_by_hand(layer, states, 0.8, known) - path_by_hand(layer, states, 0.3, known)
        torch.testing.assert_close(rise, expected)
        free = slice(None) if known is None else (states[:, known] == states[5, known]).all(1)
        total = path_by_hand(layer, states, 0.0, known)[free].logsumexp(0)
        assert float(total) == pytest.approx(layer.log_base_normaliser(), abs=1e-10)


@pytest.mark.stats
def test_tempered_sweeps_leave_the_path_as_it_is():
    layer, states, rows = random_layer(binary_schema(5), 3, spread=1.2), every(5), 20_000
    p = path_by_hand(layer, states, 0.6).softmax(0)
    torch.manual_seed(8)
    start = layer.origin()
    drawn = layer.temper(layer.sight(states[torch.multinomial(p, rows, replacement=True)], start), start, 0.6)
    found = torch.bincount((drawn @ 2.0 ** torch.arange(4, -1, -1).double()).long(), minlength=32) / rows
    assert (found - p).abs().max() < 4 * (p.max() / rows) ** 0.5


def test_the_mixture_at_the_beginning_of_paths_is_close_to_the_data():
    """Planted patterns are found, with cells missing and rows of weight zero too."""
    layer, test = Harmonium(binary_schema(10), 2), torch.tensor(planted(2000, seed=1)).float()
    data = torch.cat([torch.tensor(planted(3000)).float(), torch.ones(500, 10)])
    weights = torch.cat([torch.ones(3000), torch.zeros(500)])
    torch.manual_seed(0)
    for missing in (0.0, 0.3):
        known = torch.rand(data.shape) >= missing
        layer.start_paths(torch.where(known, data, 0.0), known, weights)
        score = layer.base_share + mixture_cells(layer, test).sum(-1)
        assert float(score.logsumexp(1).mean()) > -planted_entropy() - 0.1 - missing


def test_more_chains_go_where_the_first_ones_disagree():
    layer = random_layer(binary_schema(12), 8, spread=1.5)
    torch.manual_seed(2)
    assert 8 < float(forward(layer, chains=8, temperatures=3).size) <= 1024
    layer.weight.zero_()
    layer.bias.copy_(layer.base[0])
    layer.base.copy_(layer.base[:1].expand_as(layer.base).clone())
    assert float(forward(layer, chains=8, temperatures=3).size) == pytest.approx(8.0)


@pytest.mark.stats
def test_tempered_chains_place_their_temperatures():
    """From steps of which one is refused nearly always, to steps that are refused equally often."""
    torch.manual_seed(4)
    chains = TemperedChains(random_layer(binary_schema(30), 10), 100, 1, 6)
    chains.betas = torch.tensor([0.0, 0.02, 0.04, 0.06, 0.08, 1.0])
    for _ in range(40):
        chains.advance(torch.zeros(0))
    assert chains.refused[-1] > 5 * chains.refused[:-1].mean()
    for _ in range(500):
        chains.advance(torch.zeros(0))
    assert chains.refused.max() - chains.refused.min() < 0.05
    assert (chains.betas[0], chains.betas[-1]) == (0.0, 1.0)


@pytest.mark.slow
@pytest.mark.stats
def test_annealing_on_separated_modes_meets_the_exact_normaliser(data_folder):
    """Mushrooms: one-hot groups, rows in clusters that single flips do not join; 12 hidden units summed out."""
    data = np.load(data_folder / "binary" / "mushrooms.npz")
    train, test = (np.unpackbits(data[part], axis=1)[:, :112] for part in ("train", "test"))
    fit = fitted(binary_table(train), hidden=12, max_steps=5000, learning_rate=0.05, chains="tempered")
    layer = fit.program.layers[0].requires_grad_(False)
    exact = float(log_normaliser(in_double(fit).layers[0].requires_grad_(False)).value)
    torch.manual_seed(5)
    below = forward(layer)
    above = reverse(layer, torch.tensor(test[:500]).float(), 2000)
    assert abs(float(below.value) - exact) < 4 * float(below.error) < 0.2
    assert abs(float(above.value) - exact) < 0.1 + 4 * float(above.error)


@pytest.mark.parametrize("schema", [binary_schema(12), MIXED], ids=["binary", "mixed"])
@pytest.mark.stats
def test_annealing_from_both_sides_meets_the_exact_normaliser(schema):
    layer = random_layer(schema, 8, spread=0.5)
    exact = float(log_normaliser(layer).value)
    torch.manual_seed(2)
    found = annealed(layer, *nothing_known(layer), 200, 500)
    assert abs(float(found.value) - exact) < 4 * float(found.error) < 0.2
    back = reverse(layer, generate([layer], 400), 500)
    assert abs(float(back.value) - exact) < 4 * float(back.error) + 0.02


@pytest.mark.slow
@pytest.mark.stats
def test_annealing_on_real_data_from_both_sides(data_folder):
    """Twelve hidden units on nltcs: both estimates within 0.02 of the truth, and single chains on their own sides of it."""
    data = np.load(data_folder / "binary" / "nltcs.npz")
    table = binary_table(np.unpackbits(data["train"], axis=1)[:, :16])
    fit = quickly(table, hidden=12, max_steps=1500, learning_rate=0.2)
    layer = in_double(fit).layers[0].requires_grad_(False)
    exact = float(log_normaliser(layer).value)
    torch.manual_seed(5)
    found = annealed(layer, *nothing_known(layer), 1500, 2000)
    assert abs(float(found.value) - exact) < 0.02
    assert 4 * float(found.error) < 0.02
    assert float(found.size) > 1350
    states = every(12)
    hidden = states[torch.multinomial(layer.log_marginal(states).softmax(0), 1000, replacement=True)]
    draws = layer.units.sample(layer.natural(hidden), layer.precision)  # exact
    back = reverse(layer, draws, 2000)
    assert abs(float(back.value) - exact) < 0.02
    zero, few = layer.log_base_normaliser(), torch.linspace(0.0, 1.0, 31, dtype=torch.float64)
    below = zero + anneal(layer, layer.draw_base(1000), layer.origin(), few)[1]
    above = zero - anneal(layer, draws, layer.origin(), few.flip(0))[1]
    assert below.mean() + 3 * below.std() / 1000**0.5 < exact < above.mean() - 3 * above.std() / 1000**0.5


@pytest.mark.stats
def test_annealing_with_known_columns_held_fixed():
    layer = random_layer(MIXED, 8, spread=0.5)
    torch.manual_seed(3)
    features = layer.draw_base(5)
    seen = torch.rand(5, 5) < 0.5
    exact = enumerated(layer, torch.where(layer.units.spread(seen), features, 0.0), seen)
    found = annealed(layer, torch.where(layer.units.spread(seen), features, 0.0), seen, 300, 300)
    assert bool(((found.value - exact).abs() < 4 * found.error + 1e-9).all())
    assert float(found.error.max()) < 0.1


@pytest.mark.stats
def test_gibbs_chains_draw_what_is_unknown():
    """Frequencies given the known columns against the exact conditional; both kinds of tempering too."""
    layer = random_layer(binary_schema(5), 4, spread=1.2)
    states = every(5)
    p = (-layer.free_energy(states)).softmax(0)
    torch.manual_seed(4)
    counts = lambda drawn: torch.bincount((drawn @ 2.0 ** torch.arange(4, -1, -1).double()).long(), minlength=32)  # noqa: E731
    error = lambda drawn, p: (counts(drawn) / len(drawn) - p).abs().max()  # noqa: E731
    assert error(generate([layer], 2000), p) < 4 * (0.25 / 2000) ** 0.5
    known = torch.tensor([[True, False, False, True, False]])
    row = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    matches = ((states == row) | ~known).all(1)
    given = torch.where(matches, p, 0.0) / p[matches].sum()
    drawn = settle(layer, row.repeat(5000, 1), known.repeat(5000, 1), 0, 60)
    assert error(drawn, given) < 4 * (0.25 / 5000) ** 0.5
    assert torch.equal(complete([layer], row[None], known)[:, known[0]], row[known[0]][None])
    tempered = TemperedChains(layer, 5000, 60, 5)
    assert error(tempered.advance(row[None]), p) < 4 * (0.25 / 5000) ** 0.5


# ------------------------------------------------------------------------------------------------------ training
def planted(rows, seed=0):
    """Ten bits: two copies of a five-bit pattern out of four, each bit flipped with probability 0.05."""
    rng = np.random.default_rng(seed)
    patterns = np.array([[1, 1, 0, 0, 1], [0, 0, 1, 1, 0], [1, 0, 1, 0, 1], [0, 1, 0, 1, 1]])
    clean = np.tile(patterns[rng.integers(4, size=rows)], 2)
    return clean ^ (rng.random((rows, 10)) < 0.05)


def planted_entropy():
    """In nats, by summing over all 1024 rows."""
    states = every(10).numpy().astype(int)
    patterns = np.tile(np.array([[1, 1, 0, 0, 1], [0, 0, 1, 1, 0], [1, 0, 1, 0, 1], [0, 1, 0, 1, 1]]), 2)
    wrong = (states[:, None] ^ patterns).sum(2)
    p = (0.05**wrong * 0.95 ** (10 - wrong)).mean(1)
    return float(-(p * np.log(p)).sum())


@pytest.mark.parametrize(
    "options",
    [
        {"max_steps": 700},
        {"chains": "persistent"},
        {"chains": "data", "gibbs_steps": 5, "max_steps": 700},
        {"chains": "persistent", "centring": False},
    ],
    ids=str,
)
def test_training_approaches_the_entropy_of_a_planted_distribution(options):
    fit = fitted(binary_table(planted(5000)), **{"hidden": 8, "max_steps": 1200, "learning_rate": 0.4} | options)
    estimate = fit.log_prob(binary_table(planted(5000, seed=1)))
    assert estimate.kind == "exact"
    error = estimate.value.std() / len(estimate) ** 0.5  # of the mean over test rows
    assert -planted_entropy() - 0.12 < estimate.mean().value < -planted_entropy() + 3 * error


def test_training_with_holes_comes_close_to_training_without():
    values = planted(5000).astype(float)
    values[np.random.default_rng(2).random(values.shape) < 0.25] = np.nan
    values = values[~np.isnan(values).all(1)]
    fit = quickly(binary_table(values), hidden=8, max_steps=1000, learning_rate=0.4)
    assert fit.log_prob(binary_table(planted(5000, seed=1))).mean().value > -planted_entropy() - 0.3
    table = binary_table(planted(50, seed=3)).hide("x7")
    drawn = np.mean([t.values[:, 7] for t in fit.fill(table, 200)], 0)
    np.testing.assert_allclose(drawn, pg.class_probabilities(fit, table, "x7")[:, 1], atol=0.16)


def test_sparsity_and_weight_decay_do_what_they_say():
    table = binary_table(planted(2000))
    free = quickly(table, hidden=8, max_steps=400, learning_rate=0.3)
    sparse = quickly(table, hidden=8, max_steps=400, learning_rate=0.3, sparsity=0.05, sparsity_cost=1.0)
    small = quickly(table, hidden=8, max_steps=400, learning_rate=0.3, weight_decay=0.05)
    assert sparse.embed(table).mean() < free.embed(table).mean() - 0.1
    norm = lambda fit: fit.program.layers[0].weight.norm().item()  # noqa: E731
    assert norm(small) < 0.7 * norm(free)


def mixed_table(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.integers(2, size=rows)
    height = rng.normal(3.0 * z, 1.0)
    columns = [(rng.integers(3, size=rows) * (1 - z) + 2 * z), height, rng.random(rows) < 0.2 + 0.6 * z]
    columns += [np.exp(0.5 * height + rng.normal(0, 0.3, rows)), np.clip(rng.integers(3, size=rows) + z, 0, 3)]
    return Table.from_codes(np.column_stack([np.asarray(c, dtype=float) for c in columns]), MIXED)


def test_mixed_columns_are_learnt():
    """Far better than independent columns; and new rows have the moments that the weights imply."""
    fit, test = quickly(mixed_table(3000), hidden=8, max_steps=1000, learning_rate=0.1), mixed_table(1000, seed=1)
    alone = sum(np.mean(fit.log_prob(test.hide(*(n for n in test.names if n != name))).value) for name in test.names)
    together = fit.log_prob(test).mean().value
    assert together > alone + 1.0
    layer = in_double(fit).layers[0]
    with torch.no_grad():
        mean, covariance = moments_by_enumeration(layer)
        drawn = layer.units.read(torch.tensor(fit.standardiser.forward(fit.sample(2000).values)))[0]
    spread = covariance.diagonal().sqrt()
    torch.testing.assert_close(drawn.mean(0), mean, atol=4 * float(spread.max()) / 2000**0.5, rtol=0.0)
    torch.testing.assert_close(
        drawn.T.cov(), covariance, atol=4 * 1.5 * float(spread.max()) ** 2 / 2000**0.5, rtol=0.0
    )


def moments_by_enumeration(layer):
    """Mean and covariance of an energy's features: those of a mixture with a component for each hidden state."""
    states = every(layer.hidden)
    share = layer.log_marginal(states).softmax(0)
    centre = layer.units.mean(layer.natural(states), layer.precision)
    binary, _, groups = layer.units.parts(centre)
    within = [(share @ (binary * (1 - binary))).diag(), (1 / layer.precision).diag()]
    for group in groups:
        block = torch.diag_embed(group) - group[..., :, None] * group[..., None, :]
        within += list((share @ block.flatten(1)).reshape(block.shape[1:]))
    mean = share @ centre
    gap = centre - mean
    return mean, torch.block_diag(*within) + gap.T @ (share[:, None] * gap)


@pytest.mark.parametrize("chains", ["persistent", "tempered"])
def test_an_interrupted_fit_goes_on_to_the_same_weights(tmp_path, chains):
    table = binary_table(planted(500))
    options = {"hidden": (6, 4), "max_steps": 60, "averaging": 0.5, "chains": chains}
    whole = fitted(table, "deep_belief", **options)

    def interrupt(step, _values, _method):
        if step == 44:
            raise KeyboardInterrupt

    fitted(table, "deep_belief", checkpoint=tmp_path / "state", callback=interrupt, **options)
    resumed = fitted(table, "deep_belief", checkpoint=tmp_path / "state", **options)
    for one, other in zip(whole.program.parameters(), resumed.program.parameters(), strict=True):
        torch.testing.assert_close(one, other)


# ------------------------------------------------------------------------------------------------- honest numbers
def test_a_large_hidden_layer_is_annealed_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(annealing, "TEMPERATURES", 500)
    rng = np.random.default_rng(0)
    wide = np.concatenate([planted(600), planted(600, 1), rng.integers(2, size=(600, 1)) == 1], 1)
    fit = quickly(binary_table(wide), hidden=24, max_steps=300)
    table = binary_table(wide[:20])
    estimate = fit.log_prob(table)
    assert estimate.kind == "annealed"
    assert estimate.mean().standard_error == pytest.approx(estimate.shared_error)
    assert 0 < estimate.shared_error < 0.05
    fit.save(tmp_path / "wide.probgen")
    again = pg.load(tmp_path / "wide.probgen")
    assert not again.program.layers[0].log_z.isnan().any()
    np.testing.assert_array_equal(again.log_prob(table).value, estimate.value)
    holes = fit.log_prob(table.hide("x3"), draws=50)
    both = [np.exp(fit.log_prob(with_bit(table, 3, bit)).value) for bit in (0.0, 1.0)]
    gap = np.abs(np.log(sum(both)) - holes.value)
    own = np.sqrt(holes.standard_error**2 - holes.shared_error**2)
    assert (gap < 4.5 * own + 1e-6).all()


def with_bit(table, place, bit):
    values = table.values.copy()
    values[:, place] = bit
    return table.with_values(values)


def test_objectives_of_normalised_programs_are_refused():
    table = binary_table(planted(100))
    for method in ("svi", "em", "map", "nuts"):
        with pytest.raises(pg.CapabilityError, match=r"up to a factor.*contrastive"):
            fitted(table, hidden=4, method=method)
    with pytest.raises(pg.CapabilityError, match="use method='contrastive'"):
        fitted(table, "vae", objective="contrastive", max_steps=2)


@pytest.mark.parametrize("kind", ["count", "semicontinuous"])
def test_columns_without_a_density_are_refused_by_name(kind):
    table = Table(
        {"visits": [0, 1, 2, 5], "y": [0.1, 0.2, 0.3, 0.4]},
        schema=Schema((Column("visits", kind), Column("y", "real"))),
    )
    with pytest.raises(pg.CapabilityError, match=f"'visits', which is {kind}"):
        fitted(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "at least 1"),
        ({"hidden": (4, 4)}, "deep_belief"),
        ({"hidden": 4, "chains": "short"}, "persistent, data, tempered"),
        ({"hidden": 4, "averaging": 2.0}, "between 0 and 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        fitted(binary_table(planted(100)), max_steps=2, **options)


# ----------------------------------------------------------------------------------------------------- deep belief
def test_the_bound_of_a_deep_belief_network_lies_below_its_density_and_closes():
    """Against the sum over all hidden layers, with columns known and unknown."""
    fit = quickly(binary_table(planted(200)), "deep_belief", hidden=(5, 4), max_steps=2)
    torch.manual_seed(6)
    for parameter in fit.program.parameters():
        parameter.data.copy_(0.7 * torch.randn(parameter.shape))
    first, top = in_double(fit).layers
    rows = planted(40).astype(float)
    part = rows.copy()
    part[:, 6:] = np.nan
    for values in (rows, part):
        states, x = every(5), torch.tensor(values)
        with torch.no_grad():
            prior = -top.free_energy(states) - log_normaliser(top).value  # (32,)
            exact = (prior + torch.stack([first.visible(h).log_prob(x) for h in states], 1)).logsumexp(1).numpy()
        single = fit.log_prob(binary_table(values), draws=1)
        assert single.kind == "lower_bound"
        assert single.mean().value < exact.mean() - 0.05
        estimate = fit.log_prob(binary_table(values), draws=8000)
        assert (np.abs(estimate.value - exact) < 4.5 * estimate.standard_error + 1e-9).all()
        assert estimate.standard_error.max() < 0.05


def test_a_deep_belief_network_samples_and_fills_what_it_learnt():
    table = binary_table(planted(3000))
    fit = quickly(table, "deep_belief", hidden=(12, 8), max_steps=1200, learning_rate=0.3)
    assert fit.embed(table.take(np.arange(4))).shape == (4, 20)
    np.testing.assert_allclose(np.cov(fit.sample(2000).values.T), np.cov(table.values.T), atol=0.06)
    hidden = binary_table(planted(300, seed=5))
    filled = fit.fill(hidden.hide("x8"), 5)
    right = np.mean([t.values[:, 8] == hidden.values[:, 8] for t in filled])
    assert right > 0.8
