"""No-U-turn sampler (Hoffman and Gelman, 2014) with multinomial trajectories (Betancourt, 2017).

A few long chains, each with its own step size and metric. They grow their trees in step, so that one call of the compiled
potential serves all of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.inference.ascent import Ascent
from probgen.inference.chain_starts import begun, gathered
from probgen.inference.diagnostics import effective_sample_size, split_rhat
from probgen.inference.methods.base import Method, Step
from probgen.inference.methods.chees import ASCENT_STEPS, DIVERGENT, STATISTICS, check_counts, own_chains, windows
from probgen.inference.metric import Metric
from probgen.inference.posterior import Posterior
from probgen.inference.runtime import seed_of
from probgen.inference.step_size import DualAveraging

__all__ = ["NoUTurn"]


@dataclass
class Point:
    """Position, momentum in the metric's coordinates, gradient and log density along a trajectory."""

    q: np.ndarray
    r: np.ndarray
    gradient: np.ndarray
    value: float

    @property
    def energy(self) -> float:
        return 0.5 * float(self.r @ self.r) - self.value


@dataclass
class Tree:
    """A trajectory's ends, its sum of momenta, one draw from it, and its log weight."""

    left: Point
    right: Point
    momentum: np.ndarray
    draw: Point
    log_weight: float
    turning: bool = False
    diverging: bool = False
    acceptance: float = 0.0
    leaves: int = 0


Asking = Generator[np.ndarray, tuple[float, np.ndarray], Any]  # yields a position, is sent its value and gradient


