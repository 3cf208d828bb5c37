"""Numbers about continuous latents beside what is exact: linear Gaussian models, and integrals over one latent."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pyro
import pytest
import torch
from pyro.distributions import Laplace, Normal
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families import Columns
from probgen.nn import mlp
from probgen.queries import log_prob as asking

QUICK = {"progress": False, "seed": 0}
LOADINGS = np.array(
    [[1.2, 0.5], [-0.6, 1.0], [0.9, 0.4], [0.3, -1.2]]
)  # columns at right angles: so is the posterior's covariance
NOISE = 0.5


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit(*arguments, **{**QUICK, **options})


def linear_vae(guide="posterior", loadings=LOADINGS, noise=NOISE, rows=300, shrink=1.0):
    """A fit whose weights are set: x = W z + noise in model coordinates, with a guide that is exact, or ignores the row."""
    rng = np.random.default_rng(0)
    width, latent = loadings.shape
    x = rng.normal(size=(rows, latent)) @ loadings.T + noise * rng.normal(size=(rows, width))
    fit = quiet(
        "vae", pg.Table({f"x{at}": column for at, column in enumerate(x.T)}), latent=latent, hidden=(), spread="same",
        max_steps=1, dtype="float64", validation_fraction=0.0,
    )  # fmt: skip
    covariance = np.linalg.inv(np.eye(latent) + loadings.T @ loadings / noise**2)
    mean = covariance @ loadings.T / noise**2
    told = guide == "posterior"
    with torch.no_grad():
        decoder, encoder = fit.program.decoder, fit.program.encoder[0]
        for net in (decoder[0][0], encoder):
            net.weight.zero_()
            net.bias.zero_()
        decoder[0][0].weight[:width] = torch.tensor(loadings)
        decoder[1].value.fill_(math.log(math.expm1(noise - 1e-2)) - 0.5)
        encoder.weight[:latent] = torch.tensor(mean) * told
        encoder.bias[latent:] = torch.tensor(0.5 * np.log(np.diag(covariance))) * told + math.log(shrink)
    return fit


def table_of(fit, x):
    """Rows that are x in model coordinates."""
    return Table.from_codes(fit.standardiser.inverse(np.atleast_2d(x)), fit.schema)


def drawn_rows(rows, seed=1, loadings=LOADINGS, noise=NOISE):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, loadings.shape[1])) @ loadings.T + noise * rng.normal(size=(rows, len(loadings)))


def exact(fit, table, loadings=LOADINGS, noise=NOISE):
    """Log density of the known cells in the table's units."""
    x = fit.standardiser.forward(table.values)
    covariance = loadings @ loadings.T + noise**2 * np.eye(len(loadings))
    found = [
        multivariate_normal(cov=covariance[np.ix_(seen, seen)]).logpdf(row[seen])
        for row, seen in zip(x, table.known, strict=True)
    ]
    return np.array(found) + fit.standardiser.log_jacobian(table.known)


def holed(table, share=0.4, seed=0):
    values = table.values.copy()
    values[np.random.default_rng(seed).random(values.shape) < share] = np.nan
    values[:, 0] = table.values[:, 0]
    return table.with_values(values)


# ------------------------------------------------------------------------------------------------------- the weights
def test_an_exact_guide_leaves_nothing_to_weigh():
    fit = linear_vae()
    table = table_of(fit, drawn_rows(20))
    found = fit.log_prob(table, draws=100)
    assert found.value == pytest.approx(exact(fit, table), abs=1e-9)
    assert found.ess == pytest.approx(np.full(20, 100.0))
    assert (found.k_hat < 0.1).all()
    assert found.mean().k_hat == found.k_hat.max()
    assert found.take([3, 4]).k_hat.shape == (2,)
    assert fit.log_prob(table, method="lower_bound").value == pytest.approx(exact(fit, table), abs=1e-9)


def test_a_row_far_from_what_its_guide_says_is_told():
    fit = linear_vae("prior", noise=1.0)
    x = np.zeros((3, 4))
    x[2] = 8 * LOADINGS[:, 0]
    with pytest.warns(pg.ConvergenceWarning, match=r"k-hat .* above 0\.7 in 1 of 3 rows.*refine=100.*annealed"):
        found = fit.log_prob(table_of(fit, x), draws=500)
    assert (found.k_hat > 0.7).tolist() == [False, False, True]
    assert fit.log_prob(table_of(fit, x), draws=20).k_hat is None  # too few to tell


