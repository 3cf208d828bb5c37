"""How the time of an EM iteration grows with rows (streamed from parquet files), time steps and components.

``python -m benchmarks.growth docs/figures/growth.png`` measures and draws; ``python -m benchmarks growth`` prints.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import probgen as pg
from benchmarks.classical import data, iteration, prepared
from benchmarks.streaming import write
from probgen.data import Table

ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
STEPS = (1_000, 10_000, 100_000, 1_000_000)
COMPONENTS = (4, 16, 64, 256)


def cases():
    """One size at a time."""
    torch.set_num_threads(1)
    for rows in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), rows)
            em = prepared("gaussian_mixture", pg.ParquetFolder(folder), components=4, covariance="diagonal")
            yield {"size": "rows, streamed", "n": rows, "seconds": iteration(em, 1 if rows > 1e6 else 3)}
    for steps in STEPS:
        table = Table.from_sequences([data(steps, 4, 4)], kind="real")
        em = prepared("hidden_markov", table, states=4, covariance="diagonal")
        yield {"size": "time steps of one sequence", "n": steps, "seconds": iteration(em, 3)}
    for components in COMPONENTS:
        em = prepared("gaussian_mixture", Table(data(50_000, 8, 16)), components=components, covariance="diagonal")
        yield {"size": "components, 50 000 rows", "n": components, "seconds": iteration(em, 3)}


def figure(found, path):
    """Log-log, with a line of slope one through the last point of each."""
    import matplotlib.pyplot as plt

    sizes = list(dict.fromkeys(case["size"] for case in found))
    drawn, axes = plt.subplots(1, len(sizes), figsize=(9, 3), layout="constrained")
    for ax, size in zip(axes, sizes, strict=True):
        n, t = np.array([(c["n"], c["seconds"]) for c in found if c["size"] == size]).T
        ax.loglog(n, t[-1] * n / n[-1], color="0.75", lw=1, label="proportional")
        ax.loglog(n, t, "o-", color="#0b6e8a", ms=4, label="measured")
        ax.set_xlabel(size)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("seconds an iteration")
    axes[0].legend(frameon=False)
    drawn.savefig(path, dpi=160)


if __name__ == "__main__":
    measured = list(cases())
    for case in measured:
        print(case, flush=True)
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    figure(measured, sys.argv[1])
