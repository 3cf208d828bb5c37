r"""Linear-Gaussian paths: the log evidence of whole sequences, and filters, smoothers and draws of their states.

.. math::
    \log p(x_{1:T}) = \log \int \mathcal N(z_1; m_0, P_0) \prod_{t>1} \mathcal N(z_t; A z_{t-1} + b, Q)
    \prod_t e^{k_t + h_t^\top z_t - \frac12 z_t^\top J_t z_t} \, dz

Rows speak of their states through potentials (k, h, J), so that a hole is a smaller J and a wholly unknown row is
J = 0. The forward pass is a square-root Kalman filter; the backward pass carries the information that later rows have
about a state (h', J'); together they give the smoothed moments

.. math::
    P^s = S (I + S^\top J' S)^{-1} S^\top, \qquad z^s = m + P^s (h' - J' m), \qquad
    \mathrm{Cov}(z_{t+1}, z_t) = E_t^\top P^s_t

with the filter's m and :math:`P = S S^\top` and the backward gain E (Rauch, Tung and Striebel, 1965, in the form of a
two-filter smoother). They are the gradient of the log evidence with respect to un-normalised natural parameters, which
is all that EM asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from probgen.data.sequences import Steps
from probgen.families.gaussian_path import PathFactor
from probgen.families.gaussian_regression import Regression
from probgen.inference.chain import planned
from probgen.inference.kalman_passes import Backward, Filter, Layout, Motion, Potentials, apply, eye_of
from probgen.inference.kalman_scan import ScannedBackward, ScannedFilter

__all__ = ["Motion", "Potentials", "Smoother", "path_evidence"]

STEP_COST = 6e-4, 8e-5  # seconds of one step of both passes, with matrices of its own and with shared ones
SCAN_COST = 1e-2, 1.5e-5, 5e-7  # of both passes by prefix sums: once, a row, a row and square of L
DIFFUSE = 1e3  # variances of first states from which on prefix sums, which have no roots, are not trusted


class Smoother:
    """Everything there is to know of the states of some sequences, given the potentials of their rows."""

    def __init__(self, motion: Motion, potentials: Potentials, steps: Steps) -> None:
        self.motion = motion
        self.scanned = worth_scanning(motion, potentials, steps)
        self.layout = end_to_end(steps) if self.scanned else step_by_step(steps)
        self.potentials = potentials if self.scanned else potentials.select(self.layout.order)

    @cached_property
    def forward(self) -> Filter | ScannedFilter:
        if self.scanned:
            return ScannedFilter(self.motion, self.potentials, self.layout)
        assert self.layout.plan is not None
        return Filter(self.motion, self.potentials, self.layout.plan)

    @cached_property
    def backward(self) -> Backward | ScannedBackward:
        return (ScannedBackward if self.scanned else Backward)(self.motion, self.potentials, self.layout)

    @cached_property
    def pairs(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Which forward and which backward matrices meet, and for every row which of these pairs is its own."""
        forward, backward = self.forward.row, self.backward.row
        if forward is None or backward is None:
            return None, None, None
        T = int(max(forward.max(), backward.max())) + 1
        pair, row = torch.unique(forward * T + backward, return_inverse=True)
        return pair // T, pair % T, row

    @cached_property
    def covariance(self) -> Tensor:
        """``(M, L, L)`` smoothed covariances, one a pair."""
        first, second, _ = self.pairs
        return self.forward.smoothed(self.backward.square if second is None else self.backward.square[second], first)

    @cached_property
    def mean(self) -> Tensor:
        """``(N, L)`` smoothed means in the layout's order."""
        m, later = self.forward.mean, self.backward
        return m + apply(self.covariance, self.pairs[2], later.linear - apply(later.square, later.row, m))

    # -- in the table's order ----------------------------------------------------------------------------------
    def in_order(self, rows: Tensor) -> Tensor:
        """From the layout's order to the table's."""
        return rows if self.scanned else torch.empty_like(rows).index_copy_(0, self.layout.order, rows)

    def means(self) -> Tensor:
        """``(N, L)``: E[z | all rows of the sequence]."""
        return self.in_order(self.mean)

    def filtered_means(self) -> Tensor:
        """``(N, L)``: E[z | the row itself and the rows before it]."""
        return self.in_order(self.forward.mean)

    def covariances(self) -> Tensor:
        """``(N, L, L)``: Cov[z | all rows of the sequence]."""
        place = self.pairs[2]
        return self.in_order(self.covariance if place is None else self.covariance[place])

    def draw(self) -> Tensor:
        """``(N, L)``: one draw of all states given all rows (backward filtering, forward sampling)."""
        later, layout = self.backward, self.layout
        R = later.root if later.row is None else later.root[later.row]  # (N, L, E), zero at last rows
        known = torch.zeros_like(later.drive)
        known[layout.before] = (later.drive + later.linear)[layout.after]
        noise = torch.randn(len(known), R.shape[2]).to(known)
        push = (R @ ((R.mT @ known[..., None])[..., 0] + noise)[..., None])[..., 0]
        return self.in_order(later.path(self.first_draw(), self.motion.transition.offset + push))

    def first_draw(self) -> Tensor:
        """First states of all sequences given all their rows."""
        m, S, first = self.motion.initial.offset, self.motion.initial.root, self.layout.first
        later = self.backward
        J = self.potentials.square if self.potentials.shared else self.potentials.square[first]
        J = J + later.square[first if later.row is None else later.row[first]]
        K = torch.linalg.cholesky(eye_of(S.shape[1], S) + S.mT @ J @ S)
        pull = self.potentials.linear[first] + later.linear[first] - J @ m
        white = torch.linalg.solve_triangular(K, (pull @ S)[..., None], upper=False)
        noise = torch.randn(white.shape).to(white)
        return m + torch.linalg.solve_triangular(K.mT, white + noise, upper=True)[..., 0] @ S.mT


