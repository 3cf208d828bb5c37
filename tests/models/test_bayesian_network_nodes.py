"""Kinds of nodes of a Bayesian network: noisy-or, trees, generalised linear models."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit, gammaln
from scipy.stats import nbinom

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.errors import CapabilityError
from probgen.families.noisy_max import NoisyMax
from probgen.inference.posterior import Posterior
from probgen.inference.potential import Potential
from probgen.inference.sum_product import make_plan

NO_YES = ("no", "yes")


def quick(table, structure, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit("bayesian_network", table, structure=structure, progress=False, **options)


def with_parameters(fit, **families):
    """The fit at other parameters of some families."""
    theta = fit.posterior.theta() | families
    return replace(fit, posterior=Posterior.at(theta))


def log_probs(fit, values):
    return np.asarray(fit.log_prob(Table.from_codes(np.array(values, dtype=float), fit.schema)))


def slope_at(fit, table):
    """The largest derivative of the density that EM climbs, in nats a row and unconstrained coordinates."""
    with fit.setting():
        batch = next(fit.batches(table, 10**6).pieces())
        potential = Potential(fit.program, batch)
        at = potential.at(fit.posterior.theta()).requires_grad_()
        gradient = torch.autograd.grad(potential.log_mode(at), at)[0]
    return float(gradient.abs().max()) / len(table)


def completions(row, sizes):
    """All values of the unknown cells of a row of codes."""
    cells = [range(size) if np.isnan(cell) else [int(cell)] for cell, size in zip(row, sizes, strict=True)]
    return itertools.product(*cells)


# ------------------------------------------------------------------------------------------------ noisy-or, noisy-max
def causes(m, levels=2, child=2):
    parents = [Column(f"u{i}", "ordinal" if levels > 2 else "binary", levels=tuple(range(levels))) for i in range(m)]
    return Schema((*parents, Column("x", "ordinal" if child > 2 else "binary", levels=tuple(range(child)))))


def effects_table(m, rows=300, holes=0.0, seed=0, levels=2, child=2):
    """Rows of a noisy-max network."""
    rng = np.random.default_rng(seed)
    u = rng.integers(levels, size=(rows, m))
    strength = np.linspace(0.1, 0.8, m)
    effect = np.where(rng.random((rows, m)) < strength * u / (levels - 1), rng.integers(1, child, size=(rows, m)), 0)
    x = np.maximum(effect.max(1), (rng.random(rows) < 0.05).astype(int))
    values = np.column_stack([u, x]).astype(float)
    values[rng.random(values.shape) < holes] = np.nan
    values[np.isnan(values).all(1), 0] = 0.0
    return Table.from_codes(values, causes(m, levels, child))


def noisy(m, kind="noisy_or", **options):
    table = effects_table(m, **{k: options.pop(k) for k in ("rows", "holes", "levels", "child") if k in options})
    return table, quick(table, {"x": [f"u{i}" for i in range(m)]}, nodes={"x": kind}, **options)


def brute_max(fit, row, sizes):
    """Log p of the known cells by enumeration of parents and effects' cumulative probabilities."""
    theta, m, total = fit.posterior.theta(), len(row) - 1, 0.0
    rows = theta["x"]["logits"].exp().numpy()
    below = rows.cumsum(1)
    for full in completions(row, sizes):
        chance = np.prod([theta[f"u{i}"]["logits"].exp()[0, full[i]].item() for i in range(m)])
        each = below[0].copy()
        for i in range(m):
            if full[i]:
                each = each * below[1 + sum(s - 1 for s in sizes[:i]) + full[i] - 1]
        total += chance * np.diff(each, prepend=0.0)[full[m]]
    return np.log(total)


def test_noisy_or_is_its_closed_form():
    _, fit = noisy(5, max_steps=5)
    p = fit.parameters()["x"]
    u = np.array(list(itertools.product([0, 1], repeat=5)), dtype=float)
    chance = [float(p[f"from u{i}"][0]) for i in range(5)]
    expected = 1 - (1 - p["leak"]) * np.prod((1 - np.array(chance)) ** u, 1)
    both = [log_probs(fit, np.column_stack([u, np.full(32, value)])) for value in (0, 1)]
    np.testing.assert_allclose(np.exp(both[1] - np.logaddexp(*both)), expected, rtol=1e-12)


