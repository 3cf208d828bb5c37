r"""Is the posterior right? Simulation-based calibration (Cook, Gelman and Rubin, 2006; Talts et al., 2018).

Parameters are drawn from the prior, data given the parameters, and draws from the posterior given the data,

.. math:: \tilde\theta \sim p(\theta), \qquad \tilde y \sim p(y \mid \tilde\theta), \qquad
    \theta_1, \dots, \theta_L \sim p(\theta \mid \tilde y).

Where program and sampler are right, the rank of any function :math:`f(\tilde\theta, \tilde y)` among
:math:`f(\theta_l, \tilde y)` is uniform on 0 .. L. Functions that read the data see errors which parameters alone do not
show, a posterior equal to the prior for one: the log likelihood is ranked too (Modrák et al., 2023).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from probgen.data.batches import Batch, Batches, Standardiser
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.inference.compiled import Compiled, mapped
from probgen.inference.fit import as_batches
from probgen.inference.methods.base import Task
from probgen.inference.methods.em import ExpectationMaximisation
from probgen.inference.methods.gibbs import Gibbs
from probgen.inference.replicates import CORRELATED, autocorrelation, replicated_draws
from probgen.inference.runtime import seed_of, seeded, setting
from probgen.inference.simulation import Simulator, TableSimulator, UsersSimulator
from probgen.program import Model, UserProgram
from probgen.queries.fit import build, check_inputs, check_size
from probgen.studies.uniformity import Bands, bands, bins, chi_square
from probgen.whole import check_whole

__all__ = ["Calibration", "check_calibration", "simulator_of"]

METHODS = ("chees", "gibbs")
SMALLEST = 20  # replicates that say anything
LOWEST_ACCEPTANCE = 0.4
Quantity = Callable[[dict[str, Tensor], Any], Tensor]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of what generated the data among draws from the posterior.

    Attributes:
        names: of the Q quantities: elements of parameters, ``log_joint`` and ``log_likelihood``, and the user's own.
        ranks: ``(R, Q)`` whole numbers on 0 .. L.
        draws: L, draws of every posterior.
        level: the probability that a right program fails.
        chi_square: ``(Q,)`` p-values of even bins.
        ecdf: ``(Q,)`` p-values of the simultaneous band.
        diagnostics: ``thin``, the largest ``autocorrelation`` of neighbouring draws, of ChEES the lowest ``acceptance`` of
            a data set, ``divergences``, how it was ``compiled``; ``seconds``.
    """

    names: list[str]
    ranks: np.ndarray
    draws: int
    level: float
    chi_square: np.ndarray
    ecdf: np.ndarray
    diagnostics: dict[str, Any] = field(default_factory=dict)

    @property
    def replicates(self) -> int:
        """R, the number of data sets."""
        return len(self.ranks)

    @property
    def p_value(self) -> float:
        """Of all tests together: the smallest, times their number (Bonferroni)."""
        tests = np.concatenate([self.chi_square, self.ecdf])
        return float(min(1.0, tests.min() * len(tests)))

    @property
    def passed(self) -> bool:
        """No quantity's ranks are further from uniform than chance makes them, by this level."""
        return self.p_value >= self.level

    @property
    def reliable(self) -> bool:
        """The draws were independent enough for ranks to mean what they should."""
        return self.diagnostics["autocorrelation"] <= 2 * CORRELATED

    @property
    def bands(self) -> Bands:
        """What uniform ranks look like."""
        return bands(self.replicates, self.draws)

    @property
    def table(self) -> list[dict[str, Any]]:
        """One record a quantity, the least uniform first: mean rank over L, p-values, and what its ranks say."""
        both, scaled = np.minimum(self.chi_square, self.ecdf), self.ranks / self.draws
        return [
            {
                "quantity": self.names[at], "mean_rank": float(scaled[:, at].mean()), "sd_rank": float(scaled[:, at].std()),
                "chi_square": float(self.chi_square[at]), "ecdf": float(self.ecdf[at]), "says": self.says(at),
            }
            for at in np.argsort(both, kind="stable")
        ]  # fmt: skip

    def says(self, at: int) -> str:
        """The shape of one quantity's ranks in words; nothing where chance explains it."""
        tests = 2 * len(self.names)
        if min(self.chi_square[at], self.ecdf[at]) * tests >= self.level:
            return ""
        scaled = (self.ranks[:, at] + 0.5) / (self.draws + 1)
        shift = (scaled.mean() - 0.5) * np.sqrt(12 * len(scaled))
        spread = (np.square(scaled - 0.5).mean() - 1 / 12) * np.sqrt(180 * len(scaled))
        if abs(shift) > max(abs(spread), 3):
            return "posteriors too low" if shift > 0 else "posteriors too high"
        if abs(spread) > 3:
            return "posteriors too narrow" if spread > 0 else "posteriors too wide"
        return "ranks not uniform"

    def __str__(self) -> str:
        verdict = "Calibrated" if self.passed else "Not calibrated"
        head = (
            f"{verdict}: {len(self.names)} quantities over {self.replicates} simulated data sets, {self.draws} draws each;"
            f" p = {self.p_value:.2g} of all tests together, level {self.level:g}."
        )
        lines = [head, *self.cautions(), f"{'quantity':<24}{'mean rank':>10}{'chi-square p':>14}{'ECDF p':>10}"]
        for record in self.table[:12]:
            numbers = f"{record['mean_rank']:>10.3f}{record['chi_square']:>14.2g}{record['ecdf']:>10.2g}"
            lines.append(f"{record['quantity']:<24}{numbers}  {record['says']}".rstrip())
        if len(self.names) > 12:
            lines.append(f"... and {len(self.names) - 12} more")
        return "\n".join(lines)

    def cautions(self) -> list[str]:
        """What a careful reader should know before reading the ranks."""
        found, told = [], self.diagnostics
        if not self.reliable:
            found.append(
                f"Neighbouring draws are correlated ({told['autocorrelation']:.2f}): chains mix slowly, and ranks pile up at"
                " both ends even where the program is right. Reparametrise it, or ask for more warm-up."
            )
        if told.get("acceptance", 1.0) < LOWEST_ACCEPTANCE:
            found.append(f"A data set's chain accepted {told['acceptance']:.0%} of its proposals only; raise warmup.")
        return found


