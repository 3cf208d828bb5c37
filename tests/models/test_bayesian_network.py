"""Bayesian networks against enumeration, joint Gaussians, closed forms and pyAgrum."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.errors import SchemaError
from probgen.inference.methods.em import expected_statistics
from probgen.inference.sum_product import make_plan
from probgen.queries.marginals import node_probabilities
from tests.networks import LEVELS, STRUCTURE, enumerated, given_network, random_network

HIDDEN = {"c": 2}


def holes(table, share, seed=0):
    values = table.values.copy()
    values[np.random.default_rng(seed).random(values.shape) < share] = np.nan
    return table.with_values(values)


def some_known(table):
    """The rows with at least one known cell."""
    return table.take(table.known.any(1))


# ------------------------------------------------------------------------------------------------------ discrete
def test_log_prob_with_holes_is_the_sum_over_all_states():
    fit, joint = random_network(0)
    table = holes(fit.sample(60, seed=1), 0.4)
    expected = [np.log(enumerated(joint, row).sum()) for row in table.values]
    np.testing.assert_allclose(fit.log_prob(table).value, expected, atol=1e-12)


def test_marginals_from_one_backward_pass_are_those_of_the_joint_table():
    fit, joint = random_network(1)
    table = holes(fit.sample(50, seed=2), 0.5)
    found = node_probabilities(fit, table)
    for row, values in enumerate(table.values):
        posterior = enumerated(joint, values)
        for at, column in enumerate(table.schema):
            if np.isnan(values[at]):
                others = tuple(a for a in range(joint.ndim) if a != at)
                expected = posterior.sum(others) / posterior.sum()
                np.testing.assert_allclose(found[column.name][row], expected, atol=1e-12)


def test_fills_have_the_frequencies_of_the_conditional_distribution():
    fit, joint = random_network(2)
    row = Table.from_codes(np.array([[1, np.nan, np.nan, 0, np.nan, np.nan]], dtype=float), fit.schema)
    posterior = enumerated(joint, row.values[0])
    posterior = posterior / posterior.sum()
    drawn = np.concatenate([t.values for t in fit.fill(row.take(np.zeros(1000, dtype=int)), 20)]).astype(int)
    counts = np.zeros(joint.shape)
    np.add.at(counts, tuple(drawn.T), 1)
    error = np.sqrt(posterior * (1 - posterior) / len(drawn))
    assert np.abs((counts / len(drawn) - posterior) / np.where(error > 0, error, 1)).max() < 4.5  # of 144 states
    assert counts[posterior == 0].sum() == 0


@pytest.mark.parametrize("hidden", [False, True])
def test_expected_counts_are_sums_of_posteriors(hidden):
    fit, joint = random_network(3, hidden=HIDDEN if hidden else None)
    table = holes(random_network(3)[0].sample(40, seed=3), 0.3)
    table = table.select(fit.schema.names)
    with fit.setting():
        batch = fit.batches(table, 100).batch(table)
        families = dict(zip(fit.program.nodes.names, fit.program.nodes.families, strict=True))
        _, found = expected_statistics(fit.program, families, fit.posterior.theta(), batch)
    order = list(LEVELS)
    for node, parents in STRUCTURE.items():
        expected = 0.0
        for row in table.values:
            full = np.full(len(order), np.nan)
            for name, value in zip(table.names, row, strict=True):
                full[order.index(name)] = value
            posterior = enumerated(joint, full)
            keep = [order.index(name) for name in (*fit.program.nodes.order[node], node)]
            others = tuple(a for a in range(joint.ndim) if a not in keep)
            part = posterior.sum(others) / posterior.sum()
            expected = expected + part.transpose(np.argsort(np.argsort(keep)))
        np.testing.assert_allclose(found[node]["logits"].numpy(), expected.reshape(-1, LEVELS[node]), atol=1e-10)
        assert len(parents) == len(fit.program.nodes.order[node])


@pytest.mark.parametrize("prior", ["default", None, {"equivalent_sample_size": 10}])
def test_em_with_holes_and_a_hidden_node_is_monotone(prior):
    table = holes(random_network(4)[0].sample(400, seed=4), 0.15).drop(["c"])
    fit = pg.fit(
        "bayesian_network", table, structure=STRUCTURE, hidden_nodes=HIDDEN, prior=prior, restarts=2, max_steps=80,
        tolerance=1e-4, progress=False,
    )  # fmt: skip
    assert np.diff(fit.history["objective"]).min() > -1e-10
    assert fit.history["objective"][-1] > fit.history["objective"][0] + 1e-3


def test_a_state_that_only_rows_with_a_hole_show_is_learnt_without_a_prior():
    table = Table({"a": ["x", "x", "z"] * 20, "b": ["y", "w", None] * 20})
    fit = pg.fit("bayesian_network", table, structure={"b": ["a"]}, prior=None, progress=False)
    assert fit.diagnostics["monotone"]
    assert fit.query("a")["a"]["z"] == pytest.approx(1 / 3, abs=1e-6)
    assert fit.query("b", {"a": "x"})["b"]["w"] == pytest.approx(0.5, abs=1e-6)


def test_complete_data_give_frequencies_at_once_and_pseudo_counts_the_dirichlet_mean():
    table = random_network(5)[0].sample(500, seed=5)
    plain = pg.fit("bayesian_network", table, structure=STRUCTURE, prior=None, progress=False)
    smooth = pg.fit(
        "bayesian_network", table, structure=STRUCTURE, prior={"equivalent_sample_size": 12}, progress=False
    )
    codes = table.values.astype(int)
    counts = np.zeros((2, 3, 2))  # of e given b and d
    np.add.at(counts, (codes[:, 1], codes[:, 3], codes[:, 4]), 1)
    counts = counts.reshape(-1, 2)
    assert plain.diagnostics["steps"] == 1
    assert plain.history["log_likelihood"][-1] == pytest.approx(plain.log_prob(table).mean().value, abs=1e-12)
    np.testing.assert_allclose(plain.parameters()["e"]["probs"], counts / counts.sum(1, keepdims=True), atol=1e-12)
    pseudo = counts + 12 / counts.size
    np.testing.assert_allclose(smooth.parameters()["e"]["probs"], pseudo / pseudo.sum(1, keepdims=True), atol=1e-12)


def test_repeated_rows_are_merged_without_a_trace():
    table = holes(random_network(6)[0].sample(2000, seed=6), 0.1)
    once, which = table.distinct()
    assert len(once) < 0.8 * len(table)
    np.testing.assert_array_equal(once.values[which], table.values)
    options = {"structure": STRUCTURE, "max_steps": 5, "tolerance": 0.0, "progress": False}
    with pytest.warns(pg.ConvergenceWarning):
        merged = pg.fit("bayesian_network", table, **options)
    with pytest.warns(pg.ConvergenceWarning):
        weighted = pg.fit("bayesian_network", once, **options)
    np.testing.assert_allclose(merged.history["objective"], weighted.history["objective"], rtol=1e-10)


def test_a_long_chain_of_improbable_values_neither_underflows_nor_slows():
    n = 400
    names = [f"x{i}" for i in range(n)]
    states = {name: ["a", "b"] for name in names}
    tables = {name: np.array([[1 - 1e-9, 1e-9]] * 2) if at else np.array([0.5, 0.5]) for at, name in enumerate(names)}
    fit = given_network(states, {b: [a] for a, b in itertools.pairwise(names)}, tables)
    values = np.full((2, n), np.nan)
    values[0, 1::2] = 1
    values[1, :] = 1
    expected = [200 * np.log(1e-9), np.log(0.5) + 399 * np.log(1e-9)]
    np.testing.assert_allclose(fit.log_prob(Table.from_codes(values, fit.schema)).value, expected, rtol=1e-12)


def test_values_that_fall_out_of_the_range_of_probabilities_are_found_by_logarithms():
    states = {name: ["a", "b"] for name in "xyz"}
    tiny = 1e-300
    tables = {
        "x": np.array([1 - tiny, tiny]),
        "y": np.array([[1 - tiny, tiny], [tiny, 1 - tiny]]),
        "z": np.array([[1.0, 0.0], [1 - tiny, tiny]]),
    }
    fit = given_network(states, {"y": ["x"], "z": ["y"]}, tables)
    row = Table.from_codes(np.array([[np.nan, np.nan, 1.0], [0.0, np.nan, 1.0]]), fit.schema)
    expected = [np.log(2.0) + 2 * np.log(tiny), 2 * np.log(tiny)]
    np.testing.assert_allclose(fit.log_prob(row).value, expected, rtol=1e-10)


@pytest.mark.reference
def test_expected_counts_are_pyagrums_posteriors():
    gum = pytest.importorskip("pyagrum")
    fit, _ = random_network(7)
    peer = gum.BayesNet()
    for name, size in LEVELS.items():
        peer.add(gum.LabelizedVariable(name, name, [str(s) for s in range(size)]))
    for name, parents in STRUCTURE.items():
        for parent in parents:
            peer.addArc(parent, name)
    for name in LEVELS:
        order = [*fit.program.nodes.order[name], name]
        probs = fit.parameters()[name]["probs"].reshape([LEVELS[n] for n in order])
        wanted = list(reversed(peer.cpt(name).names))
        peer.cpt(name)[:] = np.ascontiguousarray(probs.transpose([order.index(n) for n in wanted]))
    table = holes(fit.sample(15, seed=7), 0.4, seed=1)
    found = node_probabilities(fit, table)
    for row, values in enumerate(table.values):
        inference = gum.LazyPropagation(peer)
        inference.setEvidence({n: int(v) for n, v in zip(table.names, values, strict=True) if not np.isnan(v)})
        inference.makeInference()
        for at, name in enumerate(table.names):
            if np.isnan(values[at]):
                np.testing.assert_allclose(found[name][row], inference.posterior(name).toarray(), atol=1e-6)


# ---------------------------------------------------------------------------------------------------- continuous
CONTINUOUS = {"a": [], "b": ["a"], "c": ["a", "b"], "d": ["c"]}


def gaussian_fit(rows=300, seed=0, **options):
    rng = np.random.default_rng(seed)
    a = rng.normal(1, 2, rows)
    b = 0.5 * a + rng.normal(0, 1, rows)
    c = a - b + rng.normal(0, 0.5, rows)
    d = 2 * c + rng.normal(3, 1, rows)
    table = Table(np.column_stack([a, b, c, d]), schema=Schema(tuple(Column(n, "real") for n in "abcd")))
    return pg.fit("bayesian_network", table, structure=CONTINUOUS, prior=None, progress=False, **options), table


def joint_gaussian(fit):
    """Mean and covariance in the table's units."""
    weight, noise, offset = np.zeros((4, 4)), np.zeros(4), np.zeros(4)
    for at, name in enumerate("abcd"):
        found = fit.parameters()[name]
        for column, parent in enumerate(fit.program.nodes.order[name]):
            weight[at, "abcd".index(parent)] = found["matrix"][0, 0, column]
        offset[at], noise[at] = found["offset"][0, 0], found["variance"][0, 0]
    spread = np.linalg.inv(np.eye(4) - weight)
    scale = fit.standardiser.scale
    return fit.standardiser.shift + scale * (spread @ offset), scale[:, None] * (spread * noise @ spread.T) * scale


