"""Names that stand for models: what studies fit unless told."""

from __future__ import annotations

import pytest

import probgen as pg
from probgen.errors import CapabilityError
from probgen.studies.models import default_models, settings_of

PENGUINS = pg.load_dataset("penguins")
TWO = pg.toy("banana", 80)


@pytest.mark.parametrize("table", [PENGUINS, TWO])
def test_quick_and_deep_are_all_and_share_none(table):
    quick, deep = (set(default_models(table, group)) for group in ("quick", "deep"))
    assert quick | deep == set(default_models(table))
    assert not quick & deep
    assert {"gaussian_mixture", "kernel_density"} <= quick
    assert {"vae", "made", "diffusion", "spline_flow"} <= deep
    assert all(pg.available()[name].methods[0] in ("em", "cross_validation") for name in quick)


def test_a_study_fits_the_quick_ones_unless_told():
    found = pg.density_study(TWO, max_steps=3, restarts=1, progress=False)
    assert {*found.models, *found.failures} == set(default_models(TWO, "quick"))
    assert set(settings_of(None, TWO)) == set(settings_of("quick", TWO)) == set(default_models(TWO, "quick"))


def test_names_stand_beside_groups_and_their_own_options_count():
    found = settings_of({"deep": {"max_steps": 5}, "vae": {"latent": 1}, "gaussian_mixture": {"components": 2}}, TWO)
    assert found["made"] == {"max_steps": 5}
    assert found["vae"] == {"latent": 1, "max_steps": 5}
    assert settings_of({"deep": {"latent": 2}, "vae": {"latent": 1}}, TWO)["vae"] == {"latent": 1}
    assert found["gaussian_mixture"] == {"components": 2}
    assert settings_of({"vae": {"latent": 1}, "deep": {"max_steps": 5}}, TWO)["vae"] == {"latent": 1, "max_steps": 5}
    assert settings_of(["vae", "quick"], TWO).keys() == {"vae", *default_models(TWO, "quick")}
    assert settings_of("vae", TWO) == {"vae": {}}


def test_measures_bring_samplers_into_the_deep_group():
    assert "gan" in settings_of("deep", TWO, samplers=True)
    assert "gan" not in settings_of("deep", TWO)
    assert not {"chained_equations", "cycle_gan"} & set(
        settings_of("all", TWO, samplers=True)
    )  # no joint distribution


def test_groups_and_models_that_are_none_are_refused(monkeypatch):
    with pytest.raises(CapabilityError, match="There is no model 'quik'"):
        pg.density_study(TWO, "quik", progress=False)
    monkeypatch.setattr("probgen.studies.models.available", dict)
    with pytest.raises(CapabilityError, match="No model of the group 'quick'"):
        settings_of(None, TWO)
