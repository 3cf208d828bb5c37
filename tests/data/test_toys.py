"""Toy densities against quadrature, their own samplers and SciPy."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

import probgen as pg
from probgen.data.toy_densities import Along, entropy_on_grid
from probgen.data.toys import PLANE, TOYS
from probgen.errors import DataError

CURVED = [name for name, density in PLANE.items() if isinstance(density, Along)]


def cells(density, bins=24, fine=8):
    """Probabilities of the squares of a grid over the window, by the midpoint rule inside each, and its edges."""
    edges = np.linspace(-density.reach, density.reach, bins + 1)
    line = np.linspace(-density.reach, density.reach, bins * fine, endpoint=False) + density.reach / (bins * fine)
    points = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    mass = np.exp(density.log_density(points)) * (line[1] - line[0]) ** 2
    return mass.reshape(bins, fine, bins, fine).sum((1, 3)), edges


@pytest.mark.stats
@pytest.mark.parametrize("name", PLANE)
def test_rows_follow_the_density(name):
    """Chi-square over squares with at least five rows expected, and what is left; fails once in 1000 for a right density."""
    density, rows = PLANE[name], 20_000
    bins = 20 if name == "checkerboard" else 24  # whose squares end at edges
    mass, edges = cells(density, bins)
    found = np.histogram2d(*pg.toy(name, rows, seed=1).values.T, bins=[edges, edges])[0]
    large = mass * rows >= 5
    expected = np.append(mass[large], max(1 - mass[large].sum(), 1e-9)) * rows
    seen = np.append(found[large], rows - found[large].sum())
    if expected[-1] < 5:
        assert seen[-1] < 20
        expected, seen = expected[:-1] * seen[:-1].sum() / expected[:-1].sum(), seen[:-1]
    assert stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize("name", PLANE)
def test_densities_integrate_to_one(name):
    mass, _ = cells(PLANE[name], 20)
    outside = {"banana": 0.02, "funnel": 0.02}.get(name, 1e-6)  # of which a part lies beyond the window
    assert 1 - outside < mass.sum() < 1 + 1e-6


@pytest.mark.stats
@pytest.mark.parametrize("name", TOYS)
def test_entropy_is_the_mean_over_rows(name):
    """Within four standard errors: fails six times in 100 000."""
    scores = -pg.toy_log_density(name, pg.toy(name, 20_000, seed=2))
    assert abs(scores.mean() - pg.toy_entropy(name)) < 4 * scores.std() / np.sqrt(len(scores)) + 1e-9


@pytest.mark.parametrize("name", [*CURVED, "pinwheel"])
def test_entropy_is_exact_to_a_millionth(name):
    assert entropy_on_grid(PLANE[name], 0.05) == pytest.approx(pg.toy_entropy(name), abs=1e-6)


@pytest.mark.parametrize("name", ["banana", "funnel"])
def test_closed_forms_by_nested_quadrature(name):
    """The chain rule: entropy of the first column, and of the second given the first."""
    density = PLANE[name]

    def at(a, b):
        return float(density.log_density(np.array([[a, b]]))[0])

    def inner(a):
        middle = 0.7 * a**2 - 1 if name == "banana" else 0.0
        width = 0.25 if name == "banana" else np.exp(a - 0.5)
        return -quad(lambda b: np.exp(at(a, b)) * at(a, b), middle - 9 * width, middle + 9 * width, epsrel=1e-7)[0]

    assert quad(inner, -6, 6, epsrel=1e-6)[0] == pytest.approx(pg.toy_entropy(name), abs=1e-5)


@pytest.mark.parametrize("name", [name for name in CURVED if name != "eight_normals"])
def test_nodes_are_close_enough(name):
    """Every curve integrated by SciPy, at rows of the density and at points of the whole window."""
    density = PLANE[name]
    rng = np.random.default_rng(3)
    points = np.concatenate([density.draw(4, rng), rng.uniform(-density.reach, density.reach, (4, 2))])
    for point, found in zip(points, density.log_density(points), strict=True):

        def scaled(t, curve, point=point, found=found):
            squares = ((point - curve(np.array([t]))[0]) ** 2).sum()
            return np.exp(-squares / (2 * density.noise**2) - np.log(2 * np.pi * density.noise**2) - found)

        parts = [
            quad(scaled, a / 12, (a + 1) / 12, args=(c,), epsabs=1e-11)[0] for c in density.curves for a in range(12)
        ]
        assert np.log(sum(parts) / len(density.curves)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("name", "degrees"), [("correlated_normal", None), ("heavy_tailed", 3.0)])
def test_ten_columns_agree_with_scipy(name, degrees):
    place = np.arange(10)
    shape = 0.8 ** np.abs(place[:, None] - place)
    peer = stats.multivariate_normal(np.zeros(10), shape)
    if degrees is not None:
        peer = stats.multivariate_t(np.zeros(10), shape, df=degrees)
    x = pg.toy(name, 50).values
    assert pg.toy_log_density(name, x) == pytest.approx(peer.logpdf(x))
    assert pg.toy_entropy(name) == pytest.approx(float(peer.entropy()))


def test_the_ring_has_eight_modes():
    x = pg.toy("eight_normals", 4000).values
    sector = np.round(np.arctan2(x[:, 1], x[:, 0]) / (np.pi / 4)).astype(int) % 8
    assert (np.bincount(sector, minlength=8) > 400).all()


def test_the_same_seed_gives_the_same_rows():
    one, two, other = (pg.toy("pinwheel", 10, seed=seed).values for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_bad_input_is_refused():
    with pytest.raises(DataError, match=r"no toy density 'moons'.*two_moons"):
        pg.toy("moons")
    with pytest.raises(DataError, match="rows must be a whole number of at least 1, got 0"):
        pg.toy("banana", 0)
    with pytest.raises(DataError, match=r"'banana' has 2 columns; the rows given have shape \(3, 5\)"):
        pg.toy_log_density("banana", np.zeros((3, 5)))
    with pytest.raises(DataError, match="Row 1, column 0 is unknown"):
        pg.toy_log_density("banana", np.array([[0.0, 1.0], [np.nan, 2.0]]))
