"""Energies by every objective on two moons beside the spline flow's divergence, their normalisers beside a grid's, and a binary set.

``CASES=moons,nltcs`` chooses; ``OBJECTIVES`` says which objectives, ``STEPS`` how many steps. Folder ``PROBGEN_DATA`` holds the set.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import probgen as pg
from benchmarks.binary_sets import read
from probgen.inference.objectives.unnormalised import LIKELIHOOD, OBJECTIVES
from probgen.queries.reading import in_double

Line = dict[str, Any]
SETTINGS = {"batch_size": 256, "learning_rate": 3e-3, "validation_fraction": 0.1}
OWN: dict[str, dict[str, Any]] = {
    "sliced_score_matching": {"slices": 16},
    "denoising_score_matching": {"noise_scale": 0.1, "batch_size": 512, "patience": 200},
    "multiscale_denoising": {
        "noise_scale": 0.07,
        "batch_size": 2048,
        "learning_rate": 5e-3,
        "average": 0.998,
        "patience": 200,
    },
}
REACH, STEP = 9.0, 0.03  # of the grid, in standardised columns


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", ",".join(CASES)).split(","):
        for line in CASES[name]():
            yield {"case": name, **line}


def asked(default: tuple[str, ...]) -> list[str]:
    """Objectives."""
    return os.environ.get("OBJECTIVES", ",".join(default)).split(",")


def fitted(table: pg.Table, **options: Any) -> tuple[pg.Fit, float]:
    """A fit and its CPU seconds."""
    before = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = pg.fit("energy", table, seed=0, progress=False, **options)
    return fit, time.process_time() - before


def moons() -> Iterator[Line]:
    """Nats below the truth on new rows, log Z by annealing and by a grid."""
    train, test = pg.toy("two_moons", 10_000, seed=0), pg.toy("two_moons", 5000, seed=1)
    truth, steps = pg.toy_log_density("two_moons", test), int(os.environ.get("STEPS", "2500"))
    base = os.environ.get("BASE", "mixture")
    for name in asked((*OBJECTIVES, *LIKELIHOOD)):
        fit, seconds = fitted(train, objective=name, max_steps=steps, base=base, **{**SETTINGS, **OWN.get(name, {})})
        before = time.process_time()
        found = fit.log_prob(test)
        gap, (log_z, error, _) = truth - found.value, normaliser_of(fit)
        yield {
            "objective": name, "base": base, "steps": len(fit.history["objective"]), "below_truth": gap.mean(),
            "error": np.hypot(gap.std() / np.sqrt(len(gap)), error), "log_z": log_z, "log_z_error": error,
            "log_z_grid": grid(fit), "seconds": seconds, "seconds_of_log_z": time.process_time() - before,
        }  # fmt: skip


def normaliser_of(fit: pg.Fit) -> list[float]:
    """Log Z, its standard error and effective sample size."""
    energy: Any = fit.program.energy
    return energy.log_z.tolist()


def grid(fit: pg.Fit) -> float:
    """Log Z by the trapezoidal rule over the plane."""
    line = torch.arange(-REACH, REACH, STEP, dtype=torch.float64)
    with torch.no_grad(), fit.setting():
        energy = in_double(fit).energy
        rows = [energy.log_density(torch.stack([x.expand(len(line)), line], 1)).logsumexp(0) for x in line]
    return float(torch.stack(rows).logsumexp(0)) + 2 * float(np.log(STEP))


def nltcs() -> Iterator[Line]:
    """Nats a test row of sixteen binary columns, all of whose states are summed."""
    train, valid, test = read(Path(os.environ["PROBGEN_DATA"]) / "binary" / "nltcs.npz")
    for name in asked(("noise_contrastive", "contrastive_divergence")):
        steps = int(os.environ.get("STEPS", "3000"))
        fit, seconds = fitted(train, objective=name, max_steps=steps, batch_size=256, learning_rate=2e-3, leapfrogs=1)
        held_out, found = (fit.log_prob(rows) for rows in (valid, test))
        yield {
            "objective": name, "steps": len(fit.history["objective"]), "kind": found.kind, "validation": held_out.value.mean(),
            "test": found.value.mean(), "error": found.value.std() / np.sqrt(len(found)),
            "log_z": normaliser_of(fit)[0], "seconds": seconds,
        }  # fmt: skip


CASES = {"moons": moons, "nltcs": nltcs}
