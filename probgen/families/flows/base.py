r"""Flows: invertible maps with a known change of volume, and how they are put together.

.. math:: y = f(x; c), \qquad \log p_y(y) = \log p_x(x) - \log \Bigl| \det \frac{\partial f(x; c)}{\partial x} \Bigr|

Forward is from noise to what is described, inverse from there to noise. c is a context, such as what an encoder read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from probgen.errors import CapabilityError
from probgen.whole import is_whole

__all__ = ["Composed", "Flow", "Inverted", "Permuted", "alternating", "checked_context", "sized"]

Mapped = tuple[Tensor, Tensor]  # values (..., D), and log |det| of the map that led to them (...)


class Flow(nn.Module, ABC):
    """An invertible map of D numbers.

    Values are ``(..., D)``; a context is ``(..., C)``, whose leading dimensions broadcast to those of the values.
    """

    size: int  # D

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        """Noise to ``y``, and ``log|det dy/dx|``."""

    @abstractmethod
    def inverse(self, y: Tensor, context: Tensor | None = None) -> Mapped:
        """Back to the noise ``x``, and ``log|det dx/dy|``."""

    def start(self, y: Tensor, context: Tensor | None = None) -> None:
        """Where to begin, from some values ``(N, D)``."""


class Composed(Flow):
    """One flow after another, in the order from noise on."""

    def __init__(self, *flows: Flow) -> None:
        super().__init__()
        sizes = {flow.size for flow in flows}
        if len(sizes) != 1:
            raise CapabilityError(f"Composed flows must map equally many numbers, got {sorted(sizes) or 'no flow'}.")
        self.flows, self.size = nn.ModuleList(flows), flows[0].size

    def forward(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        total = x.new_zeros(())
        for flow in self.flows:
            x, change = flow(x, context)
            total = total + change
        return x, total.expand(x.shape[:-1])

    def inverse(self, y: Tensor, context: Tensor | None = None) -> Mapped:
        total = y.new_zeros(())
        for flow in reversed(self.flows):
            y, change = flow.inverse(y, context)  # type: ignore[operator]
            total = total + change
        return y, total.expand(y.shape[:-1])

    def start(self, y: Tensor, context: Tensor | None = None) -> None:
        with torch.no_grad():
            for flow in reversed(self.flows):
                flow.start(y, context)  # type: ignore[operator]
                y, _ = flow.inverse(y, context)  # type: ignore[operator]


class Inverted(Flow):
    """A flow the other way round: what was fast forwards is fast backwards."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow, self.size = flow, flow.size

    def forward(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        return self.flow.inverse(x, context)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> Mapped:
        return self.flow(y, context)


class Permuted(Flow):
    """Another order; that from behind unless it is given.

    Args:
        size: D.
        order: which number comes first, second, ..
    """

    def __init__(self, size: int, order: Sequence[int] | None = None) -> None:
        super().__init__()
        self.size = sized(size)
        order = range(size - 1, -1, -1) if order is None else order
        if sorted(order) != list(range(size)):
            raise CapabilityError(f"order must hold each of 0 .. {size - 1} once, got {list(order)}.")
        self.register_buffer("order", torch.tensor(list(order)))
        self.order: Tensor

    def forward(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        return x[..., self.order], x.new_zeros(x.shape[:-1])

    def inverse(self, y: Tensor, context: Tensor | None = None) -> Mapped:
        return y[..., self.order.argsort()], y.new_zeros(y.shape[:-1])


def alternating(flows: Sequence[Flow]) -> Composed:
    """Flows one after another, each reading the numbers from the other end than the one before."""
    return Composed(*(part for flow in flows for part in (flow, Permuted(flow.size))))


def sized(size: Any, least: int = 1) -> int:
    """A number of dimensions, refused where it is too small."""
    if not is_whole(size, least):
        raise CapabilityError(f"A flow of this kind maps at least {least} number{'s'[: least - 1]}, got {size!r}.")
    return size


def checked_context(context: Tensor | None, expected: int) -> None:
    """Refuse a context that is not what a flow was made for."""
    found = 0 if context is None else context.shape[-1]
    if found != expected:
        raise CapabilityError(f"The flow reads a context of {expected} numbers, got one of {found}.")
