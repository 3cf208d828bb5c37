r"""Reweighted wake-sleep (Bornschein and Bengio, 2015): program and guide each climb an objective of their own.

.. math::
    \nabla_\theta = \sum_s \tilde w_s \nabla_\theta \log p(x, z_s), \qquad
    \nabla_\phi = \sum_s \tilde w_s \nabla_\phi \log q(z_s \mid x), \qquad
    \tilde w_s = w_s / \textstyle\sum_r w_r

The guide is drawn towards the posterior from outside (it covers what it might miss), and no gradient runs through a draw, so
that latents may be discrete (Le et al., 2019). The value shown is the importance-weighted bound.
"""

from __future__ import annotations

from torch import Tensor

from probgen.inference.amortised import Weighted, shares, with_gradient_of
from probgen.inference.objectives import Objective
from probgen.inference.objectives.iwae import log_mean

__all__ = ["WakeSleep"]


class WakeSleep(Objective):
    """Both wake phases, by the same weights."""

    draws = 5
    gradients = "densities"

    def per_row(self, found: Weighted, step: int | None = None) -> Tensor:
        both = found.of_units(found.evidence.rows + found.proposal.log_q)
        return with_gradient_of(log_mean(found.log_weights), shares(found.log_weights) * both)
