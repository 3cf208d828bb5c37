"""Networks; no probability in here."""

from probgen.nn.constants import Constants
from probgen.nn.masked import MaskedMLP
from probgen.nn.mlp import ContextMLP, mlp
from probgen.nn.recurrent import BackwardRecurrence, Recurrence

__all__ = ["BackwardRecurrence", "Constants", "ContextMLP", "MaskedMLP", "Recurrence", "mlp"]
