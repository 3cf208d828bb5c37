"""Directed acyclic graphs over the columns of a table, how they are learnt from data, and files of networks."""

from probgen.structure.compare import Comparison, compare, structural_hamming_distance
from probgen.structure.confidence import EdgeConfidence, edge_confidence
from probgen.structure.constraints import Constraints
from probgen.structure.discrete import DiscreteNetwork
from probgen.structure.graph import Graph
from probgen.structure.learn import Step, Structure, learn_structure, settled_structure
from probgen.structure.partial import PartialGraph, cpdag
from probgen.structure.peers import pgmpy_graph
from probgen.structure.scores import Score, make_score
from probgen.structure.statistics import Statistics

__all__ = [
    "Comparison",
    "Constraints",
    "DiscreteNetwork",
    "EdgeConfidence",
    "Graph",
    "PartialGraph",
    "Score",
    "Statistics",
    "Step",
    "Structure",
    "compare",
    "cpdag",
    "edge_confidence",
    "learn_structure",
    "make_score",
    "pgmpy_graph",
    "settled_structure",
    "structural_hamming_distance",
]
