"""Questions to a network: what is known of some nodes given others, observed, guessed at, or set by intervention."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from probgen.data.schema import Column
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.inference.table_network import TableNetwork
from probgen.queries import approximate
from probgen.queries.answers import Answer, Evidence, Numbers, impossible
from probgen.queries.network_tables import network_of
from probgen.structure.graph import check_known

__all__ = ["Answer", "Evidence", "Numbers", "ask", "network_of", "read_evidence"]

MOST_STATES = 4096  # of several targets together, where each state is scored
DRAWS = 4000


def ask(
    fit: Any,
    targets: str | Iterable[str] | None,
    given: Mapping[str, Any] | None,
    *,
    do: Mapping[str, Any] | None = None,
    soft: Mapping[str, Any] | None = None,
    joint: bool = False,
    method: str = "exact",
    draws: int = DRAWS,
    seed: int = 0,
) -> Answer:
    """See :meth:`probgen.queries.fit.Fit.query`."""
    if method not in ("exact", "importance", "gibbs"):
        raise CapabilityError(f"method must be 'exact', 'importance' or 'gibbs', got {method!r}.")
    evidence = read_evidence(fit, given or {}, do or {}, soft or {})
    names = read_targets(fit, targets, evidence)
    shown = {**(given or {}), **{f"do({name})": value for name, value in (do or {}).items()}}
    if method != "exact":
        return approximate.ask(fit, names, evidence, shown, method, draws, seed)
    network = network_of(fit)
    if network is not None:
        return ask_tables(fit, network, names, evidence, shown, joint)
    return ask_density(fit, names, evidence, shown, joint, draws, seed)


# --------------------------------------------------------------------------------------------------- what is asked
def read_targets(fit: Any, targets: str | Iterable[str] | None, evidence: Evidence) -> tuple[str, ...]:
    """Names of nodes, all that are unknown where none are given."""
    nodes = fit.program.node_names
    if targets is None:
        return tuple(name for name in nodes if name not in evidence.codes)
    names = (targets,) if isinstance(targets, str) and targets in nodes else targets
    names = (names,) if isinstance(names, str) else tuple(names)
    check_known(names, nodes, "The question")
    known = [name for name in names if name in evidence.codes]
    if known:
        raise CapabilityError(f"Node {known[0]!r} is asked for and known; take it out of one of the two.")
    if len(set(names)) < len(names):
        raise CapabilityError(f"A target is named twice in {list(names)}.")
    return names


def read_evidence(fit: Any, given: Mapping, do: Mapping, soft: Mapping) -> Evidence:
    """Labels as codes, likelihoods as arrays."""
    nodes = fit.program.node_names
    for mapping, what in ((given, "given"), (do, "do"), (soft, "soft")):
        if not isinstance(mapping, Mapping):
            raise CapabilityError(f"{what} must be a dictionary of nodes and values, got {mapping!r}.")
        check_known(mapping, nodes, what)
    both = set(given) & set(do) | set(given) & set(soft) | set(do) & set(soft)
    if both:
        raise CapabilityError(f"Node {min(both)!r} is named twice among given, do and soft; name it once.")
    codes = {name: code_of(fit.program.node(name), value) for name, value in [*given.items(), *do.items()]}
    likelihoods = {name: likelihood_of(fit.program.node(name), value) for name, value in soft.items()}
    return Evidence(codes, likelihoods, frozenset(do))


def code_of(column: Column, value: Any) -> float:
    """The code of a state, or a number."""
    if column.is_discrete:
        if value in column.levels:
            return float(column.levels.index(value))
        same = [level for level in column.levels if str(level) == str(value)]
        if same:
            return float(column.levels.index(same[0]))
        raise DataError(
            f"Node {column.name!r} has no state {value!r}; its states: {', '.join(map(str, column.levels))}."
        )
    one = Table({column.name: [value]}, schema=_schema([column]))
    return float(one.values[0, 0])


def _schema(columns: Sequence[Column]) -> Any:
    from probgen.data.schema import Schema

    return Schema(tuple(columns))


def likelihood_of(column: Column, value: Any) -> np.ndarray:
    """Soft (virtual) evidence: a likelihood of every state, none negative, not all zero."""
    if not column.is_discrete:
        raise CapabilityError(f"Soft evidence is for discrete nodes; {column.name!r} is {column.kind}.")
    if isinstance(value, Mapping):
        found = np.zeros(len(column.levels))
        for state, weight in value.items():
            found[int(code_of(column, state))] = weight
    else:
        found = np.asarray(value, dtype=float)
    if found.shape != (len(column.levels),) or not np.isfinite(found).all() or (found < 0).any() or not found.any():
        raise DataError(
            f"Soft evidence of {column.name!r} needs {len(column.levels)} likelihoods, none negative, not all zero; got {value!r}."
        )
    return found


# --------------------------------------------------------------------------------------------------------- tables
def ask_tables(
    fit: Any, network: TableNetwork, names: tuple[str, ...], evidence: Evidence, shown: dict, joint: bool
) -> Answer:
    """By exact sums."""
    number = network.number
    known = {number[name]: int(code) for name, code in evidence.codes.items()}
    soft = {number[name]: weights for name, weights in evidence.soft.items()}
    forced = frozenset(number[name] for name in evidence.forced)
    asked = tuple(number[name] for name in names)
    if known and network.has_zeros and network.log_probability(known, soft, forced) == -math.inf:
        raise impossible(shown)
    together = network.joint(asked, known, soft, forced) if joint else None
    if together is None:
        found = network.marginals(asked, known, soft, forced)
    else:
        found = {node: together.sum(tuple(a for a in range(len(asked)) if a != at)) for at, node in enumerate(asked)}
    if any(not values.sum() > 0 for values in found.values()):
        raise impossible(shown)
    columns = [fit.program.node(name) for name in names]
    marginals = {
        column.name: dict(zip(column.levels, found[node].tolist(), strict=True))
        for column, node in zip(columns, asked, strict=True)
    }
    return Answer(
        marginals, {}, together, names, tuple(column.levels for column in columns), shown,
        _evidence=lambda: network.log_probability(known, soft, forced),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------- information
def entropy(fit: Any, nodes: str | Iterable[str], given: Mapping[str, Any] | None) -> float:
    """-sum p log p of the nodes' joint table."""
    return entropy_of(joint_table(fit, nodes, given))


