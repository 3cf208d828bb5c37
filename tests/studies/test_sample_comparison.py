"""Comparisons of tables of real and drawn rows, features of pictures, and studies that have them beside log densities."""

import numpy as np
import pytest

import probgen as pg
from probgen.errors import CapabilityError, DataError, SchemaError
from probgen.studies.density import compare_densities
from probgen.studies.sample_comparison import MEASURES


def mixed(seed, rows=400, shift=0.0):
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=rows)
    x = rng.normal(100.0 * label + 50 * shift, 50.0)
    return {"x": x, "n": rng.poisson(3.0 + label), "label": np.array(["a", "b", "c"], dtype=object)[label]}


@pytest.fixture(scope="module")
def real():
    return pg.Table(mixed(0))


def test_every_measure_stands_beside_real_rows(real):
    found = pg.compare_samples(real, mixed(1))
    assert list(found.drawn) == list(found.real) == [name for name in MEASURES if name != "frechet_distance"]
    assert found.rows == 200
    assert "numbers in standard deviations" in str(found)
    assert {r["measure"] for r in found.records()} == set(found.drawn)
    assert len(found.to_pandas()) == 8


def test_measures_are_those_of_the_coded_rows(real):
    """Numbers in standard deviations of the real rows, labels over the root of two; all real rows where there are others."""
    drawn = pg.Table(mixed(1, shift=1.0), schema=real.schema)

    def coded(table):
        numbers = (table.values[:, :2] - real.values[:, :2].mean(0)) / real.values[:, :2].std(0)
        return np.column_stack([numbers, np.eye(3)[table.values[:, 2].astype(int)] / np.sqrt(2)])

    found = pg.compare_samples(real, drawn, other=mixed(2), measures=["energy_distance", "recall"])
    assert found["energy_distance"].value == pytest.approx(pg.energy_distance(coded(real), coded(drawn)).value)
    assert found["recall"].value == pytest.approx(pg.precision_recall(coded(real), coded(drawn))[1].value)
    assert found["energy_distance"].p_value == 1 / 200
    assert found.real["energy_distance"].p_value > 0.005


def test_units_do_not_matter(real):
    drawn = mixed(1, shift=0.3)
    scaled = [{**rows, "x": 1000 * np.asarray(rows["x"])} for rows in (mixed(0), drawn)]
    one = pg.compare_samples(real, drawn, measures=["energy_distance", "coverage"])
    other = pg.compare_samples(*scaled, measures=["energy_distance", "coverage"])
    assert one["energy_distance"].value == pytest.approx(other["energy_distance"].value)
    assert one["coverage"].value == other["coverage"].value


def test_levels_in_another_order_are_the_same_levels(real):
    drawn = mixed(1)
    turned = pg.Table(drawn, schema=real.schema.with_kind("label", "categorical", levels=["c", "b", "a"]))
    one, other = (pg.compare_samples(real, d, measures=["energy_distance"]) for d in (drawn, turned))
    assert one["energy_distance"] == other["energy_distance"]


@pytest.mark.stats
def test_a_sampler_of_the_truth_is_like_real_rows():
    """Of 20 pairs, each within five of both errors (once in 80 000 for normal errors; these are less than that)."""
    for seed in range(20):
        found = pg.compare_samples(
            pg.toy("two_moons", 400, seed), pg.toy("two_moons", 200, 100 + seed), permutations=19,
            measures=["energy_distance", "sliced_wasserstein", "precision", "recall", "density", "coverage"],
        )  # fmt: skip
        for name, each in found.drawn.items():
            gap = abs(each.value - found.real[name].value)
            assert gap < 5 * np.hypot(each.error, found.real[name].error), (seed, name)


def test_the_same_seed_gives_the_same_numbers(real):
    one, again, other = (pg.compare_samples(real, mixed(1), measures=["recall"], seed=s) for s in (1, 1, 2))
    assert one.records() == again.records()
    assert one.records() != other.records()


def test_features_are_named_and_used(real):
    def first_column(table):
        return table.values[:, :1]

    found = pg.compare_samples(real, mixed(1), features=first_column)
    assert "frechet_distance" in found.drawn
    assert "first_column" in found.space
    with pytest.raises(DataError, match=r"\(200, F\) numbers of 200 rows, got \(3, 1\)"):
        pg.compare_samples(real.take(range(200)), mixed(1), features=lambda table: np.ones((3, 1)))


def test_bad_input_is_refused(real):
    with pytest.raises(CapabilityError, match=r"measures must be some of energy_distance.*got \['fid'\]"):
        pg.compare_samples(real, mixed(1), measures=["fid"])
    with pytest.raises(DataError, match="drawn rows lack the column 'n'"):
        pg.compare_samples(real, pg.Table({"x": [0.1, 0.2], "label": ["a", "b"]}))
    holed = {**mixed(1), "x": np.where(np.arange(400) == 7, np.nan, 1.0)}
    with pytest.raises(DataError, match=r"Of the drawn rows, row 7 does not know column 'x'.*known.all\(1\)"):
        pg.compare_samples(real, pg.Table(holed, schema=real.schema))
    with pytest.raises(DataError, match="Only 10 rows could be compared"):
        pg.compare_samples(real.take(range(20)), mixed(1))
    with pytest.raises(DataError, match="real rows have weights"):
        pg.compare_samples(real.with_weights(np.ones(400)), mixed(1))
    with pytest.raises(CapabilityError, match="permutations must be a whole number"):
        pg.compare_samples(real, mixed(1), permutations=0.5)
    steps = pg.Table.from_sequences([np.zeros((30, 1)), np.ones((30, 1))], kind="real")
    with pytest.raises(DataError, match="stand in sequences"):
        pg.compare_samples(steps, steps)


