"""Bayesian networks: who depends on whom, and what is believed of every node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from probgen.errors import CapabilityError
from probgen.plots.layers import Layout, layout
from probgen.plots.missing import shortened
from probgen.plots.style import ACCENT, CYCLE, FAINT, GRID, INK, MUTED, PAPER, axes_or_new, mixed
from probgen.queries.answers import number_or_day
from probgen.queries.evidence import code_in, state_of
from probgen.queries.reading import spread
from probgen.structure.graph import Graph, check_known

__all__ = ["network"]

KNOWN = CYCLE[1]
BAR, SHARE, SIDE = 0.62, 0.42, 0.08  # widths of a bar, of its number, and of what is left free, in inches
HEAD, LINE, PAD = 0.27, 0.155, 0.07  # heights of a name, of a state, and of what is left free
MOST_BARS = 6
MOST_LETTERS = 16  # of a state
SIZES = {"name": 8.5, "text": 7.5, "label": 7.0}  # of letters, in points
MARGIN = 0.12


@dataclass(frozen=True)
class Belief:
    """What is believed of a node.

    Attributes:
        bars: ``[(state, probability), ...]`` of a discrete node.
        text: of a continuous one.
        known: given, not inferred.
        hidden: no column of the table.
    """

    bars: tuple[tuple[str, float], ...] = ()
    text: str = ""
    known: bool = False
    hidden: bool = False

    @property
    def lines(self) -> int:
        return len(self.bars) + bool(self.text)


def network(
    source: Any,
    given: Mapping[str, Any] | None = None,
    *,
    weights: Mapping[tuple[str, str], float] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Nodes in layers, parents above children, edges as arrows; of a fit, what is believed of every node.

    Discrete nodes have a bar for each state, continuous ones mean and standard deviation; nodes that are given are
    orange, hidden ones dashed.

    Args:
        source: a fit of ``bayesian_network``, or a graph: a Graph, ``{node: parents}``, edges, a networkx DiGraph.
        given: ``{node: state or number}`` that is known; of a fit only.
        weights: ``{(parent, child): weight}``, to be drawn as widths: for instance the share of bootstrap samples that an
            edge was found in. Edges that are not named are dotted.
        axes: to draw into; a new figure has the size that the network needs.

    Raises:
        CapabilityError: names of nodes or edges that there are not; ``given`` without a fit.
        DataError: a state that a node does not have; what is given cannot be.
    """
    fitted = hasattr(source, "posterior")
    if fitted and not hasattr(source.program, "graph"):
        raise CapabilityError(f"{source.name!r} has no graph to draw; fit 'bayesian_network'.")
    if given and not fitted:
        raise CapabilityError("A graph has no probabilities; pass a fit with given=.")
    graph = source.program.graph if fitted else Graph.of(source)
    check_known(weights or (), graph.edges, "weights")
    found = beliefs(source, given or {}) if fitted else dict.fromkeys(graph.nodes, Belief())
    boxes = {node: size_of(node, belief) for node, belief in found.items()}
    plan = layout(graph, {node: w for node, (w, _) in boxes.items()}, {node: h for node, (_, h) in boxes.items()})
    return drawn(graph, plan, boxes, found, weights, axes)


# --------------------------------------------------------------------------------------------------------- beliefs
def beliefs(fit: Any, given: Mapping[str, Any]) -> dict[str, Belief]:
    """What the fit believes of every node, given some."""
    answer, found = fit.query(given=given), {}
    for node in fit.program.graph.nodes:
        column = fit.program.node(node)
        hidden = node not in fit.schema.names
        if node in given and column.is_discrete:
            code = state_of(column, given[node])
            sure = {level: float(at == code) for at, level in enumerate(column.levels)}
            found[node] = Belief(bars_of(sure), known=True, hidden=hidden)
        elif node in given:
            found[node] = Belief(text=number_or_day(code_in(column, given[node]), column.kind), known=True)
        elif column.is_discrete:
            found[node] = Belief(bars_of(answer[node]), hidden=hidden)
        else:
            found[node] = Belief(text=spread(answer[node].mean, answer[node].sd, column.kind))
    return found


