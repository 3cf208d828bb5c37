"""Residual multilayer perceptrons."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

__all__ = ["ResidualBlock", "residual"]


class ResidualBlock(nn.Module):
    """What is read plus a perceptron of it, normalised first (He et al., 2016; Ba et al., 2016); at the start it changes nothing.

    Args:
        width: of what is read and written.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Linear(width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.change = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., width)`` to the same shape."""
        return x + self.change(x)


def residual(*widths: int) -> nn.Sequential:
    """From ``widths[0]`` to ``widths[-1]`` by way of a residual block for every width between.

    Example:
        >>> import torch
        >>> residual(4, 16, 16, 2)(torch.zeros(5, 4)).shape
        torch.Size([5, 2])
    """
    *before, last = widths
    layers: list[nn.Module] = []
    for one, other in pairwise(before):
        layers += [nn.Linear(one, other)] if one != other or not layers else []
        layers.append(ResidualBlock(other))
    normed = [nn.LayerNorm(before[-1]), nn.SiLU()] if layers else []
    return nn.Sequential(*layers, *normed, nn.Linear(before[-1], last))
