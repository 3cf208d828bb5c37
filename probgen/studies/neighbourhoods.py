r"""Whether rows that are near each other stay near: trustworthiness and continuity (Venna and Kaski, 2001).

.. math::
    T(k) = 1 - \frac{2}{N k (2N - 3k - 1)} \sum_i \sum_{j \in U_k(i)} \bigl(r(i, j) - k\bigr)

where :math:`U_k(i)` are the k nearest of row i among the codes that are not among its k nearest in the data, and r their ranks there. Continuity
changes the parts of codes and data. Both are 1 where neighbours are kept, about a half where codes are noise.
"""

from __future__ import annotations

import numpy as np

__all__ = ["continuity", "trustworthiness"]

MOST = 2000  # rows


def trustworthiness(data: np.ndarray, codes: np.ndarray, neighbours: int = 10) -> float:
    """How far neighbours among the codes are neighbours in the data, both ``(N, .)``; of the first 2000 rows."""
    data, codes = data[:MOST], codes[:MOST]
    rows, k = len(data), min(neighbours, (len(data) - 2) // 3)
    if k < 1:
        return float("nan")
    ranks = ranked(data)
    near = np.argsort(distances(codes), 1, kind="stable")[:, :k]
    beyond = np.take_along_axis(ranks, near, 1) - k
    return float(1 - 2 / (rows * k * (2 * rows - 3 * k - 1)) * np.maximum(beyond, 0).sum())


def continuity(data: np.ndarray, codes: np.ndarray, neighbours: int = 10) -> float:
    """How far neighbours in the data are neighbours among the codes."""
    return trustworthiness(codes, data, neighbours)


def distances(x: np.ndarray) -> np.ndarray:
    """``(N, N)`` squared; infinite from a row to itself."""
    squares = (x**2).sum(1)
    found = squares[:, None] + squares - 2 * x @ x.T
    np.fill_diagonal(found, np.inf)
    return found


def ranked(x: np.ndarray) -> np.ndarray:
    """``(N, N)``: of every row, the ranks of the others by distance, from 1."""
    order = np.argsort(distances(x), 1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(1, len(x) + 1)[None], 1)
    return ranks
