r"""Gaussians that couple their columns: full and tied covariance, with exact conditionals for any holes.

With unknown cells the density is the marginal of the *un-normalised* Gaussian

.. math:: \exp(c + h^\top x - \tfrac12 x^\top P x)

as a function of (c, h, P): a Schur complement for each pattern of holes. Its gradient is then the expectation of
(1, x, xx') given the known cells, which is the E-step of Ghahramani and Jordan (1994).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import softplus

from probgen.data.holes import known
from probgen.families.base import Family, Natural, Parameters, once_per_tensor
from probgen.families.holes import extra_of_holes, usable

LOG_TWO_PI = math.log(2 * math.pi)
SHRINKAGE = 0.01  # kappa, in observations
APART = 0.05  # share of a column's variance inside the parts of a first partition, over what K parts would leave
MANY = 2**24  # numbers in one temporary
ROWS_A_ROOT = 8  # that share a matrix, on average, for its root to be shared


@dataclass(frozen=True, eq=False)
class Patterns:
    """The distinct patterns of unknown cells ``(G, D)`` and, for each row, which one it has."""

    unknown: Tensor
    of_row: Tensor

    @cached_property
    def bytes(self) -> Tensor:
        """The patterns, one byte a cell."""
        return self.unknown.to(torch.uint8)

    @cached_property
    def order(self) -> Tensor:
        """``(N,)`` rows, pattern after pattern."""
        return self.of_row.argsort(stable=True)

    @cached_property
    def edges(self) -> Tensor:
        """``(G + 1,)`` where each pattern's rows begin in ``order``."""
        sizes = torch.bincount(self.of_row, minlength=len(self.unknown))
        return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])

    def groups(self) -> list[tuple[Tensor, Tensor]]:
        """(pattern, its rows), one pair a pattern."""
        order = self.of_row.argsort(stable=True)
        sizes = torch.bincount(self.of_row, minlength=len(self.unknown)).tolist()
        return list(zip(self.unknown, order.split(sizes), strict=True))


def once_differentiable(natural: Natural, x: Tensor) -> bool:
    """True where compiled loops may stand in: plain leaves, as EM and queries have them, not functions of parameters."""
    leaves = all(value.is_leaf for value in natural.values())
    return leaves and usable(x) and usable(natural["linear"])


