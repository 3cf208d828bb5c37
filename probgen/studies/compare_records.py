"""Results of a comparison in a folder, a file a fit, so that it can stop and go on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from probgen.data.records import write_parquet
from probgen.errors import DataError
from probgen.studies.compare_task import FINAL, Result

__all__ = ["Records"]

MARK, FITS, RESULTS, ROWS = "comparison.json", "fits", "results.parquet", "rows.parquet"


class Records:
    """Results by title and stage, in memory and, where there is a folder, on disk.

    Args:
        folder: new, or of the same comparison; None keeps nothing.
        about: what results depend on. Entries may be added, all else must be as it was.
        minutes: of the budget; what was stopped or cut short within a smaller one is forgotten.

    Raises:
        DataError: the folder holds something else, or another comparison.
    """

    def __init__(self, folder: str | Path | None, about: dict[str, Any], minutes: float | None) -> None:
        self.results: dict[tuple[str, str], Result] = {}
        self.folder = None if folder is None else Path(folder)
        self.spent = 0.0
        self.minutes = minutes
        if self.folder is None:
            return
        check_folder(self.folder)
        mark = self.folder / MARK
        if mark.exists():
            about = agreed(json.loads(mark.read_text(encoding="utf-8")), about, self.folder)
            self.read(self.folder / FITS)
        (self.folder / FITS).mkdir(parents=True, exist_ok=True)
        written(mark, json.dumps(about, indent=1).encode())

    def read(self, folder: Path) -> None:
        """All that was finished; files that were being written are no results."""
        for path in sorted(folder.glob("*.npz")):
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            record = json.loads(str(arrays.pop("record")))
            self.spent = max(self.spent, record["clock"])
            if (record["status"] == "stopped" or record.get("cut")) and longer(self.minutes, record["minutes"]):
                continue
            self.results[record["model"], record["stage"]] = Result(record, arrays)

    def add(self, result: Result, clock: float) -> None:
        """A result and the seconds that the comparison had taken then."""
        made = Result({**result.record, "clock": clock, "minutes": self.minutes}, result.arrays)
        self.results[made.key] = made
        self.spent = max(self.spent, clock)
        if self.folder is not None:
            path = self.folder / FITS / f"{file_name(*made.key)}.npz"
            beside = path.with_name(path.name + ".part")
            with beside.open("wb") as file:
                np.savez(file, **{**made.arrays, "record": np.array(json.dumps(made.record))})  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)

    def publish(self, results: list[dict[str, Any]]) -> None:
        """``results.parquet``, one row a fit, and ``rows.parquet``, the test rows' log densities under every finalist."""
        if self.folder is None:
            return
        write_parquet(results, self.folder / RESULTS)
        rows: list[dict[str, Any]] = []
        for (title, stage), result in self.results.items():
            if stage == FINAL and result.done:
                errors = result.arrays.get("standard_error", np.zeros_like(result.arrays["log_prob"]))
                pairs = zip(result.arrays["log_prob"].tolist(), errors.tolist(), strict=True)
                kind = result.record["kind"]
                rows += [
                    {"model": title, "row": at, "log_prob": value, "standard_error": error, "kind": kind}
                    for at, (value, error) in enumerate(pairs)
                ]
        write_parquet(rows, self.folder / ROWS)


def longer(now: float | None, before: float | None) -> bool:
    """Whether there is more time than there was."""
    return before is not None and (now is None or now > before)


def file_name(title: str, stage: str) -> str:
    """Letters that every file system takes, and what tells two titles apart."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", f"{stage}_{title}")[:80]
    return f"{plain}-{hashlib.sha256(f'{stage}:{title}'.encode()).hexdigest()[:8]}"


def written(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(content)
    beside.replace(path)


def check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"folder must be a folder, {folder} is a file.")
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise DataError(f"{folder} holds files that are no comparison; give a new folder.")


def agreed(before: Mapping[str, Any], now: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The description with the entries of both; what differs is refused."""
    for key in now:
        if key != "entries" and before.get(key) != now[key]:
            raise DataError(
                f"{folder} holds a comparison with {key} = {before.get(key)}, this one has {now[key]}. Give another folder, or"
                " remove that one."
            )
    for title, what in now["entries"].items():
        if before["entries"].get(title, what) != what:
            raise DataError(
                f"{folder} holds results of {title!r} with other options: {before['entries'][title]}; this one has {what}. Give"
                " it another title: {'a title': {'model': ..., ...}}."
            )
    return {**now, "entries": {**before["entries"], **now["entries"]}}
