"""Grey levels and heavy tails beside scipy, and how families are named."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch.testing import assert_close

import probgen as pg
from probgen.data import Column, Schema
from probgen.data.batches import features
from probgen.families import Columns, DiscretisedLogistic, StudentColumns

LEVELS = 256


def at(**values):
    return {name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}


@pytest.mark.parametrize(("scale", "loc"), [(0.3, 0.1), (0.01, -0.9), (3.0, 2.0), (1e-3, 0.5), (500.0, -13.0)])
def test_grey_levels_are_steps_of_scipys_logistic(scale, loc):
    family = DiscretisedLogistic(LEVELS)
    theta = at(log_scale=np.log(scale), loc=loc)
    found = family.every({key: value[None] for key, value in theta.items()})[0, 0].numpy()
    told = family.describe(theta)
    edges = np.concatenate([[-np.inf], np.arange(LEVELS - 1) + 0.5, [np.inf]])
    F = stats.logistic(float(told["loc"]), float(told["scale"]))
    upper = edges[:-1] > float(told["loc"])
    steps = np.where(upper, F.sf(edges[:-1]) - F.sf(edges[1:]), F.cdf(edges[1:]) - F.cdf(edges[:-1]))
    held = steps > 1e-250
    np.testing.assert_allclose(found[held], np.log(steps[held]), rtol=1e-7, atol=1e-7)
    assert np.logaddexp.reduce(found) == pytest.approx(0.0, abs=1e-12)


def test_moments_of_grey_levels_are_sums_over_levels():
    family = DiscretisedLogistic(20, columns=3)
    theta = {"log_scale": torch.tensor([[-2.0, 0.0, 1.0]]), "loc": torch.tensor([[-0.9, 0.2, 2.0]])}
    theta = {key: value.double() for key, value in theta.items()}
    p, x = family.every(theta).exp(), torch.arange(20.0)
    assert_close(family.mean(theta), p @ x)
    assert_close(family.sd(theta) ** 2, p @ x**2 - (p @ x) ** 2)


@pytest.mark.reference
def test_the_update_of_grey_levels_is_scipys_maximum(expect):
    x = np.clip(np.round(stats.logistic(9.0, 2.5).rvs(400, random_state=0)), 0, 15)
    edges = np.concatenate([[-np.inf], np.arange(15) + 0.5, [np.inf]])

    def loss(at):
        return -np.log(np.diff(stats.logistic(at[0], np.exp(at[1])).cdf(edges)))[x.astype(int)].sum()

    best = optimize.minimize(loss, [7.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
    family = DiscretisedLogistic(16, prior=None)
    _, statistics = expect(family, family.start(), torch.tensor(x)[:, None])
    told = family.describe(family.update(statistics, family.start()))
    assert float(told["loc"]) == pytest.approx(best.x[0], abs=1e-4)
    assert float(told["scale"]) == pytest.approx(np.exp(best.x[1]), rel=1e-4)


@pytest.mark.parametrize("degrees", [0.7, 3.0, 150.0])
def test_tails_are_scipys(degrees):
    family, x = StudentColumns(), torch.tensor([-40.0, -1.0, 0.0, 2.5, 1e4], dtype=torch.float64)
    theta = at(loc=0.4, precision=1 / 1.7**2, degrees=degrees)
    expected = torch.tensor(stats.t(degrees, 0.4, 1.7).logpdf(x.numpy()))
    assert_close(family.log_prob(theta, x[:, None]), expected)
    table = family.score(family.natural({key: value[None] for key, value in theta.items()}), x[:, None])[0]
    assert_close(table, expected)


@pytest.mark.reference
def test_iterated_updates_of_tails_are_scipys_maximum(expect):
    x = torch.tensor(stats.t(3.0, 1.0, 2.0).rvs(500, random_state=1))[:, None]
    family = StudentColumns(prior=None)
    theta = family.start()
    for _ in range(300):
        theta = family.update(expect(family, theta, x)[1], theta)
    degrees, loc, scale = stats.t.fit(x.numpy())
    assert float(theta["loc"]) == pytest.approx(loc, abs=1e-3)
    assert float(theta["precision"] ** -0.5) == pytest.approx(scale, rel=1e-3)
    assert float(theta["degrees"]) == pytest.approx(degrees, rel=5e-3)


# --------------------------------------------------------------------------------------------------- how they are named
MIXED = Schema(
    (Column("a", "real"), Column("g", "count", bounds=(0, 15)), Column("b", "real"), Column("n", "count")),
)


def names(families):
    return [block.name for block in Columns(MIXED, families=families).parts()]


@pytest.mark.parametrize(
    ("ends", "name"),
    [
        ((1, 5), "discretised_logistic5from1"),
        ((0.5, 5.9), "discretised_logistic5from1"),
        ((-3, 5), "discretised_logistic6"),
        ((1900, 2924), "discretised_logistic1025from1900"),
        ((1900, 2925), "count"),
        ((3, np.inf), "count"),
    ],
)
def test_counts_with_ends_are_in_steps_between_them(ends, name):
    (block,) = Columns([Column("n", "count", bounds=ends)]).parts()
    assert block.name == name


def test_counts_need_two_values_between_their_bounds():
    for ends in ((0.2, 0.8), (-7, 0), (4.5, 5.5)):
        with pytest.raises(pg.SchemaError, match="not two whole numbers"):
            Column("n", "count", bounds=ends)


def test_families_by_kind_and_by_name():
    assert names(None) == ["real", "discretised_logistic16", "count"]
    assert names({"real": "student_t"}) == ["student_t", "discretised_logistic16", "count"]
    assert names({"real": "student_t", "b": "gaussian"}) == [
        "student_t",
        "discretised_logistic16",
        "gaussian",
        "count",
    ]
    assert names({"count": "poisson"}) == ["real", "poisson"]
    assert names({"g": "negative_binomial"}) == ["real", "negative_binomial", "count"]


@pytest.mark.parametrize(
    ("families", "said"),
    [
        ({"n": "discretised_logistic"}, "needs bounds, got None"),
        ({"real": "poisson"}, "families for it: gaussian, student_t"),
        ({"positive": "poisson"}, "Columns of kind 'positive'"),
        ({"c": "poisson"}, "families names column 'c'"),
        ({"n": ["poisson"]}, r"Got \['poisson'\]"),
        ({"count": ["poisson"]}, r"Got \['poisson'\]"),
    ],
)
def test_families_that_do_not_fit_are_told(families, said):
    with pytest.raises(pg.CapabilityError, match=said):
        Columns(MIXED, families=families)


def test_counts_without_an_end_are_read_on_the_scale_of_their_logarithms():
    x = torch.tensor([[0.0], [3.0], [40.0]])
    read = [features(x, Schema((Column("n", "count", bounds=ends),))) for ends in (None, (0.0, np.inf), (0.0, 40.0))]
    assert_close(read[1], read[0])
    assert_close(read[2][:, 0], torch.tensor([-1.0, -0.85, 1.0]))


def test_outputs_of_columns_have_their_places():
    """Changing the outputs of one column changes the density of that column and of no other."""
    levels = ("a", "b", "c")
    more = [Column(f"c{at}", "categorical", levels=levels) for at in range(2)]
    more += [Column(f"o{at}", "ordinal", levels=levels) for at in range(2)]
    schema = Schema((*MIXED.columns, *more, Column("s", "semicontinuous"), Column("h", "semicontinuous")))
    columns = Columns(schema, families={"real": "student_t"})
    assert sorted(place for places in columns.output_places for place in places) == list(range(columns.outputs))
    x = torch.full((len(schema), len(schema)), torch.nan).fill_diagonal_(1.0).double()  # a row for every column
    output = 0.3 * torch.randn(columns.outputs).double()
    before = columns(output.expand(len(schema), -1)).log_prob(x)
    for at, places in enumerate(columns.output_places):
        changed = output.clone()
        changed[places] += torch.randn(len(places)).double()
        after = columns(changed.expand(len(schema), -1)).log_prob(x)
        assert ((after - before).abs() > 1e-6).nonzero().flatten().tolist() == [at]
