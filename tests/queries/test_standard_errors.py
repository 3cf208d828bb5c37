"""Standard errors against closed forms, a Hessian by hand, the bootstrap, and their promise."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import gammaln, logsumexp, multigammaln
from scipy.stats import binom, multivariate_normal, norm

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.inference.curvature import LogDensity, delta_errors
from probgen.program import accepted_options, find
from probgen.queries.standard_errors import log_marginal_likelihood, surroundings

SHARP = {"prior": None, "restarts": 1, "tolerance": 1e-10, "max_steps": 5000, "progress": False}


def faithful():
    schema = Schema((Column("eruptions", "real"), Column("waiting", "real")))
    return Table(pd.read_csv(Path(__file__).parents[1] / "files" / "old_faithful.csv"), schema=schema)


def discrete(values, kind, levels):
    return Table.from_codes(values[:, None].astype(float), Schema((Column("x", kind, levels=levels),)))


# ------------------------------------------------------------------------------------------------- closed forms
def test_mean_and_covariance_of_a_gaussian():
    X = np.random.default_rng(0).normal(size=(120, 3)) @ np.array([[1, 0.5, 0], [0, 1, -2], [0, 0, 0.5]]) + 7
    fit = pg.fit("gaussian_mixture", X, components=1, **SHARP)
    errors, scale = fit.standard_errors(X), fit.standardiser.scale
    covariance = np.cov(X.T, bias=True)
    found = errors["component.gaussian"]
    np.testing.assert_allclose(found["loc"][0] * scale, np.sqrt(np.diag(covariance) / 120), rtol=1e-6)
    variance = np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2
    np.testing.assert_allclose(
        found["covariance"][0] * scale[:, None] * scale, np.sqrt(variance / 120), rtol=1e-6, atol=1e-9
    )
    assert errors["weights"]["probs"].tolist() == [[0.0]]  # the only component has weight one for certain


def test_mean_and_scale_of_a_column():
    x = np.random.default_rng(1).normal(5, 3, 80)
    fit = pg.fit("latent_class", {"x": x}, components=1, **SHARP)
    found, scale = fit.standard_errors({"x": x})["columns.real"], fit.standardiser.scale[0]
    assert found["loc"][0, 0] * scale == pytest.approx(x.std() / np.sqrt(80), rel=1e-6)
    assert found["scale"][0, 0] * scale == pytest.approx(x.std() / np.sqrt(160), rel=1e-6)


def test_proportions():
    codes = np.random.default_rng(2).choice(3, size=200, p=[0.2, 0.5, 0.3])
    table = discrete(codes, "categorical", ("a", "b", "c"))
    p = np.bincount(codes) / 200
    found = pg.fit("latent_class", table, components=1, **SHARP).standard_errors(table)["columns.categorical3"][
        "probs"
    ]
    np.testing.assert_allclose(found[0, 0], np.sqrt(p * (1 - p) / 200), rtol=1e-6)
    table = discrete(codes == 1, "binary", ("no", "yes"))
    found = pg.fit("latent_class", table, components=1, **SHARP).standard_errors(table)["columns.binary"]["probs"]
    assert found.item() == pytest.approx(np.sqrt(p[1] * (1 - p[1]) / 200), rel=1e-6)


def test_poisson_rate():
    x = np.random.default_rng(3).poisson(4, size=150)
    table = Table.from_sequences([x[:, None].astype(float)], kind="count")
    fit = pg.fit("hidden_markov", table, states=1, families={"x0": "poisson"}, **SHARP)
    errors = fit.standard_errors(table)
    assert errors["emission.poisson"]["rate"].item() == pytest.approx(np.sqrt(x.mean() / 150), rel=1e-6)
    assert errors["chain"]["transition"].item() == 0.0


def test_transitions_of_a_chain_whose_states_show():
    """With far apart emissions the states are as good as seen: each row of transitions is a proportion."""
    rng, states = np.random.default_rng(4), [0]
    for _ in range(400):
        states.append(int(rng.random() < (0.2 if states[-1] == 0 else 0.6)))
    states = np.array(states)
    x = 50.0 * states + rng.normal(size=401)
    table = Table.from_sequences([x[:, None]], kind="real")
    fit = pg.fit("hidden_markov", table, states=2, initial=[0.5, 0.5], **SHARP)
    counts = np.zeros((2, 2))
    np.add.at(counts, (states[:-1], states[1:]), 1)
    order = np.argsort(fit.parameters()["emission.real"]["loc"][:, 0])
    n = counts.sum(1, keepdims=True)
    expected = np.sqrt(counts / n * (1 - counts / n) / n)
    errors = fit.standard_errors(table)["chain"]
    np.testing.assert_allclose(errors["transition"][order][:, order], expected, rtol=1e-5)
    assert errors["initial"].tolist() == [[0.0, 0.0]]  # fixed numbers have no error, and nobody is warned


def test_a_prior_adds_its_information():
    """The mode of a Beta posterior, and its curvature."""
    codes = np.arange(60) < 15
    table = discrete(codes, "binary", ("no", "yes"))
    fit = pg.fit("latent_class", table, components=1, progress=False)
    p, pseudo = fit.parameters()["columns.binary"]["probs"].item(), 1.0
    found = fit.standard_errors(table)["columns.binary"]["probs"].item()
    assert found == pytest.approx(np.sqrt(p * (1 - p) / (60 + pseudo)), rel=1e-6)


# --------------------------------------------------------------------------------------------- a Hessian by hand
def mixture_log_likelihood(X, flat):
    """Of two bivariate Gaussians, cell by cell known: weight, means, upper triangles of the covariances."""
    weight, means, rest = flat[0], flat[1:5].reshape(2, 2), flat[5:].reshape(2, 3)
    total = []
    for w, mean, (a, b, c) in zip((weight, 1 - weight), means, rest, strict=True):
        S, log = np.array([[a, b], [b, c]]), np.zeros(len(X))
        for pattern in np.unique(np.isnan(X), axis=0):
            rows, o = (np.isnan(X) == pattern).all(1), ~pattern
            log[rows] = multivariate_normal(mean[o], S[np.ix_(o, o)]).logpdf(X[rows][:, o])
        total.append(np.log(w) + log)
    return np.logaddexp(*total).sum()


def hessian_by_hand(function, at, step=1e-3):
    """Second differences of the function itself."""
    size = len(at)
    moves = step * np.eye(size) * np.maximum(np.abs(at), 0.1)
    made = np.empty((size, size))
    for i in range(size):
        for j in range(i, size):
            corners = [function(at + s * moves[i] + t * moves[j]) * s * t for s in (1, -1) for t in (1, -1)]
            made[i, j] = made[j, i] = sum(corners) / (4 * moves[i].max() * moves[j].max())
    return made


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_a_mixture_against_a_hessian_by_hand(holes):
    table = faithful()
    X = (table.values - table.values.mean(0)) / table.values.std(0)
    X[np.random.default_rng(5).random(X.shape) < holes] = np.nan
    X = X[~np.isnan(X).all(1)]
    fit = pg.fit("gaussian_mixture", X, components=2, **SHARP)
    errors, theta = fit.standard_errors(X), fit.parameters()
    scale, shift = fit.standardiser.scale, fit.standardiser.shift
    gaussian, upper = theta["component.gaussian"], np.triu_indices(2)
    units = np.concatenate([[1.0], scale, scale, *[(scale[:, None] * scale)[upper]] * 2])

    def line(weights, g):
        return np.concatenate([weights[0, :1], g["loc"].ravel(), *[c[upper] for c in g["covariance"]]])

    at = line(theta["weights"]["probs"], gaussian) * units
    at[1:5] += np.tile(shift, 2)
    information = -hessian_by_hand(lambda flat: mixture_log_likelihood(X, flat), at)
    expected = np.sqrt(np.diag(np.linalg.inv(information)))
    found = line(errors["weights"]["probs"], errors["component.gaussian"]) * units
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_differences_of_gradients_are_second_derivatives():
    rng = np.random.default_rng(6)
    table = Table.from_sequences(
        [rng.normal(size=(n, 2)) + 3 * (rng.random((n, 1)) < 0.4) for n in (20, 30)], kind="real"
    )
    fit = pg.fit("hidden_markov", table, states=2, progress=False, restarts=1, max_steps=20, tolerance=1e-3)
    with torch.device("cpu"), fit.setting():
        (potential,), at = surroundings(fit, table)
        assert potential.sequential
        by_differences = LogDensity([potential.log_mode], sequential=True).information(at)
        twice = LogDensity([potential.log_mode]).information(at)
    torch.testing.assert_close(by_differences, twice, rtol=1e-7, atol=1e-6)


class Fourth(torch.autograd.Function):
    """Sum of fourth powers, with a gradient that is wrongly taken for a constant."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x**4).sum()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (4 * ctx.saved_tensors[0] ** 3).detach()


