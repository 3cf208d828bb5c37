"""A table as whole numbers and back, bit for bit: what a compressor stores of it.

A column is stored as whole numbers where they give every one of its cells back, with its type; all other columns, and
the labels of the rows, are kept together as Arrow writes them.
"""

from __future__ import annotations

import io
import json
import lzma
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from probgen.data.coding import code_of, codes_of, outside
from probgen.data.schema import Column, Schema
from probgen.data.table import Table
from probgen.errors import DataError

__all__ = ["Reading", "Stored", "dissected", "rejoined", "sizes_of_peers"]

FINEST = 12  # decimals
MOST = 2**59  # whole numbers from the least to the greatest
LISTED = 24  # bits that a value costs in a list
EXACT = 2**53  # whole numbers that a double holds
DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
HOLES = {"nan": float("nan"), "NA": pd.NA}  # of columns of objects
SIGN, LOWEST = np.int64(2**63 - 1), np.int64(-(2**63))


@dataclass(frozen=True)
class Reading:
    """How the whole numbers of a column are read.

    Attributes:
        how: "level" (codes), "decimal" (parts of ten), "date" (steps of time since 1970), "float" (doubles, or singles, by rank), or "listed" (places
            in a list of all values that the column has).
        low, high: the least and the greatest whole number.
        unit: a decimal has so many places, a date so many steps a day, a float is one of so many ranks of a double.
        dtype: of the column.
        labels: of the levels, in their order; None where they are the schema's. Of a listed column its values.
        gap: of a float, ranks on either side of zero that no cell has and that are left out.
        signed: a decimal of which a zero is negative; -1 stands for it, and what is below it is one further down.
    """

    how: str
    low: int
    high: int
    unit: int = 0
    dtype: str = "float64"
    labels: tuple | None = None
    gap: int = 0
    signed: bool = False

    @property
    def span(self) -> int:
        """How many numbers there are from the least to the greatest."""
        return self.high - self.low + 1

    def values(self, numbers: np.ndarray) -> np.ndarray:
        """``float64`` numbers as a table has them."""
        if self.how == "listed":
            return np.asarray(self.labels, dtype=float)[np.clip(numbers, self.low, self.high)]
        if self.how == "decimal" and self.signed:
            found = np.where(numbers < 0, numbers + 1, numbers) / 10.0**self.unit
            return np.where(numbers == -1, -0.0, found)
        if self.how == "decimal":
            return numbers / 10.0**self.unit
        if self.how == "date":
            return numbers / self.unit
        return of_rank(self.ranks(numbers)) if self.how == "float" else numbers.astype(float)

    def ranks(self, numbers: np.ndarray) -> np.ndarray:
        """Of doubles."""
        far = np.where(numbers > 0, numbers + self.gap, np.where(numbers < -1, numbers - self.gap, numbers))
        return far * self.unit + np.where(far < 0, self.unit - 1, 0)

    def edges(self, numbers: np.ndarray) -> np.ndarray:
        """The boundary between each number and the one before it."""
        if self.how == "listed":
            x = np.asarray(self.labels, dtype=float)
            ends = np.concatenate([1.5 * x[:1] - 0.5 * x[1:2], (x[1:] + x[:-1]) / 2, 1.5 * x[-1:] - 0.5 * x[-2:-1]])
            return ends[numbers]
        if self.how == "float" or self.signed:
            return 0.5 * self.values(numbers - 1) + 0.5 * self.values(numbers)
        return self.values(numbers) - 0.5 * self.width

    def widths(self, numbers: np.ndarray) -> np.ndarray:
        """Of the interval around each number."""
        if self.how == "listed":
            return self.edges(numbers + 1) - self.edges(numbers)
        return (self.values(numbers + 1) - self.values(numbers - 1)) / 2

    @property
    def width(self) -> float:
        """Between two neighbours, where they are equally far apart."""
        return 10.0**-self.unit if self.how == "decimal" else 1.0 / max(self.unit, 1)


