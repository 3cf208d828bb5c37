"""Delta adjustment: exact where theory or R's mice says what should come out."""

import numpy as np
import pytest
from scipy.stats import norm

import probgen as pg
from probgen.errors import CapabilityError, DataError, SchemaError

QUICK = {"components": 1, "progress": False}
N = 600
PLACES = np.arange(N)
QUANTILES = norm.ppf((PLACES + 0.5) / N)
X = QUANTILES[(PLACES * 7) % N]
Y = X + QUANTILES[(PLACES * 131 + 17) % N]
W = Y - X + QUANTILES[(PLACES * 269 + 101) % N]
GONE_Y, GONE_W = PLACES % 5 < 2, PLACES % 3 == 0
BOTH = GONE_Y & GONE_W


@pytest.fixture(scope="module")
def one_hole():
    """Only y has holes."""
    return pg.impute({"x": X, "y": np.where(GONE_Y, np.nan, Y), "w": W}, "gaussian_mixture", m=100, **QUICK)


@pytest.fixture(scope="module")
def two_holes():
    table = {"x": X, "y": np.where(GONE_Y, np.nan, Y), "w": np.where(GONE_W, np.nan, W)}
    return pg.impute(table, "gaussian_mixture", m=30, **QUICK)


@pytest.fixture(scope="module")
def mixed():
    """A column of every kind, all with holes."""
    rng = np.random.default_rng(4)
    n = 150
    x = rng.normal(size=n)
    columns = {
        "x": x,
        "income": np.exp(x + rng.normal(size=n)),
        "visits": rng.poisson(np.exp(0.5 * x)).astype(float),
        "spent": np.where(rng.random(n) < 0.4, 0.0, np.exp(rng.normal(size=n))),
        "passed": np.where(rng.random(n) < 1 / (1 + np.exp(-x)), "yes", "no").astype(object),
        "grade": rng.integers(0, 3, n).astype(float),
        "city": rng.choice(["a", "b", "c"], n).astype(object),
    }
    for name in list(columns)[1:]:
        columns[name][rng.random(n) < 0.25] = None if columns[name].dtype == object else np.nan
    schema = pg.Table(columns).schema.with_kind("grade", "ordinal", levels=[0.0, 1.0, 2.0])
    schema = schema.with_kind("spent", "semicontinuous").with_kind("visits", "count").with_kind("income", "positive")
    return pg.impute(pg.Table(columns, schema=schema), "gaussian_mixture", components=2, m=4, progress=False)


def same(one, other):
    return all(np.array_equal(a.values, b.values) for a, b in zip(one, other, strict=True))


def holes(imputed, name):
    return ~imputed.table.known[:, imputed.table.schema.index(name)]


# --------------------------------------------------------------------------------------------------- nothing is shifted
@pytest.mark.parametrize(
    ("delta", "scale"),
    [
        ({"income": 0.0, "visits": 0}, "units"),
        ({"income": 0.0, "spent": 0}, "sd"),
        ({"income": 1.0, "visits": 1, "spent": 1.0}, "factor"),
        ({"passed": 0.0, "grade": 0.0, "city": {"a": 0.0}}, "log_odds"),
        ({"income": np.zeros(150)}, "units"),
    ],
)
@pytest.mark.parametrize("given", ["known", "row"])
def test_no_shift_gives_the_same_bits(mixed, delta, scale, given):
    assert same(mixed, mixed.shifted(delta, scale=scale, given=given))


def test_the_coupling_alone_gives_the_same_levels(mixed):
    """Levels drawn again at their own quantiles are the same, though probabilities were computed."""
    tiny = mixed.shifted({"passed": 1e-12}, scale="log_odds")
    for a, b in zip(mixed, tiny, strict=True):
        assert np.array_equal(a.column("passed"), b.column("passed"))


def test_known_cells_and_rows_that_do_not_move_keep_their_bits(mixed):
    moved = mixed.shifted({"income": 2.0}, scale="factor")
    stays = ~holes(mixed, "income")
    for a, b in zip(mixed, moved, strict=True):
        assert np.array_equal(b.values[mixed.table.known], mixed.table.values[mixed.table.known])
        assert np.array_equal(a.values[stays], b.values[stays])


