"""Log likelihoods of every datum under every posterior draw: what cross-validation and ArviZ ask for.

Of a table they are the exact log evidences of its rows (sequences), latents summed out, in nats and original units. Of a
user's program they are the log densities of every element of the sites that it observes; discrete sites of a row that are
no parameters are summed out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen._pyro import Messenger, is_bookkeeping
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.families.base import Parameters
from probgen.inference.evidence import log_evidence
from probgen.inference.posterior import Posterior
from probgen.inference.runtime import seeded
from probgen.inference.tracing import Given
from probgen.program import UserProgram
from probgen.queries.log_prob import counted_rows, log_jacobian
from probgen.whole import check_whole

__all__ = ["Pointwise", "chosen_draws", "over_draws", "pointwise"]

CELLS = 2**22  # numbers of one pass over several draws
ROWS = 8192
MOST_RUNS = 256  # of a user's program for one draw, one for each combination of its discrete sites
TABLE = "table"  # name of the one site of a model over columns
NO_BATCH = (RuntimeError, TypeError, ValueError, NotImplementedError)


@dataclass(frozen=True)
class Pointwise:
    """Log likelihoods in nats.

    Attributes:
        values: site -> ``(chains, draws, ...)``; the one site of a table is called "table".
        draws: numbers of the draws that were used, the same in every chain.
    """

    values: dict[str, np.ndarray]
    draws: np.ndarray

    def matrix(self) -> np.ndarray:
        """``(chains, draws, N)``: the data of all sites next to each other."""
        found = [value.reshape(*value.shape[:2], -1) for value in self.values.values()]
        return np.concatenate(found, -1)


def chosen_draws(posterior: Posterior, most: int) -> np.ndarray:
    """Numbers of draws, evenly spaced in every chain, that are together at most ``most`` (but one a chain)."""
    chains, draws = posterior.shape
    each = min(draws, max(1, most // chains))
    return np.arange(each) * draws // each


def pointwise(fit: Any, data: Any, draws: int) -> Pointwise:
    """Log likelihoods under at most ``draws`` draws of the posterior, evenly spaced.

    Raises:
        CapabilityError: the model has no density, or a user's program has discrete sites that cannot be summed out row by
            row.
    """
    check_whole("draws", draws)
    which = chosen_draws(fit.posterior, draws)
    if isinstance(fit.program, UserProgram):
        return Pointwise(of_user_program(fit, data, which), which)
    return Pointwise({TABLE: of_table(fit, fit.read(data), which)}, which)


# --------------------------------------------------------------------------------------------------------------- tables
def of_table(fit: Any, table: Table, which: np.ndarray) -> np.ndarray:
    """``(chains, draws, units)``."""
    chains = fit.posterior.shape[0]
    if len(fit.posterior) == 1:
        return np.asarray(fit.log_prob(table).value)[None, None]
    if fit.traits.density != "exact":
        numbers = [chain * fit.posterior.shape[1] + int(draw) for chain in range(chains) for draw in which]
        found = np.stack([np.asarray(one_draw(fit, number).log_prob(table).value) for number in numbers])
        return found.reshape(chains, len(which), -1)
    pieces, counted = [], []
    with torch.no_grad(), fit.setting():
        for batch in fit.batches(table, ROWS).pieces():
            pieces.append(evidence_of_draws(fit, batch, which))
            counted.append(counted_rows(fit.program, batch))
    rows = np.concatenate(pieces, 1) + log_jacobian(fit, table, np.concatenate(counted))
    return rows.reshape(chains, len(which), -1)


def one_draw(fit: Any, number: int) -> Any:
    """The fit with a single draw as its posterior."""
    return replace(fit, posterior=Posterior.at(fit.posterior.theta(number)))


def evidence_of_draws(fit: Any, batch: Any, which: np.ndarray) -> np.ndarray:
    """``(chains x draws, rows)``: log evidence, all draws side by side where the program allows."""
    keys = [(name, key) for name, theta in fit.posterior.parameters.items() for key in theta]
    stacked = [flat_draws(fit.posterior.parameters[name][key], which) for name, key in keys]

    def rows(*values: Tensor) -> Tensor:
        theta: dict[str, Parameters] = {}
        for (name, key), value in zip(keys, values, strict=True):
            theta.setdefault(name, {})[key] = value
        return log_evidence(fit.program, batch, theta=theta, settle=True).rows

    return over_draws(rows, stacked, CELLS // (16 * batch.x.numel() + 1)).double().cpu().numpy()


def flat_draws(value: Tensor, which: np.ndarray) -> Tensor:
    """``(chains x draws, ...)`` of the draws that are wanted."""
    return value[:, torch.as_tensor(which, device=value.device)].flatten(0, 1)


def over_draws(function: Callable[..., Any], stacked: list[Tensor], at_once: int) -> Any:
    """The function of every draw, many at once where it can be mapped and gives what it gives alone, else in turn."""
    first = function(*(value[0] for value in stacked))
    if len(stacked[0]) > 1:
        try:
            mapped = torch.func.vmap(function, randomness="different", chunk_size=max(1, at_once))(*stacked)
        except NO_BATCH:
            mapped = None
        if mapped is not None and same(first, mapped):
            return mapped
    found = [function(*values) for values in zip(*stacked, strict=True)]
    return (
        {key: torch.stack([one[key] for one in found]) for key in first}
        if isinstance(first, dict)
        else torch.stack(found)
    )


def same(first: Any, mapped: Any) -> bool:
    """True where mapping changed nothing of the first draw."""
    pairs = [(first[key], mapped[key][0]) for key in first] if isinstance(first, dict) else [(first, mapped[0])]
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-6, atol=1e-8, equal_nan=True) for a, b in pairs)


# ------------------------------------------------------------------------------------------------------- users' programs
class Recorder(Messenger):
    """Log densities of the sites of one run, element by element, without the scales of plates.

    Args:
        codes: of discrete sites that are no parameters, the number of the value that they take in every row.
    """

    def __init__(self, codes: dict[str, int] | None = None) -> None:
        super().__init__()
        self.codes = codes or {}
        self.observed: dict[str, Tensor] = {}
        self.latent: dict[str, Tensor] = {}
        self.left: dict[str, int] = {}  # sites without a value: how many values they can take
        self.plates: dict[str, tuple[str, ...]] = {}

    def _pyro_sample(self, message: dict) -> None:
        name = message["name"]
        if message["done"] or message["is_observed"] or is_bookkeeping(message):
            return
        self.left[name] = number_of_values(message)
        values = message["fn"].enumerate_support(expand=True)
        message["value"], message["done"] = values[self.codes.get(name, 0)], True

    def _pyro_post_sample(self, message: dict) -> None:
        name = message["name"]
        if is_bookkeeping(message) or not (message["is_observed"] or name in self.left):
            return
        terms = message["fn"].log_prob(message["value"])
        if message["mask"] is not None:
            terms = torch.where(torch.as_tensor(message["mask"]), terms, 0.0)
        frames = sorted(message["cond_indep_stack"], key=lambda frame: frame.dim or 0)
        self.plates[name] = tuple(frame.name for frame in frames if frame.vectorized)
        (self.observed if message["is_observed"] else self.latent)[name] = terms


def number_of_values(message: dict) -> int:
    """Of a discrete site in a plate; refuses what is neither a parameter nor to be summed out row by row."""
    if not message["fn"].has_enumerate_support or not message["cond_indep_stack"]:
        raise CapabilityError(
            f"Site {message['name']!r} is no parameter of the posterior, and cannot be summed out row by row: log"
            " likelihoods of data need it to be discrete and inside the plate of the data."
        )
    return len(message["fn"].enumerate_support(expand=False))


def record(fit: Any, data: Any, sites: dict[str, Tensor], codes: dict[str, int] | None = None) -> Recorder:
    """One run of a user's program at given parameters."""
    with seeded(0, "pointwise"), Recorder(codes) as run, Given(sites=sites):
        fit.program.model(data)
    return run


