"""Chained equations beside NUTS on the same program, closed forms, and what their users rely on."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro.infer.reparam import LocScaleReparam

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.data.batches import Batch, Batches
from probgen.families.shrinkage import CONSTANT, WIDE

QUICK = {"progress": False}
KINDS = {
    "real": Column("y", "real"),
    "binary": Column("y", "binary", levels=("no", "yes")),
    "ordinal": Column("y", "ordinal", levels=(1, 2, 3)),
    "count": Column("y", "count"),
}


def related(kind, rows=80, seed=3):
    """A column that depends on another one, and that one."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    y = {
        "real": 0.8 * x + rng.normal(size=rows),
        "binary": (rng.random(rows) < 1 / (1 + np.exp(-1.2 * x))).astype(float),
        "ordinal": np.digitize(x + rng.logistic(size=rows), [-1, 1]).astype(float),
        "count": rng.poisson(np.exp(0.5 + 0.5 * x)).astype(float),
    }[kind]
    return Table.from_codes(np.column_stack([y, x]), Schema((KINDS[kind], Column("x", "real"))))


def only_y(fit, data):
    """The part of the program that states y given x."""
    columns, batch = fit.program.columns, Batch(data["x"], fit.schema)
    regression = columns.draw("y")
    with batch.rows():
        pyro.sample("y", regression(columns.features(batch.x)), obs=batch.column("y"))


def drawn_by_nuts(fit, batch, name):
    """Slopes ``(draws, P)`` of the same program, in units of their scales: in their own, NUTS turns back in the horseshoe's funnel."""
    program = pyro.poutine.reparam(partial(only_y, fit), config={name: LocScaleReparam(0.0)})
    found = pg.fit(
        pg.program(program), {"x": batch.x}, method="nuts", chains=4, draws=500, warmup=500,
        target_acceptance=0.95, seed=2, **QUICK,
    )  # fmt: skip
    part = name.removesuffix(".slopes")
    sites = {key: site.flatten(0, 1).numpy() for key, site in found.posterior.sites.items()}
    known = fit.posterior.sites[name].shape[-1] - 2  # constants; then x and its square
    mains = np.full((len(sites[f"{part}.local"]), 1), WIDE)
    products = sites[f"{part}.product_scale"] * sites[f"{part}.local"]
    scales = np.concatenate([np.full((len(mains), known), CONSTANT), mains, products], 1)
    return sites[f"{name}_decentered"] * scales, found.diagnose().numbers["ess_bulk"].min()


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize("kind", list(KINDS))
def test_parameters_are_those_that_nuts_draws_from_the_same_program(kind):
    table = related(kind)
    fit = pg.fit("chained_equations", table, draws=600, sweeps=40, seed=1, **QUICK)
    batch = next(iter(fit.batches(table, 1000).pieces()))
    (name,) = [name for name in fit.posterior.sites if name.startswith("y.") and name.endswith(".slopes")]
    theirs, size = drawn_by_nuts(fit, batch, name)
    ours = fit.posterior.sites[name][0].numpy()
    error = np.sqrt(ours.var(0) / len(ours) + theirs.var(0) / size)
    assert np.abs((ours.mean(0) - theirs.mean(0)) / error).max() < 4.5
    assert ours.std(0) == pytest.approx(theirs.std(0), rel=0.2)


def test_a_cell_given_the_rest_is_drawn_from_the_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    table = pg.Table({"x": x, "y": 2 * x + rng.normal(size=4000)})
    fit = pg.fit("chained_equations", table, draws=20, **QUICK)
    drawn = np.array([t.values[:, 1] for t in fit.fill({"x": np.linspace(-1, 1, 3), "y": [np.nan] * 3}, 4000)])
    assert drawn.mean(0) == pytest.approx(2 * np.linspace(-1, 1, 3), abs=0.1)
    assert drawn.std(0) == pytest.approx(1.0, abs=0.06)


