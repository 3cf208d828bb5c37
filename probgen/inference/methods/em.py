"""Expectation maximisation (Dempster, Laird and Rubin, 1977) for any program whose latent sites can be summed out.

Expectation: the gradient of the log evidence with respect to the families' natural parameters is the expected
sufficient statistics (Fisher's identity), added up over pieces of the table. Maximisation: each family's own update,
to the mode of its posterior with a prior, to the maximum likelihood without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import PIECE_ROWS, Batch, Batches, total_weight
from probgen.errors import CapabilityError, FitError
from probgen.families.base import Factor, Family, Natural, Symbol, total_of
from probgen.families.gaussian_joint import CoupledGaussian
from probgen.inference.communication import Communicator
from probgen.inference.elimination import numbers_by_row
from probgen.inference.evidence import log_evidence
from probgen.inference.methods.base import Method, Step
from probgen.inference.patterns import by_pattern
from probgen.inference.posterior import Posterior, Theta
from probgen.inference.runtime import seeded
from probgen.inference.starts import NEARLY_CERTAIN, assign, pin_path
from probgen.inference.tracing import Starting, Tracer, leaves_of, observe

__all__ = ["ExpectationMaximisation", "expected_statistics"]

FEW = 2.0  # rows by which drawn parameters are held near the data
UNLABELLED = 1.0  # rows as which all rows without a label count together at the start
MOST_NUMBERS = 2**21  # of one factor, 16 MB
MOST_IN_CLIQUES = 2**25  # of all cliques of a network together

Statistics = dict[str, Natural]


class ExpectationMaximisation(Method):
    """Monotone ascent of the log evidence (plus the log prior) in nats a row.

    Options:
        start: "kmeans" (k-means++), "random", "segments" (of sequences), "draw" (parameters from their posterior given
            a few rows), None for the model's own choice, an array of responsibilities ``(N, K)``, or parameters.
    """

    defaults = {"start": None}
    max_steps = 500
    tolerance = 1e-6
    restarts = 4
    iterates = "iteration"

    def init(self) -> None:
        task = self.task
        self.weight = total_weight(task.batches.source)
        self.merge_repeated_rows()
        tracer = self.inspect()
        self.families = tracer.families
        self.settled = is_settled(tracer)
        self.at_once = self.settled and all(f.closed for f in self.families.values())  # one step is the maximum
        if not self.families or tracer.global_sites_outside_families():
            raise CapabilityError(
                f"method 'em' needs a program whose parameters all belong to families; {task.program.name!r} is not one."
                " Use method='svi' or method='nuts'."
            )
        self.narrow_pieces(tracer)
        self.previous = -np.inf
        self.falls, self.steps = 0.0, 0
        self.statistics: Statistics = {}
        self.held: dict[tuple[int, int], dict[str, Tensor]] = {}  # where each piece's approximations ended
        start = task.program.start if task.options["start"] is None else task.options["start"]
        with collapse_told(self.families):
            self.theta = dict(start) if isinstance(start, Mapping) else self.first_theta(start)
        self.keep_in_cache()

    def inspect(self) -> Tracer:
        """One run of the program on the first piece, to learn its families and discrete sites.

        Where nothing is hidden in a network, the statistics of the piece come with it.
        """
        self.first, starting = next(self.task.batches.pieces()), Starting()
        with seeded(self.task.seed, "inspect"), torch.set_grad_enabled(self.task.program.traits.network):
            tracer = observe(self.task.program, self.first, starting, settle=True)
        self.neutral, self.counted = starting.theta, None
        if self.task.program.traits.network and is_settled(tracer):
            total = total_of(tracer.factors, len(self.first), self.first.weights) * tracer.scale
            self.counted = gradients(total, starting.natural)
        return tracer

    def merge_repeated_rows(self) -> None:
        """Of a network whose columns are all discrete, every different row once, where that halves them."""
        batches, start = self.task.batches, self.task.options["start"]
        source: Any = batches.source
        if (
            not self.task.program.traits.network
            or not hasattr(source, "distinct")
            or not isinstance(start, str | None)
        ):
            return
        program = self.task.program
        hidden = len(program.node_names) > len(program.schema) or not source.known.all()
        if hidden and source.lengths is None and all(column.is_discrete for column in source.schema):
            once, _ = source.distinct()
            if len(once) <= 0.8 * len(source):
                self.task.batches = batches.over(once)

    @cached_property
    def own(self) -> Batches:
        """This process's share of the rows."""
        return self.task.batches.share(self.task.rows.rank, self.task.rows.size)

    def pieces(self) -> Iterator[tuple[tuple[int, int], Batch]]:
        """Pieces of this process's rows, of a network rows with the same known cells together, and what they are known by."""
        for piece in self.own.pieces():
            if not self.task.program.traits.network:
                yield (piece.first, 0), piece
                continue
            for number, (_, group) in enumerate(by_pattern(piece)):
                yield (piece.first, number), group

    def narrow_pieces(self, tracer: Tracer) -> None:
        """Couple rows and pieces so that marginal precision matrices of rows with holes, and cliques, fit in memory."""
        by_row = numbers_by_row(tracer.factors)
        if by_row:
            self.task.batches.resize(int(np.clip(MOST_IN_CLIQUES // by_row, 64, self.task.batches.rows)))
        coupled = [f for f in self.families.values() if isinstance(f, CoupledGaussian)]
        numbers = sum(f.table * f.columns**2 for f in coupled if f.has_large_temporaries(self.first.x))
        if numbers and self.first.x.isnan().any():
            self.task.batches.resize(int(np.clip(2**26 // numbers, 256, PIECE_ROWS)))

    def keep_in_cache(self) -> None:
        """Pieces whose factors, one number a row and value of the latent, stay in the processor's caches.

        Of 50 000 rows and 256 components, an iteration takes a third of the time. Sequences are not cut.
        """
        rows = MOST_NUMBERS // max(f.table for f in self.families.values())
        if self.task.program.traits.network:  # cliques, not tables, are what takes memory
            return
        if not self.first.in_sequences and self.first.x.device.type == "cpu" and rows < self.task.batches.rows:
            self.task.batches.resize(max(rows, 256))

    # -- starting ----------------------------------------------------------------------------------------------
    def first_theta(self, start: Any) -> Theta:
        program, neutral = self.task.program, self.neutral
        first = next(self.task.batches.pieces())
        pooled = self.counted or expected_statistics(program, self.families, neutral, first)[1]
        for name, family in self.families.items():
            if family.prior_choice is not None:
                family.calibrate(pooled[name])
        neutral = maximise(self.families, {n: spread_over_rows(s) for n, s in pooled.items()}, neutral)
        if self.settled and isinstance(start, str):
            self.varies = False
            if self.at_once and len(first) == len(self.task.batches):
                self.statistics = pooled
                return maximise(self.families, pooled, neutral)
            return neutral
        evidence = log_evidence(program, first, theta=neutral, settle=isinstance(start, str))
        symbols, pins = evidence.symbols, tuple(pin_path(first, b.path) for b in evidence.paths if b.path.rotated)
        if not symbols:
            self.varies = False
            return self.from_pins(neutral, pins) if pins else neutral
        if not isinstance(start, str):
            return self.from_responsibilities(neutral, symbols, start)
        if start == "draw":
            return self.drawn(pooled)
        observed = partly_observed(program, first, neutral)
        with seeded(self.task.seed, "start"):
            sites = evidence.trace.sites
            unknown = [symbol for symbol in symbols if symbol not in observed and symbol.name in sites]
            self.varies = bool(unknown) or bool(evidence.paths)
            chains = evidence.in_time
            in_order = chains is not None and chains.ordered
            extra = assign(start, first, unknown, chains is not None, in_order) if unknown else ()
            self.narrow_priors(first, neutral, unknown, chains is not None)
        weights = start_weights(observed, first.weights)
        _, statistics = expected_statistics(program, self.families, neutral, first, (*extra, *pins), weights)
        return maximise(self.families, statistics, neutral)

    def drawn(self, pooled: Statistics) -> Theta:
        """Parameters drawn given a few rows, so that no two values of a latent begin alike."""
        drawn: Theta = {}
        with seeded(self.task.seed, "start"):
            for name, family in self.families.items():  # the same draws in any precision
                few = {k: FEW / self.weight * v.sum(0).double().expand_as(v) for k, v in pooled[name].items()}
                drawn[name] = {k: v.to(self.first.x.dtype) for k, v in family.posterior_draw(few).items()}
        return drawn

    def from_pins(self, neutral: Theta, pins: tuple[Factor, ...]) -> Theta:
        """Parameters that suit continuous states near given values."""
        _, statistics = expected_statistics(self.task.program, self.families, neutral, self.first, pins)
        return maximise(self.families, statistics, neutral)

    def narrow_priors(self, first: Batch, neutral: Theta, unknown: list[Symbol], chains: bool) -> None:
        """Priors on the scale of clusters, where a partition shows them to be far apart: the same in every restart."""
        if len(unknown) != 1:
            return
        with seeded(0, "scale"):
            partition = assign("kmeans", first, unknown, chains, floor=NEARLY_CERTAIN)
        _, statistics = expected_statistics(self.task.program, self.families, neutral, first, partition)
        for name, family in self.families.items():
            if family.prior_choice is not None:
                family.calibrate_within(statistics[name])

    def from_responsibilities(self, neutral: Theta, symbols: list[Symbol], start: Any) -> Theta:
        share = torch.as_tensor(np.asarray(start), dtype=self.first.x.dtype, device=self.first.x.device)
        rows = getattr(self.task.batches.source, "n_rows", len(self.task.batches))
        if len(symbols) != 1 or share.shape != (rows, symbols[0].size):
            expected = f"({rows}, {symbols[0].size})"
            raise FitError(
                f"start must be responsibilities of shape {expected} for one discrete site, got {tuple(share.shape)}."
            )
        total = Expected()
        for piece in self.task.batches.share(self.task.rows.rank, self.task.rows.size).pieces():
            factor = pinned(share[piece.first : piece.first + len(piece)].mT, symbols[0])
            if piece.in_sequences:
                soft = (Factor(factor.symbols, factor.value.clamp_min(1e-6).log()),)
                found = expected_statistics(self.task.program, self.families, neutral, piece, soft)
            else:
                found = expected_statistics(self.task.program, self.families, neutral, piece, pin=factor)
            total.add(*found)
        return maximise(self.families, total.over(self.task.rows, self.families, neutral)[1], neutral)

    # -- iterating ---------------------------------------------------------------------------------------------
    def step(self) -> Step:
        with collapse_told(self.families):
            return self.maximum() if self.statistics and self.at_once and not self.steps else self.iteration()

    def maximum(self) -> Step:
        """Nothing is hidden and updates are maxima: the first parameters are the last ones."""
        natural = {name: family.natural(self.theta[name]) for name, family in self.families.items()}
        total = sum(
            float(torch.where(count != 0, value * count, 0.0).sum())
            for name, group in natural.items()
            for value, count in zip(group.values(), self.statistics[name].values(), strict=True)
        )
        objective = (total + self.log_prior()) / self.weight
        return Step({"objective": objective, "log_likelihood": total / self.weight}, True, True)

    def log_prior(self) -> float:
        """Of the current parameters, of families that have a prior."""
        return sum(float(f.log_prior(self.theta[n])) for n, f in self.families.items() if f.prior_choice is not None)

    def iteration(self) -> Step:
        """Expectation, then maximisation."""
        total, self.statistics = self.expectation()
        objective = (total + self.log_prior()) / self.weight
        self.steps += 1
        if not np.isfinite(objective):
            raise FitError(collapse_message(self.families))
        rise, self.previous = objective - self.previous, objective
        self.falls = min(self.falls, rise)
        converged = 0 <= rise < self.task.tolerance or (rise >= 0 and self.at_once and np.isfinite(rise))
        if not converged:
            self.theta = self.task.program.canonical(maximise(self.families, self.statistics, self.theta))
            if unbounded(self.theta):
                raise FitError(collapse_message(self.families))
        return Step({"objective": objective, "log_likelihood": total / self.weight}, converged, converged)

    def expectation(self) -> tuple[float, Statistics]:
        """Log evidence and expected statistics of all rows of all processes; NaN where some process's numerics failed."""
        total = Expected()
        try:
            for key, piece in self.pieces():
                held = self.held.setdefault(key, {})
                total.add(*expected_statistics(self.task.program, self.families, self.theta, piece, held=held))
        except torch.linalg.LinAlgError:
            total = Expected(float("nan"))
        return total.over(self.task.rows, self.families, self.theta)

    def result(self) -> Posterior:
        return Posterior.at(self.theta)

    def diagnostics(self) -> dict[str, Any]:
        found = {"largest_fall": float(self.falls), "monotone": bool(self.falls > -1e-8)}
        empty = {n: empty_values(f, self.statistics[n]) for n, f in self.families.items() if self.statistics}
        told = {name: values for name, values in empty.items() if values}
        return {**found, "empty": told} if told else found

    def memory(self) -> Statistics:
        additive = all(f.additive and "anchor" not in self.statistics.get(n, {}) for n, f in self.families.items())
        return self.statistics if additive else {}

    def pack(self) -> dict[str, Tensor]:
        state = torch.tensor([self.previous, self.falls, float(self.steps)], dtype=torch.float64)
        held = {f"held|{at}|{number}": found for (at, number), found in self.held.items()}
        return named({"theta": self.theta, "statistics": self.statistics} | held) | {"state": state}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.previous, self.falls, steps = tensors["state"].tolist()
        self.steps, self.theta, self.statistics, self.held = int(steps), {}, {}, {}
        for path, value in tensors.items():
            what, _, place = path.partition("|")
            group, _, key = place.rpartition("|")
            if what == "held":
                at, number = group.split("|")
                self.held.setdefault((int(at), int(number)), {})[key] = value
            elif what != "state":
                getattr(self, what).setdefault(group, {})[key] = value


@dataclass
class Expected:
    """Log evidence and expected statistics of the pieces read so far."""

    value: float = 0.0
    statistics: Statistics | None = None

    def add(self, value: float, found: Statistics) -> None:
        self.value += value
        self.statistics = found if self.statistics is None else added(self.statistics, found)

    def over(self, rows: Communicator, families: Mapping[str, Family], theta: Theta) -> tuple[float, Statistics]:
        """The sum over processes; one without rows adds nothing."""
        if self.statistics is None:
            natural = {name: leaves_of(family, theta[name]) for name, family in families.items()}
            self.statistics = {n: {k: torch.zeros_like(v) for k, v in group.items()} for n, group in natural.items()}
        found = rows.all_reduce({"value": self.value, "statistics": self.statistics})
        return float(found["value"]), found["statistics"]  # type: ignore[arg-type, return-value]


# ------------------------------------------------------------------------------------------------------ the steps
def expected_statistics(
    program: Any,
    families: Mapping[str, Family],
    theta: Theta,
    batch: Batch,
    extra: tuple[Factor, ...] = (),
    weights: Tensor | None = None,
    pin: Factor | None = None,
    held: dict[str, Tensor] | None = None,
    settle: bool | None = None,
) -> tuple[float, Statistics]:
    """Log evidence of the batch and its gradient with respect to the natural parameters: the expectation step.

    Approximations begin at what is ``held`` and leave there where they end, so that their bound never falls.
    """
    leaves = {name: leaves_of(family, theta[name]) for name, family in families.items()}
    settle = not extra and pin is None if settle is None else settle
    evidence = log_evidence(program, batch, natural=leaves, extra=extra, settle=settle, held=held)
    if held is not None:
        held.update(evidence.hold())
    weights = batch.weights if weights is None else weights
    target = evidence.total(weights) if pin is None else pinned_total(evidence, pin, batch.weights)
    return float(target.detach()), gradients(target, leaves)


def gradients(target: Tensor, leaves: Statistics) -> Statistics:
    """Of the evidence with respect to natural parameters."""
    flat = [leaf for group in leaves.values() for leaf in group.values()]
    found = iter(torch.autograd.grad(target, flat, allow_unused=True, materialize_grads=True))
    return {name: {key: next(found) for key in group} for name, group in leaves.items()}


def is_settled(tracer: Tracer) -> bool:
    """Nothing is hidden: statistics do not depend on parameters."""
    return not any(factor.symbols or not factor.is_plain for factor in tracer.factors)


def maximise(families: Mapping[str, Family], statistics: Statistics, current: Theta) -> Theta:
    """The maximisation step."""
    with torch.no_grad():
        return {name: family.update(statistics[name], current[name]) for name, family in families.items()}


def named(groups: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors in nested dictionaries, by their keys with bars between them."""
    found: dict[str, Tensor] = {}
    for key, group in groups.items():
        found |= {key: group} if isinstance(group, Tensor) else {f"{key}|{k}": v for k, v in named(group).items()}
    return found


def unbounded(theta: Theta) -> bool:
    """True where a parameter is infinite, as the precision of a component on a single point."""
    values = (value for group in theta.values() for value in group.values() if value.numel())
    return any(not bool(value.amax() < torch.inf) for value in values)


def added(one: Statistics, other: Statistics) -> Statistics:
    """Statistics are additive over pieces, files and processes."""
    return {name: {key: value + other[name][key] for key, value in group.items()} for name, group in one.items()}


def empty_values(family: Family, statistics: Natural) -> list[int]:
    """Values of a discrete site that less than a hundredth of a row is expected to have."""
    counts = family.expected_counts(statistics)
    return [] if counts is None else torch.nonzero(counts < 1e-2)[:, 0].tolist()


def spread_over_rows(statistics: Natural) -> Natural:
    """The same statistics in every row of the table."""
    return {key: value.mean(0, keepdim=True).expand_as(value).clone() for key, value in statistics.items()}


def pinned(share: Tensor, symbol: Symbol) -> Factor:
    """Responsibilities ``(K, N)`` as weights on the joint factor of a symbol."""
    return Factor((symbol,), share)


def pinned_total(evidence: Any, pin: Factor, weights: Tensor | None) -> Tensor:
    """The expected complete-data log likelihood under given responsibilities."""
    bucket = next(b for b in evidence.buckets if b.summed_out[0] == pin.symbols[0])
    rows = (bucket.value * pin.value).sum(0)
    return (rows if weights is None else rows * weights).sum()


def partly_observed(program: Any, batch: Batch, theta: Theta) -> dict[Symbol, Tensor]:
    """Discrete sites of which some rows are labelled, with the mask of these rows."""
    tracer = log_evidence(program, batch, theta=theta, settle=True).trace
    found = {}
    for factor in tracer.factors:
        if len(factor.symbols) == 1 and bool(torch.isneginf(factor.value).any()):
            found[factor.symbols[0]] = torch.isneginf(factor.value).any(0)
    return found


def start_weights(observed: dict[Symbol, Tensor], weights: Tensor | None) -> Tensor | None:
    """Of the rows from which to start: where one site has labels, rows without one count little.

    They count at all so that nothing that only they show begins with probability zero.
    """
    if len(observed) != 1:
        return weights
    labelled = next(iter(observed.values()))
    weights = torch.ones_like(labelled, dtype=torch.float64) if weights is None else weights
    others = float(weights[~labelled].sum())
    return torch.where(labelled, 1.0, min(1.0, UNLABELLED / others) if others else 0.0) * weights


@contextmanager
def collapse_told(families: Mapping[str, Family]) -> Iterator[None]:
    """A matrix that is no longer positive definite, in the words of the user's problem."""
    try:
        yield
    except torch.linalg.LinAlgError as error:
        raise FitError(collapse_message(families)) from error


def collapse_message(families: Mapping[str, Family]) -> str:
    bare = [name for name, family in families.items() if family.prior_choice is None]
    remedy = (
        "Use prior='default', fewer components, or another start." if bare else "Use fewer components or another seed."
    )
    return f"The likelihood is unbounded here: a component has collapsed onto too few distinct rows. {remedy}"
