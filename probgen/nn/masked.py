"""Networks whose outputs may look at the inputs before them only (MADE; Germain, Gregor, Murray and Larochelle, 2015)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MaskedMLP"]


class MaskedMLP(nn.Module):
    r"""Outputs :math:`o_d = f_d(x_1, \dots, x_{d-1}, c)` of all d in one pass.

    Every hidden unit has a degree, the number of inputs that it may look at, and sees units of its own degree or less; so does the
    d-th output, of degree d - 1. Units of degree nought see the context alone: without them it would not reach the first output.

    Args:
        inputs: D.
        hidden: widths of the layers between; one of fewer than D units cannot tell every output of every input before it.
        each: P, numbers that are said of every input.
        context: C, numbers that all outputs may look at; 0 for none.

    Example:
        >>> net = MaskedMLP(3, (16,), 2)
        >>> net(torch.zeros(5, 3)).shape
        torch.Size([5, 3, 2])
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], each: int, context: int = 0) -> None:
        super().__init__()
        self.inputs, self.each = inputs, each
        least = 0 if context or inputs == 1 else 1
        between = [least + torch.arange(width) * (inputs - least) // width for width in hidden]
        degrees = [torch.arange(1, inputs + 1), *between, torch.arange(inputs).repeat_interleave(each)]
        self.layers: Any = nn.ModuleList(nn.Linear(len(one), len(other)) for one, other in pairwise(degrees))
        self.context = nn.Linear(context, len(degrees[1]), bias=False) if context else None
        for at, (below, above) in enumerate(pairwise(degrees)):
            self.register_buffer(f"mask{at}", (above[:, None] >= below).float(), persistent=False)
        #: units of a layer, the inputs the first, of degree at most d, in column d
        self.reach = [[int((layer <= degree).sum()) for degree in range(inputs)] for layer in degrees]

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``(..., D)``, and ``(..., C)`` that goes with it, to ``(..., D, P)``."""
        for at, layer in enumerate(self.layers):
            weight = layer.weight * getattr(self, f"mask{at}")
            x = functional.linear(x if at == 0 else x.relu(), weight, layer.bias)
            if at == 0 and self.context is not None:
                x = x + self.context(context)
        return x.unflatten(-1, (self.inputs, self.each))

    def walked(
        self, choose: Callable[[int, Tensor], Tensor], shape: torch.Size, context: Tensor | None = None
    ) -> Tensor:
        """Inputs that are found one after another, each given the outputs that those before it lead to.

        Every unit is computed once, when all that it looks at is known: all D steps together cost as much arithmetic as one pass.

        Args:
            choose: the d-th input ``shape``, of d and of what is said of it, ``(*shape, P)``.
            shape: of the rows.
            context: ``(..., C)``, as for a pass.

        Returns:
            ``(*shape, D)``.
        """
        start = self.layers[0].bias if self.context is None else self.layers[0].bias + self.context(context)
        start = start.expand(*shape, -1)
        known = [start[..., :0] for _ in self.layers]
        for degree in range(self.inputs):
            for at, layer in enumerate(self.layers):
                rows, columns = self.units(at + 1, degree), self.reach[at][degree]
                bias = start[..., rows] if at == 0 else layer.bias[rows]
                found = functional.linear(known[at], layer.weight[rows, :columns]) + bias
                if at + 1 < len(self.layers):
                    known[at + 1] = torch.cat([known[at + 1], found.relu()], -1)
            known[0] = torch.cat([known[0], choose(degree, found)[..., None]], -1)
        return known[0]

    def units(self, layer: int, degree: int) -> slice:
        """Those of one degree; they lie side by side."""
        return slice(self.reach[layer][degree - 1] if degree else 0, self.reach[layer][degree])
