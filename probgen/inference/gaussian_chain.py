r"""Gaussians along sequences from any coefficients of neighbours, normalised or not.

.. math::
    \log f(z_{1:T}) = \sum_t \Big(c_t + \eta_t^\top z_t - \tfrac12 z_t^\top \Lambda_t z_t\Big)
    + \sum_{t>1} z_t^\top F_t z_{t-1}

The precision matrix is block tridiagonal, and its Cholesky factor gives the log integral, all moments and draws. Unlike
the filter of :mod:`probgen.inference.kalman` it takes expected coefficients, which belong to no regression.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from probgen.data.sequences import Steps
from probgen.inference.chain import planned

__all__ = ["GaussianChain"]

LOG_TWO_PI = math.log(2 * math.pi)


class GaussianChain:
    """The Gaussian over the states of all rows.

    Args:
        constant: ``(N,)``.
        linear: ``(N, L)``.
        square: ``(N, L, L)``.
        cross: ``(N, L, L)``, not looked at in first rows.
        steps: the sequences.
    """

    def __init__(self, constant: Tensor, linear: Tensor, square: Tensor, cross: Tensor, steps: Steps) -> None:
        self.steps, self.plan = steps, planned(steps, steps.longest)
        order = self.plan.order
        self.cross, self.states = cross[order], linear.shape[1]
        self.eliminate(linear[order], square[order])
        log_det = self.root.diagonal(0, -2, -1).log().sum(-1)
        rows = 0.5 * self.white.square().sum(-1) - log_det + 0.5 * self.states * LOG_TWO_PI
        self.value = steps.total(constant + self.in_order(rows))  # (S,): log integral of each sequence

    def eliminate(self, linear: Tensor, square: Tensor) -> None:
        """Cholesky factors C of the rows given the rows after them, C^-1 of what is linear, and C^-1 F' of the next."""
        roots, whites, bends = [], [], [torch.zeros_like(self.cross[: self.plan.blocks])]
        root, white = square, linear[..., None]
        for step, (low, high) in enumerate(self.plan.steps()):
            D, g = square[low:high], linear[low:high, :, None]
            if step:
                n = high - low
                bend = torch.linalg.solve_triangular(root[:n], self.cross[low:high].mT, upper=False)
                D, g = D - bend.mT @ bend, g + bend.mT @ white[:n]
                bends.append(bend)
            root = torch.linalg.cholesky(D)
            white = torch.linalg.solve_triangular(root, g, upper=False)
            roots.append(root)
            whites.append(white)
        self.root, self.white, self.bend = torch.cat(roots), torch.cat(whites)[..., 0], torch.cat(bends)

    def in_order(self, rows: Tensor) -> Tensor:
        """From the plan's order to the table's."""
        return torch.empty_like(rows).index_copy_(0, self.plan.order, rows)

    @cached_property
    def inverse(self) -> Tensor:
        """``(N, L, L)``: C^-1."""
        eye = torch.eye(self.states, dtype=self.root.dtype, device=self.root.device)
        return torch.linalg.solve_triangular(self.root, eye.expand_as(self.root), upper=False)

    @cached_property
    def gain(self) -> Tensor:
        """``(N, L, L)``: E[z_t | z_{t+1}] = constant + gain z_{t+1}; zero at last rows."""
        after, before = self.plan.before
        gain = torch.zeros_like(self.root)
        gain[before] = self.inverse[before].mT @ self.bend[after]
        return gain

    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """E[z_t] ``(N, L)``, Cov[z_t] and Cov[z_t, z_{t-1}] ``(N, L, L)``, the last zero at first rows."""
        mean = (self.inverse.mT @ self.white[..., None])[..., 0]
        covariance = self.inverse.mT @ self.inverse
        steps = self.plan.steps()
        for (low, _), (first, last) in zip(steps[-2::-1], steps[:0:-1], strict=True):
            here = slice(low, low + last - first)
            G = self.gain[here]
            mean[here] += (G @ mean[first:last, :, None])[..., 0]
            covariance[here] += G @ covariance[first:last] @ G.mT
        after, before = self.plan.before
        between = torch.zeros_like(covariance)
        between[after] = covariance[after] @ self.gain[before].mT
        return self.in_order(mean), self.in_order(covariance), self.in_order(between)

    def draw(self) -> Tensor:
        """``(N, L)``: one draw of all states, backwards."""
        noise = torch.randn(self.white.shape).to(self.white)
        path = (self.inverse.mT @ (self.white + noise)[..., None])[..., 0]
        steps = self.plan.steps()
        for (low, _), (first, last) in zip(steps[-2::-1], steps[:0:-1], strict=True):
            here = slice(low, low + last - first)
            path[here] += (self.gain[here] @ path[first:last, :, None])[..., 0]
        return self.in_order(path)