def test_a_gaussian_network_with_holes_is_its_joint_gaussian():
    fit, table = gaussian_fit()
    mean, covariance = joint_gaussian(fit)
    some = holes(table.take(np.arange(80)), 0.4, seed=3)
    expected = []
    for row in some.values:
        seen = ~np.isnan(row)
        expected.append(
            multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(row[seen]) if seen.any() else 0.0
        )
    np.testing.assert_allclose(fit.log_prob(some).value, expected, atol=1e-9)


def test_gaussian_fills_have_the_conditional_mean_and_covariance():
    fit, _ = gaussian_fit()
    mean, covariance = joint_gaussian(fit)
    row = np.array([np.nan, 1.0, np.nan, 2.0])
    one = Table.from_codes(np.repeat(row[None], 4000, 0), fit.schema)
    drawn = fit.fill(one, 1)[0].values[:, [0, 2]]
    gain = covariance[np.ix_([0, 2], [1, 3])] @ np.linalg.inv(covariance[np.ix_([1, 3], [1, 3])])
    expected = mean[[0, 2]] + gain @ (row[[1, 3]] - mean[[1, 3]])
    left = covariance[np.ix_([0, 2], [0, 2])] - gain @ covariance[np.ix_([1, 3], [0, 2])]
    assert np.abs((drawn.mean(0) - expected) / np.sqrt(np.diag(left) / 4000)).max() < 4
    np.testing.assert_allclose(np.cov(drawn.T), left, rtol=0.15, atol=0.02)


