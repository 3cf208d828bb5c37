"""Flows of tables: known densities, and two public tables beside autoregressive mixtures, diffusion and the library's simpler densities.

``CASES=known,kin8nm,protein`` chooses; ``MODELS`` says which models. Folder ``PROBGEN_DATA`` holds the tables.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import probgen as pg
from probgen.data import Column, Schema, Table

Line = dict[str, Any]
FLOWS = ("coupling_flow", "autoregressive_flow", "spline_flow", "continuous_flow")
BESIDE = ("made", "score_sde")
WHOLE: dict[str, dict[str, Any]] = {name: {"conditioning": 0.0} for name in ("continuous_flow", "score_sde")}
WHOLE["made"] = {"order": "column"}  # no row is asked for in parts
KNOWN = {"max_steps": 2000, "batch_size": 256, "learning_rate": 3e-3, "validation_fraction": 0.1}
TABLES: dict[str, dict[str, Any]] = {
    "kin8nm": {"max_steps": 1400, "batch_size": 512, "learning_rate": 3e-3},
    "protein": {"max_steps": 2500, "batch_size": 512, "learning_rate": 3e-3},
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gaussian": ("gaussian_mixture", {"components": 1}),
    "gaussian_mixture": ("gaussian_mixture", {"components": 20}),
    "kernel_density": ("kernel_density", {}),
}
NOISE = 0.1  # of the moons


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", ",".join(CASES)).split(","):
        for line in CASES[name]():
            yield {"case": name, **line}


def models() -> list[str]:
    """Those that were asked for."""
    return os.environ.get("MODELS", ",".join((*OTHERS, *FLOWS, *BESIDE))).split(",")


def fitted(name: str, table: Table, options: dict[str, Any]) -> tuple[pg.Fit, float]:
    """A fit and its CPU seconds."""
    model, own = OTHERS.get(name, (name, {**options, **WHOLE.get(name, {})}))
    before = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = pg.fit(model, table, seed=0, progress=False, **own)
    return fit, time.process_time() - before


# ----------------------------------------------------------------------------------------------- known densities
def moons(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Two half circles with normal noise."""
    t, second = rng.uniform(0, np.pi, rows), rng.integers(2, size=rows)
    return arcs(t)[second, np.arange(rows)] + NOISE * rng.normal(size=(rows, 2))


def arcs(t: np.ndarray) -> np.ndarray:
    """Points of both half circles, ``(2, N, 2)``."""
    return np.array([[np.cos(t), np.sin(t)], [1 - np.cos(t), 0.5 - np.sin(t)]]).transpose(0, 2, 1)


def moons_density(x: np.ndarray) -> np.ndarray:
    """By quadrature along the circles."""
    middle = arcs((np.arange(2000) + 0.5) / 2000 * np.pi).reshape(-1, 2)
    square = ((x[:, None] - middle) ** 2).sum(-1)
    least = square.min(1, keepdims=True)
    total = np.exp((least - square) / (2 * NOISE**2)).mean(1)
    return np.log(total) - least[:, 0] / (2 * NOISE**2) - np.log(2 * np.pi * NOISE**2)


def normals(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Ten numbers with correlations of .7 to the power of their distance."""
    return rng.normal(size=(rows, 10)) @ root().T


def root() -> np.ndarray:
    at = np.arange(10)
    return np.linalg.cholesky(0.7 ** np.abs(at[:, None] - at))


def normal_density(x: np.ndarray) -> np.ndarray:
    z = np.linalg.solve(root(), x.T)
    return -0.5 * (z**2).sum(0) - 5 * np.log(2 * np.pi) - np.log(np.diag(root())).sum()


def known() -> Iterator[Line]:
    """Nats below the truth on new rows, with their error."""
    for target, draw, density in (("moons", moons, moons_density), ("normal of ten", normals, normal_density)):
        rng = np.random.default_rng(0)
        train, test = draw(10_000, rng), draw(5000, rng)
        truth = np.concatenate([density(part) for part in np.array_split(test, 20)])
        for name in models():
            fit, seconds = fitted(name, Table(train), KNOWN)
            found = fit.log_prob(Table(test))
            gap = truth - found.value
            solved = {} if found.standard_error is None else {"solver": np.mean(found.standard_error)}
            yield {
                "target": target, "model": name, "kind": found.kind, "truth": truth.mean(), "below_truth": gap.mean(),
                "error": gap.std() / np.sqrt(len(gap)), "seconds": seconds, **solved,
            }  # fmt: skip


# -------------------------------------------------------------------------------------------------- public tables
def of_table(name: str) -> Iterator[Line]:
    """Mean and least log density of held-out rows, as the table is and standardised by the training rows."""
    values = np.loadtxt(Path(os.environ["PROBGEN_DATA"]) / "tabular" / f"{name}.csv", delimiter=",", skiprows=1)
    order = np.random.default_rng(0).permutation(len(values))
    first, second = int(0.8 * len(values)), int(0.9 * len(values))
    train, both, test = values[order[:first]], values[order[:second]], values[order[second:]]
    scale = float(np.log(train.std(0)).sum())
    for model in models():
        rows = train if model in OTHERS else both  # of both, a ninth is held out to stop by
        fit, seconds = fitted(model, real(rows), {"validation_fraction": 1 / 9, "validate_every": 100, **TABLES[name]})
        found = fit.log_prob(real(test)).value
        yield {
            "model": model, "rows": len(train), "test": found.mean(), "standardised": found.mean() + scale,
            "error": found.std() / np.sqrt(len(found)), "worst_standardised": found.min() + scale, "seconds": seconds,
        }  # fmt: skip


def real(values: np.ndarray) -> Table:
    """All columns as real numbers."""
    columns = tuple(Column(f"x{at}", "real") for at in range(values.shape[1]))
    return Table.from_codes(values, Schema(columns))


CASES = {"known": known, "kin8nm": lambda: of_table("kin8nm"), "protein": lambda: of_table("protein")}
