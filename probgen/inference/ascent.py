"""Many points up a density at once: L-BFGS with backtracking, every point on its own path (Nocedal, 1980)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Ascent"]

Density = Callable[[Tensor], tuple[Tensor, Tensor]]
MEMORY = 8
ARMIJO = 1e-4
LONGEST = 12  # halvings of a step


@dataclass
class Ascent:
    """Paths of C points ``(C, P)``.

    Attributes:
        density: values and gradients of all points.
        points, values, gradients: where the paths are.
        moves, turns: of the last steps, newest last: how far each point went, and how much its gradient fell.
        moving: mask of the paths that still rise.
    """

    density: Density
    points: Tensor
    values: Tensor = field(init=False)
    gradients: Tensor = field(init=False)
    moves: list[Tensor] = field(default_factory=list)
    turns: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values, self.gradients = self.density(self.points)
        self.moving = self.values.isfinite()

    def pack(self) -> dict[str, Tensor]:
        """Where the paths are and what they remember, for a checkpoint."""
        memory = {"moves": self.moves, "turns": self.turns}
        packed = {key: torch.stack(kept) if kept else self.points[:0] for key, kept in memory.items()}
        return packed | {"points": self.points, "moving": self.moving}

    @classmethod
    def unpack(cls, density: Density, tensors: dict[str, Tensor]) -> Ascent:
        """The paths of a checkpoint."""
        made = cls(density, tensors["points"], list(tensors["moves"]), list(tensors["turns"]))
        made.moving = tensors["moving"]
        return made

    def run(self, steps: int, enough: float) -> int:
        """Climb until every path has risen by less than ``enough`` nats in its last five steps; returns steps made."""
        before = [self.values]
        for count in range(steps):
            self.step()
            before.append(self.values)
            if len(before) > 5:
                self.moving = self.moving & (self.values - before[-6] > enough)
            if not bool(self.moving.any()):
                return count + 1
        return steps

    def step(self) -> None:
        """One step of every path that moves: the quasi-Newton direction, halved until the density rises."""
        direction = self.direction()
        slope = (direction * self.gradients).sum(1)
        upward = slope > 0
        direction = torch.where(upward[:, None], direction, self.gradients)
        slope = torch.where(upward, slope, self.gradients.square().sum(1))
        size = torch.ones_like(slope)
        if not self.moves:
            size = 1.0 / self.gradients.norm(dim=1).clamp_min(1.0)
        waiting, points, values, gradients = self.moving.clone(), self.points, self.values, self.gradients
        for _ in range(LONGEST):
            tried = self.points + size[:, None] * direction
            new_values, new_gradients = self.density(torch.where(waiting[:, None], tried, points))
            good = waiting & (new_values >= self.values + ARMIJO * size * slope)
            points = torch.where(good[:, None], tried, points)
            values = torch.where(good, new_values, values)
            gradients = torch.where(good[:, None], new_gradients, gradients)
            waiting = waiting & ~good
            if not bool(waiting.any()):
                break
            size = torch.where(waiting, 0.3 * size, size)
        self.moving = self.moving & ~waiting
        self.moves = [*self.moves, points - self.points][-MEMORY:]
        self.turns = [*self.turns, self.gradients - gradients][-MEMORY:]
        self.points, self.values, self.gradients = points, values, gradients

    def direction(self) -> Tensor:
        """The inverse Hessian of the last steps times the gradient, by the two loops."""
        left, shares = self.gradients.clone(), []
        pairs = [(s, y, (s * y).sum(1)) for s, y in zip(self.moves, self.turns, strict=True)]
        for s, y, curve in reversed(pairs):
            share = torch.where(curve > 1e-10, (s * left).sum(1) / curve.clamp_min(1e-300), 0.0)
            left = left - share[:, None] * y
            shares.append(share)
        left = left * self.scale()
        for (s, y, curve), share in zip(pairs, reversed(shares), strict=True):
            back = torch.where(curve > 1e-10, (y * left).sum(1) / curve.clamp_min(1e-300), 0.0)
            left = left + (share - back)[:, None] * s
        return left

    def scale(self) -> Tensor:
        """``(C, 1)``: the last step's curvature."""
        if not self.moves:
            return torch.ones_like(self.values)[:, None]
        s, y = self.moves[-1], self.turns[-1]
        curve = (s * y).sum(1)
        return torch.where(curve > 1e-10, curve / y.square().sum(1).clamp_min(1e-300), 1.0)[:, None]

    def variance(self) -> Tensor:
        """``(P,)``: how wide the density is along each coordinate, from the steps of all paths."""
        s = torch.stack(self.moves).square().sum((0, 1))
        y = torch.stack(self.turns).square().sum((0, 1))
        return torch.where((s > 0) & (y > 0), (s / y.clamp_min(1e-300)).sqrt(), 1.0)
