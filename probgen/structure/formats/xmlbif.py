"""XMLBIF 0.3 (Cozman, 1998)."""

from __future__ import annotations

from xml.etree.ElementTree import SubElement

from probgen.errors import DataError
from probgen.structure.discrete import DiscreteNetwork, table_of
from probgen.structure.formats.xml import Element, as_numbers, as_text, parsed, pretty, text_of, unique

__all__ = ["read", "write"]


def read(text: str) -> DiscreteNetwork:
    """The network that a text describes."""
    root = parsed(text, "BIF").find("NETWORK")
    if root is None:
        raise DataError("the document has no <NETWORK>")
    variables = root.findall("VARIABLE")
    names = unique(text_of(variable, "NAME") for variable in variables)
    outcomes = [tuple((state.text or "").strip() for state in variable.findall("OUTCOME")) for variable in variables]
    states = dict(zip(names, outcomes, strict=True))
    parents: dict[str, tuple[str, ...]] = {}
    tables = {}
    for definition in root.findall("DEFINITION"):
        name = text_of(definition, "FOR")
        given = tuple((parent.text or "").strip() for parent in definition.findall("GIVEN"))
        for known in (name, *given):
            if known not in states:
                raise DataError(f"{known!r} is no variable; those are: {', '.join(states)}")
        if name in parents:
            raise DataError(f"node {name!r} has two definitions")
        parents[name] = given
        tables[name] = table_of(as_numbers(text_of(definition, "TABLE"), name), name, given, states)
    return DiscreteNetwork(states, parents, tables)


def write(network: DiscreteNetwork) -> str:
    """The network as a text."""
    document = Element("BIF", VERSION="0.3")
    root = SubElement(document, "NETWORK")
    SubElement(root, "NAME").text = "unknown"
    for name, states in network.states.items():
        variable = SubElement(root, "VARIABLE", TYPE="nature")
        SubElement(variable, "NAME").text = as_text(name)
        for state in states:
            SubElement(variable, "OUTCOME").text = as_text(state)
    for name, table in network.tables.items():
        definition = SubElement(root, "DEFINITION")
        SubElement(definition, "FOR").text = as_text(name)
        for parent in network.parents[name]:
            SubElement(definition, "GIVEN").text = as_text(parent)
        SubElement(definition, "TABLE").text = " ".join(f"{value:.15g}" for value in table.flat)
    return pretty(document)
