"""What the formats written in XML share."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

from probgen.errors import DataError

__all__ = ["Element", "as_numbers", "as_text", "parsed", "pretty", "text_of", "unique"]

Element = ElementTree.Element


def parsed(text: str, root: str) -> Element:
    """The root of a document, whose name is checked."""
    found = ElementTree.fromstring(text)
    if found.tag.upper() != root.upper():
        raise DataError(f"the document is a <{found.tag}>, expected a <{root}>")
    return found


def text_of(element: Element, path: str) -> str:
    """The text at a place that has to be there."""
    found = element.find(path)
    if found is None:
        raise DataError(f"a <{element.tag}> has no <{path}>")
    return "".join(found.itertext()).strip()


def as_text(name: object) -> str:
    """A name as the text of an element, around which spaces mean nothing.

    Raises:
        DataError: it begins or ends with one, or has a carriage return in it.
    """
    text = str(name)
    if text != text.strip() or "\r" in text:
        raise DataError(
            f"the name {text!r} begins or ends with spaces, or has a carriage return in it, which this format cannot hold;"
            " rename it"
        )
    return text


def as_numbers(text: str, node: str) -> list[float]:
    """Numbers between spaces."""
    try:
        return [float(word) for word in text.split()]
    except ValueError as error:
        raise DataError(f"the probabilities of node {node!r} are not all numbers ({error})") from None


def unique(names: Iterable[str]) -> list[str]:
    """Names of nodes, none of them twice."""
    found = list(names)
    for name in found:
        if found.count(name) > 1:
            raise DataError(f"node {name!r} is declared twice")
    return found


def pretty(root: Element) -> str:
    """The document as a text."""
    ElementTree.indent(root, "  ")
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
