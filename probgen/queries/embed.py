"""Local latents: what a row is like (embed), and what a latent value means (decode)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen._pyro import Messenger, is_bookkeeping
from probgen.data.batches import Batch
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Observable, Rows
from probgen.families.gaussian_path import GaussianPath
from probgen.inference.evidence import log_evidence
from probgen.inference.posterior import Theta
from probgen.inference.refinement import check_refine, refined
from probgen.inference.tracing import Given, observe
from probgen.queries import energy

__all__ = ["decode", "embed"]

ROWS = 8192


class Means(Messenger):
    """Collect the means of a guide's sites."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Tensor] = {}

    def _pyro_sample(self, message: dict) -> None:
        if is_bookkeeping(message):
            return
        mean = message["fn"].mean
        self.found[message["name"]] = message["value"] = mean
        message["done"] = True


class Likeliest(Messenger):
    """Summed-out sites of which nothing is known are at their most probable level."""

    def _pyro_sample(self, message: dict) -> None:
        told = message["value"]
        unknown = told is None or (isinstance(told, Tensor) and bool(told.isnan().all()))
        if message["infer"].get("enumerate") == "parallel" and not message["done"] and unknown:
            if not isinstance(message["fn"], Rows):
                return
            message["infer"]["_data"] = told if message["is_observed"] else None
            level = message["fn"].mean.long()
            message["value"] = level if told is None else level.expand(told.shape)
            message["done"] = True


def embed(fit: Any, table: Table, refine: int = 0, seed: int = 0) -> np.ndarray:
    """``(N, L)``: means of continuous latents, or posterior probabilities of the discrete sites."""
    if fit.traits.embedding == "none":
        raise CapabilityError(f"{fit.name!r} has no latent variable a row, so nothing to embed.")
    check_refine(fit, refine)
    pieces: list[Tensor] = []
    with fit.setting():
        for batch in fit.batches(table, ROWS).pieces():
            if not fit.traits.normalised:
                pieces.append(energy.embed(fit.program, batch, guide_means, len(pieces)))
                continue
            found = [read_latents(fit, batch, theta, refine, seed) for theta in fit.posterior.spread(50)]
            pieces.append(torch.stack(found).mean(0))
    return torch.cat(pieces).double().cpu().numpy()


def read_latents(fit: Any, batch: Batch, theta: Theta, refine: int, seed: int) -> Tensor:
    """``(B, L)`` for one draw of the parameters."""
    if fit.traits.embedding == "mean":
        program = refined(fit.program, batch, refine, theta, seed)
        return torch.cat([value.flatten(1) for value in latent_means(program, batch, theta).values()], 1)
    return probabilities(fit.program, batch, theta)


def guide_means(program: Any, batch: Batch) -> Tensor:
    """``(B, L)``: means of the guide's sites."""
    with torch.no_grad(), Means() as means:
        program.guide(batch)
    return torch.cat([value.flatten(1) for value in means.found.values()], 1)


def latent_means(program: Any, batch: Batch, theta: Theta) -> dict[str, Tensor]:
    """Means of the guide's sites, and exact posterior means of the sites that families integrate out."""
    with torch.no_grad():
        with Means() as means, Given(theta):
            program.guide(batch)
        found, tracer = dict(means.found), observe(program, batch, Given(theta, sites=means.found), sum_out=False)
        for site in tracer.sites.values():
            if isinstance(site.distribution, Observable) and site.data is not None:
                found |= site.distribution.latent_means(site.data)
            if isinstance(site.distribution, GaussianPath):
                found |= path_means(program, batch, theta)
    return found


def path_means(program: Any, batch: Batch, theta: Theta) -> dict[str, Tensor]:
    """Exact posterior means of the states that are integrated out along the sequences."""
    paths = log_evidence(program, batch, theta=theta).paths
    return {name: value for bucket in paths for name, value in bucket.means().items()}


def probabilities(program: Any, batch: Batch, theta: Theta) -> Tensor:
    """Marginal posterior of every summed-out site: the gradient with respect to a factor of its own."""
    symbols = log_evidence(program, batch, theta=theta).symbols
    probes = {s: batch.x.new_zeros(*s.shape, len(batch)).requires_grad_() for s in symbols}
    extra = tuple(Factor((symbol,), probe) for symbol, probe in probes.items())
    rows = log_evidence(program, batch, theta=theta, extra=extra).rows
    return torch.cat([g.flatten(0, -2).mT for g in torch.autograd.grad(rows.sum(), list(probes.values()))], 1)


def decode(fit: Any, z: np.ndarray) -> Table:
    """Centres of the columns given latent values; for probabilities, of the most probable value."""
    if fit.traits.embedding == "none":
        raise CapabilityError(f"{fit.name!r} has no latent variable a row, so nothing to decode.")
    values = np.atleast_2d(np.asarray(z, dtype=float))
    if not np.isfinite(values).all():
        raise CapabilityError("decode needs latent values that are finite numbers.")
    with torch.no_grad(), fit.setting():
        batch = Batch(torch.full((len(values), len(fit.schema)), torch.nan), fit.schema)
        sites = split_sites(fit, batch, torch.as_tensor(values).to(batch.x))
        tracer = observe(fit.program, batch, Given(fit.posterior.theta(), sites=sites), Likeliest(), sum_out=False)
        out = batch.x.clone()
        for site in tracer.sites.values():
            places = [] if site.data is None else batch.places(site.data)
            if places:
                centre = site.value if site.data is not site.value else site.distribution.mean
                out[:, places] = centre.to(out).reshape(len(out), len(places))
    return Table.from_codes(fit.standardiser.inverse(out.double().cpu().numpy()), fit.schema)


def split_sites(fit: Any, batch: Batch, z: Tensor) -> dict[str, Tensor]:
    """The columns of an embedding as values of the sites they came from."""
    if fit.traits.embedding == "mean":
        means = latent_means(fit.program, batch, fit.posterior.theta())
        widths = {name: value.flatten(1).shape[1] for name, value in means.items()}
        pieces = dict(zip(widths, checked_split(z, list(widths.values())), strict=True))
        return {name: piece.reshape(len(z), *means[name].shape[1:]) for name, piece in pieces.items()}
    symbols = log_evidence(fit.program, batch, theta=fit.posterior.theta()).symbols
    shares = checked_split(z, [math.prod(s.shape) for s in symbols])
    return {s.name: share.unflatten(1, s.shape).argmax(-1) for s, share in zip(symbols, shares, strict=True)}


def checked_split(z: Tensor, widths: list[int]) -> tuple[Tensor, ...]:
    if z.shape[1] != sum(widths):
        raise CapabilityError(f"decode needs latent values of shape (N, {sum(widths)}), got {tuple(z.shape)}.")
    return z.split(widths, 1)
