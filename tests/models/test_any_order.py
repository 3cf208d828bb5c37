"""Column by column: made and masked_transformer beside enumeration, exact conditionals, and what a network may look at."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema, Table, datasets
from probgen.data.batches import Batch, Place, feature_columns
from probgen.families.cell_chain import AnyOrder, orders_of
from probgen.families.cell_heads import CellHeads
from probgen.inference.objectives.any_order import noise
from probgen.nn import CellTransformer, OrderedMLP, ShownMLP
from probgen.queries.any_order import log_joint_given

QUICK = {"progress": False, "seed": 0}
BITS = Schema(tuple(Column(f"x{i}", "binary", levels=(0, 1), incomplete=True) for i in range(10)))
STATES = np.array(list(itertools.product((0.0, 1.0), repeat=10)))
ANY = {"made": {"hidden": (32,)}, "masked_transformer": {"hidden": (16,)}}
KINDS = {
    "real": Column("real", "real"),
    "day": Column("day", "datetime"),
    "positive": Column("positive", "positive"),
    "share": Column("share", "bounded", bounds=(0.0, 1.0)),
    "count": Column("count", "count"),
    "stars": Column("stars", "count", bounds=(1, 5)),
    "spent": Column("spent", "semicontinuous"),
    "town": Column("town", "categorical", levels=("a", "b", "c")),
    "mood": Column("mood", "ordinal", levels=(1, 2, 3, 4)),
}


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit(*arguments, **{**QUICK, **options})


def rows_of(values):
    """A table of bits; its values are read only, these stay as they are."""
    return Table.from_codes(np.array(values), BITS)


def bits(rows=600, holes=0.0, seed=0):
    """A chain of ten: each column mostly as the one before."""
    rng = np.random.default_rng(seed)
    x = np.empty((rows, 10))
    x[:, 0] = rng.random(rows) < 0.5
    for at in range(1, 10):
        x[:, at] = np.where(rng.random(rows) < 0.8, x[:, at - 1], 1 - x[:, at - 1])
    x[rng.random(x.shape) < holes] = np.nan
    return rows_of(x[~np.isnan(x).all(1)])


def true_log_prob(x):
    return math.log(0.5) + np.where(x[:, 1:] == x[:, :-1], math.log(0.8), math.log(0.2)).sum(1)


@pytest.fixture(scope="module", params=list(ANY))
def few_steps(request):
    """Networks that have hardly learnt: nothing here may depend on how well."""
    return quiet(request.param, bits(), max_steps=40, learning_rate=1e-2, **ANY[request.param])


# ---------------------------------------------------------------------------------------------------------- enumeration
@pytest.mark.parametrize("known", [range(10), (0, 3, 7), (9, 1), (5,), ()])
def test_the_density_of_every_set_of_known_columns_sums_to_one(few_steps, known):
    values = np.full((2 ** len(known), 10), np.nan)
    values[:, list(known)] = STATES[: 2 ** len(known), 10 - len(known) :]
    table = rows_of(values)
    assert np.exp(few_steps.log_prob(table).value).sum() == pytest.approx(1.0, abs=1e-9)
    assert few_steps.log_prob(table).kind == "exact"


def test_a_mean_over_orders_sums_to_one_and_is_one(few_steps):
    fit = quiet(few_steps.name, bits(), max_steps=5, orders=3, **ANY[few_steps.name])
    table = rows_of(STATES)
    mean = np.exp(fit.log_prob(table).value)
    assert mean.sum() == pytest.approx(1.0, abs=1e-9)
    chain = AnyOrder(fit.program.cells, fit.program.orders)
    x = torch.as_tensor(STATES, dtype=torch.float32)
    with torch.no_grad():
        each = [AnyOrder(chain.cells, order[None]).log_prob(x).exp().numpy() for order in orders_of(10, 3)]
    np.testing.assert_allclose(mean, np.mean(each, 0), rtol=1e-9)
    assert np.abs(each[0] - each[1]).max() > 1e-6


def test_the_density_is_the_product_of_the_conditionals_that_are_answered(few_steps):
    row = bits(1, seed=5).values.copy()
    row[0, [2, 6]] = np.nan
    known, total = np.full((1, 10), np.nan), 0.0
    for at in np.nonzero(~np.isnan(row[0]))[0]:
        shares = pg.class_probabilities(few_steps, rows_of(known), f"x{at}")[0]
        total += math.log(shares[int(row[0, at])])
        known[0, at] = row[0, at]
    assert few_steps.log_prob(rows_of(row)).value[0] == pytest.approx(total, abs=1e-9)


def test_draws_of_unknown_cells_have_the_frequencies_of_the_chain(few_steps):
    row = bits(1, seed=6).values.copy()
    row[0, [1, 4, 8]] = np.nan
    many = rows_of(np.repeat(row, 20_000, 0))
    drawn = few_steps.fill(many, 1)[0].values[:, [1, 4, 8]]
    filled = np.repeat(row, 8, 0)
    filled[:, [1, 4, 8]] = list(itertools.product((0.0, 1.0), repeat=3))
    expected = np.exp(log_joint_given(few_steps, rows_of(filled), ("x1", "x4", "x8")))
    assert expected.sum() == pytest.approx(1.0, abs=1e-9)
    found = np.bincount((drawn @ [4, 2, 1]).astype(int), minlength=8)
    chi_square = ((found - 20_000 * expected) ** 2 / (20_000 * expected)).sum()
    assert chi_square < 24.3  # exceeded once in a thousand


def test_one_question_has_one_answer(few_steps):
    """Class probabilities, marginals and queries of one cell are the same look at the network."""
    row = bits(1, seed=7).values.copy()
    row[0, 3] = np.nan
    table = rows_of(row)
    direct = pg.class_probabilities(few_steps, table, "x3")[0]
    given = {f"x{at}": int(value) for at, value in enumerate(row[0]) if at != 3}
    asked = few_steps.query("x3", given)
    np.testing.assert_allclose(list(asked["x3"].values()), direct, rtol=1e-9)
    np.testing.assert_allclose(list(few_steps.marginals(table, draws=2).probabilities[0].values()), direct, rtol=1e-12)


def test_questions_together_sum_to_one_and_begin_with_the_first(few_steps):
    answer = few_steps.query(["x2", "x5"], {"x0": 1}, joint=True)
    assert answer.joint.sum() == pytest.approx(1.0, abs=1e-9)
    alone = few_steps.query("x2", {"x0": 1})
    np.testing.assert_allclose(answer.joint.sum(1), list(alone["x2"].values()), rtol=1e-9)


# ------------------------------------------------------------------------------------------------------------- learning
@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("made", {"hidden": (64, 64), "max_steps": 700}, 0.12),
        ("masked_transformer", {"hidden": (16,), "max_steps": 400}, 0.06),
    ],
)
def test_a_chain_is_learnt_with_a_third_of_the_cells_unknown(name, options, most):
    """Independent columns would be 1.7 nats off."""
    table = bits(4000, holes=0.33)
    fit = quiet(name, table, learning_rate=1e-2, average=0.99, validation_fraction=0.0, **options)
    truth = true_log_prob(STATES)
    found = fit.log_prob(rows_of(STATES)).value
    assert (np.exp(truth) * (truth - found)).sum() < most  # Kullback-Leibler divergence, nats
    joint, rng, gaps = np.exp(truth), np.random.default_rng(0), []
    for _ in range(40):  # conditionals beside sums over the true joint table
        *given, asked = rng.permutation(10)[:5]
        row = STATES[rng.integers(1024)]
        fits = (STATES[:, given] == row[given]).all(1)
        known = np.full((1, 10), np.nan)
        known[0, given] = row[given]
        found = pg.class_probabilities(fit, rows_of(known), f"x{asked}")[0, 1]
        gaps.append(found - joint[fits & (STATES[:, asked] == 1)].sum() / joint[fits].sum())
    assert np.sqrt(np.mean(np.square(gaps))) < 0.08  # 0.3 where nothing is learnt
    assert pg.order_spread(fit, bits(100, seed=3)).std(0).mean() < 0.4


def test_conditionals_of_a_normal_are_found_in_both_directions():
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    table = pg.Table({"x": 3.0 + 2.0 * x, "y": 0.8 * x + 0.6 * rng.normal(size=3000)})
    fit = quiet("made", table, hidden=(64,), max_steps=800, learning_rate=5e-3, average=0.99, components=2)
    entropy = 1 + math.log(2 * math.pi) + math.log(2.0 * 0.6)
    assert -fit.log_prob(table).value.mean() == pytest.approx(entropy, abs=0.06)
    for known, asked, mean, sd in [({"x": 5.0}, "y", 0.8, 0.6), ({"y": 1.0}, "x", 3.0 + 1.6, 1.2)]:
        drawn = fit.sample(4000, given=known).to_pandas()[asked]
        assert drawn.mean() == pytest.approx(mean, abs=0.15 * sd + 0.05)
        assert drawn.std() == pytest.approx(sd, rel=0.12)


def test_a_target_is_predicted_by_leaving_it_unknown():
    table = datasets.load("penguins")
    fit = quiet("made", table, hidden=(64,), max_steps=400, learning_rate=3e-3)
    shares = pg.class_probabilities(fit, table, "species")
    truth = table.values[:, table.schema.index("species")]
    assert (shares.argmax(1) == truth)[~np.isnan(truth)].mean() > 0.93


@pytest.mark.parametrize("name", list(ANY))
def test_tables_are_imputed(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    y, z = x + 0.4 * rng.normal(size=300), np.where(x > 0, "up", "down").astype(object)
    hidden = rng.random(300) < 0.3
    frame = {"x": x, "y": np.where(hidden, np.nan, y), "z": np.where(rng.random(300) < 0.2, None, z)}
    imputed = pg.impute(frame, model=name, m=2, seed=0, progress=False, max_steps=400, learning_rate=5e-3, **ANY[name])
    drawn = imputed.tables[0].to_pandas()
    assert np.corrcoef(x[hidden], drawn["y"][hidden])[0, 1] > 0.6
    assert (drawn["z"] == z).mean() > 0.9


# ------------------------------------------------------------------------------------------------------------ estimates
@pytest.mark.parametrize("holes", [(), (1,)])
def test_what_is_learnt_from_is_the_mean_over_orders(holes):
    """Three columns, all orders one by one, beside the estimate at many random places."""
    fit = quiet("made", bits(), max_steps=20, hidden=(16,))
    cells = fit.program.cells
    row = torch.tensor([[1.0, 0.0, 1.0] + [torch.nan] * 7])
    row[0, list(holes)] = torch.nan
    orders = [torch.tensor([*order, *range(3, 10)]) for order in itertools.permutations(range(3))]
    with torch.no_grad():
        exact = np.mean([float(AnyOrder(cells, order[None]).log_prob(row)) for order in orders])
        priority, place = noise(Batch(row.expand(20_000, -1), BITS), 1)
        many = AnyOrder(cells, orders_of(10, 1)).over_orders(priority, place).log_prob(row.expand(20_000, -1)).numpy()
    assert many.mean() == pytest.approx(exact, abs=float(4 * many.std() / math.sqrt(20_000) + 1e-5))


def test_processes_share_the_noise_of_a_minibatch():
    x = torch.zeros(10, 3)
    torch.manual_seed(0)
    whole = noise(Batch(x, BITS), 2)
    parts = []
    for first, last in ((0, 4), (4, 10)):
        torch.manual_seed(0)
        share = Batch(x[first:last], BITS)
        share.place = Place(first, 10, 10.0)
        parts.append(noise(share, 2))
    for at in range(2):
        torch.testing.assert_close(torch.cat([part[at] for part in parts], 1), whole[at], rtol=0, atol=0)


def test_the_number_of_draws_does_not_change_what_is_reported(few_steps):
    table = bits(20, seed=4)
    one, other = few_steps.log_prob(table, seed=0).value, few_steps.log_prob(table, seed=1, draws=7).value
    np.testing.assert_array_equal(one, other)


def test_training_does_not_score_the_table(monkeypatch):
    """The chain over all rows, with gradients, is what no memory holds."""
    rows, scored = [], AnyOrder.scored
    monkeypatch.setattr(AnyOrder, "scored", lambda self, cells, x: (rows.append(len(x)), scored(self, cells, x))[1])
    quiet("made", bits(), hidden=(8,), max_steps=60, batch_size=32)
    assert sum(rows) <= 1


# ------------------------------------------------------------------------------------------------------------ one order
@pytest.fixture(scope="module", params=["column", "random"])
def one_order(request):
    return quiet("made", bits(), order=request.param, hidden=(32,), max_steps=40, learning_rate=1e-2)


def ordered(fit):
    return fit.program.orders[0].tolist()


def test_one_order_sums_to_one_and_its_first_columns_are_marginals(one_order):
    joint = np.exp(one_order.log_prob(rows_of(STATES)).value)
    assert joint.sum() == pytest.approx(1.0, abs=1e-9)
    first = ordered(one_order)[:4]
    row = np.full((1, 10), np.nan)
    row[0, first] = [1, 0, 1, 1]
    summed = joint[(STATES[:, first] == row[0, first]).all(1)].sum()
    assert np.exp(one_order.log_prob(rows_of(row)).value[0]) == pytest.approx(summed, rel=1e-9)


def test_one_order_completes_and_classifies_what_comes_last(one_order):
    *_, before, last = ordered(one_order)
    table = bits(30, seed=2)
    filled = one_order.fill(table.hide(f"x{before}", f"x{last}"), 2)
    assert not np.isnan(filled[0].values).any()
    target = f"x{ordered(one_order)[0]}"  # from all others, by Bayes' rule
    shares = pg.class_probabilities(one_order, table.hide(target), target)
    values = table.values.copy()
    values[:, table.schema.index(target)] = 1
    ones = np.exp(one_order.log_prob(table.with_values(values)).value)
    values = values.copy()
    values[:, table.schema.index(target)] = 0
    np.testing.assert_allclose(
        shares[:, 1], ones / (ones + np.exp(one_order.log_prob(table.with_values(values)).value))
    )


def test_one_order_refuses_holes_before_known_cells(one_order):
    hidden = bits(5, seed=2).hide(f"x{ordered(one_order)[3]}")
    for asked in (one_order.log_prob, one_order.fill):
        with pytest.raises(pg.CapabilityError, match=r"is known where a column before it is not.* Use order='any'"):
            asked(hidden)
    with pytest.raises(pg.CapabilityError, match="Use order='any'"):
        quiet("made", bits(holes=0.2), order="column", max_steps=5)


def test_a_random_order_is_kept_in_the_file(tmp_path):
    fit = quiet("made", bits(), order="random", hidden=(8,), max_steps=5, seed=3)
    fit.save(tmp_path / "made.probgen")
    table = bits(20, seed=1)
    np.testing.assert_array_equal(pg.load(tmp_path / "made.probgen").log_prob(table).value, fit.log_prob(table).value)
    assert ordered(fit) != list(range(10))


# ----------------------------------------------------------------------------------------------------------------- cells
@pytest.mark.parametrize("name", list(KINDS))
def test_every_kind_of_cell_sums_or_integrates_to_one(name):
    heads = CellHeads(Schema((KINDS[name],)), components=3)
    torch.manual_seed(1)
    outputs = heads.start().double() + torch.randn(heads.outputs).double()
    line = torch.linspace(-60, 60, 200_001, dtype=torch.float64)
    points = {"positive": line.exp(), "spent": line.exp(), "share": line.sigmoid()}.get(name, line)
    kind = KINDS[name].kind
    if kind in ("count", "categorical", "ordinal"):
        last = {"count": 20_000, "stars": 6, "town": 3, "mood": 4}[name]
        points = torch.arange(1 if name == "stars" else 0, last, dtype=torch.float64)
    found = heads.double().log_prob(outputs.expand(len(points), -1), points[:, None])[:, 0].exp()
    total = found.sum() if kind in ("count", "categorical", "ordinal") else torch.trapezoid(found, points)
    if name == "spent":
        total = total + heads.log_prob(outputs[None], torch.zeros(1, 1, dtype=torch.float64)).exp().sum()
    assert float(total) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("name", list(KINDS))
def test_cells_are_drawn_as_their_density_says(name):
    """Mean log density of draws, twice: of what it should be by the density's own sum, and of the draws."""
    heads = CellHeads(Schema((KINDS[name],)), components=2).double()
    torch.manual_seed(0)
    outputs = heads.start().double() + 0.3 * torch.randn(heads.outputs).double()
    head, many = heads.parts()[0], outputs.expand(40_000, -1)
    drawn = head.sample(many)
    other = head.sample(many)
    below = [float((x <= drawn.median()).double().mean()) for x in (drawn, other)]
    assert below[0] == pytest.approx(below[1], abs=0.02)
    if KINDS[name].kind in ("categorical", "ordinal", "count"):
        values, counts = drawn.unique(return_counts=True)
        expected = head.log_prob(outputs.expand(len(values), -1), values).exp()
        np.testing.assert_allclose(counts / 40_000, expected, atol=0.012)
    else:  # the mean of 1 / p over draws within bounds is their length
        low, high = drawn[drawn > 0].quantile(torch.tensor([0.25, 0.75], dtype=torch.float64))
        inside = drawn[(drawn >= low) & (drawn <= high)]
        length = head.log_prob(outputs.expand(len(inside), -1), inside).neg().exp().sum() / len(drawn)
        assert float(length) == pytest.approx(float(high - low), rel=0.05)


