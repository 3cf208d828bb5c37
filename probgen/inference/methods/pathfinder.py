r"""Pathfinder: normals along climbs of a quasi-Newton optimiser (Zhang, Carpenter, Gelman and Vehtari, 2022).

Every path climbs the log posterior; at each of its points the optimiser's memory gives a normal with the covariance

.. math:: \Sigma = \operatorname{diag}(\alpha) + \beta \gamma \beta^\top

and the path keeps the one with the largest evidence lower bound. Draws of all paths are then drawn again by their
Pareto-smoothed weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probgen.errors import FitError
from probgen.inference.approximation import Approximation, resampled, told_of
from probgen.inference.ascent import Ascent
from probgen.inference.chain_starts import begun
from probgen.inference.methods.base import Method, Step
from probgen.inference.methods.chees import check_counts
from probgen.inference.posterior import Posterior
from probgen.inference.runtime import seed_of

__all__ = ["Pathfinder"]

LOOKS = 8  # draws for an estimate of the bound
ENOUGH = 1e-4  # nats in five steps, where a climb ends


@dataclass
class Normals:
    """One normal a path: centre ``(C, P)`` and a covariance of low rank plus a diagonal."""

    center: Tensor
    alpha: Tensor  # (C, P)
    basis: Tensor  # (C, P, R), orthonormal
    lower: Tensor  # (C, R, R)
    log_determinant: Tensor  # (C,)

    @classmethod
    def along(cls, ascent: Ascent, alpha: Tensor) -> Normals:
        """At the paths' points, from their memory; the inverse Hessian in Byrd, Nocedal and Schnabel's form (1994)."""
        s, y = torch.stack(ascent.moves, -1), torch.stack(ascent.turns, -1)  # (C, P, J)
        curve = (s * y).sum(1)
        keep = (curve > 1e-12)[:, None]
        s, y = torch.where(keep, s, 0.0), torch.where(keep, y, 0.0)
        product = s.mT @ y
        eye = torch.eye(product.shape[-1]).to(product)
        upper = torch.triu(product) + torch.diag_embed((~keep[:, 0]).to(product))
        inverse = torch.linalg.solve_triangular(upper, eye.expand_as(upper), upper=True)
        scaled = alpha[..., None] * y
        corner = inverse.mT @ (torch.diag_embed(upper.diagonal(0, 1, 2)) + y.mT @ scaled) @ inverse
        beta = torch.cat([scaled, s], -1)  # (C, P, 2J)
        zero = torch.zeros_like(inverse)
        gamma = torch.cat([torch.cat([zero, -inverse], -1), torch.cat([-inverse.mT, corner], -1)], -2)
        basis, right = torch.linalg.qr(beta / alpha.sqrt()[..., None])
        middle = torch.eye(right.shape[-2]).to(right) + right @ gamma @ right.mT
        lower, failed = torch.linalg.cholesky_ex(0.5 * (middle + middle.mT))
        log_determinant = alpha.log().sum(1) + 2 * lower.diagonal(0, 1, 2).log().sum(1)
        log_determinant = torch.where(failed == 0, log_determinant, torch.nan)
        gradient = ascent.gradients
        inner = gamma @ (beta.mT @ gradient[..., None])
        center = ascent.points + alpha * gradient + (beta @ inner)[..., 0]
        return cls(center, alpha, basis, lower, log_determinant)

    def draw(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Points ``(C, S, P)`` and their log densities ``(C, S)``."""
        C, P = self.center.shape
        u = torch.randn(C, draws, P, generator=generator, dtype=self.center.dtype, device=self.center.device)
        along = u @ self.basis  # (C, S, R)
        bent = (along @ self.lower.mT - along) @ self.basis.mT + u
        points = self.center[:, None] + self.alpha.sqrt()[:, None] * bent
        log_q = -0.5 * (u.square().sum(2) + self.log_determinant[:, None] + P * math.log(2 * math.pi))
        return points, log_q


