"""No-U-turn sampler (Hoffman and Gelman, 2014) with multinomial trajectories (Betancourt, 2017).

Walks over the unconstrained potential of any program: diagonal metric and step size are learnt during warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.inference.diagnostics import effective_sample_size, split_rhat
from probgen.inference.methods.base import Method, Step
from probgen.inference.methods.svi import stack_draws
from probgen.inference.posterior import Posterior
from probgen.inference.potential import Potential
from probgen.inference.runtime import seed_of, seeded

__all__ = ["NoUTurn"]

MOST_ENERGY = 1000.0  # an error of the energy beyond which a trajectory has diverged
Gradient = Callable[[np.ndarray], tuple[np.ndarray, float]]


@dataclass
class Point:
    """Position, momentum, gradient and log density along a trajectory."""

    q: np.ndarray
    p: np.ndarray
    gradient: np.ndarray
    log_density: float


@dataclass
class Tree:
    """A trajectory's ends, its sum of momenta, one draw from it, and its log weight."""

    left: Point
    right: Point
    momentum: np.ndarray
    draw: Point
    log_weight: float
    turning: bool
    diverging: bool
    acceptance: float
    leaves: int


class Trajectory:
    """One transition of the sampler for one chain."""

    def __init__(self, gradient: Gradient, rng: np.random.Generator, max_depth: int) -> None:
        self.gradient, self.rng, self.max_depth = gradient, rng, max_depth
        self.step_size, self.metric = 0.1, np.ones(1)

    def energy(self, point: Point) -> float:
        return 0.5 * float(point.p @ (self.metric * point.p)) - point.log_density

    def leapfrog(self, point: Point, direction: int) -> Point:
        e = direction * self.step_size
        p = point.p + 0.5 * e * point.gradient
        q = point.q + e * self.metric * p
        gradient, log_density = self.gradient(q)
        return Point(q, p + 0.5 * e * gradient, gradient, log_density)

    def leaf(self, point: Point, direction: int, start: float) -> Tree:
        new = self.leapfrog(point, direction)
        gap = start - self.energy(new)
        gap = gap if math.isfinite(gap) else -math.inf
        accept = min(1.0, math.exp(min(gap, 0.0))) if gap > -math.inf else 0.0
        return Tree(new, new, new.p, new, gap, False, gap < -MOST_ENERGY, accept, 1)

    def build(self, point: Point, direction: int, depth: int, start: float) -> Tree:
        if depth == 0:
            return self.leaf(point, direction, start)
        first = self.build(point, direction, depth - 1, start)
        if first.turning or first.diverging:
            return first
        edge = first.right if direction > 0 else first.left
        second = self.build(edge, direction, depth - 1, start)
        return self.join(first, second, direction, biased=False)

    def join(self, first: Tree, second: Tree, direction: int, biased: bool) -> Tree:
        """Concatenate; the second's draw replaces the first's with its share of the weight."""
        total = np.logaddexp(first.log_weight, second.log_weight)
        share = second.log_weight - (first.log_weight if biased else total)
        good = not (second.turning or second.diverging)
        take = good and math.log(self.rng.random() + 1e-300) < share
        left, right = (first.left, second.right) if direction > 0 else (second.left, first.right)
        momentum = first.momentum + second.momentum
        turning = second.turning or self.turns(left, right, momentum) or self.turns_between(first, second, direction)
        return Tree(
            left, right, momentum, second.draw if take else first.draw, float(total), turning,
            second.diverging, first.acceptance + second.acceptance, first.leaves + second.leaves,
        )  # fmt: skip

    def turns(self, left: Point, right: Point, momentum: np.ndarray) -> bool:
        sharp = self.metric * momentum
        return bool(left.p @ sharp <= 0 or right.p @ sharp <= 0)

    def turns_between(self, first: Tree, second: Tree, direction: int) -> bool:
        """The extra check across the seam of two subtrees."""
        near, far = (first, second) if direction > 0 else (second, first)
        return self.turns(near.left, far.left, near.momentum + far.left.p) or self.turns(
            near.right, far.right, far.momentum + near.right.p
        )

    def __call__(self, point: Point) -> Tree:
        p = self.rng.standard_normal(len(point.q)) / np.sqrt(self.metric)
        here = Point(point.q, p, point.gradient, point.log_density)
        start = self.energy(here)
        tree = Tree(here, here, p, here, 0.0, False, False, 0.0, 0)
        for depth in range(self.max_depth):
            direction = 1 if self.rng.random() < 0.5 else -1
            edge = tree.right if direction > 0 else tree.left
            more = self.build(edge, direction, depth, start)
            tree = self.join(tree, more, direction, biased=True)
            if tree.turning or tree.diverging:
                break
        return tree


