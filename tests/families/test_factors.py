"""Factors without symbols: their sum over rows, by rows and by counts."""

import pytest
import torch

from probgen.families.base import Factor, LookedUp, total_of


@pytest.mark.parametrize("weighted", [False, True])
def test_counts_of_a_table_add_up_like_its_rows(weighted):
    torch.manual_seed(0)
    table = torch.randn(7, dtype=torch.float64)
    table[3] = -torch.inf  # met by no row
    table.requires_grad_()
    places = torch.tensor([0, 1, 1, 2, 4, 5, 6, 6, 6])
    weights = torch.rand(len(places), dtype=torch.float64) if weighted else None
    bare = Factor((), torch.tensor(-0.5, dtype=torch.float64))  # the same number in every row
    total = total_of([LookedUp(table, places), bare], len(places), weights)
    each = torch.ones(len(places), dtype=torch.float64) if weights is None else weights
    assert float(total.detach()) == pytest.approx(float(((table.detach()[places] - 0.5) * each).sum()))
    (counts,) = torch.autograd.grad(total, table)
    assert counts.tolist() == pytest.approx([float(each[places == e].sum()) for e in range(7)])


def test_what_is_impossible_and_met_is_impossible():
    table = torch.tensor([0.0, -torch.inf])
    assert total_of([LookedUp(table, torch.tensor([0, 1]))], 2) == -torch.inf
