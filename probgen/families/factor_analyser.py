r"""Gaussians with a low-rank covariance: linear factors, integrated out.

.. math::
    f \sim \mathcal N(0, I_L), \qquad x \mid k, f \sim \mathcal N(\mu_k + W_k f, \Psi_k), \qquad
    x \mid k \sim \mathcal N(\mu_k, W_k W_k^\top + \Psi_k)

with a noise :math:`\Psi` that is diagonal (factor analysis) or isotropic (probabilistic principal components).
Parameters are ``loc (K, D)``, ``loading (K, D, L)`` and ``noise (K, D)`` or ``(K, 1)``, with independent Gaussian,
Gaussian and inverse-Gamma priors. The factors' posterior given the known cells o of a row is

.. math:: f \mid x_o \sim \mathcal N(V W_o^\top \Psi_o^{-1} (x_o - \mu_o), V), \qquad
    V = (I + W_o^\top \Psi_o^{-1} W_o)^{-1}
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.distributions import Chi2, Distribution, InverseGamma, Normal
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.families.base import Latent, Natural, Observable, Parameters, Rows, Table
from probgen.families.gaussian import DiagonalGaussian
from probgen.families.gaussian_joint import CoupledGaussian, is_apart
from probgen.whole import check_whole

__all__ = ["FactorAnalyser", "LinearFactors", "PrincipalComponents", "checked_factors"]

LOC_SPREAD = 3.0  # in standard deviations of the data
NOISE_SHAPE, NOISE_SHARE = 2.0, 0.3  # the prior's mode is a tenth of the data's variance
SMALLEST = 1e-10  # noise
STEPS_ALONE, STEPS_AMONG = 30, 4  # quasi-Newton steps an update: among other rows the responsibilities change anyway


class LinearFactors(CoupledGaussian):
    """What factor analysis and principal components share; they differ in the noise and its update."""

    def __init__(self, columns: int, table: int = 1, prior: str | None = "default", factors: int = 2) -> None:
        super().__init__(columns, table, prior)
        self.factors = min(factors, columns)
        self.given_factors = DiagonalGaussian(columns)
        self.register_buffer("spread", torch.ones(columns))  # of loadings and noise
        self.register_buffer("reach", LOC_SPREAD * torch.ones(columns))  # of loc
        self.spread: Tensor
        self.reach: Tensor

    @property
    @abstractmethod
    def noises(self) -> int:
        """How many numbers the noise of one row has: D, or 1 where it is isotropic."""

    @property
    def least(self) -> Tensor:
        """Noise is held above this share of the scale."""
        return SMALLEST * self.spread[: self.noises].square()

    @property
    def free_parameters(self) -> int:
        """Rotations of the factors change nothing, and there is no more than a full covariance."""
        D, L = self.columns, self.factors
        return self.table * (D + min(D * L + self.noises - L * (L - 1) // 2, D * (D + 1) // 2))

    # -- parameters --------------------------------------------------------------------------------------------
    def prior(self) -> dict[str, Distribution]:
        K, D, L = self.table, self.columns, self.factors
        rate = NOISE_SHARE * self.spread[: self.noises].square().expand(K, -1)
        return {
            "loc": Normal(self.center.expand(K, D), self.reach).to_event(2),
            "loading": Normal(self.spread.new_zeros(K, D, L), self.spread[:, None]).to_event(3),
            "noise": InverseGamma(NOISE_SHAPE, rate).to_event(2),
        }

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        noise = sites["noise"].expand_as(sites["loc"])
        covariance = sites["loading"] @ sites["loading"].mT + torch.diag_embed(noise)
        return {**sites, "precision": torch.cholesky_inverse(torch.linalg.cholesky(covariance))}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {key: theta[key] for key in ("loc", "loading", "noise")}

    def describe(self, theta: Parameters) -> Parameters:
        return self.disassemble(theta)

    def log_prior(self, theta: Parameters) -> Tensor:
        """In the coordinates of the sites."""
        return sum(prior.log_prob(theta[name]) for name, prior in self.prior().items())

    def start(self) -> Parameters:
        K, D, L = self.table, self.columns, self.factors
        angle = torch.arange(D).to(self.spread)[:, None] * (torch.arange(L).to(self.spread) + 1.0)
        loading = (0.5 * torch.cos(angle) * self.spread[:, None]).expand(K, D, L)
        variance = self.spread[: self.noises].square().expand(K, -1)
        return self.assemble({"loc": self.center.expand(K, D), "loading": loading, "noise": variance})

    # -- maximum -----------------------------------------------------------------------------------------------
    def best_loc(self, n: Tensor, s: Tensor, P: Tensor) -> Tensor:
        """The maximum over loc given the precision, ``(K, D)``."""
        if self.prior_choice is None:
            return s / n.clamp_min(SMALLEST)[:, None]
        ridge = self.reach**-2
        right = (P @ s[..., None])[..., 0] + ridge * self.center
        return torch.linalg.solve(n[:, None, None] * P + torch.diag(ridge), right)

    def where_used(self, n: Tensor, new: Mapping[str, Tensor], current: Parameters) -> Parameters:
        """Rows without data keep their parameters, where no prior says otherwise."""
        if self.prior_choice is not None or bool((n > 2 * SMALLEST).all()):
            return self.assemble(new)
        used = n > 2 * SMALLEST
        return self.assemble(
            {key: torch.where(used.view(-1, *[1] * (v.dim() - 1)), v, current[key]) for key, v in new.items()}
        )

    def posterior_draw(self, statistics: Natural, sweeps: int = 40) -> Parameters:
        """Data augmentation (Tanner and Wong, 1987) from the maximum: factors given parameters, and the reverse.

        The factors enter through their sums only, which have a closed form given the sums of the data.
        """
        theta = self.update(statistics, self.start())
        n, s, square = self.moments(statistics)
        top = torch.cat([n[:, None, None], s[:, None, :]], -1)
        sums = torch.cat([top, torch.cat([s[:, :, None], square], -1)], -2)  # of (1, x)(1, x)'
        for _ in range(sweeps):
            design, cross = self.draw_factor_sums(theta, sums)
            theta = self.draw_regression(design, cross, square.diagonal(0, -2, -1), theta["noise"])
        return theta

    def draw_factor_sums(self, theta: Parameters, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of (1, f)(1, f)' and of (1, f) x' for a draw of every row's factors."""
        B = theta["loading"].mT @ theta["precision"]
        root = torch.linalg.cholesky(
            torch.eye(self.factors).to(B) - B @ theta["loading"]
        )  # of the factors' covariance
        gain = torch.cat([-(B @ theta["loc"][..., None]), B], -1)  # f = gain (1, x) + root e
        values, vectors = torch.linalg.eigh(sums)
        there = values > 1e-9 * values.amax(-1, keepdim=True).clamp_min(SMALLEST)
        noise = torch.randn_like(gain) * there[:, None, :]  # what e has in common with the data, in the data's axes
        mixed = noise * values.clamp_min(0.0).sqrt()[:, None, :] @ vectors.mT  # sum of e (1, x)'
        freedom = (sums[:, 0, 0] - there.sum(-1)).clamp_min(0.0)
        own = noise @ noise.mT + white_wishart(freedom, self.factors)
        with_data = gain @ sums + root @ mixed  # sum of f (1, x)'
        bend = gain @ mixed.mT @ root.mT
        second = gain @ sums @ gain.mT + bend + bend.mT + root @ own @ root.mT
        first = with_data[..., :1]
        design = torch.cat([torch.cat([sums[:, :1, :1], first.mT], -1), torch.cat([first, second], -1)], -2)
        return design, torch.cat([sums[:, :1, 1:], with_data[..., 1:]], -2)

    def draw_regression(self, design: Tensor, cross: Tensor, square: Tensor, noise: Tensor) -> Parameters:
        """Loc and loading given the noise and the factors' sums, then the noise given them."""
        ridge = torch.cat([self.reach[None], self.spread.expand(self.factors, -1)]) ** -2  # (1 + L, D)
        noise = noise.expand(-1, self.columns)
        precision = design[:, None] / noise[..., None, None] + ridge.mT.diag_embed()  # (K, D, 1 + L, 1 + L)
        pull = cross.mT / noise[..., None]
        pull[..., 0] += ridge[0] * self.center
        root = torch.linalg.cholesky(precision)
        weight = torch.cholesky_solve(pull[..., None], root)
        weight = weight + torch.linalg.solve_triangular(root.mT, torch.randn_like(weight), upper=True)
        left = square - 2 * (weight[..., 0] * cross.mT).sum(-1) + (weight.mT @ design[:, None] @ weight)[..., 0, 0]
        rate, count = left.clamp_min(0.0), design[:, :1, 0].expand_as(left)
        if self.noises == 1:
            rate, count = rate.sum(-1, keepdim=True), count.sum(-1, keepdim=True)
        rate = NOISE_SHARE * self.spread[: self.noises].square() + 0.5 * rate
        noise = InverseGamma(NOISE_SHAPE + 0.5 * count, rate).sample()
        return self.assemble({"loc": weight[..., 0, 0], "loading": weight[..., 1:, 0], "noise": noise})

    # -- factors -----------------------------------------------------------------------------------------------
    def given(self, table: Table, *index: Any, latent: Tensor | Latent) -> Observable:
        rows = table(*index)
        if isinstance(latent, Latent):
            return rows if index or table.theta is None else FactorsOut(table, latent)
        assert isinstance(rows, Rows)
        loc = rows.theta["loc"] + (rows.theta["loading"] @ latent[..., None])[..., 0]
        precision = rows.theta["noise"].reciprocal().expand_as(loc)
        return Rows(self.given_factors, {"loc": loc, "precision": precision}, latent.shape[:-1])

    def factor_means(self, theta: Parameters, x: Tensor) -> Tensor:
        """E[f | known cells], ``(N, L)``."""
        W = theta["loading"]
        weight = (~x.isnan()).to(W) / theta["noise"]  # (N, D)
        information = torch.eye(self.factors).to(W) + torch.einsum("nd,...dl,...dm->nlm", weight, W, W)
        gap = torch.where(x.isnan(), 0.0, x - theta["loc"]) * weight
        return torch.linalg.solve(information, (gap[..., None, :] @ W)[..., 0, :])


