r"""Imputed cells shifted away from what the model expects: pattern-mixture models by delta adjustment (Rubin, 1977).

What is drawn for an unknown cell of a column c is moved by delta. A number in its own units, in standard deviations of the known
cells, or by a factor; a category by its log odds,

.. math:: x_c \to x_c + \delta, \qquad x_c \to \delta x_c, \qquad
    p_\delta(x_c = k \mid \cdot) \propto p(x_c = k \mid \cdot) \, e^{\delta_k}

where :math:`\delta_k` is delta for the second level of a binary column, :math:`k \delta` for level k of an ordinal one. Other
unknown cells of a moved row are drawn anew given the moved one, so that they follow it (Tompsett et al., 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from probgen.data.schema import Column
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.inference.runtime import seed_of
from probgen.queries import Fit, class_probabilities
from probgen.studies.multiple_imputation import Imputations
from probgen.studies.worlds import world_of

__all__ = ["SCALES", "Shift", "ShiftedImputations", "neutral", "shifted"]

SCALES = ("units", "sd", "factor", "log_odds")
GIVEN = ("known", "row")
WEIGHED = 200  # draws by which probabilities are estimated where the model states none
ALTERNATIONS = 20  # rounds towards the law of given="row"


@dataclass(frozen=True, eq=False)
class Shift:
    """How far, on which scale, and given what: the options of :meth:`Imputations.shifted`.

    Attributes:
        delta, scale, given: as there.
        anew: ``(N,)`` rows whose other cells are drawn anew even if their delta moves nothing: a sweep has no gap there.
    """

    delta: Mapping[str, Any]
    scale: str
    given: str
    anew: np.ndarray | None = None

    def __str__(self) -> str:
        moves = ", ".join(f"{name} by {in_words(delta)}" for name, delta in self.delta.items())
        return f"{moves} ({self.scale}, given the {'whole row' if self.given == 'row' else 'known cells'})"


def in_words(delta: Any) -> str:
    """A shift in words.

    Example:
        >>> in_words(2.0), in_words({"a": 1.0}), in_words(np.array([0.0, -3.0, 1.5]))
        ('2', 'log odds of a: 1', '-3 to 1.5, one a row')
    """
    if isinstance(delta, Mapping):
        return ", ".join(f"log odds of {level}: {value:g}" for level, value in delta.items())
    low, high = np.min(delta), np.max(delta)
    return f"{low:g}" if np.ndim(delta) == 0 else f"{low:g} to {high:g}, one a row"


@dataclass(frozen=True, eq=False, repr=False)
class ShiftedImputations(Imputations):
    """Completed tables whose draws of some columns are shifted; everything that :class:`Imputations` can do.

    Attributes:
        base: the imputations at random that were shifted.
        shift: how.
    """

    base: Imputations = field(kw_only=True, repr=False)
    shift: Shift = field(kw_only=True)

    def __str__(self) -> str:
        return f"{super().__str__()}\nshifted: {self.shift}"

    def transform(self, rows: Any) -> tuple[Table, ...]:
        """New rows completed in the same m worlds, and shifted alike.

        Raises:
            DataError: a delta that differs from row to row, which new rows do not have.
        """
        by_row = [name for name, value in self.shift.delta.items() if np.ndim(value) == 1]
        if by_row:
            raise DataError(
                f"delta of {by_row[0]!r} is one number a row of the old table; shift new rows by one number."
            )
        table = self.fits[0].read(rows)
        return moved(self.base, table, self.base.transform(table), self.shift, "transform")


def shifted(
    base: Imputations, delta: Mapping[str, Any], scale: str, given: str, anew: np.ndarray | None = None
) -> ShiftedImputations:
    """What :meth:`Imputations.shifted` does; ``anew`` as in :class:`Shift`."""
    shift = replace(checked(base, delta, scale, given), anew=anew)
    if isinstance(base, ShiftedImputations) or not all(isinstance(one, Fit) for one in base.fits):
        raise CapabilityError("Imputations at random are shifted, once; name all columns in one delta.")
    if hasattr(base, "mechanism"):
        raise CapabilityError("These imputations have a model of the mask; shift imputations at random instead.")
    if base.design is not None:
        raise CapabilityError(
            "A shift would break what the design says must hold; shift imputations without a design."
        )
    common = {f.name: getattr(base, f.name) for f in fields(Imputations)}
    common["tables"] = moved(base, base.table, base.tables, shift, "shift")
    return ShiftedImputations(**common, base=base, shift=shift)


def neutral(scale: str) -> float:
    """The delta that moves nothing."""
    return 1.0 if scale == "factor" else 0.0


# ----------------------------------------------------------------------------------------------------------- checks
def checked(base: Imputations, delta: Any, scale: str, given: str) -> Shift:
    """The shift, where it can be done."""
    if scale not in SCALES:
        raise CapabilityError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}.")
    if given not in GIVEN:
        raise CapabilityError(f"given must be 'known' or 'row', got {given!r}.")
    if not isinstance(delta, Mapping) or not delta:
        raise DataError(f'delta must map names of columns to shifts, such as {{"bmi": 2.0}}, got {delta!r}.')
    for name, value in delta.items():
        column = base.table.schema[name]
        place = base.table.schema.index(name)
        if base.table.known[:, place].all():
            raise DataError(f"Column {name!r} has no unknown cell, so there is nothing to shift; leave it out.")
        check_scale(column, scale, base.table.values[base.table.known[:, place], place])
        check_delta(column, value, scale, len(base.table.values))
    return Shift(dict(delta), scale, given)


def check_scale(column: Column, scale: str, known: np.ndarray) -> None:
    """Refuse a scale that a column does not have."""
    if column.is_discrete != (scale == "log_odds"):
        fit = "'log_odds'" if column.is_discrete else "'units', 'sd' or 'factor'"
        raise CapabilityError(f"Column {column.name!r} is {column.kind}: its scale is {fit}, got {scale!r}.")
    if scale == "factor" and (column.kind in ("datetime", "bounded") or (known < 0).any()):
        raise CapabilityError(f"Column {column.name!r} is {column.kind}, a factor needs a positive one; use 'units'.")


def check_delta(column: Column, value: Any, scale: str, rows: int) -> None:
    """Refuse what is no shift of a column."""
    if column.kind == "categorical":
        if not isinstance(value, Mapping) or not set(value) <= set(column.levels):
            raise DataError(
                f"Column {column.name!r} is categorical: its delta maps levels to log odds, such as"
                f" {{{column.levels[0]!r}: 0.5}}; got {value!r}."
            )
        numbers = np.array(list(value.values()))
    else:
        numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf" or not np.isfinite(numbers).all():
        raise DataError(f"delta of {column.name!r} must be finite numbers, got {value!r}.")
    if column.kind != "categorical" and numbers.ndim and numbers.shape != (rows,):
        raise DataError(f"delta of {column.name!r} must be one number, or one a row ({rows}), got {numbers.shape}.")
    if scale == "factor" and not (numbers > 0).all():
        raise DataError(f"A factor must be positive, got {value!r} for {column.name!r}.")


# ---------------------------------------------------------------------------------------------------------- moving
def moved(
    base: Imputations, holed: Table, completed: Sequence[Table], shift: Shift, purpose: str
) -> tuple[Table, ...]:
    """Every completed table with its draws moved, each in its own world."""
    made = []
    for at, table in enumerate(completed):
        move = Move(world_of(base.fits, at, base.m), base.table, holed, shift, seed_of(base.seed, purpose, at))
        made.append(move.table(table))
    return tuple(made)


class Move:
    """One table's cells moved, column by column, in one world."""

    def __init__(self, one: Fit, old: Table, holed: Table, shift: Shift, seed: int) -> None:
        self.one, self.old, self.holed, self.shift, self.seed = one, old, holed, shift, seed
        self.unknown = ~holed.known
        self.places = [holed.schema.index(name) for name in shift.delta]
        self.rest = [at for at in np.flatnonzero(self.unknown.any(0)).tolist() if at not in self.places]
        self.several = self.unknown.sum(1) > 1

    def table(self, completed: Table) -> Table:
        """The completed table moved; itself where nothing moves."""
        values = completed.values.copy()
        active = np.stack([self.active(*entry) for entry in self.shift.delta.items()], 1)  # (N, columns of delta)
        if not active.any():
            return completed
        alternate = self.shift.given == "row" and bool((active.any(1) & self.several).any())
        for turn in range(ALTERNATIONS if alternate else 1):
            changed = active.any(1) & self.several if turn else np.zeros(len(values), dtype=bool)
            for order, place in enumerate(self.places):
                hidden = [place] if self.shift.given == "row" else [*self.places[order:], *self.rest]
                self.redraw(values, changed, hidden, turn, order)
                rows = np.flatnonzero(active[:, order] & (self.several if turn else True))
                self.push(values, rows, order, hidden, turn)
                changed[rows] = True
            self.redraw(values, changed, self.rest, turn, "rest")
        return self.holed.with_values(values)

    def active(self, name: str, delta: Any) -> np.ndarray:
        """``(N,)``: rows whose unknown cell of a column moves."""
        holes = self.unknown[:, self.holed.schema.index(name)]
        if self.shift.anew is not None:
            return holes & self.shift.anew
        if isinstance(delta, Mapping):
            return holes & any(value != 0 for value in delta.values())
        return holes & (np.asarray(delta) != neutral(self.shift.scale))

    def redraw(self, values: np.ndarray, rows: np.ndarray, columns: Sequence[int], *what: Any) -> None:
        """Unknown cells of some columns of some rows drawn anew given the rest of their rows, in place."""
        hidden = np.zeros_like(self.unknown)
        hidden[:, columns] = self.unknown[:, columns]
        at = np.flatnonzero(rows & hidden.any(1))
        if len(at):
            holed = self.holed.take(at).with_values(np.where(hidden[at], np.nan, values[at]))
            values[at] = self.one.fill(holed, 1, seed=seed_of(self.seed, *what) % 2**62)[0].values

    def push(self, values: np.ndarray, rows: np.ndarray, order: int, hidden: Sequence[int], turn: int) -> None:
        """The cells of one column moved, in place."""
        place = self.places[order]
        column, delta = self.holed.schema[place], list(self.shift.delta.values())[order]
        if not len(rows):
            return
        if column.is_discrete:
            beside = values[rows].copy()
            beside[:, hidden] = np.where(self.unknown[rows][:, hidden], np.nan, beside[:, hidden])
            known = self.holed.take(rows).with_values(beside)
            shares = level_shares(
                self.one, known, place, values[rows, place], seed_of(self.seed, "shares", order, turn)
            )
            uniform = np.random.default_rng(seed_of(self.seed, "level", order, turn)).random(len(values))[rows]
            values[rows, place] = tilted(
                shares, values[rows, place].astype(int), log_odds(column, delta, rows), uniform
            )
            return
        size = np.broadcast_to(np.asarray(delta, dtype=float), len(values))[rows]
        known = self.old.values[self.old.known[:, place], place]
        made = pushed(values[rows, place], size, self.shift.scale, column, float(known.std(ddof=1)))
        check_support(column, values[rows, place], made, rows)
        values[rows, place] = made


