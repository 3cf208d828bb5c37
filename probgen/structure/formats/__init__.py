"""Files of discrete Bayesian networks: one module a format, each with ``read`` and ``write``."""

from __future__ import annotations

import importlib
from typing import Any

from probgen.errors import DataError

__all__ = ["SUFFIXES", "find_format", "guess_format"]

SUFFIXES = {
    "bif": (".bif",),
    "net": (".net", ".hugin"),
    "uai": (".uai",),
    "xbn": (".xbn",),
    "xdsl": (".xdsl",),
    "xmlbif": (".xmlbif", ".bifxml", ".xml"),
}
"""Endings of files; the first is the format's own."""

MARKS = (
    ("xbn", "<analysisnotebook"),
    ("xdsl", "<smile"),
    ("xmlbif", "<bif"),
    ("net", "potential"),
    ("bif", "probability"),
)
"""Words that tell formats apart, in the order in which they are looked for."""


def find_format(name: str) -> Any:
    """The module of a format.

    Raises:
        DataError: there is no such format; the message lists them.
    """
    if name not in SUFFIXES:
        raise DataError(f"There is no format {name!r} of networks. Formats: {', '.join(SUFFIXES)}.")
    return importlib.import_module(f"probgen.structure.formats.{name}")


def guess_format(text: str, suffix: str = "") -> str | None:
    """The format of a text by what stands in it, or else by the ending of its file; None where neither says."""
    head = text.lower()
    if head.split()[:1] in (["bayes"], ["markov"]):
        return "uai"
    found = [name for name, mark in MARKS if mark in head]
    of_suffix = [name for name, endings in SUFFIXES.items() if suffix.lower() in endings]
    if of_suffix and (of_suffix[0] in found or suffix.lower() != ".xml"):
        return of_suffix[0]
    return next(iter(found or of_suffix), None)
