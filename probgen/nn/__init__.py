"""Networks; no probability in here."""

from probgen.nn.constants import Constants
from probgen.nn.mlp import mlp

__all__ = ["Constants", "mlp"]
