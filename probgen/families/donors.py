r"""Numbers drawn from rows that are like theirs, where a normal distribution around a regression is not what data look like.

The expectation of a regression puts rows in an order. Of the rows next to a new one in this order those whose regressors are
most like its own are donors, of which one is chosen at random: it gives its value (predictive mean matching; Rubin, 1986;
Little, 1988), or what it differs from its own expectation by (local residual draws; Schenker and Taylor, 1996).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from probgen.families.streams import Streams

__all__ = ["MANNERS", "Donors", "chosen", "fair_crps", "given_by", "neighbours", "normal_crps"]

MANNERS = ("none", "residuals", "values")  # as which donors give
WIDEST, NARROWEST = 20, 5  # rows on each side; between them the root of the number of rows
NEAREST = 5  # of those, among which one is chosen, as many as in mice
NUMBERS = 500_000  # regressors of candidates that are looked at together: few enough for a processor's cache


class Donors(NamedTuple):
    """D rows that can give, in every chain.

    Attributes:
        design: ``(R, D, P)`` regressors.
        x: ``(R, D)`` known cells, in model coordinates.
    """

    design: Tensor
    x: Tensor


def neighbours(mean: Tensor, z: Tensor, means: Tensor, zs: Tensor, places: Tensor, self_too: bool = True) -> Tensor:
    """``(R, B, K)``: of every row the donors that are most like it; K is ``NEAREST``, or all where they are fewer.

    Args:
        mean, z: expectations ``(R, B)`` and regressors ``(R, B, M)`` of the rows.
        means, zs: of the donors, ``(R, D)`` and ``(R, D, M)``.
        places: ``(R, B)`` from 0 to 1, at random: where a row stands among donors with the same expectation.
        self_too: False where rows are the donors, and no row is to be its own.
    """
    chains, donors = means.shape
    half = min(max(NARROWEST, min(WIDEST, round(donors**0.5))), donors // 2) or 1
    width = min(2 * half, donors)
    order = means.argsort(1)
    ordered = means.gather(1, order)
    left, right = (torch.searchsorted(ordered, mean.contiguous(), right=right) for right in (False, True))
    first = (left + (places * (right - left)).round().long() - half).clamp(0, donors - width)
    first = (first + donors * torch.arange(chains)[:, None]).flatten()  # of the windows, in donors of all chains
    laid = zs.gather(1, order[..., None].expand(-1, -1, zs.shape[-1])).flatten(0, 1).contiguous()
    windows = laid.unfold(0, width, 1).mT  # (R D - width + 1, width, M), which overlap in memory
    lengths = laid.square().sum(1).unfold(0, width, 1)
    known = order.flatten().unfold(0, width, 1)
    itself = torch.arange(mean.shape[1]).expand(chains, -1).flatten()
    size, found = max(1, NUMBERS // (width * max(z.shape[-1], 1))), []
    for at, own, me in zip(first.split(size), z.flatten(0, 1).split(size), itself.split(size), strict=True):
        across = torch.bmm(windows.index_select(0, at), own[..., None])[..., 0]
        apart, near = lengths.index_select(0, at) - 2 * across, known.index_select(0, at)
        if not self_too:
            apart = torch.where(near == me[:, None], torch.inf, apart)
        nearest = apart.topk(min(NEAREST, width - (not self_too)), largest=False, sorted=False).indices
        found.append(near.gather(1, nearest))
    return torch.cat(found).unflatten(0, mean.shape)


def given_by(near: Tensor, mean: Tensor, means: Tensor, ys: Tensor, manner: int) -> Tensor:
    """``(R, B, K)``: what each of K donors gives; ``ys (R, D)`` are donors' responses."""
    given = (ys if MANNERS[manner] == "values" else ys - means).gather(1, near.flatten(1)).unflatten(1, near.shape[1:])
    return given if MANNERS[manner] == "values" else given + mean[..., None]


def chosen(given: Tensor, streams: Streams) -> Tensor:
    """``(R, B)``: one of K at random."""
    return given.gather(-1, streams.integers(given.shape[-1], given.shape[1])[..., None])[..., 0]


# ------------------------------------------------------------------------------------------------------------- scores
def fair_crps(drawn: Tensor, y: Tensor) -> Tensor:
    """``(N,)``: continuous ranked probability score of K draws ``(N, K)``, as if there were infinitely many (Ferro, 2014)."""
    k = drawn.shape[-1]
    among = (drawn[..., None] - drawn[..., None, :]).abs().sum((-1, -2)) / (2 * k * (k - 1))
    return (drawn - y[..., None]).abs().mean(-1) - among


def normal_crps(away: Tensor, scale: Tensor) -> Tensor:
    """``(N,)``: the same of a normal distribution, given distances from its mean (Gneiting and Raftery, 2007)."""
    u = away / scale
    density = (-0.5 * u.square()).exp() / (2 * torch.pi) ** 0.5
    return scale * (u * (2 * torch.special.ndtr(u) - 1) + 2 * density - torch.pi**-0.5)
