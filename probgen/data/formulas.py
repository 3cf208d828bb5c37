"""Formulas over columns: arithmetic, comparisons and a few functions, read by Python's own grammar and never run as code.

An unknown cell makes what depends on it unknown (NaN), and only that: ``a or b`` is true where ``a`` is, whatever ``b`` is
(Kleene, 1938). Truth is 1, falsehood 0. Dates count in days; a text beside a date is read as one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.coding import code_of, codes_of, decode_column
from probgen.data.evaluating import BINARY, FUNCTIONS, ORDER, Cells, Coded, value
from probgen.data.schema import Column, Schema
from probgen.errors import SchemaError

__all__ = ["Formula", "formula"]

WHOLE = (ast.And, ast.Or, ast.Not, ast.Invert, ast.USub, ast.UAdd, ast.BitAnd, ast.BitOr, ast.In, ast.NotIn, ast.Load)
NODES = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.Name),
    *(ast.Constant, ast.Tuple, ast.List, *WHOLE, *BINARY, *ORDER),
)
QUOTED = re.compile(r"`([^`]+)`")


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
    renamed: Mapping[str, str] = field(default_factory=dict)

    def of(self, values: np.ndarray, schema: Schema) -> Any:
        """``(N,)``: numbers (truth is 1), NaN where unknown; an array of labels where the formula ends in texts."""
        if self.function is not None:
            return answer_of(self, values, schema)
        with np.errstate(all="ignore"):
            found = value(self.tree, Cells(values, schema, self.text, self.renamed))
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
