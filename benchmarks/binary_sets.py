"""Mixtures of Bernoullis on six binary sets, the number of components chosen on the validation rows; test nats a row.

Needs the folder of data sets (``PROBGEN_DATA``).
"""

import os
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import probgen as pg
from probgen.data import Column, Schema, Table

PUBLISHED = {"nltcs": -6.01, "plants": -13.2, "jester": -52.9, "accidents": -35.5, "dna": -97.9, "mushrooms": -14.8}
COMPONENTS = (16, 32, 64, 128, 256, 512)


def cases():
    """Every set: components are doubled until the validation rows say stop."""
    torch.set_num_threads(1)
    folder = Path(os.environ.get("PROBGEN_DATA", "../shared/data")) / "binary"
    for name, published in PUBLISHED.items():
        began = time.process_time()
        train, valid, test = read(folder / f"{name}.npz")
        best = (-np.inf, 0, np.nan, np.nan)
        for components in COMPONENTS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", pg.ConvergenceWarning)
                fit = pg.fit(
                    "latent_class",
                    train,
                    components=components,
                    max_steps=200,
                    tolerance=1e-4,
                    restarts=1,
                    progress=False,
                )
            held_out = float(np.mean(fit.log_prob(valid).value))
            if held_out < best[0]:
                break
            found = fit.log_prob(test).value
            best = (held_out, components, float(found.mean()), float(found.std() / len(found) ** 0.5))
        yield {
            "case": name, "components": best[1], "validation": best[0], "test": best[2], "standard_error": best[3],
            "published": published, "cpu_seconds": time.process_time() - began,
        }  # fmt: skip


def read(path):
    """Train, validation and test rows as tables with one schema."""
    packed = np.load(path)
    width = int(packed["n_vars"])
    schema = Schema(tuple(Column(f"x{i}", "binary", levels=(0, 1)) for i in range(width)))
    bits = (np.unpackbits(packed[part], axis=1)[:, :width] for part in ("train", "valid", "test"))
    return [Table.from_codes(x.astype(float), schema) for x in bits]