# --------------------------------------------------------------------------------------------------- numbers move so far
def test_a_shift_is_what_it_says(one_hole, mixed):
    sd = Y[~GONE_Y].std(ddof=1)
    for scale, size in (("units", 1.0), ("sd", sd)):
        for a, b in zip(one_hole, one_hole.shifted({"y": 1.0}, scale=scale), strict=True):
            np.testing.assert_allclose((b.values - a.values)[GONE_Y, 1], size, rtol=1e-12)
            assert np.array_equal(a.values[:, [0, 2]], b.values[:, [0, 2]])
    doubled = mixed.shifted({"income": 2.0, "visits": 2.0, "spent": 2.0}, scale="factor")
    for a, b in zip(mixed, doubled, strict=True):
        gone = holes(mixed, "income")
        np.testing.assert_allclose(b.column("income")[gone], 2 * a.column("income")[gone], rtol=1e-12)
        spent = b.column("spent")[holes(mixed, "spent")]
        assert (b.column("visits") == np.rint(b.column("visits"))).all()
        assert (spent == 0).any()


def test_zeros_of_a_semicontinuous_column_stay(mixed):
    gone = holes(mixed, "spent")
    for a, b in zip(mixed, mixed.shifted({"spent": 0.5}), strict=True):
        before, after = a.column("spent")[gone], b.column("spent")[gone]
        np.testing.assert_allclose(after, np.where(before > 0, before + 0.5, 0.0), rtol=1e-12)


def test_one_shift_a_row(one_hole):
    arm = PLACES % 2 == 0
    for a, b in zip(one_hole, one_hole.shifted({"y": np.where(arm, -3.0, 0.0)}), strict=True):
        np.testing.assert_allclose((b.values - a.values)[GONE_Y & arm, 1], -3.0, rtol=1e-12)
        assert np.array_equal(a.values[~arm], b.values[~arm])


@pytest.mark.parametrize(
    ("delta", "wanted"),
    [
        (0.0, (0.00953747, -1.06706151, 1.04409801)),
        (1.0, (-0.329833, -0.865957, 0.844904)),
        (-2.0, (0.433564, -0.568424, 0.536279)),
    ],
)
def test_pooled_coefficients_are_those_of_mice(one_hole, delta, wanted):
    """R 4.2, mice 3.15: ``mice(d, m = 200, maxit = 1, method = c("", "mnar.norm", ""), blots = list(y = list(ums = delta)))``."""
    pooled = pg.pool(one_hole.shifted({"y": delta}).analyse("w ~ x + y"))
    error = np.sqrt(np.diag(pooled.between_covariance) * (1 / 100 + 1 / 200))
    np.testing.assert_array_less(np.abs(pooled.estimate - wanted), 4 * error)


# ------------------------------------------------------------------------------------------------ other columns follow
def test_other_unknown_cells_follow_the_shifted_one(two_holes):
    """E[w | x, y + 2] - E[w | x, y] = 2 for w = y - x + noise; y itself moves by 2."""
    moved = two_holes.shifted({"y": 2.0})
    gap = np.mean([(b.values - a.values)[BOTH] for a, b in zip(two_holes, moved, strict=True)], axis=(0, 1))
    assert gap[1] == pytest.approx(2.0, rel=1e-12)
    assert gap[2] == pytest.approx(2.0, abs=0.25)
    alone = GONE_W & ~GONE_Y
    assert all(np.array_equal(a.values[alone], b.values[alone]) for a, b in zip(two_holes, moved, strict=True))


def test_given_the_whole_row_the_shift_comes_back(two_holes):
    r"""The alternation's fixed point: delta / (1 - b c), with b = 1 of w on y and c = 1/2 of y on w."""
    moved = two_holes.shifted({"y": 1.0}, given="row")
    gap = np.mean([(b.values - a.values)[BOTH] for a, b in zip(two_holes, moved, strict=True)], axis=(0, 1))
    np.testing.assert_allclose(gap[1:], 2.0, atol=0.35)
    only = GONE_Y & ~GONE_W
    for a, b in zip(two_holes, moved, strict=True):
        np.testing.assert_allclose((b.values - a.values)[only, 1], 1.0, rtol=1e-12)


def test_columns_move_in_order(two_holes):
    """y + 1, then w given that y, + 1: w moves by 2 where both are unknown."""
    moved = two_holes.shifted({"y": 1.0, "w": 1.0})
    gap = np.mean([(b.values - a.values)[BOTH] for a, b in zip(two_holes, moved, strict=True)], axis=(0, 1))
    assert gap[1] == pytest.approx(1.0, rel=1e-12)
    assert gap[2] == pytest.approx(2.0, abs=0.25)