def test_levels_that_are_far_off_are_not_told():
    fit = quiet("conditional_vae", pg.load_dataset("iris"), latent=2, hidden=(8,), max_steps=300, learning_rate=1e-2)
    few = pg.load_dataset("iris").take(range(0, 150, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pg.class_probabilities(fit, few, "target")


def test_exact_densities_have_no_shape():
    table = pg.load_dataset("iris")
    assert quiet("gaussian_mixture", table, components=2).log_prob(table).k_hat is None


# --------------------------------------------------------------------------------------------------------- annealing
@pytest.mark.stats
def test_annealed_densities_are_right():
    """A bad guide, complete rows and rows with holes: errors of the mean as large as they say."""
    fit = linear_vae("prior")
    for table in (table_of(fit, drawn_rows(60)), holed(table_of(fit, drawn_rows(60)))):
        found = fit.log_prob(table, method="annealed", draws=16, temperatures=80, progress=False)
        assert found.kind == "annealed"
        assert found.k_hat is None
        gap = found.value - exact(fit, table)
        assert abs(gap.mean()) < 3 * found.mean().standard_error + 0.005  # the logarithm is below on average
        assert found.mean().standard_error < 0.03
        assert (np.abs(gap) < 6 * found.standard_error + 0.02).all()


@pytest.mark.stats
def test_the_mean_weight_is_the_density_at_any_length_of_the_path():
    """Neal (2001): weights are unbiased however far from equilibrium the chains are."""
    fit = linear_vae("prior", noise=1.0)
    table = table_of(fit, np.repeat(drawn_rows(1, seed=4, noise=1.0), 4000, 0))
    for temperatures in (4, 12):
        found = fit.log_prob(table, method="annealed", draws=1, temperatures=temperatures, progress=False)
        weights = np.exp(found.value - exact(fit, table.take([0]), noise=1.0))
        assert abs(weights.mean() - 1) < 4 * weights.std() / math.sqrt(len(weights))
        assert weights.std() / math.sqrt(len(weights)) < 0.05


def curved(rows=200):
    """Binary columns decoded from one latent by a network, and the grid over which they are integrated."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=rows)
    x = (rng.random((rows, 5)) < 1 / (1 + np.exp(-3 * np.sin(z[:, None] * [1, 2, -1, 3, 0.5])))).astype(float)
    schema = Schema(tuple(Column(f"x{i}", "binary", levels=(0, 1), incomplete=True) for i in range(5)))
    return Table.from_codes(x, schema)


def integrated(fit, table):
    """Log density by the trapezoidal rule over the latent."""
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        shown = fit.program.columns(fit.program.decoder(z)[:, None])
        batch = fit.batches(table, len(table)).batch(table)
        terms = shown.log_prob(batch.x).numpy() + norm.logpdf(z.numpy())
    return logsumexp(terms, axis=0) + math.log(float(z[1] - z[0]))


@pytest.mark.stats
def test_annealing_beside_an_integral():
    fit = quiet("vae", curved(), latent=1, hidden=(16,), max_steps=300, learning_rate=1e-2, dtype="float64")
    table = holed(curved(40))
    found = fit.log_prob(table, method="annealed", draws=32, temperatures=40, progress=False)
    gap = found.value - integrated(fit, table)
    assert abs(gap.mean()) < 3 * found.mean().standard_error + 0.002
    assert (np.abs(gap) < 6 * found.standard_error + 0.02).all()


def test_rows_have_their_own_random_numbers(monkeypatch):
    """Whatever the pieces in which they are read."""
    fit = linear_vae("prior")
    table = holed(table_of(fit, drawn_rows(11)))
    asked = {"method": "annealed", "draws": 3, "temperatures": 5, "progress": False, "refine": 3}
    whole = fit.log_prob(table, **asked)
    monkeypatch.setattr(asking, "PIECE", 4)
    np.testing.assert_allclose(fit.log_prob(table, **asked).value, whole.value, rtol=1e-9)
    assert not np.array_equal(fit.log_prob(table, **asked, seed=1).value, whole.value)


# ---------------------------------------------------------------------------------------------------------- refining
def test_refined_guides_reach_the_posterior():
    """The guide's family holds it: the bound is the density, weights are equal, and the embedding is the posterior's mean."""
    fit = linear_vae("prior")
    table = table_of(fit, drawn_rows(30))
    before = fit.log_prob(table, method="lower_bound")
    after = fit.log_prob(table, method="lower_bound", refine=200)
    assert before.mean().value < exact(fit, table).mean() - 3
    assert after.kind == "lower_bound"
    assert after.value == pytest.approx(exact(fit, table), abs=0.02)
    found = fit.log_prob(table, refine=200)
    assert (found.k_hat < 0.7).all()
    assert found.value == pytest.approx(exact(fit, table), abs=0.01)
    z = fit.embed(table, refine=200)
    assert z == pytest.approx(linear_vae().embed(table), abs=0.05)
    assert np.abs(fit.embed(table)).max() == 0.0


def chorale(lengths=(5, 9, 3)):
    rng = np.random.default_rng(0)
    return pg.Table.from_sequences([rng.normal(size=(length, 2)).cumsum(0) for length in lengths])


@pytest.mark.stats
@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("hierarchical_vae", {"latent": (2, 1), "hidden": (8,)}),
        ("conditional_vae", {"latent": 2, "hidden": (8,), "label": "target"}),
        ("deep_markov", {"latent": 1, "hidden": (4,), "recurrent": 4}),
        ("recurrent_state_space", {"latent": 1, "memory": 3, "hidden": (4,), "recurrent": 4}),
    ],
)
def test_other_guides_are_annealed_and_refined_as_they_are(model, options):
    """Layers, a label that is summed out, states that follow each other: beside many importance draws."""
    if model in ("deep_markov", "recurrent_state_space"):
        train = test = chorale()
    else:
        train = pg.load_dataset("iris")
        test = train.take(range(0, 150, 25))
    fit = quiet(model, train, max_steps=60, learning_rate=1e-2, **options)
    if model == "conditional_vae":
        test = test.hide("target")
    bound, better = (fit.log_prob(test, method="lower_bound", draws=2000, refine=steps) for steps in (0, 60))
    assert better.mean().value > bound.mean().value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        many = fit.log_prob(test, draws=5000, refine=60)
    found = fit.log_prob(test, method="annealed", draws=32, temperatures=40, progress=False)
    error = np.hypot(found.standard_error, many.standard_error)
    assert (np.abs(found.value - many.value) < 5 * error + 0.02).all()


class Peaked(pg.Model):
    """A guide that is not normal."""

    traits = pg.Traits("lower_bound", ("svi",), "mean", "")

    def __init__(self, schema):
        super().__init__(schema)
        self.columns = Columns(schema)
        self.decoder = mlp(1, self.columns.outputs)

    def model(self, batch):
        with batch.rows():
            z = pyro.sample("z", Normal(batch.x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", self.columns(self.decoder(z)), obs=batch.x)

    def guide(self, batch):
        with batch.rows():
            pyro.sample("z", Laplace(batch.x.new_zeros(len(batch), 1), 1.0).to_event(1))


def test_what_cannot_be_done_is_told():
    table = curved()
    fit = quiet(Peaked(table.schema), table, max_steps=5)
    with pytest.raises(pg.CapabilityError, match=r"normal guides.*method='annealed'"):
        fit.log_prob(table, refine=5)
    few = table.take(range(5))
    assert np.isfinite(fit.log_prob(few, method="annealed", draws=4, temperatures=5, progress=False).value).all()

    codes = quiet("vq_vae", table, slots=1, codes=2, width=2, hidden=(4,), max_steps=5)
    mixture = quiet("gaussian_mixture", pg.load_dataset("iris"), components=2)
    for other, rows in ((codes, table), (mixture, pg.load_dataset("iris"))):
        with pytest.raises(pg.CapabilityError, match="method='annealed' is for models with a guide"):
            other.log_prob(rows, method="annealed")
        for verb in (other.log_prob, other.fill, other.embed):
            with pytest.raises(pg.CapabilityError, match="refine needs a guide of continuous latents"):
                verb(rows, refine=3)
        with pytest.raises(pg.CapabilityError, match="sweeps needs a guide of continuous latents"):
            other.fill(rows, sweeps=3)
        with pytest.raises(pg.CapabilityError, match="latent_information is of latents a row"):
            pg.latent_information(other, rows)
    for wrong in ({"method": "guess"}, {"refine": -1}, {"temperatures": 0}, {"draws": 0}):
        with pytest.raises(pg.CapabilityError, match=next(iter(wrong))):
            fit.log_prob(table, **wrong)
    with pytest.raises(pg.CapabilityError, match="sweeps is a number of steps"):
        fit.fill(table, sweeps=1.5)
    with pytest.raises(pg.CapabilityError, match="at least 2"):
        pg.latent_information(fit, table, draws=1)


# ----------------------------------------------------------------------------------------------------------- filling
@pytest.mark.stats
def test_sweeps_bring_what_is_drawn_to_the_conditional():
    """A guide that ignores the row: resampling from few candidates is off, Metropolis within Gibbs comes in."""
    noise, rows = 0.2, 400
    fit = linear_vae("prior", noise=noise)
    x = drawn_rows(1, seed=5, noise=noise)[0]
    covariance = LOADINGS @ LOADINGS.T + noise**2 * np.eye(4)
    slope = covariance[3, :3] @ np.linalg.inv(covariance[:3, :3])
    mean, sd = slope @ x[:3], math.sqrt(covariance[3, 3] - slope @ covariance[:3, 3])
    hole = table_of(fit, np.repeat(np.append(x[:3], np.nan)[None], rows, 0))

    def off(**options):
        drawn = np.concatenate([fit.standardiser.forward(one.values)[:, 3] for one in fit.fill(hole, 4, **options)])
        z = (drawn - mean) / sd
        return abs(z.mean()) * math.sqrt(len(z)), abs(z.std() - 1) * math.sqrt(2 * len(z))

    assert max(off()) > 10
    assert max(off(sweeps=300)) < 4
    assert max(off(refine=100)) < 4
    assert max(off(refine=100, sweeps=2)) < 4


def test_sweeps_leave_known_cells_and_go_over_labels_and_sequences():
    flowers = pg.load_dataset("iris").hide("target")
    fit = quiet("conditional_vae", pg.load_dataset("iris"), latent=1, hidden=(4,), max_steps=20)
    filled = fit.fill(flowers, 2, sweeps=2)[0]
    np.testing.assert_array_equal(filled.values[flowers.known], flowers.values[flowers.known])
    assert filled.known.all()
    tunes = chorale()
    fit = quiet("deep_markov", tunes, latent=1, hidden=(4,), recurrent=4, max_steps=20)
    assert fit.fill(tunes.hide("x0"), 2, sweeps=2, refine=2)[1].known.all()


# ------------------------------------------------------------------------------------------------------- information
def test_information_in_closed_form():
    """Rows of a Gaussian, whose guides have linear means: both mixtures are Gaussian."""
    fit = linear_vae(noise=1.5)
    x = drawn_rows(1500, noise=1.5)
    found = pg.latent_information(fit, table_of(fit, x), draws=4)
    covariance = np.linalg.inv(np.eye(2) + LOADINGS.T @ LOADINGS / 1.5**2)
    means = x @ (covariance @ LOADINGS.T / 1.5**2).T
    whole = np.cov(means.T, ddof=0) + covariance
    information = 0.5 * (np.linalg.slogdet(whole)[1] - np.linalg.slogdet(covariance)[1])
    centre = means.mean(0)
    mismatch = 0.5 * (np.trace(whole) + centre @ centre - 2 - np.linalg.slogdet(whole)[1])
    assert found.information.value == pytest.approx(information, abs=0.03)
    assert found.mismatch.value == pytest.approx(mismatch, abs=0.02)
    assert found.divergence.value == pytest.approx(found.information.value + found.mismatch.value)
    units = 0.5 * (means**2 + np.diag(covariance) - 1 - np.log(np.diag(covariance)))
    assert found.unit_nats["z"] == pytest.approx(units.mean(0))
    assert found.unit_spread["z"] == pytest.approx(means.var(0, ddof=1))
    assert found.active == {"z": 2}
    assert found.divergence.value == pytest.approx(units.mean(0).sum(), abs=4 * found.divergence.standard_error)
    assert "2 of 2 units active" in str(found)


@pytest.mark.stats
def test_information_of_a_few_rows_by_an_integral():
    """One latent, seven rows with weights: the mixture is what it is, not a Gaussian."""
    fit = linear_vae(loadings=LOADINGS[:, :1])
    x, weights = 3 * drawn_rows(7, loadings=LOADINGS[:, :1]), np.arange(1.0, 8.0)
    table = table_of(fit, x)
    table = pg.Table(table.to_pandas(), weights=weights)
    covariance = 1 / (1 + (LOADINGS[:, 0] ** 2).sum() / NOISE**2)
    means, share = x @ LOADINGS[:, 0] * covariance / NOISE**2, weights / weights.sum()
    z = np.linspace(-8, 8, 20001)
    each = norm.logpdf(z, means[:, None], math.sqrt(covariance))
    mixture = logsumexp(each + np.log(share)[:, None], axis=0)
    step = z[1] - z[0]
    information = (share * (np.exp(each) * (each - mixture)).sum(1)).sum() * step
    mismatch = (np.exp(mixture) * (mixture - norm.logpdf(z))).sum() * step
    found = pg.latent_information(fit, table, draws=2000)
    for one, truth in ((found.information, information), (found.mismatch, mismatch)):
        assert one.kind == "monte_carlo"
        assert abs(one.value - truth) < 4 * one.standard_error
        assert one.standard_error < 0.02
    assert "cannot exceed: more rows may show more" in str(found)


def test_units_that_have_collapsed_are_told_apart():
    loadings = LOADINGS * [1.0, 0.0]
    fit = linear_vae(loadings=loadings)
    found = pg.latent_information(fit, table_of(fit, drawn_rows(200, loadings=loadings)))
    assert [one["active"] for one in found.records()] == [True, False]
    assert found.unit_nats["z"][1] == pytest.approx(0.0, abs=1e-12)
    learnt = quiet("vae", curved(), latent=2, hidden=(4,), latent_prior="mixture", prior_components=3, max_steps=5)
    found = pg.latent_information(learnt, curved(50))
    assert found.unit_nats == {"z": None}  # the prior holds its units together
    assert found.records()[0]["nats"] is None
    layers = quiet("hierarchical_vae", curved(), latent=(2, 1), hidden=(4,), max_steps=5)
    found = pg.latent_information(layers, curved(50))
    assert set(found.unit_nats) == {"z1", "z2"}
    assert sum(v.sum() for v in found.unit_nats.values()) == pytest.approx(
        found.divergence.value, abs=5 * found.divergence.standard_error + 1e-6
    )


# ---------------------------------------------------------------------------------------------------------- one draw
@pytest.mark.parametrize("method", ["importance", "lower_bound", "annealed"])
def test_one_draw_does_not_know_its_error(method):
    fit = linear_vae(guide="prior")
    table = table_of(fit, drawn_rows(5))
    asked = {"method": method, "temperatures": 3, "progress": False}
    found = fit.log_prob(table, draws=1, **asked)
    assert np.isfinite(found.value).all()
    assert np.isnan(found.standard_error).all()
    assert np.isnan(found.mean().standard_error)
    assert "± unknown nats" in repr(found.mean())
    two = fit.log_prob(table, draws=2, **asked)
    assert (two.standard_error > 0).all()
    assert "unknown" not in repr(two.mean())


def test_a_bound_without_draws_has_no_error():
    fit = quiet("vq_vae", curved(), slots=1, codes=2, width=2, hidden=(4,), max_steps=5)
    assert not fit.log_prob(curved(), draws=1).standard_error.any()


def test_one_chain_of_an_energy_does_not_know_its_error():
    table = Table.from_codes(
        np.random.default_rng(0).integers(0, 2, (40, 3)).astype(float),
        pg.Schema(tuple(pg.Column(name, "binary", levels=(0, 1)) for name in "abc")),
    )
    fit = quiet("deep_belief", table, hidden=(2, 2), max_steps=3)
    assert np.isnan(fit.log_prob(table, draws=1).standard_error).all()
    assert np.isfinite(fit.log_prob(table, draws=3).standard_error).all()


# --------------------------------------------------------------------------------------------------------- marginals
def test_marginals_are_refined_as_fills_and_densities_are():
    rng = np.random.default_rng(0)
    schema = pg.Schema((*(pg.Column(name, "real") for name in "xyw"), pg.Column("b", "binary", levels=(0, 1))))
    values = rng.normal(size=(12, 4)) + rng.normal(size=(12, 1))
    values[:, 3] = values[:, 3] > 0
    table = Table.from_codes(values, schema)
    fit = quiet("vae", table, latent=2, hidden=(8,), max_steps=100, learning_rate=1e-2)
    holes = table.with_values(np.where(np.eye(12, 4, k=-1) > 0, np.nan, values))
    found, plain = (fit.marginals(holes, draws=5, refine=steps, sweeps=steps // 10) for steps in (20, 0))
    filled = fit.fill(holes, 5, refine=20, sweeps=2)
    unknown = ~holes.known
    assert np.array_equal(found.draws, np.stack([one.values[unknown] for one in filled]))
    assert not np.array_equal(found.draws, plain.draws)

    row = int(np.nonzero(unknown[:, 3])[0][0])
    each = [Table.from_codes(np.append(values[row, :3], level)[None], schema) for level in (0, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odds = float(np.subtract(*[fit.log_prob(one, draws=200, refine=20).value[0] for one in reversed(each)]))
    (told,) = found.probabilities.values()
    assert np.log(told[1] / told[0]) == pytest.approx(odds, abs=1e-6)
    with pytest.raises(pg.CapabilityError, match="refine is a number of steps"):
        fit.marginals(holes, refine=1.5)
    with pytest.raises(pg.CapabilityError, match="refine needs a guide"):
        quiet("gaussian_mixture", table.drop("b"), components=1).marginals(holes.drop("b"), refine=5)
