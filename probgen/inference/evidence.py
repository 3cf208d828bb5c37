r"""The one scalar: log p(known cells | parameters), with every summed-out site summed or integrated out.

A run of the program gives factors over named dimensions, and elimination sums them out. Because families hand over
un-normalised natural parameters, the gradient of the result is the expected sufficient statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.families.base import Factor, Natural, Parameters, Symbol
from probgen.inference.elimination import (
    AddedBucket,
    Bucket,
    ChainBucket,
    PathBucket,
    SwitchingBucket,
    TreeBucket,
    eliminate,
)
from probgen.inference.tracing import Given, Intervention, Tracer, observe

__all__ = ["Evidence", "log_evidence", "posterior_marginals"]


@dataclass
class Evidence:
    """Log evidence of each row (each sequence), with what made it."""

    rows: Tensor
    buckets: list[Bucket | ChainBucket | PathBucket | SwitchingBucket | AddedBucket | TreeBucket] = field(
        default_factory=list
    )
    trace: Tracer = field(default_factory=Tracer)

    @property
    def symbols(self) -> list[Symbol]:
        """The sites that were summed out."""
        return [symbol for bucket in self.buckets for symbol in bucket.summed_out]

    @property
    def chain(self) -> ChainBucket | None:
        """What is known of the program's chains, where it has any."""
        return next((bucket for bucket in self.buckets if isinstance(bucket, ChainBucket)), None)

    @property
    def paths(self) -> list[PathBucket | SwitchingBucket]:
        """What is known of the continuous latents that were integrated out along the sequences."""
        return [bucket for bucket in self.buckets if isinstance(bucket, PathBucket | SwitchingBucket)]

    @property
    def in_time(self) -> ChainBucket | SwitchingBucket | AddedBucket | None:
        """What is known of the discrete sites that follow each other, where there are any."""
        kinds = ChainBucket | SwitchingBucket | AddedBucket
        return next((bucket for bucket in self.buckets if isinstance(bucket, kinds)), None)

    def log_weights(self, draws: int) -> Tensor | None:
        """``(draws, S)``: log importance weights, where ``rows`` are lower bounds; None where they are exact."""
        found = self.in_time
        return found.log_weights(draws) if isinstance(found, SwitchingBucket | AddedBucket) else None

    def hold(self) -> dict[str, Tensor]:
        """Where an approximation ended, for that of the next parameters to go on from."""
        found = self.in_time
        return found.hold() if isinstance(found, SwitchingBucket | AddedBucket) else {}

    @property
    def scale(self) -> float:
        """How many rows of the whole table one row of the batch stands for (the plate's N / B)."""
        return self.trace.scale

    def total(self, weights: Tensor | None = None) -> Tensor:
        """Weighted sum over rows, scaled to the whole table."""
        rows = self.rows if weights is None else self.rows * weights
        return rows.sum() * self.scale


def log_evidence(
    program: Any,
    batch: Any,
    *,
    theta: Mapping[str, Parameters] | None = None,
    natural: Mapping[str, Natural] | None = None,
    sites: Mapping[str, Tensor] | None = None,
    extra: tuple[Factor, ...] = (),
    settle: bool = False,
    held: Mapping[str, Tensor] | None = None,
    forced: Iterable[str] = (),
) -> Evidence:
    """Log p(known cells, given local sites | parameters) of each row, discrete sites summed out.

    Args:
        program: a Model.
        batch: the rows.
        theta: parameters of families by their name in the program.
        natural: natural parameters that stand in for ``theta``'s (leaves whose gradient is wanted).
        sites: values of latent sites, global or local.
        extra: further factors, for instance a known assignment to components.
        settle: look fully known discrete sites up; faster, but they are then no symbols of the evidence.
        held: where approximations begin, from :meth:`Evidence.hold`.
        forced: sites that are set by intervention: their own densities do not count.
    """
    tracer = observe(program, batch, Given(theta, natural, sites), Intervention(forced), settle=settle)
    rows, buckets = eliminate([*tracer.factors, *extra], held)
    if isinstance(batch, Batch) and not rows.dim():  # nothing is known of any row
        rows = rows.expand(len(batch))
    return Evidence(rows, buckets, tracer)


def posterior_marginals(program: Any, batch: Any, theta: Mapping[str, Parameters]) -> tuple[Tensor, dict[str, Tensor]]:
    """Log evidence ``(N,)``, and probabilities ``(N, K)`` of every summed-out site, all from one backward pass.

    They are the gradient with respect to a factor of each site's own.
    """
    tracer = observe(program, batch, Given(theta), settle=True)
    symbols = dict.fromkeys(symbol for factor in tracer.factors for symbol in factor.symbols)
    with torch.enable_grad():
        probes = {s: batch.x.new_zeros(s.size, len(batch)).requires_grad_() for s in symbols}
        rows, _ = eliminate([*tracer.factors, *(Factor((symbol,), probe) for symbol, probe in probes.items())])
        if not probes:
            return rows, {}
        gradients = torch.autograd.grad(rows.sum(), list(probes.values()))
    return rows.detach(), {symbol.name: found.mT for symbol, found in zip(symbols, gradients, strict=True)}
