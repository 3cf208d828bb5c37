"""Measures of two samples against closed forms, double loops, other libraries and hand counts."""

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

import probgen as pg
from probgen.errors import CapabilityError, DataError
from probgen.studies.sample_distances import unit_directions
from probgen.studies.scoring import energy_terms


def two(seed, n=60, m=60, shift=0.0, columns=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, columns)), rng.normal(size=(m, columns)) + shift


# ------------------------------------------------------------------------------------------------------- U-statistics
def folded(mean, sd):
    """E |X| of a normal number."""
    return sd * np.sqrt(2 / np.pi) * np.exp(-(mean**2) / (2 * sd**2)) + mean * (1 - 2 * stats.norm.cdf(-mean / sd))


@pytest.mark.stats
def test_energy_distance_of_normals():
    """Of N(0, 1) and N(1, 4): within four of its own errors, and its errors are those of repetitions (within a third)."""
    truth = 2 * folded(1.0, np.sqrt(5.0)) - folded(0.0, np.sqrt(2.0)) - folded(0.0, np.sqrt(8.0))
    rng = np.random.default_rng(0)
    found = [pg.energy_distance(rng.normal(size=(150, 1)), rng.normal(1, 2, (100, 1))) for _ in range(200)]
    values = np.array([f.value for f in found])
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(200)
    assert np.mean([f.error for f in found]) == pytest.approx(values.std(), rel=1 / 3)


def test_energy_distance_by_the_double_loop():
    x, y = two(1, 7, 5, 0.5)
    across = np.mean([np.linalg.norm(a - b) for a in x for b in y])
    own = np.mean([np.linalg.norm(x[i] - x[j]) for i in range(7) for j in range(7) if i != j])
    foreign = np.mean([np.linalg.norm(y[i] - y[j]) for i in range(5) for j in range(5) if i != j])
    assert pg.energy_distance(x, y).value == pytest.approx(2 * across - own - foreign)


def test_paired_terms_leave_partners_out():
    x, y = two(2, 6, 6, 0.5)
    a, b, c = cdist(x, y), cdist(x, x), cdist(y, y)
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    truth = np.mean([a[i, j] + a[j, i] - b[i, j] - c[i, j] for i, j in pairs])
    assert energy_terms(x, y).mean() == pytest.approx(truth)


