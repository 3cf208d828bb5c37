"""Unknown cells and summed-out sites of a batch drawn given what is known.

Local latents are drawn first: discrete ones exactly (backwards through the eliminated buckets), continuous ones by
importance resampling from the guide and the prior together (of states of sequences step by step, by particles), and by sweeps of Metropolis within Gibbs if they are asked for. Then every observed site fills its own unknown cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.errors import CapabilityError
from probgen.families.base import Factor
from probgen.inference.amortised import GuideTracer, has_guide, of_units, propose, resample
from probgen.inference.chain import draw_paths
from probgen.inference.elimination import AddedBucket, Bucket, ChainBucket, PathBucket, SwitchingBucket, TreeBucket
from probgen.inference.evidence import Evidence, log_evidence
from probgen.inference.gaussian_network import GaussianBucket
from probgen.inference.particles import filtered, state_path
from probgen.inference.posterior import Theta
from probgen.inference.tracing import Given, Tracer, observe

__all__ = ["draw_codes", "fill_batch", "gather"]

PARTICLES = 64
IMPOSSIBLE = (
    "The known cells of a row have density zero under this fit, so nothing can be drawn given them; fit with a"
    " kernel or family that is positive everywhere, or with a prior."
)


def fill_batch(
    program: Any,
    batch: Batch,
    theta: Theta,
    streams: Sequence[Callable],
    forced: Iterable[str] = (),
    extra: tuple[Factor, ...] = (),
    sweeps: int = 0,
) -> Iterator[Tensor]:
    """One draw of the unknown cells of a batch for every random stream; what draws share is worked out once.

    Args:
        program, batch, theta: the model, the rows, the parameters.
        streams: each seeds the draws of one completion.
        forced: sites that are set by intervention.
        extra: further factors over summed-out sites, for instance a known state of a hidden one.
        sweeps: of Metropolis within Gibbs, after the draw of continuous latents.
    """
    if not batch.x.isnan().any():
        yield from (batch.x for _ in streams)
        return
    guided = has_guide(program, batch)
    evidence = None if guided else log_evidence(program, batch, theta=theta, extra=extra, settle=True, forced=forced)
    if evidence is not None and bool((evidence.rows == -torch.inf).any()):
        raise CapabilityError(IMPOSSIBLE)
    paths = [{}] * len(streams) if evidence is None or evidence.chain is None else chain_codes(evidence.chain, streams)
    for stream, codes in zip(streams, paths, strict=True):
        with stream("cells"):
            latents = drawn_latents(program, batch, theta) if guided else {}
            drawn = completed(program, batch, theta, latents, codes, evidence)
            for _ in range(sweeps):
                rows = batch if program.cells_as_latents else with_cells(batch, drawn)
                latents = metropolis(program, rows, theta, latents)
                drawn = completed(program, batch, theta, latents, codes, evidence)
            yield drawn


def drawn_latents(program: Any, batch: Batch, theta: Theta) -> dict[str, Tensor]:
    """Continuous latents given the known cells: of sequences by particles, of rows by resampling."""
    if not batch.in_sequences or state_path(program, batch) is None:
        return resample(program, batch, theta)
    run = filtered(program, batch, theta, PARTICLES, share=0.5)
    return {run.site: run.path(torch.rand(len(batch.steps), device=batch.x.device))}


def completed(
    program: Any,
    batch: Batch,
    theta: Theta,
    latents: Mapping[str, Tensor],
    codes: dict[str, Tensor],
    evidence: Evidence | None,
) -> Tensor:
    """The unknown cells drawn given the known ones and the continuous latents."""
    found = evidence or log_evidence(program, batch, theta=theta, sites=latents, settle=True)
    codes = codes | draw_codes(found.buckets, len(batch), codes)
    return gather(observe(program, batch, Given(theta, sites={**latents, **codes}), sum_out=False), batch)


def with_cells(batch: Batch, x: Tensor) -> Batch:
    """The rows with other cells."""
    return Batch(x, batch.schema, total=batch.total, steps=batch.steps if batch.in_sequences else None)


def metropolis(program: Any, batch: Batch, theta: Theta, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""Latents of complete rows, after one step of Metropolis whose proposals are draws of the guide.

    With the unknown cells drawn anew after it, that is one sweep of Metropolis within Gibbs (Mattei and Frellsen, 2018): the guide need not be
    the posterior, as it need be for pseudo-Gibbs sampling (Rezende, Mohamed and Wierstra, 2014).
    """
    new = propose(program, batch, 1).sites
    gain = log_weight(program, batch, theta, new) - log_weight(program, batch, theta, latents)
    accepted = torch.rand_like(gain).log() < gain
    if batch.in_sequences:
        accepted = accepted[batch.steps.sequence]
    return {name: torch.where(wide(accepted, z), new[name], z) for name, z in latents.items()}


def log_weight(program: Any, batch: Batch, theta: Theta, latents: Mapping[str, Tensor]) -> Tensor:
    """``(U,)``: log density of rows and latents less the guide's."""
    with GuideTracer(latents) as guide:
        program.guide(batch)
    assert guide.log_q is not None
    rows = log_evidence(program, batch, theta=theta, sites=latents, settle=True).rows
    return of_units(batch, rows) - of_units(batch, guide.log_q)


def wide(rows: Tensor, value: Tensor) -> Tensor:
    """``(N,)`` with the dimensions of values ``(N, ..)``."""
    return rows.reshape(rows.shape + (1,) * (value.dim() - 1))


def chain_codes(chain: ChainBucket, streams: Sequence[Callable]) -> list[dict[str, Tensor]]:
    """Codes of the chains' symbols, one draw a stream, all draws walking back together."""
    uniform = []
    for stream in streams:
        with stream("path"):
            uniform.append(torch.rand_like(chain.scores[0]))
    paths = draw_paths(chain.initial, chain.transition, chain.scores, chain.steps, torch.stack(uniform))
    return [chain.codes(path) for path in paths]


def draw_codes(
    buckets: Sequence[Any],
    rows: int,
    given: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Joint draw of the summed-out sites, in the reverse order of their elimination, those on chains given."""
    drawn = dict(given)
    for bucket in reversed(buckets):
        if isinstance(bucket, ChainBucket):
            continue
        if isinstance(bucket, GaussianBucket | TreeBucket):
            drawn |= bucket.draw(drawn)
            continue
        if isinstance(bucket, PathBucket | SwitchingBucket | AddedBucket):
            drawn |= bucket.draw()
            continue
        if len(bucket.symbols) == 1 and isinstance(bucket, Bucket):
            drawn[bucket.symbol.name] = draw_code(bucket.cumulative, rows)
        else:
            weights = bucket.conditional(drawn, rows).mT
            drawn[bucket.symbol.name] = draw_code(weights.double().cumsum(-1), rows)
    return drawn


def draw_code(cumulative: Tensor, rows: int) -> Tensor:
    """``(B,)``: one code a row by inversion, whose cost does not grow with the number of draws and little with K."""
    if not bool((cumulative[:, -1] > 0).all()):
        raise CapabilityError(IMPOSSIBLE)
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
