"""Trees of hidden states against enumeration of all states, on tables with holes."""

import itertools
import warnings

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families.hidden_tree import TreeShape
from probgen.families.spanning_tree import binned, central_parents, mutual_information, spanning_tree
from probgen.inference.evidence import log_evidence
from probgen.inference.methods.em import expected_statistics
from probgen.inference.tree import Nodes, Passes, in_log_space, tree_evidence

K = 2
SCHEMA = Schema(
    (
        Column("a", "binary", levels=(0, 1), incomplete=True),
        Column("b", "categorical", levels=("u", "v", "w"), incomplete=True),
        Column("c", "real", incomplete=True),
        Column("d", "ordinal", levels=(1, 2, 3), incomplete=True),
    )
)


def dependent_table(rows=200, seed=0, holes=0.15):
    """Columns that all follow a hidden group."""
    rng = np.random.default_rng(seed)
    z = rng.integers(3, size=rows)
    a = (rng.random(rows) < np.array([0.1, 0.5, 0.9])[z]).astype(float)
    b = np.where(rng.random(rows) < 0.7, z, rng.integers(3, size=rows)).astype(float)
    d = np.clip(b + rng.integers(-1, 2, size=rows), 0, 2)
    values = np.column_stack([a, b, rng.normal(2.0 * z, 1.0), d])
    values[rng.random(values.shape) < holes] = np.nan
    values[np.isnan(values).all(1), 0] = 1.0
    return Table.from_codes(values, SCHEMA)


def some_columns(names, rows=200, seed=0):
    """Some columns, of the rows that know one of them."""
    table = dependent_table(rows, seed).select(names)
    return table.take(np.nonzero(table.known.any(1))[0])


def binary_table(x):
    return Table.from_codes(x, Schema(tuple(Column(f"x{i}", "binary", levels=(0, 1)) for i in range(x.shape[1]))))


def fitted(table, **options):
    options = {"states": K, "max_steps": 8, "restarts": 1, "progress": False} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        return pg.fit("hidden_chow_liu_tree", table, **options)


def cell_logs(fit, told, row, component):
    """``(D, K)``: log density of each known cell under each state, from the readable parameters."""
    found = np.zeros((4, K))
    rows = slice(component * K, component * K + K)
    x = fit.standardiser.forward(row[None])[0]
    for at, (block, place) in enumerate((("binary", 0), ("levels3", 0), ("real_2", 0), ("levels3", 1))):
        if np.isnan(x[at]):
            continue
        theta = told[f"emission.{block}"]
        if block == "real_2":
            loc, scale = theta["loc"][rows, 0], theta["scale"][rows, 0]
            found[at] = norm.logpdf(x[at], loc, scale) - np.log(fit.standardiser.scale[at])
        elif block == "binary":
            p = theta["probs"][rows, 0]
            found[at] = np.log(p if x[at] else 1 - p)
        else:
            found[at] = np.log(theta["probs"][rows, place, int(x[at])])
    return found


def enumerated(fit, row):
    """Log joint densities ``(M, K ** 4)`` of a row with every vector of states, and these vectors."""
    told, states = fit.parameters(), list(itertools.product(range(K), repeat=4))
    tree = told["tree"]
    components = fit.program.options["components"]
    weights = told["weights"]["probs"][0] if components > 1 else np.ones(1)
    found = np.zeros((components, len(states)))
    for m, shape in enumerate(fit.program.tree.shapes):
        cells = cell_logs(fit, told, row, m)
        place = shape.place.tolist()
        for number, h in enumerate(states):
            total = np.log(weights[m]) + cells[range(4), h].sum()
            for node, parent in enumerate(shape.parents):
                table = tree["root"][m] if parent < 0 else tree["transition"][m, place[node] - 1, h[parent]]
                total += np.log(table[h[node]])
            found[m, number] = total
    return found, np.array(states)


# -------------------------------------------------------------------------------------------------------- density
@pytest.mark.parametrize("components", [1, 2])
def test_the_density_is_the_sum_over_all_states(components):
    table = dependent_table()
    fit = fitted(table, components=components)
    expected = [logsumexp(enumerated(fit, row)[0]) for row in table.values[:40]]
    np.testing.assert_allclose(fit.log_prob(table.take(range(40))).value, expected, atol=1e-9)


def test_all_rows_of_levels_sum_to_one():
    table = some_columns(["a", "b", "d"])
    rows = np.array(list(itertools.product(range(2), range(3), range(3))), dtype=float)
    found = fitted(table, components=2).log_prob(Table.from_codes(rows, table.schema)).value
    assert logsumexp(found) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("components", [1, 2])
