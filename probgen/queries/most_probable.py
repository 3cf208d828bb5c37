"""The most probable values of what is unknown, all together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Symbol
from probgen.families.row_chain import RowCells
from probgen.inference.elimination import most_probable as maximised
from probgen.inference.tracing import Given, Tracer, observe
from probgen.queries.answers import impossible
from probgen.queries.evidence import beside, read_evidence, read_targets, row_of
from probgen.queries.log_prob import POSTERIOR_DRAWS
from probgen.whole import check_whole

__all__ = ["most_probable"]

ROWS = 8192


def most_probable(fit: Any, what: Any, targets: Iterable[str] | None, beams: int = 8) -> Any:
    """See :meth:`probgen.queries.fit.Fit.most_probable`."""
    if isinstance(getattr(fit.program, "cells", None), RowCells):
        return written(fit, what, targets, check_whole("beams", beams))
    if isinstance(what, Mapping):
        return of_evidence(fit, what, targets)
    if targets is not None:
        raise CapabilityError("targets go with a dictionary of what is given; of a table every unknown cell is found.")
    table, done = fit.read(what), 0
    found: list[np.ndarray] = []
    with torch.no_grad(), fit.setting():
        for batch in fit.batches(table, min(ROWS, fit.program.piece_rows)).pieces():
            log_probability, codes = maximised(mean_factors(fit, batch))
            refuse_impossible(log_probability, done)
            done += len(batch)
            values = batch.x.clone()
            for name, column in codes.items():
                if name in fit.schema.names:
                    values[:, fit.schema.index(name)] = column.to(values)
            found.append(torch.where(batch.x.isnan(), values, batch.x).double().cpu().numpy())
    filled = fit.standardiser.inverse(np.concatenate(found))
    return table.with_values(np.where(table.known, table.values, filled))


def written(fit: Any, what: Any, targets: Iterable[str] | None, beams: int) -> Table:
    """Rows as a model that says them cell by cell would end them, by a search."""
    if targets is not None:
        raise CapabilityError(f"{fit.name!r} is asked with a table, of which every unknown cell is found.")
    table, done = fit.read(what), 0
    found: list[np.ndarray] = []
    at = [fit.schema.index(name) for name in fit.program.said]
    with torch.no_grad(), fit.setting():
        for batch in fit.batches(table, min(ROWS, fit.program.piece_rows)).pieces():
            filled = batch.x.clone()
            filled[:, at], score = fit.program.rows(batch).most_probable(batch.x[:, at], beams)
            refuse_impossible(score, done)
            done += len(batch)
            found.append(filled.double().cpu().numpy())
    values = fit.standardiser.inverse(np.concatenate(found))
    return table.with_values(np.where(table.known, table.values, values))


def of_evidence(fit: Any, given: Mapping[str, Any], targets: Iterable[str] | None) -> dict[str, Any]:
    """States by name."""
    evidence = read_evidence(fit, given, None, None)
    wanted = set(read_targets(fit, targets, evidence))
    row = row_of(fit, evidence.codes)
    with torch.no_grad(), fit.setting():
        batch = fit.batches(row, 1).batch(row)
        factors = [*mean_factors(fit, batch), *beside(fit, evidence)]
        symbols = {s for factor in factors for s in factor.symbols if s.name in wanted}
        log_probability, codes = maximised(factors, symbols)
    if not bool(torch.isfinite(log_probability).all()):
        raise impossible(given)
    order = [name for name in fit.program.node_names if name in codes]
    return {name: fit.program.node(name).levels[int(codes[name].reshape(-1)[0])] for name in order}


def mean_factors(fit: Any, batch: Batch) -> list[Factor]:
    """Every node's probabilities given its parents, their mean over the posterior's draws of its table."""
    sums: list[Tensor] = []
    for theta in (thetas := list(fit.posterior.spread(POSTERIOR_DRAWS))):
        tracer = observe(fit.program, batch, Given(theta), settle=True)
        check_discrete(fit, tracer)
        if len(thetas) == 1 or any(not factor.is_plain for factor in tracer.factors):
            return tracer.factors
        values = [factor.value for factor in tracer.factors]
        sums = [torch.logaddexp(*pair) for pair in zip(sums, values, strict=True)] if sums else values
    return [Factor(f.symbols, total - math.log(len(thetas))) for f, total in zip(tracer.factors, sums, strict=True)]


def check_discrete(fit: Any, tracer: Tracer) -> None:
    """Every unknown node is a symbol."""
    for name, site in tracer.sites.items():
        if not isinstance(site.value, Symbol):
            raise CapabilityError(
                f"The most probable values are found for networks of discrete nodes; {name!r} of {fit.name!r} is not one."
                " Use fit.fill or fit.marginals."
            )


def refuse_impossible(log_probability: torch.Tensor, before: int) -> None:
    """Rows that the model rules out have no most probable completion."""
    bad = torch.nonzero(~log_probability.isfinite().reshape(-1))
    if len(bad):
        raise CapabilityError(
            f"The known cells of row {before + int(bad[0])} have probability zero under this fit; check them, or fit with"
            " a prior."
        )
