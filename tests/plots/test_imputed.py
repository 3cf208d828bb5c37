"""Figures of imputations show the numbers that they are made of."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import probgen as pg
from probgen import plots
from probgen.data import Table
from probgen.errors import DataError
from probgen.studies.imputed_values import agreement, chain_series, growth, imputed_columns
from probgen.studies.multiple_imputation import Imputations
from probgen.studies.propensity import fitted_probabilities, propensity


def panels(n):
    return list(Figure(figsize=(3 * n, 3)).subplots(1, n, squeeze=False)[0])


def made(table, draw, m=4, seed=0):
    """Imputations whose unknown cells ``draw(rng, name, rows)`` gives, without any model."""
    rng, tables = np.random.default_rng(seed), []
    for _ in range(m):
        values = table.values.copy()
        for place, name in enumerate(table.names):
            rows = np.flatnonzero(np.isnan(values[:, place]))
            values[rows, place] = draw(rng, name, rows)
        tables.append(table.with_values(values))
    return Imputations(table, tuple(tables), (), "bootstrap", 0)


@pytest.fixture(scope="module")
def mixed():
    rng = np.random.default_rng(1)
    n = 200
    columns = {
        "x": rng.normal(size=n),
        "visits": rng.poisson(3, n).astype(float),
        "spent": np.where(rng.random(n) < 0.5, 0.0, np.exp(rng.normal(size=n))),
        "kind": np.array(["a", "b", "c"], dtype=object)[rng.integers(3, size=n)],
        "day": np.datetime64("2020-01-01") + rng.integers(0, 500, n).astype("timedelta64[D]"),
    }
    for name in columns:
        holes = rng.random(n) < 0.2
        columns[name] = [None if hole else value for hole, value in zip(holes, columns[name], strict=True)]
    columns["whole"] = rng.normal(size=n)
    table = Table(columns)

    def draw(rng, name, rows):
        known = table.values[table.known[:, table.schema.index(name)], table.schema.index(name)]
        return rng.choice(known, len(rows))

    return made(table, draw)


# ------------------------------------------------------------------------------------------------------------- what is missing
def test_patterns_are_those_of_md_pattern(data_sets):
    """R: md.pattern(nhanes2) of mice 3.15: 13, 3, 1, 1 and 7 rows lack 0, 1, 1, 2 and 3 columns; the commonest are first here."""
    table = pg.read_table(data_sets / "tabular" / "mice_nhanes2.csv")
    axes = plots.missing_patterns(table, panels(1)[0], most=40)
    found = [text.get_text() for text in axes.texts]
    assert sorted(found[:5], key=int, reverse=True) == found[:5] == ["13", "7", "3", "1", "1"]
    assert found[5:] == ["0", "3", "1", "1", "2"]
    assert [t.get_text().split() for t in axes.get_xticklabels()] == [
        ["age", "0"],
        ["hyp", "8"],
        ["bmi", "9"],
        ["chl", "10"],
    ]


def test_flux_is_that_of_mice(data_sets):
    """R: flux(nhanes2)[, c("influx", "outflux")] of mice 3.15."""
    table = pg.read_table(data_sets / "tabular" / "mice_nhanes2.csv")
    axes = plots.flux(table, panels(1)[0])
    points = dict(zip(table.names, axes.collections[0].get_offsets().tolist(), strict=True))
    mice = {
        "age": (0, 1),
        "bmi": (0.164383562, 0.111111111),
        "hyp": (0.123287671, 0.148148148),
        "chl": (0.219178082, 0.111111111),
    }
    for name, wanted in mice.items():
        np.testing.assert_allclose(points[name], wanted, atol=5e-7)
    told = " ".join(text.get_text() for text in axes.texts)
    assert all(name in told for name in table.names)


def test_a_complete_table_has_no_flux():
    with pytest.raises(DataError, match="no holes"):
        plots.flux(Table({"a": [1.0, 2.0], "b": [3.0, 4.0]}))


def test_forty_columns_are_labelled_without_overlap():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 40))
    values[rng.random(values.shape) < np.linspace(0, 0.6, 40)] = np.nan
    table = Table({f"column_{i}": values[:, i] for i in range(40)})
    axes = Figure(figsize=(6, 5)).subplots()
    plots.flux(table, axes)
    axes.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the lines that lead to them
    meeting = sum(one.overlaps(other) for at, one in enumerate(boxes) for other in boxes[:at])
    assert len(boxes) <= 22
    assert meeting <= 2
    axes = Figure().subplots()
    plots.missing_patterns(table, axes, most=40)
    assert len(axes.texts) == 80


# ------------------------------------------------------------------------------------------------------------ what was imputed
@pytest.mark.parametrize("name", ["x", "visits", "spent", "kind", "day"])
def test_every_kind_of_column_is_drawn(mixed, name):
    one, other = panels(2)
    assert plots.imputed_strip(mixed, name, one) is one
    assert plots.imputed_density(mixed, name, other) is other
    one.figure.draw_without_rendering()
    assert len(one.collections) == 1 + mixed.m
    unknown = ~mixed.table.known[:, mixed.table.schema.index(name)]
    assert len(one.collections[1].get_offsets()) == unknown.sum()


def test_shares_are_bars_and_intervals(mixed):
    axes = plots.imputed_density(mixed, "kind", panels(1)[0])
    place = mixed.table.schema.index("kind")
    known = mixed.table.known[:, place]
    codes = mixed.table.values[known, place]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([(codes == k).mean() for k in range(3)])
    drawn = np.mean([[(t.values[~known, place] == k).mean() for k in range(3)] for t in mixed.tables], 0)
    np.testing.assert_allclose(axes.collections[-1].get_offsets()[:, 1], drawn)


@pytest.mark.parametrize(
    ("x", "y", "number"), [("x", "visits", None), ("kind", "x", 2), ("day", "kind", 1), ("whole", "x", 1)]
)
def test_pairs(mixed, x, y, number):
    axes = plots.imputed_pair(mixed, x, y, number, panels(1)[0])
    axes.figure.draw_without_rendering()
    holes = (~mixed.table.known[:, [mixed.table.schema.index(x), mixed.table.schema.index(y)]]).any(1).sum()
    assert len(axes.collections[1].get_offsets()) == min(holes, 800) * (mixed.m if number is None else 1)


def test_what_cannot_be_drawn(mixed):
    with pytest.raises(DataError, match="no unknown cells"):
        plots.imputed_density(mixed, "whole")
    with pytest.raises(DataError, match="between 1 and 4"):
        plots.imputed_pair(mixed, "x", "whole", 5)
    with pytest.raises(DataError, match="no series"):
        plots.chain_traces({})
    with pytest.raises(DataError, match="shape"):
        plots.chain_traces({"a": np.zeros(5)})


def test_values_outside_are_counted():
    table = Table({"x": [1.0, 2.0, 3.0, np.nan, np.nan], "y": [1.0, 2.0, 3.0, 4.0, 5.0]})
    (record, whole) = imputed_columns(table, made(table, lambda rng, name, rows: [9.0, 2.5][: len(rows)]).tables)
    assert (record["outside"], record["known_mean"], record["imputed_mean"]) == (1.0, 2.0, 5.75)
    assert "outside" not in whole


# ---------------------------------------------------------------------------------------------------------- has it settled?
def test_numbers_settle_as_pool_says():
    rng = np.random.default_rng(2)
    analyses = [(value, 0.5) for value in rng.normal(size=12)]
    pooled = pg.pool(analyses, complete_df=40, names=["slope"])
    found = growth(pooled, "slope")
    first = pg.pool(analyses[:5], complete_df=40)
    at = list(found["m"]).index(5)
    assert found["estimate"][at] == pytest.approx(first.estimate[0])
    assert found["standard_error"][at] == pytest.approx(first.standard_error[0])
    assert found["fmi"][at] == pytest.approx(first.fmi[0])
    assert found["estimate_error"][at] == pytest.approx(first.monte_carlo_error().estimate[0])
    axes = plots.settling(pooled, "slope", panels(3))
    np.testing.assert_allclose(axes[0].lines[0].get_ydata(), found["estimate"])
    with pytest.raises(pg.CapabilityError, match="at least 3"):
        growth(pg.pool(analyses[:2], complete_df=40), "1")


def test_traces_show_every_chain_and_its_rhat():
    rng = np.random.default_rng(3)
    series = {"mean of x": rng.normal(size=(40, 5)), "sd of x": rng.normal(size=(40, 5)) + 3 * np.arange(5)}
    axes = plots.chain_traces(series, panels(2))
    assert [len(panel.lines) for panel in axes] == [5, 5]
    same, other = (agreement(series[name], 2) for name in ("mean of x", "sd of x"))
    assert same.rhat < same.limit < 2 < other.rhat
    assert f"{other.rhat:.3f}" in axes[1].get_xlabel()


def test_chains_are_found_in_what_they_kept_and_in_draws():
    x = np.random.default_rng(4).normal(size=40)
    holed = {"x": x, "y": np.where(np.arange(40) < 12, np.nan, x + np.random.default_rng(5).normal(size=40))}
    options = {"components": 1, "progress": False}
    found = pg.impute(holed, "gaussian_mixture", m=2, uncertainty="posterior", chains=2, draws=20, warmup=5, **options)
    series = chain_series(found)
    assert {name: values.shape for name, values in series.items()} == {"mean of y": (20, 2), "sd of y": (20, 2)}
    plain = pg.impute(holed, "gaussian_mixture", m=2, **options)
    assert chain_series(plain) == {}
    plain.fits[0].diagnostics["traces"] = {"mean of y": (np.ones((6, 2))).tolist()}
    assert chain_series(plain)["mean of y"].shape == (6, 2)


# -------------------------------------------------------------------------------------------------------------- propensity
def test_the_logistic_regression_is_that_of_statsmodels():
    import statsmodels.api as sm

    rng = np.random.default_rng(6)
    x = rng.normal(size=(300, 3))
    y = rng.random(300) < 1 / (1 + np.exp(-(0.5 + x @ [1.0, -2.0, 0.0])))
    wanted = sm.Logit(y.astype(float), sm.add_constant(x)).fit(disp=0).predict()
    np.testing.assert_allclose(fitted_probabilities(x, y, 0.0), wanted, atol=1e-6)
    assert np.isfinite(fitted_probabilities(x, x[:, 0] > 0, 1.0)).all()  # separated


@pytest.fixture(scope="module")
def missing_at_random():
    """y = x + noise, missing the likelier the larger x."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=1500)
    y = x + rng.normal(size=1500)
    y[rng.random(1500) < 1 / (1 + np.exp(-1.5 * x))] = np.nan
    return Table({"x": x, "y": y, "z": rng.normal(size=1500)})


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.0, None)])
def test_like_is_compared_with_like(missing_at_random, slope, shift):
    """Right imputations have no shift at equal propensity though they lie higher; draws from the known cells have one."""
    table = missing_at_random
    centre = 0.0 if slope else np.nanmean(table.values[:, 1])

    def draw(rng, name, rows):
        return centre + slope * table.values[rows, 0] + rng.normal(size=len(rows)) * (1 if slope else 1.3)

    imputed = made(table, draw, m=5)
    found = propensity(table, imputed.tables, "y")
    record = imputed_columns(table, imputed.tables)[1]
    if shift is None:
        assert found.shift < -0.3
        assert abs(found.shift) > 4 * found.shift_error
    else:
        assert record["distance"] > 0.5
        assert abs(found.shift) < max(0.12, 3 * found.shift_error)
    axes = plots.propensity_plot(imputed, "y", panels(2))
    axes[0].figure.draw_without_rendering()
    assert axes[1].get_title(loc="left") == "at equal propensity"


