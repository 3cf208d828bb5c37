"""The figure of a sweep shows the numbers of the sweep."""

import numpy as np
import pytest

import probgen as pg
from probgen.errors import DataError
from probgen.plots import sensitivity_curve

DELTAS = np.array([-2.0, -1.0, 0.0, 1.0])


def sweep(slope):
    """Estimates 1 + slope x delta with standard error 0.3, known exactly."""
    pooled = tuple(pg.pool([(1 + slope * d, 0.09)] * 2, names=["slope"]) for d in DELTAS)
    return pg.Sensitivity("bmi", "sd", "known", DELTAS, pooled, 2)


def test_the_curve_its_interval_and_where_it_tips():
    found = sweep(0.5)
    axes = sensitivity_curve(found)
    np.testing.assert_allclose(axes.collections[-1].get_offsets(), np.column_stack([DELTAS, 1 + 0.5 * DELTAS]))
    (tip,) = found.tipping_points()
    assert tip == pytest.approx((1.959964 * 0.3 - 1) / 0.5)  # where 1 + delta / 2 = 1.96 x 0.3
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [tip]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["at random", f"tips at {tip:.3g}".replace("-", "−")]
    assert axes.get_title(loc="left") == "slope"
    assert axes.get_xlabel() == "shift of imputed bmi, standard deviations"


def test_a_conclusion_that_holds_is_told():
    assert "no tipping point in this range" in [text.get_text() for text in sensitivity_curve(sweep(0.01)).texts]


def test_an_unknown_term_is_told():
    with pytest.raises(DataError, match="Terms: slope"):
        sensitivity_curve(sweep(0.5), "age")
