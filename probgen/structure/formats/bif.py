"""BIF 0.15, the Interchange Format for Bayesian Networks (Cozman, 1996), as JavaBayes and bnlearn write it."""

from __future__ import annotations

from typing import Any

import numpy as np

from probgen.structure.discrete import DiscreteNetwork, filled, table_of
from probgen.structure.formats.tokens import Tokens, quoted

__all__ = ["read", "write"]

MARKS = "{}()[];,|"
Rows = dict[Any, list[float]]  # of a table: "table", "default", or the parents' states


def read(text: str) -> DiscreteNetwork:
    """The network that a text describes."""
    tokens = Tokens(text, MARKS, r"//[^\n]*", r"/\*.*?\*/")
    states: dict[str, tuple[str, ...]] = {}
    blocks: dict[str, tuple[list[str], Rows]] = {}
    while tokens:
        word = tokens.take("network", "variable", "probability")
        if word == "network":
            tokens.skip_block()
        elif word == "variable":
            name = " ".join(tokens.until("{"))
            if name in states:
                raise tokens.error(f"variable {name!r} is declared twice")
            states[name] = read_states(tokens, name)
        else:
            tokens.take("(")
            name, parents = read_header(tokens)
            if name in blocks:
                raise tokens.error(f"node {name!r} has two tables of probabilities")
            blocks[name] = parents, read_rows(tokens, name, parents, states)
    tables = {name: made(name, parents, rows, states) for name, (parents, rows) in blocks.items()}
    return DiscreteNetwork(states, {name: tuple(parents) for name, (parents, _) in blocks.items()}, tables)


def read_states(tokens: Tokens, name: str) -> tuple[str, ...]:
    """``type discrete [ 2 ] { yes, no };`` and properties, up to the end of the block."""
    found: list[str] = []
    while tokens.take("type", "property", "}") != "}":
        if tokens.words[tokens.at - 1] == "property":
            tokens.until(";")
            continue
        tokens.take("discrete")
        tokens.take("[")
        number = tokens.numbers("]")
        tokens.take("{")
        found = tokens.names("}")
        if number != [len(found)]:
            raise tokens.error(f"variable {name!r} is to have {number[0]:.0f} states, {len(found)} are named: {found}")
        tokens.take(";")
    return tuple(found)


def read_header(tokens: Tokens) -> tuple[str, list[str]]:
    """``( node | parent, ... )``, without the line in old files."""
    if tokens.comes("|", before=")"):
        return " ".join(tokens.until("|")), tokens.names(")")
    name, *parents = tokens.names(")")
    return name, parents


def read_rows(tokens: Tokens, name: str, parents: list[str], states: dict[str, tuple[str, ...]]) -> Rows:
    """``table``, ``default`` and ``(states of the parents)`` with their numbers, up to the end of the block."""
    for known in (name, *parents):
        if known not in states:
            raise tokens.error(f"{known!r} is no variable declared before; those are: {', '.join(states)}")
    rows: Rows = {}
    tokens.take("{")
    while (word := tokens.take("table", "default", "(", "property", "}")) != "}":
        if word == "property":
            tokens.until(";")
            continue
        key = tuple(tokens.names(")")) if word == "(" else word
        if key in rows:
            raise tokens.error(f"node {name!r} has two rows for {key}")
        rows[key] = tokens.numbers(";")
    return rows


def made(name: str, parents: list[str], rows: Rows, states: dict[str, tuple[str, ...]]) -> np.ndarray:
    """The table of a node; in a whole ``table`` the node's own states run slowest."""
    if "table" in rows:
        return table_of(rows["table"], name, parents, states, child_first=True)
    table = filled({key: row for key, row in rows.items() if key != "default"}, name, parents, states)
    if "default" in rows:
        table[np.isnan(table).all(-1)] = table_of(rows["default"], name, (), states)
    return table


def write(network: DiscreteNetwork) -> str:
    """The network as a text."""
    lines = ["network unknown {", "}"]
    for name, states in network.states.items():
        listed = ", ".join(word(state) for state in states)
        lines += [f"variable {word(name)} {{", f"  type discrete [ {len(states)} ] {{ {listed} }};", "}"]
    for name, table in network.tables.items():
        parents = network.parents[name]
        given = f" | {', '.join(word(parent) for parent in parents)}" if parents else ""
        lines.append(f"probability ( {word(name)}{given} ) {{")
        for place in np.ndindex(table.shape[:-1]):
            named = [word(network.states[p][code]) for p, code in zip(parents, place, strict=True)]
            head = f"({', '.join(named)})" if parents else "table"
            lines.append(f"  {head} {', '.join(f'{value:.15g}' for value in table[place])};")
        lines.append("}")
    return "\n".join([*lines, ""])


def word(name: object) -> str:
    """A name of a node or state."""
    return quoted(name, MARKS, "//", "/*")
