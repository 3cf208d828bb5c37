"""One EM iteration of a Gaussian mixture: beside scikit-learn's, and beside a hand-written loop of the same arithmetic.

Rows 100 000, columns 16, components 16. scikit-learn's iteration is the difference of fits of 6 and 1 iterations.
"""

import statistics
import warnings
from typing import Any

import numpy as np
import torch

from benchmarks import paired, seconds
from probgen.data import Table
from probgen.data.batches import Batches, Standardiser
from probgen.inference.methods.base import Task
from probgen.inference.methods.em import ExpectationMaximisation
from probgen.inference.runtime import setting
from probgen.program import find

N, D, K = 100_000, 16, 16
REPEATS = 7


def cases():
    """Full and diagonal covariance beside scikit-learn, then the full one beside the loop by hand."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal((K, D)))[rng.integers(K, size=N)] + rng.standard_normal((N, D))
    with setting(torch.float64, torch.device("cpu")):
        for covariance, name in (("full", "full"), ("diagonal", "diag")):
            em = prepared(x, covariance)
            ours = statistics.median(seconds(em.step) for _ in range(REPEATS))
            theirs = statistics.median(peer_iteration(x, name) for _ in range(3))
            yield {
                "case": f"{covariance} beside scikit-learn",
                "ours": ours,
                "theirs": theirs,
                "speedup": theirs / ours,
            }
        em = prepared(x, "full")
        yield {"case": "full beside a loop by hand", **paired(em.step, by_hand(em), repeats=REPEATS)}


def prepared(x, covariance):
    """The library's method, started, its data statistics made."""
    table = Table(x)
    mixture: Any = find("gaussian_mixture")
    model = mixture(table.schema, components=K, covariance=covariance).double()
    batches = Batches(table, Standardiser.of(table))
    em = ExpectationMaximisation(Task(model, batches, None, 0, 100, 0.0, {"start": "kmeans"}))
    em.init()
    em.step()
    return em


def peer_iteration(x, covariance):
    """Seconds of one of scikit-learn's iterations."""
    from sklearn.mixture import GaussianMixture

    def run(iterations):
        peer = GaussianMixture(
            K, covariance_type=covariance, max_iter=iterations, tol=0.0, init_params="random_from_data", random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return seconds(lambda: peer.fit(x))

    return (run(6) - run(1)) / 5


def by_hand(em):
    """The same iteration without a program: matrix products of packed statistics, responsibilities, closed form."""
    family = em.task.program.component.parts()[0].family
    x = next(em.task.batches.pieces()).x
    T = family.statistics(x)
    state = {"theta": em.theta["component.gaussian"], "weights": torch.full((K, 1), 1.0 / K)}

    def step():
        natural = family.natural(state["theta"])
        W = torch.cat([natural["linear"], natural["square"]], 1)
        log = torch.addmm(natural["log_normaliser"][:, None] + state["weights"].log(), W, T.mT)
        top = log.amax(0)
        share = (log - top).exp_()
        total = share.sum(0)
        evidence = (top + total.log()).sum()
        share /= total
        n, sums = share.sum(1), share @ T
        statistics_ = {"log_normaliser": n, "linear": sums[:, :D], "square": sums[:, D:]}
        state["theta"] = family.update(statistics_, state["theta"])
        state["weights"] = (n / N)[:, None]
        return float(evidence)

    return step