@pytest.mark.parametrize(("levels", "child"), [(2, 2), (3, 3), (2, 4)])
def test_noisy_max_with_holes_is_the_sum_over_all_parents(levels, child):
    m = 8 if levels == 2 else 4
    table, fit = noisy(m, "noisy_max", levels=levels, child=child, holes=0.3, rows=60, max_steps=8)
    rows = table.values[:25]
    expected = [brute_max(fit, row, [levels] * m + [child]) for row in rows]
    np.testing.assert_allclose(log_probs(fit, rows), expected, rtol=1e-10)


def test_thirty_parents_known_and_unknown():
    m = 30
    table, fit = noisy(m, holes=0.1, rows=100, max_steps=3)
    assert sum(value.numel() for value in fit.posterior.theta()["x"].values()) == 2 * (m + 1)
    p, theta = fit.parameters()["x"], fit.posterior.theta()
    strength = np.array([float(p[f"from u{i}"][0]) for i in range(m)])
    share = np.array([theta[f"u{i}"]["logits"].exp()[0, 1].item() for i in range(m)])
    alone = np.full((2, m + 1), np.nan)
    alone[:, m] = [0, 1]
    absent = (1 - p["leak"]) * np.prod(1 - share * strength)
    np.testing.assert_allclose(np.exp(log_probs(fit, alone)), [absent, 1 - absent], rtol=1e-10)
    known = np.nan_to_num(table.values)
    q = (1 - p["leak"]) * np.prod((1 - strength) ** known[:, :m], 1)
    given = np.log(np.where(known[:, m] == 1, 1 - q, q)) + np.log(np.where(known[:, :m] == 1, share, 1 - share)).sum(1)
    np.testing.assert_allclose(log_probs(fit, known), given, rtol=1e-10)


def test_the_sum_over_unknown_causes_is_linear_in_their_number():
    m = 100  # symbols: m parents, then m maxima, the last of which is the child
    joins = [((max(m + i - 1, m), i, m + i), False) for i in range(1, m)]
    seen = [((i,), True) for i in range(2 * m) if i < m or i == 2 * m - 1]
    plan = make_plan((((m, 0), False), *joins, *seen), (2,) * (2 * m), 8192, frozenset())
    assert plan.width <= 16
    assert plan.by_row <= 8 * 2 * m


def test_em_of_a_noisy_or_finds_the_maximum_likelihood():
    from scipy.optimize import minimize

    table, fit = noisy(4, rows=400, prior=None, tolerance=1e-13, max_steps=5000)
    u, x = table.values[:, :4], table.values[:, 4]

    def loss(theta):  # -log(1 - p) of the leak and of every cause
        log_q = -(np.exp(theta[0]) + u @ np.exp(theta[1:]))
        return -np.where(x == 1, np.log(-np.expm1(log_q)), log_q).sum()

    best = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9})
    p = fit.parameters()["x"]
    found = [float(p["leak"]), *(float(p[f"from u{i}"][0]) for i in range(4))]
    np.testing.assert_allclose(found, -np.expm1(-np.exp(best.x)), atol=2e-5)
    assert fit.diagnostics["monotone"]


def test_em_of_a_noisy_or_with_holes_ends_at_a_maximum():
    table, fit = noisy(3, "noisy_max", rows=80, holes=0.2, child=3, tolerance=1e-13, max_steps=3000)
    assert slope_at(fit, table) < 1e-5
    assert fit.diagnostics["largest_fall"] > -1e-12


def test_causes_are_drawn_from_beta_distributions():
    family = NoisyMax(2, (2, 2), {"pseudo_count": 1.0})
    torch.manual_seed(0)
    statistics = {"logits": torch.tensor([[8.0, 2.0], [1.0, 6.0], [0.0, 0.0]])}
    draws = torch.stack([family.posterior_draw(statistics)["logits"].exp()[:, 1] for _ in range(4000)])
    np.testing.assert_allclose(draws.mean(0), [4 / 14, 8 / 11, 0.5], atol=0.02)  # Beta(count + pseudo + 1)


def test_fills_of_a_noisy_or_follow_the_posterior():
    _, fit = noisy(4, rows=150, max_steps=10)
    rows = np.full((4000, 5), np.nan)
    rows[:, 4], rows[:, 0] = 1.0, 0.0
    drawn = fit.fill(Table.from_codes(rows, fit.schema), draws=1)[0].values
    both = rows[:2].copy()
    both[:, 3] = [0, 1]
    joint = log_probs(fit, both)
    assert abs(drawn[:, 3].mean() - expit(joint[1] - joint[0])) < 0.03


