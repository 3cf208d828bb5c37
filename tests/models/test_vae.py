"""The VAE beside what is exact, its priors, and what is told when it fails."""

from __future__ import annotations

import itertools
import warnings
from functools import partial

import numpy as np
import pyro
import pytest
import torch
from pyro import distributions as dist

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families.normal_mixture import NormalMixture
from tests.resuming import stopped_and_resumed

QUICK = {"progress": False, "seed": 0}
BITS = Schema(tuple(Column(f"x{i}", "binary", levels=(0, 1)) for i in range(6)))


def bits(rows=300):
    rng = np.random.default_rng(0)
    z = rng.integers(2, size=rows)
    return Table.from_codes((rng.random((rows, 6)) < 0.1 + 0.8 * z[:, None]).astype(float), BITS)


def factors(rows=1000, seed=0):
    """Two directions and noise; the columns have one variance, so that standardising does not change the noise."""
    rng = np.random.default_rng(seed)
    loadings = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-0.8, 0.6], [0.6, -0.8]])
    x = rng.normal(size=(rows, 2)) @ loadings.T + 0.6 * rng.normal(size=(rows, 5))
    return pg.Table({f"x{at}": column for at, column in enumerate((x / x.std(0)).T)})


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit(*arguments, **{**QUICK, **options})


@pytest.mark.parametrize(("spread", "linear"), [("same", "probabilistic_pca"), ("column", "factor_analysis")])
def test_a_linear_vae_reaches_the_exact_likelihood_of_linear_factors(spread, linear):
    """Lucas, Tucker, Grosse and Norouzi (2019): its bound is tight where the likelihood is highest."""
    table = factors()
    exact = quiet(linear, table, latent=2, prior=None, max_steps=2000, tolerance=1e-10).log_prob(table).mean().value
    fit = quiet(
        "vae", table, latent=2, hidden=(), spread=spread, max_steps=2000, learning_rate=2e-2, validation_fraction=0.0,
        batch_size=1000, draws=10, dtype="float64",
    )  # fmt: skip
    estimate = fit.log_prob(table, draws=400).mean()
    assert estimate.value == pytest.approx(exact, abs=0.01)
    assert fit.history["objective"][-1] == pytest.approx(exact - offset(fit, table), abs=0.01)


def offset(fit, table):
    """Between the objective's coordinates and the table's units, nats a row."""
    return fit.standardiser.log_jacobian(table.known).mean()


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_learnt_priors_are_densities_and_are_drawn_from(prior):
    fit = quiet("vae", bits(), latent=2, hidden=(16,), latent_prior=prior, prior_components=5, max_steps=400)
    every = Table.from_codes(np.array(list(itertools.product([0.0, 1.0], repeat=6))), BITS)
    estimate = fit.log_prob(every, draws=2000)
    weights = np.exp(estimate.value)
    error = np.sqrt(((weights * estimate.standard_error) ** 2).sum())
    assert abs(weights.sum() - 1) < 4 * error + 0.01
    drawn = fit.sample(4000).values.mean(0)
    assert drawn == pytest.approx(bits().values.mean(0), abs=0.06)


@pytest.mark.parametrize("shape", [(7,), (4, 7)])
def test_products_of_matrices_are_the_density_of_a_mixture(shape):
    """Narrow components far from zero too, and gradients."""
    torch.manual_seed(0)
    loc = (3 * torch.randn(5, 3)).requires_grad_()
    log_scale = torch.linspace(-6, 1, 15).reshape(5, 3).requires_grad_()
    which = dist.Categorical(logits=torch.randn(5))
    z = loc.detach()[torch.randint(5, shape)] + 0.01 * torch.randn(*shape, 3)
    found = []
    for kind in (NormalMixture, dist.MixtureSameFamily):
        one = kind(which, dist.Normal(loc, log_scale.exp()).to_event(1)).expand(torch.Size(shape))
        value = one.log_prob(z)
        found.append((value, *torch.autograd.grad(value.sum(), (loc, log_scale))))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


def test_a_vamp_prior_starts_at_rows_of_the_data():
    fit = quiet("vae", bits(), latent=2, hidden=(4,), latent_prior="vamp", prior_components=5, max_steps=1)
    known = {tuple(row) for row in bits().values}
    assert all(tuple(row) in known for row in fit.program.prior.rows.detach().round().tolist())
    assert fit.program.prior.rows.shape == (5, 6)


