"""Graphs of tables with holes by completions."""

import numpy as np

import probgen as pg
from probgen.data import Table
from probgen.structure import Graph


def test_the_search_may_start_from_a_graph():
    random = np.random.default_rng(0)
    a = random.integers(0, 2, 200)
    values = np.column_stack([a, a ^ (random.random(200) < 0.1), random.integers(0, 2, 200)]).astype(float)
    values[random.random(200) < 0.3, 1] = np.nan
    table = Table(values)
    first, second = table.names[:2]
    start = Graph({first: (second,)})
    found = pg.structural_em(table, start=start, draws=2, rounds=3, restarts=0, progress=False)
    assert [set(edge) for edge in found.graph.edges] == [{first, second}]
    assert len(found.bic) > 1
