"""A graph of one point as a graph of many, which lie along a last dimension of all that depends on them.

There a sum over three states, a gather or a broadcast runs over whole stretches of memory, where ``torch.func.vmap``, with
its points in front, would visit them number by number. Graphs with operations that have no rule here, and with products or
factorisations of large matrices, are left to ``vmap``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

__all__ = ["NoRule", "widened"]

ATEN = torch.ops.aten
SMALL = 2**12  # numbers of a matrix that is worth moving


class NoRule(Exception):
    """An operation that this file does not know how to apply to many points."""


def widened(module: GraphModule, points: int, own_data: bool = False) -> GraphModule:
    """A graph without changes in place, for points ``(C, P)``, its first input; with ``own_data`` the others have a leading dimension C too.

    Raises:
        NoRule: an operation needs ``vmap``.
    """
    return Widening(module, points, own_data).graph_module()


class Widening:
    """Goes through the nodes of one graph and puts down those of the other.

    Numbers that are repeated (``expand``) are repeated as late as can be: the logarithm of a scale is taken before all rows
    share it.

    Attributes:
        made: what became of a node.
        many: nodes of the old graph whose counterparts have a last dimension of points.
        small: shapes of counterparts that are still to be repeated.
        in_front: nodes whose results are tuples of tensors with the points in front.
    """

    def __init__(self, module: GraphModule, points: int, own_data: bool) -> None:
        self.module, self.points, self.own_data = module, points, own_data
        self.graph = Graph()
        self.made: dict[Node, Any] = {}
        self.many: set[Node] = set()
        self.small: dict[Node, tuple[int, ...]] = {}
        self.in_front: set[Node] = set()

    def graph_module(self) -> GraphModule:
        inputs = 0
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self.made[node] = self.graph.placeholder(node.name)
                if inputs == 0 or self.own_data:
                    self.made[node] = self.last(self.made[node], len(shape(node)))
                    self.many.add(node)
                inputs += 1
            elif node.op == "output":
                self.graph.output(map_arg(node.args[0], lambda made: self.first(self.wide(made), len(shape(made)))))
            elif node.op == "call_function" and any(self.is_many(given) for given in node.all_input_nodes):
                self.apply(node)
            else:
                self.made[node] = self.graph.node_copy(node, self.made.__getitem__)
        return GraphModule(self.module, self.graph)

    def is_many(self, node: Any) -> bool:
        return isinstance(node, Node) and node in self.many

    def apply(self, node: Node) -> None:
        """Put down a node that depends on the points."""
        target: Any = node.target
        if target in FILLED:
            self.made[node] = self.call(ATEN.full.default, list(shape(node)), FILLED[target](node), **kind(node))
            return
        if is_changeless(node):
            self.made[node] = repeated(self, node, *node.args)
        elif target in RULES:
            self.made[node] = RULES[target](self, node, *node.args)
        elif torch.Tag.pointwise in getattr(target, "tags", ()):
            self.made[node] = pointwise(self, node, *node.args)
        else:
            raise NoRule(str(target))
        self.many.add(node)

    # -- putting nodes down ------------------------------------------------------------------------------------
    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        return self.graph.call_function(target, args, kwargs)

    def last(self, node: Node, rank: int) -> Node:
        """The points from the first place to the last, in memory too."""
        moved = self.call(ATEN.permute.default, node, [*range(1, rank + 1), 0])
        return self.call(ATEN.clone.default, moved, memory_format=torch.contiguous_format)

    def first(self, node: Node, rank: int) -> Node:
        """The points from the last place to the first."""
        return self.call(ATEN.permute.default, node, [rank, *range(rank)])

    def in_rows(self, node: Node) -> Node:
        """The points in front, in memory too: some factorisations take a matrix for its transpose where it lies so."""
        moved = self.first(self.wide(node), len(shape(node)))
        return self.call(ATEN.clone.default, moved, memory_format=torch.contiguous_format)

    def extent(self, node: Node) -> tuple[int, ...]:
        """Shape of what a node became, without the points."""
        return self.small[node] if node in self.small else shape(node)

    def padded(self, node: Node) -> Node:
        """As many dimensions as the node had, those of repetitions of size one."""
        extent, rank = self.extent(node), len(shape(node))
        if len(extent) == rank:
            return self.made[node]
        return self.call(ATEN.reshape.default, self.made[node], [*([1] * (rank - len(extent))), *extent, self.points])

    def repeated_later(self, node: Node, dims: list[int], rest: list[Any]) -> Node:
        """The first argument of an operation along some dimensions: without repetitions, where those are along others."""
        source: Any = node.args[0]
        if (
            source not in self.many
            or len(node.all_input_nodes) > 1
            or not isinstance(node.meta.get("val"), torch.Tensor)
        ):
            return self.wide(source)
        whole, extent = shape(source), self.extent(source)
        extent = (1,) * (len(whole) - len(extent)) + extent
        if any(whole[dim] != extent[dim] for dim in dims if dim < len(whole)):
            return self.wide(source)
        example = torch.empty(extent, dtype=meta(source).dtype, device="meta")
        target: Any = node.target
        self.small[node] = tuple(target(example, *rest, **node.kwargs).shape)
        return self.padded(source)

    def whole(self, node: Node) -> Node:
        """All repetitions."""
        if node in self.many and self.extent(node) != shape(node):
            return self.repetitions(node, shape(node))
        return self.made[node]

    def wide(self, value: Any) -> Any:
        """All repetitions, with the last dimension of all points; what is no tensor as it is."""
        if not isinstance(value, Node):
            return value
        return self.whole(value) if value in self.many else self.repetitions(value, shape(value))

    def repetitions(self, node: Node, size: tuple[int, ...]) -> Node:
        return self.call(ATEN.expand.default, self.beside(node), [*size, self.points])

    def fixed(self, node: Node) -> Node:
        """Indices.

        Raises:
            NoRule: they depend on the point.
        """
        if node in self.many:
            raise NoRule("index that depends on the point")
        return self.made[node]

    def beside(self, node: Any) -> Any:
        """An argument such that it broadcasts against those with a last dimension of points."""
        if not isinstance(node, Node) or node in self.many or not shape(node):
            return map_arg(node, self.made.__getitem__)
        return self.call(ATEN.unsqueeze.default, self.made[node], -1)


# ---------------------------------------------------------------------------------------------------------- facts
def meta(node: Node) -> torch.Tensor:
    found = node.meta.get("val")
    if not isinstance(found, torch.Tensor):
        raise NoRule(f"{node.target} of unknown shape")
    return found


def shape(node: Node) -> tuple[int, ...]:
    return tuple(meta(node).shape)


def kind(node: Node) -> dict[str, Any]:
    return {"dtype": meta(node).dtype, "device": meta(node).device}


def positive(dims: Any, rank: int) -> Any:
    """Dimensions counted from the front, where one more at the back does not matter; all where none is named."""
    if isinstance(dims, int):
        return dims % max(rank, 1)
    return [dim % max(rank, 1) for dim in dims] if dims else list(range(rank))


def is_changeless(node: Node) -> bool:
    """Whether the node is its first argument under another name."""
    source = node.args[0] if node.args else None
    if node.target is ATEN.pow.Tensor_Scalar and node.args[1] == 1.0:
        return True
    return node.target in RESHAPED and isinstance(source, Node) and shape(source) == shape(node)


# ---------------------------------------------------------------------------------------------------------- rules
Rule = Callable[..., Any]  # of the widening, the node and its arguments; returns what the node becomes


def pointwise(to: Widening, node: Node, *args: Any) -> Node:
    """Number by number, with broadcasting."""
    to.small[node] = tuple(torch.broadcast_shapes(*(to.extent(other) for other in node.all_input_nodes)))
    named = {key: to.beside(value) for key, value in node.kwargs.items()}
    return to.call(node.target, *(to.beside(value) for value in args), **named)


def together(to: Widening, node: Node, *args: Any) -> Node:
    """All tensors of one shape."""
    return to.call(node.target, *(to.wide(value) for value in args), **node.kwargs)


def along(*places: int, added: int = 0) -> Rule:
    """Operations on the first argument along dimensions that stand at these places among the arguments."""

    def rule(to: Widening, node: Node, source: Node, *others: Any) -> Node:
        target: Any = node.target
        rank = len(shape(source)) + added
        defaults = target._schema.arguments[len(others) + 1 : max(places) + 1]
        rest = [*others, *(argument.default_value for argument in defaults)]
        for place in places:
            rest[place - 1] = positive(rest[place - 1], rank)
        dims = torch.tensor([rest[place - 1] for place in places]).flatten().tolist()
        first = to.repeated_later(node, [] if target in MOVES else dims, rest)
        return to.call(target, first, *(to.wide(value) for value in rest), **node.kwargs)

    return rule


def of_all(target: Any) -> Rule:
    """A reduction to one number."""

    def rule(to: Widening, node: Node, source: Node) -> Any:
        dims = list(range(len(shape(source))))
        return to.call(target, to.whole(source), dims, **node.kwargs) if dims else to.whole(source)

    return rule


def product(to: Widening, _: Node, source: Node) -> Node:
    return to.call(ATEN.prod.dim_int, to.call(ATEN.reshape.default, to.whole(source), [-1, to.points]), 0)


def repeated(to: Widening, node: Node, source: Any, *_: Any) -> Any:
    """``expand``, put off; or nothing at all."""
    to.small[node] = to.extent(source)
    return to.made[source]


def resized(to: Widening, node: Node, source: Node, *_: Any) -> Node:
    """``view`` and its like."""
    return to.call(ATEN.reshape.default, to.whole(source), [*shape(node), to.points])


def permuted(to: Widening, _: Node, source: Node, dims: list[int]) -> Node:
    rank = len(dims)
    return to.call(ATEN.permute.default, to.whole(source), [*positive(dims, rank), rank])


def transposed(to: Widening, node: Node, source: Node) -> Any:
    """``t``: a vector's is itself."""
    whole = to.whole(source)
    return to.call(ATEN.transpose.int, whole, 0, 1) if len(shape(node)) == 2 else whole


