"""Columns that belong together: the pixels of a picture, the bands of a sound, the tokens of a text."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from probgen.errors import SchemaError
from probgen.whole import is_whole

__all__ = ["Group", "Image", "Sound", "Text", "Tokens", "group_from"]


@dataclass(frozen=True)
class Group(ABC):
    """Columns that stand side by side and are one thing.

    Attributes:
        name: of all of them together.
    """

    name: str

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Of its columns, in order."""

    @abstractmethod
    def describe(self) -> str:
        """What it is, in a few words."""

    def start(self, names: Sequence[str]) -> int | None:
        """Place of its first column among others, None where they do not all stand there side by side."""
        first = self.names[0]
        at = list(names).index(first) if first in names else 0
        return at if tuple(names[at : at + len(self.names)]) == self.names else None

    def entry(self) -> dict[str, Any]:
        """As it is saved."""
        return {key: value for key, value in vars(self).items() if key in type(self).__dataclass_fields__}


@dataclass(frozen=True)
class Image(Group):
    """Columns that are the pixels of one picture.

    They stand side by side, by rows, then columns, then channels of the picture, and are called ``name[r,c]``, or
    ``name[r,c,ch]`` where there is more than one channel.

    Attributes:
        name: of the picture.
        shape: ``(H, W, C)``; ``(H, W)`` is one channel.

    Example:
        >>> Image("photo", (1, 2)).names
        ('photo[0,0]', 'photo[0,1]')
    """

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = tuple(self.shape) if isinstance(self.shape, tuple | list) else ()
        if len(shape) not in (2, 3) or not all(is_whole(n, 1) for n in shape):
            raise SchemaError(f"Image {self.name!r}: shape must be (H, W) or (H, W, C), got {self.shape!r}.")
        object.__setattr__(self, "shape", (*map(int, shape), 1)[:3])

    @property
    def pixels(self) -> int:
        """How many columns it has, H W C."""
        return math.prod(self.shape)

    @cached_property
    def names(self) -> tuple[str, ...]:
        height, width, channels = self.shape
        every = ((r, c, ch) for r in range(height) for c in range(width) for ch in range(channels))
        return tuple(f"{self.name}[{','.join(map(str, at if channels > 1 else at[:2]))}]" for at in every)

    def describe(self) -> str:
        return f"image of {' x '.join(map(str, self.shape))} pixels"


@dataclass(frozen=True)
class Sound(Image):
    """Columns that are the loudness of one recording, frame by frame, in bands of the mel scale: a picture of T frames by F bands.

    Attributes:
        name: of the sound.
        shape: ``(T, F)``.
        rate: samples a second of the recordings.
        window, step: samples in a frame, and from one frame to the next.
        floor: decibels below the loudest band of the recording, under which all is silence; a negative number.

    Example:
        >>> Sound("word", (81, 40), rate=8000, window=200, step=80).seconds
        0.8
    """

    rate: int = 16_000
    window: int = 400
    step: int = 160
    floor: float = -80.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("rate", self.rate), ("window", self.window), ("step", self.step)):
            if not is_whole(value, 1):
                raise SchemaError(f"Sound {self.name!r}: {name} must be a whole number of at least 1, got {value!r}.")
        if not -math.inf < self.floor < 0:
            raise SchemaError(f"Sound {self.name!r}: floor must be negative decibels, got {self.floor!r}.")

    @property
    def seconds(self) -> float:
        """How long it is, from the middle of the first frame to that of the last."""
        return (self.shape[0] - 1) * self.step / self.rate

    def describe(self) -> str:
        return f"sound of {self.shape[0]} frames ({self.seconds:g} s) x {self.shape[1]} bands"


@dataclass(frozen=True)
class Tokens(Group):
    """Columns that are the tokens of one text: what follows its end, where it has one, are ends.

    They are called ``name[0]`` and so on, and have the same levels, of which the last is the end.

    Attributes:
        name: of the text.
        length: how many columns, which the longest text fills without an end.
        tokenizer: "" where tokens are characters, "words" where they stand between blanks, else the description of a
            tokenizer of byte pairs.

    Example:
        >>> Tokens("title", 2).names
        ('title[0]', 'title[1]')
    """

    length: int
    tokenizer: str = ""

    def __post_init__(self) -> None:
        if not is_whole(self.length, 1):
            raise SchemaError(f"Text {self.name!r}: length must be a whole number of at least 1, got {self.length!r}.")

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}[{at}]" for at in range(self.length))

    def describe(self) -> str:
        what = {"": "characters", "words": "words"}.get(self.tokenizer, "byte pairs")
        return f"text of up to {self.length} {what}"


@dataclass(frozen=True)
class Text:
    """A column whose rows, the steps of sequences, are the tokens of texts; its levels are the tokens.

    Attributes:
        column: its name.
        tokenizer: "" where tokens are characters, "words" where they stand between blanks, else the description of a
            tokenizer of byte pairs.
    """

    column: str
    tokenizer: str = ""


def group_from(entry: dict[str, Any]) -> Image:
    """A picture or a sound as it was saved."""
    kind = Sound if "rate" in entry else Image
    return kind(**{**entry, "shape": tuple(entry["shape"])})
