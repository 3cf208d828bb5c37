r"""Two sides of a row, each written from the other, which are never compared in pairs (Zhu, Park, Isola and Efros, 2017).

.. math:: x_B = G_B(z, x_A), \quad x_A = G_A(z, x_B), \qquad \text{wanted: } G_A(z', G_B(z, x_A)) = x_A, \; G_B(z', G_A(z, x_B)) = x_B

A row of the data is a row of one side at a time: the generator is shown that side, and what it writes of the other is held against another row that knows it. A side of which some
cells are known is first completed from these, a row of which nothing is known begins with a draw of its first side; both are learnt from training rows that show cells at random.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from probgen.data.batches import Batch
from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.adversaries import Comparison, generator_of, pair
from probgen.families.relaxed import RelaxedColumns, part_of

__all__ = ["ShownSides", "SideCritics", "SideGenerators", "checked_sides", "players"]

Names = tuple[str, ...]


# ---------------------------------------------------------------------------------------------------- which columns
def checked_sides(schema: Schema, sides: Any) -> tuple[Names, Names]:
    """Names of the columns of both sides.

    Args:
        schema: the columns.
        sides: names of two images, two groups of columns, or "auto": the two images of pictures alone, or else the first half of the columns and the second.

    Raises:
        CapabilityError: not two sides, a name that there is not, a column on both sides or on none.

    Example:
        >>> from probgen.data import Column
        >>> checked_sides(Schema((Column("a", "real"), Column("b", "real"), Column("c", "real"))), (["a"], ["b", "c"]))
        (('a',), ('b', 'c'))
    """
    images = {image.name: image.names for image in schema.images}
    if isinstance(sides, str):
        sides = automatic(schema, images) if sides == "auto" else (sides,)
    groups = sides if isinstance(sides, Iterable) else ()
    named = [images.get(side, (side,)) if isinstance(side, str) else tuple(side) for side in groups]
    said = f"sides must be the names of two images ({', '.join(images) or 'there is none'}) or two groups of columns"
    if len(named) != 2 or not all(named):
        raise CapabilityError(f"{said}, got {sides!r}.")
    every = [name for side in named for name in side]
    for name in every:
        if name not in schema.names:
            raise CapabilityError(f"{said}, and there is no column {name!r}.")
        if every.count(name) > 1:
            raise CapabilityError(f"{said}; column {name!r} is named twice.")
    if missing := [name for name in schema.names if name not in every]:
        raise CapabilityError(f"{said}; column {missing[0]!r} is on neither side; name it, or drop it.")
    return named[0], named[1]


def automatic(schema: Schema, images: dict[str, Names]) -> tuple[Any, Any]:
    """Two images where there is nothing else, or two halves of the columns."""
    names = schema.names
    if len(names) < 2:
        raise CapabilityError("A translation needs two sides, and there is a single column.")
    if len(images) == 2 and sum(map(len, images.values())) == len(names):
        return tuple(images.values())  # type: ignore[return-value]
    return names[: len(names) // 2], names[len(names) // 2 :]


def masks_of(schema: Schema, sides: tuple[Names, Names]) -> Tensor:
    """``(2, D)`` which columns are on which side."""
    return torch.tensor([[name in side for name in schema.names] for side in sides])


def exchange(schema: Schema, sides: tuple[Names, Names], columns: RelaxedColumns) -> Tensor | None:
    """``(F,)`` where each number's place on the other side is, of sides of one shape; None of others."""
    kinds = [[(part_of(schema[name]), schema[name].levels, schema[name].bounds) for name in side] for side in sides]
    if kinds[0] != kinds[1]:
        return None
    one, other = ([place for name in side for place in columns.places[schema.index(name)]] for side in sides)
    places = torch.empty(columns.numbers, dtype=torch.long)
    places[one], places[other] = torch.tensor(other), torch.tensor(one)
    return places


