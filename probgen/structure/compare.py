"""How far one graph is from another."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from probgen.errors import CapabilityError
from probgen.structure.graph import Graph
from probgen.structure.partial import PartialGraph, cpdag

__all__ = ["Comparison", "compare", "structural_hamming_distance"]

Edge = tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """A graph beside the true one.

    Attributes:
        distance: structural Hamming distance of the two graphs.
        class_distance: that of their equivalence classes.
        precision: share of the found graph's edges that the true one has, whatever their direction.
        recall: share of the true graph's edges that were found.
        missing: edges of the true graph that were not found.
        extra: edges found that the true graph has not.
        turned: edges found that run the other way.
    """

    distance: int
    class_distance: int
    precision: float
    recall: float
    missing: tuple[Edge, ...]
    extra: tuple[Edge, ...]
    turned: tuple[Edge, ...]

    def __str__(self) -> str:
        return (
            f"distance {self.distance} (of classes {self.class_distance}), precision {self.precision:.3f}, recall"
            f" {self.recall:.3f}; {len(self.missing)} missing, {len(self.extra)} extra, {len(self.turned)} turned round"
        )


def structural_hamming_distance(one: Graph | PartialGraph, other: Graph | PartialGraph) -> int:
    """Pairs of nodes that the graphs join differently: not, one way, the other way, or without direction.

    Tsamardinos, Brown and Aliferis (2006). For what data can tell, compare equivalence classes: ``cpdag(graph)``.

    Raises:
        CapabilityError: the graphs have other nodes.

    Example:
        >>> one, other = Graph({"b": ("a",), "c": ("b",)}), Graph({"a": ("b",), "c": ("b",)})
        >>> structural_hamming_distance(one, other), structural_hamming_distance(cpdag(one), cpdag(other))
        (1, 0)
    """
    check_same_nodes(one, other)
    a, b = marked(one), marked(other)
    nodes = sorted(a.nodes, key=str)
    drawn = {frozenset(edge) for graph in (a, b) for edge in graph.directed | graph.undirected}
    pairs = [pair for pair in combinations(nodes, 2) if frozenset(pair) in drawn]
    return sum(a.mark(*pair) != b.mark(*pair) for pair in pairs)


def compare(found: Graph, true: Graph) -> Comparison:
    """A graph beside the true one.

    Raises:
        CapabilityError: the graphs have other nodes.

    Example:
        >>> print(compare(Graph({"b": ("a",), "c": ()}), Graph({"b": ("a",), "c": ("b",)})))
        distance 1 (of classes 1), precision 1.000, recall 0.500; 1 missing, 0 extra, 0 turned round
    """
    distance = structural_hamming_distance(found, true)
    ours, theirs = set(found.edges), set(true.edges)
    turned = {(a, b) for a, b in ours if (b, a) in theirs}
    shared = len(ours & theirs) + len(turned)
    return Comparison(
        distance,
        structural_hamming_distance(cpdag(found), cpdag(true)),
        shared / len(ours) if ours else 1.0,
        shared / len(theirs) if theirs else 1.0,
        missing=tuple(sorted((e for e in theirs - ours if e[::-1] not in ours), key=str)),
        extra=tuple(sorted(ours - theirs - turned, key=str)),
        turned=tuple(sorted(turned, key=str)),
    )


def marked(graph: Graph | PartialGraph) -> PartialGraph:
    return PartialGraph(graph.nodes, frozenset(graph.edges)) if isinstance(graph, Graph) else graph


def check_same_nodes(one: Graph | PartialGraph, other: Graph | PartialGraph) -> None:
    """Both graphs are over the same nodes."""
    apart = sorted(set(one.nodes) ^ set(other.nodes), key=str)
    if apart:
        raise CapabilityError(
            f"Only one of the graphs has node {apart[0]!r}; compare graphs over the same nodes"
            " (Graph.of(structure, nodes) adds nodes without edges)."
        )
