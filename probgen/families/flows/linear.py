r"""Learnt linear maps.

.. math:: y = P L U x + b + V c, \qquad y = e^{s} \odot x + b

The first has a fixed permutation P and triangular factors, U with a positive diagonal, L with ones (Kingma and Dhariwal, 2018; Oliva et al., 2018);
the second may start where data are standardised by its inverse (actnorm; Kingma and Dhariwal, 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probgen.families.flows.base import Flow, Mapped, Permuted, checked_context, sized

__all__ = ["LearntLinear", "Standardised"]


class LearntLinear(Flow):
    """A matrix by its triangular factors, which begins as its permutation.

    Args:
        size: D.
        order: of P; that from behind unless it is given.
        context: C, numbers that shift what is mapped.
    """

    def __init__(self, size: int, order: Sequence[int] | None = None, context: int = 0) -> None:
        super().__init__()
        self.size, self.of_context = sized(size), context
        self.permuted = Permuted(size, order)
        self.below, self.above = (nn.Parameter(torch.zeros(size, size)) for _ in range(2))
        self.log_diagonal, self.shift = (nn.Parameter(torch.zeros(size)) for _ in range(2))
        self.moved = nn.Linear(context, size, bias=False) if context else None
        if self.moved is not None:
            nn.init.zeros_(self.moved.weight)

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and U."""
        one = torch.eye(self.size, dtype=self.shift.dtype, device=self.shift.device)
        return self.below.tril(-1) + one, self.above.triu(1) + self.log_diagonal.exp().diag()

    def moves(self, context: Tensor | None) -> Tensor:
        checked_context(context, self.of_context)
        return self.shift if self.moved is None else self.shift + self.moved(context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        lower, upper = self.factors()
        y = x @ (lower @ upper).mT
        return self.permuted(y)[0] + self.moves(context), self.log_diagonal.sum().expand(x.shape[:-1])

    def inverse(self, y: Tensor, context: Tensor | None = None) -> Mapped:
        lower, upper = self.factors()
        x, _ = self.permuted.inverse(y - self.moves(context))
        one = torch.eye(self.size, dtype=y.dtype, device=y.device)
        half = torch.linalg.solve_triangular(lower, one, upper=False, unitriangular=True)
        back = torch.linalg.solve_triangular(upper, half, upper=True)  # D by D, so that rows are one product
        return x @ back.mT, -self.log_diagonal.sum().expand(y.shape[:-1])


class Standardised(Flow):
    """A scale and a shift of every number; ``start`` makes the inverse of some values have mean 0 and variance 1.

    Args:
        size: D.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = sized(size)
        self.log_scale, self.shift = (nn.Parameter(torch.zeros(size)) for _ in range(2))

    def start(self, y: Tensor, context: Tensor | None = None) -> None:
        with torch.no_grad():
            self.shift.copy_(y.mean(0))
            self.log_scale.copy_(y.std(0, correction=0).clamp_min(1e-6).log())

    def forward(self, x: Tensor, context: Tensor | None = None) -> Mapped:
        return x * self.log_scale.exp() + self.shift, self.log_scale.sum().expand(x.shape[:-1])

    def inverse(self, y: Tensor, context: Tensor | None = None) -> Mapped:
        return (y - self.shift) * (-self.log_scale).exp(), -self.log_scale.sum().expand(y.shape[:-1])