def test_gaussian_em_with_holes_is_monotone_and_beats_complete_rows():
    _, table = gaussian_fit(rows=200)
    hidden = some_known(holes(table, 0.3, seed=5))
    fit = pg.fit("bayesian_network", hidden, structure=CONTINUOUS, prior=None, progress=False, tolerance=1e-7)
    assert np.diff(fit.history["objective"]).min() > -1e-9
    complete = hidden.take(hidden.known.all(1))
    few = pg.fit("bayesian_network", complete, structure=CONTINUOUS, prior=None, progress=False)
    assert fit.log_prob(table).mean().value > few.log_prob(table).mean().value


def test_a_hidden_class_over_coupled_columns_is_a_mixture_of_gaussians():
    rng = np.random.default_rng(8)
    z = rng.integers(2, size=200)
    x = rng.normal(3.0 * z, 1.0)
    table = Table(
        np.column_stack([x, rng.normal(x * (1 - 2 * z), 0.5)]),
        schema=Schema((Column("x", "real"), Column("y", "real"))),
    )
    fit = pg.fit(
        "bayesian_network", table, structure={"x": ["z"], "y": ["z", "x"]}, hidden_nodes={"z": 2}, prior=None, seed=1,
        progress=False,
    )  # fmt: skip
    peer = pg.fit("gaussian_mixture", table, components=2, prior=None, progress=False)
    assert fit.log_prob(table).mean().value == pytest.approx(peer.log_prob(table).mean().value, abs=1e-4)


