"""Every method that a model names fits the same program."""

import warnings

import numpy as np
import pytest

import probgen as pg
from probgen.data import Table
from probgen.program import find
from probgen.queries.fit import accepted_options

SMALL = {"components": 2, "states": 2, "factors": 1, "latent": 1, "chains": 2, "longest": 3, "hidden": (8,)}
EFFORT = {
    "map": {"max_steps": 4},
    "svi": {"max_steps": 4},
    "nuts": {"warmup": 15, "draws": 10, "chains": 1, "max_depth": 4},
}
CASES = [
    pytest.param(name, method, marks=pytest.mark.slow if method == "nuts" else ())
    for name, traits in pg.available().items()
    for method in traits.methods
    if method in EFFORT and len(traits.methods) > 1
]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_every_method_answers(name, method):
    rng = np.random.default_rng(0)
    sequences = [3.0 * (np.cumsum(rng.random(40) < 0.1) % 2)[:, None] + rng.normal(size=(40, 3)) for _ in range(3)]
    whole = np.concatenate(sequences)
    whole[::7, 1] = np.nan
    table = Table.from_sequences(sequences, kind="real") if pg.available()[name].sequences else Table(whole)
    options = {key: value for key, value in SMALL.items() if key in accepted_options(find(name))}
    options = options | EFFORT[method]
    if name == "naive_bayes":
        table, options = Table(np.column_stack([whole, rng.integers(2, size=120)])), options | {"target": "x3"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        fit = pg.fit(name, table, method=method, progress=False, **options)
    assert fit.method == method
    assert np.isfinite(np.asarray(fit.log_prob(table))).all()
    assert np.isfinite(fit.fill(table, draws=2)[0].values).all()
    assert np.isfinite(fit.sample(4).values).all()
