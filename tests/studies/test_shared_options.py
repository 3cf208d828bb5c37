"""Options that a study hands to all of its models."""

import pytest

import probgen as pg

TABLE = {"a": [1.0, 2.0, 3.0, 4.0] * 10, "b": ["x", "y", "x", "x"] * 10}
STUDIES = {
    "study": lambda **options: pg.study(TABLE, models=["gaussian_mixture"], progress=False, **options),
    "density": lambda **options: pg.density_study(TABLE, ["gaussian_mixture"], progress=False, **options),
    "anomalies": lambda **options: pg.anomaly_study(TABLE, models=["gaussian_mixture"], progress=False, **options),
    "toys": lambda **options: pg.toy_study(["gaussian_mixture"], progress=False, **options),
}


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_an_option_that_no_model_takes_is_refused(study):
    with pytest.raises(pg.CapabilityError, match=r"takes the option 'compnents'. Did you mean 'components'\?"):
        study(compnents=2)


def test_an_option_of_one_model_is_enough():
    found = pg.study(
        TABLE, models=["gaussian_mixture", "latent_class"], represent={"probabilistic_pca": {}}, components=2, latent=1, fast=True,
        progress=False,
    )  # fmt: skip
    assert {"gaussian_mixture", "latent_class"} <= {*found.fits}
