r"""Gated PixelCNN (van den Oord et al., 2016) with the likelihood of PixelCNN++ for grey levels (Salimans, Karpathy, Chen and Kingma, 2017).

.. math::
    y \sim \mathrm{Categorical}(\pi), \qquad
    x_d \mid x_1, \dots, x_{d-1}, y \sim p_d\bigl(f_\theta(x_1, \dots, x_{d-1}, y)\bigr), \qquad d = 1, \dots, D

A picture is said pixel by pixel, row by row, colour by colour, by convolutions that see what is above and what is to the left. Pixels with levels
have a probability each, grey levels a mixture of logistic distributions in steps. A label y may stand beside the picture: it is told to all
pixels where it is known and summed out where it is not, so that classes follow by Bayes' rule. The guide guesses what is unknown before known pixels; where
that is nothing, the density is exact.
"""

import pyro
import torch
from torch import nn

from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families import SUM_OUT, Categorical
from probgen.families.cell_chain import checked_layers
from probgen.families.latent import GivenLevel, checked_sizes
from probgen.families.level_mixture import checked_label
from probgen.families.pixel_chain import (
    Copied,
    PixelChain,
    checked_temperature,
    guesses,
    pixel_cells,
    reach_of,
    waiting,
)
from probgen.program import Model, Traits


class PixelCNN(Model):
    """Pixel by pixel, by gated convolutions.

    Args:
        schema: the columns: one picture (``Table.from_images``), and at most a label beside; without a picture they are pixels of a single row.
        hidden: widths of the layers, of which the first is that of the convolutions' channels too.
        kernel: rows, and pixels of a row, that a layer looks at.
        label: name of a column with levels that all pixels are told; "auto" is the one beside a picture, None is none.
        components: K, of the mixtures that pixels without levels have.
        temperature: of draws of what comes behind the known pixels: their probabilities are raised to the power of one over it.
    """

    traits = Traits(
        "lower_bound", ("svi",), "none", "pixel by pixel, by gated convolutions; exact densities of complete pictures",
        objective="iwae",
    )  # fmt: skip
    cells_as_latents = True

    def __init__(
        self,
        schema: Schema,
        hidden: tuple[int, ...] = (32, 32, 32, 32),
        kernel: int = 3,
        label: str | None = "auto",
        components: int = 5,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(schema)
        checked_layers(hidden)
        checked_sizes(kernel=kernel)
        self.label = label_of(schema, label)
        self.pixels = tuple(name for name in schema.names if name != self.label)
        pixels, levels = schema.select(self.pixels), schema[self.label].cardinality if self.label else 0
        self.temperature = checked_temperature(temperature, pixels)
        self.cells = pixel_cells(pixels, tuple(hidden), kernel, levels, components)
        if self.label:
            self.level, self.logits = Categorical(levels), nn.Parameter(torch.zeros(levels))

    def outline(self):
        return reach_of(self.cells)

    def chain(self, level=None):
        return PixelChain(self.cells, level, self.temperature)

    def labelled(self, batch):
        """The distribution of pictures, given their labels."""
        if not self.label:
            return self.chain()
        known = batch.column(self.label)
        tried = SUM_OUT if known.isnan().any() else {}
        y = pyro.sample("y", self.level(self.logits), obs=known, infer=tried)
        return GivenLevel(self.chain, y, len(self.pixels))

    def model(self, batch):
        x = batch.select(self.pixels)
        with batch.rows():
            pictures = self.labelled(batch)
            if waiting(x):
                pictures = Copied(pyro.sample("u", pictures))
            pyro.sample("x", pictures, obs=x)

    def guide(self, batch):
        x = batch.select(self.pixels)
        if waiting(x):
            told = (batch.column(self.label), self.logits) if self.label else ()
            with batch.rows():
                pyro.sample("u", guesses(self.cells, x, *told))


def label_of(schema, label):
    """The name of the column that is told to all others, or None."""
    beside = set(schema.names).difference(*(image.names for image in schema.images)) if schema.images else set()
    if label == "auto":
        label = next(iter(beside), None)
    if len(schema.images) > 1 or beside - {label}:
        raise CapabilityError(
            f"pixel_cnn takes one picture and at most a label beside; there are {len(schema.images)} pictures and, beside them, columns"
            f" {', '.join(sorted(beside)) or 'none'}. Drop the others."
        )
    return None if label is None else checked_label(schema, label, "pixel_cnn")
