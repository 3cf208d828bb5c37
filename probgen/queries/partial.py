"""Online EM: a fit moved on by new rows, without the old ones."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any

from probgen.data.batches import PIECE_ROWS, total_weight
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.inference.methods.em import Statistics, added, expected_statistics, maximise
from probgen.inference.posterior import Posterior
from probgen.queries.reading import families

__all__ = ["partial_fit"]


def partial_fit(fit: Any, table: Table, remember: float | None) -> Any:
    """One expectation step on the new rows, their statistics added to the old ones, one maximisation step."""
    if not fit.memory:
        raise CapabilityError(
            f"This fit of {fit.name!r} by {fit.method!r} keeps no statistics to add new rows to; fit it by method='em' with"
            " families whose statistics are additive."
        )
    if remember is not None and not (isinstance(remember, Real) and remember > 0):
        raise CapabilityError(f"remember must be a positive number of rows, or None for all; got {remember!r}.")
    seen = float(fit.provenance["weight"])
    share = 1.0 if remember is None else min(1.0, remember / seen)
    statistics: Statistics = {name: {k: share * v for k, v in group.items()} for name, group in fit.memory.items()}
    owners, theta, total = families(fit), fit.posterior.theta(), 0.0
    with fit.setting():
        for batch in fit.batches(table, PIECE_ROWS).pieces():
            value, found = expected_statistics(fit.program, owners, theta, batch)
            total, statistics = total + value, added(statistics, found)
        moved = maximise(owners, statistics, theta)
    new = total_weight(table)
    history = fit.history | {
        "log_likelihood_of_new_rows": [*fit.history.get("log_likelihood_of_new_rows", []), total / new]
    }
    provenance = fit.provenance | {"weight": share * seen + new, "rows": fit.provenance["rows"] + len(table)}
    return replace(fit, posterior=Posterior.at(moved), memory=statistics, history=history, provenance=provenance)
