"""Rows with unknown cells on trees: their log densities, and the expected counts of all pairs of levels as gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from probgen.families.level_pairs import Levels
from probgen.families.trees import Beliefs, branch_by_branch
from probgen.native import call, library, takes

__all__ = ["HoledRows", "hole_scores"]

NUMBERS = 2**21  # of one temporary, 16 MB
COVARIANCES = 2**24  # of all that are kept at once, 128 MB


@dataclass(frozen=True, eq=False)
class HoledRows:
    """Rows with unknown cells.

    Attributes:
        x: ``(N, D)`` codes, NaN where unknown.
        levels: of the columns.
    """

    x: Tensor
    levels: Levels

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def codes(self) -> Tensor:
        """``(N, D)`` whole numbers, -1 where unknown."""
        return torch.where(self.x.isnan(), -1.0, self.x).to(torch.int32)

    def evidence(self) -> Tensor:
        """``(1, D, C, N)``: 1 for the levels that a cell may have."""
        code = torch.arange(self.levels.most, device=self.x.device)[:, None]
        x = self.x.mT[:, None]
        there = (self.levels.slot < self.levels.total).to(x.device)[:, :, None]
        return (((x == code) | x.isnan()) & there).to(x.dtype)[None]

    def blocks(self) -> Iterator[HoledRows]:
        """As many rows at once as there is room for."""
        levels, unknown = self.levels, float(self.x.isnan().sum()) / len(self)
        tall = max(levels.columns * levels.most / NUMBERS, unknown * levels.most * levels.indicators / COVARIANCES)
        for block in self.x.split(max(1, int(1 / tall))):
            yield HoledRows(block, levels)

    def beliefs(self, tables: Tensor, parents: Tensor) -> Iterator[tuple[slice, Beliefs]]:
        """Some trees at once."""
        evidence = self.evidence()
        size = max(1, NUMBERS // evidence.numel())
        for at in range(0, len(tables), size):
            part = slice(at, at + size)
            yield part, Beliefs(tables[part], parents[part], evidence)


def hole_scores(
    constant: Tensor, pairs: Tensor, unknown: Tensor, tables: Tensor, parents: Tensor, rows: HoledRows
) -> Tensor:
    """``(K, N)`` log densities of the known cells.

    Args:
        constant, pairs, unknown: ``(K,)``, ``(K, M, M)`` and ``(K, W)``, whose gradients are the expected numbers of rows,
            co-occurrences of indicators, and levels of unknown cells.
        tables, parents: of the trees, as in :class:`Beliefs`.
        rows: the rows.
    """
    return HoleScores.apply(constant, pairs, unknown, tables, parents, rows)


class HoleScores(torch.autograd.Function):
    """Messages forward; marginals and covariances backward."""

    @staticmethod
    def forward(ctx: Any, constant: Tensor, pairs: Tensor, unknown: Tensor, *tree: Any) -> Tensor:  # type: ignore[override]
        ctx.tree = tables, parents, rows = tree
        ctx.shapes = constant.shape, pairs.shape, unknown.shape
        if takes("trees", tables):
            return compiled_scores(tables, parents, rows)
        found = [
            torch.cat([beliefs.log_evidence for _, beliefs in block.beliefs(tables, parents)])
            for block in rows.blocks()
        ]
        return torch.cat(found, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise RuntimeError("scores of trees have no second derivative")  # callers that need one do not come here
        (tables, parents, rows), at = ctx.tree, 0
        constant, pairs, unknown = (gradient.new_zeros(shape) for shape in ctx.shapes)
        if takes("trees", tables):
            compiled_counts(tables, parents, rows, gradient.contiguous(), pairs, unknown)
            return gradient.sum(1), pairs, unknown, None, None, None
        for block in rows.blocks():
            weight = gradient[:, at : at + len(block)]
            at += len(block)
            for part, beliefs in block.beliefs(tables, parents):
                counts = ExpectedCounts(beliefs, block, weight[part])
                constant[part] += weight[part].sum(1)
                unknown[part] += counts.unknown()
                pairs[part] += counts.pairs()
        return constant, pairs, unknown, None, None, None


def compiled_scores(tables: Tensor, parents: Tensor, rows: HoledRows) -> Tensor:
    """``(K, N)`` log densities by compiled loops."""
    (K, D, C), sizes = tables.shape[:3], torch.tensor(rows.levels.sizes)
    order, found = torch.tensor([branch_by_branch(tree) for tree in parents.tolist()]), tables.new_empty(K, len(rows))
    forward = library("trees").forward  # type: ignore[union-attr]
    call(forward, len(rows), K, D, C, rows.codes, sizes, order, parents.contiguous(), tables.contiguous(), found)
    return found


def compiled_counts(
    tables: Tensor, parents: Tensor, rows: HoledRows, weight: Tensor, pairs: Tensor, unknown: Tensor
) -> None:
    """Write expected counts, weighted by ``(K, N)``, over zeros ``(K, M, M)`` and ``(K, W)`` by compiled loops."""
    (K, D, C), levels = tables.shape[:3], rows.levels
    places = torch.tensor(levels.sizes), torch.tensor(levels.starts), levels.first
    order = torch.tensor([branch_by_branch(tree) for tree in parents.tolist()])
    backward, counts = library("trees").backward, (levels.indicators, levels.total)  # type: ignore[union-attr]
    trees = order, parents.contiguous(), tables.contiguous()
    call(backward, len(rows), K, D, C, *counts, rows.codes, *places, *trees, weight, pairs, unknown)
    pairs += pairs.triu(1).mT


class ExpectedCounts:
    """Weighted sums over rows of what some trees expect of the cells.

    Args:
        beliefs: of G trees.
        rows: N rows.
        weight: ``(G, N)``.
    """

    def __init__(self, beliefs: Beliefs, rows: HoledRows, weight: Tensor) -> None:
        self.beliefs, self.levels, self.weight = beliefs, rows.levels, weight
        self.hole = rows.x.isnan().mT  # (D, N)
        self.rank = self.hole.cumsum(1) - 1
        self.rows = [column.nonzero()[:, 0] for column in self.hole]
        self.marginals = beliefs.marginals()

    def unknown(self) -> Tensor:
        """``(G, W)`` of levels of unknown cells."""
        total = (self.marginals * self.hole[:, None]) @ self.weight[:, None, :, None]
        return total[:, self.levels.column, self.levels.code, 0]

    def pairs(self) -> Tensor:
        """``(G, M, M)`` of co-occurrences of indicators."""
        levels = self.levels
        column, code = levels.column[levels.later], levels.code[levels.later]
        found = []
        for graph, weight in enumerate(self.weight):
            z = self.marginals[graph, column, code]
            found.append(self.add_covariances((z * weight) @ z.mT, graph))
        return torch.stack(found)

    def add_covariances(self, total: Tensor, graph: int) -> Tensor:
        """Products of means become expectations of products: covariances of cells that only unknown ones part.

        Branch after branch, the covariances of a cell with all before it are those of its parent times a matrix of
        regression. Between a cell and its parent stand only cells below the parent, which it has been told of.
        """
        parents = self.beliefs.parents[graph].tolist()
        linked = {child for child, parent in enumerate(parents) if parent >= 0 and self.both(child, parent).any()}
        inner, kept = linked | {parents[child] for child in linked}, {}
        for child in branch_by_branch(parents):
            rows = self.rows[child]
            if not len(rows):
                continue
            place, own = self.levels.places(child), self.variance(graph, child, rows)
            total[place, place] += torch.einsum("n,nij->ij", self.weight[graph, rows], own)
            if child not in inner:
                continue
            kept[child] = own.new_zeros(len(rows), own.shape[1], len(total))
            if child in linked:
                both = rows[self.hole[parents[child], rows]]
                after = (
                    self.slope(graph, child, parents[child], both)
                    @ kept[parents[child]][self.at(parents[child], both)]
                )
                kept[child][self.at(child, both)] = after
                added = torch.einsum("n,nij->ij", self.weight[graph, both], after)
                total[place] += added
                total[:, place] += added.mT
                self.tell(kept, parents, child, both)
            kept[child][:, :, place] = own
        return total

    def tell(self, kept: dict[int, Tensor], parents: list[int], child: int, rows: Tensor) -> None:
        """Let the cells above have their covariances with a new one, as far as unknown cells go up in some of the rows."""
        above = parents[child]
        while above >= 0 and len(rows):
            found = kept[child][self.at(child, rows)][:, :, self.levels.places(above)]
            kept[above][self.at(above, rows), :, self.levels.places(child)] = found.mT
            above = parents[above]
            rows = rows[self.hole[above, rows]]

    def at(self, column: int, rows: Tensor) -> Tensor:
        """Places of rows among those in which a column is unknown."""
        return self.rank[column, rows]

    def both(self, child: int, parent: int) -> Tensor:
        """``(N,)``: rows in which both cells are unknown."""
        return self.hole[child] & self.hole[parent]

    def variance(self, graph: int, column: int, rows: Tensor) -> Tensor:
        """``(n, L - 1, L - 1)`` covariances of one cell's indicators."""
        mean = self.marginals[graph, column, 1 : self.levels.sizes[column]][:, rows].mT
        return torch.diag_embed(mean) - mean[:, :, None] * mean[:, None]

    def slope(self, graph: int, child: int, parent: int, rows: Tensor) -> Tensor:
        """``(n, L - 1, L' - 1)``: by how much a level of the parent's other than the first moves the child's."""
        given = self.beliefs.conditional(graph, child, rows)
        given = given[:, 1 : self.levels.sizes[child], : self.levels.sizes[parent]]
        return given[:, :, 1:] - given[:, :, :1]
