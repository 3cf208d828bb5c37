r"""The forward and the backward pass of a linear-Gaussian path, step by step.

With :math:`P = S S^\top` a row's update needs the Cholesky factor of :math:`I + S^\top J S` only, and a step one QR
decomposition, so that no covariance is ever inverted (Q, P may be singular) or loses its symmetry. Sequences of any
lengths advance together, the longest first. Covariances do not depend on the data, so rows without holes share them:
they are found once for each place in a sequence, and no more once their change has come down to rounding errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probgen.families.gaussian_regression import Regression
from probgen.inference.chain import Plan

__all__ = ["Backward", "Filter", "Layout", "Motion", "Potentials", "apply", "information"]

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
    """The first state, and every other one given the one before it."""

    initial: Regression
    transition: Regression


@dataclass(frozen=True)
class Layout:
    """In which order the rows are worked on.

    Attributes:
        order: ``(N,)`` rows of the table.
        sequence: ``(N,)`` the sequence of each.
        first: ``(S,)`` places of first rows.
        before, after: places of all rows that have one after them, and the places of those.
        plan: the steps, where rows are visited step by step.
    """

    order: Tensor
    sequence: Tensor
    first: Tensor
    before: Tensor
    after: Tensor
    plan: Plan | None = None


def apply(matrix: Tensor, place: Tensor | None, vector: Tensor) -> Tensor:
    """Matrices ``(M, ...)`` times vectors ``(N, L)``; ``place`` says which matrix belongs to which vector."""
    if len(matrix) == 1:
        return vector @ matrix[0].mT
    return ((matrix if place is None else matrix[place]) @ vector[..., None])[..., 0]


def advance(gain: Tensor, now: Tensor) -> Tensor:
    """One step of a linear recursion, with one gain for all sequences or one each."""
    return now @ gain.mT if gain.dim() == 2 else (gain @ now[..., None])[..., 0]


def steady(new: Tensor, old: Tensor) -> bool:
    """True where a matrix no longer changes."""
    return bool((new - old).abs().max() <= ULPS * torch.finfo(new.dtype).eps * new.abs().max())


def eye_of(size: int, like: Tensor) -> Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)


class Filter:
    """The forward pass.

    Attributes:
        root: ``(M, L, L)`` square roots S of the filtered covariances.
        row: for every row, which of them is its own; None for its own number.
        mean: ``(N, L)`` filtered means.
        value: ``(N,)`` log density of each row given the rows before it.
    """

    def __init__(self, motion: Motion, potentials: Potentials, plan: Plan) -> None:
        self.motion, self.potentials, self.steps, self.blocks = motion, potentials, plan.steps(), plan.blocks
        self.place: Sequence[Place] = [slice(low, high) for low, high in self.steps]
        self.row: Tensor | None = None
        if potentials.shared:
            self.place = range(len(self.steps))
            sizes = torch.tensor([high - low for low, high in self.steps])
            self.row = torch.arange(len(sizes)).repeat_interleave(sizes).to(plan.order)
        self.root, log_det = self.roots()
        self.means(log_det)

    def roots(self) -> tuple[Tensor, Tensor]:
        """Filtered roots, and log determinants of the roots of I + S'JS, step by step."""
        A, noise = self.motion.transition.matrix, self.motion.transition.root
        start, square, shared = self.motion.initial.root, self.potentials.square, self.potentials.shared
        L = len(A)
        eye, roots, dets = eye_of(L, A), [], []
        root = torch.cat([start, start.new_zeros(L, L - start.shape[1])], 1).expand(1 if shared else self.blocks, L, L)
        for low, high in self.steps:
            J, S = (square, root) if shared else (square[low:high], root[: high - low])
            K = torch.linalg.cholesky(eye + S.mT @ J @ S)
            S = torch.linalg.solve_triangular(K, S.mT, upper=False).mT
            roots.append(S)
            dets.append(K.diagonal(0, -2, -1))
            if shared and len(roots) > 1 and steady(S @ S.mT, roots[-2] @ roots[-2].mT):
                left = len(self.steps) - len(roots)
                roots, dets = [*roots, S.expand(left, L, L)], [*dets, dets[-1].expand(left, L)]
                break
            wide = torch.cat([A @ S, noise.expand(len(S), -1, -1)], -1)
            root = torch.linalg.qr(wide.mT, mode="r").R.mT
        return torch.cat(roots), torch.cat(dets).log().sum(-1)

    def means(self, log_det: Tensor) -> None:
        """Predicted means by a linear recursion, then everything else at once."""
        A, b = self.motion.transition.matrix, self.motion.transition.offset
        k, h, J = self.potentials.constant, self.potentials.linear, self.potentials.square
        P = self.root @ self.root.mT
        gain = A @ (eye_of(len(A), A) - P @ J)
        drive = apply(A @ P, self.row, h) + b
        now, predicted = self.motion.initial.offset.expand(self.blocks, len(A)), torch.empty_like(h)
        for place, (low, high) in zip(self.place, self.steps, strict=True):
            predicted[low:high] = now = now[: high - low]
            now = advance(gain[place], now) + drive[low:high]
        pull = h - apply(J, None, predicted)
        step = apply(P, self.row, pull)
        self.mean = predicted + step
        inside = log_det if self.row is None else log_det[self.row]
        self.value = k + 0.5 * ((h + pull) * predicted).sum(-1) + 0.5 * (pull * step).sum(-1) - inside

    def smoothed(self, square: Tensor, place: Tensor | None) -> Tensor:
        """Covariances with the information ``(M, L, L)`` of later rows added; ``place`` says to which roots."""
        S = self.root if place is None else self.root[place]
        K = torch.linalg.cholesky(eye_of(S.shape[-1], S) + S.mT @ square @ S)
        half = torch.linalg.solve_triangular(K, S.mT, upper=False)
        return half.mT @ half