def bars_of(shares: Mapping[Any, float]) -> tuple[tuple[str, float], ...]:
    """States in their order; of many the most probable ones, and the others together."""
    if len(shares) <= MOST_BARS:
        return tuple((str(state), share) for state, share in shares.items())
    kept = sorted(shares, key=lambda state: -shares[state])[: MOST_BARS - 1]
    rest = sum(share for state, share in shares.items() if state not in kept)
    shown = [(str(state), share) for state, share in shares.items() if state in kept]
    return (*shown, (f"{len(shares) - len(kept)} others", rest))


def size_of(node: str, belief: Belief) -> tuple[float, float]:
    """Width and height of a box."""
    inner = BAR + SHARE + label_width(belief) if belief.bars else letters_width(belief.text, SIZES["text"])
    width = max(inner, letters_width(shortened(str(node), 22), SIZES["name"], "bold"), 0.45) + 2 * SIDE
    return width, HEAD + LINE * belief.lines + (PAD if belief.lines else 0.02)


def label_width(belief: Belief) -> float:
    """Of the longest state, in inches."""
    return max(letters_width(shortened(state, MOST_LETTERS), SIZES["label"]) for state, _ in belief.bars) + 0.05


@cache
def letters_width(text: str, points: float, weight: str = "normal") -> float:
    """Of a text, in inches."""
    return TextPath((0, 0), text, points, prop=FontProperties(weight=weight)).get_extents().width / 72 if text else 0.0


