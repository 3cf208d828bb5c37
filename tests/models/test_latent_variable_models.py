"""Autoencoders, layers of latents and labels beside what they have to equal."""

from __future__ import annotations

import itertools
import warnings
from functools import partial

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.data.sequences import Steps
from probgen.families.deep_path import DeepPath
from probgen.models.autoencoder import steepness
from tests.resuming import stopped_and_resumed

QUICK = {"progress": False, "seed": 0}
BITS = Schema(tuple(Column(f"x{i}", "binary", levels=(0, 1)) for i in range(6)))
LABELLED = Schema((*BITS, Column("group", "categorical", levels=("a", "b", "c"), incomplete=True)))
RATES = np.array([[0.9, 0.9, 0.1, 0.1, 0.5, 0.5], [0.1, 0.9, 0.9, 0.1, 0.2, 0.8], [0.1, 0.1, 0.1, 0.9, 0.8, 0.2]])


def bits(rows=300):
    rng = np.random.default_rng(0)
    z = rng.integers(2, size=rows)
    return Table.from_codes((rng.random((rows, 6)) < 0.1 + 0.8 * z[:, None]).astype(float), BITS)


def labelled(rows=600, known=0.5):
    rng = np.random.default_rng(1)
    group = rng.integers(3, size=rows)
    x = (rng.random((rows, 6)) < RATES[group]).astype(float)
    told = np.where(rng.random(rows) < known, group, np.nan)
    return Table.from_codes(np.column_stack([x, told]), LABELLED), group


def every():
    return np.array(list(itertools.product([0.0, 1.0], repeat=6)))


