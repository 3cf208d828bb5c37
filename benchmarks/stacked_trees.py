"""Mixtures of fits of both models made of trees, weighted on the validation rows; test nats a row.

Needs the folder of data sets (``PROBGEN_DATA``).
"""

import os
import time
import warnings
from pathlib import Path

import torch

import probgen as pg
from benchmarks.binary_sets import read
from benchmarks.trees import PUBLISHED

HIDDEN = {"nltcs": ((32, 0.1), (64, 0.1), (32, 0.1), (16, 0.1), (32, 0.1))}  # states and prior of each member
OBSERVED = {"nltcs": (20, 20, 20, 20, 20, 20, 20, 20, 30, 30, 20, 20)}  # components of each member


def cases():
    """One line a set."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", pg.ConvergenceWarning)
    folder = Path(os.environ.get("PROBGEN_DATA", "../shared/data")) / "binary"
    for name in HIDDEN:
        yield case(name, *read(folder / f"{name}.npz"))


def case(name, train, valid, test):
    """All members, and their mixture."""
    began = time.process_time()
    members = [
        pg.fit(
            "hidden_chow_liu_tree", train, states=states, prior=prior, method="online_em", batch_size=200, max_steps=30,
            validation=valid, patience=15, dtype="float32", seed=seed, progress=False,
        )
        for seed, (states, prior) in enumerate(HIDDEN[name])
    ]  # fmt: skip
    members += [
        pg.fit(
            "chow_liu_mixture", train, components=components, max_steps=20, tolerance=1e-4, restarts=1, seed=seed,
            progress=False,
        )
        for seed, components in enumerate(OBSERVED[name])
    ]  # fmt: skip
    made = pg.ensemble(members, valid)
    found = made.log_prob(test).value
    return {
        "case": name, "members": len(members), "used": int((made.weights > 1e-3).sum()),
        "validation": made.log_prob(valid).mean().value, "test": float(found.mean()),
        "standard_error": float(found.std() / len(found) ** 0.5), "published": PUBLISHED[name],
        "cpu_seconds": time.process_time() - began,
    }  # fmt: skip
