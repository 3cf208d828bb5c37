r"""What noise becomes when it has gone through a flow.

.. math:: x \sim p_0, \quad y = f(x; c), \qquad \log p(y) = \log p_0\bigl(f^{-1}(y; c)\bigr) + \log \Bigl| \det \frac{\partial f^{-1}}{\partial y} \Bigr|
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from probgen.errors import CapabilityError
from probgen.families.flows.base import Flow

__all__ = ["FlowDistribution"]

POINTS = 64  # of a mean, and as many on the other side


class FlowDistribution(TorchDistribution):
    """Vectors ``(D,)``.

    The density of what it has just drawn is known from the draw. So that several terms of an objective may ask about one value, that of
    the last value is kept, too, where the value is itself computed or no gradient is wanted.

    Args:
        base: of the noise, with a batch shape and events ``(D,)``.
        flow: f.
        context: ``(..., C)``, its leading dimensions broadcasting to the batch shape.
    """

    arg_constraints: dict = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, base: Any, flow: Flow, context: Tensor | None = None) -> None:
        self.base, self.flow, self.context = base, flow, context
        self.unexpanded = self
        self.last: tuple[tuple, Tensor] | None = None
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> FlowDistribution:
        made = FlowDistribution(self.base.expand(torch.Size(batch_shape)), self.flow, self.context)
        made.unexpanded = self.unexpanded
        return made

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        x = self.base.rsample(sample_shape)
        y, change = self.flow(x, self.context)
        self.last = self.mark(y), self.base.log_prob(x) - change
        return y

    def log_prob(self, value: Tensor) -> Tensor:
        mark = self.mark(value)
        if self.last is None or not same(self.last[0], mark):
            shape = torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
            x, change = self.flow.inverse(value.expand(shape), self.context)
            found = self.base.log_prob(x) + change
            if torch.is_grad_enabled() and value.grad_fn is None:  # its graph is used up by one backward pass
                return found
            self.last = mark, found
        return self.last[1]

    def mark(self, value: Tensor) -> tuple:
        """What the density of a value depends on: the value, the weights, and whether they are to have gradients."""
        weights = [(weight.data_ptr(), weight._version, weight.requires_grad) for weight in self.flow.parameters()]
        return value, value._version, torch.is_grad_enabled(), weights

    @property
    def mean(self) -> Tensor:
        """Over the same quasi-random noise for every row, so that it is no other at the next call."""
        return self.moments()[0]

    @property
    def variance(self) -> Tensor:
        """As the mean is taken."""
        return self.moments()[1]

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance ``(*batch_shape, D)``."""
        own = self.unexpanded
        normal = own.base.base_dist if isinstance(own.base, torch.distributions.Independent) else own.base
        if not isinstance(normal, torch.distributions.Normal):
            raise CapabilityError(
                "The mean of a flow is taken over normal noise; draw from this distribution instead."
            )
        points = spread_out(self.flow.size).to(normal.loc)
        points = points.unflatten(0, (-1,) + (1,) * len(own.batch_shape))
        y, _ = self.flow(normal.loc + normal.scale * points, own.context)
        shape = self.batch_shape + self.event_shape
        return y.mean(0).expand(shape), y.var(0, correction=0).expand(shape)


def same(one: tuple, other: tuple) -> bool:
    """The very same tensor, unchanged, under the same conditions."""
    return one[0] is other[0] and one[1:] == other[1:]


@cache
def spread_out(size: int) -> Tensor:
    """``(2 POINTS, D)`` scrambled Sobol points of a standard normal (Owen, 1998), each with its opposite."""
    uniform = torch.quasirandom.SobolEngine(size, scramble=True, seed=0).draw(POINTS, dtype=torch.float64)
    points = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
    return torch.cat([points, -points])
