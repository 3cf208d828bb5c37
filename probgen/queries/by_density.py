"""Questions to any exact density: scored at every state of discrete nodes, answered by exact draws of the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import torch

from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Symbol
from probgen.inference.evidence import log_evidence
from probgen.inference.tracing import labels
from probgen.queries import diffused
from probgen.queries.answers import Answer, Evidence, Numbers, check_states, impossible
from probgen.queries.any_order import log_joint_given
from probgen.queries.evidence import beside, row_of
from probgen.queries.fill import fill
from probgen.queries.log_prob import POSTERIOR_DRAWS, log_jacobian, untold

__all__ = ["ask"]

STATE_DRAWS = 1000  # times at which a diffusion is asked about a state
KINDS = {
    "lower_bound": "importance",
    "bound": "lower_bound",
    "ode": "ode",
    "annealed_bound": "lower_bound",
    "annealed_walk": "annealed",
}


def ask(
    fit: Any, names: tuple[str, ...], evidence: Evidence, shown: dict, joint: bool, draws: int, seed: int
) -> Answer:
    """An answer from the density alone."""
    if (evidence.forced or evidence.soft) and not fit.traits.network:
        raise CapabilityError(
            f"{fit.name!r} is no network: do and soft are answered approximately, by method='importance'."
        )
    known = float(log_densities(fit, evidence, {}, 1)[0])
    if not math.isfinite(known):
        raise impossible(shown)
    columns = {name: fit.program.node(name) for name in names}
    discrete = tuple(name for name, column in columns.items() if column.is_discrete)
    together = probabilities(fit, evidence, discrete, seed) if joint else None
    marginals = {
        name: dict(zip(columns[name].levels, probabilities(fit, evidence, (name,), seed).tolist(), strict=True))
        for name in discrete
    }
    rest = [name for name in names if name not in discrete]
    drawn = draws_of(fit, evidence, draws, seed) if rest else np.zeros((0, 0))
    numbers = {name: Numbers.of(drawn[:, fit.schema.index(name)], columns[name].kind) for name in rest}
    states = tuple(columns[name].levels for name in discrete)
    kind = KINDS.get(fit.traits.density, "exact")
    return Answer(marginals, numbers, together, discrete, states, shown, kind, _evidence=lambda: known)


def probabilities(fit: Any, evidence: Evidence, names: tuple[str, ...], seed: int = 0) -> np.ndarray:
    """``(*levels)``: of the states of some discrete nodes together (Bayes' rule)."""
    sizes = [len(fit.program.node(name).levels) for name in names]
    check_states(sizes)
    states = np.array(list(product(*map(range, sizes))), dtype=float)
    told = dict(zip(names, states.T, strict=True))
    if fit.traits.diffuses:
        return shares_of(diffused_scores(fit, evidence, names, states, seed)).reshape(sizes)
    scores = log_densities(fit, evidence, told, len(states), fit.traits.any_order)
    return shares_of(scores).reshape(sizes)


def shares_of(scores: np.ndarray) -> np.ndarray:
    """Of log densities."""
    shares = np.exp(scores - scores.max())
    return shares / shares.sum()


def diffused_scores(fit: Any, evidence: Evidence, names: tuple[str, ...], states: np.ndarray, seed: int) -> np.ndarray:
    """``(S,)`` bounds on log densities of states given what is known, by the same noise."""
    places = [fit.schema.index(name) for name in names]
    cells = np.full((len(states), len(fit.schema)), np.nan)
    cells[:, places] = states
    return diffused.states_given(fit, row_of(fit, evidence.codes), cells, places, STATE_DRAWS, seed)


def log_densities(
    fit: Any, evidence: Evidence, states: Mapping[str, np.ndarray], count: int, given: bool = False
) -> np.ndarray:
    """``(count,)``: log density of what is known together with some states, ``(count,)`` codes of each node.

    With ``given``, that of the states given what is known, of a model of any order.
    """
    row = row_of(fit, evidence.codes)
    values = np.repeat(row.values, count, 0)
    for name in set(states) & set(fit.schema.names):
        values[:, fit.schema.index(name)] = states[name]
    rows = Table.from_codes(values, fit.schema)
    if given:
        return log_joint_given(fit, rows, tuple(states))
    hidden = {name: codes for name, codes in states.items() if name not in fit.schema.names}
    if not (hidden or evidence.soft or evidence.forced or set(evidence.codes) - set(fit.schema.names)):
        with untold():
            return np.asarray(fit.log_prob(rows).value)
    observed = np.array([name not in evidence.forced for name in fit.schema.names])
    units = log_jacobian(fit, Table.from_codes(np.where(observed, values, np.nan), fit.schema))
    with torch.no_grad(), fit.setting():
        return log_means(fit, rows, evidence, hidden) + units


def log_means(fit: Any, rows: Table, evidence: Evidence, hidden: Mapping[str, np.ndarray]) -> np.ndarray:
    """``(N,)``: log densities in model coordinates, hidden nodes' states and soft evidence included."""
    batch = fit.batches(rows, len(rows)).batch(rows)
    extra = list(beside(fit, evidence))
    for name, codes in hidden.items():
        size = len(fit.program.node(name).levels)
        extra.append(Factor((Symbol(name, size),), labels(torch.as_tensor(codes).to(batch.x), size)))
    found = [
        log_evidence(fit.program, batch, theta=theta, extra=tuple(extra), forced=evidence.forced).rows.double()
        for theta in fit.posterior.spread(POSTERIOR_DRAWS)
    ]
    return (torch.stack(found).logsumexp(0) - math.log(len(found))).expand(len(rows)).cpu().numpy()


def draws_of(fit: Any, evidence: Evidence, draws: int, seed: int) -> np.ndarray:
    """``(at least draws, D)``: rows given what is known, spread over the draws of the parameters."""
    row = row_of(fit, evidence.codes)
    tables = min(draws, len(fit.posterior), POSTERIOR_DRAWS)
    many = row.take(np.zeros(-(-draws // tables), dtype=int))
    filled = fill(fit, many, tables, seed, evidence.forced, beside(fit, evidence))
    return np.concatenate([table.values for table in filled])
