r"""Toy densities that are known exactly: eight in the plane, two of ten columns, each with its entropy.

Every one has a log density that is exact to 1e-6, an entropy (a closed form, or a quadrature of that precision) and a sampler,
so that the Kullback-Leibler divergence of a fitted model from the truth is a mean over rows, in nats, with nothing left out:

.. math:: \mathrm{KL}(p \,\|\, q) = \mathrm E_p \bigl[\log p(x) - \log q(x)\bigr]
"""

from __future__ import annotations

from functools import cache

import numpy as np

from probgen.data.schema import Column, Schema
from probgen.data.table import Table
from probgen.data.toy_densities import (
    Along,
    Banana,
    Checkerboard,
    Correlated,
    Funnel,
    Pinwheel,
    Toy,
    circle,
    moon,
    ring_point,
    spiral,
)
from probgen.errors import DataError
from probgen.whole import check_whole

__all__ = ["PLANE", "TOYS", "schema_of", "toy", "toy_entropy", "toy_log_density", "toy_names"]

PLANE: dict[str, Toy] = {
    "two_moons": Along((moon(True), moon(False)), 120, 0.1, window=2.5),
    "eight_normals": Along(tuple(ring_point(k) for k in range(8)), 1, 0.2, window=3.0),
    "rings": Along((circle(1.0), circle(2.0), circle(3.0)), 240, 0.12, closed=True, window=3.7),
    "two_spirals": Along((spiral(1), spiral(-1)), 300, 0.12, window=3.7),
    "pinwheel": Pinwheel(),
    "checkerboard": Checkerboard(),
    "banana": Banana(),
    "funnel": Funnel(),
}
"""The eight of two columns, by name."""

TOYS: dict[str, Toy] = {**PLANE, "correlated_normal": Correlated(), "heavy_tailed": Correlated(3.0)}


# --------------------------------------------------------------------------------------------------------- public
def toy_names() -> list[str]:
    """Names of the toy densities: eight in the plane, then two of ten columns.

    Example:
        >>> toy_names()[:3], len(toy_names())
        (['two_moons', 'eight_normals', 'rings'], 10)
    """
    return list(TOYS)


def named(name: str) -> Toy:
    """A toy density by its name."""
    if name not in TOYS:
        raise DataError(f"There is no toy density {name!r}. Available: {', '.join(TOYS)}.")
    return TOYS[name]


def schema_of(density: Toy) -> Schema:
    """Real columns ``x1, x2, ...``."""
    return Schema(tuple(Column(f"x{place + 1}", "real") for place in range(density.columns)))


def toy(name: str, rows: int = 1000, seed: int = 0) -> Table:
    """Rows of a toy density whose log density and entropy are known.

    Args:
        name: one of :func:`toy_names`.
        rows: how many.
        seed: of the draw.

    Raises:
        DataError: an unknown name, or no rows.

    Example:
        >>> table = toy("two_moons", 500)
        >>> table, bool(abs(toy_log_density("two_moons", table).mean() + toy_entropy("two_moons")) < 0.1)
        (Table(500 rows, 2 columns, 0 unknown cells), True)
    """
    density = named(name)
    rng = np.random.default_rng(seed)
    return Table.from_codes(density.draw(check_whole("rows", rows, 1, DataError), rng), schema_of(density))


def toy_log_density(name: str, table: Table | np.ndarray) -> np.ndarray:
    """Log density of rows under a toy density, in nats.

    Args:
        name: one of :func:`toy_names`.
        table: a Table of as many columns, or an array ``(N, D)``; all cells known.

    Returns:
        ``(N,)``, minus infinity outside of the checkerboard's squares.

    Raises:
        DataError: another number of columns, or unknown cells.

    Example:
        >>> toy_log_density("checkerboard", np.array([[0.5, 0.5], [0.5, 1.5]])).round(3).tolist()
        [-2.079, -inf]
    """
    density = named(name)
    x = table.values if isinstance(table, Table) else np.asarray(table, dtype=float)
    if x.ndim != 2 or x.shape[1] != density.columns:
        raise DataError(f"{name!r} has {density.columns} columns; the rows given have shape {x.shape}.")
    if np.isnan(x).any():
        row, column = np.argwhere(np.isnan(x))[0]
        raise DataError(f"Row {row}, column {column} is unknown; the log density of {name!r} needs complete rows.")
    return density.log_density(x)


@cache
def toy_entropy(name: str) -> float:
    """Differential entropy of a toy density in nats, exact to 1e-6.

    Args:
        name: one of :func:`toy_names`.

    Raises:
        DataError: an unknown name.

    Example:
        >>> round(toy_entropy("banana"), 6) == round(float(np.log(2 * np.pi * np.e / 4)), 6)
        True
    """
    return float(named(name).entropy())