class Backward:
    """The backward pass: what the rows after each row say of its state.

    Attributes:
        square: ``(M, L, L)`` their information J'; ``linear``: ``(N, L)`` h'.
        gain: ``(M, L, L)`` E, with E[z_{t+1} | z_t, all rows] = E' z_t + constant; zero at last rows.
        root: ``(M, L, E)`` R: the next state's covariance given this one and all rows is R R'.
        row: for every row, which of these matrices are its own; None for its own number.
        drive: ``(N, L)`` h - (J + J') b of every row.
    """

    def __init__(self, motion: Motion, potentials: Potentials, layout: Layout) -> None:
        assert layout.plan is not None
        self.motion, self.potentials, self.layout, self.steps = motion, potentials, layout, layout.plan.steps()
        self.row: Tensor | None = None
        self.place: Sequence[Place] = [slice(low, high) for low, high in self.steps]
        if potentials.shared:
            self.share(layout.plan)
        else:
            self.own_matrices()
        self.means()

    def share(self, plan: Plan) -> None:
        """J', E and R by the number of steps that are left."""
        T, J = len(self.steps), self.potentials.square
        time = torch.cat([torch.full_like(plan.block[low:high], t) for t, (low, high) in enumerate(self.steps)])
        self.row = plan.block.bincount()[plan.block] - 1 - time
        even = len(plan.block) == T * plan.blocks
        self.place = range(T - 1, -1, -1) if even else [self.row[low:high] for low, high in self.steps]
        zero = torch.zeros_like(J)
        found = [(zero, zero, J.new_zeros(1, *self.motion.transition.root.shape))]
        while len(found) < T:
            found.append(information(self.motion.transition, J + found[-1][0]))
            if steady(found[-1][0], found[-2][0]):
                found += found[-1:] * (T - len(found))
        self.square, self.gain, self.root = (torch.cat(parts) for parts in zip(*found, strict=True))

    def own_matrices(self) -> None:
        """J', E and R of every row."""
        J = self.potentials.square
        self.square, self.gain = torch.zeros_like(J), torch.zeros_like(J)
        self.root = J.new_zeros(len(J), *self.motion.transition.root.shape)
        for (low, _), (first, last) in zip(self.steps[-2::-1], self.steps[:0:-1], strict=True):
            here = slice(low, low + last - first)
            found = information(self.motion.transition, J[first:last] + self.square[first:last])
            self.square[here], self.gain[here], self.root[here] = found

    def means(self) -> None:
        """The information h' of every row by a linear recursion, from the last rows to the first."""
        h, b = self.potentials.linear, self.motion.transition.offset
        before, after = self.layout.before, self.layout.after
        bent = (self.potentials.square + self.square) @ b  # (M, L)
        self.drive = h - (bent if self.row is None else bent[self.row])
        self.linear, push = torch.zeros_like(h), torch.zeros_like(h)
        push[before] = apply(self.gain, before if self.row is None else self.row[before], self.drive[after])
        for t in range(len(self.steps) - 2, -1, -1):
            low, (first, last) = self.steps[t][0], self.steps[t + 1]
            gain, n = self.gain[self.place[t]], last - first
            gain = gain[:n] if gain.dim() == 3 else gain
            self.linear[low : low + n] = advance(gain, self.linear[first:last]) + push[low : low + n]

    def path(self, first: Tensor, push: Tensor) -> Tensor:
        """States that follow z' = E' z + push from the first rows on."""
        path, now = torch.empty_like(push), first
        for place, (low, high) in zip(self.place, self.steps, strict=True):
            path[low:high] = now = now[: high - low]
            now = advance(self.gain[place].mT, now) + push[low:high]
        return path


def information(transition: Regression, square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """J' of a state, E and R, from the information ``square`` ``(M, L, L)`` about the next state."""
    A, G = transition.matrix, transition.root
    K = torch.linalg.cholesky(eye_of(G.shape[1], G) + G.mT @ square @ G)
    R = torch.linalg.solve_triangular(K, G.mT.expand(len(K), -1, -1), upper=False).mT
    bend = square @ R
    slip = torch.linalg.solve_triangular(K.mT, bend.mT, upper=True)  # (M, E, L)
    keep = eye_of(len(A), A) - bend @ R.mT
    moved = keep @ square @ keep.mT + slip.mT @ slip  # Joseph's form keeps J' positive
    return A.mT @ (0.5 * (moved + moved.mT)) @ A, A.mT @ keep, R