class CoupledGaussian(Family):
    """Densities of columns that are coupled inside each row; parameters ``loc (K, D)`` and ``precision (K, D, D)``."""

    def __init__(self, columns: int, table: int = 1, prior: str | None = "default") -> None:
        super().__init__(columns, table, prior)
        i, j = torch.triu_indices(columns, columns)
        self.i, self.j = i, j
        self.register_buffer("packing", torch.where(i == j, -0.5, -1.0), persistent=False)
        self.register_buffer("center", torch.zeros(columns))
        self.packing: Tensor
        self.center: Tensor

    def moments(self, statistics: Natural) -> tuple[Tensor, Tensor, Tensor]:
        """Expected number, sum and scatter about zero: (K,), (K, D), (K, D, D)."""
        n, s, packed = statistics["log_normaliser"], statistics["linear"], statistics["square"]
        square = packed.new_zeros(len(packed), self.columns, self.columns)
        square[:, self.i, self.j] = square[:, self.j, self.i] = packed
        return n, s, square

    # -- densities ---------------------------------------------------------------------------------------------
    def natural(self, theta: Parameters) -> Natural:
        loc, P = theta["loc"], theta["precision"]
        linear = (P @ loc[..., None])[..., 0]
        log_det = torch.linalg.cholesky(P).diagonal(0, -2, -1).log().sum(-1)
        constant = log_det - 0.5 * (linear * loc).sum(-1) - 0.5 * self.columns * LOG_TWO_PI
        return {"log_normaliser": constant, "linear": linear, "square": P[..., self.i, self.j] * self.packing}

    @once_per_tensor
    def statistics(self, x: Tensor) -> Tensor:
        """(x, upper triangle of xx') side by side, zeros for unknown cells: (N, D + D(D+1)/2)."""
        x = x.nan_to_num()
        return torch.cat([x, x[:, self.i] * x[:, self.j]], 1)

    @once_per_tensor
    def zero_filled(self, x: Tensor) -> Tensor:
        """X with zeros for unknown cells."""
        return x.nan_to_num()

    @once_per_tensor
    def patterns(self, x: Tensor) -> Patterns:
        unknown, of_row = torch.unique(x.isnan(), dim=0, return_inverse=True)
        return Patterns(unknown, of_row)

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        if known(x) is not None and once_differentiable(natural, x):
            weights = torch.cat([natural["linear"], natural["square"]], 1)
            zeros = torch.addmm(natural["log_normaliser"][:, None], weights, self.statistics(x).mT)
            P, patterns = self.unpack(natural["square"]), self.patterns(x)
            filled = self.zero_filled(x)
            layout = (patterns.bytes, patterns.edges, patterns.order)
            return zeros + extra_of_holes(natural["linear"], P, filled, *layout)
        exponent, volume = self.integrate(natural, x)
        return exponent + volume

    def has_large_temporaries(self, x: Tensor) -> bool:
        """True where a matrix for every pattern of holes stands in memory at once."""
        return not usable(x)

    def integrate(self, natural: Natural, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""The un-normalised density with the unknown cells m integrated out, as exponent and log volume, ``(K, N)``.

        The volume :math:`\tfrac12 \log |2\pi P_{mm}^{-1}|` does not depend on the known cells; it is zero without holes.
        """
        if known(x) is None:
            weights = torch.cat([natural["linear"], natural["square"]], 1)
            exponent = torch.addmm(natural["log_normaliser"][:, None], weights, self.statistics(x).mT)
            return exponent, exponent.new_zeros(())
        patterns = self.patterns(x)
        few = len(patterns.unknown) <= 32 or len(patterns.unknown) * 64 <= len(x)
        return self.by_group(natural, x, patterns) if few else self.by_row(natural, x, patterns)

    def by_group(self, natural: Natural, x: Tensor, patterns: Patterns) -> tuple[Tensor, Tensor]:
        """One matrix product for each pattern of holes."""
        T, exponents, volumes, order = self.statistics(x), [], [], []
        for unknown, rows in patterns.groups():
            constant, volume, weights = self.marginal(natural, unknown[None])
            exponents.append(torch.addmm(constant[0][:, None], weights[0], T[rows].mT))
            volumes.append(volume.mT.expand(-1, len(rows)))
            order.append(rows)
        back = torch.cat(order).argsort()
        return torch.cat(exponents, 1)[:, back], torch.cat(volumes, 1)[:, back]

    def by_row(self, natural: Natural, x: Tensor, patterns: Patterns) -> tuple[Tensor, Tensor]:
        """Many patterns with few rows each: look the marginal of every row up, in pieces that fit memory."""
        T, (K, D) = self.statistics(x), natural["linear"].shape
        exponents, volumes, order = [], [], []
        step = max(1, MANY // (4 * K * D * D))
        groups = patterns.of_row.argsort(stable=True)
        edges = torch.bincount(patterns.of_row, minlength=len(patterns.unknown)).cumsum(0).tolist()
        for first in range(0, len(patterns.unknown), step):
            last = min(first + step, len(patterns.unknown))
            rows = groups[edges[first - 1] if first else 0 : edges[last - 1]]
            constant, volume, weights = self.marginal(natural, patterns.unknown[first:last])  # (G, K) twice, (G, K, P)
            at = patterns.of_row[rows] - first
            exponents.append(constant[at].mT + torch.einsum("nkp,np->kn", weights[at], T[rows]))
            volumes.append(volume[at].mT)
            order.append(rows)
        back = torch.cat(order).argsort()
        return torch.cat(exponents, 1)[:, back], torch.cat(volumes, 1)[:, back]

    def marginal(self, natural: Natural, unknown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Constant (G, K), log volume (G, K) and weights (G, K, P) of the known cells' density, for G patterns at once."""
        c, h, P = natural["log_normaliser"], natural["linear"], self.unpack(natural["square"])
        miss = unknown.to(h)[:, None, :]  # (G, 1, D)
        keep = 1.0 - miss
        hidden = P * miss[..., :, None] * miss[..., None, :] + torch.diag_embed(keep)  # P_mm, identity elsewhere
        root = torch.linalg.cholesky(hidden)
        cross = P * miss[..., :, None] * keep[..., None, :]  # P_mo
        solved = torch.cholesky_solve(torch.cat([cross, (h * miss)[..., None].expand(*cross.shape[:-1], 1)], -1), root)
        gain, offset = solved[..., :-1], solved[..., -1]  # P_mm^-1 P_mo, P_mm^-1 h_m
        log_det = root.diagonal(0, -2, -1).log().sum(-1)
        constant = c + 0.5 * (h * miss * offset).sum(-1)
        volume = 0.5 * LOG_TWO_PI * miss.sum(-1) - log_det
        linear = (h - (cross.mT @ offset[..., None])[..., 0]) * keep
        square = (P - cross.mT @ gain) * keep[..., :, None] * keep[..., None, :]
        return constant, volume, torch.cat([linear, square[..., self.i, self.j] * self.packing], -1)

    def unpack(self, packed: Tensor) -> Tensor:
        """Precision matrices from the packed natural parameters."""
        P = packed.new_zeros(*packed.shape[:-1], self.columns, self.columns)
        value = packed / self.packing
        P = P.index_put((torch.arange(len(P))[:, None], self.i, self.j), value)
        upper = P.triu(1)
        return upper + upper.mT + torch.diag_embed(P.diagonal(0, -2, -1))

    # -- rows --------------------------------------------------------------------------------------------------
    def log_prob(self, theta: Parameters, x: Tensor) -> Tensor:
        distance, log_det, count = self.distance(theta, x)
        return -0.5 * distance - log_det - 0.5 * LOG_TWO_PI * count

    def distance(self, theta: Parameters, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Squared Mahalanobis distance of the known cells, half the log determinant of their covariance, their number.

        In double precision: the inverse of a network's precision may be none that single precision has a root of.
        """
        keep = (~x.isnan()).double()
        gap = torch.where(x.isnan(), 0.0, x - theta["loc"]).double()
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(theta["precision"].double()))
        covariance = covariance * keep[..., :, None] * keep[..., None, :] + torch.diag_embed(1.0 - keep)
        root = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(root, gap[..., None], upper=False)[..., 0]
        return white.square().sum(-1).to(x), root.diagonal(0, -2, -1).log().sum(-1).to(x), keep.sum(-1).to(x)

    def sample(self, theta: Parameters) -> Tensor:
        loc = theta["loc"]
        root = torch.linalg.cholesky(theta["precision"])
        white = torch.linalg.solve_triangular(root.mT, torch.randn_like(loc)[..., None], upper=True)[..., 0]
        return loc + white

    def fill(self, theta: Parameters, x: Tensor) -> Tensor:
        mean, noise = self.conditional(theta, x)
        return torch.where(x.isnan(), mean + noise, x)

    def conditional(self, theta: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of N(mu_m - P_mm^-1 P_mo (x_o - mu_o), P_mm^-1) of the unknown cells, and a draw of its noise."""
        loc, P = theta["loc"], theta["precision"]
        miss = x.isnan().to(P)
        gap = torch.where(x.isnan(), 0.0, x - loc)
        pull, noise = (P @ gap[..., None])[..., 0] * miss, torch.randn_like(gap)
        groups = alike_rows(loc, P, miss)
        if groups is None:
            root = torch.linalg.cholesky(hidden_part(P, miss))
            pull = torch.cholesky_solve(pull[..., None], root)[..., 0]
            noise = torch.linalg.solve_triangular(root.mT, noise[..., None], upper=True)[..., 0]
            return loc - pull, noise
        for rows in groups:
            root = torch.linalg.cholesky(hidden_part(P[rows[0]], miss[rows[0]]))
            pull[rows] = torch.cholesky_solve(pull[rows].mT, root).mT
            noise[rows] = torch.linalg.solve_triangular(root.mT, noise[rows].mT, upper=True).mT
        return loc - pull, noise

    def mean(self, theta: Parameters) -> Tensor:
        return theta["loc"]

    def dispersion(self, theta: Parameters) -> Tensor:
        """Inverse of the precision, ``(..., D, D)``."""
        return torch.cholesky_inverse(torch.linalg.cholesky(theta["precision"]))

    def scale(self, theta: Parameters) -> Tensor:
        """Scale of each column: its standard deviation, where tails are Gaussian."""
        return self.dispersion(theta).diagonal(0, -2, -1).sqrt()

    def sd(self, theta: Parameters) -> Tensor:
        return self.scale(theta)

    def radius(self, theta: Parameters, share: float) -> Tensor:
        """Radius ``(K,)``, in scales, of the ellipse of two columns that holds this share of them."""
        return theta["loc"].new_full(theta["loc"].shape[:-1], math.sqrt(-2.0 * math.log1p(-share)))

    # -- network head ------------------------------------------------------------------------------------------
    @property
    def outputs(self) -> int:
        return self.columns + self.columns * (self.columns + 1) // 2

    def head(self, output: Tensor) -> Parameters:
        """Loc and the rows of a lower triangular root of the precision."""
        loc, raw = output.split([self.columns, self.outputs - self.columns], -1)
        root = raw.new_zeros(*raw.shape[:-1], self.columns, self.columns)
        row, column = torch.tril_indices(self.columns, self.columns)
        root[..., row, column] = raw
        diagonal = softplus(root.diagonal(0, -2, -1) + 0.5) + 1e-2
        root = root.tril(-1) + torch.diag_embed(diagonal)
        return {"loc": loc, "precision": root @ root.mT}


def hidden_part(P: Tensor, miss: Tensor) -> Tensor:
    """``(..., D, D)``: the precision matrix of the unknown cells, the identity elsewhere."""
    return P * miss[..., :, None] * miss[..., None, :] + torch.diag_embed(1.0 - miss)


def alike_rows(loc: Tensor, P: Tensor, miss: Tensor) -> list[Tensor] | None:
    """Rows of one component with the same holes, ``(G,)`` each; None where they are too many for a root each to pay.

    Precision matrices are compared by their product with one vector, which has no symmetry.
    """
    if miss.dim() != 2 or loc.shape != miss.shape or P.dim() != 3 or len(miss) < 4 * ROWS_A_ROOT:
        return None
    vector = torch.sin(torch.arange(1.0, miss.shape[1] + 1, dtype=P.dtype, device=P.device) ** 2)
    of_row = torch.unique(torch.cat([loc, P @ vector, miss], 1), dim=0, return_inverse=True)[1]
    counts = torch.bincount(of_row)
    if len(counts) * ROWS_A_ROOT > len(miss):
        return None
    return list(of_row.argsort().split(counts.tolist()))


class NormalWishart(CoupledGaussian):
    """Means and precision matrices with their conjugate prior."""

    def __init__(self, columns: int, table: int = 1, prior: str | None = "default") -> None:
        super().__init__(columns, table, prior)
        self.register_buffer("scatter", torch.eye(columns))
        self.scatter: Tensor
        self.register_buffer("concentration", torch.tensor(SHRINKAGE))
        self.concentration: Tensor
        self.freedom = columns + 2.0

    # -- parameters --------------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def matrices(self) -> int:
        """How many precision matrices the table has: K, or 1 where they are tied."""

    def calibrate(self, statistics: Natural) -> None:
        n, s, square = self.moments({key: value.sum(0, keepdim=True) for key, value in statistics.items()})
        self.center = s[0] / n[0]
        spread = square[0] / n[0] - self.center[:, None] * self.center
        spread = 0.95 * spread + 0.05 * torch.diag(spread.diagonal().clamp_min(1e-8))
        self.scatter = spread / self.matrices ** (2 / self.columns)
        self.concentration = torch.full_like(self.concentration, SHRINKAGE)

    def calibrate_within(self, statistics: Natural) -> None:
        n, s, square = self.moments(statistics)
        within = (square - s[:, :, None] * s[:, None, :] / n.clamp_min(1e-10)[:, None, None]).sum(0) / n.sum()
        total = (square.sum(0) / n.sum()).diagonal() - (s.sum(0) / n.sum()).square()
        share = float((within.diagonal() / total.clamp_min(1e-300)).amin())
        if is_apart(share * self.table ** (2 / self.columns)):
            self.scatter = 0.95 * within + 0.05 * torch.diag(within.diagonal())
            self.concentration = torch.full_like(self.concentration, SHRINKAGE * share)

    def prior(self) -> dict[str, dist.Distribution]:
        """Bartlett's factors of a Wishart matrix: every site is one-dimensional and has a simple support."""
        M, D = self.matrices, self.columns
        freedom = (self.freedom - torch.arange(D).to(self.center)).expand(M, D)
        zero = torch.zeros((), dtype=self.center.dtype, device=self.center.device)
        return {
            "chi2": dist.Chi2(freedom).to_event(2),
            "lower": dist.Normal(zero, 1.0).expand([M, D * (D - 1) // 2]).to_event(2),
            "white": dist.Normal(zero, 1.0).expand([self.table, D]).to_event(2),
        }

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        row, column = torch.tril_indices(self.columns, self.columns, -1)
        A = torch.diag_embed(sites["chi2"].sqrt()).index_put(
            (torch.arange(self.matrices)[:, None], row, column), sites["lower"]
        )
        root = torch.linalg.cholesky(torch.linalg.inv(self.scatter)) @ A  # of the precision
        white = torch.linalg.solve_triangular(root.mT, sites["white"][..., None], upper=True)[..., 0]
        precision = (root @ root.mT).expand(self.table, -1, -1)
        return {"loc": self.center + white / self.concentration**0.5, "precision": precision}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        row, column = torch.tril_indices(self.columns, self.columns, -1)
        root = torch.linalg.cholesky(theta["precision"])
        base = torch.linalg.cholesky(torch.linalg.inv(self.scatter))
        A = torch.linalg.solve_triangular(base, root[: self.matrices], upper=False)
        white = (root.mT @ (theta["loc"] - self.center)[..., None])[..., 0] * self.concentration**0.5
        return {"chi2": A.diagonal(0, -2, -1).square(), "lower": A[..., row, column], "white": white}

    def describe(self, theta: Parameters) -> Parameters:
        return {"loc": theta["loc"], "covariance": torch.linalg.inv(theta["precision"])}

    def log_prior(self, theta: Parameters) -> Tensor:
        P, gap = theta["precision"], theta["loc"] - self.center
        M = self.matrices
        log_det = 2 * torch.linalg.cholesky(P).diagonal(0, -2, -1).log().sum(-1)
        normal = 0.5 * log_det - 0.5 * self.concentration * torch.einsum("ki,kij,kj->k", gap, P, gap)
        wishart = 0.5 * (self.freedom - self.columns - 1) * log_det[:M] - 0.5 * (self.scatter * P[:M]).sum((-2, -1))
        return normal.sum() + wishart.sum()

    def start(self) -> Parameters:
        loc = torch.zeros(self.table, self.columns).to(self.center)
        return {"loc": loc, "precision": torch.eye(self.columns).to(loc).expand(self.table, -1, -1).clone()}

    def posterior(self, statistics: Natural) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Kappa (K,), centre (K, D), degrees of freedom (M,), scatter (M, D, D) of the Normal-Wishart posterior.

        Rows may have weights, as in scale mixtures: then ``statistics["weight"]`` is their sum.
        """
        n, s, square = self.moments(statistics)
        prior = self.prior_choice is not None
        kappa = statistics.get("weight", n) + (self.concentration if prior else 0.0)
        m = (s + (self.concentration * self.center if prior else 0.0)) / kappa.clamp_min(1e-10)[:, None]
        scatter = square - kappa[:, None, None] * m[:, :, None] * m[:, None, :]
        if prior:
            scatter = scatter + self.concentration * self.center[:, None] * self.center
        freedom, scatter = self.pool(n), self.pool(scatter)
        return kappa, m, freedom + (self.freedom if prior else 0.0), scatter + (self.scatter if prior else 0.0)

    @abstractmethod
    def pool(self, value: Tensor) -> Tensor:
        """Sum over the rows that share a precision matrix: (K, ...) -> (M, ...)."""

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        return self.maximum(*self.posterior(statistics), current)

    def maximum(self, kappa: Tensor, m: Tensor, freedom: Tensor, scatter: Tensor, current: Parameters) -> Parameters:
        """The mode of the joint density of loc and precision; rows that nothing speaks of stay."""
        if self.prior_choice is not None:  # mode of the joint density of loc and precision
            freedom = freedom + self.table / self.matrices - self.columns - 1
        used, filled = kappa > 1e-10, freedom > 1e-10
        scatter = torch.where(filled[:, None, None], scatter, torch.eye(self.columns).to(scatter))
        precision = symmetric(freedom[:, None, None] * torch.cholesky_inverse(torch.linalg.cholesky(scatter)))
        precision = torch.where(filled[:, None, None], precision, current["precision"][: self.matrices])
        return {
            "loc": torch.where(used[:, None], m, current["loc"]),
            "precision": precision.expand(self.table, -1, -1),
        }

    def posterior_draw(self, statistics: Natural) -> Parameters:
        kappa, m, freedom, scatter = self.posterior(statistics)
        precision = wishart(freedom, scatter).expand(self.table, -1, -1)
        root = torch.linalg.cholesky(precision)
        white = torch.linalg.solve_triangular(root.mT, torch.randn_like(m)[..., None], upper=True)[..., 0]
        return {"loc": m + white / kappa[:, None] ** 0.5, "precision": precision}


class CentredGaussian(NormalWishart):
    """Switches to coordinates about each row's own centre where clusters lie too far apart for common ones.

    In common coordinates the density of a row R standard deviations from the origin is a difference of numbers of the
    order R^2. Beyond ``FAR`` the natural parameters are those of x - anchor, with the anchor at the row's present centre,
    and so are the expected statistics; this takes one pass over the data for each row of the table.
    """

    def natural(self, theta: Parameters) -> Natural:
        if not is_far(theta["loc"], theta["precision"].diagonal(0, -2, -1)):
            return super().natural(theta)
        found = super().natural({"loc": torch.zeros_like(theta["loc"]), "precision": theta["precision"]})
        return found | {"anchor": theta["loc"]}

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        if "anchor" not in natural:
            return super().score(natural, x)
        score = super().score
        return torch.cat([score(own, x - anchor) for own, anchor in by_anchor(natural)])

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        if "anchor" not in statistics:
            return super().update(statistics, current)
        return self.maximum(*self.about_anchors(statistics, current["loc"]), current)

    def about_anchors(self, statistics: Natural, anchor: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The Normal-Wishart posterior from moments of x - anchor, without differences of large numbers."""
        n, s, square = self.moments(statistics)
        prior = self.prior_choice is not None
        mean = s / n.clamp_min(1e-10)[:, None]
        within = square - n[:, None, None] * mean[:, :, None] * mean[:, None, :]
        if not prior:
            return n, anchor + mean, self.pool(n), self.pool(within)
        kappa = n + self.concentration
        gap = anchor + mean - self.center
        between = (self.concentration * n / kappa)[:, None, None] * gap[:, :, None] * gap[:, None, :]
        m = self.center + (n / kappa)[:, None] * gap
        return kappa, m, self.pool(n) + self.freedom, self.pool(within + between) + self.scatter


FAR = 1e4  # standard deviations from the origin, in one of the columns


def is_far(loc: Tensor, precision: Tensor) -> bool:
    """True where the common coordinates lose accuracy, given ``(K, D)`` each; never while a graph is being traced."""
    if loc.requires_grad or precision.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(loc):
        return False
    return bool((loc.abs().amax(-1) * precision.amax(-1).sqrt()).amax() > FAR)


def is_apart(share: float) -> bool:
    """True where a first partition's parts are small for their distance, and not so small that rounding made them."""
    return 1e-13 < share < APART


def by_anchor(natural: Natural) -> Iterator[tuple[Natural, Tensor]]:
    """Each row's natural parameters in coordinates about its anchor, and the anchor."""
    for k, anchor in enumerate(natural["anchor"].detach()):
        yield {key: value[k : k + 1] for key, value in natural.items() if key != "anchor"}, anchor


class FullGaussian(CentredGaussian):
    """A precision matrix of its own for each row of the table."""

    @property
    def matrices(self) -> int:
        return self.table

    def pool(self, value: Tensor) -> Tensor:
        return value


class TiedGaussian(CentredGaussian):
    """One precision matrix for all rows of the table."""

    @property
    def matrices(self) -> int:
        return 1

    def pool(self, value: Tensor) -> Tensor:
        return value.sum(0, keepdim=True)


def wishart(freedom: Tensor, scatter: Tensor) -> Tensor:
    """One draw each of Wishart matrices with mean ``freedom * scatter^-1``, by Bartlett's (1933) factors."""
    D = scatter.shape[-1]
    chi2 = dist.Chi2(freedom[:, None] - torch.arange(D).to(freedom)).sample()
    factor = torch.randn_like(scatter).tril(-1) + torch.diag_embed(chi2.sqrt())
    root = torch.linalg.cholesky(symmetric(torch.cholesky_inverse(torch.linalg.cholesky(scatter)))) @ factor
    return root @ root.mT


def symmetric(matrix: Tensor) -> Tensor:
    """Without the asymmetry of rounding."""
    return 0.5 * (matrix + matrix.mT)