@pytest.mark.parametrize(("kind", "levels", "child"), [("noisy_or", 2, 2), ("noisy_max", 3, 3)])
def test_the_most_probable_causes_are_the_largest_entry(kind, levels, child):
    _, fit = noisy(3, kind, levels=levels, child=child, max_steps=5)
    for effect in range(child):
        states = np.array(list(itertools.product(*[range(levels)] * 3, [effect])))
        scores = log_probs(fit, states)
        best = dict(zip(fit.schema.names, states[scores.argmax()].tolist(), strict=True))
        assert fit.most_probable({"x": effect}) | {"x": effect} == best
        row = Table.from_codes(np.array([[np.nan, np.nan, np.nan, effect]]), fit.schema)
        np.testing.assert_array_equal(fit.most_probable(row).values[0], states[scores.argmax()])


def test_a_node_may_be_named_like_a_step_of_a_noisy_or():
    table = effects_table(3)
    named = Schema(tuple(replace(c, name={"u2": "x|0"}.get(c.name, c.name)) for c in table.schema))
    fits = [
        quick(Table.from_codes(table.values, schema), {"x": parents}, nodes={"x": "noisy_or"}, max_steps=5)
        for schema, parents in ((table.schema, ["u0", "u1", "u2"]), (named, ["u0", "u1", "x|0"]))
    ]
    values = np.array([[np.nan, np.nan, np.nan, 1.0], [np.nan, 1.0, np.nan, np.nan]])
    np.testing.assert_allclose(log_probs(fits[1], values), log_probs(fits[0], values), rtol=1e-9)
    assert fits[1].query("x|0", {"x": 1})["x|0"] == pytest.approx(fits[0].query("u2", {"x": 1})["u2"])
    rows = fits[1].sample(300, given={"x": 1}, seed=0)
    np.testing.assert_array_equal(rows.values, fits[0].sample(300, given={"x": 1}, seed=0).values)


# ------------------------------------------------------------------------------------------------------------- trees
FOREST = Schema(
    (
        Column("smoker", "binary", levels=NO_YES),
        Column("town", "categorical", levels=("a", "b", "c")),
        Column("old", "binary", levels=NO_YES),
        Column("ill", "binary", levels=NO_YES),
    )
)
TREE = {"split": "smoker", "no": None, "yes": {"split": "town", "a": None, "b": None, "c": None}}
PARENTS = {"ill": ["smoker", "town", "old"]}
LEAVES = np.array([0.1, 0.9, 0.5, 0.2])


def patients(rows=3000, holes=0.0, seed=0):
    rng = np.random.default_rng(seed)
    smoker, town, old = rng.integers(2, size=rows), rng.integers(3, size=rows), rng.integers(2, size=rows)
    chance = LEAVES[np.where(smoker == 1, 1 + town, 0)]
    values = np.column_stack([smoker, town, old, rng.random(rows) < chance]).astype(float)
    values[rng.random(values.shape) < holes] = np.nan
    values[np.isnan(values).all(1), 0] = 0.0
    return Table.from_codes(values, FOREST)


def brute_tree(fit, row):
    theta, total = fit.posterior.theta(), 0.0
    root = {name: theta[name]["logits"].exp()[0].numpy() for name in ("smoker", "town", "old")}
    leaves = theta["ill"]["logits"].exp().numpy()
    for s, t, o, x in completions(row, (2, 3, 2, 2)):
        leaf = 1 + t if s == 1 else 0
        total += root["smoker"][s] * root["town"][t] * root["old"][o] * leaves[leaf, x]
    return np.log(total)


def test_a_given_tree_shares_rows():
    table = patients(holes=0.2)
    fit = quick(table, PARENTS, nodes={"ill": {"kind": "tree", "tree": TREE}}, max_steps=20)
    np.testing.assert_allclose(log_probs(fit, table.values[:50]), [brute_tree(fit, r) for r in table.values[:50]])
    told = fit.parameters()["ill"]
    assert list(told) == ["smoker=no", "smoker=yes, town=a", "smoker=yes, town=b", "smoker=yes, town=c"]
    np.testing.assert_allclose([value[1] for value in told.values()], LEAVES, atol=0.06)
    fit.sample(5)


