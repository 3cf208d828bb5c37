"""Restricted Boltzmann machines on binary data sets: test log density by annealed importance sampling.

``nats`` is the mean log density of the test rows with the forward estimate of log Z, ``reverse`` with the backward one
(chains that start at test rows), ``exact`` the true value where one side can be enumerated. Targets:
static binarised MNIST with 500 hidden units -86.34 (Salakhutdinov and Murray, 2008, with 25-step contrastive
divergence), mushrooms -15.15 (Larochelle and Murray, 2011), also with all else left to the defaults (``plain``) and with
12 hidden units, where the true value is known. Data: the folder that ``PROBGEN_DATA`` names.
"""

import os
import time
from pathlib import Path

import numpy as np
import torch

import probgen as pg
from probgen.data import Column, Schema
from probgen.inference.annealing import enumerable, forward, log_normaliser, reverse, visible_count
from probgen.inference.runtime import seeded

SETS = {
    "nltcs": ("binary/nltcs.npz", {"hidden": 50, "max_steps": 40_000, "chains": "persistent"}),
    "mushrooms_plain": ("binary/mushrooms.npz", {"hidden": 100}),
    "mushrooms_small": ("binary/mushrooms.npz", {"hidden": 12}),
    "mushrooms": ("binary/mushrooms.npz", {"hidden": 100, "max_steps": 15_000, "learning_rate": 0.05}),
    "mnist": (
        "images/binarized_mnist_static.npz",
        {"hidden": 500, "max_steps": 60_000, "learning_rate": 0.05, "chains": "persistent"},
    ),
}
CHAINS, TEMPERATURES = 512, 5000  # of the backward estimate, of both


def cases():
    """One fit a data set; ``BOLTZMANN_SETS`` names some of them."""
    for name in os.environ.get("BOLTZMANN_SETS", ",".join(SETS)).split(","):
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
    below = forward(layer, temperatures=TEMPERATURES)
    above = reverse(layer, x[torch.randperm(len(x))[:CHAINS]], TEMPERATURES)
    found = {"nats": mean - float(below.value), "error": float(below.error), "ess": float(below.size)}
    found |= {"reverse": mean - float(above.value), "reverse_error": float(above.error)}
    if enumerable(layer) or visible_count(layer) <= 2**20:
        layer = layer.double()
        found["exact"] = float(-layer.free_energy(x.double()).mean()) - float(log_normaliser(layer).value)
    return found


def binary_table(data, part):
    """Packed bits as a table of binary columns."""
    width = int(data["n_vars"])
    schema = Schema(tuple(Column(f"x{at}", "binary", levels=(0, 1)) for at in range(width)))
    return pg.Table.from_codes(np.unpackbits(data[part], axis=1)[:, :width].astype(float), schema)
