"""Holes made on purpose as machine-learning papers make them: one mechanism, all columns, one number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from probgen.data.amputation import check_proportion, logistic_shift, scaled
from probgen.data.schema import Schema
from probgen.data.table import Table
from probgen.errors import DataError

__all__ = [
    "mask_above_mean",
    "mask_mar_logistic",
    "mask_mcar",
    "mask_mnar_logistic",
    "mask_mnar_quantiles",
    "mask_mnar_self_masked",
]

TAILS = ("both", "lower", "upper")


def mask_mcar(table: Table, proportion: float = 0.3, *, seed: int = 0) -> tuple[Table, np.ndarray]:
    r"""Hide every known cell with the same probability, :math:`P(m_{id} = 1) = p`.

    A row may lose all its cells, as in the published protocols; :func:`probgen.data.ampute` leaves each row one.

    Args:
        table: which may have holes already.
        proportion: p, of the known cells.
        seed: of the random numbers.

    Returns:
        The table with holes, and the mask ``(N, D)`` of the cells that were hidden.

    Reference: Rubin (1976); the masks of Muzellec, Josse, Boyer and Cuturi (2020).

    Example:
        >>> mask_mcar(Table({"a": np.arange(10.0), "b": np.arange(10.0)}), 0.3, seed=1)[1].sum(0).tolist()
        [3, 2]
    """
    check_proportion(proportion)
    rng = np.random.default_rng(seed)
    return with_holes(table, rng.random(table.values.shape) < proportion)


def mask_mar_logistic(
    table: Table, proportion: float = 0.3, *, observed: float = 0.3, seed: int = 0
) -> tuple[Table, np.ndarray]:
    r"""Some columns stay as they are and drive the holes of the others by logistic models with random weights.

    .. math:: P(m_{id} = 1) = \operatorname{logit}^{-1}(w_d^\top x_{i,\text{observed}} + b_d),\qquad
        \operatorname{sd}_i(w_d^\top x_i) = 1

    with normal weights, and the intercept b that hides the proportion p of each column in expectation. Columns are
    standardised, categorical ones enter by one indicator a level, unknown cells as means.

    Args:
        table: two columns or more.
        proportion: p, of the known cells of each column that loses any.
        observed: share of the columns that stay known, chosen at random; at least one does.
        seed: of weights, columns and holes.

    Returns:
        The table with holes, and the mask ``(N, D)`` of the cells that were hidden.

    Reference: Muzellec, Josse, Boyer and Cuturi (2020), Missing data imputation using optimal transport.

    Example:
        >>> table = Table({"a": np.arange(10.0), "b": np.arange(10.0), "c": np.arange(10.0) % 3})
        >>> mask_mar_logistic(table, seed=1)[1].sum(0).tolist()
        [2, 0, 3]
    """
    check_proportion(proportion)
    rng = np.random.default_rng(seed)
    inputs = chosen(table, "observed", observed, rng)
    return with_holes(table, driven(table, inputs, proportion, rng))


def mask_mnar_logistic(
    table: Table, proportion: float = 0.3, *, inputs: float = 0.3, seed: int = 0
) -> tuple[Table, np.ndarray]:
    r"""As :func:`mask_mar_logistic`, and the columns that drive the holes lose cells at random themselves.

    .. math:: P(m_{id} = 1) = \operatorname{logit}^{-1}(w_d^\top x_{i,\text{inputs}} + b_d),\qquad
        P(m_{ik} = 1) = p \text{ for inputs } k

    Args:
        table: two columns or more.
        proportion: p, of the known cells of each column.
        inputs: share of the columns that drive the others, chosen at random; at least one does.
        seed: of weights, columns and holes.

    Returns:
        The table with holes, and the mask ``(N, D)`` of the cells that were hidden.

    Reference: Muzellec, Josse, Boyer and Cuturi (2020), Missing data imputation using optimal transport.

    Example:
        >>> table = Table({"a": np.arange(10.0), "b": np.arange(10.0), "c": np.arange(10.0) % 3})
        >>> mask_mnar_logistic(table, seed=1)[1].sum(0).tolist()
        [2, 3, 3]
    """
    check_proportion(proportion)
    rng = np.random.default_rng(seed)
    places = chosen(table, "inputs", inputs, rng)
    hidden = driven(table, places, proportion, rng)
    hidden[:, places] = rng.random((table.n_rows, len(places))) < proportion
    return with_holes(table, hidden)


def mask_mnar_self_masked(table: Table, proportion: float = 0.3, *, seed: int = 0) -> tuple[Table, np.ndarray]:
    r"""Each cell is hidden by its own value, upwards or downwards at random a column.

    .. math:: P(m_{id} = 1) = \operatorname{logit}^{-1}(\pm z_{id} + b_d)

    where z is the standardised column (for categorical ones a random number a level, standardised over the rows) and
    b hides the proportion p of each column in expectation. A row may lose all its cells.

    Args:
        table: which may have holes already.
        proportion: p, of the known cells of each column.
        seed: of signs and holes.

    Returns:
        The table with holes, and the mask ``(N, D)`` of the cells that were hidden.

    Reference: Muzellec, Josse, Boyer and Cuturi (2020), Missing data imputation using optimal transport.

    Example:
        >>> table = Table({"a": np.arange(10.0), "b": np.arange(10.0)})
        >>> mask_mnar_self_masked(table, seed=1)[1].sum(0).tolist()
        [1, 4]
    """
    check_proportion(proportion)
    rng = np.random.default_rng(seed)
    hidden = np.zeros(table.values.shape, bool)
    for place in range(table.n_columns):
        hidden[:, place] = by_logistic(design(table, [place]), table.known[:, place], proportion, rng)
    return with_holes(table, hidden)


def mask_mnar_quantiles(
    table: Table,
    proportion: float = 0.3,
    *,
    quantile: float = 0.25,
    tail: str = "both",
    masked: float = 0.7,
    seed: int = 0,
) -> tuple[Table, np.ndarray]:
    r"""Hide cells in the tails of some columns.

    .. math:: P(m_{id} = 1) = p \text{ where } x_{id} \le Q_d(q) \text{ (lower) or } x_{id} \ge Q_d(1 - q)
        \text{ (upper), and 0 elsewhere}

    Args:
        table: which may have holes already; columns without an order lose no cell.
        proportion: p, of the cells in the tails; of a whole column about 2pq are hidden with both tails.
        quantile: q, the share of a tail, up to one half.
        tail: "both", "lower" or "upper".
        masked: share of the columns with an order that lose cells, chosen at random; at least one does.
        seed: of columns and holes.

    Returns:
        The table with holes, and the mask ``(N, D)`` of the cells that were hidden.

    Reference: Muzellec, Josse, Boyer and Cuturi (2020), Missing data imputation using optimal transport.

    Example:
        >>> table = Table({"a": np.arange(12.0), "b": np.arange(12.0)})
        >>> mask_mnar_quantiles(table, 0.9, tail="upper", seed=1)[1].nonzero()[0].tolist()
        [9, 10]
    """
    check_proportion(proportion)
    check_tails(quantile, tail, masked)
    rng = np.random.default_rng(seed)
    places = [place for place, column in enumerate(table.schema) if column.kind != "categorical"]
    if not places:
        raise DataError("No column has an order, so that there are no tails; mask_mcar hides levels too.")
    hidden = rng.random(table.values.shape) < proportion
    taken = rng.choice(places, max(int(masked * len(places)), 1), replace=False)
    for place in range(table.n_columns):
        hidden[:, place] &= in_tails(table.values[:, place], quantile, tail) if place in taken else False
    return with_holes(table, hidden)


def mask_above_mean(table: Table, columns: Sequence[str] | None = None) -> tuple[Table, np.ndarray]:
    r"""Hide all that is larger than its column's mean, :math:`m_{id} = 1` where :math:`x_{id} > \bar x_d`.

    Args:
        table: which may have holes already.
        columns: that lose cells; the first half of them (rounded down) where it is None.

    Returns:
        The table with holes, and the mask ``(N, D)`` of the cells that were hidden. Nothing is random.

    Reference: Ipsen, Mattei and Frellsen (2021), not-MIWAE: deep generative modelling with missing not at random data.

    Example:
        >>> table = Table({"a": [1.0, 2.0, 3.0, 10.0], "b": [4.0, 3.0, 2.0, 1.0]})
        >>> mask_above_mean(table)[1].astype(int).tolist()
        [[0, 0], [0, 0], [0, 0], [1, 0]]
    """
    if columns is None and table.n_columns < 2:
        raise DataError("The first half of one column is none; name it with columns=[...].")
    names = table.names[: table.n_columns // 2] if columns is None else columns
    hidden = np.zeros(table.values.shape, bool)
    for place in map(table.schema.index, [names] if isinstance(names, str) else names):
        check_ordered(table.schema, place)
        x = table.values[:, place]
        hidden[:, place] = x > np.mean(x[~np.isnan(x)]) if table.known[:, place].any() else False
    return with_holes(table, hidden)


# -- parts -----------------------------------------------------------------------------------------------------------
def with_holes(table: Table, hidden: np.ndarray) -> tuple[Table, np.ndarray]:
    """The table without these cells, and those of them that it knew."""
    hidden = hidden & table.known
    return table.with_values(np.where(hidden, np.nan, table.values)), hidden


def chosen(table: Table, name: str, share: float, rng: np.random.Generator) -> np.ndarray:
    """Places of some columns, at least one and never all."""
    if not 0 < share < 1:
        raise DataError(f"{name} must lie between 0 and 1, got {share}.")
    if table.n_columns < 2:
        raise DataError("The table has one column, and a mask by other columns needs two or more.")
    return rng.choice(table.n_columns, max(int(share * table.n_columns), 1), replace=False)


def driven(table: Table, inputs: np.ndarray, proportion: float, rng: np.random.Generator) -> np.ndarray:
    """``(N, D)``: cells of the other columns, hidden by logistic models of the inputs."""
    x = design(table, inputs)
    hidden = np.zeros(table.values.shape, bool)
    for place in np.setdiff1d(np.arange(table.n_columns), inputs):
        hidden[:, place] = by_logistic(x, table.known[:, place], proportion, rng)
    return hidden


def by_logistic(x: np.ndarray, known: np.ndarray, proportion: float, rng: np.random.Generator) -> np.ndarray:
    """``(N,)``: hidden by a logistic model with random weights, whose intercept gives the proportion of the known."""
    logits = scaled(x @ rng.normal(size=x.shape[1]))
    draws = rng.random(len(x))
    return draws < expit(logits + logistic_shift(logits[known], proportion)) if known.any() else known


def design(table: Table, places: Sequence[int] | np.ndarray) -> np.ndarray:
    """Standardised columns, one indicator a level for categorical ones; zero where unknown."""
    parts = []
    for place in places:
        x = table.values[:, place]
        levels = table.schema[int(place)].cardinality
        nominal = table.schema[int(place)].kind == "categorical"
        parts.append((x[:, None] == np.arange(levels)).astype(float) if nominal else scaled(x)[:, None])
    return np.hstack(parts)


def in_tails(x: np.ndarray, quantile: float, tail: str) -> np.ndarray:
    if np.isnan(x).all():
        return np.zeros(len(x), bool)
    low, high = np.nanquantile(x, [quantile, 1 - quantile])
    return (x <= low) & (tail != "upper") | (x >= high) & (tail != "lower")


def check_tails(quantile: float, tail: str, masked: float) -> None:
    if not 0 < quantile <= 0.5:
        raise DataError(f"quantile must be the share of a tail, above 0 and at most 0.5, got {quantile}.")
    if tail not in TAILS:
        raise DataError(f"tail must be 'both', 'lower' or 'upper', got {tail!r}.")
    if not 0 < masked <= 1:
        raise DataError(f"masked must be a share of the columns, above 0 and at most 1, got {masked}.")


def check_ordered(schema: Schema, place: int) -> None:
    column = schema[place]
    if column.kind == "categorical":
        raise DataError(
            f"Column {column.name!r} is categorical and has no mean; name other columns, or give its levels an order"
            f" with schema.with_kind({column.name!r}, 'ordinal')."
        )
