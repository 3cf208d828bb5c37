r"""Weights of a Dirichlet-process mixture, truncated at K components (Sethuraman, 1994; Ishwaran and James, 2001).

.. math:: v_k \sim \mathrm{Beta}(1, \alpha) \text{ for } k < K, \; v_K = 1, \qquad \pi_k = v_k \prod_{j<k} (1 - v_j)

Expected weights fall with k as :math:`(\alpha / (1 + \alpha))^k`, so that a small :math:`\alpha` says few components
and K need only be large enough. EM finds a mode, in which every component that the data can use keeps a weight; how many
components there are is a question for the posterior (``nuts``) or for ``pg.select``.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.families.base import Natural, Parameters
from probgen.families.categorical import Categorical, safe_log

__all__ = ["StickBreaking", "mixture_weights"]

NEARLY = 1e-12  # how close to zero or one a stick may be


class StickBreaking(Categorical):
    """The discrete latent of a Dirichlet-process mixture; ``concentration`` is alpha."""

    def __init__(self, components: int, alpha: float = 1.0) -> None:
        super().__init__(components)
        if not alpha > 0:
            raise CapabilityError(f"The concentration must be positive, got {alpha!r}.")
        self.alpha = float(alpha)

    def prior(self) -> dict[str, dist.Distribution]:
        one = torch.ones(max(self.levels - 1, 1)).to(self.concentration)
        return {"sticks": dist.Beta(one, self.alpha * one).to_event(1)}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        v = sites["sticks"][: self.levels - 1]
        left = torch.cat([v.new_zeros(1), torch.log1p(-v).cumsum(0)])
        return {"logits": (torch.cat([safe_log(v), v.new_zeros(1)]) + left)[None]}

    def sticks(self, theta: Parameters) -> Tensor:
        """``(K - 1,)``: the share that each component takes of what those before it left."""
        weight = theta["logits"][0].exp()
        left = weight.flip(0).cumsum(0).flip(0)
        return (weight / left.clamp_min(1e-300))[:-1].clamp(NEARLY, 1 - NEARLY)

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {"sticks": self.sticks(theta) if self.levels > 1 else theta["logits"].new_full((1,), 0.5)}

    def log_prior(self, theta: Parameters) -> Tensor:
        return (self.alpha - 1.0) * torch.log1p(-self.sticks(theta)).sum()

    def calibrate(self, statistics: Natural) -> None:
        """Nothing to scale."""

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        own, after = self.counts_after(statistics)
        total = own + after + self.alpha - 1.0
        sticks = torch.where(after + self.alpha <= 1.0, 1.0, own / total.clamp_min(NEARLY))
        return self.assemble({"sticks": sticks.clamp(NEARLY, 1 - NEARLY)})

    def posterior_draw(self, statistics: Natural) -> Parameters:
        own, after = self.counts_after(statistics)
        return self.assemble({"sticks": dist.Beta(1.0 + own, self.alpha + after).sample().clamp(NEARLY, 1 - NEARLY)})

    def counts_after(self, statistics: Natural) -> tuple[Tensor, Tensor]:
        """Counts of the first K - 1 components, and of all that come after each."""
        counts = statistics["logits"][0].clamp_min(0)
        return counts[:-1], counts.flip(0).cumsum(0).flip(0)[1:]


def mixture_weights(components: int, weights: str, concentration: float, prior: str | None) -> Categorical:
    """The weights of a mixture: "dirichlet" (a fixed number of components) or "dirichlet_process"."""
    if weights == "dirichlet":
        return Categorical(components, prior=prior)
    if weights != "dirichlet_process":
        raise CapabilityError(f"weights must be 'dirichlet' or 'dirichlet_process', got {weights!r}.")
    if prior is None:
        raise CapabilityError(
            "weights='dirichlet_process' is a prior; use weights='dirichlet' for maximum likelihood."
        )
    return StickBreaking(components, concentration)
