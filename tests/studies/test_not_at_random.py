"""A model of the mask: it repairs what a model at random gets wrong, and leaves alone what it does not."""

import numpy as np
import pytest
from scipy import optimize, stats

import probgen as pg
from probgen.errors import CapabilityError, ConvergenceWarning, DataError, SchemaError
from probgen.studies import not_at_random
from probgen.studies.mask_mechanism import LogisticPosterior, Mechanism, RowFeatures, metropolis
from probgen.studies.not_at_random import blocks

GAUSSIAN = {"model": "gaussian_mixture", "components": 1, "progress": False}


def lost(n, seed, slope=2.0):
    """x is known; y = x + noise is lost the likelier the larger it is."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = x + rng.normal(size=n)
    gone = rng.random(n) < 1 / (1 + np.exp(-(slope * y - 0.5)))
    return {"x": x, "y": np.where(gone, np.nan, y)}, y, gone


def mean_of_y(imputed):
    n = len(imputed.table)
    return pg.pool([(t.column("y").mean(), t.column("y").var(ddof=1) / n) for t in imputed], complete_df=n - 1)


TABLE, TRUTH, GONE = lost(2000, 0)


@pytest.fixture(scope="module")
def masked():
    mechanism = Mechanism("self_masking", chains=1, warmup=60, thin=4)
    return pg.impute(TABLE, m=15, seed=1, mechanism=mechanism, **GAUSSIAN)


# ------------------------------------------------------------------------------------------------------ the imputations
def test_the_mean_is_repaired_where_a_model_at_random_is_biased(masked):
    at_random = mean_of_y(pg.impute(TABLE, m=10, seed=1, **GAUSSIAN))
    repaired = mean_of_y(masked)
    assert at_random.estimate[0] < TRUTH.mean() - 6 * at_random.standard_error[0]
    assert abs(repaired.estimate[0] - TRUTH.mean()) < 3 * repaired.standard_error[0]
    assert repaired.standard_error[0] < 0.15
    assert repaired.fmi[0] > at_random.fmi[0]


def test_the_steepness_is_found(masked):
    """In standard deviations of the known cells: 2 sd(y known); the intercept likewise."""
    known = TRUTH[~GONE]
    intercept, slope = (record for record in masked.mechanism.records())
    assert slope["lower"] < 2.0 * known.std() < slope["upper"]
    assert intercept["lower"] < 2.0 * known.mean() - 0.5 < intercept["upper"]
    assert slope["lower"] > 0
    assert "log odds of being unknown" in str(masked)
    assert len(masked.mechanism.to_pandas()) == 2


def test_known_cells_keep_their_bits_and_rows_move(masked):
    for table in masked:
        assert table.known.all()
        assert np.array_equal(table.column("x"), TABLE["x"])
        assert np.array_equal(table.column("y")[~GONE], TRUTH[~GONE])
    assert np.isnan(masked.mechanism.moved[~GONE]).all()
    assert masked.mechanism.moved[GONE].min() > 0.05


def test_the_result_is_analysed_like_any_other(masked):
    assert masked.proper
    pooled = pg.pool(masked.analyse("y ~ x"))
    assert abs(pooled.estimate[1] - 1.0) < 4 * pooled.standard_error[1]


def test_new_rows_are_filled_knowing_that_they_lost_a_cell(masked):
    """E[y | x = 0, lost] under the true model and mechanism, by quadrature."""
    rows = {"x": np.zeros(400), "y": np.full(400, np.nan)}
    found = np.mean([table.column("y").mean() for table in masked.transform(rows)])
    y = np.linspace(-8, 8, 4001)
    weight = stats.norm.pdf(y) / (1 + np.exp(-(2.0 * y - 0.5)))
    assert found == pytest.approx((y * weight).sum() / weight.sum(), abs=0.15)
    known = masked.transform({"x": [0.0], "y": [0.5]})
    assert all(table.column("y").tolist() == [0.5] for table in known)


def test_without_dependence_the_answer_is_that_at_random():
    """A prior that holds b at 0."""
    mechanism = Mechanism("self_masking", prior_scale=1e-6, chains=1, warmup=20, thin=2)
    flat = mean_of_y(pg.impute(TABLE, m=25, mechanism=mechanism, **GAUSSIAN))
    at_random = mean_of_y(pg.impute(TABLE, m=25, **GAUSSIAN))
    error = np.sqrt((flat.between[0] + at_random.between[0]) / 25)
    assert abs(flat.estimate[0] - at_random.estimate[0]) < 4 * error
    assert flat.between[0] / at_random.between[0] == pytest.approx(1.0, abs=0.75)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("factor_analysis", {"latent": 1}),
        ("probabilistic_pca", {"latent": 1}),
        ("gaussian_copula", {}),
        ("gaussian_mixture", {"components": 2}),
        ("bayesian_network", {}),
    ],
)
@pytest.mark.parametrize("form", ["self_masking", "logistic"])
def test_models_that_em_can_fit_are_served(model, options, form):
    rng = np.random.default_rng(0)
    n = 120
    x = rng.normal(size=(n, 3)) + rng.normal(size=(n, 1))
    gone = rng.random((n, 2)) < 1 / (1 + np.exp(1 - x[:, :2]))
    table = {"a": np.where(gone[:, 0], np.nan, x[:, 0]), "b": np.where(gone[:, 1], np.nan, x[:, 1]), "c": x[:, 2]}
    mechanism = Mechanism(form, chains=1, warmup=4, thin=1)
    found = pg.impute(table, model, m=2, mechanism=mechanism, progress=False, **options)
    assert all(t.known.all() for t in found)
    assert found.mechanism.used.shape == (2, 4 if form == "self_masking" else 8)
    assert found.mechanism.failed == 0
    assert found.transform({"a": [np.nan], "b": [1.0], "c": [np.nan]})[0].known.all()


def test_columns_of_all_kinds_enter():
    rng = np.random.default_rng(2)
    n = 150
    x = rng.normal(size=n)
    columns = {
        "x": x,
        "income": np.where(rng.random(n) < 0.3, np.nan, np.exp(x)),
        "visits": np.where(rng.random(n) < 0.3, np.nan, rng.poisson(3.0, n)),
        "city": np.where(rng.random(n) < 0.3, None, rng.choice(["a", "b", "c"], n)),
    }
    mechanism = Mechanism("logistic", columns=["income", "city"], chains=1, warmup=3, thin=1)
    found = pg.impute(columns, "gaussian_mixture", components=2, m=2, mechanism=mechanism, progress=False)
    terms = [term for column, term in found.mechanism.terms if column == "city"]
    assert terms == ["intercept", "x", "income", "visits", "city = b", "city = c"]
    assert set(found[0].column("city")) <= {"a", "b", "c"}


def test_one_seed_one_result(monkeypatch):
    mechanism = Mechanism("self_masking", chains=2, warmup=5, thin=3)
    table = {name: values[:200] for name, values in TABLE.items()}
    monkeypatch.setattr(not_at_random, "HIGH", 0.0)  # no chains are as much alike as that
    with pytest.warns(ConvergenceWarning, match="raise warmup"):
        one, two, other = (pg.impute(table, m=4, seed=s, mechanism=mechanism, **GAUSSIAN) for s in (3, 3, 4))
    assert all(np.array_equal(a.values, b.values) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0].values, other[0].values)
    assert not np.array_equal(one[0].values, one[3].values)


def test_a_known_direction_holds():
    mechanism = Mechanism("self_masking", direction={"y": "low"}, chains=1, warmup=5, thin=1)
    table = {name: values[:200] for name, values in TABLE.items()}
    found = pg.impute(table, m=5, mechanism=mechanism, **GAUSSIAN)
    assert (found.mechanism.draws[..., 1] <= 0).all()


# ---------------------------------------------------------------------------------------------------------- the pieces
def test_metropolis_draws_the_posterior_of_the_coefficients():
    """Means and standard deviations by quadrature on a grid, within five Monte Carlo errors."""
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(40), rng.normal(size=40)])
    y = rng.random(40) < 1 / (1 + np.exp(-(x @ [0.5, 1.5])))
    posterior = LogisticPosterior(x, y, np.ones(40), np.array([0.01, 0.16]), np.array([0.0, 1.0]))
    beta, draws = np.array([0.0, 0.1]), []
    for _ in range(3000):
        beta = metropolis(posterior, beta, rng)
        draws.append(beta)
    a, b = np.meshgrid(np.linspace(-2, 4, 161), np.linspace(0, 6, 161), indexing="ij")
    log = np.array([posterior.log_density(np.array(point)) for point in zip(a.ravel(), b.ravel(), strict=True)])
    weight = np.exp(log - log.max()) / np.exp(log - log.max()).sum()
    for found, grid in zip(np.array(draws).T, (a.ravel(), b.ravel()), strict=True):
        mean = weight @ grid
        sd = np.sqrt(weight @ (grid - mean) ** 2)
        assert found.mean() == pytest.approx(mean, abs=5 * sd / np.sqrt(1000))
        assert found.std() == pytest.approx(sd, rel=0.12)


def test_the_mode_is_the_maximum_where_classes_are_separate():
    x = np.column_stack([np.ones(60), np.linspace(-2, 2, 60)])
    posterior = LogisticPosterior(x, x[:, 1] > 0, np.ones(60), np.array([0.01, 0.16]), np.zeros(2))
    best = optimize.minimize(lambda beta: -posterior.log_density(beta), np.zeros(2), method="BFGS").x
    np.testing.assert_allclose(posterior.mode()[0], best, atol=1e-3)


def test_features_are_standard_scores_of_what_is_known():
    table = pg.Table({"x": [-1.0, 0.0, 1.0, np.nan], "city": ["a", "b", "c", "a"]})
    features = RowFeatures(table)
    assert features.names == ["x", "city = b", "city = c"]
    made = features(table.values)
    np.testing.assert_allclose(made[:3, 0], [-np.sqrt(1.5), 0, np.sqrt(1.5)])
    np.testing.assert_allclose(made[:, 1], np.array([0, 1, 0, 0]) - 0.25)


def test_columns_that_say_nothing_of_the_mask_move_together(masked):
    unknown = np.zeros((5, 2), dtype=bool)
    unknown[0] = True
    assert [list(block) for block in blocks(masked.mask_model, unknown, 1)] == [[0], [1]]
    assert [list(block) for block in blocks(masked.mask_model, unknown, 4)] == [[0, 1], [0], [1]]


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("mechanism", "error", "message"),
    [
        ("heckman", CapabilityError, "self_masking, logistic"),
        (lambda: Mechanism("self_masking", columns=["z"]), SchemaError, "no column 'z'"),
        (lambda: Mechanism("self_masking", columns=["x"]), DataError, "'x' has no unknown cell"),
        (lambda: Mechanism("self_masking", columns="y"), DataError, "list of names"),
        (lambda: Mechanism("self_masking", direction={"y": "up"}), CapabilityError, "'high' or 'low'"),
        (lambda: Mechanism("self_masking", direction={"x": "up"}), CapabilityError, "'high' or 'low'"),
        (lambda: Mechanism("self_masking", direction={"x": "high"}), DataError, "direction names 'x'"),
        (lambda: Mechanism("self_masking", warmup=0), CapabilityError, "warmup must be"),
        (lambda: Mechanism("self_masking", candidates=1), CapabilityError, "at least 2"),
        (lambda: Mechanism("self_masking", prior_scale=float("nan")), CapabilityError, "positive number"),
    ],
)
def test_bad_mechanisms_are_told(mechanism, error, message):
    with pytest.raises(error, match=message):
        pg.impute(TABLE, m=2, mechanism=mechanism if isinstance(mechanism, str) else mechanism(), **GAUSSIAN)


def test_what_cannot_be_served_is_told(masked):
    with pytest.raises(CapabilityError, match="iterations of EM"):
        pg.impute(TABLE, "vae", m=2, mechanism="self_masking", progress=False)
    with pytest.raises(CapabilityError, match="'bootstrap'"):
        pg.impute(TABLE, m=2, uncertainty="posterior", mechanism="self_masking", **GAUSSIAN)
    with pytest.raises(DataError, match="no unknown cells"):
        pg.impute({"x": TABLE["x"], "y": TRUTH}, m=2, mechanism="self_masking", **GAUSSIAN)
    with pytest.raises(CapabilityError, match="shift imputations at random"):
        masked.shifted({"y": 1.0})


# ----------------------------------------------------------------------------------------------------------------- slow
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::probgen.errors.ConvergenceWarning")  # one short chain a table
def test_intervals_cover_under_self_masking():
    """40 tables of 300 rows: mean of y, where intervals at random hardly ever cover."""
    covered, at_random = [], []
    mechanism = Mechanism("self_masking", chains=1, warmup=100, thin=10)
    for seed in range(40):
        table, _, _ = lost(300, 100 + seed, slope=1.5)
        for kept, chosen in ((covered, mechanism), (at_random, None)):
            pooled = mean_of_y(pg.impute(table, m=20, seed=seed, mechanism=chosen, **GAUSSIAN))
            kept.append(pooled.lower[0] < 0.0 < pooled.upper[0])
    assert np.mean(at_random) < 0.3
    assert np.mean(covered) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 40)
