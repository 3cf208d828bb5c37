"""Directed acyclic graphs over the columns of a table, and how they are learnt from data."""

from probgen.structure.graph import Graph

__all__ = ["Graph"]