def test_a_gradient_that_cannot_be_differentiated_again_is_found_out():
    at = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    density = LogDensity([lambda u: -Fourth.apply(u), lambda u: -u.square().sum()])
    assert density.confirmed_hessian(at) is None
    torch.testing.assert_close(density.information(at), torch.diag(12 * at**2 + 2))


def test_pieces_of_a_table_add_up(monkeypatch):
    X = np.random.default_rng(7).normal(size=(90, 2))
    fit = pg.fit("gaussian_mixture", X, components=1, progress=False)
    whole = fit.standard_errors(X)["component.gaussian"]
    monkeypatch.setattr("probgen.queries.standard_errors.ROWS", 40)
    for key, value in fit.standard_errors(X)["component.gaussian"].items():
        np.testing.assert_allclose(value, whole[key], rtol=1e-8)


def test_float32_fits_are_judged_in_double_precision():
    X = np.random.default_rng(7).normal(size=(90, 2))
    errors = [
        pg.fit("gaussian_mixture", X, components=1, dtype=dtype, progress=False).standard_errors(X)
        for dtype in ("float64", "float32")
    ]
    for key, value in errors[0]["component.gaussian"].items():
        np.testing.assert_allclose(errors[1]["component.gaussian"][key], value, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------ what is not determined
def test_an_empty_component_has_no_errors():
    X = np.random.default_rng(8).normal(size=(60, 1))
    start = np.column_stack([np.ones(60), np.zeros(60)])
    fit = pg.fit("gaussian_mixture", X, components=2, **SHARP, start=start)
    with pytest.warns(pg.IdentificationWarning, match=r"component\.gaussian\.loc \(1 of 2\)"):
        errors = fit.standard_errors(X)["component.gaussian"]
    assert errors["loc"][0, 0] == pytest.approx(1 / np.sqrt(60), rel=1e-6)
    assert np.isnan(errors["loc"][1, 0])


def test_factors_that_can_be_rotated_have_no_errors_but_their_noise_has():
    rng = np.random.default_rng(9)
    X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 6)) + rng.normal(size=(200, 6))
    fit = pg.fit("mixture_of_factor_analysers", X, components=1, factors=2, restarts=1, progress=False)
    with pytest.warns(pg.IdentificationWarning, match=r"loading \(12 of 12\)"):
        errors = fit.standard_errors(X)["component.gaussian"]
    assert np.isnan(errors["loading"]).all()
    assert all(np.isfinite(errors[key]).all() for key in ("loc", "noise"))


