"""Options that models of noise have in common."""

from __future__ import annotations

import math
from typing import Any

from probgen.errors import CapabilityError
from probgen.families.latent import checked_sizes

__all__ = ["checked_diffusion", "checked_number", "checked_repetitions", "checked_variance"]


def checked_number(name: str, value: Any, low: float, high: float) -> None:
    """Refuse what is no number between two others.

    Raises:
        CapabilityError: told which.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        most = "" if math.isinf(high) else f" and at most {high:g}"
        raise CapabilityError(f"{name} must be a number of at least {low:g}{most}, got {value!r}.")


def checked_diffusion(
    hidden: Any, draw_steps: Any, guidance: Any, conditioning: Any, dropout: Any, steps: Any = None
) -> None:
    """Refuse networks without units, chains without steps, and shares that are none."""
    checked_sizes(hidden=hidden, draw_steps=draw_steps, **({} if steps is None else {"steps": steps}))
    checked_number("guidance", guidance, 0.0, math.inf)
    checked_number("conditioning", conditioning, 0.0, 1.0)
    checked_number("dropout", dropout, 0.0, 0.99)
    if guidance and not conditioning:
        raise CapabilityError(
            f"guidance={guidance:g} compares what is said with and without known cells, and conditioning=0 shows none; fit with conditioning=0.5."
        )
    if not len(hidden):
        raise CapabilityError("hidden must have a width at least, such as (128, 128), got ().")


def checked_repetitions(value: Any) -> None:
    """Refuse what is no number of times that a step is gone.

    Raises:
        CapabilityError: told which.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CapabilityError(f"resampling must be a whole number of at least 0, got {value!r}.")


def checked_variance(variance: Any) -> bool:
    """Whether the variance of a step back is learnt.

    Raises:
        CapabilityError: another name.
    """
    if variance not in ("posterior", "learnt"):
        raise CapabilityError(f"variance must be 'posterior' or 'learnt', got {variance!r}.")
    return variance == "learnt"
