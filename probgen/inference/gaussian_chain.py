r"""Gaussians along sequences from any coefficients of neighbours, normalised or not.

.. math::
    \log f(z_{1:T}) = \sum_t \Big(c_t + \eta_t^\top z_t - \tfrac12 z_t^\top \Lambda_t z_t\Big)
    + \sum_{t>1} z_t^\top F_t z_{t-1}

The precision matrix is block tridiagonal. Every second row is integrated out at once, given the two beside it, and
then every second one of those left, until none is: a Cholesky factorisation in another order (cyclic reduction),
with about log2 N steps for all sequences together. It gives the log integral, moments and draws. Unlike the filter of
:mod:`probgen.inference.kalman` it takes expected coefficients, which belong to no regression.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from probgen.data.sequences import Steps

__all__ = ["GaussianChain"]

LOG_TWO_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Level:
    """The rows that were integrated out together: every second one, given those beside it.

    Attributes:
        inverse: ``(n, L, L)`` C^-1, with D = C C' the precision matrix of each row given those beside it.
        white: ``(n, L)`` C^-1 of what is linear in it.
        left, right: ``(n, L, L)`` C^-1 times the coupling with the row before and with the one after.
    """

    inverse: Tensor
    white: Tensor
    left: Tensor
    right: Tensor

    def mean(self, white: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """``(n, L)``: C'^-1 (white + left before + right after)."""
        inside = white[..., None] + self.left @ before[..., None] + self.right @ after[..., None]
        return (self.inverse.mT @ inside)[..., 0]


class GaussianChain:
    """The Gaussian over the states of all rows.

    Args:
        constant: ``(N,)``.
        linear: ``(N, L)``.
        square: ``(N, L, L)``.
        cross: ``(N, L, L)``, not looked at in first rows.
        steps: the sequences.
    """

    def __init__(self, constant: Tensor, linear: Tensor, square: Tensor, cross: Tensor, steps: Steps) -> None:
        self.levels: list[Level] = []
        cross = cross.index_fill(0, steps.starts, 0.0)
        rows, value = torch.arange(len(linear), device=linear.device), constant.clone()
        while len(rows) > 1:
            told, linear, square, cross = self.halve(linear, square, cross)
            value[rows[1::2]] += told
            rows = rows[::2]
        root = torch.linalg.cholesky(square)
        value[rows] += self.finish(root, linear)
        self.value = steps.total(value)  # (S,): log integral of each sequence

    def halve(self, linear: Tensor, square: Tensor, cross: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Integrate every second row out: their log integrals ``(n,)``, and the coefficients of the others."""
        root = torch.linalg.cholesky(square[1::2])
        inverse = torch.linalg.solve_triangular(root, eye_like(root), upper=False)
        white = (inverse @ linear[1::2, :, None])[..., 0]
        left, after = inverse @ cross[1::2], cross[2::2]
        right = torch.zeros_like(left)
        right[: len(after)] = inverse[: len(after)] @ after.mT
        self.levels.append(Level(inverse, white, left, right))
        linear, square, joined = linear[::2].clone(), square[::2].clone(), torch.zeros_like(cross[::2])
        n, m = len(left), len(after)
        square[:n] -= left.mT @ left
        linear[:n] += (left.mT @ white[..., None])[..., 0]
        square[1 : m + 1] -= right[:m].mT @ right[:m]
        linear[1 : m + 1] += (right[:m].mT @ white[:m, :, None])[..., 0]
        joined[1 : m + 1] = right[:m].mT @ left[:m]
        return log_integral(root, white), linear, square, joined

    def finish(self, root: Tensor, linear: Tensor) -> Tensor:
        """The same for the one row that is left."""
        inverse = torch.linalg.solve_triangular(root, eye_like(root), upper=False)
        white = (inverse @ linear[..., None])[..., 0]
        nothing = torch.zeros_like(inverse)
        self.last = Level(inverse, white, nothing, nothing)
        return log_integral(root, white)

    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """E[z_t] ``(N, L)``, Cov[z_t] and Cov[z_t, z_{t-1}] ``(N, L, L)``, the last zero at first rows."""
        mean = (self.last.inverse.mT @ self.last.white[..., None])[..., 0]
        spread = self.last.inverse.mT @ self.last.inverse
        between = torch.zeros_like(spread)
        for level in reversed(self.levels):
            n, back = len(level.white), level.inverse.mT
            P, Q, X = spread[:n], following(spread, n), following(between, n)
            G, H = back @ level.left, back @ level.right
            with_left, with_right = G @ P + H @ X, G @ X.mT + H @ Q
            own = back @ level.inverse + with_left @ G.mT + with_right @ H.mT
            mean = interleaved(mean, level.mean(level.white, mean[:n], following(mean, n)))
            after = between.clone()
            after[1:] = with_right.mT[: len(spread) - 1]
            spread, between = interleaved(spread, own), interleaved(after, with_left)
        return mean, spread, between

    def draw(self) -> Tensor:
        """``(N, L)``: one draw of all states."""
        path = (self.last.inverse.mT @ noisy(self.last.white)[..., None])[..., 0]
        for level in reversed(self.levels):
            n = len(level.white)
            path = interleaved(path, level.mean(noisy(level.white), path[:n], following(path, n)))
        return path


def eye_like(matrix: Tensor) -> Tensor:
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand_as(matrix)


def log_integral(root: Tensor, white: Tensor) -> Tensor:
    log_det = root.diagonal(0, -2, -1).log().sum(-1)
    return 0.5 * white.square().sum(-1) - log_det + 0.5 * white.shape[-1] * LOG_TWO_PI


def noisy(white: Tensor) -> Tensor:
    return white + torch.randn(white.shape).to(white)


def following(rows: Tensor, n: int) -> Tensor:
    """Rows 1 .. n, zeros where there are no more."""
    return rows[1 : n + 1] if len(rows) > n else torch.cat([rows[1:], torch.zeros_like(rows[:1])])


def interleaved(even: Tensor, odd: Tensor) -> Tensor:
    """Rows in turns, an even one first."""
    found = even.new_empty(len(even) + len(odd), *even.shape[1:])
    found[::2], found[1::2] = even, odd
    return found
