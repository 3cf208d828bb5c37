"""The verbs for programs with an ``energy`` over the columns themselves, whose cells are summed, annealed or walked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch, Batches
from probgen.data.table import Table
from probgen.families.energy_columns import EnergyColumns
from probgen.inference.annealing import Annealed
from probgen.inference.energy_paths import (
    ROW_CHAINS,
    TOGETHER,
    Path,
    free_path,
    log_unnormalised,
    summable,
    summed,
)
from probgen.inference.row_noise import RowNoise
from probgen.queries.reading import in_double

__all__ = ["fill", "new_rows", "new_rows_given", "unnormalised", "walks"]

ROWS, LEAST = 256, 256  # rows a piece of a fill; chains behind new rows
TEMPERATURES, SWEEPS = 200, 50  # behind a new row


def walks(program: Any) -> bool:
    """Whether a program has such an energy."""
    return isinstance(getattr(program, "energy", None), EnergyColumns)


class EveryDraw:
    """Noise of some draws of the same rows, one draw after the other as if they were other rows."""

    def __init__(self, noises: Sequence[RowNoise]) -> None:
        self.noises, self.rows = noises, len(noises[0])

    def normal(self, like: Tensor) -> Tensor:
        """``(C, S B, P)``."""
        return torch.cat([noise.normal(like[:, : self.rows]) for noise in self.noises], 1)

    def uniform(self, draws: int, like: Tensor) -> Tensor:
        """``(C, S B)``."""
        return torch.cat([noise.uniform(draws, like) for noise in self.noises], 1)


# ------------------------------------------------------------------------------------------------------ densities
def unnormalised(program: Any, batch: Batch, draws: int, seed: int) -> Annealed:
    """Log of the unnormalised density of the known cells: complete rows at once, unknown levels summed, unknown numbers annealed."""
    energy = program.energy
    features, seen, log_jacobian = energy.units.read(batch.x)
    found = Annealed.exactly(energy.log_density(features))
    patterns, which = torch.unique(seen, dim=0, return_inverse=True)
    annealed: list[int] = []
    for number, pattern in enumerate(patterns):
        rows = torch.nonzero(which == number)[:, 0]
        if pattern.all():
            continue
        if summable(energy, pattern[None]):
            found.value[rows] = summed(energy, features[rows], energy.units.spread(seen[rows]))
        elif pattern.any():
            annealed += rows.tolist()
    some = TOGETHER // ROW_CHAINS
    for first in range(0, len(annealed), some):
        place = torch.tensor(annealed[first : first + some], device=seen.device)
        noise = RowNoise(of_rows(batch, place), seed, "log_prob")
        part = log_unnormalised(energy, features[place], seen[place], draws, noise)
        for kept, new in zip((found.value, found.error, found.size), (part.value, part.error, part.size), strict=True):
            kept[place] = new.to(kept)
    return Annealed(found.value + log_jacobian, found.error, found.size)


def of_rows(batch: Batch, place: Tensor) -> Batch:
    """Some rows, under their own numbers."""
    made = Batch(batch.x[place], batch.schema)
    made.numbers = torch.tensor([batch.number(row) for row in place.tolist()])
    return made


# ---------------------------------------------------------------------------------------------------------- cells
def fill(fit: Any, table: Table, draws: int, seed: int) -> list[Table]:
    """Completed tables; known cells keep their bits, and a draw does not depend on how many there are, nor on other rows.

    In double precision: walks are chaotic, and rows that are read together change the last bits of each other's densities.
    """
    holes = np.nonzero(~table.known.all(1))[0]
    values = np.repeat(table.values[None], draws, 0)
    if len(holes):
        with torch.no_grad(), fit.setting():
            program = in_double(fit)
            options: dict[str, Any] = {"dtype": torch.float64, "device": fit.device, "schema": fit.schema}
            for batch in Batches(table.take(holes), fit.standardiser, rows=ROWS, **options).pieces():
                rows = holes[batch.first : batch.first + len(batch)]
                batch.numbers, batch.first = torch.as_tensor(rows), 0
                values[:, rows] = fit.standardiser.inverse(completed(program, batch, draws, seed))
    return [table.with_values(np.where(table.known, table.values, drawn)) for drawn in values]


def completed(program: Any, batch: Batch, draws: int, seed: int) -> np.ndarray:
    """``(draws, B, D)``, every draw of a row with steps of its own, which so depend on none of the others."""
    units, B = program.energy.units, len(batch)
    features, seen, _ = units.read(batch.x)
    known, found = units.spread(seen), []
    for some in torch.arange(draws).split(max(1, TOGETHER // B)):
        path = Path(program.energy, features.repeat(len(some), 1), known.repeat(len(some), 1))
        noise = EveryDraw([RowNoise(batch, seed, "fill", draw) for draw in some.tolist()])
        found.append(path.completed(noise, 1)[0].unflatten(0, (len(some), B)))
    return units.write(torch.cat(found)).double().cpu().numpy()


def new_rows(program: Any, rows: int) -> Tensor:
    """Rows with nothing known, of chains that go from the mixture to the energy together."""
    chains = max(rows, LEAST)
    features, _ = free_path(program.energy).rows(chains, TEMPERATURES, SWEEPS)
    return program.energy.units.write(features[torch.randperm(chains, device=features.device)[:rows]])


def new_rows_given(fit: Any, n: int, seed: int, row: Table) -> Table:
    """Rows of which the cells of one row are known."""
    return fill(fit, Table.from_codes(np.repeat(row.values, n, 0), fit.schema), 1, seed)[0]
