"""What fills a table is decided before any work, and what contradicts itself is refused."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import probgen as pg
from probgen.errors import CapabilityError
from probgen.studies.worlds import drawn_weights, world_of

N = 60
RNG = np.random.default_rng(3)
X = RNG.normal(size=N)
PAIR = {"x": X, "y": np.where(np.arange(N) < 20, np.nan, X + RNG.normal(size=N))}
GAUSSIAN = {"model": "gaussian_mixture", "components": 1}


# ------------------------------------------------------------------------------------------------- contradictions
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"uncertainty": "ensemble"}, r"count twice. Use uncertainty='posterior'"),
        ({"uncertainty": "bootstrap"}, r"no method 'bootstrap' \(chained\); use uncertainty='posterior'"),
        ({"uncertainty": "laplace"}, r"no method 'laplace' \(chained\); use uncertainty='posterior'"),
        ({"draws": 3}, r"for each imputation, m=4; leave out draws=3, or say m=3"),
        ({"draws": 5, "uncertainty": "none"}, r"one estimate of the parameters; leave out draws=5"),
        ({"sweeps": 0}, r"sweeps must be .auto. or a whole number of at least 1, got 0"),
        ({**GAUSSIAN, "draws": 3}, r"for each imputation, m=4; leave out draws=3"),
        ({**GAUSSIAN, "method": "em"}, r"uncertainty='bootstrap' has a method of its own; leave out method='em'"),
        ({**GAUSSIAN, "uncertainty": "posterior", "method": "em"}, r"gives one estimate; leave it out, or name one of gibbs"),
        ({**GAUSSIAN, "uncertainty": "ensemble", "method": "gibbs"}, r"method='gibbs' draws parameters besides"),
        ({**GAUSSIAN, "uncertainty": "posterior", "draws": 1, "chains": 2}, r"draws=1 of 2 chains are fewer than m=4"),
        ({"model": "vae", "uncertainty": "posterior"}, r"no posterior to draw from .*; use uncertainty='ensemble'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("design", [None, pg.Design(bounds={"y": (-90, 90)})])
def test_contradictions_are_refused(options, said, design):
    with pytest.raises(CapabilityError, match=said):
        pg.impute(PAIR, m=4, progress=False, design=design, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"draws": 2, "sweeps": 3},
        {**GAUSSIAN, "draws": 2, "method": "bootstrap"},
        {**GAUSSIAN, "draws": 2, "design": pg.Design(censored={"y": (None, -1.5)}, rounds=1)},
    ],
)
def test_what_repeats_m_is_no_contradiction(options):
    found = pg.impute(PAIR, m=2, progress=False, **options)
    assert len(found) == 2
    assert not {"draws", "method"} & set(found.settings)


# -------------------------------------------------------------------------------------------------- why this model
def test_the_choice_is_told_whatever_goes_with_it():
    plain = pg.impute(PAIR, m=1, sweeps=2, progress=False)
    assert plain.choice.startswith("Chosen: chained equations")
    under = pg.impute(PAIR, m=1, sweeps=2, progress=False, design=pg.Design())
    assert under.choice == plain.choice
    mechanism = pg.Mechanism("self_masking", chains=1, warmup=2, thin=1)
    masked = pg.impute(PAIR, m=1, progress=False, mechanism=mechanism)
    assert masked.choice.startswith("Chosen: one normal distribution")
    assert masked.choice in str(masked)
    assert pg.impute(PAIR, m=1, progress=False, **GAUSSIAN).choice == ""


# --------------------------------------------------------------------------------------------- a column that is alone
ALONE = {
    "real": np.where(RNG.random(400) < 0.5, RNG.normal(-5, 0.5, 400), RNG.normal(5, 0.5, 400)),  # two humps
    "positive": np.exp(RNG.normal(size=400)),
    "count": RNG.poisson(3, 400).astype(float),
    "semicontinuous": np.where(RNG.random(400) < 0.4, 0.0, np.exp(RNG.normal(size=400))),
    "categorical": RNG.choice(["a", "b", "c"], 400, p=[0.6, 0.3, 0.1]).astype(object),
}


@pytest.mark.parametrize("kind", ALONE)
@pytest.mark.parametrize("designed", [False, True])
def test_one_column_is_drawn_from_its_own_distribution(kind, designed):
    """Kolmogorov-Smirnov against the known cells, and of labels the chi squared test; both at one in ten thousand."""
    gone = np.arange(400) % 4 == 0
    column = pd.Series(ALONE[kind]).where(~gone)
    data = {"id": [f"p{row}" for row in range(400)], "x": column} if designed else {"x": column}
    design = pg.Design(exclude="id") if designed else None
    imputed = pg.impute(pd.DataFrame(data), m=3, products="none", design=design, progress=False)
    place = imputed.table.schema.index("x")
    assert imputed.table.schema["x"].kind == kind
    assert imputed.choice.startswith("Chosen: the column's own distribution")
    known = imputed.table.values[~gone, place]
    drawn = imputed[0].values[gone, place]
    if kind == "categorical":
        shares = np.bincount(known.astype(int)) / len(known)
        assert stats.chisquare(np.bincount(drawn.astype(int), minlength=3), shares * len(drawn)).pvalue > 1e-4
    else:
        assert stats.ks_2samp(known, drawn).pvalue > 1e-4
    new = {"x": [None] * 5} | ({"id": ["new"] * 5} if designed else {})
    assert imputed.transform(pd.DataFrame(new).astype({"x": column.dtype}))[0].known.all()


def test_one_column_that_is_known_in_part():
    """Below its limit of detection a normal sample goes on: the mean of all is that of the whole sample."""
    x = np.random.default_rng(1).normal(3, 2, 300)
    table = {"x": np.where(x < 2, np.nan, x)}
    imputed = pg.impute(table, m=4, design=pg.Design(censored={"x": (None, 2.0)}), progress=False)
    means = [one.column("x").mean() for one in imputed]
    assert np.mean(means) == pytest.approx(x.mean(), abs=4 * 2 / np.sqrt(300) * np.sqrt(0.3))
    assert max(one.column("x")[x < 2].max() for one in imputed) <= 2


def test_one_column_in_groups():
    group = np.repeat(list("abcdefgh"), 25)
    middle = np.repeat(np.random.default_rng(2).normal(0, 5, 8), 25)
    y = middle + np.random.default_rng(4).normal(size=200)
    imputed = pg.impute(
        {"g": group, "y": np.where(np.arange(200) % 5 == 0, np.nan, y)},
        m=2, design=pg.Design(groups="g", rounds=3), progress=False,
    )  # fmt: skip
    drawn = imputed[0].column("y")[::5]
    assert np.corrcoef(drawn, middle[::5])[0, 1] > 0.9


def test_chained_equations_of_one_column_are_refused():
    for more in ({"x": PAIR["y"]}, {"x": PAIR["y"], "id": [f"p{row}" for row in range(N)]}):
        design = pg.Design(exclude="id") if "id" in more else None
        with pytest.raises(CapabilityError, match="there is only one column; use model='auto'"):
            pg.impute(more, "chained_equations", m=2, design=design, progress=False)


# --------------------------------------------------------------------------------------------------- random weights
def test_random_weights_are_a_draw_of_the_bayesian_bootstrap():
    """Shares have the moments of a flat Dirichlet: mean 1 / N, variance (N - 1) / (N^2 (N + 1)) (Rubin, 1981)."""
    random = np.random.default_rng(0)
    drawn = np.array([drawn_weights(None, 8, random) for _ in range(20_000)])
    np.testing.assert_allclose(drawn.sum(1), 8.0)
    np.testing.assert_allclose(drawn.mean(0) / 8, 1 / 8, rtol=0.03)
    np.testing.assert_allclose((drawn / 8).var(0), 7 / (64 * 9), rtol=0.06)
    own = np.array([0.0, 1.0, 3.0])
    weighed = drawn_weights(own, 3, random)
    assert weighed[0] == 0
    assert weighed.sum() == pytest.approx(4.0)


# ------------------------------------------------------------------------------------------------ an imputation's own draw
@pytest.mark.parametrize(("m", "wanted"), [(2, [0, 2]), (4, [0, 1, 2, 3]), (6, [0, 1, 2, 3, 0, 1])])
def test_an_imputation_has_the_draw_that_fill_gives_it(m, wanted):
    """Table i of ``fill`` has the mean of the i-th world, within four errors; worlds lie further apart than that."""
    few = {"x": np.random.default_rng(5).normal(size=6)}
    fit = pg.fit("gaussian_mixture", few, method="bootstrap", draws=4, components=1, prior=None, progress=False)
    worlds = [world_of([fit], number, m) for number in range(m)]
    means = [float(one.posterior.theta()["component.gaussian"]["loc"][0, 0]) for one in worlds]
    assert means == [float(fit.posterior.theta(at)["component.gaussian"]["loc"][0, 0]) for at in wanted]
    rows = pg.Table.from_codes(np.full((20_000, 1), np.nan), fit.schema)
    found = [fit.standardiser.forward(table.values).mean() for table in fit.fill(rows, m)]
    np.testing.assert_allclose(found, means, atol=4 * 1.5 / np.sqrt(20_000))
    assert np.ptp(means) > 0.2
    assert world_of([fit, worlds[1]], 1, 2) is worlds[1]


@pytest.mark.parametrize(
    ("model", "options", "method"),
    [
        ("gaussian_mixture", {"uncertainty": "posterior", "method": "auto", "components": 1}, "gibbs"),
        ("gaussian_mixture", {"method": "auto", "components": 1}, "bootstrap"),
        ("factor_analysis", {"uncertainty": "laplace", "method": None, "latent": 1}, "laplace"),
        ("auto", {"uncertainty": "none", "method": "auto"}, "chained"),
        ("auto", {"uncertainty": "none", "method": "chained"}, "chained"),
    ],
)
@pytest.mark.filterwarnings("ignore::probgen.ImproperWarning", "ignore::probgen.ConvergenceWarning")
def test_an_automatic_method_does_not_undo_where_parameters_come_from(model, options, method):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)) @ np.array([[1.0, 0.5, 0.2], [0.0, 1.0, 0.3], [0.0, 0.0, 1.0]])
    x[:20, 1] = np.nan
    found = pg.impute(pg.Table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2]}), model, m=3, progress=False, **options)
    assert {fit.method for fit in found.fits} == {method}
    assert found.proper == (options.get("uncertainty") != "none")


def test_options_of_chains_say_nothing_of_a_single_column():
    table = pg.Table({"b": np.where(np.arange(40) < 10, np.nan, np.random.default_rng(0).normal(size=40))})
    assert len(pg.impute(table, m=2, matching="none", products="none", progress=False)) == 2
