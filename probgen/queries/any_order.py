"""What models of any order are asked for directly: cells given others, and how far orders agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.families.cell_chain import AnyOrder, orders_of
from probgen.inference.tracing import observe
from probgen.queries.log_prob import log_jacobian
from probgen.whole import check_whole

__all__ = ["level_probabilities", "log_joint_given", "order_spread"]

ROWS = 8192


def order_spread(fit: Any, table: Any, *, orders: int = 8, seed: int = 0) -> np.ndarray:
    """``(orders, N)``: log density of the known cells of every row along several orders, the columns' own first.

    A model of any order has learnt all of them by one network. As far as it is consistent, they are equal: their standard deviation over
    orders says how far conditionals along different orders can be trusted to belong together.

    Args:
        fit: of ``made`` or ``masked_transformer``.
        table: rows with the fit's columns; units are those of :meth:`Fit.log_prob`.
        orders: how many.
        seed: of those that are random.

    Raises:
        CapabilityError: the model has one order, or none.

    Example:
        >>> import probgen as pg
        >>> rows = pg.Table(np.random.default_rng(0).integers(2, size=(60, 3)).astype(float))
        >>> fit = pg.fit("made", rows, hidden=(8,), max_steps=20, progress=False)
        >>> pg.order_spread(fit, rows, orders=4).shape
        (4, 60)
    """
    if not fit.traits.any_order:
        raise CapabilityError(
            f"{fit.name!r} does not say its columns in any order; order_spread is for made (order='any') and masked_transformer."
        )
    check_whole("orders", orders)
    read, width = fit.read(table), len(fit.schema)
    generator = torch.Generator().manual_seed(seed)
    drawn = [orders_of(width, 1)[0], *(torch.randperm(width, generator=generator) for _ in range(orders - 1))]
    with torch.no_grad(), fit.setting():
        rows = [
            torch.stack([AnyOrder(chain.cells, order[None]).log_prob(x) for order in drawn])
            for chain, x in chains(fit, read)
        ]
    return torch.cat(rows, 1).double().cpu().numpy() + log_jacobian(fit, read)


def chains(fit: Any, table: Table) -> Iterator[tuple[AnyOrder, Tensor]]:
    """The distribution of the columns, and the rows, piece by piece."""
    for batch in fit.batches(table, ROWS).pieces():
        sites = observe(fit.program, batch).sites.values()
        yield next(site.distribution for site in sites if isinstance(site.distribution, AnyOrder)), batch.x


def level_probabilities(fit: Any, table: Table, column: str) -> np.ndarray:
    """``(N, L)``: of the levels of a discrete column given the known cells of all others; one look at the network a row."""
    place, found = fit.schema.index(column), []
    with torch.no_grad(), fit.setting():
        for chain, x in chains(fit, table):
            cells = chain.cells.double()
            found += [cells.log_levels(part, place).exp() for part in x.double().split(cells.rows)]
    return torch.cat(found).cpu().numpy()


def log_joint_given(fit: Any, table: Table, columns: Sequence[str]) -> np.ndarray:
    """``(N,)``: log density of some columns of rows, in their order, given the other known cells."""
    places, found = [fit.schema.index(name) for name in columns], []
    with torch.no_grad(), fit.setting():
        for chain, x in chains(fit, table):
            cells = chain.cells.double()
            found += [given(cells, part, places) for part in x.double().split(cells.rows)]
    return torch.cat(found).cpu().numpy()


def given(cells: Any, x: Tensor, places: Sequence[int]) -> Tensor:
    """``(B,)``: of some columns, one after another, given the known cells of all others."""
    numbers, shown, total = cells.read(x), ~x.isnan(), x.new_zeros(len(x))
    shown[:, list(places)] = False
    for place in places:
        total = total + cells.log_prob_of(x[:, place], numbers, shown, place)
        shown = shown.clone()
        shown[:, place] = True
    return total