def test_the_number_of_chains_does_not_change_a_chain(monkeypatch):
    table = related("real").hide()
    values = table.values.copy()
    values[::3, 0] = np.nan
    table = table.with_values(values)
    many, few = (pg.fit("chained_equations", table, draws=draws, **QUICK) for draws in (7, 3))
    for name, value in few.posterior.sites.items():
        torch.testing.assert_close(many.posterior.sites[name][:, :3], value, rtol=1e-9, atol=1e-9)
    monkeypatch.setattr("probgen.inference.conditionals.MOST_NUMBERS", 3000)  # a few chains at a time
    grouped = pg.fit("chained_equations", table, draws=7, **QUICK)
    for name, value in many.posterior.sites.items():
        torch.testing.assert_close(grouped.posterior.sites[name], value, rtol=1e-9, atol=1e-9)


def test_an_interrupted_fit_goes_on_to_the_same_draws(tmp_path):
    class Interruption(Exception):
        pass

    def stop(step, values, method):
        if step == 20:
            raise KeyboardInterrupt

    values = related("real").values.copy()
    values[::3, 0] = np.nan
    table = related("real").with_values(values)
    options = {"draws": 4, "sweeps": 30, "checkpoint": tmp_path / "state", "checkpoint_seconds": 0.0, **QUICK}
    whole = pg.fit("chained_equations", table, **{**options, "checkpoint": None})
    with pytest.warns(pg.ConvergenceWarning, match="Interrupted"):
        cut = pg.fit("chained_equations", table, callback=stop, **options)
    assert (cut.diagnostics["interrupted"], cut.diagnostics["converged"], len(cut.posterior)) == (True, False, 4)
    resumed = pg.fit("chained_equations", table, **options)
    for name, value in whole.posterior.sites.items():
        torch.testing.assert_close(resumed.posterior.sites[name], value)


def test_products_are_found_where_there_are_any():
    rng = np.random.default_rng(1)
    a, b, c = rng.normal(size=(3, 400))
    table = pg.Table({"a": a, "b": b, "c": c, "y": a * b + 0.5 * rng.normal(size=400)})
    fit = pg.fit("chained_equations", table, draws=10, **QUICK)
    columns = fit.program.columns
    slopes = fit.posterior.sites["y.value.slopes"][0].mean(0).abs()
    pairs = list(zip(*(p.tolist() for p in columns.pairs[3]), strict=True))
    strongest = int(slopes[4:].argmax())
    assert pairs[strongest] == (0, 1)
    assert slopes[4:].sort().values[-2] < 0.15 * slopes[4:].max()
    none = pg.fit("chained_equations", table, products="none", draws=5, **QUICK)
    assert none.posterior.sites["y.value.slopes"].shape[-1] == 4


def test_many_columns_keep_the_products_that_are_noticed():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 20))
    table = pg.Table({f"x{k}": x[:, k] for k in range(20)} | {"y": x[:, 0] * x[:, 1] + rng.normal(size=500)})
    fit = pg.fit("chained_equations", table, draws=2, sweeps=3, **QUICK)
    kept = fit.program.columns.pairs[20]
    assert len(kept[0]) <= 100
    assert (0, 1) in list(zip(kept[0].tolist(), kept[1].tolist(), strict=True))


def test_the_logarithm_is_read_where_regressions_say_so():
    rng = np.random.default_rng(4)
    x = rng.normal(size=300)
    size = np.exp(3 + x + 0.3 * rng.normal(size=300))
    schema = Schema((Column("x", "real"), Column("size", "real")))
    table = pg.Table(pd.DataFrame({"x": x, "size": size}), schema=schema)
    fit = pg.fit("chained_equations", table, draws=2, **QUICK)
    assert [bool(reading.response.logarithm) for reading in fit.program.columns.readings] == [False, True]
    told = pg.fit("chained_equations", table, draws=2, scales={"size": "identity"}, **QUICK)
    assert not told.program.columns.readings[1].response.logarithm
    assert (fit.sample(200).column("size") > 0).all()


