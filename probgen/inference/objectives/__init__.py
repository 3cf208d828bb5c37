"""Objectives: log importance weights of a batch -> one value a row, to be maximised. One file each."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from torch import Tensor

from probgen.errors import CapabilityError


def objective(name: str) -> Callable[[Tensor], Tensor]:
    """The objective of this name."""
    names = [info.name for info in pkgutil.iter_modules(__path__)]
    if name not in names:
        raise CapabilityError(f"There is no objective {name!r}. Available: {', '.join(names)}.")
    module = importlib.import_module(f"{__name__}.{name}")
    if not hasattr(module, "per_row"):
        raise CapabilityError(f"The objective {name!r} is none of log importance weights; use method={name!r}.")
    return module.per_row
