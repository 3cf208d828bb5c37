r"""Evidence lower bound: :math:`\mathbb E_q[\log w]` (Jordan et al., 1999; Kingma and Welling, 2014)."""

from torch import Tensor


def per_row(log_weights: Tensor) -> Tensor:
    """``(S, B)`` or ``(B,)`` log weights to ``(B,)``."""
    return log_weights if log_weights.dim() == 1 else log_weights.mean(0)
