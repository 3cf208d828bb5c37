"""Two sides: which columns, which rows are compared, in which order holes are written, and what a round trip costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.data.batches import Batch
from probgen.families.relaxed import RelaxedColumns
from probgen.families.sides import (
    ShownSides,
    SideCritics,
    SideGenerators,
    balanced,
    checked_sides,
    exchange,
    masks_of,
    others,
)

FOUR = Schema(tuple(Column(name, "real", incomplete=True) for name in "abcd"))
SIDES = (("a", "c"), ("b", "d"))
MASKS = masks_of(FOUR, SIDES)


# --------------------------------------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (("a", "b"), "column 'c' is on neither side"),
        ((("a", "b"), ("b", "c", "d")), "column 'b' is named twice"),
        ((("a", "b"), ("c", "e")), "there is no column 'e'"),
        ((("a", "b"),), "must be the names of two images .there is none. or two groups of columns, got"),
        ((("a", "b", "c", "d"), ()), "or two groups of columns, got"),
        ("photo", "got ..photo.,"),
    ],
)
def test_sides_that_are_none(sides, message):
    with pytest.raises(pg.CapabilityError, match=message):
        checked_sides(FOUR, sides)


def test_sides_are_halves_or_images_unless_named():
    assert checked_sides(FOUR, "auto") == (("a", "b"), ("c", "d"))
    pictures = [Table.from_images(np.zeros((3, 2, 2)) + np.arange(3)[:, None, None] / 2, name=n) for n in "pq"]
    schema = Schema(
        tuple(c for t in pictures for c in t.schema.columns),
        images=tuple(i for t in pictures for i in t.schema.images),
    )
    first, second = (table.names for table in pictures)
    assert checked_sides(schema, "auto") == checked_sides(schema, ("p", "q")) == (first, second)
    assert checked_sides(schema, ("q", "p")) == (second, first)
    with pytest.raises(pg.CapabilityError, match="a single column"):
        checked_sides(Schema((Column("a", "real"),)), "auto")


# ------------------------------------------------------------------------------------------------- what is compared
def half_and_half(rows=60, first=20):
    known = torch.zeros(rows, 4, dtype=torch.bool)
    known[:first] = MASKS[0]
    known[first:] = MASKS[1]
    return known


def test_a_side_is_shown_and_held_against_a_row_of_the_other():
    known, share = half_and_half(), torch.full((60,), 1 / 60)
    found = ShownSides(FOUR, SIDES, 0.0).compare(known, share)
    assert torch.equal(found.known, known)
    assert torch.equal(found.seen, ~known)
    assert (found.beside[:20] >= 20).all()
    assert (found.beside[20:] < 20).all()
    torch.testing.assert_close(found.share[:20].sum(), torch.tensor(0.5))  # both directions weigh the same
    torch.testing.assert_close(found.share[20:].sum(), torch.tensor(0.5))


def test_a_row_that_knows_both_sides_is_never_its_own_pair():
    torch.manual_seed(0)
    known, share = torch.ones(200, 4, dtype=torch.bool), torch.full((200,), 1 / 200)
    found = ShownSides(FOUR, SIDES, 0.3).compare(known, share)
    alone = found.beside == torch.arange(200)
    shows = (found.known[:, None] & MASKS).any(-1)
    assert not shows.all(1).any()  # one side at most
    assert not (found.known & found.seen)[~alone].any()
    assert (found.seen[:, None] & MASKS).any(-1).sum(1).eq(1).all()
    assert not (found.known & ~found.seen)[alone].any()  # completed from cells of the side that is looked at
    assert pytest.approx(float(alone.float().mean()), abs=4 * (0.3 * 0.7 / 200) ** 0.5) == 0.3
    sides = shows[~alone, 0].float().mean()
    assert pytest.approx(float(sides), abs=4 * 0.5 / 140**0.5) == 0.5


def test_half_of_the_completed_rows_begin_with_nothing():
    """Cells are shown with probability max(0, 2u - 1): none of two in a share of 1/2 + 1/2 E(1 - v)^2 = 2/3 of the rows."""
    torch.manual_seed(0)
    known, share = half_and_half(4000, 2000), torch.full((4000,), 1 / 4000)
    found = ShownSides(FOUR, SIDES, 0.9).compare(known, share)
    alone = found.beside == torch.arange(4000)
    nothing = ~found.known[alone].any(1)
    assert pytest.approx(float(nothing.float().mean()), abs=4 * (2 / 9 / int(alone.sum())) ** 0.5) == 2 / 3


def test_rows_stand_beside_others_as_often_as_their_weights_say():
    """Systematic resampling: n w, rounded up or down; of weight nought never."""
    torch.manual_seed(0)
    own = torch.tensor([0] * 50 + [1] * 8)
    share = torch.cat([torch.ones(50), torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.5])])
    found = others(own, share / share.sum())
    counts = torch.bincount(found[:50] - 50, minlength=8)
    expected = 50 * share[50:] / share[50:].sum()
    assert ((counts - expected).abs() < 1).all()
    assert (found[50:] < 50).all()
    assert (others(torch.zeros(5, dtype=torch.long), torch.ones(5)) < 0).all()  # nobody there


def test_shares_without_the_other_side_are_what_they_were():
    share = torch.tensor([0.2, 0.3, 0.5])
    torch.testing.assert_close(balanced(torch.zeros(3, dtype=torch.long), share), share)
    mixed = balanced(torch.tensor([0, 0, 1]), share)
    torch.testing.assert_close(mixed, torch.tensor([0.2, 0.3, 0.5]))
    torch.testing.assert_close(balanced(torch.tensor([0, 1, 1]), share), torch.tensor([0.5, 0.1875, 0.3125]))


# ----------------------------------------------------------------------------------------------------- what is written
class Line(nn.Module):
    """Outputs that are a line of the other side's, or own, shown cells: level + slope * what it reads + noise."""

    def __init__(self, level, slope, reads):
        super().__init__()
        self.level, self.slope, self.reads = level, slope, reads

    def forward(self, z, rows, known):
        assert not (rows * ~known).any()  # nothing that is not shown
        return (self.level + self.slope * rows[:, self.reads].sum(-1) + z.sum(-1))[:, None].expand(-1, 4)


