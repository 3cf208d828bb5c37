r"""Importance-weighted bound :math:`\mathbb E \log \frac1S \sum_s w_s` (Burda, Grosse and Salakhutdinov, 2016).

One weight for each datum and draw, never one for a whole batch.
"""

import math

from torch import Tensor


def per_row(log_weights: Tensor) -> Tensor:
    """``(S, B)`` or ``(B,)`` log weights to ``(B,)``."""
    return log_weights if log_weights.dim() == 1 else log_weights.logsumexp(0) - math.log(len(log_weights))
