"""Hidden Chow-Liu trees on six binary sets, and the time of an iteration on a thousand columns.

Options were chosen on the validation rows; every member of an ensemble is a fit from another seed, stopped by them, and the
ensemble's density is the mean of its members'. Needs the folder of data sets (``PROBGEN_DATA``) for the sets.
"""

import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp

import probgen as pg
from benchmarks.binary_sets import read
from probgen.data import Column, Schema, Table

PUBLISHED = {"nltcs": -5.99, "plants": -12.54, "jester": -51.29, "accidents": -26.74, "dna": -79.1, "mushrooms": None}
OPTIONS = {  # states, prior, batch_size, max_steps, members
    "nltcs": (32, 0.1, 200, 30, 3),
    "plants": (64, 0.1, 200, 40, 2),
    "jester": (32, 0.3, 100, 30, 3),
    "accidents": (64, 0.1, 200, 30, 2),
    "dna": (8, 0.1, 100, 60, 5),
    "mushrooms": (32, 0.01, 100, 60, 3),
}
ROWS, COLUMNS = 2000, 1000


def cases():
    """Every set, one line; then large tables."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", pg.ConvergenceWarning)
    for name in PUBLISHED:
        yield on_set(name)
    for states in (64, 256):
        yield iteration(states)


def on_set(name):
    """Mean log density of the test rows under an ensemble."""
    states, prior, batch_size, steps, members = OPTIONS[name]
    train, valid, test = read(Path(os.environ.get("PROBGEN_DATA", "../shared/data")) / "binary" / f"{name}.npz")
    began, found = time.process_time(), []
    for seed in range(members):
        fit = pg.fit(
            "hidden_chow_liu_tree", train, states=states, prior=prior, method="online_em", batch_size=batch_size,
            max_steps=steps, validation=valid, patience=15, dtype="float32", seed=seed, progress=False,
        )  # fmt: skip
        found.append([fit.log_prob(part).value for part in (valid, test)])
    valid, test = (logsumexp(np.stack(part), 0) - np.log(members) for part in zip(*found, strict=True))
    return {
        "case": name, "states": states, "prior": prior, "batch_size": batch_size, "passes": steps, "members": members,
        "validation": float(valid.mean()), "test": float(test.mean()),
        "standard_error": float(test.std() / len(test) ** 0.5), "first_member": float(found[0][1].mean()),
        "published": PUBLISHED[name], "cpu_seconds": time.process_time() - began,
    }  # fmt: skip


def iteration(states):
    """CPU seconds of one EM iteration on many binary columns, in single precision."""
    rng = np.random.default_rng(0)
    group = rng.random((8, COLUMNS))
    x = (rng.random((ROWS, COLUMNS)) < group[rng.integers(8, size=ROWS)]).astype(float)
    table = Table.from_codes(x, Schema(tuple(Column(f"x{i}", "binary", levels=(0, 1)) for i in range(COLUMNS))))
    stamps = []
    fit = pg.fit(
        "hidden_chow_liu_tree", table, states=states, max_steps=4, tolerance=0.0, restarts=1, dtype="float32",
        progress=False, callback=lambda *_: stamps.append(time.process_time()),
    )  # fmt: skip
    seconds = float(np.diff(stamps).min())
    tree: Any = fit.program.tree
    edges = tree.shapes[0].inner - 1  # a product up and two down for each; those to leaves need none
    return {
        "case": f"{COLUMNS} columns, {ROWS} rows", "states": states, "iteration_cpu_seconds": seconds,
        "gflop_per_second": 6.0 * ROWS * edges * states**2 / seconds / 1e9,
    }  # fmt: skip
