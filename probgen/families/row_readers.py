"""What is known of a row as tokens: a text's characters or words, patches of a picture, moments of a sound, and plain columns one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from probgen.data.batches import feature_columns, features
from probgen.data.groups import Group, Image, Sound, Tokens
from probgen.data.schema import Schema
from probgen.nn.cells import CellEmbedding
from probgen.nn.translation import Heard

__all__ = ["RowReader"]

PATCH = 4  # pixels, or frames, to a side of what is one token


class RowReader(nn.Module):
    """All columns of a schema as tokens.

    Args:
        schema: the columns, whose cells are all known.
        width: W, of tokens.
        masking: share of the bands, and of the frames, of a sound that are silenced at most while a network learns (Park et al., 2019).
    """

    def __init__(self, schema: Schema, width: int, masking: float = 0.0) -> None:
        super().__init__()
        self.schema = schema
        grouped = {name for group in schema.groups for name in group.names}
        readers = [reader_of(group, schema, width, masking) for group in schema.groups]
        rest = [name for name in schema.names if name not in grouped]
        self.parts: nn.ModuleList = nn.ModuleList(
            [*readers, *([PlainReader(schema.select(rest), width)] if rest else [])]
        )
        names = [*(group.names for group in schema.groups), *([rest] if rest else [])]
        self.places = [[schema.index(name) for name in some] for some in names]
        self.kinds = nn.Parameter(torch.randn(len(self.parts), width) * 0.02)  # what is a token of what

    def forward(self, x: Tensor) -> Heard:
        """Rows ``(B, D)`` to tokens ``(B, S, W)``, and which of them there are, ``(B, S)``."""
        read = [cast("Reader", part)(x[:, place]) for part, place in zip(self.parts, self.places, strict=True)]
        tokens = [tokens + kind for (tokens, _), kind in zip(read, self.kinds, strict=True)]
        return torch.cat(tokens, 1), torch.cat([there for _, there in read], 1)


class Reader(nn.Module, ABC):
    """Of one part."""

    @abstractmethod
    def forward(self, x: Tensor) -> Heard:
        """Its columns ``(B, D)`` to tokens."""


class TextReader(Reader):
    """One token each up to the end of the text, in its place."""

    def __init__(self, length: int, levels: int, width: int) -> None:
        super().__init__()
        self.end = levels - 1
        self.token, self.place = nn.Embedding(levels, width), nn.Parameter(torch.randn(length, width) * 0.02)
        nn.init.normal_(self.token.weight, std=0.5 * width**-0.5)

    def forward(self, x: Tensor) -> Heard:
        codes = x.long()
        over = (codes == self.end).cumsum(1) - (codes == self.end).long() > 0  # behind the end
        longest = int((~over).any(0).sum())
        return self.token(codes[:, :longest]) + self.place[:longest], ~over[:, :longest]


class PictureReader(Reader):
    """Patches of four by four pixels, by convolutions."""

    def __init__(self, image: Image, schema: Schema, width: int) -> None:
        super().__init__()
        self.schema, self.shape, self.numbers = schema, image.shape, len(feature_columns(schema))
        colours = self.numbers // (image.shape[0] * image.shape[1])
        self.net = nn.Sequential(
            nn.Conv2d(colours, -(-width // 2), 3, padding=1), nn.GELU(),
            nn.Conv2d(-(-width // 2), width, 3, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
        )  # fmt: skip
        height, across = (-(-size // PATCH) for size in image.shape[:2])
        self.place = nn.Parameter(torch.randn(height * across, width) * 0.02)

    def grid(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` numbers of pixels."""
        return features(x, self.schema)[..., : self.numbers].unflatten(-1, (*self.shape[:2], -1)).movedim(-1, 1)

    def forward(self, x: Tensor) -> Heard:
        tokens = self.net(self.grid(x)).flatten(2).mT + self.place
        return tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool)


class SoundReader(PictureReader):
    """Moments of four frames with all of their bands, by convolutions over time and bands that hear 29 frames."""

    def __init__(self, sound: Sound, schema: Schema, width: int, masking: float) -> None:
        super().__init__(sound, schema, width)
        self.masking, first = masking, max(8, width // 16 * 4)
        sizes = [(1, first, (1, 2)), (first, first, (2, 1)), (first, 2 * first, (1, 2)), (2 * first, 2 * first, (2, 1)),
                 (2 * first, 3 * first, (1, 2)), (3 * first, 3 * first, (1, 1))]  # fmt: skip
        self.net = nn.Sequential(*(heard_by(*size) for size in sizes))
        frames, bands = -(-sound.shape[0] // PATCH), -(-sound.shape[1] // 8)
        self.each = nn.Linear(3 * first * bands, width)
        self.place = nn.Parameter(torch.randn(frames, width) * 0.02)

    def forward(self, x: Tensor) -> Heard:
        heard = self.net(self.masked(self.levelled(self.grid(x))))
        tokens = self.each(heard.transpose(1, 2).flatten(2)) + self.place
        return tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool)

    def levelled(self, grid: Tensor) -> Tensor:
        """Each recording beside its own: every band less its mean over the frames that are heard, by one spread; nought where there is silence.

        What a voice and a microphone add to all moments alike is taken away (Atal, 1974).
        """
        heard = (grid > grid.amin((1, 2, 3), keepdim=True)).any(3, keepdim=True)
        count = heard.sum(2, keepdim=True).clamp_min(1)
        centred = torch.where(heard, grid - torch.where(heard, grid, 0.0).sum(2, keepdim=True) / count, 0.0)
        spread = ((centred**2).sum((1, 2, 3), keepdim=True) / (count * grid.shape[3])).sqrt()
        return centred / spread.clamp_min(1e-6)

    def masked(self, grid: Tensor) -> Tensor:
        """Some bands and some frames silenced, others in each row."""
        if not (self.training and self.masking):
            return grid
        for axis in (2, 3):
            size = grid.shape[axis]
            begin, span = torch.rand(2, len(grid), 1, device=grid.device)
            places = torch.arange(size, device=grid.device)
            begin, span = begin * size, span * self.masking * size
            hidden = (places >= begin) & (places < begin + span)
            shape = [len(grid), 1, 1, 1]
            shape[axis] = size
            grid = torch.where(hidden.view(shape), 0.0, grid)
        return grid


def heard_by(inputs: int, outputs: int, stride: tuple[int, int]) -> nn.Sequential:
    """One layer over frames and bands."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.GroupNorm(4, outputs), nn.GELU())


class PlainReader(Reader):
    """A token a column."""

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        self.schema, self.owners = schema, feature_columns(schema)
        self.embedding = CellEmbedding(self.owners, width)

    def forward(self, x: Tensor) -> Heard:
        tokens = self.embedding(features(x, self.schema)[..., : len(self.owners)])
        return tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool)


def reader_of(group: Group, schema: Schema, width: int, masking: float) -> Reader:
    """By what the group is."""
    columns = schema.select(group.names)
    if isinstance(group, Tokens):
        return TextReader(group.length, columns.columns[0].cardinality, width)
    if isinstance(group, Sound):
        return SoundReader(group, columns, width, masking)
    return PictureReader(cast("Image", group), columns, width)
