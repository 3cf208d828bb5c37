"""Cross-validation, ArviZ, labels and verdicts, against ArviZ and closed forms."""

import warnings
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import probgen as pg
from probgen.inference.diagnostics import split_rhat
from probgen.queries.draws import described_draws
from probgen.queries.labels import hidden_latent
from probgen.queries.pointwise import one_draw, pointwise
from tests.drawn import of_program, shaken

warnings.filterwarnings("ignore", module="arviz")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-2, 1, (60, 2)), rng.normal(2, 1, (40, 2))])
    x[3, 1] = np.nan
    return pg.Table({"a": x[:, 0], "b": x[:, 1], "c": np.where(rng.random(100) < 0.3, "u", "v").astype(object)})


@pytest.fixture(scope="module")
def point(table):
    return pg.fit("gaussian_mixture", table, components=3, progress=False, restarts=1, seed=0, tolerance=1e-5)


@pytest.fixture(scope="module")
def fit(point):
    return shaken(point)


@pytest.fixture(scope="module")
def smaller(table):
    found = pg.fit("gaussian_mixture", table, components=1, progress=False, restarts=1, seed=0)
    return shaken(found)


# ------------------------------------------------------------------------------------------------------ log likelihoods
def test_log_likelihoods_of_a_table_are_the_densities_of_each_draw(fit, table):
    found = pointwise(fit, table, 1000).values["table"]
    assert found.shape == (4, 25, 100)
    for chain, draw in ((0, 0), (1, 7), (3, 24)):
        exact = one_draw(fit, chain * 25 + draw).log_prob(table)
        assert exact.kind == "exact"
        np.testing.assert_allclose(found[chain, draw], exact.value, rtol=1e-10)


def test_draws_are_thinned_evenly(fit, table):
    found = pointwise(fit, table, 20)
    assert found.draws.tolist() == [0, 5, 10, 15, 20]
    np.testing.assert_allclose(found.matrix(), pointwise(fit, table, 100).matrix()[:, ::5])


def test_discrete_sites_of_a_users_rows_are_summed_out():
    def mixture(data):
        w = pyro.sample("w", dist.Dirichlet(torch.ones(2)))
        mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
        with pyro.plate("rows", len(data)):
            z = pyro.sample("z", dist.Categorical(w), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(mu[z], 1.0), obs=data)

    generator = torch.Generator().manual_seed(0)
    data = torch.randn(30, generator=generator, dtype=torch.float64)
    w = torch.rand(2, 10, 1, generator=generator, dtype=torch.float64)
    mu = torch.randn(2, 10, 2, generator=generator, dtype=torch.float64)
    fit = of_program(mixture, {"w": torch.cat([w, 1 - w], -1), "mu": mu})
    parts = torch.cat([w, 1 - w], -1).log()[..., None] + dist.Normal(mu[..., None], 1.0).log_prob(data)
    np.testing.assert_allclose(pointwise(fit, data, 99).values["x"], parts.logsumexp(2).numpy(), rtol=1e-10)


def test_what_cannot_be_summed_row_by_row_is_refused_with_its_name():
    def shared(data):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        k = pyro.sample("k", dist.Bernoulli(0.5))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(mu + k, 1.0), obs=data)

    fit = of_program(shared, {"mu": torch.zeros(2, 10)})
    with pytest.raises(pg.CapabilityError, match="'k'"):
        pg.loo(fit, torch.zeros(5))


# --------------------------------------------------------------------------------------------------------- leave one out
def regression(n=40, seed=0, draws=1000):
    """A conjugate regression with known noise: exact draws, and its exact leave-one-out densities."""
    rng = np.random.default_rng(seed)
    x = np.stack([np.ones(n), rng.normal(size=n)], 1)
    y = x @ [1.0, -2.0] + rng.normal(size=n)

    def posterior(keep):
        cov = np.linalg.inv(x[keep].T @ x[keep] + np.eye(2) / 25)
        return cov @ x[keep].T @ y[keep], cov

    def model(data):
        b = pyro.sample("b", dist.Normal(torch.zeros(2), 5.0).to_event(1))
        with pyro.plate("rows", len(data["y"])):
            pyro.sample("y", dist.Normal(data["x"] @ b, 1.0), obs=data["y"])

    exact = np.empty(n)
    for i in range(n):
        mean, cov = posterior(np.arange(n) != i)
        scale = np.sqrt(1 + x[i] @ cov @ x[i])
        exact[i] = dist.Normal(0.0, scale).log_prob(torch.tensor(y[i] - x[i] @ mean)).item()
    mean, cov = posterior(np.arange(n))
    b = rng.multivariate_normal(mean, cov, size=(4, draws))
    return of_program(model, {"b": b}), {"x": torch.tensor(x), "y": torch.tensor(y)}, exact


