"""The verbs for programs whose density is known up to a normaliser: energies with ``layers``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch, Batches
from probgen.data.table import Table
from probgen.estimate import Estimate
from probgen.families.harmonium import Harmonium
from probgen.inference.amortised import log_weights
from probgen.inference.annealing import Annealed, annealed, enumerable, enumerated, log_normaliser
from probgen.inference.chains import complete, generate
from probgen.inference.runtime import seeded
from probgen.queries.reading import in_double

__all__ = ["filled_embedding", "filled_rows", "log_prob", "new_rows", "normaliser"]

ROWS = 4096
ROW_TEMPERATURES = 500  # of the chains behind a row with holes
COMPLETIONS = 32  # draws of the unknown cells behind an embedding


def normaliser(fit: Any) -> Annealed:
    """Log Z of the program's energy, found once a fit and kept with its weights."""
    layer = fit.program.layers[-1]
    if layer.log_z.isnan().any():
        with torch.no_grad(), fit.setting(), seeded(fit.provenance["seed"], "log normaliser"):
            found = log_normaliser(in_double(fit).layers[-1] if enumerable(layer) else layer)
        layer.log_z = torch.stack([found.value[0], found.error[0], found.size[0]]).double().cpu()
    return Annealed(*layer.log_z[:, None].to(layer.base.device))


def log_prob(fit: Any, table: Table, draws: int, seed: int) -> Estimate:
    """Log of the unnormalised density of the known cells, less log Z, in nats and original units."""
    z, found = normaliser(fit), []
    bound = fit.traits.density == "annealed_bound"
    with torch.no_grad(), fit.setting():
        program = in_double(fit)
        batches = Batches(
            table, fit.standardiser, rows=ROWS, dtype=torch.float64, device=fit.device, schema=fit.schema
        )
        for number, batch in enumerate(batches.pieces()):
            with seeded(seed, "log_prob", number):
                found.append((bounded if bound else summed)(program, batch, draws, z))
    value, error, size = (torch.cat([getattr(a, k) for a in found]).cpu().numpy() for k in ("value", "error", "size"))
    rows = value - float(z.value) + fit.standardiser.log_jacobian(table.known)
    shared = float(z.error)
    if not bound and shared == 0.0 and not error.any():
        return Estimate(rows, "exact")
    kind = "lower_bound" if bound else "annealed"
    return Estimate(rows, kind, np.hypot(error, shared), np.minimum(size, float(z.size)), shared_error=shared)


def summed(program: Any, batch: Batch, draws: int, z: Annealed) -> Annealed:
    """Hidden units summed out: in closed form for complete rows, else one by one, else by chains along a path."""
    layer = program.layers[0]
    features, seen, log_jacobian = layer.units.read(batch.x)
    found = Annealed.exactly(-layer.free_energy(features))
    nothing, holes = ~seen.any(1), ~seen.all(1) & seen.any(1)
    found.value[nothing] = z.value
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


def bounded(program: Any, batch: Batch, draws: int, z: Annealed) -> Annealed:
    """Importance-weighted average over draws of the program's guide, below the truth on average."""
    terms, left = [], draws
    while left > 0:
        now = min(left, max(1, 2**17 // len(batch)))
        found, _, _ = log_weights(program, batch, now)
        terms.append(found if found.dim() == 2 else found[None])
        left -= now
    return Annealed.averaged(torch.cat(terms))


# --------------------------------------------------------------------------------------------- cells and latents
def filled_rows(program: Any, x: Tensor) -> Tensor:
    """One draw of the unknown cells."""
    units = program.layers[0].units
    features, seen, _ = units.read(x)
    holes = ~seen.all(1)
    out = x.clone()
    out[holes] = units.write(complete(program.layers, features[holes], seen[holes]))
    return torch.where(x.isnan(), out, x)


def new_rows(program: Any, rows: int) -> Tensor:
    """Rows with nothing known."""
    return program.layers[0].units.write(generate(program.layers, rows))


def filled_embedding(program: Any, batch: Batch, means: Any, seed: int) -> Tensor:
    """Means of the guide; of rows with holes, averaged over draws of their unknown cells."""
    found = means(program, batch)
    holes = batch.x.isnan().any(1)
    if holes.any():
        x = batch.x[holes]
        with torch.no_grad(), seeded(seed, "embed"):
            drawn = [means(program, Batch(filled_rows(program, x), batch.schema)) for _ in range(COMPLETIONS)]
        found[holes] = torch.stack(drawn).mean(0)
    return found
