"""Graphs some of whose edges have no direction: what independences alone can say (Verma and Pearl, 1990)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import networkx as nx

from probgen.errors import CapabilityError
from probgen.structure.graph import Graph

__all__ = ["PartialGraph", "cpdag"]

Edge = tuple[str, str]


@dataclass(frozen=True)
class PartialGraph:
    """Directed and undirected edges over named nodes.

    Attributes:
        nodes: in order.
        directed: pairs (parent, child).
        undirected: pairs, each once, in the order of the nodes.
    """

    nodes: tuple[str, ...]
    directed: frozenset[Edge] = frozenset()
    undirected: frozenset[Edge] = frozenset()

    @classmethod
    def of(cls, nodes: Iterable[str], arrows: Iterable[Edge]) -> PartialGraph:
        """From arrows; two arrows that run against each other are an undirected edge."""
        listed, drawn = tuple(nodes), set(arrows)
        place = {node: at for at, node in enumerate(listed)}
        both = {(a, b) for a, b in drawn if (b, a) in drawn and place[a] < place[b]}
        return cls(listed, frozenset((a, b) for a, b in drawn if (b, a) not in drawn), frozenset(both))

    def mark(self, one: str, other: str) -> str:
        """``->``, ``<-``, ``--`` or nothing."""
        if (one, other) in self.directed:
            return "->"
        if (other, one) in self.directed:
            return "<-"
        return "--" if {(one, other), (other, one)} & self.undirected else ""

    def neighbours(self) -> dict[str, set[str]]:
        """The nodes that share an edge with each."""
        found: dict[str, set[str]] = {node: set() for node in self.nodes}
        for a, b in self.directed | self.undirected:
            found[a].add(b)
            found[b].add(a)
        return found

    def extension(self) -> Graph:
        """A directed acyclic graph with the same edges and no new collider (Dor and Tarsi, 1992).

        Raises:
            CapabilityError: there is none.
        """
        left, parents = self.neighbours(), {node: set[str]() for node in self.nodes}
        for a, b in self.directed:
            parents[b].add(a)
        children = {node: {b for a, b in self.directed if a == node} for node in self.nodes}
        while left:
            sink = next((node for node in left if self.is_sink(node, left, children)), None)
            if sink is None:
                raise CapabilityError(
                    "The edges cannot be directed without a cycle or a new collider; the tests behind them disagree."
                )
            parents[sink] |= left.pop(sink)
            for node in left:
                left[node].discard(sink)
                children[node].discard(sink)
        return Graph({node: sorted(found, key=self.nodes.index) for node, found in parents.items()})

    def is_sink(self, node: str, left: dict[str, set[str]], children: dict[str, set[str]]) -> bool:
        """Can all that is left at a node point to it without making a new collider?"""
        if children[node]:
            return False
        loose = [other for other in left[node] if self.mark(node, other) == "--"]
        return all(left[node] - {other} <= left[other] for other in loose)

    def __repr__(self) -> str:
        return f"PartialGraph({len(self.nodes)} nodes, {len(self.directed)} arrows, {len(self.undirected)} undirected)"


def cpdag(graph: Graph) -> PartialGraph:
    """The graphs that say the same as this one: an edge has a direction where all of them agree (Chickering, 1995).

    Example:
        >>> cpdag(Graph({"b": ("a",), "c": ("b",)})).undirected == {("a", "b"), ("b", "c")}
        True
        >>> sorted(cpdag(Graph({"c": ("a", "b")})).directed)
        [('a', 'c'), ('b', 'c')]
    """
    place = {node: at for at, node in enumerate(graph.nodes)}
    parents = {node: sorted(found, key=place.__getitem__, reverse=True) for node, found in graph.parents.items()}
    compelled: dict[Edge, bool] = {}
    for child in graph.nodes:
        for parent in parents[child]:
            if (parent, child) not in compelled:
                label(parent, child, parents, compelled)
    arrows = [(a, b) for a, b in compelled]
    return PartialGraph.of(graph.nodes, arrows + [(b, a) for (a, b), fixed in compelled.items() if not fixed])


def label(parent: str, child: str, parents: dict[str, list[str]], compelled: dict[Edge, bool]) -> None:
    """Say of an edge, and of some others into the same child, whether all equivalent graphs have it so."""
    for above in parents[parent]:
        if compelled[above, parent]:
            if above not in parents[child]:
                compelled.update({(other, child): True for other in parents[child]})
                return
            compelled[above, child] = True
    collider = any(other != parent and other not in parents[parent] for other in parents[child])
    for other in parents[child]:
        compelled.setdefault((other, child), collider)


def is_acyclic(nodes: Iterable[str], edges: Iterable[Edge]) -> bool:
    """Have these edges no cycle?"""
    graph = nx.DiGraph(list(edges))
    graph.add_nodes_from(nodes)
    return nx.is_directed_acyclic_graph(graph)