def test_leave_one_out_of_a_conjugate_regression():
    fit, data, exact = regression()
    found = pg.loo(fit, data)
    assert found.pareto_k.max() < 0.7
    assert np.abs(found.rows - exact).max() < 0.05
    assert found.elpd == pytest.approx(exact.sum(), abs=0.1)
    assert found.effective_parameters == pytest.approx(2, abs=0.8)
    with pytest.warns(pg.ImproperWarning, match="use pg.loo"):
        assert pg.waic(fit, data).elpd == pytest.approx(exact.sum(), abs=0.3)


def test_equal_to_arviz(arviz, fit, smaller, table):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = {name: pg.loo(f, table) for name, f in (("three", fit), ("one", smaller))}
        efficiency = {n: efficiency_of(f, table) for n, f in (("three", fit), ("one", smaller))}
        stored = {"three": fit.to_arviz(table, prior_draws=2), "one": smaller.to_arviz(table, prior_draws=2)}
        theirs = {n: arviz.loo(s, pointwise=True, reff=efficiency[n]) for n, s in stored.items()}
        for name, found in ours.items():
            np.testing.assert_allclose(found.rows, theirs[name].loo_i.values, rtol=1e-6)
            np.testing.assert_allclose(found.pareto_k, theirs[name].pareto_k.values, rtol=1e-6)
            assert found.elpd == pytest.approx(theirs[name].elpd_loo, rel=1e-6)
            assert found.standard_error == pytest.approx(theirs[name].se, rel=1e-6)
            assert found.effective_parameters == pytest.approx(theirs[name].p_loo, rel=1e-6)
        waic = arviz.waic(stored["three"])
        assert pg.waic(fit, table).elpd == pytest.approx(waic.elpd_waic, rel=1e-6)
        assert pg.waic(fit, table).effective_parameters == pytest.approx(waic.p_waic, rel=1e-6)
        compared = pg.compare_models(ours, table)
        frame = arviz.compare(theirs, method="stacking")
    assert compared.best == frame.index[0]
    for name in ours:
        assert -compared.difference[name] == pytest.approx(frame.loc[name, "elpd_diff"], rel=1e-6)
        assert compared.difference_error[name] == pytest.approx(frame.loc[name, "dse"], rel=1e-6)
        assert compared.weight[name] == pytest.approx(frame.loc[name, "weight"], abs=1e-3)
    assert "predicts better" in str(compared)


def efficiency_of(fit, table):
    from probgen.queries.loo import relative_efficiency

    return relative_efficiency(pointwise(fit, table, 4000).matrix())


def test_stacking_is_the_best_mixture():
    """Two models that are each right on half of the rows share the weight; a third that is worse everywhere gets none."""
    from probgen.queries.loo import stacking_weights

    rows = np.log(np.array([[0.9] * 50 + [0.1] * 50, [0.1] * 50 + [0.9] * 50, [0.05] * 100]))
    np.testing.assert_allclose(stacking_weights(rows), [0.5, 0.5, 0.0], atol=1e-6)
    grid = np.linspace(0, 1, 2001)
    uneven = np.log(np.array([[0.9] * 70 + [0.1] * 30, [0.3] * 100]))
    best = grid[np.argmax([np.log(w * np.exp(uneven[0]) + (1 - w) * np.exp(uneven[1])).sum() for w in grid])]
    assert stacking_weights(uneven)[0] == pytest.approx(best, abs=1e-3)


def test_other_rows_and_point_estimates_are_refused(point, fit, smaller, table):
    with pytest.raises(pg.DataError, match=r"fitted to 100 rows, and these 50"):
        pg.loo(fit, table.take(np.arange(50)))
    with pytest.raises(pg.CapabilityError, match="point estimate"):
        pg.loo(point, table)
    half = table.take(np.arange(50))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = pg.loo(shaken(pg.fit("gaussian_mixture", half, components=1, progress=False)), half)
        with pytest.raises(pg.DataError, match="same rows"):
            pg.compare_models({"a": pg.loo(fit, table), "b": other}, table)
    with pytest.raises(pg.CapabilityError, match="two models"):
        pg.compare_models({"a": fit}, table)


def test_a_masked_row_is_not_suspected():
    """Nothing depends on it, so its weights are all equal."""
    fit, data, exact = regression()
    seen = torch.arange(40) != 3

    def masked(data):
        b = pyro.sample("b", dist.Normal(torch.zeros(2), 5.0).to_event(1))
        with pyro.plate("rows", 40), pyro.poutine.mask(mask=seen):
            pyro.sample("y", dist.Normal(data["x"] @ b, 1.0), obs=data["y"])

    found = pg.loo(replace(fit, program=pg.program(masked)), data)
    assert not len(found.bad_rows)
    assert (found.rows[3], found.pareto_k[3]) == (0.0, -np.inf)
    np.testing.assert_allclose(found.rows[seen], exact[seen], atol=0.05)


