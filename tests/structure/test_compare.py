"""Distances and equivalence classes beside pgmpy's and beside their definitions."""

import warnings
from itertools import combinations

import networkx as nx
import numpy as np
import pytest

from probgen.errors import CapabilityError
from probgen.structure import Graph, PartialGraph, compare, cpdag, structural_hamming_distance


def random_graph(seed, nodes=7, share=0.35):
    random = np.random.default_rng(seed)
    order = [f"n{d}" for d in random.permutation(nodes)]
    edges = [pair for pair in combinations(order, 2) if random.random() < share]
    return Graph.of(edges, [f"n{d}" for d in range(nodes)])


def peers(graph):
    from pgmpy.base import DAG

    made = DAG()
    made.add_nodes_from(sorted(graph.nodes))
    made.add_edges_from(graph.edges)
    return made


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(12))
def test_the_distance_is_pgmpys(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pgmpy.metrics import SHD

        one, other = random_graph(seed), random_graph(seed + 100)
        expected = SHD().evaluate(peers(one), peers(other))
    assert structural_hamming_distance(one, other) == structural_hamming_distance(other, one) == expected


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(20))
def test_equivalence_classes_are_pgmpys(seed):
    graph = random_graph(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = PartialGraph.of(sorted(graph.nodes), peers(graph).to_pdag().edges())
    ours = cpdag(graph)
    assert ours.directed == theirs.directed
    assert {frozenset(e) for e in ours.undirected} == {frozenset(e) for e in theirs.undirected}


@pytest.mark.parametrize("seed", range(8))
def test_equivalence_classes_by_definition(seed):
    """All orientations of the skeleton with the same colliders; an edge is directed where all agree."""
    graph = random_graph(seed, nodes=5, share=0.5)
    agreeing: dict = {}
    for turns in range(2 ** len(graph.edges)):
        edges = [edge[::-1] if turns >> at & 1 else edge for at, edge in enumerate(graph.edges)]
        if nx.is_directed_acyclic_graph(nx.DiGraph(edges)) and colliders(edges) == colliders(graph.edges):
            for edge in edges:
                agreeing.setdefault(frozenset(edge), set()).add(edge)
    expected = {edge for found in agreeing.values() if len(found) == 1 for edge in found}
    assert cpdag(graph).directed == expected


def colliders(edges):
    joined = {frozenset(edge) for edge in edges}
    into: dict = {}
    for parent, child in edges:
        into.setdefault(child, []).append(parent)
    return {
        (frozenset(pair), child)
        for child, parents in into.items()
        for pair in combinations(parents, 2)
        if frozenset(pair) not in joined
    }


@pytest.mark.parametrize("seed", range(20))
def test_an_extension_is_in_the_class_it_extends(seed):
    graph = random_graph(seed)
    extended = cpdag(graph).extension()
    assert structural_hamming_distance(cpdag(extended), cpdag(graph)) == 0


def test_what_cannot_be_extended_is_refused():
    square = PartialGraph(tuple("abcd"), undirected=frozenset([("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")]))
    with pytest.raises(CapabilityError, match="cannot be directed without a cycle or a new collider"):
        square.extension()


def test_a_comparison_counts_each_way_of_being_wrong():
    true = Graph.of([("a", "b"), ("b", "c"), ("c", "d"), ("a", "e")], "abcde")
    found = Graph.of([("b", "a"), ("b", "c"), ("a", "d"), ("a", "e")], "abcde")
    result = compare(found, true)
    assert (result.distance, result.precision, result.recall) == (3, 0.75, 0.75)
    assert (result.missing, result.extra, result.turned) == ((("c", "d"),), (("a", "d"),), (("b", "a"),))
    assert compare(Graph.of([], "ab"), Graph.of([], "ab")).precision == 1.0


def test_graphs_over_other_nodes_are_refused():
    with pytest.raises(CapabilityError, match="Only one of the graphs has node 'c'"):
        compare(Graph.of([("a", "b")]), Graph.of([("a", "b")], "abc"))
