r"""The two players of adversarial training (Goodfellow et al., 2014), which both read a row's cells and the masks of what is known.

.. math:: x_{\bar k} = G(z, x_k, k), \qquad C(x, k) \in \mathbb R

The generator G is shown the cells :math:`x_k` of a row and writes the others; the critic C scores complete rows and is told which
cells had been shown. Rows and masks have one distribution for the data and for what is generated only where :math:`p(x_{\bar k} \mid x_k)` is that of
the data for every mask k: of no cell, of some, and of labels alone (Belghazi, Oquab and Lopez-Paz, 2019; cell by cell: Yoon, Jordon and
van der Schaar, 2018). Of training rows with holes, both data and generated rows are looked at through the row's holes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pyro.distributions import Normal, Uniform
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from probgen.data.batches import Batch
from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.networks import PictureReader, grids_of, writer
from probgen.families.relaxed import RelaxedColumns
from probgen.nn import ConvolutionEncoder, UNet, mlp

__all__ = [
    "Comparison",
    "Critic",
    "Generator",
    "PictureCritic",
    "PictureGenerator",
    "ShownCells",
    "generator_of",
    "noise",
    "pair",
]

NETWORKS = ("mlp", "convolution")
NO_DENSITY = (
    "its rows are a network's output for normal noise, which is a point given the noise, and what was compared in training is draws, not"
    " densities; compare draws with held-out rows (fit.diagnostics, energy distance), or see pg.generator_log_prob for their density under noise"
)


def noise(latent: int, columns: RelaxedColumns) -> tuple[Any, Any]:
    """Distributions of z, and of the uniform numbers that levels are drawn with."""
    zero = torch.zeros(latent)
    u = torch.zeros(columns.noises)
    return Normal(zero, 1.0).to_event(1), Uniform(u, u + 1).to_event(1)


@dataclass
class Comparison:
    """What the generator is shown of training rows, and which rows of the data its own are held against.

    Attributes:
        known: ``(B, D)`` cells that are shown.
        seen: ``(B, D)`` cells of the data's row, through which the generated one is looked at, too.
        beside: ``(B,)`` which row of the data.
        share: ``(B,)`` of each comparison in means.
    """

    known: Tensor
    seen: Tensor
    beside: Tensor
    share: Tensor


class ShownCells(nn.Module):
    """Which known cells of training rows the generator is shown.

    Args:
        schema: the columns.
        share: of the rows that are shown cells at random, as many of them as a uniform number says.
        always: names of the columns that the other rows are shown; nothing else.

    Raises:
        CapabilityError: a share that is none.
    """

    def __init__(self, schema: Schema, share: float, always: Sequence[str] = ()) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise CapabilityError(f"masks is the share of rows that show cells at random, from 0 to 1, got {share!r}.")
        self.share = share
        self.register_buffer("always", torch.tensor([name in always for name in schema.names]), persistent=False)
        self.always: Tensor

    @property
    def ever(self) -> Tensor:
        """``(D,)`` columns that a generator is ever shown."""
        return torch.ones_like(self.always) if self.share else self.always

    def volume(self, latent: int) -> Tensor:
        r"""``(D,)`` factors by which L numbers of noise do not drown what is shown: :math:`\sqrt{L / D_0}` for each of :math:`D_0` columns shown always, or of the others."""
        shown = self.always.sum().clamp_min(1)
        return torch.where(self.always, latent / shown, latent / (~self.always).sum().clamp_min(1)).sqrt()

    def forward(self, known: Tensor) -> Tensor:
        """``(B, D)`` mask at random."""
        rows = torch.rand(len(known), 2, 1, device=known.device)
        cells = torch.rand(known.shape, device=known.device) < rows[:, 0]
        return known & torch.where(rows[:, 1] < self.share, cells, self.always)

    def compare(self, known: Tensor, share: Tensor, at_random: bool = True) -> Comparison:
        """Each row by itself: cells at random, or nothing but what is shown always, of ``(B, D)`` known ones; shares ``(B,)``."""
        shown = self(known) if at_random else known & self.always
        return Comparison(shown, known, torch.arange(len(known), device=known.device), share)

    def check(self, batch: Batch) -> None:
        """Refuse to write given cells that the generator has never been shown.

        Raises:
            CapabilityError: names the column.
        """
        if self.share:
            return
        given = torch.nonzero((~batch.x.isnan() & ~self.always).any(0))[:, 0].tolist()
        if given:
            raise CapabilityError(
                f"Column {batch.schema.names[given[0]]!r} is given, and this generator was never shown its cells (masks=0);"
                " fit with masks=0.5, or give nothing but what it was shown."
            )


class Generator(nn.Module):
    """From noise, and shown cells, to the outputs that describe columns.

    Args:
        schema: the columns.
        latent: L, of the noise.
        hidden: widths of the layers.
        columns: that are written.
        network: "mlp", or "convolution" for pictures.
        shown: what it is shown: of columns that it is never shown nothing is read.
    """

    def __init__(
        self,
        schema: Schema,
        latent: int,
        hidden: Sequence[int],
        columns: RelaxedColumns,
        network: str,
        shown: ShownCells,
    ) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise CapabilityError(f"network must be one of {', '.join(map(repr, NETWORKS))}, got {network!r}.")
        pictures = network == "convolution" and bool(shown.share)
        plain = shown.always if pictures else shown.ever  # read as they are; pictures by convolutions
        numbers = columns.spread(plain).nonzero()[:, 0]
        for name, value in {"numbers": numbers, "cells": plain.nonzero()[:, 0]}.items():
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("volume", columns.spread(shown.volume(latent))[numbers])
        self.numbers: Tensor
        self.cells: Tensor
        self.volume: Tensor
        width = len(self.numbers) + len(self.cells)
        self.reader: Any = None
        if pictures:
            self.reader, width = PictureReader(schema, *hidden), width + hidden[-1]
        self.net = writer(latent + width, *hidden, columns=columns, schema=schema, network=network)  # type: ignore[arg-type]

    def forward(self, z: Tensor, rows: Tensor, known: Tensor) -> Tensor:
        """``(B, L)`` noise, ``(B, F)`` numbers, nought where unknown, and ``(B, D)`` which are known."""
        read = [
            z,
            self.volume * rows[..., self.numbers],
            known[..., self.cells].to(rows),
        ]  # noughts where nothing is shown
        if self.reader is not None:
            read.append(self.reader(torch.cat([rows, (~known).to(rows)], -1)))
        return self.net(torch.cat(read, -1))


class Critic(nn.Module):
    r"""A score of rows: high for the data's, low for generated ones.

    .. math:: C(x, k) = w^\top \phi(x, k) + x_\text{given}^\top V \phi(x, k)

    Args:
        schema: the columns.
        hidden: widths of the layers.
        columns: as they are read.
        network: "mlp", or "convolution" for pictures.
        given: names of columns by which rows are projected (Miyato and Koyama, 2018).
        spectral: layers have spectral norm one (Miyato et al., 2018).
    """

    def __init__(
        self,
        schema: Schema,
        hidden: Sequence[int],
        columns: RelaxedColumns,
        network: str = "mlp",
        given: Sequence[str] = (),
        spectral: bool = False,
    ) -> None:
        super().__init__()
        holes = [at for at, column in enumerate(schema) if column.incomplete]
        places = [place for name in given for place in columns.places[schema.index(name)]]
        for name, index in {
            "owner": columns.owner,
            "holes": torch.tensor(holes),
            "given": torch.tensor(places),
        }.items():
            self.register_buffer(name, index.long(), persistent=False)
        self.owner: Tensor
        self.holes: Tensor
        self.given: Tensor
        inputs = columns.numbers + columns.width
        self.convolves = network == "convolution"
        self.body = PictureReader(schema, *hidden) if self.convolves else mlp(inputs + len(holes), *hidden)
        self.last = nn.Linear(hidden[-1], 1)
        self.projection = nn.Linear(len(places), hidden[-1], bias=False) if places else None
        if spectral:
            normalise(self)

    def forward(self, rows: Tensor, known: Tensor, seen: Tensor) -> Tensor:
        """``(B,)`` of rows ``(B, F)`` of which some cells had been shown, and some are seen, ``(B, D)``."""
        rows = rows * seen[:, self.owner]
        h = self.read(rows, known, seen)
        score = self.last(h)[:, 0]
        return score if self.projection is None else score + (self.projection(rows[:, self.given]) * h).sum(-1)

    def read(self, rows: Tensor, known: Tensor, seen: Tensor) -> Tensor:
        """``(B, H)`` features of the rows."""
        masks = [~known] if self.convolves else [known, seen[:, self.holes]]
        return self.body(torch.cat([rows, *(mask.to(rows) for mask in masks)], -1)).relu()


def normalise(network: nn.Module) -> None:
    """Spectral norm one for every layer; those that start with nothing, which has no norm, start as others do."""
    for layer in list(network.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            if not bool(layer.weight.any()):
                layer.reset_parameters()
            spectral_norm(layer)


# ------------------------------------------------------------------------------------------------ picture to picture
def aligned(schema: Schema) -> bool:
    """Whether the columns are pixels of several pictures of one size, and nothing else."""
    sizes = {image.shape[:2] for image in schema.images}
    return len(sizes) == 1 and sum(image.pixels for image in schema.images) == len(schema)


def channels(schema: Schema, places: Sequence[Sequence[int]]) -> Tensor:
    """``(C, H, W)`` places of the numbers of all pictures' pixels, one behind the other."""
    return torch.cat(grids_of(schema, places)[0])


