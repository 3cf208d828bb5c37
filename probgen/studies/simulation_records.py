"""Outcomes of simulations in a folder, one line of JSON each, so that a study can stop and go on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TextIO

from probgen.errors import DataError
from probgen.studies.simulation_run import CASES, COMPLETE, Batched, Experiment, Outcome
from probgen.studies.telling import told

__all__ = ["Records"]

MARK, LINES = "study.json", "outcomes.jsonl"
NUMBERS = ("estimate", "standard_error", "df", "lower", "upper", "fmi")


class Records:
    """Outcomes that were found, in memory and, where there is a path, on disk.

    Args:
        path: a folder, new or of the same study; None keeps nothing.
        experiment: of the study. Methods may be added, all else must be as it was.

    Raises:
        DataError: the folder holds something else, or another study.
    """

    def __init__(self, path: str | Path | None, experiment: Experiment) -> None:
        self.outcomes: dict[tuple[int, str], Outcome] = {}
        self.file: TextIO | None = None
        if path is None:
            return
        folder, told = Path(path), description(experiment)
        check_folder(folder)
        if (folder / MARK).exists():
            told = agreed(json.loads((folder / MARK).read_text(encoding="utf-8")), told, folder)
            self.outcomes = read(folder / LINES)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).write_text(json.dumps(told, indent=1), encoding="utf-8")
        self.file = (folder / LINES).open("a", encoding="utf-8")

    def add(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            self.outcomes[outcome.simulation, outcome.method] = outcome
            if self.file is not None:
                self.file.write(json.dumps(plain(asdict(outcome))) + "\n")
        if self.file is not None:
            self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def missing(self, simulations: int, methods: Sequence[str]) -> dict[int, list[str]]:
        """Simulation -> methods whose outcome is not there yet."""
        wanted = {n: [name for name in methods if (n, name) not in self.outcomes] for n in range(simulations)}
        return {number: names for number, names in wanted.items() if names}


def check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"path must be a folder, {folder} is a file.")
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise DataError(f"{folder} holds files that are no imputation study; give a new folder.")


def agreed(before: dict[str, Any], now: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The description with the methods of both; what differs is refused."""
    for key in now:
        if key != "methods" and before.get(key) != now[key]:
            raise DataError(
                f"{folder} holds a study with {key} = {before.get(key)}, this one has {now[key]}. Give another folder, or"
                " remove that one."
            )
    for name, what in now["methods"].items():
        if before["methods"].get(name, what) != what:
            raise DataError(
                f"{folder} holds outcomes of another method {name!r}: {before['methods'][name]}; rename it."
            )
    return {**now, "methods": {**before["methods"], **now["methods"]}}


def read(path: Path) -> dict[tuple[int, str], Outcome]:
    """All whole lines; a last one that was cut off is taken away, and failures are tried again."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if len(whole) < len(text):
        path.write_text(whole, encoding="utf-8")
    found = [outcome_of(json.loads(line)) for line in whole.splitlines()]
    return {(outcome.simulation, outcome.method): outcome for outcome in found if not outcome.failure}


def outcome_of(record: Mapping[str, Any]) -> Outcome:
    known = {item.name: record[item.name] for item in fields(Outcome) if item.name in record}
    for key in NUMBERS:
        known[key] = tuple(float(value) for value in known[key])
    return Outcome(**{**known, "warned": tuple(known["warned"])})


def plain(record: dict[str, Any]) -> dict[str, Any]:
    """Numbers that JSON has no word for (an unknown FMI, infinite degrees of freedom) as text that ``float`` reads."""
    finite = lambda value: value if abs(value) < float("inf") else str(value)  # noqa: E731
    return {**record, **{key: [finite(value) for value in record[key]] for key in NUMBERS}}


# ---------------------------------------------------------------------------------------------------- what a study is
def description(experiment: Experiment) -> dict[str, Any]:
    """What outcomes depend on."""
    return {
        "seed": experiment.seed, "m": experiment.m, "confidence": experiment.confidence, "rows": experiment.rows,
        "replace": experiment.replace, "terms": list(experiment.terms), "sample": told(experiment.sample),
        "ampute": told(experiment.ampute), "analysis": told(experiment.analysis), "family": experiment.family,
        "methods": {COMPLETE: "", CASES: "", **{name: told(filling(how)) for name, how in experiment.methods.items()}},
    }  # fmt: skip


def filling(how: Any) -> Any:
    """A method without the number of tables that it is given at once, on which outcomes do not depend."""
    return how.function if isinstance(how, Batched) else how
