"""Draws that keep the rules: rows that break one are drawn again, whole, until they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from probgen.data.table import Table
from probgen.errors import DataError
from probgen.inference.runtime import seed_of
from probgen.queries import Fit
from probgen.studies.intercepts import Intercepts
from probgen.studies.prepared import Prepared
from probgen.studies.steering import steered

__all__ = ["Draw", "State", "World", "settled"]

STEERED = 1000  # most tries of rows whose columns are tied, each a walk of its own
CANDIDATES = 20_000  # rows that are drawn at once when rows are drawn again

Draw = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
State = dict[int, np.ndarray]  # place of a row -> all its cells, as they were last drawn


@dataclass(frozen=True, eq=False)
class World:
    """Draws with the parameters of one imputation.

    Attributes:
        fit: with one draw of its parameters.
        level: the groups' intercepts.
        groups: ``(N,)`` which group each row belongs to.
    """

    fit: Fit
    level: Intercepts | None = None
    groups: np.ndarray | None = None

    def __call__(self, values: np.ndarray, places: np.ndarray, seed: int) -> np.ndarray:
        """``(n, P)`` rows completed; ``places`` says which rows of the table they are."""
        if self.level is None or self.groups is None:
            return self._filled(values, seed)
        groups = self.groups[places]
        made = self.level.rows(self._filled(self.level.residuals(values, groups), seed), groups)
        return np.where(np.isnan(values), made, values)

    def _filled(self, values: np.ndarray, seed: int) -> np.ndarray:
        return self.fit.fill(Table.from_codes(values, self.fit.schema), 1, seed=seed)[0].values


def settled(
    rows: Prepared,
    draw: Draw,
    first: np.ndarray,
    places: np.ndarray,
    seed: int,
    counts: Counter,
    state: State | None = None,
) -> np.ndarray:
    """``(n, D)``: rows that keep all rules.

    Args:
        rows: the table.
        draw: further draws with the same parameters.
        first: ``(n, P)`` the first draws.
        places: ``(n,)`` which rows these are.
        seed: of further draws.
        counts: cells that were moved to a bound are added here.
        state: rows as they were last, which those that no draw settles keep: a step of Metropolis that is refused.
    """
    full, broken = rows.finished(places, first)
    tied = rows.tied[places].any(1)
    if tied.any():
        full[tied], broken[tied] = steered(rows, draw, places[tied], seed_of(seed, "tied") % 2**62)
    tried = 1
    for group, most in ((~tied, rows.design.tries), (tied, min(rows.design.tries, STEERED))):
        open_, made, round_ = np.flatnonzero(group & (broken >= 0)), 1, 0
        steers = bool(tied[open_].any())
        while len(open_) and made < most:
            copies = 1 if steers else max(1, min(2**round_, CANDIDATES // len(open_), most - made))
            own = seed_of(seed, "try", round_) % 2**62
            full[open_], broken[open_] = best_of(rows, draw, places[open_], copies, own, steers)
            made, round_, open_ = made + copies, round_ + 1, open_[broken[open_] >= 0]
        tried = max(tried, made)
    open_ = np.flatnonzero(broken >= 0)
    if len(open_) and state is not None:
        kept = np.array([place in state for place in places[open_]])
        for at in open_[kept]:
            full[at], broken[at] = state[places[at]], -1
    return squeezed(rows, full, broken, places, tried, counts) if (broken >= 0).any() else full


def best_of(
    rows: Prepared, draw: Draw, places: np.ndarray, copies: int, seed: int, steers: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Of several candidates for each row the first that breaks nothing, else the last; rows that are tied have one, which is steered."""
    repeated = np.repeat(places, copies)
    full, broken = (
        steered(rows, draw, places, seed)
        if steers
        else rows.finished(repeated, draw(rows.shown[repeated], repeated, seed))
    )
    good = (broken < 0).reshape(-1, copies)
    chosen = np.where(good.any(1), good.argmax(1), copies - 1) + copies * np.arange(len(places))
    return full[chosen], broken[chosen]


def squeezed(
    rows: Prepared, full: np.ndarray, broken: np.ndarray, places: np.ndarray, tried: int, counts: Counter
) -> np.ndarray:
    """Rows that no draw settled: moved to their bounds where the design says so, else refused."""
    open_ = np.flatnonzero(broken >= 0)
    if rows.design.squeeze:
        before = full[open_][:, rows.modelled]
        after = rows.limits.take(places[open_]).clipped(full[open_])[:, rows.modelled]
        free = np.isnan(rows.shown[places[open_]])
        full[open_], broken[open_] = rows.finished(places[open_], np.where(free, after, before))
        for at, place in enumerate(rows.modelled):
            moved = int((free & (before != after) & ~np.isnan(before))[:, at].sum())
            counts.update({rows.schema.names[place]: moved} if moved else {})
        open_ = np.flatnonzero(broken >= 0)
    if len(open_):
        row = int(places[open_[0]])
        known = ", ".join(f"{name} = {value!r}" for name, value in rows.told(row).items())
        raise DataError(
            f"Row {row}: none of {tried} draws kept {rows.labels[broken[open_[0]]]} ({len(open_)} such rows; known: {known})."
            " Raise tries=, check the rule, or allow squeeze=True where it is a bound."
        )
    return full
