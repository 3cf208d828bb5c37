"""Tables: values and what is known of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from probgen.data.coding import decode_column, encode_column
from probgen.data.groups import Sound
from probgen.data.images import as_pictures, check_pixels, pictures_of, pixel_schema
from probgen.data.infer import infer_column
from probgen.data.native import Native, to_pandas
from probgen.data.parts import read_parts, texts_of
from probgen.data.schema import Column, Schema, plain
from probgen.data.sequences import check_lengths, cuts, grouped, rows_of, whole_sequences
from probgen.data.sounds import heard
from probgen.data.texts import as_texts, coded_texts, text_schema, written
from probgen.errors import DataError, DataWarning

__all__ = ["Table"]


class Table:
    """Rows and columns, each cell known or unknown. Immutable.

    Args:
        data: a pandas, polars or Arrow table, a two-dimensional array, or a mapping from names to columns.
        schema: the columns' kinds; inferred where it is None.
        weights: one non-negative number a row (a sequence, where the rows stand in sequences).
        target: the column that is to be predicted, if any.
        sequence: the column that says which sequence a row belongs to; it is not modelled.
        time: the column of time steps inside a sequence; missing steps become rows of unknown cells.

    Attributes:
        values: ``(N, D)`` float64, NaN = unknown; codes for discrete columns, days since 1970 for dates.
        schema: the columns.
        weights: ``(N,)`` or None.
        lengths: ``(S,)`` lengths of the sequences in which the rows stand, or None. Such a table counts, takes, splits
            and weighs sequences: ``len(table)`` is S.
        first: number of the first row in the table of which this one is a share.

    Example:
        >>> table = Table({"height": [1.5, None, 1.9, 1.7], "smoker": ["no", "yes", "no", None]})
        >>> table.known.sum()
        np.int64(6)
        >>> table.column("smoker").tolist()
        ['no', 'yes', 'no', None]
    """

    first = 0

    def __init__(
        self,
        data: Any,
        schema: Schema | None = None,
        weights: Any = None,
        target: str | None = None,
        *,
        sequence: str | None = None,
        time: str | None = None,
    ) -> None:
        lengths, came = None, data
        if isinstance(data, Table):
            lengths, weights = data.lengths, data.weights if weights is None else weights
            data = data.to_pandas()
        frame, native = to_pandas(data)
        check_frame(frame)
        if sequence is not None or time is not None:
            frame, lengths = grouped(frame, sequence, time)
            native = Native("pandas")
        found = schema or Schema(tuple(infer_column(frame[name]) for name in frame.columns))
        if schema is not None:
            frame = matching(by_position(frame, schema) if native.kind == "numpy" else frame, schema)
        values = np.column_stack([encode_column(frame[c.name], c) for c in found])
        if isinstance(came, Table) and sequence is None and time is None:
            check_still_known(came, values, found)
        units = len(frame) if lengths is None else len(lengths)
        self._set(
            values,
            found if target is None else found.with_target(target),
            check_weights(weights, units),
            native,
            lengths,
        )

    def _set(
        self,
        values: np.ndarray,
        schema: Schema,
        weights: np.ndarray | None,
        native: Native,
        lengths: np.ndarray | None,
    ) -> None:
        values = np.ascontiguousarray(values, dtype=np.float64)
        values.setflags(write=False)
        self.values, self.schema, self.weights, self._native, self.lengths = values, schema, weights, native, lengths

    @classmethod
    def _made(
        cls,
        values: np.ndarray,
        schema: Schema,
        weights: np.ndarray | None,
        native: Native,
        lengths: np.ndarray | None,
    ) -> Table:
        table = cls.__new__(cls)
        table._set(values, schema, weights, native, lengths)
        return table

    @classmethod
    def from_codes(cls, values: np.ndarray, schema: Schema, weights: Any = None, lengths: Any = None) -> Table:
        """A table from numbers that are already coded as ``values`` are."""
        if values.ndim != 2 or values.shape[1] != len(schema):
            raise DataError(f"values must have shape (rows, {len(schema)}), got {values.shape}.")
        found = None if lengths is None else check_lengths(lengths, len(values))
        units = len(values) if found is None else len(found)
        return cls._made(values, schema, check_weights(weights, units), Native("pandas"), found)

    @classmethod
    def from_sequences(
        cls,
        sequences: Sequence[Any],
        kind: str | None = None,
        names: Sequence[str] | None = None,
        schema: Schema | None = None,
        weights: Any = None,
    ) -> Table:
        """A table whose rows are the time steps of several sequences.

        Args:
            sequences: arrays ``(T, D)`` or ``(T,)``, or data frames with the same columns; NaN = unknown.
            kind: of all columns ("real", "count", "binary", ...); inferred where it is None.
            names: of the columns, where the sequences are arrays.
            schema: instead of kind and names.
            weights: one non-negative number a sequence.

        Example:
            >>> table = Table.from_sequences([np.zeros((5, 2)), np.ones((3, 2))], kind="real")
            >>> len(table), table.n_rows, table.lengths.tolist()
            (2, 8, [5, 3])
        """
        if len(sequences) == 0:
            raise DataError("There is no sequence; give at least one.")
        frames = [as_frame(sequence, names if schema is None else schema.names) for sequence in sequences]
        columns = {tuple(frame.columns) for frame in frames}
        if len(columns) > 1:
            raise DataError(
                f"Sequences must have the same columns, got {' and '.join(map(str, sorted(columns)[:2]))}."
            )
        lengths = check_lengths(np.array([len(frame) for frame in frames]), sum(map(len, frames)))
        whole = pd.concat(frames, ignore_index=True)
        if kind is not None and schema is None:
            schema = Schema(tuple(column_of_kind(whole[name], kind) for name in whole.columns))
        flat = cls(whole, schema=schema)
        return cls._made(flat.values, flat.schema, check_weights(weights, len(lengths)), Native("pandas"), lengths)

    @classmethod
    def from_images(
        cls,
        images: Any,
        kind: str | None = None,
        name: str = "image",
        *,
        levels: int | None = None,
        others: Any = None,
        target: str | None = None,
        schema: Schema | None = None,
    ) -> Table:
        """A table of pictures, one column a pixel (:class:`~probgen.data.schema.Image`), other columns behind them.

        Args:
            images: ``(N, H, W)`` or ``(N, H, W, C)`` numbers, NaN = unknown.
            kind: of the pixels; where it is None zeros and ones are "binary", other whole numbers "count", numbers "real".
            name: of the pictures.
            levels: how many grey levels there are, 0 to ``levels - 1``: 256 for numbers of eight bits.
            others: further columns of the same rows, as for a table: ``{"label": labels}``; those of a schema are unknown without.
            target: the column that is to be predicted, if any.
            schema: of another table of such pictures, instead of kind, name, levels and target.

        Raises:
            DataError: pictures of different sizes or with other axes, infinite or impossible pixels, another number of other rows.

        Example:
            >>> table = Table.from_images(np.zeros((3, 8, 8)), others={"label": ["a", "b", "a"]})
            >>> table.n_columns, table.images().shape
            (65, (3, 8, 8, 1))
        """
        pictures = as_pictures(images)
        flat = pictures.reshape(len(pictures), -1)
        if schema is None:
            schema = pixel_schema(pictures, np.asarray(images).dtype, kind, name, levels)
            extra = None if others is None else Table(others)
            columns = schema.columns + (() if extra is None else extra.schema.columns)
            schema = Schema(columns, target, schema.images)
        else:
            check_same_pictures(pictures, schema)
            rest = schema.select(schema.names[schema.images[0].pixels :])
            unknown = np.full((len(flat), len(rest)), np.nan)
            extra = Table.from_codes(unknown, rest) if others is None else Table(others, schema=rest)
        if extra is not None and len(extra) != len(flat):
            raise DataError(f"There are {len(flat)} images and {len(extra)} rows of other columns; they must agree.")
        values = flat if extra is None else np.column_stack([flat, extra.values])
        return cls.from_codes(values, schema)

    @classmethod
    def from_text(
        cls,
        texts: str | Sequence[str],
        tokens: str | int = "characters",
        name: str = "text",
        *,
        rare: int = 0,
        end: bool | None = None,
        schema: Schema | None = None,
        weights: Any = None,
    ) -> Table:
        """A table whose rows are the tokens of one text, or of several: sequences of one column.

        Args:
            texts: a string, or one string a text.
            tokens: "characters", "words" between blanks, or how many byte pairs (at least 256; Sennrich, Haddow and Birch, 2016), learnt from
                these texts by the library ``tokenizers`` (``pip install 'probgen[text]'``).
            name: of the column.
            rare: characters, or words, that come fewer times than this are one unknown token, as those are that come later; with 0 there is none.
            end: a last token says that a text ends; where it is None, so it is for several texts and not for one.
            schema: of another table of text, instead of tokens, name, rare and end.
            weights: one non-negative number a text.

        Raises:
            DataError: something that is no string, an empty one, a character or word that the schema does not know.
            CapabilityError: byte pairs without the library.

        Example:
            >>> table = Table.from_text(["the cat", "the dog"])
            >>> len(table), table.lengths.tolist(), table.texts()
            (2, [8, 8], ['the cat', 'the dog'])
        """
        found = as_texts(texts)
        if schema is None:
            schema = text_schema(found, tokens, name, rare, len(found) > 1 if end is None else end)
        values, lengths = coded_texts(found, schema, end is not False)
        return cls.from_codes(values, schema, weights, lengths)

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any], *, target: str | None = None, schema: Schema | None = None) -> Table:
        """A table whose rows have texts, sounds or pictures beside plain columns.

        Args:
            parts: by name: :class:`~probgen.data.parts.Texts`, :class:`~probgen.data.parts.Sounds`, :class:`~probgen.data.parts.Pictures`, or
                the cells of a column.
            target: the column that is to be predicted, if any.
            schema: of another table of such parts, those of which may be left out, and are unknown.

        Raises:
            DataError: parts of different numbers of rows, tokens that the schema does not know, texts or sounds that are longer than its.

        Example:
            >>> from probgen.data import Texts
            >>> table = Table.from_parts(
            ...     {"spelling": Texts(["one", "two"]), "phonemes": Texts(["W AH N", "T UW"], tokens="words")}
            ... )
            >>> print(table.schema)
            spelling  text of up to 3 characters, categorical {e, n, o, t, w, <end>}
            phonemes  text of up to 3 words, categorical {AH, N, T, UW, W, <end>}
            >>> asked = Table.from_parts({"spelling": Texts(["too"])}, schema=table.schema)
            >>> asked.texts("spelling"), asked.texts("phonemes")
            (['too'], [None])
        """
        values, found = read_parts(parts, schema, cls)
        return cls.from_codes(values, found if target is None else found.with_target(target))

    # -- reading -----------------------------------------------------------------------------------------------
    def texts(self, name: str | None = None) -> list[Any]:
        """The texts whose tokens the rows are, or stand in each row under this name, each up to its end.

        Raises:
            SchemaError: the table holds no text, or several and none is named.
        """
        if self.schema.tokens:
            return texts_of(self.values, self.schema, name)
        return written(self.values, np.array([self.n_rows]) if self.lengths is None else self.lengths, self.schema)

    @property
    def known(self) -> np.ndarray:
        """``(N, D)`` mask of the known cells."""
        return ~np.isnan(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        return self.schema.names

    @property
    def n_rows(self) -> int:
        return len(self.values)

    @property
    def row_weights(self) -> np.ndarray | None:
        """``(N,)``: the weight of each row, that of its sequence where the rows stand in sequences."""
        if self.weights is None or self.lengths is None:
            return self.weights
        return np.repeat(self.weights, self.lengths)

    @property
    def n_columns(self) -> int:
        return len(self.schema)

    def __len__(self) -> int:
        return len(self.values) if self.lengths is None else len(self.lengths)

    def __repr__(self) -> str:
        unknown = int((~self.known).sum())
        shape = f"{self.n_rows} rows" if self.lengths is None else f"{len(self)} sequences, {self.n_rows} time steps"
        return f"Table({shape}, {self.n_columns} columns, {unknown} unknown cells)"

    def column(self, name: str) -> np.ndarray:
        """One column with its labels; None or NaN where unknown."""
        place = self.schema.index(name)
        return decode_column(self.values[:, place], self.schema[place])

    def images(self, name: str | None = None) -> np.ndarray:
        """``(N, H, W, C)`` pixels of the pictures of this name, NaN where unknown; levels as their codes.

        Raises:
            SchemaError: the table has no such picture, or several and none is named.
        """
        return pictures_of(self.values, self.schema, name)

    def sounds(self, name: str | None = None, seed: int = 0) -> np.ndarray:
        """``(N, n)`` samples from -1 to 1 that sound as the sounds of this name do: their phases are found, not known (Griffin and Lim, 1984).

        Raises:
            SchemaError: the table has no such sound, or several and none is named.
            DataError: an unknown cell.
            CapabilityError: the library ``librosa`` is not there.
        """
        return heard(self.values, self.schema, name, seed)

    def fingerprint(self) -> str:
        """A hash of values, weights and schema."""
        digest = hashlib.sha256(self.schema.to_json().encode())
        small = all(column.is_discrete for column in self.schema)  # codes, of which two bytes are enough
        values = np.where(self.known, self.values, -1.0 if small else np.nan)
        digest.update((values.astype(np.int16) if small else values).tobytes())
        digest.update(b"" if self.weights is None else self.weights.tobytes())
        digest.update(b"" if self.lengths is None else self.lengths.tobytes())
        return digest.hexdigest()[:16]

    # -- other tables ------------------------------------------------------------------------------------------
    def take(self, rows: Any) -> Table:
        """Some rows (some sequences, where the rows stand in sequences), by place or by mask."""
        index = np.arange(len(self))[
            rows if isinstance(rows, slice) else np.asarray(rows, dtype=None if len(rows) else int)
        ]
        weights = None if self.weights is None else self.weights[index]
        if self.lengths is None:
            return self._made(self.values[index], self.schema, weights, self._native.take(index), None)
        steps = rows_of(self.lengths, index)
        return self._made(self.values[steps], self.schema, weights, self._native.take(steps), self.lengths[index])

    def share(self, number: int, of: int) -> Table:
        """The rows (whole sequences) of one of several processes; ``first`` is the number of the first of them.

        Example:
            >>> table = Table({"a": [0.5, 1.5, 2.5, 3.5, 4.5]}).share(1, of=2)
            >>> table.column("a").tolist(), table.first
            ([3.5, 4.5], 3)
        """
        edges = cuts(len(self) if self.lengths is None else self.lengths, of)[number : number + 2]
        made = self.take(slice(*edges))
        made.first = edges[0] if self.lengths is None else int(self.lengths[: edges[0]].sum())
        return made

    def distinct(self) -> tuple[Table, np.ndarray]:
        """Every different row once, weighted by how often it came, and which of them each row is.

        Example:
            >>> table, which = Table({"a": ["x", "y", "x", "x"], "b": ["u", None, "u", "v"]}).distinct()
            >>> len(table), table.weights.tolist(), which.tolist()
            (3, [2.0, 1.0, 1.0], [0, 1, 0, 2])
        """
        if self.lengths is not None:
            raise DataError("Rows that stand in sequences cannot be merged.")
        first, which = distinct_rows(self.values)
        once = self.take(first)
        counts = np.bincount(which, self.weights, minlength=len(first)).astype(float)
        return self._made(once.values, self.schema, counts, once._native, None), which

    def sequence(self, number: int) -> Table:
        """The time steps of one sequence, as rows that stand alone."""
        if self.lengths is None:
            raise DataError("The rows of this table do not stand in sequences.")
        one = self.take([number])
        return self._made(one.values, self.schema, None, one._native, None)

    def pieces(self, rows: int) -> Iterator[Table]:
        """All rows in order, at most ``rows`` at a time; sequences stay whole."""
        if self.n_rows <= rows:
            yield self
            return
        if self.lengths is not None:
            for index in whole_sequences(self.lengths, rows):
                yield self.take(index)
            return
        for start in range(0, len(self), rows):
            yield self.take(np.arange(start, min(start + rows, len(self))))

    def extended(self, steps: int) -> Table:
        """Every sequence with this many unknown time steps after it."""
        if self.lengths is None:
            raise DataError("The rows of this table do not stand in sequences.")
        places = np.repeat(np.cumsum(self.lengths), steps)
        values = np.insert(self.values, places, np.nan, axis=0)
        return self._made(values, self.schema, self.weights, Native(self._native.kind), self.lengths + steps)

    def select(self, names: str | Sequence[str]) -> Table:
        """Some columns, or texts, sounds and pictures."""
        schema = self.schema.select(names)
        places = [self.schema.index(name) for name in schema.names]
        return self._made(self.values[:, places], schema, self.weights, self._native, self.lengths)

    def drop(self, names: str | Sequence[str]) -> Table:
        """All columns, texts, sounds and pictures but these; a string is one name."""
        return self.select(self.schema.drop(names).names)

    def hide(self, *names: str) -> Table:
        """The same table with these columns, or texts, sounds and pictures, unknown."""
        values = self.values.copy()
        values[:, [self.schema.index(name) for name in self.schema.columns_named(names)]] = np.nan
        return self.with_values(values)

    def with_values(self, values: np.ndarray) -> Table:
        """Other values in the same columns and rows."""
        if values.shape != self.values.shape:
            raise DataError(f"values must have shape {self.values.shape}, got {values.shape}.")
        return self._made(values, self.schema, self.weights, self._native, self.lengths)

    def with_columns(self, values: np.ndarray, schema: Schema) -> Table:
        """The same rows with other columns."""
        if values.shape != (self.n_rows, len(schema)):
            raise DataError(f"values must have shape {(self.n_rows, len(schema))}, got {values.shape}.")
        return self._made(values, schema, self.weights, self._native, self.lengths)

    def with_weights(self, weights: Any) -> Table:
        """Other row weights."""
        return self._made(self.values, self.schema, check_weights(weights, len(self)), self._native, self.lengths)

    def with_target(self, target: str | None) -> Table:
        """Another column to be predicted."""
        return self._made(self.values, self.schema.with_target(target), self.weights, self._native, self.lengths)

    def split(self, *fractions: float, seed: int = 0, stratify: str | None = None) -> tuple[Table, ...]:
        """Random parts with these shares of the rows, reproducible from the seed.

        Example:
            >>> train, test = Table({"x": np.arange(10.0)}).split(0.8, 0.2, seed=1)
            >>> len(train), len(test)
            (8, 2)
        """
        if not fractions or any(f <= 0 for f in fractions) or sum(fractions) > 1 + 1e-9:
            raise DataError(f"fractions must be positive and sum to at most 1, got {fractions}.")
        order = np.random.default_rng(seed).permutation(len(self))
        if stratify is not None and self.lengths is not None:
            raise DataError("Sequences cannot be stratified by a column of their time steps; leave stratify out.")
        if stratify is not None:  # spread every level evenly over the order
            codes = pd.Series(self.values[order, self.schema.index(stratify)]).fillna(-1)
            place = (codes.groupby(codes).cumcount() + 0.5) / codes.map(codes.value_counts())
            order = order[np.argsort(place.to_numpy(), kind="stable")]
        edges = np.round(np.cumsum(fractions) * len(self)).astype(int)
        return tuple(self.take(np.sort(order[a:b])) for a, b in zip([0, *edges], edges, strict=False))

    # -- back --------------------------------------------------------------------------------------------------
    def to_pandas(self) -> pd.DataFrame:
        """A data frame with the labels, types and index that the data came with."""
        return self._native.frame(self.values, self.schema)

    def to_native(self) -> Any:
        """The type of table that the data came in."""
        return self._native.restore(self.values, self.schema)

    # -- fitness -----------------------------------------------------------------------------------------------
    def check_for_fit(self) -> None:
        """Refuse what no model can learn from.

        Raises:
            DataError: an unknown column or row, or a constant number; the message says which and what to do. A discrete
                column may show one of its levels only, a counted pixel of an image may always be the same, and a moment of sounds may always be
                silent.
        """
        seen = self.known
        empty = np.nonzero(~seen.any(1))[0]
        if len(empty) and self.lengths is None:
            raise DataError(
                f"Row {int(empty[0])} has no known cell ({len(empty)} such rows); drop them before fitting."
            )
        some = np.asarray(seen.any(0))
        pixels = {pixel for image in self.schema.images for pixel in image.names}
        moments = {name for image in self.schema.images if isinstance(image, Sound) for name in image.names}
        for place, column in enumerate(self.schema):
            if not bool(some[place]):
                raise DataError(f"Column {column.name!r} has no known value; drop it before fitting.")
            if column.is_discrete or (column.kind == "count" and column.name in pixels) or column.name in moments:
                continue
            known = self.values[seen[:, place], place]
            if np.all(known == known[0]):
                shown = decode_column(known[:1], column)[0]
                raise DataError(
                    f"Column {column.name!r} is constant ({plain(shown)!r} in all known rows); drop it before fitting."
                )
        if self.weights is not None and not (self.weights > 0).any():
            raise DataError("All weights are zero; give at least one row a positive weight.")


def check_same_pictures(pictures: np.ndarray, schema: Schema) -> None:
    """Refuse pictures that are not those with which a schema begins."""
    shape = schema.images[0].shape if schema.images else None
    if pictures.shape[1:] != shape or schema.images[0].start(schema.names) != 0:
        raise DataError(
            f"The schema must begin with images of shape {pictures.shape[1:]}, as those given have; its images: {shape or 'none'}."
        )
    check_pixels(pictures, schema[0])


def as_frame(sequence: Any, names: Sequence[str] | None) -> pd.DataFrame:
    """One sequence as a data frame."""
    if isinstance(sequence, pd.DataFrame):
        return sequence
    array = np.asarray(sequence)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2:
        raise DataError(f"A sequence must have shape (T,) or (T, D), got {np.shape(sequence)}.")
    if names is None:
        names = [f"x{place}" for place in range(array.shape[1])]
    if len(names) != array.shape[1]:
        raise DataError(f"There are {len(names)} names and {array.shape[1]} columns; they must agree.")
    return pd.DataFrame(array, columns=list(names))


def column_of_kind(values: pd.Series, kind: str) -> Column:
    """A column of a stated kind, its levels and bounds from the values."""
    found = infer_column(values)
    if found.kind == kind:
        return found
    levels = tuple(sorted(values.dropna().unique().tolist())) if kind in ("binary", "categorical", "ordinal") else ()
    if kind == "binary" and len(levels) < 2:  # a note that is never played
        levels = (0, 1)
    bounds = (float(values.min()), float(values.max())) if kind == "bounded" else None
    return Column(found.name, kind, levels=levels, bounds=bounds, incomplete=bool(values.isna().any()))


def check_frame(frame: pd.DataFrame) -> None:
    if frame.shape[1] == 0:
        raise DataError("The table has no columns; give at least one.")
    if len(frame) == 0:
        raise DataError(f"The table has no rows (columns: {', '.join(map(str, frame.columns))}); give at least one.")
    repeated = frame.columns[frame.columns.duplicated()].tolist()
    if repeated:
        raise DataError(f"Column names repeat: {', '.join(map(repr, repeated))}; rename them.")


def by_position(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """An array's columns have no names: they are the schema's, in order."""
    if frame.shape[1] != len(schema):
        raise DataError(f"The array has {frame.shape[1]} columns, the schema {len(schema)}; they must agree.")
    return frame.set_axis(list(schema.names), axis=1)


def check_still_known(came: Table, values: np.ndarray, schema: Schema) -> None:
    """Refuse labels of a table that another schema takes for marks of unknown cells, as a blank or "NA" among the tokens of a text."""
    known = np.column_stack([came.known[:, came.schema.index(name)] for name in schema.names])
    lost = np.argwhere(known & np.isnan(values))
    if len(lost):
        row, place = map(int, lost[0])
        column = schema[place]
        raise DataError(
            f"Column {column.name!r}, row {row}: the value {came.column(column.name)[row]!r} is none of its levels ({len(lost)} such cells);"
            " known levels are " + ", ".join(map(repr, column.levels[:12])) + "; add it to the schema or hide it."
        )


def matching(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The schema's columns of a frame; extra ones are left out with a warning."""
    import warnings

    missing = [name for name in schema.names if name not in frame.columns]
    if missing:
        of_texts = {name for text in schema.tokens for name in text.names}
        remedy = (
            "Make it by Table.from_parts with this schema"
            if of_texts & {*missing}
            else "Add it, with NaN where it is unknown"
        )
        raise DataError(
            f"The table lacks column {first_names(missing)}; it has {first_names([*frame.columns])}. {remedy}."
        )
    extra = [name for name in frame.columns if name not in schema.names]
    if extra:
        warnings.warn(
            f"Columns that the schema does not know are left out: {first_names(extra)}.",
            DataWarning,
            stacklevel=4,
        )
    return frame[list(schema.names)]