class FactorsOut(Rows):
    """The only row of a table, for every row of the data, with its factors integrated out."""

    family: LinearFactors

    def __init__(self, table: Table, latent: Latent, batch_shape: torch.Size = torch.Size()) -> None:  # noqa: B008
        assert table.theta is not None
        self.table, self.latent = table, latent
        theta = {key: value[0].expand(*batch_shape, *value.shape[1:]) for key, value in table.theta.items()}
        super().__init__(table.family, theta, batch_shape)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> FactorsOut:
        return FactorsOut(self.table, self.latent, torch.Size(batch_shape))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.family.score(self.table.natural, x)[0]

    def latent_means(self, x: Tensor) -> dict[str, Tensor]:
        assert self.table.theta is not None
        theta = {key: value[0] for key, value in self.table.theta.items()}
        return {self.latent.name: self.family.factor_means(theta, x)}


class FactorAnalyser(LinearFactors):
    """Diagonal noise, one number for each row of the table and column."""

    @property
    def noises(self) -> int:
        return self.columns

    def calibrate(self, statistics: Natural) -> None:
        self.center, variance = pooled(self, statistics)
        self.spread, self.reach = variance.sqrt(), LOC_SPREAD * variance.sqrt()

    def calibrate_within(self, statistics: Natural) -> None:
        n, s, square = self.moments(statistics)
        gaps = square.diagonal(0, -2, -1) - s.square() / n.clamp_min(SMALLEST)[:, None]
        within = (gaps.sum(0) / n.sum()).clamp_min(0.0)
        if is_apart(float((within / self.spread.square()).amin()) * self.table ** (2 / self.columns)):
            self.spread = torch.minimum(self.spread, within.sqrt())

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        """One conditional maximisation of each block, then L-BFGS; neither lowers the objective."""
        return self.climb(statistics, self.sweep(statistics, current))

    def sweep(self, statistics: Natural, current: Parameters) -> Parameters:
        """Expectation-conditional maximisation: loc, then loading, then noise; each raises the same objective."""
        n, s, square = self.moments(statistics)
        P, W, psi = current["precision"], current["loading"], current["noise"]
        weak = 0.0 if self.prior_choice is None else 1.0
        loc = self.best_loc(n, s, P)
        C = scatter(n, s, square, loc)
        count, n = n, n.clamp_min(SMALLEST)[:, None]
        B = W.mT @ P  # posterior mean of the factors is B (x - loc)
        cross = C @ B.mT
        second = n[..., None] * (torch.eye(self.factors).to(W) - B @ W) + B @ cross
        damp = (weak * psi / self.spread.square())[..., None].expand(*psi.shape, self.factors)
        W = torch.linalg.solve(second[:, None] + torch.diag_embed(damp), cross)
        left = C.diagonal(0, -2, -1) - 2 * (W * cross).sum(-1) + (W @ second * W).sum(-1)
        rate = left.clamp_min(0) + 2 * NOISE_SHARE * weak * self.spread.square()
        noise = rate / (n + 2 * (NOISE_SHAPE + 1) * weak)
        return self.where_used(count, {"loc": loc, "loading": W, "noise": noise.clamp_min(self.least)}, current)

    def climb(self, statistics: Natural, theta: Parameters) -> Parameters:
        """Quasi-Newton steps over loading and noise together, given loc."""
        n, s, square = self.moments(statistics)
        values, vectors = torch.linalg.eigh(scatter(n, s, square, theta["loc"]))
        root, priors = vectors * values.clamp_min(0.0).sqrt()[..., None, :], self.prior()
        size, shape = theta["loading"].numel(), theta["loading"].shape

        def read(u: Tensor) -> dict[str, Tensor]:
            loading, noise = u[:size].reshape(shape), u[size:].reshape(shape[:-1])
            return {"loading": loading * self.spread[:, None], "noise": noise.exp().clamp_min(self.least)}

        def value(u: Tensor) -> Tensor:
            sites = read(u)
            covariance = sites["loading"] @ sites["loading"].mT + torch.diag_embed(sites["noise"])
            lower = torch.linalg.cholesky(covariance)
            white = torch.linalg.solve_triangular(lower, root, upper=False)
            fit = -(n[:, None] * lower.diagonal(0, -2, -1).log()).sum() - 0.5 * white.square().sum()
            if self.prior_choice is None:
                return fit
            return fit + sum(priors[key].log_prob(site) for key, site in sites.items())

        start = torch.cat([(theta["loading"] / self.spread[:, None]).reshape(-1), theta["noise"].log().reshape(-1)])
        u = ascend(value, start, STEPS_ALONE if self.table == 1 else STEPS_AMONG)
        return theta if u is None else self.assemble({"loc": theta["loc"], **read(u)})