def test_one_discrete_parent_and_holes_integrate_to_the_mixture():
    rng = np.random.default_rng(9)
    s = rng.integers(2, size=300)
    u = rng.normal(2.0 * s, 1.0)
    v = rng.lognormal(0.3 * u + s, 0.4)
    schema = Schema((Column("s", "binary", levels=("m", "f")), Column("u", "real"), Column("v", "positive")))
    table = Table.from_codes(np.column_stack([s, u, v]), schema)
    fit = pg.fit(
        "bayesian_network", some_known(holes(table, 0.2)), structure={"u": ["s"], "v": ["s", "u"]}, progress=False
    )
    row = Table.from_codes(np.array([[np.nan, np.nan, 3.0]]), schema)
    grid = np.linspace(-12, 16, 4001)
    total = 0.0
    for code in (0.0, 1.0):
        values = np.column_stack([np.full(4001, code), grid, np.full(4001, 3.0)])
        total += np.trapezoid(np.exp(fit.log_prob(Table.from_codes(values, schema)).value), grid)
    assert np.exp(fit.log_prob(row).value[0]) == pytest.approx(total, rel=1e-6)


# --------------------------------------------------------------------------------------------------- posteriors
@pytest.mark.stats
def test_gibbs_agrees_with_the_dirichlet_posterior():
    table = random_network(10)[0].sample(80, seed=8)
    fit = pg.fit(
        "bayesian_network", table, structure=STRUCTURE, prior={"pseudo_count": 0.0}, method="gibbs", chains=1, draws=400,
        warmup=1, progress=False,
    )  # fmt: skip
    codes = table.values.astype(int)
    counts = np.zeros((2, 3, 2))
    np.add.at(counts, (codes[:, 1], codes[:, 3], codes[:, 4]), 1)
    strength = counts.reshape(-1, 2) + 1.0
    mean = strength / strength.sum(1, keepdims=True)
    variance = mean * (1 - mean) / (strength.sum(1, keepdims=True) + 1)
    drawn = fit.posterior.parameters["e"]["logits"].exp()[0].numpy()
    assert np.abs((drawn.mean(0) - mean) / np.sqrt(variance / 400)).max() < 4.5
    np.testing.assert_allclose(drawn.var(0), variance, rtol=0.35)


@pytest.mark.slow
@pytest.mark.stats
def test_nuts_agrees_with_the_dirichlet_posterior():
    states = {"a": ["0", "1"], "b": ["0", "1"]}
    source = given_network(states, {"b": ["a"]}, {"a": np.array([0.3, 0.7]), "b": np.array([[0.2, 0.8], [0.6, 0.4]])})
    table = source.sample(60, seed=1)
    fit = pg.fit(
        "bayesian_network", table, structure={"b": ["a"]}, prior={"pseudo_count": 0.0}, method="nuts", chains=2, draws=500,
        warmup=300, progress=False,
    )  # fmt: skip
    codes = table.values.astype(int)
    counts = np.zeros((2, 2))
    np.add.at(counts, (codes[:, 0], codes[:, 1]), 1)
    strength = counts + 1.0
    mean = strength / strength.sum(1, keepdims=True)
    variance = mean * (1 - mean) / (strength.sum(1, keepdims=True) + 1)
    drawn = fit.posterior.parameters["b"]["logits"].exp().flatten(0, 1).numpy()
    assert np.abs((drawn.mean(0) - mean) / np.sqrt(variance / fit.diagnostics["ess"])).max() < 4.5


