"""Rows with the same known cells, taken together: what is known in all of them need not be summed over."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.inference.elimination import numbers_by_row
from probgen.inference.posterior import Theta
from probgen.inference.tracing import Given, observe

__all__ = ["affordable", "by_pattern"]

LEAST = 64  # rows of a group of its own
FEW = 64  # rows that are always taken together
MOST_NUMBERS = 2**25  # that are held at once, where rows can be cut


def by_pattern(batch: Batch) -> list[tuple[Tensor | None, Batch]]:
    """Pieces of a batch with the numbers of their rows (None: all rows in order), found once.

    Every pattern of known cells that is frequent stands alone; the rest share a piece.
    """
    kept = batch.__dict__.get("_by_pattern")
    if kept is None:
        kept = batch.__dict__["_by_pattern"] = split(batch)
    return kept


def affordable(program: Any, batch: Batch, theta: Theta) -> list[tuple[Tensor | None, Batch]]:
    """The pieces of :func:`by_pattern`, cut so that sums over a wide network hold few numbers at once."""
    found = []
    for rows, group in by_pattern(batch):
        if len(group) <= FEW:
            found.append((rows, group))
            continue
        tracer = observe(program, group, Given(theta), settle=True)
        most = max(FEW, MOST_NUMBERS // max(1, numbers_by_row(tracer.factors)))
        if most >= len(group):
            found.append((rows, group))
            continue
        places = torch.arange(len(batch), device=batch.x.device) if rows is None else rows
        found += [(places[at], part(group, at)) for at in torch.arange(len(group), device=places.device).split(most)]
    return found


def split(batch: Batch) -> list[tuple[Tensor | None, Batch]]:
    """Groups of rows."""
    holes = batch.x.isnan()
    if batch.in_sequences or bool((holes == holes[0]).all()):
        return [(None, batch)]
    key = (
        holes.long() * torch.randint(2**62, (holes.shape[1],), generator=fixed(), device="cpu").to(holes.device)
    ).sum(1)
    _, which, counts = key.unique(return_inverse=True, return_counts=True)
    frequent = counts >= LEAST
    if not bool(frequent.any()):
        return [(None, batch)]
    group = torch.where(frequent[which], which, len(counts))
    order = group.argsort(stable=True)
    sizes = group.bincount(minlength=len(counts) + 1).tolist()
    return [(rows, part(batch, rows)) for rows in order.split(sizes) if len(rows)]


def fixed() -> torch.Generator:
    """The same keys every time."""
    return torch.Generator().manual_seed(0)


def part(batch: Batch, rows: Tensor) -> Batch:
    """Some rows, which stand for themselves."""
    weights = None if batch.weights is None else batch.weights[rows]
    found = Batch(batch.x[rows], batch.schema, weights=weights)
    found.first, found.numbers = batch.first, rows
    return found
