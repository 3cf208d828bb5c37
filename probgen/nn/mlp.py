"""Multilayer perceptrons."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

__all__ = ["mlp"]


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers from ``widths[0]`` to ``widths[-1]`` with an activation between them.

    Example:
        >>> mlp(4, 16, 2)
        Sequential(
          (0): Linear(in_features=4, out_features=16, bias=True)
          (1): ReLU()
          (2): Linear(in_features=16, out_features=2, bias=True)
        )
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])
