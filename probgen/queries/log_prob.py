"""Log density of the known cells, with the kind of number that it is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from probgen.data.sequences import spans
from probgen.data.table import Table
from probgen.errors import CapabilityError, ConvergenceWarning
from probgen.estimate import Estimate
from probgen.inference.amortised import leaves_open, weighted
from probgen.inference.annealed_latents import annealed_weights
from probgen.inference.pareto import GOOD_ENOUGH, estimable, pareto_shape
from probgen.inference.particles import filtered
from probgen.inference.patterns import affordable
from probgen.inference.refinement import check_guided, refined
from probgen.inference.row_noise import RowNoise
from probgen.inference.runtime import seeded
from probgen.queries import energy
from probgen.whole import check_whole

__all__ = ["log_prob", "tell", "untold"]

ROWS = 8192  # rows a piece for exact densities
PIECE, CELLS = 256, 2**15  # rows a piece, and draws times rows in one pass, for those that are integrals
POSTERIOR_DRAWS, DRAWS, CHAINS = 200, 200, 16
NO_MEAN = 1.0  # a shape
CHANCE = 0.05  # share of rows that may be above GOOD_ENOUGH because shapes of 200 draws are noisy
EQUAL = 1e-4  # nats between weights of which nothing is said by their shape
METHODS = ("auto", "importance", "lower_bound", "annealed", "particles")
FILTERS, PARTICLES, STEPS = 8, 100, 4096  # runs of particles, whose spread is the error; time steps a piece


def log_prob(
    fit: Any,
    table: Table,
    *,
    draws: int | None = None,
    seed: int = 0,
    method: str = "auto",
    refine: int = 0,
    temperatures: int = 200,
    progress: bool = False,
) -> Estimate:
    """One value a row, in nats and original units; the arguments are those of :meth:`Fit.log_prob`."""
    if fit.traits.density == "none":
        why = f": {fit.program.no_density}" if fit.program.no_density else ""
        raise CapabilityError(
            f"{fit.name!r} has no density{why}; use fit.sample or fit.fill, or a model whose traits have one."
        )
    check_question(fit, method)
    temperatures, (refine,) = check_whole("temperatures", temperatures), check_guided(fit, refine=refine)
    annealing = method == "annealed"
    usual = {"annealed": CHAINS, "particles": PARTICLES}.get(method, DRAWS)
    draws = check_whole("draws", usual if draws is None else draws)
    if fit.traits.diffuses:
        from probgen.queries import diffused

        return diffused.log_prob(fit, table, draws, seed)
    if not fit.traits.normalised:
        return energy.log_prob(fit, table, draws, seed)
    if fit.traits.network and table.lengths is None:
        once, which = table.distinct()
        if len(once) <= 0.8 * len(table):
            return log_prob(fit, once, draws=draws, seed=seed).take(which)
    if annealing:
        return annealed(fit, table, draws, seed, refine, temperatures, progress)
    if method == "particles":
        return followed(fit, table, draws, seed, refine)
    return drawn(fit, table, draws, seed, refine, bound=method == "lower_bound")


def check_question(fit: Any, method: str) -> None:
    """Refuse methods that there are not, and those that the model has no use for."""
    if method not in METHODS:
        raise CapabilityError(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}.")
    if method != "auto" and fit.traits.density != "lower_bound":
        raise CapabilityError(
            f"method={method!r} is for models with a guide for their latents; the density of {fit.name!r} is"
            f" {fit.traits.density.replace('_', ' ')}. Leave method out."
        )


def tell(found: Estimate, name: str) -> None:
    """Warn where the importance weights of some rows have no mean, or those of more rows than chance allows no usable variance."""
    shape = np.asarray([] if found.k_hat is None else found.k_hat)
    far = int((shape > GOOD_ENOUGH).sum())
    if far > CHANCE * len(shape) or bool((shape > NO_MEAN).any()):
        warnings.warn(
            f"{name}: Pareto's k-hat of the importance weights is above {GOOD_ENOUGH} in {far} of {len(found)} rows (k_hat of the"
            " estimate): their log densities are too low by more than their standard errors say. Raise draws, improve the"
            " guide of each row (refine=100), or use method='annealed'.",
            ConvergenceWarning,
            stacklevel=3,
        )


@contextmanager
def untold() -> Iterator[None]:
    """Without that warning: where densities of many values of a cell are compared, of which most are far off."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*k-hat of the importance weights", ConvergenceWarning)
        yield


