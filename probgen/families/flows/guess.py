r"""A guess at what known cells leave open, number by number: conditional densities for any pattern of holes, amortised.

.. math:: z_j = g\bigl(e_j;\ a_j(x_{\text{known}}) + b_j(z_{<j}, x_{\text{known}})\bigr), \qquad e_j \sim \mathcal N(0, 1)

g is a spline and a scale and shift behind it. Its density is one pass of a masked network; numbers that are known count nothing and are not looked at.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from probgen.families.flows.elementwise import Affine, Monotone, RationalQuadratic
from probgen.families.flows.known import Known
from probgen.nn import MaskedMLP, mlp

__all__ = ["Guess", "Guesser"]

BINS, BOUND = 8, 4.0
WIDTH = 64  # of the network from number to number
FARTHEST = 10.0  # of what is read


class Guesser(nn.Module):
    """The networks of a guess.

    Args:
        features: F, numbers that are read of a row.
        size: P.
        hidden: widths of the network that reads the row.
    """

    def __init__(self, features: int, size: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.map = ScaledSpline()
        each = self.map.parameters
        self.read = mlp(features, *hidden, WIDTH + size * each)
        self.size = size
        self.walk = MaskedMLP(size, (max(WIDTH, 2 * size),), each, WIDTH)
        for parameter in (*[*self.read.parameters()][-2:], *self.walk.layers[-1].parameters()):
            parameter.data *= 0.1

    def forward(self, features: Tensor, known: Known) -> Guess:
        """What is guessed of rows with features ``(N, F)``."""
        context, first = self.read(features.clamp(-FARTHEST, FARTHEST)).split(
            [WIDTH, self.size * self.map.parameters], -1
        )
        return Guess(self, context, first.unflatten(-1, (self.size, -1)), known)


class Guess(TorchDistribution):
    """Free coordinates ``(P,)``; those of known numbers are noise without a density.

    Args:
        of: the networks.
        context, first: what the row says: to the network from number to number ``(N, C)``, and by itself ``(N, P, T)``.
        known: of the rows.
        noise: e; a standard normal unless it was moved.
    """

    arg_constraints: dict = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, of: Guesser, context: Tensor, first: Tensor, known: Known, noise: Any = None, batch_shape: Any = None
    ) -> None:
        self.of, self.context, self.first, self.known = of, context, first, known
        self.noise = Normal(torch.zeros_like(context[..., :1]), 1.0) if noise is None else noise
        self.last: tuple[Tensor, Tensor] | None = None
        shape = context.shape[:-1] if batch_shape is None else torch.Size(batch_shape)
        super().__init__(shape, torch.Size([of.size]), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Guess:
        return Guess(self.of, self.context, self.first, self.known, self.noise, batch_shape)

    def moved(self, shift: Tensor, log_factor: Tensor) -> Guess:
        """With other noise."""
        noise = Normal(self.noise.loc + shift, self.noise.scale * log_factor.exp())
        return Guess(self.of, self.context, self.first, self.known, noise, self.batch_shape)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        shape = torch.Size(sample_shape) + self.batch_shape
        e = self.noise.expand(shape + self.event_shape).rsample()
        closed, first, changes, found = self.known.closed, self.first, [], []

        def choose(at: int, theta: Tensor) -> Tensor:
            z, change = self.of.map.forward(e[..., at], theta + first[..., at, :])
            changes.append(change)
            found.append(z)
            return z.masked_fill(closed[..., at], 0.0)

        self.of.walk.walked(choose, shape, self.context)
        z = torch.stack(found, -1)
        self.last = z, self.counted(e, -torch.stack(changes, -1))
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        if self.last is not None and self.last[0] is value:
            return self.last[1]
        theta = self.of.walk(value.masked_fill(self.known.closed, 0.0), self.context) + self.first
        return self.counted(*self.of.map.inverse(value, theta))

    def counted(self, e: Tensor, change: Tensor) -> Tensor:
        """Log density of rows, over numbers that are open."""
        return (self.noise.log_prob(e) + change).masked_fill(self.known.closed, 0.0).sum(-1)


class ScaledSpline(Monotone):
    """A spline, and a scale and shift behind it."""

    def __init__(self) -> None:
        self.spline, self.affine = RationalQuadratic(BINS, BOUND), Affine()
        self.parts = [self.spline.parameters, self.affine.parameters]
        self.parameters = sum(self.parts)

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        bent, affine = theta.split(self.parts, -1)
        x, one = self.spline.forward(x, bent)
        y, other = self.affine.forward(x, affine)
        return y, one + other

    def inverse(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        bent, affine = theta.split(self.parts, -1)
        y, one = self.affine.inverse(y, affine)
        x, other = self.spline.inverse(y, bent)
        return x, one + other