# ----------------------------------------------------------------------------------------------------------- pictures
@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return pg.load_dataset("digits").split(0.6, 0.4, seed=0)


@pytest.fixture(scope="module")
def features(digits):
    return pg.picture_features(digits[0], max_steps=150)


def test_a_classifiers_features_know_the_digits(features, digits):
    assert features.accuracy > 0.85
    assert "classifier of 'target' on" in features.name
    assert features(digits[1]).shape == (len(digits[1]), 64)
    again = pg.picture_features(digits[0], max_steps=150)
    assert np.array_equal(again(digits[1]), features(digits[1]))


def test_features_see_a_digit_that_is_missing(features, digits):
    """Without zeros and ones recall and coverage fall, precision stays, and the distance is told apart from chance."""
    few = digits[0].take(digits[0].values[:, digits[0].schema.index("target")] > 1)
    found = pg.compare_samples(digits[1], few, features=features)
    assert found["energy_distance"].p_value < 0.02
    assert found["frechet_distance"].value > found.real["frechet_distance"].value + 3 * found["frechet_distance"].error
    assert found["recall"].value < found.real["recall"].value - 0.05
    assert found["precision"].value > found.real["precision"].value - 0.05


def test_pictures_without_labels_or_pixels_are_refused(digits, features):
    with pytest.raises(SchemaError, match="name of one image"):
        pg.picture_features(pg.Table(mixed(0)), "label")
    with pytest.raises(CapabilityError, match="name a column of labels"):
        pg.picture_features(digits[0].with_target(None))
    with pytest.raises(DataError, match="at least 20 labelled pictures, 5 have"):
        pg.picture_features(digits[0].take(range(5)))
    with pytest.raises(DataError, match="picture of row 0 has unknown pixels"):
        features(digits[0].hide("image[3,3]"))


# ------------------------------------------------------------------------------------------------------------ studies
@pytest.fixture(scope="module")
def study():
    models = {"gaussian_mixture": {"components": 8, "restarts": 1}, "autoencoder": {"latent": 1, "max_steps": 60}}
    return pg.density_study(pg.toy("eight_normals", 600), models, measures=True, progress=False)


def test_models_without_a_density_stand_in_the_table(study):
    assert study.models == ["gaussian_mixture"]
    assert [r["model"] for r in study.records()] == ["gaussian_mixture", "autoencoder"]
    assert study.records()[1]["kind"] == "none"
    assert study.records()[1]["energy_distance"] == study.samples["autoencoder"]["energy_distance"].value
    assert study.samples["autoencoder"]["precision"].value < study.samples["gaussian_mixture"]["precision"].value - 0.2
    for words in ("autoencoder", "training rows", "MMD squared"):
        assert words in str(study)


def test_only_models_without_a_density():
    table = pg.Table(mixed(0)).select(["x", "n"])
    found = pg.density_study(table, ["autoencoder"], measures=["recall"], max_steps=20, progress=False)
    assert found.best == "autoencoder"
    assert found.log_prob.shape == (0, 80)


def test_without_measures_it_is_as_before(study):
    fits = {"gaussian_mixture": study.fits["gaussian_mixture"]}
    assert compare_densities(fits, pg.toy("eight_normals", 50)).samples == {}
    with pytest.raises(CapabilityError, match="density"):
        compare_densities(study.fits, pg.toy("eight_normals", 50))


def test_wrong_measures_are_refused_before_anything_is_fitted():
    with pytest.raises(CapabilityError, match="measures must be some of"):
        pg.density_study(pg.toy("banana", 100), ["nothing"], measures=["fid"], progress=False)


def test_rows_with_holes_are_left_out():
    table = pg.toy("banana", 400)
    values = table.values.copy()
    values[:100, 1] = np.nan
    found = pg.density_study(
        table.with_values(values), ["probabilistic_pca"], measures=["recall"], progress=False, latent=1
    )
    assert 40 < found.samples["probabilistic_pca"].rows < 75


def test_a_report_shows_measures(tmp_path):
    from probgen import report

    table = pg.toy("banana", 150)
    asked = {"measures": ["energy_distance", "recall"], "represent": {"autoencoder": {"max_steps": 20, "latent": 1}}}
    found = pg.study(table, models={"probabilistic_pca": {"latent": 1}}, fast=True, progress=False, draws=5, **asked)
    text = report.render(found)
    assert "drawn rows against" in text
    assert "training rows" in text
    assert set(found.density.samples) == {"probabilistic_pca", "autoencoder"}
    assert (found.save(tmp_path / "out") / "measures.csv").read_text().count("\n") == 5


def test_the_command_line_compares(tmp_path, capsys):
    from probgen.cli import main

    for name, rows in (("real", mixed(0)), ("drawn", mixed(1))):
        pg.Table(rows).to_pandas().to_csv(tmp_path / f"{name}.csv", index=False)
    files = [str(tmp_path / f"{name}.csv") for name in ("real", "drawn")]
    assert main(["compare-samples", *files, "--measures", "recall,energy_distance"]) == 0
    assert "energy_distance" in capsys.readouterr().out
    assert main(["compare-samples", *files, "--measures", "fid"]) == 2
    assert "measures must be some of" in capsys.readouterr().err