def pushed(x: np.ndarray, delta: np.ndarray, scale: str, column: Column, sd: float) -> np.ndarray:
    """Numbers moved; zeros of a semicontinuous column stay zeros, counts stay whole."""
    made = x * delta if scale == "factor" else x + delta * (sd if scale == "sd" else 1.0)
    if column.kind == "count" and scale != "units":
        made = np.rint(made)
    return np.where(x > 0, made, x) if column.kind == "semicontinuous" else made


def check_support(column: Column, before: np.ndarray, after: np.ndarray, rows: np.ndarray) -> None:
    """Refuse a shift that leaves what a column can hold."""
    low, high = column.bounds if column.kind == "bounded" and column.bounds else (-np.inf, np.inf)
    bad = (after < low) | (after > high)
    if column.kind in ("positive", "semicontinuous"):
        bad |= (after <= 0) & (before > 0)
    if column.kind == "count":
        bad |= (after < 0) | (after != np.rint(after))
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"Column {column.name!r} is {column.kind}, but its draw {before[at]:.6g} in row {rows[at]} would become"
            f" {after[at]:.6g} ({bad.sum()} such cells); use a smaller shift, scale='factor' where it is positive, or read"
            " the column as kind 'real'."
        )


# ----------------------------------------------------------------------------------------------------- the log odds
def log_odds(column: Column, delta: Any, rows: np.ndarray) -> np.ndarray:
    """``(N, L)``: what is added to the log probability of each level."""
    if isinstance(delta, Mapping):
        return np.tile([float(delta.get(level, 0.0)) for level in column.levels], (len(rows), 1))
    each = np.asarray(delta, dtype=float) if np.ndim(delta) == 0 else np.asarray(delta, dtype=float)[rows]
    return np.multiply.outer(np.broadcast_to(each, len(rows)), np.arange(len(column.levels), dtype=float))


def level_shares(one: Fit, known: Table, place: int, drawn: np.ndarray, seed: int) -> np.ndarray:
    """``(N, L)`` probabilities of the levels given what is known of each row: exact, or from many draws and this one."""
    if one.traits.density == "exact":
        return class_probabilities(one, known, known.names[place])
    levels = np.arange(len(one.schema[place].levels))
    draws = [table.values[:, place] for table in one.fill(known, WEIGHED, seed=seed % 2**62)]
    return (np.stack([*draws, drawn])[:, :, None] == levels).mean(0)


def tilted(shares: np.ndarray, drawn: np.ndarray, added: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Levels from tilted probabilities, by the quantile at which the present ones were drawn: without tilt, the same."""
    at = np.arange(len(drawn))
    below = shares.cumsum(1)[at, drawn] - shares[at, drawn]
    quantile = below + uniform * shares[at, drawn]
    weights = shares * np.exp(added - added.max(1, keepdims=True))
    return (quantile[:, None] >= (weights / weights.sum(1, keepdims=True)).cumsum(1)[:, :-1]).sum(1).astype(float)