def worth_scanning(motion: Motion, potentials: Potentials, steps: Steps) -> bool:
    """True for few long sequences, whose steps would be many and small."""
    step, (once, row, square) = STEP_COST[potentials.shared], SCAN_COST
    if potentials.linear.dtype != torch.float64 or bool(motion.initial.root.square().sum() > DIFFUSE):
        return False
    return steps.longest * step > once + steps.rows * (row + square * potentials.linear.shape[1] ** 2)


def end_to_end(steps: Steps) -> Layout:
    """Rows as they stand in the table."""
    rows = torch.arange(steps.rows, device=steps.lengths.device)
    last = torch.zeros_like(rows, dtype=torch.bool)
    last[steps.starts + steps.lengths - 1] = True
    before = rows[~last]
    return Layout(rows, steps.sequence, steps.starts, before, before + 1)


def step_by_step(steps: Steps) -> Layout:
    """All first rows, then all second rows, ..."""
    plan = planned(steps, steps.longest)
    after, before = plan.before
    return Layout(plan.order, plan.sequence[plan.block], torch.arange(plan.blocks).to(before), before, after, plan)


# ------------------------------------------------------------------------------------------------------ evidence
def path_evidence(path: PathFactor, potentials: Potentials) -> Tensor:
    """Log evidence ``(S,)`` of sequences; its gradient is the expected statistics."""
    inputs = [potentials.constant, potentials.linear, potentials.square]
    inputs += [*path.initial_terms.parts(), *path.transition_terms.parts()]
    for part in (path.initial, path.transition):
        inputs += [part.matrix, part.offset, part.root]
    return PathEvidence.apply(path.steps, path.counted, *inputs)


class PathEvidence(torch.autograd.Function):
    """The filter; its gradient is the smoother. Second derivatives go through a filter without roots."""

    @staticmethod
    def forward(ctx: Any, steps: Steps, counted: Tensor | None, *inputs: Tensor) -> Tensor:  # type: ignore[override]
        motion = Motion(Regression(*inputs[11:14]), Regression(*inputs[14:]))
        ctx.save_for_backward(*inputs)
        ctx.steps, ctx.counted = steps, counted
        ctx.smoother = Smoother(motion, Potentials(*inputs[:3]), steps)
        value = ctx.smoother.in_order(ctx.smoother.forward.value)
        return steps.total(value if counted is None else torch.where(counted, value, 0.0))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants to differentiate again
            rows, wanted = without_roots(ctx.steps, ctx.counted, inputs), [v for v in inputs if v.requires_grad]
            found = iter(torch.autograd.grad(rows, wanted, gradient, create_graph=True, allow_unused=True))
            return None, None, *(next(found) if v.requires_grad else None for v in inputs)
        return None, None, *Moments(ctx.smoother, gradient).gradients(), *[None] * 6


