"""Draws from an approximation to a posterior, with what tells whether they can stand for it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.errors import ConvergenceWarning
from probgen.inference.pareto import GOOD_ENOUGH, smoothed_log_weights
from probgen.inference.posterior import Posterior
from probgen.inference.potential import Potential

__all__ = ["Approximation", "approximate_posterior", "resampled", "told_of"]


@dataclass(frozen=True)
class Approximation:
    """Points ``(S, P)``, the approximation's log density ``(S,)`` and the posterior's, up to a constant, ``(S,)``."""

    points: Tensor
    log_q: Tensor
    log_p: Tensor

    @property
    def log_weights(self) -> Tensor:
        """``(S,)``; -inf where the posterior is zero."""
        return (self.log_p - self.log_q).nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)


def approximate_posterior(potential: Potential, found: Approximation) -> Posterior:
    """The draws as one chain, with their log weights and log densities."""
    statistics = {"lp": found.log_p[None], "log_weight": found.log_weights[None]}
    return potential.posterior(found.points[None], statistics)


def told_of(found: Approximation) -> dict[str, Any]:
    """Pareto k and effective number of the weights; a warning where the approximation does not fit."""
    weights, shape = smoothed_log_weights(found.log_weights.double().cpu().numpy())
    if not shape <= GOOD_ENOUGH:
        warnings.warn(
            f"The approximation does not fit the posterior: Pareto k of its weights is {shape:.2f}, over {GOOD_ENOUGH}. Its"
            " draws are not draws from the posterior; use method='chees' or 'nuts'.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return {"khat": float(shape), "effective_weights": float(1.0 / np.exp(2 * weights).sum())}


def resampled(found: Approximation, draws: int, generator: torch.Generator) -> Tensor:
    """Points ``(draws, P)`` drawn with their smoothed weights."""
    weights, _ = smoothed_log_weights(found.log_weights.double().cpu().numpy())
    index = torch.multinomial(torch.from_numpy(np.exp(weights)), draws, replacement=True, generator=generator)
    return found.points[index.to(found.points.device)]
