"""Patterns of holes and flux: numbers that R's mice and van Buuren (2018) print."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import probgen as pg
from probgen.data import Column, Schema, Table, flux, load, missing_patterns

LEIDEN = ("sexe", "lftanam", "dwa", "survda", "woon", "mmse", "rrsyst", "rrdiast", "alb", "chol")
LEIDEN_PATTERNS = {  # of the last five columns, as printed by md.pattern(leiden)
    "11111": 621, "11110": 2, "11101": 1, "11100": 149, "11011": 2, "11000": 2, "10011": 72, "10010": 2, "10000": 20,
    "01111": 21, "01100": 36, "01000": 1, "00011": 7, "00000": 20,
}  # fmt: skip
LEIDEN_FLUX = {  # pobs, influx, outflux, ainb, aout, fico, as printed by flux(leiden)
    "sexe": (1.0000000, 0.00000000, 1.0000000, 0.0000000, 0.09216643, 0.3504184),
    "rrsyst": (0.8734310, 0.09798107, 0.5573770, 0.7887971, 0.05881570, 0.2562874),
    "rrdiast": (0.8682008, 0.10231550, 0.5422446, 0.7910053, 0.05756359, 0.2518072),
    "alb": (0.7604603, 0.19311053, 0.2471627, 0.8214459, 0.02995568, 0.1458047),
    "chol": (0.7573222, 0.19573400, 0.2383354, 0.8218391, 0.02900552, 0.1422652),
    "mmse": (0.9110879, 0.06798221, 0.6796974, 0.7790850, 0.06875877, 0.2870264),
}
NHANES = """
    age hyp bmi chl
13    1   1   1   1  0
3     1   1   1   0  1
1     1   1   0   1  1
1     1   0   0   1  2
7     1   0   0   0  3
      0   8   9  10 27"""


def table_of(known, names, shuffle=0):
    """Any numbers where the mask is true, rows in a random order."""
    known = np.random.default_rng(shuffle).permutation(np.asarray(known, bool))
    values = np.where(known, np.random.default_rng(0).normal(size=known.shape), np.nan)
    return Table.from_codes(values, Schema(tuple(Column(name, "real") for name in names)))


def leiden():
    rows = [[1] * 5 + [int(cell) for cell in p] for p, count in LEIDEN_PATTERNS.items() for _ in range(count)]
    return table_of(rows, LEIDEN)


@pytest.mark.reference
def test_the_patterns_of_a_published_table():
    found = missing_patterns(leiden())
    assert found.names == LEIDEN
    assert ["".join(map(str, row[5:].astype(int))) for row in found.known] == list(LEIDEN_PATTERNS)
    assert found.counts.tolist() == list(LEIDEN_PATTERNS.values())
    assert found.holes.tolist() == [0, 0, 0, 0, 0, 85, 121, 126, 229, 232]
    assert found.complete == 621
    assert not found.monotone


@pytest.mark.reference
def test_the_flux_of_a_published_table():
    found = {column.column: list(vars(column).values())[1:] for column in flux(leiden())}
    assert list(found) == list(LEIDEN)
    for name, numbers in LEIDEN_FLUX.items():
        np.testing.assert_allclose(found[name], numbers, atol=6e-8)


@pytest.mark.reference
def test_the_general_pattern_of_the_book():
    """Section 4.1 of van Buuren (2018): pattern4, its md.pattern and its flux."""
    table = table_of([[1, 1, 1]] * 2 + [[1, 0, 1]] + [[1, 1, 0]] * 3 + [[0, 0, 1]] * 2, "ABC")
    rows = flux(table).records
    assert [(r["column"], r["known"], r["influx"], r["outflux"]) for r in rows] == [
        ("A", 0.75, 0.125, 0.5), ("B", 0.625, 0.25, 0.375), ("C", 0.625, 0.375, 0.625),
    ]  # fmt: skip
    # by the book's pairs: usable cases I_AB = 0/2, I_AC = 2/2; outbound O_AB = 1/6, O_AC = 3/6
    assert rows[0]["average_inbound"] == pytest.approx((0 / 2 + 2 / 2) / 2)
    assert rows[0]["average_outbound"] == pytest.approx((1 / 6 + 3 / 6) / 2)
    assert rows[0]["incomplete"] == pytest.approx(4 / 6)
    patterns = missing_patterns(table)
    assert patterns.counts.tolist() == [2, 3, 1, 2]
    assert patterns.holes.tolist() == [2, 3, 3]


@pytest.mark.reference
def test_the_patterns_of_nhanes_print_as_mice_prints_them(data_sets):
    table = load("mice_nhanes")
    found = pg.missing_patterns(table)
    assert str(found) == NHANES[1:]
    brute = Counter(tuple(row) for row in table.select(found.names).known.tolist())
    assert brute == dict(zip(map(tuple, found.known.tolist()), found.counts.tolist(), strict=True))
    np.testing.assert_array_equal(found.known[found.which], table.select(found.names).known)


@pytest.mark.reference
def test_the_flux_of_nhanes_is_that_of_its_definition(data_sets):
    table = load("mice_nhanes")
    known, d = table.known, table.n_columns
    for j, record in enumerate(pg.flux(table).records):
        pairs = [(k, i) for k in range(d) for i in range(len(table))]
        into = sum(not known[i, j] and known[i, k] for k, i in pairs)
        out = sum(known[i, j] and not known[i, k] for k, i in pairs)
        assert record["influx"] == pytest.approx(into / known.sum())
        assert record["outflux"] == pytest.approx(out / (~known).sum())
        others = [k for k in range(d) if k != j]
        if not known[:, j].all():
            assert record["average_inbound"] == pytest.approx(np.mean([known[~known[:, j], k].mean() for k in others]))
        assert record["average_outbound"] == pytest.approx(np.mean([(~known[known[:, j], k]).mean() for k in others]))
        assert record["incomplete"] == pytest.approx((~known[known[:, j]].all(1)).mean())


def test_edges_of_patterns_and_flux():
    complete = table_of(np.ones((4, 2)), "ab")
    assert missing_patterns(complete).complete == 4
    assert [r["influx"] for r in flux(complete).records] == [0, 0]
    assert np.isnan([r["outflux"] for r in flux(complete).records]).all()
    never = flux(table_of([[1, 0], [1, 0], [1, 0]], "ab")).records
    assert never[1]["influx"] == 1
    assert never[1]["outflux"] == 0
    assert np.isnan(never[1]["incomplete"])
    assert never[0]["outflux"] == 1
    assert missing_patterns(table_of([[1, 1, 0], [1, 0, 0], [1, 1, 1]], "abc")).monotone
    assert not missing_patterns(table_of([[1, 1, 0], [1, 0, 1]], "abc")).monotone
    assert str(flux(complete)).splitlines()[0].split()[:3] == ["known", "influx", "outflux"]
