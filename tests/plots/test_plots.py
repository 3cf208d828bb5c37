"""Figures draw into the axes they are given, and show what they say."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from probgen import plots
from probgen.data.table import Table
from probgen.plots.style import CYCLE


@pytest.fixture
def axes():
    return Figure().subplots()


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    days = np.datetime64("2020-01-01") + np.arange(60).astype("timedelta64[D]")
    x = rng.normal(size=60)
    x[:5] = np.nan
    labels = np.array(["u", "v"], dtype=object)[rng.integers(2, size=60)]
    return Table({"x": x, "n": rng.poisson(3, 60), "label": labels, "day": days})


@pytest.mark.parametrize("name", ["x", "n", "label", "day"])
def test_every_kind_of_column_is_drawn(table, axes, name):
    assert plots.column_against(table, table, name, axes) is axes
    axes.figure.canvas.draw()
    assert axes.get_title(loc="left") == name


@pytest.mark.parametrize(("x", "y"), [("x", "n"), ("label", "x"), ("day", "label")])
def test_every_kind_of_pair_is_drawn(table, axes, x, y):
    assert plots.pair_against(table, table, x, y, axes) is axes
    axes.figure.canvas.draw()


def test_drawing_leaves_the_table_alone(table, axes):
    before = table.fingerprint()
    plots.pair_against(table, table, "label", "x", axes)
    assert table.fingerprint() == before


def test_unknown_shares_are_the_bars(table, axes):
    plots.missing_shares(table, axes)
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([5 / 60, 0, 0, 0])


def test_patterns_count_their_rows(table, axes):
    plots.missing_patterns(table, axes)
    assert [t.get_text() for t in axes.texts][:2] == ["55", "5"]


def test_a_difference_within_noise_is_hollow(axes):
    scores = [
        {"model": "a", "difference": 0.0, "difference_se": 0.0},
        {"model": "b", "difference": -0.1, "difference_se": 0.2},
        {"model": "c", "difference": -1.0, "difference_se": 0.2},
        {"model": "d", "difference": -np.inf, "difference_se": np.nan},
    ]
    plots.density_differences(scores, axes)
    filled = [tuple(c.get_facecolor()[0]) == mpl.colors.to_rgba(CYCLE[0]) for c in axes.collections]
    assert filled == [True, False, True]


def test_rows_that_are_impossible_do_not_break_the_spread(axes):
    rows = np.random.default_rng(0).normal(size=(2, 50))
    rows[1, 3] = -np.inf
    plots.density_rows(rows, ["a", "b"], axes)
    axes.figure.canvas.draw()


def test_losses_leave_out_columns_without_them(axes):
    records = [
        {"model": m, "column": c, **({"crps": 0.5} if c == "x" else {"log_loss": 0.5})}
        for m in ("base", "m")
        for c in ("x", "label")
    ]
    plots.imputation_columns(records, ["m"], "base", "crps", axes)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["x"]


def test_embedding_of_labels_numbers_and_nothing():
    points = np.random.default_rng(0).normal(size=(40, 2))
    for labels in (None, np.arange(40.0), np.array(["a", None] * 20, dtype=object)):
        axes = Figure().subplots()
        assert plots.embedding_plane(points, labels, axes) is axes
        axes.figure.canvas.draw()


def test_many_classes_are_not_many_colours(axes):
    labels = np.array([f"class {i % 20}" for i in range(200)], dtype=object)
    plots.embedding_plane(np.random.default_rng(0).normal(size=(200, 2)), labels, axes)
    assert len(axes.collections) == len(CYCLE) + 1


@pytest.mark.parametrize("values", [[-1.0, -0.5], [np.nan, -1.0, -0.5], np.linspace(-900, -1, 500).tolist()])
def test_training_curves(axes, values):
    plots.training_curve(values, axes)
    axes.figure.canvas.draw()


def test_confusion_and_reliability(axes):
    plots.confusion_matrix(np.array([[5, 1], [0, 4]]), ["no", "yes"], axes)
    assert [t.get_text() for t in axes.texts] == ["5", "1", "0", "4"]
    bins = [{"confidence": 0.7, "accuracy": 0.6, "count": 10}, {"confidence": 0.9, "accuracy": 1.0, "count": 2}]
    assert plots.reliability_curve({"m": bins}, Figure().subplots())


def test_the_houses_settings_are_handed_back():
    before = dict(mpl.rcParams)
    with plots.house():
        pass
    assert dict(mpl.rcParams) == before


def test_new_axes_where_none_are_given(table):
    mpl.use("Agg")
    from matplotlib import pyplot

    made = plots.missing_shares(table)
    assert made.figure is not None
    pyplot.close("all")
