"""Formulas over columns: arithmetic, comparisons and a few functions, read by Python's own grammar and never run as code.

An unknown cell makes what depends on it unknown (NaN), and only that: ``a or b`` is true where ``a`` is, whatever ``b`` is
(Kleene, 1938). Truth is 1, falsehood 0. Dates count in days; a text beside a date is read as one.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from probgen.data.coding import code_of, codes_of, decode_column
from probgen.data.schema import Column, Schema
from probgen.errors import SchemaError

__all__ = ["Formula", "formula"]

BINARY: Mapping[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
ORDER: Mapping[type, Callable] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
FUNCTIONS: Mapping[str, Callable] = {
    "log": np.log,
    "log10": np.log10,
    "log1p": np.log1p,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "round": np.round,
    "floor": np.floor,
    "ceil": np.ceil,
    "min": lambda *x: reduce(np.minimum, x),
    "max": lambda *x: reduce(np.maximum, x),
}
WHOLE = (ast.And, ast.Or, ast.Not, ast.Invert, ast.USub, ast.UAdd, ast.BitAnd, ast.BitOr, ast.In, ast.NotIn, ast.Load)
NODES = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.Name),
    *(ast.Constant, ast.Tuple, ast.List, *WHOLE, *BINARY, *ORDER),
)
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?$")
QUOTED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, eq=False)
class Coded:
    """Cells of a column whose levels are texts."""

    codes: np.ndarray
    column: Column


@dataclass(frozen=True, eq=False)
class Formula:
    """A formula and the columns that it names.

    Attributes:
        text: as it was written, or the function's name.
        names: the columns, in the order of their first use; None for a function, which is shown all columns.
        tree: the formula as Python's grammar reads it.
        function: of a data frame, instead of a tree.

    Example:
        >>> from probgen.data.table import Table
        >>> table = Table({"weight": [70.0, None, 80.0], "height": [175.0, 180.0, 160.0]})
        >>> formula("weight / (height / 100) ** 2 < 30").of(table.values, table.schema).tolist()
        [1.0, nan, 0.0]
    """

    text: str
    names: tuple[str, ...] | None
    tree: ast.expr | None = None
    function: Callable[[Any], Any] | None = None
    renamed: Mapping[str, str] | None = None

    def of(self, values: np.ndarray, schema: Schema) -> Any:
        """``(N,)``: numbers (truth is 1), NaN where unknown; an array of labels where the formula ends in texts."""
        if self.function is not None:
            return answer_of(self, values, schema)
        with np.errstate(all="ignore"):
            found = value(self.tree, Cells(values, schema, self))
        if isinstance(found, Coded):
            return decode_column(found.codes, found.column)
        if isinstance(found, np.ndarray) and found.shape == (len(values),):
            return found
        return np.full(len(values), found, dtype=object if isinstance(found, str) else float)

    def truth(self, values: np.ndarray, schema: Schema) -> np.ndarray:
        """``(N,)``: 1 where it holds, 0 where not, NaN where that is open."""
        found = np.asarray(self.of(values, schema))
        if found.dtype == object:
            raise SchemaError(f"The rule {self.text!r} gives texts; a rule is true or false, as 'a <= b'.")
        return np.where(np.isnan(found), np.nan, found != 0)

    def codes(self, values: np.ndarray, schema: Schema, column: Column) -> np.ndarray:
        """``(N,)``: what the formula says as values of a column, its codes where it has levels."""
        found = self.of(values, schema)
        if not column.is_discrete:
            if np.asarray(found).dtype == object:
                raise SchemaError(f"{self.text!r} gives texts, but column {column.name!r} is {column.kind}.")
            return np.asarray(found, dtype=float)
        levels = codes_of(column.levels)
        coded = np.array([code_of(one, levels) for one in np.asarray(found).tolist()], dtype=float)
        if (coded == -1).any():
            strange = np.asarray(found)[coded == -1][0]
            raise SchemaError(
                f"{self.text!r} gives {strange!r}, which is no level of column {column.name!r} ({list(column.levels)})."
            )
        return coded


@dataclass(frozen=True, eq=False)
class Cells:
    """The columns that a formula may name."""

    values: np.ndarray
    schema: Schema
    formula: Formula

    def column(self, name: str) -> Any:
        column = self.schema[(self.formula.renamed or {}).get(name, name)]
        codes = self.values[:, self.schema.index(column.name)]
        if not column.is_discrete:
            return codes
        if all(isinstance(level, int | float | np.number) for level in column.levels):
            return np.where(np.isnan(codes), np.nan, np.array(column.levels, float)[np.nan_to_num(codes).astype(int)])
        return Coded(codes, column)


# ------------------------------------------------------------------------------------------------------------ reading
def formula(written: Any) -> Formula:
    """Read a formula.

    Args:
        written: a text (names that are no words of Python stand in `backticks`), or a function of a data frame.

    Raises:
        SchemaError: the text is no formula, or holds more than arithmetic, comparisons and the functions that there are.
    """
    if isinstance(written, Formula):
        return written
    if callable(written):
        return Formula(getattr(written, "__name__", repr(written)), None, function=written)
    if not isinstance(written, str):
        raise SchemaError(f"A formula is a text such as 'a <= b', or a function of a data frame; got {written!r}.")
    renamed: dict[str, str] = {}

    def plain(found: re.Match) -> str:
        return renamed.setdefault(f"quoted_{len(renamed)}_", found[1]) and f"quoted_{len(renamed) - 1}_"

    try:
        tree = ast.parse(QUOTED.sub(plain, written).strip(), mode="eval")
    except SyntaxError as error:
        raise SchemaError(f"{written!r} is no formula ({error.msg}); write it as Python, as 'a / b ** 2'.") from error
    names = [renamed.get(name, name) for name in checked(tree, written)]
    return Formula(written, tuple(dict.fromkeys(names)), tree.body, renamed=renamed)


def checked(tree: ast.Expression, text: str) -> list[str]:
    """The columns named, in order; a refusal of all that is no formula."""
    called = set()
    for node in ast.walk(tree):
        if not isinstance(node, NODES):
            raise SchemaError(f"{text!r} holds what no formula may ({type(node).__name__}); pass a function instead.")
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords or not node.args:
                raise SchemaError(f"{text!r}: the functions of formulas are {', '.join(FUNCTIONS)}.")
            called.add(id(node.func))
    names = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called]
    return [node.id for node in sorted(names, key=lambda node: (node.lineno, node.col_offset))]


def answer_of(rule: Formula, values: np.ndarray, schema: Schema) -> Any:
    """What a person's function says of a data frame with the columns' labels, one answer a row."""
    import pandas as pd

    assert rule.function is not None
    frame = pd.DataFrame({c.name: decode_column(values[:, place], c) for place, c in enumerate(schema)})
    with np.errstate(all="ignore"):
        found = np.asarray(pd.Series(rule.function(frame)))
    if found.shape != (len(values),):
        raise SchemaError(f"{rule.text!r} must give one answer a row, {len(values)}; got shape {found.shape}.")
    return found if found.dtype == object and isinstance(found[0], str | None) else found.astype(float)


# --------------------------------------------------------------------------------------------------------- evaluating
def value(node: Any, cells: Cells) -> Any:
    """A number, a text, an array of numbers, or the cells of a column with texts."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return cells.column(node.id)
    if isinstance(node, ast.Tuple | ast.List):
        return [value(one, cells) for one in node.elts]
    if isinstance(node, ast.BinOp):
        return combined(node, value(node.left, cells), value(node.right, cells), cells)
    if isinstance(node, ast.UnaryOp):
        inner = number(value(node.operand, cells), cells)
        return (
            1.0 - (inner != 0) + 0.0 * inner if isinstance(node.op, ast.Not | ast.Invert) else signed(node.op, inner)
        )
    if isinstance(node, ast.BoolOp):
        join = both if isinstance(node.op, ast.And) else either
        return reduce(join, [number(value(one, cells), cells) for one in node.values])
    if isinstance(node, ast.Compare):
        sides = [value(one, cells) for one in (node.left, *node.comparators)]
        return reduce(both, [compared(op, a, b, cells) for op, a, b in zip(node.ops, sides, sides[1:], strict=False)])
    if isinstance(node, ast.IfExp):
        return chosen(*(value(one, cells) for one in (node.test, node.body, node.orelse)), cells)
    assert isinstance(node, ast.Call)
    return FUNCTIONS[node.func.id](*(number(value(one, cells), cells) for one in node.args))  # type: ignore[attr-defined]


