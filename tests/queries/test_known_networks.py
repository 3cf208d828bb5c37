"""Networks from the literature: every marginal and the most probable states are pyAgrum's."""

from __future__ import annotations

import gzip
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


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE[:3])])
def test_most_probable_states_are_as_probable(name, tmp_path):
    fit, peer = read(name, tmp_path)
    for given in evidence_sets(fit, 20, seed=2):
        ours = {**fit.most_probable(given), **given}
        engine = gum.LazyPropagation(peer)  # hard evidence makes its mpe() fail; likelihoods of 1e-30 do not
        engine.setEvidence(
            {n: [1.0 if label == str(s) else 1e-30 for label in peer.variable(n).labels()] for n, s in given.items()}
        )
        found = engine.mpe()
        theirs = {n: peer.variable(n).label(found.val(peer.variable(n))) for n in fit.schema.names}
        both = {n: [str(ours[n]), theirs[n]] for n in fit.schema.names}
        mine, other = fit.log_prob(pg.Table(both, schema=fit.schema)).value
        assert mine == pytest.approx(other, abs=1e-6)


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
