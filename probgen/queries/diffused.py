"""The verbs for programs that turn noise into rows, with noise of every row's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from probgen.data.batches import Batch, Batches
from probgen.data.table import Table
from probgen.estimate import Estimate
from probgen.families.denoising import Asked
from probgen.inference.row_noise import RowNoise
from probgen.queries.log_prob import log_jacobian

__all__ = ["class_probabilities", "fill", "log_prob", "new_rows", "states_given"]

ROWS, CELLS = 256, 2**14  # rows a piece, and rows times draws that go through the network together
DRAWS = 200


def log_prob(fit: Any, table: Table, draws: int, seed: int) -> Estimate:
    """The mean over times of every row's terms, with its standard error; never their log mean exponential, which bounds nothing."""
    process, found = fit.program.process, []
    with torch.no_grad(), fit.setting():
        for batch in fit.batches(table, ROWS).pieces():
            noise = RowNoise(batch, seed, "log_prob")
            found.append(process.scored(batch.x, Asked.density(~batch.x.isnan()), draws, noise))
    value, error = (torch.cat(part).double().cpu().numpy() for part in zip(*found, strict=True))
    nothing = ~table.known.any(1)
    value[nothing], error[nothing] = 0.0, 0.0
    return Estimate(value + log_jacobian(fit, table), process.kind, error)


def states_given(fit: Any, row: Table, states: np.ndarray, places: list[int], draws: int, seed: int) -> np.ndarray:
    """``(S,)`` bounds on the log density of some cells' states ``(S, D)`` given the known cells of one row, with the same noise for all."""
    process = fit.program.process
    with torch.no_grad(), fit.setting():
        batch = fit.batches(row, 1).batch(row)
        shown = ~batch.x.isnan()
        modelled = torch.zeros_like(shown)
        modelled[:, places], shown[:, places] = True, False
        found = []
        for state in states:
            x = batch.x.clone()
            x[:, places] = torch.as_tensor(state[places]).to(x)
            found.append(process.scored(x, Asked(modelled, shown), draws, RowNoise(batch, seed, "states"))[0])
    return torch.cat(found).double().cpu().numpy()


def class_probabilities(fit: Any, table: Table, place: int, draws: int, seed: int) -> np.ndarray:
    """``(N, L)``: of a discrete column given the other known cells, by the bound on its own density at every level."""
    process, levels, found = fit.program.process, len(fit.schema[place].levels), []
    hidden = np.array(table.values)
    hidden[:, place] = np.nan
    with torch.no_grad(), fit.setting():
        for batch in fit.batches(table.with_values(hidden), ROWS).pieces():
            shown = ~batch.x.isnan()
            modelled = torch.zeros_like(shown)
            modelled[:, place] = True
            scores = []
            for level in range(levels):
                x = batch.x.clone()
                x[:, place] = level
                noise = RowNoise(batch, seed, "class_probabilities")  # the same for every level
                scores.append(process.scored(x, Asked(modelled, shown), draws, noise)[0])
            found.append(torch.stack(scores, 1).softmax(1).double().cpu().numpy())
    return np.concatenate(found)


def fill(fit: Any, table: Table, draws: int, seed: int) -> list[Table]:
    """Completed tables; known cells keep their bits, and a draw does not depend on how many there are."""
    holes = np.nonzero(~table.known.all(1))[0]
    values = np.repeat(table.values[None], draws, 0)
    if len(holes):
        batches = fit.batches(table.take(holes), ROWS)
        with torch.no_grad(), fit.setting():
            for batch in batches.pieces():
                rows = slice(batch.first, batch.first + len(batch))
                batch.numbers, batch.first = torch.as_tensor(holes[rows]), 0  # noise of rows by their own numbers
                values[:, holes[rows]] = fit.standardiser.inverse(completed(fit, batch, draws, seed))
    return [table.with_values(np.where(table.known, table.values, drawn)) for drawn in values]


def completed(fit: Any, batch: Batch, draws: int, seed: int, what: str = "fill") -> np.ndarray:
    """``(draws, B, D)``, some draws at a time."""
    some, found = max(1, CELLS // len(batch)), []
    for first in range(0, draws, some):
        noises = [RowNoise(batch, seed, what, draw) for draw in range(first, min(first + some, draws))]
        found.append(fit.program.process.filled(batch.x, noises))
    return torch.cat(found).double().cpu().numpy()


def new_rows(fit: Any, n: int, seed: int, known: Table | None = None) -> Table:
    """Rows of which nothing, or the cells of one row, are known."""
    row = np.full((1, len(fit.schema)), np.nan) if known is None else known.values
    table = Table.from_codes(np.repeat(row, n, 0), fit.schema)
    batches: Batches = fit.batches(table, ROWS)
    with torch.no_grad(), fit.setting():
        found = [completed(fit, batch, 1, seed, "sample")[0] for batch in batches.pieces()]
    values = fit.standardiser.inverse(np.concatenate(found))
    return Table.from_codes(np.where(table.known, table.values, values), fit.schema)
