r"""Contrastive objective: the difference of free energies whose gradient is that of the log likelihood.

.. math::
    \frac{\partial \log p(x)}{\partial\theta}
    = -\frac{\partial F(x)}{\partial\theta} + \mathbb E_{x' \sim p}\Bigl[\frac{\partial F(x')}{\partial\theta}\Bigr]

The expectation is over draws of the model, from Markov chains (Hinton, 2002; Tieleman, 2008). The value itself means
nothing: only its gradient does.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Energy", "gap"]


class Energy(Protocol):
    """Anything with a free energy of its visible features."""

    def free_energy(self, features: Tensor) -> Tensor:
        """Minus the log of the unnormalised density of each row."""


def gap(energy: Energy, data: Tensor, model: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean free energy of the data less that of the model's draws; its negative gradient climbs the likelihood.

    Args:
        energy: of the model.
        data: ``(B, F)``.
        model: ``(C, F)``.
        weights: of the data's rows, ``(B,)``.
    """
    own = energy.free_energy(data)
    mean = own.mean() if weights is None else (own * weights).sum() / weights.sum()
    return mean - energy.free_energy(model).mean()
