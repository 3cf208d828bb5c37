"""Trees over discrete columns that a fit has learned, as graphs."""

from __future__ import annotations

from typing import Any

import networkx
import numpy as np
import torch

from probgen.errors import CapabilityError
from probgen.families.chow_liu_tree import ChowLiuTree
from probgen.queries.components import Part, components

__all__ = ["trees"]


def trees(fit: Any, draw: int = 0) -> list[networkx.DiGraph]:
    """One tree a component, whose nodes are the names of columns and whose edges point from parents to children.

    An edge's ``mutual_information``, in nats, is that of its two columns inside the component: how strong the edge is.
    It is the same in both directions, as is the tree's density: arrows tell how tables were written, not what causes what.
    A graph's ``weight`` is the component's probability.

    Args:
        fit: of a program with trees over discrete columns.
        draw: which posterior draw.

    Raises:
        CapabilityError: there are no such trees.
    """
    found = [
        graph
        for table in components(fit, draw)
        for part in table.parts
        if isinstance(part.table.family, ChowLiuTree)
        for graph in graphs(fit, part, table.weight)
    ]
    if not found:
        raise CapabilityError(f"{fit.name!r} has no trees over discrete columns; fit 'chow_liu_mixture' to some.")
    return found


def graphs(fit: Any, part: Part, weight: np.ndarray) -> list[networkx.DiGraph]:
    """The trees of one table of parameters."""
    family = part.table.family
    assert isinstance(family, ChowLiuTree)
    with torch.no_grad(), fit.setting():
        information = family.edge_information(part.parameters).tolist()
    found = []
    for number, parents in enumerate(part.parameters["parents"].tolist()):
        graph = networkx.DiGraph(weight=float(weight[number]))
        graph.add_nodes_from(part.names)
        for child, parent in enumerate(parents):
            if parent >= 0:
                strength = information[number][child]
                graph.add_edge(part.names[parent], part.names[child], mutual_information=strength)
        found.append(graph)
    return found