def test_a_top_layer_has_the_prior_that_was_asked_for():
    """A mixture of two normals far apart is what the top layer is drawn from; a vamp prior is the guide at rows of the data."""
    mixed = quiet(
        "hierarchical_vae", bits(), latent=(1, 1), hidden=(4,), latent_prior="mixture", prior_components=2, max_steps=1
    )
    with torch.no_grad():
        mixed.program.top_prior.output.copy_(torch.tensor([[-50.0, -2.0], [50.0, -2.0]]))
    batch = next(mixed.batches(bits(), 300).pieces())
    with torch.no_grad():
        z = pyro.poutine.trace(mixed.program.model).get_trace(batch).nodes["z2"]["value"]
    assert ((z.abs() - 50).abs() < 2).all()
    assert 0.3 < float((z > 0).float().mean()) < 0.7

    vamp = quiet(
        "hierarchical_vae", bits(), latent=(1, 1), hidden=(4,), latent_prior="vamp", prior_components=3, max_steps=1
    )
    program, rows = vamp.program, vamp.program.top_prior.rows
    with torch.no_grad():
        guided = program.top_posterior(rows)
        z = torch.randn(7, 1)
        assert torch.allclose(
            program.top_prior().log_prob(z), guided.log_prob(z[:, None]).logsumexp(1) - np.log(3), atol=1e-5
        )


def test_latents_that_say_nothing_are_told():
    rng = np.random.default_rng(0)
    noise = pg.Table({f"x{at}": rng.normal(size=3000) for at in range(3)})
    with pytest.warns(pg.ConvergenceWarning, match=r"latents have collapsed.*beta_steps=1000"):
        fit = pg.fit("vae", noise, latent=3, hidden=(16,), max_steps=600, learning_rate=1e-2, **QUICK)
    assert fit.diagnostics["latent_nats"]["z"] < 0.05


def test_how_much_latents_say_is_told():
    fit = quiet("vae", bits(), latent=4, hidden=(16,), max_steps=600, learning_rate=3e-3)
    assert 0.3 < fit.diagnostics["latent_nats"]["z"] < 3
    assert fit.diagnostics["active_units"]["z"].endswith(" of 4")


def test_averaged_weights_are_kept_and_go_on_from_a_checkpoint(tmp_path):
    part = {"latent": 2, "hidden": (8,), "max_steps": 60, "average": 0.9, "validation_fraction": 0.0}
    whole = quiet("vae", bits(), **part)
    last = quiet("vae", bits(), **part | {"average": 0.0})
    assert not np.array_equal(whole.log_prob(bits()).value, last.log_prob(bits()).value)

    again = stopped_and_resumed(partial(quiet, "vae", bits(), **part), tmp_path / "state", 20)
    np.testing.assert_array_equal(again.log_prob(bits()).value, whole.log_prob(bits()).value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"latent_prior": "flat"}, "latent_prior must be"),
        ({"posterior": "flat"}, "posterior must be"),
        ({"spread": "cell"}, "spread must be"),
    ],
)
def test_wrong_options_are_told(options, said):
    with pytest.raises(pg.CapabilityError, match=said):
        pg.fit("vae", bits(), **options, **QUICK)
    with pytest.raises(pg.CapabilityError, match=said):
        pg.fit("hierarchical_vae", bits(), **options, **QUICK)


def test_the_posterior_of_a_row_is_that_of_nuts():
    """Draws of the latents by importance resampling beside Markov chains on the same program."""
    from probgen.data.batches import Batch
    from probgen.inference.amortised import resample

    fit = quiet("vae", bits(), latent=2, hidden=(16,), max_steps=800, learning_rate=3e-3)
    x = torch.tensor(bits().values[:1])
    program = fit.program.double()

    def one_row(data):
        z = pyro.sample("z", program.prior())
        pyro.sample("x", program.columns(program.decoder(z)), obs=data)

    found = pg.fit(pg.program(one_row), x[0], method="nuts", draws=1000, warmup=500, chains=4, **QUICK)
    chains = found.posterior.sites["z"].flatten(0, 1).double().numpy()
    with torch.no_grad():
        batch = Batch(x.repeat(4000, 1), BITS)
        drawn = resample(program, batch, {}, candidates=256)["z"].double().numpy()
    size = found.diagnose().numbers["ess_bulk"].min()
    error = np.sqrt(chains.var(0) / size + drawn.var(0) / len(drawn))
    assert np.abs((chains.mean(0) - drawn.mean(0)) / error).max() < 4.5
    assert chains.std(0) == pytest.approx(drawn.std(0), rel=0.1)


