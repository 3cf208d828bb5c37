"""Information criteria against scikit-learn, hmmlearn, a published value, and enumeration."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture as Peer

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.inference.curvature import LogDensity, Spectrum
from probgen.program import accepted_options, find
from probgen.queries.standard_errors import surroundings

IRIS = load_iris().data
REAL4 = Schema(tuple(Column(name, "real") for name in "abcd"))
PEERS = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}
EXACT = [name for name, t in pg.available().items() if t.density == "exact" and "em" in t.methods]  # with parameters
SMALL = {"components": 2, "states": 2, "factors": 1, "chains": 2, "longest": 3, "latent": 1}


def quick(name, table, **options):
    """A fit whose convergence does not matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit(name, table, progress=False, **{"restarts": 1, "max_steps": 60} | options)


def as_peer(fit, covariance, components):
    """scikit-learn's mixture with our parameters."""
    scale, shift = fit.standardiser.scale, fit.standardiser.shift
    found = fit.parameters()["component.gaussian"]
    peer = Peer(components, covariance_type=PEERS[covariance])
    peer.weights_ = fit.parameters()["weights"]["probs"][0]
    peer.means_ = found["loc"] * scale + shift
    if covariance in ("full", "tied"):
        roots = [np.linalg.cholesky(np.linalg.inv(c * scale[:, None] * scale)) for c in found["covariance"]]
        peer.precisions_cholesky_ = np.stack(roots) if covariance == "full" else roots[0]
    else:
        sds = found["scale"] * scale
        peer.precisions_cholesky_ = 1 / (sds if covariance == "diagonal" else sds[:, 0])
    return peer


@pytest.mark.reference
@pytest.mark.parametrize("covariance", PEERS)
def test_mixtures_have_the_criteria_of_scikit_learn(covariance):
    X = (IRIS - IRIS.mean(0)) / IRIS.std(0)  # spherical in both libraries' coordinates
    fit = quick("gaussian_mixture", Table(X, schema=REAL4), components=3, covariance=covariance, prior=None)
    found, peer = fit.criteria(X), as_peer(fit, covariance, 3)
    assert found.aic == pytest.approx(peer.aic(X), abs=1e-6)
    assert found.bic == pytest.approx(peer.bic(X), abs=1e-6)
    assert found.rows == 150


@pytest.mark.reference
def test_bic_of_iris_with_three_components():
    fit = pg.fit("gaussian_mixture", Table(IRIS, schema=REAL4), components=3, prior=None, restarts=8, progress=False,
                 tolerance=1e-10, max_steps=2000)  # fmt: skip
    assert -fit.criteria(IRIS).bic == pytest.approx(-580.83891, abs=1e-4)  # R's sign


@pytest.mark.reference
@pytest.mark.parametrize(("covariance", "theirs"), [("full", "full"), (None, "diag")])
def test_hidden_markov_models_have_the_criteria_of_hmmlearn(covariance, theirs):
    hmm = pytest.importorskip("hmmlearn.hmm")
    rng = np.random.default_rng(0)
    lengths = (30, 50, 20)
    sequences = [rng.normal(size=(n, 2)) + 2 * (rng.random((n, 1)) < 0.5) for n in lengths]
    table = Table.from_sequences(sequences, kind="real")
    fit = quick("hidden_markov", table, states=3, covariance=covariance, prior=None)
    scale, shift = fit.standardiser.scale, fit.standardiser.shift
    chain, emission = fit.parameters()["chain"], next(v for k, v in fit.parameters().items() if "emission" in k)
    peer = hmm.GaussianHMM(3, covariance_type=theirs)
    peer.n_features, peer.startprob_, peer.transmat_ = 2, chain["initial"][0], chain["transition"]
    peer.means_ = emission["loc"] * scale + shift
    peer.covars_ = (
        emission["covariance"] * scale[:, None] * scale if covariance else np.square(emission["scale"] * scale)
    )
    found, X = fit.criteria(table), np.concatenate(sequences)
    assert found.rows == 100
    assert found.aic == pytest.approx(peer.aic(X, lengths), abs=1e-6)
    assert found.bic == pytest.approx(peer.bic(X, lengths), abs=1e-6)


