r"""Continuous states whose linear motion depends on a discrete regime.

.. math::
    z_1 \sim \mathcal N(m_0, P_0), \qquad z_t \mid z_{t-1}, s_t = k \sim \mathcal N(A_k z_{t-1} + b_k, Q_k)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probgen.data.sequences import Steps
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Latent, Symbol, Table
from probgen.families.gaussian_path import GaussianPath
from probgen.families.gaussian_regression import GaussianRegression, Quadratic, Regression

__all__ = ["SwitchingPath", "SwitchingPathFactor"]


@dataclass(frozen=True)
class SwitchingPathFactor(Factor):
    """The log density of a path of continuous states given a path of regimes, along the sequences of ``steps``.

    Attributes:
        latent: the site of the states.
        initial: the first state.
        transitions: every other state given the one before it, one a regime.
        initial_terms, transition_terms: log densities as coefficients, those of transitions ``(K, ...)``.
        steps: the sequences.
        rotated: a linear map of the states changes nothing.
    """

    latent: Latent
    initial: Regression
    transitions: tuple[Regression, ...]
    initial_terms: Quadratic
    transition_terms: Quadratic
    steps: Steps
    rotated: bool

    @property
    def regime(self) -> Symbol:
        """The site that chooses the transition into each row."""
        return self.symbols[0]

    @property
    def states(self) -> int:
        """L."""
        return len(self.initial.offset)


class SwitchingPath(GaussianPath):
    """States ``(N, L)`` of all rows of some sequences, given the regimes of the rows.

    Args:
        initial: the family of the first state, drawn; it has no inputs.
        transition: the family of a state given the one before it, drawn, with one row a regime.
        steps: the sequences.
        regimes: a summed-out site, or codes ``(N,)``; the regime of a row is that of the step into it.
    """

    def __init__(self, initial: Table, transition: Table, steps: Steps, regimes: Symbol | Tensor) -> None:
        super().__init__(initial, transition, steps)
        family = self.family
        assert isinstance(family, GaussianRegression)
        self.regimes = regimes
        self.moves = tuple(family.regression(transition.natural, k) for k in range(family.table))

    def factor(self, value: Any) -> Factor:
        if not isinstance(value, Latent) or not isinstance(self.regimes, Symbol):
            raise CapabilityError("States that switch are integrated out together with their regimes.")
        first, then = self.tables
        assert isinstance(first.family, GaussianRegression)
        assert isinstance(then.family, GaussianRegression)
        rows = [then.family.quadratic(then.natural, k) for k in range(then.family.table)]
        terms = Quadratic(*(torch.stack(parts) for parts in zip(*(row.parts() for row in rows), strict=True)))
        zero = self.initial.offset.new_zeros(len(rows), 1)
        return SwitchingPathFactor(
            (self.regimes,), zero, value, self.initial, self.moves, first.family.quadratic(first.natural), terms,
            self.steps, then.family.rotated,
        )  # fmt: skip

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        steps, start, regimes = self.steps, self.initial, self.regimes
        assert isinstance(regimes, Tensor)
        A, b, G = (
            torch.stack(parts) for parts in zip(*((m.matrix, m.offset, m.root) for m in self.moves), strict=True)
        )
        path = start.offset.new_empty(steps.rows, len(start.offset))
        now = start.offset + torch.randn(len(steps), start.root.shape[1]).to(path) @ start.root.mT
        alive = torch.arange(len(steps), device=path.device)
        for t in range(steps.longest):
            path[steps.starts[alive] + t] = now
            keep = steps.lengths[alive] > t + 1
            alive, now = alive[keep], now[keep]
            k = regimes[steps.starts[alive] + t + 1].long()
            noise = (G[k] @ torch.randn(len(alive), G.shape[2], 1).to(path))[..., 0]
            now = (A[k] @ now[..., None])[..., 0] + b[k] + noise
        return path