@pytest.mark.parametrize("score", ["bic", "bdeu"])
def test_a_grown_tree_is_the_one_that_made_the_data(score, tmp_path):
    table = patients(holes=0.05)
    fit = quick(table, PARENTS, nodes={"ill": {"kind": "tree", "score": score}}, max_steps=20)
    made = {"smoker=no", *(f"smoker=yes, town={town}" for town in "abc")}
    leaves = set(fit.parameters()["ill"])
    assert leaves == made if score == "bic" else leaves >= made - {"smoker=no"}
    fit.save(tmp_path / "a.probgen")
    loaded = pg.load(tmp_path / "a.probgen")
    np.testing.assert_array_equal(log_probs(fit, table.values), log_probs(loaded, table.values))
    assert list(loaded.parameters()["ill"]) == list(fit.parameters()["ill"])
    again = quick(patients(300), PARENTS, nodes={"ill": {"kind": "tree", "max_leaves": 2}})
    assert len(again.parameters()["ill"]) == 2


def test_a_tree_without_gain_is_one_leaf():
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.integers(k, size=500) for k in (2, 3, 2, 2)]).astype(float)
    fit = quick(Table.from_codes(values, FOREST), PARENTS, nodes={"ill": "tree"})
    assert list(fit.parameters()["ill"]) == ["all"]


def test_many_parents_are_no_table_where_they_are_known():
    m, rng = 40, np.random.default_rng(0)
    schema = Schema(tuple(Column(f"u{i}", "binary", levels=NO_YES) for i in range(m + 1)))
    u = rng.integers(2, size=(400, m))
    values = np.column_stack([u, np.where(rng.random(400) < 0.9, u[:, 7], 1 - u[:, 7])]).astype(float)
    structure = {f"u{m}": [f"u{i}" for i in range(m)]}
    fit = quick(Table.from_codes(values.copy(), schema), structure, nodes={f"u{m}": "tree"})
    assert next(iter(fit.parameters()[f"u{m}"])).startswith("u7=no")
    deep = None
    for i in reversed(range(m)):
        deep = {"split": f"u{i}", "no": None, "yes": deep}
    fit = quick(Table.from_codes(values.copy(), schema), structure, nodes={f"u{m}": {"kind": "tree", "tree": deep}})
    assert np.isfinite(log_probs(fit, values)).all()
    values[0] = np.nan
    values[0, m] = 1.0
    with pytest.raises(CapabilityError, match="tree of 'u40' asks about"):
        log_probs(fit, values)


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"split": "moon", "no": None, "yes": None}, "with a parent among smoker, town, old"),
        ({"split": "smoker", "no": None}, "missing: yes"),
        ({"split": "smoker", "no": None, "yes": None, "perhaps": None}, "unknown: perhaps"),
        ({"split": "smoker", "no": None, "yes": {"split": "smoker", "no": None, "yes": None}}, "was split above"),
    ],
)
def test_trees_that_are_none_are_refused(tree, told):
    with pytest.raises(CapabilityError, match=told):
        quick(patients(50), PARENTS, nodes={"ill": {"kind": "tree", "tree": tree}})


# ---------------------------------------------------------------------------------------- generalised linear models
MIXED = Schema(
    (
        Column("age", "real"),
        Column("income", "positive"),
        Column("sex", "binary", levels=("f", "m")),
        Column("y", "binary", levels=NO_YES),
        Column("c", "categorical", levels=("p", "q", "r")),
        Column("o", "ordinal", levels=(1, 2, 3, 4)),
        Column("k", "count"),
        Column("n", "count"),
        Column("s", "semicontinuous"),
    )
)
KINDS = {
    "y": "logistic", "c": "logistic", "o": "ordered_logistic", "k": "poisson", "n": "negative_binomial", "s": "hurdle",
}  # fmt: skip
BARE = {name: ["age", "income"] for name in KINDS}
GIVEN = {name: ["sex", "age", "income"] for name in KINDS}


