r"""Gaussian guides over an unconstrained vector of P numbers: mean-field, full-rank and low-rank.

A guide makes draws of standard normal noise, :math:`u = t(\phi, \varepsilon)`, and knows its log density there and the
derivative of that by u. Parameters :math:`\phi` are one tensor with P columns, the location in its first row.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from probgen.errors import CapabilityError

__all__ = ["GUIDES", "FullRank", "Guide", "LowRank", "MeanField", "make_guide"]

LOG_TWO_PI = math.log(2 * math.pi)
MOST_FULL = 500  # numbers up to which all covariances are learnt
FAINT = 0.01  # of a standard deviation: where factors of the covariance start


class Guide(ABC):
    """A family of normal densities of P numbers.

    Attributes:
        noise: standard normal numbers behind one draw.
        name: as the option calls it.
    """

    name: str

    def __init__(self, size: int) -> None:
        self.size, self.noise = size, size

    @abstractmethod
    def start(self, centre: Tensor, scale: Tensor) -> Tensor:
        """Parameters of independent normals with these locations and standard deviations ``(P,)``."""

    @abstractmethod
    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Draws ``(S, P)`` made of noise ``(S, noise)``."""

    @abstractmethod
    def log_density(self, parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """At the draws that the noise makes: log density ``(S,)``, and its derivative by the draw ``(S, P)``."""

    @abstractmethod
    def units(self, parameters: Tensor) -> Tensor:
        """By how much each parameter has to change to matter: a standard deviation, or 1 of a logarithm."""


class MeanField(Guide):
    r""":math:`u = \mu + e^{\omega} \varepsilon`; parameters ``(2, P)``: locations, log standard deviations."""

    name = "mean_field"

    def start(self, centre: Tensor, scale: Tensor) -> Tensor:
        return torch.stack([centre, scale.log()])

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        location, log_scale = parameters.unbind()
        return location + log_scale.exp() * noise

    def log_density(self, parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        _, log_scale = parameters.unbind()
        value = -0.5 * noise.square().sum(1) - log_scale.sum() - 0.5 * LOG_TWO_PI * self.size
        return value, -noise / log_scale.exp()

    def units(self, parameters: Tensor) -> Tensor:
        scale = parameters[1].exp()
        return torch.stack([scale, torch.ones_like(scale)])


class FullRank(Guide):
    r""":math:`u = \mu + L \varepsilon`; parameters ``(1 + P, P)``: locations, L with the logarithm of its diagonal."""

    name = "full_rank"

    def __init__(self, size: int) -> None:
        if size > MOST_FULL:
            raise CapabilityError(
                f"guide='full_rank' is for up to {MOST_FULL} unconstrained numbers, this program has {size}; use"
                " guide='low_rank'."
            )
        super().__init__(size)

    def start(self, centre: Tensor, scale: Tensor) -> Tensor:
        return torch.cat([centre[None], scale.log().diag()])

    def factor(self, parameters: Tensor) -> Tensor:
        """The lower triangle L ``(P, P)``."""
        raw = parameters[1:]
        return raw.tril(-1) + raw.diagonal().exp().diag()

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        return parameters[0] + noise @ self.factor(parameters).mT

    def log_density(self, parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        log_determinant = parameters[1:].diagonal().sum()
        value = -0.5 * noise.square().sum(1) - log_determinant - 0.5 * LOG_TWO_PI * self.size
        slope = torch.linalg.solve_triangular(self.factor(parameters).mT, noise.mT, upper=True).mT
        return value, -slope

    def units(self, parameters: Tensor) -> Tensor:
        scale = self.factor(parameters).square().sum(1).sqrt()
        rows = scale[:, None].expand(-1, self.size)
        return torch.cat([scale[None], rows - rows.diagonal().diag() + torch.eye(self.size).to(rows)])


class LowRank(Guide):
    r""":math:`u = \mu + e^{\omega} \varepsilon_1 + F^\top \varepsilon_2`; parameters ``(2 + R, P)``.

    The covariance is :math:`e^{2\omega} + F^\top F`, its inverse by Woodbury's identity.
    """

    name = "low_rank"

    def __init__(self, size: int, rank: int) -> None:
        super().__init__(size)
        self.rank = min(rank, size)
        self.noise = size + self.rank

    def start(self, centre: Tensor, scale: Tensor) -> Tensor:
        factors = FAINT * torch.randn(self.rank, self.size).to(centre) * scale
        return torch.cat([centre[None], scale.log()[None], factors])

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        own, common = noise[:, : self.size], noise[:, self.size :]
        return parameters[0] + parameters[1].exp() * own + common @ parameters[2:]

    def log_density(self, parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        scale = parameters[1].exp()
        own, common = noise[:, : self.size], noise[:, self.size :]
        factors = parameters[2:] / scale
        z = own + common @ factors
        lower = torch.linalg.cholesky(torch.eye(self.rank).to(z) + factors @ factors.mT)
        w = torch.linalg.solve_triangular(lower, factors @ z.mT, upper=False)  # (R, S)
        back = torch.linalg.solve_triangular(lower.mT, w, upper=True).mT @ factors
        log_determinant = parameters[1].sum() + lower.diagonal().log().sum()
        square = z.square().sum(1) - w.square().sum(0)
        return -0.5 * square - log_determinant - 0.5 * LOG_TWO_PI * self.size, (back - z) / scale

    def units(self, parameters: Tensor) -> Tensor:
        scale = (parameters[1].mul(2).exp() + parameters[2:].square().sum(0)).sqrt()
        return torch.stack([scale, torch.ones_like(scale), *(scale for _ in range(self.rank))])


GUIDES = ("mean_field", "full_rank", "low_rank")


def make_guide(name: str, size: int, rank: int) -> Guide:
    """The guide of this name for P numbers; ``rank`` is of the low-rank one."""
    if name not in GUIDES:
        raise CapabilityError(f"guide must be one of {', '.join(GUIDES)}, got {name!r}.")
    if name == "low_rank":
        return LowRank(size, rank)
    return MeanField(size) if name == "mean_field" else FullRank(size)
