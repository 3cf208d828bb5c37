r"""Trees: the graph with one parent a column that gains most (Chow and Liu, 1968; Friedman, Geiger and Goldszmidt, 1997).

.. math:: \max_T \sum_{(a, b) \in T} N \hat I(x_a; x_b)

Under the log likelihood an edge gains rows times mutual information, estimated from the counts of discrete columns, the
correlation of continuous ones, and the means and variances by level where they mix. Under a penalised score an edge that
gains nothing is left out, so that the tree may fall into a forest. Where gains are the same both ways the tree is a
spanning tree (Prim, 1957), otherwise a branching (Edmonds, 1967): a continuous column is never the parent of a category.
"""

from __future__ import annotations

import networkx as nx
import numpy as np

from probgen.errors import CapabilityError
from probgen.structure.constraints import Constraints
from probgen.structure.scores import Score, possible
from probgen.structure.search import LEAST

__all__ = ["augmented_tree", "tree"]


def tree(score: Score, constraints: Constraints, root: int | None = None) -> np.ndarray:
    """The best tree.

    Args:
        score: what an edge gains.
        constraints: on the edges.
        root: a column without a parent; the one that is joined most strongly where it is None.

    Returns:
        ``(D, D)``, True where the row is the parent of the column.
    """
    names = score.statistics.schema.names
    needed = constraints.needed(names)
    check_single(needed, names)
    gains = score.gains(constraints.allowed(names) & possible(score.statistics))
    return best_tree(gains, needed, root)


def augmented_tree(score: Score, constraints: Constraints, target: int) -> np.ndarray:
    """A class as the parent of every other column, and the best tree among those, given the class.

    Args:
        score: what an edge gains.
        constraints: on the edges.
        target: the class, a discrete column.

    Raises:
        CapabilityError: the class is not discrete, or the constraints do not let it be every column's parent.
    """
    names = score.statistics.schema.names
    allowed, needed = constraints.allowed(names), constraints.needed(names)
    check_class(score, constraints, target)
    needed[target] = allowed[:, target] = allowed[target] = False
    check_single(needed, names)
    found = best_tree(score.gains(allowed & possible(score.statistics), given=target), needed, None)
    found[target] = np.arange(len(names)) != target
    return found


def best_tree(gains: np.ndarray, needed: np.ndarray, root: int | None) -> np.ndarray:
    """The branching of most gain; what is needed is in it whatever it gains."""
    there = np.isfinite(gains)
    one, other = gains[there & there.T], gains.T[there & there.T]
    if needed.any() or np.any(there != there.T) or not np.allclose(one, other, rtol=1e-9, atol=1e-6):
        return branching(gains, needed, root)
    return spanning_forest(gains, root)


def spanning_forest(gains: np.ndarray, root: int | None) -> np.ndarray:
    """Prim's algorithm on a full matrix; each part hangs from the column that is joined most strongly."""
    size = len(gains)
    found, strength = np.zeros((size, size), dtype=bool), np.where(gains > LEAST, gains, 0.0).sum(0)
    best, parent, left = np.full(size, -np.inf), np.zeros(size, dtype=int), np.ones(size, dtype=bool)
    if root is not None:
        strength[root] = np.inf
    for _ in range(size):
        offers = np.where(left, best, -np.inf)
        node = int(np.argmax(offers))
        if offers[node] > LEAST:
            found[parent[node], node] = True
        else:
            node = int(np.argmax(np.where(left, strength, -np.inf)))
        left[node] = False
        better = gains[node] > best
        best[better], parent[better] = gains[node][better], node
    return found


def branching(gains: np.ndarray, needed: np.ndarray, root: int | None) -> np.ndarray:
    """Edmonds' branching of most gain."""
    bonus = 1.0 + 2 * len(gains) * float(np.max(np.abs(gains[np.isfinite(gains)]), initial=1.0))
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(gains)))
    for parent, child in np.argwhere((gains > LEAST) | needed).tolist():
        if child != root:
            gain = gains[parent, child] if np.isfinite(gains[parent, child]) else 0.0
            graph.add_edge(parent, child, weight=gain + bonus * needed[parent, child])
    found = np.zeros(gains.shape, dtype=bool)
    for parent, child in nx.maximum_branching(graph, attr="weight").edges:
        found[parent, child] = True
    return found


def check_single(needed: np.ndarray, names: tuple[str, ...]) -> None:
    """In a tree no column has two parents."""
    many = np.nonzero(needed.sum(0) > 1)[0]
    if len(many):
        raise CapabilityError(f"Column {names[many[0]]!r} has two required parents; in a tree it has one at most.")


def check_class(score: Score, constraints: Constraints, target: int) -> None:
    """The class is discrete and may be every column's parent."""
    column, names = score.statistics.schema[target], score.statistics.schema.names
    if not column.is_discrete:
        raise CapabilityError(
            f"The class must be discrete; {column.name!r} is {column.kind}. Name another column, or cut it into levels."
        )
    barred = [names[d] for d in np.nonzero(~constraints.allowed(names)[target])[0] if d != target]
    if barred:
        raise CapabilityError(
            f"The class {column.name!r} cannot be the parent of {barred[0]!r}, as the constraints say."
        )
    if constraints.needed(names)[:, target].any():
        raise CapabilityError(
            f"The class {column.name!r} has no parents in this method, and the constraints require one."
        )