def people(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    age, log_income, sex = rng.normal(40, 10, rows), rng.normal(1, 0.5, rows), rng.integers(2, size=rows)
    eta = 0.08 * (age - 40) - 0.8 * (log_income - 1) * (1 + sex)
    odds = np.exp(np.column_stack([0 * eta, eta, 0.05 * (age - 40) - 0.3]))
    c = (rng.random(rows)[:, None] > (odds / odds.sum(1, keepdims=True)).cumsum(1)).sum(1)
    o = np.digitize(eta + rng.logistic(size=rows), [-1, 0, 1.5])
    mean = np.exp(0.4 * eta + 1)
    s = np.where(rng.random(rows) < expit(eta), np.exp(0.3 * eta + 0.5 * rng.normal(size=rows)), 0.0)
    counts = [rng.poisson(mean), rng.poisson(mean * rng.gamma(2, 0.5, rows))]
    y = rng.random(rows) < expit(eta)
    return np.column_stack([age, np.exp(log_income), sex, y, c, o, *counts, s]).astype(float)


def design(values):
    return np.column_stack([np.ones(len(values)), values[:, 0], np.log(values[:, 1])])


def in_units(fit, slopes, constant):
    """(constant, slopes) per year and per log unit of income, from model coordinates."""
    shift, scale = fit.standardiser.shift, fit.standardiser.scale
    slopes = np.asarray(slopes)
    per = np.stack([slopes[..., 0] / scale[0], slopes[..., 1]], -1)
    moved = constant - per[..., 0] * shift[0] - per[..., 1] * np.log(scale[1])
    return np.concatenate([np.asarray(moved)[..., None], per], -1)


@pytest.fixture(scope="module")
def likelihood():
    values = people()
    return values, quick(Table.from_codes(values, MIXED), BARE, nodes=KINDS, prior=None, tolerance=1e-13)


@pytest.fixture(scope="module")
def by_sex():
    values = people(500)
    return values, quick(Table.from_codes(values, MIXED), GIVEN, nodes=KINDS)


@pytest.mark.reference
def test_maximum_likelihood_is_that_of_statsmodels(likelihood):
    import statsmodels.api as sm
    from statsmodels.miscmodels.ordinal_model import OrderedModel

    values, fit = likelihood
    x, p = design(values), fit.parameters()
    y, c, o, k, n = values[:, 3:8].T
    found = {name: in_units(fit, p[name]["slopes"], p[name]["constant"]) for name in ("y", "c", "k", "n", "s")}
    np.testing.assert_allclose(found["y"][0, 0], sm.Logit(y, x).fit(disp=0, tol=1e-12).params, atol=1e-5)
    np.testing.assert_allclose(found["c"][0].T, sm.MNLogit(c, x).fit(disp=0, tol=1e-12).params, atol=1e-5)
    np.testing.assert_allclose(found["k"][0], sm.Poisson(k, x).fit(disp=0, tol=1e-12).params, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = sm.NegativeBinomial(n, x).fit(disp=0, method="bfgs", maxiter=1000, gtol=1e-9)
        ordered = OrderedModel(o, x[:, 1:], distr="logit")
        cut = ordered.fit(disp=0, method="bfgs", maxiter=1000, gtol=1e-9).params
    np.testing.assert_allclose([*found["n"][0], 1 / p["n"]["shape"][0]], peer.params, atol=1e-5)
    slopes = in_units(fit, p["o"]["slopes"][0], 0.0)
    np.testing.assert_allclose(slopes[1:], cut[:2], atol=1e-5)
    np.testing.assert_allclose(
        p["o"]["cutpoints"][0] - slopes[0], ordered.transform_threshold_params(cut)[1:-1], atol=1e-5
    )
    positive = values[:, 8] > 0
    line = sm.OLS(np.log(values[positive, 8] / fit.standardiser.scale[8]), x[positive]).fit()
    np.testing.assert_allclose(found["s"][0], line.params, atol=1e-5)
    occurrence = in_units(fit, p["s"]["occurrence_slopes"][0], p["s"]["occurrence_constant"][0])
    np.testing.assert_allclose(occurrence, sm.Logit(positive, x).fit(disp=0, tol=1e-12).params, atol=1e-5)
    assert fit.diagnostics["monotone"]
    assert fit.diagnostics["steps"] < 25


def densities(fit, values, sex):
    """Log p of every child given age, income and sex, in original units: ``{name: (N,)}``, written out by hand."""
    p, x = fit.parameters(), design(values)
    eta = {
        name: in_units(fit, p[name]["slopes"][sex], p[name]["constant"][sex]) @ x.T
        for name in ("y", "c", "k", "n", "s")
    }
    y, c, o, k, n, s = values[:, 3:9].T
    logits = np.vstack([np.zeros(len(values)), eta["c"]])
    line = in_units(fit, p["o"]["slopes"][sex], 0.0)
    cuts = [-np.inf, *(p["o"]["cutpoints"][sex] - line[0]), np.inf]
    slope = x[:, 1:] @ line[1:]
    below = np.stack([expit(cut - slope) for cut in cuts])
    r, mean = p["n"]["shape"][sex], np.exp(eta["n"])
    scale, sd = fit.standardiser.scale[8], np.sqrt(p["s"]["variance"][sex])
    positive = in_units(fit, p["s"]["occurrence_slopes"][sex], p["s"]["occurrence_constant"][sex]) @ x.T
    amount = (np.log(np.where(s > 0, s, 1.0) / scale) - eta["s"]) / sd
    normal = -0.5 * amount**2 - np.log(sd * np.sqrt(2 * np.pi)) - np.log(np.where(s > 0, s, 1.0))
    rows = np.arange(len(values))
    code = lambda z: np.nan_to_num(z).astype(int)  # noqa: E731
    found = {
        "y": np.log(expit(np.where(y == 1, 1, -1) * eta["y"][0])),
        "c": logits[code(c), rows] - np.logaddexp.reduce(logits, 0),
        "o": np.log((below[1:] - below[:-1])[code(o), rows]),
        "k": k * eta["k"] - np.exp(eta["k"]) - gammaln(k + 1),
        "n": nbinom.logpmf(n, r, r / (r + mean)),
        "s": np.where(s > 0, np.log(expit(positive)) + normal, np.log(expit(-positive))),
    }
    return {name: np.where(np.isnan(values[:, 3 + at]), 0.0, found[name]) for at, name in enumerate(KINDS)}


def regressors_density(fit, values):
    """Log p of age and income."""
    found = 0.0
    for at, name in enumerate(("age", "income")):
        p, scale, shift = fit.parameters()[name], fit.standardiser.scale[at], fit.standardiser.shift[at]
        x = values[:, at]
        z = (x - shift) / scale if at == 0 else np.log(x / scale)
        sd = np.sqrt(p["variance"][0, 0])
        cell = -0.5 * ((z - p["offset"][0, 0]) / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))
        found = found + np.where(np.isnan(x), 0.0, cell - np.log(scale if at == 0 else x))
    return found


def test_densities_with_unknown_children_and_discrete_parents(by_sex):
    values, fit = by_sex
    values = values[:60].copy()
    rng = np.random.default_rng(1)
    holes = rng.random(values.shape) < 0.3
    holes[:, :2] = False
    values[holes] = np.nan
    share = fit.posterior.theta()["sex"]["logits"].exp()[0].numpy()
    terms = np.stack([np.log(share[sex]) + sum(densities(fit, values, sex).values()) for sex in (0, 1)])
    known = values[:, 2]
    joint = np.where(np.isnan(known), np.logaddexp(*terms), np.where(known == 1, terms[1], terms[0]))
    np.testing.assert_allclose(log_probs(fit, values), joint + regressors_density(fit, values), rtol=1e-9)


def test_an_unknown_regressor_is_not_needed_where_no_child_is_known(by_sex):
    values, fit = by_sex
    rows = values[:5].copy()
    rows[:, 3:], rows[:, 0] = np.nan, np.nan
    share = fit.posterior.theta()["sex"]["logits"][0].numpy()
    expected = regressors_density(fit, rows) + share[rows[:, 2].astype(int)]
    np.testing.assert_allclose(log_probs(fit, rows), expected, rtol=1e-10)
    assert not np.isnan(fit.fill(Table.from_codes(rows, MIXED), draws=1)[0].values).any()


def test_an_unknown_regressor_of_a_known_child_is_refused(by_sex):
    values, fit = by_sex
    rows = values[:5].copy()
    rows[3, 1] = np.nan
    told = "Node 'y' depends on the continuous column 'income', which is unknown in row 3.*importance"
    with pytest.raises(CapabilityError, match=told):
        log_probs(fit, rows)
    with pytest.raises(CapabilityError, match=told):
        quick(Table.from_codes(rows, MIXED), GIVEN, nodes=KINDS)
    many = people(9100)  # in the second piece of the table
    many[9000, 1] = np.nan
    with pytest.raises(CapabilityError, match="row 9000"):
        log_probs(fit, many)


def test_em_with_holes_never_falls_and_ends_at_a_maximum():
    values = people(120)
    rng = np.random.default_rng(2)
    values[:, 2:][rng.random((120, 7)) < 0.25] = np.nan
    table = Table.from_codes(values, MIXED)
    fit = quick(table, GIVEN, nodes=KINDS, tolerance=1e-13, max_steps=2000)
    assert fit.diagnostics["largest_fall"] > -1e-11
    assert slope_at(fit, table) < 1e-5


def test_steps_from_far_away_never_fall():
    values = people(80)
    values[0, 0] = 150.0  # a regressor with a long reach
    fit = quick(Table.from_codes(values, MIXED), BARE, nodes=KINDS, max_steps=1)
    far = {name: dict(theta) for name, theta in fit.posterior.theta().items()}
    for name in KINDS:
        far[name]["weights"] = far[name]["weights"] + torch.tensor([1.5, -2.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = pg.fit(
            "bayesian_network", Table.from_codes(values, MIXED), structure=BARE, nodes=KINDS, start=far, progress=False
        )
    assert again.diagnostics["largest_fall"] > -1e-9
    assert np.diff(again.history["objective"]).max() > 1.0


# a chain: age -> y (logistic) -> z (table) -> w (Gaussian), and y -> t (tree)
CHAIN = Schema(
    (
        Column("age", "real"),
        Column("y", "categorical", levels=("a", "b", "c")),
        Column("z", "binary", levels=NO_YES),
        Column("w", "real"),
    )
)
EDGES = {"y": ["age"], "z": ["y"], "w": ["z"]}


@pytest.fixture(scope="module")
def chain():
    rng = np.random.default_rng(0)
    age = rng.normal(size=400)
    y = np.clip(np.round(1 + age + 0.5 * rng.normal(size=400)), 0, 2)
    z = (rng.random(400) < np.array([0.1, 0.4, 0.95])[y.astype(int)]).astype(float)
    values = np.column_stack([age, y, z, 2 * z + rng.normal(size=400)])
    values[rng.random(400) < 0.3, 1] = np.nan
    return values, quick(Table.from_codes(values, CHAIN), EDGES, nodes={"y": "logistic"})


def test_a_regression_with_children_is_summed_out(chain):
    values, fit = chain
    rows = values[:20].copy()
    full = np.repeat(rows, 3, 0)
    full[:, 1] = np.tile([0.0, 1.0, 2.0], 20)
    rows[:, 1] = np.nan
    whole = log_probs(fit, full).reshape(20, 3)
    np.testing.assert_allclose(log_probs(fit, rows), np.logaddexp.reduce(whole, 1), rtol=1e-10)
    rows[:, 2] = np.nan  # z unknown as well
    both = np.stack([np.where(np.arange(4) == 2, z, full) for z in (0.0, 1.0)])
    total = np.logaddexp(*(log_probs(fit, part).reshape(20, 3) for part in both))
    np.testing.assert_allclose(log_probs(fit, rows), np.logaddexp.reduce(total, 1), rtol=1e-10)


def test_rows_that_know_nothing_below_a_regression_are_drawn_from_the_network(chain):
    values, fit = chain
    nothing = np.full((3000, 4), np.nan)
    nothing[::2, 0] = 2.0  # regressors known and unknown, side by side
    nothing[0] = [0.1, 1.0, 1.0, 1.0]  # columns that are known in some rows
    np.testing.assert_allclose(log_probs(fit, nothing)[1], 0.0, atol=1e-12)
    drawn = fit.fill(Table.from_codes(nothing, CHAIN), draws=1)[0].values
    fresh = fit.sample(3000, seed=1).values
    odd = drawn[1::2]
    counts = lambda x: np.histogram2d(x[:, 1], x[:, 2], bins=(3, 2))[0] / len(x)  # noqa: E731
    np.testing.assert_allclose(counts(odd), counts(fresh), atol=0.04)
    assert abs(np.corrcoef(odd[:, 0], odd[:, 1])[0, 1] - np.corrcoef(fresh[:, 0], fresh[:, 1])[0, 1]) < 0.06
    logits = fit.parameters()["y"]["constant"][0] + fit.parameters()["y"]["slopes"][0, :, 0] * (
        (2.0 - fit.standardiser.shift[0]) / fit.standardiser.scale[0]
    )
    share = np.exp(np.append(0.0, logits))
    found = np.bincount(drawn[2::2, 1].astype(int), minlength=3) / len(drawn[2::2])
    np.testing.assert_allclose(found, share / share.sum(), atol=0.04)
    blind = values[:3].copy()
    blind[:, :2] = np.nan
    with pytest.raises(CapabilityError, match="'age'"):
        log_probs(fit, blind)


def test_samples_of_regressions_follow_their_densities(by_sex):
    _, fit = by_sex
    drawn = fit.sample(6000, seed=3).values
    p, x = fit.parameters(), design(drawn)
    sex = drawn[:, 2].astype(int)
    line = np.stack([in_units(fit, p["k"]["slopes"][s], p["k"]["constant"][s]) for s in (0, 1)])
    mean = np.exp((line[sex] * x).sum(1))
    assert abs((drawn[:, 6] - mean).mean() / np.sqrt(mean.mean() / 6000)) < 4
    again = quick(Table.from_codes(drawn, MIXED), GIVEN, nodes=KINDS)
    for name in KINDS:
        for key, value in p[name].items():
            np.testing.assert_allclose(again.parameters()[name][key], value, atol=0.35, err_msg=f"{name} {key}")


def test_regressions_are_saved_with_the_scale_of_their_regressors(by_sex, tmp_path):
    values, fit = by_sex
    fit.save(tmp_path / "a.probgen")
    np.testing.assert_array_equal(log_probs(pg.load(tmp_path / "a.probgen"), values), log_probs(fit, values))


def test_standard_errors_of_a_logistic_node_are_those_of_its_information(likelihood):
    import statsmodels.api as sm

    values, fit = likelihood
    errors = fit.standard_errors(Table.from_codes(values, MIXED))
    z = np.column_stack([np.ones(len(values)), (values[:, 0] - fit.standardiser.shift[0]) / fit.standardiser.scale[0]])
    z = np.column_stack([z, np.log(values[:, 1] / fit.standardiser.scale[1])])
    peer = sm.Logit(values[:, 3], z).fit(disp=0, tol=1e-12).bse
    found = [errors["y"]["constant"][0, 0], *errors["y"]["slopes"][0, 0]]
    np.testing.assert_allclose(found, peer, rtol=1e-5)


@pytest.mark.parametrize("kind", ["count", "semicontinuous"])
def test_columns_without_parents_and_without_levels(kind):
    """Nothing but numbers of a family of their own, and beside levels: the first update has their own statistics."""
    rng = np.random.default_rng(0)
    k = rng.poisson(3.0, 400).astype(float)
    k = k if kind == "count" else np.where(k > 2, k, 0.0)
    columns = Schema((Column("k", kind),))
    alone = pg.fit("bayesian_network", Table({"k": k}, columns), progress=False)
    both = Schema((Column("k", kind), Column("c", "binary", ("a", "b"))))
    beside = pg.fit("bayesian_network", Table({"k": k, "c": rng.choice(["a", "b"], 400)}, both), progress=False)
    assert alone.sample(4000, seed=1).values[:, 0].mean() == pytest.approx(k.mean(), rel=0.06)
    assert beside.sample(4000, seed=1).values[:, 0].mean() == pytest.approx(k.mean(), rel=0.06)


# ----------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("structure", "nodes", "told"),
    [
        ({"y": ["age"]}, {}, "cannot have the continuous parent 'age'.*nodes={'y': 'logistic'}"),
        ({"o": ["age"]}, {}, "nodes={'o': 'ordered_logistic'}"),
        ({"k": ["age"]}, {}, "nodes={'k': "),
        ({"y": ["age"]}, {"y": "noisy_or"}, "'noisy_or' as a node and cannot have the continuous parent"),
        ({"y": ["sex"]}, {"y": "logistic"}, "for continuous parents, and has none"),
        ({"c": ["sex"]}, {"c": "noisy_max"}, "is categorical and can be: table, tree, logistic"),
        ({"y": ["sex"]}, {"y": "forest"}, "can be: table, tree, logistic, noisy_or"),
        ({"y": ["sex"]}, {"y": {"kind": "tree", "depth": 2}}, "has the options tree, score"),
        ({"y": ["sex"]}, {"y": {"kind": "tree", "score": "gini"}}, "score='bic' or 'bdeu'"),
        ({"y": ["k"]}, {"y": "logistic"}, "is count and cannot be the parent"),
        ({"age": ["income"]}, {"income": "gamma"}, "only its own family"),
        ({"income": ["age"]}, {"income": "gamma"}, "cannot have the continuous parent 'age'"),
    ],
)
def test_nodes_that_do_not_fit_are_refused(structure, nodes, told):
    with pytest.raises(CapabilityError, match=told):
        quick(Table.from_codes(people(30), MIXED), structure, nodes=nodes)
