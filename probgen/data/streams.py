"""Tables larger than memory: a folder of parquet files, read piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probgen.data.coding import encode_column
from probgen.data.schema import Column, Schema
from probgen.data.sequences import cuts
from probgen.data.table import Table
from probgen.errors import DataError

__all__ = ["ParquetFolder"]

SAMPLE_ROWS = 20_000
READ_ROWS = 65_536


class ParquetFolder:
    """A folder of parquet files as a source of rows; never in memory as a whole.

    Args:
        path: of the folder.
        schema: the columns' kinds; inferred from a sample of rows spread over the files where it is None.

    Every piece is checked against the schema as it is read.
    """

    weights = None
    row_weights = None
    first = 0  # number of the first row, of the share of one of several processes

    def __init__(self, path: str | Path, schema: Schema | None = None) -> None:
        import pyarrow as pa
        import pyarrow.dataset as ds

        self.path = Path(path)
        files = sorted(str(file) for file in self.path.rglob("*.parquet"))
        if not files:
            raise DataError(f"{self.path} holds no parquet files; give a folder of *.parquet.")
        self._files = files
        try:
            self._dataset = ds.dataset(files, format="parquet")
            self._rows = self._dataset_rows = int(self._dataset.count_rows())
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"A parquet file under {self.path} cannot be read: {error}") from error
        if self._rows == 0:
            raise DataError(f"{self.path} holds no rows.")
        self.schema = schema or self.infer()

    def __len__(self) -> int:
        return self._rows

    def __repr__(self) -> str:
        return f"ParquetFolder({len(self)} rows, {len(self.schema)} columns, {len(self._files)} files)"

    def infer(self) -> Schema:
        """Kinds from the first rows of files spread over the folder."""
        chosen = self._files[:: max(1, len(self._files) // 8)][:8]
        parts = [head(file, SAMPLE_ROWS // len(chosen)) for file in chosen]
        return Table(pd.concat(parts, ignore_index=True)).schema

    def share(self, number: int, of: int) -> ParquetFolder:
        """The rows of one of several processes, which reads no more than the row groups that they stand in."""
        edges = cuts(len(self), of)[number : number + 2]
        return self.between(self.first + edges[0], self.first + edges[1])

    def between(self, first: int, last: int) -> ParquetFolder:
        """The rows from number ``first`` to before ``last`` of the whole folder."""
        made = copy(self)
        made.first, made._rows = first, last - first
        return made

    def arrow_batches(self, rows: int) -> Iterator[Any]:
        """What is read of the folder, in its order: the row groups in which its rows stand, cut to these rows."""
        names, at, last = list(self.schema.names), 0, self.first + len(self)
        for fragment in self._dataset.get_fragments():
            for group in fragment.split_by_row_group():
                count = sum(part.num_rows for part in group.row_groups)
                start, end = max(self.first - at, 0), min(last - at, count)
                if start < end:
                    found = group.to_batches(columns=names, schema=self._dataset.schema, batch_size=rows)
                    yield from between_rows(found, start, end)
                at += count

    def whole_batches(self, rows: int) -> Iterator[Any]:
        """All that there is, with the next file read ahead."""
        return self._dataset.to_batches(
            columns=list(self.schema.names), batch_size=rows, batch_readahead=2, fragment_readahead=1
        )

    def pieces(self, rows: int) -> Iterator[Table]:
        """Tables of ``rows`` rows (the last one shorter), in the files' order."""
        waiting: list[np.ndarray] = []
        held = 0
        whole = len(self) == self._dataset_rows
        for batch in (self.whole_batches if whole else self.arrow_batches)(min(rows, READ_ROWS)):
            values = encode_batch(batch, self.schema)
            while len(values):
                part, values = values[: rows - held], values[rows - held :]
                waiting.append(part)
                held += len(part)
                if held == rows:
                    yield Table.from_codes(np.concatenate(waiting), self.schema)
                    waiting, held = [], 0
        if held:
            yield Table.from_codes(np.concatenate(waiting), self.schema)


def head(file: str, rows: int) -> pd.DataFrame:
    """The first rows of one file."""
    import pyarrow.parquet as pq

    return next(pq.ParquetFile(file).iter_batches(batch_size=rows)).to_pandas()


def between_rows(batches: Iterable[Any], start: int, end: int) -> Iterator[Any]:
    """The rows from ``start`` to before ``end`` of Arrow batches that follow each other."""
    at = 0
    for batch in batches:
        first, last = max(start - at, 0), min(end - at, len(batch))
        if first < last:
            yield batch.slice(first, last - first)
        at += len(batch)


def encode_batch(batch: Any, schema: Schema) -> np.ndarray:
    """One Arrow batch as checked codes; real numbers without a detour."""
    columns = [encode_arrow(batch.column(place), column) for place, column in enumerate(schema)]
    return np.column_stack(columns)


def encode_arrow(array: Any, column: Column) -> np.ndarray:
    import pyarrow as pa

    numeric = pa.types.is_floating(array.type) or pa.types.is_integer(array.type)
    if column.kind == "real" and numeric:
        values = array.to_numpy(zero_copy_only=False).astype(np.float64)
        if not np.isinf(values).any():
            return values
    return encode_column(array.to_pandas().rename(column.name), column)
