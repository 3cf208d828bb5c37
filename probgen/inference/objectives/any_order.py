r"""Log density of rows whose cells come in a random order, of which one place is looked at (Uria, Murray and Larochelle, 2014).

.. math:: \mathbb E_\sigma \log p_\sigma(x_O) \approx \frac{|O|}{|O| - k} \sum_{d \in O \setminus S} \log p(x_d \mid x_S)

S holds the first k of the known cells in an order that is drawn for every row at every step. Its mean is a lower bound on the log density
of the mixture over all orders. What a fit reports is another number: that of fixed orders, without noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from probgen._pyro import Messenger
from probgen.errors import CapabilityError
from probgen.inference.amortised import Weighted, weighted
from probgen.inference.objectives import Objective

__all__ = ["AnyOrderObjective"]


class Reordered(Messenger):
    """Observed sites whose cells have no order of their own get a random one.

    Args:
        priority: ``(S, B, D)``, which cells come first.
        place: ``(S, B)``, from 0 to 1, how many of them.
    """

    def __init__(self, priority: Tensor, place: Tensor) -> None:
        super().__init__()
        self.priority, self.place, self.found = priority, place, False

    def _pyro_sample(self, message: dict) -> None:
        if hasattr(message["fn"], "over_orders"):
            message["fn"], self.found = message["fn"].over_orders(self.priority, self.place), True


class AnyOrderObjective(Objective):
    """The mean over draws, each of them one place of a random order of each row."""

    draws = 4

    def weigh(self, program: Any, batch: Any, draws: int, sites: Mapping[str, Tensor] | None = None) -> Weighted:
        with Reordered(*noise(batch, draws)) as handler:
            found = weighted(program, batch, sites=sites)
        if not handler.found:
            raise CapabilityError(
                f"objective='any_order' is for models whose cells may come in any order, and {program.name!r} has none; leave it out."
            )
        return found

    def per_row(self, found: Weighted, step: int | None = None) -> Tensor:
        return found.evidence.rows


def noise(batch: Any, draws: int) -> tuple[Tensor, Tensor]:
    """Priorities ``(S, B, D)`` and places ``(S, B)``, spread evenly; of one process's rows, those of the whole minibatch."""
    place, x = getattr(batch, "place", None), batch.x
    rows, first = (len(x), 0) if place is None else (place.rows, place.first)
    priority = torch.rand(draws, rows, x.shape[1], dtype=x.dtype, device=x.device)
    many = draws * rows
    spread = (torch.randperm(many, device=x.device) + torch.rand(many, dtype=x.dtype, device=x.device)) / many
    own = slice(first, first + len(x))
    return priority[:, own], spread.unflatten(0, (draws, rows))[:, own]