class Chain:
    """State of one chain: position, metric, step size and its own random numbers."""

    def __init__(self, q: np.ndarray, value: float, gradient: np.ndarray, seed: int, options: dict[str, Any]) -> None:
        self.point = Point(q, np.zeros_like(q), gradient, value)
        self.options, self.rng = options, np.random.default_rng(seed)
        self.step_size = 1.0
        self.window: list[tuple[np.ndarray, np.ndarray]] = []
        self.use(Metric.unit(torch.from_numpy(q)[None]))

    def use(self, metric: Metric) -> None:
        """Take a metric; a diagonal one multiplies, a dense one is a matrix."""
        self.metric, self.factor = metric, metric.factor.numpy()

    def velocity(self, r: np.ndarray) -> np.ndarray:
        return self.factor * r if self.factor.ndim == 1 else self.factor @ r

    def force(self, gradient: np.ndarray) -> np.ndarray:
        return self.factor * gradient if self.factor.ndim == 1 else gradient @ self.factor

    # -- one trajectory ----------------------------------------------------------------------------------------
    def leapfrog(self, point: Point, step: float) -> Asking:
        """One step of the integrator."""
        r = point.r + 0.5 * step * self.force(point.gradient)
        q = point.q + step * self.velocity(r)
        value, gradient = yield q
        return Point(q, r + 0.5 * step * self.force(gradient), gradient, value)

    def leaf(self, point: Point, direction: int, start: float) -> Asking:
        new = yield from self.leapfrog(point, direction * self.step_size)
        gap = start - new.energy
        gap = gap if math.isfinite(gap) else -math.inf
        return Tree(new, new, new.r, new, gap, False, gap < -DIVERGENT, math.exp(min(gap, 0.0)), 1)

    def build(self, point: Point, direction: int, depth: int, start: float) -> Asking:
        """A subtree of 2^depth points."""
        if depth == 0:
            return (yield from self.leaf(point, direction, start))
        first = yield from self.build(point, direction, depth - 1, start)
        if first.turning or first.diverging:
            return first
        edge = first.right if direction > 0 else first.left
        second = yield from self.build(edge, direction, depth - 1, start)
        return self.join(first, second, direction, biased=False)

    def join(self, first: Tree, second: Tree, direction: int, biased: bool) -> Tree:
        """Concatenate; the second's draw replaces the first's with its share of the weight."""
        total = float(np.logaddexp(first.log_weight, second.log_weight))
        share = second.log_weight - (first.log_weight if biased else total)
        good = not (second.turning or second.diverging)
        take = good and math.log(self.rng.random() + 1e-300) < share
        left, right = (first.left, second.right) if direction > 0 else (second.left, first.right)
        momentum = first.momentum + second.momentum
        turning = second.turning or turns(left, right, momentum) or turns_between(first, second, direction)
        return Tree(
            left, right, momentum, second.draw if take else first.draw, total, turning,
            second.diverging, first.acceptance + second.acceptance, first.leaves + second.leaves,
        )  # fmt: skip

    def transition(self) -> Asking:
        """Double the trajectory until it turns; the chain moves to a draw from it."""
        r = self.rng.standard_normal(len(self.point.q))
        here = Point(self.point.q, r, self.point.gradient, self.point.value)
        tree, start = Tree(here, here, r, here, 0.0), here.energy
        for depth in range(self.options["max_depth"]):
            direction = 1 if self.rng.random() < 0.5 else -1
            edge = tree.right if direction > 0 else tree.left
            more = yield from self.build(edge, direction, depth, start)
            tree = self.join(tree, more, direction, biased=True)
            if tree.turning or tree.diverging:
                break
        self.point = tree.draw
        return tree

    # -- learning ----------------------------------------------------------------------------------------------
    def search(self) -> Asking:
        """Halve the step until one leapfrog step is accepted about half the time."""
        self.step_size = 1.0
        for _ in range(60):
            r = self.rng.standard_normal(len(self.point.q))
            here = Point(self.point.q, r, self.point.gradient, self.point.value)
            new = yield from self.leapfrog(here, self.step_size)
            gap = here.energy - new.energy
            if math.isfinite(gap) and gap > math.log(0.5):
                break
            self.step_size /= 2.0
        self.adapt = DualAveraging(self.options["target_acceptance"], math.log(self.step_size))

    def learn(self, tree: Tree, metric_too: bool) -> Asking:
        """Step size after each transition of the warm-up; the metric at a window's end."""
        self.step_size = self.adapt.update(tree.acceptance / max(tree.leaves, 1))
        self.window.append((self.point.q, self.point.gradient))
        if metric_too:
            draws, gradients = (torch.from_numpy(np.stack(part)) for part in zip(*self.window, strict=True))
            self.use(Metric.learnt(draws, gradients))
            self.window = []
            yield from self.search()

    # -- checkpoints -------------------------------------------------------------------------------------------
    def pack(self) -> dict[str, Tensor]:
        """The state as named tensors."""
        words = np.array([self.rng.bit_generator.state["state"][key] >> shift & (2**32 - 1)
                          for key in ("state", "inc") for shift in (0, 32, 64, 96)])  # fmt: skip
        packed = {
            "q": torch.from_numpy(self.point.q.copy()), "gradient": torch.from_numpy(self.point.gradient.copy()),
            "value": torch.tensor(self.point.value, dtype=torch.float64), "factor": self.metric.factor,
            "inverse": self.metric.inverse, "adapt": self.adapt.pack(), "words": torch.from_numpy(words.astype(np.int64)),
            "step": torch.tensor(self.step_size, dtype=torch.float64),
        }  # fmt: skip
        if self.window:
            draws, gradients = (torch.from_numpy(np.stack(part)) for part in zip(*self.window, strict=True))
            packed |= {"window|draws": draws, "window|gradients": gradients}
        return packed

    def unpack(self, packed: dict[str, Tensor]) -> None:
        q, gradient = packed["q"].numpy(), packed["gradient"].numpy()
        self.point = Point(q, np.zeros_like(q), gradient, float(packed["value"]))
        self.use(Metric(packed["factor"], packed["inverse"]))
        self.adapt, self.step_size = DualAveraging.unpack(packed["adapt"]), float(packed["step"])
        words = [int(word) for word in packed["words"]]
        state, inc = (sum(word << 32 * place for place, word in enumerate(words[at : at + 4])) for at in (0, 4))
        full = self.rng.bit_generator.state
        self.rng.bit_generator.state = {**full, "state": {"state": state, "inc": inc}, "has_uint32": 0, "uinteger": 0}
        pairs = (
            (packed[f"window|{name}"].numpy() for name in ("draws", "gradients")) if "window|draws" in packed else ()
        )
        self.window = list(zip(*pairs, strict=True))