class PictureGenerator(nn.Module):
    """A U-shaped network from shown pictures to all (Ronneberger et al., 2015; Isola et al., 2017), told of the noise at every size.

    Args:
        schema: pixels of pictures of one size.
        latent: L, of the noise.
        columns: that are written.
        widths: channels at each size.
    """

    def __init__(
        self, schema: Schema, latent: int, columns: RelaxedColumns, widths: tuple[int, ...] = (32, 64)
    ) -> None:
        super().__init__()
        into, masks = channels(schema, columns.places), channels(schema, [[at] for at in range(len(schema))])
        self.register_buffer("into", torch.cat([into, masks + columns.numbers]), persistent=False)
        out = channels(schema, columns.output_places)
        self.register_buffer("back", out.flatten().argsort(), persistent=False)
        self.into: Tensor
        self.back: Tensor
        self.net = UNet(len(self.into), len(out), widths, condition=latent)

    def forward(self, z: Tensor, rows: Tensor, known: Tensor) -> Tensor:
        """As of :class:`Generator`."""
        read = torch.cat([rows, known.to(rows)], -1)
        return self.net(read[:, self.into], z).flatten(1)[:, self.back]


class PictureCritic(nn.Module):
    """Convolutions of all pictures together, so that what stands in one place is compared.

    Args:
        schema: pixels of pictures of one size.
        columns: as they are read.
        spectral: layers have spectral norm one.
    """

    def __init__(self, schema: Schema, columns: RelaxedColumns, spectral: bool = False) -> None:
        super().__init__()
        into, masks = channels(schema, columns.places), channels(schema, [[at] for at in range(len(schema))])
        self.register_buffer("into", torch.cat([into, masks + columns.numbers]), persistent=False)
        self.register_buffer("owner", columns.owner, persistent=False)
        self.into: Tensor
        self.owner: Tensor
        self.net = ConvolutionEncoder(*self.into.shape)
        self.last = nn.Linear(self.net.outputs, 1)
        if spectral:
            normalise(self)

    def forward(self, rows: Tensor, known: Tensor, seen: Tensor) -> Tensor:
        """As of :class:`Critic`."""
        read = torch.cat([rows * seen[:, self.owner], known.to(rows)], -1)
        return self.last(self.net(read[:, self.into]).relu())[:, 0]


def pair(
    schema: Schema, latent: int, hidden: Sequence[int], columns: RelaxedColumns, spectral: bool
) -> tuple[nn.Module, nn.Module]:
    """Generator and critic: of pictures of one size, or of any columns."""
    critic = PictureCritic if aligned(schema) else partial(Critic, hidden=hidden)
    return generator_of(schema, latent, hidden, columns), critic(schema, columns=columns, spectral=spectral)


def generator_of(schema: Schema, latent: int, hidden: Sequence[int], columns: RelaxedColumns) -> nn.Module:
    """A generator that is shown cells: of pictures of one size, or of any columns."""
    if aligned(schema):
        return PictureGenerator(schema, latent, columns, tuple(hidden))
    return Generator(schema, latent, hidden, columns, "mlp", ShownCells(schema, 1.0))
