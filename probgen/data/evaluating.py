"""What a formula's tree says of rows: numbers, truth in three values, labels."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from probgen.data.coding import code_of, codes_of
from probgen.data.schema import Column, Schema
from probgen.errors import SchemaError

__all__ = ["BINARY", "FUNCTIONS", "ORDER", "Cells", "Coded", "days", "number", "value"]

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
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?$")


@dataclass(frozen=True, eq=False)
class Coded:
    """Cells of a column whose levels are texts."""

    codes: np.ndarray
    column: Column


@dataclass(frozen=True, eq=False)
class Cells:
    """The columns that a formula may name."""

    values: np.ndarray
    schema: Schema
    text: str
    renamed: Mapping[str, str]

    def column(self, name: str) -> Any:
        column = self.schema[self.renamed.get(name, name)]
        codes = self.values[:, self.schema.index(column.name)]
        if not column.is_discrete:
            return codes
        if all(isinstance(level, int | float | np.number) for level in column.levels):
            return np.where(np.isnan(codes), np.nan, np.array(column.levels, float)[np.nan_to_num(codes).astype(int)])
        return Coded(codes, column)


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
        return chosen(value(node.test, cells), value(node.body, cells), value(node.orelse, cells), cells)
    assert isinstance(node, ast.Call)
    return FUNCTIONS[node.func.id](*(number(value(one, cells), cells) for one in node.args))  # type: ignore[attr-defined]


def number(found: Any, cells: Cells) -> Any:
    """Numbers; a refusal of labels."""
    if isinstance(found, Coded):
        raise SchemaError(
            f"{cells.text!r} computes with column {found.column.name!r}, whose levels are texts; compare it instead."
        )
    if isinstance(found, str | list) or found is None:
        raise SchemaError(f"{cells.text!r} computes with {found!r}, which is no number.")
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
            raise SchemaError(f"{cells.text!r}: what stands after 'in' is a list of values in brackets.")
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
        raise SchemaError(f"{cells.text!r}: levels of {column.name!r} ({column.kind}) have no order.")
    if isinstance(one, Coded):
        if isinstance(other, Coded) and other.column.levels != column.levels:
            raise SchemaError(f"{cells.text!r} compares columns that have different levels.")
        return one.codes
    code = code_of(one, codes_of(column.levels))
    if not code >= 0:
        raise SchemaError(
            f"{cells.text!r}: {one!r} is no level of column {column.name!r} ({', '.join(map(repr, column.levels))})."
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
