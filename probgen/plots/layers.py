"""Places for the nodes of a directed acyclic graph: layers from causes to effects, few crossings, short edges.

The steps are those of Sugiyama, Tagawa and Toda (1981): layers by longest paths, with a limit to their width; order in the
layers by barycentres; places by least squares that keep the order and the distances.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from scipy.optimize import isotonic_regression

from probgen.structure.graph import Graph

__all__ = ["Layout", "layout"]

STARTS = 12  # random orders, of which the one with the fewest crossings is kept
SWEEPS = 12
LANE = 0.16  # width that an edge takes where it passes a layer, in inches
Rows = list[list[Any]]
Segments = list[tuple[Any, Any]]


@dataclass(frozen=True)
class Bend:
    """Where an edge passes a layer."""

    parent: str
    child: str
    layer: int


@dataclass(frozen=True)
class Layout:
    """Places in inches, x to the right and y downwards.

    Attributes:
        centre: ``{node: (x, y)}``.
        layer: ``{node: number of its layer}``, parents above children.
        bends: ``{edge: [x, ...]}`` where an edge passes the layers between its ends.
        spans: ``[(top, bottom), ...]`` of the layers.
        size: width and height.
    """

    centre: dict[str, tuple[float, float]]
    layer: dict[str, int]
    bends: dict[tuple[str, str], list[float]]
    spans: list[tuple[float, float]]
    size: tuple[float, float]


def layout(
    graph: Graph, widths: Mapping[str, float], heights: Mapping[str, float], gap: tuple[float, float] = (0.22, 0.5)
) -> Layout:
    """Places of boxes of these widths and heights, and of the edges between them.

    Args:
        graph: to be drawn.
        widths: of the nodes' boxes, in inches.
        heights: likewise.
        gap: the least distances between boxes, across and down.
    """
    layer: dict[str, int] = {}
    x: dict[Any, float] = {}
    wide = lambda key: LANE if isinstance(key, Bend) else widths[key] + gap[0]  # noqa: E731
    right = 0.0
    for part in parts(graph):  # side by side
        found = layers(part)
        rows, segments = with_bends(part, found)
        room = {key: wide(key) for row in rows for key in row}
        at = placed(ordered(rows, segments), segments, room)
        left = min(at[key] - room[key] / 2 for key in at) - right
        right = max(at[key] + room[key] / 2 for key in at) - left
        layer, x = layer | found, x | {key: at[key] - left - gap[0] / 2 for key in at}
    spans = spans_of(layer, heights, gap[1])
    passing = sorted((key for key in x if isinstance(key, Bend)), key=lambda bend: bend.layer)
    bends = {(chain[0].parent, chain[0].child): [x[bend] for bend in chain] for chain in chains([passing])}
    centre = {node: (x[node], sum(spans[layer[node]]) / 2) for node in graph.nodes}
    return Layout(centre, layer, bends, spans, (right - gap[0], spans[-1][1]))


def spans_of(layer: Mapping[str, int], heights: Mapping[str, float], gap: float) -> list[tuple[float, float]]:
    """Top and bottom of every layer."""
    spans, top = [], 0.0
    for number in range(max(layer.values()) + 1):
        height = max(heights[node] for node, own in layer.items() if own == number)
        spans.append((top, top + height))
        top += height + gap
    return spans


def parts(graph: Graph) -> list[Graph]:
    """What is connected, the largest first; nodes without edges together at the end."""
    found = sorted(nx.weakly_connected_components(graph.to_networkx()), key=len, reverse=True)
    joined = [nodes for nodes in found if len(nodes) > 1]
    alone = {node for nodes in found if len(nodes) == 1 for node in nodes}
    return [graph.without(set(graph.nodes) - nodes) for nodes in [*joined, *([alone] if alone else [])]]


# ---------------------------------------------------------------------------------------------------------- layers
def layers(graph: Graph) -> dict[str, int]:
    """``{node: layer}``: below all parents, in the first layer that has room, then down towards the children."""
    room = max(5, round(1.6 * len(graph) ** 0.5))
    found: dict[str, int] = {}
    filled: dict[int, int] = defaultdict(int)
    for node in graph.nodes:
        place = max((found[parent] for parent in graph.parents[node]), default=-1) + 1
        while filled[place] >= room:
            place += 1
        found[node], filled[place] = place, filled[place] + 1
    for node in reversed(graph.nodes):
        children = [found[child] for child in graph.children[node]]
        if len(children) <= len(graph.parents[node]):
            continue
        for place in range(min(children) - 1, found[node], -1):  # edges down get shorter, and they are more
            if filled[place] < room:
                filled[found[node]] -= 1
                found[node], filled[place] = place, filled[place] + 1
                break
    used = {place: number for number, place in enumerate(sorted(set(found.values())))}
    return {node: used[place] for node, place in found.items()}


def with_bends(graph: Graph, layer: Mapping[str, int]) -> tuple[Rows, Segments]:
    """The keys of every layer, and which key of one layer is joined to which of the next."""
    rows: Rows = [[] for _ in range(max(layer.values()) + 1)]
    segments: Segments = []
    for node in graph.nodes:
        rows[layer[node]].append(node)
    for parent, child in graph.edges:
        above: Any = parent
        for place in range(layer[parent] + 1, layer[child]):
            bend = Bend(parent, child, place)
            rows[place].append(bend)
            segments.append((above, bend))
            above = bend
        segments.append((above, child))
    return [around(row) for row in rows], segments


def around(row: list[Any]) -> list[Any]:
    """A layer with the edges that pass it in its middle."""
    nodes = [key for key in row if not isinstance(key, Bend)]
    half = len(nodes) // 2
    return [*nodes[:half], *(key for key in row if isinstance(key, Bend)), *nodes[half:]]


# ----------------------------------------------------------------------------------------------------------- order
def ordered(rows: Rows, segments: Segments) -> Rows:
    """The layers in an order with few crossings."""
    joined = neighbours(segments)
    rng = np.random.default_rng(0)
    best, fewest = rows, crossings(rows, segments)
    for start in range(STARTS):
        now = [row if start == 0 else [row[i] for i in rng.permutation(len(row))] for row in rows]
        for sweep in range(SWEEPS):
            for number in range(len(now)) if sweep % 2 == 0 else reversed(range(len(now))):
                place = places(now)
                near = number - 1 if sweep % 2 == 0 else number + 1
                if 0 <= near < len(now):
                    now[number] = by_barycentre(now[number], set(now[near]), joined, place)
            count = crossings(now, segments)
            if count < fewest:
                best, fewest = [list(row) for row in now], count
    return best


def neighbours(segments: Segments) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = defaultdict(list)
    for above, below in segments:
        found[above].append(below)
        found[below].append(above)
    return found


def places(rows: Rows) -> dict[Any, float]:
    """``{key: place in its layer}``, from 0 to 1."""
    return {key: (at + 0.5) / len(row) for row in rows for at, key in enumerate(row)}


def by_barycentre(row: list[Any], near: set[Any], joined: Mapping[Any, list[Any]], place: Mapping[Any, float]) -> list:
    """A layer by the mean places of what its keys are joined to in the layer next to it."""
    mean = {}
    for key in row:
        others = [place[other] for other in joined.get(key, ()) if other in near]
        mean[key] = sum(others) / len(others) if others else place[key]
    return sorted(row, key=mean.__getitem__)


def crossings(rows: Rows, segments: Segments) -> int:
    """How often two edges cross."""
    place = {key: (number, at) for number, row in enumerate(rows) for at, key in enumerate(row)}
    found = np.array([(*place[above], place[below][1]) for above, below in segments]).reshape(-1, 3)
    total = 0
    for number in np.unique(found[:, 0]):
        _, above, below = found[found[:, 0] == number].T
        total += int(((above[:, None] < above) & (below[:, None] > below)).sum())
    return total


# ---------------------------------------------------------------------------------------------------------- places
def placed(rows: Rows, segments: Segments, widths: Mapping[Any, float], sweeps: int = 40) -> dict[Any, float]:
    """Horizontal places: each key near what it is joined to, in the order of its layer, without overlap."""
    joined = neighbours(segments)
    for chain in chains(rows):  # an edge goes straight down as far as it can
        joined |= {bend: [*chain, chain[0].parent, chain[0].child] for bend in chain}
    x: dict[Any, float] = {}
    for row in rows:
        steps = np.cumsum([widths[key] for key in row])
        x |= {key: float(step - widths[key] / 2 - steps[-1] / 2) for key, step in zip(row, steps, strict=True)}
    for sweep in range(sweeps):
        for row in rows if sweep % 2 else reversed(rows):
            wanted = [np.mean([x[other] for other in joined.get(key, [key])]) for key in row]
            weight = [1.0 + len(joined.get(key, ())) for key in row]
            x |= dict(zip(row, apart(wanted, weight, [widths[key] for key in row]), strict=True))
    return x


def chains(rows: Rows) -> list[list[Bend]]:
    """The bends of every edge."""
    found: dict[tuple[str, str], list[Bend]] = defaultdict(list)
    for row in rows:
        for key in row:
            if isinstance(key, Bend):
                found[key.parent, key.child].append(key)
    return list(found.values())


def apart(wanted: Sequence[Any], weight: Sequence[float], widths: Sequence[float]) -> list[float]:
    """The nearest places to those wanted, in least squares, at which nothing overlaps and the order is kept."""
    half = np.array(widths) / 2
    offset = np.concatenate([[0.0], np.cumsum(half[:-1] + half[1:])])
    found = isotonic_regression(np.array(wanted, dtype=float) - offset, weights=np.array(weight)).x
    return (found + offset).tolist()
