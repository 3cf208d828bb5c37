r"""Slopes of which few matter: the horseshoe (Carvalho, Polson and Scott, 2010), with a slab for those that do.

.. math::
    \beta_0 \sim \mathcal N(0, 10^2), \qquad
    \beta_m \sim \mathcal N(0, \rho^2), \quad \rho \sim \mathcal C^+(0, 1), \qquad
    \beta_q \sim \mathcal N\big(0, (1 / (\tau \lambda_q)^2 + 1 / c^2)^{-1}\big), \quad
    \lambda_q \sim \mathcal C^+(0, 1), \; \tau \sim \mathcal C^+(0, \tau_0)

for a constant, M main effects and Q products; :math:`\rho = 3` where there are ten rows and more for each main effect. The slab is an observation of every product's slope, 0 with standard
deviation c (Nishimura and Suchard, 2023), so that the scales given the slopes are those of the plain horseshoe: inverse
gammas, by an auxiliary variable for every half-Cauchy (Makalic and Schmidt, 2016).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.families.streams import Streams

__all__ = ["Shrinkage", "Theta", "joined", "part"]

Theta = dict[str, Tensor]

CONSTANT, SLAB = 10.0, 2.0  # standard deviations of the constants and of the slab
WIDE, FEW = 3.0, 10  # standard deviation of main effects, where there are ten rows for each of them
SHARE = 0.1  # of products, that is expected to matter
LEAST, MOST = 1e-6, 1e12  # of precisions


@dataclass(frozen=True)
class Shrinkage:
    """The prior of one regression's slopes: ``slopes (R, C + M + Q)`` in R chains.

    Attributes:
        constants: C.
        mains: M.
        products: Q.
        rows: N, from which the scale of products that do not matter comes.
        noise: the standard deviation of what is regressed, given all.
    """

    constants: int
    mains: int
    products: int
    rows: int
    noise: float = 1.0

    @property
    def width(self) -> int:
        """C + M + Q."""
        return self.constants + self.mains + self.products

    @property
    def few_mains(self) -> bool:
        """Whether rows tell main effects so well that their common scale would only pull them to zero."""
        return self.rows >= FEW * self.mains

    @property
    def overall_scale(self) -> float:
        r""":math:`\tau_0`, as in Piironen and Vehtari (2017)."""
        return self.noise * SHARE / (1 - SHARE) / math.sqrt(max(self.rows, 1))

    def start(self, chains: int) -> Theta:
        """No slopes, and scales in the middle of their priors."""
        return {
            "slopes": torch.zeros(chains, self.width),
            "ridge": torch.full((chains,), WIDE**-2 if self.few_mains else 1.0),
            "overall": torch.full((chains,), self.overall_scale**-2 if self.products else 1.0),
            "local": torch.ones(chains, self.products),
        }

    def precision(self, theta: Theta) -> Tensor:
        """``(R, C + M + Q)``: of the slopes, given the scales."""
        constants = theta["ridge"][:, None].new_full((len(theta["ridge"]), self.constants), CONSTANT**-2)
        mains = theta["ridge"][:, None].expand(-1, self.mains)
        products = (theta["overall"][:, None] * theta["local"]).clamp(LEAST, MOST) + SLAB**-2
        return torch.cat([constants, mains, products], -1)

    def noise_of(self, streams: Streams, times: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """What ``times`` calls of :meth:`redraw` need: normals, exponentials and gammas, drawn together."""
        chains, (m, q) = len(streams), (self.mains, self.products)
        normal = streams.normal(times, self.width)
        exponential = streams.exponential(times, 2 * q + 2)
        gamma = streams.gamma(torch.tensor([(m + 1) / 2, (q + 1) / 2]).expand(chains, times, 2))
        return list(zip(normal.unbind(1), exponential.unbind(1), gamma.unbind(1), strict=True))

    def redraw(self, theta: Theta, exponential: Tensor, gamma: Tensor) -> Theta:
        """The scales given the slopes."""
        m, q = self.constants, self.products
        mains, products = theta["slopes"][:, m : m + self.mains], theta["slopes"][:, m + self.mains :]
        ridge = gamma[:, 0] / (exponential[:, 0] / (1 + theta["ridge"]) + mains.square().sum(-1) / 2)
        found = {**theta, "ridge": theta["ridge"] if self.few_mains else ridge.clamp(LEAST, MOST)}
        if q:
            inner, outer = exponential[:, 2 : 2 + q] / (1 + theta["local"]), exponential[:, 2 + q :]
            half = products.square() / 2
            local = (outer / (inner + half * theta["overall"][:, None])).clamp(LEAST, MOST)
            auxiliary = exponential[:, 1] / (self.overall_scale**-2 + theta["overall"])
            overall = gamma[:, 1] / (auxiliary + (half * local).sum(-1))
            found |= {"local": local, "overall": overall.clamp(LEAST, MOST)}
        return found

    def sites(self, name: str) -> Theta:
        """The same prior as sample sites of a program: one draw of all, without an axis of chains."""
        half = lambda key, scale, size: pyro.sample(  # noqa: E731
            f"{name}.{key}", dist.HalfCauchy(torch.full(size, scale)).to_event(len(size))
        )
        ridge = torch.full((1,), WIDE) if self.few_mains else half("main_scale", 1.0, (1,))
        overall, local = half("product_scale", self.overall_scale or 1.0, (1,)), half("local", 1.0, (self.products,))
        wide = (overall * local).square()
        scale = torch.cat([torch.full((self.constants,), CONSTANT), ridge.expand(self.mains), wide.sqrt()])
        slopes = pyro.sample(f"{name}.slopes", dist.Normal(0.0, scale).to_event(1))
        slab = slopes[self.constants + self.mains :]
        pyro.factor(f"{name}.slab", (-0.5 * (slab / SLAB).square()).sum())
        return {"slopes": slopes}


def joined(parts: Mapping[str, Theta]) -> Theta:
    """Parameters of all parts, each key with the part's name in front."""
    return {f"{name}.{key}": value for name, theta in parts.items() for key, value in theta.items()}


def part(theta: Theta, name: str) -> Theta:
    """Parameters of one part."""
    return {key.removeprefix(f"{name}."): value for key, value in theta.items() if key.startswith(f"{name}.")}
