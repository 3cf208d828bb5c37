"""XDSL, the format of GeNIe and SMILE: nodes with tables (``cpt``) and deterministic ones."""

from __future__ import annotations

from xml.etree.ElementTree import SubElement

import numpy as np

from probgen.errors import DataError
from probgen.structure.discrete import DiscreteNetwork, place_of, table_of
from probgen.structure.formats.xml import Element, as_numbers, parsed, pretty, text_of, unique

__all__ = ["read", "write"]


def read(text: str) -> DiscreteNetwork:
    """The network that a text describes."""
    nodes = parsed(text, "smile").find("nodes")
    if nodes is None:
        raise DataError("the document has no <nodes>")
    names = unique(node.get("id", "") for node in nodes)
    for node in nodes:
        if node.tag not in ("cpt", "deterministic"):
            raise DataError(f"node {node.get('id')!r} is a <{node.tag}>; nodes have to be <cpt> or <deterministic>")
    listed = [tuple(state.get("id", "") for state in node.findall("state")) for node in nodes]
    states = dict(zip(names, listed, strict=True))
    parents = {name: tuple((node.findtext("parents") or "").split()) for name, node in zip(names, nodes, strict=True)}
    for name, given in parents.items():
        for parent in given:
            if parent not in states:
                raise DataError(
                    f"node {name!r} has the parent {parent!r}, which is no node; those are: {', '.join(names)}"
                )
    tables = {name: made(node, name, parents[name], states) for name, node in zip(names, nodes, strict=True)}
    return DiscreteNetwork(states, parents, tables)


def made(node: Element, name: str, parents: tuple[str, ...], states: dict[str, tuple[str, ...]]) -> np.ndarray:
    """The table of a node; the parent named first runs slowest."""
    if node.tag == "cpt":
        return table_of(as_numbers(text_of(node, "probabilities"), name), name, parents, states)
    results = [place_of(state, states[name], name) for state in text_of(node, "resultingstates").split()]
    return table_of(np.eye(len(states[name]))[results].ravel(), name, parents, states)


def write(network: DiscreteNetwork) -> str:
    """The network as a text."""
    document = Element("smile", version="1.0", id="network")
    nodes = SubElement(document, "nodes")
    for name in parents_first(network):
        if str(name).split() != [str(name)]:
            raise DataError(f"the node name {name!r} has spaces in it, which this format cannot hold; rename it")
        node = SubElement(nodes, "cpt", id=str(name))
        for state in network.states[name]:
            SubElement(node, "state", id=str(state))
        if network.parents[name]:
            SubElement(node, "parents").text = " ".join(map(str, network.parents[name]))
        SubElement(node, "probabilities").text = " ".join(f"{value:.15g}" for value in network.tables[name].flat)
    return pretty(document)


def parents_first(network: DiscreteNetwork) -> list[str]:
    """Nodes as the format wants them."""
    found: list[str] = []
    while len(found) < len(network.states):
        found += [n for n in network.states if n not in found and set(network.parents[n]) <= set(found)]
    return found
