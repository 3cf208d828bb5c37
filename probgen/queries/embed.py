"""Local latents: what a row is like (embed), and what a latent value means (decode)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen._pyro import Messenger, is_bookkeeping
from probgen.data.batches import Batch
from probgen.data.sequences import Steps, check_lengths
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Observable, Rows
from probgen.families.gaussian_path import GaussianPath
from probgen.inference.evidence import log_evidence
from probgen.inference.posterior import Theta
from probgen.inference.refinement import check_guided, refined
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
    check_guided(fit, refine=refine)
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


def decode(fit: Any, z: np.ndarray, lengths: Any = None) -> Table:
    """Centres of the columns given latent values, of sequences of some lengths; for probabilities, of the most probable value."""
    if fit.traits.embedding == "none":
        raise CapabilityError(f"{fit.name!r} has no latent variable a row, so nothing to decode.")
    values = np.atleast_2d(np.asarray(z, dtype=float))
    if not np.isfinite(values).all():
        raise CapabilityError("decode needs latent values that are finite numbers.")
    with torch.no_grad(), fit.setting():
        batch = blank_rows(fit, len(values), lengths)
        sites = split_sites(fit, torch.as_tensor(values).to(batch.x), latent_shapes(fit, batch))
        out = batch.x.clone()
        for site, places in column_sites(fit, batch, sites):
            centre = site.value if site.data is not site.value else site.distribution.mean
            out[:, places] = centre.to(out).reshape(len(out), len(places))
    return Table.from_codes(fit.standardiser.inverse(out.double().cpu().numpy()), fit.schema, lengths=lengths)


def blank_rows(fit: Any, rows: int, lengths: Any = None) -> Batch:
    """Rows of which nothing is known, alone or in sequences."""
    x = torch.full((rows, len(fit.schema)), torch.nan)
    steps = None if lengths is None else Steps(torch.as_tensor(check_lengths(lengths, rows)).to(x.device))
    return Batch(x, fit.schema, steps=steps)


def column_sites(fit: Any, batch: Batch, sites: dict[str, Tensor]) -> list[tuple[Any, list[int]]]:
    """The sites that are columns, and which, of one run of the program at latent values."""
    given = Given(fit.posterior.theta(), sites=sites)
    run = observe(fit.program, batch, given, Likeliest(), sum_out=False)
    found = [(site, [] if site.data is None else batch.places(site.data)) for site in run.sites.values()]
    return [(site, places) for site, places in found if places]


def latent_shapes(fit: Any, batch: Batch) -> dict[str, torch.Size]:
    """By site, the shape of a row's latents in an embedding."""
    if fit.traits.embedding == "mean":
        means = latent_means(fit.program, batch, fit.posterior.theta())
        return {name: value.shape[1:] for name, value in means.items()}
    symbols = log_evidence(fit.program, batch, theta=fit.posterior.theta()).symbols
    return {symbol.name: torch.Size(symbol.shape) for symbol in symbols}


def split_sites(fit: Any, z: Tensor, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """The columns of an embedding ``(N, L)`` as values of the sites they came from."""
    width = sum(shape.numel() for shape in shapes.values())
    if z.shape[1] != width:
        raise CapabilityError(f"decode needs latent values of shape (N, {width}), got {tuple(z.shape)}.")
    pieces = z.split([shape.numel() for shape in shapes.values()], 1)
    values = {name: piece.reshape(len(z), *shapes[name]) for name, piece in zip(shapes, pieces, strict=True)}
    return values if fit.traits.embedding == "mean" else {name: share.argmax(-1) for name, share in values.items()}