def test_shares_at_equal_propensity():
    """Labels missing with a known probability: known cells that count by their odds have the shares of the missing ones."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=6000)
    label = (rng.random(6000) < 1 / (1 + np.exp(-2 * x))).astype(float)
    gone = rng.random(6000) < 1 / (1 + np.exp(-x))
    names = np.array(["no", "yes"], dtype=object)[label.astype(int)]
    table = Table({"x": x, "label": np.where(gone, None, names)})
    truth = table.with_values(np.column_stack([x, label]))
    own, drawn = propensity(table, [truth, truth], "label").shares(2)
    np.testing.assert_allclose(own, drawn.mean(0), atol=0.03)
    assert abs(label[~gone].mean() - label[gone].mean()) > 0.2
    plots.propensity_plot(Imputations(table, (truth, truth), (), "bootstrap", 0), "label", panels(2))


def test_a_column_without_holes_has_no_propensity(mixed):
    with pytest.raises(DataError, match="known and cells that were imputed"):
        propensity(mixed.table, mixed.tables, "whole")


# ------------------------------------------------------------------------------------------------------------ hidden cells
@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(9)
    x = rng.normal(size=120)
    label = np.where(rng.random(120) < 1 / (1 + np.exp(-2 * x)), "yes", "no").astype(object)
    table = Table({"x": x, "y": x + rng.normal(size=120), "label": label})
    return pg.overimpute(table, "gaussian_mixture", components=1, share=0.5, m=19, progress=False)


def test_figures_of_hidden_cells(found):
    axes = panels(5)
    plots.overimputation(found, "y", axes[0])
    plots.overimputation(found, "label", axes[1])
    plots.pit_histogram(found, "y", axes[2])
    plots.pit_line(found, "y", axes[3])
    axes[0].figure.draw_without_rendering()
    points = axes[0].collections[1].get_offsets()
    assert sorted(points[:, 0]) == pytest.approx(sorted(found.truth("y")))
    assert sum(bar.get_height() for bar in axes[2].patches if bar.get_width() < 1) == found.chosen("y").sum()
    assert "Brier" in axes[1].get_xlabel()
    scores = [
        {"model": "a", "difference": 0.0, "difference_se": 0.0},
        {"model": "b", "difference": 0.1, "difference_se": 0.2},
    ]
    assert plots.imputation_scores(scores, axes[4]).get_yticklabels()[1].get_text() == "b"
