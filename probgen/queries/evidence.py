"""What is asked of a fit, and what is known: names and labels as people write them, turned into codes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from probgen.data.schema import Column, Schema
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.families.base import Factor, Symbol
from probgen.queries.answers import Evidence
from probgen.structure.graph import check_known

__all__ = ["beside", "read_evidence", "read_targets", "row_of"]


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
    one = float(Table({column.name: [value]}, schema=Schema((column,))).values[0, 0])
    if math.isnan(one):
        raise DataError(
            f"Node {column.name!r} is {column.kind} and needs a number, got {value!r}; leave it out where it is unknown."
        )
    return one


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
