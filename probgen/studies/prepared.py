"""One table under a design: what is known of every cell, what the model is shown, and what a draw must satisfy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from probgen.data.coding import plain
from probgen.data.limits import Limits
from probgen.data.schema import Schema
from probgen.data.table import Table
from probgen.studies.design import Design
from probgen.studies.ingredients import bases_of, code_in, computed, slack_of
from probgen.studies.intercepts import Intercepts

__all__ = ["Prepared"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A table under a design.

    Attributes:
        design: what must hold.
        table: all columns, as they were, and derived ones that there were not.
        values: ``(N, D)`` all that is known: the table's cells, what follows from them by formulas and rules; NaN in censored
            cells.
        hidden: ``(N, D)`` known cells that the model is not shown: those that do not apply.
        stays: ``(N, D)`` unknown cells that stay unknown.
        limits: what is known of unknown cells.
        partly: ``(N, D)`` cells that are known by halves: censored, or tied by a known derived cell.
        squeezed: how many cells were moved to a bound, by column.
        levels: the groups' intercepts of each imputation.
        weighed: whether weights count: not those of new rows, which nothing is fitted to.
    """

    design: Design
    table: Table
    values: np.ndarray
    hidden: np.ndarray
    stays: np.ndarray
    limits: Limits
    partly: np.ndarray
    squeezed: Mapping[str, int] = field(default_factory=dict)
    levels: tuple[Intercepts, ...] = ()
    weighed: bool = True

    @property
    def schema(self) -> Schema:
        """All columns."""
        return self.table.schema

    @cached_property
    def modelled(self) -> np.ndarray:
        """Places of the columns that the model sees."""
        return np.array([p for p, name in enumerate(self.schema.names) if name not in self.design.apart], dtype=int)

    @cached_property
    def shown(self) -> np.ndarray:
        """``(N, P)``: the cells as the model sees them."""
        return np.where(self.hidden, np.nan, self.values)[:, self.modelled]

    @cached_property
    def model_schema(self) -> Schema:
        """The columns that the model sees."""
        return self.schema.select([self.schema.names[place] for place in self.modelled])

    @cached_property
    def tied(self) -> np.ndarray:
        """``(N, D)``: known derived cells that their ingredients must still be drawn to agree with."""
        found = np.zeros(self.values.shape, dtype=bool)
        for name in self.design.formulas:
            place, bases = self.schema.index(name), [self.schema.index(part) for part in bases_of(self.design, name)]
            open_ = np.isnan(self.values[:, bases]).any(1) & np.isnan(
                computed(self.design, name, self.values, self.schema)
            )
            found[:, place] = ~np.isnan(self.values[:, place]) & open_
        return found

    @cached_property
    def slack(self) -> np.ndarray:
        """``(D,)``: how far a known derived cell may lie from its formula."""
        return np.array([slack_of(self.design, self.table, place) for place in range(len(self.schema))])

    @cached_property
    def labels(self) -> list[str]:
        """What a row can break, in words."""
        columns = [self._interval(place) for place in range(len(self.schema))]
        known = [f"the known cell of column {name!r}" for name in self.schema.names]
        return columns + known + [f"the rule {rule.text!r}" for rule in self.design.checks]

    def _interval(self, place: int) -> str:
        return f"the limits of column {self.schema.names[place]!r}"

    # -- tables ------------------------------------------------------------------------------------------------
    def model_table(self, values: np.ndarray | None = None) -> Table:
        """The rows as the model sees them, with their weights; other values where given."""
        if not self.weighed:
            return Table.from_codes(self.shown if values is None else values, self.model_schema)
        weights = self.design.weights
        known = self.table.weights if weights is None else self.table.values[:, self.schema.index(weights)].copy()
        return Table.from_codes(self.shown if values is None else values, self.model_schema, known)

    def returned(self, values: np.ndarray) -> Table:
        """The completed table: all columns but the auxiliary ones, with known cells as they were."""
        kept = np.where(self.table.known & ~self.censored, self.table.values, values)
        made = self.table.with_values(kept)
        return made.drop(list(self.design.auxiliary)) if self.design.auxiliary else made

    @cached_property
    def censored(self) -> np.ndarray:
        """``(N, D)``: cells in which a value stands that is none."""
        return self.table.known & np.isnan(self.values)

    @property
    def original(self) -> Table:
        """The table with its holes, as it is returned."""
        return self.returned(np.where(self.censored, np.nan, self.table.values))

    # -- draws -------------------------------------------------------------------------------------------------
    def finished(self, rows: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Drawn cells of some rows with everything that follows from them.

        Args:
            rows: ``(n,)`` places.
            drawn: ``(n, P)`` completed columns of the model.

        Returns:
            ``(n, D)`` the rows, and ``(n,)`` the first of ``labels`` that each breaks, -1 for none.
        """
        full = self.values[rows].copy()
        inner = np.where(np.isnan(self.shown[rows]), drawn, full[:, self.modelled])
        full[:, self.modelled] = inner
        contrary = np.zeros(full.shape, dtype=bool)
        self._derive(full, rows, contrary)
        self._skip(full, rows, contrary)
        self._keep(full, rows)
        self._derive(full, rows, contrary)
        return full, self._broken(full, rows, contrary)

    def _derive(self, full: np.ndarray, rows: np.ndarray, contrary: np.ndarray) -> None:
        """Derived cells computed; those that were known must agree."""
        for name, rule in self.design.formulas.items():
            place = self.schema.index(name)
            found = rule.codes(full, self.schema, self.schema[place])
            known = self.values[rows, place]
            free = np.isnan(known)
            contrary[:, place] = self.tied[rows, place] & ~(np.abs(found - known) <= self.slack[place])
            if rule.names is not None:
                whole = ~np.isnan(full[:, [self.schema.index(n) for n in rule.names]]).any(1)
                contrary[:, place] |= free & whole & ~np.isfinite(found)
            full[free, place] = found[free]

    def _skip(self, full: np.ndarray, rows: np.ndarray, contrary: np.ndarray) -> None:
        """Cells that do not apply."""
        for name, (rule, _) in self.design.skips.items():
            place = self.schema.index(name)
            code = self._skip_code(name)
            applies_not = rule.truth(full, self.schema) == 1
            known, hidden = self.values[rows, place], self.hidden[rows, place]
            full[applies_not, place] = code
            stated = ~np.isnan(known)
            contrary[:, place] |= stated & hidden & ~applies_not & (full[:, place] != known)
            contrary[:, place] |= stated & ~hidden & applies_not & ~(known == code)
            full[stated, place] = known[stated]

    def _skip_code(self, name: str) -> float:
        value = self.design.skips[name][1]
        return np.nan if value is None else code_in(self.schema[name], value, "skip")

    def _keep(self, full: np.ndarray, rows: np.ndarray) -> None:
        """Cells that stay unknown."""
        for name, rule in self.design.kept.items():
            place = self.schema.index(name)
            full[(rule.truth(full, self.schema) == 1) & np.isnan(self.values[rows, place]), place] = np.nan
        full[self.stays[rows]] = np.nan

    def _broken(self, full: np.ndarray, rows: np.ndarray, contrary: np.ndarray) -> np.ndarray:
        """The first of ``labels`` that each row breaks."""
        free = np.isnan(self.values[rows])
        outside = free & ~self.limits.take(rows).hold(full)
        for name in self.design.skips:  # what does not apply has no limits
            place = self.schema.index(name)
            outside[:, place] &= full[:, place] != self._skip_code(name)
        rules = [rule.truth(full, self.schema) == 0 for rule in self.design.checks]
        bad = np.column_stack([outside, contrary, *rules])
        return np.where(bad.any(1), bad.argmax(1), -1)

    def told(self, row: int) -> dict[str, Any]:
        """What is known of a row, for messages."""
        known = ~np.isnan(self.values[row])
        return {
            name: plain(self.table.take([row]).column(name)[0])
            for place, name in enumerate(self.schema.names)
            if known[place] and self.table.known[row, place]
        }
