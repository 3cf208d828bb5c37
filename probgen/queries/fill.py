"""Tables completed by draws, and new rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch

from probgen.data.batches import Batch
from probgen.data.sequences import Steps
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.families.base import Factor
from probgen.inference.completion import fill_batch, gather
from probgen.inference.evidence import log_evidence
from probgen.inference.refinement import check_guided, refined
from probgen.inference.runtime import seeded
from probgen.inference.tracing import Given, observe
from probgen.queries import conditionals, diffused, energy, walked
from probgen.queries.answers import impossible
from probgen.queries.evidence import as_mapping, beside, read_evidence, row_of
from probgen.whole import check_whole, is_whole

__all__ = ["fill", "sample", "sample_given"]

ROWS = 1024  # rows that share one random stream: results depend on the seed and the row's place, not on workers


def fill(
    fit: Any,
    table: Table,
    draws: int,
    seed: int,
    forced: Iterable[str] = (),
    extra: tuple[Factor, ...] = (),
    refine: int = 0,
    sweeps: int = 0,
) -> list[Table]:
    """Completed tables; known cells keep their bits. ``forced``, ``extra`` and ``sweeps`` are those of :func:`fill_batch`."""
    draws = check_whole("draws", draws)
    refine, sweeps = check_guided(fit, refine=refine, sweeps=sweeps)
    if fit.traits.conditionals:
        return conditionals.fill(fit, table, draws, seed)
    if fit.traits.diffuses:
        return diffused.fill(fit, table, draws, seed)
    if not fit.traits.normalised:
        return energy.fill(fit, table, draws, seed)
    with torch.no_grad(), fit.setting():
        pieces = fit.batches(table, min(ROWS, fit.program.piece_rows)).pieces()
        drawn = np.concatenate(
            [completed(fit, batch, at, draws, seed, forced, extra, refine, sweeps) for at, batch in enumerate(pieces)],
            1,
        )
    known, made = table.known, []
    for values in drawn:
        made.append(table.with_values(np.where(known, table.values, fit.standardiser.inverse(values))))
    return made


def completed(
    fit: Any,
    batch: Batch,
    number: int,
    draws: int,
    seed: int,
    forced: Iterable[str],
    extra: tuple[Factor, ...],
    refine: int,
    sweeps: int,
) -> np.ndarray:
    """``(draws, B, D)``: completions of one piece, spread over the posterior's draws."""
    size, found = len(fit.posterior), []
    which = [draw * size // draws if draws <= size else draw % size for draw in range(draws)]
    for theta, group in groupby(range(draws), key=which.__getitem__):
        streams = [partial(seeded, seed, draw, number) for draw in group]
        parameters = fit.posterior.theta(theta)
        program = refined(fit.program, batch, refine, parameters, seed) if batch.x.isnan().any() else fit.program
        filled = fill_batch(program, batch, parameters, streams, forced, extra, sweeps)
        found += [x.double().cpu().numpy() for x in filled]
    return np.stack(found)


def sample(fit: Any, n: int, steps: int | None, seed: int) -> Table:
    """New rows (or sequences of ``steps`` rows): latents from the program itself, then a table with nothing known."""
    if not is_whole(n, 1):
        raise CapabilityError(f"A sample has a whole number of rows, at least 1, got n={n!r}.")
    if steps is not None and not is_whole(steps, 1):
        raise CapabilityError(f"A sequence has at least 1 step, got steps={steps!r}.")
    check_inputs_given(fit, {})
    if fit.traits.conditionals:
        return conditionals.new_rows(fit, int(n), seed)
    if fit.traits.diffuses:
        return diffused.new_rows(fit, int(n), seed)
    found, many = [], max(1, ROWS // (steps or 1))
    with torch.no_grad(), fit.setting():
        for start in range(0, n, many):
            batch = unknown_rows(fit, min(many, n - start), steps)
            with seeded(seed, "sample", start):
                if not fit.traits.normalised:
                    found.append(energy.new_rows(fit.program, len(batch)).double().cpu().numpy())
                    continue
                theta = fit.posterior.theta(int(torch.randint(len(fit.posterior), ())))
                tracer = observe(fit.program, batch, Given(theta), sum_out=False)
                found.append(gather(tracer, batch).double().cpu().numpy())
    lengths = None if steps is None else np.full(n, steps)
    return Table.from_codes(fit.standardiser.inverse(np.concatenate(found)), fit.schema, lengths=lengths)


def sample_given(fit: Any, n: int, given: Mapping[str, Any] | None, do: Mapping[str, Any] | None, seed: int) -> Table:
    """New rows in which some columns are observed, and some are set by intervention."""
    if not is_whole(n, 1):
        raise CapabilityError(f"A sample has a whole number of rows, at least 1, got n={n!r}.")
    evidence = read_evidence(fit, given, do, None)
    if evidence.forced and not fit.traits.network:
        raise CapabilityError(f"{fit.name!r} is no network: do has no meaning there; use given.")
    check_inputs_given(fit, evidence.codes)
    row, extra = row_of(fit, evidence.codes), beside(fit, evidence)
    if fit.traits.conditionals:
        return conditionals.new_rows(fit, int(n), seed, row)
    if fit.traits.diffuses:
        return diffused.new_rows(fit, int(n), seed, row)
    if walked.walks(fit.program):
        return walked.new_rows_given(fit, int(n), seed, row)
    found, streams = [], partial(seeded, seed, "sample given")
    with torch.no_grad(), fit.setting():
        one = fit.batches(row, 1).batch(row)
        known = log_evidence(
            fit.program, one, theta=fit.posterior.theta(), extra=extra, settle=True, forced=evidence.forced
        )
        if not bool(torch.isfinite(known.rows).all()):
            raise impossible(as_mapping(given, "given"))
        for start in range(0, n, ROWS):
            batch = Batch(one.x.expand(min(ROWS, n - start), -1).clone(), fit.schema)
            with seeded(seed, "sample given", start):
                theta = fit.posterior.theta(int(torch.randint(len(fit.posterior), ())))
            stream = partial(streams, start)
            drawn = next(fill_batch(fit.program, batch, theta, [stream], evidence.forced, extra))
            found.append(drawn.double().cpu().numpy())
    values = fit.standardiser.inverse(np.concatenate(found))
    return Table.from_codes(np.where(row.known, row.values, values), fit.schema)


def check_inputs_given(fit: Any, given: Mapping[str, Any]) -> None:
    """New rows need what they are conditioned on."""
    missing = [name for name in fit.program.inputs if name not in given]
    if missing:
        raise DataError(
            f"{fit.name!r} says nothing of its input {missing[0]!r}: give it, as in fit.sample(n, given={{{missing[0]!r}: ...}}), or"
            " fill a table in which it is known."
        )


def unknown_rows(fit: Any, units: int, steps: int | None) -> Batch:
    """A batch with nothing known."""
    x = torch.full((units * (steps or 1), len(fit.schema)), torch.nan)
    return Batch(x, fit.schema, steps=None if steps is None else Steps(torch.full((units,), steps)))
