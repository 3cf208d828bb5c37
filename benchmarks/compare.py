"""``pg.compare`` over all models with a density of white wines and of a census, killed on the way and taken up again.

One line a model, finalists first, and one for the whole. The first sitting is ended by SIGKILL after ``KILL`` seconds (300), the second goes on in the same
folder; both together have ``MINUTES`` (20) on ``WORKERS`` (2) processes. ``CASES=wine,adult`` chooses, ``OUT`` names the folder (a new temporary one).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import probgen as pg

MINUTES, WORKERS = float(os.environ.get("MINUTES", "20")), int(os.environ.get("WORKERS", "2"))
AGAIN = "from benchmarks.compare import compared; import sys; compared(sys.argv[1], sys.argv[2])"


def compared(name: str, folder: str) -> Any:
    """The comparison, or what is left of it to do."""
    how: dict[str, Any] = {"minutes": MINUTES, "workers": WORKERS, "folder": folder}
    if name == "wine":
        return pg.compare(pg.load_dataset("winequality_white"), "all", **how)
    people = pg.load_dataset("adult_train")
    schema = people.schema.with_kind(
        "capital_loss", "semicontinuous"
    )  # 95 % zeros, which have a probability and no density
    return pg.compare(pg.Table(people, schema=schema), "all", target="income", **how)


def case(name: str) -> Iterator[dict[str, Any]]:
    """Two sittings."""
    folder = Path(os.environ.get("OUT") or tempfile.mkdtemp()) / name
    began = time.perf_counter()
    first = subprocess.Popen([sys.executable, "-c", AGAIN, name, str(folder)])
    try:
        first.wait(float(os.environ.get("KILL", "300")))
    except subprocess.TimeoutExpired:
        first.send_signal(signal.SIGKILL)
        first.wait()
    before, killed = len(list((folder / "fits").glob("*.npz"))), time.perf_counter() - began
    board = compared(name, str(folder))
    print(board, file=sys.stderr)
    (folder / "table.txt").write_text(f"{board}\n", encoding="utf-8")
    keys = (
        "model",
        "status",
        "place",
        "kind",
        "mean",
        "se",
        "difference",
        "difference_se",
        "weight",
        "log_marginal",
        "seconds",
        "why",
    )
    for record in board.records():
        yield {"case": name, **{key: record[key] for key in keys if key in record}}
    yield {
        "case": name, "models": len(board.records()), "finalists": len(board.scores), "fits": len(board.results),
        "fits_before_kill": before, "killed_after_seconds": killed, "seconds": time.perf_counter() - began,
    }  # fmt: skip


def cases() -> Iterator[dict[str, Any]]:
    """The sets that are asked for."""
    for name in os.environ.get("CASES", "wine,adult").split(","):
        yield from case(name)
