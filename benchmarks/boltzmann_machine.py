"""Restricted Boltzmann machines on binary data sets: test log density by annealed importance sampling.

``nats`` is the mean log density of the test rows with the forward estimate of log Z, ``conservative`` with the
backward one (chains that start at test rows), ``exact`` the true value where one side can be enumerated. Targets:
static binarised MNIST with 500 hidden units -86.34 (Salakhutdinov and Murray, 2008, with 25-step contrastive
divergence), mushrooms -15.15 (Larochelle and Murray, 2011). Data: the folder that ``PROBGEN_DATA`` names.
"""

import os
import time
from pathlib import Path

import numpy as np
import torch

import probgen as pg
from probgen.data import Column, Schema
from probgen.inference.annealing import annealed, log_normaliser, reverse, visible_count
from probgen.inference.runtime import seeded

SETS = {
    "nltcs": ("binary/nltcs.npz", {"hidden": 50, "max_steps": 40_000}),
    "mushrooms": ("binary/mushrooms.npz", {"hidden": 100, "max_steps": 40_000}),
    "mnist": ("images/binarized_mnist_static.npz", {"hidden": 500, "max_steps": 60_000, "learning_rate": 0.05}),
}


def cases():
    """One fit a data set; ``BOLTZMANN_SETS`` names some of them."""
    for name in os.environ.get("BOLTZMANN_SETS", "nltcs,mushrooms,mnist").split(","):
        yield case(name, *SETS[name])


def case(name, file, options):
    data = np.load(Path(os.environ["PROBGEN_DATA"]) / file)
    train, test = (binary_table(data, part) for part in ("train", "test"))
    began = time.process_time()
    fit = pg.fit("boltzmann_machine", train, seed=0, progress=False, **options)
    trained = time.process_time()
    with torch.no_grad(), fit.setting(), seeded(0, "benchmark"):
        found = densities(fit.program.get_submodule("layers.0"), torch.tensor(test.values, dtype=torch.float32))
    return {
        "data": name, "rows": len(train), "columns": train.n_columns, **options,
        "train_seconds": trained - began, "score_seconds": time.process_time() - trained, **found,
    }  # fmt: skip


def densities(layer, x):
    """Mean log density of the rows by every way to log Z that there is."""
    mean = float(-layer.free_energy(x).double().mean())
    nothing = torch.zeros(1, layer.units.columns, dtype=torch.bool)
    forward = annealed(layer, torch.zeros(1, layer.units.features), nothing, 256, 10_000)
    back = reverse(layer, x[torch.randperm(len(x))[:256]], 10_000)
    found = {"nats": mean - float(forward.value), "error": float(forward.error), "ess": float(forward.size)}
    found |= {"conservative": mean - float(back.value), "conservative_error": float(back.error)}
    if visible_count(layer) <= 2**20:
        found["exact"] = mean - float(log_normaliser(layer.double()).value)
    return found


def binary_table(data, part):
    """Packed bits as a table of binary columns."""
    width = int(data["n_vars"])
    schema = Schema(tuple(Column(f"x{at}", "binary", levels=(0, 1)) for at in range(width)))
    return pg.Table.from_codes(np.unpackbits(data[part], axis=1)[:, :width].astype(float), schema)