def generators(first, second):
    made = SideGenerators(FOUR, SIDES, 1, RelaxedColumns(FOUR), [first, second], [first, second])
    assert made.alike
    return made


def test_holes_are_written_from_the_own_side_first_then_from_the_other():
    made = generators(Line(10.0, 1.0, [0, 1, 2, 3]), Line(100.0, 1.0, [0, 1, 2, 3]))
    nan = torch.nan
    x = torch.tensor(
        [
            [1.0, nan, 2.0, nan],  # a, c known: the others translated from both
            [nan, 3.0, nan, 4.0],
            [1.0, nan, nan, nan],  # c completed from a, then translated
            [1.0, 3.0, nan, nan],  # each side from its own cell
            [nan, nan, nan, nan],  # a, c drawn, then translated
            [1.0, 3.0, 2.0, 4.0],
        ]
    )
    rows = made(x.nan_to_num(), ~x.isnan(), torch.zeros(6, 2), torch.zeros(6, 0))
    expected = [
        [1, 103, 2, 103],
        [17, 3, 17, 4],
        [1, 112, 11, 112],
        [1, 3, 11, 103],
        [10, 120, 10, 120],
        [1, 3, 2, 4],
    ]
    torch.testing.assert_close(rows, torch.tensor(expected, dtype=rows.dtype))