def drawn(fit: Any, table: Table, draws: int, seed: int, refine: int, bound: bool) -> Estimate:
    """By weighted draws; their mean log weight where a bound is asked for."""
    local, point = fit.traits.density in ("lower_bound", "bound"), fit.traits.density == "bound"
    draws = 1 if point else draws
    step = min(draws, max(1, CELLS // PIECE)) if local else 1
    found, counted, sure = [], [], len(fit.posterior) == 1
    with torch.no_grad(), fit.setting():
        for number, batch in enumerate(fit.batches(table, PIECE if local else ROWS).pieces()):
            drawn_from = local and leaves_open(fit.program, batch)
            with seeded(seed, "log_prob", number):
                terms = every_row(fit, batch, draws, step, drawn_from, Refining(refine if drawn_from else 0, seed))
            sure = sure and not drawn_from and len(terms) == 1
            terms = terms.expand(draws, -1) if local and not drawn_from else terms
            found.append((*(bound_of if bound else average)(terms), shapes_of(terms)))
            counted.append(counted_rows(fit.program, batch))
    value, error, size, shape = (
        None if part[0] is None else np.concatenate(part) for part in zip(*found, strict=True)
    )
    if fit.program.cells_as_latents:
        empty = ~table.known[:, [name not in fit.program.inputs for name in fit.schema.names]].any(1)
        if table.lengths is not None:
            empty = np.logical_and.reduceat(empty, spans(table.lengths)[:-1])
        value, error = (np.where(empty, 0.0, part) for part in (value, error))  # type: ignore[arg-type]
    rows = value + log_jacobian(fit, table, np.concatenate(counted))
    if sure:
        return Estimate(rows, "exact")
    if bound:
        return Estimate(rows, "lower_bound", error)
    error = np.zeros_like(rows) if point else error
    weighed = not point and estimable(draws) and (local or len(fit.posterior) == 1)
    return Estimate(rows, "lower_bound" if point else "importance", error, size, k_hat=shape if weighed else None)


def annealed(
    fit: Any, table: Table, chains: int, seed: int, refine: int, temperatures: int, progress: bool
) -> Estimate:
    """By chains from the guide to the posterior, for every draw of the parameters."""
    pieces, found, counted = list(fit.batches(table, PIECE).pieces()), [], []
    thetas, together = list(fit.posterior.spread(POSTERIOR_DRAWS)), max(1, CELLS // PIECE)
    runs = (temperatures > 1) + -(-chains // together)
    with (
        torch.no_grad(),
        fit.setting(),
        tqdm(
            total=len(pieces) * len(thetas) * runs * temperatures,
            desc=f"{fit.name} · annealing",
            disable=not progress,
            leave=False,
        ) as bar,
    ):
        for number, batch in enumerate(pieces):
            terms = []
            for at, theta in enumerate(thetas):
                noise = RowNoise(batch, seed, "annealed", at)
                if not leaves_open(fit.program, batch):
                    terms.append(weighted(fit.program, batch, theta=theta).log_weights.double().expand(chains, -1))
                    continue
                with seeded(seed, "annealed", number, at):
                    program = refined(fit.program, batch, refine, theta, seed)
                    terms.append(
                        annealed_weights(program, batch, chains, temperatures, theta, noise, together, bar.update)
                    )
            found.append(average(torch.cat(terms)))
            counted.append(counted_rows(fit.program, batch))
    value, error, size = (np.concatenate(part) for part in zip(*found, strict=True))
    return Estimate(value + log_jacobian(fit, table, np.concatenate(counted)), "annealed", error, size)


def followed(fit: Any, table: Table, particles: int, seed: int, refine: int) -> Estimate:
    """By particle filters of sequences, some runs for every draw of the parameters."""
    found, counted = [], []
    thetas = list(fit.posterior.spread(POSTERIOR_DRAWS))
    with torch.no_grad(), fit.setting():
        for batch in fit.batches(table, STEPS).pieces():
            terms = []
            for at, theta in enumerate(thetas):
                program = refined(fit.program, batch, refine, theta, seed)
                for run in range(max(2, FILTERS // len(thetas))):
                    noise = RowNoise(batch, seed, "particles", at, run)
                    terms.append(filtered(program, batch, theta, particles, noise).log_evidence)
            found.append(average(torch.stack(terms)))
            counted.append(counted_rows(fit.program, batch))
    value, error, _ = (np.concatenate(part) for part in zip(*found, strict=True))
    return Estimate(value + log_jacobian(fit, table, np.concatenate(counted)), "importance", error)


@dataclass(frozen=True)
class Refining:
    """How guides are improved row by row: by how many steps, from which seed."""

    steps: int
    seed: int


def every_row(fit: Any, batch: Any, draws: int, step: int, local: bool, refining: Refining) -> Tensor:
    """``(S, B)`` log weights; of a network rows with the same known cells together."""
    network = fit.traits.network and not local
    groups = affordable(fit.program, batch, fit.posterior.theta()) if network else [(None, batch)]
    found = [torch.cat(list(weights(fit, group, draws, step, local, refining)), 0).double() for _, group in groups]
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


def weights(fit: Any, batch: Any, draws: int, step: int, local: bool, refining: Refining) -> Any:
    """Log weights, (S, B) at a time: importance draws of the locals, or posterior draws of the parameters."""
    for theta in fit.posterior.spread(POSTERIOR_DRAWS):
        program = refined(fit.program, batch, refining.steps, theta, refining.seed)
        left = draws if local else 1
        while left > 0:
            now = min(step, left)
            found = weighted(program, batch, now, theta=theta)
            tighter = found.evidence.log_weights(max(draws, 2))
            if tighter is not None:  # a bound that draws of what it approximates come up from
                yield tighter
                break
            yield found.log_weights if found.log_weights.dim() == 2 else found.log_weights[None]
            left -= now


def shapes_of(terms: Tensor) -> np.ndarray:
    """Pareto shapes of weights; minus infinity where all are equal but for rounding, and for impossible rows."""
    if len(terms) == 1:
        return np.full(terms.shape[1], -np.inf)
    spread = terms.amax(0) - terms.amin(0)
    return pareto_shape(torch.where(spread > EQUAL, terms, 0.0).mT.cpu().numpy())


def bound_of(terms: Tensor) -> tuple[np.ndarray, np.ndarray, None]:
    """The mean over draws, and its standard error."""
    error = (
        terms.std(0, correction=1) / math.sqrt(len(terms)) if len(terms) > 1 else torch.full_like(terms[0], torch.nan)
    )
    return terms.mean(0).cpu().numpy(), error.cpu().numpy(), None


def average(terms: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log mean exp over draws, its standard error by the delta method, and the effective sample size."""
    draws = len(terms)
    top = terms.amax(0)
    top = torch.where(top == -torch.inf, 0.0, top)  # impossible rows
    w = (terms - top).exp()
    mean = w.mean(0)
    value = top + mean.log()
    spread = w.std(0, correction=1) if draws > 1 else torch.full_like(mean, torch.nan)  # one draw says nothing of it
    size = w.sum(0).square() / w.square().sum(0)
    return value.cpu().numpy(), (spread / mean / math.sqrt(draws)).cpu().numpy(), size.cpu().numpy()
