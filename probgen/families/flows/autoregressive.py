r"""Autoregressive flows: every number is mapped as those before it say.

.. math:: y_d = g\bigl(x_d;\, \theta_d(x_1, \dots, x_{d-1}, c)\bigr)

Forwards is one pass of a masked network and fast to draw from (inverse autoregressive flow; Kingma et al., 2016); backwards goes number by
number. ``Inverted``, it has fast densities (masked autoregressive flow; Papamakarios, Pavlakou and Murray, 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probgen.families.flows.base import Flow, Mapped, checked_context, sized
from probgen.families.flows.elementwise import Monotone
from probgen.nn import MaskedMLP

__all__ = ["Autoregressive"]


class Autoregressive(Flow):
    """Each number given those before it. It begins as the identity.

    Args:
        size: D.
        map: g.
        hidden: widths of the network.
        context: C.
    """

    def __init__(self, size: int, map: Monotone, hidden: tuple[int, ...] = (64,), context: int = 0) -> None:
        super().__init__()
        self.size, self.map, self.of_context = sized(size), map, context
        self.net = MaskedMLP(size, hidden, map.parameters, context)
        for layer in (self.net.layers[-1], None if hidden else self.net.context):
            for parameter in () if layer is None else layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        checked_context(context, self.of_context)
        y, change = self.map.forward(x, self.net(x, context))
        return y, change.sum(-1)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> Mapped:
        checked_context(context, self.of_context)
        changes = []

        def choose(at: int, theta: Tensor) -> Tensor:
            x, change = self.map.inverse(y[..., at], theta)
            changes.append(change)
            return x

        return self.net.walked(choose, y.shape[:-1], context), torch.stack(changes, -1).sum(-1)