def test_a_saved_fit_with_logarithms_fills_as_before(tmp_path):
    rng = np.random.default_rng(4)
    x = rng.normal(size=200)
    table = pg.Table({"x": x, "size": np.where(x > 1, np.nan, np.exp(3 + x))})
    fit = pg.fit("chained_equations", table, draws=3, **QUICK)
    fit.save(tmp_path / "f.probgen")
    again = pg.load(tmp_path / "f.probgen")
    for one, other in zip(fit.fill(table, 3), again.fill(table, 3), strict=True):
        np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"products": "some"}, "products must be"),
        ({"products": -1}, "products must be"),
        ({"scales": {"y": "cubic"}}, "scales\\['y'\\]"),
        ({"scales": {"z": "logarithm"}}, "no column 'z'"),
        ({"draws": 0}, "draws must be"),
        ({"sweeps": 1.5}, "sweeps must be"),
    ],
)
def test_bad_options_are_told(options, said):
    with pytest.raises(pg.ProbgenError, match=said):
        pg.fit("chained_equations", related("real"), **QUICK, **options)


def test_small_tables_with_more_columns_than_rows_work():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(15, 20)) + rng.normal(size=(15, 1))
    x[rng.random(x.shape) < 0.2] = np.nan
    imputed = pg.impute({f"x{k}": x[:, k] for k in range(20)}, m=3, **QUICK)
    assert all(np.isfinite(t.values).all() and np.abs(t.values).max() < 20 for t in imputed)


