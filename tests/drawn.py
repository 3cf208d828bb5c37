"""Fits with posterior draws that cost nothing: exact draws of a user's program, or an EM fit that is shaken."""

from dataclasses import replace

import numpy as np
import torch

import probgen as pg
from probgen.data.schema import Schema
from probgen.inference.posterior import Posterior
from probgen.queries.labels import relabelled


def of_program(model, sites, method="nuts", **statistics):
    """A fit of a user's function with these draws ``(chains, draws, ...)``."""
    posterior = Posterior({}, {k: torch.as_tensor(v) for k, v in sites.items()}, False, statistics)
    origin = {"seed": 0, "versions": {}}
    empty = Schema(())
    return pg.Fit(
        pg.program(model), empty, None, posterior, method, {}, {}, origin, 0.0, torch.float64, torch.device("cpu")
    )


def shaken(fit, chains=4, draws=25, size=0.03, orders=None):
    """Draws around a point estimate; ``orders`` renames the hidden latent's values in every chain."""
    generator = torch.Generator().manual_seed(0)

    def noise(value):
        if not value.is_floating_point() or value.dim() > 4:
            return value.expand(chains, draws, *value.shape[2:]).clone()
        shake = size * torch.randn(chains, draws, *value.shape[2:], generator=generator, dtype=value.dtype)
        return torch.where(value.isfinite(), value + shake * value.abs().clamp_min(0.1), value)

    parameters = {n: {k: noise(v) for k, v in theta.items()} for n, theta in fit.posterior.parameters.items()}
    found = replace(fit, posterior=Posterior(parameters, {}, False), method="nuts")
    if orders is None:
        return found
    return relabelled(found, np.repeat(np.array(orders)[:, None], draws, 1))
