"""Which known cells can be hidden to be imputed again as if they were missing, and what a design says of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.studies.design import Design
from probgen.studies.ingredients import bases_of
from probgen.studies.knowledge import prepare, staying

__all__ = ["Hidable", "hidable"]


@dataclass(frozen=True, eq=False)
class Hidable:
    """A table and its cells that may be hidden.

    Attributes:
        table: as it was; under a design with all columns that it speaks of.
        cells: ``(N, D)`` known cells whose draws, were they missing, can be compared with what they are.
        places: of the columns that the model sees.
        design: what must hold.
    """

    table: Table
    cells: np.ndarray
    places: np.ndarray
    design: Design | None = None

    def holed(self, hidden: np.ndarray) -> Table:
        """The table without some cells, and without the derived cells that would give them away."""
        gone = hidden.copy()
        for name in () if self.design is None else self.design.formulas:
            assert self.design is not None
            parts = [self.table.schema.index(part) for part in bases_of(self.design, name)]
            gone[:, self.table.schema.index(name)] |= hidden[:, parts].any(1)
        return self.table.with_values(np.where(gone, np.nan, self.table.values))

    def drawn(self, tables: Sequence[Table], hidden: np.ndarray) -> np.ndarray:
        """``(m, C)``: what the completed tables say of the hidden cells, row by row."""
        columns = np.flatnonzero(hidden.any(0))
        at = [tables[0].schema.index(self.table.names[place]) for place in columns]
        return np.stack([one.values[:, at][hidden[:, columns]] for one in tables])

    def asked(self, columns: Sequence[str] | None) -> list[int]:
        """Places of columns by name, or of all that have cells to hide.

        Raises:
            DataError: a column without one, and why.
        """
        if columns is None:
            return np.flatnonzero(self.cells.any(0)).tolist()
        places = [self.table.schema.index(name) for name in columns]
        for name, place in zip(columns, places, strict=True):
            if self.table.known[:, place].any() and not self.cells[:, place].any():
                raise DataError(
                    f"No cell of column {name!r} can be hidden: the design says what it is, or what its unknown cells are."
                )
        return places


def hidable(data: Any, options: Mapping[str, Any]) -> Hidable:
    """A table, and the cells that may be hidden given the options of :func:`probgen.impute`.

    Under a design these are cells that the model draws and returns: of no derived, excluded, auxiliary or censored column, none
    that would stay missing, and of columns with skip patterns only those that apply.

    Raises:
        CapabilityError: there is a model of the mask.
    """
    design = options.get("design")
    if options.get("mechanism") is not None:
        raise CapabilityError(
            "Cells hidden at random did not get lost by a mechanism: imputations with one are drawn from another law than theirs."
            " Leave out mechanism; how much rests on it is what imputed.mechanism and pg.sensitivity tell."
        )
    if design is None:
        table = data if isinstance(data, Table) else Table(data)
        return Hidable(table, table.known, np.arange(table.n_columns))
    if not isinstance(design, Design):
        raise CapabilityError(f"design must be a pg.Design(...), got {type(design).__name__}.")
    return under(design, data)


def under(design: Design, data: Any) -> Hidable:
    """The same under a design."""
    rows = prepare(design, data)
    table = rows.table
    cells = table.known & ~rows.hidden & ~staying(design, table)
    for name in {*design.apart, *design.auxiliary, *design.intervals, *design.kept}:
        cells[:, table.schema.index(name)] = False
    for name, (rule, _) in design.skips.items():
        cells[:, table.schema.index(name)] &= rule.truth(rows.values, table.schema) == 0
    return Hidable(table, cells, rows.modelled, design)
