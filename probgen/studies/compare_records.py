"""Results of a comparison in a folder, a file a fit, so that it can stop and go on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from probgen.data.records import write_parquet
from probgen.errors import DataError, DataWarning
from probgen.queries.persistence import plain
from probgen.studies.compare_task import FINAL, Result

__all__ = ["Records", "alone"]

MARK, FITS, RESULTS, ROWS = "comparison.json", "fits", "results.parquet", "rows.parquet"


class Records:
    """Results by title and stage, in memory and, where there is a folder, on disk.

    Args:
        folder: new, or of the same comparison; None keeps nothing.
        about: what results depend on. Entries may be added, all else must be as it was.
        minutes: of the budget; what was stopped or cut short within a smaller one is tried again, and stays where that comes to less.

    Raises:
        DataError: the folder holds something else, or another comparison.
    """

    def __init__(self, folder: str | Path | None, about: dict[str, Any], minutes: float | None) -> None:
        self.results: dict[tuple[str, str], Result] = {}
        self.earlier: dict[tuple[str, str], Result] = {}  # to be tried again
        self.folder = None if folder is None else Path(folder)
        self.spent = 0.0
        self.minutes = minutes
        if self.folder is None:
            return
        check_folder(self.folder)
        mark = self.folder / MARK
        if mark.exists():
            about = agreed(marked(mark), about, self.folder)
            self.read(self.folder / FITS)
        (self.folder / FITS).mkdir(parents=True, exist_ok=True)
        written(mark, json.dumps(about, indent=1, default=plain).encode())

    def read(self, folder: Path) -> None:
        """All that was finished; files that were being written, or cannot be read, are no results."""
        for path in sorted(folder.glob("*.npz")):
            try:
                with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
                    arrays = {name: file[name] for name in file.files}
                record = json.loads(str(arrays.pop("record")))
            except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
                warnings.warn(f"{path} is damaged ({error}); what it held is fitted again.", DataWarning, stacklevel=2)
                continue
            self.spent = max(self.spent, record["clock"])
            again = (record["status"] == "stopped" or record.get("cut")) and longer(self.minutes, record["minutes"])
            (self.earlier if again else self.results)[record["model"], record["stage"]] = Result(record, arrays)

    def add(self, result: Result, clock: float) -> None:
        """A result, or what an earlier sitting had where that is more, and the seconds that the comparison had taken then."""
        best = further(result, self.earlier.get(result.key))
        made = Result({**best.record, "clock": clock, "minutes": self.minutes}, best.arrays)
        self.results[made.key] = made
        self.spent = max(self.spent, clock)
        if self.folder is not None:
            path = self.folder / FITS / f"{file_name(*made.key)}.npz"
            beside = path.with_name(path.name + ".part")
            with beside.open("wb") as file:
                np.savez(file, **{**made.arrays, "record": np.array(json.dumps(made.record, default=plain))})  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)

    def skip(self, key: tuple[str, str]) -> None:
        """There was no time for this one; what an earlier sitting had stands, and is tried again by the next."""
        if key in self.earlier:
            self.results[key] = self.earlier[key]

    def publish(self, results: list[dict[str, Any]]) -> None:
        """``results.parquet``, one row a fit, and ``rows.parquet``, the test rows' log densities under every finalist.

        Args:
            results: to begin with; those of models that are not compared this time follow.
        """
        if self.folder is None:
            return
        told = {(record["model"], record["stage"]) for record in results}
        write_parquet(
            [*results, *(found.record for key, found in self.results.items() if key not in told)],
            self.folder / RESULTS,
        )
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


def further(now: Result, before: Result | None) -> Result:
    """Of two tries the one that came further: with a score, and of those that were cut short the one with more steps."""
    if before is None or not before.done:
        return now
    if not now.done:
        return before
    less = now.record["cut"] and (now.record["steps"] or 0) < (before.record["steps"] or 0)
    return before if less else now


def file_name(title: str, stage: str) -> str:
    """Letters that every file system takes, and what tells two titles apart."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", f"{stage}_{title}")[:80]
    return f"{plain}-{hashlib.sha256(f'{stage}:{title}'.encode()).hexdigest()[:8]}"


def written(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def marked(path: Path) -> dict[str, Any]:
    """What the folder's comparison is of."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); remove its folder, or give another one.") from error


@contextmanager
def alone(folder: str | Path | None) -> Iterator[None]:
    """Nobody else compares into the folder meanwhile: a lock of the system, which ends with the process; where there is none, nothing.

    Raises:
        DataError: the folder holds something else, or another process is at it.
    """
    if folder is None or fcntl is None:
        yield
        return
    place = Path(folder)
    check_folder(place)
    place.mkdir(parents=True, exist_ok=True)
    handle = os.open(place, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"Another comparison is at work in {place}; wait for it, or give another folder."
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


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
