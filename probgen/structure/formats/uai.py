"""UAI, the format of the inference evaluations (2008): numbers only. Nodes are called var_0, var_1, ..., states 0, 1, ...

In a table the last variable of its scope, the child, runs fastest.
"""

from __future__ import annotations

import re
from itertools import islice

from probgen.errors import DataError
from probgen.structure.discrete import DiscreteNetwork, table_of

__all__ = ["read", "write"]


def read(text: str) -> DiscreteNetwork:
    """The network that a text describes."""
    kind, *rest = re.sub(r"#[^\n]*", "", text).split() or [""]
    if kind.upper() != "BAYES":
        raise DataError(f"the text begins with {kind!r}; a Bayesian network begins with 'BAYES'")
    words = iter(rest)
    names = [f"var_{at}" for at in range(whole(words))]
    states = {name: tuple(str(state) for state in range(whole(words))) for name in names}
    scopes = [[whole(words) for _ in range(whole(words))] for _ in range(whole(words))]
    parents: dict[str, tuple[str, ...]] = {}
    tables = {}
    for scope in scopes:
        if not scope or max(scope) >= len(names):
            raise DataError(f"a function is over the variables {scope}; there are {len(names)}, counted from 0")
        *given, name = (names[at] for at in scope)
        if name in parents:
            raise DataError(f"node {name!r} has two tables of probabilities")
        parents[name] = tuple(given)
        tables[name] = table_of([number(word) for word in islice(words, whole(words))], name, given, states)
    return DiscreteNetwork(states, parents, tables)


def whole(words: object) -> int:
    """The next word as a whole number."""
    word = next(words, None)  # type: ignore[call-overload]
    if word is None or not word.isdigit():
        raise DataError(f"expected a whole number, found {'the end of the text' if word is None else repr(word)}")
    return int(word)


def number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise DataError(f"expected a number, found {word!r}") from None


def write(network: DiscreteNetwork) -> str:
    """The network as a text; names of nodes and states are lost, their order is not."""
    place = {name: at for at, name in enumerate(network.states)}
    lines = ["BAYES", str(len(place)), " ".join(str(len(states)) for states in network.states.values())]
    lines.append(str(len(network.tables)))
    for name in network.tables:
        scope = [place[node] for node in (*network.parents[name], name)]
        lines.append(" ".join(map(str, [len(scope), *scope])))
    for table in network.tables.values():
        lines += ["", str(table.size), " ".join(f"{value:.15g}" for value in table.flat)]
    return "\n".join([*lines, ""])
