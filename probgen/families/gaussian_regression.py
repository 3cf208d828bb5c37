r"""Linear regressions with Gaussian noise: the parts of a linear-Gaussian state-space model.

.. math::
    y \mid u \sim \mathcal N(B \tilde u, \Sigma), \qquad \tilde u = (u, 1), \qquad
    B \mid \Sigma \sim \mathcal{MN}(B_0, \Sigma, \kappa^{-1} I), \qquad \Sigma^{-1} \sim \mathrm{Wishart}(\nu, \Psi^{-1})

(Gamma in place of Wishart where the noise of the outputs is independent.) With :math:`\Lambda = \Sigma^{-1}` the log
density is linear in the statistics of a pair,

.. math::
    \log p(y \mid u) = c + \langle O, y y^\top \rangle + \langle M, y \tilde u^\top \rangle
    + \langle K, \tilde u \tilde u^\top \rangle, \qquad O = -\tfrac12 \Lambda, \; M = \Lambda B, \;
    K = -\tfrac12 B^\top \Lambda B,

so that the gradient of a log evidence with respect to (c, O, M, K) is their expectation, and regression on expected
statistics is the whole update. Any entry of B, and any variance of independent noise, can be fixed; a variance fixed
at zero makes an output a deterministic function of its inputs.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.data.holes import known
from probgen.errors import CapabilityError
from probgen.families.base import (
    DependentFamily,
    Factor,
    Family,
    Latent,
    Natural,
    Observable,
    Parameters,
    Rows,
    Table,
    event_shape,
    once_per_tensor,
)
from probgen.families.gaussian import DiagonalGaussian
from probgen.families.gaussian_joint import FullGaussian, symmetric, wishart

__all__ = [
    "DiagonalRegression",
    "FullRegression",
    "GaussianRegression",
    "PotentialFactor",
    "Quadratic",
    "Regression",
    "balance",
]

LOG_TWO_PI = math.log(2 * math.pi)
SHRINKAGE = 0.01  # kappa, in observations
SHARE = 0.1  # of an output's variance, on which the default prior of the noise is centred
FLOOR = 1e-10  # least variance, in model coordinates


@dataclass(frozen=True)
class Regression:
    """One regression as a filter needs it: y = ``matrix`` u + ``offset`` + ``root`` e with standard normal e.

    Attributes:
        matrix: ``(R, U)``.
        offset: ``(R,)``.
        root: ``(R, E)``, a column for every source of noise.
    """

    matrix: Tensor
    offset: Tensor
    root: Tensor


@dataclass(frozen=True)
class Quadratic:
    """One regression's log density as coefficients of (1, yy', yũ', ũũ'): ``()``, (R, R), (R, U + 1), (U + 1, U + 1)."""

    constant: Tensor
    square: Tensor
    cross: Tensor
    inputs: Tensor

    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.constant, self.square, self.cross, self.inputs


@dataclass(frozen=True)
class PotentialFactor(Factor):
    """What every row says of a continuous latent z: the log density ``value + linear' z - z' square z / 2``.

    Attributes:
        latent: the site that is integrated out.
        linear: ``(*symbols, N, L)``.
        square: ``(*symbols, N, L, L)``, or one for all rows, ``(*symbols, 1, L, L)``.
    """

    latent: Latent
    linear: Tensor
    square: Tensor


class GaussianRegression(DependentFamily):
    """R outputs regressed on U inputs and a constant, with K rows of parameters.

    Args:
        columns: R.
        table: K.
        prior: "default" or None (maximum likelihood).
        inputs: U.
        spread: variance at which iterations start, in model coordinates.
    """

    refusal = "A regression has a density only given its inputs; call its table with them."

    noise: Family  # the family of the outputs given their inputs
    rotated = True  # a linear map of inputs and outputs changes nothing: no entry is fixed

    def __init__(self, columns: int, table: int, prior: str | None, inputs: int, spread: float) -> None:
        super().__init__(columns, table, prior)
        self.inputs, self.spread = inputs, spread
        self.register_buffer("center", torch.zeros(columns, inputs + 1))
        self.register_buffer("scale", torch.full((columns,), SHARE * spread))
        self.center: Tensor
        self.scale: Tensor  # of the default prior on variances

    @abstractmethod
    def regression(self, natural: Natural, row: int = 0) -> Regression:
        """Coefficients and noise of one row of the table."""

    @abstractmethod
    def quadratic(self, natural: Natural, row: int = 0) -> Quadratic:
        """The natural parameters of one row of the table as whole matrices: linear in ``natural``."""

    @abstractmethod
    def potential(self, natural: Natural, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What known outputs say of the inputs, unknown ones integrated out: (K, N), (K, N, U), (K, N or 1, U, U)."""

    @abstractmethod
    def around(self, theta: Parameters, row: Any, loc: Tensor) -> Parameters:
        """Parameters of :attr:`noise` with the given expectation."""

    @abstractmethod
    def alone(self, statistics: Natural) -> Natural:
        """The statistics of every output by itself, as those of independent noise are."""

    def calibrate(self, statistics: Natural) -> None:
        """Constants are shrunk towards the outputs' means, variances towards a share of what the neutral start leaves."""
        found = {key: value.sum(0) for key, value in self.alone(statistics).items()}
        n = found["log_normaliser"].clamp_min(1e-10)
        self.center[:, -1] = found["cross"][:, -1] / n
        weight = self.start()["weight"][0]
        left = found["square"] - 2 * (weight * found["cross"]).sum(-1)
        left = left + torch.einsum("ri,rij,rj->r", weight, found["inputs"], weight)
        self.scale = torch.where(n > 1e-9, SHARE * (left / n).clamp_min(1e-6), self.scale)

    @abstractmethod
    def precision(self, theta: Parameters) -> Tensor:
        """``(K, R, R)``: the inverse of the noise's covariance."""

    @abstractmethod
    def moved(self, theta: Parameters, outputs: Tensor | None = None, inputs: Tensor | None = None) -> Parameters:
        """The same regression between M y and M' u, for invertible M (R, R) and M' (U, U); None leaves them as they are."""

    # -- use in a program --------------------------------------------------------------------------------------
    def at(self, table: Table, *index: Any) -> Observable:
        """The outputs given their inputs ``(N, U)``, numbers or a latent that is to be integrated out."""
        *codes, inputs = index
        if isinstance(inputs, Latent):
            return Explained(table, inputs, tuple(codes))
        assert table.theta is not None
        row = codes[0] if codes else 0
        weight = table.theta["weight"][row]
        loc = (weight[..., :-1] @ inputs[..., None])[..., 0] + weight[..., -1]
        return Rows(self.noise, self.around(table.theta, row, loc), loc.shape[:-1])