@pytest.mark.parametrize(("level", "lost"), [(-0.5, 0.0), (0.25, 0.75)])
def test_a_round_trip_of_lines_that_undo_each_other_costs_nothing(level, lost):
    """b = d = 1 + (a + c), and back a = c = level + (b + d) / 4: of equal cells t, (b + d) / 4 = (1 + 2 t) / 2, so they come back as t + 1/2 + level."""
    made = generators(NoNoise(level, 0.25, [1, 3]), NoNoise(1.0, 1.0, [0, 2]))
    rows = torch.tensor([[2.0, 5.0, 2.0, 5.0], [-3.0, -5.0, -3.0, -5.0]])  # b = d = 1 + 2 t
    shown = MASKS[0].expand(2, -1)
    torch.testing.assert_close(made.returned(rows, shown), torch.full((2,), lost))
    wrong = rows.clone()
    wrong[:, [1, 3]] += 8.0  # as what is written would be if it were a worse translation: 8 / 2 more or less
    torch.testing.assert_close(made.returned(wrong, shown), torch.full((2,), lost + 4.0))
    torch.testing.assert_close(made.returned(rows, torch.zeros(2, 4, dtype=torch.bool)), torch.zeros(2))
    one = shown & torch.tensor([True, True, False, True])
    moved = rows + torch.tensor([0.0, 0.0, 7.0, 0.0])  # c is not known: it does not count
    torch.testing.assert_close(made.returned(moved, one), torch.full((2,), lost))


def test_a_side_that_is_shown_in_the_others_place_is_wanted_back():
    made = generators(NoNoise(0.0, 0.5, [1, 3]), NoNoise(1.0, 0.5, [0, 2]))
    rows = torch.tensor([[2.0, 9.0, 4.0, 9.0], [9.0, -3.0, 9.0, 5.0]])
    known = torch.stack([MASKS[0], MASKS[1]])
    # a, c = (2, 4) shown as b, d give 3 for both; b, d = (-3, 5) shown as a, c give 1 + 1 for both
    torch.testing.assert_close(made.unchanged(rows, known), torch.tensor([1.0, 4.0]))


class NoNoise(Line):
    def forward(self, z, rows, known):
        return super().forward(0 * z, rows, known)


def test_sides_of_other_shapes_have_no_exchange():
    unlike = Schema((Column("a", "real"), Column("b", "positive")))
    assert exchange(unlike, (("a",), ("b",)), RelaxedColumns(unlike)) is None
    levels = Schema(
        (
            Column("a", "real"),
            Column("b", "categorical", levels=("u", "v", "w")),
            Column("c", "real"),
            Column("d", "categorical", levels=("u", "v", "w")),
        )
    )
    places = exchange(levels, (("a", "b"), ("c", "d")), RelaxedColumns(levels))
    assert places.tolist() == [4, 5, 6, 7, 0, 1, 2, 3]


def test_a_critic_looks_at_its_own_side_alone():
    class Sum(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, rows, known, seen):
            return self.factor * (rows * seen).sum(-1) + 1000 * known.sum(-1)

    critics = SideCritics(MASKS, [Sum(1.0), Sum(-1.0)])
    rows = torch.tensor([[1.0, 2.0, 3.0, 4.0]] * 3)
    seen = torch.stack([MASKS[0], MASKS[1], torch.zeros(4, dtype=torch.bool)])
    one = torch.tensor([False, False, False, True])  # of the other side of the first row: a translation
    shown = torch.stack([one, torch.zeros(4, dtype=torch.bool), MASKS[0]])
    assert critics(rows, shown, seen).tolist() == [2004.0, -6.0, 0.0]
    own = torch.tensor([True, False, False, True])
    assert critics(rows, own.expand(3, -1), seen).tolist() == [3004.0, 2994.0, 0.0]


def test_whole_sides_alone_are_translated_without_masks():
    shown, nan = ShownSides(FOUR, SIDES, 0.0), torch.nan
    shown.check(Batch(torch.tensor([[1.0, nan, 2.0, nan], [1.0, 2.0, 3.0, 4.0]]), FOUR))
    with pytest.raises(pg.CapabilityError, match=r"Row 1 knows nothing of either side.*masks=0\.1"):
        shown.check(Batch(torch.tensor([[1.0, nan, 2.0, nan], [nan, nan, nan, nan]]), FOUR))
    with pytest.raises(pg.CapabilityError, match=r"Row 0: column 'd' is unknown and others of its side are not"):
        shown.check(Batch(torch.tensor([[1.0, 1.0, 2.0, nan]]), FOUR))
    known = torch.tensor([[True, True, True, False]]).expand(30, -1)  # of b and d one: the whole side is shown
    assert torch.equal(shown.compare(known, torch.ones(30)).known, MASKS[:1].expand(30, -1))
