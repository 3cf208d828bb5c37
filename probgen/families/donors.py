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
NEAREST = 6  # of those, among which one is chosen
NUMBERS = 4_000_000  # regressors of candidates that are looked at together


class Donors(NamedTuple):
    """D rows that can give, in every chain.

    Attributes:
        design: ``(R, D, P)`` regressors.
        x: ``(R, D)`` known cells, in model coordinates.
    """

    design: Tensor
    x: Tensor


def neighbours(mean: Tensor, z: Tensor, means: Tensor, zs: Tensor, self_too: bool = True) -> Tensor:
    """``(R, B, NEAREST)``: of every row the donors that are most like it.

    Args:
        mean, z: expectations ``(R, B)`` and regressors ``(R, B, M)`` of the rows.
        means, zs: of the donors, ``(R, D)`` and ``(R, D, M)``.
        self_too: False where rows are the donors, and no row is to be its own.
    """
    order = means.argsort(1)
    sorted_means = means.gather(1, order)
    donors = means.shape[1]
    half = min(max(NARROWEST, min(WIDEST, round(donors**0.5))), donors // 2) or 1
    width = min(2 * half, donors)
    flat, offset = zs.reshape(-1, zs.shape[-1]), donors * torch.arange(len(zs))[:, None]
    piece = max(1, NUMBERS // (len(mean) * width * max(z.shape[-1], 1)))
    found = []
    for at in range(0, mean.shape[1], piece):
        own, here = mean[:, at : at + piece].contiguous(), z[:, at : at + piece]
        first = (torch.searchsorted(sorted_means, own) - half).clamp(0, donors - width)
        near = order.gather(1, (first[..., None] + torch.arange(width)).flatten(1))
        there = flat.index_select(0, (near + offset).flatten()).reshape(len(near), -1, width, zs.shape[-1])
        apart = (there - here[:, :, None]).square().sum(-1)
        near = near.unflatten(1, (-1, width))
        if not self_too:
            itself = torch.arange(at, at + own.shape[1])[:, None]
            apart = torch.where(near == itself, torch.inf, apart)
        chosen = apart.topk(min(NEAREST, width - (not self_too)), largest=False).indices
        found.append(near.gather(-1, chosen))
    return torch.cat(found, 1)


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
