"""Fits with posterior draws that cost nothing: an EM fit whose parameters are shaken, chain by chain."""

from dataclasses import replace

import torch

from probgen.inference.posterior import Posterior
from probgen.queries.labels import relabelled


def shaken(fit, chains=4, draws=25, size=0.03, orders=None):
    """Draws around a point estimate; ``orders`` renames the hidden latent's values in every chain."""
    generator = torch.Generator().manual_seed(0)

    def noise(value):
        if not value.is_floating_point() or value.dim() > 4:
            return value.expand(chains, draws, *value.shape[2:]).clone()
        shake = size * torch.randn(chains, draws, *value.shape[2:], generator=generator, dtype=value.dtype)
        return value + shake * value.abs().clamp_min(0.1)

    parameters = {n: {k: noise(v) for k, v in theta.items()} for n, theta in fit.posterior.parameters.items()}
    found = replace(fit, posterior=Posterior(parameters, {}, False), method="nuts")
    if orders is None:
        return found
    return relabelled(found, torch.tensor(orders)[:, None].expand(-1, draws, -1).numpy())
