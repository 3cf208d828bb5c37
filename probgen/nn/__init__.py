"""Networks; no probability in here."""

from probgen.nn.constants import Constants
from probgen.nn.mlp import mlp
from probgen.nn.recurrent import Recurrence

__all__ = ["Constants", "Recurrence", "mlp"]
