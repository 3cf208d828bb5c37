"""Bayesian networks from files and back, against published answers and other libraries."""

from __future__ import annotations

import gzip
import importlib.util
import logging
import warnings
from itertools import product
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pyro.infer.inspect
import pytest
import torch

import probgen as pg
from probgen.structure import Graph
from probgen.structure.formats import SUFFIXES

SHIPPED = Path(importlib.util.find_spec("pgmpy").submodule_search_locations[0], "utils", "example_models")
SMALL = ("asia", "cancer", "earthquake", "survey", "sachs", "child", "insurance", "alarm", "hailfinder", "win95pts", "hepar2")
FORMATS = [name for name in SUFFIXES if name != "uai"]  # with names

RAIN = """network weather {
}
variable rain { // a comment
  type discrete [ 2 ] { no, yes };
  property position = (73, 165);
}
variable "wet grass" {
  type discrete[3] { dry "a bit" soaked };
}
probability ( rain ) {
  table 0.8, 0.2;
}
probability ( "wet grass" | rain ) {
  (no) 0.7, 0.2, 0.1;
  (yes) 0.0, 0.5, 0.5;
}
"""


def shipped(name):
    return pg.read_network(SHIPPED / f"{name}.bif.gz")


@pytest.fixture(scope="module")
def asia():
    return shipped("asia")


@pytest.fixture(scope="module")
def odd():
    """Three nodes whose tables tell every order of dimensions from every other."""
    rng = np.random.default_rng(0)
    states = {"c": ["u", "v"], "a": ["x", "y", "z"], "b": ["p", "q"], "d": ["0", "1", "2", "3"]}
    tables = {"a": rng.dirichlet(np.ones(3)), "b": rng.dirichlet(np.ones(2)), "c": rng.dirichlet(np.ones(2), (3, 2))}
    tables["d"] = rng.dirichlet(np.ones(4), (2, 2))
    tables["d"][1, 0] = [0.0, 0.25, 0.75, 0.0]
    return pg.network(states, {"c": ["a", "b"], "d": ["b", "c"]}, tables)


@pytest.fixture(scope="module")
def pgmpy():
    """Its import is slow, and says what no test is about."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pgmpy.factors.continuous
        import pgmpy.factors.discrete
        import pgmpy.models
        import pgmpy.readwrite
    yield pgmpy
    logging.disable(logging.NOTSET)


def unknown(fit, **known):
    """One row with so much known."""
    return {name: [known.get(name)] for name in fit.schema.names}


def everything(fit):
    """All joint states."""
    return pd.DataFrame(list(product(*(column.levels for column in fit.schema))), columns=list(fit.schema.names))


def equal(one, other, rename=dict):
    """Both networks have the same tables."""
    tables = {name: theta["probs"] for name, theta in one.parameters().items()}
    others = {name: theta["probs"] for name, theta in other.parameters().items()}
    names = rename(zip(one.schema.names, other.schema.names, strict=True))
    assert all(name == renamed for name, renamed in names.items()) or rename is not dict
    for name, table in tables.items():
        np.testing.assert_allclose(others[names[name]], table, rtol=1e-13, atol=0)
    return True


# ------------------------------------------------------------------------------------------------------- reading
@pytest.mark.parametrize("name", SMALL)
def test_probabilities_of_shipped_networks_sum_to_one(name):
    fit = shipped(name)
    assert float(fit.log_prob(unknown(fit))) == pytest.approx(0.0, abs=1e-9)
    assert np.isfinite(fit.log_prob(fit.sample(20))).all()
    assert fit.provenance["format"] == "bif"


def test_known_posteriors(asia):
    """Asia and alarm by pgmpy, cancer by hand (Korb and Nicholson, 2010)."""
    row = unknown(asia, xray="yes", dysp="yes")
    assert float(np.exp(asia.log_prob(row))) == pytest.approx(0.0706701081, abs=1e-10)
    found = {c["column"]: c["probabilities"]["yes"] for c in asia.marginals(row, draws=1).records()}
    assert [found[n] for n in ("lung", "tub", "bronc")] == pytest.approx([0.621252798, 0.113933319, 0.681868546], abs=1e-8)
    alarm = shipped("alarm")
    row = unknown(alarm, HRBP="HIGH", CVP="LOW", BP="LOW")
    assert float(np.exp(alarm.log_prob(row))) == pytest.approx(0.04398784, abs=1e-8)
    assert pg.class_probabilities(alarm, row, "LVFAILURE")[0, 0] == pytest.approx(0.57252086, abs=1e-7)
    cancer = shipped("cancer")
    row = unknown(cancer, Xray="positive")
    assert float(np.exp(cancer.log_prob(row))) == pytest.approx(0.20814100, abs=1e-8)
    assert pg.class_probabilities(cancer, row, "Cancer")[0, 0] == pytest.approx(0.05028802, abs=1e-7)


@pytest.mark.reference
@pytest.mark.parametrize("name", ["child", "insurance", "hailfinder"])
def test_posteriors_of_pyagrum(name, tmp_path):
    """Every node's, given three nodes that come last."""
    gum = pytest.importorskip("pyagrum")
    path = tmp_path / f"{name}.bif"
    path.write_bytes(gzip.decompress((SHIPPED / f"{name}.bif.gz").read_bytes()))
    fit, peer = pg.read_network(path), gum.LazyPropagation(gum.loadBN(str(path)))
    drawn = fit.sample(1, seed=3).to_pandas().iloc[0]
    known = {node: drawn[node] for node in fit.program.graph.nodes[-3:]}
    peer.setEvidence(known)
    for cell in fit.marginals(unknown(fit, **known), draws=1).records():
        posterior = peer.posterior(cell["column"])
        labels = posterior.variable(0).labels()
        assert [cell["probabilities"][label] for label in labels] == pytest.approx(posterior.tolist(), abs=1e-6)


