"""Figures of posterior draws, and ArviZ's own on the result of every method."""

import warnings
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import probgen as pg
from probgen import plots
from probgen.plots.posterior import tail_probability
from tests.drawn import shaken

METHODS = {
    "em": {},
    "map": {},
    "svi": {"max_steps": 40, "guide_draws": 60},
    "nuts": {"chains": 2, "warmup": 30, "draws": 30},
    "gibbs": {"chains": 2, "warmup": 5, "draws": 30},
}


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    a = rng.random(60) < 0.4
    b = np.where(rng.random(60) < 0.8, a, ~a)
    return pg.Table({"a": np.where(a, "x", "y").astype(object), "b": np.where(b, "u", "v").astype(object)})


@pytest.fixture(scope="module")
def fits(pair):
    """One model by every method."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            name: pg.fit(
                "bayesian_network",
                pair,
                structure=[("a", "b")],
                method=name,
                seed=0,
                progress=False,
                restarts=1,
                **options,
            )
            for name, options in METHODS.items()
        }


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore")
def test_arviz_draws_every_method(arviz, fits, pair, method):
    if int(arviz.__version__.split(".")[0]) >= 1:
        pytest.skip("the figures have other names in ArviZ 1")
    made = fits[method].to_arviz(pair, draws=60, prior_draws=20)
    assert arviz.plot_trace(made).size
    assert np.size(arviz.plot_rank(made))
    assert np.size(arviz.plot_ppc(made, num_pp_samples=20 if method in ("em", "map") else None))
    if method in ("em", "map"):
        assert made.attrs["kind"] == "point"
        with pytest.raises(pg.CapabilityError, match="point estimate"):
            pg.loo(fits[method], pair)
        return
    one = arviz.loo(made, pointwise=True, reff=1.0)
    assert np.isfinite(one.elpd_loo)
    assert len(arviz.compare({"a": one, "b": one})) == 2
    if "energy" in fits[method].posterior.statistics:
        assert arviz.plot_energy(made)


SCHOOLS = {
    "y": torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12]),
    "sigma": torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18]),
}
SAMPLERS = {
    "chees": {"chains": 4, "warmup": 60, "draws": 60},
    "nuts": {"chains": 2, "warmup": 60, "draws": 60},
    "smc": {"particles": 256},
    "advi": {"max_steps": 20},
    "laplace": {},
    "pathfinder": {},
}


def schools(data):
    mean, spread = pyro.sample("mean", dist.Normal(0.0, 5.0)), pyro.sample("spread", dist.HalfNormal(5.0))
    with pyro.plate("schools", 8):
        white = pyro.sample("white", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mean + spread * white, data["sigma"]), obs=data["y"])


@pytest.mark.slow
@pytest.mark.parametrize("method", SAMPLERS)
@pytest.mark.filterwarnings("ignore")
def test_arviz_draws_every_sampler_of_a_users_program(arviz, method):
    if int(arviz.__version__.split(".")[0]) >= 1:
        pytest.skip("the figures have other names in ArviZ 1")
    fit = pg.fit(pg.program(schools), SCHOOLS, method=method, seed=0, progress=False, **SAMPLERS[method])
    made = fit.to_arviz(SCHOOLS, draws=100, prior_draws=20)
    assert {"posterior", "log_likelihood", "posterior_predictive", "prior", "observed_data"} <= set(made.groups())
    assert arviz.plot_trace(made).size
    assert np.size(arviz.plot_rank(made))
    assert np.size(arviz.plot_ppc(made, num_pp_samples=20))
    one = arviz.loo(made, pointwise=True, reff=1.0)
    assert np.isfinite(one.elpd_loo)
    assert len(arviz.compare({"a": one, "b": one})) == 2
    if method in ("chees", "nuts"):
        assert made.sample_stats.diverging.dtype == bool
        assert arviz.plot_energy(made)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore")
def test_our_figures_of_every_method(fits, pair, method):
    fit = fits[method]
    assert len(plots.posterior_predictive(fit, pair, draws=10)) == 2
    if fit.posterior.point:
        with pytest.raises(pg.CapabilityError, match="no chains"):
            plots.trace(fit)
        return
    assert len(plots.trace(fit)) == len(plots.rank(fit))
    assert plots.trace(fit, ["a.probs"])[0].get_title(loc="left").startswith("a.probs")
    with pytest.raises(pg.CapabilityError, match=r"there are: a\.probs"):
        plots.rank(fit, ["nothing"])


def test_predictive_check_of_all_kinds(mixture, mixed):
    """A panel a column; the data are dark, replicates pale, and bars have the data's shares."""
    axes = plots.posterior_predictive(mixture, mixed, draws=20)
    assert [panel.get_title(loc="left") for panel in axes] == list(mixed.names)
    smoker = axes[mixed.names.index("smoker")]
    shares = [patch.get_height() for patch in smoker.patches]
    code = mixed.values[:, mixed.schema.index("smoker")]
    np.testing.assert_allclose(shares, [(code == 0).mean(), (code == 1).mean()])
    assert len(axes[0].lines) == 21
    assert "mean" in axes[0].get_xlabel()
    assert len(plots.prior_predictive(mixture, mixed, draws=5)) == len(mixed.names)


def test_tail_probabilities_see_a_wrong_model():
    rng = np.random.default_rng(0)
    data = rng.normal(size=200)
    same, narrow = rng.normal(size=(400, 200)), 0.5 * rng.normal(size=(400, 200))
    assert 0.02 < tail_probability(data, same, np.std) < 0.98
    assert tail_probability(data, narrow, np.std) == 0.0
    assert tail_probability(np.zeros(5), np.zeros((4, 5)), np.max) == 0.5


def test_energy_and_ranks_of_many_chains(mixture):
    draws = shaken(mixture, chains=12, draws=40)
    kept = replace(draws.posterior, statistics={"energy": torch.randn(12, 40)})
    assert "E-BFMI" in plots.energy(replace(draws, posterior=kept))[0].get_title(loc="left")
    assert plots.rank(draws, ["weights.probs"])[0].images
    assert not plots.rank(shaken(mixture, chains=3), ["weights.probs"])[0].images
    with pytest.raises(pg.CapabilityError, match="keeps no energies"):
        plots.energy(draws)
