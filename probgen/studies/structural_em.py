"""Graphs of tables with holes by structural EM (Friedman, 1997), on completed rows.

In turn: the unknown cells are drawn several times from the current network, exactly and given everything that the row
knows, and the best graph for the completed rows, each counting a fraction, is looked for from the current one; then its
parameters are fitted to the rows as they are. Unlike the available cases of every family, completions use what other
columns tell of a hole. Of all networks on the way the one with the best BIC on the rows as they are is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.inference.runtime import seed_of
from probgen.queries.fit import Fit, fit
from probgen.structure import Graph, Structure, learn_structure
from probgen.whole import check_whole

__all__ = ["StructuralEM", "structural_em"]


@dataclass(frozen=True)
class StructuralEM:
    """What a structural EM found.

    Attributes:
        fit: the network with the best BIC.
        structure: its graph with the gains of its edges, on the last completions.
        bic: of every round's network on the rows as they are; smaller is better.
        edges: number of edges of every round's graph.
    """

    fit: Fit
    structure: Structure
    bic: list[float] = field(default_factory=list)
    edges: list[int] = field(default_factory=list)

    @property
    def graph(self) -> Graph:
        """The graph of the best network."""
        return self.structure.graph

    def __repr__(self) -> str:
        return f"StructuralEM({self.structure!r}, BIC {min(self.bic):.2f} after {len(self.bic)} rounds)"


def structural_em(
    table: Any,
    *,
    draws: int = 10,
    rounds: int = 10,
    method: str = "hill_climbing",
    seed: int = 0,
    progress: bool = True,
    prior: Any = "default",
    **search: Any,
) -> StructuralEM:
    """A network learnt from a table with holes.

    Args:
        table: columns with holes.
        draws: completions of every row.
        rounds: at most; the search ends when a graph comes back, or two rounds bring nothing.
        method: "hill_climbing" or "tabu".
        seed: of completions and searches.
        progress: show bars.
        prior: of the parameters.
        **search: score, forbidden, required, tiers, max_parents and other options of :func:`probgen.learn_structure`;
            ``start`` is where the first round's search starts, later ones start from the graph before.

    Raises:
        CapabilityError: an option that there is not, or fewer than one draw or round.
    """
    for name, number in (("draws", draws), ("rounds", rounds)):
        check_whole(name, number)
    if method not in ("hill_climbing", "tabu"):
        raise CapabilityError(f"method must be 'hill_climbing' or 'tabu', got {method!r}.")
    table = table if isinstance(table, Table) else Table(table)
    search = {"seed": seed, "progress": progress, **search}
    found = learn_structure(table, method, **search)
    seen: set[Graph] = set()
    kept: list[tuple[float, Fit, Structure]] = []
    for number in range(rounds):
        network = fit("bayesian_network", table, structure=found, seed=seed, progress=progress, prior=prior)
        kept.append((network.criteria(table).bic, network, found))
        best = min(range(len(kept)), key=lambda at: kept[at][0])
        if found.graph in seen or number - best >= 2 or table.known.all():
            break
        seen.add(found.graph)
        whole = completions(network, table, draws, seed_of(seed, "completions", number))
        found = learn_structure(whole, method, **{**search, "start": found.graph})
    _, network, structure = min(kept, key=lambda entry: entry[0])
    return StructuralEM(network, structure, [bic for bic, _, _ in kept], [len(s.graph.edges) for _, _, s in kept])


def completions(network: Fit, table: Table, draws: int, seed: int) -> Table:
    """All completed rows, each with a share of its weight."""
    made = network.fill(table, draws, seed=seed % 2**31)
    weights = np.ones(len(table)) if table.weights is None else table.weights
    values = np.concatenate([one.values for one in made])
    return Table.from_codes(values, table.schema, np.tile(weights / draws, draws))
