"""The verbs for programs whose density is known up to a normaliser: energies with ``layers``, and an ``energy`` over the columns."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch, Batches
from probgen.data.table import Table
from probgen.estimate import Estimate
from probgen.families.harmonium import Harmonium
from probgen.inference import energy_paths
from probgen.inference.amortised import weighted
from probgen.inference.annealing import Annealed, annealed, enumerable, enumerated, log_normaliser
from probgen.inference.gibbs_chains import complete, generate
from probgen.inference.runtime import seeded
from probgen.queries import walked
from probgen.queries.reading import in_double

__all__ = ["embed", "fill", "log_prob", "new_rows", "normaliser"]

ROWS = 4096
ROW_TEMPERATURES = 500  # of the chains behind a row with holes
CHAINS = 2**13  # rows times draws that run side by side
COMPLETIONS = 32  # draws of the unknown cells behind an embedding


def normaliser(fit: Any) -> Annealed:
    """Log Z of the program's energy, found once a fit and kept with its weights."""
    walking = walked.walks(fit.program)
    layer = fit.program.energy if walking else fit.program.layers[-1]
    if layer.log_z.isnan().any():
        with torch.no_grad(), fit.setting(), seeded(fit.provenance["seed"], "log normaliser"):
            if walking:
                found = energy_paths.log_normaliser(in_double(fit).energy)
            else:
                found = log_normaliser(in_double(fit).layers[-1] if enumerable(layer) else layer)
        layer.log_z = torch.stack([found.value[0], found.error[0], found.size[0]]).double().cpu()
    return Annealed(*layer.log_z[:, None].to(next(layer.parameters()).device))


def log_prob(fit: Any, table: Table, draws: int, seed: int) -> Estimate:
    """Log of the unnormalised density of the known cells, less log Z, in nats and original units."""
    z, found = normaliser(fit), []
    bound = fit.traits.density == "annealed_bound"
    unnormalised = bounded if bound else summed
    if walked.walks(fit.program):
        unnormalised = partial(walked.unnormalised, seed=seed)
    with torch.no_grad(), fit.setting():
        program = in_double(fit)
        batches = Batches(
            table, fit.standardiser, rows=ROWS, dtype=torch.float64, device=fit.device, schema=fit.schema
        )
        for number, batch in enumerate(batches.pieces()):
            with seeded(seed, "log_prob", number):
                found.append(unnormalised(program, batch, draws))
    value, error, size = (torch.cat([getattr(a, k) for a in found]).cpu().numpy() for k in ("value", "error", "size"))
    rows = value - float(z.value) + fit.standardiser.log_jacobian(table.known)
    shared = float(z.error)
    if not bound:  # with nothing known the sum is Z itself
        nothing = ~table.known.any(1)
        rows[nothing], error[nothing], size[nothing] = 0.0, 0.0, np.inf
    if not bound and shared == 0.0 and not error.any():
        return Estimate(rows, "exact")
    kind = "lower_bound" if bound else "annealed"
    error = np.where(np.isinf(error), np.nan, error)  # of one chain, nobody knows
    return Estimate(rows, kind, np.hypot(error, shared), np.minimum(size, float(z.size)), shared_error=shared)


def summed(program: Any, batch: Batch, draws: int) -> Annealed:
    """Hidden units summed out: in closed form for complete rows, else one by one, else by chains along a path."""
    layer = program.layers[0]
    features, seen, log_jacobian = layer.units.read(batch.x)
    found = Annealed.exactly(-layer.free_energy(features))
    holes = ~seen.all(1)
    if holes.any():
        part = partly(layer, features[holes], seen[holes], draws)
        for kept, new in zip((found.value, found.error, found.size), (part.value, part.error, part.size), strict=True):
            kept[holes] = new
    return Annealed(found.value + log_jacobian, found.error, found.size)


def partly(layer: Harmonium, features: Tensor, seen: Tensor, draws: int) -> Annealed:
    if enumerable(layer):
        return Annealed.exactly(enumerated(layer, features, seen))
    rows = zip(features.split(64), seen.split(64), strict=True)
    parts = [annealed(layer, f, s, draws, ROW_TEMPERATURES) for f, s in rows]
    return Annealed(*(torch.cat([getattr(p, k) for p in parts]) for k in ("value", "error", "size")))


def bounded(program: Any, batch: Batch, draws: int) -> Annealed:
    """Importance-weighted average over draws of the program's guide, below the truth on average."""
    terms, left = [], draws
    while left > 0:
        now = min(left, max(1, 2**17 // len(batch)))
        found = weighted(program, batch, now).log_weights
        terms.append(found if found.dim() == 2 else found[None])
        left -= now
    return Annealed.averaged(torch.cat(terms))


# --------------------------------------------------------------------------------------------- cells and latents
def fill(fit: Any, table: Table, draws: int, seed: int) -> list[Table]:
    """Completed tables. Of ``layers`` the chains of all rows and draws run side by side, in blocks that share a random stream."""
    if walked.walks(fit.program):
        return walked.fill(fit, table, draws, seed)
    holes = np.nonzero(~table.known.all(1))[0]
    values = np.repeat(table.values[None], draws, 0)
    rows = max(1, CHAINS // draws)
    with torch.no_grad(), fit.setting():
        for start in range(0, len(holes), rows):
            place = holes[start : start + rows]
            batch = next(fit.batches(table.take(place), rows).pieces())
            for first in range(0, draws, CHAINS):
                now = min(CHAINS, draws - first)
                with seeded(seed, "fill", start, first):
                    drawn = filled_rows(fit.program, batch.x.repeat(now, 1)).unflatten(0, (now, len(place)))
                values[first : first + now, place] = fit.standardiser.inverse(drawn.double().cpu().numpy())
    return [table.with_values(np.where(table.known, table.values, drawn)) for drawn in values]


def filled_rows(program: Any, x: Tensor) -> Tensor:
    """One draw of the unknown cells of rows with holes."""
    units = program.layers[0].units
    features, seen, _ = units.read(x)
    return units.write(complete(program.layers, features, seen))


def new_rows(program: Any, rows: int) -> Tensor:
    """Rows with nothing known."""
    if walked.walks(program):
        return walked.new_rows(program, rows)
    return program.layers[0].units.write(generate(program.layers, rows))


def embed(program: Any, batch: Batch, means: Any, seed: int) -> Tensor:
    """Means of the guide; of rows with holes, averaged over draws of their unknown cells."""
    found = means(program, batch)
    holes = batch.x.isnan().any(1)
    if holes.any():
        with torch.no_grad(), seeded(seed, "embed"):
            drawn = filled_rows(program, batch.x[holes].repeat(COMPLETIONS, 1))
        every = means(program, Batch(drawn, batch.schema))
        found[holes] = every.unflatten(0, (COMPLETIONS, -1)).mean(0)
    return found
