r"""Gaussians with a low-rank covariance: factor analysis with the factors integrated out.

.. math::
    f \sim \mathcal N(0, I_L), \qquad x \mid k, f \sim \mathcal N(\mu_k + W_k f, \mathrm{diag}\,\psi_k), \qquad
    x \mid k \sim \mathcal N(\mu_k, W_k W_k^\top + \mathrm{diag}\,\psi_k)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pyro.distributions import Distribution, InverseGamma, Normal
from torch import Tensor

from probgen.families.base import Natural, Parameters
from probgen.families.draws import laplace_draw
from probgen.families.gaussian_joint import CoupledGaussian

__all__ = ["FactorAnalyser"]


class FactorAnalyser(CoupledGaussian):
    """K rows of loc (D), loading (D, L) and noise (D), with Gaussian, Gaussian and inverse-Gamma priors."""

    def __init__(self, columns: int, table: int = 1, prior: str | None = "default", factors: int = 2) -> None:
        super().__init__(columns, table, prior)
        self.factors = min(factors, columns)
        self.register_buffer("spread", torch.ones(columns))
        self.spread: Tensor

    def calibrate(self, statistics: Natural) -> None:
        n, s, square = self.moments({key: value.sum(0, keepdim=True) for key, value in statistics.items()})
        self.center = s[0] / n[0]
        self.spread = (square[0].diagonal() / n[0] - self.center**2).clamp_min(1e-6).sqrt()

    def prior(self) -> dict[str, Distribution]:
        K, D, L = self.table, self.columns, self.factors
        return {
            "loc": Normal(self.center.expand(K, D), 3.0 * self.spread).to_event(2),
            "loading": Normal(self.spread.new_zeros(K, D, L), self.spread[:, None]).to_event(3),
            "noise": InverseGamma(2.0, 0.3 * self.spread.square().expand(K, D)).to_event(2),
        }

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        covariance = sites["loading"] @ sites["loading"].mT + torch.diag_embed(sites["noise"])
        return {**sites, "precision": torch.cholesky_inverse(torch.linalg.cholesky(covariance))}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {key: theta[key] for key in ("loc", "loading", "noise")}

    def log_prior(self, theta: Parameters) -> Tensor:
        return sum(prior.log_prob(theta[name]) for name, prior in self.prior().items())

    def start(self) -> Parameters:
        K, D, L = self.table, self.columns, self.factors
        angle = torch.arange(D).to(self.spread)[:, None] * (torch.arange(L).to(self.spread) + 1.0)
        loading = (0.5 * torch.cos(angle) * self.spread[:, None]).expand(K, D, L)
        variance = self.spread.square().expand(K, D)
        return self.assemble({"loc": self.center.expand(K, D), "loading": loading, "noise": variance})

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        """Expectation-conditional maximisation: loc, then loading, then noise; each raises the same objective."""
        n, s, square = self.moments(statistics)
        n, weak = n.clamp_min(1e-10)[:, None], 0.0 if self.prior_choice is None else 1.0
        ridge = weak / self.spread.square()
        P, W, psi = current["precision"], current["loading"], current["noise"]
        right = (P @ s[..., None])[..., 0] + ridge / 9.0 * self.center
        loc = torch.linalg.solve(n[..., None] * P + torch.diag(ridge / 9.0), right)
        gap = s[:, :, None] * loc[:, None, :]
        C = square - gap - gap.mT + n[..., None] * loc[:, :, None] * loc[:, None, :]  # scatter about loc
        B = W.mT @ P  # posterior mean of the factors is B (x - loc)
        cross = C @ B.mT
        second = n[..., None] * (torch.eye(self.factors).to(W) - B @ W) + B @ cross
        damp = torch.diag_embed((psi * ridge)[..., None].expand(*psi.shape, self.factors))
        W = torch.linalg.solve(second[:, None] + damp, cross)
        left = C.diagonal(0, -2, -1) - 2 * (W * cross).sum(-1) + (W @ second * W).sum(-1)
        noise = (left.clamp_min(0) + 0.6 * weak * self.spread.square()) / (n + 6.0 * weak)
        return self.assemble({"loc": loc, "loading": W, "noise": noise.clamp_min(1e-10)})

    def posterior_draw(self, statistics: Natural) -> Parameters:
        return laplace_draw(self, statistics)
