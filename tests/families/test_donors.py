"""Donors: who they are, what they give, and when numbers are drawn from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families.donors import fair_crps, given_by, neighbours, normal_crps

QUICK = {"progress": False}


def test_neighbours_are_near_in_expectation_first_then_alike():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2, 400, generator=generator)
    zs = torch.randn(2, 400, 3, generator=generator)
    places = torch.rand(2, 400, generator=generator)
    near = neighbours(means[:, :50], zs[:, :50], means, zs, places[:, :50])
    assert near.shape == (2, 50, 5)
    assert bool((near == torch.arange(50)[:, None]).any(-1).all())  # each row is the most like itself
    alone = neighbours(means, zs, means, zs, places, self_too=False)
    assert not bool((alone == torch.arange(400)[:, None]).any())
    rank = means.argsort(1).argsort(1)
    apart = (rank.gather(1, near.flatten(1)).unflatten(1, (50, 5)) - rank[:, :50, None]).abs()
    assert int(apart.max()) <= 40


def test_few_donors_are_enough():
    near = neighbours(
        torch.zeros(1, 4), torch.zeros(1, 4, 2), torch.zeros(1, 3), torch.zeros(1, 3, 2), torch.rand(1, 4)
    )
    assert near.shape[:2] == (1, 4)
    assert int(near.max()) <= 2


def test_all_rows_with_the_same_expectation_can_be_donors():
    """Two groups and nothing else: of 500 rows a group hundreds give, not those that happen to be first."""
    generator = torch.Generator().manual_seed(0)
    group = (torch.arange(1000) % 2).to(torch.get_default_dtype())[None]
    places = torch.rand(1, 1000, generator=generator)
    near = neighbours(group, group[..., None], group, group[..., None], places)
    assert bool((group[0, near] == group[..., None]).all())
    assert len(near.unique()) > 500


def test_rows_give_as_often_as_they_weigh():
    rng = np.random.default_rng(4)
    y = np.where(np.arange(400) < 200, 0.0, 10.0) + rng.random(400)
    hidden = np.arange(400) % 4 == 0
    columns = {"x": rng.normal(size=400), "y": np.where(hidden, np.nan, y)}
    table = Table(columns, Schema((Column("x", "real"), Column("y", "real"))))
    weighted = table.with_weights(np.where(np.arange(400) < 200, 3.0, 1.0))
    options = {"model": "chained_equations", "m": 20, "matching": "values", **QUICK}
    for one, share in ((table, 0.5), (weighted, 0.75)):
        drawn = np.stack([made.values[hidden, 1] for made in pg.impute(one, **options)])
        assert (drawn < 5).mean() == pytest.approx(share, abs=0.04)


def test_a_residual_goes_with_the_new_expectation_and_a_value_as_it_is():
    near, means, ys = torch.tensor([[[0, 2]]]), torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.5, 0.0, 2.0]])
    torch.testing.assert_close(given_by(near, torch.tensor([[10.0]]), means, ys, 1), torch.tensor([[[10.5, 9.0]]]))
    torch.testing.assert_close(given_by(near, torch.tensor([[10.0]]), means, ys, 2), torch.tensor([[[1.5, 2.0]]]))


def test_crps_of_normals_is_that_of_many_draws():
    y = torch.tensor([-1.0, 0.3, 2.5])
    drawn = 0.7 + 1.3 * torch.randn(3, 2000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fair_crps(drawn, y), normal_crps(y - 0.7, torch.tensor(1.3)), atol=0.04, rtol=0)
    few = 0.7 + 1.3 * torch.randn(20000, 3, generator=torch.Generator().manual_seed(2))
    fair = fair_crps(few, torch.full((20000,), 0.3)).mean()
    assert float(fair) == pytest.approx(float(normal_crps(torch.tensor([-0.4]), torch.tensor(1.3))), abs=0.02)


def manner(y, **columns):
    kinds = tuple(Column(name, "real") for name in columns)
    table = Table({**columns, "y": y}, Schema((*kinds, Column("y", "count" if y.dtype == int else "real"))))
    fit = pg.fit("chained_equations", table, draws=1, sweeps=1, **QUICK)
    return int(fit.program.columns.readings[-1].response.manner)


def test_noise_is_normal_where_it_looks_so_and_donors_give_where_not():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    assert manner(x + rng.normal(size=400), x=x) == 0
    assert manner(np.where(rng.random(400) < 0.5, x + 3, -x - 3) + 0.1 * rng.normal(size=400), x=x) > 0
    assert manner(np.where(np.arange(30) % 2 == 0, -3.0, 3.0) + rng.normal(size=30), x=x[:30]) == 0  # too few to tell


def test_residuals_that_are_not_normal_are_taken_from_donors():
    """Skewed noise around a line: the share above a value comes out right."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=1000)
    y = x - rng.gamma(2.0, size=1000)
    hidden = np.arange(1000) % 3 == 0
    names = Schema((Column("x", "real"), Column("y", "real")))
    imputed = pg.impute(Table({"x": x, "y": np.where(hidden, np.nan, y)}, names), m=10, **QUICK)
    assert int(imputed.fits[0].program.columns.readings[1].response.manner) > 0
    drawn = np.stack([one.values[hidden, 1] for one in imputed])
    expected = np.mean(x[hidden][:, None] - rng.gamma(2.0, size=(hidden.sum(), 200)) > 0)
    assert (drawn > 0).mean() == pytest.approx(expected, abs=0.025)


def test_heaps_are_drawn_as_heaps():
    """Hours of work: nearly half are 40 exactly."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=600)
    hours = np.where(
        rng.random(600) < 0.45, 40, np.clip(np.round(40 + 4 * x + 12 * rng.normal(size=600)), 1, 99)
    ).astype(int)
    hidden = rng.random(600) < 0.3
    table = Table(
        {"x": x, "hours": np.where(hidden, np.nan, hours)}, Schema((Column("x", "real"), Column("hours", "count")))
    )
    imputed = pg.impute(table, m=10, **QUICK)
    drawn = np.stack([one.values[hidden, 1] for one in imputed])
    assert (drawn == 40).mean() == pytest.approx((hours[~hidden] == 40).mean(), abs=0.06)
    assert (drawn > 40).mean() == pytest.approx((hours[~hidden] > 40).mean(), abs=0.06)
    later = imputed.transform(table)
    assert np.mean([(one.values[hidden, 1] == 40).mean() for one in later]) == pytest.approx(0.47, abs=0.08)


@pytest.mark.parametrize("matching", ["none", "residuals", "values"])
def test_the_choice_can_be_told(matching):
    rng = np.random.default_rng(2)
    x = rng.normal(size=60)
    y = np.where(np.arange(60) < 20, np.nan, x + rng.normal(size=60))
    imputed = pg.impute({"x": x, "y": y}, m=3, matching=matching, **QUICK)
    apart = [np.abs(one.values[:20, 1, None] - y[20:]).min(1).max() for one in imputed]  # from any known value
    assert (max(apart) < 1e-9) == (matching == "values")


def test_no_choice_is_refused():
    with pytest.raises(pg.CapabilityError, match="matching must be auto, none, residuals, values, got 'pmm'"):
        pg.impute({"x": [1.0, 2.0, 3.0], "y": [1.0, 2.0, np.nan]}, m=2, matching="pmm", **QUICK)
