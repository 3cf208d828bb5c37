"""Networks; no probability in here."""

from probgen.nn.constants import Constants
from probgen.nn.mlp import mlp
from probgen.nn.recurrent import BackwardRecurrence, Recurrence

__all__ = ["BackwardRecurrence", "Constants", "Recurrence", "mlp"]