def turns(left: Point, right: Point, momentum: np.ndarray) -> bool:
    return bool(left.r @ momentum <= 0 or right.r @ momentum <= 0)


def turns_between(first: Tree, second: Tree, direction: int) -> bool:
    """The extra check across the seam of two subtrees."""
    near, far = (first, second) if direction > 0 else (second, first)
    return turns(near.left, far.left, near.momentum + far.left.r) or turns(
        near.right, far.right, far.momentum + near.right.r
    )


class NoUTurn(Method):
    """Several chains, started near the EM point where the program has one, at dispersed points that climb otherwise.

    Options:
        chains, draws, warmup: how many.
        target_acceptance: of the step size's adaptation.
        max_depth: a trajectory has at most 2^max_depth steps.
        compile: "auto", "graph", "inductor" or "eager"; see :class:`~probgen.inference.compiled.Compiled`.
        start: as for EM; "prior" starts every chain at a draw from the prior.
    """

    defaults = {
        "chains": 4, "draws": 500, "warmup": 500, "target_acceptance": 0.8, "max_depth": 10, "compile": "auto",
        "start": None,
    }  # fmt: skip
    max_steps = 10**9
    iterates = "transition"
    divides = "chains"

    def init(self) -> None:
        task, options = self.task, self.task.options
        check_counts(options, chains=1, draws=1, warmup=1, max_depth=1)
        start = begun(task, "nuts", options["chains"])
        self.potential, self.density, self.like = start.potential, start.density, start.points
        ascent = Ascent(self.density, start.points)
        if not start.near:
            ascent.run(ASCENT_STEPS, enough=1.0)
        self.moved = gathered(ascent)
        states = (part.double().cpu().numpy() for part in (ascent.points, ascent.values, ascent.gradients))
        seeds = [seed_of(task.seed, "chain", c) for c in range(options["chains"])]
        rows = list(zip(*states, seeds, strict=True))
        own = (rows[number] for number in own_chains(task))
        self.chains = [Chain(q.copy(), float(value), g.copy(), seed, options) for q, value, g, seed in own]
        if ascent.moves:
            for chain in self.chains:
                chain.use(Metric.diagonal(ascent.variance().double().cpu()))
        self.ends = set(windows(options["warmup"]))
        self.kept: list[np.ndarray] = []
        self.told: list[np.ndarray] = []
        self.count, self.leapfrogs = 0, 0
        self.seconds = {"compile": self.density.seconds, "warmup": 0.0, "sampling": 0.0}
        self.together([chain.search() for chain in self.chains])

    def together(self, asking: list[Asking]) -> list[Any]:
        """Run what every chain does; positions they ask for are evaluated in one call.

        Momenta that leave the range of numbers have an infinite energy: their trajectory diverges, which is told.
        """
        results: list[Any] = [None] * len(asking)
        with np.errstate(over="ignore", invalid="ignore"):
            wanted = [answered(one, number, None, results) for number, one in enumerate(asking)]
            places = [chain.point.q for chain in self.chains]
            while any(q is not None for q in wanted):
                places = [old if q is None else q for old, q in zip(places, wanted, strict=True)]
                found = self.density(torch.from_numpy(np.stack(places)).to(self.like))
                values, gradients = (part.double().cpu().numpy() for part in found)
                for number, q in enumerate(wanted):
                    if q is not None:
                        self.leapfrogs += 1
                        answer = (float(values[number]), gradients[number])
                        wanted[number] = answered(asking[number], number, answer, results)
        return results

    def step(self) -> Step:
        options, warm, began = self.task.options, self.count < self.task.options["warmup"], time.process_time()
        trees = self.together([chain.transition() for chain in self.chains])
        if warm:
            end = self.count + 1 in self.ends
            pairs = zip(self.chains, trees, strict=True)
            self.together([chain.learn(tree, end) for chain, tree in pairs])
            if self.count == options["warmup"] - 1:
                for chain in self.chains:
                    chain.step_size = math.exp(chain.adapt.log_average)
        else:
            self.kept.append(np.stack([chain.point.q for chain in self.chains]))
            self.told.append(np.array([told(c, t) for c, t in zip(self.chains, trees, strict=True)]))
        self.count += 1
        self.seconds["warmup" if warm else "sampling"] += time.process_time() - began
        each = [[chain.point.value, float(tree.leaves)] for chain, tree in zip(self.chains, trees, strict=True)]
        mean, leaves = self.task.chains.mean(torch.tensor(each).double().mean(0), weight=len(each)).tolist()
        done = self.count == options["warmup"] + options["draws"]
        return Step({"objective": mean / len(self.task.batches), "leapfrogs": leaves}, done, done)

    # -- what is left ------------------------------------------------------------------------------------------
    def result(self) -> Posterior:
        gathered = self.task.chains.concatenate
        draws = gathered(torch.from_numpy(np.stack(self.kept, 1)))
        statistics = gathered(torch.from_numpy(np.stack(self.told, 1)))  # (C, S, statistics)
        self.draws, self.leapfrogs = draws.numpy(), self.task.chains.all_reduce(self.leapfrogs)
        self.statistics = dict(zip(STATISTICS, statistics.unbind(-1), strict=True))
        return self.potential.posterior(draws.to(self.like), self.statistics)

    def diagnostics(self) -> dict[str, Any]:
        return {
            "divergences": int(self.statistics["diverging"].sum()),
            "rhat": float(np.max(split_rhat(self.draws))),
            "ess": float(np.min(effective_sample_size(self.draws))),
            "acceptance": float(self.statistics["acceptance_rate"].mean()),
            "step_size": self.statistics["step_size"][:, -1].tolist(),
            "leapfrogs": self.leapfrogs,
            "moved_chains": self.moved,
            "compiled": self.density.mode,
            "seconds": dict(self.seconds),
        }

    def pack(self) -> dict[str, Tensor]:
        packed = {f"chain|{c}|{k}": v for c, chain in enumerate(self.chains) for k, v in chain.pack().items()}
        if self.kept:
            packed |= {"kept": torch.from_numpy(np.stack(self.kept)), "told": torch.from_numpy(np.stack(self.told))}
        seconds = torch.tensor(list(self.seconds.values()), dtype=torch.float64)
        return packed | {"count": torch.tensor([self.count, self.leapfrogs]), "seconds": seconds}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.count, self.leapfrogs = (int(v) for v in tensors["count"])
        self.seconds = dict(zip(self.seconds, tensors["seconds"].tolist(), strict=True))
        for c, chain in enumerate(self.chains):
            start = f"chain|{c}|"
            chain.unpack({k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)})
        self.kept = list(tensors["kept"].numpy()) if "kept" in tensors else []
        self.told = list(tensors["told"].numpy()) if "told" in tensors else []


def answered(one: Asking, number: int, answer: Any, results: list[Any]) -> np.ndarray | None:
    """Send an answer; the next position asked for, or None where the chain is done and has left its result."""
    try:
        return next(one) if answer is None else one.send(answer)
    except StopIteration as stop:
        results[number] = stop.value
        return None


def told(chain: Chain, tree: Tree) -> list[float]:
    """What the sampler knows of a transition, in the order of STATISTICS."""
    rate = tree.acceptance / max(tree.leaves, 1)
    return [chain.point.value, rate, tree.draw.energy, float(tree.diverging), float(tree.leaves), chain.step_size]
