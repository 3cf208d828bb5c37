"""A model of independent columns with exact answers: fast, and every score of it is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.estimate import Estimate
from probgen.program import Traits


class Independent:
    """Gaussian columns and category shares; ``scale`` below 1 makes it overconfident."""

    def __init__(self, table, scale=1.0):
        self.schema, self.scale = table.schema, scale
        self.traits, self.program = Traits(), SimpleNamespace(inputs=())
        self.name, self.seconds, self.history, self.diagnostics = "independent", 0.0, {}, {}
        self.columns = [self.learn(table, place) for place in range(table.n_columns)]

    def learn(self, table, place):
        known = table.values[table.known[:, place], place]
        column = table.schema[place]
        if column.is_discrete:
            return np.bincount(known.astype(int), minlength=column.cardinality) / len(known)
        return known.mean(), known.std() * self.scale

    def read(self, table):
        return table

    def log_prob(self, table, *, draws=0, seed=0):
        total = np.zeros(len(table))
        for place, learnt in enumerate(self.columns):
            x, known = table.values[:, place], table.known[:, place]
            if self.schema[place].is_discrete:
                total[known] += np.log(learnt)[x[known].astype(int)]
            else:
                mean, sd = learnt
                total[known] += -0.5 * ((x[known] - mean) / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))
        return Estimate(total, "exact")

    def fill(self, table, draws=20, *, seed=0):
        rng = np.random.default_rng(seed)
        return [self.filled(table, rng) for _ in range(draws)]

    def filled(self, table, rng):
        values = table.values.copy()
        for place, learnt in enumerate(self.columns):
            unknown = ~table.known[:, place]
            if self.schema[place].is_discrete:
                values[unknown, place] = rng.choice(len(learnt), unknown.sum(), p=learnt)
            else:
                values[unknown, place] = rng.normal(*learnt, unknown.sum())
        return table.with_values(values)

    def embed(self, table):
        raise CapabilityError("no embedding")


@pytest.fixture
def independent():
    return Independent


@pytest.fixture
def gaussian_table():
    """2000 rows of two independent Gaussians and a fair three-way label."""
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b", "c"], dtype=object)[rng.integers(3, size=2000)]
    return Table({"x": rng.normal(5, 2, 2000), "y": rng.normal(0, 1, 2000), "label": labels})
