"""Directed acyclic graphs over the columns of a table, how they are learnt from data, and files of networks."""

from probgen.structure.discrete import DiscreteNetwork
from probgen.structure.graph import Graph

__all__ = ["DiscreteNetwork", "Graph"]
