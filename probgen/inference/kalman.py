r"""Linear-Gaussian paths: the log evidence of whole sequences, and filters, smoothers and draws of their states.

.. math::
    \log p(x_{1:T}) = \log \int \mathcal N(z_1; m_0, P_0) \prod_{t>1} \mathcal N(z_t; A z_{t-1} + b, Q)
    \prod_t e^{k_t + h_t^\top z_t - \frac12 z_t^\top J_t z_t} \, dz

Rows speak of their states through potentials (k, h, J), so that a hole is a smaller J and a wholly unknown row is
J = 0. The forward pass is a square-root Kalman filter: with :math:`P = S S^\top` a row's update needs the Cholesky
factor of :math:`I + S^\top J S` only, and a step one QR decomposition, so that no covariance is ever inverted (Q, P
may be singular) or loses its symmetry. The backward pass carries the information that later rows have about a state
(h', J', in Joseph's form), and the two together give the smoothed moments

.. math::
    P^s = S (I + S^\top J' S)^{-1} S^\top, \qquad z^s = m + P^s (h' - J' m), \qquad
    \mathrm{Cov}(z_{t+1}, z_t) = E_t^\top P^s_t

with the backward gain E (Rauch, Tung and Striebel, 1965, in the form of a two-filter smoother). They are the gradient
of the log evidence with respect to un-normalised natural parameters, which is all that EM asks for. Covariances do not depend
on the data, so rows without holes share them: they are found once for each place in a sequence, and no more once
their change has come down to rounding errors. Sequences of any lengths advance together, the longest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from probgen.data.sequences import Steps
from probgen.families.gaussian_path import PathFactor
from probgen.families.linear_gaussian import Regression
from probgen.inference.chain import Plan, planned

__all__ = ["Motion", "Potentials", "Smoother", "path_evidence"]

ULPS = 8.0  # a covariance has converged when it changes by less than this many units of rounding

Place = int | slice | Tensor  # where the matrices of one step lie among those that were computed


@dataclass(frozen=True)
class Potentials:
    """What rows say of their states: k ``(N,)``, h ``(N, L)``, J ``(N, L, L)`` or one for all rows ``(1, L, L)``."""

    constant: Tensor
    linear: Tensor
    square: Tensor

    def select(self, rows: Tensor) -> Potentials:
        square = self.square if self.shared else self.square[rows]
        return Potentials(self.constant[rows], self.linear[rows], square)

    @property
    def shared(self) -> bool:
        """True where all rows have the same J."""
        return len(self.square) == 1


@dataclass(frozen=True)
class Motion:
    """The first state and the transition, as regressions without a table."""

    initial: Regression
    transition: Regression


def apply(matrix: Tensor, place: Tensor | None, vector: Tensor) -> Tensor:
    """Matrices ``(M, ...)`` times vectors ``(N, L)``; ``place`` says which matrix belongs to which vector."""
    if len(matrix) == 1:
        return vector @ matrix[0].mT
    return ((matrix if place is None else matrix[place]) @ vector[..., None])[..., 0]


def advance(gain: Tensor, now: Tensor) -> Tensor:
    """One step of a linear recursion, with one gain for all sequences or one each."""
    return now @ gain.mT if gain.dim() == 2 else (gain @ now[..., None])[..., 0]


def remaining(plan: Plan) -> Tensor:
    """``(N,)`` in the plan's order: steps that are left after each row in its sequence."""
    lengths = plan.block.bincount()
    time = torch.cat([torch.full((high - low,), t) for t, (low, high) in enumerate(plan.steps())])
    return lengths[plan.block] - 1 - time.to(lengths)