def first_names(names: list, most: int = 20) -> str:
    """The names of columns, of many the first ones: pictures and sounds have thousands."""
    rest = len(names) - most
    return ", ".join(map(repr, names[:most])) + (f" and {rest} more" if rest > 0 else "")


def check_weights(weights: Any, rows: int) -> np.ndarray | None:
    if weights is None:
        return None
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != (rows,):
        raise DataError(f"weights must have shape ({rows},), one a row, got {found.shape}.")
    bad = np.nonzero(~np.isfinite(found) | (found < 0))[0]
    if len(bad):
        raise DataError(f"weights must be finite and not negative; row {int(bad[0])} has {found[bad[0]]}.")
    return found


def distinct_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the first of each different row, in order, and which of them each row equals; NaN equals NaN."""
    bits = np.ascontiguousarray(np.where(np.isnan(values), np.nan, values + 0.0)).view(np.uint64)
    factors = np.random.default_rng(0).integers(2**63, size=bits.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(
        1
    )
    mixed = bits * factors
    keys = (mixed ^ (mixed >> np.uint64(29))).sum(1, dtype=np.uint64)  # a hash of every row
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    if not np.array_equal(bits[first][which], bits):  # two rows share a hash
        _, first, which = np.unique(bits, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[which.reshape(-1)]