def test_few_sweeps_of_many_rows_end_with_all_of_them():
    """Early sweeps draw parameters from some rows; what is kept has the standard error of all."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=20_000)
    y = np.where(np.arange(20_000) % 4 == 0, np.nan, x + rng.normal(size=20_000))
    for sweeps in (1, 4):
        fit = pg.fit("chained_equations", {"x": x, "y": y}, draws=40, sweeps=sweeps, products=0, **QUICK)
        slopes = fit.posterior.sites["y.value.slopes"][0, :, 1]
        assert float(slopes.std()) == pytest.approx(1 / np.sqrt(15_000 * 2), rel=0.3)  # standardised by sqrt(2)


def test_weighted_rows_count_as_often_as_they_weigh():
    rng = np.random.default_rng(5)
    x = rng.normal(size=60)
    y = np.where(np.arange(60) < 30, x, -x) + 0.1 * rng.normal(size=60)
    weights = np.where(np.arange(60) < 30, 1.0, 0.0)
    table = pg.Table({"x": x, "y": y}).with_weights(weights)
    fit = pg.fit("chained_equations", table, draws=20, products="none", **QUICK)
    assert float(fit.posterior.sites["y.value.slopes"][0, :, 1].mean()) > 0.5


def test_tables_of_several_pieces_count_whole(monkeypatch):
    table = related("real", rows=60)
    whole = pg.fit("chained_equations", table, draws=2, **QUICK)
    monkeypatch.setattr("probgen.data.batches.PIECE_ROWS", 25)
    monkeypatch.setattr("probgen.data.batches.Batches.__init__.__kwdefaults__", {
        **Batches.__init__.__kwdefaults__, "rows": 25,
    })  # fmt: skip
    pieces = pg.fit("chained_equations", table, draws=2, **QUICK)
    for name, value in whole.posterior.sites.items():
        torch.testing.assert_close(pieces.posterior.sites[name], value)


def test_shifts_and_sweeps_of_shifts_go_with_the_default():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 60))
    table = {"a": np.where(c > 0.5, np.nan, a), "b": np.where(c > 0.3, np.nan, a + b), "c": c}
    imputed = pg.impute(table, m=3, **QUICK)
    moved = imputed.shifted({"a": 2.0})
    lost = np.isnan(table["a"])
    for before, after in zip(imputed, moved, strict=True):
        np.testing.assert_allclose(after.values[lost, 0] - before.values[lost, 0], 2.0)
    assert len(pg.sensitivity(imputed, "a", [-1.0, 1.0], "b ~ a").pooled) == 3


def test_what_does_not_go_together_is_told():
    x = np.random.default_rng(0).normal(size=40)
    table = {"x": np.where(x > 1, np.nan, x), "y": x + 1}
    design = pg.Design(bounds={"x": (-5, 5)})
    with pytest.raises(pg.CapabilityError, match="do not go together"):
        pg.impute(table, design=design, mechanism="self_masking", **QUICK)
    with pytest.raises(pg.CapabilityError, match="without a design"):
        pg.impute(table, m=2, design=design, **QUICK).shifted({"x": 1.0})


# ------------------------------------------------------------------------------------------------- what is drawn
def imputed_column(y, m=10, **columns):
    """Draws of a third of the cells, ``(m, H)``, and their fit."""
    hidden = np.arange(len(y)) % 3 == 0
    imputed = pg.impute({**columns, "y": np.where(hidden, np.nan, y)}, m=m, **QUICK)
    return np.stack([table.values[hidden, -1] for table in imputed]), imputed.fits[0]


def test_counts_are_drawn_as_what_they_look_like():
    rng = np.random.default_rng(4)
    a = rng.normal(size=300)
    form = lambda fit: int(fit.program.columns.readings[-1].form)  # noqa: E731
    drawn, fit = imputed_column(
        np.clip(np.round(3 + 0.8 * a + 0.5 * rng.normal(size=300)), 1, 5), a=a
    )  # answers from 1 to 5
    assert form(fit) > 0
    assert set(np.unique(drawn)) <= {1, 2, 3, 4, 5}
    score = np.round(60 + 10 * a + 5 * rng.normal(size=300))  # a Poisson of this mean would have a deviation of 7.7
    drawn, fit = imputed_column(score, a=a)
    assert form(fit) == 1
    assert (drawn - 60 - 10 * a[::3]).std() == pytest.approx(5.0, abs=0.6)
    drawn, fit = imputed_column(rng.negative_binomial(2, 2 / (2 + np.exp(1 + 0.5 * a))).astype(float), a=a)
    assert form(fit) == 0
    assert drawn.max() > 8


def test_skewed_counts_stay_where_they_were():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, 200))
    truth = rng.poisson(np.exp(1 + 1.5 * a + 0.7 * b)).astype(float)
    drawn, _ = imputed_column(truth, a=a, b=b)
    assert np.median(drawn) == pytest.approx(np.median(truth[::3]), abs=1.5)
    assert np.log1p(drawn).mean() == pytest.approx(np.log1p(truth[::3]).mean(), abs=0.15)


def test_fractions_may_be_none_or_all():
    rng = np.random.default_rng(6)
    a = rng.normal(size=400)
    y = np.clip(0.5 + 0.3 * (a + rng.normal(size=400)), 0, 1)
    drawn, fit = imputed_column(y, a=a)
    assert (fit.schema["y"].kind, drawn.min(), drawn.max()) == ("bounded", 0, 1)
    assert [(drawn == end).mean() for end in (0, 1)] == pytest.approx(
        [(y[::3] == end).mean() for end in (0, 1)], abs=0.06
    )


@pytest.mark.parametrize("likeness", [0.6, 0.95])
def test_columns_that_are_unknown_together_stay_related(likeness):
    rng = np.random.default_rng(7)
    x = np.sqrt(likeness) * rng.normal(size=(400, 1)) + np.sqrt(1 - likeness) * rng.normal(size=(400, 5))
    complete, hidden = rng.normal(size=400), np.arange(400) % 5 < 2
    y = np.where(hidden[:, None], np.nan, x)
    imputed = pg.impute({**{f"x{k}": y[:, k] for k in range(5)}, "z": complete}, m=10, **QUICK)
    expected = np.corrcoef(x[~hidden].T)[0, 1]
    for tables in (imputed, imputed.transform(imputed.table)):
        found = [np.corrcoef(table.values[hidden, 0], table.values[hidden, 1])[0, 1] for table in tables]
        spread = [table.values[hidden, 0].std() for table in tables]
        assert np.mean(found) == pytest.approx(expected, abs=0.08)
        assert np.mean(spread) == pytest.approx(x[~hidden, 0].std(), rel=0.15)


def test_columns_that_follow_from_each_other_are_told():
    """A third number computed from two others: where two of them are unknown, neither moves given the other."""
    rng = np.random.default_rng(0)
    weight, height = rng.normal(70, 8, 300), rng.normal(1.7, 0.08, 300)
    people = {"weight": weight, "height": height, "index": weight / height**2}
    apart = {name: np.where(np.arange(300) % 10 == at, np.nan, x) for at, (name, x) in enumerate(people.items())}
    assert not pg.impute(apart, m=2, **QUICK).fits[0].diagnostics["unsettled"]
    together = apart | {"index": np.where(np.isnan(apart["height"]), np.nan, people["index"])}
    with pytest.warns(pg.ConvergenceWarning, match="follow from each other almost exactly, and in 30 rows several"):
        pg.impute(together, m=2, sweeps=12, **QUICK)


def test_weights_say_how_rows_stand_to_each_other():
    table = related("real").with_values(
        np.where(np.arange(len(related("real")))[:, None] % 4 == 0, np.nan, related("real").values)
    )
    table = table.with_values(np.where(np.arange(2) == 1, related("real").values, table.values))
    weights = np.random.default_rng(0).exponential(size=len(table))
    one, other = (pg.impute(table.with_weights(weights * size), m=3, **QUICK) for size in (1.0, 1000.0))
    assert all(np.allclose(a.values, b.values) for a, b in zip(one, other, strict=True))


def test_a_column_that_is_known_only_in_rows_without_weight_is_named():
    table = related("real")
    values = np.where((np.arange(len(table)) < 20)[:, None] | (np.arange(2) == 0), table.values, np.nan)
    weights = (np.arange(len(table)) >= 20).astype(float)
    with pytest.raises(pg.FitError, match=repr(table.schema.names[1])):
        pg.impute(table.with_values(values).with_weights(weights), m=2, **QUICK)


def test_rows_to_come_may_lie_outside():
    rng = np.random.default_rng(8)
    x = np.exp(rng.normal(size=200))
    y = x * np.exp(0.1 * rng.normal(size=200))
    table = pg.Table({"x": x, "y": y}, Schema((Column("x", "real"), Column("y", "real"))))
    fit = pg.fit("chained_equations", table, scales={"x": "logarithm"}, draws=3, **QUICK)
    for table in fit.fill({"x": [-5.0, 0.0, 1e9], "y": [np.nan] * 3}, 3):
        assert np.isfinite(table.values).all()
        assert table.values[:, 1].max() < 100 * y.max()


def test_rows_with_a_known_cell_are_drawn_with_all_draws():
    rng = np.random.default_rng(9)
    x = rng.normal(size=30)
    fit = pg.fit("chained_equations", {"x": x, "y": x + rng.normal(size=30)}, draws=40, **QUICK)
    drawn = fit.sample(4000, given={"x": 2.0}).values
    assert drawn[:, 0] == pytest.approx(2.0)
    by_draw = np.array([drawn[at::40, 1].mean() for at in range(40)])  # rows take one draw after the other
    assert by_draw.std() > 1.5 / np.sqrt(100)


def test_arviz_gets_the_draws_and_nothing_that_needs_a_joint_distribution():
    fit = pg.fit("chained_equations", related("real"), draws=3, **QUICK)
    assert "y.value.slopes" in fit.to_arviz().posterior
    with pytest.raises(pg.CapabilityError, match="conditionals, not a joint"):
        fit.to_arviz(related("real"))
