"""What a fit tells while it runs, written where other programs read it: callbacks for ``pg.fit(..., callback=...)``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from probgen.errors import CapabilityError, DataError

__all__ = ["CsvLog", "TensorBoardLog"]


class CsvLog:
    """A line a step: the step and its numbers (the objective, that of rows held out, ...).

    A file that is there is gone on with where a fit is resumed, from the step at which the fit stands: lines of steps that are taken again
    are replaced.

    Args:
        path: of the file.
        every: steps between lines; steps at which rows held out were looked at are always written.

    Raises:
        DataError: the file is something else than such a log.

    Example:
        >>> import tempfile, probgen as pg
        >>> path = Path(tempfile.mkdtemp()) / "fit.csv"
        >>> penguins = pg.load_dataset("penguins")
        >>> _ = pg.fit("naive_bayes", penguins, callback=pg.CsvLog(path), progress=False)
        >>> path.read_text().splitlines()[0]
        'step,objective,log_likelihood'
    """

    def __init__(self, path: str | Path, every: int = 1) -> None:
        self.path, self.every = Path(path), every
        self.rows: list[dict[str, Any]] = []
        self.names = ["step"]
        self.begun = False

    def __call__(self, step: int, values: dict[str, float], method: Any) -> None:
        """Note one step."""
        if not self.begun:
            self.begin(step)
        if step % self.every and "validation" not in values:
            return
        self.rows.append({"step": step, **values})
        new = [name for name in values if name not in self.names]
        if new or len(self.rows) == 1:
            self.names += new
            self.write()
            return
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.names).writerow(self.rows[-1])

    def begin(self, step: int) -> None:
        """Take up what an earlier run of the same fit left."""
        self.begun = True
        if not self.path.exists():
            return
        with self.path.open(newline="") as file:
            found = csv.DictReader(file)
            names = list(found.fieldnames or [])
            if names[:1] != ["step"]:
                raise DataError(f"{self.path} is no log of a fit; give another path.")
            rows = [row for row in found if int(row["step"]) < step]
        self.names, self.rows = names, list(rows)
        self.write()

    def write(self) -> None:
        """All lines again, where there is a new column."""
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.names)
            writer.writeheader()
            writer.writerows(self.rows)


class TensorBoardLog:
    """The same for TensorBoard: ``tensorboard --logdir folder``.

    Args:
        folder: where event files go.
        every: steps between points.

    Raises:
        CapabilityError: the package ``tensorboard`` is not installed.
    """

    def __init__(self, folder: str | Path, every: int = 1) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise CapabilityError("TensorBoardLog needs the package tensorboard: pip install tensorboard.") from error
        self.writer, self.every = SummaryWriter(str(folder)), every

    def __call__(self, step: int, values: dict[str, float], method: Any) -> None:
        """Note one step."""
        if step % self.every and "validation" not in values:
            return
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()
