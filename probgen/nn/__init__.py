"""Networks; no probability in here."""

from probgen.nn.mlp import mlp

__all__ = ["mlp"]
