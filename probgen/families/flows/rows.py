"""Rows of a table behind a flow: what the models of flows have in common."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from probgen.data.batches import Batch, features, first_rows, n_features
from probgen.data.schema import Schema
from probgen.errors import CapabilityError, DataWarning
from probgen.families.columns import GAUSSIAN_LINKS
from probgen.families.flows.base import Flow
from probgen.families.flows.cells import Left, StudentNoise, Written
from probgen.families.flows.distribution import FlowDistribution
from probgen.families.flows.guess import Guess, Guesser
from probgen.families.flows.known import Known
from probgen.families.flows.numbers import Numbers

__all__ = ["FlowRows", "checked_inputs"]

ROWS = 2**17  # that scales are learnt from
ENOUGH, FEW, OFTEN = 50, 0.05, 0.1  # known cells; least share of distinct values; largest of a single one


class FlowRows(nn.Module):
    """Numbers of a row's columns, a flow of them, and a guess at what is open.

    Args:
        schema: the columns.
        inputs: names of columns that are conditioned on.
        make: makes the flow of P numbers that reads a context of C.
        hidden: widths of the network that guesses.
    """

    def __init__(
        self, schema: Schema, inputs: tuple[str, ...], make: Callable[[int, int], Flow], hidden: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.inputs = schema.select(inputs) if inputs else None
        self.described = schema.drop(inputs) if inputs else schema
        self.names, self.schema = self.described.names, schema
        self.numbers = Numbers(list(self.described))
        self.noise = StudentNoise(self.numbers.size)
        self.flow = make(self.numbers.size, n_features(self.inputs, False) if self.inputs else 0)
        self.guesser = Guesser(n_features(schema, True), self.numbers.size, hidden)

    def learn(self, batches: Any) -> None:
        """Scales of the numbers; columns that a density does not suit are told of."""
        x, _ = first_rows(batches.pieces(), ROWS)
        x = x[:, [self.schema.index(name) for name in self.names]]
        tell_of_ties(x, self.described)
        self.numbers.learn(x)

    def cells(self, batch: Batch) -> Tensor:
        """``(B, D)``: the columns that have a density."""
        return batch.select(self.names)

    def known(self, batch: Batch) -> Known:
        """What is known of the rows' numbers."""
        return self.numbers.read(self.cells(batch))

    def context(self, batch: Batch) -> Tensor | None:
        """``(B, C)``: the inputs."""
        if self.inputs is None:
            return None
        return features(batch.select(self.inputs.names), self.inputs)

    def left(self, batch: Batch) -> Left:
        """The distribution of the numbers, as far as they are open."""
        numbers = FlowDistribution(self.noise(), self.flow, self.context(batch))
        return Left(numbers, self.known(batch))

    def written(self, z: Tensor) -> Written:
        """The columns, by free coordinates of their numbers."""
        return Written(self.numbers, z)

    def guess(self, batch: Batch) -> Guess:
        """What is open of the rows' numbers."""
        return self.guesser(batch.features(True), self.known(batch))

    def rehearsal(self, batch: Batch, z: Tensor | None) -> Tensor:
        r"""``(B,)`` log densities of cells that were hidden to be guessed; of no concern to the flow.

        .. math:: \log q\bigl(z_{\text{hidden}} \mid x_{\text{kept}}\bigr), \qquad \text{each row with a rate of its own, from 0 to 1, at which cells are hidden}

        Args:
            batch: the rows.
            z: a draw ``(B, P)`` of what is open anyway; None where nothing is.
        """
        known = self.known(batch)
        u = known.point if z is None else known.open(z.detach())[0]
        hidden = chances(batch, len(self.names) + 1)
        hidden = hidden[:, 1:] < hidden[:, :1]
        x, gone = batch.x.clone(), hidden[:, self.numbers.owner]
        places = [self.schema.index(name) for name in self.names]
        x[:, places] = x[:, places].masked_fill(hidden, torch.nan)
        kept = self.numbers.read(x[:, places])
        target = u if z is None else torch.where(gone | known.closed, u, z.detach())
        return self.guesser(features(x, self.schema, True), kept).log_prob(target)


def chances(batch: Batch, width: int) -> Tensor:
    """``(B, width)`` numbers from 0 to 1, of a share of a minibatch those that the whole would have given it."""
    place, rows = batch.place, len(batch)
    if place is None:
        return torch.rand(rows, width, dtype=batch.x.dtype, device=batch.x.device)
    return torch.rand(place.rows, width, dtype=batch.x.dtype, device=batch.x.device)[place.first : place.first + rows]


def checked_inputs(schema: Schema, inputs: str | tuple[str, ...]) -> tuple[str, ...]:
    """Names of columns, those of texts, pictures and sounds in their place, of which some others are left."""
    given = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    unknown = set(given) - {*schema.names, *(group.name for group in schema.groups)}
    names = () if unknown else schema.columns_named(given)
    if unknown or len(set(names)) >= len(schema):
        raise CapabilityError(
            f"inputs must name some columns and leave others: {', '.join(map(repr, schema.names))}. Got {inputs!r}."
        )
    return names


def tell_of_ties(x: Tensor, schema: Schema) -> None:
    """Warn of measures that are no continuous numbers: a density of them grows without limit."""
    for column, cells in zip(schema, x.unbind(-1), strict=True):
        cells = cells[~cells.isnan()]
        if column.kind not in GAUSSIAN_LINKS or len(cells) < ENOUGH:
            continue
        values, counts = cells.unique(return_counts=True)
        often = int(counts.max())
        if len(values) < FEW * len(cells) or often > OFTEN * len(cells):
            warnings.warn(
                f"Column {column.name!r} is {column.kind}, but has {len(values)} distinct values in {len(cells)} known cells, one of them"
                f" {often} times: a flow's density grows there without limit, and says little. Give it another kind"
                " (schema.with_kind: 'count' for whole numbers, 'ordinal' for few values), or add noise of the size at which"
                " it was rounded.",
                DataWarning,
                stacklevel=2,
            )
