r"""Whether drawn rows lie among the real ones, and real ones among the drawn: measures by nearest neighbours.

A ball around each real row reaches to its k-th nearest real neighbour, :math:`B(x_i)`, and likewise around drawn rows.

.. math::
    \text{precision} = \frac1M \sum_j 1\bigl[y_j \in \textstyle\bigcup_i B(x_i)\bigr], \qquad
    \text{recall} = \frac1N \sum_i 1\bigl[x_i \in \textstyle\bigcup_j B(y_j)\bigr] \\
    \text{density} = \frac1{kM} \sum_j \sum_i 1\bigl[y_j \in B(x_i)\bigr], \qquad
    \text{coverage} = \frac1N \sum_i 1\bigl[B(x_i) \text{ holds some } y_j\bigr]

Precision and density fall where rows are drawn that could not be real, recall and coverage where kinds of rows are missing. Where both laws are one, density is 1
on average and coverage near :math:`1 - 2^{-k}` for sets of one size; precision and recall depend on the number of columns, so that they are read beside those of two
sets of real rows. Sources: Kynkäänniemi et al. (2019); Naeem et al. (2020).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist

from probgen.errors import DataError
from probgen.studies.sample_distances import Measured, checked, halved
from probgen.whole import check_whole

__all__ = ["density_coverage", "precision_recall"]

Pair = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]  # distances within, across, among, and k


def precision_recall(
    one: np.ndarray, other: np.ndarray, neighbours: int = 3, seed: int = 0
) -> tuple[Measured, Measured]:
    """Improved precision and recall of drawn rows.

    Args:
        one: ``(N, F)`` real rows.
        other: ``(M, F)`` drawn rows.
        neighbours: k.
        seed: of the halves that the errors are made of.

    Raises:
        DataError: unknown cells, other columns, or not more than k rows in a set.

    Example:
        >>> real = np.array([[0.0], [1.0], [2.0], [10.0]])
        >>> precision, recall = precision_recall(real, np.array([[0.5], [1.5], [5.0]]), neighbours=1)
        >>> precision.value, recall.value
        (1.0, 0.75)
    """
    found = judged(one, other, neighbours, seed, both_ways)
    return found[0], found[1]


def density_coverage(
    one: np.ndarray, other: np.ndarray, neighbours: int = 5, seed: int = 0
) -> tuple[Measured, Measured]:
    """Density and coverage of drawn rows, which one far row can do little to.

    Args:
        one: ``(N, F)`` real rows.
        other: ``(M, F)`` drawn rows.
        neighbours: k.
        seed: of the halves that the errors are made of.

    Raises:
        DataError: as for :func:`precision_recall`.

    Example:
        >>> real = np.array([[0.0], [1.0], [2.0], [10.0]])
        >>> density, coverage = density_coverage(real, np.array([[0.5], [1.5], [5.0]]), neighbours=1)
        >>> round(density.value, 3), coverage.value
        (1.667, 1.0)
    """
    found = judged(one, other, neighbours, seed, among_real)
    return found[0], found[1]


def judged(one: np.ndarray, other: np.ndarray, k: int, seed: int, measure: Pair) -> list[Measured]:
    """Two measures of pairwise distances, with errors from halves."""
    x, y = checked(one, other)
    k, n = check_whole("neighbours", k, 1), len(x)
    if min(n, len(y)) <= k:
        raise DataError(f"{k} neighbours need more than {k} rows in each set; they have {n} and {len(y)}.")
    within, across, among = cdist(x, x), cdist(x, y), cdist(y, y)

    def kept(rows: np.ndarray) -> np.ndarray:
        a, b = rows[:n], rows[n:]
        return measure(within[np.ix_(a, a)], across[np.ix_(a, b)], among[np.ix_(b, b)], k)

    enough = min(n, len(y)) // 2 > k
    errors = halved(kept, n, len(y), seed) if enough else np.full(2, np.nan)
    values = measure(within, across, among, k)
    return [Measured(float(value), float(error), None, k) for value, error in zip(values, errors, strict=True)]


def radii(distances: np.ndarray, k: int) -> np.ndarray:
    """``(N,)``: of every row, the distance to its k-th nearest other one."""
    return np.partition(distances, k, axis=1)[:, k]  # the row itself is at 0


def both_ways(within: np.ndarray, across: np.ndarray, among: np.ndarray, k: int) -> np.ndarray:
    """Precision and recall."""
    precise = (across <= radii(within, k)[:, None]).any(0).mean()
    recalled = (across <= radii(among, k)).any(1).mean()
    return np.array([precise, recalled])


def among_real(within: np.ndarray, across: np.ndarray, _: np.ndarray, k: int) -> np.ndarray:
    """Density and coverage."""
    inside = across <= radii(within, k)[:, None]  # (N, M)
    return np.array([inside.sum() / (k * across.shape[1]), inside.any(1).mean()])
