"""Networks that say what rows were before they were noisy, by name.

===========  ==========================================================================================
``"mlp"``    a residual perceptron over all numbers of a row
``"unet"``   convolutions of the pictures of a row at several sizes, told of the other columns
===========  ==========================================================================================

Both read the numbers of the cells, a mask of the modelled columns and one of the shown columns, and a number that says how noisy the row is.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.networks import grids_of
from probgen.nn import TimedMLP, UNet, Waves

__all__ = ["Cells", "TimedUNet", "timed_network"]

NETWORKS = ("mlp", "unet")


class Cells(Protocol):
    """Columns as numbers."""

    @property
    def owner(self) -> Tensor:
        """``(F,)``: the column of every number."""

    @property
    def said(self) -> Tensor:
        """The column of everything that a network says."""


def timed_network(
    schema: Schema,
    cells: Cells,
    hidden: tuple[int, ...],
    dropout: float = 0.0,
    network: str = "mlp",
    variances: bool = False,
) -> nn.Module:
    """From numbers of cells and masks of columns, ``(..., F + 2 D)``, and a number ``(...)``, to what is said of the cells.

    Args:
        schema: the columns, D of them.
        cells: as F numbers.
        hidden: widths of a residual block each; of a U-net, channels at every size.
        dropout: share of units that are left out at each training step.
        network: "mlp" or "unet".
        variances: whether a number of every number of the cells is said behind them.

    Raises:
        CapabilityError: another name, or a U-net without pictures of one size.
    """
    if network not in NETWORKS:
        raise CapabilityError(f"network must be one of {', '.join(map(repr, NETWORKS))}, got {network!r}.")
    said = torch.cat([cells.said, cells.owner]) if variances else cells.said
    if network == "unet":
        return TimedUNet(schema, cells.owner, said, hidden, dropout)
    return TimedMLP(len(cells.owner) + 2 * len(schema), hidden, len(said), dropout)


class TimedUNet(nn.Module):
    """A U-shaped network that is told, at every size, how noisy the row is and what its other columns are; a perceptron says those.

    Args:
        schema: the columns, pictures of one size among them, whose channels lie one behind the other.
        owner: ``(F,)``, the column of every number that is read.
        said: the column of everything that is said.
        hidden: channels at every size, each half the one before.
        dropout: share of units that are left out at each training step.
    """

    def __init__(
        self, schema: Schema, owner: Tensor, said: Tensor, hidden: tuple[int, ...], dropout: float = 0.0
    ) -> None:
        super().__init__()
        F, D = len(owner), len(schema)
        read = [[*places_of(owner, at), F + at, F + D + at] for at in range(D)]
        told_of = [places_of(said, at) for at in range(D)]
        if len({image.shape[:2] for image in schema.images}) > 1:
            sizes = ", ".join(f"{image.name!r} {image.shape[0]} x {image.shape[1]}" for image in schema.images)
            raise CapabilityError(f"network='unet' needs pictures of one size, got {sizes}; use network='mlp'.")
        (into, beside), (out, others) = (grids_of(schema, places, "unet") for places in (read, told_of))
        order = torch.cat([*(grid.flatten() for grid in out), torch.tensor(others, dtype=torch.long)]).argsort()
        self.register_buffer("into", torch.cat(into), persistent=False)
        self.register_buffer("beside", torch.tensor(beside, dtype=torch.long), persistent=False)
        self.register_buffer("order", order, persistent=False)
        self.into: Tensor
        self.beside: Tensor
        self.order: Tensor
        told = max(32, hidden[0])
        self.waves, self.clock = Waves(told), nn.Linear(told + len(beside), told)
        self.net = UNet(len(self.into), sum(len(grid) for grid in out), hidden, told, dropout)
        self.rest = TimedMLP(F + 2 * D, hidden, len(others), dropout) if others else None

    def forward(self, x: Tensor, number: Tensor) -> Tensor:
        """``(..., F + 2 D)`` and ``(...)`` to ``(..., outputs)``."""
        flat, number = x.flatten(0, -2), number.flatten()
        told = silu(self.clock(torch.cat([self.waves(number), flat[:, self.beside]], -1)))
        parts = [self.net(flat[:, self.into], told).flatten(1)]
        if self.rest is not None:
            parts.append(self.rest(flat, number))
        return torch.cat(parts, -1)[:, self.order].unflatten(0, x.shape[:-1])


def places_of(owner: Tensor, column: int) -> list[int]:
    """Where the numbers of a column stand."""
    return torch.nonzero(owner == column)[:, 0].tolist()
