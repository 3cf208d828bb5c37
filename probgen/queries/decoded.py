"""What a decoder expects of the columns at latent values: means and probabilities, and their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from probgen._pyro import Messenger
from probgen.data.batches import read_column
from probgen.data.schema import Column, Schema
from probgen.errors import CapabilityError
from probgen.families.codebook import Codes
from probgen.families.columns import Joint
from probgen.families.latent import GivenLevel
from probgen.inference.tracing import Given, observe
from probgen.queries.embed import Likeliest, blank_rows, column_sites, latent_shapes, split_sites

__all__ = ["Decoded", "Decoder", "Described"]


@dataclass(frozen=True, eq=False)
class Decoded:
    """What is expected of the columns at N latent values.

    Attributes:
        schema: the columns.
        centres: ``(N, D)`` means of numbers, in their columns' units, and mean codes of columns with levels: of a binary one the probability of
            its second level.
        levels: of each column with levels, ``(N, K)`` probabilities.
    """

    schema: Schema
    centres: np.ndarray
    levels: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.centres)

    def take(self, rows: Any) -> Decoded:
        """Some of them."""
        return Decoded(self.schema, self.centres[rows], {name: p[rows] for name, p in self.levels.items()})


@dataclass(frozen=True, eq=False)
class Described:
    """Some columns given N latent values, as tensors.

    Attributes:
        places: of the D columns in the schema.
        centres: ``(N, D)`` means in model coordinates, mean codes of columns with levels.
        levels: ``(N, D, K)`` probabilities; None for numbers.
    """

    places: list[int]
    centres: Tensor
    levels: Tensor | None


class Decoder:
    """The way back from latents to columns, of a fit whose latents are continuous and a row's own.

    Args:
        fit: the model.

    Attributes:
        names: of the latent dimensions, "z 3" for the third of site z; of codes out of a codebook, of their slots.
        groups: places of the L numbers that move together: one by one, or the vector of a slot.
        widths: how many dimensions each latent site has.
        centre: ``(L,)``, the mean of the prior; NaN where that has none.

    Raises:
        CapabilityError: the model has no such latents, or they are those of a sequence.
    """

    def __init__(self, fit: Any) -> None:
        if fit.traits.embedding != "mean" or fit.traits.sequences or not fit.traits.normalised:
            raise CapabilityError(f"{fit.name!r} has no continuous latents of a row by itself that a decoder reads.")
        self.fit = fit
        with torch.no_grad(), fit.setting():
            self.shapes = latent_shapes(fit, blank_rows(fit, 1))
            self.centre = self.prior_centre()
        self.widths = {name: shape.numel() for name, shape in self.shapes.items()}
        self.names, self.groups = self.units()

    def units(self) -> tuple[list[str], list[np.ndarray]]:
        """Names of what can be moved by itself, and its places among the latent values."""
        names, groups, first = [], [], 0
        for name, width in self.widths.items():
            count = self.slots.get(name, width)
            names += [f"{name} {at + 1}" for at in range(count)] if count > 1 else [name]
            groups += np.split(np.arange(first, first + width), count)
            first += width
        return names, groups

    def prior_centre(self) -> np.ndarray:
        """Means of the latent sites, from the top down; how many slots have those that are codes out of a codebook."""
        found = Centres(self.shapes)
        given = Given(self.fit.posterior.theta())
        observe(self.fit.program, blank_rows(self.fit, 1), given, found, Likeliest(), sum_out=False)
        self.slots = found.slots
        pieces = [found.means[name].reshape(-1).double().cpu().numpy() for name in self.shapes]
        return np.concatenate(pieces)

    def columns(self, z: Tensor, known: Mapping[str, int] | None = None) -> list[Described]:
        """All columns given latent values ``(N, L)``; :meth:`probgen.Fit.decode` makes rows of the same.

        Args:
            z: of the fit's dtype and on its device, or moved there; gradients run through it.
            known: codes of columns that the program reads beside its latents, such as a label's; the most probable ones where None.
        """
        found: list[Described] = []
        for site, places in self.sites(z, known or {}):
            if site.data is site.value:
                found += described(site.distribution, places, self.fit.schema, len(z))
            else:
                found.append(certain(site.value, places, self.fit.schema[places[0]], z))
        return found

    def sites(self, z: Tensor, known: Mapping[str, int]) -> list[tuple[Any, list[int]]]:
        """The sites that are columns, and which."""
        batch = blank_rows(self.fit, len(z))
        for name, code in known.items():
            batch.x[:, self.fit.schema.index(name)] = code
        return column_sites(self.fit, batch, split_sites(self.fit, z.to(batch.x), self.shapes))

    def labels(self) -> list[str]:
        """Columns with levels that the program reads beside its latents."""
        with torch.no_grad(), self.fit.setting():
            sites = self.sites(torch.zeros(1, len(self.centre)), {})
        return [self.fit.schema.names[places[0]] for site, places in sites if site.data is not site.value]

    def read(self, z: Tensor) -> Tensor:
        """``(N, F)``: the expected columns as networks read rows, numbers in standard deviations and levels by their probabilities.

        Gradients run through it. Masks are left out.
        """
        found: dict[int, Tensor] = {}
        with self.fit.setting():
            for part in self.columns(z):
                for at, place in enumerate(part.places):
                    levels = None if part.levels is None else part.levels[:, at]
                    found[place] = read_expected(part.centres[:, at], levels, self.fit.schema[place])
        return torch.cat([found[place] for place in sorted(found)], 1)

    def __call__(self, z: np.ndarray) -> Decoded:
        """Of latent values ``(N, L)``."""
        values = self.checked(z)
        levels: dict[str, np.ndarray] = {}
        with torch.no_grad(), self.fit.setting():
            x = np.full((len(values), len(self.fit.schema)), np.nan)
            for part in self.columns(torch.as_tensor(values)):
                x[:, part.places] = part.centres.double().cpu().numpy()
                for at, place in enumerate(part.places if part.levels is not None else ()):
                    levels[self.fit.schema[place].name] = part.levels[:, at].double().cpu().numpy()  # type: ignore[index]
        return Decoded(self.fit.schema, self.fit.standardiser.inverse(x), levels)

    def checked(self, z: np.ndarray) -> np.ndarray:
        """Finite values of the right width."""
        values = np.atleast_2d(np.asarray(z, dtype=float))
        width = len(self.centre)
        if values.ndim != 2 or values.shape[1] != width or not np.isfinite(values).all():
            raise CapabilityError(f"The decoder needs finite latent values of shape (N, {width}), got {values.shape}.")
        return values


class Centres(Messenger):
    """Latent sites are at the means of their priors; NaN is noted, and zero stands for it, where there is none."""

    def __init__(self, shapes: dict[str, torch.Size]) -> None:
        super().__init__()
        self.shapes = shapes
        self.means: dict[str, Tensor] = {}
        self.slots: dict[str, int] = {}

    def _pyro_sample(self, message: dict) -> None:
        if message["name"] not in self.shapes:
            return
        try:
            value = message["fn"].mean
        except NotImplementedError:
            value = torch.full(message["fn"].shape(), torch.nan)
        if isinstance(message["fn"], Codes):
            self.slots[message["name"]] = message["fn"].book.slots
        self.means[message["name"]] = value
        message["value"], message["done"] = value.nan_to_num().expand(1, *self.shapes[message["name"]]), True


def certain(codes: Tensor, places: list[int], column: Column, z: Tensor) -> Described:
    """A level that was given or chosen."""
    return Described(places, codes.to(z)[:, None], one_hot(codes.long()[:, None], len(column.levels)).to(z))


def described(distribution: Any, places: list[int], schema: Schema, rows: int) -> list[Described]:
    """Block by block, where the distribution has some."""
    if isinstance(distribution, GivenLevel):
        distribution = distribution.known
    if not isinstance(distribution, Joint):
        return [Described(places, distribution.mean.reshape(rows, len(places)), None)]
    found = []
    for block, part in distribution.parts:
        at = [places[index] for index in block.index.tolist()]
        levels = level_probabilities(part, schema[at[0]].kind)
        centres = block.write(part.mean) if levels is None else mean_code(levels)
        found.append(Described(at, spread(centres, rows), None if levels is None else spread(levels, rows)))
    return found


def level_probabilities(part: Any, kind: str) -> Tensor | None:
    """``(N, D, K)`` of a block of columns with levels; None for numbers."""
    if kind == "binary":
        return torch.stack([1 - part.mean, part.mean], -1)
    return part.family.natural(part.theta)["logits"].softmax(-1) if kind in ("categorical", "ordinal") else None


def mean_code(levels: Tensor) -> Tensor:
    """``(N, D)``."""
    return (levels * torch.arange(levels.shape[-1]).to(levels)).sum(-1)


def spread(values: Tensor, rows: int) -> Tensor:
    """The same for every row, where it does not depend on latents."""
    return values.expand(rows, *values.shape[1:])


def read_expected(centre: Tensor, levels: Tensor | None, column: Column) -> Tensor:
    """``(N, 1)`` or ``(N, K)``: one column's expectation as networks read a cell."""
    if levels is not None and column.kind == "categorical":
        return levels
    if column.kind == "semicontinuous":
        return centre.clamp_min(0.0).log1p()[:, None]
    return read_column(centre, column)
