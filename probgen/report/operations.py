"""A function of one tensor as a list of elementary operations, which a page can carry out again.

The function is run once. Every operation that reads something made of the argument is written down; all else is a constant, so that
what is left of a decoder is its matrix products and what lies between them, whatever its program looks like.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from probgen.errors import CapabilityError

__all__ = ["OPERATIONS", "Constants", "NotElementaryError", "record"]

NAMES = """
alias clone detach contiguous _to_copy view _unsafe_view reshape unsqueeze squeeze flatten lift_fresh_copy
relu tanh sigmoid exp expm1 log log1p neg abs sqrt rsqrt reciprocal sin cos erf gelu silu hardtanh elu leaky_relu softplus
log_sigmoid_forward clamp clamp_min clamp_max logical_not isnan
floor ceil sign add sub rsub mul div pow maximum minimum where gt ge lt le eq ne
t transpose permute expand slice select index index_select split split_with_sizes unbind cat stack constant_pad_nd
sum mean amax argmax cumsum _softmax _log_softmax logsumexp
mm addmm bmm convolution upsample_nearest2d pixel_shuffle
native_layer_norm native_group_norm native_batch_norm _native_batch_norm_legit_no_training
"""
OPERATIONS = frozenset(NAMES.split())  # of latent_decoder.js
OF_SHAPES = frozenset(
    {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}
)  # whatever is in it


class NotElementaryError(CapabilityError):
    """An operation that a page does not know."""


@dataclass
class Constants:
    """Tensors that operations read, each once, however many functions share them."""

    tensors: list[Tensor] = field(default_factory=list)
    places: dict[tuple, int] = field(default_factory=dict)

    def place(self, tensor: Tensor) -> int:
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if key not in self.places:
            self.places[key] = len(self.tensors)
            self.tensors.append(tensor)
        return self.places[key]

    @property
    def size(self) -> int:
        """Numbers in all."""
        return sum(tensor.numel() for tensor in self.tensors)


class Recorder(TorchDispatchMode):
    """Write operations down that depend on one tensor."""

    def __init__(self, start: Tensor, constants: Constants) -> None:
        super().__init__()
        self.constants = constants
        self.operations: list[dict[str, Any]] = []
        self.numbers: dict[int, int] = {id(start): 0}
        self.kept: list[Tensor] = [start]  # alive, so that no other tensor gets its id

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = function(*args, **kwargs)
        if self.depends((*args, *kwargs.values())):
            self.write(function, args, kwargs, made)
        return made

    def depends(self, value: Any) -> bool:
        if isinstance(value, list | tuple):
            return any(map(self.depends, value))
        return isinstance(value, Tensor) and id(value) in self.numbers

    def write(self, function: Any, args: Any, kwargs: Any, made: Any) -> None:
        name = function._schema.name.removeprefix("aten::")
        if name in OF_SHAPES:
            return
        if name not in OPERATIONS or (name == "index" and not at_places(args[1])):
            raise NotElementaryError(f"The decoder uses {name!r}, which a page cannot carry out.")
        given = dict(zip((argument.name for argument in function._schema.arguments), args)) | kwargs
        told = [self.told(given.get(a.name, a.default_value if a.has_default_value() else None)) for a in function._schema.arguments]  # fmt: skip
        several = isinstance(made, list | tuple)
        outputs = list(made) if several else [made]
        numbers = [self.number(tensor) for tensor in outputs]
        shapes = [list(tensor.shape) for tensor in outputs]
        self.operations.append({"name": name, "args": told, "out": numbers, "shapes": shapes})

    def number(self, tensor: Tensor) -> int:
        """Of a value that was made just now."""
        self.kept.append(tensor)
        self.numbers[id(tensor)] = len(self.kept) - 1
        return len(self.kept) - 1

    def told(self, value: Any) -> Any:
        """An argument as JSON: a value's number, a constant's, or itself; what concerns memory is left out."""
        if isinstance(value, Tensor):
            number = self.numbers.get(id(value))
            return {"constant": self.constants.place(value)} if number is None else {"value": number}
        if isinstance(value, list | tuple):
            return [self.told(one) for one in value]
        if isinstance(value, float) and not math.isfinite(value):
            return math.copysign(1e308, value)
        if isinstance(value, torch.dtype) and not value.is_floating_point:
            raise NotElementaryError(f"The decoder turns numbers into {value}, which a page cannot carry out.")
        return value if isinstance(value, bool | int | float | str) else None


def at_places(indices: Any) -> bool:
    """Whether an index is by whole numbers along a single axis."""
    given = [index for index in indices if index is not None]
    return len(given) == 1 and given[0].dtype == torch.long


def record(function: Callable[[Tensor], Tensor], start: Tensor, constants: Constants) -> dict[str, Any]:
    """The operations from a tensor to the function's value there, those that the value does not need left out.

    Args:
        function: of tensors of this shape alone; its way may not depend on their values.
        start: the argument.
        constants: to which those that it reads are added.

    Raises:
        NotElementaryError: an operation that is not among ``OPERATIONS``.
    """
    recorder = Recorder(start, constants)
    with torch.no_grad(), recorder:
        made = function(start)
    result = recorder.told(made)
    return {"operations": needed(recorder.operations, result), "result": result}


def needed(operations: list[dict[str, Any]], result: dict[str, int]) -> list[dict[str, Any]]:
    """The operations that a result is made of, in order."""
    wanted, kept = {result.get("value")}, []
    for operation in reversed(operations):
        if wanted.intersection(operation["out"]):
            kept.append(operation)
            wanted.update(values_in(operation["args"]))
    return kept[::-1]


def values_in(told: Any) -> list[int]:
    """Numbers of the values that arguments name."""
    if isinstance(told, dict):
        return [told["value"]] if "value" in told else []
    return [number for one in told for number in values_in(one)] if isinstance(told, list) else []
