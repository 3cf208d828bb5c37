"""Columns and their kinds."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from probgen.errors import SchemaError
from probgen.whole import is_whole

__all__ = ["KINDS", "Column", "Image", "Schema", "Text"]

KINDS = ("real", "positive", "bounded", "count", "binary", "categorical", "ordinal", "semicontinuous", "datetime")
DISCRETE = ("binary", "categorical", "ordinal")
CONTINUOUS = ("real", "positive", "bounded", "semicontinuous", "datetime")
LEVELS = {"binary": (2, 2), "categorical": (1, math.inf), "ordinal": (2, math.inf)}  # the least and the most


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: as in the data.
        kind: one of ``KINDS``.
        levels: labels in code order, for binary, categorical and ordinal columns; a categorical one may have a single
            level, as nodes of networks do, of which other models know nothing.
        bounds: (low, high) of a bounded column, or of a count.
        reason: why this kind was inferred.
        incomplete: True where the column had unknown cells when it was inferred.
        dtype: of the data it came from.
    """

    name: str
    kind: str
    levels: tuple = ()
    bounds: tuple[float, float] | None = None
    reason: str = ""
    incomplete: bool = False
    dtype: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SchemaError(f"Column {self.name!r}: kind must be one of {', '.join(KINDS)}, got {self.kind!r}.")
        if self.kind in DISCRETE:
            self._check_levels()
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise SchemaError(f"Column {self.name!r}: bounds must be (low, high) with low < high, got {self.bounds}.")
        if self.kind == "bounded" and self.bounds is None:
            raise SchemaError(f"Column {self.name!r} is bounded but has no bounds; give bounds=(low, high).")
        if self.kind == "count" and not self.ends[0] < self.ends[1]:
            raise SchemaError(
                f"Column {self.name!r} is a count with bounds {self.bounds}, between which there are not two whole numbers from"
                " zero; widen them."
            )

    def _check_levels(self) -> None:
        least, most = LEVELS[self.kind]
        needed = f"{'exactly' if least == most else 'at least'} {least} level{'s' if least > 1 else ''}"
        if not least <= len(self.levels) <= most:
            raise SchemaError(f"Column {self.name!r} is {self.kind} and needs {needed}, got {list(self.levels)}.")
        if len(set(self.levels)) != len(self.levels):
            raise SchemaError(f"Column {self.name!r}: levels repeat in {list(self.levels)}; name each once.")

    @property
    def cardinality(self) -> int:
        """Number of levels; 0 for columns without."""
        return len(self.levels)

    @property
    def is_discrete(self) -> bool:
        """Binary, categorical or ordinal."""
        return self.kind in DISCRETE

    @property
    def is_continuous(self) -> bool:
        """Has a density with respect to length."""
        return self.kind in CONTINUOUS

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value of a count: whole numbers from zero, the greatest without end where none is told."""
        low, high = self.bounds or (0.0, math.inf)
        return math.ceil(max(low, 0.0)), math.floor(high) if math.isfinite(high) else math.inf

    def describe(self) -> str:
        """One line: kind, levels or bounds, and the reason."""
        detail = ""
        if self.levels:
            shown = ", ".join(map(on_one_line, self.levels[:6])) + (", ..." if len(self.levels) > 6 else "")
            detail = f" {{{shown}}}"
        elif self.bounds:
            detail = f" [{self.bounds[0]:g}, {self.bounds[1]:g}]"
        holes = ", has holes" if self.incomplete else ""
        return f"{self.kind}{detail}{holes}" + (f"  ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class Image:
    """Columns that are the pixels of one picture.

    They stand side by side, by rows, then columns, then channels of the picture, and are called ``name[r,c]``, or
    ``name[r,c,ch]`` where there is more than one channel.

    Attributes:
        name: of the picture.
        shape: ``(H, W, C)``; ``(H, W)`` is one channel.

    Example:
        >>> Image("photo", (1, 2)).names
        ('photo[0,0]', 'photo[0,1]')
    """

    name: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = tuple(self.shape) if isinstance(self.shape, tuple | list) else ()
        if len(shape) not in (2, 3) or not all(is_whole(n, 1) for n in shape):
            raise SchemaError(f"Image {self.name!r}: shape must be (H, W) or (H, W, C), got {self.shape!r}.")
        object.__setattr__(self, "shape", (*map(int, shape), 1)[:3])

    @property
    def pixels(self) -> int:
        """How many columns it has, H W C."""
        return math.prod(self.shape)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of its columns, in order."""
        height, width, channels = self.shape
        every = ((r, c, ch) for r in range(height) for c in range(width) for ch in range(channels))
        return tuple(f"{self.name}[{','.join(map(str, at if channels > 1 else at[:2]))}]" for at in every)

    def start(self, names: Sequence[str]) -> int | None:
        """Place of its first column among others, None where they do not all stand there side by side."""
        first = self.names[0]
        at = list(names).index(first) if first in names else 0
        return at if tuple(names[at : at + self.pixels]) == self.names else None