def fitted(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit(*arguments, **{**QUICK, **options})


def total(estimate):
    """Sum of densities, and its Monte-Carlo error."""
    weights = np.exp(estimate.value)
    return weights.sum(), np.sqrt(((weights * estimate.standard_error) ** 2).sum())


# ------------------------------------------------------------------------------------------------- layers of latents
def test_the_hierarchy_is_a_density():
    fit = fitted("hierarchical_vae", bits(), latent=(3, 2), hidden=(16,), max_steps=400)
    found, error = total(fit.log_prob(Table.from_codes(every(), BITS), draws=2000))
    assert abs(found - 1) < 4 * error + 0.01
    assert fit.embed(bits()).shape == (300, 5)


def test_free_bits_keep_the_upper_layer_in_use():
    options = {"latent": (2, 2), "hidden": (16,), "max_steps": 800, "learning_rate": 3e-3}
    free = fitted("hierarchical_vae", bits(), free_bits=0.3, **options)
    assert min(free.diagnostics["latent_nats"].values()) > 0.2
    assert set(free.diagnostics["latent_nats"]) == {"z2", "z1"}


def test_one_layer_is_a_vae():
    """With one layer and no hidden layer between, both reach the same bound on the same rows."""
    one = fitted("hierarchical_vae", bits(), latent=(2,), hidden=(16,), max_steps=1500, learning_rate=3e-3)
    vae = fitted("vae", bits(), latent=2, hidden=(16,), max_steps=1500, learning_rate=3e-3)
    values = [fit.log_prob(bits(), draws=300).mean().value for fit in (one, vae)]
    assert values[0] == pytest.approx(values[1], abs=0.08)


# ------------------------------------------------------------------------------------------------------------- labels
@pytest.mark.parametrize("options", [{}, {"latent_prior": "flow", "posterior": "flow", "max_steps": 150}])
def test_an_unknown_label_is_summed_out(options):
    table, _ = labelled()
    common = {"label": "group", "latent": 2, "hidden": (16,), "max_steps": 400}
    fit = fitted("conditional_vae", table, **common | options)
    rows = every()[:40]
    hidden = fit.log_prob(Table.from_codes(np.column_stack([rows, np.full(40, np.nan)]), LABELLED), draws=3000)
    each = [
        fit.log_prob(Table.from_codes(np.column_stack([rows, np.full(40, level)]), LABELLED), draws=3000)
        for level in range(3)
    ]
    summed = np.logaddexp.reduce([one.value for one in each])
    error = np.hypot(hidden.standard_error, np.max([one.standard_error for one in each], 0))
    assert np.abs((hidden.value - summed) / error).max() < 4.5


def test_a_label_is_heard_beside_many_latents():
    fit = fitted("conditional_vae", labelled()[0], label="group", latent=50, hidden=(64,), max_steps=1)
    z, y = torch.randn(300, 50, generator=torch.Generator().manual_seed(0)), torch.arange(300) % 3
    with torch.no_grad():
        by_label = fit.program.described(z[:1].expand(300, -1), y).mean.std(0).mean()
        by_latents = fit.program.described(z, torch.zeros(300)).mean.std(0).mean()
    assert 0.5 < by_label / by_latents < 2


def test_labels_are_told_from_some_and_rows_drawn_of_the_asked_one():
    table, group = labelled()
    fit = fitted("conditional_vae", table, label="group", latent=2, hidden=(32,), max_steps=1500, learning_rate=3e-3)
    left = np.isnan(table.values[:, 6])
    told = pg.class_probabilities(fit, table.hide("group"), "group")[left]
    log_rates = table.values[:, :6] @ np.log(RATES.T) + (1 - table.values[:, :6]) @ np.log(1 - RATES.T)
    best = (log_rates[left].argmax(1) == group[left]).mean()  # by the truth
    assert (told.argmax(1) == group[left]).mean() > best - 0.03
    for level in range(3):
        asked = Table.from_codes(np.column_stack([np.full((2000, 6), np.nan), np.full(2000, level)]), LABELLED)
        assert fit.fill(asked, 1)[0].values[:, :6].mean(0) == pytest.approx(RATES[level], abs=0.12)


@pytest.mark.parametrize(("label", "said"), [("x", "needs a label"), ("height", "needs a label")])
def test_a_label_has_levels(label, said):
    with pytest.raises(pg.CapabilityError, match=said):
        pg.fit("conditional_vae", bits(), label=label, **QUICK)


# ------------------------------------------------------------------------------------------------------- autoencoders
def test_a_linear_autoencoder_finds_the_principal_plane():
    """Baldi and Hornik (1989)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(400, 5))
    x = (x - x.mean(0)) / x.std(0)
    table = pg.Table({f"x{at}": column for at, column in enumerate(x.T)})
    fit = fitted(
        "autoencoder", table, latent=2, hidden=(), spread="same", max_steps=2000, learning_rate=1e-2, batch_size=400,
        validation_fraction=0.0,
    )  # fmt: skip
    error = ((fit.decode(fit.embed(table)).values - x) ** 2).mean()
    least = (np.linalg.svd(x)[1][2:] ** 2).sum() / x.size
    assert least < error < 1.05 * least + 1e-4


def test_the_steepness_is_the_squared_jacobian():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    row = torch.randn(1, 4)
    exact = torch.autograd.functional.jacobian(net, row).square().sum()
    drawn = steepness(net, row.expand(20_000, 4)).detach()
    assert float(drawn.mean()) == pytest.approx(float(exact), abs=4 * float(drawn.std()) / 20_000**0.5)


def test_contraction_makes_codes_less_steep_and_noise_is_not_asked_about():
    steep = {}
    for weight in (0.0, 1.0):
        fit = fitted("autoencoder", bits(), latent=2, hidden=(16,), contraction=weight, noise=0.2, max_steps=600)
        read = torch.tensor(bits().values, dtype=torch.float32)
        steep[weight] = float(torch.stack([steepness(fit.program.encoder, read).detach() for _ in range(50)]).mean())
        np.testing.assert_array_equal(fit.embed(bits()), fit.embed(bits()))
    assert steep[1.0] < 0.5 * steep[0.0]


def test_an_autoencoder_has_no_density():
    fit = fitted("autoencoder", bits(), latent=2, hidden=(8,), max_steps=20)
    with pytest.raises(pg.CapabilityError, match="has no density"):
        fit.log_prob(bits())
    with pytest.raises(pg.CapabilityError, match="noise must be in"):
        pg.fit("autoencoder", bits(), noise=1.5, **QUICK)


# --------------------------------------------------------------------------------------------------------------- codes
def test_the_bound_of_codes_lies_below_the_sum_over_all_codes():
    fit = fitted("vq_vae", bits(), slots=2, codes=4, width=3, hidden=(16,), max_steps=500, learning_rate=3e-3)
    program, rows = fit.program, torch.tensor(every(), dtype=torch.float32)
    codes = torch.tensor(list(itertools.product(range(4), repeat=2)))
    with torch.no_grad():
        prior = program.prior.log_prob(codes)
        x = program.columns(program.decoder(program.book.side_by_side(codes))[:, None])
        exact = (prior[:, None] + x.log_prob(rows)).logsumexp(0).double().numpy()
    assert float(prior.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert np.exp(exact).sum() == pytest.approx(1.0, abs=1e-4)
    bound = fit.log_prob(Table.from_codes(every(), BITS))
    assert bound.kind == "lower_bound"
    assert (bound.value < exact + 1e-4).all()
    seen = fit.log_prob(bits()).mean().value
    assert seen > exact[(bits().values @ 2.0 ** np.arange(6)[::-1]).astype(int)].mean() - 1.0


def test_all_vectors_of_the_codebook_come_into_use_and_codes_are_drawn_as_they_are_met():
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits

    x = (load_digits().data > 7).astype(float)
    table = Table.from_codes(x, Schema(tuple(Column(f"p{at}", "binary", levels=(0, 1)) for at in range(64))))
    fit = fitted("vq_vae", table, slots=8, codes=16, width=8, hidden=(128,), max_steps=1200, learning_rate=2e-3)
    assert fit.program.book.perplexity > 0.9 * 16
    assert "16 vectors in use" in fit.summary()
    assert fit.sample(2000).values.mean(0) == pytest.approx(x.mean(0), abs=0.08)
    with torch.no_grad():
        met = fit.program.book.nearest(fit.program.encoder(torch.tensor(x, dtype=torch.float32)))
        drawn = fit.program.prior.draw(2000)
    for slot in range(8):
        shares = [torch.bincount(codes[:, slot], minlength=16) / len(codes) for codes in (met, drawn)]
        assert float((shares[0] - shares[1]).abs().sum()) < 0.3


def test_codes_go_on_from_a_checkpoint(tmp_path):
    part = {"slots": 2, "codes": 4, "width": 2, "hidden": (8,), "max_steps": 60, "validation_fraction": 0.0}
    whole = fitted("vq_vae", bits(), **part)

    again = stopped_and_resumed(partial(fitted, "vq_vae", bits(), **part), tmp_path / "state", 20)
    np.testing.assert_array_equal(again.log_prob(bits()).value, whole.log_prob(bits()).value)
    assert again.history["objective"] == whole.history["objective"]


# ----------------------------------------------------------------------------------------------------------- sequences
def turns(sequences=60, seed=0):
    """Sequences of two columns that turn, of different lengths, with holes."""
    rng = np.random.default_rng(seed)
    made = []
    for length in rng.integers(2, 9, size=sequences):
        phase = rng.uniform(0, 6) + 0.7 * np.arange(length)
        made.append(np.column_stack([np.sin(phase), np.cos(phase)]) + 0.1 * rng.normal(size=(length, 2)))
    values = np.concatenate(made)
    values[rng.random(values.shape) < 0.1] = np.nan
    lengths = [len(one) for one in made]
    return Table.from_codes(values, Schema((Column("a", "real"), Column("b", "real"))), lengths=np.array(lengths))


def test_states_of_a_sequence_have_the_density_of_one_step_after_the_other():
    torch.manual_seed(0)
    steps, start = Steps(torch.tensor([2, 4, 1])), torch.tensor([0.3, -0.2])
    nudge = torch.randn(7, 2)

    def following(before, rows):
        return 0.5 * before.sin() + nudge[rows], 0.3 + before.abs()

    path = DeepPath(following, start, steps).expand(torch.Size([5, 7]))
    z = path.rsample()
    assert z.shape == (5, 7, 2)
    expected = torch.zeros(5, 7)
    for sequence, (first, length) in enumerate([(0, 2), (2, 4), (6, 1)]):
        del sequence
        before = start.expand(5, 2)
        for row in range(first, first + length):
            loc, scale = 0.5 * before.sin() + nudge[row], 0.3 + before.abs()
            expected[:, row] = torch.distributions.Normal(loc, scale).log_prob(z[:, row]).sum(-1)
            before = z[:, row]
    torch.testing.assert_close(path.log_prob(z), expected)
    many = path.expand(torch.Size([40_000, 7])).rsample()
    first = torch.distributions.Normal(0.5 * start.sin() + nudge[[0, 2, 6]], 0.3 + start.abs())
    torch.testing.assert_close(many[:, [0, 2, 6]].mean(0), first.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(many[:, [0, 2, 6]].std(0), first.stddev, rtol=0.03, atol=0)


def test_the_density_of_a_short_sequence_is_an_integral_over_its_states():
    table = turns()
    fit = fitted("deep_markov", table, latent=1, hidden=(8,), recurrent=8, max_steps=300, learning_rate=5e-3)
    chosen = int(np.flatnonzero(table.lengths == 3)[0])
    first = int(table.lengths[:chosen].sum())
    row = Table.from_codes(table.values[first : first + 3], table.schema, lengths=np.array([3]))
    grid = torch.linspace(-8, 8, 400, dtype=torch.float32)
    with torch.no_grad(), fit.setting():
        x = next(fit.batches(row, 10).pieces()).x
        program, width = fit.program.float(), float(grid[1] - grid[0])
        loc, scale = program.following(grid[:, None], None)
        log_step = torch.distributions.Normal(loc, scale).log_prob(grid)  # (before, after)
        loc, scale = program.following(program.before[None], None)
        log_alpha = torch.distributions.Normal(loc, scale).log_prob(grid)[0]
        emitted = program.columns(program.decoder(grid[:, None]))
        for time in range(3):
            if time:
                log_alpha = (log_alpha[:, None] + log_step).logsumexp(0) + np.log(width)
            log_alpha = log_alpha + emitted.log_prob(x[time].float())
        exact = float(log_alpha.logsumexp(0)) + np.log(width) + fit.standardiser.log_jacobian(row.known).sum()
    estimate = fit.log_prob(row, draws=20_000)
    assert estimate.value[0] == pytest.approx(exact, abs=4 * estimate.standard_error[0] + 0.01)


def test_deep_states_predict_better_than_rows_alone_and_fill_between():
    table = turns(200)
    settings = {
        "latent": 3,
        "hidden": (32,),
        "recurrent": 32,
        "max_steps": 800,
        "learning_rate": 5e-3,
        "batch_size": 50,
    }
    chain = fitted("deep_markov", table, **settings)
    rows = Table.from_codes(table.values[table.known.any(1)], table.schema)
    alone = fitted("vae", rows, latent=2, hidden=(32,), max_steps=800)
    together, apart = chain.log_prob(table, draws=200).sum().value, alone.log_prob(rows, draws=200).sum().value
    assert together / len(rows) > apart / len(rows) + 0.2
    filled = chain.fill(table, 1)[0]
    np.testing.assert_array_equal(filled.values[table.known], table.values[table.known])
    assert np.abs(np.hypot(*filled.values.T) - 1).mean() < 0.35  # rows lie around the circle
    assert chain.embed(table).shape == (len(table.values), 3)
    assert chain.sample(5, steps=4).values.shape == (20, 2)


@pytest.mark.parametrize("model", ["deep_markov", "recurrent_state_space"])
def test_minibatches_of_sequences_go_on_from_a_checkpoint(tmp_path, model):
    part = {"latent": 2, "hidden": (8,), "recurrent": 8, "max_steps": 40, "validation_fraction": 0.0, "batch_size": 7}
    whole = fitted(model, turns(), **part)

    again = stopped_and_resumed(partial(fitted, model, turns(), **part), tmp_path / "state", 15)
    assert again.history["objective"] == whole.history["objective"]


# --------------------------------------------------------------------------------------------- what had gone wrong once
def test_codes_of_few_different_rows_stay_finite():
    """Dead vectors begin again at rows, and may then be the same: the guide's point is recognised bit by bit."""
    rng = np.random.default_rng(0)
    schema = Schema((Column("g", "categorical", levels=("a", "b", "c")), Column("h", "binary", levels=("x", "y"))))
    table = Table.from_codes(
        np.column_stack([rng.integers(3, size=300), rng.integers(2, size=300)]).astype(float), schema
    )
    fit = fitted("vq_vae", table, max_steps=600)
    assert np.isfinite(fit.history["objective"]).all()
    assert np.isfinite(fit.log_prob(table).value).all()
    assert float(fit.program.book.seen.sum()) == 0.0


@pytest.mark.parametrize("model", ["deep_markov", "recurrent_state_space"])
@pytest.mark.parametrize("objective", ["iwae", "dreg", "wake_sleep"])
def test_weights_are_those_of_whole_sequences(objective, model):
    fit = fitted(
        model, turns(), latent=2, hidden=(8,), recurrent=8, objective=objective, draws=4, max_steps=150,
        learning_rate=1e-2,
    )  # fmt: skip
    history = fit.history["objective"]
    assert np.mean(history[-10:]) > np.mean(history[:10]) + 1


@pytest.mark.parametrize("objective", ["dreg", "wake_sleep"])
@pytest.mark.parametrize("model", ["vq_vae", "autoencoder"])
def test_points_are_refused_where_a_density_is_weighed(model, objective):
    with pytest.raises(pg.CapabilityError, match="is a point at 'z'"):
        pg.fit(model, bits(), objective=objective, max_steps=2, **QUICK)


def test_what_is_decoded_has_the_likeliest_label():
    table, _ = labelled()
    fit = fitted("conditional_vae", table, label="group", latent=2, hidden=(16,), max_steps=200)
    first, again = fit.decode(np.zeros((3, 2))), fit.decode(np.zeros((3, 2)))
    np.testing.assert_array_equal(first.values, again.values)
    assert len(np.unique(first.values, axis=0)) == 1
    assert first.values[0, 6] == fit.program.logits.argmax()


def test_an_autoencoder_draws_rows_like_the_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(600, 4))
    table = pg.Table({f"x{at}": column for at, column in enumerate(x.T)})
    fit = fitted("autoencoder", table, latent=3, hidden=(32,), max_steps=800)
    assert fit.sample(2000).values.std(0) == pytest.approx(x.std(0), rel=0.35)  # it had been sixfold
    assert "active_units" not in fit.diagnostics


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("vae", {"latent": 0}, "latent must be whole numbers"),
        ("hierarchical_vae", {"hidden": ()}, "hidden must be whole numbers"),
        ("hierarchical_vae", {"latent": ()}, "latent must be whole numbers"),
        ("vq_vae", {"slots": 0}, "slots must be whole numbers"),
        ("vae", {"draws": 0}, "draws must be a whole number"),
        ("vae", {"batch_size": 0}, "batch_size must be a whole number"),
    ],
)
def test_nothing_of_something_is_refused(model, options, said):
    with pytest.raises(pg.CapabilityError, match=said):
        pg.fit(model, bits(), **options, **QUICK)


def test_small_tables_and_slow_divergences_are_trained():
    assert len(fitted("vae", bits(40), latent=2, hidden=(8,), max_steps=5).sample(3)) == 3
    fit = fitted("vae", bits(), latent=2, hidden=(16,), beta_steps=300, max_steps=500, validate_every=10, patience=3)
    assert len(fit.history["objective"]) > 300
    alone = Table.from_codes(np.array([[0.0], [1.0]] * 20), Schema((Column("y", "binary", levels=(0, 1)),)))
    with pytest.raises(pg.CapabilityError, match="needs a label"):
        pg.fit("conditional_vae", alone, **QUICK)
