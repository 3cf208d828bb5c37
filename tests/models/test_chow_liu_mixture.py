"""Mixtures of Chow-Liu trees against networkx, scikit-learn, pgmpy and sums over all rows that there can be."""

import itertools
import warnings

import networkx
import numpy as np
import pytest
import torch
from torch.testing import assert_close

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families import ChowLiuTree, level_pairs, tree_holes
from probgen.families.trees import Beliefs, UniformTrees, maximum_spanning_trees, top_down

pytestmark = pytest.mark.usefixtures("double")
SIZES = [(2, 2, 2, 2, 2), (2, 3, 4, 2), (4, 3), (3,)]
KINDS = {2: "binary", 3: "categorical", 4: "ordinal"}


def every_row(sizes):
    return torch.tensor(list(itertools.product(*map(range, sizes)))).double()


def dependent(sizes, rows, seed=0):
    """Codes in which each column follows one or two before it."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.integers(size, size=rows) for size in sizes])
    for d in range(1, len(sizes)):
        copied = rng.random(rows) < 0.6
        x[copied, d] = (x[copied, rng.integers(d)] + x[copied, d - 1]) % sizes[d]
    return x.astype(float)


def punched(x, share=0.35, seed=1):
    return np.where(np.random.default_rng(seed).random(x.shape) < share, np.nan, x)


def table_of(x, sizes, weights=None):
    columns = [Column(f"x{d}", KINDS[size], levels=tuple(range(size))) for d, size in enumerate(sizes)]
    return Table.from_codes(np.asarray(x, dtype=float), Schema(tuple(columns)), weights)


def expected(family, theta, x, weight):
    """Log densities, and the gradient of their weighted sum in the natural parameters."""
    leaves = {key: value.detach().requires_grad_() for key, value in family.natural(theta).items()}
    score = family.score(leaves, x)
    found = torch.autograd.grad((score * weight).sum(), list(leaves.values()), materialize_grads=True)
    return score.detach(), dict(zip(leaves, found, strict=True))


def learned(family, x, weight, rounds=4):
    """Trees after a few rounds of expectation and maximisation."""
    theta = family.start()
    family.calibrate(expected(family, theta, x, torch.ones_like(weight) / family.table)[1])
    for _ in range(rounds):
        theta = family.update(expected(family, theta, x, weight)[1], theta)
    return theta


def case(sizes, share=0.35, prior="default", table=3, rows=120):
    """A family, parameters, rows and their weights."""
    family = ChowLiuTree(sizes, table=table, prior=prior).double()
    x = torch.tensor(punched(dependent(sizes, rows), share))
    weight = torch.rand(table, rows, generator=torch.Generator().manual_seed(0))
    return family, learned(family, x, weight), x, weight


def by_rows(theta, at):
    return {key: value[at] for key, value in theta.items()}


def quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        return pg.fit(*args, **{"progress": False, "restarts": 1} | kwargs)


@pytest.fixture(params=[True, False], ids=["compiled", "plain"])
def loops(request, monkeypatch):
    """With compiled loops and without."""
    if request.param and level_pairs.library("trees") is None:
        pytest.skip("no C compiler here")
    if not request.param:
        for module in (level_pairs, tree_holes):
            monkeypatch.setattr(module, "takes", lambda *_: False)


# --------------------------------------------------------------------------------------------------- the one tree
def information(x):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    D = x.shape[1]
    return np.array([[sklearn_metrics.mutual_info_score(x[:, i], x[:, j]) for i in range(D)] for j in range(D)])


@pytest.mark.reference
@pytest.mark.parametrize("sizes", [(2, 2, 2, 2, 2), (2, 3, 4, 2, 3, 2)])
def test_one_component_is_the_tree_of_chow_and_liu(sizes):
    x = dependent(sizes, 500)
    fit = quietly("chow_liu_mixture", table_of(x, sizes), components=1, prior=None)
    found, weight = pg.trees(fit)[0], information(x)
    graph = networkx.from_numpy_array(weight - np.diag(np.diag(weight)))
    best = networkx.maximum_spanning_tree(graph)
    assert {frozenset(edge) for edge in found.edges} == {frozenset((f"x{i}", f"x{j}")) for i, j in best.edges}
    for parent, child, told in found.edges(data="mutual_information"):
        assert told == pytest.approx(weight[int(parent[1:]), int(child[1:])], abs=1e-10)
    likelihood = sum(value for _, _, value in best.edges(data="weight")) - np.diag(weight).sum()
    assert fit.history["log_likelihood"][-1] == pytest.approx(likelihood, abs=1e-10)


@pytest.mark.slow
@pytest.mark.reference
def test_one_component_has_the_edges_of_pgmpy():
    import pandas as pd

    x = dependent((2, 2, 2, 2, 2, 2), 400, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimators = pytest.importorskip("pgmpy.estimators")
        frame = pd.DataFrame(x.astype(int), columns=[f"x{d}" for d in range(6)])
        peer = estimators.TreeSearch(frame, root_node="x0").estimate(estimator_type="chow-liu", show_progress=False)
    fit = quietly("chow_liu_mixture", table_of(x, (2,) * 6), components=1, prior=None)
    assert set(pg.trees(fit)[0].edges) == set(peer.edges())


def test_spanning_trees_are_those_of_networkx():
    weight = torch.rand(5, 12, 12)
    weight = weight + weight.mT
    for parents, matrix in zip(maximum_spanning_trees(weight).tolist(), weight.numpy(), strict=True):
        best = networkx.maximum_spanning_tree(networkx.from_numpy_array(matrix - np.diag(np.diag(matrix))))
        assert {frozenset((d, p)) for d, p in enumerate(parents) if p >= 0} == set(map(frozenset, best.edges))


def test_parents_stand_before_their_children():
    for columns in (1, 2, 3, 17):
        parents = UniformTrees(40, columns).sample()
        place = top_down(parents).argsort(1)
        above = torch.where(parents < 0, -1, place.gather(1, parents.clamp_min(0)))
        assert bool((above < place).all())
        assert bool(((parents < 0).sum(1) == 1).all())


@pytest.mark.stats
def test_all_labelled_trees_are_equally_probable():
    torch.manual_seed(0)
    law = UniformTrees(4000, 4)
    count = np.unique(law.sample().numpy(), axis=0, return_counts=True)[1]
    assert len(count) == 16
    assert ((count - 250) ** 2 / 250).sum() < 37.7  # chi square with 15 degrees of freedom: one in a thousand
    assert UniformTrees(1, 4).log_prob(law.sample()[:1]).exp() == pytest.approx(1 / 16)


# ------------------------------------------------------------------------------------------------------- densities
@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("prior", ["default", None])
def test_unknown_cells_are_summed_out(sizes, prior):
    family, theta, x, _ = case(sizes, prior=prior)
    natural, grid = family.natural(theta), every_row(sizes)
    cells = family.score(natural, grid)
    assert_close(cells.logsumexp(1), torch.zeros(3), atol=1e-12, rtol=0)
    possible = (x[:, None].isnan() | (x[:, None] == grid)).all(2)
    summed = torch.where(possible, cells[:, None], -torch.inf).logsumexp(2)
    assert_close(family.score(natural, x), summed, atol=1e-10, rtol=1e-10)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("share", [0.3, 0.7])
@pytest.mark.parametrize("sizes", SIZES)
def test_statistics_are_the_counts_of_all_completions(sizes, share):
    """Of all pairs of levels, on the edges of the tree or not."""
    family, theta, x, weight = case(sizes, share, rows=60)
    score, found = expected(family, theta, x, weight)
    grid, M = every_row(sizes), family.levels.indicators
    pairs, unknown = torch.zeros(3, M, M), torch.zeros(3, family.levels.total)
    for row, value in zip(grid, family.score(family.natural(theta), grid).T, strict=True):
        share = torch.where((x.isnan() | (x == row)).all(1), (value[:, None] - score).exp(), 0.0) * weight
        hot = family.levels.one_hot(row[None])[0].double()
        z = hot[family.levels.later]
        pairs += share.sum(1)[:, None, None] * z[:, None] * z
        unknown += share @ (x.isnan()[:, family.levels.column] * hot)
    assert_close(found["pairs"], pairs, atol=1e-11, rtol=1e-11)
    assert_close(found["unknown"], unknown, atol=1e-11, rtol=1e-11)
    assert_close(found["log_normaliser"], weight.sum(1))


@pytest.mark.parametrize("sizes", SIZES)
def test_rows_with_trees_of_their_own_have_the_same_density(sizes):
    family, theta, x, _ = case(sizes)
    at = torch.arange(len(x)) % 3
    scores = family.score(family.natural(theta), x)[at, torch.arange(len(x))]
    assert_close(family.log_prob(by_rows(theta, at), x), scores, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_compiled_loops_and_tensor_operations_agree(share, monkeypatch):
    """Twenty columns, more trees than a compiled loop takes at once."""
    if level_pairs.library("pairs") is None:
        pytest.skip("no C compiler here")
    family, theta, x, weight = case((2, 3, 2, 2, 4) * 4, share, table=19)
    found = [expected(family, theta, x, weight)]
    for module in (level_pairs, tree_holes):
        monkeypatch.setattr(module, "takes", lambda *_: False)
    found.append(expected(family, theta, x, weight))
    assert_close(found[0][0], found[1][0], atol=1e-10, rtol=1e-10)
    for key in ("log_normaliser", "pairs", "unknown"):
        assert_close(found[0][1][key], found[1][1][key], atol=1e-10, rtol=1e-10)


@pytest.mark.usefixtures("loops")
def test_three_hundred_columns_do_not_underflow():
    """A chain and a star, whose densities are known without messages."""
    D = 300
    chain, star = torch.arange(-1, D - 1), torch.zeros(D, dtype=torch.long).index_fill(0, torch.tensor([0]), -1)
    family = ChowLiuTree([2] * D, table=2).double()
    stay = torch.tensor([[1 - 1e-3, 1e-3], [1e-3, 1 - 1e-3]]).log()
    logits = stay.repeat(D, 1).expand(2, -1, -1).clone()
    logits[:, :2] = torch.tensor(0.5).log()
    theta = {"parents": torch.stack([chain, star]), "logits": logits}
    x = (torch.arange(D) % 2).double()[None]
    x[0, 1::2] = torch.nan  # a chain of zeros with every other cell unknown; a star whose known leaves are zeros
    found = family.score(family.natural(theta), x)[:, 0]
    two = torch.linalg.matrix_power(stay.exp(), 2)[0, 0].log()
    assert found[0] == pytest.approx(float(torch.tensor(0.5).log() + (D // 2 - 1) * two), rel=1e-12)
    assert found[1] == pytest.approx(float(torch.tensor(0.5).log() + (D // 2 - 1) * stay[0, 0]), rel=1e-12)
    x[0, 0] = torch.nan
    leaves = (stay * (D // 2 - 1)).logsumexp(0)[0] + torch.tensor(0.5).log()
    assert family.score(family.natural(theta), x)[1, 0] == pytest.approx(float(leaves), rel=1e-12)


def test_impossible_levels_give_no_nan():
    x = np.repeat([[0, 0, 0], [1, 1, 2], [1, 1, 1]], 10, 0)
    fit = quietly("chow_liu_mixture", table_of(x, (2, 2, 3)), components=2, prior=None)
    strange = table_of([[0, 1, np.nan], [0, 0, 2], [np.nan, 1, 0]], (2, 2, 3))
    assert (fit.log_prob(strange).value < -500).all()
    assert np.isfinite(fit.embed(strange)).all()
    assert np.isfinite(fit.fill(strange, 2)[0].values).all()
    holes = quietly("chow_liu_mixture", table_of(punched(x, 0.2), (2, 2, 3)), components=2, prior=None)
    assert np.isfinite(holes.history["objective"]).all()


# --------------------------------------------------------------------------------------------------------- fitting
@pytest.mark.parametrize("prior", ["default", None])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_expectation_maximisation_never_goes_down(prior, share):
    """While the trees change as well as their tables."""
    sizes = (2, 3, 2, 4, 2, 2, 3)
    x = punched(dependent(sizes, 150), share)
    x = x[~np.isnan(x).all(1)]
    fit = quietly("chow_liu_mixture", table_of(x, sizes), components=3, prior=prior, max_steps=25, start="random")
    assert fit.diagnostics["largest_fall"] > -1e-9
    assert fit.history["objective"][-1] > fit.history["objective"][0] + 0.01


@pytest.mark.parametrize("prior", ["default", None])
def test_update_is_the_maximum(prior):
    """Of the expected log likelihood plus the log prior, over trees and tables."""
    family, theta, x, weight = case((2, 3, 2, 4), prior=prior)
    _, statistics = expected(family, theta, x, weight)
    best = family.update(statistics, theta)

    def value(theta):
        natural = family.natural(theta)
        own = sum((natural[key] * statistics[key]).sum() for key in ("log_normaliser", "pairs"))
        return own if prior is None else own + family.log_prior(theta)

    top, generator = value(best), torch.Generator().manual_seed(0)
    joint = family.joint(statistics["log_normaliser"], statistics["pairs"])
    for _ in range(60):
        parents = UniformTrees(3, 4).sample()
        other = {"parents": parents, "logits": family.tables_of(joint, parents)}
        noise = torch.rand(best["logits"].shape, generator=generator) + 0.5
        moved = family.assemble({"parents": best["parents"], "weights": best["logits"].exp() * noise})
        assert value(other) <= top + 1e-9
        assert value(moved) <= top + 1e-9


def test_the_prior_is_so_many_rows_of_independent_columns():
    """As many rows, one for every cell of the product of the frequencies, say the same."""
    sizes = (2, 3, 2)
    x = torch.tensor(dependent(sizes, 200))
    family = ChowLiuTree(sizes, pseudo_rows=7.0).double()
    theta = learned(family, x, torch.ones(1, 200), rounds=1)
    rows = every_row(sizes)
    share = family.levels.one_hot(rows).double() @ torch.diag(family.shares)
    product = torch.stack([share[:, family.levels.column == d].sum(1) for d in range(3)]).prod(0)
    bare = ChowLiuTree(sizes, prior=None).double()
    both = learned(bare, torch.cat([x, rows]), torch.cat([torch.ones(200), 7.0 * product])[None], rounds=1)
    assert torch.equal(theta["parents"], both["parents"])
    assert_close(theta["logits"], both["logits"], atol=1e-9, rtol=1e-9)


def test_the_prior_knows_known_cells_only():
    x = torch.zeros(100, 2)
    x[:20, 0], x[:, 1], x[40:80, 1] = 1.0, torch.nan, 1.0
    family = ChowLiuTree((2, 2)).double()
    family.calibrate(expected(family, family.start(), x, torch.ones(1, 100))[1])
    assert_close(family.shares, torch.tensor([80.5, 20.5, 0.5, 40.5]) / torch.tensor([101.0, 101.0, 41.0, 41.0]))


def test_two_trees_are_found_again():
    rng = np.random.default_rng(0)
    chains = [0, 1, 2, 3, 4, 5, 6, 7], [0, 3, 6, 1, 4, 7, 2, 5]
    x = rng.integers(2, size=(2, 2000, 8)).astype(float)
    for number, chain in enumerate(chains):
        for parent, child in itertools.pairwise(chain):
            copied = rng.random(2000) < 0.8
            x[number, copied, child] = abs(number - x[number, copied, parent])
    table, start = table_of(x.reshape(-1, 8), (2,) * 8), np.repeat([[0.9, 0.1], [0.1, 0.9]], 2000, 0)
    fit = quietly("chow_liu_mixture", table, components=2, start=start)
    for tree, chain in zip(pg.trees(fit), chains, strict=True):
        assert {frozenset(edge) for edge in tree.edges} == {
            frozenset(map("x{}".format, p)) for p in itertools.pairwise(chain)
        }
        assert tree.graph["weight"] == pytest.approx(0.5, abs=0.05)
    assert fit.embed(table)[:2000, 0].mean() > 0.8


def test_more_rows_by_partial_fit():
    """The statistics of rows, half by half, are those of all: with one component and no holes there is nothing else."""
    sizes = (2, 3, 2, 4)
    x = dependent(sizes, 400)
    whole = quietly("chow_liu_mixture", table_of(x, sizes), components=1, prior=None)
    half = quietly("chow_liu_mixture", table_of(x[:200], sizes), components=1, prior=None)
    moved = half.partial_fit(table_of(x[200:], sizes))
    np.testing.assert_allclose(
        moved.log_prob(table_of(x, sizes)).value, whole.log_prob(table_of(x, sizes)).value, rtol=1e-9
    )


def test_weights_are_copies():
    sizes = (2, 3, 2)
    x, weights = dependent(sizes, 60), np.arange(60) % 3 + 1.0
    start = np.random.default_rng(0).dirichlet([1, 1], 60)
    one = quietly("chow_liu_mixture", table_of(x, sizes, weights), components=2, start=start, max_steps=5)
    times = weights.astype(int)
    other = quietly(
        "chow_liu_mixture",
        table_of(np.repeat(x, times, 0), sizes),
        components=2,
        start=np.repeat(start, times, 0),
        max_steps=5,
    )
    np.testing.assert_allclose(one.history["objective"], other.history["objective"], rtol=1e-10)


def test_free_parameters_are_those_of_the_tables():
    table = table_of(dependent((2, 3, 4), 300), (2, 3, 4))
    fit = quietly("chow_liu_mixture", table, components=2, max_steps=5)
    own = 0
    for tree in pg.trees(fit):
        sizes = {"x0": 2, "x1": 3, "x2": 4}
        own += sum(sizes[child] - 1 for child in sizes if not tree.in_degree(child))
        own += sum((sizes[child] - 1) * sizes[parent] for parent, child in tree.edges)
    assert fit.criteria(table).parameters == own + 1
    binary = quietly("chow_liu_mixture", table_of(dependent((2,) * 5, 100), (2,) * 5), components=3, max_steps=2)
    assert binary.criteria(table_of(dependent((2,) * 5, 100), (2,) * 5)).parameters == 3 * 9 + 2


# -------------------------------------------------------------------------------------------------------- questions
@pytest.mark.stats
def test_fills_have_the_conditional_frequencies():
    sizes = (2, 3, 2, 4)
    fit = quietly("chow_liu_mixture", table_of(dependent(sizes, 400), sizes), components=2, max_steps=10)
    grid = every_row(sizes).numpy()
    density = np.exp(fit.log_prob(table_of(grid, sizes)).value)
    row = np.array([np.nan, 2.0, np.nan, np.nan])
    possible = grid[:, 1] == 2
    expected_share = density[possible] / density[possible].sum()
    drawn = fit.fill(table_of(np.repeat(row[None], 4000, 0), sizes), 1)[0].values
    share = (drawn[:, None] == grid[possible]).all(2).mean(0)
    assert np.abs(share - expected_share).max() < 4 * 0.5 / 4000**0.5
    nothing = fit.sample(4000).values
    share = (nothing[:, None] == grid).all(2).mean(0)
    assert np.abs(share - density).max() < 4 * 0.5 / 4000**0.5


def test_columns_with_a_family_of_their_own_stay_outside():
    sizes = (2, 3, 4)
    table = table_of(dependent(sizes, 150), sizes)
    fit = quietly("chow_liu_mixture", table, components=2, families={"x2": "ordered_logistic"}, max_steps=5)
    assert list(pg.trees(fit)[0].nodes) == ["x0", "x1"]
    assert np.isfinite(fit.log_prob(table).value).all()


def test_without_discrete_columns_it_is_a_latent_class_model():
    x = np.random.default_rng(0).normal(size=(80, 2))
    fits = [quietly(name, x, components=2, max_steps=8) for name in ("chow_liu_mixture", "latent_class")]
    np.testing.assert_array_equal(*(fit.history["objective"] for fit in fits))
    with pytest.raises(pg.CapabilityError, match="no trees"):
        pg.trees(fits[0])


def test_parents_are_readable():
    fit = quietly("chow_liu_mixture", table_of(dependent((2, 3), 50), (2, 3)), components=2, max_steps=3)
    found = fit.parameters()["component.discrete"]
    assert found["parents"].tolist() == [[-1, 0], [-1, 0]]
    np.testing.assert_allclose(found["probs"][:, 2:].sum(1), 1.0)


# -------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 0}, "at least 1"),
        ({"pseudo_rows": 0.0}, "positive number of rows"),
        ({"pseudo_rows": "many"}, "positive number of rows"),
        ({"prior": "flat"}, "prior must be"),
        ({"method": "nuts"}, "supports: em"),
        ({"families": {"x0": "poisson"}}, "families for it"),
        ({"components": 10**7}, "fewer components"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(pg.ProbgenError, match=message):
        pg.fit("chow_liu_mixture", table_of(dependent((2, 3), 30), (2, 3)), progress=False, **options)


def test_standard_errors_of_trees_are_refused():
    table = table_of(dependent((2, 3), 30), (2, 3))
    fit = quietly("chow_liu_mixture", table, components=1)
    with pytest.raises(pg.CapabilityError, match="discrete"):
        fit.standard_errors(table)


def test_scores_have_no_second_derivative():
    family, theta, x, _ = case((2, 3), table=1)
    leaves = {key: value.detach().requires_grad_() for key, value in family.natural(theta).items()}
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(family.score(leaves, x).sum(), leaves["pairs"], create_graph=True)


def test_draws_given_cells_keep_them():
    family, theta, x, _ = case((2, 3, 4, 2))
    filled = family.fill(by_rows(theta, torch.arange(len(x)) % 3), x)
    assert torch.equal(filled[~x.isnan()], x[~x.isnan()])
    evidence = torch.ones(1, 4, 4, 1)
    assert Beliefs(family.tables(theta["logits"]), theta["parents"], evidence).draw().shape == (3, 4, 1)