def test_discrepancy_by_the_double_loop():
    x, y = two(3, 7, 5, 0.5)
    both = np.concatenate([x, y])
    width = np.median([np.linalg.norm(both[i] - both[j]) for i in range(12) for j in range(i)])

    def kernel(a, b):
        return np.exp(-((a - b) ** 2).sum() / (2 * width**2))

    own = np.mean([kernel(x[i], x[j]) for i in range(7) for j in range(7) if i != j])
    foreign = np.mean([kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    across = np.mean([kernel(a, b) for a in x for b in y])
    found = pg.maximum_mean_discrepancy(x, y)
    assert found.value == pytest.approx(own + foreign - 2 * across)
    assert found.setting == pytest.approx(width)


@pytest.mark.stats
def test_discrepancy_of_normals():
    """Kernel means of normals are normal densities: of N(0, 1) and N(1, 1) with h = 1, within four errors of repetitions."""
    like = 1 / np.sqrt(3.0)
    truth = 2 * like - 2 * like * np.exp(-1 / 6)
    rng = np.random.default_rng(1)
    values = [
        pg.maximum_mean_discrepancy(rng.normal(size=(60, 1)), rng.normal(1, 1, (60, 1)), bandwidth=1.0).value
        for _ in range(200)
    ]
    assert abs(np.mean(values) - truth) < 4 * np.std(values) / np.sqrt(200)


def test_permutations_are_those_of_the_statistic():
    """The p-value from matrix products is that of the statistic itself, permutation by permutation."""
    x, y = two(4, 9, 6, 0.4)
    from probgen.studies.sample_distances import permuted

    both, value = np.concatenate([x, y]), pg.energy_distance(x, y).value
    others = [pg.energy_distance(both[a], both[~a]).value for a in permuted(9, 15, 50, 3)]
    assert pg.energy_distance(x, y, permutations=50, seed=3).p_value == (1 + sum(o >= value for o in others)) / 51


# --------------------------------------------------------------------------------------------------- other distances
def test_slices_of_shifted_rows_are_the_shift():
    x = two(5, columns=3)[0]
    shift = np.array([1.0, -2.0, 0.5])
    truth = np.abs(unit_directions(100, 3, 0) @ shift).mean()
    assert pg.sliced_wasserstein(x, x + shift).value == pytest.approx(truth)


def test_slices_agree_with_scipy():
    x, y = two(6, 40, 25, 0.3, columns=3)
    axes = unit_directions(20, 3, 0)
    truth = np.mean([stats.wasserstein_distance(x @ u, y @ u) for u in axes])
    assert pg.sliced_wasserstein(x, y, directions=20).value == pytest.approx(truth)


def test_mean_of_directions_is_known():
    """Of the sphere in three dimensions, |u . s| is uniform on [0, |s|]."""
    x = two(7, columns=3)[0]
    found = pg.sliced_wasserstein(x, x + np.array([0.0, 3.0, 4.0]), directions=4000).value
    assert found == pytest.approx(2.5, abs=4 * 5 / np.sqrt(12 * 4000))


def test_frechet_distance_by_the_matrix_root():
    x, y = two(8, 50, 40, 0.3, columns=4)
    y = y @ np.random.default_rng(0).normal(size=(4, 4))
    a, b = np.cov(x.T), np.cov(y.T)
    truth = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert pg.frechet_distance(x, y).value == pytest.approx(truth)


def test_one_column_of_frechet():
    x, y = two(9, columns=1)
    truth = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert pg.frechet_distance(x, y).value == pytest.approx(truth)


# --------------------------------------------------------------------------------------------------------- neighbours
def test_neighbours_on_five_points_by_hand():
    """Radii with k = 1: real (0, 1, 3, 7, 15): 1, 1, 2, 4, 8; drawn (0.5, 2, 6, 40, 41): 1.5, 1.5, 4, 1, 1."""
    real = np.array([0.0, 1.0, 3.0, 7.0, 15.0])[:, None]
    drawn = np.array([0.5, 2.0, 6.0, 40.0, 41.0])[:, None]
    precision, recall = pg.precision_recall(real, drawn, neighbours=1)
    assert precision.value == 3 / 5  # 40 and 41 are in no ball
    assert recall.value == 4 / 5  # 15 is in none of [-1, 2], [0.5, 3.5], [2, 10]
    density, coverage = pg.density_coverage(real, drawn, neighbours=1)
    assert density.value == (2 + 2 + 1) / 5  # 0.5 in two balls, 2 in [0, 2] and [1, 5], 6 in [3, 11]
    assert coverage.value == 4 / 5  # [7, 23] holds no drawn row


def brute(real, drawn, k):
    def radius(rows, i):
        return sorted(np.linalg.norm(rows - rows[i], axis=1))[k]

    inside = np.array([[np.linalg.norm(y - x) <= radius(real, i) for y in drawn] for i, x in enumerate(real)])
    back = np.array([[np.linalg.norm(y - x) <= radius(drawn, j) for j, y in enumerate(drawn)] for x in real])
    return inside.any(0).mean(), back.any(1).mean(), inside.sum() / (k * len(drawn)), inside.any(1).mean()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_neighbours_by_brute_force(k):
    x, y = two(10, 30, 20, 0.7)
    found = [m.value for m in (*pg.precision_recall(x, y, k), *pg.density_coverage(x, y, k))]
    assert found == pytest.approx(brute(x, y, k))


@pytest.mark.stats
def test_coverage_and_density_of_one_law():
    """Naeem et al. (2020), lemmas 1 and 2: density 1, coverage 1 - prod (N - i) / (N + M - i); within four errors of repetitions."""
    found = np.array([[m.value for m in pg.density_coverage(*two(s, 40, 40), 2)] for s in range(150)])
    coverage = 1 - (39 * 38) / (79 * 78)
    assert np.all(np.abs(found.mean(0) - [1.0, coverage]) < 4 * found.std(0) / np.sqrt(150))


@pytest.mark.stats
def test_errors_are_those_of_repetitions():
    """Mean stated error within 40 % of the spread over 80 repetitions, of both kinds of measures."""
    rows = [two(s, 100, 100, 0.8) for s in range(80)]
    ways = [
        lambda x, y: pg.precision_recall(x, y)[0],
        lambda x, y: pg.precision_recall(x, y)[1],
        lambda x, y: pg.density_coverage(x, y)[0],
        lambda x, y: pg.density_coverage(x, y)[1],
        lambda x, y: pg.sliced_wasserstein(x, y, directions=20),
        pg.frechet_distance,
        pg.maximum_mean_discrepancy,
    ]
    for way in ways:
        found = [way(x, y) for x, y in rows]
        spread = np.std([f.value for f in found])
        assert np.mean([f.error for f in found]) == pytest.approx(spread, rel=0.4)


def test_dropped_modes_lower_recall_and_not_precision():
    ring = pg.toy("eight_normals", 1600).values
    held, drawn = ring[:800], ring[800:]
    half = drawn[drawn[:, 0] > 0.9]
    assert pg.precision_recall(held, half)[0].value > 0.9
    assert pg.precision_recall(held, drawn)[1].value > 0.9
    assert pg.precision_recall(held, half)[1].value < 0.6
    assert pg.density_coverage(held, half)[1].value < 0.6


def test_invented_rows_lower_precision_and_not_recall():
    ring = pg.toy("eight_normals", 1600).values
    held, drawn = ring[:800], ring[800:]
    smeared = np.concatenate([drawn, np.random.default_rng(0).uniform(-8, 8, (800, 2))])
    assert pg.precision_recall(held, smeared)[0].value < 0.7
    assert pg.precision_recall(held, smeared)[1].value > 0.9
    assert pg.density_coverage(held, smeared)[0].value < 0.7
    assert pg.density_coverage(held, smeared)[1].value > 0.9


# ------------------------------------------------------------------------------------------------------------- tests
TESTS = {
    "energy": lambda x, y, s: pg.energy_distance(x, y, 99, seed=s),
    "discrepancy": lambda x, y, s: pg.maximum_mean_discrepancy(x, y, 99, seed=s),
    "slices": lambda x, y, s: pg.sliced_wasserstein(x, y, 99, 10, seed=s),
    "neighbours": lambda x, y, s: pg.classifier_two_sample(x, y, seed=s),
    "linear": lambda x, y, s: pg.classifier_two_sample(x, y, "linear", seed=s),
}


@pytest.mark.stats
@pytest.mark.parametrize("name", TESTS)
def test_p_values_of_one_law(name):
    """At most as many below 0.1 and 0.3 as chance makes, by a binomial test at 1e-3; of permutations, also not fewer."""
    p = np.array([TESTS[name](*two(100 + s, 30, 30), s).p_value for s in range(80 if name == "linear" else 120)])
    for level in (0.1, 0.3):
        count = int((p <= level + 1e-9).sum())
        assert stats.binom.sf(count - 1, len(p), level) > 1e-3
        if name not in ("neighbours", "linear"):  # whose exact test errs to the safe side
            assert stats.binom.cdf(count, len(p), level) > 1e-3


@pytest.mark.stats
@pytest.mark.parametrize("name", [*TESTS, "network"])
def test_a_shift_is_seen(name):
    """Of one standard deviation in both of two columns, with 100 rows: every time."""
    way = TESTS.get(name, lambda x, y, s: pg.classifier_two_sample(x, y, "network", seed=s))
    assert all(way(*two(s, 100, 100, 1.0), s).p_value < 0.02 for s in range(2 if name == "network" else 5))


def test_accuracy_is_that_of_the_best_rule():
    """Two normals two apart: the best rule is right with probability Phi(1)."""
    x, y = two(11, 1000, 1000, np.array([2.0, 0.0]))
    found = pg.classifier_two_sample(x, y, "linear")
    assert abs(found.value - stats.norm.cdf(1.0)) < 4 * found.error
    assert found.error == pytest.approx(np.sqrt(0.84 * 0.16 / 2000), rel=0.05)


def test_a_network_sees_what_a_line_cannot():
    rng = np.random.default_rng(12)
    x = rng.normal(size=(300, 2))
    y = x[rng.permutation(300)] * rng.choice([0.4, 1.6], (300, 1))
    assert pg.classifier_two_sample(x, y, "network").p_value < 1e-3
    assert pg.classifier_two_sample(x, y, "linear").p_value > 0.05


def test_the_same_seed_gives_the_same_numbers():
    x, y = two(13, 40, 40, 0.2)
    for name in ("neighbours", "network"):
        one, again = (pg.classifier_two_sample(x, y, name, seed=2) for _ in range(2))
        assert one == again


# --------------------------------------------------------------------------------------------------------- bad input
def test_bad_rows_are_refused():
    x, y = two(14)
    with pytest.raises(DataError, match=r"same F, got \(60, 2\) and \(60, 1\)"):
        pg.energy_distance(x, y[:, :1])
    with pytest.raises(DataError, match="at least 2 rows, they have 60 and 1"):
        pg.sliced_wasserstein(x, y[:1])
    x[3, 1] = np.nan
    with pytest.raises(DataError, match="first set has nan in row 3, column 1"):
        pg.maximum_mean_discrepancy(x, y)
    with pytest.raises(DataError, match="bandwidth must be positive"):
        pg.maximum_mean_discrepancy(y, y, bandwidth=0.0)
    with pytest.raises(DataError, match="3 neighbours need more than 3 rows"):
        pg.precision_recall(y, y[:3])
    with pytest.raises(CapabilityError, match="neighbours must be a whole number"):
        pg.density_coverage(y, y, neighbours=0)
    with pytest.raises(CapabilityError, match=r"one of neighbours, linear, network, got 'forest'"):
        pg.classifier_two_sample(y, y, "forest")
    with pytest.raises(DataError, match="needs 10 rows a set"):
        pg.classifier_two_sample(y, y[:5])


def test_rows_that_are_all_equal_are_no_failure():
    same = np.ones((20, 2))
    assert pg.energy_distance(same, same, 9).value == 0.0
    assert pg.maximum_mean_discrepancy(same, same, 9).p_value == 1.0
    assert pg.precision_recall(same, same)[0].value == 1.0