def squeezed(to: Widening, _: Node, source: Node) -> Node:
    ones = [at for at, size in enumerate(shape(source)) if size == 1]
    return to.call(ATEN.squeeze.dims, to.whole(source), ones)


def sliced_back(
    to: Widening, node: Node, source: Node, size: list[int], dim: int, start: int, end: int, step: int
) -> Node:
    """The gradient of a slice: zeros around it."""
    at = positive(dim, len(size))
    if step != 1:
        return to.call(node.target, to.whole(source), [*size, to.points], at, start, end, step)
    first, stop, _ = slice(start, end).indices(size[at])
    behind = [0] * (2 * (len(size) - at))
    return to.call(ATEN.constant_pad_nd.default, to.whole(source), [*behind, first, size[at] - stop], 0.0)


def selected_back(to: Widening, node: Node, source: Node, size: list[int], dim: int, place: int) -> Node:
    return to.call(node.target, to.whole(source), [*size, to.points], positive(dim, len(size)), place)


def diagonal(to: Widening, node: Node, source: Node, *rest: int) -> Node:
    """A diagonal becomes the last dimension, behind the points; they change places."""
    offset, *dims = (*rest, *(0, 0, 1)[len(rest) :])
    found = to.call(node.target, to.whole(source), offset, *positive(dims, len(shape(source))))
    return to.call(ATEN.transpose.int, found, -1, -2)


