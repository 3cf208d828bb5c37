"""Figures of components show the fit, in the data's own units."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import probgen as pg
from probgen import plots
from probgen.plots.components import apart, edges_of
from probgen.plots.style import CYCLE, colours
from probgen.queries.components import components, responsibilities

NUMBERS = ("x", "weight", "visits", "spent", "day")


@pytest.fixture
def axes():
    return Figure().subplots()


def far(fit):
    """The component of the few rows near 100."""
    return int(components(fit)[0].moments("x")[0].argmax())


@pytest.mark.parametrize("name", ["mixture", "classes"])
def test_moments_are_those_of_the_data(name, request, mixed):
    fit = request.getfixturevalue(name)
    found, k = components(fit)[0], far(fit)
    rows = mixed.values[:, 0] > 60
    assert found.weight[k] == pytest.approx(0.3, abs=0.05)
    for column in ("x", "weight", "visits", "day"):
        cells = mixed.values[rows, mixed.schema.index(column)]
        mean, sd = found.moments(column)
        assert mean[k] == pytest.approx(cells.mean(), rel=0.06), column
        assert sd[k] == pytest.approx(cells.std(), rel=0.25), column


@pytest.mark.parametrize("name", ["mixture", "classes"])
@pytest.mark.parametrize("column", NUMBERS)
def test_densities_integrate_to_one(name, column, request, mixed):
    found = components(request.getfixturevalue(name))[0]
    if column == "visits":
        assert found.density(column, np.arange(200.0)).sum(1) == pytest.approx(1.0, abs=1e-6)
        return
    mean, sd = found.moments(column)
    low = 1e-6 if column in ("weight", "spent") else (mean - 12 * sd).min()
    grid = np.concatenate([np.geomspace(1e-6, 1e-2, 200), np.linspace(1e-2, (mean + 40 * sd).max(), 200_001)])
    grid = grid if low > 0 else np.linspace(low, (mean + 12 * sd).max(), 200_001)
    whole = np.trapezoid(found.density(column, grid), grid, axis=1)
    zero = found.density(column, np.zeros(1))[:, 0] if column == "spent" else 0.0
    assert whole + zero == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("name", ["mixture", "classes"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_contours_hold_their_share_of_what_a_component_draws(name, share, request):
    """Also where a column is read through its logarithm."""
    from matplotlib.path import Path

    fit = request.getfixturevalue(name)
    drawn = fit.sample(6000, seed=0)
    rows = drawn.values[:, 0] > 60
    points = drawn.values[rows][:, [0, 1]]
    line = components(fit)[0].ellipses("x", "weight", share)[far(fit)]
    inside = Path(line.T).contains_points(points).mean()
    assert inside == pytest.approx(share, abs=0.03)


def test_responsibilities_are_the_embedding(mixture, mixed, markov, earthquakes):
    for fit, table in ((mixture, mixed), (markov, earthquakes)):
        found = responsibilities(fit, table, components(fit)[0].index)
        np.testing.assert_allclose(found, fit.embed(table), atol=1e-12)


def test_a_pair_has_two_contours_a_component_and_a_label(mixture, mixed, axes):
    assert plots.components(mixture, mixed, "x", "weight", axes) is axes
    axes.figure.canvas.draw()
    assert len(axes.lines) == 4
    assert [text.get_text() for text in axes.texts] == ["0", "1"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "weight")
    points = np.asarray(axes.collections[0].get_offsets())
    assert len(points) == 393  # rows with both cells known
    shade = to_hex(axes.collections[0].get_facecolors()[np.argmax(points[:, 0])])
    assert shade == CYCLE[far(mixture)]


def test_the_widest_pair_is_chosen(mixture, mixed, axes):
    plots.components(mixture, mixed, axes=axes)
    found = components(mixture)[0]
    widest = sorted(NUMBERS, key=found.separation, reverse=True)[:2]
    assert [axes.get_xlabel(), axes.get_ylabel()] == widest
    assert "x" in widest


@pytest.mark.parametrize("y", ["visits", "spent", "day"])
def test_pairs_of_every_kind_are_drawn(classes, mixed, axes, y):
    plots.components(classes, mixed, "weight", y, axes)
    axes.figure.canvas.draw()
    if y != "day":
        assert min(line.get_ydata().min() for line in axes.lines) >= 0


@pytest.mark.parametrize("column", NUMBERS)
def test_one_column_is_its_densities(classes, mixed, axes, column):
    plots.components(classes, mixed, column, axes=axes)
    axes.figure.canvas.draw()
    assert len(axes.lines) == 3  # two components and their sum
    total, *parts = (line.get_ydata() for line in axes.lines)
    np.testing.assert_allclose(total, np.sum(parts, 0))
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[0] == "all together"
    assert labels[1].startswith("component 0")


def test_bars_hold_all_rows(classes, mixed, axes):
    plots.components(classes, mixed, "x", axes=axes)
    assert sum(bar.get_width() * bar.get_height() for bar in axes.patches) == pytest.approx(1.0)


def test_levels_are_the_probabilities(classes, axes):
    plots.component_levels(classes, axes=axes)
    axes.figure.canvas.draw()
    assert [t.get_text() for t in axes.get_yticklabels()] == ["kind = a", "b", "c", "smoker = yes"]
    share = components(classes)[0].levels("kind")
    np.testing.assert_allclose(share.sum(1), 1.0)
    shown = [int(t.get_text()) for t in axes.texts[:6]]
    assert shown == np.round(100 * share.T).astype(int).ravel().tolist()


def test_a_discrete_column_and_a_discrete_table_are_levels(classes, mixed, axes, quick):
    plots.components(classes, mixed, "kind", axes=axes)
    assert len(axes.get_yticks()) == 3
    table = mixed.select(["kind", "smoker"])
    fit = quick(table, "latent_class", components=2)
    assert plots.components(fit, table).get_title(loc="left") == "Levels by component"


def test_a_known_class_gives_its_levels_as_labels(mixed, axes):
    fit = pg.fit("naive_bayes", mixed, target="kind", seed=0, progress=False)
    found = components(fit)[0]
    assert (found.title, found.labels) == ("kind", ("a", "b", "c"))
    assert "kind" not in found.names
    plots.components(fit, mixed, "x", axes=axes)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [label.split()[0] for label in labels[1:]] == ["a", "b", "c"]


def test_states_that_are_mixtures_have_one_row_for_each_part(earthquakes, quick):
    fit = quick(earthquakes, states=2, mixture=2)
    found = components(fit)[0]
    assert found.labels == ("0,0", "0,1", "1,0", "1,1")
    assert found.weight.sum() == pytest.approx(1.0)
    embedded = fit.embed(earthquakes)
    joint = responsibilities(fit, earthquakes, found.index).reshape(-1, 2, 2)
    sides = {tuple(np.round(side.sum(0), 9)) for side in (embedded[:, :2], embedded[:, 2:])}
    assert {tuple(np.round(joint.sum((0, axis)), 9)) for axis in (1, 2)} == sides


def test_what_cannot_be_drawn_is_refused(mixture, mixed, axes):
    with pytest.raises(pg.CapabilityError, match="'kind' is categorical"):
        plots.components(mixture, mixed, "x", "kind", axes)
    with pytest.raises(pg.CapabilityError, match="does not depend on the component"):
        plots.components(mixture, mixed, "nothing", "x", axes)
    vae = pg.fit("vae", mixed, max_steps=1, seed=0, progress=False)
    with pytest.raises(pg.CapabilityError, match="no components to draw"):
        plots.components(vae, mixed)


def test_labels_are_moved_apart():
    limits = np.array([[0.0, 1.0], [0.0, 10.0]])
    places = apart(np.array([[0.5, 5.0], [0.5, 5.0], [0.51, 5.0], [0.9, 1.0]]), limits)
    scaled = places / [1.0, 10.0]
    gaps = np.linalg.norm(scaled[:, None] - scaled[None], axis=-1) + np.eye(4)
    assert gaps.min() > 0.054
    np.testing.assert_array_equal(places[3], [0.9, 1.0])


@pytest.mark.parametrize(
    "data", [np.arange(200.0), np.array([0.5, 1.5, 4.0]), np.random.default_rng(0).gamma(1, size=90)]
)
def test_edges_hold_all_values_in_equal_bins(data):
    edges = edges_of(data)
    assert edges[0] <= data.min()
    assert edges[-1] >= data.max()
    assert np.histogram(data, edges)[0].sum() == len(data)
    assert len(edges) < 40
    assert np.ptp(np.diff(edges)[1:]) < 1e-9


def test_more_colours_than_the_cycle_are_lighter_ones():
    many = colours(2 * len(CYCLE) + 3)
    assert many[: len(CYCLE)] == list(CYCLE)
    assert len(set(many)) == len(many)
