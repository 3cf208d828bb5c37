"""Things in words that are the same in another process: what a study is known by when it goes on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.inference.programs import code_fingerprint
from probgen.program import Model

__all__ = ["told"]

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def told(thing: Any, within: tuple[int, ...] = ()) -> str:
    """Plain values as they are, tables and arrays by their cells, functions by their code, objects by what they hold.

    Args:
        thing: anything.
        within: identities of the objects that it is part of.

    Example:
        >>> told({"m": 5, "bounds": (0, None)})
        '{bounds: [0, None], m: 5}'
        >>> told(lambda table: table) == told(lambda table: table)
        True
    """
    if id(thing) in within:
        return "itself"
    inner = (*within, id(thing))
    if isinstance(thing, Table):
        return thing.fingerprint()
    if isinstance(thing, Mapping):
        return "{" + ", ".join(f"{key}: {told(thing[key], inner)}" for key in sorted(thing, key=str)) + "}"
    if isinstance(thing, Set):
        return "[" + ", ".join(sorted(told(part, inner) for part in thing)) + "]"
    if isinstance(thing, list | tuple):
        return "[" + ", ".join(told(part, inner) for part in thing) + "]"
    if hasattr(thing, "__array__") and not isinstance(thing, np.generic):
        return told_array(thing, inner)
    if isinstance(thing, type):
        return thing.__qualname__
    return told_function(thing, inner) if is_function(thing) else told_object(thing, inner)


def told_array(thing: Any, within: tuple[int, ...]) -> str:
    """Arrays, tensors, series and frames."""
    cells = np.asarray(thing)
    names = told(list(thing.columns), within) if hasattr(thing, "columns") else ""
    if cells.dtype.kind == "O":
        return f"{names}{cells.shape} {told(cells.ravel().tolist(), within)}"
    digest = hashlib.sha256(np.ascontiguousarray(cells).tobytes()).hexdigest()[:16]
    return f"{names}{cells.dtype} {cells.shape} {digest}"


def is_function(thing: Any) -> bool:
    """What has code and no state of its own, but for what is bound to it."""
    return isinstance(thing, partial) or hasattr(thing, "__code__") or hasattr(thing, "__func__")


def told_function(thing: Any, within: tuple[int, ...]) -> str:
    if isinstance(thing, partial):
        return told([thing.func, thing.args, thing.keywords], within)
    owner = getattr(thing, "__self__", None)
    bound = "" if owner is None or isinstance(owner, ModuleType) else f"{told(owner, within)}."
    return f"{bound}{thing.__qualname__} {code_fingerprint(thing)}"


def told_object(thing: Any, within: tuple[int, ...]) -> str:
    """Values by their words; objects by their class, what they hold, and their code where they are called."""
    kind = type(thing).__qualname__
    held = state_of(thing)
    if held is None:
        return ADDRESS.sub("", repr(thing))
    code = code_fingerprint(thing) if callable(thing) and not isinstance(thing, Model) else ""
    return f"{kind} {told(held, within)}{code}"


def state_of(thing: Any) -> dict[str, Any] | None:
    """What an object holds; None of plain values."""
    if isinstance(thing, Model):
        functions = {name: part for name, part in vars(thing).items() if name.endswith("_function")}
        return {"schema": getattr(thing, "schema", None), "options": getattr(thing, "options", None), **functions}
    if is_dataclass(thing):
        return {item.name: getattr(thing, item.name) for item in fields(thing)}
    return vars(thing) if hasattr(thing, "__dict__") else None