class Explained(Observable):
    """Outputs whose inputs are a latent without a value: rows speak of it as potentials."""

    def __init__(self, table: Table, latent: Latent, symbols: tuple[Any, ...]) -> None:
        self.table, self.latent, self.symbols, self.family = table, latent, symbols, table.family
        super().__init__(torch.Size(), event_shape(table.family), validate_args=False)

    def factor(self, value: Any) -> PotentialFactor:
        assert isinstance(self.table.family, GaussianRegression)
        parts = self.table.family.potential(self.table.natural, value)
        shape = [symbol.size for symbol in self.symbols]
        constant, linear, square = (part.reshape(*shape, *part.shape[1:]) for part in parts)
        return PotentialFactor(self.symbols, constant, self.latent, linear, square)


# --------------------------------------------------------------------------------------------- independent noise
class DiagonalRegression(GaussianRegression):
    """Every output with a variance of its own; parameters ``weight (K, R, U + 1)`` and ``variance (K, R)``.

    Args:
        columns, table, prior, inputs, spread: as for every regression.
        weight: ``(R, U + 1)`` fixed coefficients, the constant last; NaN where they are learned.
        variance: ``(R,)`` fixed variances, NaN where they are learned.
    """

    def __init__(
        self,
        columns: int,
        table: int = 1,
        prior: str | None = "default",
        inputs: int = 0,
        spread: float = 1.0,
        weight: Tensor | None = None,
        variance: Tensor | None = None,
    ) -> None:
        super().__init__(columns, table, prior, inputs, spread)
        self.noise = DiagonalGaussian(columns, table, None)
        free = torch.full((columns, inputs + 1), torch.nan)
        self.register_buffer("fixed_weight", free if weight is None else torch.as_tensor(weight).to(free))
        self.register_buffer("fixed_variance", free[:, -1] if variance is None else torch.as_tensor(variance).to(free))
        self.fixed_weight: Tensor
        self.fixed_variance: Tensor
        self.learned = self.fixed_weight.isnan()  # (R, U + 1)
        self.rotated = bool(self.learned.all())
        self.places = self.learned.flatten().nonzero()[:, 0]
        self.scaled = self.fixed_variance.isnan().nonzero()[:, 0]  # outputs with a variance to be learned
        self.noisy = (self.fixed_variance != 0).nonzero()[:, 0]
        self.concentration = 1.5

    @property
    def rate(self) -> Tensor:
        """``(R,)``: of the Gamma prior of each precision."""
        return 0.5 * self.scale

    # -- parameters --------------------------------------------------------------------------------------------
    def prior(self) -> dict[str, dist.Distribution]:
        one = torch.ones_like(self.center[0, 0])
        found = {
            "precision": dist.Gamma(self.concentration * one, self.rate[self.scaled]).expand(
                [self.table, len(self.scaled)]
            ),
            "white": dist.Normal(0.0 * one, one).expand([self.table, len(self.places)]),
        }
        return {name: prior.to_event(2) for name, prior in found.items() if prior.batch_shape[1]}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        variance = self.fixed_variance.expand(self.table, -1)
        if "precision" in sites:
            variance = variance.index_copy(1, self.scaled, 1.0 / sites["precision"])
        weight = self.fixed_weight.expand(self.table, -1, -1)
        if "white" in sites:
            scale = (variance / SHRINKAGE).sqrt()[:, self.places // (self.inputs + 1)]
            free = self.center.flatten()[self.places] + scale * sites["white"]
            weight = weight.flatten(1).index_copy(1, self.places, free).reshape(weight.shape)
        return {"weight": weight, "variance": variance}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        weight, variance = theta["weight"], theta["variance"]
        white = (weight - self.center) * (SHRINKAGE / variance.clamp_min(FLOOR)).sqrt()[..., None]
        found = {"precision": 1.0 / variance[:, self.scaled], "white": white.flatten(1)[:, self.places]}
        return {name: value for name, value in found.items() if value.shape[1]}

    def describe(self, theta: Parameters) -> Parameters:
        return {"matrix": theta["weight"][..., :-1], "offset": theta["weight"][..., -1], "variance": theta["variance"]}

    def log_prior(self, theta: Parameters) -> Tensor:
        noisy = self.noisy
        precision = 1.0 / theta["variance"][:, noisy]
        gap = torch.where(self.learned, theta["weight"] - self.center, 0.0)[:, noisy]
        coefficients = 0.5 * self.learned[noisy].sum(1) * precision.log()
        coefficients = coefficients - 0.5 * SHRINKAGE * precision * gap.square().sum(-1)
        free = self.fixed_variance[noisy].isnan()
        variances = torch.where(free, (self.concentration - 1) * precision.log() - self.rate[noisy] * precision, 0.0)
        return coefficients.sum() + variances.sum()

    def start(self) -> Parameters:
        variance = torch.where(self.fixed_variance.isnan(), self.spread, self.fixed_variance)
        weight = torch.where(self.learned, self.center, self.fixed_weight)
        return {
            "weight": weight.expand(self.table, -1, -1).clone(),
            "variance": variance.expand(self.table, -1).clone(),
        }

    def posterior(self, statistics: Natural, current: Parameters) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Coefficients, their precision over the noise's ``(K, R, U+1, U+1)``, and twice the Gamma's shape and rate."""
        n, square = statistics["log_normaliser"], statistics["square"]
        cross, inputs = statistics["cross"], symmetric(statistics["inputs"])
        free, fixed = self.learned, torch.where(self.learned, 0.0, self.fixed_weight)
        kappa = 0.0 if self.prior_choice is None else SHRINKAGE
        eye = torch.eye(self.inputs + 1).to(inputs)
        open_ = (free[:, :, None] & free[:, None, :]).to(inputs)
        damp = 1e-12 * inputs.diagonal(0, -2, -1).mean(-1)[..., None, None]
        strength = (inputs + (kappa + damp) * eye) * open_ + torch.diag_embed((~free).to(inputs))
        right = cross + kappa * self.center - (inputs @ fixed[..., None])[..., 0]
        used = (n > 1e-10) | (kappa > 0)
        strength = torch.where(used[..., None, None], strength, eye)
        solved = torch.linalg.solve(strength, (right * free)[..., None])[..., 0]
        weight = torch.where(free, solved, self.fixed_weight)
        weight = torch.where(used[..., None], weight, current["weight"])
        left = square - 2 * (weight * cross).sum(-1) + ((inputs @ weight[..., None])[..., 0] * weight).sum(-1)
        left = left.clamp_min(0.0) + kappa * (torch.where(free, weight - self.center, 0.0).square()).sum(-1)
        prior = self.prior_choice is not None
        return (
            weight,
            strength,
            n + (2 * self.concentration if prior else 0.0),
            left + (2 * self.rate if prior else 0.0),
        )

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        weight, _, freedom, left = self.posterior(statistics, current)
        if self.prior_choice is not None:  # the mode of the joint density of coefficients and precision
            freedom = freedom + self.learned.sum(-1) - 2.0
        variance = (left / freedom.clamp_min(1e-10)).clamp_min(FLOOR)
        variance = torch.where(freedom > 1e-10, variance, current["variance"])
        return {
            "weight": weight,
            "variance": torch.where(self.fixed_variance.isnan(), variance, self.fixed_variance),
        }

    def posterior_draw(self, statistics: Natural) -> Parameters:
        weight, strength, freedom, left = self.posterior(statistics, self.start())
        variance = 1.0 / dist.Gamma(0.5 * freedom, 0.5 * left).sample()
        variance = torch.where(self.fixed_variance.isnan(), variance, self.fixed_variance)
        root = torch.linalg.cholesky(strength)
        noise = torch.linalg.solve_triangular(root.mT, torch.randn_like(weight)[..., None], upper=True)[..., 0]
        return {"weight": weight + noise * variance.sqrt()[..., None] * self.learned, "variance": variance}

    def alone(self, statistics: Natural) -> Natural:
        return statistics

    # -- densities ---------------------------------------------------------------------------------------------
    def natural(self, theta: Parameters) -> Natural:
        random = self.fixed_variance != 0
        precision = torch.where(random, 1.0 / torch.where(random, theta["variance"], 1.0), 0.0)
        cross = precision[..., None] * theta["weight"]
        return {
            "log_normaliser": 0.5 * torch.where(random, torch.where(random, precision, 1.0).log() - LOG_TWO_PI, 0.0),
            "square": -0.5 * precision,
            "cross": cross,
            "inputs": -0.5 * cross[..., :, None] * theta["weight"][..., None, :],
        }

    def precision(self, theta: Parameters) -> Tensor:
        return torch.diag_embed(1.0 / theta["variance"])

    def moved(self, theta: Parameters, outputs: Tensor | None = None, inputs: Tensor | None = None) -> Parameters:
        if outputs is not None:
            raise CapabilityError("Outputs with independent noise cannot be mixed.")
        return theta if inputs is None else {**theta, "weight": with_inputs_moved(theta["weight"], inputs)}

    def regression(self, natural: Natural, row: int = 0) -> Regression:
        random = self.fixed_variance != 0
        variance = torch.where(random, -0.5 / torch.where(random, natural["square"][row], -1.0), 0.0)
        fixed = torch.where(self.learned, 0.0, self.fixed_weight)
        weight = torch.where(random[:, None], natural["cross"][row] * variance[:, None], fixed)
        return Regression(weight[:, :-1], weight[:, -1], torch.diag(variance.sqrt())[:, self.noisy])

    def quadratic(self, natural: Natural, row: int = 0) -> Quadratic:
        found = {key: value[row] for key, value in natural.items()}
        square = torch.diag_embed(found["square"])
        return Quadratic(found["log_normaliser"].sum(), square, found["cross"], found["inputs"].sum(0))

    @once_per_tensor
    def terms(self, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """(y, y^2) side by side with zeros for unknown cells ``(N, 2 R)``, and the mask of known cells."""
        seen, filled = known(y), y.nan_to_num()
        return torch.cat([filled, filled.square()], 1), None if seen is None else seen.to(y)

    def potential(self, natural: Natural, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        terms, seen = self.terms(y)
        cross, inputs = natural["cross"], natural["inputs"]  # (K, R, U + 1), (K, R, U + 1, U + 1)
        each = natural["log_normaliser"] + inputs[..., -1, -1]
        constant = torch.cat([cross[..., -1], natural["square"]], 1) @ terms.mT
        linear = terms[:, : self.columns] @ cross[..., :-1]
        slope, curve = 2.0 * inputs[..., :-1, -1], -2.0 * inputs[..., :-1, :-1]
        if seen is None:
            return (
                constant + each.sum(1, keepdim=True),
                linear + slope.sum(1, keepdim=True),
                curve.sum(1, keepdim=True),
            )
        square = (seen @ curve.flatten(2)).unflatten(2, curve.shape[2:])
        return constant + each @ seen.mT, linear + seen @ slope, square

    def around(self, theta: Parameters, row: Any, loc: Tensor) -> Parameters:
        return {"loc": loc, "precision": (1.0 / theta["variance"][row]).expand(loc.shape)}


# -------------------------------------------------------------------------------------------------- coupled noise
class FullRegression(GaussianRegression):
    """Outputs whose noise is coupled; parameters ``weight (K, R, U + 1)`` and ``precision (K, R, R)``."""

    def __init__(
        self, columns: int, table: int = 1, prior: str | None = "default", inputs: int = 0, spread: float = 1.0
    ) -> None:
        super().__init__(columns, table, prior, inputs, spread)
        self.noise = FullGaussian(columns, table, None)
        self.freedom = columns + 2.0
        self.power = self.freedom - columns + inputs  # of the precision's root determinant in the joint prior density

    # -- parameters --------------------------------------------------------------------------------------------
    def prior(self) -> dict[str, dist.Distribution]:
        K, R, zero = self.table, self.columns, torch.zeros_like(self.center[0, 0])
        freedom = (self.freedom - torch.arange(R).to(self.center)).expand(K, R)
        found = {"chi2": dist.Chi2(freedom), "lower": dist.Normal(zero, 1.0).expand([K, R * (R - 1) // 2])}
        white = dist.Normal(zero, 1.0).expand([K, R, self.inputs + 1]).to_event(3)
        return {name: prior.to_event(2) for name, prior in found.items()} | {"white": white}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        row, column = torch.tril_indices(self.columns, self.columns, -1)
        root = torch.diag_embed(sites["chi2"].sqrt()).index_put(
            (torch.arange(self.table)[:, None], row, column), sites["lower"]
        )
        root = root / self.scale.sqrt()[:, None]  # of the precision
        white = torch.linalg.solve_triangular(root.mT, sites["white"], upper=True)
        return {"weight": self.center + white / SHRINKAGE**0.5, "precision": root @ root.mT}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        row, column = torch.tril_indices(self.columns, self.columns, -1)
        root = torch.linalg.cholesky(theta["precision"])
        white = root.mT @ (theta["weight"] - self.center) * SHRINKAGE**0.5
        scaled = root * self.scale.sqrt()[:, None]
        return {"chi2": scaled.diagonal(0, -2, -1).square(), "lower": scaled[:, row, column], "white": white}

    def describe(self, theta: Parameters) -> Parameters:
        covariance = torch.linalg.inv(theta["precision"])
        return {"matrix": theta["weight"][..., :-1], "offset": theta["weight"][..., -1], "covariance": covariance}

    def log_prior(self, theta: Parameters) -> Tensor:
        P, gap = theta["precision"], theta["weight"] - self.center
        log_det = 2 * torch.linalg.cholesky(P).diagonal(0, -2, -1).log().sum(-1)
        trace = (self.scale * P.diagonal(0, -2, -1)).sum(-1) + SHRINKAGE * (gap * (P @ gap)).sum((-2, -1))
        return (0.5 * self.power * log_det - 0.5 * trace).sum()

    def start(self) -> Parameters:
        eye = torch.eye(self.columns).to(self.center) / self.spread
        return {
            "weight": self.center.expand(self.table, -1, -1).clone(),
            "precision": eye.expand(self.table, -1, -1).clone(),
        }

    def posterior(self, statistics: Natural, current: Parameters) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Coefficients, precision of the inputs' side ``(K, U+1, U+1)``, degrees of freedom, scatter ``(K, R, R)``."""
        n, square = statistics["log_normaliser"], symmetric(statistics["square"])
        cross, inputs = statistics["cross"], symmetric(statistics["inputs"])
        prior = self.prior_choice is not None
        kappa = SHRINKAGE if prior else 0.0
        eye = torch.eye(self.inputs + 1).to(inputs)
        used = (n > 1e-10)[:, None, None] | prior
        damp = 1e-12 * inputs.diagonal(0, -2, -1).mean(-1)[:, None, None]
        strength = torch.where(used, inputs + (kappa + damp) * eye, eye)
        weight = torch.linalg.solve(strength, (cross + kappa * self.center).mT).mT
        weight = torch.where(used, weight, current["weight"])
        part = weight @ cross.mT
        scatter = square - part - part.mT + weight @ inputs @ weight.mT
        gap = weight - self.center
        scatter = scatter + kappa * gap @ gap.mT
        if prior:
            scatter = scatter + torch.diag(self.scale)
        return weight, strength, n + (self.freedom if prior else 0.0), symmetric(scatter)

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        weight, _, freedom, scatter = self.posterior(statistics, current)
        if self.prior_choice is not None:  # the mode of the joint density of coefficients and precision
            freedom = freedom + self.inputs - self.columns
        used = (freedom > 1e-10)[:, None, None]
        precision = inverse_floored(scatter / freedom.clamp_min(1e-10)[:, None, None])
        return {"weight": weight, "precision": torch.where(used, precision, current["precision"])}

    def posterior_draw(self, statistics: Natural) -> Parameters:
        weight, strength, freedom, scatter = self.posterior(statistics, self.start())
        precision = wishart(freedom, scatter)
        noise = torch.linalg.solve_triangular(
            torch.linalg.cholesky(precision).mT, torch.randn_like(weight), upper=True
        )
        root = torch.linalg.cholesky(strength)
        noise = torch.linalg.solve_triangular(root.mT, noise.mT, upper=True).mT
        return {"weight": weight + noise, "precision": precision}

    def alone(self, statistics: Natural) -> Natural:
        n, inputs = statistics["log_normaliser"], statistics["inputs"]
        return {
            "log_normaliser": n[:, None].expand(-1, self.columns),
            "square": statistics["square"].diagonal(0, -2, -1),
            "cross": statistics["cross"],
            "inputs": inputs[:, None].expand(-1, self.columns, -1, -1),
        }

    # -- densities ---------------------------------------------------------------------------------------------
    def natural(self, theta: Parameters) -> Natural:
        P, weight = theta["precision"], theta["weight"]
        log_det = torch.linalg.cholesky(P).diagonal(0, -2, -1).log().sum(-1)
        cross = P @ weight
        return {
            "log_normaliser": log_det - 0.5 * self.columns * LOG_TWO_PI,
            "square": -0.5 * P,
            "cross": cross,
            "inputs": -0.5 * weight.mT @ cross,
        }

    def precision(self, theta: Parameters) -> Tensor:
        return theta["precision"]

    def moved(self, theta: Parameters, outputs: Tensor | None = None, inputs: Tensor | None = None) -> Parameters:
        weight, P = theta["weight"], theta["precision"]
        weight = weight if inputs is None else with_inputs_moved(weight, inputs)
        if outputs is not None:
            back = torch.linalg.inv(outputs)
            weight, P = outputs @ weight, symmetric(back.mT @ P @ back)
        return {"weight": weight, "precision": P}

    def regression(self, natural: Natural, row: int = 0) -> Regression:
        root = torch.linalg.cholesky(-2.0 * natural["square"][row])
        weight = torch.cholesky_solve(natural["cross"][row], root)
        eye = torch.eye(self.columns).to(weight)
        return Regression(weight[:, :-1], weight[:, -1], torch.linalg.solve_triangular(root.mT, eye, upper=True))

    def quadratic(self, natural: Natural, row: int = 0) -> Quadratic:
        found = {key: value[row] for key, value in natural.items()}
        return Quadratic(found["log_normaliser"], found["square"], found["cross"], found["inputs"])

    @once_per_tensor
    def patterns(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct patterns of known cells ``(G, R)``, and the one that each row has."""
        seen, of_row = torch.unique(~y.isnan(), dim=0, return_inverse=True)
        return seen.to(y), of_row

    def potential(self, natural: Natural, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        P, cross, inputs = -2.0 * natural["square"], natural["cross"], natural["inputs"]
        x = y.nan_to_num()
        constant = natural["log_normaliser"] + inputs[:, -1, -1]
        constant = constant[:, None] + cross[..., -1] @ x.mT
        constant = constant - 0.5 * ((x @ P) * x).sum(-1)
        linear = x @ cross[..., :-1] + 2.0 * inputs[:, None, :-1, -1]
        square = -2.0 * inputs[:, None, :-1, :-1]
        if known(y) is None:
            return constant, linear, square
        seen, of_row = self.patterns(y)
        miss = 1.0 - seen  # (G, R)
        hidden = P[:, None] * miss[:, :, None] * miss[:, None, :] + torch.diag_embed(seen)
        root = torch.linalg.cholesky(hidden)  # (K, G, R, R), identity where known
        log_det = root.diagonal(0, -2, -1).log().sum(-1)
        gain = torch.cholesky_solve(cross[:, None, :, :-1] * miss[..., None], root)  # (K, G, R, U)
        square = square - (cross[:, None, :, :-1] * miss[..., None]).mT @ gain
        left = (cross[:, None, :, -1] - x @ P) * miss[of_row]  # (K, N, R)
        pull = torch.cholesky_solve(left[..., None], root[:, of_row])[..., 0]
        constant = constant + 0.5 * (left * pull).sum(-1)
        constant = constant + (0.5 * LOG_TWO_PI * miss.sum(-1) - log_det)[:, of_row]
        linear = linear + (gain[:, of_row].mT @ left[..., None])[..., 0]
        return constant, linear, square[:, of_row]

    def around(self, theta: Parameters, row: Any, loc: Tensor) -> Parameters:
        precision = theta["precision"][row]
        return {"loc": loc, "precision": precision.expand(*loc.shape[:-1], *precision.shape[-2:])}


def with_inputs_moved(weight: Tensor, move: Tensor) -> Tensor:
    """Coefficients of M u in place of those of u."""
    return torch.cat([torch.linalg.solve(move, weight[..., :-1], left=False), weight[..., -1:]], -1)


def balance(families: Sequence[GaussianRegression], thetas: Sequence[Parameters]) -> list[Parameters]:
    r"""Parameters for the states M z in place of z, with the M that the priors like best.

    The density of the data is the same for every M; the log prior is, up to a constant,
    :math:`-F \log |M| - \tfrac12 \mathrm{tr}(M^{-\top} H M^{-1})`, with F from the powers of the noise's
    determinants and H from scales and shrinkage, so that :math:`M^\top M = H / F`. Without this step EM would find M by
    small steps, as nothing but the priors speaks of it (parameter expansion; Liu, Rubin and Wu, 1998).

    Args:
        families: of the first state, of the transition (any number of rows) and of the emission.
        thetas: their parameters.
    """
    (start, move, load), (first, then, last) = families, thetas
    assert isinstance(start, FullRegression)
    assert isinstance(move, FullRegression)
    P, A, C = move.precision(then), then["weight"][..., :-1], last["weight"][0, :, :-1]
    curve = start.scale[0] * start.precision(first)[0] + move.scale[0] * P.sum(0)
    curve = curve + SHRINKAGE * ((A.mT @ P @ A).sum(0) + C.mT @ load.precision(last)[0] @ C)
    values, vectors = torch.linalg.eigh(symmetric(curve) / (start.power + move.table * move.power))
    M = (vectors * values.sqrt()) @ vectors.mT
    return [start.moved(first, M), move.moved(then, M, M), load.moved(last, None, M)]


def inverse_floored(covariance: Tensor) -> Tensor:
    """Precision matrices of the nearest covariances whose variances, in any direction, are at least the floor."""
    values, vectors = torch.linalg.eigh(covariance)
    return symmetric((vectors / values.clamp_min(FLOOR)[..., None, :]) @ vectors.mT)