# --------------------------------------------------------------------------------------------------------- drawing
def drawn(
    graph: Graph,
    plan: Layout,
    boxes: Mapping[str, tuple[float, float]],
    found: Mapping[str, Belief],
    weights: Mapping[tuple[str, str], float] | None,
    axes: Axes | None,
) -> Axes:
    """The figure; one unit is an inch in a figure of its own size."""
    width, height = plan.size[0] + 2 * MARGIN, plan.size[1] + 2 * MARGIN
    if axes is None:
        axes = axes_or_new(None, (width, height))
        axes.get_figure().set_layout_engine("none")
        axes.set_position((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-MARGIN, plan.size[0] + MARGIN)
    axes.set_ylim(plan.size[1] + MARGIN, -MARGIN)
    axes.set_aspect("equal")
    axes.set_axis_off()
    frame = axes.get_window_extent().size / axes.get_figure().dpi
    scale = float(min(frame[0] / width, frame[1] / height))
    ports = ports_of(graph, plan, boxes)
    for edge in graph.edges:
        draw_edge(axes, path_of(edge, plan, boxes, ports), scale, weight_of(edge, weights))
    for node, belief in found.items():
        draw_box(axes, node, belief, plan.centre[node], boxes[node], scale)
    return axes


def weight_of(edge: tuple[str, str], weights: Mapping[tuple[str, str], float] | None) -> float | None:
    """From 0 to 1; None for an edge that has none while others do."""
    if weights is None:
        return 0.3
    return float(weights[edge]) / (max(map(float, weights.values())) or 1.0) if edge in weights else None


def ports_of(graph: Graph, plan: Layout, boxes: Mapping[str, tuple[float, float]]) -> dict[tuple[Any, str], float]:
    """Where edges touch the boxes: ``{(edge, "out" or "in"): x}``, spread in the order of their other ends."""
    found: dict[tuple[Any, str], float] = {}
    for node in graph.nodes:
        for side, others in (("out", graph.children[node]), ("in", graph.parents[node])):
            edges = [(node, other) if side == "out" else (other, node) for other in others]
            toward = {}
            for edge, other in zip(edges, others, strict=True):
                bends = plan.bends.get(edge)
                toward[edge] = (bends[0] if side == "out" else bends[-1]) if bends else plan.centre[other][0]
            step = min(0.16, 0.7 * boxes[node][0] / max(len(edges), 1))
            for at, edge in enumerate(sorted(edges, key=toward.__getitem__)):
                found[edge, side] = plan.centre[node][0] + step * (at - (len(edges) - 1) / 2)
    return found


def path_of(
    edge: tuple[str, str],
    plan: Layout,
    boxes: Mapping[str, tuple[float, float]],
    ports: Mapping[tuple[Any, str], float],
) -> Path:
    """Straight down where an edge passes a layer, a bow from one layer to the next."""
    parent, child = edge
    first, last = plan.layer[parent], plan.layer[child]
    x = [ports[edge, "out"], *plan.bends.get(edge, ()), ports[edge, "in"]]
    begin, end = (plan.centre[n][1] + side * boxes[n][1] / 2 for n, side in ((parent, 1), (child, -1)))
    points, codes = [(x[0], begin)], [Path.MOVETO]
    for at, layer in enumerate(range(first, last)):
        low, high = plan.spans[layer][1], plan.spans[layer + 1][0]
        middle = (low + high) / 2
        bow = [(x[at], low), (x[at], middle), (x[at + 1], middle), (x[at + 1], high)]
        straight = low > points[-1][1] + 1e-6
        points += bow if straight else bow[1:]
        codes += [Path.LINETO] * straight + [Path.CURVE4] * 3
    if end > points[-1][1] + 1e-6:  # an arrow needs a length to have a direction
        points, codes = [*points, (x[-1], end)], [*codes, Path.LINETO]
    return Path(points, codes)


def draw_edge(axes: Axes, path: Path, scale: float, weight: float | None) -> None:
    """An arrow; the heavier, the wider and darker."""
    strength = 0.0 if weight is None else weight
    axes.add_patch(
        FancyArrowPatch(
            path=path,
            arrowstyle=f"-|>,head_length={0.42 + 0.1 * strength},head_width={0.2 + 0.08 * strength}",
            mutation_scale=9 * scale,
            linewidth=(0.7 + 2.2 * strength) * scale,
            linestyle=(0, (1, 2)) if weight is None else "-",
            color=mixed(MUTED, PAPER, 0.45 * (1 - strength)),
            joinstyle="miter",
            zorder=2,
        )
    )


def draw_box(
    axes: Axes, node: str, belief: Belief, centre: tuple[float, float], size: tuple[float, float], scale: float
) -> None:
    """A node: its name, and its states with their probabilities."""
    (x, y), (width, height) = centre, size
    left, top, colour = x - width / 2, y - height / 2, KNOWN if belief.known else ACCENT
    axes.add_patch(
        FancyBboxPatch(
            (left, top),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=mixed(KNOWN, PAPER, 0.9) if belief.known else PAPER,
            edgecolor=KNOWN if belief.known else FAINT,
            linestyle=(0, (3, 2)) if belief.hidden else "-",
            linewidth=(1.4 if belief.known else 0.9) * scale,
            zorder=3,
        )
    )
    letters = {name: points * scale for name, points in SIZES.items()}
    axes.text(
        x, top + (HEAD if belief.lines else height) / 2, shortened(str(node), 22), ha="center", va="center",
        color=INK, fontsize=letters["name"], fontweight="bold", zorder=5,
    )  # fmt: skip
    if belief.text:
        axes.text(
            x, top + HEAD + LINE / 2, belief.text, ha="center", va="center",
            color=mixed(KNOWN, INK, 0.3) if belief.known else MUTED, fontsize=letters["text"], zorder=5,
        )  # fmt: skip
    begin = left + SIDE + label_width(belief) if belief.bars else left
    for at, (state, share) in enumerate(belief.bars):
        draw_bar(axes, (begin, left + width - SIDE), top + HEAD + LINE * at, state, share, colour, letters["label"])


def draw_bar(
    axes: Axes, ends: tuple[float, float], top: float, state: str, share: float, colour: str, letters: float
) -> None:
    """State, bar, per cent."""
    begin, end, middle = ends[0], ends[1] - SHARE, top + LINE / 2
    axes.text(
        begin - 0.05,
        middle,
        shortened(state, MOST_LETTERS),
        ha="right",
        va="center",
        color=MUTED,
        fontsize=letters,
        zorder=5,
    )
    for reach, shade in ((1.0, GRID), (share, colour)):
        axes.add_patch(
            Rectangle((begin, top + 0.03), reach * (end - begin), LINE - 0.06, facecolor=shade, linewidth=0, zorder=4)
        )
    axes.text(ends[1], middle, percent_of(share), ha="right", va="center", color=INK, fontsize=letters, zorder=5)


def percent_of(share: float) -> str:
    """Per cent with one place below ten and near a hundred."""
    if share in (0.0, 1.0):
        return f"{100 * share:.0f}%"
    return f"{100 * share:.1f}%" if 0.0005 <= share <= 0.9995 else ("<0.1%" if share < 0.5 else ">99.9%")
