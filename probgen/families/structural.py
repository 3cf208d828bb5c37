r"""Structural time-series components as state spaces with known matrices (Harvey, 1989).

.. math::
    \text{local level: } \mu_t = \mu_{t-1} + \eta_t, \qquad
    \text{local trend: } \mu_t = \mu_{t-1} + \nu_{t-1} + \eta_t, \; \nu_t = \nu_{t-1} + \zeta_t, \qquad
    \text{seasonal: } \gamma_t = -\textstyle\sum_{j=1}^{s-1} \gamma_{t-j} + \omega_t
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probgen.errors import CapabilityError

__all__ = ["Component", "structural"]


@dataclass(frozen=True)
class Component:
    """One series' states, or several components side by side.

    Attributes:
        transition: ``(L, L)``.
        noisy: ``(L,)`` mask of the states that have noise of their own.
        loading: ``(L,)``, what the series sees of the states.
    """

    transition: Tensor
    noisy: Tensor
    loading: Tensor

    def __len__(self) -> int:
        return len(self.loading)


def local_level() -> Component:
    """A random walk."""
    return Component(torch.ones(1, 1), torch.tensor([True]), torch.ones(1))


def local_trend() -> Component:
    """A random walk whose steps have a mean that is a random walk itself."""
    transition = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    return Component(transition, torch.tensor([True, True]), torch.tensor([1.0, 0.0]))


def seasonal(period: int) -> Component:
    """A pattern of the given period that sums to zero, up to noise."""
    transition = torch.eye(period - 1).roll(1, 0)
    transition[0] = -1.0
    first = torch.arange(period - 1) == 0
    return Component(transition, first, first.to(transition))


def structural(text: str) -> Component:
    """The components that a text names, joined by "+".

    Example:
        >>> structural("local_trend+seasonal:4").loading.tolist()
        [1.0, 0.0, 1.0, 0.0, 0.0]
    """
    parts = [component(name.strip()) for name in text.split("+")]
    return Component(
        torch.block_diag(*(part.transition for part in parts)),
        torch.cat([part.noisy for part in parts]),
        torch.cat([part.loading for part in parts]),
    )


def component(name: str) -> Component:
    """One component by its name."""
    kind, _, period = name.partition(":")
    if kind == "seasonal" and period.isdigit() and int(period) > 1:
        return seasonal(int(period))
    if period or kind not in ("local_level", "local_trend"):
        raise CapabilityError(
            "structure is made of 'local_level', 'local_trend' and 'seasonal:PERIOD' (a period of at least 2), joined by"
            f" '+'; got {name!r}."
        )
    return local_level() if kind == "local_level" else local_trend()
