"""Kernel density estimates against scikit-learn, scipy, statsmodels and sums written out by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy import stats

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families.kernel_rows import KernelRows
from probgen.families.kernels import Axes, ProductKernel, equivalent_width
from probgen.inference.methods.cross_validation import left_out_log_prob

LEVELS = ("a", "b", "c")
MIXED = Schema(
    (
        Column("x", "real"),
        Column("y", "positive"),
        Column("n", "count"),
        Column("c", "categorical", levels=LEVELS),
        Column("o", "ordinal", levels=(1, 2, 3, 4)),
    )
)


def reals(values, weights=None, names="uvwxyz"):
    values = np.asarray(values, dtype=float)
    schema = Schema(tuple(Column(names[d], "real") for d in range(values.shape[1])))
    return Table.from_codes(values, schema, weights)


def mixed(rows=60, seed=0, weights=True):
    """A table whose columns all depend on the first."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    values = np.column_stack(
        [
            x,
            np.exp(0.5 * x + rng.normal(0, 0.4, rows)),
            rng.poisson(np.exp(0.5 + 0.4 * x)),
            np.clip(np.round(1 + x + rng.normal(0, 0.6, rows)), 0, 2),
            np.clip(np.round(1.5 + x + rng.normal(0, 0.5, rows)), 0, 3),
        ]
    )
    return Table.from_codes(values, MIXED, rng.uniform(0.2, 2.0, rows) if weights else None)


def fitted(table, **options):
    return pg.fit("kernel_density", table, progress=False, **options)


def kept(table, **options):
    """The rows of a fit, and its table in model coordinates."""
    fit = fitted(table, **options)
    batch = next(fit.batches(table, len(table)).pieces())
    return fit.program.rows, batch.x


def nats(fit, table):
    return np.asarray(fit.log_prob(table))


# --------------------------------------------------------------------------------------------------------- peers
def sklearn_scores(kernel, h, x, queries, weights=None):
    """By scikit-learn on standardised columns; one leaf, because its bounds lose digits in the tails."""
    neighbors = pytest.importorskip("sklearn.neighbors")
    share = np.ones(len(x)) / len(x) if weights is None else weights / weights.sum()
    mean = share @ x
    scale = np.sqrt(share @ (x - mean) ** 2)
    peer = neighbors.KernelDensity(bandwidth=h, kernel=kernel, rtol=0, atol=0, leaf_size=len(x))
    peer.fit((x - mean) / scale, sample_weight=weights)
    return peer.score_samples((queries - mean) / scale) - np.log(scale).sum()


@pytest.mark.reference
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("kernel", "d"), [("gaussian", 4), ("gaussian", 1), ("epanechnikov", 1), ("tophat", 1)])
def test_scikit_learn(kernel, d, weighted):
    rng = np.random.default_rng(1)
    x, queries = 3 + 2 * rng.normal(size=(200, d)), 3 + 2.5 * rng.normal(size=(100, d))
    weights = rng.uniform(0.1, 3, 200) if weighted else None
    fit = fitted(reals(x, weights), bandwidth=0.4, kernel=kernel)
    expected = sklearn_scores(kernel, 0.4, x, queries, weights)
    found = nats(fit, reals(queries))
    outside = expected < -1e100  # scikit-learn's log of zero
    assert np.isneginf(found[outside]).all()
    np.testing.assert_allclose(found[~outside], expected[~outside], rtol=0, atol=1e-8)


@pytest.mark.reference
@pytest.mark.parametrize("kernel", ["epanechnikov", "tophat"])
def test_compact_kernels_of_several_columns_are_products(kernel):
    """Scikit-learn's are balls; its kernel on one row and one column is a factor of ours."""
    neighbors = pytest.importorskip("sklearn.neighbors")
    rng = np.random.default_rng(2)
    x, queries = rng.normal(size=(40, 3)), 0.5 * rng.normal(size=(20, 3))
    x = (x - x.mean(0)) / x.std(0)
    score = np.zeros((40, 20))
    for i in range(40):
        for d in range(3):
            peer = neighbors.KernelDensity(kernel=kernel, bandwidth=1.5).fit(x[i : i + 1, d : d + 1])
            score[i] += peer.score_samples(queries[:, d : d + 1])
    expected = np.log(np.exp(np.maximum(score, -500)).mean(0))
    np.testing.assert_allclose(
        nats(fitted(reals(x), kernel=kernel, bandwidth=1.5), reals(queries)), expected, atol=1e-8
    )


