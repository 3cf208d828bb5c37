"""Columns and their kinds."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from probgen.data.groups import Group, Image, Text, Tokens, group_from
from probgen.errors import SchemaError

__all__ = ["KINDS", "Column", "Group", "Image", "Schema", "Text", "Tokens"]

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
    tokens: tuple[Tokens, ...] = ()

    def __post_init__(self) -> None:
        repeated = sorted(str(name) for name, times in Counter(self.names).items() if times > 1)
        if repeated:
            raise SchemaError(f"Column names must differ; {', '.join(repeated)} repeat. Rename them.")
        if self.target is not None:
            self.index(self.target)
        for group in self.groups:
            self._check_group(group)

    def _check_group(self, group: Group) -> None:
        what, names = type(group).__name__, group.names
        if group.start(self.names) is None:
            raise SchemaError(
                f"{what} {group.name!r}: its {len(names)} columns, {names[0]} to {names[-1]}, must stand side by side."
            )
        if sum(group.name in (other.name, *other.names) for other in self.groups) > 1 or group.name in self.names:
            raise SchemaError(f"{what} {group.name!r}: its name is that of something else, too; rename one of them.")
        if isinstance(group, Tokens) and (len({self[name].levels for name in names}) > 1 or not self[names[0]].levels):
            raise SchemaError(f"{what} {group.name!r}: its columns must have the same levels, its tokens.")

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
            for group in self.groups:
                if group.name == name:
                    raise SchemaError(
                        f"{name!r} is no column but a {group.describe()}, columns {group.names[0]!r} to {group.names[-1]!r}."
                    )
            raise SchemaError(f"There is no column {name!r}. Columns: {', '.join(self._brief())}.")
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

    @property
    def groups(self) -> tuple[Group, ...]:
        """Columns that are one thing: pictures, sounds and texts."""
        return (*self.images, *self.tokens)

    def columns_named(self, names: str | Sequence[str]) -> tuple[str, ...]:
        """Names of columns, those of groups in place of the names of groups.

        Raises:
            SchemaError: a name of neither; the message lists them.
        """
        of = {group.name: group.names for group in self.groups}
        found = [of.get(name, (name,)) for name in ([names] if isinstance(names, str) else names)]
        for name in (name for some in found for name in some):
            self.index(name)
        return tuple(name for some in found for name in some)

    def text_named(self, name: str | None = None) -> Tokens:
        """A text by its name; the only one where none is named.

        Raises:
            SchemaError: there is no such text, or there are several and none is named.
        """
        found = [text for text in self.tokens if name in (None, text.name)]
        if len(found) == 1:
            return found[0]
        there = ", ".join(repr(text.name) for text in self.tokens) or "none (Table.from_parts makes them)"
        raise SchemaError(f"Expected the name of one text, got {name!r}. Texts: {there}.")

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

    def select(self, names: str | Sequence[str]) -> Schema:
        """Some columns, those of groups by the groups' names, in the order given; groups of which all are there, in order, stay groups."""
        names = self.columns_named(names)
        images = tuple(image for image in self.images if image.start(names) is not None)
        tokens = tuple(text for text in self.tokens if text.start(names) is not None)
        text = self.text if self.text is not None and self.text.column in names else None
        return Schema(
            tuple(self[name] for name in names), self.target if self.target in names else None, images, text, tokens
        )

    def drop(self, names: str | Sequence[str]) -> Schema:
        """All columns but these, or those of these groups; a string is one name."""
        names = self.columns_named(names)
        return self.select([name for name in self.names if name not in names])

    def to_json(self) -> str:
        """Text from which :meth:`from_json` makes an equal schema."""
        entry: dict[str, Any] = {"target": self.target, "columns": [vars(c) for c in self.columns]}
        if self.images:
            entry["images"] = [image.entry() for image in self.images]
        if self.tokens:
            entry["tokens"] = [text.entry() for text in self.tokens]
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
            images = tuple(map(group_from, found.get("images", ())))
            steps = Text(**found["text"]) if found.get("text") else None
            tokens = tuple(Tokens(**entry) for entry in found.get("tokens", ()))
            return cls(columns, found.get("target"), images, steps, tokens)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise SchemaError(f"This is not a schema in JSON ({error}); write one with schema.to_json().") from error

    def explain(self) -> str:
        """One line a column, and one a group: kind, levels or bounds, and why."""
        grouped = {name for group in self.groups for name in group.names}
        first = {group.names[0]: group for group in self.groups}
        lines = [
            (first[c.name].name, self._explain_group(first[c.name]))
            if c.name in first
            else (str(c.name), c.describe())
            for c in self.columns
            if c.name in first or c.name not in grouped
        ]
        width = max((len(name) for name, _ in lines), default=0)
        mark = {self.target: "  <- target"} if self.target else {}
        return "\n".join(f"{name:<{width}}  {said}{mark.get(name, '')}" for name, said in lines)

    def _brief(self) -> list[str]:
        """Names of columns, each group's at its first."""
        first = {group.names[0]: group.name for group in self.groups}
        grouped = {name for group in self.groups for name in group.names[1:]}
        return [str(first.get(name, name)) for name in self.names if name not in grouped]

    def _explain_group(self, group: Group) -> str:
        columns = [replace(self[name], name="", reason="", incomplete=False, dtype="") for name in group.names]
        kinds = list(dict.fromkeys(column.describe() for column in columns))
        holes = ", has holes" if any(self[name].incomplete for name in group.names) else ""
        return f"{group.describe()}, {' or '.join(kinds[:3])}{holes}"

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
