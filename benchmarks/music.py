"""Hidden Markov models of chorales and folk tunes (Boulanger-Lewandowski et al., 2012): test nats a time step.

88 keys, each on or off; EM on the standard training part, for a fixed number of states. ``max_steps`` iterations are
enough for the validation part to stop improving. Needs the folder of data sets (``PROBGEN_DATA``).
"""

import os
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat

import probgen as pg
from probgen.data import Column, Schema, Table

CASES = (("JSB_Chorales", 16), ("JSB_Chorales", 100), ("JSB_Chorales", 400), ("Nottingham", 100), ("Nottingham", 400))
SCHEMA = Schema(tuple(Column(f"key{key}", "binary", levels=(0, 1)) for key in range(21, 109)))


def cases():
    """Every set and number of states."""
    torch.set_num_threads(1)
    for name, states in CASES:
        train, *rest = read(name)
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pg.ConvergenceWarning)
            fit = pg.fit(
                "hidden_markov", train, states=states, max_steps=100, tolerance=1e-4, restarts=1, progress=False
            )
        seconds = time.process_time() - began
        found = [float(np.sum(fit.log_prob(table).value)) / table.n_rows for table in (train, *rest)]
        yield {
            "data": name, "states": states, "train": found[0], "validation": found[1], "test": found[2],
            "iterations": fit.diagnostics["steps"], "cpu_seconds": seconds,
        }  # fmt: skip


def read(name):
    """Train, validation and test tunes as tables of sequences with one schema."""
    parts = loadmat(Path(os.environ["PROBGEN_DATA"]) / "music" / f"{name}.mat")
    tunes = ([tune.astype(float) for tune in parts[f"{part}data"][0]] for part in ("train", "valid", "test"))
    return [Table.from_sequences(part, schema=SCHEMA) for part in tunes]
