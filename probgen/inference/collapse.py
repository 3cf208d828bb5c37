r"""Has a generator collapsed? Generated rows beside held-out rows of the data.

* the energy distance :math:`2 \mathbb E\lVert X - Y\rVert - \mathbb E\lVert X - X'\rVert - \mathbb E\lVert Y - Y'\rVert`, with its 95 % quantile and p-value when rows are
  dealt to the two sides at random (Székely and Rizzo, 2013);
* coverage: the share of the data's rows that have a generated row as near as their fifth neighbour among the data; precision: the share of generated rows that are
  as near to some row of the data (Naeem et al., 2020; Kynkäänniemi et al., 2019);
* the spread of every column, of the generated rows as a share of the data's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["collapsed", "compared", "energy_distance"]

NEIGHBOURS = 5
PERMUTATIONS = 200
LEAST_COVERAGE, LEAST_SPREAD = 0.5, 0.2


def energy_distance(real: Tensor, made: Tensor) -> Tensor:
    """Between two sets of rows ``(N, F)`` and ``(M, F)``; nought where they are one distribution.

    Example:
        >>> float(energy_distance(torch.zeros(3, 1), torch.ones(2, 1)))
        2.0
    """
    across = torch.cdist(real, made).mean()
    return 2 * across - torch.cdist(real, real).mean() - torch.cdist(made, made).mean()


def null(real: Tensor, made: Tensor) -> Tensor:
    """``(P,)`` energy distances when the rows are dealt to the sides at random."""
    rows, n = torch.cat([real, made]), len(real)
    between = torch.cdist(rows, rows)
    first = torch.zeros(PERMUTATIONS, len(rows), device=rows.device, dtype=rows.dtype)
    first.scatter_(1, torch.rand_like(first).argsort(1)[:, :n], 1.0)
    one, other = first / n, (1 - first) / (len(rows) - n)
    difference = one - other
    return -((difference @ between) * difference).sum(-1)


def coverage(real: Tensor, made: Tensor) -> tuple[float, float]:
    """Coverage of the data's rows, and precision of the generated ones."""
    among = min(NEIGHBOURS, len(real) - 1)
    radius = torch.cdist(real, real).kthvalue(among + 1, -1).values
    near = torch.cdist(real, made) <= radius[:, None]
    return float(near.any(1).double().mean()), float(near.any(0).double().mean())


def spreads(real: Tensor, made: Tensor, owner: Tensor) -> Tensor:
    """``(D,)`` standard deviation of generated columns as a share of the data's, one where the data have none."""
    columns = int(owner.max()) + 1
    wide = [
        torch.zeros(columns, dtype=rows.dtype).index_add_(0, owner.cpu(), rows.var(0, correction=0).cpu())
        for rows in (real, made)
    ]
    return torch.where(wide[0] > 1e-12, (wide[1] / wide[0].clamp_min(1e-12)).sqrt(), 1.0)


def compared(real: Tensor, made: Tensor, owner: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
    """What a careful reader of a generator should know.

    Args:
        real, made: ``(N, F)`` rows in coordinates of about unit variance.
        owner: ``(F,)`` the column that each number is of.
        names: of the columns.
    """
    found, chance = float(energy_distance(real, made)), null(real, made)
    covered, precise = coverage(real, made)
    spread = spreads(real, made, owner)
    least = int(spread.argmin())
    return {
        "energy_distance": found,
        "energy_distance_by_chance": float(chance.quantile(0.95)),
        "energy_distance_p": float((1 + (chance >= found).sum()) / (1 + len(chance))),
        "coverage": covered,
        "precision": precise,
        "least_spread": float(spread[least]),
        "least_spread_column": names[least],
    }


def collapsed(found: dict[str, Any]) -> str | None:
    """In words, where the generator says less than the data; None where it does not."""
    if found["least_spread"] < LEAST_SPREAD:
        return (
            f"the generated values of column {found['least_spread_column']!r} spread {found['least_spread']:.2f} times as far as"
            " those of the data"
        )
    if found["coverage"] < LEAST_COVERAGE:
        return f"only {found['coverage']:.0%} of the data's rows have a generated row near them"
    return None
