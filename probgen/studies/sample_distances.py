r"""How far two sets of rows are from one law: distances that need draws and no density.

.. math::
    \text{energy distance} &= 2 \, \mathrm E \lVert X - Y \rVert - \mathrm E \lVert X - X' \rVert - \mathrm E \lVert Y - Y' \rVert \\
    \mathrm{MMD}^2 &= \mathrm E \, k(X, X') + \mathrm E \, k(Y, Y') - 2 \, \mathrm E \, k(X, Y), \qquad
        k(x, y) = \exp \frac{-\lVert x - y \rVert^2}{2 h^2} \\
    \text{sliced Wasserstein} &= \mathrm E_u \int \lvert F_{u^\top X}(t) - F_{u^\top Y}(t) \rvert \, \mathrm d t
        \text{ over directions } u \\
    \text{Fréchet} &= \lVert \mu_X - \mu_Y \rVert^2
        + \operatorname{tr} \bigl(\Sigma_X + \Sigma_Y - 2 (\Sigma_X \Sigma_Y)^{1/2}\bigr)

The first two are 0 where both sets follow one law, and only there; their estimates are unbiased, and may be negative. That of the last two is
above 0 by chance too, and falls with the number of rows. All take arrays of complete rows, ``(N, F)`` and ``(M, F)``.

Sources: Székely and Rizzo (2013); Gretton et al. (2012); Rabin et al. (2011), Bonneel et al. (2015); Dowson and Landau (1982), Heusel et al. (2017).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from probgen.errors import DataError
from probgen.studies.scoring import contrast_shares

__all__ = [
    "Measured",
    "energy_distance",
    "frechet_distance",
    "halved",
    "maximum_mean_discrepancy",
    "sliced_wasserstein",
]

SPLITS = 12  # of rows into halves, for errors
ROWS_OF_MEDIAN = 1000  # whose distances give the bandwidth


@dataclass(frozen=True)
class Measured:
    """A measure of two sets of rows.

    Attributes:
        value: the measure.
        error: standard error, of rows drawn anew.
        p_value: how often sets of one law are as far apart, or further; None where that was not asked for.
        setting: what it depends on: bandwidth, neighbours, directions.

    Example:
        >>> Measured(0.25, 0.125, 0.03125)
        0.25 ± 0.12 (p = 0.031)
    """

    value: float
    error: float
    p_value: float | None = None
    setting: float | None = None

    def __repr__(self) -> str:
        told = "" if self.p_value is None else f" (p = {self.p_value:.3f})"
        return f"{self.value:.4g} ± {self.error:.2g}{told}"


# ------------------------------------------------------------------------------------------------------- U-statistics
def energy_distance(one: np.ndarray, other: np.ndarray, permutations: int = 0, seed: int = 0) -> Measured:
    """Energy distance of two sets of rows, unbiased.

    Args:
        one: ``(N, F)``.
        other: ``(M, F)``.
        permutations: of which rows belong together, for a p-value; 0 for none.
        seed: of the permutations.

    Raises:
        DataError: unknown cells, other columns, or fewer than two rows.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> energy_distance(rng.normal(size=(300, 2)), rng.normal(size=(200, 2)) + 1, permutations=99).p_value
        0.01
    """
    x, y = checked(one, other)
    both = np.concatenate([x, y])
    return contrasted(cdist(both, both), len(x), permutations, seed)


def maximum_mean_discrepancy(
    one: np.ndarray, other: np.ndarray, permutations: int = 0, bandwidth: float | None = None, seed: int = 0
) -> Measured:
    """Squared maximum mean discrepancy with a Gaussian kernel, unbiased.

    Args:
        one: ``(N, F)``.
        other: ``(M, F)``.
        permutations: of which rows belong together, for a p-value; 0 for none.
        bandwidth: h of the kernel; the median distance of two rows of both sets where it is None.
        seed: of the permutations.

    Raises:
        DataError: as for :func:`energy_distance`, or a bandwidth that is not positive.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> maximum_mean_discrepancy(rng.normal(size=(300, 2)), rng.normal(size=(200, 2)) + 1, permutations=99).p_value
        0.01
    """
    x, y = checked(one, other)
    both = np.concatenate([x, y])
    squares = cdist(both, both, "sqeuclidean")
    h = median_distance(squares) if bandwidth is None else bandwidth
    if not h > 0:
        raise DataError(f"The bandwidth must be positive, got {bandwidth!r}.")
    unlike = -np.exp(squares / (-2 * h**2))
    np.fill_diagonal(unlike, 0.0)
    return contrasted(unlike, len(x), permutations, seed, h)


def median_distance(squares: np.ndarray) -> float:
    """Of two different rows; of those that are not equal, where more than half are."""
    step = max(1, -(-len(squares) // ROWS_OF_MEDIAN))
    some = squares[::step, ::step]
    distances = np.sqrt(some[np.triu_indices(len(some), 1)])
    apart = distances[distances > 0]
    middle = float(np.median(distances))
    return middle if middle > 0 else float(np.median(apart)) if len(apart) else 1.0


def contrasted(unlike: np.ndarray, n: int, permutations: int, seed: int, setting: float | None = None) -> Measured:
    """Of pairwise numbers ``(N + M, N + M)`` of both sets, the first one being N rows.

    Its error is that of shares of which each row has one in two places; where both laws are one it is too large, by a factor of about the root of two.
    """
    one, other = contrast_shares(unlike[:n, n:], unlike[:n, :n], unlike[n:, n:])
    value = float(one.mean() + other.mean())
    error = 2 * np.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    if permutations == 0:
        return Measured(value, float(error), None, setting)
    first = permuted(n, len(unlike), permutations, seed)
    return Measured(value, float(error), rank_of(value, contrasts(unlike, first)), setting)


def contrasts(unlike: np.ndarray, first: np.ndarray) -> np.ndarray:
    """``(P,)``: the statistic for every choice ``(P, N + M)`` of the rows that are the first set."""
    n, total = int(first[0].sum()), first.shape[1]
    m, weights = total - n, first.astype(float)
    to_first = weights @ unlike  # (P, N + M): of every row, to those of the first set
    own = (to_first * weights).sum(1)
    across = to_first.sum(1) - own
    foreign = unlike.sum() - own - 2 * across
    return 2 * across / (n * m) - own / (n * (n - 1)) - foreign / (m * (m - 1))


def permuted(n: int, total: int, permutations: int, seed: int) -> np.ndarray:
    """``(P, total)``: which n rows are the first set, at random."""
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(total) < n, (permutations, 1)), axis=1)


def rank_of(value: float, others: np.ndarray) -> float:
    """The share of permutations that give as much or more, the given order counted as one of them."""
    tie = 1e-12 * max(abs(value), float(np.abs(others).max()))
    return float((1 + (others >= value - tie).sum()) / (1 + len(others)))


# ------------------------------------------------------------------------------------------------------------- slices
def sliced_wasserstein(
    one: np.ndarray, other: np.ndarray, permutations: int = 0, directions: int = 100, seed: int = 0
) -> Measured:
    """Mean Wasserstein-1 distance of both sets along random directions.

    Args:
        one: ``(N, F)``.
        other: ``(M, F)``.
        permutations: of which rows belong together, for a p-value; 0 for none.
        directions: how many, uniform on the sphere; in one column there is one.
        seed: of the directions and permutations.

    Raises:
        DataError: as for :func:`energy_distance`.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 1))
        >>> round(sliced_wasserstein(x, x + 0.5).value, 6)
        0.5
    """
    x, y = checked(one, other)
    axes = unit_directions(directions, x.shape[1], seed)
    slices = np.concatenate([x, y]) @ axes.T  # (T, L)
    order = np.argsort(slices, axis=0)
    gaps = np.diff(np.take_along_axis(slices, order, 0), axis=0)
    first = np.arange(len(slices)) < len(x)
    value = between(order, gaps, first, np.ones(len(slices)))
    error = float(halved(lambda kept: between(order, gaps, first, kept), len(x), len(y), seed))
    if permutations == 0:
        return Measured(value, error, None, len(axes))
    ones = np.ones(len(slices))
    others = [between(order, gaps, each, ones) for each in permuted(len(x), len(slices), permutations, seed)]
    return Measured(value, error, rank_of(value, np.array(others)), len(axes))


def unit_directions(directions: int, columns: int, seed: int) -> np.ndarray:
    """``(L, F)`` of length one."""
    if columns == 1:
        return np.ones((1, 1))
    drawn = np.random.default_rng(seed).standard_normal((directions, columns))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def between(order: np.ndarray, gaps: np.ndarray, first: np.ndarray, kept: np.ndarray) -> float:
    """Mean area between two empirical distribution functions, of sorted slices ``(T, L)`` and the gaps ``(T - 1, L)`` in them."""
    own, foreign = first * kept, ~first * kept
    step = own / own.sum() - foreign / foreign.sum()
    return float((np.abs(np.cumsum(step[order], axis=0)[:-1]) * gaps).sum(0).mean())


# ---------------------------------------------------------------------------------------------------------- moments
def frechet_distance(one: np.ndarray, other: np.ndarray, seed: int = 0) -> Measured:
    """Squared Fréchet distance between the normal distributions with both sets' means and covariances.

    Of one network's features it is known by that network's name; features of another one give another number.

    Args:
        one: ``(N, F)``.
        other: ``(M, F)``.
        seed: of the halves that its error is made of.

    Raises:
        DataError: as for :func:`energy_distance`.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> round(frechet_distance(x, x + [3.0, 0.0, 4.0]).value, 6)
        25.0
    """
    x, y = checked(one, other)
    n = len(x)
    error = halved(lambda kept: frechet(x[kept[:n]], y[kept[n:]]), n, len(y), seed) if min(n, len(y)) > 3 else np.nan
    return Measured(frechet(x, y), float(error))


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Through the eigenvalues of the symmetric root of one covariance around the other."""
    one, other = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    root = symmetric_root(one)
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0.0)).sum()
    far = float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(one) + np.trace(other) - 2 * cross)
    return max(far, 0.0)