# ------------------------------------------------------------------------------------------------------ the engine
def test_the_order_of_elimination_depends_on_shapes_alone():
    plan = make_plan((((0,), False), ((0, 1), False), ((1, 2), True)), (2, 3, 4), 1024, frozenset())
    assert [step.symbol for step in plan.steps] == [0, 1, 2]
    assert plan.numbers(10) == 6 + 10 * (12 + 4)


def test_gradients_of_the_network_are_right_to_second_order():
    fit, _ = random_network(11)
    table = holes(fit.sample(5, seed=9), 0.5)
    from probgen.inference.evidence import log_evidence

    with fit.setting():
        batch = fit.batches(table, 10).batch(table)
        theta = fit.posterior.theta()

        def value(logits):
            leaf = {**theta, "e": {"logits": logits}}
            return log_evidence(fit.program, batch, theta=leaf, settle=True).rows.sum()

        logits = theta["e"]["logits"].clone().requires_grad_()
        assert torch.autograd.gradcheck(value, (logits,))
        assert torch.autograd.gradgradcheck(value, (logits,))


# ------------------------------------------------------------------------------------------------------- bad input
SMALL = Table({"smoker": ["no", "yes", "no", "yes"] * 10, "age": np.arange(40.0), "visits": [0, 1, 2, 5] * 10})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structure": {"smoker": ["age"], "age": ["smoker"]}}, "cycle: "),
        ({"structure": {"smoker": ["smoker"]}}, "smoker -> smoker"),
        ({"structure": {"smoker": ["smokr"]}}, "'smokr', which there is not. Did you mean 'smoker'"),
        ({"structure": {"age": "smoker"}}, r"write \['smoker'\]"),
        ({"structure": [("smoker", "age", "visits")]}, "list of edges"),
        ({"structure": {"age": ["smoker", "smoker"]}}, "names parent 'smoker' twice"),
        ({"structure": {"age": ["visits"]}}, "cannot be the parent"),
        ({"structure": {}, "hidden_nodes": {"age": 2}}, "is a column of the table"),
        ({"structure": {}, "hidden_nodes": {"h": 1}}, "at least 2"),
        (
            {"structure": {}, "nodes": {"smoker": {"kind": "tree", "equivalent_sample_size": "x"}}},
            "must be a number, positive",
        ),
        ({"structure": {}, "hidden_nodes": {"h": 2.5}}, "number of levels or a list"),
        ({"structure": {}, "prior": {"ess": 3}}, "equivalent_sample_size"),
        ({"structure": {}, "prior": {"pseudo_count": -1}}, "at least 0"),
        ({"structure": {}, "nodes": {"agee": "gamma"}}, "Did you mean 'age'"),
    ],
)
def test_bad_networks_are_refused_by_name(options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        pg.fit("bayesian_network", SMALL, progress=False, **options)


@pytest.mark.parametrize("method", ["nuts", "map", "svi"])
def test_a_column_named_as_a_parameter_is_refused_where_both_are_sites(method):
    table = Table({"a": ["x", "y", "x", "x"] * 5, "a.probs": ["u", "v", "w", "u"] * 5})
    options = {"structure": {"a": ["a.probs"]}, "progress": False}
    with pytest.raises(SchemaError, match=r"'a\.probs' is both .* parameters of 'a'; rename the column"):
        pg.fit("bayesian_network", table, method=method, **options)
    assert pg.fit("bayesian_network", table, **options).query("a", {"a.probs": "v"})["a"]["y"] > 0.5


def test_two_nodes_whose_parameters_have_one_name_are_refused():
    table = Table({"n": list(range(12)) * 5, "n.count": ["u", "v", "w"] * 20})
    assert table.schema["n"].kind == "count"
    with pytest.raises(SchemaError, match=r"'n\.count' is both"):
        pg.fit("bayesian_network", table, structure={}, progress=False)


def test_a_table_too_large_is_refused_with_the_remedy():
    schema = Schema(tuple(Column(f"x{i}", "binary", levels=(0, 1)) for i in range(30)))
    table = Table.from_codes(np.random.default_rng(0).integers(2, size=(50, 30)).astype(float), schema)
    with pytest.raises(pg.CapabilityError, match="noisy_or"):
        pg.fit("bayesian_network", table, structure={"x29": [f"x{i}" for i in range(29)]}, progress=False)