# --------------------------------------------------------------------------------------------- flows of the latents
TRIPLE = Schema(tuple(Column(f"x{at}", "real") for at in range(3)))


def flowing(**options):
    """A program with flows that are no longer the identity, and some rows."""
    from probgen.data.batches import Batch
    from probgen.program import find

    program = find("vae")(TRIPLE, latent=2, hidden=(8,), **options).double()
    for name, weight in program.named_parameters():
        weight.data = (0.2 if "flow" in name else 0.5) * torch.randn_like(weight)
    return program, Batch(torch.randn(6, 3, dtype=torch.float64), TRIPLE)


def autoregressive_density(program, x, z):
    """Log q(z | x) by undoing the guide's flow with autograd's Jacobian, draw by draw and row by row."""
    from probgen.families.latent import LEAST, MOST

    output = program.encoder(x)
    loc, log_scale, told = output[..., :2], output[..., 2:4].clamp(LEAST, MOST), output[..., 4:]
    flow, found = program.latents.flow, torch.empty(z.shape[:-1], dtype=z.dtype)
    for draw, row in itertools.product(*map(range, z.shape[:-1])):
        noise = flow.inverse(z[draw, row], told[row])[0]
        jacobian = torch.autograd.functional.jacobian(lambda e, row=row: flow(e, told[row])[0], noise)
        normal = torch.distributions.Normal(loc[row], log_scale[row].exp())
        found[draw, row] = normal.log_prob(noise).sum() - torch.linalg.slogdet(jacobian).logabsdet
    return found


@pytest.mark.parametrize("prior", ["normal", "flow", "vamp"])
def test_weights_under_a_flow_are_those_of_a_brute_force_computation(prior):
    from probgen.inference.amortised import weighted
    from probgen.inference.objectives import objective

    torch.manual_seed(0)
    program, batch = flowing(latent_prior=prior, prior_components=3, posterior="flow")
    for draws in (1, 5):
        found = weighted(program, batch, draws)
        z = found.proposal.sites["z"].reshape(draws, 6, 2)
        with torch.no_grad():
            log_q = autoregressive_density(program, batch.features(), z)
            if prior == "flow":
                noise, change = program.prior.flow.inverse(z)
                log_p = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(-1) + change
            elif prior == "normal":
                log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
            else:
                made_up = program.prior.rows
                each = [autoregressive_density(program, made_up[[at] * 6], z) for at in range(3)]
                log_p = torch.stack(each).logsumexp(0) - np.log(3)
            expected = log_p + program.columns(program.decoder(z)).log_prob(batch.x) - log_q
        torch.testing.assert_close(found.log_weights.reshape(draws, 6), expected, rtol=1e-9, atol=1e-8)
    bound = objective("iwae").per_row(found)
    torch.testing.assert_close(bound, expected.logsumexp(0) - np.log(5), rtol=1e-9, atol=1e-8)
    elbo = objective("elbo").per_row(found)
    torch.testing.assert_close(elbo, expected.mean(0), rtol=1e-9, atol=1e-8)