def symmetric_root(matrix: np.ndarray) -> np.ndarray:
    """Of a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


# ----------------------------------------------------------------------------------------------------------- errors
def halved(statistic: Callable[[np.ndarray], Any], n: int, m: int, seed: int) -> np.ndarray:
    """Standard error from how far a statistic of one half of both sets is from that of the other, over several ways to halve them.

    Args:
        statistic: of a mask ``(N + M,)`` of the rows that count: a number, or several.
        n: N, rows of the first set.
        m: M, rows of the second.
        seed: of the halves.
    """
    rng = np.random.default_rng(seed)
    gaps = []
    for _ in range(SPLITS):
        half = np.concatenate([rng.permutation(n) < n // 2, rng.permutation(m) < m // 2])
        gaps.append(np.asarray(statistic(half)) - np.asarray(statistic(~half)))
    return np.sqrt(np.mean(np.square(gaps), 0)) / 2


def checked(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as numbers that can be compared."""
    x, y = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or x.shape[1] == 0:
        raise DataError(f"Expected two sets of rows (N, F) and (M, F) with the same F, got {x.shape} and {y.shape}.")
    if min(len(x), len(y)) < 2:
        raise DataError(f"Each set needs at least 2 rows, they have {len(x)} and {len(y)}.")
    for name, rows in (("first", x), ("second", y)):
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            raise DataError(
                f"The {name} set has {rows[row, column]} in row {row}, column {column}; distances need complete, finite rows."
            )
    return x, y
