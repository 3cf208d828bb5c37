"""Where iterative methods start: assignments of rows to the values of a discrete site, holes or not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.errors import FitError
from probgen.families.base import Factor, Symbol

__all__ = ["assign", "kmeans_plus_plus"]

UNCERTAIN = -5.0  # log weight of the values that a start speaks against
SAMPLE = 10_000  # rows on which centres are sought


def kmeans_plus_plus(points: Tensor, clusters: int, iterations: int = 20) -> Tensor:
    """Centres ``(K, F)`` by k-means++ seeding (Arthur and Vassilvitskii, 2007) and a few Lloyd steps."""
    centres = points[torch.randint(len(points), (1,))]
    distance = (points - centres).square().sum(1)
    for _ in range(clusters - 1):
        weight = distance + 1e-12
        chosen = points[torch.multinomial(weight, 1)]
        centres = torch.cat([centres, chosen])
        distance = torch.minimum(distance, (points - chosen).square().sum(1))
    for _ in range(iterations):
        nearest = torch.cdist(points, centres).argmin(1)
        member = torch.nn.functional.one_hot(nearest, clusters).to(points)
        count = member.sum(0)[:, None]
        centres = torch.where(count > 0, member.mT @ points / count.clamp_min(1.0), centres)
    return centres


def by_kmeans(batch: Batch, size: int) -> Tensor:
    """Log assignment ``(K, N)``: certain membership of the nearest centre."""
    points = batch.features()
    sample = points[torch.randperm(len(points))[:SAMPLE]]
    centres = kmeans_plus_plus(sample, size)
    nearest = torch.cdist(points, centres).argmin(1)
    return torch.nn.functional.one_hot(nearest, size).mT.to(points).log()


def by_random(batch: Batch, size: int) -> Tensor:
    """Log assignment ``(K, N)``: a draw from the flat Dirichlet for every row."""
    return torch.distributions.Dirichlet(torch.ones(size).to(batch.x)).sample((len(batch),)).mT.log()


def by_segments(batch: Batch, size: int) -> Tensor:
    """Log assignment ``(K, N)``: sequences cut into segments of random lengths, each with a random value."""
    steps = batch.steps
    mean = max(2.0, steps.rows / max(len(steps), 1) / (5 * size))
    cut = torch.rand(steps.rows, device=batch.x.device) < 1.0 / mean
    segment = (cut | (steps.time == 0)).long().cumsum(0) - 1
    value = torch.randint(size, (int(segment[-1]) + 1,), device=batch.x.device)
    return torch.nn.functional.one_hot(value[segment], size).mT.to(batch.x).log()


STARTS: dict[str, Callable[[Batch, int], Tensor]] = {
    "kmeans": by_kmeans,
    "random": by_random,
    "segments": by_segments,
}


def by_time(batch: Batch, size: int) -> Tensor:
    """Log assignment ``(K, N)``: the first K-th of each sequence to the first value, and so on."""
    steps = batch.steps
    segment = steps.time * size // steps.lengths[steps.sequence]
    return torch.nn.functional.one_hot(segment, size).mT.to(batch.x).log()


def assign(
    how: str, batch: Batch, symbols: list[Symbol], chains: bool = False, ordered: bool = False
) -> tuple[Factor, ...]:
    """One factor for each discrete site that makes its values differ; never certain where the sites form chains."""
    if how not in STARTS:
        raise FitError(f"start must be one of {', '.join(STARTS)}, or an array of responsibilities; got {how!r}.")
    chosen = STARTS[how] if len(symbols) == 1 else by_random
    chosen = by_time if ordered else chosen
    floor = UNCERTAIN if chains else -torch.inf
    return tuple(Factor((symbol,), chosen(batch, symbol.size).clamp_min(floor)) for symbol in symbols)
