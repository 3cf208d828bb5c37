"""Making holes on purpose (amputation), to see how well they are filled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probgen.data.table import Table
from probgen.errors import DataError

__all__ = ["ampute"]


def ampute(
    table: Table, fraction: float, mechanism: str = "mcar", columns: Sequence[str] | None = None, seed: int = 0
) -> tuple[Table, np.ndarray]:
    r"""Hide a share of the known cells.

    Args:
        table: to be thinned out; every row keeps at least one known cell.
        fraction: of the known cells of ``columns`` to hide.
        mechanism: "mcar" (completely at random), "mar" (more often where the other, known columns are large) or "mnar"
            (more often where the cell itself is large).
        columns: that may lose cells; all where it is None.
        seed: of the random numbers.

    Returns:
        The table with holes, and the mask ``(N, D)`` of the cells that were hidden.

    Reference: Rubin (1976).

    Example:
        >>> table, hidden = ampute(Table({"a": np.arange(10.0), "b": np.arange(10.0) ** 2}), 0.3, seed=4)
        >>> int(hidden.sum())
        6
    """
    if not 0 < fraction < 1:
        raise DataError(f"fraction must lie between 0 and 1, got {fraction}.")
    if mechanism not in ("mcar", "mar", "mnar"):
        raise DataError(f"mechanism must be 'mcar', 'mar' or 'mnar', got {mechanism!r}.")
    rng = np.random.default_rng(seed)
    eligible = table.known.copy()
    if columns is not None:
        chosen = [table.schema.index(name) for name in columns]
        eligible[:, np.setdiff1d(np.arange(table.n_columns), chosen)] = False
    keys = np.where(eligible, rng.gumbel(size=eligible.shape) + tendency(table, mechanism), -np.inf)
    hidden = np.zeros_like(eligible)
    for place in np.nonzero(eligible.any(0))[0]:
        hidden[np.argsort(-keys[:, place])[: round(fraction * eligible[:, place].sum())], place] = True
    hidden = keep_one(table.known, hidden, rng)
    return table.with_values(np.where(hidden, np.nan, table.values)), hidden


def tendency(table: Table, mechanism: str) -> np.ndarray:
    """Log odds of being hidden, up to a constant a column."""
    if mechanism == "mcar":
        return np.zeros(table.values.shape)
    z = (table.values - np.nanmean(table.values, 0)) / np.maximum(np.nanstd(table.values, 0), 1e-12)
    z = np.nan_to_num(z)
    if mechanism == "mnar":
        return 1.5 * z
    others = z.sum(1, keepdims=True) - z
    return 1.5 * others / max(np.sqrt(table.n_columns - 1), 1.0)


def keep_one(known: np.ndarray, hidden: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give back one cell of each row that lost all."""
    hidden = hidden.copy()
    for row in np.nonzero(~(known & ~hidden).any(1) & known.any(1))[0]:
        hidden[row, rng.choice(np.nonzero(known[row])[0])] = False
    return hidden
