"""Figures of chains show transitions, stays, paths and what comes next."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

import probgen as pg
from probgen import plots
from probgen.plots.style import CYCLE
from probgen.queries.states import state_chains


@pytest.fixture
def axes():
    return Figure().subplots()


def test_shares_are_stationary_and_stays_geometric(markov):
    chain = state_chains(markov)[0]
    np.testing.assert_allclose(chain.share @ chain.transition, chain.share, atol=1e-7)
    np.testing.assert_allclose(chain.stay, 1 / (1 - np.diag(chain.transition)))
    steps = chain.durations(4000)
    np.testing.assert_allclose(steps.sum(1), 1.0)
    np.testing.assert_allclose(steps @ np.arange(1, 4001), chain.stay)


def test_published_states_are_found(markov):
    """Zucchini, MacDonald and Langrock (2016), table 3.1: three states, maximum likelihood."""
    from probgen.queries.components import components

    rates = np.sort(components(markov)[0].moments("count")[0])
    np.testing.assert_allclose(rates, [13.134, 19.713, 29.711], atol=0.02)
    assert np.diag(state_chains(markov)[0].transition)[np.argsort(components(markov)[0].moments("count")[0])] == (
        pytest.approx([0.939, 0.906, 0.809], abs=0.01)
    )


def test_semi_markov_shares_are_those_of_long_draws(earthquakes, quick):
    fit = quick(earthquakes, "semi_markov", states=3, longest=9)
    chain = state_chains(fit)[0]
    draws = np.random.default_rng(0)
    time, state = np.zeros(3), 0
    for _ in range(20_000):
        state = draws.choice(3, p=chain.transition[state])
        time[state] += 1 + draws.choice(9, p=chain.duration[state])
    np.testing.assert_allclose(chain.share, time / time.sum(), atol=0.02)


@pytest.mark.parametrize("topology", ["left_right", "cyclic"])
def test_chains_that_never_return_have_shares_too(earthquakes, topology, quick):
    chain = state_chains(quick(earthquakes, states=3, topology=topology))[0]
    assert chain.share.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(chain.share @ chain.transition, chain.share, atol=1e-6)
    if topology == "left_right":
        assert np.isinf(chain.stay[2])


def test_a_circle_a_state_and_an_arrow_a_transition(markov, axes):
    assert plots.transition_diagram(markov, axes=axes) is axes
    axes.figure.canvas.draw()
    chain = state_chains(markov)[0]
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    assert len(circles) == 3
    assert len(arrows) == (chain.transition >= 0.01).sum()
    areas = np.array([circle.radius**2 for circle in circles])
    np.testing.assert_allclose(areas / areas.max(), chain.share / chain.share.max())
    texts = [text.get_text() for text in axes.texts]
    shown = sorted(text for text in texts if re.fullmatch(r"1?\.\d\d", text))
    assert shown == sorted(f"{p:.2f}".removeprefix("0") for p in chain.transition.ravel() if p >= 0.01)


@pytest.mark.parametrize("states", [1, 2, 7, 10])
def test_everything_of_a_diagram_is_inside(earthquakes, states, quick):
    axes = plots.transition_diagram(quick(earthquakes, states=states))
    axes.figure.canvas.draw()
    frame = axes.get_window_extent()
    for text in axes.texts:
        box = text.get_window_extent()
        assert frame.x0 - 8 < box.x0 < box.x1 < frame.x1 + 8
        assert frame.y0 - 8 < box.y0 < box.y1 < frame.y1 + 8


def test_many_states_are_a_matrix(earthquakes, axes, quick):
    fit = quick(earthquakes, states=12)
    plots.transition_diagram(fit, axes=axes)
    axes.figure.canvas.draw()
    np.testing.assert_array_equal(axes.images[0].get_array(), state_chains(fit)[0].transition)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("to state", "from state")


def test_durations_are_the_bars(earthquakes, axes, quick):
    fit = quick(earthquakes, "semi_markov", states=2, longest=6)
    plots.durations(fit, axes=axes)
    axes.figure.canvas.draw()
    chain = state_chains(fit)[0]
    heights = np.array([bar.get_height() for bar in axes.patches]).reshape(2, -1)
    assert heights.shape == (2, 6)
    np.testing.assert_allclose(heights / heights.sum(1, keepdims=True), chain.duration, atol=1e-9)
    assert [text.get_text() for text in axes.texts] == [f"mean {stay:.1f}" for stay in chain.stay]


def test_a_state_that_is_never_left_says_so(earthquakes, axes, quick):
    plots.durations(quick(earthquakes, states=2, topology="left_right"), axes=axes)
    axes.figure.canvas.draw()
    assert axes.texts[1].get_text() == "never left"


def test_decoded_shows_path_and_probabilities(markov, earthquakes):
    series, below = plots.decoded(markov, earthquakes, first=1900)
    series.figure.canvas.draw()
    np.testing.assert_array_equal(series.lines[0].get_ydata(), earthquakes.values[:, 0])
    assert series.lines[0].get_xdata()[[0, -1]].tolist() == [1900, 2006]
    path = markov.viterbi(earthquakes)
    for state, bands in zip(np.unique(path), series.collections, strict=False):
        widths = [box.get_extents().width for box in bands.get_paths()]
        assert sum(widths) == pytest.approx((path == state).sum())
    assert len(below.collections) == 3
    assert [t.get_text() for t in below.get_legend().get_texts()] == ["state 2", "state 1", "state 0"]
    assert below.get_xlim() == series.get_xlim() == (1899.5, 2006.5)


def test_holes_are_medians_with_intervals(weather, quick):
    fit = quick(weather, states=2)
    panels = plots.decoded(fit, weather, sequence=0)
    panels[0].figure.canvas.draw()
    assert [panel.get_ylabel() for panel in panels] == ["warmth", "wind", "sky", "p(state)"]
    marks = [np.asarray(c.get_offsets()) for c in panels[0].collections if len(c.get_offsets()) == 3]
    holes = fit.marginals(weather.take([0]))
    middle = holes.select(holes.column == "warmth").quantiles(0.5)
    np.testing.assert_allclose(marks[-1], np.stack([[10, 11, 12], middle], 1))
    assert [t.get_text() for t in panels[2].get_yticklabels()] == ["clear", "cloud", "rain"]


def test_several_chains_have_their_own_panels(weather, quick):
    table = weather.select(["warmth", "wind"])
    fit = quick(table, "factorial_hidden_markov", states=2, chains=2)
    panels = plots.decoded(fit, table, sequence=1, columns=["wind"])
    assert [panel.get_ylabel() for panel in panels] == ["wind", "p(z0)", "p(z1)"]
    assert panels[0].get_xlim() == (-0.5, 29.5)


def test_forecast_goes_on_from_the_past(markov, earthquakes):
    (axes,) = plots.forecast(markov, earthquakes, 5, first=1900, draws=50)
    axes.figure.canvas.draw()
    past, ahead, edge = axes.lines
    assert past.get_xdata()[-1] == 2006
    assert ahead.get_xdata().tolist() == [2007, 2008, 2009, 2010, 2011]
    np.testing.assert_allclose(ahead.get_ydata(), markov.forecast(earthquakes, 5, draws=50).mean)
    assert edge.get_xdata()[0] == 2006.5
    assert len(axes.collections) == 2
    assert axes.get_xlim() == (1899.5, 2011.5)


def test_forecasts_of_all_kinds_into_given_axes(weather, quick):
    fit = quick(weather, states=2)
    given = Figure().subplots(3, 1)
    assert plots.forecast(fit, weather, 1, sequence=1, draws=20, axes=given) == list(given)
    given[0].figure.canvas.draw()
    with pytest.raises(pg.CapabilityError, match="3 axes are needed"):
        plots.forecast(fit, weather, 4, axes=given[:2])


def test_what_cannot_be_drawn_is_refused(markov, earthquakes, mixture, mixed):
    with pytest.raises(pg.CapabilityError, match="no chain 0"):
        plots.transition_diagram(mixture)
    with pytest.raises(pg.CapabilityError, match="no sequence 3"):
        plots.decoded(markov, earthquakes, sequence=3)
    with pytest.raises(pg.CapabilityError, match="needs sequences"):
        plots.forecast(mixture, mixed, 3)
    with pytest.raises(pg.SchemaError, match="no column 'nothing'"):
        plots.decoded(markov, earthquakes, columns=["nothing"])


def test_arrows_have_the_colour_of_the_state_they_leave(earthquakes, axes, quick):
    plots.transition_diagram(quick(earthquakes, states=2), axes=axes)
    from matplotlib.colors import to_hex

    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    assert {to_hex(arrow.get_edgecolor()) for arrow in arrows} == set(CYCLE[:2])
