"""Inner loops in C, compiled at first use where a C compiler is found; everything works without them, slower.

``PROBGEN_NATIVE=0`` in the environment turns them off. Compiled files are kept in the user's cache folder under the
hash of their source, the compiler and the processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["call", "library", "takes"]

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")


def takes(name: str, like: Tensor) -> bool:
    """True where compiled loops take these numbers: float64 in memory, and a compiler at hand."""
    plain = not torch._C._functorch.is_functorch_wrapped_tensor(like)
    return plain and like.dtype == torch.float64 and like.device.type == "cpu" and library(name) is not None


@cache
def library(name: str) -> ctypes.CDLL | None:
    """The compiled ``name.c``; None where it cannot be made."""
    words = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(words[0]) is None or os.environ.get("PROBGEN_NATIVE") == "0":
        return None
    source = Path(__file__).with_name(f"{name}.c")
    key = hashlib.sha256(source.read_bytes() + " ".join([*words, *FLAGS, *platform.uname()[1:], processor()]).encode())
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "probgen"
        made = folder / f"{name}-{key.hexdigest()[:16]}.so"
        if not made.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as place:
                beside = Path(place) / made.name
                command = [*words, *FLAGS, str(source), "-o", str(beside), "-lm"]
                subprocess.run(command, check=True, capture_output=True, timeout=120)
                beside.replace(made)
        return ctypes.CDLL(str(made))
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: the user has no home folder
        return None


def processor() -> str:
    """What this processor can do, where the system says so: loops are compiled for it and stop elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")


def call(function: Callable, *arguments: Tensor | int) -> None:
    """Call with whole numbers and with the addresses of contiguous tensors."""
    kept = [value.contiguous() if isinstance(value, Tensor) else value for value in arguments]
    assert all(a is b for a, b in zip(kept, arguments, strict=True)), "compiled loops take contiguous tensors"
    function(*[ctypes.c_void_p(v.data_ptr()) if isinstance(v, Tensor) else ctypes.c_int64(v) for v in kept])