def check_calibration(
    model: str | Model | type[Model],
    data: Any,
    *,
    replicates: int = 256,
    draws: int = 63,
    method: str = "chees",
    simulate: Callable[[dict[str, Tensor], Any], Any] | None = None,
    quantities: Mapping[str, Quantity] | None = None,
    warmup: int = 200,
    level: float = 0.01,
    seed: int = 0,
    **options: Any,
) -> Calibration:
    """Simulation-based calibration of a program and its sampler, all simulated data sets in one batch.

    A user's own program is run with its observed sites drawn in place of observed. What it observes has to be an entry of
    the data as it is (``obs=data["y"]``), and the outcomes must be read nowhere else. Covariates stay as they are, and the
    values of the outcomes given do not matter, only their shapes. Where a program cannot be run that way (factors,
    scales, autoregressions, parts of a tensor), ``simulate`` draws the data.

    Args:
        model: ``program(model_fn)``, or a name from :func:`probgen.available` and the like.
        data: the argument of a user's own program; for a model of the library a table, to whose columns its default
            priors are scaled once, and whose number of rows (and steps) all data sets have.
        replicates: R, data sets.
        draws: L, draws of every posterior that are nearly independent; L + 1 should have many divisors.
        method: "chees"; or "gibbs", of models whose families all draw their own posterior, one data set after the other.
        simulate: draws data given a dictionary of parameter values and the data given; of users' programs.
        quantities: more functions of (values by name, data), each a scalar; of one draw.
        warmup: transitions before draws are kept.
        level: the probability that a right program fails.
        seed: of all draws.
        **options: of the library's model (``components``, ...).

    Returns:
        A :class:`Calibration`; ``probgen.plots.calibration`` draws it.

    Raises:
        CapabilityError: a program whose data cannot be drawn by running it, an improper prior, an unknown method.
        FitError: a simulated data set has no point of positive density.
    """
    check_sizes(replicates, draws, level, warmup)
    if method not in METHODS:
        raise CapabilityError(f"method must be one of {', '.join(METHODS)}, got {method!r}.")
    began = time.perf_counter()
    with setting(torch.float64, torch.device("cpu")), seeded(seed, "calibration"):
        simulator = simulator_of(model, data, seed, simulate, options)
        if method == "gibbs" and not isinstance(simulator, TableSimulator):
            raise CapabilityError("method='gibbs' needs a model of the library; use method='chees'.")
        truth, own = simulated(simulator, replicates)
        points, values, told = posteriors(simulator, truth, own, method, draws, warmup, seed)
        names, ranked = quantities_of(simulator, points, values, own, quantities or {})
    told = summarised(told) | {"seconds": time.perf_counter() - began}
    return judged(names, ranks_of(ranked, seed), draws, level, told)


def check_sizes(replicates: int, draws: int, level: float, warmup: int) -> None:
    """Numbers that ranks can be made of."""
    for name, number, least in (("replicates", replicates, SMALLEST), ("draws", draws, 3), ("warmup", warmup, 20)):
        check_whole(name, number, least)
    if bins(draws, replicates) < 2:
        raise CapabilityError(
            f"draws={draws}: its {draws + 1} ranks do not divide into bins evenly; use one less than a number with many"
            " divisors, such as 31, 63 or 99."
        )
    if not 0 < level < 1:
        raise CapabilityError(f"level must be a probability between 0 and 1, got {level!r}.")


