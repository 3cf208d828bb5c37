"""Ten textbook programs: exact posteriors, published estimates, and runs of other engines."""

from __future__ import annotations

import numpy as np
import pytest

from tests.inference.posteriors import compare
from tests.inference.sampling import METHODS, assert_agrees, needs_engine, sampled
from tests.inference.textbook import TEXTBOOKS

NAMES = [pytest.param(name, marks=pytest.mark.slow) if book.slow else name for name, book in TEXTBOOKS.items()]


def test_references_agree_with_published_estimates():
    """Pumps: BUGS examples, volume 1 (alpha 0.70, sd 0.27; rate of pump 10 1.99). Dippers: Lebreton et al. (1992),
    survival .560, capture .903, standard errors .025 and .029. Ideology: Agresti (2007), .975, error .129."""
    pumps, dippers, ideology = (
        TEXTBOOKS[name].reference() for name in ("hierarchical", "capture_recapture", "ordinal")
    )
    assert (pumps["alpha"]["mean"], pumps["alpha"]["sd"]) == pytest.approx((0.70, 0.27), abs=0.005)
    assert pumps["rate[10]"]["mean"] == pytest.approx(1.99, abs=0.005)
    assert (dippers["survival"]["mean"], dippers["survival"]["sd"]) == pytest.approx((0.560, 0.025), abs=0.002)
    assert (dippers["capture"]["mean"], dippers["capture"]["sd"]) == pytest.approx((0.903, 0.029), abs=0.01)
    assert (ideology["effect"]["mean"], ideology["effect"]["sd"]) == pytest.approx((0.975, 0.129), abs=0.01)


def test_data_are_those_of_the_sources():
    """Coal mining: 191 disasters in 112 years; 82 galaxies; the Nile as statsmodels has it; 426 releases."""
    import statsmodels.api as sm

    assert TEXTBOOKS["change_point"].data()["disasters"].sum() == 191
    assert len(TEXTBOOKS["dirichlet_process"].data()["velocity"]) == 82
    assert len(TEXTBOOKS["capture_recapture"].data()["seen"]) == 426
    np.testing.assert_array_equal(TEXTBOOKS["kalman"].data()["flow"], sm.datasets.nile.load_pandas().data.volume)


@needs_engine
@pytest.mark.reference
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_sampler_agrees_with_what_is_known(name, method):
    book = TEXTBOOKS[name]
    data = book.data()
    draws, fit = sampled(book.model, data, method)
    assert_agrees(compare(book.quantities(draws), book.reference()), fit)