class Moments:
    """Expected statistics of rows, first states and transitions, each sequence with a weight."""

    def __init__(self, smoother: Smoother, weights: Tensor) -> None:
        self.smoother, self.mean, self.covariance = smoother, smoother.mean, smoother.covariance
        self.place = smoother.pairs[2]
        self.weights = weights[smoother.layout.sequence]

    def shared(self, rows: Tensor) -> Tensor:
        """Weights of some rows as weights of the covariances that they share."""
        place = rows if self.place is None else self.place[rows]
        return self.weights.new_zeros(len(self.covariance)).index_add(0, place, self.weights[rows])

    def first(self, rows: Tensor) -> Tensor:
        """Sum of E[z]."""
        return self.weights[rows] @ self.mean[rows]

    def second(self, rows: Tensor) -> Tensor:
        """Sum of E[z z']."""
        m = self.mean[rows]
        spread = torch.einsum("m,mij->ij", self.shared(rows), self.covariance)
        return spread + (self.weights[rows][:, None] * m).mT @ m

    def cross(self) -> Tensor:
        """Sum of E[z_{t+1} z_t'] over all transitions."""
        before, after = self.smoother.layout.before, self.smoother.layout.after
        gain, place = self.smoother.backward.gain, self.smoother.pairs[1]
        gain = gain if place is None else gain[place]
        spread = torch.einsum("m,mki,mkj->ij", self.shared(before), gain, self.covariance)
        return spread + (self.weights[after][:, None] * self.mean[after]).mT @ self.mean[before]

    def rows(self) -> list[Tensor]:
        """Gradients with respect to the potentials of all rows."""
        w, m = self.weights, self.mean
        if self.smoother.potentials.shared:
            square = -0.5 * self.second(torch.arange(len(w), device=w.device))[None]
        else:
            square = self.smoother.in_order(
                -0.5 * w[:, None, None] * (self.covariance + m[:, :, None] * m[:, None, :])
            )
        return [self.smoother.in_order(w), self.smoother.in_order(w[:, None] * m), square]

    def gradients(self) -> list[Tensor]:
        """Of the log evidence with respect to potentials and the terms of first states and transitions."""
        layout = self.smoother.layout
        first, before, after = layout.first, layout.before, layout.after
        n = self.weights[first].sum()
        start = [n, self.second(first), self.first(first)[:, None], n[None, None]]
        n, total = self.weights[after].sum(), self.first(before)
        cross = torch.cat([self.cross(), self.first(after)[:, None]], 1)
        inputs = torch.cat([self.second(before), total[:, None]], 1)
        inputs = torch.cat([inputs, torch.cat([total, n[None]])[None]])
        return [*self.rows(), *start, n, self.second(after), cross, inputs]


def without_roots(steps: Steps, counted: Tensor | None, inputs: Sequence[Tensor]) -> Tensor:
    """The same log evidence by covariances: differentiable any number of times, in the parameters of the regressions."""
    plan = planned(steps, steps.longest)
    potentials = Potentials(*inputs[:3]).select(plan.order)
    m0, S0, A, b, G = (inputs[at] for at in (12, 13, 14, 15, 16))
    k, h = potentials.constant, potentials.linear
    mean, P = m0.expand(plan.blocks, -1), (S0 @ S0.mT).expand(plan.blocks, -1, -1)
    eye, values = eye_of(len(A), A), []
    for low, high in plan.steps():
        n = high - low
        J = potentials.square if potentials.shared else potentials.square[low:high]
        m, P = mean[:n], P[:n]
        grown = eye + P @ J
        P = torch.linalg.solve(grown, P)
        pull = h[low:high] - (J @ m[..., None])[..., 0]
        step = (P @ pull[..., None])[..., 0]
        values.append(k[low:high] + 0.5 * ((h[low:high] + pull) * m).sum(-1) + 0.5 * (pull * step).sum(-1))
        values[-1] = values[-1] - 0.5 * torch.linalg.slogdet(grown)[1]
        mean = (m + step) @ A.mT + b
        P = A @ (0.5 * (P + P.mT)) @ A.mT + G @ G.mT
    rows = torch.zeros_like(k).index_copy(0, plan.order, torch.cat(values))
    return steps.total(rows if counted is None else torch.where(counted, rows, 0.0))