class Filter:
    """The forward pass over potentials in the plan's order.

    Attributes:
        root: ``(M, L, L)`` square roots S of the filtered covariances.
        place: for every step, which of them are its own; ``row`` the same for every row, None for its own number.
        mean: ``(N, L)`` filtered means.
        value: ``(N,)`` log density of each row given the rows before it.
    """

    def __init__(self, motion: Motion, potentials: Potentials, plan: Plan) -> None:
        self.motion, self.potentials, self.plan = motion, potentials, plan
        steps = plan.steps()
        if potentials.shared:
            self.place: Sequence[Place] = range(len(steps))
            self.row = torch.bucketize(torch.arange(plan.edges[-1]), torch.tensor(plan.edges), right=True) - 1
            self.row: Tensor | None = self.row.to(plan.order)
        else:
            self.place, self.row = [slice(low, high) for low, high in steps], None
        self.root, log_det = self.roots()
        self.covariance = self.root @ self.root.mT
        self.means(log_det)

    def roots(self) -> tuple[Tensor, Tensor]:
        """Filtered roots and the log determinants of I + S'JS, step by step."""
        A, noise = self.motion.transition.matrix, self.motion.transition.root
        start, square, shared = self.motion.initial.root, self.potentials.square, self.potentials.shared
        L, blocks = len(A), 1 if shared else self.plan.blocks
        eye = torch.eye(L, dtype=A.dtype, device=A.device)
        root = torch.cat([start, start.new_zeros(L, L - start.shape[1])], 1).expand(blocks, L, L)
        roots, dets = [], []
        for low, high in self.plan.steps():
            J, S = (square, root) if shared else (square[low:high], root[: high - low])
            K = torch.linalg.cholesky(eye + S.mT @ J @ S)
            S = torch.linalg.solve_triangular(K, S.mT, upper=False).mT
            roots.append(S)
            dets.append(K.diagonal(0, -2, -1).log().sum(-1))
            if shared and len(roots) > 1 and steady(S @ S.mT, roots[-2] @ roots[-2].mT):
                left = len(self.place) - len(roots)
                return torch.cat([*roots, S.expand(left, L, L)]), torch.cat([*dets, dets[-1].expand(left)])
            wide = torch.cat([A @ S, noise.expand(len(S), -1, -1)], -1)
            root = torch.linalg.qr(wide.mT, mode="r").R.mT
        return torch.cat(roots), torch.cat(dets)

    def means(self, log_det: Tensor) -> None:
        """Predicted means by a linear recursion, then everything else at once."""
        A, b = self.motion.transition.matrix, self.motion.transition.offset
        k, h, J = self.potentials.constant, self.potentials.linear, self.potentials.square
        P, L = self.covariance, len(A)
        gain = A @ (torch.eye(L).to(A) - P @ J)
        drive = apply(A @ P, self.row, h) + b
        now = self.motion.initial.offset.expand(self.plan.blocks, L)
        predicted = torch.empty_like(h)
        for place, (low, high) in zip(self.place, self.plan.steps(), strict=True):
            predicted[low:high] = now = now[: high - low]
            now = advance(gain[place], now) + drive[low:high]
        pull = h - apply(J, None, predicted)
        step = apply(P, self.row, pull)
        self.mean = predicted + step
        inside = log_det if self.row is None else log_det[self.row]
        self.value = k + 0.5 * ((h + pull) * predicted).sum(-1) + 0.5 * (pull * step).sum(-1) - inside


def steady(new: Tensor, old: Tensor) -> bool:
    """True where a covariance no longer changes."""
    return bool((new - old).abs().max() <= ULPS * torch.finfo(new.dtype).eps * new.abs().max())


