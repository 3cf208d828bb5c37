"""Time and memory of 20 imputations, beside mice; each of our runs in a process of its own, for its peak memory."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

import probgen as pg
from benchmarks._imputation_peers import Mice, missing
from benchmarks._imputation_populations import Driven, as_reals, exchangeable, mixed_rows
from probgen.data.table import Table
from probgen.studies.simulation_run import Completed

M = 20
ROWS = tuple(map(int, os.environ.get("TIME_ROWS", "2000,10000,50000").split(",")))
MICE_M = int(os.environ.get("TIME_MICE_M", 1))
"""Imputations of mice that are timed where rows are many; its time is proportional to their number."""


def small() -> Table:
    """200 rows of five normals, a third of three columns unknown."""
    complete = as_reals(exchangeable(np.random.default_rng(1)))
    return Driven((("y", "x3"), ("x1", "x4"), ("x2", "x3")), 0.35)(complete, 1)


def lines(ours: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield compared("normal", small(), ours, "norm", M)
    seconds = []
    for rows in ROWS:
        line = compared("mixed", mixed_rows(rows), ours, "default", MICE_M)
        seconds.append(line["ours"])
        yield line
    if len(ROWS) > 1:
        slope = np.polyfit(np.log(ROWS), np.log(seconds), 1)[0]
        yield {
            "table": "mixed",
            "rows": list(ROWS),
            "slope": float(slope),
            "says": "seconds grow as rows to this power",
        }


def compared(title: str, table: Table, ours: Mapping[str, Any], method: str, theirs_m: int) -> dict[str, Any]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        seconds, before, peak = pool.submit(measured, table, dict(ours)).result()
    line = {
        "table": title, "rows": len(table), "columns": table.n_columns, "m": M, "ours": seconds,
        "megabytes": peak, "megabytes_before": before,
    }  # fmt: skip
    if missing("mice"):
        return {**line, "missing": missing("mice")}
    found = Mice(method, theirs_m)([table], [1])[0]
    if not isinstance(found, Completed):
        return {**line, "failed": str(found)}
    theirs = float(found.seconds or 0.0) * M / theirs_m
    return {
        **line, "theirs": theirs, "peer": f"mice {method}", "peer_timed_m": theirs_m, "ratio": seconds / theirs,
    }  # fmt: skip


def measured(table: Table, options: dict[str, Any]) -> tuple[float, float, float]:
    """CPU seconds of the second of two runs where one is short, and megabytes before and at most."""
    import torch

    torch.set_num_threads(1)
    run = lambda: pg.impute(table, **{"m": M, "seed": 1, "progress": False, **options})  # noqa: E731
    small_table = table.take(np.arange(min(len(table), 200)))
    pg.impute(small_table, **{"m": 2, "seed": 1, "progress": False, **options})  # what is compiled once
    before, began = megabytes(), time.process_time()
    run()
    return time.process_time() - began, before, megabytes()


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
