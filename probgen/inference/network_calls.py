"""How a program's networks are called while it learns: as they are, compiled, or in half precision. Programs are neither.

Losses, densities and weights keep their precision; products of matrices inside of networks lose theirs, and compilers see tensors alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from probgen.errors import CapabilityError

__all__ = ["COMPILERS", "PRECISIONS", "NetworkCalls", "networks_of"]

COMPILERS = ("eager", "inductor")
PRECISIONS: dict[str, torch.dtype | None] = {"full": None, "bfloat16": torch.bfloat16}
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.RNNBase)
Call = Callable[..., Any]


def networks_of(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules below one that can be called and have layers.

    Example:
        >>> program = nn.ModuleDict(
        ...     {"encoder": nn.Sequential(nn.Linear(3, 2)), "layers": nn.ModuleList([nn.Linear(2, 2)])}
        ... )
        >>> list(networks_of(program))
        [Sequential(
          (0): Linear(in_features=3, out_features=2, bias=True)
        ), Linear(in_features=2, out_features=2, bias=True)]
    """
    for child in module.children():
        if not any(isinstance(part, LAYERS) for part in child.modules()):
            continue
        if type(child).forward is nn.Module.forward:
            yield from networks_of(child)
        else:
            yield child


class NetworkCalls:
    """Networks of a program, called in another way inside of :meth:`changed`.

    Args:
        program: whose networks they are.
        precision: "full" or "bfloat16", of products of matrices.
        compile: "eager", or "inductor" for torch's compiler.

    Raises:
        CapabilityError: another word, or half precision of double numbers.
    """

    def __init__(self, program: nn.Module, precision: str = "full", compile: str = "eager") -> None:
        for name, value, known in (("precision", precision, PRECISIONS), ("compile", compile, COMPILERS)):
            if value not in known:
                raise CapabilityError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}.")
        half = PRECISIONS[precision]
        weights = [weight for network in networks_of(program) for weight in network.parameters()]
        if half is not None and any(weight.dtype == torch.float64 for weight in weights):
            raise CapabilityError(f"precision={precision!r} is for dtype='float32'; the networks have double numbers.")
        asked = half is not None or compile != "eager"
        self.calls = {network: made(network, half, compile) for network in networks_of(program)} if asked else {}

    @contextmanager
    def changed(self) -> Iterator[None]:
        """The networks' calls in place of their own."""
        for network, call in self.calls.items():
            network.forward = call  # type: ignore[method-assign]
        try:
            yield
        finally:
            for network in self.calls:
                del network.forward


def made(network: nn.Module, half: torch.dtype | None, compile: str) -> Call:
    """One network's call."""
    call: Call = network.forward
    if half is not None:
        call = halved(call, half, next(network.parameters()).device.type)
    return torch.compile(call) if compile == "inductor" else call


def halved(call: Call, half: torch.dtype, device: str) -> Call:
    """With products of matrices in half precision, and what comes out in full."""

    def run(*inputs: Any, **options: Any) -> Any:
        with torch.autocast(device, half):
            found = call(*inputs, **options)
        return tree_map(lambda out: out.float() if isinstance(out, torch.Tensor) and out.dtype == half else out, found)

    return run
