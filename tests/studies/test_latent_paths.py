"""Walks through latent spaces: paths of known length, decoders of known form, and every model that has such a space."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.families.flows import FlowDistribution, LearntLinear
from probgen.inference.latent_use import marginals
from probgen.queries.decoded import Decoder
from probgen.queries.latent_posterior import posterior_draws, row_nats
from probgen.studies.latent_paths import (
    evenly,
    latent_pictures,
    length_of,
    rarity,
    shortest_of,
    shortest_path,
    spherical_path,
    straight_path,
)

pytestmark = pytest.mark.filterwarnings("error")
SHORT = {"max_steps": 60, "hidden": (16,)}
MODELS = {
    "vae": {"latent": 3, **SHORT},
    "vae ": {"latent": 2, "latent_prior": "mixture", "prior_components": 3, **SHORT},
    "hierarchical_vae": {"latent": (3, 2), **SHORT},
    "conditional_vae": {"latent": 2, "label": "island", **SHORT},
    "vq_vae": {"slots": 3, "codes": 5, "width": 2, **SHORT},
    "autoencoder": {"latent": 2, **SHORT},
    "probabilistic_pca": {"latent": 2},
    "factor_analysis": {"latent": 1},
}


@cache
def penguins():
    return pg.load_dataset("penguins").drop(["year"])


@cache
def fitted(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ProbgenWarning)
        return pg.fit(name.strip(), penguins(), seed=0, progress=False, **MODELS[name])


def sphere(z):
    """Polar angles to the unit sphere."""
    up, around = z.T
    return torch.stack([up.sin() * around.cos(), up.sin() * around.sin(), up.cos()], 1)


# ------------------------------------------------------------------------------------------------------------- paths
def test_spherical_paths_turn_and_grow_evenly():
    rng = np.random.default_rng(0)
    centre, one, other = rng.normal(size=(3, 5))
    path = spherical_path(one, other, 11, centre) - centre
    long = np.linalg.norm(path, axis=1)
    np.testing.assert_allclose(long, np.linspace(long[0], long[-1], 11), rtol=1e-12)
    directions = path / long[:, None]
    turns = np.arccos(np.clip((directions[1:] * directions[:-1]).sum(1), -1, 1))
    np.testing.assert_allclose(turns, turns[0], rtol=1e-6)
    np.testing.assert_allclose(path[[0, -1]] + centre, [one, other], atol=1e-12)
    np.testing.assert_allclose(spherical_path(one, 2 * one, 5), straight_path(one, 2 * one, 5), atol=1e-6)


def test_the_shortest_path_on_a_sphere_is_a_great_circle():
    one, other = np.array([0.6, 0.0]), np.array([0.9, 2.2])
    ends = sphere(torch.as_tensor(np.stack([one, other]))).numpy()
    arc = float(np.arccos(ends[0] @ ends[1]))
    straight = straight_path(one, other, 33)
    found = shortest_path(sphere, straight)
    assert length_of(sphere, straight) > 1.1 * arc
    assert arc <= length_of(sphere, found) < 1.001 * arc
    np.testing.assert_array_equal(found[[0, -1]], [one, other])
    points = sphere(torch.as_tensor(evenly(sphere, found, 9))).numpy()
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0], rtol=0.01)


def test_of_a_linear_decoder_the_shortest_path_is_straight():
    rng = np.random.default_rng(1)
    weights = torch.as_tensor(rng.normal(size=(3, 7)))
    one, other = rng.normal(size=(2, 3))
    straight = straight_path(one, other, 17)
    bent = straight + 0.5 * np.sin(np.linspace(0, np.pi, 17))[:, None] * rng.normal(size=3)
    np.testing.assert_allclose(shortest_path(lambda z: z @ weights, bent), straight, atol=1e-4)


def test_no_shortest_path_is_longer_than_the_straight_one():
    rng = np.random.default_rng(2)
    for _ in range(5):
        first, second = (torch.as_tensor(rng.normal(size=size)) for size in ((2, 8), (8, 6)))
        read = lambda z, a=first, b=second: (3 * z @ a).tanh() @ b  # noqa: E731
        straight = straight_path(*rng.normal(size=(2, 2)), 33)
        assert length_of(read, shortest_of(read, [straight])) <= length_of(read, straight)


# ------------------------------------------------------------------------------------------------------------ models
@pytest.mark.parametrize("name", MODELS)
def test_every_latent_space_is_walked_through(name):
    fit, table = fitted(name), penguins()
    found = latent_pictures(fit, table, shown=4)
    walk, path, again = found.traversal, found.interpolation, found.reconstruction
    lines, steps = walk.values.shape
    assert walk.decoded.centres.shape == (lines * steps, table.n_columns)
    assert walk.along(lines - 1).levels["species"].shape == ((steps, 3) if "species" in walk.decoded.levels else ())
    for name_, levels in walk.decoded.levels.items():
        np.testing.assert_allclose(levels.sum(1), 1, atol=1e-5)
        assert levels.shape[1] == len(table.schema[name_].levels)
    assert path.lengths["shortest"] <= path.lengths["straight"]
    codes = fit.embed(table.take(path.rows))
    for each in path.codes.values():
        np.testing.assert_allclose(each[[0, -1]], codes, atol=1e-5)
    assert again.decoded.centres.shape == found.samples.shape == (4, table.n_columns)
    assert set(again.errors) == set(table.names)
    assert len(found.dimensions.names) == len(found.dimensions.nats) >= lines


@pytest.mark.parametrize("name", ["probabilistic_pca", "factor_analysis"])
def test_linear_models_have_straight_geodesics(name):
    found = pg.interpolate(fitted(name), penguins(), 3, 200)
    assert found.lengths["shortest"] == pytest.approx(found.lengths["straight"], rel=1e-6)
    np.testing.assert_allclose(found.codes["shortest"], found.codes["straight"], atol=1e-3)


@pytest.mark.parametrize("name", ["vae", "vq_vae", "probabilistic_pca"])
def test_what_is_decoded_agrees_with_decode(name):
    fit = fitted(name)
    z = fit.embed(penguins().take(range(20)))
    found, table = Decoder(fit)(z), fit.decode(z)
    for at, column in enumerate(fit.schema):
        if column.name not in found.levels:
            np.testing.assert_allclose(found.centres[:, at], table.values[:, at], rtol=1e-5)
        elif column.kind == "categorical":
            np.testing.assert_array_equal(found.levels[column.name].argmax(1), table.values[:, at])


def test_traversals_move_one_dimension():
    fit, table = fitted("vae"), penguins()
    walk = pg.traverse(fit, table, 5, most=2, quantiles=(0.1, 0.5, 0.9))
    codes = fit.embed(table)
    np.testing.assert_allclose(walk.start, codes[5], atol=1e-6)
    assert walk.row == 5
    assert list(walk.nats) == sorted(walk.nats, reverse=True)
    np.testing.assert_allclose(
        walk.values, np.quantile(codes[:, walk.dimensions], (0.1, 0.5, 0.9), axis=0).T, atol=1e-6
    )
    assert pg.traverse(fit, table).start.tolist() == [0.0, 0.0, 0.0]


def test_slots_take_their_codes():
    fit, table = fitted("vq_vae"), penguins()
    known = pg.latent_dimensions(fit, table)
    assert known.names == ["z 1", "z 2", "z 3"]
    assert (known.nats <= np.log(5) + 1e-9).all()
    walk = pg.traverse(fit, table, 0)
    assert np.isnan(walk.quantiles).all()
    codes = np.array([[1.0, 2.0]] * 3 + [[0.0, 1.0]])
    np.testing.assert_allclose(rarity(codes), -np.log([0.75, 0.75, 0.75, 0.25]))


def test_what_cannot_be_walked_through_is_refused():
    mixture = pg.fit("gaussian_mixture", penguins(), components=2, restarts=1, seed=0, progress=False)
    with pytest.raises(pg.CapabilityError, match="no continuous latents"):
        pg.traverse(mixture, penguins())
    with pytest.raises(pg.DataError, match="no row 999"):
        pg.interpolate(fitted("vae"), penguins(), 0, 999)
    with pytest.raises(pg.DataError, match=r"no row 0\.5"):
        pg.interpolate(fitted("vae"), penguins(), 0, 0.5)
    for wrong in ({"quantiles": ()}, {"quantiles": (0.5, 2)}, {"most": 0}):
        with pytest.raises(pg.CapabilityError, match="quantiles from 0 to 1"):
            pg.traverse(fitted("vae"), penguins(), **wrong)
    with pytest.raises(pg.CapabilityError, match="three steps"):
        pg.interpolate(fitted("vae"), penguins(), 0, 1, steps=2)
    with pytest.raises(pg.CapabilityError, match=r"shape \(N, 3\)"):
        Decoder(fitted("vae"))(np.zeros((2, 4)))


# --------------------------------------------------------------------------------------------------------- posterior
def factors_of(rows=400):
    """Rows of a factor model with holes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 2)) @ rng.normal(size=(2, 5)) + 0.6 * rng.normal(size=(rows, 5))
    x[rng.random(x.shape) < 0.2] = np.nan
    return pg.Table({f"x{at}": column for at, column in enumerate(x.T)})


