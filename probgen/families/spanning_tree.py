r"""The tree that says most about how columns depend on each other (Chow and Liu, 1968).

.. math:: \max_{\text{trees}} \sum_{(c, d) \in \text{tree}} I(x_c; x_d)

Mutual information is that of the columns' codes, numbers being cut at their quantiles, over the rows that know both.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from probgen.data.schema import Column

__all__ = ["binned", "central_parents", "mutual_information", "spanning_tree"]

BINS = 8  # of a column without levels
PIECE = 2**24  # indicators in one temporary


def binned(x: Tensor, columns: list[Column]) -> tuple[Tensor, list[int]]:
    """Codes ``(N, D)``, -1 where unknown, and how many codes each column has."""
    codes, sizes = torch.full(x.shape, -1, dtype=torch.long, device=x.device), []
    for at, column in enumerate(columns):
        known = ~x[:, at].isnan()
        value = x[known, at]
        if column.is_discrete:
            codes[known, at] = value.long()
            sizes.append(len(column.levels))
            continue
        edges = torch.quantile(value[:PIECE], torch.linspace(0, 1, BINS + 1).to(value)[1:-1]).unique()
        codes[known, at] = torch.bucketize(value, edges, right=True)
        sizes.append(len(edges) + 1)
    return codes, sizes


def mutual_information(codes: Tensor, sizes: list[int], weights: Tensor) -> np.ndarray:
    """``(D, D)`` nats, of codes with these numbers of levels, -1 where unknown; rows count ``weights`` (N,) times."""
    owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(codes.device)
    level = torch.cat([torch.arange(size) for size in sizes]).to(codes.device)
    joint = weights.new_zeros(len(owner), len(owner), dtype=torch.float64)
    for some, weight in zip(*(v.split(max(1, PIECE // len(owner))) for v in (codes, weights)), strict=True):
        hot = (some[:, owner] == level).to(torch.float32)
        joint += hot.mT @ (hot * weight[:, None].to(hot))
    belongs = torch.nn.functional.one_hot(owner, len(sizes)).to(joint)
    margin = joint @ belongs  # (levels, D): counts of each level over the rows that know the other column
    total = belongs.mT @ margin
    alone = belongs.mT @ torch.special.xlogy(margin, margin)
    both = belongs.mT @ torch.special.xlogy(joint, joint) @ belongs
    found = (both - alone - alone.mT + torch.special.xlogy(total, total)) / total.clamp_min(1e-300)
    return found.clamp_min(0).cpu().numpy()


def spanning_tree(gain: np.ndarray) -> list[tuple[int, int]]:
    """Edges of the tree of largest total gain (Prim, 1957)."""
    outside, edges = np.ones(len(gain), dtype=bool), []
    outside[0] = False
    best, source = gain[0].copy(), np.zeros(len(gain), dtype=int)
    for _ in range(len(gain) - 1):
        new = int(np.where(outside, best, -np.inf).argmax())
        edges.append((int(source[new]), new))
        outside[new] = False
        better = gain[new] > best
        best, source = np.where(better, gain[new], best), np.where(better, new, source)
    return edges


def central_parents(edges: list[tuple[int, int]], size: int) -> list[int]:
    """The parent of every node, -1 for the root: the middle of a longest path, so that the tree is as low as it can be."""
    beside: list[list[int]] = [[] for _ in range(size)]
    for one, other in edges:
        beside[one].append(other)
        beside[other].append(one)
    end = walk(beside, walk(beside, 0)[0][-1])
    middle, steps = end[0][-1], 0
    while end[1][middle] >= 0:
        middle, steps = end[1][middle], steps + 1
    root = end[0][-1]
    for _ in range(steps // 2):
        root = end[1][root]
    return walk(beside, root)[1]


def walk(beside: list[list[int]], root: int) -> tuple[list[int], list[int]]:
    """Nodes in the order of their distance from the root, and the parent of each."""
    parent, order = [-1] * len(beside), [root]
    for node in order:
        for child in beside[node]:
            if child != parent[node]:
                parent[child] = node
                order.append(child)
    return order, parent
