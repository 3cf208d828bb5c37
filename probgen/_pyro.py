"""Everything the library takes from Pyro beyond its public modelling language, in one place.

The modelling language itself (``pyro.sample``, ``pyro.plate``, ``pyro.factor``, ``pyro.deterministic`` and
``pyro.distributions``) is used directly. Handlers and effect types come from here, so that a change in Pyro's
internals is a change in this file only.
"""

from __future__ import annotations

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import effectful
from pyro.poutine.subsample_messenger import _Subsample

__all__ = ["Messenger", "effectful", "in_plates", "is_bookkeeping"]


def in_plates(message: dict) -> bool:
    """True where a sample statement stands inside a plate: it belongs to rows, not to the parameters."""
    return bool(message["cond_indep_stack"])


def is_bookkeeping(message: dict) -> bool:
    """True for what Pyro records as a sample statement but is none: a plate's indices, a deterministic value."""
    return isinstance(message["fn"], _Subsample) or bool(message["infer"].get("_deterministic"))
