r"""The metric of Hamiltonian samplers: which linear map makes a posterior round.

From draws q and gradients g of the log density, the metric is the matrix that makes draws and gradients have the same
covariance (the minimiser of Fisher's divergence to a normal; Seyboldt, Carlson and Carpenter, 2026),

.. math:: \Sigma \operatorname{cov}(g) \Sigma = \operatorname{cov}(q), \qquad
    \Sigma_{dd} = \sqrt{\operatorname{var}(q_d) / \operatorname{var}(g_d)} \text{ where it is diagonal,}

which is the exact covariance of a normal from as many draws as it has dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["MOST_DENSE", "Metric"]

MOST_DENSE = 100  # dimensions up to which all covariances are learnt
DRAWS_A_DIMENSION = 5.0
SHRINKAGE = 5.0  # draws' worth of a diagonal covariance


@dataclass(frozen=True)
class Metric:
    r"""Sigma = L L', of which L is kept: a vector ``(P,)`` where it is diagonal, a matrix ``(P, P)`` otherwise.

    Momenta are kept as :math:`r = L^\top p`, standard normal, so that the kinetic energy is half of their square.
    """

    factor: Tensor
    inverse: Tensor

    @classmethod
    def unit(cls, like: Tensor) -> Metric:
        """The identity, for points ``(C, P)``."""
        one = torch.ones_like(like[0])
        return cls(one, one)

    @classmethod
    def diagonal(cls, variance: Tensor) -> Metric:
        """Of variances ``(P,)``."""
        scale = variance.clamp(1e-20, 1e20).sqrt()
        return cls(scale, scale.reciprocal())

    @classmethod
    def learnt(cls, draws: Tensor, gradients: Tensor) -> Metric:
        """From draws and gradients ``(n, P)``; all covariances where there are draws enough for them."""
        n, size = draws.shape
        spread, slope = draws.var(0), gradients.var(0)
        usable = (spread > 0) & (slope > 0) & spread.isfinite() & slope.isfinite()
        variance = torch.where(usable, (spread / slope).sqrt(), 1.0)
        if size > MOST_DENSE or n < DRAWS_A_DIMENSION * size or size == 1 or not bool(usable.all()):
            return cls.diagonal(variance)
        scale = variance.sqrt()
        one, two = shrunk((draws / scale).T.cov(), n), shrunk((gradients * scale).T.cov(), n)
        try:
            middle = balanced(one, two)
            factor = torch.linalg.cholesky(middle)
        except torch.linalg.LinAlgError:
            return cls.diagonal(variance)
        factor = scale[:, None] * factor
        return cls(factor, torch.linalg.inv(factor))

    @classmethod
    def learnt_from_spread(cls, draws: Tensor) -> Metric:
        """From draws ``(n, P)`` alone: their variances."""
        spread = draws.var(0)
        return cls.diagonal(torch.where((spread > 0) & spread.isfinite(), spread, 1.0))

    def velocity(self, momentum: Tensor) -> Tensor:
        """L r for every chain ``(C, P)``."""
        return momentum * self.factor if self.factor.dim() == 1 else momentum @ self.factor.mT

    def force(self, gradient: Tensor) -> Tensor:
        """L' g."""
        return gradient * self.factor if self.factor.dim() == 1 else gradient @ self.factor

    def whitened(self, points: Tensor) -> Tensor:
        """L^-1 q."""
        return points * self.inverse if self.factor.dim() == 1 else points @ self.inverse.mT


def shrunk(covariance: Tensor, draws: int) -> Tensor:
    """Towards its diagonal, by a few draws' worth."""
    weight = draws / (draws + SHRINKAGE)
    return weight * covariance + (1 - weight) * torch.diag(covariance.diagonal())


def balanced(one: Tensor, two: Tensor) -> Tensor:
    """The positive definite S with S two S = one."""
    lower = torch.linalg.cholesky(two)
    values, vectors = torch.linalg.eigh(lower.mT @ one @ lower)
    root = (vectors * values.clamp_min(0.0).sqrt()) @ vectors.mT
    half = torch.linalg.solve_triangular(lower.mT, root, upper=True)
    return torch.linalg.solve_triangular(lower.mT, half.mT, upper=True)
