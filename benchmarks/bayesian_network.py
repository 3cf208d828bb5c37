"""Bayesian networks beside pyAgrum and pgmpy: questions, rows of evidence, parameters, EM.

Peers are timed on as many rows as take about a second, per row; CPU seconds of one thread.
"""

import contextlib
import logging
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import probgen as pg
from benchmarks import paired, seconds
from benchmarks.memory import extracted
from probgen.queries.marginals import node_probabilities

EVIDENCE = {"HRBP": "HIGH", "CVP": "LOW", "BP": "LOW"}
HIDDEN = ("HYPOVOLEMIA", "LVEDVOLUME", "STROKEVOLUME")


def cases():
    """All comparisons, on alarm."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import pyagrum

    pyagrum.setNumberOfThreads(1)
    path = extracted("alarm")
    fit, peer = pg.read_network(path), pyagrum.loadBN(str(path))
    yield from one_question(fit, peer, path)
    yield from many_rows(fit, peer, path)
    yield from parameters(fit, peer, path)
    yield from expectation_maximisation(fit, peer)


def one_question(fit, peer, path):
    """One node, and all nodes, given three."""
    import pyagrum
    from pgmpy.inference import VariableElimination
    from pgmpy.readwrite import BIFReader

    others = [name for name in fit.schema.names if name not in EVIDENCE]

    def their_one():
        engine = pyagrum.VariableElimination(peer)
        engine.setEvidence(EVIDENCE)
        engine.addTarget("LVFAILURE")
        engine.makeInference()
        return engine.posterior("LVFAILURE")

    def their_all():
        engine = pyagrum.LazyPropagation(peer)
        engine.setEvidence(EVIDENCE)
        engine.makeInference()
        return [engine.posterior(name) for name in others]

    yield {"case": "one question", "peer": "pyagrum"} | paired(
        lambda: fit.query("LVFAILURE", EVIDENCE), their_one, repeats=51
    )
    yield {"case": "all nodes of one row", "peer": "pyagrum"} | paired(
        lambda: fit.query(given=EVIDENCE), their_all, repeats=21
    )
    engine = VariableElimination(BIFReader(str(path)).get_model())
    yield {"case": "one question", "peer": "pgmpy"} | paired(
        lambda: fit.query("LVFAILURE", EVIDENCE),
        lambda: engine.query(["LVFAILURE"], evidence=EVIDENCE, show_progress=False),
        repeats=11,
    )


def many_rows(fit, peer, path):
    """Marginals of all nodes for 10 000 rows: three nodes known, or three cells in ten, anywhere."""
    import pyagrum
    from pgmpy.inference import VariableElimination
    from pgmpy.readwrite import BIFReader

    slow = VariableElimination(BIFReader(str(path)).get_model())
    rng = np.random.default_rng(0)
    full = fit.sample(10_000, seed=1).values
    three = np.full_like(full, np.nan)
    for name in EVIDENCE:
        place = fit.schema.index(name)
        three[:, place] = rng.integers(len(fit.schema[name].levels), size=len(full))
    scattered = np.where(rng.random(full.shape) < 0.3, full, np.nan)
    for what, values in (("three nodes", three), ("three cells in ten", scattered)):
        table = pg.Table.from_codes(values, fit.schema)
        known = [
            {n: fit.schema[n].levels[int(v)] for n, v in zip(table.names, row, strict=True) if v == v}
            for row in values
        ]

        def theirs(rows=known[:100]):
            for row in rows:
                engine = pyagrum.LazyPropagation(peer)
                engine.setEvidence(row)
                engine.makeInference()
                [engine.posterior(name) for name in table.names if name not in row]  # noqa: B023

        def slowest(row=known[0]):
            for name in table.names:  # noqa: B023
                if name not in row:
                    slow.query([name], evidence=row, show_progress=False)

        ours = min(seconds(lambda: node_probabilities(fit, table)) for _ in range(5))  # noqa: B023
        agrum, pgmpy = 100 * min(seconds(theirs) for _ in range(3)), 10_000 * seconds(slowest)
        yield {
            "case": f"10 000 rows, {what}", "distinct": len(table.distinct()[0]), "ours": ours, "pyagrum": agrum,
            "ratio_pyagrum": agrum / ours, "pgmpy": pgmpy, "ratio_pgmpy": pgmpy / ours,
        }  # fmt: skip


def parameters(fit, peer, path):
    """Maximum likelihood from 20 000 complete rows in memory."""
    import pyagrum

    table = fit.sample(20_000, seed=2)
    frame, graph = table.to_pandas(), fit.program.graph
    file = path.with_suffix(".csv")
    frame.to_csv(file, index=False)

    def ours():
        return pg.fit("bayesian_network", table, structure=graph, prior=None, progress=False)

    def theirs(source):
        learner = pyagrum.BNLearner(source, peer)
        learner.useSmoothingPrior(1e-3)
        learner.setNumberOfThreads(1)
        return learner.learnParameters(peer.dag())

    yield {"case": "parameters of 20 000 rows", "peer": "pyagrum, data frame"} | paired(
        ours, lambda: theirs(frame), repeats=5
    )
    yield {"case": "parameters of 20 000 rows", "peer": "pyagrum, csv"} | paired(
        ours, lambda: theirs(str(file)), repeats=5
    )


def expectation_maximisation(fit, peer):
    """One iteration, by the difference of two lengths: three hidden nodes, and one cell in ten missing."""
    table = fit.sample(2000, seed=3)
    graph, levels = fit.program.graph, {name: list(fit.schema[name].levels) for name in HIDDEN}
    hidden = table.drop(list(HIDDEN))
    holes = table.with_values(
        np.where(np.random.default_rng(0).random(table.values.shape) < 0.1, np.nan, table.values)
    )

    def our_step(data, **options):
        moments = []
        pg.fit(
            "bayesian_network", data, structure=graph, max_steps=30, restarts=1, tolerance=0.0, progress=False,
            callback=lambda *_: moments.append(time.process_time()), **options,
        )  # fmt: skip
        return float(np.median(np.diff(moments)))

    ours = our_step(hidden, hidden_nodes=levels)
    theirs = their_step(peer, hidden_frame(table), 2, 4)
    yield {
        "case": "EM, 3 hidden nodes, an iteration of 2 000 rows",
        "ours": ours,
        "pyagrum": theirs,
        "ratio": theirs / ours,
    }
    ours = our_step(holes) / 2000
    theirs = their_step(peer, holes.take(np.arange(60)).to_pandas().astype(object), 2, 4) / 60
    yield {
        "case": "EM, a cell in ten missing, an iteration and row",
        "ours": ours,
        "pyagrum": theirs,
        "ratio": theirs / ours,
    }


def hidden_frame(table):
    """The table with three columns unknown."""
    return table.hide(*HIDDEN).to_pandas().astype(object)


def their_step(peer, frame, few, many):
    """CPU seconds of an iteration of pyAgrum's EM."""
    import pyagrum

    path = Path(tempfile.mkdtemp()) / "rows.csv"
    frame.fillna("?").to_csv(path, index=False)

    def run(steps):
        learner = pyagrum.BNLearner(str(path), peer, ["?"])
        learner.setNumberOfThreads(1)
        learner.useEM(1e-12)
        learner.EMsetMaxIter(steps)
        for switch in ("EMdisableEpsilon", "EMdisableMinEpsilonRate"):
            with contextlib.suppress(Exception):
                getattr(learner, switch)()
        learner.useSmoothingPrior(1e-3)
        learner.learnParameters(peer.dag())

    run(1)
    return (seconds(lambda: run(many)) - seconds(lambda: run(few))) / (many - few)
