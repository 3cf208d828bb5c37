r"""Log densities of an unconstrained vector for many chains at once, as one graph traced below Pyro.

The function is traced for one chain, gradient and all, and the graph is widened to many
(:mod:`probgen.inference.widening`): no handler and no autograd tape is left, so that Python's price is paid once for all
chains. Data are inputs of the graph. What depends on data alone is a graph of its own, which runs once. Inductor lowers
the rest where it is asked to.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pyro
import torch
from torch import Tensor
from torch._functorch.compile_utils import fx_graph_cse
from torch.func import functionalize, vmap
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from probgen.errors import CapabilityError
from probgen.inference.widening import NoRule, widened

__all__ = ["MODES", "Compiled", "in_two", "lowered", "mapped", "tidy", "traced"]

MODES = ("auto", "graph", "inductor", "eager")
IN_CACHE = 2**18  # numbers of the largest temporary, so that it stays near the processor
UNTRACEABLE = (RuntimeError, TypeError, ValueError, NotImplementedError)

Function = Callable[[Tensor, Any], Tensor]


class Compiled:
    """Value ``(C,)`` and gradient ``(C, P)`` of a log density at C points ``(C, P)``.

    Args:
        function: of one unconstrained vector ``(P,)`` and the data; a scalar.
        example: points ``(C, P)``; later calls have as many.
        data: tensors in any nesting, or None.
        mode: "graph", "inductor" (a graph lowered by a compiler), "eager" (Pyro itself, point by point: the reference),
            or "auto", which is "graph".
        own_data: every point has data of its own, with a leading dimension C.
        chunk: points that are evaluated together; None for as many as stay near the processor.

    Attributes:
        mode: what became of it; "eager" where the program does not trace.
        seconds: CPU seconds spent on tracing and compiling.
    """

    def __init__(
        self,
        function: Function,
        example: Tensor,
        data: Any = None,
        *,
        mode: str = "auto",
        own_data: bool = False,
        chunk: int | None = None,
    ) -> None:
        if mode not in MODES:
            raise CapabilityError(f"compile must be one of {', '.join(MODES)}, got {mode!r}.")
        began = time.process_time()
        self.function, self.own_data, self.points = function, own_data, len(example)
        self.leaves, self.spec = tree_flatten(data)
        self.places = [at for at, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor)]
        self.single: Any = self.eager  # of one point
        self.main: Callable | None = None  # of many points
        with pyro.validation_enabled(False):
            self.mode = "eager" if mode == "eager" else self.trace(example, mode, chunk)
        self.inputs = self.prepared()
        self.seconds = time.process_time() - began

    # -- making ------------------------------------------------------------------------------------------------
    def trace(self, example: Tensor, mode: str, chunk: int | None) -> str:
        """Make the graphs; returns what was made."""
        one, tensors = example[0].clone(), self.of_point(0)
        self.eager(one, *tensors)  # what is found out once about data is found out now, outside the trace
        try:
            self.single = traced(self.eager, one, *tensors)
        except UNTRACEABLE:
            return "eager"  # control flow that depends on values
        if not self.agrees(one, tensors):
            self.single = self.eager
            return "eager"
        self.chunk = self.points if chunk is None else min(chunk, self.points)
        if chunk is None:
            self.chunk = even(self.points, max(4, IN_CACHE // largest(self.single)))
        try:
            self.prologue, self.main = self.batched(example)
        except UNTRACEABLE:
            return "graph"  # chain by chain
        if mode != "inductor":
            return "graph"
        read = self.prologue(*self.tensors(slice(0, self.chunk)))
        graph, self.main = self.main, lowered(self.main, example[: self.chunk], read)
        return "graph" if self.main is graph else "inductor"

    def batched(self, example: Tensor) -> tuple[GraphModule, GraphModule]:
        """The graph of many points, in two parts."""
        some = example[: self.chunk].clone()
        tensors = [t.clone() for t in self.tensors(slice(0, self.chunk))]
        try:
            found = in_two(tidy(widened(self.single, self.chunk, self.own_data)))
            if self.same_as_single(found, some, tensors):
                return found
        except NoRule:
            pass
        dimensions = (0, *((0 if self.own_data else None) for _ in self.places))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")
            whole = tidy(make_fx(vmap(self.single, dimensions))(some, *tensors))
        return in_two(whole)

    def same_as_single(self, graphs: tuple[GraphModule, GraphModule], some: Tensor, tensors: list[Tensor]) -> bool:
        """The graph of many points gives at the last of them what the graph of one gives."""
        prologue, main = graphs
        try:
            pairs = zip(
                main(some, *prologue(*tensors)), self.single(some[-1], *self.of_point(len(some) - 1)), strict=True
            )
            return all(torch.allclose(a[-1], b, rtol=1e-5, equal_nan=True) and a.dtype == b.dtype for a, b in pairs)
        except UNTRACEABLE:
            return False

    def agrees(self, one: Tensor, tensors: list[Tensor]) -> bool:
        """The graph gives what the program gives, elsewhere too."""
        other = one + 0.1 * torch.randn_like(one)
        try:
            pairs = zip(self.eager(other, *tensors), self.single(other, *tensors), strict=True)
        except torch.linalg.LinAlgError:
            return True
        return all(torch.allclose(a, b, rtol=1e-5, equal_nan=True) for a, b in pairs)

    def eager(self, u: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Value and gradient of one point, by the program itself."""
        leaves = list(self.leaves)
        for at, tensor in zip(self.places, tensors, strict=True):
            leaves[at] = tensor
        leaf = u.detach().requires_grad_()
        with torch.enable_grad():
            value = self.function(leaf, tree_unflatten(leaves, self.spec))
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    # -- data --------------------------------------------------------------------------------------------------
    def tensors(self, points: slice) -> list[Tensor]:
        """The data's tensors, of some points where each has its own."""
        found = [self.leaves[at] for at in self.places]
        return [t[points] for t in found] if self.own_data else found

    def of_point(self, point: int) -> list[Tensor]:
        found = [self.leaves[at] for at in self.places]
        return [t[point] for t in found] if self.own_data else found

    def slices(self) -> Iterable[slice]:
        """Points that are evaluated together."""
        return (slice(at, at + self.chunk) for at in range(0, self.points, self.chunk))

    def prepared(self) -> list[Any]:
        """What the main graph reads of the data, for every slice of points."""
        if self.main is None:
            return []
        if not self.own_data:
            found = self.prologue(*self.tensors(slice(None)))
            return [found for _ in self.slices()]
        return [self.prologue(*self.tensors(s)) for s in self.slices()]

    def with_data(self, data: Any) -> Compiled:
        """The same graph over other data of the same shapes; nothing is traced again.

        Raises:
            CapabilityError: the data have another structure or shape.
        """
        leaves, spec = tree_flatten(data)
        same = spec == self.spec and all(
            leaves[at].shape == self.leaves[at].shape and leaves[at].dtype == self.leaves[at].dtype
            for at in self.places
        )
        if not same:
            raise CapabilityError("A compiled density takes data of the same structure, shapes and types only.")
        other = object.__new__(Compiled)
        other.__dict__.update(self.__dict__)
        other.leaves = leaves
        if not isinstance(other.single, GraphModule):
            other.single = other.eager
        other.inputs = other.prepared()
        return other

    # -- use ---------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values ``(C,)`` and gradients ``(C, P)``; -inf and 0 where the density is not defined.

        Any number of points will do where they share their data.
        """
        if self.main is None:
            return self.one_by_one(points)
        if len(points) != self.points:
            return self.of_any_number(points)
        try:
            found = [self.main(points[s], *read) for s, read in zip(self.slices(), self.inputs, strict=True)]
        except torch.linalg.LinAlgError:
            return self.one_by_one(points)
        value, gradient = found[0] if len(found) == 1 else map(torch.cat, zip(*found, strict=True))
        return defined(value, gradient)

    def of_any_number(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Filled up to whole calls by copies of the first point."""
        if self.own_data:
            raise CapabilityError(f"There are data for {self.points} points, not for {len(points)}.")
        parts = []
        for part in points.split(self.points):
            missing = points[:1].expand(self.points - len(part), -1)
            value, gradient = self(torch.cat([part, missing]))
            parts.append((value[: len(part)], gradient[: len(part)]))
        value, gradient = map(torch.cat, zip(*parts, strict=True))
        return value, gradient

    def one_by_one(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The same, point after point; a matrix that is not positive definite costs its own point only."""
        found = []
        for at, point in enumerate(points):
            try:
                found.append(self.single(point, *self.of_point(at)))
            except torch.linalg.LinAlgError:
                found.append((point.new_full((), -torch.inf), torch.zeros_like(point)))
        value, gradient = (torch.stack(part) for part in zip(*found, strict=True))
        return defined(value, gradient)


def mapped(function: Callable[[Tensor], Any], points: Tensor, together: int = 1024) -> Any:
    """What a function makes of every point ``(C, P)``, stacked; through one graph where the function traces."""
    with torch.no_grad(), pyro.validation_enabled(False):
        function(points[0])
        try:
            graph = make_fx(lambda point: function(point))(points[0])  # a bound method does not trace
            some = vmap(graph)
            parts = [some(part) for part in points.split(together)]
            agrees = tree_map(lambda a, b: torch.allclose(a[-1], b, equal_nan=True), parts[-1], function(points[-1]))
            if all(tree_flatten(agrees)[0]):
                return tree_map(lambda *found: torch.cat(found), *parts)
        except UNTRACEABLE:
            pass
        return tree_map(lambda *found: torch.stack(found), *(function(point) for point in points))


def defined(value: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Nothing that is not a number gets out; where the density is not defined it is zero."""
    total = value + 0.0 * gradient.sum(-1)
    if bool(total.isfinite().all()):
        return value, gradient
    fine = total.isfinite()
    return torch.where(fine, value, -torch.inf), torch.where(fine[:, None], gradient, 0.0)


def even(points: int, most: int) -> int:
    """The size of slices that cover all points, as equal as can be."""
    count = -(-points // min(points, most))
    while points % count:
        count += 1
    return points // count


# -------------------------------------------------------------------------------------------------------- graphs
def traced(function: Callable, *inputs: Tensor) -> GraphModule:
    """A tidy graph, in which nothing is changed in place."""
    graph = make_fx(lambda *given: function(*given))(*inputs)  # a bound method does not trace
    for node in graph.graph.nodes:
        if is_in_place(node):
            change_a_copy(node)
    graph = tidy(graph)
    if any(is_in_place(node) for node in graph.graph.nodes):
        return tidy(make_fx(functionalize(graph))(*inputs))
    return graph


def change_a_copy(node: Node) -> None:
    """The operation that makes a new tensor, where nobody else looks at the one that is changed."""
    target, changed = node.target, node.args[0]
    packet = getattr(torch.ops.aten, target._schema.name.removeprefix("aten::").removesuffix("_"), None)  # type: ignore[union-attr]
    made = getattr(packet, target._overloadname, None)  # type: ignore[union-attr]
    fresh = (
        isinstance(changed, Node) and changed.op == "call_function" and not getattr(changed.target, "is_view", True)
    )
    if made is not None and fresh and len(changed.users) == 1:  # type: ignore[union-attr]
        node.target = made


def tidy(module: GraphModule) -> GraphModule:
    """Without detached copies, repeated expressions and dead code."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            node.replace_all_uses_with(node.args[0])
    module.graph.eliminate_dead_code()
    if not any(is_in_place(node) for node in module.graph.nodes):
        module.graph = fx_graph_cse(module.graph)
    module.recompile()
    return module


def is_in_place(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return bool(schema and schema.is_mutable)


def largest(module: GraphModule) -> int:
    """Numbers in the largest tensor that depends on the point."""
    made: list[Any] = [node.meta.get("tensor_meta") for node in moving_nodes(list(module.graph.nodes))]
    return max([1, *(meta.shape.numel() for meta in made if hasattr(meta, "shape"))])


def moving_nodes(nodes: list[Node], inputs: int = 1) -> set[Node]:
    """What depends on the first inputs (the points, if it is one), with them, or on chance."""
    moving = set(nodes[:inputs])
    for node in nodes:
        if moving & set(node.all_input_nodes) or is_random(node):
            moving.add(node)
    return moving


def in_two(module: GraphModule, moving_inputs: int = 1) -> tuple[GraphModule, GraphModule]:
    """The part that depends on data alone, and the rest, which reads its results after the moving inputs."""
    *nodes, output = module.graph.nodes
    inputs, moving = [node for node in nodes if node.op == "placeholder"], moving_nodes(nodes, moving_inputs)
    ends = [node for node in nodes if node not in moving and set(node.users) & (moving | {output})]
    first, rest = Graph(), Graph()
    before = {node: first.placeholder(node.name) for node in inputs[moving_inputs:]}
    after = {node: rest.placeholder(node.name) for node in (*inputs[:moving_inputs], *ends)}
    for node in nodes:
        if node.op != "placeholder":
            graph, made = (rest, after) if node in moving else (first, before)
            made[node] = graph.node_copy(node, made.__getitem__)
    first.output(tuple(before[node] for node in ends))
    rest.output(torch.fx.map_arg(output.args[0], after.__getitem__))
    return GraphModule(module, first), GraphModule(module, rest)


def is_random(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def lowered(module: GraphModule, points: Tensor, read: Any) -> Callable:
    """The graph through a compiler; the graph itself where there is none, or it fails.

    The compiler gets the graph as it is. ``torch.compile`` would look at Python's frames again, with checks at every call
    and a limit to the graphs of one process.
    """
    import torch._inductor

    inputs = [points.contiguous(), *(value.contiguous() for value in read)]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            compiled = torch._inductor.compile(module, inputs)
            compiled(*inputs)
    except Exception as error:  # no compiler on this machine, or an operation that it does not know
        warnings.warn(f"compile='inductor' failed ({type(error).__name__}); the plain graph is used.", stacklevel=2)
        return module
    return lambda *given: compiled(*(value.contiguous() for value in given))