def number(found: Any, cells: Cells) -> Any:
    if isinstance(found, Coded):
        raise SchemaError(
            f"{cells.formula.text!r} computes with column {found.column.name!r}, whose levels are texts; compare it instead."
        )
    if isinstance(found, str | list) or found is None:
        raise SchemaError(f"{cells.formula.text!r} computes with {found!r}, which is no number.")
    return found * 1.0


def signed(op: ast.unaryop, inner: Any) -> Any:
    return -inner if isinstance(op, ast.USub) else inner


def combined(node: ast.BinOp, left: Any, right: Any, cells: Cells) -> Any:
    if isinstance(node.op, ast.BitAnd | ast.BitOr):
        join = both if isinstance(node.op, ast.BitAnd) else either
        return join(number(left, cells), number(right, cells))
    sides = dated(left, right), dated(right, left)
    return BINARY[type(node.op)](*(np.asarray(number(side, cells)) for side in sides))


def both(a: Any, b: Any) -> Any:
    """And: false where either is false, unknown where neither is and one is unknown."""
    open_ = np.isnan(a) | np.isnan(b)
    return np.where((a == 0) | (b == 0), 0.0, np.where(open_, np.nan, 1.0))


def either(a: Any, b: Any) -> Any:
    """Or: true where either is true, unknown where neither is and one is unknown."""
    return 1.0 - both(1.0 * (a == 0) + 0.0 * a, 1.0 * (b == 0) + 0.0 * b)