def test_rows_that_cannot_be_left_out_are_named():
    """One row far away decides its own posterior."""
    fit, data, _ = regression()
    y = data["y"].clone()
    y[7] = 40.0
    with pytest.warns(pg.ImproperWarning, match=r"Pareto k is too large in \d+ of 40 rows \(7"):
        found = pg.loo(replace(fit), {**data, "y": y})
    assert found.bad_rows[0] == 7
    assert "very bad" in found.table()


# --------------------------------------------------------------------------------------------------------------- labels
def test_permuted_labels_are_matched(point, table):
    orders = [[0, 1, 2], [2, 0, 1], [1, 0, 2], [0, 2, 1]]
    plain, mixed = shaken(point), shaken(point, orders=orders)
    before = described_draws(mixed)["component.gaussian"]["loc"]
    after = described_draws(mixed.matched_labels())["component.gaussian"]["loc"]
    assert split_rhat(before).max() > 1.5
    assert split_rhat(after).max() < 1.1
    np.testing.assert_allclose(np.sort(after, 2), np.sort(described_draws(plain)["component.gaussian"]["loc"], 2))
    np.testing.assert_allclose(pointwise(mixed, table, 100).matrix(), pointwise(plain, table, 100).matrix(), rtol=1e-9)
    np.testing.assert_allclose(
        pointwise(mixed.matched_labels(), table, 100).matrix(), pointwise(plain, table, 100).matrix(), rtol=1e-9
    )
    found = mixed.diagnose()
    assert "had switched" in found.verdict
    assert np.nanmax(found.numbers["rhat"]) < 1.2


