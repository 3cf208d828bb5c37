"""Networks that read and write the columns of a table, by name.

========================  ==================================================================================
``"mlp"``                 a perceptron
``"residual"``            one of residual blocks
``"convolution"``         of the pictures of the table, beside whatever other columns there are
``"set"``                 a sum over the known cells; written by a perceptron
``"attention"``           a transformer over the known cells; written by a perceptron
========================  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probgen.data.batches import feature_columns, n_features
from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.columns import Columns
from probgen.nn import Attention, ConvolutionDecoder, ConvolutionEncoder, KnownCells, mlp, residual

__all__ = ["encoder", "grids_of", "reads_masks", "writer"]

PLAIN = ("mlp", "residual")
OF_CELLS: dict[str, type[KnownCells] | type[Attention]] = {"set": KnownCells, "attention": Attention}


def reads_masks(network: str) -> bool:
    """Whether it is told of every cell if it is known: ``features(..., masks=True)``."""
    if network not in (*PLAIN, *OF_CELLS, "convolution"):
        named = ", ".join(map(repr, (*PLAIN, "convolution", *OF_CELLS)))
        raise CapabilityError(f"network must be one of {named}, got {network!r}.")
    return network not in PLAIN


def encoder(schema: Schema, *widths: int, network: str = "mlp") -> nn.Module:
    """From features ``(..., F)`` of a schema's columns, by layers of some widths, to as many numbers as the last of them."""
    if network == "mlp":
        return mlp(n_features(schema), *widths, he=bool(schema.images))
    if not reads_masks(network):
        return residual(n_features(schema), *widths)
    if network in OF_CELLS:
        return CellReader(schema, OF_CELLS[network](feature_columns(schema), *widths))
    return PictureReader(schema, *widths)


def writer(
    *widths: int, columns: Columns, schema: Schema | None = None, network: str = "mlp", he: bool = False
) -> nn.Module:
    """From as many numbers as the first width to the outputs that describe columns; ``he`` as for ``mlp``."""
    if network == "convolution":
        return PictureWriter(schema or Schema(()), columns, *widths)
    if network == "residual":
        return residual(*widths, columns.outputs)
    return mlp(*widths, columns.outputs, he=he)


class CellReader(nn.Module):
    """Features of a row as the set of its known cells."""

    def __init__(self, schema: Schema, net: nn.Module) -> None:
        super().__init__()
        self.net, self.width = net, len(schema)

    def forward(self, features: Tensor) -> Tensor:
        flat = features.reshape(-1, features.shape[-1])
        numbers, unknown = flat[:, : -self.width], flat[:, -self.width :]
        return self.net(numbers, unknown < 0.5).reshape(*features.shape[:-1], -1)


class PictureReader(nn.Module):
    """Convolutions of pictures and of which pixels are unknown; a perceptron of what they give and of the other columns."""

    def __init__(self, schema: Schema, *widths: int) -> None:
        super().__init__()
        owners = feature_columns(schema)
        numbers: list[list[int]] = [[] for _ in schema]
        for place, column in enumerate([*owners, *range(len(schema))]):  # masks stand behind
            numbers[column].append(place)
        self.grids, rest = grids_of(schema, numbers)
        self.register_buffer("rest", torch.tensor(rest, dtype=torch.long), persistent=False)
        self.rest: Tensor
        self.nets = nn.ModuleList(ConvolutionEncoder(*grid.shape) for grid in self.grids)
        self.last = mlp(sum(net.outputs for net in self.nets) + len(rest), *widths)  # type: ignore[misc]

    def forward(self, features: Tensor) -> Tensor:
        flat = features.reshape(-1, features.shape[-1])
        parts = [net(flat[:, grid.to(flat.device)]) for net, grid in zip(self.nets, self.grids, strict=True)]
        return self.last(torch.cat([*parts, flat[:, self.rest]], -1)).reshape(*features.shape[:-1], -1)


class PictureWriter(nn.Module):
    """Pictures by convolutions, the other columns by a linear layer, both of a perceptron's output."""

    def __init__(self, schema: Schema, columns: Columns, *widths: int) -> None:
        super().__init__()
        grids, rest = grids_of(schema, columns.output_places)
        order = torch.cat([*(grid.flatten() for grid in grids), torch.tensor(rest, dtype=torch.long)])
        self.register_buffer("order", order.argsort(), persistent=False)
        self.order: Tensor
        self.first = nn.Sequential(mlp(*widths), nn.ReLU()) if len(widths) > 1 else nn.Identity()
        self.nets = nn.ModuleList(ConvolutionDecoder(widths[-1], *grid.shape) for grid in grids)
        self.last = nn.Linear(widths[-1], len(rest)) if rest else None

    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z.reshape(-1, z.shape[-1]))
        parts = [net(h).flatten(1) for net in self.nets]
        if self.last is not None:
            parts.append(self.last(h))
        return torch.cat(parts, -1)[:, self.order].reshape(*z.shape[:-1], -1)


def grids_of(
    schema: Schema, places: Sequence[Sequence[int]], network: str = "convolution"
) -> tuple[list[Tensor], list[int]]:
    """``(channels, H, W)`` places of the numbers of every picture's pixels, and those of the other columns."""
    if not schema.images:
        raise CapabilityError(
            f"network={network!r} is for pictures, and these columns are none; make the table with Table.from_images, or use another network."
        )
    grids, rest = [], list(range(len(schema)))
    for image in schema.images:
        first = schema.index(image.names[0])
        pixels = range(first, first + image.pixels)
        if len({len(places[at]) for at in pixels}) > 1:
            raise CapabilityError(f"Image {image.name!r}: network={network!r} needs pixels of one kind.")
        grids.append(torch.tensor([places[at] for at in pixels]).reshape(*image.shape[:2], -1).permute(2, 0, 1))
        rest = [at for at in rest if at not in pixels]
    return grids, [place for at in rest for place in places[at]]
