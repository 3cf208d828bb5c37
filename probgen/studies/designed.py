r"""Imputations under a design, by any model: exact draws by rejection, data augmentation for what is known by halves.

A row whose draws break a rule is drawn again, whole, with the same parameters, until they do not: draws from

.. math:: p(x_{mis} \mid x_{obs}, \theta_i, \text{all rules hold})

Cells of which an interval is known tell of the parameters, too. They are drawn inside their intervals, the model is
fitted to rows in which they are known, and so on in turn (Tanner and Wong, 1987).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, DataWarning, ImproperWarning
from probgen.inference.runtime import seed_of
from probgen.queries import Fit
from probgen.queries import fit as fit_model
from probgen.studies.design import Design
from probgen.studies.knowledge import prepare
from probgen.studies.multiple_imputation import Imputations, drawn, worlds
from probgen.studies.prepared import Prepared
from probgen.studies.steering import steered

__all__ = ["complete", "impute_designed", "transform_designed"]

CANDIDATES = 20_000  # rows that are drawn at once when rows are drawn again

State = dict[int, np.ndarray]  # place of a row -> all its cells, as they were last drawn
World = Callable[[np.ndarray, int], np.ndarray]  # (cells of rows as the model sees them, seed) -> completed


def impute_designed(
    data: Any,
    design: Design,
    model: Any,
    m: int,
    uncertainty: str,
    seed: int,
    progress: bool,
    options: Mapping[str, Any],
) -> Imputations:
    """As :func:`probgen.impute`, under a design."""
    if not isinstance(design, Design):
        raise CapabilityError(f"design must be a pg.Design(...), got {type(design).__name__}.")
    rows = prepare(design, data)
    if design.groups is not None:
        raise CapabilityError("Random intercepts of groups are not built yet.")
    if not len(rows.modelled):
        raise CapabilityError("The design leaves no column for the model.")
    states: Sequence[State] = ()
    if rows.partly[:, rows.modelled].any():
        fits, states = augmented(rows, model, m, uncertainty, seed, options)
    else:
        fits = worlds(model, fit_rows(rows.model_table()), m, uncertainty, seed, progress, options)
    tables, counts = complete(rows, fits, m, seed_of(seed, "impute") % 2**62, states)
    return Imputations(
        rows.original, tuple(tables), fits, uncertainty, seed, dict(options), rows.with_squeezed(counts)
    )


def transform_designed(imputed: Imputations, data: Any) -> tuple[Table, ...]:
    """New rows under the same design, in the same worlds."""
    assert imputed.design is not None
    rows = prepare(imputed.design.design, data, imputed.design.schema)
    return tuple(complete(rows, imputed.fits, imputed.m, seed_of(imputed.seed, "transform") % 2**62)[0])


def fit_rows(table: Table) -> Table:
    """The rows of which anything is known, checked."""
    told = table.take(np.flatnonzero(table.known.any(1)))
    told.check_for_fit()
    return told


# ------------------------------------------------------------------------------------------------------ completing
def complete(
    rows: Prepared, fits: Sequence[Fit], m: int, seed: int, states: Sequence[State] = ()
) -> tuple[list[Table], Counter]:
    """M completed tables, and how many cells had to be moved to a bound, by column."""
    tables: list[Table] = []
    counts: Counter[str] = Counter()
    model = rows.model_table()
    for number, first in enumerate(drawn(fits, model, m, seed)):
        own = seed_of(seed, "design", number) % 2**62
        state = states[number] if states else None
        values = settled(rows, world(fits, number, m), first.values, np.arange(len(model)), own, counts, state)
        tables.append(rows.returned(values))
    if counts:
        told = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        warnings.warn(f"Cells were moved to their bounds: {told} (squeeze=True).", DataWarning, stacklevel=4)
    return tables, counts


def world(fits: Sequence[Fit], number: int, m: int) -> World:
    """Draws with the parameters of one imputation."""
    fit = fits[number] if len(fits) > 1 else only(fits[0], number, m)

    def draw(values: np.ndarray, seed: int) -> np.ndarray:
        return fit.fill(Table.from_codes(values, fit.schema), 1, seed=seed)[0].values

    return draw


def only(fit: Fit, number: int, m: int) -> Fit:
    """A fit with the one draw of the parameters that imputation ``number`` of m has."""
    size = len(fit.posterior)
    at = number * size // m if m <= size else number % size
    return replace(fit, posterior=fit.posterior.only(at)) if size > 1 else fit


def settled(
    rows: Prepared,
    draw: World,
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
    open_, tried, round_ = np.flatnonzero(broken >= 0), 1, 0
    while len(open_) and tried < rows.design.tries:
        copies = max(1, min(2**round_, CANDIDATES // len(open_), rows.design.tries - tried))
        own = seed_of(seed, "try", round_) % 2**62
        full[open_], broken[open_] = best_of(rows, draw, places[open_], copies, own)
        tried, round_, open_ = tried + copies, round_ + 1, open_[broken[open_] >= 0]
    if len(open_) and state is not None:
        kept = np.array([place in state for place in places[open_]])
        for at in open_[kept]:
            full[at], broken[at] = state[places[at]], -1
    return squeezed(rows, full, broken, places, tried, counts) if (broken >= 0).any() else full


def best_of(rows: Prepared, draw: World, places: np.ndarray, copies: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of several candidates for each row the first that breaks nothing, else the last."""
    repeated = np.repeat(places, copies)
    tied = rows.tied[places].any()
    if tied and copies > 1:
        return best_of(rows, draw, places, 1, seed)
    full, broken = (
        steered(rows, draw, places, seed) if tied else rows.finished(repeated, draw(rows.shown[repeated], seed))
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


# ------------------------------------------------------------------------------------------------ data augmentation
def augmented(
    rows: Prepared, model: Any, m: int, uncertainty: str, seed: int, options: Mapping[str, Any]
) -> tuple[tuple[Fit, ...], list[State]]:
    """One fit for each imputation, to rows in which what is known by halves has been drawn, by turns; and those rows."""
    values = started(rows, seed)
    start = refitted(rows, values, model, uncertainty, seed_of(seed, "start"), options, None)
    state, rounds = first_state(rows, start, values, seed), rounds_of(rows)
    start, state = chain(rows, start, state, model, uncertainty, seed_of(seed, "warm up"), options, rounds)
    apart, found = max(2, (rounds + 1) // 2), []
    for number in range(m):
        own = seed_of(seed, "augmented", number)
        found.append(chain(rows, start, dict(state), model, uncertainty, own, options, apart))
    if uncertainty == "none":
        warnings.warn("uncertainty='none': pooled intervals will be too short.", ImproperWarning, stacklevel=4)
    return tuple(fit for fit, _ in found), [state for _, state in found]


def first_state(rows: Prepared, fit: Fit, values: np.ndarray, seed: int) -> State:
    """The rows that are known by halves, completed around the places where their cells start."""
    places = np.flatnonzero(rows.partly.any(1))
    full, broken = rows.finished(places, world((fit,), 0, 1)(values[places], seed_of(seed, "state") % 2**62))
    return {int(place): row for place, row, bad in zip(places, full, broken, strict=True) if bad < 0}


def rounds_of(rows: Prepared) -> int:
    r"""Until the start is forgotten: :math:`\rho^{rounds} < 0.01`, with the root of the largest share of cells known by halves as rho."""
    if rows.design.rounds is not None:
        return rows.design.rounds
    partly = rows.partly.sum(0)
    share = (partly / np.maximum(partly + (~np.isnan(rows.values)).sum(0), 1)).max()
    return int(np.clip(np.ceil(2 * np.log(0.01) / np.log(min(share, 0.99))), 3, 50))


def chain(
    rows: Prepared,
    fit: Fit,
    state: State,
    model: Any,
    uncertainty: str,
    seed: int,
    options: Mapping[str, Any],
    rounds: int,
) -> tuple[Fit, State]:
    """Draw, fit again, and so on."""
    places = np.flatnonzero(rows.partly.any(1))
    for number in range(rounds):
        own = seed_of(seed, "round", number) % 2**62
        shown, draw = rows.shown[places], world((fit,), 0, 1)
        full = settled(rows, draw, draw(shown, own), places, own, Counter(), state)
        state = dict(zip(places.tolist(), full, strict=True))
        values = rows.shown.copy()
        values[places] = np.where(rows.partly[places][:, rows.modelled], full[:, rows.modelled], shown)
        fit = refitted(rows, values, model, uncertainty, own, options, fit)
    return fit, state


def refitted(
    rows: Prepared,
    values: np.ndarray,
    model: Any,
    uncertainty: str,
    seed: int,
    options: Mapping[str, Any],
    last: Fit | None,
) -> Fit:
    """A fit with one draw of the parameters, climbed to from the last one where the method can."""
    table, seed = fit_rows(rows.model_table(values)), seed % 2**62
    if last is not None and uncertainty == "bootstrap":
        settings = {name: value for name, value in options.items() if name not in ("starts", "climb")}
        start = {"start": last.posterior.theta(), "restarts": 1, "method": "em"}
        return fit_model(model, reweighed(table, seed), **{"seed": seed, "progress": False, **settings, **start})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImproperWarning)
        (fit,) = worlds(model, table, 1, uncertainty, seed, False, options)
    return fit if len(fit.posterior) == 1 else only(fit, len(fit.posterior) - 1, len(fit.posterior))


def reweighed(table: Table, seed: int) -> Table:
    """Random row weights: one draw of the Bayesian bootstrap (Rubin, 1981)."""
    own = np.ones(len(table)) if table.weights is None else table.weights
    weights = own * np.random.default_rng(seed).exponential(size=len(table))
    return table.with_weights(weights * own.sum() / weights.sum())


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