@dataclass
class DualAveraging:
    """Step size by Nesterov's dual averaging (Hoffman and Gelman, 2014, section 3.2)."""

    target: float
    log_step: float
    mean: float = field(init=False)
    log_average: float = 0.0
    statistic: float = 0.0
    count: int = 0

    def __post_init__(self) -> None:
        self.mean = self.log_step + math.log(10.0)

    def update(self, acceptance: float) -> float:
        self.count += 1
        rate = 1.0 / (self.count + 10)
        self.statistic = (1 - rate) * self.statistic + rate * (self.target - acceptance)
        self.log_step = self.mean - math.sqrt(self.count) / 0.05 * self.statistic
        weight = self.count**-0.75
        self.log_average = weight * self.log_step + (1 - weight) * self.log_average
        return math.exp(self.log_step)


class Chain:
    """State of one chain: position, metric, step size and its own random numbers."""

    def __init__(self, gradient: Gradient, start: np.ndarray, seed: int, options: dict[str, Any]) -> None:
        self.move = Trajectory(gradient, np.random.default_rng(seed), options["max_depth"])
        self.move.metric = np.ones(len(start))
        density = gradient(start)
        self.point = Point(start, np.zeros_like(start), *density)
        self.options, self.window = options, [start]
        self.move.step_size = self.first_step_size()
        self.adapt = DualAveraging(options["target_acceptance"], math.log(self.move.step_size))

    def first_step_size(self) -> float:
        """Double or halve until one leapfrog step is accepted about half the time."""
        self.move.step_size, direction = 0.1, 0
        for _ in range(50):
            p = self.move.rng.standard_normal(len(self.point.q)) / np.sqrt(self.move.metric)
            here = Point(self.point.q, p, self.point.gradient, self.point.log_density)
            gap = self.move.energy(here) - self.move.energy(self.move.leapfrog(here, 1))
            now = 1 if math.isfinite(gap) and gap > math.log(0.8) else -1
            if direction and now != direction:
                break
            direction = now
            self.move.step_size *= 2.0**direction
        return self.move.step_size

    def warm(self, number: int, total: int) -> Tree:
        tree = self.advance()
        self.move.step_size = self.adapt.update(tree.acceptance / max(tree.leaves, 1))
        self.window.append(self.point.q)
        if number in window_ends(total):
            self.learn_metric()
        if number == total - 1:
            self.move.step_size = math.exp(self.adapt.log_average)
        return tree

    def advance(self) -> Tree:
        tree = self.move(self.point)
        self.point = tree.draw
        return tree

    def learn_metric(self) -> None:
        """Variances of the window, shrunk as Stan does; then a fresh search for the step size."""
        seen = np.stack(self.window)
        n = len(seen)
        self.move.metric = (n * seen.var(0) + 5 * 1e-3) / (n + 5)
        self.window = []
        self.adapt = DualAveraging(self.options["target_acceptance"], math.log(self.first_step_size()))


