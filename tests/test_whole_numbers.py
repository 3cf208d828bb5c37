"""Options that are whole numbers: numpy's are taken, fractions, truth values and texts are not, wherever they are asked for."""

import numpy as np
import pytest

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.queries.persistence import from_bytes, to_bytes
from probgen.whole import is_whole

ROWS = np.random.default_rng(0).normal(size=(30, 3))
WRONG = (1.5, True, "a", 0, np.float64(2.0), np.True_)


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.from_codes(ROWS, Schema(tuple(Column(name, "real") for name in "xyz")))


@pytest.fixture(scope="module")
def network(table):
    return pg.fit("vae", table, latent=np.int64(1), hidden=(np.int64(4),), max_steps=np.int64(2), progress=False)


@pytest.fixture(scope="module")
def mixture(table):
    return pg.fit("gaussian_mixture", table, components=np.int64(2), max_steps=2, tolerance=10.0, progress=False)


@pytest.mark.parametrize(
    "kind", [np.int64, np.int32, np.uint8, int], ids=lambda kind: f"{kind.__module__}.{kind.__name__}"
)
def test_whole_numbers_of_every_library_are_taken(network, table, kind):
    few, holed = table.take([0, 1]), table.take([0, 1]).hide("x")
    same = network.log_prob(few, draws=5, refine=3)
    assert np.array_equal(network.log_prob(few, draws=kind(5), refine=kind(3)).value, same.value)
    annealed = network.log_prob(few, method="annealed", draws=kind(2), temperatures=kind(3), progress=False)
    assert np.isfinite(annealed.value).all()
    assert len(network.fill(holed, draws=kind(2), refine=kind(2), sweeps=kind(1))) == 2
    assert len(network.sample(kind(3))) == 3


@pytest.mark.parametrize("wrong", WRONG)
def test_others_are_refused(network, mixture, table, wrong):
    holed = table.hide("x")
    asked = [
        lambda: network.log_prob(table, draws=wrong),
        lambda: mixture.log_prob(table, draws=wrong),
        lambda: network.log_prob(table, method="annealed", temperatures=wrong, progress=False),
        lambda: network.fill(holed, draws=wrong),
        lambda: pg.latent_information(network, table, draws=wrong),
        lambda: pg.fit("gaussian_mixture", table, components=wrong),
        lambda: pg.fit("vae", table, latent=wrong),
        lambda: pg.fit("hierarchical_vae", table, latent=wrong),
        lambda: pg.fit("gaussian_mixture", table, max_steps=wrong),
        lambda: pg.impute(table, m=wrong),
    ]
    for ask in asked:
        with pytest.raises(pg.CapabilityError, match=r"[Ww]hole number"):
            ask()


@pytest.mark.parametrize("wrong", [1.5, True, "a", -1])
def test_steps_are_refused(network, table, wrong):
    for name in ("refine", "sweeps"):
        with pytest.raises(pg.CapabilityError, match=f"{name} is a number of steps"):
            network.fill(table.hide("x"), **{name: wrong})


def test_saved_fits_keep_numpys_numbers(network, mixture, table):
    for fit in (network, mixture):
        again = from_bytes(to_bytes(fit))
        assert np.array_equal(again.log_prob(table).value, fit.log_prob(table).value)


def test_checkpoints_do_not_tell_numpys_numbers_from_pythons(table, tmp_path):
    path = tmp_path / "checkpoint"
    for components in (np.int64(2), 2):
        pg.fit("gaussian_mixture", table, components=components, checkpoint=path, progress=False)
    with pytest.raises(pg.ProbgenError, match="components"):
        pg.fit("gaussian_mixture", table, components=np.int64(3), checkpoint=path, progress=False)


def test_infinities_and_nothing_are_no_whole_numbers():
    assert not any(map(is_whole, (np.inf, np.nan, None, [], np.array(3.0))))
