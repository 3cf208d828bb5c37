"""Log density of the known cells, with the kind of number that it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.sequences import spans
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.estimate import Estimate
from probgen.inference.amortised import weighted
from probgen.inference.patterns import affordable
from probgen.inference.runtime import seeded
from probgen.queries import energy

__all__ = ["log_prob"]

ROWS = 8192  # rows a piece for exact densities
CELLS = 2**15  # draws times rows in one pass for importance-weighted ones
POSTERIOR_DRAWS = 200


def log_prob(fit: Any, table: Table, *, draws: int, seed: int) -> Estimate:
    """One value a row, in nats and original units."""
    if fit.traits.density == "none":
        raise CapabilityError(
            f"{fit.name!r} has no density; use fit.sample or fit.fill, or a model whose traits have one."
        )
    if draws < 1:
        raise CapabilityError(f"draws must be at least 1, got {draws}.")
    if not fit.traits.normalised:
        return energy.log_prob(fit, table, draws, seed)
    if fit.traits.network and table.lengths is None:
        once, which = table.distinct()
        if len(once) <= 0.8 * len(table):
            return log_prob(fit, once, draws=draws, seed=seed).take(which)
    local, bound = fit.traits.density in ("lower_bound", "bound"), fit.traits.density == "bound"
    draws = 1 if bound else draws
    step = min(draws, max(1, CELLS // 256)) if local else 1
    values, errors, sizes, counted, sure = [], [], [], [], not local and len(fit.posterior) == 1
    with torch.no_grad(), fit.setting():
        for number, batch in enumerate(fit.batches(table, 256 if local else ROWS).pieces()):
            with seeded(seed, "log_prob", number):
                terms = every_row(fit, batch, draws, step, local)
            sure = sure and len(terms) == 1
            value, error, size = average(terms)
            values.append(value)
            errors.append(error)
            sizes.append(size)
            counted.append(counted_rows(fit.program, batch))
    rows = np.concatenate(values) + log_jacobian(fit, table, np.concatenate(counted))
    if sure:
        return Estimate(rows, "exact")
    return Estimate(rows, "lower_bound" if bound else "importance", np.concatenate(errors), np.concatenate(sizes))


def every_row(fit: Any, batch: Any, draws: int, step: int, local: bool) -> Tensor:
    """``(S, B)`` log weights; of a network rows with the same known cells together."""
    network = fit.traits.network and not local
    groups = affordable(fit.program, batch, fit.posterior.theta()) if network else [(None, batch)]
    found = [torch.cat(list(weights(fit, group, draws, step, local)), 0).double() for _, group in groups]
    if len(groups) == 1 and groups[0][0] is None:
        return found[0]
    order = torch.cat([rows for rows, _ in groups if rows is not None])
    terms = torch.cat(found, 1)
    return torch.empty_like(terms).index_copy_(1, order, terms)


def counted_rows(program: Any, batch: Any) -> np.ndarray:
    """``(B,)`` mask of the rows whose density counts."""
    found = program.counted(batch)
    return np.ones(len(batch), dtype=bool) if found is None else found.cpu().numpy()


def log_jacobian(fit: Any, table: Table, counted: np.ndarray | None = None) -> np.ndarray:
    """From model coordinates to original units, one value a row (a sequence), over the rows that are counted."""
    counted = np.ones(table.n_rows, dtype=bool) if counted is None else counted
    modelled = [name not in fit.program.inputs for name in fit.schema.names]
    atoms = np.array([column.kind == "semicontinuous" for column in fit.schema]) & (table.values == 0)
    densities = table.known & modelled & ~atoms & counted[:, None]  # a zero has a probability, not a density
    rows = fit.standardiser.log_jacobian(densities)
    return rows if table.lengths is None else np.add.reduceat(rows, spans(table.lengths)[:-1])


def weights(fit: Any, batch: Any, draws: int, step: int, local: bool) -> Any:
    """Log weights, (S, B) at a time: importance draws of the locals, or posterior draws of the parameters."""
    for theta in fit.posterior.spread(POSTERIOR_DRAWS):
        left = draws if local else 1
        while left > 0:
            now = min(step, left)
            found = weighted(fit.program, batch, now, theta=theta, settle=not local)
            tighter = found.evidence.log_weights(max(draws, 2))
            if tighter is not None:  # a bound that draws of what it approximates come up from
                yield tighter
                break
            yield found.log_weights if found.log_weights.dim() == 2 else found.log_weights[None]
            left -= now


def average(terms: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log mean exp over draws, its standard error by the delta method, and the effective sample size."""
    draws = len(terms)
    top = terms.amax(0)
    top = torch.where(top == -torch.inf, 0.0, top)  # impossible rows
    w = (terms - top).exp()
    mean = w.mean(0)
    value = top + mean.log()
    spread = w.std(0, correction=1) if draws > 1 else torch.zeros_like(mean)
    size = w.sum(0).square() / w.square().sum(0)
    return value.cpu().numpy(), (spread / mean / math.sqrt(draws)).cpu().numpy(), size.cpu().numpy()
