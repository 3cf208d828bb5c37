r"""A filter of regimes and states that merges what it cannot keep apart (GPB2; Kim, 1994).

The exact posterior of a switching state-space model has one Gaussian for every path of regimes. Here, after every
row, the K^2 Gaussians of the last two regimes become K, each with the mean and covariance of those it stands for. The
result is an approximation, and neither its density nor its probabilities bound anything.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probgen.inference.chain import planned

__all__ = ["MergingFilter"]


class MergingFilter:
    """The forward pass over all sequences of a switching problem, and Kim's backward pass over the regimes.

    Attributes:
        probabilities: ``(N, K)`` of each row's regime given the rows up to it.
        mean: ``(N, L)`` of its state.
    """

    def __init__(self, problem: Any) -> None:
        self.problem, self.plan = problem, planned(problem.steps, problem.steps.longest)
        parts = [(move.matrix, move.offset, move.root @ move.root.mT) for move in problem.path.transitions]
        self.A, self.b, self.Q = (torch.stack(part).detach() for part in zip(*parts, strict=True))
        p = problem.potentials.select(self.plan.order)
        self.k, self.h, self.J = p.constant.detach(), p.linear.detach(), p.square.detach()
        self.shared, self.scores = p.shared, problem.scores.detach().mT[self.plan.order]
        with torch.no_grad():
            self.forward()

    def forward(self) -> None:
        start, B = self.problem.path.initial, self.plan.blocks
        K, L = self.b.shape
        m = start.offset.expand(B, 1, K, L)
        P = (start.root @ start.root.mT).expand(B, 1, K, L, L)
        weight = self.problem.initial.detach().expand(B, 1, K)
        kept, means = [], []
        for step, (low, high) in enumerate(self.plan.steps()):
            if step:
                n = high - low
                m = (self.A @ merged_mean[:n, :, None, :, None])[..., 0] + self.b
                P = self.A @ merged[:n, :, None] @ self.A.mT + self.Q
                weight = weight[:n, :, None] + self.problem.transition.detach()
            value, m, P = self.updated(m, P, low, high)
            joint = weight + value + self.scores[low:high, None]  # (n, I, K)
            joint = joint - joint.flatten(1).logsumexp(1)[:, None, None]
            weight = joint.logsumexp(1)
            share = joint.softmax(1).nan_to_num(nan=1.0 / joint.shape[1])[..., None]  # of each regime before
            merged_mean = (share * m).sum(1)
            gap = (m - merged_mean[:, None])[..., None]
            merged = (share[..., None] * (P + gap @ gap.mT)).sum(1)
            kept.append(weight.exp())
            means.append((kept[-1][..., None] * merged_mean).sum(1))
        self.ordered = torch.cat(kept)
        self.probabilities, self.mean = self.in_order(self.ordered), self.in_order(torch.cat(means))

    def updated(self, m: Tensor, P: Tensor, low: int, high: int) -> tuple[Tensor, Tensor, Tensor]:
        """Log density of one row under Gaussians of its state, and these Gaussians given the row."""
        J = self.J if self.shared else self.J[low:high]
        J, h = J[:, None, None], self.h[low:high, None, None]
        grown = torch.eye(m.shape[-1]).to(m) + P @ J
        P = torch.linalg.solve(grown, P)
        P = 0.5 * (P + P.mT)
        pull = h - (J @ m[..., None])[..., 0]
        step = (P @ pull[..., None])[..., 0]
        value = 0.5 * ((h + pull) * m).sum(-1) + 0.5 * (pull * step).sum(-1) - 0.5 * torch.linalg.slogdet(grown)[1]
        return self.k[low:high, None, None] + value, m + step, P

    def in_order(self, rows: Tensor) -> Tensor:
        """From the plan's order to the table's."""
        return torch.empty_like(rows).index_copy_(0, self.plan.order, rows)

    def smoothed(self) -> Tensor:
        """``(K, N)``: probabilities of each row's regime given all rows."""
        A, found = self.problem.transition.detach().exp(), self.ordered.clone()
        steps = self.plan.steps()
        for (low, _), (first, last) in zip(steps[-2::-1], steps[:0:-1], strict=True):
            here = slice(low, low + last - first)
            expected = (self.ordered[here] @ A).clamp_min(torch.finfo(A.dtype).tiny)
            found[here] = self.ordered[here] * ((found[first:last] / expected) @ A.mT)
        return self.in_order(found / found.sum(1, keepdim=True)).mT