def test_order_of_nodes_and_states_is_the_files(asia):
    assert asia.schema.names == ("asia", "tub", "smoke", "lung", "bronc", "either", "xray", "dysp")
    fit = pg.read_network(RAIN)
    assert fit.schema["rain"].levels == ("no", "yes")
    assert fit.schema["wet grass"].levels == ("dry", "a bit", "soaked")
    assert float(fit.log_prob({"rain": ["yes"], "wet grass": ["dry"]})) == -np.inf
    assert (repr(fit), fit.summary().splitlines()[:3]) == (
        "Fit('bayesian_network', method='given')",
        ["bayesian_network, given (point estimate)", "nodes: 2", "edges: 1"],
    )


def test_states_that_look_like_marks_of_unknown_cells():
    """Insurance has a state "None"."""
    fit = shipped("insurance")
    both = [float(fit.log_prob(unknown(fit, Accident=state))) for state in ("None", None)]
    assert both[0] < both[1] == pytest.approx(0.0, abs=1e-9)


# -------------------------------------------------------------------------------------------------------- formats
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_format_holds_a_network(odd, name, zipped, tmp_path):
    path = tmp_path / f"network{SUFFIXES[name][0]}{'.gz' if zipped else ''}"
    pg.write_network(odd, path)
    found = pg.read_network(path)
    nodes = sorted(odd.schema.names)
    rows = everything(odd)
    np.testing.assert_allclose(found.log_prob(rows[list(found.schema.names)]), odd.log_prob(rows), rtol=1e-12)
    assert {n: found.schema[n].levels for n in nodes} == {n: odd.schema[n].levels for n in nodes}
    assert name == "xdsl" or found.schema.names == odd.schema.names  # there parents come first
    with pytest.raises(pg.DataError, match="exists; give another path"):
        pg.write_network(odd, path)
    pg.write_network(odd, path, overwrite=True)


