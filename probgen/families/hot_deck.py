r"""Rows with holes as several complete rows: a fractional hot deck (Kim and Fuller, 2004).

A row with holes stands in as M rows of weight 1/M each. Every one takes its unknown cells, all together, from one
donor, drawn with probability proportional to the kernel between the known cells of the two. So each stays a
proper density, and the dependence between columns is kept, which a column's pooled estimate would wash out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probgen.errors import FitError
from probgen.families.base import Natural
from probgen.families.kernels import ProductKernel

__all__ = ["Deck", "hot_deck"]

POOL = 2000  # donors looked at for one pattern of holes
FEW = 50  # donors that are enough to choose from
CELLS = 2**22  # scores in one temporary


@dataclass
class Deck:
    """Complete rows.

    Attributes:
        centre: ``(K, A)``.
        weight: ``(K,)``.
        origin: ``(K, J)``, the rows of the table whose cells each of them has, its own first; -1 for none.
    """

    centre: Tensor
    weight: Tensor
    origin: Tensor


def hot_deck(kernel: ProductKernel, y: Tensor, weight: Tensor, width: Tensor, copies: int) -> Deck:
    """Complete the rows ``(N, A)``; the width ``(A,)`` says how near a donor has to be.

    A zero of a semicontinuous column has no amount. It is matched by the spike's kernel; its amount counts only
    where that kernel crosses over, and is that of a random positive row.
    """
    unknown = y.isnan()
    need = unknown & ~amounts_of_zeros(kernel, y)
    times = torch.where(need.any(1), copies, 1)
    source = torch.arange(len(y), device=y.device).repeat_interleave(times)
    deck = Deck(y[source].clone(), (weight / times)[source], source[:, None])
    if bool(need.any()):
        natural = kernel.natural(y.nan_to_num(), width, torch.ones_like(weight))
        patterns, of_row = torch.unique(need[source], dim=0, return_inverse=True)
        for number in range(int(not patterns[0].any()), len(patterns)):
            at = (of_row == number).nonzero()[:, 0]
            for together in groups(kernel, patterns[number], need):
                pool = able(kernel, need, ~patterns[number], together)
                chosen = donors(kernel, natural, y, weight, pool, source[at])
                take(deck, at, chosen, y, together)
    for axis in range(y.shape[1]):
        at = deck.centre[:, axis].isnan().nonzero()[:, 0]
        if len(at):
            own = (~unknown[:, axis]).nonzero()[:, 0]
            chosen = own[torch.multinomial(weight[own], len(at), replacement=True)]
            take(deck, at, chosen, y, torch.arange(y.shape[1], device=y.device) == axis)
    return deck


def amounts_of_zeros(kernel: ProductKernel, y: Tensor) -> Tensor:
    """Mask of the amounts that are not there because their column is zero."""
    mask = torch.zeros_like(y, dtype=torch.bool)
    names = [axis.column for axis in kernel.axes.lines]
    for at, axis in enumerate(kernel.axes.all):
        if axis.read == "spike":
            mask[:, names.index(axis.column)] = y[:, at] == 0
    return mask


def groups(kernel: ProductKernel, pattern: Tensor, need: Tensor) -> list[Tensor]:
    """The unknown axes of a pattern: all together where some row knows them all, else column by column."""
    if bool((~need[:, pattern]).all(1).any()):
        return [pattern]
    column = torch.tensor([axis.column for axis in kernel.axes.all], device=pattern.device)
    return [pattern & (column == number) for number in column[pattern].unique()]


def able(kernel: ProductKernel, need: Tensor, known: Tensor, together: Tensor) -> Tensor:
    """Rows that know the axes to be given, and of these the ones that lack fewest of the axes known to the receiver."""
    pool = (~need[:, together]).all(1).nonzero()[:, 0]
    if not len(pool):
        name = kernel.axes.all[int(together.nonzero()[0, 0])].name
        raise FitError(f"Column {name!r} is unknown in every row of positive weight; drop it before fitting.")
    lacks = (need[pool] & known).sum(1)
    pool = pool[lacks <= lacks.kthvalue(min(FEW, len(pool))).values]
    return pool[torch.randperm(len(pool))[:POOL].to(pool.device)] if len(pool) > POOL else pool


def donors(kernel: ProductKernel, natural: Natural, y: Tensor, weight: Tensor, pool: Tensor, rows: Tensor) -> Tensor:
    """One donor from the pool for each of ``rows``."""
    per_centre = {key: natural[key][pool] for key in ("weights", "complete", "centre", "width")}
    found = []
    for piece in rows.split(max(1, CELLS // len(pool))):
        logits = resemblance(kernel, {**natural, **per_centre}, ~y[pool].isnan(), y[piece])
        found.append(torch.distributions.Categorical(logits=(logits + weight[pool, None].log()).mT).sample())
    return pool[torch.cat(found)]


def resemblance(kernel: ProductKernel, natural: Natural, seen: Tensor, y: Tensor) -> Tensor:
    """``(J, R)``: log kernel between the cells that donors and rows both know; where only the row does, pooled."""
    everywhere = seen.all(0)
    total = alone(kernel, natural, y, everywhere)
    for axis in (~everywhere & (~y.isnan()).any(0)).nonzero()[:, 0]:
        score = alone(kernel, natural, y, torch.arange(y.shape[1], device=y.device) == axis)
        knows = seen[:, axis]
        if knows.any():
            pooled = score[knows].logsumexp(0) - knows.sum().log()
            total = total + torch.where(knows[:, None], score, pooled)
    return total


def alone(kernel: ProductKernel, natural: Natural, y: Tensor, axes: Tensor) -> Tensor:
    """The score of some axes only."""
    return kernel.score_axes(natural, torch.where(axes, y, torch.nan), y.new_zeros(len(y)))


def take(deck: Deck, at: Tensor, chosen: Tensor, y: Tensor, axes: Tensor) -> None:
    """Give the deck's rows ``at`` these axes of their donors, and note where they come from."""
    deck.centre[at[:, None], axes.nonzero()[:, 0]] = y[chosen][:, axes]
    note = deck.origin.new_full((len(deck.origin), 1), -1)
    note[at, 0] = chosen
    deck.origin = torch.cat([deck.origin, note], 1)
