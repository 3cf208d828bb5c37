"""Rows completed by passes over the columns, each drawn given all others, in many chains side by side.

Every chain has random numbers of its own, named by the pass and the column that they are for, so that its draws do not
depend on which chains stand beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from probgen.families.donors import Donors
from probgen.families.pairwise import Pairwise
from probgen.families.shrinkage import Theta
from probgen.families.streams import Streams
from probgen.inference.runtime import seed_of

__all__ = ["Completion", "chains_at_once", "started", "streams_of"]

MOST_NUMBERS = 3 * 10**7  # in the designs of all chains that stand side by side
DONORS, NEAREST = 512, 5  # rows from which others begin; of which one of the nearest is taken
PASSES = 3  # over rows whose donors lack cells themselves
GIVERS, FEWEST_GIVERS = 2000, 10  # rows that give numbers, at a time; and without which none do
PIECE = 4096  # rows that look for donors at a time
FAR = 1e6  # distance of a donor that lacks what a row lacks
TIES = 1e-3  # of standardised squared distances


class Completion:
    """R completions of the same rows.

    Args:
        columns: the regressions.
        x: ``(N, D)`` in model coordinates, NaN where unknown.
        completed: ``(R, N, D)`` to begin with, without holes.
        pool: ``(P, D)`` other rows, without holes, from which numbers are drawn; None for the known cells of these rows.
        weights: ``(N,)`` of these rows, as which often they give.

    Attributes:
        x: ``(R, N, D)`` without holes.
        features: ``(R, N, S)`` as the regressions read them.
        unknown: of every column, the rows whose cells are drawn.
        known: of every column, the other rows; where there are holes the largest cells first, so that rows that reach a level
            lie one after the other.
    """

    def __init__(
        self,
        columns: Pairwise,
        x: Tensor,
        completed: Tensor,
        pool: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        self.columns, self.pool, self.weights, holes = columns, pool, weights, x.isnan()
        self.pool_features = None if pool is None else columns.features(pool[None])
        self.unknown = [torch.nonzero(hole)[:, 0] for hole in holes.unbind(1)]
        self.known = [largest_first(cells) for cells in x.unbind(1)]
        self.x, self.features = completed, columns.features(completed)

    @property
    def visited(self) -> list[int]:
        """The columns with unknown cells, those with the fewest first."""
        return sorted((at for at, rows in enumerate(self.unknown) if len(rows)), key=lambda at: len(self.unknown[at]))

    def redraw(self, at: int, theta: Theta, streams: Streams) -> None:
        """Draw one column's unknown cells."""
        rows = self.unknown[at]
        design = self.columns.design(self.features_of(rows), at)
        cells = self.columns.responses[at].draw(theta, design, streams, self.donors(at, streams))
        self.x[:, rows, at] = cells
        self.columns.refresh(self.features, cells, at, rows)

    def donors(self, at: int, streams: Streams) -> Donors | None:
        """Rows at random, with their regressors in every chain (an approximate Bayesian bootstrap); where they are asked for."""
        cells = self.x[0, self.known[at], at] if self.pool is None else self.pool[:, at]
        gives = self.columns.responses[at].gives(cells)
        if gives is None or int(gives.sum()) < FEWEST_GIVERS:
            return None
        rows = torch.nonzero(gives)[:, 0]
        most, weights = min(len(rows), GIVERS), self.weights if self.pool is None else None
        drawn = (
            streams.integers(len(rows), most)
            if weights is None
            else streams.choices(weights[self.known[at][rows]], most)
        )
        taken = rows[drawn]  # (R, G)
        across = self.features.mT if self.pool_features is None else self.pool_features.mT.expand(len(self.x), -1, -1)
        place = self.known[at][taken] if self.pool is None else taken
        features = across.gather(-1, place[:, None].expand(-1, across.shape[1], -1)).mT
        return Donors(self.columns.design(features, at), cells[taken])

    def features_of(self, rows: Tensor) -> Tensor:
        """``(R, B, S)``: of some rows, laid out as those of all."""
        if len(rows) == self.x.shape[1]:
            return self.features
        across = self.features.mT
        return across.gather(-1, rows.expand(*across.shape[:-1], -1)).mT


def largest_first(cells: Tensor) -> Tensor:
    """Rows whose cell is known; all of them in their own order."""
    known = torch.nonzero(~cells.isnan())[:, 0]
    return known if len(known) == len(cells) else known[cells[known].argsort(dim=0, descending=True, stable=True)]


def started(columns: Pairwise, x: Tensor, donors: Tensor, seed: int, streams: Streams) -> Tensor:
    """``(R, N, D)``: unknown cells taken from rows that are alike where both are known.

    Cells that are unknown together come from one donor, so that chains begin with what holds between them.

    Args:
        columns: the regressions, which say how columns are read.
        x: ``(N, D)`` in model coordinates, NaN where unknown.
        donors: ``(P, D)``; their unknown cells give nothing.
        seed: of what all chains share.
        streams: one a chain.
    """
    made = x.expand(len(streams), *x.shape).clone()
    if not bool(x.isnan().any()):
        return made
    shared = streams_of(seed, [0], "donors")
    near = torch.cat([nearest(columns, piece, donors, shared) for piece in x.split(PIECE)])
    for _ in range(PASSES):
        chosen = near[torch.arange(len(x)), streams.integers(near.shape[1], len(x))]
        made = torch.where(made.isnan(), donors[chosen], made)
        if not bool(made.isnan().any()):
            return made
    for at, cells in enumerate(donors.unbind(1)):
        known = cells[~cells.isnan()]
        drawn = known[streams.integers(len(known), len(x))]
        made[..., at] = torch.where(made[..., at].isnan(), drawn, made[..., at])
    return made


def nearest(columns: Pairwise, x: Tensor, donors: Tensor, shared: Streams) -> Tensor:
    """``(N, NEAREST)``: of every row the donors that are most like it, of those that know most of what it lacks."""
    here, there = columns.features(x), columns.features(donors)
    known, knows = (~here.isnan()).to(x), (~there.isnan()).to(x)
    here, there = here.nan_to_num(), there.nan_to_num()
    apart = here.square() @ knows.mT + known @ there.square().mT - 2 * here @ there.mT
    lacking = (1 - known) @ (1 - knows).mT
    score = apart / (known @ knows.mT).clamp_min(1.0) + FAR * lacking + TIES * shared.uniform(len(x), len(donors))[0]
    return score.topk(min(NEAREST, len(donors)), largest=False).indices


def donors_among(x: Tensor) -> Tensor:
    """Rows with which others can begin: the most complete ones, evenly spaced, and for every column some that know it."""
    known = (~x.isnan()).sum(1)
    order = known.argsort(descending=True, stable=True)
    chosen = [order[torch.linspace(0, len(x) - 1, min(len(x), DONORS)).long()]]
    chosen += [torch.nonzero(~column.isnan())[:NEAREST, 0] for column in x.unbind(1)]
    return x[torch.cat(chosen).unique()]


def streams_of(seed: int, chains: Sequence[int], *what: object) -> Streams:
    """The streams of some chains for one purpose."""
    return Streams([seed_of(seed, chain, *what) for chain in chains])


def chains_at_once(columns: Pairwise, rows: int) -> int:
    """How many chains can stand side by side in memory."""
    widest = max(
        (len(others) + len(a) for others, (a, _) in zip(columns.others, columns.pairs, strict=True)), default=0
    )
    return max(1, MOST_NUMBERS // max(rows * (2 * widest + 2 * len(columns.owner)), 1))