def test_embedding_holds_the_posterior_of_every_state(components):
    table = dependent_table()
    fit = fitted(table, components=components)
    found = fit.embed(table.take(range(20)))
    for row, values in enumerate(table.values[:20]):
        joint, states = enumerated(fit, values)
        share = np.exp(joint - logsumexp(joint))
        expected = [share[:, states[:, d] == k].sum() for d in range(4) for k in range(K)]
        expected = expected if components == 1 else [*expected, *share.sum(1)]
        np.testing.assert_allclose(found[row], expected, atol=1e-10)
    assert len(fit.decode(found)) == 20


@pytest.mark.parametrize("weights", [None, np.linspace(0.0, 2.0, 20)])
@pytest.mark.parametrize("components", [1, 2])
def test_expected_counts_are_those_of_the_enumerated_posterior(components, weights):
    fit = fitted(dependent_table(), components=components)
    table = dependent_table(20, seed=1)
    batch = next(fit.batches(table, 20).pieces())
    batch.weights = None if weights is None else torch.as_tensor(weights).to(batch.x)
    theta = fit.posterior.theta()
    with fit.setting():
        _, found = expected_statistics(
            fit.program, log_evidence(fit.program, batch, theta=theta).trace.families, theta, batch
        )
    root, edges = np.zeros((components, K)), np.zeros((components, 3, K, K))
    zero = np.zeros(K * components)
    for row, weight in zip(table.values, np.ones(20) if weights is None else weights, strict=True):
        joint, states = enumerated(fit, row)
        share = weight * np.exp(joint - logsumexp(joint))
        for m, shape in enumerate(fit.program.tree.shapes):
            place = shape.place.tolist()
            for mass, h in zip(share[m], states, strict=True):
                for node, parent in enumerate(shape.parents):
                    if parent < 0:
                        root[m, h[node]] += mass
                    else:
                        edges[m, place[node] - 1, h[parent], h[node]] += mass
                zero[m * K + h[0]] += mass * (row[0] == 0)
    np.testing.assert_allclose(found["tree"]["root"], root, atol=1e-9)
    np.testing.assert_allclose(found["tree"]["transition"], edges, atol=1e-9)
    counts = found["emission.binary"]
    np.testing.assert_allclose((counts["log_normaliser"] - counts["logit"])[:, 0], zero, atol=1e-9)


def test_fill_draws_from_the_enumerated_conditional():
    fit = fitted(dependent_table())
    row = np.array([1.0, np.nan, 2.0, np.nan])
    table = Table.from_codes(row[None], SCHEMA)
    cells = np.array(list(itertools.product(range(3), range(3))), dtype=float)
    full = np.tile(row, (9, 1))
    full[:, [1, 3]] = cells
    log = fit.log_prob(Table.from_codes(full, SCHEMA)).value
    expected = np.exp(log - logsumexp(log))
    drawn = fit.fill(table.take(np.zeros(4000, dtype=int)), 1)[0].values[:, [1, 3]]
    found = np.array([(drawn == cell).all(1).mean() for cell in cells])
    assert np.abs(found - expected).max() < 4 * 0.5 / np.sqrt(4000)  # four standard errors of the largest share


def test_three_hundred_columns_do_not_underflow():
    rng = np.random.default_rng(0)
    x = (rng.random((30, 300)) < rng.random((30, 1))).astype(float)
    fit = fitted(binary_table(x), states=4, max_steps=3, dtype="float32")
    score = fit.log_prob(binary_table(x)).value
    assert np.isfinite(score).all()
    np.testing.assert_allclose(fit.log_prob(fit.read(binary_table(x))).value.sum(), score.sum(), rtol=1e-6)


