r"""Hamiltonian Monte Carlo with many chains in step: ChEES (Hoffman, Radul and Sountsov, 2021).

All chains share a step size, a metric and the length of their trajectories, and move together in one call of a compiled
graph. The length T maximises how much squares change, by a root of the time,

.. math:: \frac1{4 T^{1/5}}\, \mathbb E\bigl[(\lVert z' - \bar z'\rVert^2 - \lVert z - \bar z \rVert^2)^2\bigr],

with z the points in the metric's coordinates, and each proposal z' counted by its acceptance, in the mean too: one that
goes astray would move the centre of all. Trajectories are jittered by a Halton sequence. The step size aims at a
mean acceptance, and the metric is learnt from all chains in windows that double. While they learn, a chain that keeps being
refused, far out where the density is steeper, takes smaller steps than the others until it has come in.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.inference.ascent import Ascent
from probgen.inference.chain_starts import begun, gathered
from probgen.inference.diagnostics import effective_sample_size, split_rhat
from probgen.inference.methods.base import Method, Step, Task
from probgen.inference.metric import Metric
from probgen.inference.posterior import Posterior
from probgen.inference.runtime import seed_of
from probgen.inference.step_size import DualAveraging
from probgen.whole import check_whole

__all__ = ["ChEES", "Density", "Move", "State"]

DIVERGENT = 1000.0  # error of the energy
FIRST_WINDOW = 16
EARLY_LEAPFROGS = 16  # of a trajectory before the metric is learnt, at most
CAUTION, HALF = 0.3, 0.5  # by how much a refused chain's step shrinks, and the acceptance from which it grows again
BOLDNESS = 1.5  # of the search for a step size: the mean acceptance of many chains is hardly noisy
ASCENT_STEPS = 200
POWER = 0.2  # of the time by which the criterion is divided
LONGEST = math.pi  # mean length in the metric's coordinates: half a turn of a normal
RATE, FORGET = 0.1, 0.1  # of steps of the logarithm of the trajectory's length, and of what they are made of
STATISTICS = ("lp", "acceptance_rate", "energy", "diverging", "n_steps", "step_size")


class Density(Protocol):
    """Values ``(C,)`` and gradients ``(C, P)`` at points ``(C, P)``."""

    mode: str
    seconds: float

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass
class State:
    """All chains: points ``(C, P)``, log densities ``(C,)`` and gradients ``(C, P)``."""

    points: Tensor
    values: Tensor
    gradients: Tensor


@dataclass
class Move:
    """A proposal, the momenta at its end, and how far the energy is off."""

    state: State
    momenta: Tensor
    error: Tensor
    energy: Tensor


class Length:
    """The mean length of trajectories: steps along the derivative of the logarithm of criterion by a root of time.

    Attributes:
        log: logarithm of the present length.
        average: of the length to keep.
    """

    def __init__(self) -> None:
        self.log, self.average, self.slope, self.criterion, self.count = 0.0, 0.0, 0.0, 0.0, 0

    def update(self, slope: float, criterion: float, low: float, high: float) -> None:
        """One step, within bounds of the logarithm.

        Args:
            slope: time travelled times the criterion's derivative by it.
            criterion: its value.
            low, high: bounds.
        """
        if not (math.isfinite(slope) and math.isfinite(criterion)):
            return
        self.count += 1
        weight = max(FORGET, 1.0 / self.count)
        self.slope += weight * (slope - self.slope)
        self.criterion += weight * (criterion - self.criterion)
        rise = min(max(self.slope / (self.criterion + 1e-300) - POWER, -1.0), 1.0)
        self.log = min(max(self.log + RATE * rise, low), high)
        kept = self.count**-0.6
        self.average = (1 - kept) * self.average + kept * self.log

    def pack(self) -> Tensor:
        return torch.tensor([self.log, self.average, self.slope, self.criterion, self.count], dtype=torch.float64)

    def unpack(self, packed: Tensor) -> None:
        self.log, self.average, self.slope, self.criterion, count = packed.tolist()
        self.count = int(count)


class ChEES(Method):
    """Many chains that share what they learn.

    Options:
        chains, draws, warmup: how many; draws are of each chain.
        target_acceptance: of the step size's adaptation.
        max_leapfrogs: steps of one trajectory, at most.
        compile: "auto", "graph", "inductor" or "eager"; see :class:`~probgen.inference.compiled.Compiled`.
        start: as for EM; "prior" starts every chain at a draw from the prior.
    """

    defaults = {
        "chains": 32, "draws": 400, "warmup": 400, "target_acceptance": 0.9, "max_leapfrogs": 1024,
        "compile": "auto", "start": None,
    }  # fmt: skip
    max_steps = 10**9
    wherever = "nuts"
    divides = "chains"
    iterates = "transition"

    def init(self) -> None:
        task, options = self.task, self.task.options
        check_counts(options, chains=2, draws=4, warmup=20)
        self.own = own_chains(task)
        points, near = self.target()
        self.seconds = {"compile": self.density.seconds, "warmup": 0.0, "sampling": 0.0}
        self.generator = torch.Generator(points.device).manual_seed(seed_of(task.seed, "chees"))
        self.count, self.leapfrogs, self.length = 0, 0, Length()
        self.kept: list[Tensor] = []
        self.told: list[Tensor] = []
        self.window: list[tuple[Tensor, Tensor]] = []
        self.ends = windows(options["warmup"])
        self.begin(points, near)

    def target(self) -> tuple[Tensor, bool]:
        """Make the density; returns where the chains start, and whether that is near a mode already."""
        start = begun(self.task, "chees", self.task.options["chains"])
        self.potential = start.potential
        self.density: Density = start.density
        return start.points, start.near

    def begin(self, points: Tensor, near: bool) -> None:
        """Dispersed chains climb; what the climb shows of the scales is the first metric."""
        began = time.process_time()
        ascent = Ascent(self.density, points)
        self.metric = Metric.unit(points)
        if not near:
            ascent.run(ASCENT_STEPS, enough=1.0)
            if ascent.moves:
                self.metric = Metric.diagonal(ascent.variance())
        self.moved = self.gathered(ascent)
        own = slice(self.own.start, self.own.stop)
        self.state = State(ascent.points[own], ascent.values[own], ascent.gradients[own])
        self.shorter = torch.zeros_like(self.state.values)  # logarithms of the chains' shares of the step size
        self.adapt = DualAveraging(self.task.options["target_acceptance"], math.log(self.first_step_size()), BOLDNESS)
        self.seconds["warmup"] += time.process_time() - began

    def gathered(self, ascent: Ascent) -> int:
        """Chains that are lost begin where others are; how many."""
        return gathered(ascent)

    def first_step_size(self) -> float:
        """Halved until one leapfrog step is accepted about half the time, on average over chains."""
        log_step = math.log(1.0)
        for _ in range(60):
            move = self.proposed(math.exp(log_step), 1)
            accepted = self.pooled((-move.error).clamp(max=0.0).exp().mean()[None])
            if float(accepted) > 0.5:
                break
            log_step -= math.log(2.0)
        return math.exp(log_step)

    # -- moving ------------------------------------------------------------------------------------------------
    def proposed(self, step: float, count: int) -> Move:
        """Fresh momenta, and a trajectory of leapfrog steps."""
        state, metric, steps = self.state, self.metric, step * self.shorter.exp()[:, None]
        points, gradients = state.points, state.gradients
        momenta = self.noise(torch.randn, points.shape[1])
        energy = 0.5 * momenta.square().sum(1) - state.values
        momenta = momenta + 0.5 * steps * metric.force(gradients)
        for left in range(count, 0, -1):
            points = points + steps * metric.velocity(momenta)
            values, gradients = self.density(points)
            momenta = momenta + (steps if left > 1 else 0.5 * steps) * metric.force(gradients)
        error = 0.5 * momenta.square().sum(1) - values - energy
        error = torch.where(error.isfinite(), error, torch.inf)
        return Move(State(points, values, gradients), momenta, error, energy)

    def step(self) -> Step:
        began, warm = time.process_time(), self.count < self.task.options["warmup"]
        log_length = self.length.log if warm else self.length.average
        size = math.exp(self.adapt.log_step if warm else self.adapt.log_average)
        jitter = 2 * halton(self.count + 1)
        count = math.ceil(jitter * math.exp(log_length) / size)
        count = max(1, min(count, self.most_leapfrogs(warm)))
        move = self.proposed(size, count)
        self.leapfrogs += count
        acceptance = (-move.error).clamp(max=0.0).exp()
        before = self.state
        self.accept(move, acceptance)
        if warm:
            self.learn(move, before, acceptance, size, count * size)
        else:
            self.keep(move, acceptance, count, size)
        self.count += 1
        self.seconds["warmup" if warm else "sampling"] += time.process_time() - began
        done = self.count == self.task.options["warmup"] + self.task.options["draws"]
        mean, rate = self.pooled(torch.stack([self.state.values.mean(), acceptance.mean()])).tolist()
        values = {"objective": mean / len(self.task.batches), "acceptance": rate, "leapfrogs": float(count)}
        return Step(values, done, done)

    def noise(self, draw: Any, *shape: int) -> Tensor:
        """Random numbers of this process's chains, out of those of all chains."""
        like, chains = self.state.points, self.task.options["chains"]
        all_chains = draw(chains, *shape, generator=self.generator, dtype=like.dtype, device=like.device)
        return all_chains[self.own.start : self.own.stop]

    def pooled(self, vector: Tensor) -> Tensor:
        """The mean over all chains, from that over this process's."""
        return self.task.chains.mean(vector, weight=len(self.own))

    def most_leapfrogs(self, warm: bool) -> int:
        """Few while the metric is still poor: twice as many after every window."""
        most = self.task.options["max_leapfrogs"]
        windows_past = sum(end <= self.count for end in self.ends)
        return min(most, EARLY_LEAPFROGS * 2**windows_past) if warm and windows_past < len(self.ends) else most

    def accept(self, move: Move, acceptance: Tensor) -> None:
        """Metropolis's rule, chain by chain."""
        take, now, new = self.noise(torch.rand) < acceptance, self.state, move.state
        self.state = State(
            torch.where(take[:, None], new.points, now.points),
            torch.where(take, new.values, now.values),
            torch.where(take[:, None], new.gradients, now.gradients),
        )

    def keep(self, move: Move, acceptance: Tensor, count: int, size: float) -> None:
        """A draw of every chain, and what the sampler knows of it."""
        self.kept.append(self.state.points)
        diverging = (move.error > DIVERGENT).to(acceptance)
        same = torch.ones_like(acceptance)
        self.told.append(
            torch.stack([self.state.values, acceptance, move.energy, diverging, count * same, size * same])
        )

    # -- learning ----------------------------------------------------------------------------------------------
    def learn(self, move: Move, before: State, acceptance: Tensor, size: float, travelled: float) -> None:
        """Step size and length from this transition; the metric where a window ends."""
        slope, criterion, accepted = self.criterion(move, before.points, acceptance)
        self.adapt.update(accepted)
        most = math.log(max(size, min(LONGEST, size * self.task.options["max_leapfrogs"] / 2)))
        self.length.update(travelled * slope, criterion, math.log(size), most)
        self.shorter = (self.shorter + CAUTION * (acceptance - HALF)).clamp(max=0.0)
        if self.count + 1 == self.task.options["warmup"]:
            self.shorter = torch.zeros_like(acceptance)
        self.window.append((self.state.points, self.state.gradients))
        if self.count + 1 in self.ends:
            self.learn_metric()

    def criterion(self, move: Move, start: Tensor, acceptance: Tensor) -> tuple[float, float, float]:
        """Derivative of the criterion by the time travelled, and its value, over chains by their acceptance; its mean."""
        one, two = self.metric.whitened(start), self.metric.whitened(move.state.points)
        weight = acceptance * self.shorter.exp()
        two = torch.where((weight > 0)[:, None], two, one)
        ends = self.pooled(torch.cat([one.mean(0), (weight[:, None] * two).mean(0), weight.mean()[None]]))
        one, two = one - ends[: one.shape[1]], two - ends[one.shape[1] : -1] / ends[-1].clamp_min(1e-12)
        change = two.square().sum(1) - one.square().sum(1)
        slope, value = change * (two * move.momenta).sum(1), 0.25 * change.square()
        weight = torch.where(slope.isfinite() & value.isfinite(), weight, 0.0)
        usable = weight > 0
        parts = [(torch.where(usable, part, 0.0) * weight).mean() for part in (slope, value)]
        slope, value, total, accepted = self.pooled(torch.stack([*parts, weight.mean(), acceptance.mean()])).tolist()
        return slope / max(total, 1e-12), value / max(total, 1e-12), accepted

    def learn_metric(self) -> None:
        """From all chains in the window; step size and length are searched for again in its coordinates."""
        parts = (torch.cat(part) for part in zip(*self.window, strict=True))
        draws, gradients = (self.task.chains.concatenate(part) for part in parts)
        self.metric = Metric.learnt(draws, gradients)
        self.window = []
        if len(self.ends) > 1 and self.count + 1 in self.ends[:2]:
            self.length = Length()
        self.adapt = DualAveraging(self.task.options["target_acceptance"], math.log(self.first_step_size()), BOLDNESS)

    # -- what is left ------------------------------------------------------------------------------------------
    def result(self) -> Posterior:
        draws = self.task.chains.concatenate(torch.stack(self.kept, 1))  # (C, S, P)
        statistics = self.task.chains.concatenate(torch.stack(self.told, 0).permute(2, 0, 1))  # (C, S, statistics)
        self.draws = draws.double().cpu().numpy()
        self.statistics = dict(zip(STATISTICS, statistics.unbind(-1), strict=True))
        return self.potential.posterior(draws, self.statistics)

    def diagnostics(self) -> dict[str, Any]:
        return {
            "divergences": int(self.statistics["diverging"].sum()),
            "rhat": float(split_rhat(self.draws).max()),
            "ess": float(effective_sample_size(self.draws).min()),
            "acceptance": float(self.statistics["acceptance_rate"].mean()),
            "step_size": math.exp(self.adapt.log_average),
            "trajectory_length": math.exp(self.length.average),
            "leapfrogs": self.leapfrogs,
            "moved_chains": self.moved,
            "compiled": self.density.mode,
            "seconds": dict(self.seconds),
        }

    def pack(self) -> dict[str, Tensor]:
        state = {"points": self.state.points, "values": self.state.values, "gradients": self.state.gradients}
        state["shorter"] = self.shorter
        packed = {**state, "factor": self.metric.factor, "inverse": self.metric.inverse}
        packed |= {"adapt": self.adapt.pack(), "length": self.length.pack(), "generator": self.generator.get_state()}
        packed |= {"count": torch.tensor([self.count, self.leapfrogs])}
        packed |= {"seconds": torch.tensor(list(self.seconds.values()), dtype=torch.float64)}
        if self.kept:
            packed |= {"kept": torch.stack(self.kept), "told": torch.stack(self.told)}
        if self.window:
            draws, gradients = zip(*self.window, strict=True)
            packed |= {"window|draws": torch.stack(draws), "window|gradients": torch.stack(gradients)}
        return packed

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.state = State(tensors["points"], tensors["values"], tensors["gradients"])
        self.shorter = tensors["shorter"]
        self.metric = Metric(tensors["factor"], tensors["inverse"])
        self.adapt = DualAveraging.unpack(tensors["adapt"])
        self.length.unpack(tensors["length"])
        self.generator.set_state(tensors["generator"])
        self.count, self.leapfrogs = (int(v) for v in tensors["count"])
        self.seconds = dict(zip(self.seconds, tensors["seconds"].tolist(), strict=True))
        self.kept = list(tensors["kept"]) if "kept" in tensors else []
        self.told = list(tensors["told"]) if "told" in tensors else []
        pairs = (tensors[f"window|{name}"] for name in ("draws", "gradients")) if "window|draws" in tensors else ()
        self.window = list(zip(*pairs, strict=True))


def check_counts(options: dict[str, Any], **least: int) -> None:
    """Numbers of chains, draws and warm-up transitions have to be whole and large enough."""
    for name, lowest in least.items():
        number = options[name]
        check_whole(name, number, lowest)


def own_chains(task: Task) -> range:
    """Which chains this process walks.

    Raises:
        CapabilityError: there are fewer chains than processes.
    """
    chains, processes = task.options["chains"], task.chains
    if chains < processes.size:
        raise CapabilityError(
            f"{chains} chains cannot be divided among {processes.size} processes; ask for at least one chain a process, or"
            " start fewer processes."
        )
    return processes.share(chains)


def windows(warmup: int) -> list[int]:
    """Transitions after which the metric is learnt: windows double, and the last tenth is for the step size alone."""
    ends, at, width, last = [], 0, FIRST_WINDOW, warmup - max(warmup // 10, 10)
    while at + width <= last:
        at = last if at + 3 * width > last else at + width
        ends.append(at)
        width *= 2
    return ends


def halton(number: int) -> float:
    """Van der Corput's sequence in base two: fills (0, 1) evenly."""
    found, share = 0.0, 0.5
    while number:
        found, number, share = found + share * (number % 2), number // 2, share / 2
    return found
