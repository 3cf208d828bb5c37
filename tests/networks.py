"""Small networks with random tables, and their joint distribution by enumeration."""

from __future__ import annotations

import numpy as np
import torch

from probgen.data import Column, Schema
from probgen.data.batches import Standardiser
from probgen.inference.posterior import Posterior
from probgen.models.bayesian_network import BayesianNetwork
from probgen.queries.fit import Fit

LEVELS = {"a": 2, "b": 2, "c": 2, "d": 3, "e": 2, "f": 3}
STRUCTURE = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["b", "d"], "f": ["c", "e"]}


def given_network(states, structure, tables, hidden=None):
    """A fit from tables ``(parents in the program's order..., levels)``."""
    columns = [n for n in states if n not in (hidden or {})]
    schema = Schema(tuple(Column(n, "categorical", levels=tuple(states[n])) for n in columns))
    program = BayesianNetwork(schema, structure, hidden, prior=None).double()
    theta = {}
    for name, table in tables.items():
        probs = torch.as_tensor(np.asarray(table, dtype=float)).reshape(-1, len(states[name]))
        theta[name] = {"logits": torch.where(probs > 0, probs.log(), -torch.inf)}
    flat = Standardiser(np.zeros(len(schema)), np.ones(len(schema)), np.zeros(len(schema), dtype=bool))
    return Fit(
        program, schema, flat, Posterior.at(theta), "given", {"objective": [0.0]}, {"steps": 0, "converged": True}, {},
        0.0, torch.float64, torch.device("cpu"),
    )  # fmt: skip


def random_network(seed, hidden=None):
    """A network over :data:`STRUCTURE`, and its joint table ``(*LEVELS)``."""
    rng = np.random.default_rng(seed)
    tables = {
        n: rng.dirichlet(np.ones(LEVELS[n]), size=[LEVELS[p] for p in parents]) for n, parents in STRUCTURE.items()
    }
    states = {n: list(range(size)) for n, size in LEVELS.items()}
    fit = given_network(states, STRUCTURE, tables, hidden)
    return fit, joint_table(tables)


def joint_table(tables):
    """The product of all tables."""
    order = list(LEVELS)
    joint = np.ones([LEVELS[n] for n in order])
    for name, parents in STRUCTURE.items():
        scope = [*parents, name]
        shape = [LEVELS[n] if n in scope else 1 for n in order]
        joint = joint * tables[name].transpose(np.argsort([order.index(n) for n in scope])).reshape(shape)
    return joint


def enumerated(joint, row):
    """The joint table with everything that contradicts the known cells set to zero."""
    found = joint.copy()
    for axis, value in enumerate(row):
        if not np.isnan(value):
            mask = np.arange(joint.shape[axis]) == int(value)
            found = found * mask.reshape([-1 if a == axis else 1 for a in range(joint.ndim)])
    return found
