r"""Mixture of factor analysers (Ghahramani and Hinton, 1996).

.. math::
    z \sim \mathrm{Categorical}(\pi), \qquad f \sim \mathcal N(0, I_L), \qquad
    x \mid z = k, f \sim \mathcal N(\mu_k + W_k f, \mathrm{diag}\,\psi_k)

With the factors integrated out, a component has the covariance :math:`W_k W_k^\top + \mathrm{diag}\,\psi_k`.
"""

from functools import partial

import pyro
import torch
from pyro.distributions import InverseGamma, Normal

from probgen.data.schema import Schema
from probgen.families import SUM_OUT, Categorical, Columns, CoupledGaussian
from probgen.families.draws import laplace_draw
from probgen.program import Model, Traits


class FactorAnalyser(CoupledGaussian):
    """K rows of loc (D), loading (D, L) and noise (D), with Gaussian, Gaussian and inverse-Gamma priors."""

    def __init__(self, columns, table, prior, factors):
        super().__init__(columns, table, prior)
        self.factors = min(factors, columns)
        self.register_buffer("spread", torch.ones(columns))

    def calibrate(self, statistics):
        n, s, square = self.moments({key: value.sum(0, keepdim=True) for key, value in statistics.items()})
        self.center = s[0] / n[0]
        self.spread = (square[0].diagonal() / n[0] - self.center**2).clamp_min(1e-6).sqrt()

    def prior(self):
        K, D, L = self.table, self.columns, self.factors
        return {
            "loc": Normal(self.center.expand(K, D), 3.0 * self.spread).to_event(2),
            "loading": Normal(self.spread.new_zeros(K, D, L), self.spread[:, None]).to_event(3),
            "noise": InverseGamma(2.0, 0.3 * self.spread.square().expand(K, D)).to_event(2),
        }

    def assemble(self, sites):
        covariance = sites["loading"] @ sites["loading"].mT + torch.diag_embed(sites["noise"])
        return {**sites, "precision": torch.cholesky_inverse(torch.linalg.cholesky(covariance))}

    def disassemble(self, theta):
        return {key: theta[key] for key in ("loc", "loading", "noise")}

    @property
    def free_parameters(self):
        """Rotations of the factors change nothing, and there is no more than a full covariance."""
        D, L = self.columns, self.factors
        return self.table * (D + min(D * (L + 1) - L * (L - 1) // 2, D * (D + 1) // 2))

    def log_prior(self, theta):
        return sum(prior.log_prob(theta[name]) for name, prior in self.prior().items())

    def start(self):
        K, D, L = self.table, self.columns, self.factors
        angle = torch.arange(D).to(self.spread)[:, None] * (torch.arange(L).to(self.spread) + 1.0)
        loading = (0.5 * torch.cos(angle) * self.spread[:, None]).expand(K, D, L)
        variance = self.spread.square().expand(K, D)
        return self.assemble({"loc": self.center.expand(K, D), "loading": loading, "noise": variance})

    def update(self, statistics, current):
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

    def posterior_draw(self, statistics):
        return laplace_draw(self, statistics)


class MixtureOfFactorAnalysers(Model):
    """K components with L factors each."""

    traits = Traits(embedding="probabilities", summary="mixture of Gaussians with low-rank covariance")

    def __init__(self, schema: Schema, components: int = 4, factors: int = 2, prior: str | None = "default") -> None:
        super().__init__(schema)
        self.weights = Categorical(components, prior=prior)
        low_rank = partial(FactorAnalyser, factors=factors)
        self.component = Columns(schema, table=components, covariance=low_rank, prior=prior)

    def model(self, batch):
        weights, component = self.weights.draw("weights"), self.component.draw("component")
        with batch.rows():
            z = pyro.sample("z", weights(), infer=SUM_OUT)
            pyro.sample("x", component(z), obs=batch.x)