def test_uai_keeps_the_order_only(odd, tmp_path):
    pg.write_network(odd, tmp_path / "network.uai")
    found = pg.read_network(tmp_path / "network.uai")
    assert found.schema.names == ("var_0", "var_1", "var_2", "var_3")
    codes = np.array(list(product(*(range(column.cardinality) for column in odd.schema))))
    np.testing.assert_allclose(found.log_prob(codes.astype(str)), odd.log_prob(everything(odd)), rtol=1e-12)


def test_uai_as_its_definition_has_it():
    """The example of the evaluations' page: the child comes last in its scope and runs fastest."""
    text = """BAYES
    3
    2 2 3
    3
    1 0
    2 0 1
    2 1 2

    2
     0.436 0.564

    4
     0.128 0.872
     0.920 0.080

    6
     0.210 0.333 0.457
     0.811 0.000 0.189
    """
    found = pg.read_network(text).parameters()
    np.testing.assert_allclose(found["var_1"]["probs"], [[0.128, 0.872], [0.920, 0.080]])
    np.testing.assert_allclose(found["var_2"]["probs"][1], [0.811, 0.000, 0.189])


@pytest.mark.reference
@pytest.mark.parametrize("ending", ["bif", "net", "bifxml"])
def test_files_of_pyagrum(odd, ending, tmp_path):
    """Both ways; its files of the other formats have tables in another order than the formats' definitions."""
    gum = pytest.importorskip("pyagrum")
    pg.write_network(odd, tmp_path / f"ours.{ending}")
    peer = gum.loadBN(str(tmp_path / f"ours.{ending}"))
    gum.saveBN(peer, str(tmp_path / f"theirs.{ending}"))
    rows = everything(odd)
    joint = [np.exp(peer.logProbability(gum.Instantiation(_at(gum, peer, row)))) for row in rows.to_dict("records")] if (
        hasattr(peer, "logProbability")) else [_joint(peer, row) for row in rows.to_dict("records")]
    np.testing.assert_allclose(joint, np.exp(odd.log_prob(rows)), atol=1e-6)
    found = pg.read_network(tmp_path / f"theirs.{ending}")
    np.testing.assert_allclose(np.exp(found.log_prob(rows[list(found.schema.names)])), np.exp(odd.log_prob(rows)), atol=1e-6)


def _joint(peer, row):
    """The product of its tables at a row."""
    value = 1.0
    for name in peer.names():
        table = peer.cpt(name)
        value *= table[{node: row[node] for node in table.names}]
    return value


@pytest.mark.reference
def test_files_of_pgmpy(odd, pgmpy, tmp_path):
    """Both ways; its UAI has the child running slowest, and its XBN has no names of states."""
    model, rows = pg.to_pgmpy(odd), everything(odd)
    for ending, kind in (("bif", "BIF"), ("net", "NET"), ("xdsl", "XDSL"), ("xml", "XMLBIF")):
        pg.write_network(odd, tmp_path / f"ours.{ending}")
        theirs = getattr(pgmpy.readwrite, f"{kind}Reader")(str(tmp_path / f"ours.{ending}")).get_model()
        np.testing.assert_allclose(joint_of(theirs, rows), np.exp(odd.log_prob(rows)), rtol=1e-9)
        getattr(pgmpy.readwrite, f"{kind}Writer")(model).write(str(tmp_path / f"theirs.{ending}"))
        found = pg.read_network(tmp_path / f"theirs.{ending}")
        np.testing.assert_allclose(found.log_prob(rows[list(found.schema.names)]), odd.log_prob(rows), rtol=1e-9)


def joint_of(model, rows):
    """The product of pgmpy's tables at rows."""
    found = np.ones(len(rows))
    for table in model.get_cpds():
        codes = [rows[n].map({s: at for at, s in enumerate(table.state_names[n])}).to_numpy() for n in table.variables]
        found *= np.asarray(table.values)[tuple(codes)]
    return found


