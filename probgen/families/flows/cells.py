r"""A table's row as numbers with a flow's density, given what is known of the row.

.. math:: p(x_{\text{known}}) = \int p_u\bigl(u_x(z)\bigr) \Bigl| \det \frac{\partial u_x}{\partial z} \Bigr| \mathrm dz
    \prod_{d \text{ a known measure}} \Bigl| \frac{\mathrm d u_d}{\mathrm d x_d} \Bigr|

:math:`u_x` goes over all numbers that lead to the known cells x. Its free coordinates z are the latent site of a row: with nothing known they are the
numbers themselves, and where nothing is left open there is no integral.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import StudentT, TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from probgen.families.base import Observable
from probgen.families.flows.known import Known
from probgen.families.flows.numbers import Numbers

__all__ = ["Left", "StudentNoise", "Written"]

LIGHT, LEAST = 20.0, 2.0  # degrees of freedom that noise starts with, and fewer than which it never has


class StudentNoise(nn.Module):
    """Independent noise with tails that are learnt, so that a row far out costs nats in proportion to a logarithm.

    Args:
        size: P.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.log_excess = nn.Parameter(torch.full((size,), LIGHT - LEAST).log())

    @property
    def degrees(self) -> Tensor:
        """Of freedom, of each number."""
        return LEAST + self.log_excess.exp()

    def forward(self) -> Students:
        return Students(self.degrees)


class Students(TorchDistribution):
    """Independent standard Student t; normalisers are worked out once, not once a row."""

    arg_constraints: dict = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, degrees: Tensor, batch_shape: torch.Size = torch.Size()) -> None:  # noqa: B008
        self.degrees = degrees
        super().__init__(batch_shape, degrees.shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Students:
        return Students(self.degrees, torch.Size(batch_shape))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return StudentT(self.degrees).expand(self.batch_shape + self.event_shape).rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        half, normaliser = (self.degrees + 1) / 2, StudentT(self.degrees).log_prob(torch.zeros_like(self.degrees))
        return normaliser.sum() - (half * (value.square() / self.degrees).log1p()).sum(-1)


class Left(TorchDistribution):
    """What known cells leave of the distribution of a row's numbers, in free coordinates ``(P,)``; normalised where nothing is known.

    Args:
        numbers: their distribution.
        known: of the rows.
    """

    arg_constraints: dict = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, numbers: Any, known: Known) -> None:
        self.numbers, self.known = numbers, known
        super().__init__(numbers.batch_shape, numbers.event_shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Left:
        return Left(self.numbers.expand(torch.Size(batch_shape)), self.known)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Of rows of which nothing is known."""
        return self.numbers.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        u, change = self.known.open(value)
        return self.numbers.log_prob(u) + change


class Written(Observable):
    """The cells ``(D,)`` that numbers stand for, given by free coordinates.

    Args:
        numbers: between the two.
        z: ``(..., P)``.
    """

    def __init__(self, numbers: Numbers, z: Tensor) -> None:
        self.numbers, self.z = numbers, z
        super().__init__(z.shape[:-1], torch.Size([len(numbers.columns)]), validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """The slope of known measures; cells are functions of their numbers, so that there is nothing else to count."""
        return self.numbers.read(x).log_slope.expand(self.batch_shape)

    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells written from the numbers."""
        return torch.where(x.isnan(), self.numbers.write(self.numbers.read(x).open(self.z)[0]), x)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.numbers.write(self.z)

    @property
    def mean(self) -> Tensor:
        return self.sample()
