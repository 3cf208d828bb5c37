"""EM of a Gaussian mixture over a folder of parquet files: peak memory, seconds an iteration, equality with memory.

20 million rows of 8 columns (set BENCH_ROWS for fewer); 1 million of them are also fitted in memory.
"""

import os
import resource
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import probgen as pg

ROWS = int(os.environ.get("BENCH_ROWS", 20_000_000))
FILE_ROWS = 500_000
OPTIONS: dict[str, Any] = {"components": 4, "max_steps": 3, "restarts": 1, "progress": False, "tolerance": 0.0}


def cases():
    """The whole folder as a stream, then a part of it both ways."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three iterations do not converge
        write(Path(folder), ROWS)
        stamps = [time.perf_counter()]
        source = pg.ParquetFolder(folder)
        pg.fit("gaussian_mixture", source, callback=lambda *_: stamps.append(time.perf_counter()), **OPTIONS)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        each = float(np.median(np.diff(stamps[1:])))
        yield {"rows": len(source), "columns": 8, "peak_gigabytes": memory, "seconds_an_iteration": each}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(Path(folder), min(ROWS, 1_000_000))
        stream = pg.ParquetFolder(folder)
        table = pg.Table.from_codes(np.concatenate([p.values for p in stream.pieces(100_000)]), stream.schema)
        one, other = (pg.fit("gaussian_mixture", source, **OPTIONS) for source in (stream, table))
        gap = np.abs(np.subtract(one.history["objective"], other.history["objective"])).max()
        yield {"rows": len(stream), "largest_difference_of_the_objective": float(gap)}


def write(folder, rows):
    """Four clusters, files of half a million rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    centres = 3 * rng.standard_normal((4, 8))
    for number in range(0, rows, FILE_ROWS):
        size = min(FILE_ROWS, rows - number)
        x = centres[rng.integers(4, size=size)] + rng.standard_normal((size, 8))
        pq.write_table(pa.table({f"c{j}": x[:, j] for j in range(8)}), folder / f"{number:09d}.parquet")
