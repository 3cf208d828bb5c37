"""XBN, the XML belief network format of Microsoft Research (1999)."""

from __future__ import annotations

from xml.etree.ElementTree import SubElement

import numpy as np

from probgen.errors import DataError
from probgen.structure.discrete import DiscreteNetwork, table_of
from probgen.structure.formats.xml import Element, as_numbers, as_text, parsed, pretty, unique

__all__ = ["read", "write"]


def read(text: str) -> DiscreteNetwork:
    """The network that a text describes."""
    root = parsed(text, "ANALYSISNOTEBOOK").find("BNMODEL")
    if root is None:
        raise DataError("the document has no <BNMODEL>")
    variables = root.findall("VARIABLES/VAR")
    names = unique(variable.get("NAME", "") for variable in variables)
    listed = [tuple((state.text or "").strip() for state in variable.findall("STATENAME")) for variable in variables]
    states = dict(zip(names, listed, strict=True))
    parents: dict[str, tuple[str, ...]] = {}
    tables = {}
    for found in root.findall("DISTRIBUTIONS/DIST"):
        private = found.find("PRIVATE")
        name = "" if private is None else private.get("NAME", "")
        given = tuple(element.get("NAME", "") for element in found.findall("CONDSET/CONDELEM"))
        for known in (name, *given):
            if known not in states:
                raise DataError(f"{known!r} is no variable; those are: {', '.join(states)}")
        if name in parents:
            raise DataError(f"node {name!r} has two distributions")
        parents[name], tables[name] = given, made(found, name, given, states)
    return DiscreteNetwork(states, parents, tables)


def made(found: Element, name: str, parents: tuple[str, ...], states: dict[str, tuple[str, ...]]) -> np.ndarray:
    """The table of a node: every row with the numbers of its parents' states, or all rows in order."""
    rows = [(row.get("INDEXES", "").split(), as_numbers(row.text or "", name)) for row in found.findall("DPIS/DPI")]
    if not parents or not all(index for index, _ in rows):
        return table_of([value for _, numbers in rows for value in numbers], name, parents, states)
    table = np.full([len(states[node]) for node in (*parents, name)], np.nan)
    for index, numbers in rows:
        try:
            table[tuple(map(int, index))] = numbers
        except (IndexError, ValueError):
            raise DataError(
                f"node {name!r} has a row with INDEXES {' '.join(index)!r} and {len(numbers)} numbers"
            ) from None
    return table


def write(network: DiscreteNetwork) -> str:
    """The network as a text."""
    document = Element("ANALYSISNOTEBOOK", NAME="Notebook", ROOT="network")
    root = SubElement(document, "BNMODEL", NAME="network")
    variables, structure = SubElement(root, "VARIABLES"), SubElement(root, "STRUCTURE")
    distributions = SubElement(root, "DISTRIBUTIONS")
    for name, states in network.states.items():
        variable = SubElement(variables, "VAR", NAME=str(name), TYPE="discrete", XPOS="0", YPOS="0")
        SubElement(variable, "DESCRIPTION")
        for state in states:
            SubElement(variable, "STATENAME").text = as_text(state)
    for name, table in network.tables.items():
        distribution = SubElement(distributions, "DIST", TYPE="discrete")
        given = network.parents[name]
        if given:
            condition = SubElement(distribution, "CONDSET")
        for parent in given:
            SubElement(structure, "ARC", PARENT=str(parent), CHILD=str(name))
            SubElement(condition, "CONDELEM", NAME=str(parent))
        SubElement(distribution, "PRIVATE", NAME=str(name))
        rows = SubElement(distribution, "DPIS")
        for place in np.ndindex(table.shape[:-1]):
            row = SubElement(rows, "DPI", {"INDEXES": " ".join(map(str, place))} if given else {})
            row.text = " ".join(f"{value:.15g}" for value in table[place])
    return pretty(document)
