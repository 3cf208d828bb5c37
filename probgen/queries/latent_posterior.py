r"""How sure codes are: draws from the posterior of a row's latents, and the nats that each latent dimension says of a row.

Of latents with a guide, draws are the guide's. Of factors that are integrated out exactly they are

.. math:: z = \mathbb E[z \mid x] + z' - \mathbb E[z \mid x'], \qquad (z', x') \sim p, \quad x' \text{ with the holes of } x

whose error has the posterior's covariance, since that of a normal posterior does not depend on what the known cells hold (Matheron's rule;
Journel and Huijbregts, 1978).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from probgen.data.batches import Batch
from probgen.data.table import Table
from probgen.inference.amortised import has_guide, is_point, propose, weighted
from probgen.inference.latent_use import unit_nats
from probgen.inference.posterior import Theta
from probgen.inference.runtime import seeded
from probgen.inference.tracing import Given, observe
from probgen.queries.embed import latent_means

__all__ = ["posterior_draws", "row_nats"]

ROWS = 2048
DRAWS = 32  # for what has no closed form


def posterior_draws(fit: Any, table: Table, draws: int = 20, *, seed: int = 0) -> np.ndarray | None:
    """``(S, N, L)`` draws of the latents of every row, in the order of ``fit.embed``.

    None where there is nothing to draw: codes that are points or probabilities, energies, and sequences.

    Args:
        fit: the model.
        table: rows, with the holes that they have.
        draws: S.
        seed: of the draws.
    """
    if fit.traits.embedding != "mean" or fit.traits.sequences or not fit.traits.normalised:
        return None
    found = []
    with torch.no_grad(), fit.setting(), seeded(seed, "codes"):
        for batch in fit.batches(table, ROWS).pieces():
            pieces = batch_draws(fit, batch, draws)
            if pieces is None:
                return None
            found.append(pieces)
    return torch.cat(found, 1).double().cpu().numpy()


def batch_draws(fit: Any, batch: Batch, draws: int) -> Tensor | None:
    """``(S, B, L)``."""
    if not has_guide(fit.program, batch):
        count = len(fit.posterior)
        return torch.stack(
            [exact_draw(fit.program, batch, fit.posterior.theta(s * count // draws)) for s in range(draws)]
        )
    found = propose(fit.program, batch, draws)
    if any(is_point(q) for q in found.distributions.values()):
        return None
    return torch.cat([z.expand(draws, len(batch), *z.shape[-1:]) for z in found.sites.values()], -1)


def exact_draw(program: Any, batch: Batch, theta: Theta) -> Tensor:
    """``(B, L)``: by Matheron's rule."""
    means = latent_means(program, batch, theta)
    drawn = {name: torch.randn_like(value) for name, value in means.items()}
    run = observe(program, batch, Given(theta, sites=drawn), sum_out=False)
    x = torch.full_like(batch.x, torch.nan)
    for site in run.sites.values():
        places = [] if site.data is None else batch.places(site.data)
        if places:
            value = site.distribution.sample()
            x[:, places] = value.reshape(len(x), len(places)).to(x)
    other = latent_means(program, Batch(torch.where(batch.x.isnan(), torch.nan, x), batch.schema), theta)
    return torch.cat([means[name] + drawn[name] - other[name] for name in means], 1)


def row_nats(fit: Any, table: Table, *, seed: int = 0) -> np.ndarray | None:
    """``(N, L)``: divergence of the posterior of each latent dimension from its prior, in nats; None where codes have no distribution.

    In closed form where both are normal, else of draws; of learnt priors that couple dimensions, from each dimension's own marginal, and of
    flows from normals with their moments.
    """
    if posterior_draws(fit, table.take([0]), 1) is None:
        return None
    with torch.no_grad(), fit.setting(), seeded(seed, "nats"):
        pieces = [batch_nats(fit, batch) for batch in fit.batches(table, ROWS).pieces()]
    return torch.cat(pieces).double().cpu().numpy()


def batch_nats(fit: Any, batch: Batch) -> Tensor:
    """``(B, L)``."""
    if not has_guide(fit.program, batch):
        drawn = batch_draws(fit, batch, DRAWS)
        assert drawn is not None
        return kl_divergence(Normal(drawn.mean(0), drawn.std(0)), Normal(torch.zeros(()).to(drawn), 1.0))
    found = weighted(fit.program, batch, DRAWS)
    return torch.cat([unit_nats(found, name) for name in found.proposal.sites], -1)