@dataclass(frozen=True)
class Stored:
    """A table as it is stored.

    Attributes:
        numbers: ``(N, D)`` whole numbers in the order of the schema, zero where unknown or kept elsewhere.
        known: ``(N, D)`` mask.
        readings: one a column; None where it is kept with the rest.
        rest: all that is no such column.
        layout: what else it takes to put the table together again, as JSON has it.
        texts: columns of texts, None where unknown, that are not with the rest.
    """

    numbers: np.ndarray
    known: np.ndarray
    readings: tuple[Reading | None, ...]
    rest: bytes
    layout: dict[str, Any]
    texts: dict[str, list[str | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)


@np.errstate(over="ignore", invalid="ignore")
def dissected(data: Any, schema: Schema) -> Stored:
    """A data frame, or a table, as whole numbers.

    Raises:
        DataError: weights, columns that are not there, or cells that cannot be given back as they are.
    """
    if isinstance(data, Table):
        if data.weights is not None:
            raise DataError("Weights of rows are not stored with a table; drop them with table.with_weights(None).")
        names = data.schema.names
        if unknown := [name for name in names if name not in schema.names]:
            raise DataError(
                f"The model does not know column {unknown[0]!r} of the Table; drop it with table.drop([{unknown[0]!r}]), or give the data frame,"
                " whose other columns are kept beside."
            )
        if data.schema.names != schema.names or any(a.levels != b.levels for a, b in zip(data.schema, schema)):
            data = Table(data, schema=schema)
        frame, lengths = pd.DataFrame(data.values, columns=list(schema.names))[list(names)], data.lengths
        codes = True
    else:
        frame, lengths, codes = as_frame(data), None, False
    absent = [name for name in schema.names if name not in frame]
    if absent:
        raise DataError(f"The table has no column {absent[0]!r}, which the model knows; its columns: {list(frame)}.")
    numbers, known = np.zeros((len(frame), len(schema)), np.int64), np.zeros((len(frame), len(schema)), bool)
    readings: list[Reading | None] = []
    for place, column in enumerate(schema):
        found = read(frame[column.name], column, codes)
        readings.append(None if found is None else found[0])
        if found is not None:
            numbers[:, place], known[:, place] = found[1:]
    kept = [name for name in frame if name not in schema.names or readings[schema.index(name)] is None]
    layout: dict[str, Any] = {"table": 1} if codes else {}
    if lengths is not None:
        layout["lengths"] = lengths.tolist()
    if list(frame) != list(schema.names):
        layout["columns"] = list(frame)
    if not isinstance(frame.index, pd.RangeIndex) or frame.index.name is not None:
        layout["index"] = 1
    elif (frame.index.start, frame.index.step) != (0, 1):
        layout["range"] = [frame.index.start, frame.index.step]
    texts = {name: cells for name in kept if (cells := texts_of(frame[name])) is not None}
    if texts:
        layout["texts"] = {name: dtype_of(frame[name]) for name in texts}
        kept = [name for name in kept if name not in texts]
    rest = b"" if not kept and "index" not in layout else arrow_bytes(frame[kept], "index" in layout)
    return Stored(numbers, known, tuple(readings), rest, layout, texts)


def rejoined(stored: Stored, schema: Schema, rows: slice | None = None) -> Any:
    """The data frame or the table again; some rows (sequences) of it, where ``numbers`` are of these alone."""
    first, (start, step) = 0 if rows is None else rows.start, stored.layout.get("range", (0, 1))
    index = pd.RangeIndex(start + first * step, start + (first + len(stored)) * step, step)
    rest = pd.DataFrame(index=index)
    if stored.rest:
        rest = from_arrow(stored.rest)
        rest = rest if rows is None else rest.iloc[steps_of(rows, stored.layout)]
        rest = rest if "index" in stored.layout else rest.set_axis(index, axis=0)
    made: dict[str, Any] = {}
    for place, (column, reading) in enumerate(zip(schema, stored.readings)):
        if reading is not None:
            cells = written(reading, stored.numbers[:, place], stored.known[:, place], column)
            made[column.name] = cells.set_axis(rest.index, axis=0)
    for name, dtype in stored.layout.get("texts", {}).items():
        cells = stored.texts[name] if rows is None else stored.texts[name][steps_of(rows, stored.layout)]
        made[name] = typed(np.array(cells, dtype=object), dtype).set_axis(rest.index, axis=0)
    columns = stored.layout.get("columns", list(schema.names))
    frame = pd.DataFrame({name: made[name] if name in made else rest[name] for name in columns}, index=rest.index)
    if not stored.layout.get("table"):
        return frame
    lengths = stored.layout.get("lengths")
    if lengths is not None and rows is not None:
        lengths = lengths[rows]
    values = frame[list(schema.names)].to_numpy(dtype=float)
    table = Table.from_codes(values, schema, lengths=None if lengths is None else np.array(lengths))
    return table if tuple(columns) == schema.names else table.select(columns)


def steps_of(rows: slice, layout: dict[str, Any]) -> slice:
    """The rows of some sequences."""
    if "lengths" not in layout:
        return rows
    edges = np.concatenate([[0], np.cumsum(layout["lengths"])])
    return slice(int(edges[rows.start]), int(edges[rows.stop]))


# --------------------------------------------------------------------------------------------------------- columns
def read(series: pd.Series, column: Column, codes: bool) -> tuple[Reading, np.ndarray, np.ndarray] | None:
    """A column's reading, numbers and mask, or None where they would not give it back."""
    known = series.notna().to_numpy()
    if codes and column.is_discrete:
        reading = Reading("level", 0, len(column.levels) - 1, labels=())
        return reading, np.nan_to_num(series.to_numpy()).astype(np.int64), known
    found = levels_of(series, known, column) if column.is_discrete else numbers_of(series, known, column)
    if found is None:
        return None
    reading, some = found
    numbers = np.zeros(len(series), np.int64)
    numbers[known] = some
    if not column.is_discrete and outside(reading.values(some), column)[0].any():
        return None
    if not same(written(reading, numbers, known, column), series):
        return None
    return reading, numbers, known


def levels_of(series: pd.Series, known: np.ndarray, column: Column) -> tuple[Reading, np.ndarray] | None:
    """Codes, where every level is written in one way."""
    codes = codes_of(column.levels)
    labels, which = np.unique(series[known].astype(str), return_inverse=True)
    first = {int(w): v for v, w in zip(series[known].astype(object)[::-1], which[::-1])}
    told = [code_of(first[w], codes) for w in range(len(labels))]
    if any(not code >= 0 for code in told) or len(set(told)) < len(told):
        return None
    found: list[Any] = list(column.levels)
    for w, code in enumerate(told):
        found[int(code)] = plain(first[w])
    dtype = dtype_of(series)
    if dtype is None or any(not isinstance(label, str | int | float | bool) for label in found):
        return None
    labels_kept = None if exactly(found, [plain(level) for level in column.levels]) else tuple(found)
    reading = Reading("level", 0, len(found) - 1, dtype=dtype, labels=labels_kept)
    return reading, np.array(told, dtype=np.int64)[which] if len(which) else np.zeros(0, np.int64)


def exactly(one: list, other: list) -> bool:
    return one == other and [type(v) for v in one] == [type(v) for v in other]


def numbers_of(series: pd.Series, known: np.ndarray, column: Column) -> tuple[Reading, np.ndarray] | None:
    """Whole numbers of a column of numbers or of dates."""
    kind, dtype = series.dtype.kind, dtype_text(series.dtype)
    if dtype is None or kind not in "iufM" or (kind == "M") != (column.kind == "datetime"):
        return None
    if kind == "M" and not isinstance(series.dtype, np.dtype | pd.DatetimeTZDtype):
        return None
    cells = series[known]
    if kind == "M":
        unit = np.datetime_data(cells.dt.tz_localize(None).dtype if dtype.count(",") else cells.dtype)[0]
        stamps = cells.astype("int64").to_numpy()
        step = int(np.gcd.reduce(np.append(stamps, DAY[unit])))
        dated = reading_of("date", stamps // step, DAY[unit] // step, dtype)
        return dated if dated[0].span < MOST else None
    if kind in "iu":
        whole = cells.to_numpy()
        if len(whole) and (int(whole.max()) > EXACT or int(whole.min()) < -EXACT):
            return None
        made = reading_of("decimal", whole.astype(np.int64), 0, dtype)
        return listed(whole.astype(float), dtype, made) or made
    x = cells.to_numpy(dtype=np.float64)
    if not np.isfinite(x).all():
        return None
    found = decimals(x, dtype) or ranked(x, dtype)
    negative = bool((np.signbit(x) & (x == 0)).any())
    return found if negative else listed(x, dtype, found) or found


def listed(x: np.ndarray, dtype: str, found: tuple[Reading, np.ndarray] | None) -> tuple[Reading, np.ndarray] | None:
    """Places in a list of the values, where that pays: what they leave out costs more than they do."""
    values, which = np.unique(x, return_inverse=True)
    spans = float(found[0].span) if found else 2.0**64
    if len(values) < 2 or LISTED * len(values) > 0.5 * len(x) * np.log2(spans / len(values)):
        return None
    return Reading("listed", 0, len(values) - 1, dtype=dtype, labels=tuple(values.tolist())), which.reshape(-1)


def decimals(x: np.ndarray, dtype: str) -> tuple[Reading, np.ndarray] | None:
    """Parts of ten, where all numbers are such."""
    places = next((p for p in range(FINEST + 1) if decimal(x, p)), None)
    if places is not None:
        negative = np.signbit(x) & (x == 0)
        whole = np.round(x * 10.0**places).astype(np.int64)
        if negative.any():
            whole = np.where(negative, -1, np.where(whole < 0, whole - 1, whole))
        reading, whole = reading_of("decimal", whole, places, dtype)
        return replace(reading, signed=bool(negative.any())), whole
    return None


def ranked(x: np.ndarray, dtype: str) -> tuple[Reading, np.ndarray] | None:
    """Doubles by rank, in steps of the digits that all of them leave at zero, without those that are nearer to zero than any."""
    ranks = rank_of(x)
    sizes = np.where(ranks < 0, -ranks - 1, ranks)
    whole = int(np.bitwise_or.reduce(sizes)) or 1
    step = whole & -whole
    sizes = sizes // step
    gap = int(sizes[sizes > 0].min(initial=1 << 62)) - 1 if (ranks < 0).any() or (sizes == 0).any() else 0
    sizes = np.where(sizes > 0, sizes - gap, 0)
    found, numbers = reading_of("float", np.where(ranks < 0, -sizes - 1, sizes), step, dtype)
    return (replace(found, gap=gap), numbers) if found.span < MOST else None


def reading_of(how: str, numbers: np.ndarray, unit: int, dtype: str) -> tuple[Reading, np.ndarray]:
    low, high = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
    return Reading(how, low, high, unit, dtype), numbers


def decimal(x: np.ndarray, places: int) -> bool:
    """Whether so many decimals write all numbers."""
    whole = np.round(x * 10.0**places)
    return bool((np.abs(whole) < EXACT).all() and np.array_equal(whole / 10.0**places, x))


def rank_of(x: np.ndarray) -> np.ndarray:
    """Whole numbers in the order of the doubles, neighbours being neighbours (negative zero apart)."""
    bits = np.ascontiguousarray(x, dtype=np.float64).view(np.int64)
    return np.where(bits < 0, -(bits & SIGN) - 1, bits)


def of_rank(ranks: np.ndarray) -> np.ndarray:
    """The doubles again.

    Example:
        >>> x = np.array([-2.5, -0.0, 0.0, 1e-300])
        >>> of_rank(rank_of(x)).tobytes() == x.tobytes()
        True
    """
    ranks = np.asarray(ranks, dtype=np.int64)
    bits = np.where(ranks < 0, (-(ranks + 1)) | LOWEST, ranks)
    return np.ascontiguousarray(bits).view(np.float64)


def written(reading: Reading, numbers: np.ndarray, known: np.ndarray, column: Column) -> pd.Series:
    """The column of these numbers."""
    if reading.how == "level":
        if reading.labels == ():
            return pd.Series(np.where(known, numbers, np.nan), dtype=reading.dtype)
        labels = list(column.levels) if reading.labels is None else list(reading.labels)
        cells = np.array([*labels, None], dtype=object)[np.where(known, numbers, len(labels))]
        return typed(cells, reading.dtype)
    if reading.how == "date":
        zone = reading.dtype.split(",")
        unit = zone[0].split("[")[1].rstrip("]")
        stamps = numbers * (DAY[unit] // reading.unit)
        dates = np.where(known, stamps.astype(f"datetime64[{unit}]"), np.array("NaT", f"datetime64[{unit}]"))
        made = pd.Series(dates)
        return made if len(zone) == 1 else made.dt.tz_localize("UTC").dt.tz_convert(zone[1].strip().rstrip("]"))
    if reading.how in ("decimal", "listed") and reading.dtype.lower().startswith(("int", "uint")):
        made = pd.Series(reading.values(numbers).astype(np.int64))
        made = made if known.all() else made.astype("Int64").where(known)
        return made.astype(reading.dtype)
    made = pd.Series(np.where(known, reading.values(numbers), np.nan))
    made = made if reading.dtype[0] != "F" else made.where(known, pd.NA)
    return made.astype(reading.dtype)


def typed(cells: np.ndarray, dtype: str) -> pd.Series:
    """Labels as a column of this type."""
    if dtype.startswith("{"):
        found = json.loads(dtype)
        return pd.Series(pd.Categorical(cells, categories=found["categories"], ordered=found["ordered"]))
    made = pd.Series(cells, dtype=object)
    if not dtype.startswith("object"):
        return made.astype(dtype)
    hole = HOLES.get(dtype.removeprefix("object "))
    return made if hole is None else pd.Series([hole if cell is None else cell for cell in cells], dtype=object)


def dtype_of(series: pd.Series) -> str | None:
    """A column's type as text; of objects with what stands for the holes, where it is not None."""
    if series.dtype != object:
        return dtype_text(series.dtype)
    first = next(iter(series[series.isna()]), None)
    kinds = (name for name, hole in HOLES.items() if type(hole) is type(first))
    return " ".join(["object", *kinds])


def dtype_text(dtype: Any) -> str | None:
    """A type as text, or None where it has none that brings it back."""
    if isinstance(dtype, pd.CategoricalDtype):
        levels = [plain(level) for level in dtype.categories]
        if any(not isinstance(level, str | int | float | bool) for level in levels):
            return None
        return json.dumps({"categories": levels, "ordered": bool(dtype.ordered)})
    text = str(dtype)
    try:
        return text if pd.api.types.pandas_dtype(text) == dtype else None
    except TypeError:
        return None


def plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def same(one: pd.Series, other: pd.Series) -> bool:
    """Equal in type, in holes and in every bit of what is a number."""
    if one.dtype != other.dtype:
        return False
    if one.dtype == object:
        return all(alike(a, b) for a, b in zip(one, other))
    equal = one.reset_index(drop=True).equals(other.reset_index(drop=True))
    if not equal or getattr(one.dtype, "kind", "O") != "f":
        return equal
    a, b = (np.nan_to_num(part.to_numpy(dtype=float, na_value=np.nan), nan=1.0) for part in (one, other))
    return bool((np.signbit(a) == np.signbit(b)).all())


def alike(a: Any, b: Any) -> bool:
    """Cells of one type and of the same bits; all that is no number is one."""
    if a is b or type(a) is not type(b):
        return a is b
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.dtype != object and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return (a != a and b != b) or (a == b and np.signbit(a) == np.signbit(b))
    return bool(a == b)


# ------------------------------------------------------------------------------------------------------------ rest
def texts_of(series: pd.Series) -> list[str | None] | None:
    """A column's texts, None where unknown, or None where they would not give it back."""
    if str(series.dtype) not in ("object", "str", "string"):
        return None
    cells = [None if missing else value for value, missing in zip(series, series.isna())]
    if not all(cell is None or type(cell) is str for cell in cells):
        return None
    try:
        "".join(cell for cell in cells if cell is not None).encode()
    except UnicodeEncodeError:
        return None
    return cells if same(typed(np.array(cells, dtype=object), str(dtype_of(series))), series) else None


def as_frame(data: Any) -> pd.DataFrame:
    if not isinstance(data, pd.DataFrame):
        raise DataError(
            "A pandas data frame or a probgen Table can be stored, got"
            f" {type(data).__module__}.{type(data).__qualname__}; make it one of these."
        )
    if not all(isinstance(name, str) for name in data.columns) or not data.columns.is_unique:
        raise DataError(f"Columns must have different names that are texts, got {list(data.columns)}; rename them.")
    return data


def arrow_bytes(frame: pd.DataFrame, index: bool) -> bytes:
    """Columns as Arrow writes them, checked to come back as they are."""
    try:
        table = pa.Table.from_pandas(frame, preserve_index=None if index else False)
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        back = from_arrow(sink.getvalue())
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"Columns {list(frame)} hold what Arrow cannot store ({error}); write them as texts."
        ) from error
    for name in frame:
        if not same(back[name], frame[name]):
            raise DataError(
                f"Column {name!r} does not come back from Arrow as it is (its cells are of several types, or its holes of several"
                " kinds); make them of one type."
            )
    if index and not (back.index.equals(frame.index) and back.index.names == frame.index.names):
        raise DataError("The index of the rows does not come back as it is; call frame.reset_index().")
    return sink.getvalue()


def from_arrow(content: bytes) -> pd.DataFrame:
    return pa.ipc.open_file(io.BytesIO(content)).read_all().to_pandas()


# ----------------------------------------------------------------------------------------------------------- peers
def sizes_of_peers(data: Any, stored: Stored) -> tuple[dict[str, int], int]:
    """Bytes of the table by others' compressors at their best settings, and as text."""
    frame = data.to_pandas() if isinstance(data, Table) else as_frame(data)
    text = frame.to_csv(index=False).encode()
    sink = io.BytesIO()
    frame.to_parquet(sink, index=False, compression="zstd", compression_level=19)
    zstd = pa.Codec("zstd", compression_level=19)
    found = {
        "csv + zlib": len(zlib.compress(text, 9)),
        "csv + lzma": len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)),
        "csv + zstd": zstd.compress(text).size,
        "parquet + zstd": sink.getbuffer().nbytes,
    }
    if not stored.rest and not stored.texts and stored.numbers.size:
        orders = [by_columns(stored), by_rows(stored)]
        found["numbers + zlib"] = min(len(zlib.compress(plain, 9)) for plain in orders)
        found["numbers + lzma"] = min(len(lzma.compress(plain, preset=9 | lzma.PRESET_EXTREME)) for plain in orders)
    return found, len(text)


def by_columns(stored: Stored) -> bytes:
    """Columns one behind the other, each in the fewest bytes a cell, or bits where two values do."""
    parts = [from_least(*column) for column in zip(stored.numbers.T, stored.known.T)]
    return b"".join(np.packbits(part).tobytes() if part.max() < 2 else part.tobytes() for part in parts)


def by_rows(stored: Stored) -> bytes:
    """Rows one behind the other; of bits, where all columns are such."""
    parts = [from_least(*column) for column in zip(stored.numbers.T, stored.known.T)]
    if all(part.max() < 2 for part in parts):
        return np.packbits(np.column_stack(parts), axis=1).tobytes()
    cells = [part.view(np.uint8).reshape(len(part), -1) for part in parts]
    return np.hstack(cells).tobytes()


def from_least(numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A column from its least number on, zero where unknown, in as few bytes a cell as hold it."""
    least = numbers[known].min() if known.any() else 0
    rank = np.where(known, numbers - least + (not known.all()), 0).astype(np.uint64)
    size = next(size for size in (1, 2, 4, 8) if int(rank.max()) < 256**size)
    return np.ascontiguousarray(rank.astype(f"<u{size}"))