def diagonal_back(to: Widening, node: Node, source: Node, size: list[int], offset: int, *dims: int) -> Node:
    turned = to.call(ATEN.transpose.int, to.whole(source), -1, -2)
    return to.call(node.target, turned, [*size, to.points], offset, *positive(dims, len(size)))


def padded(to: Widening, node: Node, source: Node, pads: list[int], *rest: Any) -> Node:
    return to.call(node.target, to.whole(source), [0, 0, *pads], *rest)


def joined(to: Widening, node: Node, parts: list[Node], dim: int = 0) -> Node:
    rank = len(shape(parts[0])) + (node.target is ATEN.stack.default)
    return to.call(node.target, [to.wide(part) for part in parts], positive(dim, rank))


def looked_up(to: Widening, node: Node, source: Node, places: list[Any], *values: Any) -> Node:
    """``x[i, :, j]``, read or written."""
    at = [None if place is None else to.fixed(place) for place in places]
    if not values:
        return to.call(node.target, to.whole(source), at)
    return to.call(node.target, to.wide(source), at, *(to.wide(value) for value in values))


def indexed(to: Widening, node: Node, source: Node, dim: int, places: Node, *rest: Any) -> Node:
    """Whole slices."""
    args = (to.wide(source), positive(dim, len(shape(source))), to.fixed(places))
    return to.call(node.target, *args, *(to.wide(value) for value in rest))