def chosen(test: Any, yes: Any, no: Any, cells: Cells) -> Any:
    test = np.broadcast_to(number(test, cells), len(cells.values))
    if isinstance(yes, str) or isinstance(no, str):
        return np.where(np.isnan(test), None, np.where(test != 0, yes, no))
    return np.where(np.isnan(test), np.nan, np.where(test != 0, number(yes, cells), number(no, cells)))


def compared(op: ast.cmpop, left: Any, right: Any, cells: Cells) -> Any:
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(right, list):
            raise SchemaError(f"{cells.formula.text!r}: what stands after 'in' is a list of values in brackets.")
        found = reduce(either, [compared(ast.Eq(), left, one, cells) for one in right])
        return found if isinstance(op, ast.In) else 1.0 - found
    if isinstance(left, Coded) or isinstance(right, Coded):
        left, right = levelled(op, left, right, cells), levelled(op, right, left, cells)
    a, b = number(dated(left, right), cells), number(dated(right, left), cells)
    return np.where(np.isnan(a) | np.isnan(b), np.nan, ORDER[type(op)](a, b))


def levelled(op: ast.cmpop, one: Any, other: Any, cells: Cells) -> Any:
    """One side of a comparison of labels, as codes of the column on either side."""
    column = one.column if isinstance(one, Coded) else other.column
    if column.kind != "ordinal" and not isinstance(op, ast.Eq | ast.NotEq):
        raise SchemaError(f"{cells.formula.text!r}: levels of {column.name!r} ({column.kind}) have no order.")
    if isinstance(one, Coded):
        if isinstance(other, Coded) and other.column.levels != column.levels:
            raise SchemaError(f"{cells.formula.text!r} compares columns that have different levels.")
        return one.codes
    code = code_of(one, codes_of(column.levels))
    if not code >= 0:
        raise SchemaError(
            f"{cells.formula.text!r}: {one!r} is no level of column {column.name!r} ({', '.join(map(repr, column.levels))})."
        )
    return code


def dated(one: Any, other: Any) -> Any:
    """A text beside numbers as the days of its date."""
    if isinstance(one, str) and not isinstance(other, str | Coded) and DATE.match(one.strip()):
        return days(one)
    return one


def days(date: str) -> float:
    """Days since 1970."""
    return float((np.datetime64(date.strip(), "us") - np.datetime64("1970-01-01", "us")) / np.timedelta64(1, "D"))