# ------------------------------------------------------------------------------------------------------------ log odds
def test_log_odds_of_levels_move_so_far():
    """Independent of the rest: log odds of unknown cells are those of known ones plus delta, within four errors."""
    rng = np.random.default_rng(0)
    n = 4000
    columns = {
        "x": rng.normal(size=n),
        "passed": np.where(rng.random(n) < 0.3, "yes", "no").astype(object),
        "grade": rng.choice([0.0, 1.0, 2.0], n, p=[0.5, 0.3, 0.2]),
        "city": rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2]).astype(object),
    }
    gone = np.arange(n) % 2 == 0
    for name in ("passed", "grade", "city"):
        columns[name][gone] = None if columns[name].dtype == object else np.nan
    schema = pg.Table(columns).schema.with_kind("grade", "ordinal", levels=[0.0, 1.0, 2.0])
    imputed = pg.impute(pg.Table(columns, schema=schema), "gaussian_mixture", m=10, **QUICK)
    moved = imputed.shifted({"passed": 1.0, "grade": -0.5, "city": {"c": 2.0}}, scale="log_odds")
    for name, added in (("passed", [0, 1.0]), ("grade", [0, -0.5, -1.0]), ("city", [0, 0, 2.0])):
        place = imputed.table.schema.index(name)
        known = np.bincount(imputed.table.values[~gone, place].astype(int)) / (n / 2)
        wanted = known * np.exp(added) / (known * np.exp(added)).sum()
        found = np.mean([np.bincount(t.values[gone, place].astype(int), minlength=len(known)) for t in moved], 0) / (
            n / 2
        )
        np.testing.assert_allclose(found, wanted, atol=4 * np.sqrt(0.25 * (2 / n + 2 / n / 10)) * 1.5)


# ----------------------------------------------------------------------------------------------------------- the object
def test_new_rows_are_shifted_alike(one_hole):
    new = {"x": np.zeros(50), "y": np.full(50, np.nan), "w": np.zeros(50)}
    plain, moved = one_hole.transform(new), one_hole.shifted({"y": 2.5}).transform(new)
    for a, b in zip(plain, moved, strict=True):
        np.testing.assert_allclose(b.column("y") - a.column("y"), 2.5, rtol=1e-12)
    with pytest.raises(DataError, match="old table"):
        one_hole.shifted({"y": np.ones(N)}).transform(new)


def test_one_seed_one_result(two_holes):
    assert same(two_holes.shifted({"y": 1.0}), two_holes.shifted({"y": 1.0}))


@pytest.fixture(scope="module")
def swept(one_hole):
    return pg.sensitivity(one_hole, "y", [-4, -2, 2, 4], "y ~ x")


def test_a_sweep_pools_every_shift(swept, one_hole):
    assert swept.deltas.tolist() == [-4, -2, 0, 2, 4]
    plain = pg.pool(one_hole.analyse("y ~ x"))
    assert np.array_equal(swept.pooled[2].estimate, plain.estimate)
    assert np.array_equal(swept.pooled[2].standard_error, plain.standard_error)
    intercepts = [one.estimate[0] for one in swept.pooled]
    np.testing.assert_allclose(np.diff(intercepts), 2 * GONE_Y.mean(), rtol=0.05)  # delta times the share of holes
    assert len(swept.records()) == 10
    assert len(swept.to_pandas()) == 10


def test_the_tipping_point_is_where_an_end_of_the_interval_is_zero(swept, one_hole):
    low, high = swept.tipping_points("Intercept")
    assert -2 < low < 0 < high < 2  # at random the intercept is near 0, so that both sides tip
    finer = pg.sensitivity(one_hole, "y", [low, high], "y ~ x")
    ends = np.array([[one.lower[0], one.upper[0]] for one in finer.pooled])
    assert abs(ends[0, 1]) < 0.06
    assert abs(ends[2, 0]) < 0.06
    assert swept.tipping_points("x") == ()
    text = str(swept)
    assert "tipping point" in text
    assert "holds over the whole sweep" in text


def test_a_sweep_over_some_rows_only(one_hole):
    arm = PLACES % 2 == 0
    found = pg.sensitivity(one_hole, "y", [5.0], lambda f: (f["y"][~arm].mean(), 0.01), rows=arm)
    assert found.pooled[0].estimate == found.pooled[1].estimate
    with pytest.raises(DataError, match="mask of 600"):
        pg.sensitivity(one_hole, "y", [5.0], "y ~ x", rows=[True])


def test_a_table_is_imputed_first():
    table = {"x": X, "y": np.where(GONE_Y, np.nan, Y)}
    found = pg.sensitivity(table, "y", [1.0], "y ~ x", model="gaussian_mixture", m=3, **QUICK)
    assert found.m == 3
    chained = pg.sensitivity(table, "y", [1.0], "y ~ x", m=2, sweeps=2, progress=False)
    assert chained.m == 2
    for options in ({"model": "gaussian_mixture"}, {"m": 3}):
        with pytest.raises(CapabilityError, match="leave out model and options"):
            pg.sensitivity(pg.impute(table, "gaussian_mixture", m=2, **QUICK), "y", [1.0], "y ~ x", **options)


