"""What must hold in every completed table, said once, beside any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from probgen.data.formulas import Formula, formula
from probgen.data.limits import Censored, censored
from probgen.errors import SchemaError
from probgen.whole import check_whole

__all__ = ["Design", "said", "shown"]

Rule = str | Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Design:
    """What must hold in every completed table: the design of a study, beside any model.

    A rule or formula is a text such as "start <= end", ``weight / (height / 100) ** 2`` or "sex == 'male' and age > 14" (columns,
    numbers, texts, dates as "2020-01-31", ``+ - * / // % **``, comparisons, in, and, or, not, if else, log, exp, sqrt, abs, round,
    min, max; names that are no words of Python in `backticks`), or a function of a data frame.

    Args:
        derived: columns that are formulas of others: computed, never drawn. A known cell of one tells of unknown ingredients:
            one is solved for, several are drawn so that the formula holds. A column that there is not yet is added.
        totals: ``{"total": ["a", "b"]}`` is ``derived={"total": "a + b"}``.
        bounds: lowest and highest value of a column's unknown cells (None: no bound); dates as texts.
        rules: what must be true of every row; a row whose draws break one is drawn again.
        skip: cells that do not apply where a rule is true: ``{"pregnancies": "sex == 'male'"}`` stay missing,
            ``{"pregnancies": ("sex == 'male'", 0)}`` have the value 0. They tell the model nothing.
        keep_missing: unknown cells that stay unknown: names of columns, a mask ``(N, D)``, or ``{column: rule}``.
        censored: cells of which an interval is known: ``{"crp": (None, 0.05)}``, or :func:`probgen.censored`.
        auxiliary: columns that help the model and are left out of the completed tables.
        exclude: columns that come back as they are and that the model does not see: identifiers, texts.
        weights: the column of sampling weights, where they are not the table's own (``Table(..., weights=)``).
        groups: the column that says which group (school, clinic) a row belongs to: numbers have random intercepts, of
            semicontinuous columns the amounts that are not zero.
        tolerance: how far a known derived cell may lie from its formula, in standard deviations of its column.
        squeeze: cells that still lie outside bounds after all tries are moved to the bound, counted, with a warning.
        tries: candidates that a row is given.
        rounds: of drawing what is known by halves and fitting again, before the first imputation; half as many before each
            later one. By the share of such cells where None.

    Raises:
        SchemaError: a rule that cannot be read, or two rules for what a column is.

    Example:
        >>> design = Design(derived={"bmi": "weight / (height / 100) ** 2"}, bounds={"height": (40, 210)})
        >>> sorted(design.formulas["bmi"].names)
        ['height', 'weight']
    """

    derived: Mapping[str, Rule] = field(default_factory=dict)
    totals: Mapping[str, Sequence[str]] = field(default_factory=dict)
    bounds: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    rules: Sequence[Rule] = ()
    skip: Mapping[str, Any] = field(default_factory=dict)
    keep_missing: Any = ()
    censored: Mapping[str, Any] = field(default_factory=dict)
    auxiliary: Sequence[str] = ()
    exclude: Sequence[str] = ()
    weights: str | None = None
    groups: str | None = None
    tolerance: float = 0.01
    squeeze: bool = False
    tries: int = 10_000
    rounds: int | None = None

    def __post_init__(self) -> None:
        for name in ("auxiliary", "exclude", "rules"):
            found = getattr(self, name)
            object.__setattr__(self, name, (found,) if isinstance(found, str) or callable(found) else tuple(found))
        if isinstance(self.keep_missing, str):
            object.__setattr__(self, "keep_missing", (self.keep_missing,))
        check_numbers(self)
        check_roles(self)
        _ = self.formulas, self.checks, self.skips, self.kept, self.intervals  # what cannot be read is told at once

    def __repr__(self) -> str:
        return f"pg.Design({', '.join(f'{name}={shown(value)}' for name, value in said(self).items())})"

    @cached_property
    def formulas(self) -> dict[str, Formula]:
        """The formula of each derived column, ingredients before what is made of them."""
        sums = {name: " + ".join(f"`{part}`" for part in parts) for name, parts in self.totals.items()}
        return in_order({name: formula(rule) for name, rule in {**self.derived, **sums}.items()})

    @cached_property
    def checks(self) -> tuple[Formula, ...]:
        """What must be true of every row."""
        return tuple(formula(rule) for rule in self.rules)

    @cached_property
    def skips(self) -> dict[str, tuple[Formula, Any]]:
        """When a column's cells do not apply, and the value that they then have (None: none)."""
        pairs = {name: rule if isinstance(rule, tuple) else (rule, None) for name, rule in self.skip.items()}
        return {name: (formula(rule), value) for name, (rule, value) in pairs.items()}

    @cached_property
    def kept(self) -> dict[str, Formula]:
        """When a column's unknown cells stay unknown, where a rule says so."""
        rules = self.keep_missing if isinstance(self.keep_missing, Mapping) else {}
        return {name: formula(rule) for name, rule in rules.items()}

    @cached_property
    def intervals(self) -> dict[str, Censored]:
        """The censored columns."""
        return {
            name: found if isinstance(found, Censored) else censored(*pair_of(name, found, "censored"))
            for name, found in self.censored.items()
        }

    @cached_property
    def apart(self) -> frozenset[str]:
        """Columns that the model does not see."""
        found = {*self.formulas, *self.exclude, *(name for name in (self.weights, self.groups) if name is not None)}
        for name, interval in self.intervals.items():
            for what in (interval.lower, interval.upper, interval.where):
                found |= (
                    set(formula(what).names or ()) - {name} if isinstance(what, str) and not is_date(what) else set()
                )
        return frozenset(found - set(self.auxiliary) - set(self.censored))


