"""Figures of networks: where nodes stand, what they say, what they refuse."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

import probgen as pg
from probgen import plots
from probgen.plots.layers import layout
from probgen.plots.network import beliefs
from probgen.structure import Graph

ASIA = {"tub": ["asia"], "lung": ["smoke"], "bronc": ["smoke"], "either": ["lung", "tub"], "xray": ["either"],
        "dysp": ["bronc", "either"]}  # fmt: skip


@pytest.fixture(scope="module")
def wet():
    return pg.network(
        {"rain": ["no", "yes"], "wet": ["dry", "wet"], "temperature": "real", "people": list("abcdefgh")},
        {"wet": ["rain"], "temperature": ["rain"], "people": ["wet"]},
        {
            "rain": [0.75, 0.25],
            "wet": [[0.8, 0.2], [0.0, 1.0]],
            "temperature": {"no": {"offset": 20.0, "sd": 4.0}, "yes": {"offset": 15.0, "sd": 2.0}},
            "people": np.array([[0.3, 0.1, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05], np.full(8, 0.125)]),
        },
    )


def random_graph(seed, nodes=25):
    rng = np.random.default_rng(seed)
    names = [f"n{i}" for i in rng.permutation(nodes)]
    return Graph({n: [p for p in names[:i] if rng.random() < 2.0 / nodes] for i, n in enumerate(names)})


@pytest.mark.parametrize(
    "graph", [Graph(ASIA), *map(random_graph, range(3)), Graph({f"x{i}": ["y"] for i in range(20)})]
)
def test_nodes_stand_below_their_parents_and_apart(graph):
    rng = np.random.default_rng(0)
    widths, heights = ({node: rng.uniform(0.5, 1.5) for node in graph.nodes} for _ in range(2))
    plan = layout(graph, widths, heights)
    assert all(plan.layer[parent] < plan.layer[child] for parent, child in graph.edges)
    for parent, child in graph.edges:
        assert len(plan.bends.get((parent, child), ())) == plan.layer[child] - plan.layer[parent] - 1
    for number, (top, bottom) in enumerate(plan.spans):
        row = sorted(
            (node for node in graph.nodes if plan.layer[node] == number), key=lambda node: plan.centre[node][0]
        )
        edges = [(plan.centre[n][0] - widths[n] / 2, plan.centre[n][0] + widths[n] / 2) for n in row]
        assert all(one[1] < other[0] for one, other in itertools.pairwise(edges))
        assert all(0 <= left < right <= plan.size[0] + 1e-9 for left, right in edges)
        assert all(heights[node] <= bottom - top + 1e-9 for node in row)
        passing = [
            x[number - plan.layer[p] - 1] for (p, c), x in plan.bends.items() if plan.layer[p] < number < plan.layer[c]
        ]
        assert not any(left < x < right for x in passing for left, right in edges)  # no edge runs through a box


def test_a_tree_has_no_crossings():
    graph = Graph({str(i): [str((i - 1) // 2)] for i in range(1, 15)})
    plan = layout(graph, dict.fromkeys(graph.nodes, 1.0), dict.fromkeys(graph.nodes, 0.3))
    for _, edges in nx.utils.groups({edge: plan.layer[edge[0]] for edge in graph.edges}).items():
        ends = sorted((plan.centre[parent][0], plan.centre[child][0]) for parent, child in edges)
        assert all(a[1] <= b[1] for a, b in itertools.pairwise(ends))


def test_bars_are_posteriors(wet):
    found = beliefs(wet, {"wet": "wet"})
    assert dict(found["rain"].bars)["yes"] == pytest.approx(0.25 / (0.25 + 0.15))
    assert (found["wet"].known, found["rain"].known) == (True, False)
    assert found["wet"].bars == (("dry", 0.0), ("wet", 1.0))
    assert [state for state, _ in beliefs(wet, {})["people"].bars][-1] == "3 others"
    assert sum(share for _, share in found["people"].bars) == pytest.approx(1.0)
    mean, sd = map(float, beliefs(wet, {"rain": "no"})["temperature"].text.split(" ± "))
    assert (mean, sd) == pytest.approx((20.0, 4.0), abs=0.3)
    assert beliefs(wet, {"temperature": 17.5})["temperature"].text == "17.5"


def test_dates_are_shown_as_dates():
    days = np.datetime64("2021-05-01") + np.arange(40)
    table = pg.Table({"t": days, "rain": ["no", "yes"] * 20})
    fit = pg.fit("bayesian_network", table, structure={"t": ["rain"]}, progress=False)
    assert beliefs(fit, {"t": "2021-05-01"})["t"].text == "2021-05-01"
    assert beliefs(fit, {"t": np.datetime64("2021-05-03")})["t"].text == "2021-05-03"
    for method in ("exact", "importance"):
        told = str(fit.query("t", {"rain": "no"}, method=method))
        assert "mean 2021-05-" in told
        assert " days  90% in [2021-0" in told


def test_a_figure_of_a_fit(wet):
    axes = plots.network(wet, {"wet": "wet"})
    words = [text.get_text() for text in axes.texts]
    assert {"rain", "wet", "temperature", "people", "3 others", "62.5%", "100%"} <= set(words)
    kinds = [type(patch) for patch in axes.patches]
    assert [kinds.count(kind) for kind in (FancyBboxPatch, FancyArrowPatch, Rectangle)] == [4, 3, 2 * (2 + 2 + 6)]
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert len({patch.get_edgecolor() for patch in boxes}) == 2  # one is marked
    axes.get_figure().canvas.draw()
    frame = axes.get_window_extent()
    assert all(frame.x0 <= box.get_window_extent().x0 <= box.get_window_extent().x1 <= frame.x1 for box in boxes)
    assert frame.width / frame.height == pytest.approx(
        np.diff(axes.get_xlim())[0] / -np.diff(axes.get_ylim())[0], rel=1e-6
    )


def test_a_figure_of_a_graph_with_weights():
    weights = {("lung", "either"): 0.5, ("tub", "either"): 1.0}
    axes = plots.network(ASIA, weights=weights, axes=Figure((3, 3)).subplots())
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    widths = dict(zip(Graph.of(ASIA).edges, [arrow.get_linewidth() for arrow in arrows], strict=True))
    assert widths["tub", "either"] > widths["lung", "either"] > widths["smoke", "lung"]
    assert [text.get_text() for text in axes.texts] == list(Graph.of(ASIA).nodes)
    assert max(text.get_fontsize() for text in axes.texts) < 8.5  # letters shrink with the axes
    plots.network({"alone": [], "too": []})


def test_hidden_nodes_are_dashed():
    table = pg.Table({"a": ["x", "y", "x", "y"] * 5, "b": ["u", "u", "v", "v"] * 5})
    fit = pg.fit(
        "bayesian_network",
        table,
        structure={"a": ["h"], "b": ["h"]},
        hidden_nodes={"h": 2},
        restarts=1,
        progress=False,
    )
    axes = plots.network(fit)
    styles = [patch.get_linestyle() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert sum(style not in ("-", "solid") for style in styles) == 1


def test_refusals(wet, mixture):
    with pytest.raises(pg.CapabilityError, match="'gaussian_mixture' has no graph to draw"):
        plots.network(mixture)
    with pytest.raises(pg.CapabilityError, match=r"given names 'rian', which there is not. Did you mean 'rain'"):
        plots.network(wet, {"rian": "yes"})
    with pytest.raises(pg.DataError, match="no state 'often'"):
        plots.network(wet, {"rain": "often"})
    with pytest.raises(pg.DataError, match="probability zero under this model"):
        plots.network(wet, {"rain": "yes", "wet": "dry"})
    with pytest.raises(pg.CapabilityError, match="A graph has no probabilities"):
        plots.network(ASIA, {"lung": "yes"})
    with pytest.raises(pg.CapabilityError, match="weights names"):
        plots.network(ASIA, weights={("lung", "tub"): 1.0})
