r"""Trees of discrete states: the log evidence of rows, expected counts, and draws of all states.

.. math:: \log p(x) = \log \sum_h \pi_{h_r} \prod_{d \ne r} A_{d, h_{\mathrm{parent}(d)} h_d} \prod_d e^{s_{d h_d}}

Beliefs go up the tree in probability space, a level at a time: one batched matrix product for all nodes of a level, and
one scale for every node. A leaf whose column has L levels sends one of L + 1 messages, which are looked up. The gradient with respect to (log pi, log A, s) is the expected counts, by one pass back down.
Rows go through in blocks, so that memory holds beliefs of few rows only; rows that underflow are done again in log space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probgen.families.hidden_tree import Level, TreeShape
from probgen.inference.log_sum import log_sum_exp

__all__ = ["Nodes", "block_rows", "draw_states", "tree_evidence"]

NUMBERS = 2**22  # beliefs of a block of rows
OFTEN = 4  # messages that are multiplied before the product is scaled again


@dataclass(frozen=True, eq=False)
class Nodes:
    """What the N rows of data say of D nodes, which stand in the order of ``shape``.

    Attributes:
        index: ``(N, D)`` which row of a table of log probabilities holds for a cell.
        owner: ``(R, 2)`` node and level of each of these rows; level L, the most there are, of the last one, which is for
            unknown cells.
        places: ``(P,)`` nodes that have scores besides.
    """

    shape: TreeShape
    index: Tensor
    owner: Tensor
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
        root, transition, table, scores = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants to differentiate again
            every = torch.arange(len(ctx.nodes), device=root.device)
            rows = in_log_space(root, transition, table, scores, ctx.nodes, every)
            options = {"create_graph": True, "allow_unused": True, "materialize_grads": True}
            return *torch.autograd.grad(rows, ctx.saved_tensors, gradient, **options), None, None
        if ctx.counts is not None and bool((gradient == gradient[0]).all()):
            found = [value * gradient[0] for value in ctx.counts.gradients()]
        else:
            passes = Passes(root, transition, table, scores, ctx.nodes)
            counts = Counts(passes, gradient.index_fill(0, ctx.weak, 0.0))
            passes.up(counts)
            found = counts.gradients()
        if len(ctx.weak):
            found = with_weak(ctx, gradient, found)
        return *found, None, None


def with_weak(ctx: Any, gradient: Tensor, found: list[Tensor]) -> list[Tensor]:
    """Add the counts of rows that were done in log space."""
    with torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in ctx.saved_tensors]
        root, transition, table, scores = leaves
        rows = in_log_space(root, transition, table, scores, ctx.nodes, ctx.weak)
        extra = torch.autograd.grad(rows, leaves, gradient[ctx.weak], allow_unused=True, materialize_grads=True)
    return [one + other for one, other in zip(found, extra, strict=True)]


# --------------------------------------------------------------------------------------------------------- passes
def block_rows(nodes: int, states: int) -> int:
    """Rows a block: few enough for its beliefs to stay near the processor, enough for full matrix products."""
    return max(NUMBERS // (nodes * states), states, 64)


class Passes:
    """Probabilities of one tree, and the passes over its rows.

    Args:
        whole: plain leaves have beliefs like all other nodes, in place of messages that are looked up.
    """

    def __init__(
        self, root: Tensor, transition: Tensor, table: Tensor, scores: Tensor, nodes: Nodes, whole: bool = False
    ) -> None:
        self.root, self.A = root.exp(), transition.exp()
        top = table.amax(1, keepdim=True)
        top = torch.where(top.isinf(), 0.0, top)
        self.table, self.top = (table - top).exp_(), top[:, 0].double()
        self.scores, self.nodes, self.tiny, self.states = scores, nodes, torch.finfo(root.dtype).tiny, len(root)
        inner, D = nodes.shape.inner, nodes.index.shape[1]
        whole = whole or inner == D or bool((nodes.places >= inner).any())
        self.inner, self.levels = (D, nodes.shape.levels) if whole else (inner, nodes.shape.levels[:-1])
        self.leaves = None if whole else Leaves(self)
        size = min(block_rows(D, self.states), len(nodes))
        self.blocks = [slice(at, at + size) for at in range(0, len(nodes), max(size, 1))]
        least = min((float(value.amin()) for value in (self.root, self.A) if value.numel()), default=1.0)
        self.careful = least < self.tiny**0.25  # elsewhere no state that was lost can come back
        self.memory = [root.new_empty(count * size * self.states) for count in (self.inner, D, D)]

    def buffer(self, number: int, nodes: int, rows: int) -> Tensor:
        """``(nodes, rows, K)`` in memory that is used again and again."""
        return self.memory[number][: nodes * rows * self.states].view(nodes, rows, self.states)

    def up(self, counts: Counts | None = None) -> Tensor:
        """``(N,)`` log evidence, not finite where rows underflow; counts, where wanted, grow by those of every block."""
        found = [self.root.new_zeros(0, dtype=torch.float64)]
        for rows in self.blocks:
            lost = self.lost(rows) if self.careful else False
            belief, message, log = self.beliefs(rows)
            total = (belief[0] @ self.root[:, None])[:, 0].masked_fill(~log.isfinite() | lost, 0.0)
            found.append(log + total.double().log())
            if counts is not None:
                counts.add(rows, belief, message, total)
        return torch.cat(found)

    def beliefs(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled beliefs ``(I, B, K)`` of nodes in what is below them, messages up, and the logs ``(B,)`` taken out."""
        belief, message, log = self.cells(rows)
        size = belief.shape[1]
        for level in reversed(self.levels):
            now = belief[level.start : level.end]
            for rank, (count, child) in enumerate(level.ranks):
                now[:count].mul_(torch.index_select(message, 0, child, out=self.buffer(2, count, size)))
                if rank % OFTEN == OFTEN - 1:
                    log += self.scale(now[:count])
            log += self.scale(now)
            if level.start:
                torch.bmm(now, self.edges(level).mT, out=message[level.start : level.end])
        return belief, message, log

    def lost(self, rows: slice) -> Tensor:
        """``(B,)``: rows with a state whose belief may have been lost, and which what is above it calls for."""
        belief, message, _ = self.beliefs(rows)
        total = (belief[0] @ self.root[:, None]).clamp_min(self.tiny)
        expected, found = self.root / total, belief.new_zeros(belief.shape[1], dtype=torch.bool)
        least = self.tiny**0.5
        most = torch.finfo(belief.dtype).eps / least
        for level in self.levels:
            now = belief[level.start : level.end]
            if level.start:
                expected = torch.bmm(self.pull(belief, message, level), self.edges(level))
            found |= ((now < least) & ~(expected < most)).any(-1).any(0)
            now.mul_(expected)
        return found

    def edges(self, level: Level) -> Tensor:
        """``(n, K, K)`` probabilities of a level's states given their parents'."""
        return self.A[level.start - 1 : level.end - 1]

    def cells(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """What each cell says of its node, ``(I, B, K)``, room for messages ``(D, B, K)`` with those of the leaves, logs."""
        index = self.nodes.index[rows].mT
        D, B = index.shape
        belief, message = self.buffer(0, self.inner, B), self.buffer(1, D, B)
        torch.index_select(self.table, 0, index[: self.inner].flatten(), out=belief.flatten(0, 1))
        log = self.top[index].sum(0)
        if self.leaves is not None:
            log += self.leaves.send(index[self.inner :], message[self.inner :])
        if len(self.nodes.places):
            score = self.scores[:, :, rows]
            top = score.amax(1, keepdim=True)
            top = torch.where(top.isinf(), 0.0, top)
            belief[self.nodes.places] *= (score - top).exp_().mT
            log += top.sum((0, 1))
        return belief, message, log

    def scale(self, belief: Tensor) -> Tensor:
        """Divide by the mean over states, in place; returns the logs ``(B,)`` of what was taken out."""
        mean = belief.mean(-1, keepdim=True)
        belief.div_(mean.clamp_min(self.tiny))
        return self.trusted(mean[..., 0]).sum(0, dtype=torch.float64)

    def trusted(self, mean: Tensor) -> Tensor:
        """Logs of scales; -inf where one is so small that states beside it may have been lost."""
        return torch.where(mean > self.tiny**0.5, mean, 0.0).log()

    def pull(self, belief: Tensor, message: Tensor, level: Level) -> Tensor:
        """``(n, B, K)``: what the parents of a level's nodes expect of their states, per unit of the messages up."""
        found = self.buffer(2, level.end - level.start, belief.shape[1])
        torch.index_select(belief, 0, level.parent, out=found)
        return found.div_(message[level.start : level.end].clamp_min_(self.tiny))


class Leaves:
    """Plain leaves: each sends one of few messages, and expects of its states what depends on its level only."""

    def __init__(self, passes: Passes) -> None:
        nodes, table = passes.nodes, passes.table
        self.level = nodes.shape.levels[-1]
        self.A, count = passes.edges(self.level), self.level.end - self.level.start
        node, level = nodes.owner.unbind(1)
        self.slot, self.slots = level, int(level[-1]) + 1
        self.rows = torch.nonzero(node[:-1] >= self.level.start)[:, 0]
        self.place = (node[self.rows] - self.level.start) * self.slots + level[self.rows]
        cells = torch.ones_like(table[:1]).repeat(count * self.slots, 1).index_copy_(0, self.place, table[self.rows])
        message = torch.bmm(cells.unflatten(0, (count, -1)), self.A.mT)
        mean = message.mean(-1, keepdim=True)
        self.cells = cells.unflatten(0, (count, -1)) / mean.clamp_min(passes.tiny)
        self.message = (message / mean.clamp_min(passes.tiny)).flatten(0, 1)
        self.log = passes.trusted(mean).double().flatten()
        self.first = self.slots * torch.arange(count, device=table.device)[:, None]

    def index(self, index: Tensor) -> Tensor:
        """``(Q B,)``: which message each leaf sends."""
        return (self.slot[index] + self.first).flatten()

    def send(self, index: Tensor, message: Tensor) -> Tensor:
        """Write the messages of a block; returns the logs ``(B,)`` that were taken out of them."""
        which = self.index(index)
        torch.index_select(self.message, 0, which, out=message.flatten(0, 1))
        return self.log[which].view(index.shape).sum(0)

    def gradients(self, pulled: Tensor) -> tuple[Tensor, Tensor]:
        """Counts of the leaves' edges and of their rows of the table, from what was pulled ``(Q L, K)``."""
        pulled = pulled.unflatten(0, (-1, self.slots))
        edges = torch.bmm(pulled.mT, self.cells)
        table = torch.bmm(pulled, self.A).mul_(self.cells)
        return edges, table.flatten(0, 1)[self.place]


class Counts:
    """Expected counts, added up over blocks of rows that count ``weight`` (N,) times each."""

    def __init__(self, passes: Passes, weight: Tensor | None = None) -> None:
        self.passes = passes
        self.weight = passes.root.new_ones(len(passes.nodes)) if weight is None else weight
        self.root, self.edges = torch.zeros_like(passes.root), torch.zeros_like(passes.A)
        self.table, self.scores = torch.zeros_like(passes.table), torch.zeros_like(passes.scores)
        self.pulled = None if passes.leaves is None else torch.zeros_like(passes.leaves.message)

    def add(self, rows: slice, belief: Tensor, message: Tensor, total: Tensor) -> None:
        """One block: turns beliefs into expected states, top level first, and counts them."""
        passes, nodes = self.passes, self.passes.nodes
        share = torch.where(total > 0, self.weight[rows] / total, 0.0)
        belief[0].mul_(passes.root).mul_(share[:, None])
        for level in passes.levels[1:]:
            pull, below = passes.pull(belief, message, level), belief[level.start : level.end]
            self.edges[level.start - 1 : level.end - 1].baddbmm_(pull.mT, below)
            below.mul_(torch.bmm(pull, passes.edges(level), out=message[level.start : level.end]))
        index = nodes.index[rows].mT
        self.root += belief[0].sum(0)
        self.table.index_add_(0, index[: passes.inner].flatten(), belief.flatten(0, 1))
        if passes.leaves is not None and self.pulled is not None:
            pull = passes.pull(belief, message, passes.leaves.level)
            self.pulled.index_add_(0, passes.leaves.index(index[passes.inner :]), pull.flatten(0, 1))
        if len(nodes.places):
            self.scores[:, :, rows] = belief[nodes.places].mT

    def gradients(self) -> list[Tensor]:
        """With respect to log potentials."""
        leaves = self.passes.leaves
        if leaves is not None and self.pulled is not None:
            edges, table = leaves.gradients(self.pulled)
            self.edges[leaves.level.start - 1 : leaves.level.end - 1] = edges
            self.table[leaves.rows] += table
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
    passes = Passes(root, transition, table, scores, nodes, whole=True)
    out = torch.empty(uniform.shape, dtype=torch.long, device=uniform.device)
    for rows in passes.blocks:
        belief, _, _ = passes.beliefs(rows)
        u, drawn = uniform[rows].mT, out[rows].mT
        drawn[:1] = inverted(belief[:1] * passes.root, u[:1])
        for level in passes.levels[1:]:
            edge = torch.arange(level.start - 1, level.end - 1, device=u.device)[:, None]
            weight = passes.A[edge, drawn[level.parent]].mul_(belief[level.start : level.end])
            drawn[level.start : level.end] = inverted(weight, u[level.start : level.end])
    return out


def inverted(weight: Tensor, uniform: Tensor) -> Tensor:
    """Codes with probabilities proportional to the last axis of ``weight``."""
    total = weight.cumsum(-1)
    return (total <= uniform[..., None] * total[..., -1:]).sum(-1).clamp_max(weight.shape[-1] - 1)
