"""The chain's passes in C, compiled at first use where a C compiler is found; everything works without them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probgen.data.sequences import Steps

__all__ = ["backward", "forward", "usable"]

SOURCE = Path(__file__).with_name("chain.c")
STATES = 64  # as in the source
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")


def usable(states: int, like: Tensor) -> bool:
    """True where the compiled passes take these numbers: float64 in memory, few states, a compiler at hand.

    ``PROBGEN_NATIVE=0`` in the environment turns them off.
    """
    return states <= STATES and like.dtype == torch.float64 and like.device.type == "cpu" and library() is not None


@cache
def library() -> Any:
    """The compiled source, kept in the user's cache under its own hash; None where it cannot be made."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or os.environ.get("PROBGEN_NATIVE") == "0":
        return None
    key = hashlib.sha256(SOURCE.read_bytes() + " ".join([compiler, *FLAGS, os.uname().machine]).encode())
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "probgen"
    made = folder / f"chain-{key.hexdigest()[:16]}.so"
    try:
        if not made.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as place:
                beside = Path(place) / "chain.so"
                command = [compiler, *FLAGS, str(SOURCE), "-o", str(beside)]
                subprocess.run(command, check=True, capture_output=True, timeout=60)
                beside.replace(made)
        return ctypes.CDLL(str(made))
    except (OSError, subprocess.SubprocessError):
        return None


def pointer(value: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(value.data_ptr())


def forward(initial: Tensor, A: Tensor, likelihood: Tensor, steps: Steps) -> tuple[Tensor, Tensor]:
    """Filtered probabilities ``(N, K)`` and scales ``(N, 1)``."""
    alpha, scale = torch.empty_like(likelihood), torch.empty_like(likelihood[:, :1])
    starts, initial, A = steps.starts.contiguous(), initial.contiguous(), A.contiguous()
    inputs = (starts, steps.lengths, initial, A, likelihood, alpha, scale)
    sizes = (ctypes.c_int64(len(steps)), ctypes.c_int64(len(A)))
    library().forward(*sizes, *map(pointer, inputs))
    return alpha, scale


def backward(
    A: Tensor, likelihood: Tensor, alpha: Tensor, scale: Tensor, weight: Tensor, steps: Steps
) -> tuple[Tensor, Tensor, Tensor]:
    """Expected counts: first states (K,), transitions (K, K), states (N, K); sequences count ``weight`` (S,) times."""
    state, first, counts = torch.empty_like(alpha), A.new_zeros(len(A)), torch.zeros_like(A)
    starts, turned, weight = steps.starts.contiguous(), A.mT.contiguous(), weight.contiguous()
    inputs = (starts, steps.lengths, turned, likelihood, alpha, scale, weight, state, first, counts)
    sizes = (ctypes.c_int64(len(steps)), ctypes.c_int64(len(A)))
    library().backward(*sizes, *map(pointer, inputs))
    return first, A * counts, state
