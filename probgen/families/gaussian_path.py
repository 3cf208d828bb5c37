r"""Continuous states that follow each other linearly, with Gaussian noise.

.. math::
    z_1 \sim \mathcal N(m_0, P_0), \qquad z_t \mid z_{t-1} \sim \mathcal N(A z_{t-1} + b, Q)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probgen.data.sequences import Steps
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Latent, Observable, Table
from probgen.families.gaussian_regression import GaussianRegression, Quadratic, Regression

__all__ = ["GaussianPath", "PathFactor"]


@dataclass(frozen=True)
class PathFactor(Factor):
    """The log density of a whole path of a latent's values, one a row, along the sequences of ``steps``.

    Attributes:
        latent: the site.
        initial, transition: the first state, and every other one given the one before it.
        initial_terms, transition_terms: their log densities as coefficients, which gradients are taken of.
        steps: the sequences.
        counted: ``(N,)`` mask of the rows whose density counts, the others being conditioned on; None for all.
        rotated: a linear map of the states changes nothing: nobody has fixed what they mean.
    """

    latent: Latent
    initial: Regression
    transition: Regression
    initial_terms: Quadratic
    transition_terms: Quadratic
    steps: Steps
    counted: Tensor | None
    rotated: bool

    @property
    def states(self) -> int:
        """L."""
        return len(self.initial.offset)


class GaussianPath(Observable):
    """States ``(N, L)`` of all rows of some sequences.

    Args:
        initial: the family of the first state, drawn; it has no inputs.
        transition: the family of a state given the one before it, drawn.
        steps: the sequences.
        counted: rows whose density counts (see :class:`PathFactor`).
    """

    def __init__(self, initial: Table, transition: Table, steps: Steps, counted: Tensor | None = None) -> None:
        assert isinstance(initial.family, GaussianRegression)
        assert isinstance(transition.family, GaussianRegression)
        self.family, self.steps, self.counted = transition.family, steps, counted
        self.tables = initial, transition
        self.initial = initial.family.regression(initial.natural)
        self.transition = transition.family.regression(transition.natural)
        super().__init__(torch.Size(), torch.Size([len(self.initial.offset)]), validate_args=False)

    def factor(self, value: Any) -> Factor:
        if not isinstance(value, Latent):
            return Factor((), self.log_prob(value))
        first, then = self.tables
        zero = self.initial.offset.new_zeros(())
        return PathFactor(
            (), zero, value, self.initial, self.transition, first.family.quadratic(first.natural),  # type: ignore[operator]
            then.family.quadratic(then.natural), self.steps, self.counted, self.family.rotated,  # type: ignore[operator]
        )  # fmt: skip

    def log_prob(self, value: Tensor) -> Tensor:
        """``(S,)``: log density of known states."""
        first = torch.zeros(len(value), dtype=torch.bool, device=value.device)
        first[self.steps.starts] = True
        before = value.roll(1, 0) @ self.transition.matrix.mT + self.transition.offset
        start, step = value - self.initial.offset, value - before
        rows = torch.where(first, log_normal(start, self.initial.root), log_normal(step, self.transition.root))
        return self.steps.total(rows)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        steps, start, move = self.steps, self.initial, self.transition
        path = start.offset.new_empty(steps.rows, len(start.offset))
        now = start.offset + torch.randn(len(steps), start.root.shape[1]).to(path) @ start.root.mT
        alive = torch.arange(len(steps), device=path.device)
        for t in range(steps.longest):
            path[steps.starts[alive] + t] = now
            keep = steps.lengths[alive] > t + 1
            alive, now = alive[keep], now[keep]
            noise = torch.randn(len(alive), move.root.shape[1]).to(path) @ move.root.mT
            now = now @ move.matrix.mT + move.offset + noise
        return path


def log_normal(gap: Tensor, root: Tensor) -> Tensor:
    """``(N,)``: log density of gaps under a centred Gaussian with a square root of its covariance."""
    if root.shape[0] > root.shape[1]:
        raise CapabilityError("Known states that are partly deterministic have no density; integrate them out.")
    triangle = torch.linalg.cholesky(root @ root.mT)
    white = torch.linalg.solve_triangular(triangle, gap.mT, upper=False)
    log_det = triangle.diagonal().log().sum()
    return -0.5 * white.square().sum(0) - log_det - 0.5 * math.log(2 * math.pi) * len(root)
