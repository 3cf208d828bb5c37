r"""Trees of discrete states: the log evidence of rows, expected counts, and draws of all states.

.. math:: \log p(x) = \log \sum_h \pi_{h_r} \prod_{d \ne r} A_{d, h_{\mathrm{parent}(d)} h_d} \prod_d e^{s_{d h_d}}

Beliefs go up the tree in probability space, a level at a time: one batched matrix product for all nodes of a level, and
one scale for every node. The gradient with respect to (log pi, log A, s) is the expected counts, by one pass back down.
Rows go through in blocks, so that memory holds beliefs of few rows only; rows that underflow are done again in log space.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probgen.families.hidden_tree import TreeShape
from probgen.inference.log_sum import log_sum_exp

__all__ = ["Nodes", "block_rows", "draw_states", "tree_evidence"]

NUMBERS = 2**22  # beliefs of a block of rows
OFTEN = 4  # messages that are multiplied before the product is scaled again


@dataclass(frozen=True, eq=False)
class Nodes:
    """What the N rows of data say of D nodes, which stand in the order of ``shape``.

    Attributes:
        index: ``(N, D)`` which row of a table of log probabilities holds for a cell.
        places: ``(P,)`` nodes that have scores besides.
    """

    shape: TreeShape
    index: Tensor
    places: Tensor

    def __len__(self) -> int:
        return len(self.index)


def tree_evidence(
    root: Tensor, transition: Tensor, table: Tensor, scores: Tensor, nodes: Nodes, eager: bool = False
) -> Tensor:
    """``(N,)`` log evidence of rows.

    Args:
        root: ``(K,)`` log potentials of the root's states.
        transition: ``(D - 1, K, K)`` log potentials from the parent's states.
        table: ``(R, K)`` log probabilities that cells look up.
        scores: ``(P, K, N)`` log densities of further cells.
        nodes: the rows.
        eager: rows will count alike: gather the expected counts on the way, without a second pass up.
    """
    return TreeEvidence.apply(root, transition, table, scores, nodes, eager)


class TreeEvidence(torch.autograd.Function):
    """The pass up; its gradient is the pass down. Second derivatives go through log space."""

    @staticmethod
    def forward(
        ctx: Any, root: Tensor, transition: Tensor, table: Tensor, scores: Tensor, nodes: Nodes, eager: bool
    ) -> Tensor:  # type: ignore[override]
        passes = Passes(root, transition, table, scores, nodes)
        counts = Counts(passes) if eager and any(ctx.needs_input_grad) else None
        rows = passes.up(counts)
        weak = torch.nonzero(~rows.isfinite())[:, 0]
        if len(weak):
            rows[weak] = in_log_space(root, transition, table, scores, nodes, weak).to(rows)
        ctx.save_for_backward(root, transition, table, scores)
        ctx.nodes, ctx.weak, ctx.counts = nodes, weak, counts
        return rows.to(root.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if torch.is_grad_enabled():  # somebody wants to differentiate again
            rows = in_log_space(*ctx.saved_tensors, ctx.nodes, torch.arange(len(ctx.nodes)))
            options = {"create_graph": True, "allow_unused": True, "materialize_grads": True}
            return *torch.autograd.grad(rows, ctx.saved_tensors, gradient, **options), None, None
        alike = ctx.counts is not None and bool((gradient == gradient[0]).all())
        if alike:
            found = [value.mul_(gradient[0]) for value in ctx.counts.gradients()]
        else:
            weight = gradient.clone()
            weight[ctx.weak] = 0.0
            passes = Passes(*ctx.saved_tensors, ctx.nodes)
            counts = Counts(passes, weight)
            passes.up(counts)
            found = counts.gradients()
        if len(ctx.weak):
            found = with_weak(ctx, gradient, found)
        return *found, None, None


def with_weak(ctx: Any, gradient: Tensor, found: list[Tensor]) -> list[Tensor]:
    """Add the counts of rows that were done in log space."""
    with torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in ctx.saved_tensors]
        rows = in_log_space(*leaves, ctx.nodes, ctx.weak)
        extra = torch.autograd.grad(rows, leaves, gradient[ctx.weak], allow_unused=True, materialize_grads=True)
    return [one + other for one, other in zip(found, extra, strict=True)]


# --------------------------------------------------------------------------------------------------------- passes
def block_rows(nodes: int, states: int) -> int:
    """Rows a block: few enough for its beliefs to stay near the processor, enough for full matrix products."""
    return max(NUMBERS // (nodes * states), states, 64)


class Passes:
    """Probabilities of one tree, and the passes over its rows."""

    def __init__(self, root: Tensor, transition: Tensor, table: Tensor, scores: Tensor, nodes: Nodes) -> None:
        self.root, self.A, self.table = root.exp(), transition.exp(), table.exp()
        self.scores, self.nodes, self.levels = scores, nodes, nodes.shape.levels
        self.tiny = torch.finfo(root.dtype).tiny

    def blocks(self) -> Iterator[slice]:
        D = self.nodes.index.shape[1]
        size = block_rows(D, len(self.root))
        for at in range(0, len(self.nodes), size):
            yield slice(at, at + size)

    def up(self, counts: Counts | None = None) -> Tensor:
        """``(N,)`` log evidence; the counts, where they are wanted, grow by those of every block."""
        found = []
        for rows in self.blocks():
            belief, message, log = self.beliefs(rows)
            total = (belief[0] @ self.root[:, None])[:, 0]
            found.append(log + total.double().log())
            if counts is not None:
                counts.add(rows, belief, message, total)
        return torch.cat(found)

    def beliefs(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled beliefs ``(D, B, K)`` of each node in what is below it, messages up, and the logs ``(B,)`` taken out."""
        belief, log = self.cells(rows)
        message = torch.empty_like(belief)
        for depth in range(len(self.levels) - 1, -1, -1):
            level = self.levels[depth]
            now = belief[level.start : level.end]
            for rank, child in enumerate(level.ranks):
                now[: len(child)].mul_(message.index_select(0, child + level.end))
                if rank % OFTEN == OFTEN - 1:
                    log += self.scale(now[: len(child)])
            log += self.scale(now)
            if depth:
                edges = self.A[level.start - 1 : level.end - 1]
                torch.bmm(now, edges.mT, out=message[level.start : level.end])
        return belief, message, log

    def cells(self, rows: slice) -> tuple[Tensor, Tensor]:
        """What each cell says of its node, ``(D, B, K)``."""
        index = self.nodes.index[rows].mT.contiguous()
        belief = self.table.index_select(0, index.flatten()).unflatten(0, index.shape)
        log = belief.new_zeros(index.shape[1], dtype=torch.float64)
        if len(self.nodes.places):
            score = self.scores[:, :, rows]
            top = score.amax(1, keepdim=True)
            top = torch.where(top.isinf(), 0.0, top)
            belief[self.nodes.places] *= (score - top).exp_().mT
            log += top.sum((0, 1))
        return belief, log

    def scale(self, belief: Tensor) -> Tensor:
        """Divide by the mean over states, in place; returns the logs ``(B,)`` of what was taken out."""
        mean = belief.mean(-1, keepdim=True)
        belief.div_(mean.clamp_min(self.tiny))
        return mean[..., 0].log().sum(0, dtype=torch.float64)

    def down(self, belief: Tensor, message: Tensor, total: Tensor, weight: Tensor) -> Iterator[tuple[Level, Tensor]]:
        """Turn beliefs into expected states, in place, top level first.

        Yields every level below the root before it is turned, with what its nodes' parents expect of them.
        """
        share = torch.where(total > 0, weight / total, 0.0)
        belief[0].mul_(self.root).mul_(share[:, None])
        start = 0
        for level in self.levels[1:]:
            pull = belief.index_select(0, level.parent + start)
            pull.div_(message[level.start : level.end].clamp_min_(self.tiny))
            yield level, pull
            edges = self.A[level.start - 1 : level.end - 1]
            belief[level.start : level.end].mul_(torch.bmm(pull, edges))
            start = level.start


