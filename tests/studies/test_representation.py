"""What codes are judged by, beside scikit-learn and cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

import probgen as pg
from probgen.studies.neighbourhoods import continuity, trustworthiness
from probgen.studies.partitions import adjusted_rand, clustered, normalised_information
from probgen.studies.probes import linear_probe, neighbour_probe, softmax_reader

pytestmark = pytest.mark.filterwarnings("error")


def groups(rows=600, dimensions=4, apart=6.0, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=rows)
    return apart * rng.normal(size=(3, dimensions))[label] + rng.normal(size=(rows, dimensions)), label


def test_partitions_agree_as_scikit_learn_says():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(5):
        a = rng.integers(5, size=200)
        b = np.where(rng.random(200) < 0.6, a, rng.integers(4, size=200))
        assert adjusted_rand(a, b) == pytest.approx(metrics.adjusted_rand_score(a, b), abs=1e-12)
        assert normalised_information(a, b) == pytest.approx(metrics.normalized_mutual_info_score(a, b), abs=1e-12)
    assert adjusted_rand(a, a) == normalised_information(a, a) == 1.0


def test_neighbourhoods_are_kept_as_scikit_learn_says():
    manifold = pytest.importorskip("sklearn.manifold")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 6))
    z = x[:, :2] + 0.1 * rng.normal(size=(150, 2))
    assert trustworthiness(x, z, 8) == pytest.approx(manifold.trustworthiness(x, z, n_neighbors=8), abs=1e-12)
    assert continuity(x, z, 8) == pytest.approx(manifold.trustworthiness(z, x, n_neighbors=8), abs=1e-12)
    assert trustworthiness(x, x) == continuity(x, x) == 1.0
    assert trustworthiness(x, rng.normal(size=(150, 2))) == pytest.approx(0.5, abs=0.1)


def test_the_linear_reader_is_scikit_learn_s():
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = groups(300, apart=1.0)
    for strength in (0.1, 10.0):
        theirs = linear.LogisticRegression(C=100 / (strength * 300), max_iter=2000, tol=1e-8).fit(x, y).predict(x)
        assert (softmax_reader(strength)(x, y, x) == theirs).mean() > 0.99


@pytest.mark.parametrize("probe", [linear_probe, neighbour_probe])
def test_probes_tell_what_codes_hold_and_nothing_where_they_hold_nothing(probe):
    x, y = groups()
    told = probe(x, y.astype(float), True)
    assert told.score > 0.95
    assert told.measure == "accuracy"
    rng = np.random.default_rng(1)
    noise = probe(rng.normal(size=x.shape), y.astype(float), True)
    assert abs(noise.score - 1 / 3) < 4 * noise.error + 0.02
    number = probe(x, x[:, 0] + 0.5 * rng.normal(size=len(x)), False)
    exact = 1 - 0.25 / (x[:, 0].var() + 0.25)
    assert number.score == pytest.approx(exact, abs=4 * number.error + (0.02 if probe is neighbour_probe else 0.0))
    assert number.baseline == pytest.approx(0.0, abs=0.02)


def test_the_error_of_a_probe_is_that_of_other_rows():
    """Over samples of one population, scores vary by what they say."""
    x, y = groups(8000, 2, 1.0)
    samples = np.arange(8000).reshape(40, 200)
    found = [linear_probe(x[rows], y[rows].astype(float), True) for rows in samples]
    assert np.mean([probe.error for probe in found]) == pytest.approx(
        np.std([probe.score for probe in found]), rel=0.35
    )


def test_rows_without_a_target_are_passed_over():
    x, y = groups()
    assert linear_probe(x, np.where(np.arange(len(y)) % 2, np.nan, y), True).score > 0.9


def test_embeddings_are_judged_beside_the_columns_and_principal_components():
    x, y = groups(300)
    table = pg.Table({**{f"x{at}": column for at, column in enumerate(x.T)}, "group": [f"g{label}" for label in y]})
    mixture = pg.fit("gaussian_mixture", table, components=3, seed=0, progress=False)
    factors = pg.fit("factor_analysis", table.drop(["group"]), latent=2, seed=0, progress=False)
    found = pg.representation_study({"mixture": mixture}, table, "group")
    by_name = {row["model"]: row for row in found.scores}
    assert list(by_name) == ["mixture", "principal components", "the columns"]
    assert by_name["the columns"]["trustworthiness"] == 1.0
    for row in found.scores:
        assert row["linear"] > 0.9
        assert row["measure"] == "accuracy"
        assert row["baseline"] < 0.5
    assert by_name["mixture"]["ari"] > 0.9
    alone = pg.representation_study({"factors": factors}, table.drop(["group"]))
    assert set(alone.scores[0]) == {"model", "dimensions", "trustworthiness", "continuity"}
    number = pg.representation_study(
        {"factors": pg.fit("factor_analysis", table, latent=2, progress=False)}, table, "x0"
    )
    assert {row["measure"] for row in number.scores} == {"r2"}


def test_a_mixture_on_the_codes_finds_groups():
    x, y = groups()
    assert adjusted_rand(clustered(x, 3), y) > 0.95
    assert clustered(np.zeros((20, 2)), 3) is None


def test_few_known_targets_are_too_few():
    x, y = groups(600)
    few = np.where(np.arange(600) < 30, y, np.nan)
    assert neighbour_probe(x, few, True).score > 0.8
    with pytest.raises(pg.DataError, match="too few for a probe"):
        linear_probe(x, np.full(600, np.nan), True)


def linear_rows(rows=200):
    """Numbers made of two factors, of which a label is one."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=(rows, 2))
    x = z @ rng.normal(size=(2, 5)) + 0.8 * rng.normal(size=(rows, 5))
    names = {f"x{at}": column for at, column in enumerate(x.T)}
    return pg.Table({**names, "kind": np.where(z[:, 0] > 0, "a", "b").astype(object), "level": z[:, 1]})


