r"""Importance-weighted bound :math:`\mathbb E \log \frac1S \sum_s w_s` (Burda, Grosse and Salakhutdinov, 2016).

Of rows with holes it is that of Mattei and Frellsen (2019), for the program's evidence is that of the known cells.
"""

from __future__ import annotations

import math

from torch import Tensor

from probgen.inference.amortised import Weighted
from probgen.inference.objectives import Objective

__all__ = ["ImportanceWeightedBound", "log_mean"]


class ImportanceWeightedBound(Objective):
    """The log of the mean weight."""

    draws = 5

    def per_row(self, found: Weighted, step: int | None = None) -> Tensor:
        return log_mean(found.log_weights)


def log_mean(log_weights: Tensor) -> Tensor:
    """``(S, B)`` or ``(B,)`` log weights to the log of their mean, ``(B,)``."""
    return log_weights if log_weights.dim() == 1 else log_weights.logsumexp(0) - math.log(len(log_weights))
