"""Unknown cells drawn given the known ones, and new rows.

Local latents are drawn first: discrete ones exactly (backwards through the eliminated buckets), continuous ones by
importance resampling from the guide and the prior together. Then every observed site fills its own unknown cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.data.sequences import Steps
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.inference.amortised import has_guide, resample
from probgen.inference.chain import draw_paths
from probgen.inference.elimination import AddedBucket, Bucket, ChainBucket, PathBucket, SwitchingBucket, TreeBucket
from probgen.inference.evidence import log_evidence
from probgen.inference.posterior import Theta
from probgen.inference.runtime import seeded
from probgen.inference.tracing import Given, Tracer, observe
from probgen.queries import energy

__all__ = ["fill", "sample"]

ROWS = 1024  # rows that share one random stream: results depend on the seed and the row's place, not on workers


def fill(fit: Any, table: Table, draws: int, seed: int) -> list[Table]:
    """Completed tables; known cells keep their bits."""
    if not isinstance(draws, int | np.integer) or draws < 1:
        raise CapabilityError(f"draws must be a whole number of at least 1, got {draws!r}.")
    if not fit.traits.normalised:
        return energy.fill(fit, table, draws, seed)
    with torch.no_grad(), fit.setting():
        pieces = fit.batches(table, min(ROWS, fit.program.piece_rows)).pieces()
        drawn = np.concatenate([completed(fit, batch, at, draws, seed) for at, batch in enumerate(pieces)], 1)
    known, made = table.known, []
    for values in drawn:
        made.append(table.with_values(np.where(known, table.values, fit.standardiser.inverse(values))))
    return made


def completed(fit: Any, batch: Batch, number: int, draws: int, seed: int) -> np.ndarray:
    """``(draws, B, D)``: completions of one piece, spread over the posterior's draws."""
    size, found = len(fit.posterior), []
    which = [draw * size // draws if draws <= size else draw % size for draw in range(draws)]
    for theta, group in groupby(range(draws), key=which.__getitem__):
        streams = [partial(seeded, seed, draw, number) for draw in group]
        found += [
            x.double().cpu().numpy() for x in fill_batch(fit.program, batch, fit.posterior.theta(theta), streams)
        ]
    return np.stack(found)


def sample(fit: Any, n: int, steps: int | None, seed: int) -> Table:
    """New rows (or sequences of ``steps`` rows): latents from the program itself, then a table with nothing known."""
    if not isinstance(n, int | np.integer) or n < 1:
        raise CapabilityError(f"A sample has a whole number of rows, at least 1, got n={n!r}.")
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise CapabilityError(f"A sequence has at least 1 step, got steps={steps!r}.")
    found, many = [], max(1, ROWS // (steps or 1))
    with torch.no_grad(), fit.setting():
        for start in range(0, n, many):
            batch = unknown_rows(fit, min(many, n - start), steps)
            with seeded(seed, "sample", start):
                if not fit.traits.normalised:
                    found.append(energy.new_rows(fit.program, len(batch)).double().cpu().numpy())
                    continue
                theta = fit.posterior.theta(int(torch.randint(len(fit.posterior), ())))
                tracer = observe(fit.program, batch, Given(theta), sum_out=False)
                found.append(gather(tracer, batch).double().cpu().numpy())
    lengths = None if steps is None else np.full(n, steps)
    return Table.from_codes(fit.standardiser.inverse(np.concatenate(found)), fit.schema, lengths=lengths)


def unknown_rows(fit: Any, units: int, steps: int | None) -> Batch:
    """A batch with nothing known."""
    x = torch.full((units * (steps or 1), len(fit.schema)), torch.nan)
    return Batch(x, fit.schema, steps=None if steps is None else Steps(torch.full((units,), steps)))


def fill_batch(program: Any, batch: Batch, theta: Theta, streams: Sequence[Callable]) -> Iterator[Tensor]:
    """One draw of the unknown cells of a batch for every random stream; what draws share is worked out once."""
    if not batch.x.isnan().any():
        yield from (batch.x for _ in streams)
        return
    guided = has_guide(program, batch)
    evidence = None if guided else log_evidence(program, batch, theta=theta)
    paths = [{}] * len(streams) if evidence is None or evidence.chain is None else chain_codes(evidence.chain, streams)
    for stream, codes in zip(streams, paths, strict=True):
        with stream("cells"):
            latents = resample(program, batch, theta) if guided else {}
            found = evidence or log_evidence(program, batch, theta=theta, sites=latents)
            codes = codes | draw_codes(found.buckets, len(batch), codes)
            tracer = observe(program, batch, Given(theta, sites={**latents, **codes}), sum_out=False)
            yield gather(tracer, batch)


def chain_codes(chain: ChainBucket, streams: Sequence[Callable]) -> list[dict[str, Tensor]]:
    """Codes of the chains' symbols, one draw a stream, all draws walking back together."""
    uniform = []
    for stream in streams:
        with stream("path"):
            uniform.append(torch.rand_like(chain.scores[0]))
    paths = draw_paths(chain.initial, chain.transition, chain.scores, chain.steps, torch.stack(uniform))
    return [chain.codes(path) for path in paths]


def draw_codes(
    buckets: Sequence[Bucket | ChainBucket | PathBucket | SwitchingBucket | AddedBucket | TreeBucket],
    rows: int,
    given: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Joint draw of the summed-out sites, in the reverse order of their elimination, those on chains given."""
    drawn = dict(given)
    for bucket in reversed(buckets):
        if isinstance(bucket, ChainBucket):
            continue
        if isinstance(bucket, TreeBucket):
            drawn |= bucket.draw(drawn)
            continue
        if isinstance(bucket, PathBucket | SwitchingBucket | AddedBucket):
            drawn |= bucket.draw()
            continue
        value = bucket.value.expand(*bucket.value.shape[: len(bucket.symbols)], rows)
        others = tuple(drawn[symbol.name] for symbol in bucket.symbols[1:])
        if not others:
            drawn[bucket.symbol.name] = draw_code(bucket.cumulative, rows)
            continue
        place: tuple[Any, ...] = (slice(None), *others, torch.arange(rows, device=value.device))
        drawn[bucket.symbol.name] = torch.distributions.Categorical(logits=value[place].mT).sample()
    return drawn


def draw_code(cumulative: Tensor, rows: int) -> Tensor:
    """``(B,)``: one code a row by inversion, whose cost does not grow with the number of draws and little with K."""
    if cumulative.isnan().any():
        raise CapabilityError(
            "The known cells of a row have density zero under this fit, so nothing can be drawn given them; fit with a"
            " kernel or family that is positive everywhere."
        )
    cumulative = cumulative.expand(rows, -1).contiguous()
    u = torch.rand(rows, 1, dtype=cumulative.dtype, device=cumulative.device) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, u, right=True)[:, 0].clamp_max(cumulative.shape[1] - 1)


def gather(tracer: Tracer, batch: Batch) -> Tensor:
    """The table's columns from the observed sites of a run, unknown cells drawn."""
    out = batch.x.clone()
    for site in tracer.sites.values():
        places = [] if site.data is None else batch.places(site.data)
        if places:
            drawn = site.value if site.data is not site.value else site.distribution.fill(site.data)
            out[:, places] = drawn.to(out).reshape(len(out), len(places))
    return torch.where(batch.x.isnan(), out, batch.x)