class Pathfinder(Method):
    """Several climbs, the best normal of each, and draws by importance.

    Options:
        paths: how many climbs.
        draws: that are kept.
        compile: see :class:`~probgen.inference.compiled.Compiled`.
        start: as for EM.
    """

    defaults = {"paths": 8, "draws": 1000, "compile": "auto", "start": None}
    max_steps = 200
    wherever = "nuts"
    approximates = True
    iterates = "step"

    def init(self) -> None:
        task, options = self.task, self.task.options
        check_counts(options, paths=1, draws=1)
        start = begun(task, "pathfinder", options["paths"])
        self.potential, self.density, points = start.potential, start.density, start.points
        self.generator = torch.Generator(points.device).manual_seed(seed_of(task.seed, "pathfinder"))
        self.ascent, self.alpha = Ascent(self.density, points), torch.ones_like(points)
        self.bound = points.new_full((len(points),), -torch.inf)
        self.points = points.new_zeros(len(points), options["draws"], points.shape[1])
        self.log_q = points.new_full((len(points), options["draws"]), -torch.inf)
        self.history: list[float] = []

    def step(self) -> Step:
        before, fresh = self.ascent.points, len(self.ascent.moves)
        self.ascent.step()
        self.update_diagonal()
        if fresh or not bool((self.ascent.points == before).all()):
            self.look()
        self.history.append(float(self.ascent.values.max()))
        risen = self.history[-1] - self.history[-6] if len(self.history) > 5 else math.inf
        done = risen < ENOUGH or not bool(self.ascent.moving.any())
        return Step({"objective": float(self.bound.max()) / len(self.task.batches)}, done, done)

    def update_diagonal(self) -> None:
        """The diagonal of the inverse Hessian after one more step."""
        s, y, a = self.ascent.moves[-1], self.ascent.turns[-1], self.alpha
        two, one, three = (y * a * y).sum(1, True), (y * s).sum(1, True), (s * s / a).sum(1, True)
        new = 1.0 / (two / (one * a) + y.square() / one - two * s.square() / (one * three * a.square()))
        good = (one > 1e-12) & (new > 0) & new.isfinite()
        self.alpha = torch.where(good.all(1, keepdim=True), new, a)

    def look(self) -> None:
        """The bound of every path's normal here; the best so far leaves its draws."""
        normals = Normals.along(self.ascent, self.alpha)
        points, log_q = normals.draw(LOOKS, self.generator)
        values = self.density(points.nan_to_num().flatten(0, 1))[0].reshape(log_q.shape)
        bound = (values - log_q).mean(1)
        better = bound.isfinite() & (bound > self.bound)
        if bool(better.any()):
            kept, density = normals.draw(self.task.options["draws"], self.generator)
            self.bound = torch.where(better, bound, self.bound)
            self.points = torch.where(better[:, None, None], kept, self.points)
            self.log_q = torch.where(better[:, None], density, self.log_q)

    def result(self) -> Posterior:
        good = self.bound.isfinite()
        if not bool(good.any()):
            raise FitError(
                f"{self.task.program.name!r}: no path met a place where a normal fits; use method='chees', or look at the"
                " priors (is the posterior bounded?)."
            )
        points, log_q = self.points[good].flatten(0, 1), self.log_q[good].flatten()
        self.found = Approximation(points, log_q, self.density(points)[0])
        draws = resampled(self.found, self.task.options["draws"], self.generator)
        return self.potential.posterior(draws[None], {"lp": self.density(draws)[0][None]})

    def diagnostics(self) -> dict[str, Any]:
        return {"bound": float(self.bound.max()), **told_of(self.found)}

    def pack(self) -> dict[str, Tensor]:
        state = {"alpha": self.alpha, "bound": self.bound, "kept": self.points, "log_q": self.log_q}
        state |= {"generator": self.generator.get_state(), "history": torch.tensor(self.history, dtype=torch.float64)}
        return state | self.ascent.pack()

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.ascent = Ascent.unpack(self.density, tensors)
        self.alpha, self.bound, self.points = tensors["alpha"], tensors["bound"], tensors["kept"]
        self.log_q, self.history = tensors["log_q"], tensors["history"].tolist()
        self.generator.set_state(tensors["generator"])
