"""Device, dtype and seeds: the surroundings in which a computation runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pyro
import torch

from probgen.errors import CapabilityError

__all__ = ["seed_of", "seeded", "setting", "to_device", "to_dtype"]


def seed_of(seed: int, *what: object) -> int:
    """A seed for one purpose, the same on every machine and whatever else was drawn."""
    text = ":".join(str(part) for part in (seed, *what))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


@contextmanager
def seeded(seed: int, *what: object) -> Iterator[None]:
    """Draw from a stream of its own; the global random state is left as it was."""
    generators = [torch.default_generator]
    if torch.cuda.is_initialized():
        generators += list(torch.cuda.default_generators)
    states = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(seed_of(seed, *what))
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


@contextmanager
def setting(dtype: torch.dtype, device: torch.device, validate: bool = False) -> Iterator[None]:
    """Default dtype and device for what programs create, and Pyro's argument checks on or off."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with where_created(device), pyro.validation_enabled(validate):
            yield
    finally:
        torch.set_default_dtype(before)


def where_created(device: torch.device) -> AbstractContextManager:
    """A device context costs a Python call for every operation, so the CPU goes without one."""
    return nullcontext() if device.type == "cpu" else torch.device(device)


def to_device(device: str | torch.device | None) -> torch.device:
    """The device asked for; a clear refusal where the machine lacks it."""
    try:
        found = torch.device(device or "cpu")
    except (RuntimeError, TypeError) as error:
        raise CapabilityError(f"device must be 'cpu', 'cuda' or 'cuda:NUMBER', got {device!r}.") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise CapabilityError(
            f"device={str(device)!r} was asked for, but no CUDA device is available; use device='cpu'."
        )
    return found


def to_dtype(dtype: str | torch.dtype | None, default: torch.dtype) -> torch.dtype:
    """float32 or float64, by name or as torch's object."""
    named = {"float32": torch.float32, "float64": torch.float64, None: default}
    found = named.get(dtype, dtype) if not isinstance(dtype, torch.dtype) else dtype
    if found not in (torch.float32, torch.float64):
        raise CapabilityError(f"dtype must be 'float32' or 'float64', got {dtype!r}.")
    return found