class Counts:
    """Expected counts, added up over blocks of rows that count ``weight`` (N,) times each."""

    def __init__(self, passes: Passes, weight: Tensor | None = None) -> None:
        self.passes = passes
        self.weight = passes.root.new_ones(len(passes.nodes)) if weight is None else weight
        self.root, self.edges = torch.zeros_like(passes.root), torch.zeros_like(passes.A)
        self.table, self.scores = torch.zeros_like(passes.table), torch.zeros_like(passes.scores)

    def add(self, rows: slice, belief: Tensor, message: Tensor, total: Tensor) -> None:
        """One block; uses up its beliefs and messages."""
        for level, pull in self.passes.down(belief, message, total, self.weight[rows]):
            below = belief[level.start : level.end]
            self.edges[level.start - 1 : level.end - 1].baddbmm_(pull.mT, below)
        nodes = self.passes.nodes
        self.root += belief[0].sum(0)
        self.table.index_add_(0, nodes.index[rows].mT.flatten(), belief.flatten(0, 1))
        if len(nodes.places):
            self.scores[:, :, rows] = belief[nodes.places].mT

    def gradients(self) -> list[Tensor]:
        """With respect to log potentials."""
        return [self.root, self.edges.mul_(self.passes.A), self.table, self.scores]


# ------------------------------------------------------------------------------------------------------ log space
def in_log_space(
    root: Tensor, transition: Tensor, table: Tensor, scores: Tensor, nodes: Nodes, rows: Tensor
) -> Tensor:
    """The same log evidence of some rows by sums of logarithms: slow, never underflows, differentiable again."""
    belief = list(table[nodes.index[rows]].unbind(1))  # (B, K) each
    for number, place in enumerate(nodes.places.tolist()):
        belief[place] = belief[place] + scores[number][:, rows].mT
    shape = nodes.shape
    for node in reversed(shape.order.tolist()[1:]):
        place, above = int(shape.place[node]), int(shape.place[shape.parents[node]])
        joint = belief[place][:, None, :] + transition[place - 1]  # (B, K, K)
        belief[above] = belief[above] + log_sum_exp(joint.movedim(-1, 0))
    return log_sum_exp((belief[0] + root).mT)


