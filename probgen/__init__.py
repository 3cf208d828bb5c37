"""Generative models of data: give a table with holes, get a joint distribution that can be asked anything.

Example:
    >>> import probgen as pg
    >>> "gaussian_mixture" in pg.available()
    True
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probgen.data.datasets import load as load_dataset
    from probgen.data.missing import ampute
    from probgen.data.schema import Column, Schema
    from probgen.data.streams import ParquetFolder
    from probgen.data.table import Table, read_table
    from probgen.errors import (
        CapabilityError,
        ConvergenceWarning,
        DataError,
        DataWarning,
        FitError,
        ImproperWarning,
        ProbgenError,
        ProbgenWarning,
        SchemaError,
    )
    from probgen.estimate import Estimate
    from probgen.program import Model, Traits, available, program
    from probgen.queries.fit import Fit, fit, load

__version__ = "0.1.0"

HOME = {
    "probgen.data.datasets": ("load as load_dataset",),
    "probgen.data.missing": ("ampute",),
    "probgen.data.schema": ("Column", "Schema"),
    "probgen.data.streams": ("ParquetFolder",),
    "probgen.data.table": ("Table", "read_table"),
    "probgen.errors": (
        "CapabilityError",
        "ConvergenceWarning",
        "DataError",
        "DataWarning",
        "FitError",
        "ImproperWarning",
        "ProbgenError",
        "ProbgenWarning",
        "SchemaError",
    ),
    "probgen.estimate": ("Estimate",),
    "probgen.program": ("Model", "Traits", "available", "program"),
    "probgen.queries.fit": ("Fit", "fit", "load"),
}
"""Where each public name lives; its module is imported when the name is first used."""


def __getattr__(name: str) -> Any:
    module, original = LAZY.get(name, (None, name))
    if module is None:
        raise AttributeError(f"module 'probgen' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), original)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def public_names() -> dict[str, tuple[str, str]]:
    """Public name -> (module, name there)."""
    found = {}
    for module, names in HOME.items():
        for entry in names:
            original, _, renamed = entry.partition(" as ")
            found[renamed or original] = (module, original)
    return found


class Face(ModuleType):
    """Keeps ``probgen.program`` the function, also when the module of that name has been imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in LAZY):
            super().__setattr__(name, value)


LAZY = public_names()
__all__ = ["__version__", *sorted(LAZY)]
sys.modules[__name__].__class__ = Face
