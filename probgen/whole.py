"""Whole numbers that are options: Python's or another library's, and never a truth value."""

from __future__ import annotations

from numbers import Integral
from typing import Any, TypeGuard

from probgen.errors import CapabilityError

__all__ = ["check_whole", "is_whole"]


def is_whole(value: Any, least: int = 0) -> TypeGuard[int]:
    """Whether a value is a whole number of at least so much.

    Example:
        >>> is_whole(3), is_whole(0, 1), is_whole(2.0), is_whole(True), is_whole("3")
        (True, False, False, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def check_whole(name: str, value: Any, least: int = 1, error: type[Exception] = CapabilityError) -> int:
    """A whole number as Python's own, which does not overflow; refused where it is none, or too small.

    Raises:
        CapabilityError: or the error that is named.

    Example:
        >>> check_whole("draws", 1.5)
        Traceback (most recent call last):
        ...
        probgen.errors.CapabilityError: draws must be a whole number of at least 1, got 1.5.
    """
    if not is_whole(value, least):
        raise error(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return int(value)