# ------------------------------------------------------------------------------------------------------ the passes
def random_tree(D, rows, places, plain, dtype=torch.float64, states=3):
    parents = (-1, *(int(torch.randint(0, d, (1,))) for d in range(1, D)))
    shape = TreeShape(parents, (plain,) * D, torch.device("cpu"))
    owner = torch.cat([torch.cartesian_prod(torch.arange(D), torch.arange(2)), torch.tensor([[-1, 2]])])
    index = torch.randint(2, (rows, D)) + 2 * torch.arange(D)
    index = torch.where(torch.rand(rows, D) < 0.2, 2 * D, index)
    nodes = Nodes(shape, index, owner, torch.tensor(places, dtype=torch.long))
    table = torch.cat([torch.randn(2 * D, states), torch.zeros(1, states)])
    sizes = ((states,), (D - 1, states, states), (len(places), states, rows))
    root, transition, scores = (torch.randn(size) for size in sizes)
    return [value.to(dtype).requires_grad_() for value in (root, transition, table, scores)], nodes


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("places", [[], [1, 6], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_the_scaled_passes_agree_with_log_space(places, plain):
    leaves, nodes = random_tree(8, 40, places, plain)
    every, weight = torch.arange(40), torch.rand(40, dtype=torch.float64)
    expected = in_log_space(*leaves, nodes, every)
    options = {"allow_unused": True, "materialize_grads": True}
    for eager in (False, True):
        found = tree_evidence(*leaves, nodes, eager)
        torch.testing.assert_close(found, expected)
        for one in (weight, torch.full_like(weight, 0.3)):
            ours = torch.autograd.grad(found, leaves, one, retain_graph=True, **options)
            theirs = torch.autograd.grad(expected, leaves, one, retain_graph=True, **options)
            for mine, other, name in zip(ours, theirs, ("root", "edges", "table", "scores"), strict=True):
                kept = slice(None, -1) if name == "table" else slice(None)  # nobody asks for the unknown row's
                torch.testing.assert_close(mine[kept], other[kept])


def test_single_precision_keeps_counts_to_five_digits():
    leaves, nodes = random_tree(60, 500, [], True)
    exact = torch.autograd.grad(tree_evidence(*leaves, nodes).sum(), leaves[:3])
    single = [leaf.detach().float().requires_grad_() for leaf in leaves]
    found = torch.autograd.grad(tree_evidence(*single, nodes).sum(), single[:3])
    for mine, other in zip(found[:2], exact[:2], strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=1e-5, atol=1e-5 * float(other.max()))


@pytest.mark.parametrize("apart", [30.0, 60.0, 95.0])
@pytest.mark.parametrize("plain", [True, False])
def test_rows_that_underflow_are_done_in_log_space(apart, plain):
    leaves, nodes = random_tree(8, 20, [], plain, torch.float32)
    with (
        torch.no_grad()
    ):  # cells are sure of states that the tree hardly lets stand together: e^-87 is the least there is
        leaves[2][:-1] -= 200.0 * (torch.arange(3) != torch.randint(3, (16, 1)))
        leaves[1] -= apart * (1 - torch.eye(3))
        leaves[1][0, 0] = -torch.inf  # and a structural zero
        assert int(Passes(*leaves, nodes).up().isinf().sum()) > 2
    every = torch.arange(20)
    double = [leaf.detach().double().requires_grad_() for leaf in leaves]
    exact = in_log_space(*double, nodes, every)
    found = tree_evidence(*leaves, nodes, True)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-4)
    ours, theirs = torch.autograd.grad(found.sum(), leaves[1])[0], torch.autograd.grad(exact.sum(), double[1])[0]
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_second_derivatives_are_those_of_log_space():
    leaves, nodes = random_tree(4, 5, [], True, states=2)
    two = (leaves[1], leaves[2])
    of = lambda f: torch.autograd.functional.hessian(lambda a, t: f(leaves[0], a, t, leaves[3]).sum(), two)  # noqa: E731
    ours = of(lambda *v: tree_evidence(*v, nodes))
    theirs = of(lambda *v: in_log_space(*v, nodes, torch.arange(5)))
    torch.testing.assert_close(ours[0][0], theirs[0][0])
    torch.testing.assert_close(ours[0][1][..., :-1, :], theirs[0][1][..., :-1, :])


# ---------------------------------------------------------------------------------------------------------- trees
def test_mutual_information_is_that_of_the_rows_that_know_both():
    codes, sizes = binned(torch.tensor(dependent_table().values), list(SCHEMA))
    found = mutual_information(codes, sizes, torch.ones(200))
    for one, other in itertools.combinations(range(4), 2):
        both = codes[(codes[:, [one, other]] >= 0).all(1)][:, [one, other]].numpy()
        joint = np.zeros((sizes[one], sizes[other]))
        np.add.at(joint, tuple(both.T), 1.0 / len(both))
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = joint * np.log(joint / joint.sum(1, keepdims=True) / joint.sum(0))
        assert found[one, other] == pytest.approx(np.nansum(terms), abs=1e-12)


def test_the_tree_is_the_maximum_spanning_tree_rooted_at_its_centre():
    gain = np.random.default_rng(0).random((12, 12))
    gain = gain + gain.T
    edges = spanning_tree(gain)
    graph = nx.Graph()
    graph.add_weighted_edges_from((i, j, gain[i, j]) for i, j in itertools.combinations(range(12), 2))
    best = nx.maximum_spanning_tree(graph)
    assert {frozenset(edge) for edge in edges} == {frozenset(edge) for edge in best.edges}
    parents = central_parents(edges, 12)
    assert parents.index(-1) in nx.center(best)
    assert all(best.has_edge(node, parent) for node, parent in enumerate(parents) if parent >= 0)


# ------------------------------------------------------------------------------------------------------------ fits
@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize("prior", ["default", None, 0.1])
def test_em_never_lets_the_objective_fall(prior, components):
    table = some_columns(["a", "b", "d"])
    fit = fitted(table, components=components, prior=prior, max_steps=30, states=3)
    assert np.diff(fit.history["objective"]).min() > -1e-9


def test_online_em_gains_on_held_out_rows_and_stops_at_the_best():
    train, held_out = dependent_table(400, 0, holes=0.0), dependent_table(200, 1, holes=0.0)
    options = {"method": "online_em", "batch_size": 50, "validation": held_out, "max_steps": 10}
    fit = fitted(train, states=3, **options)
    validation = fit.history["validation"]
    assert validation[-1] > validation[0] + 0.05
    assert fit.log_prob(held_out).value.mean() == pytest.approx(max(validation), abs=1e-6)
    batch = fitted(train, states=3, max_steps=10)
    assert max(validation) > batch.log_prob(held_out).value.mean() - 0.02


def test_online_em_with_whole_steps_of_all_rows_is_em():
    table = dependent_table(100)
    one = fitted(table, max_steps=5)
    options = {"method": "online_em", "batch_size": 100, "learning_rate": 1.0, "validation_fraction": 0.0}
    other = fitted(table, max_steps=4, **options)  # EM ends with an expectation
    steps = [one.history["log_likelihood"][0], other.history["objective"][0]]
    assert steps[0] == pytest.approx(steps[1], abs=1e-12)
    first = other.history["objective"][1]
    assert first == pytest.approx(one.history["log_likelihood"][1], abs=1e-12)


@pytest.mark.parametrize("model", ["latent_class", "naive_bayes", "gaussian_mixture"])
def test_online_em_fits_other_programs(model):
    table = some_columns(["a", "b", "c"], 250)
    options = {} if model == "naive_bayes" else {"components": 3}
    fit = pg.fit(model, table, method="online_em", batch_size=50, max_steps=10, progress=False, **options)
    full = pg.fit(model, table, progress=False, restarts=1, tolerance=1e-4, **options)
    assert fit.log_prob(table).value.mean() > full.log_prob(table).value.mean() - 0.1
    assert len(fit.partial_fit(some_columns(["a", "b", "c"], 50, seed=3)).log_prob(table)) == len(table)


def test_an_interrupted_online_fit_goes_on_where_it_stood(tmp_path):
    table, file = dependent_table(), tmp_path / "state"
    options = {"method": "online_em", "batch_size": 40, "max_steps": 6}
    whole = fitted(table, **options)

    def stop(count, values, method):
        if count == 2:
            raise KeyboardInterrupt

    fitted(table, checkpoint=file, callback=stop, **options)
    again = fitted(table, checkpoint=file, **options)
    np.testing.assert_array_equal(again.log_prob(table).value, whole.log_prob(table).value)


def test_bad_input_is_refused():
    table = dependent_table()
    for options, message in (
        ({"states": 0}, "states must be a whole number"),
        ({"components": 1.5}, "components must be a whole number"),
        ({"prior": -1.0}, "prior must be"),
        ({"prior": True}, "prior must be"),
        ({"prior": "flat"}, "prior must be"),
        ({"method": "nuts"}, "supports: em, online_em"),
        ({"method": "online_em", "learning_rate": 2.0}, "learning_rate must lie"),
        ({"method": "online_em", "batch_size": 0}, "batch_size must be"),
        ({"method": "online_em", "validation": 0.1}, "validation must be a Table"),
    ):
        with pytest.raises(pg.CapabilityError, match=message):
            fitted(table, **options)


def test_a_single_column_is_a_tree():
    table = some_columns(["b"])
    share = np.bincount(table.values[:, 0].astype(int)) / len(table)
    found = fitted(table, prior=None, max_steps=50).log_prob(Table.from_codes(np.arange(3.0)[:, None], table.schema))
    np.testing.assert_allclose(found.value, np.log(share), atol=1e-6)
