"""Unknown cells drawn given the known ones, and new rows.

Local latents are drawn first: discrete ones exactly (backwards through the eliminated buckets), continuous ones by
importance resampling from the guide and the prior together. Then every observed site fills its own unknown cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.data.sequences import Steps
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.inference.amortised import resample
from probgen.inference.chain import draw_path
from probgen.inference.evidence import Bucket, ChainBucket, Given, PathBucket, Tracer, log_evidence, observe
from probgen.inference.posterior import Theta
from probgen.inference.runtime import seeded

__all__ = ["fill", "sample"]

ROWS = 1024  # rows that share one random stream: results depend on the seed and the row's place, not on workers


def fill(fit: Any, table: Table, draws: int, seed: int) -> list[Table]:
    """Completed tables; known cells keep their bits."""
    if draws < 1:
        raise CapabilityError(f"draws must be at least 1, got {draws}.")
    with torch.no_grad(), fit.setting():
        pieces = list(fit.batches(table, ROWS).pieces())
        return [completed(fit, table, pieces, draw, draws, seed) for draw in range(draws)]


def completed(fit: Any, table: Table, pieces: list[Batch], draw: int, draws: int, seed: int) -> Table:
    theta = fit.posterior.theta(draw * len(fit.posterior) // draws if draws <= len(fit.posterior) else draw)
    found = []
    for number, batch in enumerate(pieces):
        with seeded(seed, "fill", draw, number):
            found.append(fill_batch(fit.program, batch, theta).double().cpu().numpy())
    values = fit.standardiser.inverse(np.concatenate(found))
    return table.with_values(np.where(table.known, table.values, values))


def sample(fit: Any, n: int, steps: int | None, seed: int) -> Table:
    """New rows (sequences): latents from the program itself, then a table with nothing known."""
    if n < 1:
        raise CapabilityError(f"A sample has at least 1 row, got n={n}.")
    if steps is not None and steps < 1:
        raise CapabilityError(f"A sequence has at least 1 step, got steps={steps}.")
    found, length = [], steps or 1
    units = max(1, ROWS // length)  # rows, or sequences, that share one random stream
    with torch.no_grad(), fit.setting():
        for start in range(0, n, units):
            some = torch.full((min(units, n - start),), length)
            rows = torch.full((int(some.sum()), len(fit.schema)), torch.nan)
            batch = Batch(rows, fit.schema, steps=None if steps is None else Steps(some))
            with seeded(seed, "sample", start):
                theta = fit.posterior.theta(int(torch.randint(len(fit.posterior), ())))
                tracer = observe(fit.program, batch, Given(theta), sum_out=False)
                found.append(gather(tracer, batch).double().cpu().numpy())
    lengths = None if steps is None else np.full(n, steps)
    return Table.from_codes(fit.standardiser.inverse(np.concatenate(found)), fit.schema, lengths=lengths)


def fill_batch(program: Any, batch: Batch, theta: Theta) -> Tensor:
    """One draw of the unknown cells of a batch."""
    if not batch.x.isnan().any():
        return batch.x
    latents = resample(program, batch, theta)
    evidence = log_evidence(program, batch, theta=theta, sites=latents)
    codes = draw_codes(evidence.buckets, len(batch))
    tracer = observe(program, batch, Given(theta, sites={**latents, **codes}), sum_out=False)
    return gather(tracer, batch)


def draw_codes(buckets: list[Bucket | ChainBucket | PathBucket], rows: int) -> dict[str, Tensor]:
    """Joint draw of the summed-out sites, in the reverse order of their elimination."""
    drawn: dict[str, Tensor] = {}
    for bucket in reversed(buckets):
        if isinstance(bucket, PathBucket):
            drawn[bucket.path.latent.name] = bucket.states.draw()
            continue
        if isinstance(bucket, ChainBucket):
            path = draw_path(bucket.initial, bucket.transition, bucket.scores, bucket.steps)
            drawn |= bucket.codes(path)
            continue
        value = bucket.value.expand(*bucket.value.shape[: len(bucket.symbols)], rows)
        others = tuple(drawn[symbol.name] for symbol in bucket.symbols[1:])
        place: tuple[Any, ...] = (slice(None), *others, torch.arange(rows, device=value.device))
        logits = value[place] if others else value
        drawn[bucket.symbol.name] = torch.distributions.Categorical(logits=logits.mT).sample()
    return drawn


def gather(tracer: Tracer, batch: Batch) -> Tensor:
    """The table's columns from the observed sites of a run, unknown cells drawn."""
    out = batch.x.clone()
    for site in tracer.sites.values():
        places = [] if site.data is None else batch.places(site.data)
        if places:
            drawn = site.value if site.data is not site.value else site.distribution.fill(site.data)
            out[:, places] = drawn.to(out).reshape(len(out), len(places))
    return torch.where(batch.x.isnan(), out, batch.x)