# ------------------------------------------------------------------------------------------------------ a smooth curve
@pytest.mark.parametrize("given", ["known", "row"])
@pytest.mark.parametrize("model", ["gaussian_mixture", "auto"])
def test_the_sweep_has_no_gap_at_no_shift(model, given):
    """An estimate in which other cells follow: its limit from both sides is its value there, and it bends evenly.

    Without donors: a row's donor is another one where it moves a little.
    """
    table = {name: np.where(gone, np.nan, x)[:300] for name, x, gone in (("y", Y, GONE_Y), ("w", W, GONE_W))}
    options = QUICK if model != "auto" else {"progress": False, "sweeps": 3, "matching": "none"}
    imputed = pg.impute({"x": X[:300], **table}, model, m=3, **options)
    found = pg.sensitivity(imputed, "y", [-0.5, -1e-7, 1e-7, 0.5], "w ~ x + y", given=given)
    low, below, middle, above, high = np.array([one.estimate for one in found.pooled])
    np.testing.assert_allclose([below, above], [middle, middle], atol=1e-5)
    assert np.abs(middle - (low + high) / 2)[1:].max() < 0.2
    plain = pg.pool(imputed.analyse("w ~ x + y"))
    assert np.abs(middle - plain.estimate).max() > 1e-4  # drawn anew
    np.testing.assert_array_less(np.abs(middle - plain.estimate), 4 * np.sqrt(np.diag(plain.between_covariance)))


def test_the_sweep_draws_nothing_anew_in_rows_that_do_not_shift(two_holes):
    """The mean of w in the other rows is the same, bit for bit, for every delta and without a shift."""
    arm = PLACES % 2 == 0
    found = pg.sensitivity(two_holes, "y", [-1.0, 2.0], lambda f: (f["w"][~arm].mean(), 0.01), rows=arm)
    plain = pg.pool(two_holes.analyse(lambda f: (f["w"][~arm].mean(), 0.01)))
    assert {float(one.estimate[0]) for one in found.pooled} == {float(plain.estimate[0])}


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("delta", "options", "error", "message"),
    [
        ({"z": 1.0}, {}, SchemaError, "no column 'z'"),
        ({"x": 1.0}, {}, DataError, "'x' has no unknown cell"),
        ({"y": float("nan")}, {}, DataError, "finite"),
        ({"y": "much"}, {}, DataError, "finite"),
        ({"y": [1.0, 2.0]}, {}, DataError, "one a row"),
        ({}, {}, DataError, "map names"),
        (1.0, {}, DataError, "map names"),
        ({"y": 1.0}, {"scale": "log_odds"}, CapabilityError, "'y' is real"),
        ({"y": 1.0}, {"scale": "factor"}, CapabilityError, "positive"),
        ({"y": 1.0}, {"scale": "percent"}, CapabilityError, "units, sd, factor, log_odds"),
        ({"y": 1.0}, {"given": "all"}, CapabilityError, "'known' or 'row'"),
    ],
)
def test_bad_shifts_are_told(one_hole, delta, options, error, message):
    with pytest.raises(error, match=message):
        one_hole.shifted(delta, **options)


@pytest.mark.parametrize(
    ("delta", "scale", "message"),
    [
        ({"income": -50.0}, "units", "would become"),
        ({"visits": 0.5}, "units", "is count"),
        ({"city": 1.0}, "log_odds", "maps levels"),
        ({"city": {"z": 1.0}}, "log_odds", "maps levels"),
        ({"passed": 1.0}, "units", "'log_odds'"),
        ({"income": -1.0}, "factor", "positive"),
    ],
)
def test_shifts_that_a_kind_cannot_take_are_told(mixed, delta, scale, message):
    with pytest.raises((DataError, CapabilityError), match=message):
        mixed.shifted(delta, scale=scale)


def test_imputations_are_shifted_once(one_hole):
    with pytest.raises(CapabilityError, match="once"):
        one_hole.shifted({"y": 1.0}).shifted({"y": 1.0})


@pytest.mark.parametrize("deltas", [[], [float("nan")], ["a"]])
def test_bad_deltas_are_told(one_hole, deltas):
    with pytest.raises(DataError, match="finite numbers"):
        pg.sensitivity(one_hole, "y", deltas, "y ~ x")
