r"""Columns in normal scores: each by a smooth monotone map of its own that makes it nearly standard Gaussian.

.. math:: z_d = g_d(x_d) \approx \Phi^{-1}(\hat F_d(x_d)), \qquad
    \hat F_d(x) = \sum_n w_n \Phi\Bigl(\frac{x - x_{nd}}{h_{nd}}\Bigr), \qquad
    h_n = 0.27\, n^{-1/5} (\tilde f(x_n) \bar f)^{-1/2}

The distribution function is the empirical one smoothed by Gaussian kernels, wider where rows are rarer (Abramson, 1982):
:math:`\tilde f` is a density from the spacings to the neighbouring values, on the denser side, and :math:`\bar f` its
geometric mean. For Gaussian data that is about Silverman's (1986) bandwidth, and it follows groups of any scale. The map
interpolates :math:`\Phi^{-1}(\hat F)`, with its slopes, by a monotone rational quadratic spline (Gregory and Delbourgo,
1982) between the column's quantiles, and goes on as a straight line beyond the outermost knots: Gaussian tails. As a
bijection of the line it gives a proper density whatever the data. Being smooth it reaches a little beyond a sharp edge of
the data; a column that ends at zero is better read as positive.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from probgen.families.base import once_per_tensor

__all__ = ["NormalScores"]

KNOTS = 48
SAMPLE = 20_000  # rows that the distribution functions are taken from
NEAREST = 0.1  # distance of knots, in bandwidths
REACH = 0.36  # of the window of a value's spacings, in shares of the rows, times n^(-1/5)
WIDTH = 0.27  # of kernels, the same
STEEPEST = 50.0  # slopes at knots, relative to the chords beside them
FURTHEST = 8.0  # scores of knots


class NormalScores(nn.Module):
    """Coordinates of D columns, after those of ``link`` where there is one; the identity until it has learnt."""

    def __init__(self, columns: int, link: Any = None) -> None:
        super().__init__()
        self.link = link
        line = torch.linspace(-3.0, 3.0, KNOTS).expand(columns, -1).clone()
        self.register_buffer("place", line)
        self.register_buffer("score", line.clone())
        self.register_buffer("slope", torch.ones(columns, KNOTS))
        self.place: Tensor
        self.score: Tensor
        self.slope: Tensor

    def learn(self, x: Tensor, weights: Tensor | None = None) -> None:
        """Distribution functions from rows ``(N, D)`` with unknown cells NaN."""
        y = x if self.link is None else self.link.read(x)[0]
        weights = torch.ones_like(y[:, 0]) if weights is None else weights.to(y)
        for d in range(y.shape[1]):
            seen = ~y[:, d].isnan() & (weights > 0)
            if bool((y[seen, d] != y[seen, d][:1]).any()):
                found = knots(y[seen, d].double(), weights[seen].double())
                self.place[d], self.score[d], self.slope[d] = (value.to(self.place) for value in found)

    @once_per_tensor
    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, and the log Jacobian of each row, unknown cells left out."""
        y, outer = (x, 0.0) if self.link is None else self.link.read(x)
        z, slope = spline(y, self.place, self.score, self.slope)
        return z, slope.log().nan_to_num().sum(-1) + outer

    def write(self, z: Tensor) -> Tensor:
        y = inverse_spline(z, self.place, self.score, self.slope)
        return y if self.link is None else self.link.write(y)


