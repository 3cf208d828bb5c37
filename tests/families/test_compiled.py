"""Compiled loops beside the same computation in torch operations."""

import numpy as np
import pytest
import torch

import probgen as pg
from probgen import native
from probgen.data import Column, Schema, Table
from probgen.families import Categorical, FullGaussian, categorical, gaussian_joint


@pytest.fixture(autouse=True)
def compiler():
    if native.library("codes") is None:
        pytest.skip("no C compiler here")


@pytest.mark.parametrize("levels", [2, 5, 300])
def test_look_ups_are_sums_over_indicators(levels, monkeypatch):
    rng = np.random.default_rng(levels)
    x = torch.tensor(rng.integers(levels, size=(200, 7)).astype(float))
    x[torch.tensor(rng.random(x.shape) < 0.3)] = torch.nan
    family, rows = Categorical(levels, columns=7, table=3).double(), torch.tensor(rng.integers(3, size=200))
    logits, weight = torch.tensor(rng.normal(size=(3, 7, levels))).requires_grad_(), torch.tensor(rng.normal(size=200))
    found = []
    for compiled in (True, False):
        monkeypatch.setattr(categorical, "usable", lambda _, levels, on=compiled: on and levels < 255)
        value = family.own_score({"logits": logits}, x, rows)
        found.append((value.detach(), *torch.autograd.grad((value * weight).sum(), logits)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("components", [1, 3, 9])
def test_many_patterns_of_holes_are_the_marginals(components, monkeypatch):
    rng = np.random.default_rng(components)
    x = torch.tensor(rng.normal(size=(300, 6)))
    x[torch.tensor(rng.random(x.shape) < 0.4)] = torch.nan
    family = FullGaussian(6, table=components).double()
    root = torch.tensor(rng.normal(size=(components, 6, 6)))
    theta = {"loc": torch.tensor(rng.normal(size=(components, 6))), "precision": root @ root.mT + torch.eye(6)}
    natural = {key: value.detach().requires_grad_() for key, value in family.natural(theta).items()}
    found = []
    for compiled in (True, False):
        monkeypatch.setattr(gaussian_joint, "usable", lambda _, on=compiled: on)
        value = family.score(natural, x)
        found.append((value.detach(), *torch.autograd.grad(value.sin().sum(), list(natural.values()))))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_columns_that_stand_one_after_the_other_in_memory_score_as_rows_do():
    """Numbers of the same table in another order of memory, and row numbers cut out of a wider tensor."""
    torch.manual_seed(0)
    x, rows = torch.randint(3, (300, 6)).double(), torch.randint(2, (300, 2))
    x[torch.rand(x.shape) < 0.3] = torch.nan
    gaussian, codes = FullGaussian(6, table=2).double(), Categorical(3, columns=6, table=2).double()
    natural = {key: value.detach() for key, value in gaussian.natural(gaussian.start()).items()}
    logits, by_column = {"logits": torch.randn(2, 6, 3).double()}, x.mT.contiguous().mT
    torch.testing.assert_close(gaussian.score(natural, by_column), gaussian.score(natural, x))
    expected = codes.own_score(logits, x, rows[:, 1].contiguous())
    torch.testing.assert_close(codes.own_score(logits, by_column, rows[:, 1]), expected)


def test_a_labelled_fit_is_the_same_without_a_compiler(monkeypatch):
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=300)
    x = (rng.integers(4, size=(300, 5)) + y[:, None]) % 4.0
    x[rng.random(x.shape) < 0.2] = np.nan
    columns = [Column(f"x{i}", "categorical", levels=(0, 1, 2, 3), incomplete=True) for i in range(5)]
    schema = Schema((*columns, Column("y", "categorical", levels=(0, 1, 2))))
    table = Table.from_codes(np.column_stack([x, y]), schema)
    fits = []
    for compiled in (True, False):
        monkeypatch.setattr(categorical, "usable", lambda *_, on=compiled: on)
        fits.append(pg.fit("naive_bayes", table, target="y", progress=False))
    np.testing.assert_allclose(*[fit.log_prob(table).value for fit in fits], atol=1e-12)
