r"""Rows with an unknown label while they are learnt from: every level is tried (Kingma, Rezende, Mohamed and Welling, 2014).

.. math::
    \mathcal U(x) = \sum_y q(y \mid x) \bigl(\mathcal L(x, y) - \log q(y \mid x)\bigr), \qquad
    \mathcal L(x, y) + \alpha \log q(y \mid x)

The first is what a row without a label is worth, :math:`\mathcal L` being its objective with a level filled in; the second that of a row with one, whose last
term teaches the classifier :math:`q(y \mid x)` and is not shown among the values. A program that asks for it names the column in ``tried``, and has
``classify(batch)`` and the weight ``taught``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from probgen.data.batches import Batch, Place

__all__ = ["over_levels", "tries"]


def tries(program: Any, batch: Any) -> bool:
    """The program has such a column."""
    return isinstance(batch, Batch) and getattr(program, "tried", None) is not None


def over_levels(program: Any, batch: Batch, per_row: Callable[[Batch], Tensor]) -> Tensor:
    """``(B,)`` values of rows with or without a label, from values of rows that all have one."""
    column, label = batch.schema[program.tried], batch.column(program.tried)
    log_q = program.classify(batch)
    known, at = ~label.isnan(), label.nan_to_num().long()
    lesson = program.taught * log_q.gather(-1, at[:, None])[:, 0]
    if not column.incomplete and known.all():  # of the whole table, so that the noise is the same whoever has the rows
        return per_row(batch) + lesson - lesson.detach()
    values = per_row(with_every_level(batch, program.tried)).unflatten(0, log_q.shape)
    without = (log_q.exp() * (values - log_q)).sum(-1)
    return torch.where(known, values.mean(-1) + lesson - lesson.detach(), without)


def with_every_level(batch: Batch, name: str) -> Batch:
    """Each row as often as the column has levels: with each of them, or, where it is known, with its own."""
    levels, label = batch.schema[name].cardinality, batch.column(name)
    tried = torch.arange(levels, device=label.device).to(label).expand(len(batch), -1)
    label = torch.where(label.isnan()[:, None], tried, label[:, None]).reshape(-1)
    repeated = Batch(batch.x.repeat_interleave(levels, 0), batch.schema)
    made = Batch(repeated.with_column(name, label), batch.schema, total=batch.total * levels)
    if batch.place is not None:
        made.place = Place(batch.place.first * levels, batch.place.rows * levels, batch.place.weight * levels)
    return made