def test_bif_with_defaults_and_whole_tables():
    """A whole table has the child running slowest (Cozman's dog problem), ``default`` fills rows that are not named."""
    head = """network d { }
    variable family { type discrete [2] { out in }; }
    variable light { type discrete [2] { on off }; }
    probability ( family ) { default 0.15 0.85; }
    """
    table = pg.read_network(head + "probability ( light | family ) { table 0.6 0.05 0.4 0.95; }")
    default = pg.read_network(head + "probability ( light family ) { (out) 0.6 0.4; default 0.05 0.95; }")
    for fit in (table, default):
        np.testing.assert_allclose(fit.parameters()["light"]["probs"], [[0.6, 0.4], [0.05, 0.95]])


# ---------------------------------------------------------------------------------------------------------- pgmpy
@pytest.mark.reference
def test_pgmpy_and_back(pgmpy, asia, odd):
    for fit in (asia, odd):
        model = pg.to_pgmpy(fit)
        assert model.check_model()
        assert list(model.nodes) == list(fit.schema.names)
        assert equal(pg.from_pgmpy(model), fit)
    engine = pgmpy.inference.VariableElimination(pg.to_pgmpy(asia)) if hasattr(pgmpy, "inference") else None
    assert engine is None or engine.query(["lung"], {"xray": "yes", "dysp": "yes"}, show_progress=False).values[0] == (
        pytest.approx(0.621252798, abs=1e-8)
    )


@pytest.mark.reference
def test_pgmpy_tables_with_another_order_of_states(pgmpy):
    """Each of its tables has an order of its own."""
    Table = pgmpy.factors.discrete.TabularCPD
    model = pgmpy.models.DiscreteBayesianNetwork([("a", "b")])
    model.add_cpds(Table("a", 2, [[0.3], [0.7]], state_names={"a": ["x", "y"]}))
    names = {"a": ["y", "x"], "b": [0, 1]}
    model.add_cpds(Table("b", 2, [[0.5, 0.2], [0.5, 0.8]], evidence=["a"], evidence_card=[2], state_names=names))
    fit = pg.from_pgmpy(model)
    np.testing.assert_allclose(fit.parameters()["b"]["probs"], [[0.2, 0.8], [0.5, 0.5]])
    assert float(np.exp(fit.log_prob({"a": ["x"], "b": [0]}))) == pytest.approx(0.06)
    model.remove_cpds("b")
    with pytest.raises(pg.CapabilityError, match="Node 'b' has no table"):
        pg.from_pgmpy(model)
    with pytest.raises(pg.CapabilityError, match="got a DiGraph"):
        pg.from_pgmpy(nx.DiGraph([("a", "b")]))


@pytest.mark.reference
def test_linear_gaussian_networks_of_pgmpy(pgmpy):
    Table = pgmpy.factors.continuous.LinearGaussianCPD
    model = pgmpy.models.LinearGaussianBayesianNetwork([("x", "y"), ("x", "z"), ("y", "z")])
    model.add_cpds(Table("x", [1.0], 4.0), Table("y", [-5.0, 0.5], 2.0, ["x"]), Table("z", [3.0, -1.0, 2.0], 3.0, ["y", "x"]))
    fit = pg.from_pgmpy(model)
    mean, covariance = model.to_joint_gaussian() if isinstance(model.to_joint_gaussian(), tuple) else (None, None)
    rows = np.random.default_rng(0).normal(size=(5, 3))
    peer = torch.distributions.MultivariateNormal(torch.tensor(mean), torch.tensor(covariance))
    order = ["x", "y", "z"]
    np.testing.assert_allclose(fit.log_prob(rows), peer.log_prob(torch.tensor(rows)), rtol=1e-9)
    table = pg.Table(peer.sample((500,)).numpy() * [1.0, 10.0, 0.1] + [50.0, 0.0, 3.0], schema=fit.schema)
    learnt = pg.fit("bayesian_network", table, structure=fit.program.graph, prior=None, progress=False)
    again = pg.from_pgmpy(pg.to_pgmpy(learnt))
    np.testing.assert_allclose(again.log_prob(table), learnt.log_prob(table), rtol=1e-8)
    assert sorted(pg.to_pgmpy(fit).edges) == sorted(model.edges)
    assert list(fit.schema.names) == order
