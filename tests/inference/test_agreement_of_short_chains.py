"""Short chains: alarms are as rare as promised where nothing is wrong, and come where something is."""

from __future__ import annotations

import numpy as np
import pytest

from probgen.inference.agreement import Agreement, drift, later, rhat_limit
from probgen.inference.diagnostics import split_rhat


def autoregressive(chains, draws, series, memory, seed, start=None):
    """Stationary chains of variance 1, or chains that begin somewhere."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(chains, series)) if start is None else np.broadcast_to(start, (chains, series)).copy()
    found = []
    for _ in range(draws):
        x = memory * x + np.sqrt(1 - memory**2) * rng.normal(size=(chains, series))
        found.append(x)
    return np.stack(found, 1)


@pytest.mark.parametrize(("chains", "draws"), [(3, 8), (8, 8), (20, 16)])
def test_chains_that_agree_rarely_exceed_the_limit(chains, draws):
    rng = np.random.default_rng(1)
    largest = [split_rhat(rng.normal(size=(chains, draws, 10))).max() for _ in range(400)]
    assert np.mean(np.array(largest) > rhat_limit(draws, chains, 10)) <= 0.03


def test_a_p_value_of_chains_that_move_slowly_but_go_nowhere_is_one():
    found = np.array([drift(autoregressive(10, 40, 5, 0.95, seed)) for seed in range(300)])
    assert np.mean(found < 0.05) <= 0.08
    assert np.mean(found < 0.001) <= 0.01


def test_chains_that_are_on_their_way_drift():
    located = autoregressive(20, 40, 3, 0.95, 0, start=-8.0)
    assert drift(located) < 1e-3
    assert not Agreement(located).settled
    spreading = autoregressive(40, 60, 3, 0.985, 0, start=0.0)  # all begin in the middle and move apart
    assert drift(spreading) < 1e-3


def test_slow_chains_are_told_from_unsettled_ones():
    slow = Agreement(autoregressive(20, 40, 4, 0.95, 3))
    assert (slow.apart, slow.settled) == (True, True)
    few = Agreement(autoregressive(3, 40, 4, 0.99, 3))
    assert (few.apart, few.settled) == (True, False)  # too few chains to tell a drift
    assert np.isnan(few.drift)


def test_little_is_not_judged():
    nothing = Agreement(np.zeros((1, 40, 2)))
    assert np.isnan(nothing.rhat)
    assert nothing.settled
    assert later(np.arange(12)).tolist() == list(range(4, 12))