@pytest.mark.reference
def test_iris():
    datasets = pytest.importorskip("sklearn.datasets")
    x = datasets.load_iris().data
    fit = fitted(reals(x), bandwidth=tuple(0.5 / x.std(0)))
    assert nats(fit, reals(x)).sum() == pytest.approx(-465.1641, abs=1e-4)


@pytest.mark.reference
@pytest.mark.parametrize("rule", ["scott", "silverman"])
@pytest.mark.parametrize("weighted", [False, True])
def test_rules_of_thumb_are_scipys(rule, weighted):
    rng = np.random.default_rng(3)
    x, queries = rng.gamma(2, size=80), rng.gamma(2, size=30)
    weights = rng.uniform(0.1, 3, 80) if weighted else None
    peer = stats.gaussian_kde(x, rule, weights)
    np.testing.assert_allclose(
        nats(fitted(reals(x[:, None], weights), bandwidth=rule), reals(queries[:, None])),
        peer.logpdf(queries),
        atol=1e-10,
    )


def statsmodels_peer():
    """KDEMultivariate without its warning of a random generator that it will use one day."""
    peer = pytest.importorskip("statsmodels.nonparametric.kernel_density").KDEMultivariate

    def make(*args, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return peer(*args, **options)

    return make


@pytest.mark.reference
def test_statsmodels_mixed_columns():
    peer_of = statsmodels_peer()
    full = mixed(weights=False)
    table = full.select(["x", "y", "c"])
    values = table.values
    spread = np.std(values[:, 0]), np.std(np.log(values[:, 1]))
    fit = fitted(table, bandwidth=(0.3, 0.5, 0.2))
    data = np.column_stack([values[:, 0], np.log(values[:, 1]), values[:, 2]])
    widths = [0.3 * spread[0], 0.5 * spread[1], 0.2 * 2 / 3]  # Aitchison and Aitken's lambda is h (L - 1) / L
    peer = peer_of(data, "ccu", bw=widths)
    np.testing.assert_allclose(nats(fit, table), np.log(peer.pdf(data)) - data[:, 1], atol=1e-9)


@pytest.mark.reference
@pytest.mark.slow
def test_cross_validated_widths_are_as_good_as_statsmodels():
    peer_of = statsmodels_peer()
    rng = np.random.default_rng(4)
    x = rng.normal(size=(120, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    peer = peer_of(x, "cc", bw="cv_ml")
    ours = fitted(reals(x))
    widths = np.array(list(ours.diagnostics["bandwidth"].values())) * x.std(0)
    np.testing.assert_allclose(widths, peer.bw, rtol=0.03)
    assert peer.loo_likelihood(widths, np.log) <= peer.loo_likelihood(peer.bw, np.log) + 0.05


# ------------------------------------------------------------------------------------------------------- by hand
def by_hand(x, centre, h):
    """Kernels of the axes x, log y, n, o, c between rows, ``(K, N)``, without the library."""
    line = sum(stats.norm.logpdf(x[None, :, d], centre[:, None, d], h[d]) for d in (0, 1))
    grid = np.arange(400)
    steps = np.abs(x[None, :, 2] - centre[:, None, 2])
    norm = np.log((h[2] ** np.abs(grid - centre[:, None, 2])).sum(1))
    count = steps * np.log(h[2]) - norm[:, None]
    same = x[None, :, 3] == centre[:, None, 3]
    unordered = np.log(np.where(same, 1 - h[3] + h[3] / 3, h[3] / 3))
    norm = np.log((h[4] ** np.abs(np.arange(4) - centre[:, None, 4])).sum(1))
    ordered = np.abs(x[None, :, 4] - centre[:, None, 4]) * np.log(h[4]) - norm[:, None]
    return line + count + unordered + ordered - x[None, :, 1]


def axes_by_hand(x):
    return np.column_stack([x[:, 0], np.log(x[:, 1]), x[:, 2:]])


def test_score_is_the_product_of_kernels():
    rows, x = kept(mixed(), bandwidth="scott")
    y, h = axes_by_hand(x.numpy()), rows.width.numpy()
    np.testing.assert_allclose(rows.score(x).numpy(), by_hand(y, y, h), atol=1e-9)


def test_leave_one_out_is_brute_force_and_its_gradient_a_difference():
    table = mixed(40)
    rows, x = kept(table, bandwidth="scott")
    with torch.no_grad():
        left = rows.keep(x, torch.as_tensor(table.weights))
    h = (rows.width * 1.3).clamp(max=0.9).requires_grad_()
    found = left_out_log_prob(rows, left, h, torch.arange(40), backward=True)
    y, w = axes_by_hand(x.numpy()), table.weights

    def brute(width):
        scores = by_hand(y, y, width)
        terms = []
        for n in range(40):
            others = np.arange(40) != n
            terms.append(np.log(np.average(np.exp(scores[others, n]), weights=w[others])))
        return np.average(terms, weights=w)

    assert float(found) == pytest.approx(brute(h.detach().numpy()), abs=1e-10)
    for d in range(5):
        step = np.zeros(5)
        step[d] = 1e-5
        slope = (brute(h.detach().numpy() + step) - brute(h.detach().numpy() - step)) / 2e-5
        assert float(h.grad[d]) == pytest.approx(slope, abs=1e-6)


def test_the_objective_is_the_mean_over_rows_left_out_in_the_datas_units():
    rng = np.random.default_rng(5)
    table = reals(10 + 5 * rng.normal(size=(30, 2)))
    fit = fitted(table, bandwidth=0.5)
    h = 0.5 * table.values.std(0)
    scores = stats.norm.logpdf(table.values[None], table.values[:, None], h).sum(2)
    np.fill_diagonal(scores, -np.inf)
    expected = np.log(np.exp(scores).sum(0) / 29).mean()
    assert fit.history["objective"] == [pytest.approx(expected, abs=1e-10)]


def test_widths_found_are_a_maximum():
    table = mixed(150)
    fit = fitted(table, tolerance=1e-8)
    rows, x = fit.program.rows, next(fit.batches(table, 150).pieces()).x
    best = rows.width.clone()
    with torch.no_grad():
        left = rows.keep(x, torch.as_tensor(table.weights))
    every = torch.arange(150)
    top = float(left_out_log_prob(rows, left, best, every))
    for d in range(5):
        for factor in (0.9, 1.1):
            other = best.clone()
            other[d] = (other[d] * factor).clamp(max=left.high[d])
            assert float(left_out_log_prob(rows, left, other, every)) <= top + 1e-7


@pytest.mark.stats
def test_an_irrelevant_category_is_smoothed_away_and_a_relevant_one_is_not():
    rng = np.random.default_rng(6)
    z = rng.integers(2, size=400)
    columns = [3.0 * z + rng.normal(size=400), z.astype(float), rng.integers(3, size=400).astype(float)]
    schema = Schema(
        (Column("x", "real"), Column("z", "binary", levels=(0, 1)), Column("c", "categorical", levels=LEVELS))
    )
    width = fitted(Table.from_codes(np.column_stack(columns), schema)).diagnostics["bandwidth"]
    assert width["z"] < 0.15
    assert width["c"] > 0.5


@pytest.mark.parametrize("kernel", ["gaussian", "epanechnikov", "biweight", "tophat"])
@pytest.mark.parametrize("neighbours", [None, 4])
def test_density_integrates_to_one(kernel, neighbours):
    table = mixed(12).select(["x", "n", "o"])
    fit = fitted(table, bandwidth=(0.8, 0.6, 0.3), kernel=kernel, neighbours=neighbours)
    axis, counts, levels = np.linspace(-25, 25, 8001), np.arange(60), np.arange(4)
    cells = np.array([[x, n, o] for n in counts[:20] for o in levels for x in (0.3,)])
    shallow = np.exp(nats(fit, Table.from_codes(cells, table.schema))).sum()
    rest = np.array([[0.3, n, o] for n in counts[20:] for o in levels])
    shallow += np.exp(nats(fit, Table.from_codes(rest, table.schema))).sum()
    alone = np.column_stack([[0.3], [np.nan], [np.nan]])
    assert shallow == pytest.approx(np.exp(nats(fit, Table.from_codes(alone, table.schema)))[0], rel=1e-9)
    line = np.column_stack([axis, np.full((8001, 2), np.nan)])
    density = np.exp(nats(fit, Table.from_codes(line, table.schema)))
    assert np.trapezoid(density, axis) == pytest.approx(1.0, abs=2e-3 if kernel == "tophat" else 1e-4)


def test_semicontinuous_density_sums_to_one():
    rng = np.random.default_rng(7)
    values = np.where(rng.random(60) < 0.4, 0.0, rng.lognormal(size=60))[:, None]
    schema = Schema((Column("s", "semicontinuous"),))
    fit = fitted(Table.from_codes(values, schema))
    grid = np.exp(np.linspace(-14, 14, 20001))
    density = np.exp(nats(fit, Table.from_codes(grid[:, None], schema)))
    zero = np.exp(nats(fit, Table.from_codes(np.zeros((1, 1)), schema)))[0]
    assert np.trapezoid(density, grid) + zero == pytest.approx(1.0, abs=1e-5)
    assert zero == pytest.approx((values == 0).mean(), abs=0.05)


def test_a_hidden_column_is_a_dropped_one():
    table, test = mixed(), mixed(20, seed=8)
    widths = (0.3, 0.4, 0.5, 0.2, 0.3)
    whole = fitted(table, bandwidth=widths)
    for at, name in enumerate(MIXED.names):
        rest = [n for n in MIXED.names if n != name]
        part = fitted(table.select(rest), bandwidth=tuple(np.delete(widths, at)))
        np.testing.assert_allclose(nats(whole, test.hide(name)), nats(part, test.select(rest)), atol=1e-10)


def test_adaptive_widths_are_distances_to_neighbours():
    rng = np.random.default_rng(9)
    x, queries = rng.gamma(1.0, size=(50, 2)), rng.gamma(1.0, size=(20, 2))
    fit = fitted(reals(x), bandwidth=0.5, neighbours=5)
    y = (x - x.mean(0)) / x.std(0)
    distance = np.sort(np.linalg.norm(y[:, None] - y[None], axis=2), 1)[:, 5]
    h = 0.5 * distance / np.exp(np.log(distance).mean())
    scores = stats.norm.logpdf(queries[:, None], x[None], (h[:, None] * x.std(0))[None]).sum(2)
    np.testing.assert_allclose(nats(fit, reals(queries)), np.log(np.exp(scores).mean(1)), atol=1e-9)


def test_adaptive_widths_suit_a_heavy_tail():
    rng = np.random.default_rng(10)
    train, test = (reals(rng.standard_t(2, size=(300, 1))) for _ in range(2))
    assert nats(fitted(train, neighbours=20), test).mean() > nats(fitted(train), test).mean() + 0.02


@pytest.mark.parametrize(("kernel", "delta"), [("tophat", 1.3510), ("epanechnikov", 1.7188), ("biweight", 2.0362)])
def test_canonical_widths(kernel, delta):
    """Marron and Nolan's (1988) table; the Gaussian's is 0.7764."""
    power = {"tophat": 0, "epanechnikov": 1, "biweight": 2}[kernel]
    assert equivalent_width(power, 1) == pytest.approx(delta / 0.7764, abs=2e-4)


def test_compact_kernels_smooth_as_much_as_the_gaussian():
    rng = np.random.default_rng(11)
    table, test = reals(rng.normal(size=(400, 1))), reals(np.linspace(-1.5, 1.5, 50)[:, None])
    smooth = nats(fitted(table), test)
    assert np.abs(nats(fitted(table, kernel="epanechnikov"), test) - smooth).mean() < 0.03


# --------------------------------------------------------------------------------------------------------- draws
@pytest.mark.stats
def test_draws_follow_their_kernels():
    """Chi-squared tests of counts and levels, Kolmogorov-Smirnov of lines; each fails once in 10 000 seeds."""
    kernel = ProductKernel(Axes(MIXED), "biweight")
    width = torch.tensor([0.7, 0.4, 0.6, 0.3, 0.5], dtype=torch.float64)  # x, log y, n, c, o
    centre = torch.tensor([[1.0, 0.2, 2.0, 1.0, 3.0]], dtype=torch.float64).expand(20_000, -1)
    x = kernel.draw(centre, width, torch.ones(20_000, dtype=torch.float64)).numpy()
    u = (stats.beta(3, 3, loc=-1, scale=2),)
    assert stats.kstest((x[:, 0] - 1.0) / 0.7, u[0].cdf).pvalue > 1e-4
    assert stats.kstest((np.log(x[:, 1]) - 0.2) / 0.4, u[0].cdf).pvalue > 1e-4
    for at, h, c, support in ((2, 0.6, 2, np.arange(60)), (4, 0.5, 3, np.arange(4))):
        weights = h ** np.abs(support - c)
        check_frequencies(x[:, at], weights / weights.sum())
    check_frequencies(x[:, 3], np.where(np.arange(3) == 1, 0.7 + 0.1, 0.1))


def check_frequencies(codes, probabilities):
    counts, expected = np.bincount(codes.astype(int), minlength=len(probabilities)), probabilities * len(codes)
    many = expected > 5
    counts, expected = np.append(counts[many], counts[~many].sum()), np.append(expected[many], expected[~many].sum())
    use = expected > 0
    assert stats.chisquare(counts[use], expected[use] * counts.sum() / expected[use].sum()).pvalue > 1e-4


@pytest.mark.stats
def test_fill_draws_from_the_weighted_mixture():
    """P-values under the analytic conditional; each fails once in 10 000 seeds."""
    table = mixed()
    fit = fitted(table, bandwidth=(0.3, 0.4, 0.5, 0.2, 0.3))
    row = table.take([7]).hide("x", "c")
    drawn = fit.fill(row.take(np.zeros(4000, dtype=int)), 1)[0].values
    rows = fit.program.rows
    x = next(fit.batches(row, 1).pieces()).x
    w = (rows.score(x)[:, 0] + rows.log_weight).softmax(0).numpy()
    spread = np.sqrt(
        np.average(
            (table.values[:, 0] - np.average(table.values[:, 0], weights=table.weights)) ** 2, weights=table.weights
        )
    )
    mixture = lambda t: stats.norm.cdf(t[:, None], table.values[:, 0], 0.3 * spread) @ w  # noqa: E731
    assert stats.kstest(drawn[:, 0], mixture).pvalue > 1e-4
    share = np.array([w[table.values[:, 3] == code].sum() for code in range(3)])
    check_frequencies(drawn[:, 3], 0.8 * share + 0.2 / 3)
    np.testing.assert_allclose(pg.class_probabilities(fit, row, "c")[0], 0.8 * share + 0.2 / 3, atol=1e-9)


def test_nothing_can_be_drawn_given_the_impossible():
    fit = fitted(reals(np.random.default_rng(12).normal(size=(30, 2))), kernel="tophat", bandwidth=0.5)
    far = reals([[50.0, np.nan]])
    assert np.isneginf(nats(fit, far)).all()
    with pytest.raises(pg.CapabilityError, match="density zero"):
        fit.fill(far, 1)


# --------------------------------------------------------------------------------------------------------- holes
def with_holes(values, share, seed):
    rng = np.random.default_rng(seed)
    holes = rng.random(values.shape) < share
    holes[holes.all(1), 0] = False
    return np.where(holes, np.nan, values)


@pytest.mark.stats
def test_rows_with_holes_keep_the_dependence_between_columns():
    rng = np.random.default_rng(13)
    x = rng.normal(size=(600, 1)) + 0.3 * rng.normal(size=(600, 3))
    test = reals(rng.normal(size=(300, 1)) + 0.3 * rng.normal(size=(300, 3)))
    whole, holes = fitted(reals(x)), fitted(reals(with_holes(x, 0.3, 14)))
    complete = with_holes(x, 0.3, 14)
    complete = complete[~np.isnan(complete).any(1)]
    scores = [nats(fit, test).mean() for fit in (whole, holes, fitted(reals(complete)))]
    assert scores[1] > scores[2]  # better than the complete rows alone
    assert scores[1] > scores[0] - 0.25
    drawn = holes.sample(4000, seed=1).values
    assert np.corrcoef(drawn.T)[0, 1] > 0.75


def test_completed_rows_have_known_cells_and_the_weight_of_their_row():
    table = mixed(80)
    values = with_holes(table.values, 0.25, 15)
    rows = kept(Table.from_codes(values, MIXED, table.weights), donors=3, bandwidth="scott")[0]
    assert not rows.centre.isnan().any()
    assert float(rows.log_weight.exp().sum()) == pytest.approx(1.0)
    assert len(rows.centre) == 80 + 2 * np.isnan(values).any(1).sum()
    for axis, column in enumerate((0, 1, 2, 3, 4)):
        known = values[~np.isnan(values[:, column]), column]
        found = rows.centre[:, axis].numpy()
        if column > 1:
            assert set(found) <= set(known)
        else:
            assert len(np.unique(found.round(9))) <= len(known)


def test_a_row_left_out_takes_its_gifts_along():
    """With holes: brute force over the kernels that have no cell of the row."""
    table = mixed(40)
    holes = Table.from_codes(with_holes(table.values, 0.2, 16), MIXED, table.weights)
    rows, x = kept(holes, bandwidth="scott")
    with torch.no_grad():
        left = rows.keep(x, torch.as_tensor(table.weights))
        scores, w = rows.score(x).numpy(), rows.log_weight.exp().numpy()
    origin, terms = left.origin.numpy(), []
    assert origin.shape[1] > 1
    for n in range(40):
        free = (origin != n).all(1)
        assert free.sum() < len(free)
        terms.append(np.log(np.average(np.exp(scores[free, n]), weights=w[free])))
    found = left_out_log_prob(rows, left, rows.width, torch.arange(40))
    assert float(found) == pytest.approx(np.average(terms, weights=table.weights), abs=1e-10)


def test_no_row_is_complete():
    rng = np.random.default_rng(17)
    values = rng.normal(size=(60, 3))
    values[np.arange(60), np.arange(60) % 3] = np.nan
    fit = fitted(reals(values))
    assert np.isfinite(nats(fit, reals(values))).all()


# ---------------------------------------------------------------------------------------------------- hard tables
def test_a_constant_column_is_refused():
    with pytest.raises(pg.DataError, match="'v' is constant"):
        fitted(reals(np.column_stack([np.arange(5.0), np.ones(5)])))
    weights = [1.0, 1.0, 0.0]
    with pytest.raises(pg.FitError, match="'v' does not vary"):
        fitted(reals([[0.0, 1.0], [1.0, 1.0], [2.0, 3.0]], weights))


@pytest.mark.parametrize("bandwidth", ["cross_validation", "scott"])
def test_a_counted_pixel_may_never_vary(bandwidth):
    """It has next to all of its mass where the rows are, and the rest of the density is as without it."""
    grey = np.random.default_rng(0).integers(0, 4, (40, 1, 3)).astype(float)
    grey[:, 0, 0] = 2.0
    table = Table.from_images(grey, levels=4)
    rest = table.drop("image[0,0]")
    every = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), -1).reshape(-1, 3)
    p = np.exp(nats(fitted(table, bandwidth=bandwidth), Table.from_codes(every, table.schema)))
    assert p.sum() == pytest.approx(1.0, abs=1e-9)
    assert p[every[:, 0] == 2].sum() > 0.999
    if bandwidth == "cross_validation":
        own, alone = (fitted(t, bandwidth=bandwidth).log_prob(t).mean().value for t in (table, rest))
        assert own == pytest.approx(alone, abs=0.01)


def test_one_row_is_refused():
    with pytest.raises(pg.FitError, match="at least 2 rows"):
        fitted(reals([[0.0], [1.0]], [1.0, 0.0]))
    schema = Schema((Column("c", "categorical", levels=LEVELS),))
    with pytest.raises(pg.FitError, match="at least 2 rows"):
        fitted(Table.from_codes(np.array([[1.0]]), schema))
    with pytest.raises(pg.FitError, match="All 4 rows are equal"):
        fitted(Table.from_codes(np.ones((4, 1)), schema))


def test_duplicated_rows_change_nothing():
    x = np.random.default_rng(18).normal(size=(80, 2))
    once, twice = fitted(reals(x), tolerance=1e-8), fitted(reals(np.repeat(x, 2, 0)), tolerance=1e-8)
    np.testing.assert_allclose(nats(twice, reals(x)), nats(once, reals(x)), atol=5e-3)


def test_rounded_columns_are_not_split_into_spikes():
    x = np.random.default_rng(19).normal(size=(400, 1))
    fit = fitted(reals(x.round(1)))
    assert fit.diagnostics["bandwidth"]["u"] >= 0.049
    assert np.abs(nats(fit, reals(x)) - stats.norm.logpdf(x[:, 0])).mean() < 0.25


def test_rows_without_weight_do_not_count():
    rng = np.random.default_rng(20)
    x = rng.normal(size=(50, 2))
    more = np.r_[x, rng.normal(size=(20, 2)) + 9]
    few, many = fitted(reals(x)), fitted(reals(more, np.r_[np.ones(50), np.zeros(20)]))
    np.testing.assert_allclose(nats(many, reals(x)), nats(few, reals(x)), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"bandwidth": "thumb"},
        {"bandwidth": -1.0},
        {"bandwidth": (0.5,)},
        {"bandwidth": (0.3, 0.4, 0.5, 1.2, 0.3)},
        {"bandwidth": True},
        {"kernel": "cosine"},
        {"neighbours": 0},
        {"neighbours": 60},
        {"donors": 0},
        {"approximation": 5.0},
    ],
)
def test_options_are_checked(options):
    with pytest.raises(pg.CapabilityError, match=next(iter(options))):
        fitted(mixed(), **options)


