"""Networks from the literature: every marginal and the most probable states are pyAgrum's."""

from __future__ import annotations

import gzip
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import probgen as pg

gum = pytest.importorskip("pyagrum")

pytestmark = pytest.mark.reference
SMALL = ["alarm", "insurance"]
LARGE = ["hailfinder", "win95pts", "hepar2", "andes", "pigs"]
NETWORKS = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]


def read(name, folder):
    """A network that pgmpy ships, here and there."""
    pgmpy = pytest.importorskip("pgmpy")
    source = Path(pgmpy.__file__).parent / "utils" / "example_models" / f"{name}.bif.gz"
    path = folder / f"{name}.bif"
    path.write_bytes(gzip.decompress(source.read_bytes()))
    return pg.read_network(path), gum.loadBN(str(path))


def evidence_sets(fit, sets, seed):
    """Some cells of rows drawn from the network."""
    rng = np.random.default_rng(seed)
    rows = fit.sample(sets, seed=seed)
    for number in range(sets):
        places = rng.choice(len(fit.schema), rng.integers(1, 6), replace=False)
        yield {fit.schema.names[p]: fit.schema[int(p)].levels[int(rows.values[number, p])] for p in places}


@pytest.mark.parametrize("name", NETWORKS)
def test_marginals_for_20_sets_of_evidence(name, tmp_path):
    fit, peer = read(name, tmp_path)
    for given in evidence_sets(fit, 20, seed=1):
        answer = fit.query(given=given)
        engine = gum.LazyPropagation(peer)
        engine.setEvidence(given)
        engine.makeInference()
        for node, states in answer.marginals.items():
            labels = peer.variable(node).labels()
            theirs = engine.posterior(node).toarray()[[labels.index(str(state)) for state in states]]
            np.testing.assert_allclose(list(states.values()), theirs, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_most_probable_states_are_the_best_of_all(name, tmp_path):
    """pyAgrum 3.3.1 fails at this ("Empty tensor"); so eight unknown nodes, and every combination of their states."""
    fit, _ = read(name, tmp_path)
    rng = np.random.default_rng(3)
    rows = fit.sample(10, seed=3).values
    for row in rows:
        unknown = rng.choice(len(row), 8, replace=False)
        states = np.array(list(product(*(range(len(fit.schema[int(p)].levels)) for p in unknown))), dtype=float)
        values = np.repeat(row[None], len(states), 0)
        values[:, unknown] = states
        best = fit.log_prob(pg.Table.from_codes(values, fit.schema)).value.max()
        one = row.copy()
        one[unknown] = np.nan
        filled = fit.most_probable(pg.Table.from_codes(one[None], fit.schema))
        assert fit.log_prob(filled).value[0] == pytest.approx(best, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["munin1", "link"])
def test_wide_networks_are_answered_or_refused_with_their_memory(name, tmp_path):
    fit, _ = read(name, tmp_path)
    first = fit.schema.names[0]
    try:
        answer = fit.query(given={first: fit.schema[0].levels[0]})
    except pg.CapabilityError as error:
        assert "are needed in all" in str(error)  # noqa: PT017
    else:
        assert all(sum(states.values()) == pytest.approx(1.0) for states in answer.marginals.values())