def test_ordinal_columns_without_a_prior_have_errors_for_what_the_data_tell():
    """One row: the location is zero by convention; each cumulative frequency is a proportion."""
    codes = np.random.default_rng(10).choice(3, size=150, p=[0.5, 0.3, 0.2])
    table = discrete(codes, "ordinal", (1, 2, 3))
    errors = pg.fit("latent_class", table, components=1, **SHARP).standard_errors(table)["columns.ordinal3"]
    below = np.cumsum(np.bincount(codes) / 150)[:2]
    assert errors["loc"].item() == 0.0
    np.testing.assert_allclose(errors["cutpoints"][0, 0], 1 / np.sqrt(150 * below * (1 - below)), rtol=1e-5)


def test_another_table_than_the_fitted_one_is_noticed():
    rng = np.random.default_rng(11)
    fit = pg.fit("gaussian_mixture", rng.normal(size=(100, 2)), components=1, progress=False)
    with pytest.warns(pg.ConvergenceWarning, match="nats below a maximum"):
        fit.standard_errors(rng.normal(3, 1, size=(100, 2)))


def test_free_directions_are_told_from_determined_ones():
    information = torch.diag(torch.tensor([4.0, 0.0], dtype=torch.float64))
    derivatives = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    errors = delta_errors(information, derivatives).numpy()
    np.testing.assert_array_equal(errors, [0.5, np.nan, np.nan, 0.0])


