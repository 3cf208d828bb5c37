"""The loop around the methods: seeds, checkpoints, interruption, bounds, elimination."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pyro
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.data.batches import Batch
from probgen.families import SUM_OUT, Categorical
from probgen.inference.evidence import log_evidence
from probgen.inference.log_sum import LogSumExp
from probgen.inference.methods.base import first_of_the_best
from probgen.program import Model, Traits

BINARY = Schema(tuple(Column(f"x{i}", "binary", levels=(0, 1)) for i in range(6)))


def binary_table(rows=200):
    rng = np.random.default_rng(0)
    z = rng.integers(2, size=rows)
    return Table.from_codes((rng.random((rows, 6)) < 0.2 + 0.6 * z[:, None]).astype(float), BINARY)


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pg.fit(*arguments, progress=False, **options)


@pytest.mark.parametrize(
    ("name", "options"), [("gaussian_mixture", {"components": 2}), ("vae", {"latent": 2, "hidden": (8,)})]
)
def test_an_interrupted_fit_goes_on_from_its_checkpoint_to_the_same_result(tmp_path, name, options):
    table = pg.load_dataset("iris").drop(["target"])
    whole = quiet(name, table, max_steps=40, tolerance=0.0, restarts=1, **options)

    def interrupt(step, _values, _method):
        if step == 14:
            raise KeyboardInterrupt

    part = {"max_steps": 40, "tolerance": 0.0, "restarts": 1, "checkpoint": tmp_path / "state", **options}
    stopped = quiet(name, table, callback=interrupt, **part)
    assert stopped.diagnostics["interrupted"]
    assert len(stopped.history["objective"]) == 15
    resumed = quiet(name, table, **part)
    np.testing.assert_allclose(resumed.history["objective"], whole.history["objective"], rtol=1e-6)
    np.testing.assert_allclose(resumed.log_prob(table).value, whole.log_prob(table).value, rtol=1e-5)


def test_bounds_of_the_vae_tighten_with_draws():
    table = binary_table()
    fit = quiet("vae", table, latent=2, hidden=(16,), max_steps=400)
    means = [fit.log_prob(table, draws=draws).mean() for draws in (1, 5, 50, 500)]
    values = [m.value for m in means]
    assert values == sorted(values)
    assert means[-1].standard_error < means[1].standard_error


def test_the_vae_s_density_sums_to_one():
    fit = quiet("vae", binary_table(), latent=2, hidden=(16,), max_steps=300)
    every = Table.from_codes(np.array(list(itertools.product([0.0, 1.0], repeat=6))), BINARY)
    estimate = fit.log_prob(every, draws=2000)
    weights = np.exp(estimate.value)
    error = np.sqrt(((weights * estimate.standard_error) ** 2).sum())
    assert abs(weights.sum() - 1) < 4 * error + 0.01


def test_importance_weighted_training_reaches_a_tighter_bound():
    fit = quiet("vae", binary_table(), latent=2, hidden=(8,), objective="iwae", draws=8, max_steps=300)
    assert np.isfinite(fit.log_prob(binary_table()).mean().value)


class Chain(Model):
    """a -> b -> c, all hidden or partly known."""

    traits = Traits(summary="three discrete nodes")

    def __init__(self, schema):
        super().__init__(schema)
        self.a, self.b, self.c = Categorical(2), Categorical(3, table=2), Categorical(2, table=3)

    def model(self, batch):
        a, b, c = self.a.draw("a"), self.b.draw("b"), self.c.draw("c")
        with batch.rows():
            x = pyro.sample("x", a(), obs=batch.column("x"), infer=SUM_OUT)
            y = pyro.sample("y", b(x), obs=batch.column("y"), infer=SUM_OUT)
            pyro.sample("z", c(y), obs=batch.column("z"), infer=SUM_OUT)


def test_elimination_is_brute_force_and_its_gradient_the_expected_counts():
    torch.set_default_dtype(torch.float64)
    try:
        levels = {"x": 2, "y": 3, "z": 2}
        schema = Schema(tuple(Column(n, "categorical", levels=tuple(range(s))) for n, s in levels.items()))
        program = Chain(schema).double()
        torch.manual_seed(0)
        families = {"a": program.a, "b": program.b, "c": program.c}
        theta = {n: f.assemble({k: d.sample() for k, d in f.prior().items()}) for n, f in families.items()}
        nan = float("nan")
        x = torch.tensor([[nan, nan, 1.0], [0.0, nan, nan], [1.0, 2.0, 0.0], [nan, nan, nan]])
        natural = {n: {"logits": f.natural(theta[n])["logits"].clone().requires_grad_()} for n, f in families.items()}
        rows = log_evidence(program, Batch(x, schema), natural=natural).rows
        counts = torch.autograd.grad(rows.sum(), [natural[n]["logits"] for n in "abc"])
        logits = [theta[n]["logits"] for n in "abc"]
        joint = (logits[0][0][:, None, None] + logits[1][:, :, None] + logits[2][None]).exp()  # (2, 3, 2)
        expected = torch.zeros(2, 3, 2)
        for row, cells in enumerate(x):
            allowed = joint.clone()
            for axis, cell in enumerate(cells):
                if not cell.isnan():
                    keep = torch.nn.functional.one_hot(cell.long(), joint.shape[axis]).to(joint)
                    allowed = allowed * keep.reshape([-1 if i == axis else 1 for i in range(3)])
            assert float(rows[row].detach()) == pytest.approx(float(allowed.sum().log()), abs=1e-12)
            expected += allowed / allowed.sum()
        for got, wanted in zip(counts, (expected.sum((1, 2))[None], expected.sum(2), expected.sum(0)), strict=True):
            assert torch.allclose(got, wanted)
    finally:
        torch.set_default_dtype(torch.float32)


def test_log_sum_exp_has_right_first_and_second_derivatives():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def function(value):
        return LogSumExp.apply(value)[0]

    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)
    impossible = torch.full((3, 2), -torch.inf, dtype=torch.float64)
    assert torch.isneginf(function(impossible)).all()


def test_rounding_does_not_choose_between_starts_that_end_alike():
    scores = [-2.0, -1.0 - 1e-15, -1.0, -1.0 - 1e-8]
    assert first_of_the_best(range(4), scores.__getitem__) == 1
    assert first_of_the_best(range(4), [1e6, 1e6 + 1e-3, 1e6 + 1.0, 0.0].__getitem__) == 2
    assert first_of_the_best(range(2), [-np.inf, -np.inf].__getitem__) == 0


def test_svi_counts_parameters_once_for_all_weight():
    """The spread of a mean is that of as many rows as they weigh."""
    rng = np.random.default_rng(0)
    table = pg.Table({"x": rng.normal(size=60)})
    heavy = table.with_weights(np.full(60, 25.0))
    fits = [
        quiet(
            "gaussian_mixture",
            t,
            components=1,
            method="svi",
            max_steps=2000,
            learning_rate=1e-2,
            validation_fraction=0.0,
            seed=0,
        )
        for t in (table, heavy)
    ]
    spread = [float(fit.posterior.parameters["component.gaussian"]["loc"].std()) for fit in fits]
    assert spread[1] == pytest.approx(spread[0] / 5, rel=0.25)
