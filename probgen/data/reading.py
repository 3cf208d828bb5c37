"""Tables from files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probgen.data.infer import UNKNOWN_TEXT
from probgen.data.schema import Schema
from probgen.data.streams import ParquetFolder
from probgen.data.table import Table
from probgen.errors import DataError

__all__ = ["read_table", "read_text"]

TEXT = {".csv": ",", ".tsv": "\t", ".txt": None}


def read_table(
    path: str | Path,
    schema: Schema | None = None,
    *,
    weights: str | None = None,
    target: str | None = None,
    columns: Sequence[str] | None = None,
    sequence: str | None = None,
    time: str | None = None,
) -> Table | ParquetFolder:
    """A table from a csv, tsv, parquet or feather file, or a folder of parquet files as a stream.

    Args:
        path: of the file; ``.csv.gz`` and the like are unpacked.
        schema: the columns' kinds; inferred where it is None.
        weights: name of a column that holds row weights.
        target: name of the column that is to be predicted.
        columns: names of the columns to keep; all where it is None.
        sequence: name of the column that says which sequence a row (a time step) belongs to.
        time: name of the column with the time step inside the sequence, in whole numbers.

    Raises:
        DataError: the file is missing, empty or unreadable, or a column does not exist.
    """
    place = Path(path)
    if not place.exists():
        raise DataError(f"There is no file {place}; check the path.")
    if place.is_dir():
        if sequence is not None or time is not None:
            raise DataError(f"{place} is a folder, which is read as rows that stand alone; give a file of sequences.")
        return ParquetFolder(place, schema)
    frame = read_frame(place)
    taken = None
    if weights is not None:
        require(frame, [weights], place)
        taken = frame.pop(weights).to_numpy(dtype=float)
    if columns is not None:
        require(frame, columns, place)
        order = [name for name in (sequence, time) if name is not None and name not in columns]
        require(frame, order, place)
        frame = frame[[*order, *columns]]
    if target is not None:
        require(frame, [target], place)
    return Table(frame, schema=schema, weights=taken, target=target, sequence=sequence, time=time)


def read_text(
    path: str | Path,
    column: str | None = None,
    *,
    tokens: str | int = "characters",
    rare: int = 0,
    end: bool | None = None,
    schema: Schema | None = None,
) -> Table:
    """Texts as sequences of tokens: a file of text is one, and a table's column holds one a row.

    Args:
        path: of the file; a csv, tsv, parquet or feather file is a table where a column is named, anything else is text in UTF-8.
        column: of the texts.
        tokens, rare, end, schema: as for :meth:`Table.from_text`.

    Raises:
        DataError: the file is missing or no text, or a cell of the column is none.
    """
    place = Path(path)
    if not place.is_file():
        raise DataError(f"There is no file {place}; check the path.")
    how: dict[str, Any] = {"tokens": tokens, "rare": rare, "end": end, "schema": schema}
    if column is None:
        try:
            return Table.from_text(place.read_text(encoding="utf-8"), **how)
        except UnicodeDecodeError as error:
            raise DataError(f"{place} is no text in UTF-8 ({error}); convert it.") from error
    frame = read_frame(place)
    require(frame, [column], place)
    return Table.from_text(frame[column].tolist(), name=column, **how)


def read_frame(place: Path) -> pd.DataFrame:
    """Cells as pandas reads them, with the usual marks of unknown cells understood."""
    kinds = [suffix for suffix in place.suffixes if suffix in (*TEXT, ".parquet", ".feather", ".arrow")]
    if not kinds:
        raise DataError(
            f"{place}: expected .csv, .tsv, .parquet or .feather, got {place.suffix or 'no ending'!r}; convert it."
        )
    try:
        if kinds[-1] in TEXT:
            engine = separated_by(TEXT[kinds[-1]])
            header = pd.read_csv(place, nrows=1, header=None, dtype=str, **engine).iloc[0].tolist()
            repeated = sorted({str(name) for name in header if header.count(name) > 1})
            if repeated:
                raise DataError(f"{place}: column names repeat: {', '.join(repeated)}; rename them.")
            return pd.read_csv(place, na_values=list(UNKNOWN_TEXT), skipinitialspace=True, **engine)
        return pd.read_parquet(place) if kinds[-1] == ".parquet" else pd.read_feather(place)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{place} cannot be read as {kinds[-1][1:]}: {error}") from error


def separated_by(separator: str | None) -> dict[str, Any]:
    """How pandas is told; None where it has to find out."""
    return {"sep": separator} if separator else {"sep": None, "engine": "python"}


def as_written(
    frame: pd.DataFrame, known: np.ndarray, path: str | Path, levels: Collection[str] = (), taken: Collection[str] = ()
) -> pd.DataFrame:
    """A completed data frame whose known cells have the text of the file they were read from, letter by letter.

    Args:
        frame: with the columns that were read, and others behind them.
        known: ``(N, D)`` mask of the columns that were read, in the frame's order.
        path: of the file; anything but text is left as pandas has it.
        levels: columns with levels, whose drawn cells are written as known ones of the same level are.
        taken: columns of the file that are not in the frame, which come back to where they stood.
    """
    place = Path(path)
    kinds = [suffix for suffix in place.suffixes if suffix in TEXT]
    if not kinds:
        return frame
    text = pd.read_csv(place, dtype=str, keep_default_na=False, skipinitialspace=True, **separated_by(TEXT[kinds[-1]]))
    if len(text) != len(frame):
        return frame
    seen = dict(zip(frame.columns, known.T))
    made = {}
    for name in text.columns:
        if name in seen:
            own, told = frame[name].reset_index(drop=True).astype(object), pd.Series(seen[name])
            if name in levels:
                own = own.replace(dict(zip(own[told], text[name][told])))
            made[name] = own.where(~told, text[name])
        elif name in taken:
            made[name] = text[name]
    behind = {name: frame[name].reset_index(drop=True) for name in frame.columns if name not in made}
    return pd.DataFrame({**made, **behind})


def require(frame: pd.DataFrame, names: Sequence[str], place: Path) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(
            f"{place} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(str, frame.columns))}."
        )
