"""Data augmentation: what is known by halves, and the groups' intercepts, drawn by turns with fits of the model."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import DataError, ImproperWarning
from probgen.inference.runtime import seed_of
from probgen.program import accepted_options
from probgen.queries import Fit
from probgen.queries import fit as fit_model
from probgen.studies.intercepts import Intercepts, first_intercepts
from probgen.studies.prepared import Prepared
from probgen.studies.settling import State, World, settled
from probgen.studies.worlds import reweighed, world_of, worlds

__all__ = ["Augmentation", "Point", "fit_rows"]

SWEEPS = 20  # of a Gibbs sampler that starts near where the last one ended
GROUP_ROUNDS = 20  # until the intercepts have forgotten their start


@dataclass(frozen=True, eq=False)
class Point:
    """Where a chain is: a fit with one draw of its parameters, the intercepts, and rows that are known by halves."""

    fit: Fit
    level: Intercepts | None
    state: State


@dataclass(frozen=True, eq=False)
class Augmentation:
    """Chains over the parameters of a model, what is known by halves, and the groups' intercepts (Tanner and Wong, 1987).

    Attributes:
        rows: the table under its design.
        model: a name or a Model.
        uncertainty: where the parameters of one fit come from.
        options: of the model and of the method.
    """

    rows: Prepared
    model: Any
    uncertainty: str
    options: Mapping[str, Any]

    def points(self, m: int, seed: int) -> tuple[list[Point], np.ndarray | None]:
        """One point for each imputation, from chains that part after a common start; and each row's group."""
        level: Intercepts | None = None
        groups: np.ndarray | None = None
        if self.rows.design.groups is not None:
            labels, name = group_labels(self.rows), self.rows.design.groups
            level, groups = first_intercepts(self.rows.shown, self.rows.model_schema, labels, name)
        values = started(self.rows, seed)
        fit = self.refitted(values, level, groups, seed_of(seed, "start"), None)
        point = Point(fit, level, self.first_state(World(fit, level, groups), values, seed))
        rounds = self.rounds()
        point = self.run(point, groups, seed_of(seed, "warm up"), rounds)
        apart = max(2, (rounds + 1) // 2)
        return [self.run(point, groups, seed_of(seed, "augmented", number), apart) for number in range(m)], groups

    def run(self, point: Point, groups: np.ndarray | None, seed: int, rounds: int) -> Point:
        """Draw, fit again, and so on."""
        for number in range(rounds):
            point = self.step(point, groups, seed_of(seed, "round", number) % 2**62)
        return point

    def step(self, point: Point, groups: np.ndarray | None, seed: int) -> Point:
        rows, partly = self.rows, np.asarray(self.rows.partly.any(1))
        places = np.flatnonzero(partly) if point.level is None else np.arange(len(partly))
        shown, draw = rows.shown[places], World(point.fit, point.level, groups)
        first = draw(shown, places, seed)
        full = settled(rows, draw, first, places, seed, Counter(), point.state)
        state = {int(place): row for place, row in zip(places, full, strict=True) if partly[place]}
        seen = full[:, rows.modelled]
        values = rows.shown.copy()
        values[places] = np.where(rows.partly[places][:, rows.modelled], seen, shown)
        level = point.level
        if level is not None and groups is not None:
            whole = np.where(np.isnan(seen) | rows.hidden[:, rows.modelled], first, seen)
            random = np.random.default_rng(seed_of(seed, "intercepts"))
            level = level.drawn(whole, groups, rows.model_schema, random)
        return Point(self.refitted(values, level, groups, seed, point.fit), level, state)

    def rounds(self) -> int:
        r"""Until the start is forgotten: :math:`\rho^{rounds} < 0.01`, rho the root of the largest share of cells known by halves."""
        rows = self.rows
        if rows.design.rounds is not None:
            return rows.design.rounds
        partly = rows.partly.sum(0)
        share = (partly / np.maximum(partly + (~np.isnan(rows.values)).sum(0), 1)).max()
        found = 0.0 if share == 0 else np.ceil(2 * np.log(0.01) / np.log(min(share, 0.99)))
        return int(np.clip(found, 3 if rows.design.groups is None else GROUP_ROUNDS, 50))

    def first_state(self, draw: World, values: np.ndarray, seed: int) -> State:
        """The rows that are known by halves, completed around the places where their cells start."""
        places = np.flatnonzero(self.rows.partly.any(1))
        if not len(places):
            return {}
        full, broken = self.rows.finished(places, draw(values[places], places, seed_of(seed, "state") % 2**62))
        return {int(place): row for place, row, bad in zip(places, full, broken, strict=True) if bad < 0}

    def refitted(
        self, values: np.ndarray, level: Intercepts | None, groups: np.ndarray | None, seed: int, last: Fit | None
    ) -> Fit:
        """A fit with one draw of the parameters, climbed to from the last one where the method can."""
        table, seed = fit_rows(self.table(values, level, groups)), seed % 2**62
        if last is not None and self.uncertainty == "bootstrap":
            return climbed(last, table, seed, self.options)
        options = dict(self.options)
        if last is not None and self.uncertainty == "posterior" and last.method == "gibbs":
            options |= {"chains": 1, "draws": 1, "warmup": SWEEPS, "thin": 1}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImproperWarning)
            (fit,) = worlds(self.model, table, 1, self.uncertainty, seed, False, options)
        return world_of([fit], len(fit.posterior) - 1, len(fit.posterior))

    def table(self, values: np.ndarray, level: Intercepts | None, groups: np.ndarray | None) -> Table:
        """What the model is fitted to: rows, or what is left of them without their groups' intercepts."""
        table = self.rows.model_table(values)
        if level is None or groups is None:
            return table
        schema = table.schema
        for place in level.columns[~level.amounts]:
            schema = schema.with_kind(schema.names[place], "real")
        return table.with_columns(level.residuals(values, groups), schema)


