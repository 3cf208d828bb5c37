r"""How far two ways to put rows into groups agree.

.. math::
    \mathrm{ARI} = \frac{\sum_{ij} \binom{n_{ij}}2 - E}{\tfrac12 \bigl(\sum_i \binom{a_i}2 + \sum_j \binom{b_j}2\bigr) - E}, \qquad
    \mathrm{NMI} = \frac{2\, I(A, B)}{H(A) + H(B)}

with :math:`E = \sum_i \binom{a_i}2 \sum_j \binom{b_j}2 / \binom N2` (Hubert and Arabie, 1985; Vinh, Epps and Bailey, 2010).
"""

from __future__ import annotations

import warnings

import numpy as np

from probgen.data.table import Table
from probgen.errors import ProbgenError
from probgen.queries import fit

__all__ = ["adjusted_rand", "clustered", "normalised_information"]


def counts_of(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Rows in each pair of groups."""
    a, b = (np.unique(each, return_inverse=True)[1] for each in (one, other))
    return np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1)).reshape(a.max() + 1, -1)


def adjusted_rand(one: np.ndarray, other: np.ndarray) -> float:
    """1 where both are the same partition, 0 in the mean of partitions at random."""
    n = counts_of(one, other)
    pairs = lambda x: float((x * (x - 1.0) / 2).sum())  # noqa: E731
    together, a, b, every = pairs(n), pairs(n.sum(1)), pairs(n.sum(0)), pairs(np.array([n.sum()]))
    expected = a * b / max(every, 1.0)
    most = (a + b) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def normalised_information(one: np.ndarray, other: np.ndarray) -> float:
    """Mutual information over the mean of the entropies."""
    p = counts_of(one, other) / len(one)
    entropy = lambda q: float(-(q[q > 0] * np.log(q[q > 0])).sum())  # noqa: E731
    a, b, both = entropy(p.sum(1)), entropy(p.sum(0)), entropy(p.ravel())
    return 1.0 if a + b == 0 else 2 * (a + b - both) / (a + b)


def clustered(codes: np.ndarray, groups: int, seed: int = 0) -> np.ndarray | None:
    """Groups of rows by a mixture of normals on their codes; None where it cannot be fitted."""
    varies = codes.std(0) > 1e-9
    if not varies.any() or len(codes) <= groups:
        return None
    table = Table({f"z{at}": column for at, column in enumerate(codes[:, varies].T)})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = fit("gaussian_mixture", table, components=groups, restarts=3, seed=seed, progress=False)
            return found.embed(table).argmax(1)
    except ProbgenError:
        return None