def gathered(to: Widening, node: Node, source: Node, dim: int, places: Node, *rest: Any) -> Node:
    args = (to.wide(source), positive(dim, len(shape(source))), to.wide(places))
    return to.call(node.target, *args, *(to.wide(value) for value in rest))


def multiplied(to: Widening, node: Node, left: Node, right: Node) -> Node:
    """A matrix of data times a vector or a matrix of every point, as one product; small matrices point by point."""
    if left not in to.many:
        flat = to.call(ATEN.reshape.default, to.whole(right), [shape(right)[0], -1])
        return to.call(ATEN.reshape.default, to.call(ATEN.mm.default, to.made[left], flat), [*shape(node), to.points])
    if len(shape(right)) == 1:
        return to.call(ATEN.sum.dim_IntList, to.call(ATEN.mul.Tensor, to.whole(left), to.beside(right)), [1])
    return matrices(to, node, left, right, target=ATEN.matmul.default)


def dotted(to: Widening, _: Node, left: Node, right: Node) -> Node:
    return to.call(ATEN.sum.dim_IntList, to.call(ATEN.mul.Tensor, to.wide(left), to.wide(right)), [0])


def matrices(to: Widening, node: Node, *args: Any, target: Any = None) -> Node:
    """Operations on matrices, which stand behind everything else: the points go to the front for them."""
    if max(math.prod(shape(other)[-2:]) for other in node.all_input_nodes) > SMALL:
        raise NoRule(f"{node.target} of large matrices")
    moved = [to.in_rows(value) if isinstance(value, Node) else value for value in args]
    made = to.call(target or node.target, *moved, **node.kwargs)
    if isinstance(node.meta.get("val"), torch.Tensor):
        return to.last(made, len(shape(node)))
    to.in_front.add(node)
    return made


def triangle(to: Widening, node: Node, source: Node, *offset: int) -> Node:
    """``tril`` and ``triu``: a mask over the last two dimensions."""
    ones = to.call(ATEN.ones.default, list(shape(node)[-2:]), dtype=torch.bool, device=meta(node).device)
    mask = to.call(ATEN.unsqueeze.default, to.call(node.target, ones, *offset), -1)
    return to.call(ATEN.where.ScalarOther, mask, to.whole(source), 0.0)


def checked(to: Widening, node: Node, source: Node, name: str, **_: Any) -> Node:
    """The error of a factorisation that failed at any point."""
    return to.call(node.target, to.whole(source), name, is_matrix=False)


def item(to: Widening, node: Node, source: Node, place: int) -> Node:
    part = to.call(operator.getitem, to.made[source], place)
    return to.last(part, len(shape(node))) if source in to.in_front else part


def loss(
    to: Widening,
    node: Node,
    source: Node,
    target: Node,
    weight: Any = None,
    positive_weight: Any = None,
    reduction: int = 1,
) -> Node:
    """Cross entropies, summed or not."""
    every = to.call(node.target, *(to.wide(value) for value in (source, target, weight, positive_weight)), 0)
    reduced = {0: None, 1: ATEN.mean.dim, 2: ATEN.sum.dim_IntList}[reduction]
    return to.call(reduced, every, list(range(len(shape(source))))) if reduced else every


def overwritten(to: Widening, node: Node, _: Node, value: Any) -> Node:
    """``copy`` and ``fill``: the second argument in the shape and kind of the first."""
    return to.call(ATEN._to_copy.default, to.repetitions(value, shape(node)), dtype=meta(node).dtype)