def test_the_last_column_of_every_kind_is_summed_or_integrated_out():
    """Of the columns' own order the last one: that is the one marginal that needs no learning."""
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.normal(size=80), rng.integers(3, size=80), rng.lognormal(size=80)])
    schema = Schema((KINDS["real"], KINDS["town"], KINDS["positive"]))
    fit = quiet("made", Table.from_codes(values, schema), hidden=(16,), max_steps=60)
    grid = np.exp(np.linspace(-12, 12, 20_001))
    many = np.repeat(values[:1], len(grid), 0)
    many[:, 2] = grid
    density = np.exp(fit.log_prob(Table.from_codes(many, schema)).value)
    without = np.exp(fit.log_prob(Table.from_codes(values[:1], schema).hide("positive")).value[0])
    assert np.trapezoid(density, grid) == pytest.approx(without, rel=1e-3)


# -------------------------------------------------------------------------------------------------------------- networks
OWNERS, BLOCKS = [0, 1, 1, 2], [([0, 2], 2), ([1], 3)]


@pytest.mark.parametrize("net", [ShownMLP(OWNERS, BLOCKS, 16), CellTransformer(OWNERS, BLOCKS, 8, 8)])
def test_what_is_not_shown_is_not_looked_at(net):
    torch.manual_seed(0)
    numbers, shown = torch.randn(5, 4), torch.tensor([True, False, True]).expand(5, 3)
    other = numbers.clone()
    other[:, 1:3] = torch.randn(5, 2)
    torch.testing.assert_close(net.said(net(numbers, shown)), net.said(net(other, shown)))
    moved = numbers.clone()
    moved[:, 0] += 1.0
    assert not torch.allclose(net.said(net(numbers, shown)), net.said(net(moved, shown)))
    said = net.said(net(numbers, shown))
    for column, place in net.places.items():
        torch.testing.assert_close(net.said_of(net(numbers, shown), column), said[:, place])