class PrincipalComponents(LinearFactors):
    r"""Isotropic noise: probabilistic principal components (Tipping and Bishop, 1999).

    Given the scatter C / n with eigenvalues :math:`\lambda_1 \ge \dots \ge \lambda_D`, the maximum is closed form: the
    loading spans the first L eigenvectors, with squared lengths :math:`\lambda_j - \sigma^2`, and :math:`\sigma^2` is
    the mean of the other eigenvalues. The default prior has the same spread for all columns, so that it leaves the
    eigenvectors where they are and moves the lengths only.
    """

    @property
    def noises(self) -> int:
        return 1

    def calibrate(self, statistics: Natural) -> None:
        self.center, variance = pooled(self, statistics)
        self.spread = variance.mean().sqrt().expand(self.columns).clone()
        self.reach = LOC_SPREAD * self.spread

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        """Loc, then loading and noise together at their maximum given loc."""
        n, s, square = self.moments(statistics)
        loc = self.best_loc(n, s, current["precision"])
        n = n.clamp_min(SMALLEST)
        values, vectors = torch.linalg.eigh(scatter(n, s, square, loc) / n[:, None, None])
        values, vectors = values.flip(-1).clamp_min(0.0), vectors.flip(-1)
        length, noise = self.best_lengths(n[:, None], values)
        loading = vectors[..., : self.factors] * length[..., None, :]
        return self.where_used(n, {"loc": loc, "loading": loading, "noise": noise}, current)

    def best_lengths(self, n: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Lengths of the loading's columns ``(K, L)`` and the noise ``(K, 1)`` at the maximum.

        With a prior some factors may be better off at length zero: every number of active factors is tried.
        """
        L, D, spread = self.factors, self.columns, self.spread[0].square()
        prior = self.prior_choice is not None
        top = values[:, :L]
        # variance along an active factor: v^2 / spread + n v = n lambda
        along = 2 * n * top / (n + (n.square() + 4 * n * top / spread).sqrt()) if prior else top
        found = []
        for active in range(L + 1) if prior else [L]:
            shape, rate = 0.5 * n * (D - active), 0.5 * n * values[:, active:].sum(-1, keepdim=True)
            if prior:
                shape, rate = shape + NOISE_SHAPE + 1, rate + NOISE_SHARE * spread
            # -shape log noise - rate / noise + active noise / (2 spread), at its lower stationary point
            inner = (shape.square() - 2 * active * rate / spread).clamp_min(0.0) if prior else shape.square()
            noise = (2 * rate / (shape + inner.sqrt())).clamp_min(self.least)
            on = torch.arange(L).to(n) < active
            square = torch.where(on, (along - noise).clamp_min(0.0), 0.0)
            found.append((self.value(n, values, square, noise), square, noise))
        best = torch.stack([value for value, _, _ in found]).argmax(0)
        pick = torch.arange(len(n))
        square, noise = (torch.stack([entry[at] for entry in found])[best, pick] for at in (1, 2))
        return square.sqrt(), noise

    def value(self, n: Tensor, values: Tensor, square: Tensor, noise: Tensor) -> Tensor:
        """The objective ``(K,)`` given squared lengths and noise, up to a constant."""
        variance = noise.expand_as(values).clone()
        variance[:, : self.factors] += square
        fit = -0.5 * (n * (variance.log() + values / variance)).sum(-1)
        if self.prior_choice is None:
            return fit
        spread = self.spread[0].square()
        shrink = (NOISE_SHAPE + 1) * noise.log() + NOISE_SHARE * spread / noise
        return fit - 0.5 * square.sum(-1) / spread - shrink[:, 0]


def pooled(family: CoupledGaussian, statistics: Natural) -> tuple[Tensor, Tensor]:
    """Mean and variance of each column over all rows of the table."""
    n, s, square = family.moments({key: value.sum(0, keepdim=True) for key, value in statistics.items()})
    center = s[0] / n[0]
    return center, (square[0].diagonal() / n[0] - center**2).clamp_min(1e-12)


def scatter(n: Tensor, s: Tensor, square: Tensor, loc: Tensor) -> Tensor:
    """Sum of (x - loc)(x - loc)' from the sums about zero."""
    gap = s[:, :, None] * loc[:, None, :]
    return square - gap - gap.mT + n[:, None, None] * loc[:, :, None] * loc[:, None, :]


def white_wishart(freedom: Tensor, size: int) -> Tensor:
    """Sums of squares of ``freedom`` standard Gaussian rows, whole or not: (K, size, size), Bartlett's factors."""
    left = (freedom[:, None] - torch.arange(size).to(freedom)).clamp_min(1e-12)
    chi2 = Chi2(left).sample() * (left > 1e-9)
    factor = torch.randn(len(freedom), size, size).to(freedom).tril(-1) + chi2.sqrt().diag_embed()
    return factor @ factor.mT * (freedom > 0)[:, None, None]


def ascend(value: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor | None:
    """L-BFGS with a strong Wolfe line search; None where it finds nothing better."""
    u = start.detach().clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [u],
        max_iter=steps,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = -value(u)
        loss.backward()
        return loss

    with torch.enable_grad():
        before = -float(optimiser.step(closure).detach())
    after = float(value(u.detach()))
    return u.detach() if after > before else None


def checked_factors(name: str, coupled: int, factors: int, spare: int) -> int:
    """L, where ``spare`` more continuous columns are needed than factors.

    Raises:
        CapabilityError: there are too few continuous columns.
    """
    check_whole("latent", factors)
    if coupled < factors + spare:
        raise CapabilityError(
            f"{name} with latent={factors} needs at least {factors + spare} continuous columns (real, positive, bounded"
            f" or datetime), the table has {coupled}; use a smaller latent, or latent_class."
        )
    return factors
