"""What is asked of a fit, and what is known: names and labels as people write them, turned into codes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from probgen.data.coding import code_of, codes_of
from probgen.data.schema import Column, Schema
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.families.base import Factor, Symbol
from probgen.queries.answers import Evidence
from probgen.structure.graph import check_known

__all__ = ["as_mapping", "as_names", "beside", "code_in", "read_evidence", "read_targets", "row_of", "state_of"]


def read_targets(fit: Any, targets: str | Iterable[str] | None, evidence: Evidence) -> tuple[str, ...]:
    """Names of nodes, all that are unknown where none are given."""
    nodes = fit.program.node_names
    if targets is None:
        return tuple(name for name in nodes if name not in evidence.codes)
    names = as_names(targets)
    check_known(names, nodes, "The question")
    known = [name for name in names if name in evidence.codes]
    if known:
        raise CapabilityError(f"Node {known[0]!r} is asked for and known; take it out of one of the two.")
    if len(set(names)) < len(names):
        raise CapabilityError(f"A target is named twice in {list(names)}.")
    return names


def as_names(targets: str | Iterable[str]) -> tuple[str, ...]:
    """One name is a list of one."""
    if not isinstance(targets, str | Iterable):
        raise CapabilityError(f"Nodes are asked for by a name or a list of names, got {targets!r}.")
    return (targets,) if isinstance(targets, str) else tuple(targets)


def read_evidence(fit: Any, given: Any, do: Any, soft: Any) -> Evidence:
    """Labels as codes, likelihoods as arrays; each of the three as :func:`as_mapping` takes it."""
    nodes = fit.program.node_names
    given, do, soft = as_mapping(given, "given"), as_mapping(do, "do"), as_mapping(soft, "soft")
    for mapping, what in ((given, "given"), (do, "do"), (soft, "soft")):
        check_known(mapping, nodes, what)
    both = set(given) & set(do) | set(given) & set(soft) | set(do) & set(soft)
    if both:
        raise CapabilityError(f"Node {min(both)!r} is named twice among given, do and soft; name it once.")
    codes = {name: code_in(fit.program.node(name), value) for name, value in [*given.items(), *do.items()]}
    likelihoods = {name: likelihood_of(fit.program.node(name), value) for name, value in soft.items()}
    return Evidence(codes, likelihoods, frozenset(do))


def as_mapping(given: Any, what: str) -> dict[str, Any]:
    """A dictionary, or what has keys and values like one (a row of a data frame); nothing where it is None."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) and not (hasattr(given, "keys") and hasattr(given, "items")):
        raise CapabilityError(f"{what} must be a dictionary of nodes and values, got {given!r}.")
    return dict(given.items())


def code_in(column: Column, value: Any) -> float:
    """The code of a state, or a number."""
    return state_of(column, value) if column.is_discrete else number_of(column, value)


def state_of(column: Column, value: Any) -> float:
    """The code of a state, by its label, its text, or the number that it is written as."""
    try:
        return float(column.levels.index(value))
    except (ValueError, TypeError):  # no such state, or something that cannot be compared with one
        code = code_of(value, codes_of(column.levels)) if isinstance(value, Hashable) else -1.0
    if not code >= 0:
        listed = ", ".join(map(str, column.levels))
        raise DataError(f"Node {column.name!r} has no state {value!r}; its states: {listed}.")
    return code


def number_of(column: Column, value: Any) -> float:
    """The number that a continuous node, or a count, has."""
    found = float(Table({column.name: [value]}, schema=Schema((column,))).values[0, 0])
    if math.isnan(found):
        raise DataError(
            f"Node {column.name!r} is {column.kind} and needs a number, got {value!r}; leave it out where it is unknown."
        )
    return found


def likelihood_of(column: Column, value: Any) -> np.ndarray:
    """Soft (virtual) evidence: a likelihood of every state, none negative, not all zero."""
    if not column.is_discrete:
        raise CapabilityError(f"Soft evidence is for discrete nodes; {column.name!r} is {column.kind}.")
    size, weights = len(column.levels), value
    if isinstance(value, Mapping):
        named = {int(state_of(column, state)): weight for state, weight in value.items()}
        weights = [named.get(code, 0.0) for code in range(size)]
    try:
        found = np.asarray(weights, dtype=float)
    except (ValueError, TypeError):
        found = np.zeros(0)
    if found.shape != (size,) or not np.isfinite(found).all() or (found < 0).any() or not found.any():
        raise DataError(
            f"Soft evidence of {column.name!r} needs {size} likelihoods, none negative, not all zero; got {value!r}."
        )
    return found


def row_of(fit: Any, codes: Mapping[str, float]) -> Table:
    """One row with the given cells known; hidden nodes have no cells."""
    values = np.full((1, len(fit.schema)), np.nan)
    for name, code in codes.items():
        if name in fit.schema.names:
            values[0, fit.schema.index(name)] = code
    return Table.from_codes(values, fit.schema)


def beside(fit: Any, evidence: Evidence) -> tuple[Factor, ...]:
    """What a row has no cells for, as factors: the states of hidden nodes, and soft evidence."""
    weights = dict(evidence.soft)
    for name in set(evidence.codes) - set(fit.schema.names):
        weights[name] = np.arange(len(fit.program.node(name).levels)) == evidence.codes[name]
    return tuple(
        Factor((Symbol(name, len(found)),), torch.as_tensor(found).to(fit.device, fit.dtype).log())
        for name, found in weights.items()
    )
