r"""The importance-weighted bound with doubly reparameterised gradients (Tucker, Lawson, Gu and Maddison, 2019).

.. math::
    \nabla_\theta = \sum_s \tilde w_s \nabla_\theta \log p(x, z_s), \qquad
    \nabla_\phi = \sum_s \tilde w_s^2 \frac{\partial \log w_s}{\partial z_s} \nabla_\phi z_s, \qquad
    \tilde w_s = w_s / \textstyle\sum_r w_r

The same bound as ``iwae``. Its gradient for the guide does not drown in noise as draws become many.
"""

from __future__ import annotations

from torch import Tensor

from probgen.inference.amortised import Weighted, shares, with_gradient_of
from probgen.inference.objectives import Objective
from probgen.inference.objectives.iwae import log_mean

__all__ = ["DoublyReparameterised"]


class DoublyReparameterised(Objective):
    """The log of the mean weight, with a guide whose densities are taken at fixed parameters."""

    draws = 5
    gradients = "twice"

    def per_row(self, found: Weighted, step: int | None = None) -> Tensor:
        share = of_rows = shares(found.log_weights)
        if share.shape[-1] != len(found.batch):  # one a sequence
            of_rows = share[..., found.batch.steps.sequence]
        for value in found.proposal.sites.values():
            if value.requires_grad:
                wide = of_rows.reshape(of_rows.shape + (1,) * (value.dim() - of_rows.dim()))
                value.register_hook(lambda gradient, wide=wide: gradient * wide)
        return with_gradient_of(log_mean(found.log_weights), share * found.log_weights)
