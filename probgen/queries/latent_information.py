r"""What continuous latents say of rows, and how far they are together from the prior.

With :math:`q(z) = \frac1N \sum_n q(z \mid x_n)`, the aggregate posterior, the mean divergence of the bound is the sum of two (Hoffman and Johnson, 2016):

.. math:: \frac1N \sum_n \mathrm{KL}\bigl(q(z \mid x_n) \,\|\, p(z)\bigr) = I_q(x; z) + \mathrm{KL}\bigl(q(z) \,\|\, p(z)\bigr)

The first is how many nats the latents say of which row it was, the second what draws of the prior are off by. q(z) is the mixture over all rows, not
over a minibatch, so that neither is biased.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.errors import CapabilityError
from probgen.estimate import Estimate
from probgen.inference.amortised import Weighted, weighted
from probgen.inference.annealed_latents import check_density
from probgen.inference.latent_use import ACTIVE, log_aggregate, spread_of_means, taken_one_by_one, unit_nats
from probgen.inference.row_noise import RowDraws, RowNoise
from probgen.whole import is_whole

__all__ = ["LatentInformation", "latent_information"]


@dataclass(frozen=True)
class LatentInformation:
    """In nats, over the rows of a table.

    Attributes:
        information: mutual information I(x; z) of rows and latents under the guide; it cannot exceed ``ceiling``.
        mismatch: KL(q(z) || p(z)), of all rows' latents together from the prior.
        divergence: the mean of KL(q(z | x) || p(z)), which is the sum of the two.
        unit_nats: by site, ``(L,)`` the share of each unit in the mean divergence; None where the prior does not take units one by one.
        unit_spread: by site, ``(L,)`` the variance over rows of each unit's posterior mean.
        rows: N.

    The first three are averages over draws (kind "monte_carlo") with Monte-Carlo errors; units are in closed form given the latents before.
    """

    information: Estimate
    mismatch: Estimate
    divergence: Estimate
    unit_nats: dict[str, np.ndarray | None]
    unit_spread: dict[str, np.ndarray]
    rows: int

    @property
    def ceiling(self) -> float:
        """The logarithm of the number of rows."""
        return math.log(self.rows)

    @property
    def active(self) -> dict[str, int]:
        """By site, units whose posterior mean has a variance over rows above 0.01 (Burda, Grosse and Salakhutdinov, 2016)."""
        return {name: int((spread > ACTIVE).sum()) for name, spread in self.unit_spread.items()}

    def records(self) -> list[dict[str, Any]]:
        """One dictionary a unit: the map of what has collapsed."""
        return [
            {"site": name, "unit": unit, "nats": None if nats is None else float(nats[unit]), "spread": float(spread),
             "active": bool(spread > ACTIVE)}
            for name, nats in self.unit_nats.items()
            for unit, spread in enumerate(self.unit_spread[name])
        ]  # fmt: skip

    def __str__(self) -> str:
        found = [
            f"{name}: {one.value:.3f} ± {one.standard_error:.3f} nats"
            for name, one in (("I(x; z)", self.information), ("KL(q(z) || p(z))", self.mismatch))
        ]
        units = [
            f"{name}: {self.active[name]} of {len(spread)} units active" for name, spread in self.unit_spread.items()
        ]
        if float(self.information) > self.ceiling - 1:
            found.append(f"log N is {self.ceiling:.3f}, which I(x; z) cannot exceed: more rows may show more")
        return "\n".join([*found, *units])


def latent_information(fit: Any, table: Any, *, draws: int = 8, seed: int = 0) -> LatentInformation:
    """How much a fit's continuous latents say of the rows of a table, and how far they are together from the prior.

    Takes time and numbers in proportion to draws and to the square of the number of rows; of a large table, give some thousand rows.

    Args:
        fit: of a model with a guide for its latents.
        table: the rows, whose weights count.
        draws: of the guide, a row; at least 2.
        seed: of the draws.

    Raises:
        CapabilityError: no guide with a density, or latents of sequences.
    """
    rows = fit.read(table)
    if fit.traits.density != "lower_bound" or fit.traits.embedding == "none" or rows.lengths is not None:
        raise CapabilityError(
            f"latent_information is of latents a row with a guide that has a density; {fit.name!r} has none. Available:"
            " vae, hierarchical_vae, conditional_vae."
        )
    if not is_whole(draws, 2):
        raise CapabilityError(f"draws must be a whole number of at least 2, which an error needs; got {draws!r}.")
    with torch.no_grad(), fit.setting():
        batch = fit.batches(rows, len(rows)).batch(rows)
        with RowDraws(RowNoise(batch, seed, "latent information")):
            found = weighted(fit.program, batch, draws, theta=fit.posterior.theta())
        check_density(fit.program, found.proposal)
        return measured(fit.program, batch, found)


def measured(program: Any, batch: Batch, found: Weighted) -> LatentInformation:
    """From draws of the guide."""
    share = torch.ones_like(batch.x[:, 0]) if batch.weights is None else batch.weights
    share = share / share.sum()
    sites, guides = found.proposal.sites, found.proposal.distributions
    log_mixture = log_aggregate(program, batch, sites, share.log())
    return LatentInformation(
        mean_of(found.proposal.log_q - log_mixture, share),
        mean_of(log_mixture - found.log_prior, share),
        mean_of(found.proposal.log_q - found.log_prior, share),
        unit_divergences(found, share),
        {name: spread_of_means(guides[name], z).double().cpu().numpy() for name, z in sites.items()},
        len(batch),
    )


def mean_of(terms: Tensor, share: Tensor) -> Estimate:
    """Of ``(S, B)`` terms over draws and rows, with the error of the draws."""
    terms, share = terms.double(), share.double()
    error = float((terms.var(0) / len(terms) * share.square()).sum().sqrt())
    return Estimate(float((terms.mean(0) * share).sum()), "monte_carlo", error)


def unit_divergences(found: Weighted, share: Tensor) -> dict[str, np.ndarray | None]:
    """By site, the mean over rows of every unit's divergence, where guide and prior take units one by one."""
    return {
        name: (share @ unit_nats(found, name)).double().cpu().numpy() if taken_one_by_one(found, name) else None
        for name in found.proposal.sites
    }
