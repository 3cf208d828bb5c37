"""What a person reads of a fit: parameters, and a summary with tables of its components and states."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np
import torch

from probgen.data.batches import Batch
from probgen.inference.tracing import observe
from probgen.queries.components import Components, components
from probgen.queries.states import StateChain, state_chains

__all__ = ["described", "families", "in_double", "summary"]

LINES = 30  # of a summary
WIDTH = 110  # of a line
MOST_LEVELS = 4
MOST_STATES = 10  # in a matrix
Row = list[str]


def families(fit: Any) -> dict[str, Any]:
    """The program's families by name."""
    with torch.no_grad(), fit.setting():
        batch = Batch(torch.full((2, len(fit.schema)), torch.nan), fit.schema)
        return observe(fit.program, batch, sum_out=False).families


def in_double(fit: Any) -> Any:
    """The program with the same weights in double precision."""
    made = type(fit.program)(fit.program.schema, **fit.program.options).double()
    made.load_state_dict(fit.program.state_dict())
    return made.to(fit.device)


def described(fit: Any, draw: int) -> dict[str, dict[str, np.ndarray]]:
    """Readable parameters of each family for one draw."""
    theta, owners = fit.posterior.theta(draw), families(fit)
    return {
        name: {key: value.double().cpu().numpy() for key, value in owners[name].describe(values).items()}
        for name, values in theta.items()
    }


def summary(fit: Any) -> str:
    """Model, method, objective, convergence; chains of states and components in original units, cut to a page."""
    chains, draws = fit.posterior.shape
    kind = "point estimate" if fit.posterior.point else f"{chains} chains of {draws} draws"
    objective = fit.history.get("objective")
    lines = [f"{fit.name}, {fit.method} ({kind})"]
    if objective:
        lines = [
            f"{fit.name} fitted by {fit.method} ({kind}) in {fit.seconds:.1f} s",
            f"objective {objective[-1]:.4f}{' nats a row' if fit.in_nats else ''} after {fit.diagnostics['steps']} steps,"
            f" {'converged' if fit.diagnostics['converged'] else 'not converged'}",
        ]
    hidden = {"steps", "converged", "restarts", "interrupted", "traces", "unsettled"}
    lines += [f"{key}: {value}" for key, value in fit.diagnostics.items() if key not in hidden and value is not None]
    if not fit.posterior.point:
        lines += trust(fit)
    return "\n".join(lines + tables(fit, LINES - len(lines)))


def trust(fit: Any) -> list[str]:
    """Of draws: the verdict on them, with the parameters of a user's program."""
    from probgen.queries.diagnosis import diagnose

    found = diagnose(fit)
    if fit.standardiser is None:
        return ["", *found.table(LINES - 10), "", *fill(found.verdict, WIDTH).splitlines()]
    return [*fill(found.verdict, WIDTH).splitlines(), "tables: the first draw"]


# --------------------------------------------------------------------------------------------------------- tables
def tables(fit: Any, most: int) -> list[str]:
    """Transition tables, then component tables, in so many lines."""
    if fit.standardiser is None:
        return []
    lines: list[str] = ["", *fit.program.outline()] if fit.program.outline() else []
    for chain in state_chains(fit):
        lines += ["", *chain_lines(chain)]
    for found in components(fit):
        lines += ["", *component_lines(found, rows_of(fit, found), most - len(lines) - 1)]
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"... {len(lines) - most + 1} more lines; fit.parameters() has all numbers"]


def rows_of(fit: Any, found: Components) -> float | None:
    """The number of rows that the components share, where they are rows of the table and not time steps."""
    return None if found.title == "state" else fit.provenance.get("rows")


def chain_lines(chain: StateChain) -> list[str]:
    """Transition probabilities from rows to columns, long-run shares, expected stays."""
    shown = range(min(chain.states, MOST_STATES))
    left = "" if chain.duration is None else " when a state is left"
    head = ["from \\ to", *map(str, shown), "share", "stay"]
    body = [
        [
            f"state {k}",
            *(probability(chain.transition[k, j]) for j in shown),
            percent(chain.share[k]),
            stay(chain.stay[k]),
        ]
        for k in shown
    ]
    rest = chain.states - len(shown)
    note = [f"... {rest} more states; fit.parameters() has all numbers"] if rest else []
    title = f"transitions of {chain.symbol.name}{left}, long-run share, expected steps of a stay"
    return [title, *aligned([head, *body]), *note]


