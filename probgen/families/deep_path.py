r"""Continuous states of a sequence that follow each other through networks, and know of nothing but the one before.

.. math:: z_t \mid z_{t-1} \sim \mathcal N\bigl(\mu(z_{t-1}, t), \mathrm{diag}\,\sigma^2(z_{t-1}, t)\bigr), \qquad z_0 \text{ a vector}
"""

from __future__ import annotations

from torch import Tensor

from probgen.families.walked_path import WalkedPath

__all__ = ["DeepPath"]


class DeepPath(WalkedPath):
    """States ``(N, L)`` of the rows of some sequences; the arguments are those of :class:`WalkedPath`."""

    def known(self, before: Tensor) -> Tensor:
        return before

    def nothing(self, *shape: int) -> Tensor:
        return self.start.expand(*shape, -1)

    def next(self, known: Tensor, before: Tensor) -> Tensor:
        return before