# -------------------------------------------------------------------------------------------------------- simulating
def simulator_of(model: Any, data: Any, seed: int, simulate: Any, options: dict[str, Any]) -> Simulator:
    """What draws parameters and data, for either kind of program."""
    if isinstance(model, UserProgram):
        if options:
            raise CapabilityError(f"A user's own program has no option {', '.join(map(repr, options))}.")
        return UsersSimulator(model, data, simulate)
    if simulate is not None:
        raise CapabilityError("simulate is for users' programs; a model of the library draws its own data.")
    table = data if isinstance(data, Table) else Table(data)
    table.check_for_fit()
    program, rest = build(model, table, seed, options)
    if rest:
        raise CapabilityError(f"{program.name!r} has no option {', '.join(map(repr, rest))}.")
    if any(parameter.requires_grad for parameter in program.parameters()) or not program.traits.normalised:
        raise CapabilityError(f"{program.name!r} has no prior over all of its parameters, so it cannot be calibrated.")
    check_size(program, table)
    check_inputs(program, table)
    if program.inputs:
        raise CapabilityError(f"{program.name!r} with inputs does not draw them; check it as a program of your own.")
    return TableSimulator(program, scaled(program, table, seed))


def scaled(program: Model, table: Table, seed: int) -> Batch:
    """The table's rows, after the program's default priors have been scaled to them."""
    program.to(torch.float64)
    rows: Batches = as_batches(table, Standardiser.of(table), program, torch.float64, torch.device("cpu"))
    program.prepare(rows)
    em = ExpectationMaximisation(Task(program, rows, None, seed, 1, 0.0, {**ExpectationMaximisation.defaults}))
    em.init()
    return next(rows.pieces())


def simulated(simulator: Simulator, replicates: int) -> tuple[Tensor, list[Tensor]]:
    """Vectors ``(R, P)`` from the prior, and the tensors ``(R, ...)`` of the data drawn given them."""
    with torch.no_grad():
        pairs = [simulator.draw() for _ in range(replicates)]
    truth = torch.stack([u for u, _ in pairs])
    if not bool(truth.isfinite().all()):
        raise CapabilityError("The prior draws parameters that are infinite; make it narrower.")
    return truth, [torch.stack(tensors) for tensors in zip(*(own for _, own in pairs), strict=True)]


