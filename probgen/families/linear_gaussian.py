r"""Gaussians whose mean is linear in something known, with conjugate matrix-normal Wishart priors.

.. math::
    x \mid u, k \sim \mathcal N(B_k u, P_k^{-1}), \qquad
    B_k \mid P_k \sim \mathcal{MN}\big(M, P_k^{-1}, (\kappa I)^{-1}\big), \qquad P_k \sim \mathrm{Wishart}(\nu, \Psi^{-1})

As a function of y = (x, u) the density is an un-normalised Gaussian, with precision matrix
:math:`(I, -B)^\top P (I, -B)`: holes in x, and the expected statistics, are those of every coupled Gaussian.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.families.base import Natural, Parameters
from probgen.families.gaussian_joint import LOG_TWO_PI, SHRINKAGE, CoupledGaussian, symmetric, wishart

__all__ = ["AdditiveGaussian", "LinearGaussian"]


class MatrixNormalWishart(CoupledGaussian):
    """Weights ``(M, D, U)`` and precision matrices ``(M, D, D)`` of M regressions of D columns on U regressors."""

    width: int
    regressors: int
    tables: int

    def set_prior(self, columns: int, regressors: int, tables: int) -> None:
        """Buffers of the prior, before it is calibrated."""
        self.width, self.regressors, self.tables = columns, regressors, tables
        self.concentration, self.freedom = SHRINKAGE, columns + 2.0
        self.register_buffer("scatter", torch.eye(columns))
        self.register_buffer("weights_center", torch.zeros(columns, regressors))
        self.scatter: Tensor
        self.weights_center: Tensor

    def prior(self) -> dict[str, dist.Distribution]:
        """Bartlett's factors of a Wishart matrix, and white weights."""
        M, D, U = self.tables, self.width, self.regressors
        freedom = (self.freedom - torch.arange(D).to(self.scatter)).expand(M, D)
        zero = self.scatter.new_zeros(())
        return {
            "chi2": dist.Chi2(freedom).to_event(2),
            "lower": dist.Normal(zero, 1.0).expand([M, D * (D - 1) // 2]).to_event(2),
            "white": dist.Normal(zero, 1.0).expand([M, D, U]).to_event(3),
        }

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        row, column = torch.tril_indices(self.width, self.width, -1)
        A = torch.diag_embed(sites["chi2"].sqrt()).index_put(
            (torch.arange(self.tables)[:, None], row, column), sites["lower"]
        )
        root = torch.linalg.cholesky(torch.linalg.inv(self.scatter)) @ A
        white = torch.linalg.solve_triangular(root.mT, sites["white"], upper=True)
        return self.made(self.weights_center + white / self.concentration**0.5, root @ root.mT)

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        row, column = torch.tril_indices(self.width, self.width, -1)
        P = theta["precision"][: self.tables]
        root = torch.linalg.cholesky(P)
        base = torch.linalg.cholesky(torch.linalg.inv(self.scatter))
        A = torch.linalg.solve_triangular(base, root, upper=False)
        white = root.mT @ (theta["weights"][: self.tables] - self.weights_center) * self.concentration**0.5
        return {"chi2": A.diagonal(0, -2, -1).square(), "lower": A[..., row, column], "white": white}

    @abstractmethod
    def made(self, weights: Tensor, precision: Tensor) -> Parameters:
        """Parameters with everything that densities need."""

    def log_prior(self, theta: Parameters) -> Tensor:
        P, gap = theta["precision"][: self.tables], theta["weights"][: self.tables] - self.weights_center
        log_det = 2 * torch.linalg.cholesky(P).diagonal(0, -2, -1).log().sum(-1)
        normal = 0.5 * self.regressors * log_det - 0.5 * self.concentration * (gap * (P @ gap)).sum((-2, -1))
        wishart_part = 0.5 * (self.freedom - self.width - 1) * log_det - 0.5 * (self.scatter * P).sum((-2, -1))
        return (normal + wishart_part).sum()

    def posterior(self, n: Tensor, uu: Tensor, xu: Tensor, xx: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Regressors' scatter (M, U, U), weights (M, D, U), freedom (M,), scatter (M, D, D)."""
        eye = torch.eye(self.regressors).to(uu)
        if self.prior_choice is None:
            ridge = 1e-12 * uu.diagonal(0, -2, -1).amax(-1).clamp_min(1e-12)[:, None, None]
            weights = torch.linalg.solve(uu + ridge * eye, xu.mT).mT
            return uu, weights, n, symmetric(xx - weights @ xu.mT)
        kappa, M = self.concentration, self.weights_center
        total, cross = uu + kappa * eye, xu + kappa * M
        weights = torch.linalg.solve(total, cross.mT).mT
        left = xx + kappa * M @ M.mT - weights @ cross.mT
        return total, weights, n + self.freedom, symmetric(left + self.scatter)

    def maximum(self, n: Tensor, uu: Tensor, xu: Tensor, xx: Tensor, current: Parameters) -> Parameters:
        """The mode of the joint density of weights and precision; rows that nothing speaks of stay."""
        _, weights, freedom, scatter = self.posterior(n, uu, xu, xx)
        if self.prior_choice is not None:
            freedom = freedom + self.regressors - self.width - 1
        filled = n > 1e-8
        scatter = torch.where(filled[:, None, None], scatter, torch.eye(self.width).to(scatter))
        precision = symmetric(freedom[:, None, None] * torch.cholesky_inverse(torch.linalg.cholesky(scatter)))
        old = current["precision"][: self.tables]
        return self.made(
            torch.where(filled[:, None, None], weights, current["weights"][: self.tables]),
            torch.where(filled[:, None, None], precision, old),
        )

    def drawn(self, n: Tensor, uu: Tensor, xu: Tensor, xx: Tensor) -> Parameters:
        """A draw from the posterior."""
        total, weights, freedom, scatter = self.posterior(n, uu, xu, xx)
        precision = wishart(freedom, scatter)
        left = torch.linalg.cholesky(torch.linalg.inv(precision))
        right = torch.linalg.cholesky(torch.linalg.inv(total))
        return self.made(weights + left @ torch.randn_like(weights) @ right.mT, precision)


class AdditiveGaussian(MatrixNormalWishart):
    """Rows for all combinations of several codes; their means add one contribution a code, their covariance is shared.

    Args:
        shape: number of values of each code; the table has their product of rows.
    """

    def __init__(self, columns: int, table: int, prior: str | None, shape: tuple[int, ...]) -> None:
        super().__init__(columns, table, prior)
        codes = torch.cartesian_prod(*[torch.arange(size) for size in shape]).reshape(math.prod(shape), len(shape))
        hot = [torch.nn.functional.one_hot(codes[:, m], size)[:, 1:] for m, size in enumerate(shape)]
        self.register_buffer("design", torch.cat([torch.ones(len(codes), 1), *hot], 1).to(torch.get_default_dtype()))
        self.design: Tensor
        self.set_prior(columns, self.design.shape[1], 1)

    def calibrate(self, statistics: Natural) -> None:
        n, s, square = self.moments({key: value.sum(0, keepdim=True) for key, value in statistics.items()})
        center = s[0] / n[0]
        spread = square[0] / n[0] - center[:, None] * center
        self.scatter = 0.95 * spread + 0.05 * torch.diag(spread.diagonal().clamp_min(1e-8))
        self.weights_center = torch.zeros_like(self.weights_center).index_copy(
            1, torch.zeros(1, dtype=torch.long, device=center.device), center[:, None]
        )

    def made(self, weights: Tensor, precision: Tensor) -> Parameters:
        loc = self.design @ weights[0].mT
        wide = {"precision": precision, "weights": weights}
        return {"loc": loc} | {key: value.expand(self.table, -1, -1) for key, value in wide.items()}

    def describe(self, theta: Parameters) -> Parameters:
        return {
            "loc": theta["loc"],
            "weights": theta["weights"][0],
            "covariance": torch.linalg.inv(theta["precision"][0]),
        }

    def start(self) -> Parameters:
        return self.made(torch.zeros_like(self.weights_center)[None], torch.eye(self.width).to(self.scatter)[None])

    def gathered(self, statistics: Natural) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Moments of regressors and columns over all rows of the table."""
        n, s, square = self.moments(statistics)
        uu = self.design.mT @ (n[:, None] * self.design)
        return n.sum()[None], uu[None], (s.mT @ self.design)[None], square.sum(0)[None]

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        return self.maximum(*self.gathered(statistics), current)

    def posterior_draw(self, statistics: Natural) -> Parameters:
        return self.drawn(*self.gathered(statistics))


class LinearGaussian(MatrixNormalWishart):
    """K regressions of D columns on U known regressors (a constant among them); a row is y = (x, u).

    Args:
        columns: D + U.
        regressors: U.
    """

    def __init__(self, columns: int, table: int, prior: str | None, regressors: int) -> None:
        super().__init__(columns, table, prior)
        self.set_prior(columns - regressors, regressors, table)

    def calibrate(self, statistics: Natural) -> None:
        n, uu, xu, xx = (value.sum(0, keepdim=True) for value in self.gathered(statistics))
        ridge = 1e-6 * uu.diagonal(0, -2, -1).amax() * torch.eye(self.regressors).to(uu)
        weights = torch.linalg.solve(uu + ridge, xu.mT).mT
        spread = symmetric((xx - weights @ xu.mT) / n[:, None, None])[0]
        self.weights_center = weights[0]
        self.scatter = 0.95 * spread + torch.diag(0.05 * spread.diagonal().clamp_min(0) + 1e-6)

    def made(self, weights: Tensor, precision: Tensor) -> Parameters:
        return {"weights": weights, "precision": precision}

    def describe(self, theta: Parameters) -> Parameters:
        return {"weights": theta["weights"], "covariance": torch.linalg.inv(theta["precision"])}

    def start(self) -> Parameters:
        zero = torch.zeros_like(self.weights_center).expand(self.table, -1, -1)
        return self.made(zero, torch.eye(self.width).to(zero).expand(self.table, -1, -1).clone())

    def natural(self, theta: Parameters) -> Natural:
        B, P = theta["weights"], theta["precision"]
        PB = P @ B
        whole = torch.cat([torch.cat([P, -PB], -1), torch.cat([-PB.mT, B.mT @ PB], -1)], -2)
        log_det = torch.linalg.cholesky(P).diagonal(0, -2, -1).log().sum(-1)
        return {
            "log_normaliser": log_det - 0.5 * self.width * LOG_TWO_PI,
            "linear": whole.new_zeros(*whole.shape[:-1]),
            "square": whole[..., self.i, self.j] * self.packing,
        }

    def gathered(self, statistics: Natural) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Number (K,), E[uu'] (K, U, U), E[xu'] (K, D, U), E[xx'] (K, D, D)."""
        n, _, square = self.moments(statistics)
        D = self.width
        return n, square[:, D:, D:], square[:, :D, D:], square[:, :D, :D]

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        return self.maximum(*self.gathered(statistics), current)

    def posterior_draw(self, statistics: Natural) -> Parameters:
        return self.drawn(*self.gathered(statistics))

    # -- rows: the columns' Gaussian given the regressors -------------------------------------------------------
    def given_regressors(self, theta: Parameters, y: Tensor) -> tuple[Parameters, Tensor]:
        """Loc and precision of x, and x."""
        x, u = y[..., : self.width], y[..., self.width :]
        return {"loc": (theta["weights"] @ u[..., None])[..., 0], "precision": theta["precision"]}, x

    def log_prob(self, theta: Parameters, y: Tensor) -> Tensor:
        return super().log_prob(*self.given_regressors(theta, y))

    def fill(self, theta: Parameters, y: Tensor) -> Tensor:
        return torch.cat([super().fill(*self.given_regressors(theta, y)), y[..., self.width :]], -1)
