r"""Pairs of levels of discrete columns: scores that are quadratic in indicators, and counts as their gradient.

.. math:: s_k(x) = c_k + z(x)^\top Q_k\, z(x), \qquad \partial s_k / \partial Q_k = z z^\top

z holds an indicator of every level but the first of each column, M in all. Rows are sparse in them, and the compiled
loops take only the pairs that are there; without a compiler everything is a matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from probgen.native import call, library, takes

__all__ = ["CompleteRows", "Levels", "pair_scores"]

NUMBERS = 2**18  # of one temporary: it stays in the cache


class Levels:
    """Where the levels of D columns stand, side by side.

    Args:
        sizes: the numbers of levels of the columns.

    Attributes:
        most: C, the largest of ``sizes``.
        total: W, their sum.
        slot: ``(D, C)`` place of each level among the W, which W itself stands for where a column has no such level.
        column, code: ``(W,)`` whose level it is, and which.
        first, later: ``(D,)`` and ``(M,)`` places of the first levels and of the others, which z holds.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        count = torch.tensor(sizes, device="cpu")
        self.sizes, self.columns, self.most, self.total = sizes, len(sizes), max(sizes), sum(sizes)
        self.first = count.cumsum(0) - count
        code = torch.arange(self.most, device="cpu")
        self.slot = torch.where(code < count[:, None], self.first[:, None] + code, self.total)
        self.column = torch.arange(len(sizes), device="cpu").repeat_interleave(count)
        self.code = torch.arange(self.total, device="cpu") - self.first[self.column]
        self.later = torch.nonzero(self.code)[:, 0]
        self.starts = (self.first - torch.arange(len(sizes), device="cpu")).tolist()

    @property
    def indicators(self) -> int:
        """M."""
        return self.total - self.columns

    def places(self, column: int) -> slice:
        """A column's places in z."""
        return slice(self.starts[column], self.starts[column] + self.sizes[column] - 1)

    def one_hot(self, x: Tensor) -> Tensor:
        """``(..., D)`` codes as a mask ``(..., W)``; unknown cells have no level."""
        return x[..., self.column] == self.code.to(x)

    def all_levels(self, z: Tensor) -> Tensor:
        """``(..., W)`` indicators of all levels from ``(..., M + 1)``, which are 1 (or a count) and z."""
        found = z.new_zeros(*z.shape[:-1], self.total)
        found[..., self.later] = z[..., 1:]
        rest = z.new_zeros(*z.shape[:-1], self.columns).index_add(-1, self.column.to(z.device), found)
        found[..., self.first] = z[..., :1] - rest
        return found

    def weights(self, w: Tensor) -> Tensor:
        """``(..., M + 1)`` weights of 1 and z from those of all levels ``(..., W)``: the transpose of that."""
        base = w[..., self.first]
        return torch.cat([base.sum(-1, keepdim=True), w[..., self.later] - base[..., self.column[self.later]]], -1)


@dataclass(frozen=True, eq=False)
class CompleteRows:
    """Complete rows as their indicators.

    Attributes:
        z: ``(N, M)`` mask.
        dtype: of the numbers made of it.
    """

    z: Tensor
    dtype: torch.dtype

    def __len__(self) -> int:
        return len(self.z)

    @cached_property
    def lists(self) -> tuple[Tensor, Tensor]:
        """Where each row's ones begin, ``(N + 1,)``, and their places: for compiled loops."""
        starts = torch.cat([torch.zeros(1, dtype=torch.long), self.z.sum(1).cumsum(0)])
        return starts, torch.nonzero(self.z)[:, 1].to(torch.int32)

    @cached_property
    def blocks(self) -> list[Tensor]:
        """``(M, n)`` numbers, some rows at a time: for matrix products."""
        size = max(1, NUMBERS // max(self.z.shape[1], 1))
        return [block.mT.contiguous() for block in self.z.to(self.dtype).split(size)]


def pair_scores(constant: Tensor, pairs: Tensor, rows: CompleteRows) -> Tensor:
    """``(K, N)``: constants ``(K,)`` plus quadratic forms ``(K, M, M)`` of the rows' indicators."""
    return constant[:, None] + PairScores.apply(pairs, rows)


class PairScores(torch.autograd.Function):
    """Its gradient with respect to the forms is the weighted co-occurrence of indicators."""

    @staticmethod
    def forward(ctx: Any, pairs: Tensor, rows: CompleteRows) -> Tensor:  # type: ignore[override]
        ctx.rows = rows
        if takes("pairs", pairs) and pairs.shape[1]:
            return by_lists(pairs, rows)
        return torch.cat([torch.stack([((Q @ z) * z).sum(0) for Q in pairs]) for z in rows.blocks], 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise RuntimeError("scores of pairs have no second derivative")  # callers that need one do not come here
        M = ctx.rows.z.shape[1]
        if takes("pairs", gradient) and M:
            return counts_by_lists(gradient, ctx.rows), None
        found, at = gradient.new_zeros(len(gradient), M, M), 0
        for z in ctx.rows.blocks:
            for total, weight in zip(found, gradient[:, at : at + z.shape[1]], strict=True):
                total.addmm_(z * weight, z.mT)
            at += z.shape[1]
        return found, None


def by_lists(pairs: Tensor, rows: CompleteRows) -> Tensor:
    """``(K, N)`` quadratic forms in compiled loops."""
    (K, M), (starts, on), lanes = pairs.shape[:2], rows.lists, library("pairs").lanes()  # type: ignore[union-attr]
    i, j = torch.triu_indices(M, M)
    upper = pairs[:, i, j] + torch.where(i < j, pairs[:, j, i], 0.0)
    blocks = -(-K // lanes)
    tables = upper.new_zeros(blocks * lanes, len(i))
    tables[:K] = upper
    tables = tables.reshape(blocks, lanes, len(i)).mT.contiguous()
    out = upper.new_empty(len(rows), blocks * lanes)
    call(library("pairs").forward, len(rows), M, blocks, starts, on, tables, out)  # type: ignore[union-attr]
    return out[:, :K].mT


def counts_by_lists(gradient: Tensor, rows: CompleteRows) -> Tensor:
    """``(K, M, M)`` co-occurrences weighted by ``(K, N)``, in compiled loops."""
    K, M, (starts, on), lanes = len(gradient), rows.z.shape[1], rows.lists, library("pairs").lanes()  # type: ignore[union-attr]
    i, j = torch.triu_indices(M, M)
    blocks = -(-K // lanes)
    weight = gradient.new_zeros(len(rows), blocks * lanes)
    weight[:, :K] = gradient.mT
    tables = gradient.new_zeros(blocks, len(i), lanes)
    call(library("pairs").backward, len(rows), M, blocks, starts, on, weight, tables)  # type: ignore[union-attr]
    upper = tables.mT.reshape(blocks * lanes, len(i))[:K]
    found = gradient.new_zeros(K, M, M)
    found[:, j, i] = upper
    found[:, i, j] = upper
    return found
