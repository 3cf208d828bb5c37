r"""Guides over an unconstrained vector of P numbers: normals (mean-field, full-rank, low-rank) and a flow.

A guide makes draws of standard normal noise, :math:`u = t(\phi, \varepsilon)`, and knows its log density there and the
derivative of that by u. Parameters :math:`\phi` are one tensor with P columns, the location in its first row.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.func import vjp

from probgen.errors import CapabilityError

__all__ = ["GUIDES", "Flow", "FullRank", "Guide", "LowRank", "MeanField", "make_guide"]

LOG_TWO_PI = math.log(2 * math.pi)
LAYERS, WIDTH = 4, 32  # of a flow, and hidden units in each
WEIGHT = 0.1  # by how much a weight of the flow moves at once
STRETCH = 2.0  # logarithm of a scale in a layer, at most
FAINT = 0.01  # of a standard deviation: where factors of the covariance start


class Guide(ABC):
    """A family of densities of P numbers.

    Attributes:
        noise: standard normal numbers behind one draw.
        name: as the option calls it.
        most: numbers that it takes, as its parameters grow with their square or more.
    """

    name: str
    most: float = math.inf

    def __init__(self, size: int) -> None:
        if size > self.most:
            raise CapabilityError(
                f"guide={self.name!r} is for up to {self.most} unconstrained numbers, this program has {size}; use"
                " guide='low_rank'."
            )
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
    most = 500

    def start(self, centre: Tensor, scale: Tensor) -> Tensor:
        return torch.cat([centre[None], scale.log().diag()])

    def factor(self, parameters: Tensor) -> Tensor:
        """The lower triangle L ``(P, P)``."""
        raw = parameters[1 : 1 + self.size]
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


class Flow(FullRank):
    r""":math:`u = \mu + L\, s(h_L \circ \cdots \circ h_1(\varepsilon))`; a normal that layers bend.

    A layer h leaves every other number as it is and moves and scales the rest by what a small network makes of them (Dinh,
    Sohl-Dickstein and Bengio, 2017); :math:`s(x) = \sinh\bigl(e^{\tau}(\sinh^{-1} x + \kappa)\bigr)` gives each number its
    skewness and its tails (Jones and Pewsey, 2009). Parameters ``(3 + P + R, P)``: those of the full-rank guide, skewness,
    tails, and the networks' weights, row after row. It begins as independent normals.
    """

    name = "flow"
    most = 100

    def __init__(self, size: int) -> None:
        super().__init__(size)
        parts = [torch.arange(size)[start::2] for start in (0, 1)]
        self.layers = [(parts[at % 2], parts[1 - at % 2]) for at in range(LAYERS if size > 1 else 0)]  # kept, moved
        self.shapes = [
            shape
            for kept, moved in self.layers
            for shape in ((len(kept), WIDTH), (1, WIDTH), (WIDTH, 2 * len(moved)), (1, 2 * len(moved)))
        ]
        self.weights = sum(a * b for a, b in self.shapes)
        self.rows = -(-self.weights // size)

    def start(self, centre: Tensor, scale: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        parts = [
            torch.randn(shape, generator=generator).flatten() / math.sqrt(shape[0])
            if at % 4 == 0
            else torch.zeros(math.prod(shape))
            for at, shape in enumerate(self.shapes)
        ]  # the last layer of every network is zero, so that nothing is bent yet
        flat = torch.cat([*parts, torch.zeros(self.rows * self.size - self.weights)]).to(centre)
        straight = centre.new_zeros(2, self.size)
        return torch.cat([super().start(centre, scale), straight, flat.reshape(self.rows, self.size)])

    def networks(self, parameters: Tensor) -> list[list[Tensor]]:
        """Weights of the layers: into the hidden units, out of them, each with its constant."""
        flat, sizes = parameters[3 + self.size :].flatten(), [a * b for a, b in self.shapes]
        parts = flat[: self.weights].split(sizes)
        shaped = [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return [shaped[at : at + 4] for at in range(0, len(shaped), 4)]

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        x = noise
        for (kept, moved), network in zip(self.layers, self.networks(parameters), strict=True):
            shift, stretch = shift_and_stretch(x[:, kept], network)
            x = x.index_copy(1, moved.to(x.device), x[:, moved] * stretch.exp() + shift)
        skew, tail = parameters[1 + self.size : 3 + self.size].unbind()
        return super().draw(parameters, (tail.exp() * (x.asinh() + skew)).sinh())

    def log_density(self, parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        value, back = vjp(lambda u: self.log_density_at(parameters, u), self.draw(parameters, noise))  # type: ignore[misc]
        return value, back(torch.ones_like(value))[0]

    def log_density_at(self, parameters: Tensor, u: Tensor) -> Tensor:
        """``(S,)`` at points ``(S, P)``: the way back to the noise."""
        skew, tail = parameters[1 + self.size : 3 + self.size].unbind()
        y = torch.linalg.solve_triangular(self.factor(parameters), (u - parameters[0]).mT, upper=False).mT
        angle = y.asinh() * (-tail).exp() - skew
        log_slope = log_cosh(angle) - tail - 0.5 * y.square().log1p()
        x, total = angle.sinh(), log_slope.sum(1) - parameters[1 : 1 + self.size].diagonal().sum()
        layers = list(zip(self.layers, self.networks(parameters), strict=True))
        for (kept, moved), network in reversed(layers):
            shift, stretch = shift_and_stretch(x[:, kept], network)
            x = x.index_copy(1, moved.to(x.device), (x[:, moved] - shift) * (-stretch).exp())
            total = total - stretch.sum(1)
        return total - 0.5 * x.square().sum(1) - 0.5 * LOG_TWO_PI * self.size

    def units(self, parameters: Tensor) -> Tensor:
        bends = torch.ones_like(parameters[1 + self.size : 3 + self.size])
        return torch.cat([super().units(parameters), bends, torch.full_like(parameters[3 + self.size :], WEIGHT)])


def shift_and_stretch(kept: Tensor, network: list[Tensor]) -> tuple[Tensor, Tensor]:
    """What one layer's network makes of the numbers it leaves alone ``(S, kept)``: two of ``(S, moved)``."""
    into, constant, out, last = network
    shift, stretch = ((kept @ into + constant).tanh() @ out + last).chunk(2, 1)
    return shift, STRETCH * (stretch / STRETCH).tanh()


def log_cosh(x: Tensor) -> Tensor:
    return x.abs() + torch.nn.functional.softplus(-2 * x.abs()) - math.log(2)


GUIDES = ("mean_field", "full_rank", "low_rank", "flow")


def make_guide(name: str, size: int, rank: int) -> Guide:
    """The guide of this name for P numbers; ``rank`` is of the low-rank one."""
    if name not in GUIDES:
        raise CapabilityError(f"guide must be one of {', '.join(GUIDES)}, got {name!r}.")
    if name == "low_rank":
        return LowRank(size, rank)
    if name == "flow":
        return Flow(size)
    return MeanField(size) if name == "mean_field" else FullRank(size)