def test_the_method_needs_a_model_that_keeps_its_rows():
    with pytest.raises(pg.CapabilityError, match="cannot be fitted by method='cross_validation'"):
        pg.fit("latent_class", mixed(), method="cross_validation", components=2)


# ---------------------------------------------------------------------------------------------------- many rows
def test_merged_kernels_are_near_and_say_how_near():
    rng = np.random.default_rng(21)
    table, test = reals(rng.gamma(2.0, size=(5000, 1))), reals(rng.gamma(2.0, size=(500, 1)))
    whole, merged = fitted(table, bandwidth="scott"), fitted(table, bandwidth="scott", approximation=0.3)
    assert merged.diagnostics["kernels"] < 300
    off = np.abs(nats(merged, test) - nats(whole, test))
    assert off.mean() < 3e-3
    assert off.mean() == pytest.approx(merged.diagnostics["approximation_error"], rel=1.0)
    assert nats(merged, test.hide("u")) == pytest.approx(0.0, abs=1e-9)


def test_levels_and_counts_are_never_merged():
    rows = kept(mixed(300), approximation=2.0, bandwidth="scott")[0]
    assert len(rows.centre) < 300
    assert torch.equal(rows.centre[:, 2:], rows.centre[:, 2:].round())


@pytest.mark.stats
def test_widths_found_on_a_sample_are_scaled_to_all_rows():
    table = reals(np.random.default_rng(22).normal(size=(3000, 2)))
    every, some = fitted(table), fitted(table, kernels=750)
    assert len(some.program.rows.centre) == 3000
    a, b = (np.array(list(fit.diagnostics["bandwidth"].values())) for fit in (every, some))
    np.testing.assert_allclose(b, a, rtol=0.35)


def test_save_and_load_with_every_option(tmp_path):
    table = mixed()
    options = {"bandwidth": (0.3, 0.4, 0.5, 0.2, 0.3), "kernel": "biweight", "neighbours": 3, "approximation": 0.2}
    fit = fitted(table, **options)
    fit.save(tmp_path / "kept.probgen")
    again = pg.load(tmp_path / "kept.probgen")
    np.testing.assert_array_equal(nats(again, table), nats(fit, table))


def test_blocks_do_not_matter(monkeypatch):
    table = mixed()
    fit = fitted(table)
    whole = nats(fit, table)
    monkeypatch.setattr("probgen.families.kernel_rows.PIECE", 1)
    assert isinstance(fit.program.rows, KernelRows)
    assert fit.program.piece_rows == 8
    np.testing.assert_allclose(nats(fit, table), whole, atol=1e-10)
    monkeypatch.setattr("probgen.inference.methods.cross_validation.SCORES", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(nats(fitted(table), table), whole, atol=1e-6)
