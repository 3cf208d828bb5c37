"""Convolutional networks between pictures of any size and vectors (LeCun et al., 1989; He et al., 2016)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import interpolate

__all__ = ["ConvolutionBlock", "ConvolutionDecoder", "ConvolutionEncoder", "sizes_of"]

FIRST, MOST = 16, 64  # channels at the size of the picture, and at most; they double with every halving
SMALLEST = 7  # no side is halved once none is longer


def sizes_of(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes from a picture downwards, both sides halved and rounded up.

    Example:
        >>> sizes_of(28, 28), sizes_of(8, 5)
        ([(28, 28), (14, 14), (7, 7)], [(8, 5), (4, 3)])
    """
    sizes = [(height, width)]
    while max(sizes[-1]) > SMALLEST:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def channels_at(level: int) -> int:
    return min(FIRST * 2**level, MOST)


class ConvolutionBlock(nn.Module):
    """What is read plus two convolutions of it; at the start it changes nothing.

    Args:
        channels: of what is read and written.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.change = nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        return x + self.change(x)


class ConvolutionEncoder(nn.Module):
    """Strided convolutions with a residual block at every size.

    Args:
        channels: C, of what is read.
        height: H.
        width: W.

    Attributes:
        outputs: F, how many numbers come out.

    Example:
        >>> import torch
        >>> net = ConvolutionEncoder(2, 9, 7)
        >>> net(torch.zeros(5, 2, 9, 7)).shape[1] == net.outputs
        True
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        sizes = sizes_of(height, width)
        layers: list[nn.Module] = [nn.Conv2d(channels, FIRST, 3, padding=1)]
        for level in range(1, len(sizes)):
            step = nn.Conv2d(channels_at(level - 1), channels_at(level), 3, stride=2, padding=1)
            layers += [nn.SiLU(), step, ConvolutionBlock(channels_at(level))]
        if len(sizes) == 1:
            layers.append(ConvolutionBlock(FIRST))
        self.net = nn.Sequential(*layers, nn.SiLU(), nn.Flatten())
        self.outputs = channels_at(len(sizes) - 1) * sizes[-1][0] * sizes[-1][1]

    def forward(self, pictures: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, F)``."""
        return self.net(pictures)


class ConvolutionDecoder(nn.Module):
    """From a vector to a picture: a small one first, then enlarged and convolved, with a residual block at every size.

    Args:
        inputs: F, of the vector.
        channels: C, of what is written.
        height: H.
        width: W.

    Example:
        >>> import torch
        >>> ConvolutionDecoder(4, 3, 9, 7)(torch.zeros(5, 4)).shape
        torch.Size([5, 3, 9, 7])
    """

    def __init__(self, inputs: int, channels: int, height: int, width: int) -> None:
        super().__init__()
        sizes = sizes_of(height, width)[::-1]
        widths = [channels_at(level) for level in reversed(range(len(sizes)))]
        self.sizes, self.first = sizes, widths[0]
        self.small = nn.Linear(inputs, widths[0] * sizes[0][0] * sizes[0][1])
        self.blocks = nn.ModuleList(ConvolutionBlock(width) for width in widths)
        self.steps = nn.ModuleList(nn.Conv2d(one, other, 3, padding=1) for one, other in pairwise(widths))
        self.last = nn.Sequential(nn.SiLU(), nn.Conv2d(widths[-1], channels, 3, padding=1))

    def forward(self, vectors: Tensor) -> Tensor:
        """``(B, F)`` to ``(B, C, H, W)``."""
        x = self.blocks[0](self.small(vectors).unflatten(-1, (self.first, *self.sizes[0])))
        for step, block, size in zip(self.steps, self.blocks[1:], self.sizes[1:], strict=True):
            x = block(step(interpolate(x, size)))
        return self.last(x)
