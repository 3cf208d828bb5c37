"""Options of networks that read sequences, checked before anything is built."""

from __future__ import annotations

from numbers import Real

from probgen.errors import CapabilityError
from probgen.families.latent import checked_sizes

__all__ = ["checked_recurrent", "checked_share", "checked_transformer"]


def checked_transformer(layers: int, width: int, heads: int, dropout: float, positions: str) -> None:
    """Of ``transformer``.

    Raises:
        CapabilityError: sizes that do not go together, a share outside of [0, 1), other positions.
    """
    checked_sizes(layers=layers, width=width, heads=heads)
    checked_share("dropout", dropout)
    if positions not in ("learnt", "rotary"):
        raise CapabilityError(f"positions must be 'learnt' or 'rotary', got {positions!r}.")
    if width % heads or (positions == "rotary" and width // heads % 2):
        even = " with an even number for each, for positions='rotary'" if positions == "rotary" else ""
        raise CapabilityError(f"width must be a multiple of heads{even}, got width={width} and heads={heads}.")


def checked_recurrent(cell: str, layers: int, width: int, dropout: float) -> None:
    """Of ``recurrent``.

    Raises:
        CapabilityError: another cell, sizes that are none, a share outside of [0, 1).
    """
    checked_sizes(layers=layers, width=width)
    checked_share("dropout", dropout)
    if cell not in ("gru", "lstm"):
        raise CapabilityError(f"cell must be 'gru' or 'lstm', got {cell!r}.")


def checked_share(name: str, share: float) -> None:
    """A number from 0 to below 1."""
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= share < 1:
        raise CapabilityError(f"{name} must be a share from 0 to below 1, got {share!r}.")
