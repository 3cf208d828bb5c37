"""Columns and their kinds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from probgen.errors import SchemaError

__all__ = ["KINDS", "Column", "Schema"]

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
        bounds: (low, high) of a bounded column.
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

    def describe(self) -> str:
        """One line: kind, levels or bounds, and the reason."""
        detail = ""
        if self.levels:
            shown = ", ".join(map(str, self.levels[:6])) + (", ..." if len(self.levels) > 6 else "")
            detail = f" {{{shown}}}"
        elif self.bounds:
            detail = f" [{self.bounds[0]:g}, {self.bounds[1]:g}]"
        holes = ", has holes" if self.incomplete else ""
        return f"{self.kind}{detail}{holes}" + (f"  ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order.

    Example:
        >>> schema = Schema((Column("bmi", "real"), Column("smoker", "binary", levels=("no", "yes"))))
        >>> schema.with_kind("bmi", "positive")["bmi"].kind
        'positive'
        >>> Schema.from_json(schema.to_json()) == schema
        True
    """

    columns: tuple[Column, ...]
    target: str | None = None

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        repeated = sorted({str(name) for name in names if names.count(name) > 1})
        if repeated:
            raise SchemaError(f"Column names must differ; {', '.join(repeated)} repeat. Rename them.")
        if self.target is not None:
            self.index(self.target)

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __getitem__(self, key: str | int) -> Column:
        return self.columns[key if isinstance(key, int) else self.index(key)]

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

    def select(self, names: Sequence[str]) -> Schema:
        """Some columns, in the order given."""
        return Schema(tuple(self[name] for name in names), self.target if self.target in names else None)

    def drop(self, names: Sequence[str]) -> Schema:
        """All columns but these; a text is one name."""
        names = [names] if isinstance(names, str) else names
        for name in names:
            self.index(name)
        return self.select([name for name in self.names if name not in names])

    def to_json(self) -> str:
        """Text from which :meth:`from_json` makes an equal schema."""
        return json.dumps({"target": self.target, "columns": [vars(c) for c in self.columns]}, indent=1, default=plain)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """A schema from its JSON text.

        Raises:
            SchemaError: the text is not a schema.
        """
        try:
            found = json.loads(text)
            columns = tuple(column_from(entry) for entry in found["columns"])
            return cls(columns, found.get("target"))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise SchemaError(f"This is not a schema in JSON ({error}); write one with schema.to_json().") from error

    def explain(self) -> str:
        """One line a column: kind, levels or bounds, and why."""
        width = max((len(str(name)) for name in self.names), default=0)
        mark = {self.target: "  <- target"} if self.target else {}
        return "\n".join(f"{c.name!s:<{width}}  {c.describe()}{mark.get(c.name, '')}" for c in self.columns)

    def __str__(self) -> str:
        return self.explain()


def column_from(entry: dict[str, Any]) -> Column:
    bounds = entry.get("bounds")
    fixed = {"levels": tuple(entry.get("levels", ())), "bounds": None if bounds is None else tuple(bounds)}
    return Column(**{**entry, **fixed})


def plain(value: Any) -> Any:
    """Labels of other libraries as JSON knows them."""
    return value.item() if hasattr(value, "item") else str(value)
