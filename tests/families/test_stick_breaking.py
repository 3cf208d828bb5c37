"""Weights of a truncated Dirichlet process."""

import warnings

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.families import StickBreaking


@pytest.mark.stats
@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_expected_weights_fall_geometrically(alpha):
    family = StickBreaking(30, alpha).double()
    torch.manual_seed(0)
    draws = torch.stack(
        [family.posterior_draw({"logits": torch.zeros(1, 30).double()})["logits"][0].exp() for _ in range(4000)]
    )
    torch.testing.assert_close(draws.sum(1), torch.ones(4000).double())
    expected = (alpha / (1 + alpha)) ** torch.arange(5) / (1 + alpha)
    error = draws[:, :5].std(0) / 4000**0.5
    assert ((draws[:, :5].mean(0) - expected).abs() < 4 * error).all()


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_the_update_is_the_mode(alpha):
    family = StickBreaking(5, alpha).double()
    counts = torch.tensor([[3.0, 0.5, 7.0, 1.0, 2.0]]).double()
    found = family.update({"logits": counts}, family.start())

    def objective(sticks):
        theta = family.assemble({"sticks": sticks})
        return (counts * theta["logits"]).sum() + family.log_prior(theta)

    best = objective(family.sticks(found))
    for _ in range(200):
        near = (family.sticks(found) + 0.02 * torch.randn(4)).clamp(1e-6, 1 - 1e-6)
        assert objective(near) <= best + 1e-12


def test_em_is_monotone_and_leaves_weights_that_sum_to_one():
    rng = np.random.default_rng(0)
    x = np.repeat([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]], 60, 0) + rng.normal(size=(180, 2))
    options = {"components": 6, "weights": "dirichlet_process", "concentration": 0.5}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        fit = pg.fit("gaussian_mixture", x, progress=False, max_steps=60, restarts=1, **options)
    assert fit.diagnostics["monotone"]
    assert fit.parameters()["weights"]["probs"].sum() == pytest.approx(1.0)


def test_a_prior_is_needed():
    with pytest.raises(pg.CapabilityError, match="'dirichlet_process' is a prior"):
        pg.fit(
            "gaussian_mixture", np.random.default_rng(0).normal(size=(50, 2)), weights="dirichlet_process", prior=None
        )
