"""Passes over the columns of completed rows, each column's unknown cells drawn given all other columns.

R chains stand side by side. Every chain has random streams of its own, named by what they are for, so that its draws do not
depend on which chains stand beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from probgen.families.pairwise import Pairwise
from probgen.families.shrinkage import Theta
from probgen.families.streams import Streams
from probgen.inference.runtime import seed_of

__all__ = ["Completion", "chains_at_once", "streams_of"]

MOST_NUMBERS = 3 * 10**7  # in the designs of all chains that stand side by side


class Completion:
    """R completions of the same rows.

    Args:
        columns: the regressions.
        x: ``(N, D)`` in model coordinates, NaN where unknown.
        streams: one a chain, for the start: known values of each column, drawn at random.

    Attributes:
        x: ``(R, N, D)`` without holes.
        features: ``(R, N, S)`` as the regressions read them.
        unknown: of every column, the rows whose cells are drawn.
        known: of every column, the other rows.
    """

    def __init__(self, columns: Pairwise, x: Tensor, streams: Streams) -> None:
        self.columns, holes = columns, x.isnan()
        self.unknown = [torch.nonzero(hole)[:, 0] for hole in holes.unbind(1)]
        self.known = [torch.nonzero(~hole)[:, 0] for hole in holes.unbind(1)]
        self.x = x.expand(len(streams), *x.shape).clone()
        for at, rows in enumerate(self.unknown):
            if len(rows):
                pool = columns.pool[at]
                self.x[:, rows, at] = pool[streams.integers(len(pool), len(rows))]
        self.features = columns.features(self.x)

    @property
    def visited(self) -> list[int]:
        """The columns with unknown cells, those with the fewest first."""
        return sorted((at for at, rows in enumerate(self.unknown) if len(rows)), key=lambda at: len(self.unknown[at]))

    def redraw(self, at: int, theta: Theta, streams: Streams) -> None:
        """Draw one column's unknown cells."""
        rows = self.unknown[at]
        design = self.columns.design(self.features[:, rows], at)
        cells = self.columns.responses[at].draw(theta, design, streams)
        self.x[:, rows, at] = cells
        self.columns.refresh(self.features, cells, at, rows)


def streams_of(seed: int, chains: Sequence[int], *what: object) -> Streams:
    """The streams of some chains for one purpose."""
    return Streams([seed_of(seed, chain, *what) for chain in chains])


def chains_at_once(columns: Pairwise, rows: int) -> int:
    """How many chains can stand side by side in memory."""
    widest = max(
        (len(others) + len(a) for others, (a, _) in zip(columns.others, columns.pairs, strict=True)), default=0
    )
    return max(1, MOST_NUMBERS // max(rows * (widest + 2 * len(columns.owner)), 1))
