"""Questions to networks: exact answers against enumeration, approximate ones within their errors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.plots.network import beliefs
from probgen.queries.network_tables import network_of
from tests.networks import LEVELS, enumerated, given_network, random_network

ORDER = list(LEVELS)


@pytest.fixture(scope="module")
def network():
    return random_network(20)


def posterior(joint, given):
    row = np.array([given.get(name, np.nan) for name in ORDER], dtype=float)
    found = enumerated(joint, row)
    return found / found.sum(), np.log(found.sum())


def alone(joint, name):
    return joint.sum(tuple(a for a in range(joint.ndim) if a != ORDER.index(name)))


@pytest.mark.parametrize("given", [{}, {"f": 2}, {"a": 1, "e": 0}, {"d": 2, "f": 0, "b": 1}])
def test_all_marginals_and_the_evidence_are_those_of_the_joint_table(network, given):
    fit, joint = network
    answer = fit.query(given=given)
    expected, log_evidence = posterior(joint, given)
    assert set(answer.marginals) == set(ORDER) - set(given)
    for name, states in answer.marginals.items():
        np.testing.assert_allclose(list(states.values()), alone(expected, name), atol=1e-12)
    assert answer.log_probability == pytest.approx(log_evidence, abs=1e-12)


def test_one_target_is_asked_by_name_and_several_together(network):
    fit, joint = network
    expected, _ = posterior(joint, {"f": 1})
    assert fit.query("a", {"f": 1})["a"] == pytest.approx(dict(enumerate(alone(expected, "a"))))
    answer = fit.query(["d", "a"], {"f": 1}, joint=True)
    np.testing.assert_allclose(answer.joint, expected.sum((1, 2, 4, 5)).T, atol=1e-12)
    assert answer.targets == ("d", "a")
    assert "together: d, a" in str(answer)
    assert sum(r["probability"] for r in answer.records()) == pytest.approx(2.0)


def test_soft_evidence_weighs_states(network):
    fit, joint = network
    likelihood = np.array([0.2, 0.5, 0.1])
    weighted = joint * likelihood.reshape(1, 1, 1, 3, 1, 1)
    weighted /= weighted.sum()
    answer = fit.query("a", soft={"d": dict(enumerate(likelihood))})
    np.testing.assert_allclose(list(answer["a"].values()), alone(weighted, "a"), atol=1e-12)
    assert fit.query("d", soft={"d": likelihood})["d"] == pytest.approx(dict(enumerate(alone(weighted, "d"))))


def test_interventions_say_nothing_of_causes_and_all_of_effects(network):
    fit, joint = network
    before = fit.query("b")["b"]
    assert fit.query("b", do={"d": 2})["b"] == pytest.approx(before)
    forced = joint.sum((3, 4, 5), keepdims=True)  # p(a, b, c)
    tables = network_of(fit).tables
    e_given = tables[ORDER.index("e")]
    effect = np.einsum("abc,be->e", forced[..., 0, 0, 0], e_given[:, 2, :])
    np.testing.assert_allclose(list(fit.query("e", do={"d": 2})["e"].values()), effect, atol=1e-12)
    assert fit.query("e", {"d": 2})["e"] != pytest.approx(dict(enumerate(effect)))


def test_samples_given_and_forced_follow_the_queries(network):
    fit, _ = network
    rows = fit.sample(20_000, given={"f": 1}, do={"d": 2}, seed=3)
    assert set(rows.column("d")) == {2}
    assert set(rows.column("f")) == {1}
    share = np.mean(rows.column("a") == 1)
    expected = fit.query("a", {"f": 1}, do={"d": 2})["a"][1]
    assert share == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 20_000))


@pytest.mark.parametrize("given", [{}, {"f": 2}, {"a": 1, "e": 0}])
def test_the_most_probable_states_are_the_largest_entry(network, given):
    fit, joint = network
    expected, _ = posterior(joint, given)
    best = np.unravel_index(expected.argmax(), expected.shape)
    found = fit.most_probable(given)
    assert {**found, **given} == dict(zip(ORDER, map(int, best), strict=True))
    some = expected.sum((1, 2, 4, 5))  # of a and d
    if not {"a", "d"} & set(given):
        a, d = np.unravel_index(some.argmax(), some.shape)
        assert fit.most_probable(given, ["a", "d"]) == {"a": a, "d": d}


def test_the_most_probable_states_are_asked_of_unknown_nodes(network):
    with pytest.raises(pg.errors.CapabilityError, match="'a' is asked for and known"):
        network[0].most_probable({"a": 1}, targets=["a"])
    with pytest.raises(pg.errors.CapabilityError, match="'a' is asked for and known"):
        network[0].most_probable({"a": 1}, targets=["a", "b"])
    assert network[0].most_probable(dict.fromkeys(ORDER, 0)) == {}


def test_the_most_probable_completions_of_a_table(network):
    fit, joint = network
    values = fit.sample(30, seed=5).values.copy()
    values[np.random.default_rng(0).random(values.shape) < 0.5] = np.nan
    filled = fit.most_probable(Table.from_codes(values, fit.schema))
    for row, completed in zip(values, filled.values, strict=True):
        assert joint[tuple(completed.astype(int))] == pytest.approx(enumerated(joint, row).max())
        np.testing.assert_array_equal(completed[~np.isnan(row)], row[~np.isnan(row)])


def test_entropy_and_mutual_information(network):
    fit, joint = network
    table, _ = posterior(joint, {"f": 1})
    ad = table.sum((1, 2, 4, 5))
    entropy = -(ad * np.log(ad)).sum()
    assert fit.entropy(["a", "d"], {"f": 1}) == pytest.approx(entropy)
    expected = (ad * np.log(ad / ad.sum(1, keepdims=True) / ad.sum(0))).sum()
    assert fit.mutual_information("a", "d", {"f": 1}) == pytest.approx(expected)
    assert fit.mutual_information("a", "f", {"c": 0, "b": 1, "d": 1, "e": 1}) == pytest.approx(0, abs=1e-12)


@pytest.mark.stats
@pytest.mark.parametrize("method", ["importance", "gibbs"])
def test_approximate_answers_stand_within_their_errors(network, method):
    fit, _ = network
    given, soft = {"f": 2, "b": 1}, {"d": [0.5, 1.0, 0.7]}
    exact = fit.query(given=given, soft=soft)
    found = fit.query(given=given, soft=soft, method=method, draws=20_000, seed=1)
    assert found.kind == method
    for name, states in exact.marginals.items():
        for state, share in states.items():
            assert found[name][state] == pytest.approx(share, abs=5 * found.standard_errors[name][state] + 1e-3)
            assert found.standard_errors[name][state] < 0.02
    if method == "importance":
        assert found.log_probability == pytest.approx(exact.log_probability, abs=0.05)
        forced = fit.query("e", do={"d": 2}, method="importance", draws=20_000)
        assert forced["e"][0] == pytest.approx(fit.query("e", do={"d": 2})["e"][0], abs=0.02)


def test_chains_that_cannot_move_say_so():
    states = {"a": ["0", "1"], "b": ["0", "1"]}
    fit = given_network(states, {"b": ["a"]}, {"a": np.array([0.5, 0.5]), "b": np.eye(2)})
    with pytest.warns(pg.ConvergenceWarning, match="have not mixed"):
        fit.query(method="gibbs", draws=2000)


def test_far_evidence_is_told_by_weighted_draws():
    states = {"a": ["0", "1"], "b": ["0", "1"]}
    tables = {"a": np.array([0.99, 0.01]), "b": np.array([[0.999, 0.001], [0.0, 1.0]])}
    fit = given_network(states, {"b": ["a"]}, tables)
    with pytest.warns(pg.ConvergenceWarning, match="are worth"):
        fit.query("a", {"b": "1"}, method="importance", draws=2000)


def test_any_exact_model_answers(network):
    rng = np.random.default_rng(1)
    z = rng.integers(2, size=400)
    table = Table(
        {
            "x": rng.normal(2.0 * z, 1.0),
            "k": np.where(rng.random(400) < 0.2 + 0.6 * z, "yes", "no"),
            "n": rng.poisson(3, 400),
        }
    )
    fit = pg.fit("latent_class", table, components=2, progress=False)
    answer = fit.query(given={"k": "yes"})
    assert answer.numbers["x"].mean == pytest.approx(table.values[table.column("k") == "yes", 0].mean(), abs=0.25)
    back = fit.query("k", {"x": 2.0})
    assert back["k"]["yes"] > 0.6
    with pytest.raises(pg.CapabilityError, match="'latent_class' is no network"):
        fit.query("k", do={"x": 2.0})


def test_mixed_networks_answer_numbers_and_states():
    rng = np.random.default_rng(2)
    s = rng.integers(2, size=500)
    u = rng.normal(3.0 * s, 1.0)
    schema = Schema((Column("s", "binary", levels=("m", "f")), Column("u", "real")))
    fit = pg.fit(
        "bayesian_network", Table.from_codes(np.column_stack([s, u]), schema), structure={"u": ["s"]}, progress=False
    )
    assert fit.query("u", {"s": "f"})["u"].mean == pytest.approx(u[s == 1].mean(), abs=0.15)
    assert fit.query("s", {"u": 3.0})["s"]["f"] > 0.95
    forced = fit.query("u", do={"s": "f"}, method="importance", draws=20_000)
    assert forced["u"].mean == pytest.approx(u[s == 1].mean(), abs=0.15)
    weighted = fit.query("s", {"u": 1.5}, method="importance", draws=20_000)
    assert weighted["s"]["f"] == pytest.approx(fit.query("s", {"u": 1.5})["s"]["f"], abs=0.03)


# ------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        ({"targets": "x"}, pg.CapabilityError, "'x', which there is not"),
        ({"targets": "a", "given": {"a": 1}}, pg.CapabilityError, "asked for and known"),
        ({"targets": ["a", "a"]}, pg.CapabilityError, "named twice"),
        ({"given": {"a": 7}}, pg.DataError, "no state 7; its states: 0, 1"),
        ({"given": {"z": 7}}, pg.CapabilityError, "given names 'z'"),
        ({"given": [("a", 1)]}, pg.CapabilityError, "must be a dictionary"),
        ({"given": {"a": 1}, "do": {"a": 0}}, pg.CapabilityError, "named twice among"),
        ({"soft": {"d": [1.0, 2.0]}}, pg.DataError, "needs 3 likelihoods"),
        ({"soft": {"d": [0.0, 0.0, 0.0]}}, pg.DataError, "not all zero"),
        ({"soft": {"d": {5: 1.0}}}, pg.DataError, "no state 5"),
        ({"method": "exakt"}, pg.CapabilityError, "'exact', 'importance' or 'gibbs'"),
        ({"targets": [], "joint": True}, pg.CapabilityError, "discrete targets, and there are none"),
        ({"targets": 3}, pg.CapabilityError, "by a name or a list of names, got 3"),
        ({"given": {"a": [0, 1]}}, pg.DataError, "no state"),
        ({"given": {"a": np.arange(2)}}, pg.DataError, "no state"),
        ({"soft": {"a": "u"}}, pg.DataError, "needs 2 likelihoods"),
        ({"soft": {"a": {0: "hello"}}}, pg.DataError, "needs 2 likelihoods"),
        ({"soft": {"a": [[1.0], [1.0, 2.0]]}}, pg.DataError, "needs 2 likelihoods"),
        ({"method": "importance", "draws": 0}, pg.CapabilityError, "at least 2, got 0"),
        ({"draws": -1}, pg.CapabilityError, "at least 2, got -1"),
    ],
)
def test_bad_questions_are_refused_by_name(network, question, error, message):
    with pytest.raises(error, match=message):
        network[0].query(**question)


@pytest.mark.parametrize("method", ["exact", "importance", "gibbs"])
def test_impossible_evidence_has_a_clear_answer(method):
    states = {"a": ["0", "1"], "b": ["0", "1"], "c": ["0", "1"]}
    tables = {"a": np.array([0.5, 0.5]), "b": np.eye(2), "c": np.array([0.3, 0.7])}
    fit = given_network(states, {"b": ["a"]}, tables)
    with pytest.raises(pg.DataError, match=r"probability zero under this model|agrees with what is given"):
        fit.query("c", {"a": "0", "b": "1"}, method=method)
    row = Table.from_codes(np.array([[0.0, 1.0, np.nan]]), fit.schema)
    assert fit.log_prob(row).value[0] == -np.inf
    with pytest.raises(pg.CapabilityError, match="probability zero"):
        fit.most_probable(row)
    with pytest.raises(pg.CapabilityError, match="density zero"):
        fit.fill(Table.from_codes(np.array([[0.0, 1.0, np.nan]]), fit.schema), 1)


def test_a_network_too_wide_names_its_clique_and_the_way_round(monkeypatch):
    n = 40
    states = {f"x{i}": ["0", "1"] for i in range(n)} | {"y": ["0", "1"]}
    rng = np.random.default_rng(0)
    structure = {f"x{i}": [f"x{j}" for j in range(max(0, i - 12), i)] for i in range(n)}
    structure["y"] = []
    tables = {name: rng.dirichlet(np.ones(2), size=[2] * len(structure[name])) for name in states}
    fit = given_network(states, structure, tables)
    monkeypatch.setattr("probgen.inference.sum_product.free_memory", lambda: 1e5)
    with pytest.raises(pg.CapabilityError, match=r"too wide for exact inference.*joins 13 nodes.*method='importance'"):
        fit.query("x0", {"x39": "1"})
    assert fit.query("x0", {"x39": "1"}, method="importance", draws=4000).kind == "importance"


# ------------------------------------------------------------------------------------------ far from the unit interval
def star(children, rows, impossible=False):
    """A hidden cause of many children, between a parent and a child of its own."""
    names = [f"n{at}" for at in range(children)]
    states = {name: ["a", "b"] for name in ["above", "c", "below", *names]} | {"zero": ["a", "b"]}
    tables = {
        "above": [0.3, 0.7],
        "c": [[0.4, 0.6], [0.8, 0.2]],
        "below": [[0.1, 0.9], [0.6, 0.4]],
        "zero": [0.0, 1.0] if impossible else [0.5, 0.5],
    }
    parents = {"c": ["above"], "below": ["c"], **{name: ["c"] for name in names}}
    return pg.network(states, parents, tables | dict.fromkeys(names, rows)), dict.fromkeys(names, "a")


@pytest.mark.parametrize(("children", "impossible"), [(107, False), (250, True)])
def test_hundreds_of_known_children_weigh_as_their_likelihood_does(children, impossible):
    fit, given = star(children, [[0.001, 0.999], [0.0011, 0.9989]], impossible)
    same = fit.query(soft={"c": [1.1**-children, 1.0]})
    expected = children * np.log(0.0011) + same.log_probability
    answer = fit.query(given=given)
    assert answer.log_probability == pytest.approx(expected, rel=1e-12)
    assert answer.log_probability == pytest.approx(
        float(fit.log_prob({name: [given.get(name)] for name in fit.schema.names}).value[0])
    )
    for name in ("above", "c", "below"):
        assert answer[name] == pytest.approx(same[name], rel=1e-9)
        assert fit.query(name, given)[name] == pytest.approx(same[name], rel=1e-9)
    pair = fit.query(["above", "below"], soft={"c": [1.1**-children, 1.0]}, joint=True).joint
    np.testing.assert_allclose(fit.query(["above", "below"], given, joint=True).joint, pair, rtol=1e-9)
    assert fit.mutual_information("above", "zero", given) == pytest.approx(0.0, abs=1e-12)


def test_long_known_chains_have_the_probability_of_their_rows():
    names = [f"n{at}" for at in range(600)]
    tables = {name: [[0.2, 0.8], [0.7, 0.3]] for name in names[1:]} | {"n0": [0.5, 0.5]}
    fit = pg.network(dict.fromkeys(names, ("a", "b")), {b: [a] for a, b in pairwise(names)}, tables)
    given = dict.fromkeys(names, "a")
    assert fit.query(given=given).log_probability == pytest.approx(np.log(0.5) + 599 * np.log(0.2))
    del given["n300"]
    answer = fit.query(given=given)
    assert answer["n300"]["a"] == pytest.approx(0.04 / 0.6)
    assert answer.log_probability == pytest.approx(np.log(0.5) + 597 * np.log(0.2) + np.log(0.6))


def test_evidence_without_hold_on_the_target_may_be_as_improbable_as_it_likes():
    names = [f"n{at}" for at in range(120)]
    tables = dict.fromkeys(names, (0.001, 0.999)) | {"target": [0.3, 0.7], "zero": [0.0, 1.0]}
    fit = pg.network(dict.fromkeys(tables, ("a", "b")), {}, tables)
    answer = fit.query("target", dict.fromkeys(names, "a"))
    assert answer["target"] == pytest.approx({"a": 0.3, "b": 0.7})
    assert answer.log_probability == pytest.approx(120 * np.log(0.001))
    with pytest.raises(pg.errors.DataError, match="probability zero"):
        fit.query("target", dict.fromkeys([*names, "zero"], "a"))


def test_chains_weigh_hundreds_of_known_children():
    fit, given = star(300, [[0.02, 0.98], [0.01999, 0.98001]])
    expected = fit.query("above", given)["above"]["a"]
    answer = fit.query("above", given, method="gibbs", draws=8000)
    assert answer["above"]["a"] == pytest.approx(expected, abs=5 * answer.standard_errors["above"]["a"])


def mixed_network(**options):
    c = np.random.default_rng(1).normal(size=400) * 50 + 100
    d = 2 * c + np.random.default_rng(2).normal(size=400) * 5
    table = Table({"a": np.where(c > 100, "y", "n"), "c": c, "d": d})
    return pg.fit("bayesian_network", table, structure={"c": ["a"], "d": ["c"]}, progress=False, **options)


def test_weighted_draws_have_densities_in_the_units_of_the_table():
    fit = mixed_network()
    for question in ({"given": {"c": 120.0}}, {"given": {"d": 250.0}}):
        exact, drawn = (fit.query("a", method=method, **question) for method in ("exact", "importance"))
        assert drawn.log_probability == pytest.approx(exact.log_probability, abs=0.1)
    both, one = (float(fit.log_prob({"a": [None], "c": [125.0], "d": [d]}).value[0]) for d in (250.0, None))
    forced = fit.query("a", {"d": 250.0}, do={"c": 125.0}, method="importance")
    assert forced.log_probability == pytest.approx(both - one, abs=1e-4)  # what is set has no density of its own


@pytest.fixture(scope="module")
def drawn():
    """A network of few rows, its tables drawn from their posterior."""
    rows = random_network(20)[0].sample(12, seed=1)
    options = {"structure": {"d": ["a"], "f": ["d"]}, "method": "gibbs", "chains": 2, "draws": 60, "warmup": 20}
    return pg.fit("bayesian_network", rows.select(["a", "d", "f"]), progress=False, **options)


def test_weighted_draws_are_of_all_draws_of_the_tables(drawn):
    exact, answer = (drawn.query("a", {"f": 1}, method=method, draws=20_000) for method in ("exact", "importance"))
    assert answer.log_probability == pytest.approx(exact.log_probability, abs=0.05)
    for state, share in exact["a"].items():
        assert answer["a"][state] == pytest.approx(share, abs=4 * answer.standard_errors["a"][state])


def test_the_most_probable_states_are_those_of_the_mean_tables(drawn):
    tables = [np.mean([np.exp(theta[n]["logits"].numpy()) for theta in drawn.posterior.spread(200)], 0) for n in "adf"]
    joint = np.einsum("xa,ad,df->adf", *tables)
    for f in range(joint.shape[2]):
        a, d = np.unravel_index(joint[..., f].argmax(), joint.shape[:2])
        assert drawn.most_probable({"f": f}) == {"a": a, "d": d}


# ------------------------------------------------------------------------------------ hidden nodes beside real columns
@pytest.fixture(scope="module")
def hidden():
    """A hidden node above two discrete columns and a real one."""
    rng = np.random.default_rng(0)
    h = rng.integers(2, size=200)
    table = Table(
        {
            "a": np.where(rng.random(200) < 0.2 + 0.6 * h, "y", "n"),
            "b": np.where(rng.random(200) < 0.7 - 0.5 * h, "y", "n"),
            "c": 3.0 * h + rng.normal(size=200),
        }
    )
    structure = {name: ["h"] for name in "abc"}
    options = {"hidden_nodes": {"h": 2}, "restarts": 1, "max_steps": 30}
    return pg.fit("bayesian_network", table, structure=structure, progress=False, **options)


@pytest.mark.parametrize(
    "question",
    [
        {"given": {"a": "y"}},
        {"targets": ["h"]},
        {"targets": ["a", "c"], "given": {"h": 1}},
        {"targets": ["h", "b"], "given": {"c": 1.0}, "joint": True},
        {"targets": ["h", "c"], "do": {"a": "y"}, "soft": {"b": {"y": 0.9, "n": 0.2}}},
        {"targets": ["a", "c"], "do": {"h": 0}, "given": {"b": "n"}},
    ],
)
def test_exact_answers_of_hidden_nodes_are_those_of_weighted_draws(hidden, question):
    exact, drawn = hidden.query(**question, draws=8000), hidden.query(**question, draws=20_000, method="importance")
    for name, states in drawn.marginals.items():
        for state, share in states.items():
            assert exact[name][state] == pytest.approx(share, abs=5 * drawn.standard_errors[name][state])
    for name, numbers in drawn.numbers.items():
        assert exact[name].mean == pytest.approx(numbers.mean, abs=0.15)
    if question.get("joint"):
        np.testing.assert_allclose(exact.joint, drawn.joint, atol=0.03)
    assert exact.log_probability == pytest.approx(drawn.log_probability, abs=0.05)


def test_hidden_nodes_are_known_in_samples_and_in_pictures(hidden):
    rows = hidden.sample(2000, given={"h": 1}, seed=0)
    expected = hidden.query(["a", "c"], {"h": 1})
    assert np.mean(rows.column("a") == "y") == pytest.approx(expected["a"]["y"], abs=0.05)
    assert rows.column("c").mean() == pytest.approx(expected["c"].mean, abs=0.15)
    believed = beliefs(hidden, {"h": 1, "c": 2.0})
    assert believed["h"].known
    assert believed["h"].hidden
    assert dict(believed["a"].bars) == pytest.approx(dict(hidden.query("a", {"h": 1})["a"].items()), rel=1e-12)


# ---------------------------------------------------------------------------------------------- what used to be silent
@pytest.mark.parametrize("method", ["importance", "gibbs"])
def test_approximate_answers_have_joint_tables(network, method):
    fit, joint = network
    expected, _ = posterior(joint, {"f": 1})
    answer = fit.query(["d", "a"], {"f": 1}, joint=True, method=method, draws=20_000)
    np.testing.assert_allclose(answer.joint, expected.sum((1, 2, 4, 5)).T, atol=0.03)
    assert answer.targets == ("d", "a")
    assert "together: d, a" in str(answer)


def test_soft_evidence_is_told(network):
    assert str(network[0].query("a", soft={"d": [0.2, 0.5, 0.1]})).startswith("given soft(d) = [0.2, 0.5, 0.1]")


def test_impossible_soft_evidence_is_told():
    fit = pg.network({"a": ["n", "y"], "b": ["n", "y"]}, {}, {"a": [1.0, 0.0], "b": [0.5, 0.5]})
    with pytest.raises(pg.errors.DataError, match=r"soft\(a\)"):
        fit.query("b", soft={"a": [0.0, 1.0]})


@pytest.mark.parametrize("value", [None, np.nan])
@pytest.mark.parametrize("method", ["exact", "importance"])
def test_numbers_that_are_unknown_are_not_given(hidden, value, method):
    with pytest.raises(pg.errors.DataError, match="leave it out"):
        hidden.query("a", {"c": value}, method=method)


def test_interventions_and_soft_evidence_reach_all_draws_of_the_tables(drawn):
    exact, answer = (
        drawn.query("f", do={"d": 1}, soft={"a": [0.9, 0.1]}, method=method, draws=20_000)
        for method in ("exact", "importance")
    )
    for state, share in exact["f"].items():
        assert answer["f"][state] == pytest.approx(share, abs=4 * answer.standard_errors["f"][state])
    assert answer.log_probability == pytest.approx(exact.log_probability, abs=0.05)


def test_entropies_are_of_nodes(network):
    for question in ([], ()):
        with pytest.raises(pg.CapabilityError, match="name one or several"):
            network[0].entropy(question)


def test_a_row_of_a_data_frame_is_evidence(network):
    row = pd.Series({"a": 1, "f": 2})
    assert network[0].query("b", row)["b"] == network[0].query("b", dict(row))["b"]
    assert set(network[0].sample(50, given=row).column("f")) == {2}
