"""Hidden Markov models against hmmlearn, published values and sums over all paths."""

import warnings
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

import probgen as pg
from probgen.data import Table

EARTHQUAKES = [  # magnitude 7 or more a year, 1900-2006 (Zucchini and MacDonald, 2009)
    13, 14, 8, 10, 16, 26, 32, 27, 18, 32, 36, 24, 22, 23, 22, 18, 25, 21, 21, 14, 8, 11, 14, 23, 18, 17, 19, 20, 22, 19,
    13, 26, 13, 14, 22, 24, 21, 22, 26, 21, 23, 24, 27, 41, 31, 27, 35, 26, 28, 36, 39, 21, 17, 22, 17, 19, 15, 34, 10,
    15, 22, 18, 15, 20, 15, 22, 19, 16, 30, 27, 29, 23, 20, 16, 21, 21, 25, 16, 18, 15, 18, 14, 10, 15, 8, 15, 6, 11, 8,
    7, 18, 16, 13, 12, 13, 20, 15, 16, 12, 18, 15, 16, 13, 15, 16, 11, 11,
]  # fmt: skip
START, MOVE = np.array([0.5, 0.3, 0.2]), np.array([[0.6, 0.3, 0.1], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7]])
LENGTHS = (50, 1, 80, 33)


def quietly(*args, **kwargs):
    """A fit without its warning about convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        return pg.fit(*args, progress=False, **kwargs)


def states(rng, length):
    path = [rng.integers(3)]
    for _ in range(length - 1):
        path.append(rng.choice(3, p=MOVE[path[-1]]))
    return np.array(path)


def chain_start(initial=START, transition=MOVE):
    return {"initial": torch.tensor(np.log(initial))[None], "transition": torch.tensor(np.log(transition))}


def trajectory(table, covariance=None, families=None, steps=8, **start):
    """Log likelihoods of the first iterations from the given parameters, and the parameters reached."""
    found = quietly(
        "hidden_markov", table, states=3, covariance=covariance, families=families, prior=None, max_steps=steps,
        tolerance=0.0, start={"chain": chain_start(), **start},
    )  # fmt: skip
    return np.array(found.history["log_likelihood"]) * table.n_rows, found.parameters()


@pytest.fixture(scope="module")
def gaussian_sequences():
    rng = np.random.default_rng(0)
    means = np.array([[0.0, 0.0], [3.0, 1.0], [-2.0, 4.0]])
    sequences = [means[states(rng, length)] + rng.normal(size=(length, 2)) for length in LENGTHS]
    whole = np.concatenate(sequences)
    return [(x - whole.mean(0)) / whole.std(0) for x in sequences]


@pytest.mark.reference
@pytest.mark.parametrize(
    ("covariance", "name"), [("full", "full"), ("tied", "tied"), ("diagonal", "diag"), ("spherical", "spherical")]
)
def test_every_gaussian_iteration_is_hmmlearns(gaussian_sequences, covariance, name):
    hmm = pytest.importorskip("hmmlearn.hmm")
    means = np.array([[-1.0, -1.0], [1.0, 0.0], [0.0, 1.0]])
    peer = hmm.GaussianHMM(
        3, name, n_iter=8, tol=-1e9, init_params="", covars_prior=0, covars_weight=0, means_weight=0, min_covar=0
    )
    peer.startprob_, peer.transmat_, peer.means_ = START, MOVE, means
    peer._covars_ = {"full": np.stack([np.eye(2)] * 3), "tied": np.eye(2), "diag": np.ones((3, 2))}.get(
        name, np.ones(3)
    )
    peer.fit(np.concatenate(gaussian_sequences), LENGTHS)
    coupled = covariance in ("full", "tied")
    eye = torch.eye(2, dtype=torch.float64).expand(3, 2, 2).clone() if coupled else torch.ones(3, 2).double()
    begin = {"emission.gaussian": {"loc": torch.tensor(means), "precision": eye}}
    table = Table.from_sequences(gaussian_sequences, kind="real")
    ours, parameters = trajectory(table, covariance, **begin)
    np.testing.assert_allclose(ours, peer.monitor_.history, rtol=0, atol=1e-8)
    np.testing.assert_allclose(parameters["emission.gaussian"]["loc"], peer.means_, atol=1e-8)
    np.testing.assert_allclose(parameters["chain"]["transition"], peer.transmat_, atol=1e-8)


@pytest.mark.reference
def test_every_categorical_iteration_is_hmmlearns():
    hmm = pytest.importorskip("hmmlearn.hmm")
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(4), size=3)
    sequences = [np.array([rng.choice(4, p=probs[s]) for s in states(rng, length)]) for length in LENGTHS]
    begin = rng.dirichlet(np.ones(4), size=3)
    peer = hmm.CategoricalHMM(3, n_iter=8, tol=-1e9, init_params="")
    peer.startprob_, peer.transmat_, peer.emissionprob_ = START, MOVE, begin
    peer.fit(np.concatenate(sequences)[:, None], LENGTHS)
    table = Table.from_sequences(sequences, kind="categorical")
    ours, _ = trajectory(table, **{"emission.categorical4": {"logits": torch.tensor(np.log(begin))[:, None]}})
    np.testing.assert_allclose(ours, peer.monitor_.history, rtol=0, atol=1e-8)


@pytest.mark.reference
def test_every_poisson_iteration_is_hmmlearns():
    hmm = pytest.importorskip("hmmlearn.hmm")
    counts, rates = np.array(EARTHQUAKES)[:, None], np.array([[12.0], [20.0], [30.0]])
    peer = hmm.PoissonHMM(3, n_iter=8, tol=-1e9, init_params="", lambdas_prior=0, lambdas_weight=0)
    peer.startprob_, peer.transmat_, peer.lambdas_ = START, MOVE, rates
    peer.fit(counts)
    table = Table.from_sequences([counts], kind="count")
    ours, parameters = trajectory(
        table, families={"x0": "poisson"}, **{"emission.poisson": {"rate": torch.tensor(rates)}}
    )
    np.testing.assert_allclose(ours, peer.monitor_.history, rtol=0, atol=1e-8)
    np.testing.assert_allclose(parameters["emission.poisson"]["rate"], peer.lambdas_, atol=1e-8)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("number", "value", "rates"), [(2, -341.8787, [15.421, 26.018]), (3, -328.5275, [13.134, 19.713, 29.710])]
)
def test_earthquakes(number, value, rates):
    table = Table.from_sequences([np.array(EARTHQUAKES)], kind="count", names=["quakes"])
    found = quietly(
        "hidden_markov",
        table,
        states=number,
        families={"quakes": "poisson"},
        prior=None,
        max_steps=3000,
        tolerance=1e-11,
    )
    assert float(np.asarray(found.log_prob(table)).sum()) == pytest.approx(value, abs=5e-4)
    np.testing.assert_allclose(np.sort(found.parameters()["emission.poisson"]["rate"].ravel()), rates, atol=5e-3)


# ---------------------------------------------------------------------------------------------------------- holes
def by_enumeration(found, sequence):
    """Log density of one sequence with holes: a sum over all paths of the marginal densities of the known cells."""
    chain, emission = found.parameters()["chain"], found.parameters()["emission.gaussian"]
    total = -np.inf
    for path in product(range(len(chain["transition"])), repeat=len(sequence)):
        weight = np.log(chain["initial"][0, path[0]])
        weight += sum(np.log(chain["transition"][a, b]) for a, b in pairwise(path))
        for row, state in zip(sequence, path, strict=True):
            seen = ~np.isnan(row)
            if seen.any():
                covariance = emission["covariance"][state][np.ix_(seen, seen)]
                weight += multivariate_normal(emission["loc"][state][seen], covariance).logpdf(row[seen])
        total = np.logaddexp(total, weight)
    return total


def punched(sequences, share, seed=0):
    rng = np.random.default_rng(seed)
    return [np.where(rng.random(x.shape) < share, np.nan, x) for x in sequences]


def test_holes_are_integrated_out(gaussian_sequences):
    found = quietly(
        "hidden_markov", Table.from_sequences(gaussian_sequences, kind="real"), states=3, covariance="full"
    )
    short = [np.array(x[:5]) for x in gaussian_sequences]
    short[0][2] = np.nan
    short[2][1, 0] = short[2][4, 1] = np.nan
    table = Table.from_sequences(short, schema=found.schema)
    standard = [found.standardiser.forward(x) for x in short]
    jacobian = [-(~np.isnan(x) * np.log(found.standardiser.scale)).sum() for x in short]
    expected = [by_enumeration(found, x) + j for x, j in zip(standard, jacobian, strict=True)]
    np.testing.assert_allclose(np.asarray(found.log_prob(table)), expected, atol=1e-9)


@pytest.mark.parametrize("options", [{"covariance": "full"}, {"covariance": "diagonal", "mixture": 2}, {}])
def test_em_with_holes_is_monotone(gaussian_sequences, options):
    table = Table.from_sequences(punched(gaussian_sequences, 0.3), kind="real")
    found = quietly("hidden_markov", table, states=3, max_steps=60, restarts=1, **options)
    assert found.diagnostics["monotone"]
    assert np.diff(found.history["objective"]).min() > -1e-9


def test_missing_steps_become_unknown_rows(gaussian_sequences):
    import pandas as pd

    frame = pd.DataFrame({"who": ["b"] * 3 + ["a"] * 2, "day": [1, 2, 5, 7, 6], "x": [1.0, 2.0, 3.0, 4.0, 5.0]})
    table = Table(frame, sequence="who", time="day")
    assert table.lengths.tolist() == [5, 2]
    np.testing.assert_array_equal(table.values[:, 0], [1, 2, np.nan, np.nan, 3, 5, 4])


# ----------------------------------------------------------------------------------------------------- topologies
@pytest.mark.parametrize("topology", ["left_right", "banded", "cyclic", "sticky"])
def test_zeros_stay_zero(gaussian_sequences, topology):
    table = Table.from_sequences(punched(gaussian_sequences, 0.1), kind="real")
    found = quietly("hidden_markov", table, states=4, topology=topology, max_steps=50, restarts=1)
    allowed = pg.families.markov_chain.TOPOLOGIES[topology](4).numpy()
    transition = found.parameters()["chain"]["transition"]
    assert np.all(transition[~allowed] == 0)
    np.testing.assert_allclose(transition.sum(1), 1)
    assert found.diagnostics["monotone"]
    assert np.isfinite(np.asarray(found.log_prob(table))).all()
    drawn = found.sample(3, steps=40)
    assert drawn.lengths.tolist() == [40] * 3


def test_fixed_entries_stay_and_the_rest_is_learned(gaussian_sequences):
    nan = np.nan
    topology = [[0.5, nan, nan], [0.0, nan, nan], [0.1, 0.2, 0.7]]
    table = Table.from_sequences(gaussian_sequences, kind="real")
    found = quietly(
        "hidden_markov", table, states=3, topology=topology, initial=[1.0, 0.0, 0.0], max_steps=50, restarts=1
    )
    chain = found.parameters()["chain"]
    assert chain["transition"][0, 0] == pytest.approx(0.5)
    assert chain["transition"][1, 0] == 0
    np.testing.assert_allclose(chain["transition"][2], topology[2])
    np.testing.assert_allclose(chain["transition"].sum(1), 1)
    np.testing.assert_array_equal(chain["initial"][0], [1, 0, 0])


def test_a_state_that_nothing_reaches_is_told_and_harmless(gaussian_sequences):
    never = [[np.nan, np.nan, 0.0], [np.nan, np.nan, 0.0], [np.nan, np.nan, np.nan]]
    table = Table.from_sequences(gaussian_sequences, kind="real")
    found = quietly(
        "hidden_markov", table, states=3, topology=never, initial=[np.nan, np.nan, 0.0], max_steps=30, restarts=1
    )
    assert found.diagnostics["empty"] == {"chain": [2]}
    assert np.isfinite(np.asarray(found.log_prob(table))).all()
    assert 2 not in found.viterbi(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topology": "ring"}, "topology must be one of"),
        ({"topology": [[0.5, 0.6], [np.nan, np.nan]]}, "sum to at most one"),
        ({"topology": [[0.5, 0.4], [np.nan, np.nan]]}, "leaves no entry free"),
        ({"topology": [[1.0]]}, r"shape \(2, 2\)"),
        ({"states": 0}, "states must be a whole number"),
        ({"families": {"x9": "poisson"}}, "families names column 'x9'"),
        ({"families": {"x0": "poisson"}}, "families for it"),
    ],
)
def test_bad_options_are_refused(gaussian_sequences, options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        pg.fit("hidden_markov", Table.from_sequences(gaussian_sequences, kind="real"), **{"states": 2} | options)


@pytest.mark.parametrize("kind", ["duplicates", "single rows", "more states than steps"])
def test_degenerate_data_give_finite_answers(kind):
    rng = np.random.default_rng(0)
    sequences = {
        "duplicates": [np.repeat([[0.0, 1.0]], 25, 0), np.repeat([[3.0, 1.5]], 25, 0)],
        "single rows": [rng.normal(size=(1, 2)) for _ in range(30)],
        "more states than steps": [rng.normal(size=(5, 2))],
    }[kind]
    table = Table.from_sequences(sequences, kind="real")
    found = quietly("hidden_markov", table, states=8 if kind.startswith("more") else 2, max_steps=50, restarts=1)
    assert np.isfinite(np.asarray(found.log_prob(table))).all()
    assert np.isfinite(found.history["objective"]).all()
    assert np.isfinite(found.sample(2, steps=4).values).all()


# --------------------------------------------------------------------------------------------------------- verbs
@pytest.fixture(scope="module")
def known_model():
    """A fitted model of two clear states."""
    rng = np.random.default_rng(5)
    sequences = []
    for _ in range(20):
        path = np.cumsum(rng.random(100) < 0.05) % 2
        sequences.append(4.0 * path + rng.normal(size=100))
    return quietly("hidden_markov", Table.from_sequences(sequences, kind="real"), states=2)


def test_filter_smoother_and_path_agree_at_the_end(known_model):
    table = known_model.sample(5, steps=30, seed=3)
    filtered, smoothed, path = known_model.filter(table), known_model.embed(table), known_model.viterbi(table)
    ends = np.cumsum(table.lengths) - 1
    np.testing.assert_allclose(filtered[ends], smoothed[ends], atol=1e-12)
    np.testing.assert_allclose(smoothed.sum(1), 1)
    assert (path == smoothed.argmax(1)).mean() > 0.97


def test_filled_steps_follow_the_posterior(known_model):
    table = known_model.sample(1, steps=12, seed=1)
    values = table.values.copy()
    values[5:8] = np.nan
    holed = table.with_values(values)
    drawn = np.stack([t.values[6, 0] for t in known_model.fill(holed, 4000)])
    weight = known_model.embed(holed)[6]
    parameters = known_model.parameters()["emission.real"]
    loc = known_model.standardiser.inverse(parameters["loc"])[:, 0]
    scale = parameters["scale"][:, 0] * known_model.standardiser.scale[0]
    mean = weight @ loc
    variance = weight @ (scale**2 + loc**2) - mean**2
    assert drawn.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / 4000))
    assert drawn.var() == pytest.approx(variance, rel=0.12)


@pytest.mark.slow
@pytest.mark.stats
def test_forecast_intervals_cover(known_model):
    whole = known_model.sample(1500, steps=17, seed=11).values.reshape(1500, 17)
    table = Table.from_sequences(list(whole[:, :15]), schema=known_model.schema)
    cells = known_model.forecast(table, 2, draws=400)
    low, high = cells.quantiles([0.05, 0.95])
    truth = whole[:, 15:].ravel()
    assert len(cells) == 3000
    assert 0.88 < np.mean((low <= truth) & (truth <= high)) < 0.92


def test_forecasts_need_sequences(known_model):
    with pytest.raises(pg.CapabilityError, match="needs sequences"):
        known_model.forecast(Table({"x0": [1.0, 2.0, 3.0]}, schema=known_model.schema), 2)


# ------------------------------------------------------------------------------------------------- other chains
def test_semi_markov_is_a_sum_over_segmentations():
    rng = np.random.default_rng(2)
    table = Table.from_sequences([rng.normal(size=30), rng.normal(size=20)], kind="real")
    found = quietly("semi_markov", table, states=2, longest=3, max_steps=10, restarts=1)
    chain, emission = found.parameters()["chain"], found.parameters()["emission.real"]
    x = found.standardiser.forward(table.values[:5])[:, 0]

    def after(t, state):
        """Density of what comes from step t on, where a segment of this state begins there."""
        total = 0.0
        for length in range(1, 4):
            stop = min(t + length, 5)
            weight = chain["duration"][state, length - 1]
            weight *= norm(emission["loc"][state, 0], emission["scale"][state, 0]).pdf(x[t:stop]).prod()
            rest = 1.0 if stop == 5 else sum(chain["transition"][state, k] * after(stop, k) for k in range(2))
            total += weight * rest
        return total

    expected = np.log(sum(chain["initial"][0, k] * after(0, k) for k in range(2))) - 5 * np.log(
        found.standardiser.scale[0]
    )
    short = Table.from_sequences([table.values[:5]], schema=table.schema)
    assert float(np.asarray(found.log_prob(short))[0]) == pytest.approx(expected, abs=1e-9)
    assert found.diagnostics["monotone"]
    np.testing.assert_array_equal(np.diag(chain["transition"]), 0)


def test_durations_are_recovered():
    rng = np.random.default_rng(0)
    path = np.concatenate([np.full(3 if k % 2 else 7, k % 2) for k in range(120)])
    table = Table.from_sequences([5.0 * path + rng.normal(size=len(path))], kind="real")
    found = quietly("semi_markov", table, states=2, longest=12)
    duration = found.parameters()["chain"]["duration"]
    assert sorted(duration.argmax(1) + 1) == [3, 7]
    assert duration.max(1).min() > 0.9


def test_factorial_chains_are_one_chain_over_their_product(gaussian_sequences):
    table = Table.from_sequences(punched(gaussian_sequences, 0.1), kind="real")
    found = quietly("factorial_hidden_markov", table, states=2, chains=2, max_steps=40, restarts=1)
    assert found.diagnostics["monotone"]
    parameters = found.parameters()
    one, two = parameters["chain0"], parameters["chain1"]
    flat = quietly("hidden_markov", table, states=4, covariance="tied", max_steps=1, restarts=1)
    theta = {
        "chain": chain_start(
            np.kron(one["initial"], two["initial"])[0], np.kron(one["transition"], two["transition"])
        ),
        "emission.gaussian": {
            k: v[0, 0] for k, v in found.posterior.parameters["emission.gaussian"].items() if k != "weights"
        },
    }
    from dataclasses import replace

    from probgen.inference.posterior import Posterior

    same = replace(flat, posterior=Posterior.at(theta))
    np.testing.assert_allclose(np.asarray(same.log_prob(table)), np.asarray(found.log_prob(table)), atol=1e-9)


def test_one_state_is_a_linear_regression():
    rng = np.random.default_rng(4)
    u = rng.normal(size=(200, 2))
    x = 1.0 + u @ [2.0, -1.0] + 0.5 * rng.normal(size=200)
    table = Table.from_sequences([np.column_stack([x, u])], kind="real", names=["x", "u", "v"])
    found = quietly("regression_hidden_markov", table, states=1, inputs=("u", "v"), prior=None)
    design = np.column_stack([np.ones(200), u])
    beta, *_ = np.linalg.lstsq(design, x, rcond=None)
    residual = x - design @ beta
    expected = norm(0, residual.std()).logpdf(residual).sum()
    assert float(np.asarray(found.log_prob(table)).sum()) == pytest.approx(expected, abs=1e-6)


def test_switching_autoregression_is_recovered_and_forecast():
    rng = np.random.default_rng(0)
    x, z = np.zeros(1500), (np.cumsum(rng.random(1500) < 0.03) % 2).astype(int)
    for t in range(1, 1500):
        x[t] = (0.9 if z[t] else -0.6) * x[t - 1] + 0.5 * rng.normal()
    table = Table.from_sequences([x[:700], x[700:1400]], kind="real")
    found = quietly("regression_hidden_markov", table, states=2, lags=1)
    slopes = np.sort(found.parameters()["regression.gaussian"]["weights"][:, 0, 1])
    np.testing.assert_allclose(slopes, [-0.6, 0.9], atol=0.12)
    ahead = found.forecast(table, 3, draws=100)
    assert np.isfinite(ahead.mean).all()
    values = table.values.copy()
    values[300] = np.nan
    with pytest.raises(pg.DataError, match="autoregressive"):
        found.log_prob(table.with_values(values))


def test_logistic_emissions_climb_and_find_the_switch():
    rng = np.random.default_rng(1)
    u, z = rng.normal(size=800), np.cumsum(rng.random(800) < 0.03) % 2
    y = (rng.random(800) < 1 / (1 + np.exp(-np.where(z, 3.0, -3.0) * u))).astype(float)
    table = Table.from_sequences([np.column_stack([y, u])], names=["y", "u"])
    found = quietly("regression_hidden_markov", table, states=2, inputs=("u",), restarts=4)
    assert found.diagnostics["monotone"]
    agree = (found.viterbi(table) == z).mean()
    assert max(agree, 1 - agree) > 0.9


def test_unknown_inputs_are_refused():
    y, u = np.random.default_rng(0).normal(size=(2, 9))
    u[0] = np.nan
    table = Table.from_sequences([np.column_stack([y, u])], names=["y", "u"])
    with pytest.raises(pg.DataError, match=r"'u' is an input .* unknown in row 0"):
        pg.fit("regression_hidden_markov", table, states=1, inputs=("u",))
