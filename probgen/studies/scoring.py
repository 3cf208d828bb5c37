r"""Proper scores of draws against what came true, and distances between sets of rows.

All take m draws and estimate what infinitely many would give without bias (the *fair* scores of Ferro, 2014), so that
scores from few and from many draws can be compared. Of a vector y and draws :math:`x_1, \dots, x_m`,

.. math:: \mathrm{ES} = \frac1m \sum_i \lVert x_i - y \rVert - \frac1{2 m (m - 1)} \sum_{i \neq j} \lVert x_i - x_j \rVert

is the energy score (Gneiting and Raftery, 2007); of one number it is the CRPS. Smaller is better, and on average the law
that y came from is best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist, pdist

from probgen.data.schema import Schema
from probgen.data.table import Table
from probgen.studies.filled_cells import crps

__all__ = [
    "Encoding",
    "brier_score",
    "contrast_shares",
    "crps",
    "energy_score",
    "energy_terms",
    "log_score",
    "random_ranks",
]


def energy_score(draws: np.ndarray, truth: np.ndarray) -> float:
    """Of one vector ``(D,)`` and its draws ``(m, D)``; with one draw the distance to it.

    Example:
        >>> energy_score(np.array([[0.0, 0.0], [0.0, 2.0]]), np.array([0.0, 1.0]))
        0.0
    """
    near = np.linalg.norm(draws - truth, axis=1).mean()
    return float(near - 0.5 * pdist(draws).mean()) if len(draws) > 1 else float(near)


def energy_terms(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    r"""``(N,)``: the share of each row in the energy distance of two sets of paired rows ``(N, D)``.

    .. math:: 2 \, \mathrm E \lVert X - Y \rVert - \mathrm E \lVert X - X' \rVert - \mathrm E \lVert Y - Y' \rVert

    A row is compared with all but itself and its partner, so that the mean over rows is 0 on average where both sets come
    from the same law, though row i of one shares cells with row i of the other (Székely and Rizzo, 2013).
    """
    across, own, foreign = cdist(rows, others), cdist(rows, rows), cdist(others, others)
    np.fill_diagonal(across, 0.0)
    one, other = contrast_shares(across, own, foreign, partners=1)
    return one + other


def contrast_shares(
    across: np.ndarray, own: np.ndarray, foreign: np.ndarray, partners: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    r"""``(N,)`` and ``(M,)``: the shares of rows in :math:`2 \, \mathrm E d(X, Y) - \mathrm E d(X, X') - \mathrm E d(Y, Y')`, whose means add up to it.

    Args:
        across: ``(N, M)`` of d between the sets.
        own: ``(N, N)`` of d within the first, zero from a row to itself.
        foreign: ``(M, M)`` within the second.
        partners: rows of the other set that each row is not compared with, where d is zero.
    """
    n, m = across.shape
    one = across.sum(1) / (m - partners) - own.sum(1) / (n - 1)
    return one, across.sum(0) / (n - partners) - foreign.sum(1) / (m - 1)


def brier_score(counts: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """``(N,)``: squared distance of shares of draws, counts ``(N, levels)``, from what came true; fair, between about 0 and 2."""
    m = counts.sum(1, keepdims=True)
    share = counts / m
    hit = np.arange(counts.shape[1]) == truth[:, None]
    spread = (share * (1 - share) / np.maximum(m - 1, 1)).sum(1)
    return ((share - hit) ** 2).sum(1) - spread


def log_score(counts: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """``(N,)``: minus the log share of draws that came true, in nats; one more draw is divided among the levels."""
    smooth = (counts + 1.0 / counts.shape[1]) / (counts.sum(1, keepdims=True) + 1.0)
    return -np.log(smooth[np.arange(len(truth)), truth.astype(int)])


def random_ranks(draws: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``(N,)``: how many of m draws ``(m, N)`` lie below the truth, ties at random; uniform on 0 .. m where the draws are right."""
    fewer, ties = (draws < truth).sum(0), (draws == truth).sum(0)
    return fewer + rng.integers(0, ties + 1)


@dataclass(frozen=True)
class Encoding:
    r"""Cells as vectors in which distances compare.

    Numbers count in standard deviations, labels are indicators over :math:`\sqrt2`, so that two that differ are at distance 1.

    Attributes:
        schema: of the table.
        centre, scale: ``(D,)`` of the known values; 0 and 1 of labels.
    """

    schema: Schema
    centre: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, table: Table) -> Encoding:
        """Scaled to the known cells of a table."""
        moments = [moments_of(table, place) for place in range(table.n_columns)]
        centre, scale = np.array(moments).T
        return cls(table.schema, centre, scale)

    def __call__(self, values: np.ndarray, places: Sequence[int] | np.ndarray) -> np.ndarray:
        """``(..., D)`` values of a table as ``(..., F)``, of some columns only."""
        blocks = []
        for place in places:
            x, column = values[..., place], self.schema[int(place)]
            if is_nominal(column.kind):
                blocks.append((x[..., None] == np.arange(column.cardinality)) / np.sqrt(2.0))
            else:
                blocks.append(((x - self.centre[place]) / self.scale[place])[..., None])
        return np.concatenate(blocks, -1)


def is_nominal(kind: str) -> bool:
    """Levels without an order."""
    return kind in ("binary", "categorical")


def moments_of(table: Table, place: int) -> tuple[float, float]:
    """Mean and standard deviation of a column's known values; 0 and 1 of labels, and of what does not vary."""
    known = table.values[table.known[:, place], place]
    if is_nominal(table.schema[place].kind) or len(known) < 2:
        return 0.0, 1.0
    return float(known.mean()), float(known.std()) or 1.0
