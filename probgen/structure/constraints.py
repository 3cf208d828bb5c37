"""What is known of a graph before data are seen: edges that must or must not be, and columns in the order of time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from probgen.errors import CapabilityError
from probgen.structure.graph import check_known, checked_edges
from probgen.structure.statistics import Statistics
from probgen.whole import is_whole

__all__ = ["Constraints"]

Edge = tuple[str, str]


@dataclass(frozen=True)
class Constraints:
    """Knowledge about a graph over named columns.

    Args:
        required: edges (parent, child) that the graph has.
        forbidden: edges (parent, child) that it has not.
        tiers: groups of columns in the order of time; no edge runs from a later group to an earlier one. Columns in no
            group are free.
        max_parents: the most parents of a column, or None.

    Raises:
        CapabilityError: an edge both required and forbidden, a required cycle, a column in two tiers, a required edge
            against the tiers, more required parents than max_parents.
    """

    required: frozenset[Edge] = frozenset()
    forbidden: frozenset[Edge] = frozenset()
    tiers: tuple[tuple[str, ...], ...] = ()
    max_parents: int | None = None

    @classmethod
    def of(
        cls,
        required: Iterable[Edge] = (),
        forbidden: Iterable[Edge] = (),
        tiers: Iterable[Iterable[str] | str] = (),
        max_parents: int | None = None,
        names: Iterable[str] = (),
    ) -> Constraints:
        """Constraints from lists, checked; a tier that is one name may stand without brackets."""
        groups = tuple((tier,) if isinstance(tier, str) else tuple(tier) for tier in tiers)
        needed, barred = checked_edges(list(required)), checked_edges(list(forbidden))
        made = cls(frozenset(needed), frozenset(barred), groups, max_parents)
        made.check(list(names))
        return made

    def __bool__(self) -> bool:
        return bool(self.required or self.forbidden or self.tiers or self.max_parents is not None)

    def check(self, names: Sequence[str]) -> None:
        """Do they fit each other and the columns?"""
        check_known((name for edge in sorted(self.required, key=str) for name in edge), names, "A required edge")
        check_known((name for edge in sorted(self.forbidden, key=str) for name in edge), names, "A forbidden edge")
        check_known((name for tier in self.tiers for name in tier), names, "A tier")
        self.check_tiers()
        self.check_edges()
        self.check_max_parents(names)

    def check_tiers(self) -> None:
        """No column stands in two tiers."""
        listed = [name for tier in self.tiers for name in tier]
        twice = sorted({str(name) for name in listed if listed.count(name) > 1})
        if twice:
            raise CapabilityError(f"Column {twice[0]!r} stands in two tiers; leave one of them.")

    def check_edges(self) -> None:
        """What is required is neither forbidden nor against the tiers, and has no cycle."""
        for parent, child in sorted(self.required, key=str):
            if (parent, child) in self.forbidden:
                raise CapabilityError(f"Edge {parent} -> {child} is both required and forbidden; take one away.")
            if self.place(parent) > self.place(child) >= 0:
                raise CapabilityError(
                    f"Edge {parent} -> {child} is required, and the tiers put {child} before {parent}; change one."
                )
        graph = nx.DiGraph(sorted(self.required, key=str))
        if not nx.is_directed_acyclic_graph(graph):
            cycle = [start for start, _ in nx.find_cycle(graph)]
            raise CapabilityError(
                f"The required edges have a cycle: {' -> '.join(map(str, [*cycle, cycle[0]]))}. Take one away."
            )

    def check_max_parents(self, names: Sequence[str]) -> None:
        """It is a whole number, and not less than what is required."""
        most = self.max_parents
        if most is None:
            return
        if not is_whole(most, 0):
            raise CapabilityError(f"max_parents must be a whole number from 0 up, or None; got {most!r}.")
        for name in names:
            needed = sum(child == name for _, child in self.required)
            if needed > most:
                raise CapabilityError(f"Column {name!r} has {needed} required parents, and max_parents is {most}.")

    def place(self, name: str) -> int:
        """Tier of a column; -1 where it has none."""
        return next((place for place, tier in enumerate(self.tiers) if name in tier), -1)

    def allowed(self, names: Sequence[str]) -> np.ndarray:
        """``(D, D)``: may there be an edge from row to column?"""
        place = np.array([self.place(name) for name in names])
        found = ~((place[:, None] > place) & (place >= 0))
        np.fill_diagonal(found, False)
        index = {name: at for at, name in enumerate(names)}
        for parent, child in self.forbidden:
            found[index[parent], index[child]] = False
        for parent, child in self.required:
            found[index[child], index[parent]] = False
        return found

    def needed(self, names: Sequence[str]) -> np.ndarray:
        """``(D, D)``: must there be one?"""
        index = {name: at for at, name in enumerate(names)}
        found = np.zeros((len(names), len(names)), dtype=bool)
        for parent, child in self.required:
            found[index[parent], index[child]] = True
        return found

    def barred(self, names: Sequence[str]) -> list[Edge]:
        """Forbidden edges and those against the tiers, as pairs."""
        places = np.argwhere(~self.allowed(names))
        return [
            (names[a], names[b]) for a, b in places.tolist() if a != b and (names[b], names[a]) not in self.required
        ]

    def broken(self, edges: Iterable[Edge], statistics: Statistics) -> list[str]:
        """What a set of edges does not keep, in words."""
        names, found = statistics.schema.names, sorted(edges, key=str)
        allowed = self.allowed(names)
        index = {name: at for at, name in enumerate(names)}
        told = [f"{a} -> {b} is required" for a, b in sorted(self.required, key=str) if (a, b) not in found]
        return told + [f"{a} -> {b} is forbidden" for a, b in found if not allowed[index[a], index[b]]]
