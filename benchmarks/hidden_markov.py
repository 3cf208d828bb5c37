"""One EM iteration of a hidden Markov model beside hmmlearn's (both kernels) and dynamax's.

200 sequences of 500 steps and one of 100 000, 8 states; Gaussian columns with diagonal covariance (D = 4) and one
categorical column of 12 levels. hmmlearn's iteration is the difference of fits of several and one iteration, so that
its set-up does not count; dynamax's is what its ``fit_em`` repeats, compiled before the clock starts.
"""

import os
import statistics
import warnings
from typing import Any

import numpy as np
import torch

from benchmarks import seconds
from probgen.data import Table
from probgen.data.batches import Batches, Standardiser
from probgen.data.schema import Column, Schema
from probgen.inference.methods.base import Task
from probgen.inference.methods.em import ExpectationMaximisation
from probgen.inference.runtime import setting
from probgen.program import find

K, D, LEVELS = 8, 4, 12
REPEATS = 5


SHAPES = ((200, 500), (1, 100_000))


def cases():
    """Each emission and shape, ours and the peers' in turn; dynamax last, as its threads stay in the process."""
    torch.set_num_threads(1)
    for kind in ("gaussian", "categorical"):
        for shape in SHAPES:
            x = simulated(kind, *shape)
            peers = {f"hmmlearn {how}": hmmlearn(kind, x, how) for how in ("scaling", "log")}
            yield from beside(kind, shape, x, peers)
    for shape in SHAPES:
        x = simulated("gaussian", *shape)
        yield from beside("gaussian", shape, x, {"dynamax": dynamax(x)})


def beside(kind, shape, x, peers):
    """Medians of interleaved runs."""
    em = prepared(kind, x)
    ours: list[float] = []
    found: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(REPEATS):
        with setting(torch.float64, torch.device("cpu")):
            ours.append(seconds(em.step))
        for name, peer in peers.items():
            found[name].append(peer())
    mine = statistics.median(ours)
    for name, times in found.items():
        theirs = statistics.median(times)
        case = f"{kind}, {shape[0]} x {shape[1]}, beside {name}"
        yield {"case": case, "ours": mine, "theirs": theirs, "speedup": theirs / mine}


def simulated(kind, sequences, steps):
    """Sequences from a chain that stays for a while."""
    rng = np.random.default_rng(0)
    transition = 0.3 * rng.dirichlet(np.ones(K), size=K) + 0.7 * np.eye(K)
    states = np.zeros((sequences, steps), int)
    states[:, 0] = rng.integers(K, size=sequences)
    for t in range(1, steps):
        draw = rng.random(sequences)
        states[:, t] = (transition[states[:, t - 1]].cumsum(1) < draw[:, None]).sum(1).clip(max=K - 1)
    if kind == "gaussian":
        return (2 * rng.standard_normal((K, D)))[states] + rng.standard_normal((sequences, steps, D))
    probs = rng.dirichlet(np.full(LEVELS, 0.5), size=K)
    return (probs[states].cumsum(-1) < rng.random((sequences, steps, 1))).sum(-1, keepdims=True).clip(max=LEVELS - 1)


def prepared(kind, x):
    """The library's method, started, its data statistics made."""
    schema = None
    if kind == "categorical":
        schema = Schema((Column("x0", "categorical", levels=tuple(range(LEVELS))),))
    table = Table.from_sequences(list(x), kind="real" if schema is None else None, schema=schema)
    model: Any = find("hidden_markov")
    program = model(table.schema, states=K, covariance="diagonal", prior=None).double()
    batches = Batches(table, Standardiser.of(table))
    em = ExpectationMaximisation(Task(program, batches, None, 0, 100, 0.0, {"start": "kmeans"}))
    with setting(torch.float64, torch.device("cpu")):
        em.init()
        em.step()
    return em


def hmmlearn(kind, x, how):
    """A function that gives the seconds of one of hmmlearn's iterations."""
    from hmmlearn import hmm

    sequences, steps = x.shape[:2]
    flat, lengths = x.reshape(-1, x.shape[-1]), [steps] * sequences

    def fitted(iterations):
        options = {"n_iter": iterations, "tol": -1e9, "init_params": "", "implementation": how}
        if kind == "gaussian":
            peer = hmm.GaussianHMM(K, "diag", covars_prior=0, covars_weight=0, min_covar=0, **options)
            peer.means_, peer.covars_ = flat[:: len(flat) // K][:K], np.ones((K, D))
        else:
            peer = hmm.CategoricalHMM(K, **options)
            peer.n_features = LEVELS
            peer.emissionprob_ = np.random.default_rng(1).dirichlet(np.ones(LEVELS), size=K)
        peer.startprob_, peer.transmat_ = np.full(K, 1 / K), 0.5 * np.eye(K) + 0.5 / K
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return seconds(lambda: peer.fit(flat, lengths))

    return lambda: (fitted(4) - fitted(1)) / 3


def dynamax(x):
    """A function that gives the seconds of one of dynamax's iterations."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    import jax

    jax.config.update("jax_enable_x64", True)
    from dynamax.hidden_markov_model import DiagonalGaussianHMM

    peer = DiagonalGaussianHMM(K, D)
    parameters, properties = peer.initialize(jax.random.PRNGKey(0))

    rows = jax.numpy.asarray(x)
    state = peer.initialize_m_step_state(parameters, properties)

    @jax.jit
    def iteration(parameters, state):
        statistics, scores = jax.vmap(lambda sequence: peer.e_step(parameters, sequence))(rows)
        parameters, state = peer.m_step(parameters, properties, statistics, state)
        return parameters, state, scores.sum()

    jax.block_until_ready(iteration(parameters, state))
    return lambda: seconds(lambda: jax.block_until_ready(iteration(parameters, state)))