def of_user_program(fit: Any, data: Any, which: np.ndarray) -> dict[str, np.ndarray]:
    """Site -> ``(chains, draws, ...)``."""
    data, names, shape = fit.users_data(data), list(fit.posterior.sites), (fit.posterior.shape[0], len(which))
    stacked = [flat_draws(fit.posterior.sites[name], which) for name in names]
    with torch.no_grad(), fit.setting():
        one = record(fit, data, {name: value[0] for name, value in zip(names, stacked, strict=True)})
        runs = combinations(one)

        def sites(*values: Tensor) -> dict[str, Tensor]:
            given = dict(zip(names, values, strict=True))
            found = [record(fit, data, given, codes) for codes in runs]
            return found[0].observed if not found[0].latent else summed_out(found)

        cells = sum(value.numel() for value in one.observed.values()) * len(runs)
        found = over_draws(sites, stacked, CELLS // (4 * cells + 1))
    return {name: value.double().cpu().numpy().reshape(*shape, *value.shape[1:]) for name, value in found.items()}


def combinations(run: Recorder) -> list[dict[str, int]]:
    """All joint values of the discrete sites that are summed out."""
    many = math.prod(run.left.values())
    if many > MOST_RUNS:
        raise CapabilityError(
            f"The discrete sites {', '.join(run.left)} have {many} joint values; log likelihoods of rows are summed over at"
            f" most {MOST_RUNS}."
        )
    return [dict(zip(run.left, values, strict=True)) for values in product(*map(range, run.left.values()))]


def summed_out(runs: list[Recorder]) -> dict[str, Tensor]:
    """Log densities of the rows, all observed sites together, with the discrete sites of the same rows summed out."""
    plates = set(runs[0].plates.values())
    if len(plates) > 1:
        raise CapabilityError(
            f"The discrete sites {', '.join(runs[0].left)} stand in other plates than the data; log likelihoods of rows"
            " need them in the same ones."
        )
    terms = [torch.stack([*run.observed.values(), *run.latent.values()]).sum(0) for run in runs]
    return {"+".join(runs[0].observed): torch.logsumexp(torch.stack(terms), 0)}
