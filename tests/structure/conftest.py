"""Known networks and tables drawn from them."""

import gzip
import logging
import warnings
from importlib.resources import files

import numpy as np
import pytest

from probgen.data import Column, Schema, Table
from probgen.structure import Graph


@pytest.fixture(scope="session")
def networks():
    """``networks(name)``: one of pgmpy's networks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("pgmpy").setLevel(logging.ERROR)
        from pgmpy.readwrite import BIFReader
    found = {}

    def read(name):
        if name not in found:
            packed = (files("pgmpy") / "utils" / "example_models" / f"{name}.bif.gz").read_bytes()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name] = BIFReader(string=gzip.decompress(packed).decode()).get_model()
        return found[name]

    return read


@pytest.fixture(scope="session")
def drawn(networks):
    """``drawn(name, rows, seed)``: a network's graph, and a table drawn from it parents first."""

    def draw(name, rows, seed=0):
        network, random, values = networks(name), np.random.default_rng(seed), {}
        graph, nodes = Graph.of(network), list(network.nodes())
        for node in graph.nodes:
            factor = network.get_cpds(node)
            table = np.moveaxis(factor.values, 0, -1).reshape(-1, factor.values.shape[0])
            row = np.zeros(rows, dtype=int)
            for parent in factor.variables[1:]:
                row = row * network.get_cardinality(parent) + values[parent]
            values[node] = (random.random(rows)[:, None] > table[row].cumsum(1)[:, :-1]).sum(1)
        states = {node: tuple(network.get_cpds(node).state_names[node]) for node in nodes}
        kinds = {node: "binary" if len(levels) == 2 else "categorical" for node, levels in states.items()}
        schema = Schema(tuple(Column(node, kinds[node], levels=states[node]) for node in nodes))
        return graph, Table.from_codes(np.column_stack([values[node] for node in nodes]).astype(float), schema)

    return draw


@pytest.fixture
def categories():
    """300 rows of four columns: b and c hang on a, d on b and c; some pairs of levels never occur together."""
    random = np.random.default_rng(0)
    a = random.integers(0, 3, 300)
    b = (a + (random.random(300) < 0.3)) % 3
    c = np.where(random.random(300) < 0.8, a > 0, random.integers(0, 2, 300)).astype(int)
    d = np.where(random.random(300) < 0.9, (b + c) % 2, random.integers(0, 2, 300))
    return Table({name: [f"l{v}" for v in column] for name, column in zip("abcd", (a, b, c, d), strict=True)})


@pytest.fixture
def mixed():
    """400 rows: two categories, three numbers, a count and a semicontinuous column."""
    random = np.random.default_rng(1)
    k = random.integers(0, 3, 400)
    s = (random.random(400) < 0.3 + 0.2 * k).astype(int)
    x = random.normal(size=400) + k
    y = 2 * x * (1 + s) + random.normal(size=400)
    w = np.exp(0.3 * y / y.std() + 0.1 * random.normal(size=400) + 2 * (random.random(400) < 0.05))
    n = random.poisson(1 + 9 * s)
    z = np.where(random.random(400) < 0.2 + 0.5 * s, 0.0, random.gamma(2.0, 1.0, 400))
    table = Table({"k": k.astype(str), "s": s, "x": x, "y": y, "w": w, "n": n, "z": z})
    assert [c.kind for c in table.schema][2:] == ["real", "real", "positive", "count", "semicontinuous"]
    return table


@pytest.fixture
def holed(categories):
    """The same with a fifth of the cells unknown."""
    values = categories.values.copy()
    values[np.random.default_rng(2).random(values.shape) < 0.2] = np.nan
    return categories.take(~np.isnan(values).all(1)).with_values(values[~np.isnan(values).all(1)])
