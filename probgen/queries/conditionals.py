"""Rows completed, and new rows, by passes over the columns of a model that states conditionals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.table import Table
from probgen.families.shrinkage import Theta
from probgen.inference.conditionals import Completion, chains_at_once, started, streams_of
from probgen.inference.runtime import seed_of

__all__ = ["ended", "fill", "new_rows"]

ROWS = 1024  # rows that share random streams
PASSES = 10  # over columns with holes


def ended(fit: Any, table: Table) -> list[Table]:
    """The training rows as the chains left them, one table a posterior draw; known cells keep their bits."""
    known = table.known
    cells = fit.posterior.cells.double().cpu().numpy()
    made, codes = [], np.zeros(table.values.shape)
    for drawn in cells:
        codes[~known] = drawn
        made.append(table.with_values(np.where(known, table.values, fit.standardiser.inverse(codes))))
    return made


def fill(fit: Any, table: Table, draws: int, seed: int) -> list[Table]:
    """Completed tables, each with the parameters of one posterior draw; known cells keep their bits."""
    size, filled = len(fit.posterior), []
    which = [draw * size // draws if draws <= size else draw % size for draw in range(draws)]
    with torch.no_grad(), fit.setting():
        for number, batch in enumerate(fit.batches(table, ROWS).pieces()):
            filled.append(completed(fit, batch.x, which, seed_of(seed, "fill", number)))
    known, made = table.known, []
    for values in np.concatenate(filled, 1):
        made.append(table.with_values(np.where(known, table.values, fit.standardiser.inverse(values))))
    return made


def completed(fit: Any, x: Tensor, which: Sequence[int], seed: int) -> np.ndarray:
    """``(draws, B, D)``: completions of some rows, with the parameters of the numbered posterior draws."""
    if not x.isnan().any():
        return x.expand(len(which), *x.shape).double().cpu().numpy()
    most = chains_at_once(fit.program.columns, len(x))
    parts = [range(at, min(at + most, len(which))) for at in range(0, len(which), most)]
    return np.concatenate([passed(fit, x, list(part), [which[k] for k in part], seed) for part in parts])


def passed(fit: Any, x: Tensor, chains: list[int], numbers: list[int], seed: int) -> np.ndarray:
    """Passes over the columns; rows begin as completed ones that are like them."""
    columns, values = fit.program.columns, fit.posterior.site_values(numbers)
    begun = started(columns, x, columns.pool, seed, streams_of(seed, chains, "start"))
    completion = Completion(columns, x, begun, columns.pool)
    theta = {at: own(values, columns.schema.names[at]) for at in completion.visited}
    for sweep in range(1 if len(theta) == 1 else PASSES):
        for at in completion.visited:
            completion.redraw(at, theta[at], streams_of(seed, chains, "cells", sweep, at))
    return completion.x.double().cpu().numpy()


def own(values: Theta, name: str) -> Theta:
    """Of all parameters, those of one column."""
    split = {key: key.rsplit(".", 2) for key in values}
    return {f"{part}.{last}": values[key] for key, (column, part, last) in split.items() if column == name}


def new_rows(fit: Any, n: int, seed: int, known: Table | None = None) -> Table:
    """Rows of which nothing, or the cells of one row, are known; parameters are those of one draw after the other."""
    size = len(fit.posterior)
    with torch.no_grad(), fit.setting():
        row = torch.full((1, len(fit.schema)), torch.nan) if known is None else fit.batches(known, 1).batch(known).x
        rows = row.to(dtype=fit.dtype, device=fit.device).expand(n, -1)
        parts = [rows[at::size] for at in range(min(size, n))]
        drawn = [completed(fit, x, [at], seed_of(seed, "new", at))[0] for at, x in enumerate(parts)]
    values = np.empty((n, len(fit.schema)))
    for at, part in enumerate(drawn):
        values[at::size] = part
    values = fit.standardiser.inverse(values)
    if known is not None:
        values = np.where(known.known, known.values, values)
    return Table.from_codes(values, fit.schema)
