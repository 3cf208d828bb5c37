"""Learning the graph of a Bayesian network, beside pgmpy's and pyAgrum's hill climbing, on one thread.

Rows are drawn from pgmpy's ALARM network. ``score`` is our score of the graph found, whoever found it, less that of the
true graph; ``distance`` is the structural Hamming distance of its equivalence class from the true one. ``single`` is one climb from the empty graph,
``restarts`` the default. The last cases are the best tree of 500 binary columns, and what restarts and tabu bring.
"""

import time
import warnings

import numpy as np

import probgen as pg
from benchmarks import seconds
from probgen.data import Column, Schema, Table
from probgen.structure import Constraints, Graph, Statistics, compare, make_score, pgmpy_graph
from probgen.structure.peers import directed

ROWS, SEEDS = 20_000, 3
WAYS = [{"restarts": 0}, {"restarts": 5}, {"restarts": 20}, {"method": "tabu", "restarts": 0}, {"method": "tabu"}]


def cases():
    """Who looks for the graph, how long it takes, how good it is."""
    for seed in range(SEEDS):
        true, table = alarm(seed)
        for score in ("bic", "bdeu"):
            yield from climbs(true, table, score, seed)
    yield from trees()
    for way in WAYS:
        yield restarted(way)


def alarm(seed):
    """The network's graph, and rows drawn from it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pgmpy.utils import get_example_model

        table = pg.load_dataset("alarm", rows=ROWS, seed=seed)
        return Graph.of(get_example_model("alarm"), table.names), table


def climbs(true, table, score, seed):
    """One climb, the default, pgmpy's, pyAgrum's."""
    ways = {
        "single": lambda: pg.learn_structure(table, score=score, restarts=0, progress=False).graph,
        "restarts": lambda: pg.learn_structure(table, score=score, progress=False).graph,
        "pgmpy": lambda: directed(pgmpy_graph(table, "hill_climbing", score=score), Constraints()),
        "pyagrum": lambda: by_pyagrum(table, score),
    }
    judge = make_score(score, Statistics(table))
    for name, way in ways.items():
        yield {"rows": ROWS, "seed": seed, "score_name": score, "by": name, **timed(way, judge, true)}


def timed(way, judge, true):
    """CPU seconds, and how good the graph is."""
    start = time.process_time()
    graph = way()
    taken = time.process_time() - start
    beside = compare(graph, true)
    found = {"distance": beside.class_distance, "precision": beside.precision, "recall": beside.recall}
    return {"seconds": taken, "score": judge.total(graph) - judge.total(true), **found}


def by_pyagrum(table, score):
    """Greedy hill climbing of pyAgrum; the frame is part of what it needs."""
    import pyagrum

    learner = pyagrum.BNLearner(table.to_pandas().astype(str))
    learner.setNumberOfThreads(1)
    learner.useScoreBIC() if score == "bic" else learner.useScoreBDeu()
    learner.useNoPrior()
    learner.useGreedyHillClimbing()
    arcs = learner.learnDAG().arcs()
    return Graph.of([(learner.nameFromId(a), learner.nameFromId(b)) for a, b in arcs], table.names)


def trees():
    """500 binary columns in a tree, complete and with a tenth of the cells unknown."""
    random = np.random.default_rng(0)
    parents = [0, *(int(random.integers(max(0, d - 30), d)) for d in range(1, 500))]
    values = np.zeros((ROWS, 500))
    values[:, 0] = random.random(ROWS) < 0.5
    for d in range(1, 500):
        low, high = random.uniform(0.1, 0.45), random.uniform(0.55, 0.9)
        values[:, d] = random.random(ROWS) < np.where(values[:, parents[d]] == 1, high, low)
    schema = Schema(tuple(Column(f"x{d}", "binary", levels=(0, 1)) for d in range(500)))
    true = Graph.of([(f"x{parents[d]}", f"x{d}") for d in range(1, 500)])
    for holes in (0.0, 0.1):
        seen = np.where(random.random(values.shape) < holes, np.nan, values)
        table, found = Table.from_codes(seen, schema), []
        taken = seconds(lambda: found.append(pg.learn_structure(table, "chow_liu", progress=False)))  # noqa: B023
        wrong = compare(found[0].graph, true).class_distance
        yield {"tree": 500, "rows": ROWS, "holes": holes, "by": "chow_liu", "seconds": taken, "distance": wrong}


def restarted(way):
    """Means over tables of what one way of searching brings, for BIC."""
    found = []
    for seed in range(SEEDS):
        true, table = alarm(seed)
        judge = make_score("bic", Statistics(table))
        found.append(timed(lambda: pg.learn_structure(table, progress=False, **way).graph, judge, true))  # noqa: B023
    means = {key: float(np.mean([case[key] for case in found])) for key in ("seconds", "score", "distance")}
    return {"rows": ROWS, "score_name": "bic", "by": str(way), "tables": SEEDS, **means}
