"""What a decoder expects of the columns at latent values: means and probabilities, and their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen._pyro import Messenger
from probgen.data.batches import Batch, read_column
from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.codebook import Codes
from probgen.families.columns import Joint
from probgen.families.latent import GivenLevel
from probgen.families.ordered_logistic import log_levels
from probgen.inference.tracing import Given, observe
from probgen.queries.embed import Likeliest, latent_means

__all__ = ["Decoded", "Decoder"]


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
        self.fit, self.theta = fit, fit.posterior.theta()
        with torch.no_grad(), fit.setting():
            self.shapes = {
                name: value.shape[1:] for name, value in latent_means(fit.program, self.blank(1), self.theta).items()
            }
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

    def blank(self, rows: int) -> Batch:
        """Rows of which nothing is known."""
        return Batch(torch.full((rows, len(self.fit.schema)), torch.nan), self.fit.schema)

    def prior_centre(self) -> np.ndarray:
        """Means of the latent sites, from the top down; how many slots have those that are codes out of a codebook."""
        found = Centres(self.shapes)
        observe(self.fit.program, self.blank(1), Given(self.theta), found, Likeliest(), sum_out=False)
        self.slots = found.slots
        pieces = [found.means[name].reshape(-1).double().cpu().numpy() for name in self.shapes]
        return np.concatenate(pieces)

    def parts(self, z: Tensor) -> Iterator[tuple[list[int], Tensor, Tensor | None]]:
        """Places of columns, their means ``(N, D)`` in model coordinates, and probabilities of levels ``(N, D, K)``."""
        batch = self.blank(len(z))
        pieces = z.to(batch.x).split(list(self.widths.values()), 1)
        sites = {
            name: piece.reshape(len(z), *shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }
        run = observe(self.fit.program, batch, Given(self.theta, sites=sites), Likeliest(), sum_out=False)
        for site in run.sites.values():
            places = [] if site.data is None else batch.places(site.data)
            joint = site.distribution.known if isinstance(site.distribution, GivenLevel) else site.distribution
            if places and isinstance(joint, Joint):
                for block, part in joint.parts:
                    yield (
                        [places[at] for at in block.index.tolist()],
                        block.write(part.mean),
                        level_probabilities(part),
                    )
            elif places:
                centre = site.value if site.data is not site.value else joint.mean
                yield places, centre.reshape(len(z), len(places)), None

    def read(self, z: Tensor) -> Tensor:
        """``(N, F)``: the expected columns as networks read rows, numbers in standard deviations and levels by their probabilities.

        Gradients run through it. Masks are left out.
        """
        found: dict[int, Tensor] = {}
        with self.fit.setting():
            for places, centres, levels in self.parts(z):
                for at, place in enumerate(places):
                    column = self.fit.schema[place]
                    shares = None if levels is None else levels[:, at]
                    found[place] = read_expected(centres[:, at].expand(len(z)), shares, column)
        return torch.cat([found[place] for place in sorted(found)], 1)

    def __call__(self, z: np.ndarray) -> Decoded:
        """Of latent values ``(N, L)``."""
        values = self.checked(z)
        levels: dict[str, np.ndarray] = {}
        with torch.no_grad(), self.fit.setting():
            x = np.full((len(values), len(self.fit.schema)), np.nan)
            for places, centres, shares in self.parts(torch.as_tensor(values)):
                x[:, places] = centres.double().cpu().numpy()
                for at, place in enumerate(places if shares is not None else ()):
                    p = shares[:, at].expand(len(values), -1).double().cpu().numpy()  # type: ignore[index]
                    levels[self.fit.schema[place].name] = p
                    x[:, place] = p @ np.arange(p.shape[1])
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


def level_probabilities(part: Any) -> Tensor | None:
    """``(N, D, K)`` of a block of columns with levels; None for numbers."""
    theta = getattr(part, "theta", None)
    if theta is None or not set(theta) & {"logits", "cutpoints"}:
        return None
    if "cutpoints" in theta:
        return log_levels(theta["loc"], theta["cutpoints"]).exp()
    logits = theta["logits"]
    binary = logits.dim() == len(part.batch_shape) + 1
    return torch.stack([-logits, logits], -1).mul(0.5).softmax(-1) if binary else logits.softmax(-1)


def read_expected(centre: Tensor, levels: Tensor | None, column: Any) -> Tensor:
    """``(N, 1)`` or ``(N, K)``: one column's expectation as networks read a cell."""
    if levels is not None and column.kind == "categorical":
        return levels.expand(len(centre), -1)
    if levels is not None:
        centre = levels @ torch.arange(levels.shape[-1]).to(levels)
    if column.kind == "semicontinuous":
        return centre.clamp_min(0.0).log1p()[:, None]
    return read_column(centre, column)