@dataclass(frozen=True)
class Text:
    """A column whose rows, the steps of sequences, are the tokens of texts; its levels are the tokens.

    Attributes:
        column: its name.
        tokenizer: the description of a tokenizer of byte pairs; empty where tokens are characters.
    """

    column: str
    tokenizer: str = ""


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order, which of them are pixels of pictures, and whether one is of the tokens of texts.

    Example:
        >>> schema = Schema((Column("bmi", "real"), Column("smoker", "binary", levels=("no", "yes"))))
        >>> schema.with_kind("bmi", "positive")["bmi"].kind
        'positive'
        >>> Schema.from_json(schema.to_json()) == schema
        True
    """

    columns: tuple[Column, ...]
    target: str | None = None
    images: tuple[Image, ...] = ()
    text: Text | None = None

    def __post_init__(self) -> None:
        repeated = sorted(str(name) for name, times in Counter(self.names).items() if times > 1)
        if repeated:
            raise SchemaError(f"Column names must differ; {', '.join(repeated)} repeat. Rename them.")
        if self.target is not None:
            self.index(self.target)
        for image in self.images:
            if image.start(self.names) is None:
                raise SchemaError(
                    f"Image {image.name!r}: its {image.pixels} columns, {image.names[0]} to {image.names[-1]}, must stand side by side."
                )

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __getitem__(self, key: str | int) -> Column:
        return self.columns[self.index(key) if isinstance(key, str) else key]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """Place of a column.

        Raises:
            SchemaError: no such column; the message lists them.
        """
        if name not in self._places:
            raise SchemaError(f"There is no column {name!r}. Columns: {', '.join(map(str, self.names))}.")
        return self._places[name]

    def image(self, name: str | None = None) -> Image:
        """A picture by its name; the only one where none is named.

        Raises:
            SchemaError: there is no such picture, or there are several and none is named.
        """
        found = [image for image in self.images if name in (None, image.name)]
        if len(found) == 1:
            return found[0]
        there = ", ".join(repr(image.name) for image in self.images) or "none (Table.from_images makes them)"
        raise SchemaError(f"Expected the name of one image, got {name!r}. Images: {there}.")

    def with_kind(
        self, name: str, kind: str, levels: Sequence[Any] | None = None, bounds: tuple[float, float] | None = None
    ) -> Schema:
        """The schema with one column of another kind, by the user's word."""
        old = self[name]
        if kind in DISCRETE and levels is None and not old.levels:
            raise SchemaError(f"Column {name!r}: kind {kind!r} needs levels=[...] in their order.")
        kept = tuple(levels) if levels is not None else (old.levels if kind in DISCRETE else ())
        limits = tuple(map(float, bounds)) if bounds is not None else (old.bounds if kind == "bounded" else None)
        new = replace(old, kind=kind, levels=kept, bounds=limits, reason="set by the user")  # type: ignore[arg-type]
        return replace(self, columns=tuple(new if c.name == name else c for c in self.columns))

    def with_target(self, name: str | None) -> Schema:
        """The schema with this column as the one to be predicted."""
        return replace(self, target=name)

    def with_holes(self, names: Collection[str]) -> Schema:
        """The schema in which these columns are incomplete, too."""
        return replace(self, columns=tuple(replace(c, incomplete=c.incomplete or c.name in names) for c in self))

    def select(self, names: Sequence[str]) -> Schema:
        """Some columns, in the order given; images of which all are there, in order, stay images."""
        images = tuple(image for image in self.images if image.start(names) is not None)
        text = self.text if self.text is not None and self.text.column in names else None
        return Schema(tuple(self[name] for name in names), self.target if self.target in names else None, images, text)

    def drop(self, names: Sequence[str]) -> Schema:
        """All columns but these; a text is one name."""
        names = [names] if isinstance(names, str) else names
        for name in names:
            self.index(name)
        return self.select([name for name in self.names if name not in names])

    def to_json(self) -> str:
        """Text from which :meth:`from_json` makes an equal schema."""
        entry: dict[str, Any] = {"target": self.target, "columns": [vars(c) for c in self.columns]}
        if self.images:
            entry["images"] = [{"name": image.name, "shape": image.shape} for image in self.images]
        if self.text is not None:
            entry["text"] = vars(self.text)
        return json.dumps(entry, indent=1, default=plain)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """A schema from its JSON text.

        Raises:
            SchemaError: the text is not a schema.
        """
        try:
            found = json.loads(text)
            columns = tuple(column_from(entry) for entry in found["columns"])
            images = tuple(Image(image["name"], tuple(image["shape"])) for image in found.get("images", ()))
            tokens = Text(**found["text"]) if found.get("text") else None
            return cls(columns, found.get("target"), images, tokens)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise SchemaError(f"This is not a schema in JSON ({error}); write one with schema.to_json().") from error

    def explain(self) -> str:
        """One line a column, and one an image: kind, levels or bounds, and why."""
        pixels = {name for image in self.images for name in image.names}
        first = {image.names[0]: image for image in self.images}
        lines = [
            (first[c.name].name, self._explain_image(first[c.name]))
            if c.name in first
            else (str(c.name), c.describe())
            for c in self.columns
            if c.name in first or c.name not in pixels
        ]
        width = max((len(name) for name, _ in lines), default=0)
        mark = {self.target: "  <- target"} if self.target else {}
        return "\n".join(f"{name:<{width}}  {said}{mark.get(name, '')}" for name, said in lines)

    def _explain_image(self, image: Image) -> str:
        columns = [replace(self[name], name="", reason="", incomplete=False, dtype="") for name in image.names]
        kinds = list(dict.fromkeys(column.describe() for column in columns))
        holes = ", has holes" if any(self[name].incomplete for name in image.names) else ""
        return f"image of {' x '.join(map(str, image.shape))} pixels, {' or '.join(kinds[:3])}{holes}"

    def __str__(self) -> str:
        return self.explain()


def column_from(entry: dict[str, Any]) -> Column:
    bounds = entry.get("bounds")
    fixed = {"levels": tuple(entry.get("levels", ())), "bounds": None if bounds is None else tuple(bounds)}
    return Column(**{**entry, **fixed})


def on_one_line(level: Any) -> str:
    """A label as it is read, and control characters as they are written."""
    return str(level) if str(level).isprintable() else repr(level)


def plain(value: Any) -> Any:
    """Labels of other libraries as JSON knows them."""
    return value.item() if hasattr(value, "item") else str(value)
