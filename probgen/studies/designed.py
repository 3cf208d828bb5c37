r"""Imputations under a design, by any model: exact draws by rejection, data augmentation for what is known by halves.

A row whose draws break a rule is drawn again, whole, with the same parameters, until they do not: draws from

.. math:: p(x_{mis} \mid x_{obs}, \theta_i, \text{all rules hold})

Cells of which an interval is known tell of the parameters, too. They are drawn inside their intervals, the model is
fitted to rows in which they are known, and so on in turn (Tanner and Wong, 1987).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import CapabilityError, DataWarning, ImproperWarning
from probgen.inference.runtime import seed_of
from probgen.queries import Fit
from probgen.studies.augmenting import Augmentation, Point, fit_rows, group_labels
from probgen.studies.design import Design
from probgen.studies.intercepts import Intercepts
from probgen.studies.knowledge import prepare
from probgen.studies.multiple_imputation import Imputations
from probgen.studies.planning import planned
from probgen.studies.prepared import Prepared
from probgen.studies.settling import State, World, settled
from probgen.studies.worlds import completed, drawn, world_of, worlds

__all__ = ["complete", "impute_designed", "transform_designed"]

NEW_GROUP_ROUNDS = 5  # of drawing new groups' intercepts and their rows


def impute_designed(
    data: Any,
    design: Design,
    model: Any,
    m: int,
    uncertainty: str | None,
    seed: int,
    progress: bool,
    options: Mapping[str, Any],
) -> Imputations:
    """As :func:`probgen.impute`, under a design."""
    if not isinstance(design, Design):
        raise CapabilityError(f"design must be a pg.Design(...), got {type(design).__name__}.")
    rows = prepare(design, data)
    if not len(rows.modelled):
        raise CapabilityError("The design leaves no column for the model.")
    augmented = design.groups is not None or bool(rows.partly[:, rows.modelled].any())
    plan = planned(model, m, uncertainty, options, len(rows.modelled), augmented=augmented)
    points, groups, told = None, None, None
    levels: tuple[Intercepts, ...] = ()
    if augmented:
        points, groups = Augmentation(rows, plan.model, plan.uncertainty, plan.options).points(m, seed)
        fits = tuple(point.fit for point in points)
        levels = tuple(point.level for point in points if point.level is not None)
        warn_improper(plan.uncertainty)
    else:
        told = fit_rows(rows.model_table())
        fits = worlds(plan.model, told, m, plan.uncertainty, seed, progress, plan.options)
    tables, counts = complete(rows, fits, m, seed_of(seed, "impute") % 2**62, points, groups, told)
    kept = replace(rows, squeezed=dict(counts), levels=levels)
    return Imputations(rows.original, tuple(tables), fits, plan.uncertainty, seed, plan.options, plan.reason, kept)


def warn_improper(uncertainty: str) -> None:
    if uncertainty == "none":
        warnings.warn("uncertainty='none': pooled intervals will be too short.", ImproperWarning, stacklevel=4)


def transform_designed(imputed: Imputations, data: Any) -> tuple[Table, ...]:
    """New rows under the same design, in the same worlds."""
    assert imputed.prepared is not None
    rows = prepare(imputed.prepared.design, data, imputed.prepared.schema)
    seed = seed_of(imputed.seed, "transform") % 2**62
    if not imputed.prepared.levels:
        return tuple(complete(rows, imputed.fits, imputed.m, seed)[0])
    found, counts = [], Counter[str]()
    for number, (fit, level) in enumerate(zip(imputed.fits, imputed.prepared.levels, strict=True)):
        draw, own = placed(rows, fit, level, seed_of(seed, "groups", number)), seed_of(seed, "design", number) % 2**62
        found.append(rows.returned(everywhere(rows, draw, own, counts)))
    warn_squeezed(counts)
    return tuple(found)


def placed(rows: Prepared, fit: Fit, level: Intercepts, seed: int) -> World:
    """The world of one imputation for new rows; intercepts of new groups are drawn given what is known of their rows."""
    random = np.random.default_rng(seed)
    old = len(level.labels)
    level, groups = level.for_groups(group_labels(rows), random)
    for number in range(NEW_GROUP_ROUNDS if len(level.labels) > old else 0):
        draw, own = World(fit, level, groups), seed_of(seed, "round", number) % 2**62
        whole = draw(rows.shown, np.arange(len(groups)), own)
        again = level.with_groups(whole, groups, rows.model_schema, random)
        level = replace(level, u=np.concatenate([level.u[:old], again.u[old:]]))
    return World(fit, level, groups)


# ------------------------------------------------------------------------------------------------------ completing
def complete(
    rows: Prepared,
    fits: Sequence[Fit],
    m: int,
    seed: int,
    points: Sequence[Point] | None = None,
    groups: np.ndarray | None = None,
    told: Table | None = None,
) -> tuple[list[Table], Counter]:
    """M completed tables, and how many cells had to be moved to a bound, by column; ``told`` are rows that fits know."""
    tables: list[Table] = []
    counts: Counter[str] = Counter()
    whole = rows.model_table()
    firsts: Sequence[Any] = [None] * m
    if groups is None:
        firsts = drawn(fits, whole, m, seed) if told is None else completed(fits, whole, told, m, seed)
    for number, first in enumerate(firsts):
        own = seed_of(seed, "design", number) % 2**62
        draw = World(world_of(fits, number, m))
        state = points[number].state if points else None
        if points and groups is not None:
            draw = World(points[number].fit, points[number].level, groups)
        values = everywhere(rows, draw, own, counts, state, None if first is None else first.values)
        tables.append(rows.returned(values))
    warn_squeezed(counts)
    return tables, counts


def everywhere(
    rows: Prepared, draw: World, seed: int, counts: Counter, state: State | None = None, first: Any = None
) -> np.ndarray:
    """``(N, D)``: all rows completed in one world."""
    places = np.arange(len(rows.values))
    if first is None:
        first = draw(rows.shown, places, seed_of(seed, "first") % 2**62)
    return settled(rows, draw, first, places, seed, counts, state)


def warn_squeezed(counts: Counter) -> None:
    if counts:
        told = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        warnings.warn(f"Cells were moved to their bounds: {told} (squeeze=True).", DataWarning, stacklevel=5)