def window_ends(total: int) -> set[int]:
    """Ends of the doubling windows in which the metric is learnt."""
    ends, at, width = set(), max(10, total * 75 // 1000), 25
    while at + width < total * 95 // 100:
        at = at + width if at + 3 * width < total * 95 // 100 else total * 95 // 100
        ends.add(at)
        width *= 2
    return ends


class NoUTurn(Method):
    """Several chains in turn, started near the EM point where the program has one.

    Options:
        chains, draws, warmup: how many.
        target_acceptance: of the step size's adaptation.
        max_depth: a trajectory has at most 2^max_depth steps.
        start: as for EM; "prior" starts every chain at a draw from the prior.
    """

    defaults = {"chains": 4, "draws": 500, "warmup": 500, "target_acceptance": 0.8, "max_depth": 10, "start": None}
    max_steps = 10**9
    iterates = "transition"

    def init(self) -> None:
        task, options = self.task, self.task.options
        self.batch = next(iter(task.batches.pieces()))
        with seeded(task.seed, "nuts start"):
            starts = self.starts(task)
        self.gradient = self.numpy_gradient(starts[0])
        seeds = [seed_of(task.seed, "chain", c) for c in range(options["chains"])]
        self.chains = [Chain(self.gradient, s.numpy(), seed, options) for s, seed in zip(starts, seeds, strict=True)]
        self.kept: list[list[np.ndarray]] = [[] for _ in self.chains]
        self.divergences, self.count = 0, 0

    def starts(self, task: Any) -> list[Tensor]:
        from probgen.inference.methods.em import ExpectationMaximisation

        options = task.options
        self.potential = Potential(task.program, self.batch)
        if not self.potential.made_of_families or options["start"] == "prior":
            return [self.potential.prior_draw().detach() for _ in range(options["chains"])]
        em = ExpectationMaximisation(task)
        em.init()
        for _ in range(100):
            if em.step().done:
                break
        self.potential = Potential(task.program, self.batch)  # with the calibrated priors
        centre = self.potential.at(em.theta).detach()
        return [centre + 0.05 * torch.randn_like(centre) for _ in range(options["chains"])]

    def numpy_gradient(self, example: Tensor) -> Gradient:
        graph = self.potential.compiled(self.potential.log_posterior, example)

        def gradient(q: np.ndarray) -> tuple[np.ndarray, float]:
            try:
                slope, value = graph(torch.from_numpy(q).to(example))
            except torch.linalg.LinAlgError:
                return np.zeros_like(q), -math.inf
            return slope.detach().double().numpy(), float(value)

        return gradient

    def step(self) -> Step:
        options = self.task.options
        chain, number = divmod(self.count, options["warmup"] + options["draws"])
        state = self.chains[chain]
        if number < options["warmup"]:
            tree = state.warm(number, options["warmup"])
        else:
            tree = state.advance()
            self.kept[chain].append(state.point.q)
            self.divergences += tree.diverging
        self.count += 1
        done = self.count == len(self.chains) * (options["warmup"] + options["draws"])
        values = {"objective": state.point.log_density / len(self.task.batches), "leapfrogs": float(tree.leaves)}
        return Step(values, done, done)

    def result(self) -> Posterior:
        shortest = min(len(chain) for chain in self.kept if chain)
        kept = [chain[:shortest] for chain in self.kept if chain]
        self.draws = np.stack([np.stack(chain) for chain in kept])
        with torch.no_grad():
            found = [[self.potential.theta(torch.from_numpy(u)) for u in chain] for chain in kept]
        return stack_draws(found)

    def diagnostics(self) -> dict[str, Any]:
        return {
            "divergences": int(self.divergences),
            "rhat": float(np.max(split_rhat(self.draws))),
            "ess": float(np.min(effective_sample_size(self.draws))),
            "step_size": [chain.move.step_size for chain in self.chains],
        }

    def pack(self) -> dict[str, Tensor]:
        packed = {f"kept|{c}": torch.from_numpy(np.stack(k)) for c, k in enumerate(self.kept) if k}
        for c, chain in enumerate(self.chains):
            packed[f"chain|{c}|q"] = torch.from_numpy(chain.point.q.copy())
            packed[f"chain|{c}|metric"] = torch.from_numpy(chain.move.metric.copy())
            packed[f"chain|{c}|step"] = torch.tensor(chain.move.step_size)
        return packed | {"count": torch.tensor([self.count, self.divergences])}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.count, self.divergences = (int(v) for v in tensors["count"])
        for c, chain in enumerate(self.chains):
            q = tensors[f"chain|{c}|q"].numpy()
            chain.point = Point(q, np.zeros_like(q), *self.gradient(q))
            chain.move.metric = tensors[f"chain|{c}|metric"].numpy()
            chain.move.step_size = float(tensors[f"chain|{c}|step"])
            self.kept[c] = list(tensors[f"kept|{c}"].numpy()) if f"kept|{c}" in tensors else []
