"""What a small network of our own sees in pictures: vectors in which drawn and real ones can be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from probgen.data.schema import Image
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.inference.runtime import seed_of, seeded
from probgen.nn.convolution import ConvolutionEncoder
from probgen.whole import check_whole

__all__ = ["PictureFeatures", "picture_features"]

PIECE, HELD_OUT = 1024, 0.1


@dataclass(frozen=True, eq=False)
class PictureFeatures:
    """The last layer but one of a classifier of pictures; call it with a table.

    Attributes:
        name: what classifier it is, to be told with all that is measured by it.
        image: the picture that it reads.
        accuracy: share of held-out pictures that it tells.
        body: the network up to the features.
        shift, scale: of all pixels.
    """

    name: str
    image: Image
    accuracy: float
    body: nn.Module
    shift: float
    scale: float

    def __call__(self, table: Table) -> np.ndarray:
        """``(N, F)`` features of the pictures of a table."""
        pictures = pixels(table, self.image, self.shift, self.scale)
        with torch.no_grad():
            return torch.cat([self.body(part) for part in pictures.split(PIECE)]).double().numpy()


def picture_features(
    table: Table,
    target: str | None = None,
    *,
    image: str | None = None,
    width: int = 64,
    max_steps: int = 600,
    batch_size: int = 128,
    seed: int = 0,
) -> PictureFeatures:
    """Train a small convolutional classifier on labelled pictures, for its features.

    Numbers measured by them are comparable only with numbers by the same features: they are not those of the Inception network that "FID" stands for.

    Args:
        table: of pictures, with their labels; rows without a label are left out.
        target: the column of labels; the table's own target where it is None.
        image: name of the pictures, where there are several.
        width: F, how many features.
        max_steps: of Adam.
        batch_size: pictures a step.
        seed: of everything random.

    Raises:
        SchemaError: the table has no picture.
        CapabilityError: there is no column of labels.
        DataError: unknown pixels, or fewer than twenty labelled pictures.

    Example:
        >>> from probgen.data.datasets import load
        >>> features = picture_features(load("digits").take(slice(0, 200)), max_steps=20)
        >>> features(load("digits").take(slice(0, 5))).shape
        (5, 64)
    """
    seen, name = table.schema.image(image), target or table.schema.target
    if name is None or not table.schema[name].is_discrete:
        raise CapabilityError(f"Features come from a classifier: name a column of labels as target=, got {name!r}.")
    labels = table.values[:, table.schema.index(name)]
    rows = table.take(np.flatnonzero(~np.isnan(labels)))
    if len(rows) < 20:
        raise DataError(f"A classifier needs at least 20 labelled pictures, {len(rows)} have a {name!r}.")
    shift, scale = scale_of(rows, seen)
    codes = torch.as_tensor(labels[~np.isnan(labels)]).long()
    with seeded(seed_of(seed, "picture features")), torch.enable_grad():
        body, accuracy = trained(
            pixels(rows, seen, shift, scale),
            codes,
            table.schema[name].cardinality,
            width,
            check_whole("max_steps", max_steps),
            check_whole("batch_size", batch_size),
        )
    told = f"a classifier of {name!r} on {len(rows)} pictures ({accuracy:.0%} of held-out ones told)"
    return PictureFeatures(told, seen, accuracy, body, shift, scale)


def trained(x: Tensor, label: Tensor, levels: int, width: int, steps: int, batch: int) -> tuple[nn.Module, float]:
    """A network up to its features, and the accuracy on a tenth of the pictures."""
    encoder = ConvolutionEncoder(*x.shape[1:])
    body = nn.Sequential(encoder, nn.Linear(encoder.outputs, width), nn.SiLU())
    net = nn.Sequential(body, nn.Linear(width, levels))
    order = torch.randperm(len(x))
    out, inside = order.split([max(2, int(HELD_OUT * len(x))), len(x) - max(2, int(HELD_OUT * len(x)))])
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps + 1)
    for _ in range(steps):
        rows = inside[torch.randint(len(inside), (min(batch, len(inside)),))]
        loss = cross_entropy(net(x[rows]), label[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        plan.step()
    net.requires_grad_(False)
    told = torch.cat([net(part).argmax(1) for part in x[out].split(PIECE)])
    return body.eval(), float((told == label[out]).double().mean())


def scale_of(table: Table, image: Image) -> tuple[float, float]:
    """Mean and standard deviation of all pixels."""
    values = table.images(image.name)
    return float(np.nanmean(values)), float(np.nanstd(values)) or 1.0


def pixels(table: Table, image: Image, shift: float, scale: float) -> Tensor:
    """``(N, C, H, W)`` standardised pixels."""
    values = table.images(image.name)
    if np.isnan(values).any():
        row = int(np.argwhere(np.isnan(values))[0][0])
        raise DataError(
            f"The picture of row {row} has unknown pixels; features are of whole pictures. Fill them first."
        )
    return torch.as_tensor((values - shift) / scale, dtype=torch.float32).movedim(-1, 1)
