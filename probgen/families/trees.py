"""Rooted trees over columns, many at once: maximum spanning trees, random ones, and sums over unknown cells on them.

A tree is the vector of its columns' parents, -1 at the root.
"""

from __future__ import annotations

import math

import networkx
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

__all__ = ["Beliefs", "UniformTrees", "branch_by_branch", "maximum_spanning_trees", "top_down"]


def maximum_spanning_trees(weight: Tensor) -> Tensor:
    """``(G, D)`` parents in the trees of greatest total weight, rooted at the first column (Prim, 1957).

    Args:
        weight: ``(G, D, D)``, symmetric.
    """
    G, D = weight.shape[:2]
    graph, outside = torch.arange(G, device=weight.device), torch.ones_like(weight[:, 0], dtype=torch.bool)
    parents = torch.zeros(G, D, dtype=torch.long, device=weight.device)
    parents[:, 0], outside[:, 0] = -1, False
    best = weight[:, 0].clone()
    for _ in range(D - 1):
        column = torch.where(outside, best, -torch.inf).argmax(1)
        outside[graph, column] = False
        reach = weight[graph, column]
        better = outside & (reach > best)
        best = torch.where(better, reach, best)
        parents = torch.where(better, column[:, None], parents)
    return parents


def top_down(parents: Tensor) -> Tensor:
    """``(G, D)`` columns of each tree in an order in which parents stand before their children."""
    up = torch.where(parents < 0, torch.arange(parents.shape[1], device=parents.device), parents)
    depth, step = (parents >= 0).long(), up
    for _ in range(max(1, math.ceil(math.log2(parents.shape[1] + 1)))):  # steps of twice the length every time
        depth, step = depth + depth.gather(1, step), step.gather(1, step)
    return depth.argsort(dim=1, stable=True)


def branch_by_branch(parents: list[int]) -> list[int]:
    """The columns of one tree, each after its parent and with all that stands below it before anything else."""
    children: dict[int, list[int]] = {}
    for child, parent in enumerate(parents):
        children.setdefault(parent, []).append(child)
    found, waiting = [], children[-1]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


class UniformTrees(TorchDistribution):
    """G independent trees over D columns, all labelled trees equally probable (Cayley, 1889), rooted at the first.

    A draw goes through its Prüfer sequence (1918).
    """

    arg_constraints: dict = {}

    def __init__(self, trees: int, columns: int) -> None:
        self.columns = columns
        super().__init__(torch.Size(), torch.Size([trees, columns]), validate_args=False)

    @constraints.dependent_property(is_discrete=True, event_dim=2)
    def support(self) -> constraints.Constraint:
        """A whole number a column."""
        return constraints.independent(constraints.integer_interval(-1, self.columns - 1), 2)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return torch.tensor([self.one() for _ in range(self.event_shape[0])])

    def one(self) -> list[int]:
        """The parents of one tree."""
        if self.columns < 3:
            return [-1, 0][: self.columns]
        code = torch.randint(self.columns, (self.columns - 2,)).tolist()
        found = [-1] * self.columns
        for child, parent in networkx.bfs_predecessors(networkx.from_prufer_sequence(code), 0):
            found[child] = parent
        return found

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.tensor(-self.event_shape[0] * max(self.columns - 2, 0) * math.log(self.columns))


class Beliefs:
    """Unknown cells summed out by messages from the leaves to the root, G trees and n rows at once.

    Args:
        tables: ``(G, D, C, C)`` probabilities of a column's level (first) given its parent's; the root's stand in the
            first column.
        parents: ``(G, D)``.
        evidence: ``(G or 1, D, C, n)``: 1 for levels that a cell may have, 0 for the others.

    Attributes:
        log_evidence: ``(G, n)``; hundreds below where a row is impossible, never NaN.
    """

    def __init__(self, tables: Tensor, parents: Tensor, evidence: Tensor) -> None:
        self.tables, self.parents, self.order = tables, parents, top_down(parents)
        self.tiny = torch.finfo(tables.dtype).tiny
        self.graph = torch.arange(len(tables), device=tables.device)
        self.below = evidence.expand(len(tables), *evidence.shape[1:]).clone()  # given the cells of each subtree
        self.log_evidence = self.upward()

    def edges(self) -> list[tuple[Tensor, Tensor]]:
        """A child ``(G,)`` and its parent of each tree, from the root down."""
        return [(child, self.parents[self.graph, child]) for child in self.order.T[1:]]

    def upward(self) -> Tensor:
        below, g = self.below, self.graph
        total = below.new_zeros(len(below), below.shape[-1])
        for child, parent in reversed(self.edges()):
            product = below[g, parent] * (self.tables[g, child].mT @ below[g, child])
            scale = product.amax(1).clamp_min(self.tiny)
            below[g, parent] = product / scale[:, None]
            total += scale.log()
        return total + self.root().sum(1).clamp_min(self.tiny).log()

    def root(self) -> Tensor:
        """``(G, C, n)`` unnormalised probabilities of the root's levels."""
        first = self.order[:, 0]
        return self.tables[self.graph, first][:, :, :1] * self.below[self.graph, first]

    def marginals(self) -> Tensor:
        """``(G, D, C, n)`` probabilities of every cell's levels given the known cells."""
        found, g, root = torch.zeros_like(self.below), self.graph, self.root()
        found[g, self.order[:, 0]] = root / root.sum(1, keepdim=True).clamp_min(self.tiny)
        for child, parent in self.edges():
            table, below = self.tables[g, child], self.below[g, child]
            message = (table.mT @ below).clamp_min(self.tiny)
            found[g, child] = below * (table @ (found[g, parent] / message))
        return found

    def conditional(self, graph: int, child: int, rows: Tensor) -> Tensor:
        """``(n, C, C)`` probabilities of a column's level given its parent's and the known cells, in one tree."""
        weight = self.tables[graph, child] * self.below[graph, child][:, rows].mT[:, :, None]
        return weight / weight.sum(1, keepdim=True).clamp_min(self.tiny)

    def draw(self) -> Tensor:
        """``(G, D, n)`` codes drawn given the known cells."""
        g, below = self.graph, self.below
        uniform = torch.rand_like(below[:, :, 0])
        codes = torch.zeros_like(uniform, dtype=torch.long)
        first = self.order[:, 0]
        codes[g, first] = invert(self.root(), uniform[g, first])
        for child, parent in self.edges():
            table, row = self.tables[g, child], codes[g, parent][:, None].expand(-1, below.shape[2], -1)
            codes[g, child] = invert(table.gather(2, row) * below[g, child], uniform[g, child])
        return codes


def invert(weight: Tensor, uniform: Tensor) -> Tensor:
    """``(G, n)`` codes from weights ``(G, C, n)`` and uniform numbers."""
    cumulative = weight.cumsum(1)
    passed = cumulative <= uniform[:, None] * cumulative[:, -1:]
    return passed.sum(1).clamp_max(weight.shape[1] - 1)
