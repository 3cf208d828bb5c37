"""Networks in half precision and through a compiler: what they learn, and that nothing of it is left behind."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.inference.network_calls import LAYERS, NetworkCalls, networks_of

QUICK = {
    "progress": False, "seed": 0, "hidden": (32,), "max_steps": 300, "learning_rate": 1e-2,
    "validation_fraction": 0.0,
}  # fmt: skip


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit(*arguments, **{**QUICK, **options})


@pytest.mark.parametrize("model", ["vae", "hierarchical_vae", "autoencoder", "vq_vae", "deep_markov"])
def test_every_layer_is_in_one_network(model):
    table = pg.load_dataset("iris")
    if model == "deep_markov":
        table = pg.Table.from_sequences([np.random.default_rng(0).normal(size=(5, 2))] * 3)
    options = {"latent": (2, 1)} if model == "hierarchical_vae" else {"slots": 2} if model == "vq_vae" else {}
    latent = {} if model == "vq_vae" else {"latent": 2}
    program = quiet(model, table, **{"max_steps": 1, **latent, **options}).program
    inside = [part for network in networks_of(program) for part in network.modules() if isinstance(part, LAYERS)]
    assert len(inside) == len(set(inside))
    assert set(inside) == {part for part in program.modules() if isinstance(part, LAYERS)}


def test_half_precision_is_inside_of_networks_alone():
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    program, x = torch.nn.ModuleDict({"network": network}), torch.randn(5, 3)
    plain = network(x)
    calls = NetworkCalls(program, "bfloat16")
    with calls.changed():
        inside = network(x)
    assert inside.dtype == torch.float32
    assert 0 < (inside - plain).abs().max() < 0.05
    assert torch.equal(network(x), plain)
    with pytest.raises(RuntimeError), calls.changed():
        network(torch.zeros(5, 4))
    assert "forward" not in vars(network)


def test_what_is_learned_in_half_precision_is_about_as_good():
    table = pg.load_dataset("iris")
    plain, half = quiet("vae", table, latent=2), quiet("vae", table, latent=2, precision="bfloat16")
    assert half.history["objective"] != plain.history["objective"]
    assert all(weight.dtype == torch.float32 for weight in half.program.parameters())
    one, other = (fit.log_prob(table, draws=500).mean().value for fit in (plain, half))
    assert other == pytest.approx(one, abs=0.1)


@pytest.mark.slow
def test_compiled_networks_learn_the_same():
    table = pg.load_dataset("iris")
    plain, compiled = (quiet("vae", table, latent=2, max_steps=20, compile=way) for way in ("eager", "inductor"))
    np.testing.assert_allclose(compiled.history["objective"], plain.history["objective"], rtol=1e-3)


def test_what_is_not_known_is_refused():
    table = pg.load_dataset("iris")
    with pytest.raises(pg.CapabilityError, match="precision must be one of 'full', 'bfloat16', got 'float8'"):
        quiet("vae", table, latent=2, precision="float8")
    with pytest.raises(pg.CapabilityError, match="compile must be one of 'eager', 'inductor', got True"):
        quiet("vae", table, latent=2, compile=True)
    with pytest.raises(pg.CapabilityError, match="double numbers"):
        quiet("vae", table, latent=2, precision="bfloat16", dtype="float64")
