r"""Cells of a row as numbers on the line: measures as they are, levels and counts as random numbers that stand for them.

.. math::
    q(u \mid x) \propto \varphi(u)\, [u \text{ is written as } x], \qquad
    \log p(x) = \log \int_{u \to x} p(u)\, \mathrm d u \ge \mathbb E_q \bigl[\log p(u) - \log q(u \mid x)\bigr]

A level or a count is an interval of a standard normal number, a category the greatest of as many numbers as there are levels (Hoogeboom et al., 2021). No
number is written as two cells, so the bound is the density itself where p is the distribution that such numbers of rows have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.special import log_ndtr, ndtr, ndtri

from probgen.data.batches import first_rows
from probgen.data.schema import Column, Schema
from probgen.families.columns import GAUSSIAN_LINKS
from probgen.families.flows.known import Known
from probgen.families.flows.numbers import Numbers
from probgen.families.noised_cells import alike

__all__ = ["DequantisedCells"]

ROWS = 2**17  # that scales are learnt from
FAR = 8.0  # beyond which numbers of an interval are spread evenly
LEAST = 1e-6  # of a probability


class DequantisedCells(nn.Module):
    """The columns of a schema as F numbers a row.

    Args:
        schema: the columns, D of them.

    Example:
        >>> cells = DequantisedCells(Schema((Column("a", "real"), Column("b", "categorical", levels=("u", "v", "w")))))
        >>> cells.width, cells.stepped
        (4, True)
        >>> numbers, _ = cells.read(torch.tensor([[0.3, 2.0]]), torch.full((1, 4), 0.5))
        >>> [round(cell, 3) for cell in cells.write(numbers)[0].tolist()]
        [0.3, 2.0]
    """

    def __init__(self, schema: Schema | Iterable[Column]) -> None:
        super().__init__()
        columns = list(schema)
        self.numbers = Numbers(columns)
        self.width, self.owner = self.numbers.size, self.numbers.owner
        self.stepped = any(column.kind not in GAUSSIAN_LINKS for column in columns)
        rivals = [column.cardinality if column.kind == "categorical" else 1 for column in columns]
        self.register_buffer("rivals", torch.tensor(rivals)[self.owner], persistent=False)  # numbers of a choice
        self.rivals: Tensor
        self.register_buffer("block", torch.tensor(alike(columns)), persistent=False)  # of columns that are alike
        self.block: Tensor

    @property
    def said(self) -> Tensor:
        """The column of everything that a network says: a number for each of theirs."""
        return self.owner

    def learn(self, batches: Any) -> None:
        """Places and scales from the first training rows."""
        self.numbers.learn(first_rows(batches.pieces(), ROWS)[0])

    def read(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of cells ``(B, D)`` at probabilities ``(..., B, F)``, and the logarithms of their densities, 0 where cells leave no choice."""
        known: Known = self.numbers.read(x)
        p = v.double().clamp(LEAST, 1 - LEAST)
        drawn, log_q = interval(known.low.double(), known.high.double(), p)
        if bool((self.rivals > 1).any()):
            top = p ** (1.0 / self.rivals)  # the chance that all rivals are below
            share = torch.where(known.follows, p * top.gather(-1, known.winner.expand(p.shape)), top)
            choice, chosen = self.rivals > 1, ndtri(share)
            drawn = torch.where(choice, chosen, drawn)
            log_q = torch.where(choice, log_normal(chosen) + self.rivals.double().log() / self.rivals, log_q)
        return torch.where(known.closed, known.point, drawn.to(v)), log_q.masked_fill(known.closed, 0.0).to(v)

    def usual(self, x: Tensor) -> Tensor:
        """``(B, F)``: the numbers in the middle of what cells leave open."""
        return self.read(x, x.new_full((len(x), self.width), 0.5))[0]

    def log_slope(self, x: Tensor, counted: Tensor) -> Tensor:
        """``(B,)``: of numbers by cells, over the counted cells ``(B, D)``."""
        return self.numbers.read(x.masked_fill(~counted, torch.nan)).log_slope

    def write(self, u: Tensor) -> Tensor:
        """Cells ``(..., D)`` of numbers ``(..., F)``."""
        return self.numbers.write(u)


def log_normal(u: Tensor) -> Tensor:
    return -0.5 * u.square() - 0.5 * math.log(2 * math.pi)


def interval(low: Tensor, high: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Quantiles of a standard normal number between two ends, and their log density.

    Where it hardly ever is, numbers are spread evenly, from an end without a counterpart on for a length of 1.
    """
    swap = low > 0  # small probabilities are precise, those near 1 are not
    low, high, p = torch.where(swap, -high, low), torch.where(swap, -low, high), torch.where(swap, 1 - p, p)
    far = high < -FAR
    below, above = torch.where(low.isinf(), high - 1.0, low).where(far, -1.0), high.where(far, 1.0)
    low, high = low.masked_fill(far, -torch.inf), high.masked_fill(far, torch.inf)
    u = torch.where(far, below + p * (above - below), ndtri(ndtr(low) + p * (ndtr(high) - ndtr(low))))
    inner = (-torch.expm1((log_ndtr(low) - log_ndtr(high)).clamp(max=-1e-12))).log().masked_fill(low.isinf(), 0.0)
    log_q = torch.where(far, -(above - below).log(), log_normal(u) - log_ndtr(high) - inner)
    return torch.where(swap, -u, u), log_q
