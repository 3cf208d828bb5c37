"""Fills tables by miceforest in an environment of its own: it needs lightgbm 4.5.0. Arguments: folder, m, iterations.

In: ``tables.npz`` (table_0, ... with NaN), ``seeds.npy``; out: ``out.npz`` (filled_0 ``(m, rows, columns)``, ...) and seconds.
"""

import sys
import time
from pathlib import Path
from typing import Any

import miceforest
import numpy as np
import pandas as pd


def main() -> None:
    folder, m, iterations = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    tables, seeds = np.load(folder / "tables.npz"), np.load(folder / "seeds.npy")
    found: dict[str, Any] = {}
    for at, seed in enumerate(seeds):
        frame = pd.DataFrame(tables[f"table_{at}"], columns=[f"v{j}" for j in range(tables[f"table_{at}"].shape[1])])
        before = time.process_time()
        kernel = miceforest.ImputationKernel(frame, num_datasets=m, random_state=int(seed))
        kernel.mice(iterations, verbose=False, num_threads=1)
        filled = np.stack([kernel.complete_data(number).to_numpy(float) for number in range(m)])
        found |= {f"filled_{at}": filled, f"seconds_{at}": np.array(time.process_time() - before)}
    np.savez(folder / "out.npz", **found)


if __name__ == "__main__":
    main()