def test_one_order_looks_only_at_what_comes_before():
    order = [2, 0, 1]
    net = OrderedMLP(OWNERS, BLOCKS, 16, 16, order=order)
    shown = torch.ones(3, dtype=torch.bool)
    jacobian = torch.autograd.functional.jacobian(lambda x: net.said(net(x, shown)), torch.randn(4))
    for column, place in net.places.items():
        for number, owner in enumerate(OWNERS):
            reached = bool((jacobian[place, number] != 0).any())
            assert reached == (order.index(owner) < order.index(column)), (column, owner)


def test_numbers_of_columns_are_read_as_features_are():
    schema = Schema((KINDS["spent"], KINDS["town"], KINDS["real"]))
    assert feature_columns(schema) == [0, 0, 1, 1, 1, 2]


# ------------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("made", {"order": "best"}, "order must be 'any', 'column' or 'random', got 'best'"),
        ("made", {"hidden": ()}, r"widths of at least one layer, such as \(128,\), got \(\)"),
        ("made", {"hidden": 64}, "hidden must be the widths of layers"),
        ("made", {"orders": 0}, "orders"),
        ("made", {"components": 0}, "components"),
        ("masked_transformer", {"hidden": ()}, "at least one layer"),
        ("masked_transformer", {"orders": 1.5}, "orders"),
        (
            "vae",
            {"objective": "any_order"},
            "any_order' is for models whose cells may come in any order, and 'vae' has none",
        ),
    ],
)
def test_what_cannot_be_is_refused(name, options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        quiet(name, bits(60), max_steps=2, **options)


def test_questions_that_have_no_answer_are_refused(few_steps, one_order):
    with pytest.raises(pg.CapabilityError, match="order_spread is for made"):
        pg.order_spread(one_order, bits(5))
    with pytest.raises(pg.CapabilityError, match="orders"):
        pg.order_spread(few_steps, bits(5), orders=0)
    with pytest.raises(pg.CapabilityError, match="is no network"):
        few_steps.query("x1", do={"x0": 1})
    rows = pg.Table({"a": np.arange(50.0), "b": np.arange(50) % 2})
    fit = quiet("made", rows, hidden=(8,), max_steps=2)
    with pytest.raises(pg.CapabilityError, match="needs a discrete column; 'a' is"):
        pg.class_probabilities(fit, rows, "a")
