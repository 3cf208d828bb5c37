"""What a latent value says of every column, as tensors: numbers by their centres, levels by their probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from probgen.data.batches import Batch
from probgen.data.schema import Column
from probgen.inference.tracing import Given, Tracer, observe
from probgen.queries.embed import Likeliest, split_sites

__all__ = ["Described", "describe_columns", "labels_of"]

LEVELLED = ("categorical", "ordinal")


@dataclass(frozen=True, eq=False)
class Described:
    """Some columns, and what is said of them.

    Attributes:
        places: of the columns in the schema.
        values: ``(N, columns)`` centres in model coordinates (of binary columns, probabilities of the second level), or
            ``(N, columns, levels)`` probabilities.
    """

    places: list[int]
    values: Tensor


def describe_columns(fit: Any, z: Tensor, known: Mapping[str, int] | None = None) -> list[Described]:
    """All columns at latent values; :meth:`probgen.Fit.decode` makes rows of the same.

    Args:
        fit: whose embedding is by continuous latents.
        z: ``(N, L)``, of the fit's dtype and on its device.
        known: codes of columns that a decoder reads beside its latents, such as a label's; the most probable ones where None.
    """
    found: list[Described] = []
    for site, places in sites_of_columns(fit, z, known or {}):
        if site.data is site.value:
            found += described(fit, site.distribution, places)
        else:
            found.append(Described(places, certain(site.value, fit.schema[places[0]]).to(z)))
    return found


def labels_of(fit: Any, latent: int) -> list[str]:
    """Columns that a decoder reads beside its L latents."""
    with torch.no_grad(), fit.setting():
        sites = sites_of_columns(fit, torch.zeros(1, latent), {})
    return [fit.schema.names[places[0]] for site, places in sites if site.data is not site.value]


def sites_of_columns(fit: Any, z: Tensor, known: Mapping[str, int]) -> list[tuple[Any, list[int]]]:
    """The sites that are columns, and which, of one run of the program."""
    x = torch.full((len(z), len(fit.schema)), torch.nan)
    for name, code in known.items():
        x[:, fit.schema.index(name)] = code
    batch = Batch(x, fit.schema)
    given = Given(fit.posterior.theta(), sites=split_sites(fit, batch, z))
    tracer: Tracer = observe(fit.program, batch, given, Likeliest(), sum_out=False)
    found = [(site, [] if site.data is None else batch.places(site.data)) for site in tracer.sites.values()]
    return [(site, places) for site, places in found if places]


def certain(codes: Tensor, column: Column) -> Tensor:
    """A level that was given or chosen, as ``(N, 1)`` or ``(N, 1, levels)``."""
    return one_hot(codes.long()[:, None], len(column.levels)) if column.kind in LEVELLED else codes[:, None]


def described(fit: Any, distribution: Any, places: list[int]) -> list[Described]:
    """Block by block, where the distribution has some."""
    distribution = getattr(distribution, "known", distribution)  # of columns whose decoder reads a label
    if not hasattr(distribution, "parts"):
        return [Described(places, distribution.mean.reshape(-1, len(places)))]
    found = []
    for block, part in distribution.parts:
        at = [places[index] for index in block.index.tolist()]
        if fit.schema[at[0]].kind in LEVELLED:
            found.append(Described(at, part.family.natural(part.theta)["logits"].softmax(-1)))
        else:
            found.append(Described(at, block.write(part.mean)))
    return found