# ---------------------------------------------------------------------------------------------- free parameters
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"states": 3}, 2 + 6),
        ({"states": 3, "topology": "left_right"}, 2 + 1),  # rows of three, two and one entries; starts in the first
        ({"states": 3, "topology": "cyclic"}, 2 + 3),
        ({"states": 2, "topology": [[0.9, 0.1], [None, None]]}, 1 + 1),
        ({"states": 2, "initial": [1.0, 0.0]}, 0 + 2),
        ({"states": 2, "mixture": 3}, 1 + 2 + 2 * 2 + 4 * 2),
    ],
)
def test_fixed_entries_of_chains_are_no_parameters(options, expected):
    table = Table.from_sequences([np.random.default_rng(0).normal(size=(60, 1))], kind="real")
    found = quick("hidden_markov", table, **options).criteria(table)
    assert found.parameters == expected + 2 * options["states"]


def test_what_can_stand_in_for_each_other_is_counted_once():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 2)) @ rng.normal(size=(2, 6)) + rng.normal(size=(80, 6))
    assert quick("mixture_of_factor_analysers", X, components=1, factors=2).criteria(X).parameters == 6 + 12 + 6 - 1
    full = quick("mixture_of_factor_analysers", X[:, :3], components=1, factors=3).criteria(X[:, :3])
    assert full.parameters == 3 + 6  # no more than a full covariance
    mood = Table.from_codes(
        rng.integers(4, size=(80, 1)).astype(float), Schema((Column("mood", "ordinal", levels=(1, 2, 3, 4)),))
    )
    assert quick("latent_class", mood, components=2).criteria(mood).parameters == 1 + 2 + 3 - 1
    codes = np.column_stack([rng.normal(size=80), rng.integers(3, size=80)])
    schema = Schema((Column("u", "real"), Column("y", "categorical", levels=("a", "b", "c"))))
    table = Table.from_codes(codes, schema)
    found = quick("regression_hidden_markov", table, states=1, inputs=("u",)).criteria(table)
    assert found.parameters == 2 * 2  # two levels against the third, a constant and a slope


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("mixture_of_factor_analysers", {"components": 1, "factors": 2}, "real"),
        ("gaussian_mixture", {"components": 2, "covariance": "tied"}, "real"),
        ("latent_class", {"components": 1}, "ordinal"),
    ],
)
def test_parameters_are_the_rank_of_the_information(name, options, kind):
    rng = np.random.default_rng(3)
    loading = np.array([[1.0, 1.0, 1.0, 0.0, 0.5], [0.0, 0.5, -1.0, 1.0, 1.0]])
    X = rng.normal(size=(400, 2)) @ loading + rng.normal(size=(400, 5))
    X[:200] += 0.0 if options["components"] == 1 else 5.0
    levels = (1, 2, 3) if kind == "ordinal" else ()
    values = np.digitize(X, [-0.5, 1.0]).astype(float) if levels else X
    table = Table.from_codes(values, Schema(tuple(Column(n, kind, levels=levels) for n in "abcde")))
    fit = quick(name, table, prior=None, tolerance=1e-9, max_steps=2000, **options)
    with fit.setting():
        (potential,), at = surroundings(fit, table)
        _, information = LogDensity([potential.log_likelihood]).climb(at)
        rank = int((~Spectrum(information).free).sum())
    assert rank == fit.criteria(table).parameters


@pytest.mark.parametrize("name", EXACT)
def test_every_exact_model_has_criteria(name):
    rng = np.random.default_rng(1)
    z = rng.integers(2, size=60)
    real = [Column(name, "real", incomplete=name == "u") for name in "uvw"]
    values = np.column_stack([rng.normal(3.0 * z, 1.0, (3, 60)).T, (rng.random(60) < 0.2 + 0.6 * z).astype(float)])
    values[:5, 0] = np.nan
    table = Table.from_codes(values, Schema((*real, Column("y", "binary", levels=("no", "yes")))))
    table = table.select([column.name for column in table.schema if column.kind in pg.available()[name].kinds])
    options = {key: value for key, value in SMALL.items() if key in accepted_options(find(name))}
    found = quick(name, table, **options).criteria(table)
    assert found.log_likelihood < 0
    assert 3 <= found.parameters <= 45
    assert found.entropy >= 0
    assert found.aic < found.bic <= found.icl
    assert f"{found.parameters} parameters" in str(found)