# --------------------------------------------------------------------------------------------------------- draws
def draw_states(
    root: Tensor, transition: Tensor, table: Tensor, scores: Tensor, nodes: Nodes, uniform: Tensor
) -> Tensor:
    """States ``(N, D)`` given what is known of the rows, from uniform numbers ``(N, D)``: down from the root."""
    passes, levels = Passes(root, transition, table, scores, nodes), nodes.shape.levels
    out = torch.empty(uniform.shape, dtype=torch.long, device=uniform.device)
    for rows in passes.blocks():
        belief, _, _ = passes.beliefs(rows)
        u, drawn, start = uniform[rows].mT, out[rows].mT, 0
        drawn[:1] = inverted(belief[:1] * passes.root, u[:1])
        for level in levels[1:]:
            above = drawn[level.parent + start]
            edge = torch.arange(level.start - 1, level.end - 1, device=u.device)[:, None]
            weight = passes.A[edge, above].mul_(belief[level.start : level.end])
            drawn[level.start : level.end] = inverted(weight, u[level.start : level.end])
            start = level.start
    return out


def inverted(weight: Tensor, uniform: Tensor) -> Tensor:
    """Codes with probabilities proportional to the last axis of ``weight``."""
    total = weight.cumsum(-1)
    return (total <= uniform[..., None] * total[..., -1:]).sum(-1).clamp_max(weight.shape[-1] - 1)