def posteriors(
    simulator: Simulator, truth: Tensor, own: list[Tensor], method: str, draws: int, warmup: int, seed: int
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Points ``(R, 1 + L, P)``, what generated the data first, their log densities, and what there is to know."""
    with torch.no_grad():
        density = Compiled(simulator.log_posterior, truth, own, own_data=True)
    if method == "gibbs":
        points, told = gibbs_draws(simulator, own, draws, warmup, seed)
        values = torch.stack([density(points[:, at])[0] for at in range(draws)], 1)
    else:
        starts = torch.roll(truth, 1, 0)  # draws from the prior, of another data set
        read = lambda points: flat(parameters_of(simulator, points))  # noqa: E731
        points, values, told = replicated_draws(density, starts, draws, warmup, seed, read)
    told["compiled"] = density.mode
    return torch.cat([truth[:, None], points], 1), torch.cat([density(truth)[0][:, None], values], 1), told


def gibbs_draws(
    simulator: Any, own: list[Tensor], draws: int, warmup: int, seed: int
) -> tuple[Tensor, dict[str, Any]]:
    """Draws ``(R, L, P)``, one data set after the other, each chain from a draw of the prior."""
    found = []
    for number, x in enumerate(own[0]):
        with seeded(seed, "calibration gibbs", number):
            chain = GibbsChain(simulator, simulator.potential.prior_draw())
            for _ in range(warmup):
                chain.sweep(x)
            found.append(torch.stack([chain.sweep(x) for _ in range(draws)]))
    points = torch.stack(found)
    return points, {"thin": 1, "autocorrelation": autocorrelation(points)}


class GibbsChain:
    """The library's Gibbs sampler with priors as they are, one sweep at a time.

    Args:
        simulator: of a table's model.
        u: where the chain starts.
    """

    def __init__(self, simulator: TableSimulator, u: Tensor) -> None:
        self.simulator, self.rows = simulator, OneBatch()
        self.gibbs = Gibbs(Task(simulator.program, self.rows, None, 0, 1, 0.0, {**Gibbs.defaults}))  # type: ignore[arg-type]
        self.gibbs.families = simulator.potential.families
        with torch.no_grad():
            self.gibbs.theta = simulator.theta(u.detach())

    def sweep(self, x: Tensor) -> Tensor:
        """The vector after one sweep given rows ``(N, D)``."""
        self.rows.batch = self.simulator.rows(x)
        self.gibbs.sweep()
        return self.simulator.potential.at(self.gibbs.theta).detach()


class OneBatch:
    """Rows that change between sweeps."""

    source = None
    batch: Batch

    def pieces(self) -> Any:
        yield self.batch

    def __len__(self) -> int:
        return len(self.batch)


# ------------------------------------------------------------------------------------------------------------ ranking
def quantities_of(
    simulator: Simulator, points: Tensor, values: Tensor, own: list[Tensor], more: Mapping[str, Quantity]
) -> tuple[list[str], np.ndarray]:
    """Names, and numbers ``(R, 1 + L, Q)``, what generated the data first.

    Args:
        simulator: of parameters and data.
        points: ``(R, 1 + L, P)``.
        values: ``(R, 1 + L)`` log densities on the unconstrained scale.
        own: tensors of the data, ``(R, ...)``.
        more: the user's functions.
    """
    shape = points.shape[:2]
    found, log_prior, log_jacobian = mapped(simulator.read, points.reshape(-1, points.shape[2]))
    found = {key: value.reshape(*shape, *value.shape[1:]) for key, value in found.items()}
    columns = {name: column for key, value in found.items() for name, column in elements(key, value).items()}
    columns["log_joint"] = values - log_jacobian.reshape(shape)
    columns["log_likelihood"] = columns["log_joint"] - log_prior.reshape(shape)
    for name, function in more.items():
        each = [applied(name, function, found, at, simulator.data([t[at] for t in own])) for at in range(shape[0])]
        columns[name] = torch.stack(each)
    moving = {name: column for name, column in columns.items() if bool((column != column[:1, :1]).any())}
    return list(moving), torch.stack(list(moving.values()), 2).double().numpy()


def parameters_of(simulator: Simulator, points: Tensor) -> dict[str, Tensor]:
    """Values ``(R, S, ...)`` at points ``(R, S, P)``."""
    found = mapped(simulator.values, points.reshape(-1, points.shape[2]))
    return {key: value.reshape(*points.shape[:2], *value.shape[1:]) for key, value in found.items()}


def flat(values: Mapping[str, Tensor]) -> Tensor:
    """``(R, S, Q)``: all elements that vary."""
    columns = torch.cat([value.reshape(*value.shape[:2], -1) for value in values.values()], 2)
    return columns[..., (columns != columns[:1, :1]).any((0, 1))]


def elements(name: str, value: Tensor) -> dict[str, Tensor]:
    """``(R, 1 + L, ...)`` as columns ``(R, 1 + L)`` with names such as ``weights[1]``."""
    if value.dim() == 2:
        return {name: value}
    places = np.ndindex(*value.shape[2:])
    return {f"{name}[{','.join(map(str, at))}]": value[(slice(None), slice(None), *at)] for at in places}


def applied(name: str, function: Quantity, found: dict[str, Tensor], at: int, data: Any) -> Tensor:
    """``(1 + L,)``: the user's function of all draws of one data set."""
    number = vmap(lambda values: function(values, data))({key: value[at] for key, value in found.items()})
    if number.dim() != 1:
        raise CapabilityError(f"quantities[{name!r}] must return one number, got shape {tuple(number.shape[1:])}.")
    return number


def ranks_of(ranked: np.ndarray, seed: int) -> np.ndarray:
    """``(R, Q)``: how many draws lie below the first entry of ``(R, 1 + L, Q)``, ties at random."""
    truth, drawn = ranked[:, :1], ranked[:, 1:]
    fewer, ties = (drawn < truth).sum(1), (drawn == truth).sum(1)
    return fewer + np.random.default_rng(seed_of(seed, "ties")).integers(0, ties + 1)


def summarised(told: dict[str, Any]) -> dict[str, Any]:
    """Tensors over data sets and dimensions as their worst entry."""
    found = {**told, "autocorrelation": float(told["autocorrelation"].max())}
    if "acceptance" in told:
        found["acceptance"] = float(told["acceptance"].min())
    return found


def judged(names: list[str], ranks: np.ndarray, draws: int, level: float, told: dict[str, Any]) -> Calibration:
    """The ranks with their p-values."""
    uniform = bands(len(ranks), draws)
    pairs = np.array([(chi_square(column, draws), uniform.p_value(column)) for column in ranks.T])
    return Calibration(names, ranks, draws, level, pairs[:, 0], pairs[:, 1], told)