def said(thing: Any) -> dict[str, Any]:
    """The attributes of a dataclass that are not what they would be unasked."""
    found = {}
    for item in fields(thing):
        value = getattr(thing, item.name)
        usual = item.default if item.default_factory is MISSING else item.default_factory()
        if hasattr(value, "shape") or value != usual:
            found[item.name] = value
    return found


def shown(value: Any) -> str:
    """A value as it is written in a call; arrays by their shapes, functions by their names.

    Example:
        >>> from probgen.data.limits import censored
        >>> shown({"x": (0, None)}), shown(("id",)), shown(lambda frame: frame), shown(censored(upper=2.0))
        ("{'x': (0, None)}", "('id',)", '<lambda>', 'pg.censored(upper=2.0)')
    """
    if isinstance(value, Censored):
        return f"pg.censored({', '.join(f'{name}={shown(end)}' for name, end in said(value).items())})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {shown(part)}" for key, part in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(shown, value)) + ("," if len(value) == 1 else "") + ")"
    if hasattr(value, "shape") and np.ndim(value):
        return f"<array {'x'.join(map(str, value.shape))}>"
    return getattr(value, "__name__", type(value).__name__) if callable(value) else repr(value)


def is_date(text: str) -> bool:
    return len(text) >= 10 and text[:4].isdigit() and text[4] == "-"


def pair_of(name: str, found: Any, what: str) -> tuple[Any, Any]:
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise SchemaError(
            f"{what}[{name!r}] must be a pair (lower, upper), None where there is no end; got {found!r}."
        )
    return found[0], found[1]


def check_numbers(design: Design) -> None:
    for name in ("tries", "rounds"):
        number = getattr(design, name)
        if number is not None or name == "tries":
            check_whole(name, number, error=SchemaError)
    if not design.tolerance >= 0:
        raise SchemaError(f"tolerance must be a number of at least 0, got {design.tolerance!r}.")
    for name, pair in design.bounds.items():
        pair_of(name, pair, "bounds")


def check_roles(design: Design) -> None:
    """One column, one role."""
    roles = {
        "derived": (*design.derived,),
        "totals": (*design.totals,),
        "auxiliary": design.auxiliary,
        "exclude": design.exclude,
        "weights": (design.weights or "",),
        "groups": (design.groups or "",),
    }
    seen: dict[str, str] = {}
    for role, names in roles.items():
        for name in filter(None, names):
            if name in seen:
                raise SchemaError(f"Column {name!r} cannot be in {seen[name]!r} and in {role!r}; name it in one.")
            seen[name] = role
    for name in {*design.skip, *design.censored}:
        if seen.get(name) in ("derived", "totals", "exclude", "weights", "groups"):
            raise SchemaError(
                f"Column {name!r} is in {seen[name]!r}: its cells are not drawn, and no rule can say how."
            )


def in_order(formulas: dict[str, Formula]) -> dict[str, Formula]:
    """Ingredients first, functions (whose ingredients are not told) last; a refusal of circles."""
    functions = {name: rule for name, rule in formulas.items() if rule.names is None}
    formulas = {name: rule for name, rule in formulas.items() if rule.names is not None}
    ordered: dict[str, Formula] = {}
    while len(ordered) < len(formulas):
        ready = [
            name
            for name, rule in formulas.items()
            if name not in ordered and not (set(rule.names or ()) & set(formulas)) - set(ordered)
        ]
        if not ready:
            circle = ", ".join(repr(name) for name in formulas if name not in ordered)
            raise SchemaError(f"Derived columns {circle} are made of each other; one of them must be drawn.")
        ordered |= {name: formulas[name] for name in ready}
    return ordered | functions
