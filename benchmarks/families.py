"""Holes filled by one model of every family: white wine and the census, 30 % of the cells missing at random.

A model is fitted three times with seeds of its own, and each fit draws seven completions (``uncertainty="ensemble"``). ``energy`` is a thousand times the
energy distance of completed rows from the complete ones; ``crps`` the continuous ranked probability score of the hidden cells, numbers in standard
deviations, labels at distance one; ``coverage`` the share of hidden numbers between the least and the largest of the 21 draws, .909 if they are right. ``MODELS``
(names), ``TABLES`` and ``ROWS`` choose.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import probgen as pg
from benchmarks._imputation_accuracy import energy
from benchmarks._imputation_populations import Driven, adult, as_reals, read, scaled
from probgen.data.table import Table
from probgen.studies.filled_cells import crps

FITS, EACH = 3, 7
DEEP: dict[str, Any] = {"max_steps": 2000, "batch_size": 256, "learning_rate": 2e-3}
MODELS: dict[str, dict[str, Any]] = {
    "gaussian_mixture": {"components": 8},
    "bayesian_network": {},
    "chained_equations": {},
    "kernel_density": {},
    "vae": {"objective": "iwae", "draws": 10, **DEEP},
    "spline_flow": DEEP,
    "continuous_flow": DEEP,
    "made": DEEP,
    "masked_transformer": DEEP,
    "diffusion": DEEP,
    "score_sde": DEEP,
    "energy": DEEP,
    "gan": DEEP,
}


def tables() -> dict[str, tuple[Table, Any]]:
    """Complete rows, and what hides cells of them."""
    rows = int(os.environ.get("ROWS", 1500))
    wine = as_reals(scaled(read("winequality_white").sample(rows, random_state=1)))
    people = adult().take(np.random.default_rng(1).permutation(len(adult()))[:rows])
    stay = ("alcohol", "ph", "density")
    driven = tuple((name, stay[at % 3]) for at, name in enumerate(wine.names) if name not in stay)
    pairs = (
        ("education", "age"),
        ("marital", "occupation"),
        ("hours", "-age"),
        ("gain", "sex"),
        ("income", "occupation"),
    )
    return {"white wine": (wine, Driven(driven, 0.3, stay)), "adult": (people, Driven(pairs, 0.3))}


def cases() -> Iterator[dict[str, Any]]:
    """One line a table and model; the column's own values stand first."""
    asked = os.environ.get("MODELS", ",".join(MODELS)).split(",")
    for title, (complete, hide) in tables().items():
        if title not in os.environ.get("TABLES", title):
            continue
        holed = hide(complete, 0)
        yield {"table": title, "model": "column alone", **scores(complete, holed, of_columns(holed))}
        for name in asked:
            before = time.process_time()
            try:
                found = completed(name, holed)
            except pg.ProbgenError as error:
                yield {"table": title, "model": name, "refused": str(error)}
                continue
            yield {
                "table": title, "model": name, **scores(complete, holed, found), "seconds": time.process_time() - before,
            }  # fmt: skip


def completed(name: str, holed: Table) -> list[Table]:
    """Draws of several fits."""
    drawn: list[Table] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(FITS):
            torch.manual_seed(seed)
            fit = pg.fit(name, holed, seed=seed, progress=False, **MODELS[name])
            drawn += fit.fill(holed, EACH, seed=seed)
    return drawn


def of_columns(holed: Table) -> list[Table]:
    """Hidden cells from the known ones of their column."""
    rng, made = np.random.default_rng(0), []
    for _ in range(FITS * EACH):
        values = holed.values.copy()
        for place in range(holed.n_columns):
            unknown = np.isnan(values[:, place])
            values[unknown, place] = rng.choice(holed.values[~unknown, place], unknown.sum())
        made.append(holed.with_values(values))
    return made


def scores(complete: Table, holed: Table, drawn: list[Table]) -> dict[str, float]:
    """How close draws are to what was hidden, as rows and as cells."""
    whole = [energy(vectors(table, complete), vectors(complete, complete)) for table in drawn[::4]]
    within, counted, inside = [], [], []
    for place, column in enumerate(complete.schema):
        cells = ~holed.known[:, place]
        if not cells.any():
            continue
        truth, filled = complete.values[cells, place], np.stack([table.values[cells, place] for table in drawn])
        if column.is_discrete and column.kind != "ordinal":
            counted.append(label_score(truth, filled))
        else:
            within.append(crps(filled, truth) / complete.values[:, place].std())
            inside.append((filled.min(0) <= truth) & (truth <= filled.max(0)))
    return {
        "energy": 1000 * float(np.mean(whole)),
        "crps": float(np.concatenate(within + counted).mean()),
        "coverage": float(np.concatenate(inside).mean()),
    }


def vectors(table: Table, scale: Table) -> np.ndarray:
    """Rows with numbers in standard deviations, and labels that differ at distance one."""
    parts = []
    for place, column in enumerate(table.schema):
        if column.is_discrete and column.kind != "ordinal":
            parts.append(np.eye(len(column.levels))[table.values[:, place].astype(int)] / np.sqrt(2))
        else:
            parts.append(table.values[:, [place]] / scale.values[:, place].std())
    return np.concatenate(parts, 1)


def label_score(truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The same score with labels at distance one."""
    pairs = [drawn[at] != drawn[other] for at in range(len(drawn)) for other in range(at)]
    return (drawn != truth).mean(0) - np.mean(pairs, 0) / 2