def test_draws_of_factors_have_the_exact_posterior():
    table = factors_of()
    fit = pg.fit("factor_analysis", table, latent=2, seed=0, progress=False)
    (theta,) = fit.posterior.theta().values()
    loading, noise = theta["loading"][0].numpy(), theta["noise"][0].numpy()
    holes = (~table.known).sum(1)
    rows = (int((holes == 0).argmax()), int((holes == 2).argmax()), int((holes == 3).argmax()))
    drawn = posterior_draws(fit, table.take(np.repeat(rows, 500)), 8)
    for z, row, own in zip(fit.embed(table.take(rows)), rows, np.split(drawn, 3, 1), strict=True):
        known = table.known[row]
        exact = np.linalg.inv(np.eye(2) + (loading[known].T / noise[known]) @ loading[known])
        values = own.reshape(-1, 2)
        np.testing.assert_allclose(values.mean(0), z, atol=5 * np.sqrt(exact.max() / 4000))
        np.testing.assert_allclose(np.cov(values.T), exact, atol=5 * exact.max() * np.sqrt(2 / 4000))


def test_nats_of_dimensions_add_up_to_the_divergence():
    fit = fitted("vae")
    rows = row_nats(fit, penguins())
    assert rows.shape == (344, 3)
    assert rows.mean(0).sum() == pytest.approx(fit.diagnostics["latent_nats"]["z"], rel=0.15, abs=0.02)
    assert row_nats(fitted("autoencoder"), penguins()) is None
    assert posterior_draws(fitted("vq_vae"), penguins(), 3) is None


