"""A discrete Bayesian network as files hold it: states, parents, tables of probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.errors import DataError, DataWarning
from probgen.structure.graph import check_known

__all__ = ["DiscreteNetwork", "configuration", "filled", "normalised", "table_of"]

ROUNDING = 1e-6  # of a row's sum: what a file's digits explain
States = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class DiscreteNetwork:
    """States, parents and tables of every node, in the file's order.

    Attributes:
        states: ``{node: its states}``.
        parents: ``{node: its parents}``.
        tables: ``{node: (parents' states..., states)}``, probabilities of the node's states in the last dimension.
    """

    states: dict[str, tuple[Any, ...]]
    parents: dict[str, tuple[str, ...]]
    tables: dict[str, np.ndarray]

    def shape(self, node: str) -> tuple[int, ...]:
        """Of the node's table."""
        return tuple(len(self.states[name]) for name in (*self.parents[node], node))


def table_of(numbers: Any, node: str, parents: Sequence[str], states: States, child_first: bool = False) -> np.ndarray:
    """A flat list of numbers as a table ``(parents' states..., states)``.

    Args:
        numbers: in the order of the parents as they stand, the node's own states running fastest.
        node: for messages.
        parents: of the node.
        states: of all nodes.
        child_first: the node's own states run slowest.
    """
    flat = np.asarray(numbers, dtype=float)
    sizes, own = [len(states[parent]) for parent in parents], len(states[node])
    if flat.size != int(np.prod(sizes)) * own:
        raise DataError(
            f"node {node!r} has {flat.size} numbers; {own} states given"
            f" {' x '.join(map(str, sizes)) or 1} configurations of its parents need {int(np.prod(sizes)) * own}"
        )
    if child_first:
        return np.ascontiguousarray(np.moveaxis(flat.reshape(own, *sizes), 0, -1))
    return flat.reshape(*sizes, own)


def filled(rows: Mapping[tuple[str, ...], Any], node: str, parents: Sequence[str], states: States) -> np.ndarray:
    """A table from its rows, ``{states of the parents: numbers}``; rows that are missing are NaN."""
    table = np.full([len(states[name]) for name in (*parents, node)], np.nan)
    for named, numbers in rows.items():
        if len(named) != len(parents):
            raise DataError(f"node {node!r} has {len(parents)} parents, a row names {len(named)} states: {named}")
        place = tuple(place_of(state, states[parent], parent) for state, parent in zip(named, parents, strict=True))
        if len(numbers) != table.shape[-1]:
            raise DataError(
                f"node {node!r} has {table.shape[-1]} states, its row for {configuration(place, parents, states)} has"
                f" {len(numbers)} numbers"
            )
        table[place] = numbers
    return table


def place_of(state: Any, states: Sequence[Any], node: str) -> int:
    """Number of a state."""
    if state not in states:
        raise DataError(f"node {node!r} has no state {state!r}; it has: {', '.join(map(str, states))}")
    return list(states).index(state)


def configuration(place: Sequence[int], parents: Sequence[str], states: States) -> str:
    """A row of a table as a person names it."""
    named = [f"{parent}={states[parent][code]}" for parent, code in zip(parents, place, strict=True)]
    return ", ".join(named) or "its one row"


def normalised(network: DiscreteNetwork, tolerance: float = ROUNDING) -> DiscreteNetwork:
    """The network with rows that sum to one, after all its tables have been looked at.

    Args:
        network: as it was read or written.
        tolerance: how far a row's sum may be from one. Beyond 1e-6 a warning says that rows are rescaled.

    Raises:
        DataError: an unknown parent, a table that is missing or has another shape, a row that is missing, negative or
            not a number, or that does not sum to one.
    """
    for node, parents in network.parents.items():
        check_known([node, *parents], network.states, "A table")
    worst, tables = (0.0, ""), {}
    for node in network.states:
        tables[node], off, where = rescaled(network, node, tolerance)
        worst = max(worst, (off, f"{node!r} given {where}" if network.parents.get(node) else repr(node)))
    if worst[0] > ROUNDING:
        warnings.warn(
            f"Rows of probabilities do not sum to one, by up to {worst[0]:.2g} (node {worst[1]}); they are rescaled.",
            DataWarning,
            stacklevel=4,
        )
    return DiscreteNetwork(network.states, {node: network.parents[node] for node in network.states}, tables)


def rescaled(network: DiscreteNetwork, node: str, tolerance: float) -> tuple[np.ndarray, float, str]:
    """A node's table with rows that sum to one, how far the worst of them was off, and which one that is."""
    if node not in network.tables or node not in network.parents:
        raise DataError(f"node {node!r} has no table of probabilities; give it one")
    table, parents = np.asarray(network.tables[node], dtype=float), network.parents[node]
    if table.shape != network.shape(node):
        raise DataError(
            f"the table of node {node!r} has shape {table.shape}, expected {network.shape(node)}: the states of"
            f" {', '.join([*parents, node])}, the node's own last"
        )
    where = lambda place: configuration(place, parents, network.states)  # noqa: E731
    for wrong, what in (
        (np.isnan(table).all(-1, keepdims=True), "has no row for {row}"),
        (~np.isfinite(table), "has {value:g} for state {state!r} given {row}, which is no number from 0 to 1"),
        (table < 0, "has the negative probability {value:g} for state {state!r} given {row}"),
    ):
        if wrong.any():
            *row, last = (int(i) for i in np.argwhere(wrong)[0])
            found = {"row": where(row), "value": table[(*row, last)], "state": network.states[node][last]}
            raise DataError(f"the table of node {node!r} {what.format(**found)}")
    sums = table.sum(-1)
    off = np.abs(sums - 1.0)
    place = np.unravel_index(int(off.argmax()), off.shape)
    if off[place] > tolerance:
        raise DataError(
            f"the probabilities of node {node!r} given {where(place)} sum to {sums[place]:.9g}, not to 1 (tolerance"
            f" {tolerance:g})"
        )
    return table / sums[..., None], float(off[place]), where(place)
