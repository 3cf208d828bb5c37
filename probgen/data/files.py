"""Files that appear when they are complete, or not at all."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import BinaryIO

from probgen.errors import DataError

__all__ = ["check_goal", "write_whole"]


def check_goal(path: Path, overwrite: bool) -> None:
    """Refuse to write where something is that may not be replaced, or where there is no folder.

    Raises:
        DataError: names the path.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the path of a file.")
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists; give another path, or overwrite=True to replace it.")
    if not path.parent.is_dir():
        raise DataError(f"There is no folder {path.parent}; make it first.")


def write_whole(path: Path, content: bytes, overwrite: bool) -> None:
    """Write next to the goal, under a name that nothing has, and move; what cannot be finished is taken away."""
    check_goal(path, overwrite)
    beside, file = opened_beside(path)
    try:
        with file:
            file.write(content)
        check_goal(path, overwrite)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def opened_beside(path: Path) -> tuple[Path, BinaryIO]:
    """A new file in the same folder."""
    for number in count():
        beside = path.with_name(f"{path.name}.part{number or ''}")
        try:
            return beside, beside.open("xb")
        except FileExistsError:
            continue
    raise AssertionError
