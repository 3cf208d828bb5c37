"""Texts, sounds and pictures side by side in rows: what each part of a table is made from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.coding import is_missing
from probgen.data.groups import Sound, Tokens
from probgen.data.images import as_pictures, check_pixels, pixel_schema
from probgen.data.schema import Column, Schema
from probgen.data.sounds import as_recordings, frames_of, loudness
from probgen.data.texts import END, codes_of, joined, vocabulary
from probgen.errors import DataError, SchemaError
from probgen.whole import check_whole

__all__ = ["Part", "Pictures", "Sounds", "Texts", "read_parts", "texts_of"]


class Part(ABC):
    """Something that a row has, in several columns."""

    @abstractmethod
    def schema(self, name: str) -> Schema:
        """Of its columns, from what is there."""

    @abstractmethod
    def values(self, name: str, schema: Schema) -> np.ndarray:
        """``(N, D)``, by the columns of a schema of such a part."""


@dataclass(frozen=True, eq=False)
class Texts(Part):
    """A text a row.

    Args:
        texts: strings, which may be empty, or lists of tokens; None = unknown.
        tokens: "characters", "words" (between blanks, which lists of tokens are), or how many byte pairs (at least 256; Sennrich, Haddow and
            Birch, 2016), learnt by the library ``tokenizers``.
        length: the most tokens; those of the longest text where it is None.
        rare: tokens that come fewer times are one unknown token; 0 for none.

    Example:
        >>> from probgen.data import Table
        >>> table = Table.from_parts({"word": Texts(["hat", "at"]), "size": [1.5, 2.5]})
        >>> table.names, table.texts("word")
        (('word[0]', 'word[1]', 'word[2]', 'size'), ['hat', 'at'])
    """

    texts: Iterable[Any]
    tokens: str | int = "characters"
    length: int | None = None
    rare: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):
            raise DataError(f"Expected a text a row, got the one string {self.texts!r}; give a list of strings.")
        object.__setattr__(self, "texts", list(self.texts))

    def strings(self, tokenizer: str = "words") -> list[str | None]:
        """The texts as they are cut into tokens."""
        found: list[str | None] = []
        for number, text in enumerate(self.texts):
            if is_missing(text):
                found.append(None)
            elif isinstance(text, str):
                found.append(text)
            elif isinstance(text, Sequence) and all(isinstance(token, str) for token in text):
                found.append(self.listed(number, text, tokenizer))
            else:
                raise DataError(
                    f"Text {number}: expected a string or a list of tokens, got {text!r} ({type(text).__name__}); convert it, or"
                    " give None where it is unknown."
                )
        return found

    def listed(self, number: int, tokens: Sequence[str], tokenizer: str) -> str:
        """A list of tokens as a text with blanks."""
        if tokenizer != "words":
            raise DataError(f"Text {number} is a list of tokens; take tokens='words', or give strings.")
        odd = [token for token in tokens if token.split() != [token]]
        if odd:
            raise DataError(f"Text {number}: the token {odd[0]!r} is empty or has a blank inside; write it without.")
        return " ".join(tokens)

    def schema(self, name: str) -> Schema:
        if self.length is not None:
            check_whole("length", self.length, 1, SchemaError)
        strings = self.strings("words" if self.tokens == "words" else "")
        read = [text for text in strings if text is not None]
        if not any(text.split() if self.tokens == "words" else text for text in read):
            raise DataError(
                f"Text {name!r}: there is nothing to read in {len(strings)} texts; give at least one token."
            )
        levels, tokenizer = vocabulary(read, self.tokens, self.rare)
        longest = max(map(len, codes_of(read, levels, tokenizer)))
        group = Tokens(name, longest if self.length is None else self.length, tokenizer)
        told: dict[str, Any] = {"kind": "categorical", "levels": (*levels, END), "incomplete": None in strings}
        return Schema(tuple(Column(column, **told) for column in group.names), tokens=(group,))

    def values(self, name: str, schema: Schema) -> np.ndarray:
        group, levels = schema.text_named(name), schema.columns[0].levels
        strings = self.strings("words" if group.tokenizer == "words" else "")
        rows = [row for row, text in enumerate(strings) if text is not None]
        codes = codes_of([text for text in strings if text is not None], levels, group.tokenizer)
        found = np.full((len(strings), group.length), np.nan)
        for row, code in zip(rows, codes, strict=True):
            if len(code) > group.length:
                raise DataError(
                    f"Text {name!r}, row {row}: {strings[row]!r} has {len(code)} tokens, and texts of this schema have at most"
                    f" {group.length}; shorten it, or learn with length={len(code)}."
                )
            found[row] = len(levels) - 1.0
            found[row, : len(code)] = code
        return found


@dataclass(frozen=True, eq=False)
class Pictures(Part):
    """A picture a row.

    Args:
        images: ``(N, H, W)`` or ``(N, H, W, C)`` numbers, NaN = unknown; or a list of pictures, None = unknown.
        kind, levels: as for ``Table.from_images``.
    """

    images: Any
    kind: str | None = None
    levels: int | None = None

    def read(self) -> tuple[np.ndarray, np.dtype]:
        """``(N, H, W, C)``, and the type of number that they came as."""
        known = np.array([not is_missing(image) for image in self.images])
        if known.all():
            return as_pictures(self.images), np.asarray(self.images).dtype
        if not known.any():
            raise DataError(f"All {len(known)} pictures are unknown; give at least one.")
        some = np.array([image for image in self.images if not is_missing(image)])
        told = as_pictures(some)
        pictures = np.full((len(known), *told.shape[1:]), np.nan)
        pictures[known] = told
        return pictures, some.dtype

    def schema(self, name: str) -> Schema:
        pictures, dtype = self.read()
        return pixel_schema(pictures, dtype, self.kind, name, self.levels)

    def values(self, name: str, schema: Schema) -> np.ndarray:
        pictures, shape = self.read()[0], schema.image(name).shape
        if pictures.shape[1:] != shape:
            raise DataError(
                f"Pictures {name!r} have shape {pictures.shape[1:]}, and those of this schema {shape}; cut or scale them."
            )
        check_pixels(pictures, schema.columns[0])
        return pictures.reshape(len(pictures), -1)


@dataclass(frozen=True, eq=False)
class Sounds(Part):
    """A recording a row, as its loudness in decibels: frame by frame, in bands of the mel scale.

    Args:
        recordings: samples ``(n,)`` of each, whole numbers or floats, however loud; None = unknown.
        rate: samples a second.
        bands: F.
        seconds: how long the longest may be; as long as it is where None.
        window, step: seconds of a frame, and from one to the next.
        floor: decibels below the loudest, under which all is silence.
    """

    recordings: Sequence[Any]
    rate: int
    bands: int = 40
    seconds: float | None = None
    window: float = 0.025
    step: float = 0.01
    floor: float = -80.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "recordings", list(self.recordings))

    def schema(self, name: str) -> Schema:
        check_whole("bands", self.bands, 2, SchemaError)
        check_whole("rate", self.rate, 1, SchemaError)
        for told, value in (("window", self.window), ("step", self.step), ("seconds", self.seconds)):
            if value is not None and not 0 < value < math.inf:
                raise SchemaError(f"Sounds {name!r}: {told} must be seconds above 0, got {value!r}.")
        window, step = max(1, round(self.window * self.rate)), max(1, round(self.step * self.rate))
        read = as_recordings(self.recordings)
        known = [samples for samples in read if samples is not None]
        if not known:
            raise DataError(f"Sounds {name!r}: all {len(read)} recordings are unknown; give at least one.")
        longest = max(map(len, known)) if self.seconds is None else round(self.seconds * self.rate)
        group = Sound(name, (frames_of(longest, step), self.bands), self.rate, window, step, self.floor)
        incomplete = len(known) < len(read)
        return Schema(tuple(Column(column, "real", incomplete=incomplete) for column in group.names), images=(group,))

    def values(self, name: str, schema: Schema) -> np.ndarray:
        sound = schema.image(name)
        if not isinstance(sound, Sound) or sound.rate != self.rate:
            raise DataError(
                f"Sounds {name!r} have {self.rate} samples a second, and this schema has {sound.describe()}"
                f"{f' of {sound.rate} samples a second' if isinstance(sound, Sound) else ''}; resample them."
            )
        found = np.full((len(self.recordings), sound.pixels), np.nan)
        for row, samples in enumerate(as_recordings(self.recordings)):
            if samples is not None:
                try:
                    found[row] = loudness(samples, sound).ravel()
                except DataError as error:
                    raise DataError(
                        f"Sounds {name!r}, row {row}: {error}; cut it, or learn with longer ones."
                    ) from None
        return found


def read_parts(
    parts: Mapping[str, Any], schema: Schema | None, plain: Callable[..., Any]
) -> tuple[np.ndarray, Schema]:
    """Values ``(N, D)`` and columns of all parts side by side; what of a schema is not among them is unknown.

    Args:
        parts: texts, sounds and pictures, or the cells of a column.
        schema: of another table of such parts.
        plain: makes a table of a column as any table has it.

    Raises:
        DataError: parts of different numbers of rows, and what the parts themselves refuse.
    """
    if not parts:
        raise DataError("There is no part; give at least one.")
    found: dict[str, tuple[np.ndarray, Schema]] = {}
    groups = {} if schema is None else {group.name: group for group in schema.groups}
    for name, part in parts.items():
        if name in groups and not isinstance(part, Part):
            raise DataError(
                f"{name!r} is a {groups[name].describe()}; give pg.Texts, pg.Sounds or pg.Pictures, as it was learnt from."
            )
        known = None if schema is None else schema.select(schema.columns_named(name))
        if isinstance(part, Part):
            own = part.schema(name) if known is None else known
            found[name] = part.values(name, own), own
        else:
            made = plain({name: part}, schema=known)
            found[name] = made.values, made.schema
        rows = {other: len(values) for other, (values, _) in found.items()}
        if len(set(rows.values())) > 1:
            raise DataError(
                f"{name!r} has {rows[name]} rows, and {next(iter(rows))!r} has {rows[next(iter(rows))]}; they must agree."
            )
        if not rows[name]:
            raise DataError(f"{name!r} has no rows; give at least one.")
    return side_by_side(found, schema)


def side_by_side(found: Mapping[str, tuple[np.ndarray, Schema]], schema: Schema | None) -> tuple[np.ndarray, Schema]:
    """All parts in the order of a schema, or in their own."""
    own = [part for _, part in found.values()]
    told = Schema(
        tuple(column for part in own for column in part), images=tuple(image for part in own for image in part.images),
        tokens=tuple(text for part in own for text in part.tokens),
    )  # fmt: skip
    values = np.column_stack([values for values, _ in found.values()])
    if schema is None:
        return values, told
    placed = np.full((len(values), len(schema)), np.nan)
    placed[:, [schema.index(name) for name in told.names]] = values
    return placed, schema


def texts_of(values: np.ndarray, schema: Schema, name: str | None) -> list[str | None]:
    """Strings of a table's cells, up to their ends; None where any cell before an end is unknown."""
    group = schema.text_named(name)
    at, levels = schema.index(group.names[0]), schema[group.names[0]].levels
    made: list[str | None] = []
    for codes in values[:, at : at + group.length]:
        ends = codes == len(levels) - 1
        kept = codes[: int(ends.argmax()) if ends.any() else len(codes)]
        made.append(None if np.isnan(kept).any() else joined(kept.astype(int), group.tokenizer, levels))
    return made