class Backward:
    """The backward pass: what the rows after each row say of its state.

    Attributes:
        square: ``(M, L, L)`` their information J'; ``linear``: ``(N, L)`` h'.
        gain: ``(M, L, L)`` E, with E[z_{t+1} | z_t, all rows] = E' z_t + constant; zero at last rows.
        root: ``(M, L, E)`` R: the next state's covariance given this one and all rows is R R'.
        drive: ``(N, L)`` h - (J + J') b of every row.
    """

    def __init__(self, motion: Motion, potentials: Potentials, plan: Plan) -> None:
        self.motion, self.potentials, self.plan = motion, potentials, plan
        if potentials.shared:
            left = remaining(plan)
            even = bool(left[: plan.blocks].min() == left[0])
            T = len(plan.steps())
            self.place: Sequence[Place] = (
                [T - 1 - t for t in range(T)] if even else [left[low:high] for low, high in plan.steps()]
            )
            self.row: Tensor | None = left
            self.shared_matrices(T)
        else:
            self.place, self.row = [slice(low, high) for low, high in plan.steps()], None
            self.own_matrices()
        self.means()

    def shared_matrices(self, steps: int) -> None:
        """J', E and R by the number of steps that are left."""
        J = self.potentials.square
        zero = torch.zeros_like(J)
        found = [(zero, zero, J.new_zeros(1, len(zero[0]), self.motion.transition.root.shape[1]))]
        while len(found) < steps:
            found.append(information(self.motion.transition, J + found[-1][0]))
            if steady(found[-1][0], found[-2][0]):
                found += found[-1:] * (steps - len(found))
        self.square, self.gain, self.root = (torch.cat(parts) for parts in zip(*found, strict=True))

    def own_matrices(self) -> None:
        """J', E and R of every row."""
        J, L = self.potentials.square, self.potentials.linear.shape[1]
        self.square, self.gain = torch.zeros_like(J), torch.zeros_like(J)
        self.root = J.new_zeros(len(J), L, self.motion.transition.root.shape[1])
        steps = self.plan.steps()
        for (low, _), (first, last) in zip(steps[-2::-1], steps[:0:-1], strict=True):
            here = slice(low, low + last - first)
            found = information(self.motion.transition, J[first:last] + self.square[first:last])
            self.square[here], self.gain[here], self.root[here] = found

    def means(self) -> None:
        """h' of every row by a linear recursion, from the last row to the first."""
        h, J, b = self.potentials.linear, self.potentials.square, self.motion.transition.offset
        after, before = self.plan.before
        bent = (J + self.square) @ b  # (M, L)
        self.drive = h - (bent if self.row is None else bent[self.row])
        push = self.at(before, apply(self.gain, before if self.row is None else self.row[before], self.drive[after]))
        self.linear = torch.zeros_like(h)
        steps = self.plan.steps()
        for t in range(len(steps) - 2, -1, -1):
            (low, _), (first, last) = steps[t], steps[t + 1]
            n = last - first
            place = self.place[t]
            gain = self.gain[slice(low, low + n) if isinstance(place, slice) else place]
            gain = gain[:n] if gain.dim() == 3 else gain
            self.linear[low : low + n] = advance(gain, self.linear[first:last]) + push[low : low + n]

    def at(self, rows: Tensor, values: Tensor) -> Tensor:
        """Values of some rows among zeros."""
        out = torch.zeros_like(self.potentials.linear)
        out[rows] = values
        return out


