"""Replicated data: what a model expects to see, before the data (prior) and after them (posterior)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen._pyro import Messenger, is_bookkeeping
from probgen.data.batches import Batch
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.inference.completion import gather
from probgen.inference.runtime import seeded
from probgen.inference.tracing import Given, observe
from probgen.program import UserProgram
from probgen.queries.pointwise import NO_BATCH, chosen_draws
from probgen.queries.reading import families
from probgen.whole import check_whole

__all__ = ["Replicates", "posterior_predictive", "prior_predictive"]


@dataclass(frozen=True)
class Replicates:
    """Data drawn from a model, one replicate of the whole data set a draw of the parameters.

    Attributes:
        values: column (or observed site) -> ``(chains, draws, ...)``, in original units; codes of discrete columns.
        draws: numbers of the draws used, in every chain.
        parameters: of a prior's replicates, family or site -> the draws that made them.
    """

    values: dict[str, np.ndarray]
    draws: np.ndarray
    parameters: dict[str, Any] = field(default_factory=dict)


def posterior_predictive(fit: Any, data: Any, draws: int, seed: int = 0) -> Replicates:
    """Replicates of the data under at most ``draws`` evenly spaced draws (of a point estimate: so many at that point)."""
    check_whole("draws", draws)
    if fit.posterior.point:
        which, numbers, shape = np.arange(draws), [0] * draws, (1, draws)
    else:
        which = chosen_draws(fit.posterior, draws)
        chains, each = fit.posterior.shape
        numbers, shape = [c * each + int(d) for c in range(chains) for d in which], (chains, len(which))
    if isinstance(fit.program, UserProgram):
        stacked = {name: value.flatten(0, 1)[torch.as_tensor(numbers)] for name, value in fit.posterior.sites.items()}
        found, _ = run_user_program(fit, data, stacked, len(numbers), seed)
    else:
        batch = hidden_batch(fit, fit.read(data))
        runs = [
            run_table(fit, batch, Given(fit.posterior.theta(n)), (seed, "replicate", at))
            for at, n in enumerate(numbers)
        ]
        found = columns(fit, np.stack([x for x, _ in runs]))
    return Replicates({name: value.reshape(*shape, *value.shape[1:]) for name, value in found.items()}, which)


def prior_predictive(fit: Any, data: Any, draws: int, seed: int = 0) -> Replicates:
    """Replicates of the data under draws of the prior, with these draws.

    Raises:
        CapabilityError: a prior that cannot be drawn from (it is improper, or there is none).
    """
    check_whole("draws", draws)
    if isinstance(fit.program, UserProgram):
        try:
            found, sites = run_user_program(fit, data, {}, draws, seed)
        except NotImplementedError as error:
            raise CapabilityError(f"The prior of {fit.name!r} cannot be drawn from: {error}.") from error
        return Replicates(expanded(found), np.arange(draws), expanded(sites))
    check_prior(fit)
    batch = hidden_batch(fit, fit.read(data))
    made = [run_table(fit, batch, Given(), (seed, "prior", number)) for number in range(draws)]
    found = columns(fit, np.stack([x for x, _ in made]))
    return Replicates(expanded(found), np.arange(draws), {"theta": [theta for _, theta in made]})


def expanded(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One chain."""
    return {name: value[None] for name, value in values.items()}


# --------------------------------------------------------------------------------------------------------------- tables
def check_prior(fit: Any) -> None:
    """Refuse a model whose parameters have no prior."""
    found = families(fit)
    bare = [name for name, family in found.items() if family.prior_choice is None]
    if bare or not found:
        what = repr(bare[0]) if bare else f"the networks of {fit.name!r}"
        raise CapabilityError(f"There is no prior of {what} to draw from; fit with prior='default'.")


def hidden_batch(fit: Any, table: Table) -> Batch:
    """Rows as many as the table's, of which only columns that are inputs are known."""
    with fit.setting():
        batch = next(fit.batches(table, len(table)).pieces())
        inputs = torch.tensor([name in fit.program.inputs for name in fit.schema.names], device=batch.x.device)
        return Batch(torch.where(inputs, batch.x, torch.nan), batch.schema, steps=batch._steps)


def run_table(fit: Any, batch: Batch, given: Given, stream: tuple) -> tuple[np.ndarray, Any]:
    """One forward run, ``(N, D)`` in original units, and the parameters that made it."""
    with torch.no_grad(), fit.setting(), seeded(*stream):
        tracer = observe(fit.program, batch, given, sum_out=False)
        x = gather(tracer, batch).double().cpu().numpy()
    return fit.standardiser.inverse(x), {name: table.theta for name, table in tracer.tables.items()}


def columns(fit: Any, values: np.ndarray) -> dict[str, np.ndarray]:
    """``(S, N, D)`` as columns."""
    return {name: values[..., at] for at, name in enumerate(fit.schema.names) if name not in fit.program.inputs}


# ------------------------------------------------------------------------------------------------------ users' programs
class Forward(Messenger):
    """Draw what the program observes, and keep all of its sites."""

    def __init__(self) -> None:
        super().__init__()
        self.observed: dict[str, Tensor] = {}
        self.latent: dict[str, Tensor] = {}
        self._replaced: set[str] = set()

    def _pyro_sample(self, message: dict) -> None:
        if message["is_observed"] and not is_bookkeeping(message) and is_data(message):
            self._replaced.add(message["name"])
            message["value"], message["is_observed"], message["done"] = None, False, False

    def _pyro_post_sample(self, message: dict) -> None:
        if is_bookkeeping(message) or message["is_observed"]:
            return
        kept = self.observed if message["name"] in self._replaced else self.latent
        kept[message["name"]] = message["value"]


def is_data(message: dict) -> bool:
    """True for an observed value; a factor's has no elements."""
    return message["value"] is None or message["value"].numel() > 0


def run_user_program(
    fit: Any, data: Any, stacked: dict[str, Tensor], draws: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Observed and latent sites of ``draws`` forward runs, ``(draws, ...)`` each."""
    data, names = fit.users_data(data), list(stacked)
    parts: dict[str, bool] = {}

    def run(_: Tensor, *values: Tensor) -> dict[str, Tensor]:
        with Forward() as found, Given(sites=dict(zip(names, values, strict=True))):
            fit.program.model(data)
        parts.update(dict.fromkeys(found.observed, True), **dict.fromkeys(found.latent, False))
        return {**found.observed, **found.latent}

    with torch.no_grad(), fit.setting(), seeded(seed, "predictive"):
        found = forward_runs(run, [torch.zeros(draws), *stacked.values()])
    arrays = {name: value.double().cpu().numpy() for name, value in found.items()}
    observed = {name: value for name, value in arrays.items() if parts[name]}
    return observed, {name: value for name, value in arrays.items() if not parts[name]}


def forward_runs(run: Any, stacked: list[Tensor]) -> dict[str, Tensor]:
    """All runs side by side where the distributions can be drawn from so, else in turn."""
    try:
        return torch.func.vmap(run, randomness="different", chunk_size=256)(*stacked)
    except NO_BATCH:
        found = [run(*values) for values in zip(*stacked, strict=True)]
        return {name: torch.stack([one[name] for one in found]) for name in found[0]}
