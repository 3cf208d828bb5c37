"""Classical models beside their peers, an iteration at a time.

A mixture of Gaussians with 30 % of its cells missing beside itself without holes; categorical naive Bayes beside
scikit-learn on a million rows; a mixture of Gaussians beside pomegranate. scikit-learn's mixture: ``em_iteration``.
"""

import os
import statistics
import time
from typing import Any

import numpy as np
import torch

from benchmarks import seconds
from probgen.data import Column, Schema, Table
from probgen.data.batches import Batches, Standardiser
from probgen.inference.methods.base import Task
from probgen.inference.methods.em import ExpectationMaximisation
from probgen.inference.runtime import setting
from probgen.program import find

N, D, K = 100_000, 16, 16


def cases():
    """All of them."""
    torch.set_num_threads(1)
    for covariance in ("full", "diagonal"):
        yield with_holes(covariance)
    yield naive_bayes()
    yield from beside_pomegranate()


def data(rows=N, columns=D, components=K, seed=0):
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((components, columns))
    return centres[rng.integers(components, size=rows)] + rng.standard_normal((rows, columns))


def prepared(name, table, **options):
    """EM after its first iteration."""
    model: Any = find(name)
    program = model(table.schema, **options).double()
    batches = Batches(table, Standardiser.of(table))
    em = ExpectationMaximisation(Task(program, batches, None, 0, 100, 0.0, {"start": "kmeans"}))
    with setting(torch.float64, torch.device("cpu")):
        em.init()
        em.step()
    return em


def iteration(em, repeats=5):
    """Median CPU seconds of one iteration."""
    with setting(torch.float64, torch.device("cpu")):
        return statistics.median(seconds(em.step) for _ in range(repeats))


def beside_pomegranate():
    """Its iteration is what its ``fit`` repeats, in single precision as it always is.

    On one thread and on all cores (the default, which its import may restore), in wall-clock time too; ours on one.
    """
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    x = data()
    torch.set_num_threads(1)
    em = prepared("gaussian_mixture", Table(x), components=K, covariance="full")
    rows = torch.from_numpy(x).float()
    parts = [Normal(rows[i * 100].clone(), torch.eye(D), covariance_type="full") for i in range(K)]
    peer = GeneralMixtureModel(parts)

    def theirs():
        peer.summarize(rows)
        peer.from_summaries()

    for threads in dict.fromkeys((1, os.cpu_count() or 1)):
        found = []
        for _ in range(5):
            torch.set_num_threads(1)
            ours = iteration(em, 1), wall(lambda: iteration(em, 1))
            torch.set_num_threads(threads)
            found.append((*ours, seconds(theirs), wall(theirs)))
        torch.set_num_threads(1)
        mine, mine_wall, other, other_wall = (statistics.median(column) for column in zip(*found, strict=True))
        yield {
            "case": f"full covariance beside pomegranate on {threads} threads", "ours": mine, "theirs": other,
            "speedup": other / mine, "speedup_wall": other_wall / mine_wall,
        }  # fmt: skip


def wall(run):
    """Seconds on the clock."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def with_holes(covariance):
    """Interleaved with the complete data."""
    x = data()
    holed = np.where(np.random.default_rng(1).random(x.shape) < 0.3, np.nan, x)
    complete = prepared("gaussian_mixture", Table(x), components=K, covariance=covariance)
    holes = prepared("gaussian_mixture", Table(holed), components=K, covariance=covariance)
    pairs = [(iteration(complete, 1), iteration(holes, 1)) for _ in range(7)]
    plain, missing = (statistics.median(column) for column in zip(*pairs, strict=True))
    case = f"{covariance}, 30 % of the cells missing, beside the complete data"
    return {"case": case, "complete": plain, "missing": missing, "ratio": missing / plain}


def naive_bayes():
    """Complete tables: ours reads counts off the same matrix products that it uses with holes."""
    from sklearn.naive_bayes import CategoricalNB

    rng = np.random.default_rng(0)
    y = rng.integers(10, size=1_000_000)
    x = (rng.integers(5, size=(len(y), 20)) + y[:, None]) % 5
    columns = [Column(f"x{i}", "categorical", levels=tuple(range(5))) for i in range(20)]
    schema = Schema((*columns, Column("y", "categorical", levels=tuple(range(10)))))
    table = Table.from_codes(np.column_stack([x, y]).astype(float), schema)
    em = prepared("naive_bayes", table, target="y")
    ours = iteration(em)
    theirs = statistics.median(seconds(lambda: CategoricalNB().fit(x, y)) for _ in range(3))
    return {"case": "categorical naive Bayes, 1e6 x 20", "ours": ours, "theirs": theirs, "speedup": theirs / ours}