# ---------------------------------------------------------------------------------------------------- the knots
def knots(y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Places, scores and slopes ``(KNOTS,)`` of one column, given its known values ``(N,)``."""
    size = weights.sum()
    y, place = y.unique(return_inverse=True)  # sorted
    weights = weights.new_zeros(len(y)).index_add_(0, place, weights)
    if len(y) > SAMPLE:
        kept = torch.linspace(0, len(y) - 1, SAMPLE, device=y.device).long()
        y, weights = y[kept], weights[kept]
    share = weights / weights.sum()
    width = widths(y, share, size)
    top = torch.special.ndtri(1.0 - 1.0 / (size + 1.0))
    levels = torch.special.ndtr(torch.linspace(-1.0, 1.0, KNOTS).to(y) * top)
    at = torch.searchsorted(share.cumsum(0), levels).clamp_max(len(y) - 1)
    least = NEAREST * width[at].min()
    places = 0.5 * (spaced(y[at], least) - spaced(-y[at].flip(0), least).flip(0))
    scores, density = smoothed(places, y, share, width)
    normal = torch.exp(-0.5 * scores.square()) / (2 * torch.pi) ** 0.5
    return places, scores, tamed(places, scores, density / normal)


def widths(y: Tensor, share: Tensor, size: Tensor) -> Tensor:
    """Bandwidths ``(N,)`` of increasing values; repeated values reach at least halfway to the nearest other one."""
    above = share.cumsum(0)
    below, reach, last = above - share, REACH * size**-0.2, len(y) - 1
    low = torch.searchsorted(above, below - reach).clamp_max(last)
    high = torch.searchsorted(above, above + reach).clamp_max(last)
    step = torch.cat([y.new_full((1,), torch.inf), y.diff(), y.new_full((1,), torch.inf)])
    nearest = torch.minimum(step[1:], step[:-1])
    repeated = torch.where(share * size > 1.5, nearest, 0.0)
    left = (below - below[low] + 0.5 * share) / (y - y[low]).maximum(repeated)
    right = (above[high] - above + 0.5 * share) / (y[high] - y).maximum(repeated)
    left, right = (torch.where(side.isfinite(), side, 0.0) for side in (left, right))
    log_density = torch.maximum(left, right).log()  # of the denser side: the edge of a group belongs to the group
    mean = (share * log_density).sum()
    return (WIDTH * size**-0.2 * torch.exp(-0.5 * (log_density + mean))).maximum(0.5 * repeated)


def spaced(places: Tensor, least: Tensor) -> Tensor:
    """Increasing places moved upwards, as little as needed, until they stand at least so far apart."""
    apart = least * torch.arange(len(places)).to(places)
    return (places - apart).cummax(0)[0] + apart


def smoothed(places: Tensor, y: Tensor, share: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and densities of the smoothed distribution function; each tail by its own probability."""
    gap = (places[:, None] - y) / width
    below, above = torch.special.ndtr(gap) @ share, torch.special.ndtr(-gap) @ share
    scores = torch.where(below < above, torch.special.ndtri(below), -torch.special.ndtri(above))
    density = torch.exp(-0.5 * gap.square()) @ (share / width) / (2 * torch.pi) ** 0.5
    return scores.clamp(-FURTHEST, FURTHEST), density


def tamed(places: Tensor, scores: Tensor, slopes: Tensor) -> Tensor:
    """Slopes within reason of the chords beside them."""
    chord = (scores[1:] - scores[:-1]) / (places[1:] - places[:-1])
    low = torch.minimum(torch.cat([chord[:1], chord]), torch.cat([chord, chord[-1:]]))
    high = torch.maximum(torch.cat([chord[:1], chord]), torch.cat([chord, chord[-1:]]))
    return slopes.maximum(low / STEEPEST).minimum(high * STEEPEST)


# --------------------------------------------------------------------------------------------------- the spline
def pieces(x: Tensor, edges: Tensor, *values: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Values at the left and right knot of each cell's piece, and masks of the cells beyond the first and last knot."""
    flat = x.reshape(-1, x.shape[-1])
    at = torch.searchsorted(edges, flat.mT.contiguous(), right=True).clamp(1, edges.shape[-1] - 1)  # (D, N)
    found = [value.gather(-1, place).mT.reshape(x.shape) for value in values for place in (at - 1, at)]
    return found, x < edges[:, 0], x > edges[:, -1]


def spline(x: Tensor, place: Tensor, score: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """The map and its derivative, elementwise over the last dimension's D columns."""
    (x0, x1, z0, z1, d0, d1), before, after = pieces(x, place, place, score, slope)
    chord = (z1 - z0) / (x1 - x0)
    t = ((x - x0) / (x1 - x0)).clamp(0.0, 1.0)
    mixed = t * (1 - t)
    below = chord + (d0 + d1 - 2 * chord) * mixed
    z = z0 + (z1 - z0) * (chord * t * t + d0 * mixed) / below
    derivative = chord.square() * (d1 * t * t + 2 * chord * mixed + d0 * (1 - t).square()) / below.square()
    z = torch.where(before, z0 + d0 * (x - x0), torch.where(after, z1 + d1 * (x - x1), z))
    return z, torch.where(before, d0, torch.where(after, d1, derivative))


def inverse_spline(z: Tensor, place: Tensor, score: Tensor, slope: Tensor) -> Tensor:
    """The root of a quadratic in every piece (Durkan et al., 2019, section 3.1)."""
    (x0, x1, z0, z1, d0, d1), before, after = pieces(z, score, place, score, slope)
    chord, rise = (z1 - z0) / (x1 - x0), (z - z0).maximum(torch.zeros_like(z)).minimum(z1 - z0)
    bend = d0 + d1 - 2 * chord
    a, b, c = (z1 - z0) * (chord - d0) + rise * bend, (z1 - z0) * d0 - rise * bend, -chord * rise
    t = 2 * c / (-b - (b.square() - 4 * a * c).clamp_min(0.0).sqrt())
    x = x0 + t.clamp(0.0, 1.0) * (x1 - x0)
    return torch.where(before, x0 + (z - z0) / d0, torch.where(after, x1 + (z - z1) / d1, x))