# ----------------------------------------------------------------------------------------------------- evidence
def test_evidence_of_one_gaussian_is_its_closed_form():
    """Normal-Wishart: Laplace is off by the order of 1 / N."""
    X = np.random.default_rng(12).normal(size=(400, 2)) @ np.array([[1.0, 0.7], [0.0, 0.5]])
    fit = pg.fit("gaussian_mixture", X, components=1, progress=False)
    family = fit.program.component.parts()[0].family
    Z, N, D = (X - fit.standardiser.shift) / fit.standardiser.scale, 400, 2
    kappa, nu, m, S = family.concentration.item(), family.freedom, family.center.numpy(), family.scatter.numpy()
    gap = Z.mean(0) - m
    after = S + N * np.cov(Z.T, bias=True) + kappa * N / (kappa + N) * np.outer(gap, gap)
    log_det = np.log(np.linalg.det([S, after]))
    expected = multigammaln((nu + N) / 2, D) - multigammaln(nu / 2, D) - 0.5 * N * D * np.log(np.pi)
    expected += 0.5 * (nu * log_det[0] - (nu + N) * log_det[1]) + 0.5 * D * np.log(kappa / (kappa + N))
    expected -= N * np.log(fit.standardiser.scale).sum()
    assert log_marginal_likelihood(fit, Table(X)) == pytest.approx(expected, abs=0.02)


def test_evidence_of_two_components_is_the_sum_over_all_labellings():
    """16 rows: 65 536 labellings, each with a closed form. Laplace is off by O(1 / N), less than log 2 by far."""
    x = np.concatenate([np.random.default_rng(12).normal(-8, 1, 8), np.random.default_rng(13).normal(8, 1, 8)])
    fit = pg.fit("gaussian_mixture", x[:, None], components=2, covariance="diagonal", progress=False)
    family, alpha = fit.program.component.parts()[0].family, fit.program.weights.concentration.numpy()[0]
    y = (x - fit.standardiser.shift) / fit.standardiser.scale
    labels = (np.arange(2**16)[:, None] >> np.arange(16)) & 1
    n = np.stack([16 - labels.sum(1), labels.sum(1)])
    total = (
        gammaln(alpha.sum())
        - gammaln(alpha.sum() + 16)
        + (gammaln(alpha[:, None] + n) - gammaln(alpha[:, None])).sum(0)
    )
    kappa, shape, rate, center = family.concentration.item(), family.shape, family.rate.item(), family.center.item()
    for k in range(2):
        sums = [((labels == k) * power).sum(1) for power in (y, y**2)]
        strength = kappa + n[k]
        mean = (sums[0] + kappa * center) / strength
        after = rate + 0.5 * (sums[1] + kappa * center**2 - strength * mean**2)
        total += gammaln(shape + n[k] / 2) - gammaln(shape) + shape * np.log(rate) - (shape + n[k] / 2) * np.log(after)
        total += 0.5 * np.log(kappa / strength) - 0.5 * n[k] * np.log(2 * np.pi)
    expected = logsumexp(total) - 16 * np.log(fit.standardiser.scale[0])
    assert log_marginal_likelihood(fit, fit.read(x[:, None])) == pytest.approx(expected, abs=0.1)


def test_relabellings():
    table = Table.from_sequences([np.random.default_rng(0).normal(size=(40, 1))], kind="real")
    for topology, expected in [("free", np.log(6)), ("sticky", np.log(6)), ("left_right", 0.0), ("cyclic", 0.0)]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = pg.fit("hidden_markov", table, states=3, topology=topology, max_steps=2, progress=False)
        assert fit.program.chain.log_relabellings == pytest.approx(expected)


