"""Drawn numbers are written with the decimals of the known ones."""

import numpy as np
import pytest

import probgen as pg
from probgen.data.rounding import decimals, rounded


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([171.1, 165.0], 1),
        ([0.1 + 0.2, 1.7], 1),  # 0.30000000000000004
        ([1e-9, 3.0], 9),
        ([1e-10, 3.0], None),
        ([np.pi], None),
        ([17100.0, -300.0, 0.0], 0),
        ([1e15 + 0.5], 1),
        ([], None),
    ],
)
def test_the_finest_place_of_known_numbers(values, places):
    assert decimals(np.array(values)) == places


def test_what_is_drawn_stays_what_its_column_can_hold():
    """Known cells keep their bits; amounts do not become zero, shares stay within bounds, dates and labels as they are."""
    kinds = {"real": {}, "positive": {}, "semicontinuous": {}, "bounded": {"bounds": (0.25, 0.75)}, "datetime": {}}
    columns = [pg.Column(kind, kind, **more) for kind, more in kinds.items()]
    schema = pg.Schema((*columns, pg.Column("binary", "binary", levels=(0.0, 1.0)), pg.Column("free", "real")))
    known = [[0.1 + 0.2, 0.5, 0.0, 0.5, 18000.0, 1.0, np.pi], [2.0, 1.0, 2.0, 0.3, 18001.0, 0.0, 1.0]]
    holes = [[np.nan] * 7] * 2
    drawn = [[1.26, 0.04, 0.01, 0.749, 18000.4, 1.0, 0.123456], [-0.04, 3.14, 0.0, 0.42, 18002.9, 0.0, 7.0]]
    table = pg.Table.from_codes(np.array(known + holes), schema)
    made = rounded(pg.Table.from_codes(np.array(known + drawn), schema), table).values
    assert np.array_equal(made[:2], np.array(known))
    wanted = [[1.3, 0.1, 1.0, 0.7, 18000.4, 1.0, 0.123456], [0.0, 3.1, 0.0, 0.4, 18002.9, 0.0, 7.0]]
    assert np.array_equal(made[2:], wanted)


def test_a_rounded_number_outside_its_bounds_is_written_as_drawn():
    schema = pg.Schema((pg.Column("share", "bounded", bounds=(0.12, 0.88)),))
    table = pg.Table.from_codes(np.array([[0.2], [0.8], [np.nan]]), schema)
    made = rounded(table.with_values(np.array([[0.2], [0.8], [0.1234]])), table)
    assert made.values[2, 0] == 0.1234
