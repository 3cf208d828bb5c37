"""Directed acyclic graphs: what a Bayesian network says about who depends directly on whom."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import networkx as nx

from probgen.errors import CapabilityError

__all__ = ["Graph"]


class Graph:
    """A directed acyclic graph over named nodes. Read-only.

    Args:
        parents: ``{node: its parents}``; a node that is only named as a parent is a node without parents.

    Attributes:
        parents: ``{node: (parent, ...)}``, parents before children.

    Raises:
        CapabilityError: a cycle (it is named), a node that is its own parent, or a parent named twice.

    Example:
        >>> graph = Graph({"wet": ("rain", "sprinkler"), "sprinkler": ("rain",)})
        >>> graph.nodes
        ('rain', 'sprinkler', 'wet')
        >>> graph.children["rain"]
        ('sprinkler', 'wet')
        >>> graph.separated({"rain"}, {"wet"}, {"sprinkler"})
        False
    """

    def __init__(self, parents: Mapping[str, Iterable[str]]) -> None:
        check_parents(parents)
        made = nx.DiGraph()
        made.add_nodes_from(parents)
        made.add_edges_from((parent, node) for node, found in parents.items() for parent in found)
        if not nx.is_directed_acyclic_graph(made):
            cycle = [start for start, _ in nx.find_cycle(made)]
            raise CapabilityError(
                f"The graph has a cycle: {' -> '.join([*cycle, cycle[0]])}. Remove or turn one of these edges."
            )
        places = {node: place for place, node in enumerate(made)}
        order = nx.lexicographical_topological_sort(made, key=places.__getitem__)
        self.parents = {node: tuple(parents.get(node, ())) for node in order}

    @classmethod
    def of(cls, structure: Any, nodes: Iterable[str] = ()) -> Graph:
        """A graph from whatever holds one.

        Args:
            structure: a Graph, ``{node: parents}``, edges ``[(parent, child), ...]``, a networkx ``DiGraph`` or a pgmpy
                model (which is one).
            nodes: nodes that the graph has even where no edge names them.

        Raises:
            CapabilityError: as for the constructor, or edges that are not pairs of names.
        """
        if isinstance(structure, Graph):
            if structure.parents.keys() >= set(nodes):
                return structure
            found: dict[str, tuple[str, ...]] = dict(structure.parents)
        elif isinstance(structure, Mapping):
            found = {node: tuple(parents) for node, parents in checked_names(structure).items()}
        elif isinstance(structure, nx.DiGraph):
            found = {node: tuple(structure.predecessors(node)) for node in structure}
        else:
            found = {}
            for parent, child in checked_edges(structure):
                found[child] = (*found.get(child, ()), parent)
        return cls({**dict.fromkeys(nodes, ()), **found})

    # -- reading -----------------------------------------------------------------------------------------------
    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes, parents before children."""
        return tuple(self.parents)

    @property
    def edges(self) -> list[tuple[str, str]]:
        """Pairs (parent, child)."""
        return [(parent, node) for node, parents in self.parents.items() for parent in parents]

    @cached_property
    def children(self) -> dict[str, tuple[str, ...]]:
        """Every node's children."""
        found: dict[str, list[str]] = {node: [] for node in self.parents}
        for parent, child in self.edges:
            found[parent].append(child)
        return {node: tuple(children) for node, children in found.items()}

    def ancestors(self, nodes: Iterable[str]) -> set[str]:
        """The nodes and everything above them."""
        return reached(nodes, self.parents)

    def descendants(self, nodes: Iterable[str]) -> set[str]:
        """The nodes and everything below them."""
        return reached(nodes, self.children)

    def separated(self, one: Iterable[str], other: Iterable[str], given: Iterable[str] = ()) -> bool:
        """True where the graph makes two sets of nodes independent given a third (d-separation; Pearl, 1988)."""
        return nx.is_d_separator(self.to_networkx(), set(one), set(other), set(given))

    def without(self, nodes: Iterable[str]) -> Graph:
        """The graph without some nodes and their edges."""
        gone = set(nodes)
        kept = {n: tuple(p for p in parents if p not in gone) for n, parents in self.parents.items() if n not in gone}
        return Graph(kept)

    def to_networkx(self) -> nx.DiGraph:
        """The same graph as a networkx ``DiGraph``."""
        made = nx.DiGraph()
        made.add_nodes_from(self.parents)
        made.add_edges_from(self.edges)
        return made

    def __len__(self) -> int:
        return len(self.parents)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return {n: set(p) for n, p in self.parents.items()} == {n: set(p) for n, p in other.parents.items()}

    def __hash__(self) -> int:
        return hash(frozenset(self.edges) | frozenset(self.nodes))

    def __repr__(self) -> str:
        return f"Graph({len(self)} nodes, {len(self.edges)} edges)"


def reached(nodes: Iterable[str], neighbours: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The nodes, and all nodes that some walk from them gets to."""
    found, left = set(), list(nodes)
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left.extend(neighbours[node])
    return found


def check_parents(parents: Mapping[str, Iterable[str]]) -> None:
    """No node is its own parent, no parent is named twice."""
    for node, found in parents.items():
        listed = list(found)
        if node in listed:
            raise CapabilityError(f"The graph has a cycle: {node} -> {node}. A node cannot be its own parent.")
        twice = [parent for parent in listed if listed.count(parent) > 1]
        if twice:
            raise CapabilityError(f"Node {node!r} names parent {twice[0]!r} twice; name it once.")


def checked_names(structure: Mapping[str, Any]) -> Mapping[str, Iterable[str]]:
    """Parents are lists of names, never one bare name, whose letters would be taken for nodes."""
    for node, parents in structure.items():
        if isinstance(parents, str) or not isinstance(parents, Iterable):
            raise CapabilityError(
                f"The parents of {node!r} must be a list of names, got {parents!r}; write [{parents!r}]."
            )
    return structure


def checked_edges(structure: Any) -> list[tuple[str, str]]:
    """Edges as pairs of names."""
    try:
        pairs = [(edge[0], edge[1]) for edge in structure if not isinstance(edge, str) and len(edge) == 2]
        if len(pairs) == len(list(structure)):
            return pairs
    except (TypeError, KeyError, IndexError):
        pass
    raise CapabilityError(
        "A structure is {node: parents}, a list of edges (parent, child), a networkx DiGraph or a pgmpy model;"
        f" got {structure!r}."
    )


def check_known(names: Iterable[str], known: Iterable[str], what: str, remedy: str = "") -> None:
    """Every name is one that there is; otherwise say which are, and which is nearest."""
    there = list(known)
    for name in names:
        if name not in there:
            near = difflib.get_close_matches(str(name), [str(n) for n in there], 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise CapabilityError(
                f"{what} names {name!r}, which there is not.{hint} There are: {', '.join(map(str, there))}.{remedy}"
            )
