"""Rows completed, and new rows, by passes over the columns of a model that states conditionals."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.table import Table
from probgen.families.shrinkage import Theta
from probgen.inference.conditionals import Completion, chains_at_once, streams_of
from probgen.inference.runtime import seed_of

__all__ = ["fill", "new_rows"]

ROWS = 1024  # rows that share random streams
SWEEPS, SETTLING = 10, 30  # from known values drawn at random; from nothing known


def fill(fit: Any, table: Table, draws: int, seed: int) -> list[Table]:
    """Completed tables, each with the parameters of one posterior draw; known cells keep their bits."""
    filled = []
    with torch.no_grad(), fit.setting():
        for number, batch in enumerate(fit.batches(table, ROWS).pieces()):
            filled.append(completed(fit, batch.x, draws, seed_of(seed, "fill", number)))
    known = table.known
    made = []
    for values in np.concatenate(filled, 1):
        made.append(table.with_values(np.where(known, table.values, fit.standardiser.inverse(values))))
    return made


def completed(fit: Any, x: Tensor, draws: int, seed: int) -> np.ndarray:
    """``(draws, B, D)``: completions of some rows, spread over the posterior's draws."""
    size, columns = len(fit.posterior), fit.program.columns
    which = [draw * size // draws if draws <= size else draw % size for draw in range(draws)]
    if not x.isnan().any():
        return x.expand(draws, *x.shape).double().cpu().numpy()
    most = chains_at_once(columns, len(x))
    parts = [range(at, min(at + most, draws)) for at in range(0, draws, most)]
    return np.concatenate([passed(fit, x, list(part), [which[k] for k in part], seed) for part in parts])


def passed(fit: Any, x: Tensor, chains: list[int], numbers: list[int], seed: int) -> np.ndarray:
    """Passes over the columns, with the parameters of the numbered draws."""
    columns, values = fit.program.columns, fit.posterior.site_values(numbers)
    completion = Completion(columns, x, streams_of(seed, chains, "start"))
    sweeps = 1 if len(completion.visited) == 1 else SETTLING if x.isnan().all(1).any() else SWEEPS
    for sweep in range(sweeps):
        for at in completion.visited:
            theta = own(values, columns.schema.names[at])
            completion.redraw(at, theta, streams_of(seed, chains, "cells", sweep, at))
    return completion.x.double().cpu().numpy()


def own(values: Theta, name: str) -> Theta:
    """Of all parameters, those of one column."""
    split = {key: key.rsplit(".", 2) for key in values}
    return {f"{part}.{last}": values[key] for key, (column, part, last) in split.items() if column == name}


def new_rows(fit: Any, n: int, seed: int) -> Table:
    """Rows of which nothing was known; parameters are those of one draw after the other."""
    unknown = torch.full((n, len(fit.schema)), torch.nan)
    size = len(fit.posterior)
    with torch.no_grad(), fit.setting():
        unknown = unknown.to(dtype=fit.dtype, device=fit.device)
        parts = [unknown[at::size] for at in range(min(size, n))]
        drawn = [passed(fit, x, [at], [at], seed)[0] for at, x in enumerate(parts)]
    values = np.empty((n, len(fit.schema)))
    for at, part in enumerate(drawn):
        values[at::size] = part
    return Table.from_codes(fit.standardiser.inverse(values), fit.schema)