def test_wake_sleep_weighs_the_gradients_of_a_flow():
    """No gradient runs through the draws: the flow is undone at fixed values."""
    from probgen.inference.objectives import objective

    torch.manual_seed(0)
    program, batch = flowing(latent_prior="flow", posterior="flow")
    made = objective("wake_sleep")
    found = made.weigh(program, batch, 4)
    weights = list(program.parameters())
    mine = torch.autograd.grad(made.per_row(found).sum(), weights, retain_graph=True)
    z = found.proposal.sites["z"].detach()
    log_q = program.posterior(batch.features()).log_prob(z)
    joint = program.prior().log_prob(z) + program.columns(program.decoder(z)).log_prob(batch.x)
    theirs = torch.autograd.grad(((joint - log_q).softmax(0).detach() * (joint + log_q)).sum(), weights)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("vae", {"latent_prior": "flow"}),
        ("vae", {"latent_prior": "flow", "latent": 1}),
        ("vae", {"posterior": "flow"}),
        ("vae", {"posterior": "flow", "objective": "dreg"}),
        ("vae", {"posterior": "flow", "latent_prior": "vamp", "prior_components": 3}),
        ("hierarchical_vae", {"posterior": "flow", "latent": (2, 1)}),
        ("hierarchical_vae", {"latent_prior": "flow", "posterior": "flow", "latent": (1, 2)}),
        ("hierarchical_vae", {"latent_prior": "mixture", "latent": (1, 2), "prior_components": 3}),
        ("hierarchical_vae", {"latent_prior": "vamp", "latent": (1, 2), "prior_components": 3}),
    ],
)
def test_flows_of_latents_keep_a_density(model, options, tmp_path):
    fit = quiet(model, bits(), **{"latent": 2, "hidden": (16,), "max_steps": 150, "learning_rate": 3e-3, **options})
    every = Table.from_codes(np.array(list(itertools.product([0.0, 1.0], repeat=6))), BITS)
    estimate = fit.log_prob(every, draws=500)
    weights = np.exp(estimate.value)
    error = np.sqrt(((weights * estimate.standard_error) ** 2).sum())
    assert abs(weights.sum() - 1) < 4 * error + 0.01
    assert fit.sample(4000).values.mean(0) == pytest.approx(weights @ every.values, abs=0.04)
    fit.save(tmp_path / "fit.probgen")
    again = pg.load(tmp_path / "fit.probgen")
    np.testing.assert_array_equal(again.log_prob(every, draws=10).value, fit.log_prob(every, draws=10).value)
    np.testing.assert_array_equal(again.embed(every), fit.embed(every))


def test_an_embedding_is_the_mean_of_draws_from_the_flow():
    fit = quiet("vae", bits(), latent=2, hidden=(16,), posterior="flow", max_steps=300, learning_rate=3e-3)
    with torch.no_grad():
        q = fit.program.posterior(next(fit.batches(bits(), 300).pieces()).features())
        drawn = q.rsample((5000,))
    mean = fit.embed(bits())
    assert np.abs((mean - drawn.mean(0).numpy()) / drawn.std(0).numpy()).max() < 0.12
    assert fit.embed(bits().take([0])) == pytest.approx(mean[:1], abs=1e-5)
    np.testing.assert_array_equal(mean, fit.embed(bits()))


@pytest.mark.parametrize(
    ("hidden", "said"), [(16, r"widths of layers, such as \(128, 128\), got 16"), ((0,), "at least 1")]
)
@pytest.mark.parametrize("model", ["vae", "hierarchical_vae", "conditional_vae", "autoencoder", "vq_vae"])
def test_widths_that_are_none_are_refused(model, hidden, said):
    with pytest.raises(pg.CapabilityError, match=said):
        pg.fit(model, pg.load_dataset("penguins"), hidden=hidden, progress=False)


def test_the_best_validation_is_told_in_nats_of_the_datas_units():
    """As the history is: columns in other units differ by the logarithm of the units, and by nothing else."""
    one = factors(200)
    other = pg.Table({name: values * 1000.0 for name, values in zip(one.names, one.values.T, strict=True)})
    options = {"latent": 2, "hidden": (8,), "max_steps": 60, "dtype": "float64", "restarts": 2}
    found, wide = (quiet("vae", table, **options) for table in (one, other))
    best = found.diagnostics["best_validation"]
    assert best == max(found.history["validation"])
    assert wide.diagnostics["best_validation"] == pytest.approx(best - 5 * np.log(1000), abs=1e-6)
    assert found.diagnostics["restarts"][0] == pytest.approx(
        wide.diagnostics["restarts"][0] + 5 * np.log(1000), abs=1e-6
    )
    bound = found.log_prob(one, method="lower_bound").mean().value
    assert best == pytest.approx(bound, abs=0.5)
