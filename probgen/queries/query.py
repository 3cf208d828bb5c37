"""Questions to a network: what is known of some nodes given others, observed, guessed at, or set by intervention."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from probgen.errors import CapabilityError
from probgen.inference.table_network import TableNetwork
from probgen.queries import approximate, by_density
from probgen.queries.answers import Answer, Evidence, impossible
from probgen.queries.evidence import as_mapping, as_names, read_evidence, read_targets
from probgen.queries.network_tables import network_of
from probgen.structure.graph import check_known
from probgen.whole import check_whole

__all__ = ["Answer", "Evidence", "ask", "network_of"]

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
    check_whole("draws", draws, 2)
    evidence = read_evidence(fit, given, do, soft)
    names = read_targets(fit, targets, evidence)
    if joint and not any(fit.program.node(name).is_discrete for name in names):
        raise CapabilityError("joint=True is for discrete targets, and there are none; name some.")
    called = {"do": as_mapping(do, "do"), "soft": as_mapping(soft, "soft")}
    marked = {f"{how}({name})": value for how, found in called.items() for name, value in found.items()}
    shown = as_mapping(given, "given") | marked
    if method != "exact":
        return approximate.ask(fit, names, evidence, shown, joint, method, draws, seed)
    network = network_of(fit)
    if network is not None:
        return ask_tables(fit, network, names, evidence, shown, joint)
    return by_density.ask(fit, names, evidence, shown, joint, draws, seed)


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
    if (known or soft) and network.has_zeros and network.log_probability(known, soft, forced) == -math.inf:
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


def joint_table(fit: Any, nodes: str | Iterable[str], given: Mapping[str, Any] | None) -> np.ndarray:
    """Probabilities of discrete nodes together."""
    names = as_names(nodes)
    if not names:
        raise CapabilityError("The entropy is asked of no node; name one or several.")
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
