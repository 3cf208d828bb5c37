"""Autoregressive models of tables: binary sets in one order and in any, and conditionals of any order beside sums over a joint table.

``CASES=nltcs,marginals`` chooses among nltcs, plants, jester, dna and marginals. Needs the folder of data sets (``PROBGEN_DATA``).
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import probgen as pg
from benchmarks.binary_sets import read
from probgen.data import Table

LONG = {"average": 0.999, "batch_size": 256, "max_steps": 6000}
MODELS: dict[str, dict[str, Any]] = {
    "made, one order": {"model": "made", "order": "column", "average": 0.999},
    "made, any order": {"model": "made", **LONG},
    "made, any order, mean of 8": {"model": "made", "orders": 8, **LONG},
    "masked_transformer": {"model": "masked_transformer", **LONG, "max_steps": 3000},
}
CHOSEN = {
    "nltcs": tuple(MODELS),
    "plants": ("made, one order", "made, any order"),
    "jester": ("made, one order", "made, any order"),
    "dna": ("made, one order", "made, any order"),
}
COLUMNS, KNOWN = 10, 4  # of nltcs, and how many of them are given
Line = dict[str, Any]


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", ",".join([*CHOSEN, "marginals"])).split(","):
        yield from marginals() if name == "marginals" else binary(name)


def folder() -> Path:
    return Path(os.environ.get("PROBGEN_DATA", "../shared/data")) / "binary"


def fitted(train: Table, model: str, **options: Any) -> tuple[pg.Fit, float]:
    """A fit and its CPU seconds."""
    began = time.process_time()
    fit = pg.fit(model, train, seed=0, progress=False, **options)
    return fit, time.process_time() - began


def binary(name: str) -> Iterator[Line]:
    """Mean log densities of the held-out rows of one set, nats a row."""
    train, valid, test = read(folder() / f"{name}.npz")
    for what in os.environ.get("MODELS", ";".join(CHOSEN[name])).split(";"):
        fit, seconds = fitted(train, **MODELS[what])
        began = time.process_time()
        rows = fit.log_prob(test).value
        scoring = time.process_time() - began
        spread = pg.order_spread(fit, test.take(np.arange(200))).std(0).mean() if fit.traits.any_order else None
        yield {
            "case": name, "model": what, "validation": float(fit.log_prob(valid).value.mean()), "test": float(rows.mean()),
            "standard_error": float(rows.std() / len(rows) ** 0.5), "spread_of_orders": spread if spread is None else float(spread),
            "steps": fit.diagnostics["steps"], "cpu_seconds": seconds, "scoring": scoring,
        }  # fmt: skip


def marginals() -> Iterator[Line]:
    """Conditionals of ten columns of nltcs given four, asked for directly and summed from the joint table of all 2^10 states."""
    train, _, test = read(folder() / "nltcs.npz")
    names = train.names[:COLUMNS]
    train, test = train.select(names), test.select(names)
    states = Table.from_codes(np.array(list(itertools.product((0.0, 1.0), repeat=COLUMNS))), train.schema)
    for model in ("made", "masked_transformer"):
        fit, seconds = fitted(train, model, average=0.999, max_steps=4000)
        joint = np.exp(fit.log_prob(states).value)
        rng, gaps = np.random.default_rng(0), []
        for row in test.take(np.arange(200)).values:
            places = rng.permutation(COLUMNS)
            given, asked = places[:KNOWN], int(places[KNOWN])
            fits = (states.values[:, given] == row[given]).all(1)
            summed = joint[fits & (states.values[:, asked] == 1)].sum() / joint[fits].sum()
            known = np.full(COLUMNS, np.nan)
            known[given] = row[given]
            asked_for = pg.class_probabilities(fit, Table.from_codes(known[None], train.schema), names[asked])[0, 1]
            gaps.append(abs(asked_for - summed))
        yield {
            "case": "marginals", "model": model, "sum_of_the_joint": float(joint.sum()), "mean_gap": float(np.mean(gaps)),
            "largest_gap": float(np.max(gaps)), "cpu_seconds": seconds,
        }  # fmt: skip
