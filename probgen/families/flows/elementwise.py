r"""Monotone maps of single numbers, whose parameters a network says.

.. math::
    y = x\, e^{s} + t, \quad s = m \tanh(a / m), \qquad
    y = y_k + (y_{k+1} - y_k)\,
    \frac{s_k \xi^2 + \delta_k \xi (1 - \xi)}{s_k + (\delta_{k+1} + \delta_k - 2 s_k)\, \xi (1 - \xi)},
    \quad \xi = \frac{x - x_k}{x_{k+1} - x_k}

The second, a monotone rational-quadratic spline (Gregory and Delbourgo, 1982; Durkan, Bekasov, Murray and Papamakarios, 2019), goes through
points :math:`(x_k, y_k)` with slopes :math:`\delta_k`, :math:`s_k` being that of the straight line between two of them, and is the identity
outside of a square.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from probgen.errors import CapabilityError
from probgen.whole import is_whole

__all__ = ["Affine", "Monotone", "RationalQuadratic"]

LEAST = 1e-3  # share of a bin in the square, and slope at a knot


class Monotone(ABC):
    """A family of increasing maps of the line, the identity where all parameters are nought.

    Values are ``(...)``, parameters ``(..., P)``; results are values and the logarithm of the slope.
    """

    parameters: int  # P

    @abstractmethod
    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """``y`` and ``log dy/dx``."""

    @abstractmethod
    def inverse(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` and ``log dx/dy``."""


class Affine(Monotone):
    """A shift, and a scale that can neither vanish nor explode.

    Args:
        most: m, which the logarithm of the scale does not pass.
    """

    parameters = 2

    def __init__(self, most: float = 5.0) -> None:
        if not most > 0:
            raise CapabilityError(f"most must be above 0, got {most!r}.")
        self.most = most

    def log_scale(self, theta: Tensor) -> Tensor:
        return self.most * (theta[..., 0] / self.most).tanh()

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = self.log_scale(theta)
        return x * log_scale.exp() + theta[..., 1], log_scale

    def inverse(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = self.log_scale(theta)
        return (y - theta[..., 1]) * (-log_scale).exp(), -log_scale


class RationalQuadratic(Monotone):
    """A spline of K bins inside a square, the identity outside.

    Args:
        bins: K.
        bound: B, the square being from -B to B.
    """

    def __init__(self, bins: int = 8, bound: float = 5.0) -> None:
        if not is_whole(bins, 1) or bins > 1 / LEAST or not bound > 0:
            raise CapabilityError(f"bins must be 1 to {1 / LEAST:.0f} and bound above 0, got {bins!r} and {bound!r}.")
        self.bins, self.bound, self.parameters = bins, bound, 3 * bins - 1

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        inner = x.clamp(-self.bound, self.bound)
        left, width, low, height, (one, other) = self.bin(inner, theta, inverse=False)
        slope = height / width
        at = (inner - left) / width
        both = at * (1 - at)
        below = slope + (one + other - 2 * slope) * both
        y = low + height * (slope * at.square() + one * both) / below
        return self.kept(x, y, log_slope(at, both, slope, one, other, below))

    def inverse(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        inner = y.clamp(-self.bound, self.bound)
        left, width, low, height, (one, other) = self.bin(inner, theta, inverse=True)
        slope = height / width
        up, bend = inner - low, one + other - 2 * slope
        a, b, c = height * (slope - one) + up * bend, height * one - up * bend, -slope * up
        at = 2 * c / (-b - (b.square() - 4 * a * c).clamp_min(0.0).sqrt())
        both = at * (1 - at)
        return self.kept(y, left + at * width, -log_slope(at, both, slope, one, other, slope + bend * both))

    def kept(self, value: Tensor, mapped: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """The map inside the square, the value itself outside."""
        outside = value.abs() > self.bound
        return torch.where(outside, value, mapped), change.masked_fill(outside, 0.0)

    def bin(self, value: Tensor, theta: Tensor, inverse: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple]:
        """Where the bin of a value begins on either axis, how long it is, and the slopes at its ends."""
        widths, heights, inner = theta.split([self.bins, self.bins, self.bins - 1], -1)
        xs, ys = self.edges(widths), self.edges(heights)
        slopes = pad(LEAST + softplus(inner + math.log(math.expm1(1 - LEAST))), (1, 1), value=1.0)
        inside = (ys if inverse else xs)[..., 1:-1]
        number = (value[..., None] >= inside).sum(-1, keepdim=True)
        ends = torch.cat([number, number + 1], -1)
        (left, right), (low, high) = (edges.gather(-1, ends).unbind(-1) for edges in (xs, ys))
        return left, right - left, low, high - low, slopes.gather(-1, ends).unbind(-1)

    def edges(self, theta: Tensor) -> Tensor:
        """``(..., K)`` to the K + 1 ends of bins, whose shares of the square have a floor."""
        shares = LEAST + (1 - LEAST * self.bins) * theta.softmax(-1)
        inner = self.bound * (2 * shares[..., :-1].cumsum(-1) - 1)
        return pad(pad(inner, (1, 0), value=-self.bound), (0, 1), value=self.bound)


def log_slope(at: Tensor, both: Tensor, slope: Tensor, one: Tensor, other: Tensor, below: Tensor) -> Tensor:
    """Of a rational-quadratic segment: slopes of its line and at its ends, and the denominator."""
    above = other * at.square() + 2 * slope * both + one * (1 - at).square()
    return above.log() + 2 * (slope.log() - below.log())