@pytest.mark.parametrize("options", [{"latent_prior": "flow"}, {"posterior": "flow"}])
def test_dimensions_of_flows_have_nats(options):
    fit = pg.fit("vae", penguins(), latent=2, hidden=(8,), max_steps=5, seed=0, progress=False, **options)
    rows = row_nats(fit, penguins().take(range(50)))
    assert rows.shape == (50, 2)
    assert rows.mean(0).sum() == pytest.approx(fit.diagnostics["latent_nats"]["z"], abs=0.15)


def test_dimensions_behind_a_linear_flow_have_their_exact_marginals():
    flow = LearntLinear(3)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        scale = torch.tensor([0.5, 1.0, 2.0])
        drawn = FlowDistribution(torch.distributions.Independent(torch.distributions.Normal(1.0, scale), 1), flow)
        matrix = torch.autograd.functional.jacobian(lambda x: flow(x)[0], torch.zeros(3))
        marginal = marginals(drawn)
    torch.testing.assert_close(marginal.mean, flow(torch.ones(3))[0].detach())
    torch.testing.assert_close(marginal.variance, (matrix * scale).square().sum(1), rtol=0.1, atol=0.0)


@pytest.mark.parametrize("prior", ["normal", "vamp", "flow"])
@pytest.mark.parametrize("posterior", ["normal", "flow"])
def test_nats_of_dimensions_that_flows_couple(prior, posterior):
    """Each dimension of the same posterior as the prior says nothing; every row has nats of its own, whatever their number."""
    options = {"latent": 2, "hidden": (16,), "latent_prior": prior, "posterior": posterior, "prior_components": 3}
    fit = pg.fit("vae", penguins(), seed=0, max_steps=2, progress=False, **options)
    whole = row_nats(fit, penguins())
    assert whole.shape == (344, 2)
    assert np.isfinite(whole).all()
    assert row_nats(fit, penguins().take([0, 1])).shape == (2, 2)  # as many rows as dimensions
    assert pg.traverse(fit, penguins(), most=1).values.shape == (1, 7)
    if prior == "vamp":
        return
    for parameter in fit.program.encoder[-1].parameters():
        torch.nn.init.zeros_(parameter)
    for flow in (fit.program.latents, fit.program.prior):  # flows back to the identity
        for name, parameter in flow.named_parameters():
            if "layers.1" in name or "rest" in name:
                torch.nn.init.zeros_(parameter)
    np.testing.assert_allclose(row_nats(fit, penguins()), 0.0, atol=0.02)


def test_errors_of_what_says_nothing_are_one():
    """A decoder that says the same of every row is no better than a column by itself."""
    known = pg.reconstruct(fitted("probabilistic_pca"), penguins(), [1, 2])
    assert known.errors["island"] == pytest.approx(1.0, abs=0.05)  # levels do not depend on its factors
    assert known.errors["flipper_length_mm"] < 0.5
    assert known.rows.tolist() == [1, 2]