FILLED: dict[Any, Callable[[Node], Any]] = {
    ATEN.zeros_like.default: lambda node: 0.0,
    ATEN.new_zeros.default: lambda node: 0.0,
    ATEN.ones_like.default: lambda node: 1.0,
    ATEN.new_ones.default: lambda node: 1.0,
    ATEN.full_like.default: lambda node: node.args[1],
    ATEN.new_full.default: lambda node: node.args[2],
}
RESHAPED = {
    ATEN.view.default,
    ATEN._unsafe_view.default,
    ATEN.expand.default,
    ATEN.slice.Tensor,
    ATEN.slice_backward.default,
}
MOVES = {ATEN.unsqueeze.default, ATEN.transpose.int}
RULES: dict[Any, Rule] = {
    operator.getitem: item,
    **dict.fromkeys((ATEN.view.default, ATEN._unsafe_view.default, ATEN.reshape.default), resized),
    ATEN.expand.default: repeated,
    ATEN.permute.default: permuted,
    ATEN.t.default: transposed,
    ATEN.squeeze.default: squeezed,
    ATEN.unsqueeze.default: along(1, added=1),
    ATEN.transpose.int: along(1, 2),
    ATEN.diagonal.default: diagonal,
    **dict.fromkeys((ATEN._softmax_backward_data.default, ATEN._log_softmax_backward_data.default), along(2)),
    **dict.fromkeys(
        (
            *(ATEN.sum.dim_IntList, ATEN.mean.dim, ATEN.amax.default, ATEN.amin.default, ATEN.logsumexp.default),
            *(
                ATEN.prod.dim_int,
                ATEN.cumsum.default,
                ATEN.cumprod.default,
                ATEN.logcumsumexp.default,
                ATEN.flip.default,
            ),
            *(
                ATEN._softmax.default,
                ATEN._log_softmax.default,
                ATEN.max.dim,
                ATEN.min.dim,
                ATEN.any.dim,
                ATEN.all.dim,
            ),
            *(ATEN.squeeze.dim, ATEN.squeeze.dims, ATEN.select.int, ATEN.slice.Tensor),
        ),
        along(1),
    ),
    **{ATEN.split.Tensor: along(2), ATEN.split_with_sizes.default: along(2), ATEN.unbind.int: along(1)},
    **{ATEN.sum.default: of_all(ATEN.sum.dim_IntList), ATEN.mean.default: of_all(ATEN.mean.dim)},
    ATEN.prod.default: product,
    ATEN.slice_backward.default: sliced_back,
    ATEN.select_backward.default: selected_back,
    ATEN.diagonal_backward.default: diagonal_back,
    ATEN.constant_pad_nd.default: padded,
    **dict.fromkeys((ATEN.cat.default, ATEN.stack.default), joined),
    **dict.fromkeys((ATEN.index.Tensor, ATEN.index_put.default), looked_up),
    **dict.fromkeys((ATEN.index_select.default, ATEN.index_add.default), indexed),
    **dict.fromkeys((ATEN.gather.default, ATEN.scatter_add.default, ATEN.scatter.src, ATEN.scatter.value), gathered),
    **dict.fromkeys((ATEN.mv.default, ATEN.mm.default), multiplied),
    ATEN.bmm.default: partial(matrices, target=ATEN.matmul.default),
    **dict.fromkeys((ATEN.linalg_cholesky_ex.default, ATEN.linalg_solve_triangular.default), matrices),
    **dict.fromkeys(
        (ATEN.linalg_lu_factor_ex.default, ATEN.linalg_lu_solve.default, ATEN.diag_embed.default), matrices
    ),
    **dict.fromkeys((ATEN.linalg_inv_ex.default, ATEN._linalg_slogdet.default, ATEN._linalg_det.default), matrices),
    **dict.fromkeys((ATEN.tril.default, ATEN.triu.default), triangle),
    ATEN._linalg_check_errors.default: checked,
    ATEN.dot.default: dotted,
    ATEN.binary_cross_entropy_with_logits.default: loss,
    **dict.fromkeys((ATEN.copy.default, ATEN.fill.Tensor), overwritten),
    **{ATEN.slice_scatter.default: along(2), ATEN.select_scatter.default: along(2)},
    **dict.fromkeys((ATEN.log_sigmoid_forward.default, ATEN.log_sigmoid_backward.default), together),
    ATEN.softplus_backward.default: together,
    **dict.fromkeys((ATEN.clone.default, ATEN._to_copy.default), together),
}