def component_lines(found: Components, rows: float | None, most: int) -> list[str]:
    """One column a component: weight, expected rows, mean and standard deviation of numbers, levels' probabilities."""
    shown = np.arange(len(found))
    body = [
        [found.title, *(shorter(label, 16) for label in found.labels)],
        ["share" if found.title == "state" else "weight", *map(percent, found.weight)],
    ]
    if rows is not None:
        body.append(["rows", *(f"{weight * rows:.1f}" for weight in found.weight)])
    wide = [row for name in found.names for row in column_rows(found, name)]
    body += wide if len(body) + len(wide) <= most else [short_row(found, name) for name in found.names]
    notes, cut = [], len(body) - most + 1
    if cut > 1:
        body, notes = body[: most - 1], [f"... {cut} more lines"]
    while table_width(body, shown) > WIDTH and len(shown) > 1:
        shown = np.sort(np.argsort(-found.weight, kind="stable")[: len(shown) - 1])
    if len(shown) < len(found):
        notes.append(f"{'and' if notes else '...'} {len(found) - len(shown)} lighter {found.title}s")
    lines = aligned([[row[0], *(row[k + 1] for k in shown if len(row) > 1)] for row in body])
    return lines + ([" ".join(notes) + "; fit.parameters() has all numbers"] if notes else [])


def column_rows(found: Components, name: str) -> list[Row]:
    """Mean and standard deviation of a number; the levels of a discrete column, the most probable first."""
    column, label = found.schema[name], shorter(name, 28)
    if not column.is_discrete:
        zero = found.density(name, np.zeros(1))[:, 0] if column.kind == "semicontinuous" else None
        cells = [spread(m, s, column.kind) for m, s in zip(*found.moments(name), strict=True)]
        return [[label, *cells], *([] if zero is None else [["  zero", *map(percent, zero)]])]
    share = found.levels(name)
    if column.kind == "binary":
        return [[f"{label} = {column.levels[1]}", *map(percent, share[:, 1])]]
    order = np.argsort(-(found.weight @ share), kind="stable")
    if column.kind == "ordinal" and len(order) <= MOST_LEVELS:
        order = np.sort(order)
    rows = [[f"  {shorter(column.levels[code], 26)}", *map(percent, share[:, code])] for code in order[:MOST_LEVELS]]
    rest = order[MOST_LEVELS:]
    if len(rest):
        rows.append([f"  {len(rest)} other levels", *map(percent, share[:, rest].sum(1))])
    return [[label], *rows]


def short_row(found: Components, name: str) -> Row:
    """A column in one line: of several levels the most probable one."""
    column = found.schema[name]
    if not column.is_discrete or column.kind == "binary":
        return column_rows(found, name)[0]
    share = found.levels(name)
    return [shorter(name, 28), *(f"{shorter(column.levels[p.argmax()], 16)} {percent(p.max())}" for p in share)]


# ---------------------------------------------------------------------------------------------------------- cells
def aligned(body: list[Row]) -> list[str]:
    """The first cell to the left, the others to the right."""
    widths = column_widths(body)
    return [
        "  ".join(
            cell.ljust(w) if at == 0 else cell.rjust(w) for at, (cell, w) in enumerate(zip(row, widths))
        ).rstrip()
        for row in body
    ]


def column_widths(body: list[Row]) -> list[int]:
    return [max(len(row[at]) for row in body if at < len(row)) for at in range(max(map(len, body)))]


def table_width(body: list[Row], shown: np.ndarray) -> int:
    """Characters of a line with these components."""
    widths = column_widths(body)
    return widths[0] + sum(widths[k + 1] + 2 for k in shown)


def spread(mean: float, sd: float, kind: str) -> str:
    """Mean and standard deviation with two digits of the latter; dates as dates, with days."""
    if kind == "datetime":
        return f"{np.datetime64(round(mean), 'D')} ± {sd:.0f} d"
    size = sd if np.isfinite(sd) and sd > 0 else abs(mean)
    digits = 1 - int(np.floor(np.log10(size))) if size > 0 else 1
    if digits > 6 or digits < -6:
        return f"{mean:.3g} ± {sd:.2g}"
    cells = [f"{value:.{max(digits, 0)}f}" for value in (mean, sd)]
    return cells[0] if not np.isfinite(sd) else " ± ".join(cells)


def shorter(name: object, length: int) -> str:
    """A name that fits."""
    text = str(name)
    return text if len(text) <= length else text[: length - 1] + "…"


def percent(share: float) -> str:
    """A share as a person writes it."""
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def probability(share: float) -> str:
    """Three places, and nothing for what never happens."""
    return "." if share == 0 else f"{share:.3f}"


def stay(steps: float) -> str:
    return "for ever" if np.isinf(steps) else f"{steps:.1f}"