def information(transition: Regression, square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """J' of a state, E and R, from the information ``square`` about the next state."""
    A, G = transition.matrix, transition.root
    bend = square @ G
    K = torch.linalg.cholesky(torch.eye(G.shape[1]).to(G) + G.mT @ bend)
    R = torch.linalg.solve_triangular(K, G.mT.expand(len(K), -1, -1), upper=False).mT
    slip = torch.linalg.solve_triangular(K.mT, (square @ R).mT, upper=True)  # (M, E, L)
    keep = torch.eye(len(A)).to(A) - square @ R @ R.mT  # Joseph's form keeps J' positive
    moved = keep @ square @ keep.mT + slip.mT @ slip
    return A.mT @ (0.5 * (moved + moved.mT)) @ A, A.mT @ keep, R


class Smoother:
    """Everything there is to know of the states of some sequences, given the potentials of their rows."""

    def __init__(self, motion: Motion, potentials: Potentials, steps: Steps) -> None:
        self.plan = planned(steps, steps.longest)
        self.motion, self.potentials = motion, potentials.select(self.plan.order)

    @cached_property
    def forward(self) -> Filter:
        return Filter(self.motion, self.potentials, self.plan)

    @cached_property
    def backward(self) -> Backward:
        return Backward(self.motion, self.potentials, self.plan)

    @cached_property
    def pairs(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Which forward and which backward matrices meet, and for every row which of these pairs is its own."""
        if self.forward.row is None or self.backward.row is None:
            return None, None, None
        T = len(self.forward.root)
        pair, row = torch.unique(self.forward.row * T + self.backward.row, return_inverse=True)
        return pair // T, pair % T, row

    @cached_property
    def covariance(self) -> Tensor:
        """``(M, L, L)`` smoothed covariances, one a pair."""
        first, second, _ = self.pairs
        S = self.forward.root if first is None else self.forward.root[first]
        J = self.backward.square if second is None else self.backward.square[second]
        K = torch.linalg.cholesky(torch.eye(S.shape[-1]).to(S) + S.mT @ J @ S)
        half = torch.linalg.solve_triangular(K, S.mT, upper=False)
        return half.mT @ half

    @cached_property
    def mean(self) -> Tensor:
        """``(N, L)`` smoothed means in the plan's order."""
        m, later = self.forward.mean, self.backward
        return m + apply(self.covariance, self.pairs[2], later.linear - apply(later.square, later.row, m))

    # -- in the table's order ----------------------------------------------------------------------------------
    def in_order(self, rows: Tensor) -> Tensor:
        """From the plan's order to the table's."""
        return torch.empty_like(rows).index_copy_(0, self.plan.order, rows)

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
        later, plan = self.backward, self.plan
        b = self.motion.transition.offset
        after, before = plan.before
        R = later.root if later.row is None else later.root[later.row]  # (N, L, E)
        known = later.at(before, (later.drive + later.linear)[after])
        noise = torch.randn(len(known), R.shape[2]).to(known)
        push = b + (R @ ((R.mT @ known[..., None])[..., 0] + noise)[..., None])[..., 0]
        path, now = torch.empty_like(known), self.first_draw()
        for place, (low, high) in zip(later.place, plan.steps(), strict=True):
            path[low:high] = now = now[: high - low]
            now = advance(later.gain[place].mT, now) + push[low:high]
        return self.in_order(path)

    def first_draw(self) -> Tensor:
        """First states of all sequences given all their rows."""
        m, S = self.motion.initial.offset, self.motion.initial.root
        later, here = self.backward, slice(0, self.plan.blocks)
        J = self.potentials.square if self.potentials.shared else self.potentials.square[here]
        J = J + later.square[here if later.row is None else later.row[here]]
        K = torch.linalg.cholesky(torch.eye(S.shape[1]).to(S) + S.mT @ J @ S)
        pull = self.potentials.linear[here] + later.linear[here] - J @ m
        white = torch.linalg.solve_triangular(K, (pull @ S)[..., None], upper=False)
        noise = torch.randn(white.shape).to(white)
        return m + torch.linalg.solve_triangular(K.mT, white + noise, upper=True)[..., 0] @ S.mT


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
        return None, None, *expected(ctx.smoother, gradient), *[None] * 6


def expected(smoother: Smoother, gradient: Tensor) -> list[Tensor]:
    """Expected statistics of potentials, first states and transitions, each sequence weighted by its gradient."""
    plan, mean, P, place = smoother.plan, smoother.mean, smoother.covariance, smoother.pairs[2]
    w = gradient[plan.sequence[plan.block]]
    after, before = plan.before
    first, then = w[: plan.blocks], w[after]

    def weights(rows: Tensor | slice, values: Tensor) -> Tensor:
        """Weights of rows as weights of the covariances that they share."""
        if place is None:
            return w.new_zeros(len(P)).index_add(0, torch.arange(len(P), device=w.device)[rows], values)
        return w.new_zeros(len(P)).index_add(0, place[rows], values)

    def second(rows: Tensor | slice, values: Tensor) -> Tensor:
        m = mean[rows]
        return torch.einsum("m,mij->ij", weights(rows, values), P) + (values[:, None] * m).mT @ m

    if smoother.potentials.shared:
        square = -0.5 * second(slice(None), w)[None]
    else:
        square = smoother.in_order(-0.5 * w[:, None, None] * (P + mean[:, :, None] * mean[:, None, :]))
    found = [smoother.in_order(w), smoother.in_order(w[:, None] * mean), square]
    n = first.sum()
    start = slice(0, plan.blocks)
    found += [n, second(start, first), (first @ mean[start])[:, None], n[None, None]]
    gain = smoother.backward.gain if smoother.pairs[1] is None else smoother.backward.gain[smoother.pairs[1]]
    cross = torch.einsum("m,mki,mkj->ij", weights(before, then), gain, P) + (then[:, None] * mean[after]).mT @ mean[before]
    n, total = then.sum(), then @ mean[before]
    inputs = torch.cat([torch.cat([second(before, then), total[:, None]], 1), torch.cat([total, n[None]])[None]])
    return [*found, n, second(after, then), torch.cat([cross, (then @ mean[after])[:, None]], 1), inputs]


def without_roots(steps: Steps, counted: Tensor | None, inputs: Sequence[Tensor]) -> Tensor:
    """The same log evidence by covariances: differentiable any number of times, in the parameters of the regressions."""
    plan = planned(steps, steps.longest)
    potentials = Potentials(*inputs[:3]).select(plan.order)
    m0, S0, A, b, G = (inputs[at] for at in (12, 13, 14, 15, 16))
    k, h = potentials.constant, potentials.linear
    mean, P = m0.expand(plan.blocks, -1), (S0 @ S0.mT).expand(plan.blocks, -1, -1)
    eye, values = torch.eye(len(A)).to(A), []
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
