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
    """The forward pass over all sequences of a switching problem.

    Attributes:
        probabilities: ``(N, K)`` of each row's regime given the rows up to it.
        mean: ``(N, L)`` of its state.
        scores: ``(K, N)`` with which a Markov chain has the same filter: its smoother is Kim's.
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
        mean, spread = start.offset.expand(B, K, L), (start.root @ start.root.mT).expand(B, K, L, L)
        m, P, weight = mean[:, None], spread[:, None], self.problem.initial.detach().expand(B, 1, K)
        kept, means, scores = [], [], []
        for step, (low, high) in enumerate(self.plan.steps()):
            if step:
                n = high - low
                m = (self.A @ mean[:n, :, None, :, None])[..., 0] + self.b
                P = self.A @ spread[:n, :, None] @ self.A.mT + self.Q
                weight = weight[:n, :, None] + self.problem.transition.detach()
            value, m, P = self.updated(m, P, low, high)
            joint = weight + value + self.scores[low:high, None]  # (n, I, K)
            joint = joint - joint.flatten(1).logsumexp(1)[:, None, None]
            expected, weight = weight.logsumexp(1), joint.logsumexp(1)
            scores.append(torch.where(expected.isneginf(), 0.0, weight - expected))
            mean, spread = merged(joint, m, P)
            kept.append(weight.exp())
            means.append((kept[-1][..., None] * mean).sum(1))
        self.probabilities, self.mean = self.in_order(torch.cat(kept)), self.in_order(torch.cat(means))
        self.scores = self.in_order(torch.cat(scores)).mT

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


def merged(log_weight: Tensor, m: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
    """Means and covariances of mixtures ``(n, I, K, ...)`` over the regime before."""
    share = log_weight.softmax(1).nan_to_num(nan=1.0 / m.shape[1])[..., None]
    mean = (share * m).sum(1)
    gap = (m - mean[:, None])[..., None]
    return mean, (share[..., None] * (P + gap @ gap.mT)).sum(1)
