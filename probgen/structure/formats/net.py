"""NET, the format of Hugin."""

from __future__ import annotations

from probgen.errors import DataError
from probgen.structure.discrete import DiscreteNetwork, table_of
from probgen.structure.formats.tokens import Tokens, in_quotes, quoted

__all__ = ["read", "write"]

MARKS = "{}()|;="


def read(text: str) -> DiscreteNetwork:
    """The network that a text describes."""
    tokens = Tokens(text, MARKS, r"%[^\n]*")
    states: dict[str, tuple[str, ...]] = {}
    parents: dict[str, tuple[str, ...]] = {}
    numbers: dict[str, list[float]] = {}
    while tokens:
        word = tokens.take()
        if word == "net":
            tokens.skip_block()
        elif word in ("node", "discrete"):
            name = tokens.take() if word == "node" else (tokens.take("node"), tokens.take())[1]
            if name in states:
                raise tokens.error(f"node {name!r} is declared twice")
            states[name] = tuple(attribute(tokens, name, "states"))
        elif word == "potential":
            tokens.take("(")
            name, *others = tokens.until(")", without="|")
            if name in parents:
                raise tokens.error(f"node {name!r} has two potentials")
            parents[name], numbers[name] = tuple(others), as_numbers(attribute(tokens, name, "data"), tokens)
        else:
            raise tokens.error(f"expected a net, a discrete node or a potential, found {word!r}")
    for name, given in parents.items():
        for known in (name, *given):
            if known not in states:
                raise DataError(f"{known!r} is no node; those are: {', '.join(states)}")
    tables = {name: table_of(numbers[name], name, given, states) for name, given in parents.items()}
    return DiscreteNetwork(states, parents, tables)


def attribute(tokens: Tokens, node: str, wanted: str) -> list[str]:
    """The words of one attribute of a block, its brackets taken off; the others are passed over."""
    found: list[str] | None = None
    tokens.take("{")
    while not tokens.is_next("}"):
        name = tokens.take()
        tokens.take("=")
        words = tokens.until(";", without="()")
        found = words if name == wanted else found
    tokens.take()
    if not found:
        raise tokens.error(f"node {node!r} has no {wanted}")
    return found


def as_numbers(words: list[str], tokens: Tokens) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise tokens.error(f"expected numbers ({error})") from None


def write(network: DiscreteNetwork) -> str:
    """The network as a text."""
    lines = ["net", "{", "}"]
    for name, states in network.states.items():
        listed = " ".join(map(in_quotes, states))
        lines += [f"node {word(name)}", "{", f"  states = ( {listed} );", "}"]
    for name, table in network.tables.items():
        given = f" | {' '.join(map(word, network.parents[name]))}" if network.parents[name] else ""
        lines += [f"potential ( {word(name)}{given} )", "{", f"  data = {nested(table)};", "}"]
    return "\n".join([*lines, ""])


def word(name: object) -> str:
    """A node's name, which cannot be quoted."""
    if quoted(name, MARKS, "%") != str(name):
        raise DataError(f"the node name {name!r} has spaces or marks in it, which this format cannot hold; rename it")
    return str(name)


def nested(table: object) -> str:
    """Numbers in brackets, one pair a dimension."""
    if hasattr(table, "ndim") and table.ndim:
        return f"({' '.join(map(nested, table))})"  # type: ignore[call-overload]
    return f"{table:.15g}"
