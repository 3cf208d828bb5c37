"""Other people's imputation, called for many tables at once so that the start of their programs is not timed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probgen.data.table import Table
from probgen.studies.simulation_run import Completed

HERE = Path(__file__).parent
MICEFOREST = Path(os.environ.get("MICEFOREST_PYTHON", HERE.parent / ".venv-miceforest" / "bin" / "python"))
FACTORS = ("binary", "categorical", "ordinal")


@cache
def missing(package: str) -> str:
    """What is not installed, or nothing."""
    if package == "sklearn":
        return ""
    if package == "miceforest":
        return "" if MICEFOREST.exists() else f"miceforest: {MICEFOREST} is not there (make bench-imputation)"
    if shutil.which("Rscript") is None:
        return "R is not installed (make bench-imputation)"
    found = subprocess.run(
        ["Rscript", "-e", f'cat(requireNamespace("{package}", quietly = TRUE))'], capture_output=True, text=True
    )
    return "" if found.stdout.strip().endswith("TRUE") else f"R package {package} is not installed"


@dataclass(frozen=True)
class Mice:
    """R's mice (or Amelia, method "amelia"): tables and seeds in, m completed tables each out.

    Attributes:
        method: "default" (pmm, logreg, polyreg, polr), "norm", "pmm", "cart", "rf" or "amelia".
        m, iterations: completed tables, and sweeps of each.
    """

    method: str
    m: int
    iterations: int = 5

    def __call__(self, tables: Sequence[Table], seeds: Sequence[int]) -> list[Completed | Exception]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self.write(folder, tables, seeds)
            script = [
                "Rscript", str(HERE / "_mice.R"), str(folder), self.method, str(self.m), str(self.iterations),
            ]  # fmt: skip
            run = subprocess.run(script, capture_output=True, text=True)
            if run.returncode:
                raise RuntimeError(f"R ended with {run.returncode}: {run.stderr.strip()[-500:]}")
            return self.read(folder, tables)

    def write(self, folder: Path, tables: Sequence[Table], seeds: Sequence[int]) -> None:
        schema = tables[0].schema
        kinds = [column.kind if column.kind in FACTORS else "number" for column in schema]
        levels = [len(column.levels) if column.kind in FACTORS else 0 for column in schema]
        pd.DataFrame({"name": schema.names, "kind": kinds, "levels": levels}).to_csv(
            folder / "columns.csv", index=False
        )
        pd.DataFrame({"rows": [len(t) for t in tables], "seed": seeds}).to_csv(folder / "sizes.csv", index=False)
        with (folder / "tables.bin").open("wb") as file:
            for table in tables:
                file.write(np.ascontiguousarray(table.values.T).tobytes())

    def read(self, folder: Path, tables: Sequence[Table]) -> list[Completed | Exception]:
        told = (folder / "errors.txt").read_text().splitlines() if (folder / "errors.txt").exists() else []
        errors = {int(line.split(" ", 1)[0]) - 1: line.split(" ", 1)[1].strip() for line in told}
        numbers, place = np.fromfile(folder / "out.bin"), 0
        found: list[Completed | Exception] = []
        for at, table in enumerate(tables):
            good, seconds = numbers[place : place + 2]
            place += 2
            if not good:
                found.append(RuntimeError(f"mice: {errors.get(at, 'failed')}"))
                continue
            size = self.m * table.values.size
            filled = numbers[place : place + size].reshape(self.m, table.n_columns, len(table)).transpose(0, 2, 1)
            place += size
            found.append(Completed([with_cells(table, values) for values in filled], float(seconds)))
        return found


@dataclass(frozen=True)
class MiceForest:
    """miceforest, in its own environment; numbers only."""

    m: int
    iterations: int = 5

    def __call__(self, tables: Sequence[Table], seeds: Sequence[int]) -> list[Completed | Exception]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            named: dict[str, Any] = {f"table_{at}": table.values for at, table in enumerate(tables)}
            np.savez(folder / "tables.npz", **named)
            np.save(folder / "seeds.npy", np.asarray(seeds))
            script = [str(MICEFOREST), str(HERE / "_miceforest.py"), str(folder), str(self.m), str(self.iterations)]
            run = subprocess.run(script, capture_output=True, text=True)
            if run.returncode:
                raise RuntimeError(f"miceforest ended with {run.returncode}: {run.stderr.strip()[-500:]}")
            out = np.load(folder / "out.npz")
            return [
                Completed([with_cells(table, values) for values in out[f"filled_{at}"]], float(out[f"seconds_{at}"]))
                for at, table in enumerate(tables)
            ]


@dataclass(frozen=True)
class Sklearn:
    """scikit-learn's IterativeImputer with draws; standardised columns, numbers only."""

    m: int
    iterations: int = 10

    def __call__(self, tables: Sequence[Table], seeds: Sequence[int]) -> list[Completed | Exception]:
        return [self.one(table, seed) for table, seed in zip(tables, seeds, strict=True)]

    def one(self, table: Table, seed: int) -> Completed:
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401
        from sklearn.impute import IterativeImputer

        middle, scale = np.nanmean(table.values, 0), np.nanstd(table.values, 0)
        z, before = (table.values - middle) / scale, time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            filled = [
                IterativeImputer(sample_posterior=True, random_state=(seed + 7919 * at) % 2**31, max_iter=self.iterations)
                .fit_transform(z)
                for at in range(self.m)
            ]  # fmt: skip
        seconds = time.process_time() - before
        return Completed([with_cells(table, values * scale + middle) for values in filled], seconds)


def with_cells(table: Table, filled: np.ndarray) -> Table:
    """What was known keeps its bits."""
    return table.with_values(np.where(table.known, table.values, filled))
