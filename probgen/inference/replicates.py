r"""Posteriors of many data sets at once: one chain a data set, all in step, on one compiled density.

Every data set has a posterior of its own, so that each is first given coordinates in which it is round,

.. math:: u_r = c_r + F_r v_r, \qquad F_r F_r^\top = (-\nabla^2 \log p(c_r \mid y_r))^{-1},

with c the end of a climb from a draw of the prior. In the coordinates v the posteriors look alike, and the chains share
step size, metric and length of trajectories as the chains of one posterior do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from probgen.errors import FitError
from probgen.inference.ascent import Ascent
from probgen.inference.methods.base import Task
from probgen.inference.methods.chees import ChEES, Density, Move, State

__all__ = ["Replicates", "replicated_draws"]

CLIMB, ENOUGH = 60, 0.1  # steps of the climb, at most, and the rise in nats of five steps at which it ends
STEP = 0.01  # of differences of gradients, in standard deviations of the prior
WIDEST = 2.0  # standard deviations of the prior that a posterior is taken to be wide, at most
FAR = 100.0  # standard deviations of the prior away: a trajectory that diverged, whose density is not asked for
CORRELATED = 0.15  # of neighbouring draws, above which chains go on and fewer of their points are kept
MOST_THINNED = 8
LONGEST = 24  # leapfrog steps of a trajectory: posteriors that are round need no more


class Whitened:
    """A density in coordinates of each point's own: ``u = centre + factor v``, without the constant Jacobian.

    Args:
        density: of points ``(R, P)``, every one with data of its own.
        centre: ``(R, P)``.
        factor: ``(R, P, P)``.
        draws: of the prior, ``(R, P)``.
    """

    def __init__(self, density: Density, centre: Tensor, factor: Tensor, draws: Tensor) -> None:
        self.density, self.centre, self.factor = density, centre, factor
        self.middle, self.scale = draws.median(0).values, prior_scale(draws)
        self.mode, self.seconds = density.mode, density.seconds

    def back(self, v: Tensor) -> Tensor:
        """Points ``(R, P)`` in the density's own coordinates."""
        return self.centre + (self.factor @ v[..., None])[..., 0]

    def rescale(self, change: Tensor) -> Tensor:
        """Longer or shorter steps for each point, by logarithms ``(R,)``; returns the factors ``(R, 1)``."""
        scale = change.exp()[:, None]
        self.factor = self.factor * scale[..., None]
        return scale

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        there = self.back(points)
        lost = ~((there - self.middle).abs() < FAR * self.scale).all(1)
        values, gradients = self.density(torch.where(lost[:, None], self.centre, there))
        gradients = (self.factor.mT @ gradients[..., None])[..., 0]
        return torch.where(lost, -torch.inf, values), torch.where(lost[:, None], 0.0, gradients)


def whitened(density: Density, starts: Tensor) -> Whitened:
    """Each posterior in coordinates where it is round, from a climb that starts at a draw of the prior ``(R, P)``."""
    ascent = Ascent(density, starts)
    ascent.run(CLIMB, ENOUGH)
    scale = prior_scale(starts)
    curvature = -hessian(density, ascent.points, scale)
    curvature = torch.where(
        curvature.isfinite().all((1, 2))[:, None, None], curvature, torch.eye(len(scale)).to(scale)
    )
    values, vectors = torch.linalg.eigh(curvature)
    widths = values.abs().clamp_min(WIDEST**-2).rsqrt()
    return Whitened(density, ascent.points, scale[:, None] * vectors * widths[:, None, :], starts)


def prior_scale(draws: Tensor) -> Tensor:
    """``(P,)``: standard deviations over draws ``(R, P)`` from quartiles, which heavy tails do not move."""
    low, high = torch.quantile(draws, torch.tensor([0.25, 0.75]).to(draws), 0)
    return ((high - low) / 1.349).clamp_min(1e-8)


def hessian(density: Density, points: Tensor, scale: Tensor) -> Tensor:
    """``(R, P, P)`` second derivatives in units of ``scale``, by central differences of gradients."""
    columns = []
    for place, width in enumerate(scale):
        step = torch.zeros_like(points)
        step[:, place] = STEP * width
        columns.append((density(points + step)[1] - density(points - step)[1]) * scale / (2 * STEP))
    found = torch.stack(columns, 2)
    return 0.5 * (found + found.mT)