def test_draws_and_factors_add_to_what_was_found_and_change_nothing_of_it():
    table = linear_rows()
    fit = pg.fit("factor_analysis", table.drop(["kind", "level"]), latent=2, seed=0, progress=False)
    plain = pg.representation_study({"factors": fit}, table.drop(["level"]), "kind")
    more = pg.representation_study({"factors": fit}, table, "kind", factors=["level"], draws=3)
    np.testing.assert_array_equal(plain.embeddings["factors"], more.embeddings["factors"])
    for before, after in zip(plain.scores, more.scores, strict=True):
        assert {key: after[key] for key in before} == before
        assert 0 <= after["mig"] <= 1
    assert plain.uncertainty == {}
    assert more.uncertainty["factors"].shape == (200, 2)
    record = more.scores[0]
    assert record["linear_drawn"] < record["linear"]  # noise of the posterior is noise to a reader
    assert record["linear_drawn_sd"] > 0
    assert "linear_drawn" not in more.scores[1]
    assert record["unsure"] == pytest.approx(np.mean(more.uncertainty["factors"] ** 2), rel=0.3)


def test_codes_that_are_factors_are_judged_so():
    rng = np.random.default_rng(4)
    v = rng.normal(size=(600, 2))
    x = np.column_stack([v[:, 0] + 0.1 * rng.normal(size=600), v[:, 0], v[:, 1], v[:, 1] + 0.1 * rng.normal(size=600)])
    table = pg.Table({**{f"x{at}": column for at, column in enumerate(x.T)}, "one": v[:, 0], "other": v[:, 1]})
    fit = pg.fit("probabilistic_pca", table.drop(["one", "other"]), latent=2, seed=0, progress=False)
    found = pg.representation_study({"pca": fit}, table, factors=["one", "other"]).scores
    by_name = {row["model"]: row for row in found}
    assert by_name["the columns"]["dci"] > 0.9  # each column is one factor and its copy
    assert by_name["pca"]["informativeness"] > 0.9
    empty = table.hide("one")
    with pytest.raises(pg.DataError, match="no row in which all factors"):
        pg.representation_study({"pca": fit}, empty, factors=["one"])
