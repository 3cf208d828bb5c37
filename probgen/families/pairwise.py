r"""Every column regressed on all others: what the regressions read, and which products of columns they contain.

.. math:: z_j = \big(1, \; u_{-j}, \; u_a u_b \text{ for } a, b \ne j\big)

where u are the standardised readings of all columns and products are standardised too. Squares count as products. Where
there are more products than can be paid for, those are kept that what main effects leave over resembles most.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from probgen.data.batches import first_rows
from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.base import Observable
from probgen.families.donors import MANNERS
from probgen.families.readings import Reading, reading_of
from probgen.families.responses import Response, response_of
from probgen.families.scales import Scales, check_scales, left_over
from probgen.families.shrinkage import Theta
from probgen.whole import is_whole

__all__ = ["Pairwise"]

PRODUCTS = 100  # of one regression, where all are affordable
ROWS_A_PRODUCT = 8  # known rows that a regression needs for each of them
NOTICED = 2.5  # standard errors from zero, for a product to be kept where not all are
CACHED = 100_000  # numbers of a design that are made at a time: few enough for a processor's cache
POOL = 512  # completed training rows, of all chains together, from which passes over new rows start


class Pairwise(nn.Module):
    """D readings, D responses, and the products that each response's design contains.

    Args:
        schema: the columns.
        products: "auto", "all", "none", or the largest number of products in one regression.
        scales: "auto", or by column: "logarithm" or "identity", for columns of real numbers and counts; for counts also
            "counts" (negative binomial) and "levels" (step by step). Of counts, numbers on a scale are rounded.
        matching: whether numbers are drawn from rows that are like theirs: "auto", "none", "residuals" or "values".

    Attributes:
        pool: ``(POOL, D)`` completed rows, in model coordinates; what chains left behind.
    """

    def __init__(self, schema: Schema, products: Any = "auto", scales: Any = "auto", matching: str = "auto") -> None:
        super().__init__()
        check_options(schema, products, scales, matching)
        self.schema, self.products, self.scales, self.matching = schema, products, scales, matching
        self.readings: list[Reading] = nn.ModuleList(reading_of(column) for column in schema)  # type: ignore[assignment]
        self.owner = [at for at, reading in enumerate(self.readings) for _ in range(reading.slots)]
        slots = len(self.owner)
        self.register_buffer("shift", torch.zeros(slots, slots))  # means of products
        self.register_buffer("scale", torch.ones(slots, slots))  # and their standard deviations
        self.register_buffer("chosen", torch.zeros(len(schema), slots, slots, dtype=torch.bool))
        self.register_buffer("pool", torch.zeros(POOL, len(schema)))
        self.shift: Tensor
        self.scale: Tensor
        self.chosen: Tensor
        self.pool: Tensor

    # -- what is read ------------------------------------------------------------------------------------------
    @cached_property
    def places(self) -> list[Tensor]:
        """Of every column: its slots."""
        owner = torch.tensor(self.owner)
        return [torch.nonzero(owner == at)[:, 0] for at in range(len(self.schema))]

    @cached_property
    def others(self) -> list[Tensor]:
        """Of every column: the slots of all others."""
        owner = torch.tensor(self.owner)
        return [torch.nonzero(owner != at)[:, 0] for at in range(len(self.schema))]

    @cached_property
    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Of every column: the pairs of slots whose products its design contains."""
        return [(found[:, 0], found[:, 1]) for found in map(torch.nonzero, self.chosen)]

    @cached_property
    def responses(self) -> list[Response]:
        """Of every column."""
        sizes = [(len(others), len(a)) for others, (a, _) in zip(self.others, self.pairs, strict=True)]
        return [response_of(reading, *size) for reading, size in zip(self.readings, sizes, strict=True)]

    def forget(self) -> None:
        """What was made from buffers, when they change."""
        for name in ("places", "others", "pairs", "responses"):
            self.__dict__.pop(name, None)

    def features(self, x: Tensor) -> Tensor:
        """``(..., N, S)``: all columns as they are read, from ``(..., N, D)`` cells; each lies in one piece in memory."""
        return torch.cat([reading(x[..., at]).mT for at, reading in enumerate(self.readings)], -2).mT

    def refresh(self, features: Tensor, x: Tensor, column: int, rows: Tensor) -> None:
        """Write what is read of one column's new cells ``(R, B)`` into ``features (R, N, S)``."""
        first = int(self.places[column][0])
        features[:, rows, first : first + len(self.places[column])] = self.readings[column](x)

    def design(self, features: Tensor, column: int) -> Tensor:
        """``(..., N, 1 + M + Q)``: the regressors of one column, each in one piece in memory."""
        (a, b), across, mains = self.pairs[column], features.mT, self.others[column]
        made = across.new_empty(*across.shape[:-2], 1 + len(mains) + len(a), across.shape[-1])
        made[..., 0, :] = 1
        shift, scale = -(self.shift[a, b] / self.scale[a, b])[:, None], self.scale[a, b].reciprocal()[:, None]
        size = max(1, CACHED // made[..., 0].numel())
        for here, there in zip(across.split(size, -1), made.split(size, -1), strict=True):
            there[..., 1 : 1 + len(mains), :] = here.index_select(-2, mains)
            torch.addcmul(
                shift,
                here.index_select(-2, a).mul_(scale),
                here.index_select(-2, b),
                out=there[..., 1 + len(mains) :, :],
            )
        return made.mT

    # -- as a program --------------------------------------------------------------------------------------------
    def draw(self, name: str) -> Callable[[Tensor], Regressed]:
        """One column's parameters as global sample sites; the result is called with the features of complete rows."""
        at = self.schema.index(name)
        theta = {key: value[None] for key, value in self.responses[at].sites(name).items()}
        return lambda features: Regressed(self.responses[at], theta, self.design(features, at)[None])

    # -- what is learnt before -----------------------------------------------------------------------------------
    def learn(self, batches: Any) -> None:
        """Scales, centres and products, from the training rows."""
        if not hasattr(batches.source, "values"):
            raise CapabilityError(
                "Regressions on all other columns need a table in memory; read the file by pg.read_table."
            )
        x, weights = first_rows(batches.pieces(), len(batches))
        standardiser = batches.standardiser
        origins = torch.as_tensor(-standardiser.shift / standardiser.scale).to(x)  # what zero of the data is, here
        for reading, cells in zip(self.readings, x.unbind(1), strict=True):
            reading.learn(cells, weights)
        self.forget()
        Scales(tuple(self.schema), self.readings, self.others, self.scales, self.matching, x, weights).choose(origins)
        self.learn_products(x, weights)
        self.forget()

    def learn_products(self, x: Tensor, weights: Tensor | None) -> None:
        """Means and spreads of all products, and which of them every design contains."""
        features = self.features(x)
        seen, filled = (~features.isnan()).to(x), features.nan_to_num()
        w = torch.ones(len(x)) if weights is None else weights
        count = ((seen * w[:, None]).mT @ seen).clamp_min(1.0)
        self.shift = (filled * w[:, None]).mT @ filled / count
        second = (filled.square() * w[:, None]).mT @ filled.square() / count
        spread = (second - self.shift.square()).clamp_min(0).sqrt()
        self.scale = torch.where(spread > 1e-6, spread, 1.0)
        allowed = self.allowed() & (spread > 1e-6)
        most = [self.most_products(int(reading.seen)) for reading in self.readings]
        self.chosen = torch.stack([self.kept(allowed, x, filled, *each) for each in enumerate(most)])

    def most_products(self, rows: int) -> int:
        """In a regression with so many rows."""
        affordable = min(PRODUCTS, rows // ROWS_A_PRODUCT)
        return int({"auto": affordable, "all": 10**9, "none": 0}.get(self.products, self.products))

    def allowed(self) -> Tensor:
        """``(S, S)``: pairs of slots of different columns, and squares of those that can be curved."""
        owner = torch.tensor(self.owner)
        curved = torch.tensor([self.readings[at].curved for at in self.owner])
        return torch.triu((owner[:, None] != owner) | (torch.eye(len(owner), dtype=torch.bool) & curved))

    def kept(self, allowed: Tensor, x: Tensor, features: Tensor, at: int, most: int) -> Tensor:
        """Those of the allowed products that one column's design contains."""
        own = torch.tensor(self.owner) == at
        mine = allowed & ~own[:, None] & ~own
        if int(mine.sum()) <= most or most == 0:
            return mine & (most > 0)
        z = torch.where(mine, self.noticed(x, features, at), 0.0)
        least = z.flatten().topk(most).values[-1].clamp_min(NOTICED)
        return z >= least

    def noticed(self, x: Tensor, features: Tensor, at: int) -> Tensor:
        """``(S, S)``: by how many standard errors each product goes with what main effects leave of a column."""
        rows = ~x[:, at].isnan()
        z = features[rows]
        main = torch.cat([torch.ones(len(z), 1), z[:, self.others[at]]], 1)
        found = torch.zeros_like(self.shift)
        for y in self.readings[at](x[rows, at]).unbind(-1):
            residual = left_over(main, y)
            together = (z * residual[:, None]).mT @ z - residual.sum() * self.shift
            found = found.maximum(together.abs() / (self.scale * residual.square().sum().sqrt()).clamp_min(1e-12))
        return found


class Regressed(Observable):
    """A column given all others; rows with an unknown cell or an unknown regressor say nothing."""

    def __init__(self, response: Response, theta: Theta, design: Tensor) -> None:
        self.response, self.theta, self.design = response, theta, design
        super().__init__(torch.Size(), torch.Size(), validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        rows = torch.nonzero(~x.isnan() & ~self.design[0].isnan().any(-1))[:, 0]
        found = self.response.log_density(self.theta, self.design[:, rows], x[rows])[0]
        return torch.zeros_like(x).index_add(0, rows, found)


def check_options(schema: Schema, products: Any, scales: Any, matching: Any) -> None:
    """Refuse what is no choice."""
    number = is_whole(products, 0)
    if products not in ("auto", "all", "none") and not number:
        raise CapabilityError(f"products must be 'auto', 'all', 'none' or a whole number, got {products!r}.")
    if matching != "auto" and matching not in MANNERS:
        raise CapabilityError(f"matching must be auto, {', '.join(MANNERS)}, got {matching!r}.")
    check_scales(schema, scales)
