"""Where iterative methods start: assignments of rows to the values of a discrete site, holes or not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.errors import FitError
from probgen.families.base import Factor, Symbol
from probgen.families.gaussian_path import PathFactor
from probgen.families.gaussian_regression import PotentialFactor
from probgen.families.switching_path import SwitchingPathFactor

__all__ = ["NEARLY_CERTAIN", "assign", "kmeans_plus_plus", "pin_path"]

LAGS, WINDOW = 10, 100  # steps of a window, and numbers in it, where fewer do not suffice
PINNED = 100.0  # precision with which a start holds continuous states
UNCERTAIN, NEARLY_CERTAIN = -5.0, -50.0  # log weights of the values that a start speaks against
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
    cut = torch.rand(steps.rows, dtype=torch.float64, device=batch.x.device) < 1.0 / mean  # the same in any precision
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
    how: str,
    batch: Batch,
    symbols: list[Symbol],
    chains: bool = False,
    ordered: bool = False,
    floor: float = UNCERTAIN,
) -> tuple[Factor, ...]:
    """One factor for each discrete site that makes its values differ.

    Where the sites form chains, which may not go everywhere, nothing is certain: the least log weight is ``floor``.
    """
    if how not in STARTS:
        raise FitError(f"start must be one of {', '.join(STARTS)}, or an array of responsibilities; got {how!r}.")
    chosen = STARTS[how] if len(symbols) == 1 else by_random
    chosen = by_time if ordered else chosen
    least = floor if chains else -torch.inf
    return tuple(Factor((symbol,), chosen(batch, symbol.size).clamp_min(least)) for symbol in symbols)


def window(batch: Batch, lags: range) -> Tensor:
    """``(N, F len(lags))``: centred features of the rows that stand so many places before each row, zeros outside."""
    points, steps = batch.features(), batch.steps
    points = points - points.mean(0)
    at = [steps.time - lag for lag in lags]
    inside = [(time >= 0) & (time < steps.lengths[steps.sequence]) for time in at]
    pieces = [torch.where(seen[:, None], points.roll(lag, 0), 0.0) for lag, seen in zip(lags, inside, strict=True)]
    return torch.cat(pieces, 1)


def subspace_states(batch: Batch, states: int) -> Tensor:
    """``(N, L)``: what the rows up to each row tell best of the rows from it on, as scores of unit variance.

    Principal components of the regression of future windows on past ones (Larimore, 1983; Van Overschee and De Moor,
    1994); of the rows themselves where they stand alone.
    """
    width = batch.features().shape[1]
    lags = min(batch.steps.longest, max(min(LAGS, WINDOW // width), -(-2 * states // width), 1))
    past, future = window(batch, range(lags)), window(batch, range(0, -lags, -1))
    ridge = 1e-3 * len(past) * torch.eye(past.shape[1]).to(past)
    told = past @ torch.linalg.solve(past.mT @ past + ridge, past.mT @ future)
    values, vectors = torch.linalg.eigh(told.mT @ told)
    kept = min(states, len(values))
    scores = told @ vectors.flip(1)[:, :kept]
    scores = scores / scores.square().mean(0).sqrt().clamp_min(1e-6)
    rest = torch.randn(len(told), states - kept).to(told)  # more states than the rows can tell apart
    return torch.cat([scores, rest], 1)


def pin_path(batch: Batch, path: PathFactor | SwitchingPathFactor) -> PotentialFactor:
    """A factor that holds a path's states near what a regression of the future on the past says of them."""
    scores = subspace_states(batch, path.states)
    hold = PINNED * torch.eye(path.states).to(scores)[None]
    return PotentialFactor((), torch.zeros_like(scores[:, 0]), path.latent, PINNED * scores, hold)