@pytest.mark.parametrize("name", ["hidden_markov", "semi_markov"])
def test_labels_of_hidden_states(name):
    rng = np.random.default_rng(0)
    rows = [rng.normal(4.0 * ((np.arange(40) // 7 + k) % 2), 1.0)[:, None] for k in range(3)]
    table = pg.Table.from_sequences(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = pg.fit(name, table, states=2, progress=False, restarts=1, max_steps=10)
    mixed = shaken(fit, orders=[[0, 1], [1, 0], [0, 1], [1, 0]])
    np.testing.assert_allclose(
        pointwise(mixed, table, 8).matrix(), pointwise(shaken(fit), table, 8).matrix(), rtol=1e-8
    )
    keep = described_draws(mixed.matched_labels())
    assert split_rhat(keep["emission.real"]["loc"]).max() < 1.1
    assert np.nanmax(split_rhat(keep["chain"]["transition"])) < 1.1
    assert split_rhat(described_draws(mixed)["emission.real"]["loc"]).max() > 1.5


def test_labels_that_the_data_name_are_left_alone():
    species = pg.load_dataset("penguins").select(["species", "bill_length_mm", "body_mass_g"])
    fit = pg.fit("naive_bayes", species, target="species", progress=False)
    assert hidden_latent(fit) is None
    assert fit.matched_labels() is fit


def test_labels_of_a_users_sites():
    rng = np.random.default_rng(0)
    mu = np.array([-2.0, 0.0, 2.0]) + 0.1 * rng.normal(size=(4, 50, 3))
    weight = np.full((4, 50, 3), 1 / 3) + 0.05 * rng.normal(size=(4, 50, 3))
    orders = rng.permuted(np.tile(np.arange(3), (4, 50, 1)), axis=2)
    turned = {"mu": np.take_along_axis(mu, orders, 2), "weight": np.take_along_axis(weight, orders, 2)}
    found = pg.match_labels(turned, {"mu": 0, "weight": 0}, pivot=0)
    first = orders[0, 0]
    np.testing.assert_array_equal(found["mu"], mu[..., first])
    np.testing.assert_array_equal(found["weight"], weight[..., first])
    with pytest.raises(pg.CapabilityError, match="equally many"):
        pg.match_labels(turned, {"nu": 0})


# --------------------------------------------------------------------------------------------------------------- verdict
def normal_sites(**shifts):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(4, 500)) + np.array(shift)[:, None] for name, shift in shifts.items()}


def nothing(data):
    pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("tau", dist.Normal(0.0, 1.0))


def test_verdicts():
    good = of_program(nothing, normal_sites(mu=[0, 0, 0, 0], tau=[0, 0, 0, 0])).diagnose()
    assert good.trusted
    assert good.verdict.startswith("Chains agree")
    bad = of_program(nothing, normal_sites(mu=[0, 0, 0, 0], tau=[0, 0, 0, 1])).diagnose()
    assert not bad.trusted
    assert bad.verdict.startswith("R-hat of 'tau' is 1.")
    assert "run longer or reparametrise" in bad.verdict
    few = of_program(nothing, {"mu": np.random.default_rng(0).normal(size=(4, 20))}).diagnose()
    assert "effective draws of 'mu'" in few.verdict


def test_verdicts_on_the_sampler():
    sites = normal_sites(mu=[0, 0, 0, 0])
    walk = torch.randn(4, 500).cumsum(1)
    diverging = torch.zeros(4, 500)
    diverging[2, 3] = 1
    found = of_program(nothing, sites, energy=walk, diverging=diverging).diagnose()
    assert "1 of 2000 transitions diverged" in found.verdict
    assert "E-BFMI" in found.verdict
    approximate = replace(of_program(nothing, sites, method="svi"), diagnostics={"khat": 0.9})
    assert "k-hat of the approximation is 0.90" in approximate.diagnose().verdict
    assert "R-hat says nothing" in approximate.diagnose().verdict


def test_switched_labels_of_a_users_program_are_suspected():
    mu = np.array([-2.0, 2.0]) + 0.1 * np.random.default_rng(0).normal(size=(4, 200, 2))
    mu[1:3] = mu[1:3, :, ::-1]
    assert "labels have switched" in of_program(nothing, {"mu": mu}).diagnose().verdict


def test_the_table_has_the_moments(fit):
    found = fit.diagnose()
    loc = described_draws(fit)["component.gaussian"]["loc"]
    record = next(r for r in found.records() if r["parameter"] == "component.gaussian.loc[1, b]")
    assert record["mean"] == pytest.approx(loc[:, :, 1, 1].mean())
    assert record["q95"] == pytest.approx(np.quantile(loc[:, :, 1, 1], 0.95))
    assert len(fit.summary().splitlines()) <= 30
    assert "point estimate" in str(replace(fit, posterior=one_draw(fit, 0).posterior).diagnose())


# ---------------------------------------------------------------------------------------------------------------- ArviZ
def test_all_groups_of_a_table(fit, table):
    made = fit.to_arviz(table, draws=40, prior_draws=10)
    groups = {"posterior", "log_likelihood", "posterior_predictive", "prior", "prior_predictive", "observed_data"}
    assert groups <= set(made.groups())
    assert made.posterior["component.gaussian.loc"].dims == ("chain", "draw", "z", "component.gaussian_column")
    assert made.posterior["component.gaussian_column"].values.tolist() == ["a", "b"]
    assert made.prior["component.gaussian.loc"].shape == (1, 10, 3, 2)
    assert made.log_likelihood["table"].dims == ("chain", "draw", "row")
    assert made.log_likelihood["draw"].values.tolist() == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]
    assert made.posterior_predictive["c"].shape == (4, 10, 100)
    assert set(np.unique(made.posterior_predictive["c"])) <= {0.0, 1.0}
    assert made.attrs["kind"] == "draws"
    assert made.posterior.attrs["method"] == "nuts"


def test_replicates_have_the_fitted_moments(point, table):
    """Replicates of 100 rows at one point: their means are those of the fit within four standard errors."""
    found = point.to_arviz(table, draws=150, prior_draws=2).posterior_predictive["a"].values.reshape(-1)
    known = table.values[:, 0]
    assert found.mean() == pytest.approx(known.mean(), abs=4 * known.std() / np.sqrt(found.size) + 1e-3)
    assert found.std() == pytest.approx(known.std(), rel=0.05)


def test_all_groups_of_a_users_program():
    fit, data, _ = regression(draws=50)
    made = fit.to_arviz(data, draws=100, prior_draws=30)
    assert made.log_likelihood["y"].dims == ("chain", "draw", "rows")
    expected = dist.Normal(data["x"] @ fit.posterior.sites["b"][1, 14], 1.0).log_prob(data["y"])
    np.testing.assert_allclose(made.log_likelihood["y"].sel(chain=1, draw=14), expected, rtol=1e-10)
    assert made.posterior_predictive["y"].shape == (4, 25, 40)
    assert made.prior["b"].shape == (1, 30, 2)
    assert float(made.prior["b"].std()) == pytest.approx(5, rel=0.3)
    np.testing.assert_array_equal(made.observed_data["y"], data["y"])
    residual = made.posterior_predictive["y"].values - (fit.posterior.sites["b"][:, ::2] @ data["x"].T).numpy()
    assert residual.std() == pytest.approx(1, abs=0.05)


def test_inputs_are_constant_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    table = pg.Table.from_sequences([np.stack([x[:30], 2 * x[:30]], 1), np.stack([x[30:], 2 * x[30:]], 1)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = pg.fit(
            "regression_hidden_markov", table, states=1, inputs=["x0"], progress=False, max_steps=5, restarts=1
        )
        made = fit.to_arviz(table, draws=5, prior_draws=5)
    np.testing.assert_allclose(made.constant_data["x0"], x)
    assert set(made.observed_data) == {"x1"}
    assert made.log_likelihood["table"].dims == ("chain", "draw", "sequence")