def climbed(last: Fit, table: Table, seed: int, options: Mapping[str, Any]) -> Fit:
    """The same program (a network keeps its graph) fitted to reweighed rows, from the last fit's parameters."""
    own = {*accepted_options(type(last.program)), "starts", "climb"}
    settings = {name: value for name, value in options.items() if name not in own}
    start = {"start": last.posterior.theta(), "restarts": 1, "method": "em"}
    return fit_model(
        last.program,
        reweighed(table, np.random.default_rng(seed)),
        **{"seed": seed, "progress": False, **settings, **start},
    )


def group_labels(rows: Prepared) -> list[Any]:
    """The group of each row.

    Raises:
        DataError: a row without one.
    """
    name = rows.design.groups
    assert name is not None
    unknown = np.flatnonzero(~rows.table.known[:, rows.schema.index(name)])
    if len(unknown):
        raise DataError(f"Row {int(unknown[0])} has no known group in column {name!r}; every row must belong to one.")
    return rows.table.column(name).tolist()


def fit_rows(table: Table) -> Table:
    """The rows of which anything is known, checked."""
    told = table.take(np.flatnonzero(table.known.any(1)))
    told.check_for_fit()
    return told


def started(rows: Prepared, seed: int) -> np.ndarray:
    """``(N, P)``: what the model sees, with censored cells at a plausible place in their intervals."""
    limits, values = rows.limits.select(rows.modelled), rows.shown.copy()
    generator = np.random.default_rng(seed_of(seed, "started"))
    for at, column in enumerate(rows.model_schema):
        low, high = limits.lower[:, at], limits.upper[:, at]
        cells = np.isnan(values[:, at]) & rows.partly[:, rows.modelled[at]] & limits.told[:, at]
        known = rows.table.values[rows.table.known[:, rows.modelled[at]], rows.modelled[at]]
        spread = (known.std() if len(known) else 1.0) * np.abs(generator.normal(size=len(low)))
        inside = between(low[cells], high[cells], spread[cells])
        if column.kind in ("positive", "semicontinuous", "count", "bounded"):
            inside = np.where(inside > 0, inside, high[cells] / 2)
        whole = np.round(inside) if column.kind == "count" or column.is_discrete else inside
        values[cells, at] = np.clip(whole, low[cells], high[cells])
    return values


def between(low: np.ndarray, high: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The middle of each interval, or a place beyond its only end."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(low), high - spread, np.where(np.isinf(high), low + spread, (low + high) / 2))