def test_evidence_needs_a_prior():
    X = np.random.default_rng(0).normal(size=(40, 1))
    fit = pg.fit("gaussian_mixture", X, components=1, **SHARP)
    with pytest.raises(pg.CapabilityError, match="prior='default'"):
        log_marginal_likelihood(fit, fit.read(X))


# ------------------------------------------------------------------------------------------- slow: the promises
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name, traits in pg.available().items() if traits.density == "exact" and not traits.any_order]
)
def test_every_exact_model_has_errors_in_the_shapes_of_its_parameters(name):
    rng = np.random.default_rng(1)
    z = rng.integers(2, size=80)
    schema = Schema((Column("x", "real"), Column("y", "binary", levels=("no", "yes"))))
    values = np.column_stack([rng.normal(4.0 * z, 1.0), (rng.random(80) < 0.2 + 0.6 * z).astype(float)])
    table = Table.from_codes(values, schema)
    small = {"components": 2, "states": 2, "factors": 1, "longest": 2}
    options = {key: value for key, value in small.items() if key in accepted_options(find(name))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = pg.fit(name, table, restarts=1, progress=False, **options)
        errors = fit.standard_errors(table)
    for family, group in fit.parameters().items():
        assert {key: value.shape for key, value in errors[family].items()} == {k: v.shape for k, v in group.items()}
        assert all((value[np.isfinite(value)] >= 0).all() for value in errors[family].values())
    assert any(np.isfinite(value).any() for group in errors.values() for value in group.values())


def ordered_mixture(fit):
    """Weight, means and standard deviations of a one-dimensional mixture of two, by their means."""
    theta, scale, shift = fit.parameters(), fit.standardiser.scale[0], fit.standardiser.shift[0]
    order = np.argsort(theta["component.gaussian"]["loc"][:, 0])
    means = theta["component.gaussian"]["loc"][order, 0] * scale + shift
    return order, np.concatenate([theta["weights"]["probs"][0, order[:1]], means])


def errors_of(fit, X):
    order, values = ordered_mixture(fit)
    errors = fit.standard_errors(X)
    means = errors["component.gaussian"]["loc"][order, 0] * fit.standardiser.scale[0]
    return values, np.concatenate([errors["weights"]["probs"][0, order[:1]], means])


@pytest.mark.slow
@pytest.mark.stats
def test_ninety_percent_intervals_cover_ninety_percent():
    truth, rng, inside = np.array([0.4, 0.0, 3.0]), np.random.default_rng(13), []
    for _ in range(200):
        z = rng.random(400) < 0.4
        X = np.where(z, rng.normal(0, 1, 400), rng.normal(3, 0.7, 400))[:, None]
        fit = pg.fit("gaussian_mixture", X, components=2, **{**SHARP, "tolerance": 1e-8})
        values, errors = errors_of(fit, X)
        inside.append(np.abs(values - truth) < norm.ppf(0.95) * errors)
    hits = np.sum(inside, 0)
    low, high = binom(200, 0.9).ppf([0.0005, 0.9995])
    assert ((hits >= low) & (hits <= high)).all(), hits


@pytest.mark.slow
@pytest.mark.stats
def test_faithful_against_the_bootstrap():
    X, rng = faithful().values, np.random.default_rng(14)
    options = {**SHARP, "tolerance": 1e-8, "covariance": "full", "components": 2}
    fit = pg.fit("gaussian_mixture", X, **options)
    values, errors = errors_of(fit, X)
    drawn = []
    for _ in range(200):
        again = pg.fit("gaussian_mixture", X[rng.integers(len(X), size=len(X))], **options)
        drawn.append(ordered_mixture(again)[1])
    spread = np.std(drawn, axis=0, ddof=1)
    # a standard deviation of 200 draws has an error of 5 %; the bootstrap and the curvature differ by O(1 / N) too
    np.testing.assert_allclose(errors, spread, rtol=0.2)
    assert (np.abs(np.mean(drawn, 0) - values) < errors).all()
