"""Multilayer perceptrons."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

__all__ = ["ContextMLP", "mlp"]


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU, he: bool = False, within: bool = False) -> nn.Sequential:
    """Linear layers from ``widths[0]`` to ``widths[-1]`` with an activation between them.

    Args:
        widths: of what is read, of the layers, and of what is written.
        activation: between layers.
        he: weights before an activation start so large that what goes through keeps its size (He et al., 2015), and not, as torch's own, smaller
            from layer to layer.
        within: so does the last layer, since what it writes goes on into other networks.

    Example:
        >>> mlp(4, 16, 2)
        Sequential(
          (0): Linear(in_features=4, out_features=16, bias=True)
          (1): ReLU()
          (2): Linear(in_features=16, out_features=2, bias=True)
        )
    """
    layers: list[nn.Module] = []
    *before, last = pairwise(widths)
    for inputs, outputs in before:
        layers += [linear(inputs, outputs, he), activation()]
    return nn.Sequential(*layers, linear(*last, he and within))


def linear(inputs: int, outputs: int, he: bool) -> nn.Linear:
    """A layer with weights as torch starts them, or as He et al. (2015) do."""
    layer = nn.Linear(inputs, outputs)
    if he:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return layer


class ContextMLP(nn.Module):
    """A multilayer perceptron that reads a context beside its input.

    The two are added up in the first layer, so that a context of rows is read once for all draws of a row.

    Args:
        widths: as for ``mlp``.
        context: C, numbers of the context; 0 for none.

    Example:
        >>> import torch
        >>> ContextMLP(4, 16, 2, context=3)(torch.zeros(7, 5, 4), torch.zeros(5, 3)).shape
        torch.Size([7, 5, 2])
    """

    def __init__(self, *widths: int, context: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(widths[0], widths[1])
        self.context = nn.Linear(context, widths[1], bias=False) if context else None
        self.rest = nn.Sequential(nn.ReLU(), mlp(*widths[1:])) if len(widths) > 2 else nn.Identity()

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``(..., widths[0])`` and ``(..., C)`` to ``(..., widths[-1])``."""
        before = self.first(x)
        return self.rest(before if self.context is None else before + self.context(context))