# --------------------------------------------------------------------------------------------- entropy and rows
def test_entropy_of_a_mixture_is_that_of_its_responsibilities():
    X = IRIS.copy()
    X[::3, 1] = np.nan
    fit = quick("gaussian_mixture", Table(X, schema=REAL4), components=3, max_steps=10)
    found, share = fit.criteria(X), fit.embed(X)
    expected = -(share * np.log(np.maximum(share, 1e-300))).sum()
    assert found.entropy == pytest.approx(expected, rel=1e-9)
    assert found.icl == pytest.approx(found.bic + 2 * expected, rel=1e-12)


@pytest.mark.parametrize("topology", ["free", "left_right"])
def test_entropy_of_a_chain_is_that_of_its_paths(topology):
    rng = np.random.default_rng(2)
    sequences = [rng.normal(size=(n, 1)) + np.arange(n)[:, None] / 2 for n in (5, 4, 6)]
    table = Table.from_sequences(sequences, kind="real")
    fit = quick("hidden_markov", table, states=2, topology=topology, max_steps=5)
    with np.errstate(divide="ignore"):
        initial, transition = (np.log(fit.parameters()["chain"][key]) for key in ("initial", "transition"))
    gaussian = fit.parameters()["emission.real"]
    expected = 0.0
    for sequence in sequences:
        z = (sequence - fit.standardiser.shift) / fit.standardiser.scale
        scores = -0.5 * ((z - gaussian["loc"].T) / gaussian["scale"].T) ** 2 - np.log(gaussian["scale"].T)
        paths = np.array(list(itertools.product(range(2), repeat=len(z))))
        log = initial[0, paths[:, 0]] + transition[paths[:, :-1], paths[:, 1:]].sum(1)
        log = log + scores[np.arange(len(z)), paths].sum(1)
        share = np.exp(log - log.max())
        share /= share.sum()
        expected -= (share * np.log(np.maximum(share, 1e-300))).sum()
    assert fit.criteria(table).entropy == pytest.approx(expected, rel=1e-8)


def test_known_labels_have_no_entropy():
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.normal(size=60), rng.integers(2, size=60)])
    schema = Schema((Column("x", "real"), Column("y", "binary", levels=("no", "yes"))))
    table = Table.from_codes(values, schema)
    found = quick("naive_bayes", table, target="y").criteria(table)
    assert found.entropy == pytest.approx(0.0, abs=1e-9)
    assert found.icl == pytest.approx(found.bic)


def test_weights_count_as_repeated_rows():
    twice = np.arange(150) < 50
    weighted = Table(IRIS, schema=REAL4).with_weights(1.0 + twice)
    fit = quick("gaussian_mixture", weighted, components=2)
    one, other = fit.criteria(weighted), fit.criteria(np.concatenate([IRIS, IRIS[twice]]))
    for key in ("log_likelihood", "rows", "entropy"):
        assert getattr(one, key) == pytest.approx(getattr(other, key), rel=1e-9)


def test_time_steps_with_nothing_known_are_no_rows():
    x = np.random.default_rng(0).normal(size=(50, 1))
    x[20:25] = np.nan
    table = Table.from_sequences([x[:30], x[30:]], kind="real")
    assert quick("hidden_markov", table, states=2).criteria(table).rows == 45


def test_what_has_no_criteria_is_refused():
    vae = quick("vae", IRIS, latent=1, hidden=(4,), max_steps=5)
    with pytest.raises(pg.CapabilityError, match="exact density"):
        vae.criteria(IRIS)
    draws = quick("gaussian_mixture", IRIS, components=1, method="svi", max_steps=5, guide_draws=4)
    with pytest.raises(pg.CapabilityError, match="point estimates"):
        draws.criteria(IRIS)
    with pytest.raises(pg.CapabilityError, match="point estimates"):
        draws.standard_errors(IRIS)


def test_continuous_states_have_no_entropy_to_pay_for():
    series = np.random.default_rng(0).normal(size=(4, 12)).cumsum(1)
    table = Table.from_sequences(list(series), kind="real")
    found = quick("linear_state_space", table, latent=1).criteria(table)
    assert found.icl == found.bic
