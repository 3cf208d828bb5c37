"""Everything the library takes from Pyro beyond its public modelling language, in one place.

The modelling language itself (``pyro.sample``, ``pyro.plate``, ``pyro.factor``, ``pyro.deterministic`` and
``pyro.distributions``) is used directly. Handlers and effect types come from here, so that a change in Pyro's
internals is a change in this file only.
"""

from __future__ import annotations

from pyro.poutine.handlers import block as hide_from_handlers
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import effectful

__all__ = ["Messenger", "effectful", "hide_from_handlers", "in_plates", "is_latent"]


def in_plates(message: dict) -> bool:
    """True where a sample statement stands inside a plate: it belongs to rows, not to the parameters."""
    return bool(message["cond_indep_stack"])


def is_latent(message: dict) -> bool:
    """True for a sample statement whose value is not given by the data."""
    return message["type"] == "sample" and not message["is_observed"]