class Replicates(ChEES):
    """One chain a data set.

    Args:
        density: of points ``(R, P)``, every one with data of its own.
        starts: ``(R, P)``, drawn from the prior.
        warmup: transitions in which the chains learn.
        seed: of all draws.
    """

    def __init__(self, density: Density, starts: Tensor, warmup: int, seed: int) -> None:
        options = {**ChEES.defaults, "chains": len(starts), "warmup": warmup, "draws": 10**9, "max_leapfrogs": LONGEST}
        nothing: Any = [None]
        super().__init__(Task(None, nothing, None, seed, 10**9, 0.0, options))  # type: ignore[arg-type]
        self.raw, self.starts = density, starts
        self.init()

    def target(self) -> tuple[Tensor, bool]:
        """Chains begin at draws from a normal in the rounded coordinates, nearer to the mode where the density is zero."""
        self.density = self.round = whitened(self.raw, self.starts)
        points = torch.randn_like(self.starts)
        for _ in range(30):
            lost = ~self.density(points)[0].isfinite()
            if not bool(lost.any()):
                return points, True
            points[lost] = 0.5 * points[lost]
        raise FitError(
            f"The log density of {int(lost.sum())} of {len(points)} simulated data sets is infinite or not a number near"
            " its mode. Look at the priors: do they give data that the program itself finds impossible?"
        )

    def gathered(self, ascent: Ascent) -> int:
        """None: each has a posterior of its own, so that its density says nothing of another's."""
        return 0

    def criterion(self, move: Move, start: Tensor, acceptance: Tensor) -> tuple[float, float, float]:
        """Nothing to learn: in rounded coordinates a length of one, on average, suits all data sets."""
        return math.nan, math.nan, float(acceptance.mean())

    def learn(self, move: Move, before: State, acceptance: Tensor, size: float, travelled: float) -> None:
        """As all chains do; and coordinates of their own for data sets that accept more or less than the others."""
        super().learn(move, before, acceptance, size, travelled)
        change = (acceptance - acceptance.mean()) / math.sqrt(10.0 + self.count)
        scale = self.round.rescale(change)
        self.state = State(self.state.points / scale, self.state.values, self.state.gradients * scale)

    def run(self, transitions: int) -> None:
        """So many transitions more."""
        for _ in range(transitions):
            self.step()

    def drawn(self, thin: int) -> tuple[Tensor, Tensor]:
        """Every so many-th point ``(R, S, P)`` in the density's coordinates, and log densities ``(R, S)``."""
        kept = slice(thin - 1, None, thin)
        points = torch.stack([self.round.back(v) for v in self.kept[kept]], 1)
        return points, torch.stack([told[0] for told in self.told[kept]], 1)


def replicated_draws(
    density: Density, starts: Tensor, draws: int, warmup: int, seed: int, read: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Draws of every posterior that are nearly independent.

    Chains go on, twice as far each time, until neighbours among the kept points are hardly correlated in what is read of
    them: ``(R, S, P)`` to ``(R, S, Q)``.

    Returns:
        Points ``(R, S, P)``, log densities ``(R, S)``, and what there is to know: ``thin``, ``autocorrelation`` ``(Q,)``,
        ``acceptance`` ``(R,)``, ``divergences``.
    """
    chains, thin = Replicates(density, starts, warmup, seed), 1
    chains.run(warmup + draws)
    points, values = chains.drawn(thin)
    while thin < MOST_THINNED and bool((autocorrelation(read(points)) > CORRELATED).any()):
        chains.run(draws * thin)
        thin *= 2
        points, values = chains.drawn(thin)
    told = torch.stack(chains.told, 2)  # (statistics, R, transitions)
    return points, values, {
        "thin": thin, "autocorrelation": autocorrelation(read(points)), "acceptance": told[1].mean(1),
        "divergences": int(told[3].sum()),
    }  # fmt: skip


def autocorrelation(draws: Tensor) -> Tensor:
    """``(P,)``: of neighbours in ``(R, S, P)``, over all data sets, each on its own scale; 1 where a chain stands still."""
    centred = draws - draws.mean(1, keepdim=True)
    square = centred.square().mean(1)
    product = (centred[:, 1:] * centred[:, :-1]).mean(1)
    return torch.where(square > 0, product / square.clamp_min(1e-300), 1.0).mean(0) + 1.0 / draws.shape[1]
