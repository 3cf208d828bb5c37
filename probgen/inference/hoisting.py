"""Smaller graphs: operations that change nothing are left out, and what stays the same is worked out once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from probgen.inference.compiled import in_two, tidy

__all__ = ["hoisted"]

ATEN = torch.ops.aten
FILLED = {ATEN.zeros_like.default: 0.0, ATEN.ones_like.default: 1.0, ATEN.new_zeros.default: 0.0}
RESHAPED = {ATEN.view.default, ATEN.expand.default, ATEN.slice.Tensor, ATEN.slice_backward.default}


def hoisted(module: GraphModule, moving: int) -> tuple[GraphModule, GraphModule]:
    """Two graphs: of the inputs after the first ``moving`` ones, and of the moving inputs and its results."""
    for node in list(module.graph.nodes):
        replace(module.graph, node)
    return in_two(tidy(module), moving)


def replace(graph: Graph, node: Node) -> None:
    """A node by its argument where it changes nothing, or by a constant where it holds one."""
    made_of: Any = node.meta.get("val")
    if node.op != "call_function" or not isinstance(made_of, Tensor):
        return
    if node.target in FILLED or node.target is ATEN.full_like.default:
        value = node.args[1] if node.target is ATEN.full_like.default else FILLED[node.target]
        kind: Any = {"dtype": made_of.dtype, "device": made_of.device}
        with graph.inserting_before(node):
            made = graph.call_function(ATEN.full.default, (list(made_of.shape), value), kind)
        made.meta = dict(node.meta)
        node.replace_all_uses_with(made)
    elif (source := unchanged(node, made_of.shape)) is not None:
        node.replace_all_uses_with(source)


def unchanged(node: Node, shape: torch.Size) -> Node | None:
    """The argument that the node returns in the same shape, number by number."""
    source: Any = node.args[0] if node.args else None
    if not isinstance(source, Node):
        return None
    if node.target in RESHAPED and getattr(source.meta.get("val"), "shape", None) == shape:
        return source
    if node.target is ATEN.pow.Tensor_Scalar and node.args[1] == 1.0:
        return source
    if node.target is ATEN.sum.dim_IntList and source.target is ATEN.unsqueeze.default:
        inner: Any = source.args[0]
        summed: Any = node.args[1]
        size = len(shape) + 1
        undone = [place % size for place in summed] == [source.args[1] % size]  # type: ignore[operator]
        return inner if undone and len(node.args) == 2 else None
    return None
