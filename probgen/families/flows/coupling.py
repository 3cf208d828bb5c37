r"""Coupling: one half of the numbers says how the other is mapped (Dinh, Sohl-Dickstein and Bengio, 2017).

.. math:: y_{1:d} = x_{1:d}, \qquad y_j = g\bigl(x_j;\, \theta_j(x_{1:d}, c)\bigr) \text{ for } j > d = \lfloor D / 2 \rfloor

Both directions take one pass. Affine g is RealNVP, splines are those of Durkan et al. (2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probgen.families.flows.base import Flow, Mapped, checked_context, sized
from probgen.families.flows.elementwise import Monotone
from probgen.nn import ContextMLP

__all__ = ["Coupling"]


class Coupling(Flow):
    """The second half given the first. It begins as the identity.

    Args:
        size: D, at least 2.
        map: g.
        hidden: widths of the network.
        context: C.
    """

    def __init__(self, size: int, map: Monotone, hidden: tuple[int, ...] = (64,), context: int = 0) -> None:
        super().__init__()
        self.size, self.map, self.of_context = sized(size, 2), map, context
        self.kept, self.mapped = size // 2, size - size // 2
        self.net = ContextMLP(self.kept, *hidden, self.mapped * map.parameters, context=context)
        for parameter in [*self.net.parameters()][-2:]:
            nn.init.zeros_(parameter)

    def said(self, value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Both halves, and the parameters ``(..., D - d, P)`` of the second."""
        checked_context(context, self.of_context)
        first, second = value.split([self.kept, self.mapped], -1)
        return first, second, self.net(first, context).unflatten(-1, (self.mapped, self.map.parameters))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        first, second, theta = self.said(x, context)
        mapped, change = self.map.forward(second, theta)
        return torch.cat([first, mapped], -1), change.sum(-1)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> Mapped:
        first, second, theta = self.said(y, context)
        mapped, change = self.map.inverse(second, theta)
        return torch.cat([first, mapped], -1), change.sum(-1)