# ------------------------------------------------------------------------------------------------ what is shown
class ShownSides(nn.Module):
    """Which side of training rows the generator is shown, and which rows of the data its own are held against.

    Args:
        schema: the columns.
        sides: names of the columns of both.
        share: of the rows that are held against themselves, of one side: of half of these nothing is shown, of the others cells at random.

    Raises:
        CapabilityError: a share that is none.
    """

    def __init__(self, schema: Schema, sides: tuple[Names, Names], share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise CapabilityError(
                f"masks is the share of rows that show cells at random, from 0 to below 1, got {share!r}."
            )
        self.share = share
        self.register_buffer("sides", masks_of(schema, sides), persistent=False)
        self.sides: Tensor

    def compare(self, known: Tensor, share: Tensor, at_random: bool = True) -> Comparison:
        """One side of each row, which is drawn where both are known; of ``(B, D)`` known cells, and shares ``(B,)``.

        Where no row knows the other side, nothing is looked at.
        """
        own = self.chosen(known)  # (B,) 0 or 1
        source = known & self.sides[own]
        beside = others(own, share * source.any(1))
        rows, anybody = torch.arange(len(known), device=known.device), beside >= 0
        alone = anybody & (torch.rand(len(known), device=known.device) < self.share * at_random)
        within = torch.rand(known.shape, device=known.device) < 2 * torch.rand(len(known), 1, device=known.device) - 1
        beside = torch.where(alone | ~anybody, rows, beside)
        return Comparison(
            known=source & (within | ~alone[:, None]),
            seen=source[beside] & anybody[:, None],
            beside=beside,
            share=balanced(own, share),
        )

    def chosen(self, known: Tensor) -> Tensor:
        """``(B,)`` number of a side that is known, drawn where both are; without completion that of which more is known."""
        cells = (known[:, None] & self.sides).sum(-1) / self.sides.sum(-1)  # (B, 2)
        able = cells if self.share == 0 else (cells > 0).to(cells)
        best = able[:, 1] - able[:, 0]
        drawn = torch.rand(len(known), device=known.device) < 0.5
        return torch.where(best == 0, drawn, best > 0).long()

    def check(self, batch: Batch) -> None:
        """Refuse to complete a side, or to draw one, if that has not been learnt.

        Raises:
            CapabilityError: names the column, the row and the remedy.
        """
        if self.share:
            return
        known = ~batch.x.isnan()
        has = (known[:, None] & self.sides).any(-1)  # (B, 2)
        if bool((nothing := ~has.any(1)).any()):
            row = batch.number(int(nothing.nonzero()[0]))
            raise CapabilityError(
                f"Row {row} knows nothing of either side, and a translation has nothing to begin with: give one side,"
                " or fit with masks=0.1, which also learns to draw sides."
            )
        holes = torch.nonzero(~known & (has[..., None] & self.sides).any(1))
        if len(holes):
            row, column = batch.number(int(holes[0, 0])), batch.schema.names[int(holes[0, 1])]
            raise CapabilityError(
                f"Row {row}: column {column!r} is unknown and others of its side are not, and this generator writes whole sides only (masks=0);"
                " fit with masks=0.1, or give whole sides."
            )


def others(own: Tensor, share: Tensor) -> Tensor:
    """``(B,)`` a row of the other side for each row, as often as its share says; below nought where there is none."""
    found = torch.full_like(own, -1)
    for side in (0, 1):
        rows = (own == side).nonzero()[:, 0]
        among = ((own != side) & (share > 0)).nonzero()[:, 0]
        if len(rows) and len(among):
            reached = share[among].cumsum(0)
            at = (torch.arange(len(rows), device=share.device) + torch.rand(1, device=share.device)) / len(rows)
            found[rows] = among[torch.searchsorted(reached / reached[-1], at).clamp_max(len(among) - 1)]
    return found


def balanced(own: Tensor, share: Tensor) -> Tensor:
    """``(B,)`` shares in which both sides weigh the same."""
    sums = torch.stack([(share * (own == side)).sum() for side in (0, 1)])
    present = (sums > 0).sum().clamp_min(1)
    return share / sums[own].clamp_min(torch.finfo(share.dtype).tiny) / present


# ------------------------------------------------------------------------------------------------ the players
def players(
    schema: Schema,
    sides: tuple[Names, Names],
    latent: int,
    hidden: Sequence[int],
    columns: RelaxedColumns,
    completes: bool,
    spectral: bool,
) -> tuple[SideGenerators, SideCritics]:
    """Generators and a critic of each side; without ``completes`` none but the two that translate."""
    pairs = [pair(schema, latent, hidden, columns, spectral) for _ in sides]
    translate, critics = zip(*pairs, strict=True)
    complete = [generator_of(schema, latent, hidden, columns) for _ in sides] if completes else []
    return SideGenerators(schema, sides, latent, columns, translate, complete), SideCritics(
        masks_of(schema, sides), critics
    )


class SideCritics(nn.Module):
    """A critic of each side: of a row the one whose cells are looked at.

    Args:
        sides: ``(2, D)`` which columns are on which side.
        critics: of rows, by the cells that had been shown and those that are seen.
    """

    def __init__(self, sides: Tensor, critics: Sequence[nn.Module]) -> None:
        super().__init__()
        self.register_buffer("sides", sides, persistent=False)
        self.sides: Tensor
        self.critics = nn.ModuleList(critics)

    def forward(self, rows: Tensor, known: Tensor, seen: Tensor) -> Tensor:
        """``(B,)`` of rows; a critic is told which cells of its side had been shown, and of the other side whether any had been.

        Translations and draws have to be told apart: else it is enough that they make up the side's distribution together.
        """
        score = 0 * rows.sum(-1)  # of rows that no row of the other side stands beside
        for side, critic in zip(self.sides, self.critics, strict=True):
            at = (seen & side).any(1).nonzero()[:, 0]
            if not len(at):
                continue
            told = known[at] & side | (known[at] & ~side).any(1, keepdim=True) & ~side
            score = score.index_add(0, at, critic(rows[at], told, seen[at] & side))
        return score


class SideGenerators(nn.Module):
    """Generators of each side: one is shown the other side, one some cells of its own.

    They share no weights: what the way back asks of translations is so much louder than the critic that draws would hardly be learnt.

    Args:
        schema: the columns.
        sides: names of the columns of both.
        latent: L, numbers of noise of one side.
        columns: that are written.
        translate: from noise, rows and which cells are known to the outputs of all columns, of which each writes its side's.
        complete: the same; empty where only whole sides are known.
    """

    def __init__(
        self,
        schema: Schema,
        sides: tuple[Names, Names],
        latent: int,
        columns: RelaxedColumns,
        translate: Sequence[nn.Module],
        complete: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.latent, self.columns = latent, columns
        self.translate, self.complete = nn.ModuleList(translate), nn.ModuleList(complete)
        exchanged = exchange(schema, sides, columns)
        self.alike = exchanged is not None
        places = torch.arange(columns.numbers) if exchanged is None else exchanged
        self.register_buffer("sides", masks_of(schema, sides), persistent=False)
        self.register_buffer("exchanged", places, persistent=False)
        self.sides: Tensor
        self.exchanged: Tensor

    def forward(self, rows: Tensor, known: Tensor, z: Tensor, u: Tensor) -> Tensor:
        """Complete rows ``(B, F)`` by ``(B, D)`` which cells are known, ``(B, 2 L)`` noise of both sides, and uniform numbers.

        A side with known cells is completed from them, and so is the first side where nothing is known; then sides of which nothing was known are
        translated from the other.
        """
        has = (known[:, None] & self.sides).any(-1)  # (B, 2)
        has = torch.stack([has[:, 0] | ~has.any(1), has[:, 1]], 1)
        noise = z.chunk(2, -1)
        for side, generator in enumerate(self.complete):
            mask = self.sides[side]
            holes = has[:, side] & (~known & mask).any(1)
            rows = self.written(side, generator, holes, rows, known & mask, noise[side], u)
        for side, generator in enumerate(self.translate):
            shown = (~self.sides[side]).expand_as(known)
            rows = self.written(side, generator, ~has[:, side], rows, shown, noise[side], u)
        return rows

    def written(
        self, side: int, generator: nn.Module, which: Tensor, rows: Tensor, shown: Tensor, z: Tensor, u: Tensor
    ) -> Tensor:
        """Rows of which some, ``(B,)``, have one side written by what is shown; shown cells stay."""
        at = which.nonzero()[:, 0]
        if not len(at):
            return rows
        read, given = rows[at], self.columns.spread(shown[at])
        made = self.columns.relaxed(generator(z[at], read * given, shown[at]), u[at])
        writes = self.columns.spread(self.sides[side] & ~shown[at])
        return rows.index_copy(0, at, torch.where(writes, made, read))

    def translated(self, rows: Tensor, side: int) -> Tensor:
        """All rows with one side written anew from the other."""
        z = torch.randn(len(rows), self.latent, device=rows.device, dtype=rows.dtype)
        u = torch.rand(len(rows), self.columns.noises, device=rows.device, dtype=rows.dtype)
        every = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        shown = (~self.sides[side]).expand(len(rows), -1)
        return self.written(side, self.translate[side], every, rows, shown, z, u)

    def returned(self, rows: Tensor, known: Tensor) -> Tensor:
        """``(B,)`` mean absolute difference of known cells ``(B, D)`` to themselves, when their side is written from the other, which was written from them."""
        return self.difference(rows, known, rows)

    def unchanged(self, rows: Tensor, known: Tensor) -> Tensor:
        """``(B,)`` mean absolute difference of known cells to themselves, when they are shown as if they were the other side, of one shape, and translated."""
        return self.difference(rows, known, rows[:, self.exchanged])

    def difference(self, rows: Tensor, known: Tensor, shown: Tensor) -> Tensor:
        """``(B,)`` of known cells, all of one side, to what is translated from the other side of ``(B, F)`` shown rows."""
        found = rows.new_zeros(len(rows))
        for side, mask in enumerate(self.sides):
            at = (known & mask).any(1).nonzero()[:, 0]
            given = self.columns.spread(known[at] & mask)
            apart = (self.translated(shown[at], side) - rows[at]).abs() * given
            found = found.index_add(0, at, apart.sum(-1) / given.sum(-1).clamp_min(1))
        return found
