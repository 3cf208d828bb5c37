"""Divergences from known densities, and their picture."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import probgen as pg
from probgen import plots
from probgen.errors import DataError
from probgen.studies.toy_study import divergence, grid


@pytest.fixture(scope="module")
def found():
    models = {"gaussian_mixture": {"components": 8, "restarts": 1}, "autoencoder": {"max_steps": 1}}
    return pg.toy_study(models, ["eight_normals", "banana"], rows=600, points=30, draws=100, progress=False)


@pytest.mark.stats
def test_divergence_of_normals_is_the_closed_form():
    """One normal fitted to a correlated normal of ten columns: within four errors of KL between the two normals."""
    fit = pg.fit("gaussian_mixture", pg.toy("correlated_normal", 400), components=1, prior=None, progress=False)
    place = np.arange(10)
    truth = 0.8 ** np.abs(place[:, None] - place)
    x = pg.toy("correlated_normal", 400).values  # maximum likelihood: its moments
    mean, cov = x.mean(0), np.cov(x.T, bias=True)
    inverse = np.linalg.inv(cov)
    shift = mean @ inverse @ mean
    exact = 0.5 * (np.trace(inverse @ truth) - 10 + shift + np.linalg.slogdet(cov)[1] - np.linalg.slogdet(truth)[1])
    score = divergence(fit, "correlated_normal", pg.toy("correlated_normal", 4000, seed=9))
    assert abs(score["kl"] - exact) < 4 * score["error"]
    assert score["kind"] == "exact"


def test_the_density_of_a_fit_is_not_above_the_truth(found):
    assert {(s["toy"], s["model"]) for s in found.scores} == {(t, "gaussian_mixture") for t in found.toys}
    for score in found.scores:
        assert -3 * score["error"] < score["kl"] < 0.2
        assert score["entropy"] == pg.toy_entropy(score["toy"])


def test_failures_are_told_and_do_not_end_the_study(found):
    assert set(found.failures) == {(name, "autoencoder") for name in found.toys}
    assert "autoencoder on banana: " in str(found)
    assert found.to_pandas().shape[0] == 2


def test_planes_are_densities(found):
    """Mass in the window, by squares: of the truth and of the fit."""
    for model in ("", "gaussian_mixture"):
        side = 2 * 3.0 / 30
        assert np.exp(found.planes["eight_normals", model]).sum() * side**2 == pytest.approx(1.0, abs=0.05)
    points = grid("banana", 30).reshape(30, 30, 2)
    assert points[0, 0, 1] > points[-1, 0, 1]
    assert points[0, 0, 0] < points[0, -1, 0]


def test_the_gallery_shows_every_model(found):
    figure = plots.toy_gallery(found)
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 2 * (2 + 2 * 2)
    words = [axes.get_xlabel() for axes in figure.axes]
    score = found.score("banana", "gaussian_mixture")
    assert any(f"{score['kl']:.3f} ± " in word for word in words)
    figure.canvas.draw()


def test_bad_input_is_refused(found):
    with pytest.raises(DataError, match=r"toys must be some of .*; got \['moons'\]"):
        pg.toy_study(["gaussian_mixture"], ["moons"])
    plain = pg.toy_study({"probabilistic_pca": {"latent": 1}}, "banana", rows=50, test_rows=50, progress=False)
    assert plain.planes == {}
    with pytest.raises(DataError, match="toy_study needs points=80"):
        plots.toy_gallery(plain)