def mutual_information(
    fit: Any, one: str | Iterable[str], other: str | Iterable[str], given: Mapping[str, Any] | None
) -> float:
    """H(one) + H(other) - H(both)."""
    left, right = as_names(one), as_names(other)
    if set(left) & set(right):
        raise CapabilityError(f"Node {min(set(left) & set(right))!r} is on both sides of the mutual information.")
    table = joint_table(fit, (*left, *right), given)
    ours, theirs = tuple(range(len(left))), tuple(range(len(left), table.ndim))
    return max(0.0, entropy_of(table.sum(theirs)) + entropy_of(table.sum(ours)) - entropy_of(table))


def as_names(nodes: str | Iterable[str]) -> tuple[str, ...]:
    """One name is a list of one."""
    return (nodes,) if isinstance(nodes, str) else tuple(nodes)


def joint_table(fit: Any, nodes: str | Iterable[str], given: Mapping[str, Any] | None) -> np.ndarray:
    """Probabilities of discrete nodes together."""
    names = as_names(nodes)
    check_known(names, fit.program.node_names, "The question")
    for name in names:
        if not fit.program.node(name).is_discrete:
            raise CapabilityError(f"Entropies are of discrete nodes; {name!r} is {fit.program.node(name).kind}.")
    found = ask(fit, names, given, joint=True).joint
    assert found is not None
    return found


def entropy_of(table: np.ndarray) -> float:
    """In nats; zero log zero is zero."""
    positive = table[table > 0]
    return float(-(positive * np.log(positive)).sum())


# ------------------------------------------------------------------------------------------------ any exact density
def ask_density(
    fit: Any, names: tuple[str, ...], evidence: Evidence, shown: dict, joint: bool, draws: int, seed: int
) -> Answer:
    """By the log density at every state of discrete targets, and exact draws of the others."""
    if evidence.forced or evidence.soft:
        raise CapabilityError(
            f"{fit.name!r} is no network of tables alone: do and soft are answered approximately, by method='importance'."
        )
    for name in names:
        check_known([name], fit.schema.names, "The question")
    row = row_of(fit, evidence.codes)
    log_evidence = float(np.asarray(fit.log_prob(row).value)[0])
    if not math.isfinite(log_evidence):
        raise impossible(shown)
    discrete = tuple(name for name in names if fit.schema[name].is_discrete)
    together = joint_by_density(fit, row, discrete) if joint else None
    marginals = {}
    for name in discrete:
        values = joint_by_density(fit, row, (name,))
        marginals[name] = dict(zip(fit.schema[name].levels, values.tolist(), strict=True))
    rest = [name for name in names if name not in discrete]
    numbers = {}
    if rest:
        many = row.take(np.zeros(draws, dtype=int))
        filled = fit.fill(many, 1, seed=seed)[0]
        numbers = {name: Numbers.of(filled.values[:, fit.schema.index(name)], fit.schema[name].kind) for name in rest}
    states = tuple(fit.schema[name].levels for name in discrete)
    return Answer(marginals, numbers, together, discrete, states, shown, _evidence=lambda: log_evidence)


def row_of(fit: Any, codes: Mapping[str, float]) -> Table:
    """One row with the given cells known."""
    values = np.full((1, len(fit.schema)), np.nan)
    for name, code in codes.items():
        check_known([name], fit.schema.names, "given")
        values[0, fit.schema.index(name)] = code
    return Table.from_codes(values, fit.schema)


def joint_by_density(fit: Any, row: Table, names: tuple[str, ...]) -> np.ndarray:
    """``(*levels)``: probabilities of the states of some discrete columns together (Bayes' rule)."""
    sizes = [len(fit.schema[name].levels) for name in names]
    if math.prod(sizes) > MOST_STATES:
        raise CapabilityError(f"The {len(names)} targets have {math.prod(sizes):.3g} states together; ask for fewer.")
    states = np.array(list(product(*map(range, sizes))), dtype=float)
    values = np.repeat(row.values, len(states), 0)
    values[:, [fit.schema.index(name) for name in names]] = states
    scores = np.asarray(fit.log_prob(row.take(np.zeros(len(states), dtype=int)).with_values(values)).value)
    shares = np.exp(scores - scores.max())
    return (shares / shares.sum()).reshape(sizes)
